#include "base/map.h"

#include "base/clock.h"

#include <pthread.h>

enum { BUCKETS_MIN = 8 };

static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void make_hash_key(void) {
    random_bytes(hash_key, sizeof hash_key);
}

static inline uint64_t rotate(uint64_t value, unsigned bits) {
    return value << bits | value >> (64 - bits);
}

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s) {
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word) {
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

/* SipHash with one round a word and three at the end: Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF" (2012). Words are read in the host's byte order: the result stays in here. */
uint64_t map_hash(const void *data, size_t length) {
    pthread_once(&hash_key_once, make_hash_key);
    struct sip s = {
        hash_key[0] ^ 0x736f6d6570736575u,
        hash_key[1] ^ 0x646f72616e646f6du,
        hash_key[0] ^ 0x6c7967656e657261u,
        hash_key[1] ^ 0x7465646279746573u,
    };
    const uint8_t *at = data;
    uint64_t word;
    for (size_t left = length; left >= sizeof word; left -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word);
        sip_word(&s, word);
    }
    word = 0;
    if (length % sizeof word) {
        memcpy(&word, at, length % sizeof word);
    }
    sip_word(&s, word | (uint64_t)length << 56);
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

static uint64_t hash_of(const struct map *map, struct str key) {
    uint64_t number;
    if (map->is_sequence && key.length == sizeof(number)) {
        memcpy(&number, key.data, sizeof(number));
        return number;
    }
    return map_hash(key.data, key.length);
}

void map_done(struct map *map) {
    free(map->buckets);
    *map = (struct map){0};
}

static struct map_node **bucket_of(const struct map *map, uint64_t hash) {
    return &map->buckets[hash & (map->bucket_count - 1)];
}

static struct map_node *find(const struct map *map, struct str key, uint64_t hash) {
    for (struct map_node *node = *bucket_of(map, hash); node; node = node->next) {
        if (node->hash == hash && str_equal(node->key, key)) {
            return node;
        }
    }
    return NULL;
}

struct map_node *map_find(const struct map *map, struct str key) {
    if (map->count == 0) {
        return NULL;
    }
    return find(map, key, hash_of(map, key));
}

/* Without memory a map that has buckets goes on with longer chains. */
static void grow(struct map *map) {
    struct map old = *map;
    if (old.bucket_count > SIZE_MAX / 2) {
        return;
    }
    size_t bucket_count = old.bucket_count ? old.bucket_count * 2 : BUCKETS_MIN;
    struct map_node **buckets = calloc(bucket_count, sizeof *buckets);
    if (!buckets) {
        return;
    }
    map->buckets = buckets;
    map->bucket_count = bucket_count;
    for (size_t i = 0; i < old.bucket_count; i++) {
        struct map_node *next;
        for (struct map_node *node = old.buckets[i]; node; node = next) {
            next = node->next;
            struct map_node **bucket = bucket_of(map, node->hash);
            node->next = *bucket;
            *bucket = node;
        }
    }
    free(old.buckets);
}

enum err map_insert(struct map *map, struct map_node *node, struct str key) {
    uint64_t hash = hash_of(map, key);
    if (map->bucket_count && find(map, key, hash)) {
        return ERR_EXIST;
    }
    if (map->count >= map->bucket_count) {
        grow(map);
        if (!map->buckets) {
            return ERR_NOMEM;
        }
    }
    node->key = key;
    node->hash = hash;
    struct map_node **bucket = bucket_of(map, hash);
    node->next = *bucket;
    *bucket = node;
    map->count++;
    return ERR_OK;
}

void map_remove(struct map *map, struct map_node *node) {
    struct map_node **link = bucket_of(map, node->hash);
    while (*link != node) {
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    map->count--;
}

static struct map_node *first_from(const struct map *map, size_t bucket) {
    for (; bucket < map->bucket_count; bucket++) {
        if (map->buckets[bucket]) {
            return map->buckets[bucket];
        }
    }
    return NULL;
}

static size_t bucket_number(const struct map *map, const struct map_node *node) {
    return node->hash & (map->bucket_count - 1);
}

struct map_node *map_next(const struct map *map, const struct map_node *node) {
    if (node && node->next) {
        return node->next;
    }
    return first_from(map, node ? bucket_number(map, node) + 1 : 0);
}

/* It has grown meanwhile: nothing is where it was. That it doubles bounds how often that is. */
struct map_node *map_resume(const struct map *map, const struct map_place *place) {
    return first_from(map, place->bucket_count == map->bucket_count ? place->bucket : 0);
}

void map_pause(const struct map *map, const struct map_node *node, struct map_place *ret_place) {
    *ret_place = (struct map_place){bucket_number(map, node), map->bucket_count};
}
