#include "dev/serve_internal.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct connection *connection_of(struct file *file) {
    return CONTAINER_OF(file, struct connection, file);
}

static void on_events(struct loop_watch *watch, unsigned events, void *argument) {
    struct connection *connection = argument;
    /* What is still wanted is asked for again by those who are woken. */
    connection->watched &= ~events;
    loop_watch_change(watch, connection->watched);
    op_queue_wake_all(&connection->changed);
}

/* `op` is woken when the descriptor is ready for one of `events`. */
static enum err wait_for(struct op *op, struct connection *connection, unsigned events) {
    enum err err = op_queue_wait(&connection->changed, op);
    if (err) {
        return op_finish(op, err);
    }
    connection->watched |= events;
    if (connection->watch) {
        loop_watch_change(connection->watch, connection->watched);
        return ERR_PENDING;
    }
    err = loop_watch_new(op->loop, connection->descriptor, connection->watched, on_events,
                         connection, &connection->watch);
    return err ? op_finish(op, err) : ERR_PENDING;
}

static enum err transfer(struct op *op, struct connection *connection, void *data, size_t length,
                         bool is_write, size_t *ret_length) {
    ssize_t moved;
    do {
        moved = is_write ? send(connection->descriptor, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                         : recv(connection->descriptor, data, length, MSG_DONTWAIT);
    } while (moved < 0 && errno == EINTR);
    if (moved >= 0) {
        *ret_length = (size_t)moved;
        return op_finish(op, ERR_OK);
    }
    if (errno != EAGAIN && errno != EWOULDBLOCK) {
        return op_finish(op, err_from_errno(errno));
    }
    return op->nonblocking ? ERR_AGAIN
                           : wait_for(op, connection, is_write ? LOOP_WRITABLE : LOOP_READABLE);
}

static enum err connection_read(struct op *op, struct file *file, void *data, size_t length,
                                uint64_t offset, size_t *ret_read) {
    (void)offset;
    return transfer(op, connection_of(file), data, length, false, ret_read);
}

static enum err connection_write(struct op *op, struct file *file, const void *data, size_t length,
                                 uint64_t offset, size_t *ret_written) {
    (void)offset;
    void *bytes = (void *)(uintptr_t)data; /* only read */
    return transfer(op, connection_of(file), bytes, length, true, ret_written);
}

static enum err connection_poll(struct op *op, struct file *file, unsigned wanted,
                                unsigned *ret_ready, uint64_t *ret_bytes) {
    struct connection *connection = connection_of(file);
    unsigned ready = 0;
    int bytes = 0;
    char byte;
    if (wanted & POLL_READABLE) {
        ssize_t peeked = recv(connection->descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (peeked >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            (void)!ioctl(connection->descriptor, FIONREAD, &bytes);
            ready |= POLL_READABLE | (peeked > 0 ? 0u : POLL_HANGUP);
        }
    }
    if (wanted & POLL_WRITABLE) {
        ssize_t sent = send(connection->descriptor, &byte, 0, MSG_NOSIGNAL | MSG_DONTWAIT);
        ready |= sent >= 0 || errno != EAGAIN ? POLL_WRITABLE : 0;
    }
    if (ready || op->nonblocking) {
        *ret_ready = ready;
        *ret_bytes = (uint64_t)bytes;
        return op_finish(op, ERR_OK);
    }
    return wait_for(op, connection,
                    (wanted & POLL_READABLE ? (unsigned)LOOP_READABLE : 0) |
                        (wanted & POLL_WRITABLE ? (unsigned)LOOP_WRITABLE : 0));
}

static enum err connection_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    int how = shutdown_flags == SHUTDOWN_READ    ? SHUT_RD
              : shutdown_flags == SHUTDOWN_WRITE ? SHUT_WR
                                                 : SHUT_RDWR;
    int result = shutdown(connection_of(file)->descriptor, how);
    return op_finish(op, result == 0 ? ERR_OK : err_from_errno(errno));
}

static void connection_release(struct file *file) {
    struct connection *connection = connection_of(file);
    loop_watch_free(connection->watch);
    op_queue_done(&connection->changed);
    if (connection->descriptor >= 0) {
        close(connection->descriptor);
    }
    free(connection);
}

static const struct dev connection_dev = {
    .name = "connection",
    .read = connection_read,
    .write = connection_write,
    .poll = connection_poll,
    .shutdown = connection_shutdown,
    .release = connection_release,
};

enum err connection_new(int descriptor, struct connection **ret_connection) {
    static atomic_uint_fast64_t next_inode = 1;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        return ERR_NOMEM;
    }
    enum err err = op_queue_init(&connection->changed);
    if (err) {
        free(connection);
        return err;
    }
    static atomic_uint_fast64_t device;
    uint64_t number = atomic_load(&device);
    if (number == 0) {
        number = dev_next_number(); /* two of them do no harm */
        atomic_store(&device, number);
    }
    file_init(&connection->file, &connection_dev, number, atomic_fetch_add(&next_inode, 1),
              FILE_SOCKET_STREAM, FILE_TIED);
    list_init(&connection->link);
    connection->descriptor = descriptor;
    *ret_connection = connection;
    return ERR_OK;
}
