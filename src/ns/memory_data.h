/* The content of a file in memory: sparse, in chunks. Private to memory.c.
 *
 * A small file is one buffer that grows up to a chunk; a larger one a tree of tables of chunks, as
 * high as its largest offset demands. A chunk that is not there reads as zero. What lies beyond
 * `size` in a chunk is always zero. Thread: the owner guards it. Layer: ns. */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define MEMORY_CHUNK_BYTES ((size_t)16 * 1024)

struct memory_data {
    uint64_t size;   /* bytes */
    void *root;      /* height 0: a buffer of `capacity` bytes; else a table */
    size_t capacity; /* of the buffer at height 0 */
    unsigned height; /* of tables above the chunks */
};

/* What content may still take: `*used` of `maximum` bytes (0 = no limit). */
struct memory_budget {
    uint64_t *used;
    uint64_t maximum;
};

/* Copies up to `length` bytes at `offset`; returns how many, 0 at the end or beyond. */
size_t memory_data_read(const struct memory_data *data, void *to, size_t length, uint64_t offset);
/* Writes as much as there is room for; `offset` + `length` at most MEMORY_FILE_BYTES_MAX. NOSPC or
 * NOMEM only if it is nothing. */
MUST_USE enum err memory_data_write(struct memory_data *data, struct memory_budget budget,
                                    const void *from, size_t length, uint64_t offset,
                                    size_t *ret_written);
/* Cuts the file or lets it end in a hole. */
void memory_data_set_size(struct memory_data *data, struct memory_budget budget, uint64_t size);
