/* Small regular files made of text that exists in memory: the snapshots of /env and /proc.
 *
 * They are read-only, of exact size, and never change: who opens one has what was true then.
 * Thread: any. Layer: ns. */
#pragma once

#include "ns/dev.h"

/* Takes over `*text` (which is empty afterwards), also on failure. `*ret_file`: a reference. */
MUST_USE enum err text_file_new(uint64_t device, uint64_t inode, struct buf *text,
                                uint64_t modified_ns, struct file **ret_file);
