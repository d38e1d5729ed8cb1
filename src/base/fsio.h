/* Files of the host: the state directory's, never a guest's.
 *
 * All functions block; only workers, strands, start-up and the command line call them. What they
 * ask of the system goes through one table, which tests replace to make any call fail. Paths are
 * ours, not a guest's or client's. Thread: any. */
#pragma once

#include "base/buf.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

/* As the functions of POSIX with these names. */
struct fsio_system {
    int (*openat)(int directory, const char *path, int flags, mode_t mode);
    int (*close)(int descriptor);
    ssize_t (*read)(int descriptor, void *data, size_t length);
    ssize_t (*write)(int descriptor, const void *data, size_t length);
    ssize_t (*pwrite)(int descriptor, const void *data, size_t length, off_t position);
    int (*fstat)(int descriptor, struct stat *ret_stat);
    int (*fsync)(int descriptor);
    int (*rename)(const char *old_path, const char *new_path);
    int (*mkdir)(const char *path, mode_t mode);
    int (*unlinkat)(int directory, const char *path, int flags);
};
extern const struct fsio_system fsio_system_host;
/* What is used: the host's, unless a test has put another here. */
extern const struct fsio_system *fsio_system;

/* Appends a file's content to `ret_content`. FBIG if there are more than `max_bytes`; on failure
 * nothing is appended. */
MUST_USE enum err fsio_read_file(const char *path, size_t max_bytes, struct buf *ret_content);
/* As above, of a descriptor from its position on. */
MUST_USE enum err fsio_read_descriptor(int descriptor, size_t max_bytes, struct buf *ret_content);
/* Writes all of it, however often that takes. */
MUST_USE enum err fsio_write_all(int descriptor, const void *data, size_t length);
/* Likewise at a position, whatever the descriptor's own is. */
MUST_USE enum err fsio_write_at(int descriptor, const void *data, size_t length, uint64_t position);

/* A file that becomes visible whole or not at all: fsio_new_file, write to `descriptor`, then
 * fsio_new_file_publish or fsio_new_file_discard. */
struct fsio_new_file {
    int descriptor;       /* owned; read and write */
    struct buf path;      /* where it is to be */
    struct buf temporary; /* where it is: beside it, ".tmp-" and random digits */
};
/* Mode 0600. */
MUST_USE enum err fsio_new_file(const char *path, struct fsio_new_file *ret_file);
/* Syncs the file, renames it over what may be there, and syncs the directory. On failure it is
 * discarded (after a failed last step the file may be there already, but not for sure). */
MUST_USE enum err fsio_new_file_publish(struct fsio_new_file *file);
/* As above at another path in the same file system, for names made from the content. */
MUST_USE enum err fsio_new_file_publish_as(struct fsio_new_file *file, const char *path);
/* Removes it. Harmless after publishing. */
void fsio_new_file_discard(struct fsio_new_file *file);
/* All of the above with this content. */
MUST_USE enum err fsio_replace_file(const char *path, const void *data, size_t length);

/* The next name in a directory but "." and "..", NULL after the last; the stream's, until the next
 * call. For a stream of opendir(3). */
MUST_USE enum err fsio_next_name(DIR *directory, const char **ret_name);
/* Returns when what was created, renamed and removed in the directory is on disk. */
MUST_USE enum err fsio_sync_directory(const char *path);
/* Makes the directory, and its parents, with mode 0700; OK if it is there. Each new one is synced
 * into its parent. NOTDIR if something else is there. */
MUST_USE enum err fsio_make_directories(const char *path);
/* Removes a file (NOENT if there is none). */
MUST_USE enum err fsio_remove_file(const char *path);
/* Removes a directory and all below, or a file; symbolic links are removed, never followed. OK if
 * nothing is there. LOOP for a tree of more than 100 levels. */
MUST_USE enum err fsio_remove_tree(const char *path);
