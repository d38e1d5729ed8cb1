/* Hash map from bytes to objects, intrusive: the node lives in the object, the key is borrowed from
 * it and must not change while the object is in the map. Nothing is allocated for an object but the
 * map's table of buckets.
 *
 * The hash is SipHash-1-3 under a key drawn at random for this process, so that who chooses the
 * keys can't make them collide. A map of all zero is empty and needs no init. Thread: the owner's;
 * who shares a map guards it. */
#pragma once

#include "base/buf.h"

struct map_node {
    struct map_node *next; /* in its bucket */
    struct str key;        /* borrowed from the object */
    uint64_t hash;
};

struct map {
    struct map_node **buckets; /* owned */
    size_t bucket_count;       /* 0 or a power of two */
    size_t count;              /* objects */
    bool is_sequence; /* set before the first use: all keys are a uint64_t of a sequence that nobody
                         chooses, and hash to themselves: neighbours are in neighbouring buckets */
};

/* Frees the buckets. The objects are the caller's, in or out. */
void map_done(struct map *map);

/* NULL if there is none. */
struct map_node *map_find(const struct map *map, struct str key);
/* EXIST if the key is there; NOMEM only when it is the map's first object. */
MUST_USE enum err map_insert(struct map *map, struct map_node *node, struct str key);
/* The node must be in the map. */
void map_remove(struct map *map, struct map_node *node);
/* For walking all objects, in no order: the one after `node`, the first for NULL, NULL at the end.
 * Between two calls nothing may be inserted and nothing but what map_next has returned before
 * `node` removed; to remove while walking, get the next one first. */
struct map_node *map_next(const struct map *map, const struct map_node *node);

/* For walking all objects in pieces, with whatever is inserted and removed between them: `place` is
 * zero at first, and each piece begins with the node that map_resume gives, NULL at the end, and
 * stops before one that is given to map_pause. What is in the map all the time is come across, some
 * of it perhaps more than once; all in all in the time of a few walks, if each piece removes what
 * it stops behind. */
struct map_place {
    size_t bucket, bucket_count;
};
struct map_node *map_resume(const struct map *map, const struct map_place *place);
void map_pause(const struct map *map, const struct map_node *node, struct map_place *ret_place);

/* The hash itself, the same for equal bytes as long as the process lives. */
uint64_t map_hash(const void *data, size_t length);

/* A key made of an integer or another fixed-size object that lives as long as the node. */
#define MAP_KEY(object) ((struct str){(const char *)&(object), sizeof(object)})
