/* A file system in memory: /tmp, and the top layer of runs that keep nothing.
 *
 * Files are sparse, in chunks of 16 KiB (small files in less); there are directories, hard and
 * symbolic links, rename, times and whiteouts, as ns/dev.h says. Nothing ever waits: no operation
 * is PENDING. An empty one costs one allocation.
 *
 * The tree lives as long as its root is referenced; then every name goes, and each file that
 * somebody still holds lives on by itself. Reading does not change the time of access.
 *
 * Thread: guards itself. Layer: ns. */
#pragma once

#include "ns/dev.h"

struct memory_options {
    /* Content at most, in what is allocated for it: whole chunks of 16 KiB beyond the first one,
     * targets of symbolic links; more is NOSPC. 0 = no limit. */
    uint64_t bytes_max;
    /* Files, directories and links (a second name of a file counts as one more) at most; more is
     * NOSPC. 0 = no limit. */
    uint64_t inodes_max;
};
struct memory_usage {
    uint64_t bytes, inodes; /* the root is not counted */
};

/* A file can't grow beyond this (FBIG). */
#define MEMORY_FILE_BYTES_MAX ((uint64_t)1 << 41)

/* `*ret_root`: an empty directory, a reference for the caller. NOMEM. */
MUST_USE enum err memory_new(const struct memory_options *options, struct file **ret_root);
/* New limits from now on; what is there already stays. `root` is what memory_new gave, here and
 * below. */
void memory_set_limits(struct file *root, const struct memory_options *options);
struct memory_usage memory_usage(struct file *root);
/* Whether nothing was ever made or changed in it, its times neither. */
bool memory_is_pristine(struct file *root);
