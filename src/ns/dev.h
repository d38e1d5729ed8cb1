/* Files and devices: the shape of everything in the tree.
 *
 * A device is a const table of functions; a file is a node of a device that somebody holds. A NULL
 * entry means "not supported" and has the default of dev.c (NOTSUP, or what the comment says).
 * All functions with a struct op are polled (loop/op.h): pointers are valid during each call only.
 *
 * Names handed to devices are single components: 1 to 255 bytes, valid UTF-8, without '/' and NUL,
 * neither "." nor "..". Only ns walks paths; no device ever sees one, and symbolic links are
 * resolved by ns alone.
 *
 * Thread: a device's functions may be called from any loop at the same time; what they share they
 * guard. References are atomic. Layer: base, loop. */
#pragma once

#include "base/buf.h"
#include "loop/op.h"

#include <stdatomic.h>

/* As WASI's filetype (witx: $filetype). */
enum file_type {
    FILE_UNKNOWN = 0,
    FILE_BLOCK_DEVICE = 1,
    FILE_CHARACTER_DEVICE = 2,
    FILE_DIRECTORY = 3,
    FILE_REGULAR = 4,
    FILE_SOCKET_DATAGRAM = 5,
    FILE_SOCKET_STREAM = 6,
    FILE_SYMBOLIC_LINK = 7,
    FILE_WHITEOUT = 100, /* a union's mark for "removed above"; never leaves ns */
};

/* How a file behaves under read, write and seek. */
enum file_traits {
    FILE_SEEKABLE = 1 << 0, /* reads and writes are at an offset; else at the stream's own place */
    FILE_REWINDABLE = 1 << 1, /* a transaction file: ns/transaction.h; seeks as notes there say */
    FILE_TERMINAL = 1 << 2,   /* a character device that reports neither SEEK nor TELL */
    FILE_READ_ONLY = 1 << 3,  /* never writable, whoever asks */
    FILE_TIED = 1 << 4,       /* an open file that belongs to the loop that has opened it (a
                                 connection): nobody may use it from another */
};

struct file {
    const struct dev *dev;
    atomic_uint references;
    uint64_t device; /* st_dev: which mount; never 0 */
    uint64_t inode;  /* st_ino: never 0, stable, unique within the device */
    uint8_t type;    /* enum file_type */
    uint8_t traits;  /* enum file_traits */
};

struct file_stat {
    uint64_t device, inode;
    uint8_t type;
    uint64_t links;
    uint64_t size;                                 /* bytes; 0 for streams */
    uint64_t accessed_ns, modified_ns, changed_ns; /* realtime */
    uint64_t version; /* changes whenever the content does; 0 = not known (makes no ETag) */
};

/* What somebody has seen at a name and wants to change only if it is still so. */
struct file_expected {
    uint64_t inode;   /* 0: nothing */
    uint64_t version; /* of its content, as in file_stat */
};

/* One entry of a directory. */
struct dir_entry {
    uint64_t inode;
    uint8_t type;
    uint16_t name_length;
    uint32_t name_offset; /* in dir_list.names */
};
/* A snapshot of a directory, without "." and "..": ns adds those. All zero is an empty one. */
struct dir_list {
    struct dir_entry *entries;
    size_t count, capacity;
    struct buf names;
};
MUST_USE enum err dir_list_add(struct dir_list *list, struct str name, uint64_t inode,
                               uint8_t type);
void dir_list_done(struct dir_list *list);
static inline struct str dir_list_name(const struct dir_list *list, size_t index) {
    const struct dir_entry *entry = &list->entries[index];
    return (struct str){(const char *)list->names.data + entry->name_offset, entry->name_length};
}

enum open_flags {
    OPEN_READ = 1 << 0,
    OPEN_WRITE = 1 << 1,
    OPEN_TRUNCATE = 1 << 2, /* needs OPEN_WRITE */
};
enum set_times_flags {
    SET_ACCESSED = 1 << 0,
    SET_MODIFIED = 1 << 1,
};
enum poll_flags {
    POLL_READABLE = 1 << 0,
    POLL_WRITABLE = 1 << 1,
    POLL_HANGUP = 1 << 2, /* the other side has closed */
    /* Wanted beside READABLE: the same call polls the file for WRITABLE by another op, too, so
     * nothing is to begin that only somebody who is done with writing wants. Then OK with nothing
     * ready is right for an op that is not nonblocking: the other one wakes. */
    POLL_WRITABLE_TOO = 1 << 3,
};
enum shutdown_flags {
    SHUTDOWN_READ = 1 << 0,
    SHUTDOWN_WRITE = 1 << 1,
};
/* As the offset of a write: at the end, atomically. */
#define OFFSET_APPEND UINT64_MAX

struct dev {
    const char *name; /* for humans: "volume", "memory" */
    /* Of directories: a path's last slash means something, and is handed to `walk` as a last name
     * of no length. */
    bool takes_slash;
    /* Of directories that are mounted: names are those of URLs. What begins with the one that has a
     * `?` is handed to `walk` as one name, however long, and whatever slashes and dots it has. */
    bool takes_query;
    /* Of what is no directory: what is said where names follow all the same. NULL: nothing. */
    const char *not_directory;

    /* Walks from `directory` along `names` as far as it goes: `*ret_walked` names were found, the
     * last one is `*ret_file` (a reference for the caller). Stops early, with OK, after a symbolic
     * link or anything else that is no directory, and before a name that is not there (so that an
     * early stop after a directory means NOENT to ns). NOENT only if not even the first name is
     * there. `count` is at least 1; no name is empty, but for `takes_slash`. Default: NOENT in a
     * directory, else NOTDIR. */
    enum err (*walk)(struct op *op, struct file *directory, const struct str *names, size_t count,
                     size_t *ret_walked, struct file **ret_file);
    /* Prepares for reading and writing. `*ret_file` is a reference for the caller: the same file,
     * or a fresh one that has state for each open (a transaction). Must not wait for a peer (Go's
     * goroutines would stop): only reading and writing may. Default: the same file. */
    enum err (*open)(struct op *op, struct file *file, unsigned open_flags, struct file **ret_file);
    /* The following refuse with EXIST when the name is there. `type` is REGULAR, DIRECTORY or
     * WHITEOUT. Default: ROFS. */
    enum err (*create)(struct op *op, struct file *directory, struct str name, enum file_type type,
                       struct file **ret_file);
    enum err (*symlink)(struct op *op, struct file *directory, struct str name, struct str target);
    /* A hard link to a file of the same device (st_dev). Directories: PERM. */
    enum err (*link)(struct op *op, struct file *file, struct file *directory, struct str name);
    /* The target of a symbolic link, appended to `ret_target`. */
    enum err (*readlink)(struct op *op, struct file *file, struct buf *ret_target);
    /* Removes a name. `directory_wanted`: it must be an empty directory (NOTDIR, NOTEMPTY), else it
     * must be none (ISDIR). Open files live on until their last reference goes. Default: ROFS. */
    enum err (*remove)(struct op *op, struct file *directory, struct str name,
                       bool directory_wanted);
    /* POSIX rename within the device. A directory into itself or below: INVAL. A whiteout counts as
     * a file that is no directory. Default: ROFS. */
    enum err (*rename)(struct op *op, struct file *old_directory, struct str old_name,
                       struct file *new_directory, struct str new_name);
    /* As remove and rename, but STALE if something else is at the name that goes or is replaced
     * than `expected`: looked at and changed in one step, so that of many who expect the same one
     * has his way. Default: remove and rename, without a look. */
    enum err (*remove_expected)(struct op *op, struct file *directory, struct str name,
                                bool directory_wanted, const struct file_expected *expected);
    enum err (*rename_expected)(struct op *op, struct file *old_directory, struct str old_name,
                                struct file *new_directory, struct str new_name,
                                const struct file_expected *expected);

    /* Up to `length` bytes. 0 bytes with OK is the end. `offset` is ignored by streams. An error
     * or PENDING leaves `*ret_read` untouched. */
    enum err (*read)(struct op *op, struct file *file, void *data, size_t length, uint64_t offset,
                     size_t *ret_read);
    /* May write less, never 0 of more than 0 bytes. */
    enum err (*write)(struct op *op, struct file *file, const void *data, size_t length,
                      uint64_t offset, size_t *ret_written);
    /* All names, appended to `ret_list`. */
    enum err (*readdir)(struct op *op, struct file *directory, struct dir_list *ret_list);
    /* Default: identity and type of the file, 1 link, everything else 0. */
    enum err (*stat)(struct op *op, struct file *file, struct file_stat *ret_stat);
    enum err (*set_size)(struct op *op, struct file *file, uint64_t size_bytes);
    enum err (*set_times)(struct op *op, struct file *file, uint64_t accessed_ns,
                          uint64_t modified_ns, unsigned set_times_flags);
    /* Returns when everything done to the file (for a directory: to its device) is on disk. For a
     * transaction: ends the question. Default: OK at once. */
    enum err (*sync)(struct op *op, struct file *file);

    /* Who has written to it is about to close it and wants to know whether all is well: applies
     * what was gathered so far. Polled. A guest that ends does not wait for this: then only
     * `closed` comes. Default: OK at once. */
    enum err (*flush)(struct op *op, struct file *file);

    /* What could be done without waiting, of `wanted` (POLL_…); `*ret_bytes` can be read. If
     * nothing can, ERR_PENDING and the op is woken when it changes; op->nonblocking: OK with
     * nothing ready. Default: everything wanted is ready. */
    enum err (*poll)(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                     uint64_t *ret_bytes);
    /* Sockets. Default: NOTSOCK. */
    enum err (*accept)(struct op *op, struct file *listener, struct file **ret_connection);
    enum err (*shutdown)(struct op *op, struct file *file, unsigned shutdown_flags);
    /* A transaction file's seek(CUR, -distance). Default: SPIPE. */
    enum err (*unread)(struct op *op, struct file *file, uint64_t distance_bytes);
    /* Somebody who opened the file (dev->open) lets go of it: the end of a written question, of a
     * pipe's side. Must not wait and can't fail; the reference is dropped by the caller. */
    void (*closed)(struct file *file, unsigned open_flags);

    /* The last reference is gone: frees the file. Must not wait. Not NULL. */
    void (*release)(struct file *file);
};

/* Sets every field; one reference, the caller's. */
void file_init(struct file *file, const struct dev *dev, uint64_t device, uint64_t inode,
               enum file_type type, unsigned traits);
struct file *file_ref(struct file *file);
void file_unref(struct file *file); /* accepts NULL */
/* A number for a new mount's st_dev, unique in this process. */
uint64_t dev_next_number(void);

/* The functions of the table with their defaults: callers use these, never the table itself. */
MUST_USE enum err file_walk(struct op *op, struct file *directory, const struct str *names,
                            size_t count, size_t *ret_walked, struct file **ret_file);
MUST_USE enum err file_open(struct op *op, struct file *file, unsigned open_flags,
                            struct file **ret_file);
MUST_USE enum err file_create(struct op *op, struct file *directory, struct str name,
                              enum file_type type, struct file **ret_file);
MUST_USE enum err file_symlink(struct op *op, struct file *directory, struct str name,
                               struct str target);
MUST_USE enum err file_link(struct op *op, struct file *file, struct file *directory,
                            struct str name);
MUST_USE enum err file_readlink(struct op *op, struct file *file, struct buf *ret_target);
MUST_USE enum err file_remove(struct op *op, struct file *directory, struct str name,
                              bool directory_wanted);
MUST_USE enum err file_rename(struct op *op, struct file *old_directory, struct str old_name,
                              struct file *new_directory, struct str new_name);
/* With `expected` NULL they are file_remove and file_rename. */
MUST_USE enum err file_remove_expected(struct op *op, struct file *directory, struct str name,
                                       bool directory_wanted, const struct file_expected *expected);
MUST_USE enum err file_rename_expected(struct op *op, struct file *old_directory,
                                       struct str old_name, struct file *new_directory,
                                       struct str new_name, const struct file_expected *expected);
MUST_USE enum err file_read(struct op *op, struct file *file, void *data, size_t length,
                            uint64_t offset, size_t *ret_read);
MUST_USE enum err file_write(struct op *op, struct file *file, const void *data, size_t length,
                             uint64_t offset, size_t *ret_written);
MUST_USE enum err file_readdir(struct op *op, struct file *directory, struct dir_list *ret_list);
MUST_USE enum err file_stat(struct op *op, struct file *file, struct file_stat *ret_stat);
MUST_USE enum err file_set_size(struct op *op, struct file *file, uint64_t size_bytes);
MUST_USE enum err file_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                 uint64_t modified_ns, unsigned set_times_flags);
MUST_USE enum err file_sync(struct op *op, struct file *file);
MUST_USE enum err file_flush(struct op *op, struct file *file);
MUST_USE enum err file_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                            uint64_t *ret_bytes);
MUST_USE enum err file_accept(struct op *op, struct file *listener, struct file **ret_connection);
MUST_USE enum err file_shutdown(struct op *op, struct file *file, unsigned shutdown_flags);
MUST_USE enum err file_unread(struct op *op, struct file *file, uint64_t distance_bytes);
void file_closed(struct file *file, unsigned open_flags);
