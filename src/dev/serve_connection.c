/* Connections in memory: what the program reads is one request after the other (RFC 9112), what it
 * writes are the answers. A connection that has answered has its next request when the program has
 * shown that it waits for one, by reading or polling in vain: a program that closes after an answer
 * without having said so would get it in vain. */
#include "dev/serve_internal.h"

static struct connection *connection_of(struct file *file) {
    return CONTAINER_OF(file, struct connection, file);
}

static void lock(struct connection *connection) {
    pthread_mutex_lock(&connection->listener->lock);
}

static void unlock(struct connection *connection) {
    pthread_mutex_unlock(&connection->listener->lock);
}

/* With the lock. */
static void leave_idle(struct connection *connection) {
    if (!list_is_empty(&connection->link)) {
        list_remove(&connection->link);
        connection->listener->idle_count--;
    }
}

void connection_give(struct connection *connection, struct serve_request *request) {
    leave_idle(connection);
    struct serve_request *last = connection->request;
    connection->request = serve_request_ref(request);
    request->connection = &connection->file;
    connection->is_free = false;
    op_queue_wake_all(&last->of_program);
    serve_request_unref(last);
}

void connection_end(struct connection *connection) {
    leave_idle(connection);
    connection->ends = true;
}

/* A reference to the present request. */
static struct serve_request *present(struct connection *connection) {
    lock(connection);
    struct serve_request *request = serve_request_ref(connection->request);
    unlock(connection);
    return request;
}

/* All of `request` was read. AGAIN: the next one may come, and wakes who waits in `request`. OK:
 * there is another one already. PIPE: none comes. */
static enum err await_next(struct connection *connection, struct serve_request *request) {
    struct listener *listener = connection->listener;
    lock(connection);
    bool is_new = connection->request != request;
    if (!is_new && connection->is_free && list_is_empty(&connection->link)) {
        if (connection->ends || listener->is_closed) {
            connection->ends = true;
        } else if (listener_give_first(listener, connection)) {
            is_new = true;
        } else if (listener->idle_count < SERVE_IDLE_MAX) {
            list_prepend(&listener->idle, &connection->link);
            listener->idle_count++;
        } else {
            connection->ends = true;
        }
    }
    bool is_over = connection->ends || (!connection->is_free && serve_request_is_left(request));
    enum err err = is_new ? ERR_OK : is_over ? ERR_PIPE : ERR_AGAIN;
    unlock(connection);
    return err;
}

/* Does `once` until it need not wait, or waits. */
static enum err poll_request(struct op *op, struct connection *connection,
                             enum err (*once)(struct connection *connection,
                                              struct serve_request *request, void *argument),
                             void *argument) {
    for (bool waits = false;; waits = true) {
        struct serve_request *request = present(connection);
        enum err err = waits ? op_queue_wait(&request->of_program, op) : ERR_OK;
        if (!err) {
            err = once(connection, request, argument);
        }
        bool is_present = false;
        if (err == ERR_AGAIN) {
            lock(connection);
            is_present = connection->request == request;
            unlock(connection);
        }
        serve_request_unref(request);
        if (err != ERR_AGAIN || (is_present && op->nonblocking)) {
            return op_finish(op, err);
        }
        if (is_present && waits) {
            return ERR_PENDING;
        }
    }
}

struct read {
    void *data;
    size_t length, read;
};

static enum err read_once(struct connection *connection, struct serve_request *request,
                          void *argument) {
    struct read *read = argument;
    enum err err = serve_request_read_now(request, read->data, read->length, &read->read);
    if (err == ERR_CONNRESET) {
        read->read = 0; /* as a peer that has closed: what is missing tells the rest */
        return ERR_OK;
    }
    if (err || read->read > 0) {
        return err;
    }
    err = await_next(connection, request);
    if (err == ERR_PIPE) {
        return ERR_OK;
    }
    return err ? err : ERR_AGAIN; /* the present one is another one now */
}

static enum err connection_read(struct op *op, struct file *file, void *data, size_t length,
                                uint64_t offset, size_t *ret_read) {
    (void)offset;
    struct read read = {.data = data, .length = length};
    if (length == 0) {
        *ret_read = 0;
        return ERR_OK;
    }
    enum err err = poll_request(op, connection_of(file), read_once, &read);
    if (!err) {
        *ret_read = read.read;
    }
    return err;
}

struct poll {
    unsigned wanted, ready;
    uint64_t bytes;
};

static enum err poll_once(struct connection *connection, struct serve_request *request,
                          void *argument) {
    struct poll *poll = argument;
    uint64_t none;
    poll->ready = serve_request_ready(request, poll->wanted & POLL_WRITABLE, &none);
    poll->bytes = 0;
    if (!(poll->wanted & POLL_READABLE)) {
        return poll->ready ? ERR_OK : ERR_AGAIN;
    }
    if (!serve_request_is_read(request)) {
        poll->ready |= serve_request_ready(request, POLL_READABLE, &poll->bytes);
        return poll->ready ? ERR_OK : ERR_AGAIN;
    }
    enum err err = await_next(connection, request);
    poll->ready |= err == ERR_PIPE ? (unsigned)(POLL_READABLE | POLL_HANGUP) : 0;
    return poll->ready ? ERR_OK : ERR_AGAIN;
}

static enum err connection_poll(struct op *op, struct file *file, unsigned wanted,
                                unsigned *ret_ready, uint64_t *ret_bytes) {
    struct poll poll = {.wanted = wanted};
    enum err err = poll_request(op, connection_of(file), poll_once, &poll);
    if (err == ERR_AGAIN) {
        poll.ready = 0;
        poll.bytes = 0;
        err = ERR_OK;
    }
    if (!err) {
        *ret_ready = poll.ready;
        *ret_bytes = poll.bytes;
    }
    return err;
}

static enum err connection_write(struct op *op, struct file *file, const void *data, size_t length,
                                 uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct connection *connection = connection_of(file);
    struct serve_request *request = present(connection);
    enum err err = serve_request_write(op, request, data, length, ret_written);
    if (err == ERR_PIPE) { /* nobody has asked for it: another answer would begin with it */
        lock(connection);
        connection_end(connection);
        unlock(connection);
    }
    serve_request_unref(request);
    return err;
}

static enum err connection_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    (void)op;
    struct connection *connection = connection_of(file);
    if (shutdown_flags & SHUTDOWN_WRITE) {
        lock(connection);
        connection_end(connection);
        if (!serve_request_is_untouched(connection->request)) {
            serve_request_end(connection->request);
        }
        unlock(connection);
    }
    return ERR_OK;
}

static enum err connection_flush(struct op *op, struct file *file) {
    return connection_shutdown(op, file, SHUTDOWN_WRITE);
}

/* A request that has come to a free connection just before the program closed it was seen by
 * nobody: another one takes it. */
static void connection_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    struct connection *connection = connection_of(file);
    lock(connection);
    connection_end(connection);
    struct serve_request *request = serve_request_ref(connection->request);
    bool is_present = request->connection == file;
    bool is_untouched = is_present && serve_request_is_untouched(request);
    if (is_present) {
        listener_forget(connection->listener, request);
        listener_note_progress(connection->listener);
        request->connection = NULL;
    }
    if (is_untouched) {
        atomic_store(&request->state, SERVE_REFUSED);
    }
    unlock(connection);
    if (is_untouched) {
        op_queue_wake_all(&request->of_door);
    } else if (is_present) {
        serve_request_close(request);
    }
    serve_request_unref(request);
}

static void connection_release(struct file *file) {
    struct connection *connection = connection_of(file);
    connection_closed(file, 0); /* one that was never handed out */
    serve_request_unref(connection->request);
    file_unref(&connection->listener->file);
    free(connection);
}

static const struct dev connection_dev = {
    .name = "connection",
    .read = connection_read,
    .write = connection_write,
    .poll = connection_poll,
    .shutdown = connection_shutdown,
    .flush = connection_flush,
    .closed = connection_closed,
    .release = connection_release,
};

enum err connection_new(struct listener *listener, struct serve_request *request,
                        struct connection **ret_connection) {
    static atomic_uint_fast64_t next_inode = 2;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        return ERR_NOMEM;
    }
    file_init(&connection->file, &connection_dev, listener->file.device,
              atomic_fetch_add(&next_inode, 1), FILE_SOCKET_STREAM, 0);
    file_ref(&listener->file);
    connection->listener = listener;
    list_init(&connection->link);
    connection->request = serve_request_ref(request);
    *ret_connection = connection;
    return ERR_OK;
}
