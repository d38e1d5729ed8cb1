/* A guest's file descriptors: numbers to open files with position, rights and flags.
 *
 * Thread: the run's loop. Layer: ns. */
#pragma once

#include "ns/ns.h"

/* Rights as in WASI (witx: typenames.witx, $rights): bits 0 to 29. */
enum fd_right {
    FD_RIGHT_DATASYNC = 1u << 0,
    FD_RIGHT_READ = 1u << 1,
    FD_RIGHT_SEEK = 1u << 2,
    FD_RIGHT_FDSTAT_SET_FLAGS = 1u << 3,
    FD_RIGHT_SYNC = 1u << 4,
    FD_RIGHT_TELL = 1u << 5,
    FD_RIGHT_WRITE = 1u << 6,
    FD_RIGHT_ADVISE = 1u << 7,
    FD_RIGHT_ALLOCATE = 1u << 8,
    FD_RIGHT_PATH_CREATE_DIRECTORY = 1u << 9,
    FD_RIGHT_PATH_CREATE_FILE = 1u << 10,
    FD_RIGHT_PATH_LINK_SOURCE = 1u << 11,
    FD_RIGHT_PATH_LINK_TARGET = 1u << 12,
    FD_RIGHT_PATH_OPEN = 1u << 13,
    FD_RIGHT_READDIR = 1u << 14,
    FD_RIGHT_PATH_READLINK = 1u << 15,
    FD_RIGHT_PATH_RENAME_SOURCE = 1u << 16,
    FD_RIGHT_PATH_RENAME_TARGET = 1u << 17,
    FD_RIGHT_PATH_FILESTAT_GET = 1u << 18,
    FD_RIGHT_PATH_FILESTAT_SET_SIZE = 1u << 19,
    FD_RIGHT_PATH_FILESTAT_SET_TIMES = 1u << 20,
    FD_RIGHT_FILESTAT_GET = 1u << 21,
    FD_RIGHT_FILESTAT_SET_SIZE = 1u << 22,
    FD_RIGHT_FILESTAT_SET_TIMES = 1u << 23,
    FD_RIGHT_PATH_SYMLINK = 1u << 24,
    FD_RIGHT_PATH_REMOVE_DIRECTORY = 1u << 25,
    FD_RIGHT_PATH_UNLINK_FILE = 1u << 26,
    FD_RIGHT_POLL = 1u << 27,
    FD_RIGHT_SOCK_SHUTDOWN = 1u << 28,
    FD_RIGHT_SOCK_ACCEPT = 1u << 29,
    FD_RIGHTS_ALL = (1u << 30) - 1,
};

/* As WASI's fdflags. */
enum fd_flag {
    FD_FLAG_APPEND = 1 << 0,
    FD_FLAG_DSYNC = 1 << 1,
    FD_FLAG_NONBLOCK = 1 << 2,
    FD_FLAG_RSYNC = 1 << 3,
    FD_FLAG_SYNC = 1 << 4,
};

struct fd {
    struct ns_place place; /* the open file; place.mount for directories */
    uint64_t position;     /* bytes, of seekable files */
    uint64_t rights, inheriting_rights;
    uint16_t flags;     /* enum fd_flag */
    uint8_t open_flags; /* enum open_flags: how it was opened */
    bool is_preopen;
    bool is_undecided; /* NONBLOCK as soon as its flags are asked for (wasi_add_listener) */
    bool is_polled_for_writing; /* during wasi_poll's look at what is polled together */
    char *path; /* of a directory that was opened: "/a/b"; NULL if that is not known; owned */
    struct dir_list
        *listing; /* directories: the snapshot of this open, with "." and "..", or NULL */
};

struct fdtab {
    struct fd *entries; /* by number; place.file NULL = free */
    uint32_t capacity;
    uint32_t limit; /* open descriptors at most; one more is NFILE */
    uint32_t count; /* open now */
};

void fdtab_init(struct fdtab *table, uint32_t limit);
/* Closes all. */
void fdtab_done(struct fdtab *table);
/* Puts `*fd` at the lowest free number and takes over what it owns; on an error (NFILE, NOMEM) the
 * caller keeps it. */
MUST_USE enum err fdtab_add(struct fdtab *table, const struct fd *fd, uint32_t *ret_number);
/* NULL if `number` is not open. Valid until the table changes. */
struct fd *fdtab_get(struct fdtab *table, uint32_t number);
/* BADF if it is not open. Tells the device (file_closed) and lets go. */
MUST_USE enum err fdtab_close(struct fdtab *table, uint32_t number);
/* Moves `from` to the open number `to`, closing what was there; `from` is then free. Onto itself:
 * OK. (witx: fd_renumber) */
MUST_USE enum err fdtab_renumber(struct fdtab *table, uint32_t from, uint32_t to);
