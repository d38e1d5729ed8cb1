/* Inodes, directory entries and chunks in memory. */
#include "store/volume_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

/* Bounds of what is only a cache, a volume. */
#define IDLE_INODES_MAX 1024
#define IDLE_ENTRIES_MAX 4096
#define CHUNK_BYTES_MAX (4 * MIB)
/* What may be dirty in a volume before a commit must come first. */
#define DIRTY_BYTES_MAX (8 * MIB)
/* When the chunks of all volumes take more than this, each gets by with little. */
#define ALL_BYTES_MAX (256 * MIB)
#define CHUNK_BYTES_LITTLE (64 * KIB)
#define DIRTY_BYTES_LITTLE (256 * KIB)
/* What a dirty inode or entry counts as. */
#define DIRTY_ROW_BYTES 512

static atomic_size_t all_chunk_bytes;

/* Tables */

/* Seeded: names are chosen by guests, who shall not find names that collide. */
static uint64_t hash_seed;
static pthread_once_t hash_seed_once = PTHREAD_ONCE_INIT;

static void hash_seed_make(void) {
    random_bytes(&hash_seed, sizeof(hash_seed));
}

void table_init(struct table *table) {
    pthread_once(&hash_seed_once, hash_seed_make);
    *table = (struct table){.buckets = &table->first};
}

void table_done(struct table *table) {
    if (table->buckets != &table->first) {
        free(table->buckets);
    }
    table_init(table);
}

static void table_resize(struct table *table, size_t bucket_count) {
    struct table_node **buckets = calloc(bucket_count, sizeof(*buckets));
    if (!buckets) {
        return;
    }
    for (size_t i = 0; i <= table->mask; i++) {
        for (struct table_node *node = table->buckets[i], *next; node; node = next) {
            next = node->next;
            struct table_node **bucket = &buckets[node->hash & (bucket_count - 1)];
            node->next = *bucket;
            *bucket = node;
        }
    }
    if (table->buckets != &table->first) {
        free(table->buckets);
    }
    table->buckets = buckets;
    table->mask = bucket_count - 1;
}

void table_insert(struct table *table, struct table_node *node, uint64_t hash) {
    if (table->count > table->mask) {
        table_resize(table, MAX((table->mask + 1) * 2, (size_t)16));
    }
    struct table_node **bucket = &table->buckets[hash & table->mask];
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    table->count++;
}

void table_remove(struct table *table, struct table_node *node) {
    struct table_node **place = &table->buckets[node->hash & table->mask];
    while (*place != node) {
        INVARIANT(*place);
        place = &(*place)->next;
    }
    *place = node->next;
    table->count--;
}

static uint64_t hash_mix(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 product =
        (unsigned __int128)(a ^ 0x9e3779b97f4a7c15) * (b ^ 0xd6e8feb86659fd93);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_numbers(uint64_t a, uint64_t b) {
    return hash_mix(a + hash_seed, b);
}

static uint64_t hash_name(uint64_t directory, struct str name) {
    uint64_t hash = hash_numbers(directory, name.length);
    for (size_t i = 0; i < name.length; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, name.data + i, MIN(sizeof(word), name.length - i));
        hash = hash_mix(hash ^ word, hash_seed);
    }
    return hash;
}

/* Inodes */

struct volume_inode *volume_inode_find(struct volume *volume, uint64_t number) {
    uint64_t hash = hash_numbers(number, 0);
    for (struct table_node *node = table_bucket(&volume->inodes, hash); node; node = node->next) {
        struct volume_inode *inode = CONTAINER_OF(node, struct volume_inode, node);
        if (inode->number == number) {
            return inode;
        }
    }
    return NULL;
}

enum err volume_inode_new(struct volume *volume, uint64_t number, enum file_type type,
                          struct volume_inode **ret_inode) {
    struct volume_inode *inode = calloc(1, sizeof(*inode));
    if (!inode) {
        return ERR_NOMEM;
    }
    list_init(&inode->link);
    list_init(&inode->chunks);
    list_init(&inode->dirty_entries);
    list_init(&inode->release_link);
    inode->number = number;
    inode->type = (uint8_t)type;
    inode->cut = VOLUME_NO_CUT;
    table_insert(&volume->inodes, &inode->node, hash_numbers(number, 0));
    *ret_inode = inode;
    return ERR_OK;
}

/* What a row may hold: a database that was tampered with must do no harm. */
static enum err inode_fill(struct volume_inode *inode, sqlite3_stmt *row) {
    uint64_t type = volume_column(row, 0), links = volume_column(row, 1);
    inode->size = volume_column(row, 2);
    inode->bytes = volume_column(row, 3);
    inode->data = volume_column(row, 4);
    inode->parent = volume_column(row, 5);
    inode->accessed_ns = volume_column(row, 6);
    inode->modified_ns = volume_column(row, 7);
    inode->changed_ns = volume_column(row, 8);
    inode->version = volume_column(row, 9);
    bool known = type == FILE_DIRECTORY || type == FILE_REGULAR || type == FILE_SYMBOLIC_LINK ||
                 type == FILE_WHITEOUT;
    if (!known || links == 0 || links > VOLUME_LINKS_MAX || inode->size > VOLUME_FILE_BYTES_MAX ||
        inode->bytes > VOLUME_FILE_BYTES_MAX || inode->data > VOLUME_NUMBER_MAX ||
        (type == FILE_REGULAR && inode->data == 0)) {
        return ERR_IO;
    }
    inode->type = (uint8_t)type;
    inode->links = (uint32_t)links;
    inode->stored = true;
    inode->data_stored = type == FILE_REGULAR && inode->size > 0;
    if (type == FILE_SYMBOLIC_LINK) {
        int length = sqlite3_column_bytes(row, 10);
        const void *target = sqlite3_column_blob(row, 10);
        if (!target || length < 1 || length > VOLUME_TARGET_BYTES_MAX) {
            return ERR_IO;
        }
        inode->target = malloc((size_t)length);
        if (!inode->target) {
            return ERR_NOMEM;
        }
        memcpy(inode->target, target, (size_t)length);
        inode->target_length = (uint32_t)length;
    }
    return ERR_OK;
}

enum err volume_inode_get(struct volume *volume, uint64_t number, struct volume_inode **ret_inode) {
    struct volume_inode *inode = volume_inode_find(volume, number);
    if (inode) {
        if (inode->gone) {
            return ERR_NOENT;
        }
        *ret_inode = inode;
        return ERR_OK;
    }
    if (!volume->has_tables || number == 0 || number > VOLUME_NUMBER_MAX) {
        return ERR_NOENT;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_INODE_GET);
    volume_bind(statement, 1, number);
    bool row;
    enum err err = volume_step(volume, statement, &row);
    if (err == ERR_OK && !row) {
        err = ERR_NOENT;
    }
    if (err == ERR_OK) {
        err = volume_inode_new(volume, number, FILE_UNKNOWN, &inode);
    }
    if (err == ERR_OK) {
        err = inode_fill(inode, statement);
        if (err != ERR_OK) {
            volume_inode_free(volume, inode);
        }
    }
    volume_reset(statement);
    if (err != ERR_OK) {
        return err;
    }
    list_append(&volume->idle_inodes, &inode->link);
    volume->idle_inode_count++;
    *ret_inode = inode;
    return ERR_OK;
}

enum err volume_directory_get(struct volume *volume, uint64_t number,
                              struct volume_inode **ret_directory) {
    struct volume_inode *inode;
    enum err err = volume_inode_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err;
    }
    if (inode->type != FILE_DIRECTORY) {
        return ERR_NOTDIR;
    }
    if (inode->links == 0) {
        return ERR_NOENT;
    }
    *ret_directory = inode;
    return ERR_OK;
}

static bool inode_is_idle(const struct volume_inode *inode) {
    return !inode->dirty && !list_is_empty(&inode->link);
}

static void inode_unlink(struct volume *volume, struct volume_inode *inode) {
    if (inode_is_idle(inode)) {
        volume->idle_inode_count--;
    }
    list_remove(&inode->link);
}

void volume_inode_hold(struct volume *volume, struct volume_inode *inode) {
    if (inode_is_idle(inode)) {
        inode_unlink(volume, inode);
    }
    inode->holds++;
}

void volume_inode_touch(struct volume *volume, struct volume_inode *inode) {
    if (!inode->dirty) {
        inode_unlink(volume, inode);
        inode->dirty = true;
        list_append(&volume->dirty_inodes, &inode->link);
        volume->dirty_bytes += DIRTY_ROW_BYTES;
        volume_mark_dirty(volume);
    }
}

void volume_inode_settle(struct volume *volume, struct volume_inode *inode) {
    if (inode->holds > 0) {
        return;
    }
    if (inode->links == 0 && !inode->gone) {
        while (!list_is_empty(&inode->chunks)) {
            volume_chunk_free(volume,
                              CONTAINER_OF(inode->chunks.next, struct volume_chunk, sibling));
        }
        volume_uncharge(volume, inode->bytes, 1);
        inode->bytes = 0;
        /* A directory's dirty entries still have to be written over those that are stored. */
        if (!inode->stored && list_is_empty(&inode->dirty_entries)) {
            volume_inode_free(volume, inode);
            return;
        }
        inode->gone = true;
        volume_inode_touch(volume, inode);
        return;
    }
    if (!inode->dirty && list_is_empty(&inode->link)) {
        list_append(&volume->idle_inodes, &inode->link);
        volume->idle_inode_count++;
    }
}

void volume_inode_free(struct volume *volume, struct volume_inode *inode) {
    while (!list_is_empty(&inode->chunks)) {
        volume_chunk_free(volume, CONTAINER_OF(inode->chunks.next, struct volume_chunk, sibling));
    }
    if (inode->dirty) {
        volume->dirty_bytes -= DIRTY_ROW_BYTES;
    }
    inode_unlink(volume, inode);
    list_remove(&inode->release_link);
    table_remove(&volume->inodes, &inode->node);
    free(inode->target);
    free(inode);
}

/* Entries */

struct volume_entry *volume_entry_find(struct volume *volume, uint64_t directory, struct str name) {
    uint64_t hash = hash_name(directory, name);
    for (struct table_node *node = table_bucket(&volume->entries, hash); node; node = node->next) {
        struct volume_entry *entry = CONTAINER_OF(node, struct volume_entry, node);
        if (node->hash == hash && entry->directory == directory &&
            entry->name_length == name.length && memcmp(entry->name, name.data, name.length) == 0) {
            return entry;
        }
    }
    return NULL;
}

static enum err entry_load(struct volume *volume, struct volume_entry *entry) {
    if (!volume->has_tables) {
        return ERR_OK;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ENTRY_GET);
    volume_bind(statement, 1, entry->directory);
    volume_bind_bytes(statement, 2, entry->name, entry->name_length);
    bool row;
    enum err err = volume_step(volume, statement, &row);
    if (err == ERR_OK && row) {
        entry->inode = volume_column(statement, 0);
        uint64_t type = volume_column(statement, 1);
        entry->type = (uint8_t)type;
        if (entry->inode == 0 || entry->inode > VOLUME_NUMBER_MAX || type > UINT8_MAX) {
            err = ERR_IO;
        }
    }
    volume_reset(statement);
    return err;
}

enum err volume_entry_get(struct volume *volume, uint64_t directory, struct str name,
                          struct volume_entry **ret_entry) {
    if (name.length == 0) {
        return ERR_NOENT;
    }
    if (name.length > UINT8_MAX) {
        return ERR_NAMETOOLONG;
    }
    struct volume_entry *entry = volume_entry_find(volume, directory, name);
    if (entry) {
        if (!entry->dirty) {
            list_remove(&entry->link);
            list_append(&volume->idle_entries, &entry->link);
        }
        *ret_entry = entry;
        return ERR_OK;
    }
    entry = calloc(1, sizeof(*entry) + name.length);
    if (!entry) {
        return ERR_NOMEM;
    }
    entry->directory = directory;
    entry->name_length = (uint8_t)name.length;
    memcpy(entry->name, name.data, name.length);
    enum err err = entry_load(volume, entry);
    if (err != ERR_OK) {
        free(entry);
        return err;
    }
    list_init(&entry->sibling);
    table_insert(&volume->entries, &entry->node, hash_name(directory, name));
    list_append(&volume->idle_entries, &entry->link);
    volume->idle_entry_count++;
    *ret_entry = entry;
    return ERR_OK;
}

void volume_entry_set(struct volume *volume, struct volume_inode *directory,
                      struct volume_entry *entry, uint64_t inode, enum file_type type) {
    entry->inode = inode;
    entry->type = (uint8_t)type;
    if (!entry->dirty) {
        volume->idle_entry_count--;
        list_remove(&entry->link);
        list_append(&volume->dirty_entries, &entry->link);
        list_append(&directory->dirty_entries, &entry->sibling);
        entry->dirty = true;
        volume->dirty_bytes += DIRTY_ROW_BYTES;
        volume_mark_dirty(volume);
    }
}

void volume_entry_free(struct volume *volume, struct volume_entry *entry) {
    if (entry->dirty) {
        volume->dirty_bytes -= DIRTY_ROW_BYTES;
    } else {
        volume->idle_entry_count--;
    }
    list_remove(&entry->link);
    list_remove(&entry->sibling);
    table_remove(&volume->entries, &entry->node);
    free(entry);
}

/* Chunks */

struct volume_chunk *volume_chunk_find(struct volume *volume, const struct volume_inode *inode,
                                       uint64_t index) {
    uint64_t hash = hash_numbers(inode->number, index);
    for (struct table_node *node = table_bucket(&volume->chunks, hash); node; node = node->next) {
        struct volume_chunk *chunk = CONTAINER_OF(node, struct volume_chunk, node);
        if (chunk->inode == inode && chunk->index == index) {
            return chunk;
        }
    }
    return NULL;
}

static size_t chunk_memory(const struct volume_chunk *chunk) {
    return sizeof(*chunk) + chunk->capacity;
}

static void chunk_count(struct volume *volume, const struct volume_chunk *chunk, bool add) {
    size_t memory = chunk_memory(chunk);
    if (add) {
        volume->chunk_bytes += memory;
        volume->dirty_bytes += chunk->dirty ? memory : 0;
        atomic_fetch_add_explicit(&all_chunk_bytes, memory, memory_order_relaxed);
    } else {
        volume->chunk_bytes -= memory;
        volume->dirty_bytes -= chunk->dirty ? memory : 0;
        atomic_fetch_sub_explicit(&all_chunk_bytes, memory, memory_order_relaxed);
    }
}

enum err volume_chunk_new(struct volume *volume, struct volume_inode *inode, uint64_t index,
                          size_t capacity, struct volume_chunk **ret_chunk) {
    struct volume_chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk) {
        return ERR_NOMEM;
    }
    chunk->inode = inode;
    chunk->index = index;
    chunk_count(volume, chunk, true);
    enum err err = volume_chunk_reserve(volume, chunk, capacity);
    if (err != ERR_OK) {
        chunk_count(volume, chunk, false);
        free(chunk);
        return err;
    }
    list_append(&volume->idle_chunks, &chunk->link);
    list_append(&inode->chunks, &chunk->sibling);
    table_insert(&volume->chunks, &chunk->node, hash_numbers(inode->number, index));
    *ret_chunk = chunk;
    return ERR_OK;
}

enum err volume_chunk_reserve(struct volume *volume, struct volume_chunk *chunk, size_t capacity) {
    if (capacity <= chunk->capacity) {
        return ERR_OK;
    }
    size_t size = 256;
    while (size < capacity) {
        size *= 2;
    }
    uint8_t *data = realloc(chunk->data, size);
    if (!data) {
        return ERR_NOMEM;
    }
    chunk_count(volume, chunk, false);
    chunk->data = data;
    chunk->capacity = (uint32_t)size;
    chunk_count(volume, chunk, true);
    return ERR_OK;
}

void volume_chunk_touch(struct volume *volume, struct volume_chunk *chunk) {
    if (!chunk->dirty) {
        chunk_count(volume, chunk, false);
        chunk->dirty = true;
        chunk_count(volume, chunk, true);
        list_remove(&chunk->link);
        list_append(&volume->dirty_chunks, &chunk->link);
        volume_mark_dirty(volume);
    }
}

void volume_chunk_used(struct volume *volume, struct volume_chunk *chunk) {
    if (!chunk->dirty && volume->idle_chunks.previous != &chunk->link) {
        list_remove(&chunk->link);
        list_append(&volume->idle_chunks, &chunk->link);
    }
}

void volume_chunk_free(struct volume *volume, struct volume_chunk *chunk) {
    chunk_count(volume, chunk, false);
    list_remove(&chunk->link);
    list_remove(&chunk->sibling);
    table_remove(&volume->chunks, &chunk->node);
    free(chunk->data);
    free(chunk);
}

/* Limits */

static bool memory_is_short(void) {
    return atomic_load_explicit(&all_chunk_bytes, memory_order_relaxed) > ALL_BYTES_MAX;
}

size_t volume_dirty_limit(void) {
    return memory_is_short() ? DIRTY_BYTES_LITTLE : DIRTY_BYTES_MAX;
}

void volume_cache_trim_content(struct volume *volume) {
    size_t limit = memory_is_short() ? CHUNK_BYTES_LITTLE : CHUNK_BYTES_MAX;
    while (volume->chunk_bytes > limit && !list_is_empty(&volume->idle_chunks)) {
        volume_chunk_free(volume,
                          CONTAINER_OF(volume->idle_chunks.next, struct volume_chunk, link));
    }
    while (volume->idle_entry_count > IDLE_ENTRIES_MAX) {
        volume_entry_free(volume,
                          CONTAINER_OF(volume->idle_entries.next, struct volume_entry, link));
    }
}

void volume_cache_trim(struct volume *volume) {
    volume_cache_trim_content(volume);
    while (volume->idle_inode_count > IDLE_INODES_MAX) {
        volume_inode_free(volume,
                          CONTAINER_OF(volume->idle_inodes.next, struct volume_inode, link));
    }
}

static void free_entries(struct volume *volume, struct list *list) {
    while (!list_is_empty(list)) {
        volume_entry_free(volume, CONTAINER_OF(list->next, struct volume_entry, link));
    }
}

void volume_cache_done(struct volume *volume) {
    free_entries(volume, &volume->dirty_entries);
    free_entries(volume, &volume->idle_entries);
    for (size_t i = 0; i <= volume->inodes.mask; i++) {
        while (volume->inodes.buckets[i]) {
            volume_inode_free(volume,
                              CONTAINER_OF(volume->inodes.buckets[i], struct volume_inode, node));
        }
    }
    while (!list_is_empty(&volume->garbage)) {
        struct list *link = volume->garbage.next;
        list_remove(link);
        free(CONTAINER_OF(link, struct volume_garbage, link));
    }
    table_done(&volume->inodes);
    table_done(&volume->entries);
    table_done(&volume->chunks);
}
