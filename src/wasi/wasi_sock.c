/* Sockets, as far as preview 1 has them: connections that are accepted, read, written, shut down.
 */
#include "wasi/wasi_internal.h"

/* The descriptor of a socket. Files that are none are NOTSOCK, directories BADF: nobody takes one
 * for a socket, so the number is wrong. */
static enum err get_socket(struct wasi *wasi, uint32_t number, struct fd **ret_fd) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, number, &fd);
    if (err)
        return err;
    if (fd_is_directory(fd))
        return ERR_BADF;
    if (fd->place.file->type != FILE_SOCKET_STREAM && fd->place.file->type != FILE_SOCKET_DATAGRAM)
        return ERR_NOTSOCK;
    *ret_fd = fd;
    return ERR_OK;
}

/* sock_accept(fd, flags, connection) */
enum err wasi_sock_accept(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = get_socket(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    uint32_t flags = argument_u32(arguments, 1);
    if (flags & ~(uint32_t)FDFLAGS_ALL)
        return ERR_INVAL;
    err = guest_check(wasi->guest, argument_u32(arguments, 2), 4);
    if (err)
        return err;
    if (wasi->descriptors.count >= wasi->descriptors.limit)
        return ERR_NFILE; /* before a connection is taken */
    wasi->op.nonblocking = fd->flags & FD_FLAG_NONBLOCK;
    struct file *connection;
    err = file_accept(&wasi->op, fd->place.file, &connection);
    if (err)
        return err;
    uint32_t number;
    err = wasi_add_fd(wasi, (struct ns_place){.file = connection}, OPEN_READ | OPEN_WRITE,
                      FD_RIGHTS_ALL, 0, flags, &number);
    if (err) {
        file_closed(connection, OPEN_READ | OPEN_WRITE);
        file_unref(connection);
        return err;
    }
    return guest_write_u32(wasi->guest, argument_u32(arguments, 2), number);
}

/* sock_recv(fd, ri_data, ri_data_len, ri_flags, ro_datalen, ro_flags) */
enum err wasi_sock_recv(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = get_socket(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    uint32_t flags = argument_u32(arguments, 3);
    if (flags & ~(uint32_t)RIFLAGS_ALL)
        return ERR_INVAL;
    if (flags & RIFLAG_RECV_PEEK)
        return ERR_NOTSUP;
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .wait_for_all = flags & RIFLAG_RECV_WAITALL,
                                   .result_address = argument_u32(arguments, 4),
                                   .has_flags = true,
                                   .flags_address = argument_u32(arguments, 5),
                               });
}

/* sock_send(fd, si_data, si_data_len, si_flags, so_datalen) */
enum err wasi_sock_send(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = get_socket(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (argument_u32(arguments, 3) != 0)
        return ERR_INVAL;
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .is_write = true,
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .result_address = argument_u32(arguments, 4),
                               });
}

/* sock_shutdown(fd, how). Not only of sockets: it ends the question of a transaction file. */
enum err wasi_sock_shutdown(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    uint32_t how = argument_u32(arguments, 1);
    if (how == 0 || how & ~(uint32_t)SDFLAGS_ALL)
        return ERR_INVAL;
    if (fd_is_directory(fd))
        return ERR_BADF;
    return file_shutdown(&wasi->op, fd->place.file,
                         (how & SDFLAG_RD ? SHUTDOWN_READ : 0u) |
                             (how & SDFLAG_WR ? SHUTDOWN_WRITE : 0u));
}
