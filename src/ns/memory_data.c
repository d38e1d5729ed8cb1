#include "ns/memory_data.h"

#include <stdbool.h>
#include <string.h>

enum { TABLE_SLOTS = 512, BUFFER_MIN = 256 };

/* How many chunks a tree of this height holds. */
static uint64_t chunks_below(unsigned height) {
    uint64_t chunks = 1;
    while (height--) {
        chunks *= TABLE_SLOTS;
    }
    return chunks;
}

/* The chunk, and how many of its bytes are there; NULL for a hole. */
static uint8_t *find_chunk(const struct memory_data *data, uint64_t index, size_t *ret_present) {
    if (index >= chunks_below(data->height)) {
        return NULL;
    }
    *ret_present = data->height ? MEMORY_CHUNK_BYTES : data->capacity;
    void *at = data->root;
    for (unsigned height = data->height; height > 0 && at; height--) {
        uint64_t span = chunks_below(height - 1);
        at = ((void **)at)[index / span];
        index %= span;
    }
    return at;
}

static bool charge(struct memory_budget budget, uint64_t bytes) {
    if (budget.maximum &&
        (*budget.used >= budget.maximum || bytes > budget.maximum - *budget.used)) {
        return false;
    }
    *budget.used += bytes;
    return true;
}

/* Makes the buffer of height 0 at least `needed` bytes, at most a chunk. */
static enum err grow_buffer(struct memory_data *data, struct memory_budget budget, size_t needed) {
    size_t capacity = BUFFER_MIN;
    while (capacity < needed) {
        capacity *= 2;
    }
    if (capacity <= data->capacity) {
        return ERR_OK;
    }
    if (!charge(budget, capacity - data->capacity)) {
        return ERR_NOSPC;
    }
    uint8_t *buffer = realloc(data->root, capacity);
    if (!buffer) {
        *budget.used -= capacity - data->capacity;
        return ERR_NOMEM;
    }
    memset(buffer + data->capacity, 0, capacity - data->capacity);
    data->root = buffer;
    data->capacity = capacity;
    return ERR_OK;
}

/* Puts tables on top until chunk `index` has a place. */
static enum err raise_height(struct memory_data *data, struct memory_budget budget,
                             uint64_t index) {
    if (data->height == 0 && data->root) {
        enum err err = grow_buffer(data, budget, MEMORY_CHUNK_BYTES);
        if (err != ERR_OK) {
            return err;
        }
    }
    while (index >= chunks_below(data->height)) {
        if (data->root) {
            void **table = calloc(TABLE_SLOTS, sizeof *table);
            if (!table) {
                return ERR_NOMEM;
            }
            table[0] = data->root;
            data->root = table;
        }
        data->height++;
        data->capacity = 0;
    }
    return ERR_OK;
}

/* Makes the missing chunk `index` (not the buffer's) and the tables on the way to it. */
static enum err make_chunk(struct memory_data *data, struct memory_budget budget, uint64_t index,
                           uint8_t **ret_chunk) {
    enum err err = raise_height(data, budget, index);
    if (err != ERR_OK) {
        return err;
    }
    void **slot = &data->root;
    for (unsigned height = data->height; height > 0; height--) {
        if (!*slot && !(*slot = calloc(TABLE_SLOTS, sizeof(void *)))) {
            return ERR_NOMEM;
        }
        uint64_t span = chunks_below(height - 1);
        slot = &((void **)*slot)[index / span];
        index %= span;
    }
    *slot = calloc(1, MEMORY_CHUNK_BYTES);
    *ret_chunk = *slot;
    return *slot ? ERR_OK : ERR_NOMEM;
}

/* The chunk for writing, with at least its first `needed` bytes there. */
static enum err obtain_chunk(struct memory_data *data, struct memory_budget budget, uint64_t index,
                             size_t needed, uint8_t **ret_chunk) {
    if (data->height == 0 && index == 0) {
        enum err err = grow_buffer(data, budget, needed);
        if (err == ERR_OK) {
            *ret_chunk = data->root;
        }
        return err;
    }
    size_t present;
    uint8_t *chunk = find_chunk(data, index, &present);
    if (chunk) {
        *ret_chunk = chunk;
        return ERR_OK;
    }
    /* Charged before the tables are made, which are free of charge but bounded by this. */
    if (!charge(budget, MEMORY_CHUNK_BYTES)) {
        return ERR_NOSPC;
    }
    enum err err = make_chunk(data, budget, index, ret_chunk);
    if (err != ERR_OK) {
        *budget.used -= MEMORY_CHUNK_BYTES;
    }
    return err;
}

size_t memory_data_read(const struct memory_data *data, void *to, size_t length, uint64_t offset) {
    if (offset >= data->size) {
        return 0;
    }
    length = (size_t)MIN(length, data->size - offset);
    size_t done = 0;
    while (done < length) {
        size_t at = (size_t)((offset + done) % MEMORY_CHUNK_BYTES);
        size_t piece = MIN(length - done, MEMORY_CHUNK_BYTES - at);
        size_t present = 0;
        const uint8_t *chunk = find_chunk(data, (offset + done) / MEMORY_CHUNK_BYTES, &present);
        size_t copied = chunk && at < present ? MIN(piece, present - at) : 0;
        if (copied) {
            memcpy((uint8_t *)to + done, chunk + at, copied);
        }
        memset((uint8_t *)to + done + copied, 0, piece - copied);
        done += piece;
    }
    return length;
}

enum err memory_data_write(struct memory_data *data, struct memory_budget budget, const void *from,
                           size_t length, uint64_t offset, size_t *ret_written) {
    size_t done = 0;
    while (done < length) {
        size_t at = (size_t)((offset + done) % MEMORY_CHUNK_BYTES);
        size_t piece = MIN(length - done, MEMORY_CHUNK_BYTES - at);
        uint8_t *chunk;
        enum err err =
            obtain_chunk(data, budget, (offset + done) / MEMORY_CHUNK_BYTES, at + piece, &chunk);
        if (err != ERR_OK && done == 0) {
            return err;
        }
        if (err != ERR_OK) {
            break;
        }
        memcpy(chunk + at, (const uint8_t *)from + done, piece);
        done += piece;
    }
    data->size = MAX(data->size, offset + done);
    *ret_written = done;
    return ERR_OK;
}

/* Frees the chunks from number `first` on in a tree of `height`; true if nothing is left of it.
 * Recursion is as deep as the tree is high: three at most. */
static bool free_from(void *at, unsigned height, uint64_t first, struct memory_budget budget) {
    if (!at) {
        return first == 0;
    }
    if (height == 0) {
        if (first > 0) {
            return false;
        }
        *budget.used -= MEMORY_CHUNK_BYTES;
        free(at);
        return true;
    }
    void **table = at;
    uint64_t span = chunks_below(height - 1);
    for (uint64_t slot = first / span; slot < TABLE_SLOTS; slot++) {
        uint64_t start = slot * span;
        if (table[slot] &&
            free_from(table[slot], height - 1, first > start ? first - start : 0, budget)) {
            table[slot] = NULL;
        }
    }
    if (first == 0) {
        free(table);
    }
    return first == 0;
}

void memory_data_set_size(struct memory_data *data, struct memory_budget budget, uint64_t size) {
    if (size <= data->size && data->root) {
        uint64_t kept = size / MEMORY_CHUNK_BYTES + (size % MEMORY_CHUNK_BYTES != 0);
        if (kept == 0 && data->height == 0) {
            *budget.used -= data->capacity;
            free(data->root);
            data->root = NULL;
            data->capacity = 0;
        } else if (data->height > 0 && free_from(data->root, data->height, kept, budget)) {
            data->root = NULL;
            data->height = 0;
        }
        size_t tail = (size_t)(size % MEMORY_CHUNK_BYTES), present = 0;
        uint8_t *chunk = tail ? find_chunk(data, size / MEMORY_CHUNK_BYTES, &present) : NULL;
        if (chunk && tail < present) {
            memset(chunk + tail, 0, present - tail);
        }
    }
    data->size = size;
}
