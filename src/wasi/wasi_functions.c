/* The table of the functions of wasi_snapshot_preview1, in the order of its witx. */
#include "wasi/wasi_internal.h"

#define ROW(function, types, unstable, function_kind)                                              \
    {                                                                                              \
        .name = #function, .parameters = types, .has_result = true, .in_unstable = unstable,       \
        .kind = function_kind, .run = wasi_##function                                              \
    }

/* wasi_unstable has other values of whence (fd_seek), another $filestat and another $subscription,
 * and no sock_accept. */
const struct wasi_function wasi_functions[WASI_FUNCTION_COUNT] = {
    ROW(args_get, "ii", true, WASI_IMMEDIATE),
    ROW(args_sizes_get, "ii", true, WASI_IMMEDIATE),
    ROW(environ_get, "ii", true, WASI_IMMEDIATE),
    ROW(environ_sizes_get, "ii", true, WASI_IMMEDIATE),
    ROW(clock_res_get, "ii", true, WASI_IMMEDIATE),
    ROW(clock_time_get, "iIi", true, WASI_IMMEDIATE),
    ROW(fd_advise, "iIIi", true, WASI_IMMEDIATE),
    ROW(fd_allocate, "iII", true, WASI_IMMEDIATE),
    ROW(fd_close, "i", true, WASI_POLLED),
    ROW(fd_datasync, "i", true, WASI_POLLED),
    ROW(fd_fdstat_get, "ii", true, WASI_IMMEDIATE),
    ROW(fd_fdstat_set_flags, "ii", true, WASI_IMMEDIATE),
    ROW(fd_fdstat_set_rights, "iII", true, WASI_IMMEDIATE),
    ROW(fd_filestat_get, "ii", false, WASI_POLLED),
    ROW(fd_filestat_set_size, "iI", true, WASI_POLLED),
    ROW(fd_filestat_set_times, "iIIi", true, WASI_POLLED),
    ROW(fd_pread, "iiiIi", true, WASI_POLLED),
    ROW(fd_prestat_get, "ii", true, WASI_IMMEDIATE),
    ROW(fd_prestat_dir_name, "iii", true, WASI_IMMEDIATE),
    ROW(fd_pwrite, "iiiIi", true, WASI_POLLED),
    ROW(fd_read, "iiii", true, WASI_POLLED),
    ROW(fd_readdir, "iiiIi", true, WASI_POLLED),
    ROW(fd_renumber, "ii", true, WASI_POLLED),
    ROW(fd_seek, "iIii", false, WASI_POLLED),
    ROW(fd_sync, "i", true, WASI_POLLED),
    ROW(fd_tell, "ii", true, WASI_IMMEDIATE),
    ROW(fd_write, "iiii", true, WASI_POLLED),
    ROW(path_create_directory, "iii", true, WASI_POLLED),
    ROW(path_filestat_get, "iiiii", false, WASI_POLLED),
    ROW(path_filestat_set_times, "iiiiIIi", true, WASI_POLLED),
    ROW(path_link, "iiiiiii", true, WASI_POLLED),
    ROW(path_open, "iiiiiIIii", true, WASI_POLLED),
    ROW(path_readlink, "iiiiii", true, WASI_POLLED),
    ROW(path_remove_directory, "iii", true, WASI_POLLED),
    ROW(path_rename, "iiiiii", true, WASI_POLLED),
    ROW(path_symlink, "iiiii", true, WASI_POLLED),
    ROW(path_unlink_file, "iii", true, WASI_POLLED),
    ROW(poll_oneoff, "iiii", false, WASI_POLLED),
    {.name = "proc_exit",
     .parameters = "i",
     .has_result = false,
     .in_unstable = true,
     .kind = WASI_POLLED,
     .run = wasi_proc_exit},
    ROW(proc_raise, "i", true, WASI_IMMEDIATE),
    ROW(sched_yield, "", true, WASI_POLLED),
    ROW(random_get, "ii", true, WASI_POLLED),
    ROW(sock_accept, "iii", false, WASI_POLLED),
    ROW(sock_recv, "iiiiii", true, WASI_POLLED),
    ROW(sock_send, "iiiii", true, WASI_POLLED),
    ROW(sock_shutdown, "ii", true, WASI_POLLED),
};
