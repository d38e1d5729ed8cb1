/* Memory for what comes with each request and goes with it. malloc keeps a few pieces of a size for
 * a thread, and of more than a KiB none; where many requests are under way it has to search and to
 * join. Here each thread keeps what it has freed, up to BLOCKS_KEPT_BYTES, by size; it goes with
 * the thread.
 *
 * Thread: any. A block may be freed by another thread than the one that took it. */
#pragma once

#include "base/macros.h"

enum { BLOCK_BYTES_MAX = 4096, BLOCKS_KEPT_BYTES = 512 * 1024 };

/* Zeroed; of at most BLOCK_BYTES_MAX. NULL without memory. */
void *block_new(size_t bytes);
/* The same, not zeroed. */
void *block_new_raw(size_t bytes);
/* `bytes` as at its making. Accepts NULL. */
void block_free(void *block, size_t bytes);
