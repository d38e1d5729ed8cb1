/* What the files of src/wasi share; not for others. Thread: the run's loop. */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "wasi/memory.h"
#include "wasi/wasi_layout.h"

/* Longer paths are not even copied: NOMEM. (The namespace refuses more than 4,096 bytes.) */
#define WASI_PATH_BYTES_MAX (64u * 1024u)
/* As long as a path that ns would walk. */
#define WASI_LINK_TARGET_BYTES_MAX 4096u
/* Offsets and sizes are signed in the guests' C libraries. */
#define WASI_OFFSET_MAX ((uint64_t)INT64_MAX)

static inline uint32_t argument_u32(const uint64_t *arguments, size_t index) {
    return (uint32_t)arguments[index];
}

/* The zeroed state of a polled call, for its next steps; `size` is at most that of call_storage.
 * `drop` (or NULL) is called when the call ends or is given up. */
void *wasi_call_state(struct wasi *wasi, size_t size, void (*drop)(void *state));

/* Lets others have their turn: the call is stepped again at the loop's next turn. */
enum err wasi_call_yield(struct wasi *wasi);

/* The rights that exist for a file of this kind. */
uint64_t wasi_file_rights(const struct file *file);
/* Adds `place` to the table with the rights asked for, as far as they exist. Takes over the place
 * on success; NFILE, NOMEM otherwise. */
MUST_USE enum err wasi_add_fd(struct wasi *wasi, struct ns_place place, unsigned open_flags,
                              uint64_t rights, uint64_t inheriting_rights, unsigned fd_flags,
                              uint32_t *ret_number);

/* The descriptor `number`, or BADF. */
MUST_USE enum err wasi_get_fd(struct wasi *wasi, uint32_t number, struct fd **ret_fd);
static inline bool fd_is_directory(const struct fd *fd) {
    return fd->place.file->type == FILE_DIRECTORY;
}

/* What file times a call wants: from WASI's flags to the device's. INVAL: contradicting or unknown
 * flags, a time beyond 2^63 ns. */
struct wasi_times {
    uint64_t accessed_ns, modified_ns;
    unsigned set_times_flags;
};
MUST_USE enum err wasi_times_from_flags(uint64_t accessed_ns, uint64_t modified_ns,
                                        unsigned fst_flags, struct wasi_times *ret_times);
MUST_USE enum err wasi_write_filestat(struct wasi *wasi, uint32_t address,
                                      const struct file_stat *stat);

/* Moves bytes between a list of buffers in guest memory and a file. Polled: the first call copies
 * the list; further ones go on. */
struct wasi_transfer {
    uint32_t descriptor;
    uint32_t iovecs_address, iovecs_count;
    bool is_write;
    bool has_offset; /* pread, pwrite: `offset` counts and the descriptor's position stays */
    bool wait_for_all;
    uint64_t offset;
    uint32_t result_address; /* where the count of bytes goes (u32) */
    uint32_t flags_address;  /* if `has_flags`: where a zero $roflags (u16) goes */
    bool has_flags;
};
MUST_USE enum err wasi_transfer(struct wasi *wasi, const struct wasi_transfer *transfer);

/* A path argument on its way, with what it led to. All zero before the first step. */
struct wasi_path {
    struct ns_walk walk;
    struct ns_walk_result found;
    bool is_done;
    bool is_plain; /* wasi_path_walk_parent: the path ends in a dot */
};
/* Polled: walks the path at `address` from the directory `descriptor`. BADF, NOTDIR: of the
 * descriptor; NOMEM: too long to look at; FAULT; and what ns_walk says. */
MUST_USE enum err wasi_path_walk(struct wasi *wasi, struct wasi_path *path, uint32_t descriptor,
                                 uint32_t address, uint32_t length, unsigned ns_walk_flags);
/* Polled: walks to the parent of a name that is to be made or removed, with NS_PARENT and `flags`.
 * A path that ends in a dot names a directory that exists: `dot_error`. */
MUST_USE enum err wasi_path_walk_parent(struct wasi *wasi, struct wasi_path *path,
                                        uint32_t descriptor, uint32_t address, uint32_t length,
                                        unsigned flags, enum err dot_error);
/* Back to all zero. */
void wasi_path_done(struct wasi_path *path);

/* Notes what a call has done (wasi_changes.c): the name is the path at `address` from the directory
 * `descriptor`, what it is in is on the device of `file` (what is mounted below `/` is not noted).
 * The path is taken as it is written, without following links. */
struct wasi_path_argument {
    uint32_t descriptor, address, length;
};
void wasi_note_made(struct wasi *wasi, const struct file *file,
                    const struct wasi_path_argument *path, unsigned change_flags);
void wasi_note_removed(struct wasi *wasi, const struct file *file,
                       const struct wasi_path_argument *path);
void wasi_note_renamed(struct wasi *wasi, const struct file *file,
                       const struct wasi_path_argument *from, const struct wasi_path_argument *to,
                       unsigned change_flags);
/* The same path as text for fd.path: malloc'ed, or NULL. */
char *wasi_directory_path(struct wasi *wasi, const struct wasi_path_argument *path);

/* The 46 functions. */
#define WASI_FUNCTION(name) enum err wasi_##name(struct wasi *wasi, const uint64_t *arguments)
WASI_FUNCTION(args_get);
WASI_FUNCTION(args_sizes_get);
WASI_FUNCTION(environ_get);
WASI_FUNCTION(environ_sizes_get);
WASI_FUNCTION(clock_res_get);
WASI_FUNCTION(clock_time_get);
WASI_FUNCTION(fd_advise);
WASI_FUNCTION(fd_allocate);
WASI_FUNCTION(fd_close);
WASI_FUNCTION(fd_datasync);
WASI_FUNCTION(fd_fdstat_get);
WASI_FUNCTION(fd_fdstat_set_flags);
WASI_FUNCTION(fd_fdstat_set_rights);
WASI_FUNCTION(fd_filestat_get);
WASI_FUNCTION(fd_filestat_set_size);
WASI_FUNCTION(fd_filestat_set_times);
WASI_FUNCTION(fd_pread);
WASI_FUNCTION(fd_prestat_get);
WASI_FUNCTION(fd_prestat_dir_name);
WASI_FUNCTION(fd_pwrite);
WASI_FUNCTION(fd_read);
WASI_FUNCTION(fd_readdir);
WASI_FUNCTION(fd_renumber);
WASI_FUNCTION(fd_seek);
WASI_FUNCTION(fd_sync);
WASI_FUNCTION(fd_tell);
WASI_FUNCTION(fd_write);
WASI_FUNCTION(path_create_directory);
WASI_FUNCTION(path_filestat_get);
WASI_FUNCTION(path_filestat_set_times);
WASI_FUNCTION(path_link);
WASI_FUNCTION(path_open);
WASI_FUNCTION(path_readlink);
WASI_FUNCTION(path_remove_directory);
WASI_FUNCTION(path_rename);
WASI_FUNCTION(path_symlink);
WASI_FUNCTION(path_unlink_file);
WASI_FUNCTION(poll_oneoff);
WASI_FUNCTION(proc_exit);
WASI_FUNCTION(proc_raise);
WASI_FUNCTION(sched_yield);
WASI_FUNCTION(random_get);
WASI_FUNCTION(sock_accept);
WASI_FUNCTION(sock_recv);
WASI_FUNCTION(sock_send);
WASI_FUNCTION(sock_shutdown);
