/* Volumes: the files of an app in one SQLite database.
 *
 * A volume belongs to no loop: operations on it are done one at a time (a strand). A thread that
 * finds it free does a short operation itself at once; the rest, and everything that writes to disk
 * for long (commits, checkpoints), is worked off by a worker. So every function here is polled.
 *
 * Effects are visible at once to all users of the volume, and on disk at the next commit: when
 * somebody waits for one (volume_sync, the end of a run) and at least every second. All who wait
 * share a commit. A failed fsync ends the process.
 *
 * Quotas are charged before the write: NOSPC (DQUOT is not used). Bytes: what the chunks of 16 KiB
 * that were written hold, and the targets of symbolic links. Inodes: every file, and every further
 * name of a file. A file that was removed but is held counts until it is let go.
 * Files are sparse: holes take no space and read as zero. A file has at most 1 TiB (FBIG).
 *
 * Until the first commit nothing is on disk at all. When a commit fails (NOSPC: the disk is full;
 * IO) whoever waits for it is told; nothing is lost, it is tried again every second, and changes
 * are refused with that error once too much waits to be written.
 *
 * Schema: store/volume_schema.h. Thread: any loop's (with its op). Layer: loop. */
#pragma once

#include "base/buf.h"
#include "loop/op.h"
#include "ns/dev.h"

struct volume;

struct volume_options {
    const char *path; /* of the database; created if `create` */
    bool create;
    bool read_only;      /* a version's layer: never changed */
    uint64_t bytes_max;  /* quota; 0 = none */
    uint64_t inodes_max; /* quota, without the root; 0 = none */
};
struct volume_usage {
    uint64_t bytes, inodes, bytes_max, inodes_max;
};

/* Opens and checks it. Blocking: call on a worker or at start. NOENT; IO with a message when the
 * database is damaged; BUSY when another process has it. One that is not there, with `create`, is
 * empty, and the file is made by the first commit. */
MUST_USE enum err volume_open(const struct volume_options *options, struct volume **ret_volume,
                              struct buf *message);
struct volume *volume_ref(struct volume *volume);
/* The last reference commits and closes it (blocking). */
void volume_unref(struct volume *volume);
/* Whether there are references besides the caller's. False stays false while the caller gives none
 * away (the catalog closes idle volumes by this). Thread: any. */
bool volume_is_shared(const struct volume *volume);
/* It has no name any more: whoever keeps it for a next use lets go; what is in it can be read, and
 * every change fails with IDRM. Thread: any. */
void volume_set_removed(struct volume *volume);
bool volume_is_removed(const struct volume *volume);
/* True once for each time it was opened: whoever asks first clears away what a crash has left at
 * its root. Thread: any. */
bool volume_begin_sweep(struct volume *volume);
void volume_set_quota(struct volume *volume, uint64_t bytes_max, uint64_t inodes_max);
struct volume_usage volume_usage(struct volume *volume);
/* Its st_dev, the same for all who use it. */
uint64_t volume_device(const struct volume *volume);
bool volume_is_read_only(const struct volume *volume);
/* Polled: done when everything done so far is on disk. At once when nothing is dirty. */
MUST_USE enum err volume_sync(struct op *op, struct volume *volume);
/* Whether anything waits for a commit. Cheap (an atomic). */
bool volume_is_dirty(struct volume *volume);

/* Inodes and what can be done with them. The root is inode 1. These are what dev/volume.c turns
 * into files; the meanings are those of ns/dev.h. An inode that is held (volume_hold) lives on when
 * its last name is removed, until volume_let_go. */
#define VOLUME_ROOT_INODE 1
/* One more hold of an inode that is held already (the root always is). Neither waits. */
void volume_hold(struct volume *volume, uint64_t inode);
void volume_let_go(struct volume *volume, uint64_t inode);
/* As dev->walk; the found inode is held for the caller. */
MUST_USE enum err volume_walk(struct op *op, struct volume *volume, uint64_t directory,
                              const struct str *names, size_t count, size_t *ret_walked,
                              uint64_t *ret_inode, enum file_type *ret_type);
/* The new inode is held for the caller. */
MUST_USE enum err volume_create(struct op *op, struct volume *volume, uint64_t directory,
                                struct str name, enum file_type type, uint64_t *ret_inode);
MUST_USE enum err volume_symlink(struct op *op, struct volume *volume, uint64_t directory,
                                 struct str name, struct str target);
MUST_USE enum err volume_link(struct op *op, struct volume *volume, uint64_t inode,
                              uint64_t directory, struct str name);
MUST_USE enum err volume_readlink(struct op *op, struct volume *volume, uint64_t inode,
                                  struct buf *ret_target);
MUST_USE enum err volume_remove(struct op *op, struct volume *volume, uint64_t directory,
                                struct str name, bool directory_wanted);
MUST_USE enum err volume_rename(struct op *op, struct volume *volume, uint64_t old_directory,
                                struct str old_name, uint64_t new_directory, struct str new_name);
/* STALE if something else is there than `expected`; NULL: whatever is there. A whiteout is nothing.
 */
MUST_USE enum err volume_remove_expected(struct op *op, struct volume *volume, uint64_t directory,
                                         struct str name, bool directory_wanted,
                                         const struct file_expected *expected);
MUST_USE enum err volume_rename_expected(struct op *op, struct volume *volume,
                                         uint64_t old_directory, struct str old_name,
                                         uint64_t new_directory, struct str new_name,
                                         const struct file_expected *expected);
MUST_USE enum err volume_read(struct op *op, struct volume *volume, uint64_t inode, void *data,
                              size_t length, uint64_t offset, size_t *ret_read);
MUST_USE enum err volume_write(struct op *op, struct volume *volume, uint64_t inode,
                               const void *data, size_t length, uint64_t offset,
                               size_t *ret_written);
MUST_USE enum err volume_readdir(struct op *op, struct volume *volume, uint64_t directory,
                                 struct dir_list *ret_list);
MUST_USE enum err volume_stat(struct op *op, struct volume *volume, uint64_t inode,
                              struct file_stat *ret_stat);
MUST_USE enum err volume_set_size(struct op *op, struct volume *volume, uint64_t inode,
                                  uint64_t size_bytes);
MUST_USE enum err volume_set_times(struct op *op, struct volume *volume, uint64_t inode,
                                   uint64_t accessed_ns, uint64_t modified_ns, unsigned flags);
