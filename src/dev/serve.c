#include "dev/serve.h"

#include "dev/serve_internal.h"

struct listener {
    struct file file;
    pthread_mutex_t lock;                /* guards the following; taken after services' */
    struct list requests;                /* serve_request.link */
    struct list connections;             /* connection.link */
    size_t request_count, ripe_count;    /* of the requests, those that /net/serve may take */
    size_t connection_count, connecting; /* the latter: claimed, their connections are made */
    bool is_closed;
    struct op_queue changed;
};

static struct listener *listener_of(struct file *file) {
    return CONTAINER_OF(file, struct listener, file);
}

/* ---- requests ---- */

/* With the lock. */
static void unlink_request(struct listener *listener, struct serve_request *request,
                           enum serve_state state) {
    list_remove(&request->link);
    listener->request_count--;
    listener->ripe_count -= request->is_ripe;
    atomic_store(&request->state, state);
}

enum err serve_listener_put(struct file *file, struct serve_request *request, size_t waiting_max) {
    struct listener *listener = listener_of(file);
    if (request->listener != file) {
        file_unref(request->listener);
        request->listener = file_ref(file);
    }
    enum err err = ERR_OK;
    pthread_mutex_lock(&listener->lock);
    if (listener->is_closed) {
        err = ERR_PIPE;
    } else if (listener->request_count + listener->connection_count >= waiting_max) {
        err = ERR_AGAIN;
    } else {
        atomic_store(&request->state, SERVE_WAITING);
        list_append(&listener->requests, &request->link);
        listener->request_count++;
        listener->ripe_count += request->is_ripe;
    }
    pthread_mutex_unlock(&listener->lock);
    if (!err) {
        op_queue_wake_all(&listener->changed);
    }
    return err;
}

void serve_request_ripen(struct serve_request *request) {
    struct listener *listener = listener_of(request->listener);
    pthread_mutex_lock(&listener->lock);
    bool was_ripe = request->is_ripe;
    request->is_ripe = true;
    bool is_new = !was_ripe && serve_request_state(request) == SERVE_WAITING;
    listener->ripe_count += is_new;
    pthread_mutex_unlock(&listener->lock);
    if (is_new) {
        op_queue_wake_all(&listener->changed);
    }
}

void serve_listener_withdraw(struct serve_request *request) {
    if (!request->listener) {
        return; /* it never waited */
    }
    struct listener *listener = listener_of(request->listener);
    bool was_claimed = false;
    pthread_mutex_lock(&listener->lock);
    if (serve_request_state(request) == SERVE_WAITING && !list_is_empty(&request->link)) {
        unlink_request(listener, request, SERVE_REFUSED);
    } else if (serve_request_state(request) == SERVE_CONNECTING) {
        atomic_store(&request->state, SERVE_REFUSED);
        listener->connecting--;
        was_claimed = true;
    }
    pthread_mutex_unlock(&listener->lock);
    if (was_claimed) {
        op_queue_wake_all(&listener->changed); /* whoever accepts claims another one */
    }
}

/* A reference, or NULL. */
static struct serve_request *take_ripe(struct listener *listener) {
    struct serve_request *taken = NULL;
    pthread_mutex_lock(&listener->lock);
    LIST_FOR_EACH (node, &listener->requests) {
        struct serve_request *request = CONTAINER_OF(node, struct serve_request, link);
        if (request->is_ripe) {
            taken = serve_request_ref(request);
            unlink_request(listener, request, SERVE_TAKEN);
            break;
        }
    }
    pthread_mutex_unlock(&listener->lock);
    return taken;
}

enum err serve_listener_take(struct op *op, struct file *file, struct serve_request **ret_request) {
    struct listener *listener = listener_of(file);
    struct serve_request *request = take_ripe(listener);
    if (!request && op->nonblocking) {
        return ERR_AGAIN;
    }
    if (!request) {
        enum err err = op_queue_wait(&listener->changed, op);
        if (err) {
            return op_finish(op, err);
        }
        request = take_ripe(listener); /* it may have come between the look and the wait */
        if (!request) {
            return ERR_PENDING;
        }
    }
    *ret_request = request;
    return op_finish(op, ERR_OK);
}

/* ---- connections ---- */

static struct connection *take_connection(struct listener *listener) {
    struct connection *first = NULL;
    pthread_mutex_lock(&listener->lock);
    if (!list_is_empty(&listener->connections)) {
        first = CONTAINER_OF(listener->connections.next, struct connection, link);
        list_remove(&first->link);
        listener->connection_count--;
    }
    pthread_mutex_unlock(&listener->lock);
    return first;
}

/* The first request is to become a connection, if none is already on its way to. Whether there is
 * one. */
static bool claim(struct listener *listener) {
    struct serve_request *request = NULL;
    pthread_mutex_lock(&listener->lock);
    if (listener->connecting == 0 && !list_is_empty(&listener->requests)) {
        request =
            serve_request_ref(CONTAINER_OF(listener->requests.next, struct serve_request, link));
        unlink_request(listener, request, SERVE_CONNECTING);
        listener->connecting++;
    }
    bool is_on_its_way = listener->connecting > 0;
    pthread_mutex_unlock(&listener->lock);
    if (request) {
        op_queue_wake_all(&request->of_door);
        serve_request_unref(request);
    }
    return is_on_its_way;
}

static enum err listener_accept(struct op *op, struct file *file, struct file **ret_connection) {
    struct listener *listener = listener_of(file);
    struct connection *first = take_connection(listener);
    if (!first) {
        enum err err = op_queue_wait(&listener->changed, op);
        if (err) {
            return op_finish(op, err);
        }
        /* That a door makes one does not take long: this alone waits where waiting is not wanted.
         */
        bool is_on_its_way = claim(listener);
        first = take_connection(listener); /* it may have come between the look and the wait */
        if (!first) {
            return is_on_its_way || !op->nonblocking ? ERR_PENDING : op_finish(op, ERR_AGAIN);
        }
    }
    *ret_connection = &first->file;
    return op_finish(op, ERR_OK);
}

static enum err listener_poll(struct op *op, struct file *file, unsigned wanted,
                              unsigned *ret_ready, uint64_t *ret_bytes) {
    struct listener *listener = listener_of(file);
    for (bool again = false;; again = true) {
        size_t waiting = serve_listener_waiting(file).all;
        if (waiting > 0 || op->nonblocking) {
            *ret_ready = waiting > 0 ? wanted & POLL_READABLE : 0;
            *ret_bytes = waiting;
            return op_finish(op, ERR_OK);
        }
        if (again) {
            return ERR_PENDING;
        }
        enum err err = op_queue_wait(&listener->changed, op);
        if (err) {
            return op_finish(op, err);
        }
    }
}

enum err serve_listener_connect(struct file *file, struct serve_request *request, int descriptor,
                                size_t waiting_max) {
    struct listener *listener = listener_of(file);
    struct connection *connection;
    enum err err = connection_new(descriptor, &connection);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&listener->lock);
    bool is_claimed = request && serve_request_state(request) == SERVE_CONNECTING;
    if (listener->is_closed) {
        err = ERR_PIPE;
    } else if (!is_claimed && listener->request_count + listener->connection_count >= waiting_max) {
        err = ERR_AGAIN;
    } else {
        list_append(&listener->connections, &connection->link);
        listener->connection_count++;
    }
    if (!err && is_claimed) {
        listener->connecting--;
        atomic_store(&request->state, SERVE_TAKEN);
    }
    pthread_mutex_unlock(&listener->lock);
    if (err) {
        connection->descriptor = -1; /* the caller's */
        file_unref(&connection->file);
        return err;
    }
    op_queue_wake_all(&listener->changed);
    return ERR_OK;
}

/* ---- the listener ---- */

static enum err no_content(struct op *op) {
    return op_finish(op, ERR_NOTCONN);
}
static enum err listener_read(struct op *op, struct file *file, void *data, size_t length,
                              uint64_t offset, size_t *ret_read) {
    (void)file, (void)data, (void)length, (void)offset, (void)ret_read;
    return no_content(op);
}
static enum err listener_write(struct op *op, struct file *file, const void *data, size_t length,
                               uint64_t offset, size_t *ret_written) {
    (void)file, (void)data, (void)length, (void)offset, (void)ret_written;
    return no_content(op);
}

static void listener_release(struct file *file) {
    struct listener *listener = listener_of(file);
    serve_listener_close(file);
    op_queue_done(&listener->changed);
    pthread_mutex_destroy(&listener->lock);
    free(listener);
}

static const struct dev listener_dev = {
    .name = "listener",
    .read = listener_read,
    .write = listener_write,
    .poll = listener_poll,
    .accept = listener_accept,
    .release = listener_release,
};

enum err serve_listener_new(struct file **ret_listener) {
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener) {
        return ERR_NOMEM;
    }
    enum err err = op_queue_init(&listener->changed);
    if (err) {
        free(listener);
        return err;
    }
    file_init(&listener->file, &listener_dev, dev_next_number(), 1, FILE_SOCKET_STREAM, FILE_TIED);
    pthread_mutex_init(&listener->lock, NULL);
    list_init(&listener->requests);
    list_init(&listener->connections);
    *ret_listener = &listener->file;
    return ERR_OK;
}

struct serve_waiting serve_listener_waiting(struct file *file) {
    struct listener *listener = listener_of(file);
    pthread_mutex_lock(&listener->lock);
    struct serve_waiting waiting = {
        .ripe = listener->ripe_count + listener->connection_count,
        .all = listener->request_count + listener->connection_count,
    };
    pthread_mutex_unlock(&listener->lock);
    return waiting;
}

static struct serve_request *refuse_first(struct listener *listener) {
    struct serve_request *request = NULL;
    pthread_mutex_lock(&listener->lock);
    if (!list_is_empty(&listener->requests)) {
        request =
            serve_request_ref(CONTAINER_OF(listener->requests.next, struct serve_request, link));
        unlink_request(listener, request, SERVE_REFUSED);
    }
    pthread_mutex_unlock(&listener->lock);
    return request;
}

void serve_listener_close(struct file *file) {
    struct listener *listener = listener_of(file);
    pthread_mutex_lock(&listener->lock);
    listener->is_closed = true;
    pthread_mutex_unlock(&listener->lock);
    struct serve_request *request;
    while ((request = refuse_first(listener))) {
        op_queue_wake_all(&request->of_door);
        serve_request_unref(request);
    }
    struct connection *connection;
    while ((connection = take_connection(listener))) {
        file_unref(&connection->file);
    }
}
