#include "dev/serve_internal.h"

#include "dev/service.h"

#include <inttypes.h>

/* ---- requests ---- */

static void note_asked(struct listener *listener) {
    listener_note_progress(listener);
    if (!atomic_load_explicit(&listener->is_asked, memory_order_relaxed)) {
        atomic_store_explicit(&listener->is_asked, true, memory_order_relaxed);
    }
}

bool serve_listener_is_asked(struct file *file) {
    return atomic_load_explicit(&listener_of(file)->is_asked, memory_order_relaxed);
}

/* With the lock. */
static void unlink_request(struct listener *listener, struct serve_request *request,
                           enum serve_state state) {
    list_remove(&request->link);
    listener->request_count--;
    listener->ripe_count -= request->is_ripe;
    atomic_store(&request->state, state);
}

void listener_forget(struct listener *listener, struct serve_request *request) {
    (void)listener;
    if (serve_request_state(request) == SERVE_TAKEN && !list_is_empty(&request->link)) {
        list_remove(&request->link);
    }
}

void serve_forget(struct serve_request *request) {
    struct listener *listener = listener_of(request->listener);
    pthread_mutex_lock(&listener->lock);
    listener_forget(listener, request);
    listener_note_progress(listener);
    pthread_mutex_unlock(&listener->lock);
}

/* With the lock: nobody has taken it in time. */
static void note_vain(struct listener *listener, const struct serve_request *request) {
    if (request->is_ripe) {
        listener->has_vain = true;
        listener->vain_progress = atomic_load(&listener->progress);
    }
}

void serve_note_progress(struct serve_request *request) {
    listener_note_progress(listener_of(request->listener));
}

/* With the lock. Its head is made complete: that has room for it. */
static void set_taken(struct listener *listener, struct serve_request *request,
                      bool by_connection) {
    list_append(&listener->taken, &request->link);
    struct buf *head = &request->head;
    head->length = request->head_length;
    request->by_connection = by_connection;
    request->is_chunked = by_connection && request->has_body && !request->has_length;
    if (request->is_chunked) {
        (void)!buf_append_str(head, STR("Transfer-Encoding: chunked\r\n"));
    } else if (request->has_body && request->has_length) {
        (void)!buf_printf(head, "Content-Length: %" PRIu64 "\r\n", request->length);
    }
    (void)!buf_append_str(head, STR("\r\n"));
    atomic_store(&request->state, SERVE_TAKEN);
}

/* With the lock. */
static void append(struct listener *listener, struct serve_request *request) {
    static atomic_uint_fast64_t next_arrival = 1;
    request->arrived = request->arrived ? request->arrived : atomic_fetch_add(&next_arrival, 1);
    struct list *next = &listener->requests; /* the first that came later; or the end */
    while (next->previous != &listener->requests &&
           CONTAINER_OF(next->previous, struct serve_request, link)->arrived > request->arrived) {
        next = next->previous;
    }
    list_append(next, &request->link);
    listener->request_count++;
    listener->ripe_count += request->is_ripe;
}

enum err serve_listener_put(struct file *file, struct serve_request *request, size_t waiting_max) {
    struct listener *listener = listener_of(file);
    if (request->listener != file) {
        file_unref(request->listener);
        request->listener = file_ref(file);
    }
    enum err err = ERR_OK;
    pthread_mutex_lock(&listener->lock);
    request->is_given = false;
    if (listener->is_closed) {
        err = ERR_PIPE;
    } else if (!list_is_empty(&listener->idle)) {
        request->is_given = true;
        set_taken(listener, request, true);
        connection_give(CONTAINER_OF(listener->idle.next, struct connection, link), request);
    } else if (!request->arrived && listener->request_count >= waiting_max) {
        err = ERR_AGAIN;
    } else {
        atomic_store(&request->state, SERVE_WAITING);
        append(listener, request);
    }
    bool waits = !err && !request->is_given;
    pthread_mutex_unlock(&listener->lock);
    if (waits) {
        op_queue_wake_all(&listener->changed);
    }
    return err;
}

void serve_ripen(struct serve_request *request, bool has_length, uint64_t length) {
    if (!request->listener) { /* nobody else knows it yet */
        request->is_ripe = true;
        return;
    }
    struct listener *listener = listener_of(request->listener);
    pthread_mutex_lock(&listener->lock);
    enum serve_state state = serve_request_state(request);
    bool is_first = !request->is_ripe && state != SERVE_TAKEN; /* it may be between two listeners */
    bool is_new = is_first && state == SERVE_WAITING;
    request->is_ripe = true;
    listener->ripe_count += is_new;
    if (is_first && has_length) {
        request->has_length = true;
        request->length = length;
    }
    pthread_mutex_unlock(&listener->lock);
    if (is_new) {
        op_queue_wake_all(&listener->changed);
    }
}

void serve_withdraw(struct serve_request *request) {
    if (!request->listener) {
        return; /* it never waited */
    }
    struct listener *listener = listener_of(request->listener);
    pthread_mutex_lock(&listener->lock);
    if (serve_request_state(request) == SERVE_WAITING && !list_is_empty(&request->link)) {
        unlink_request(listener, request, SERVE_REFUSED);
        note_vain(listener, request);
    }
    pthread_mutex_unlock(&listener->lock);
}

void serve_answered(struct serve_request *request, bool may_go_on) {
    struct listener *listener = listener_of(request->listener);
    pthread_mutex_lock(&listener->lock);
    listener_forget(listener, request);
    if (request->connection) {
        struct connection *connection = CONTAINER_OF(request->connection, struct connection, file);
        if (may_go_on && !connection->ends) {
            connection->is_free = true;
        } else {
            connection_end(connection);
        }
    }
    pthread_mutex_unlock(&listener->lock);
    serve_request_end(request);
    op_queue_wake_all(&request->of_program); /* whoever reads shows by it that it goes on */
    struct instance *instance = serve_request_take_instance(request);
    if (instance) {
        service_done(instance);
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
            set_taken(listener, request, false);
            break;
        }
    }
    pthread_mutex_unlock(&listener->lock);
    return taken;
}

enum err serve_listener_take(struct op *op, struct file *file, struct serve_request **ret_request) {
    struct listener *listener = listener_of(file);
    note_asked(listener);
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
            op_queue_wake_all(&listener->asked);
            return ERR_PENDING;
        }
    }
    *ret_request = request;
    return op_finish(op, ERR_OK);
}

/* ---- connections ---- */

bool listener_give_first(struct listener *listener, struct connection *connection) {
    if (list_is_empty(&listener->requests)) {
        return false;
    }
    struct serve_request *request =
        CONTAINER_OF(listener->requests.next, struct serve_request, link);
    unlink_request(listener, request, SERVE_TAKEN);
    request->is_given = true;
    set_taken(listener, request, true);
    connection_give(connection, request);
    return true;
}

static enum err accept_first(struct listener *listener, struct connection **ret_connection) {
    pthread_mutex_lock(&listener->lock);
    enum err err = ERR_AGAIN;
    if (!list_is_empty(&listener->requests)) {
        struct serve_request *request =
            CONTAINER_OF(listener->requests.next, struct serve_request, link);
        err = connection_new(listener, request, ret_connection);
        if (!err) {
            unlink_request(listener, request, SERVE_TAKEN);
            set_taken(listener, request, true);
            request->connection = &(*ret_connection)->file;
        }
    }
    pthread_mutex_unlock(&listener->lock);
    return err;
}

static enum err listener_accept(struct op *op, struct file *file, struct file **ret_connection) {
    struct listener *listener = listener_of(file);
    note_asked(listener);
    struct connection *connection;
    enum err err = accept_first(listener, &connection);
    if (err == ERR_AGAIN && !op->nonblocking) {
        err = op_queue_wait(&listener->changed, op);
        if (!err) { /* one may have come between the look and the wait */
            err = accept_first(listener, &connection);
        }
        if (err == ERR_AGAIN) {
            op_queue_wake_all(&listener->asked);
            return ERR_PENDING;
        }
    }
    if (!err) {
        *ret_connection = &connection->file;
    }
    return op_finish(op, err);
}

static enum err listener_poll(struct op *op, struct file *file, unsigned wanted,
                              unsigned *ret_ready, uint64_t *ret_bytes) {
    struct listener *listener = listener_of(file);
    note_asked(listener);
    for (bool again = false;; again = true) {
        size_t waiting = serve_listener_waiting(file).all;
        if (waiting > 0 || op->nonblocking) {
            *ret_ready = waiting > 0 ? wanted & POLL_READABLE : 0;
            *ret_bytes = waiting;
            return op_finish(op, ERR_OK);
        }
        if (again) {
            op_queue_wake_all(&listener->asked);
            return ERR_PENDING;
        }
        enum err err = op_queue_wait(&listener->changed, op);
        if (err) {
            return op_finish(op, err);
        }
    }
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
    op_queue_done(&listener->asked);
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
    if (!err) {
        err = op_queue_init(&listener->asked);
    }
    if (err) {
        op_queue_done(&listener->changed);
        free(listener);
        return err;
    }
    file_init(&listener->file, &listener_dev, dev_next_number(), 1, FILE_SOCKET_STREAM, 0);
    pthread_mutex_init(&listener->lock, NULL);
    list_init(&listener->requests);
    list_init(&listener->taken);
    list_init(&listener->idle);
    *ret_listener = &listener->file;
    return ERR_OK;
}

struct serve_waiting serve_listener_waiting(struct file *file) {
    struct listener *listener = listener_of(file);
    pthread_mutex_lock(&listener->lock);
    struct serve_waiting waiting = {
        .ripe = listener->ripe_count,
        .all = listener->request_count,
    };
    pthread_mutex_unlock(&listener->lock);
    return waiting;
}

bool serve_listener_is_awaited(struct file *file) {
    return op_queue_has_waiter(&listener_of(file)->changed);
}

/* With the lock. */
static bool owes(struct listener *listener, uint64_t progress) {
    bool owes =
        listener->ripe_count > 0 || (listener->has_vain && listener->vain_progress == progress);
    LIST_FOR_EACH (node, &listener->taken) {
        struct serve_request *request = CONTAINER_OF(node, struct serve_request, link);
        switch (serve_request_turn(request)) {
        case SERVE_TURN_VISITOR:
            return false;
        case SERVE_TURN_PROGRAM:
            owes = true;
            break;
        case SERVE_TURN_NONE:
            break;
        }
    }
    return owes;
}

bool serve_listener_owes(struct file *file, uint64_t *ret_progress) {
    struct listener *listener = listener_of(file);
    *ret_progress = atomic_load(&listener->progress);
    pthread_mutex_lock(&listener->lock);
    bool result = !op_queue_has_waiter(&listener->changed) && owes(listener, *ret_progress);
    pthread_mutex_unlock(&listener->lock);
    return result;
}

static struct serve_request *refuse_first(struct listener *listener) {
    struct serve_request *request = NULL;
    pthread_mutex_lock(&listener->lock);
    if (!list_is_empty(&listener->requests)) {
        request =
            serve_request_ref(CONTAINER_OF(listener->requests.next, struct serve_request, link));
        unlink_request(listener, request, SERVE_REFUSED);
        note_vain(listener, request);
    }
    pthread_mutex_unlock(&listener->lock);
    return request;
}

static bool give_back_first(struct listener *listener) {
    struct serve_request *request = refuse_first(listener);
    if (request) {
        op_queue_wake_all(&request->of_door);
        serve_request_unref(request);
    }
    return request != NULL;
}

void serve_listener_give_back(struct file *listener) {
    give_back_first(listener_of(listener));
}

enum err serve_listener_watch(struct op *op, struct file *listener) {
    return op_queue_wait(&listener_of(listener)->asked, op);
}

void serve_listener_close(struct file *file) {
    struct listener *listener = listener_of(file);
    pthread_mutex_lock(&listener->lock);
    listener->is_closed = true;
    pthread_mutex_unlock(&listener->lock);
    while (give_back_first(listener)) {
    }
}
