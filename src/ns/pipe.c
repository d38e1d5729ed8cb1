#include "ns/pipe.h"

#include <pthread.h>

struct pipe {
    atomic_uint references;
    struct op_queue readers, writers; /* who waits for bytes, for room */
    pthread_mutex_t mutex;            /* guards what follows */
    uint8_t *ring;
    size_t capacity;      /* of the ring */
    size_t capacity_max;  /* it grows up to this */
    size_t start, length; /* of what is in it */
    bool write_closed, read_closed;
};

enum { RING_MIN = 1024 };

enum err pipe_new(size_t capacity_bytes, struct pipe **ret_pipe) {
    struct pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe) {
        return ERR_NOMEM;
    }
    atomic_init(&pipe->references, 1);
    pipe->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pipe->capacity_max = MAX(capacity_bytes, 1);
    enum err err = op_queue_init(&pipe->readers);
    if (err == ERR_OK) {
        err = op_queue_init(&pipe->writers);
        if (err == ERR_OK) {
            *ret_pipe = pipe;
            return ERR_OK;
        }
        op_queue_done(&pipe->readers);
    }
    free(pipe);
    return err;
}

struct pipe *pipe_ref(struct pipe *pipe) {
    atomic_fetch_add_explicit(&pipe->references, 1, memory_order_relaxed);
    return pipe;
}

void pipe_unref(struct pipe *pipe) {
    if (pipe && atomic_fetch_sub_explicit(&pipe->references, 1, memory_order_acq_rel) == 1) {
        op_queue_done(&pipe->readers);
        op_queue_done(&pipe->writers);
        pthread_mutex_destroy(&pipe->mutex);
        free(pipe->ring);
        free(pipe);
    }
}

/* Locked. Makes the ring larger, if it may be, for `wanted` bytes in all. */
static enum err grow(struct pipe *pipe, size_t wanted) {
    wanted = MIN(wanted, pipe->capacity_max);
    size_t capacity = MAX(pipe->capacity, RING_MIN);
    while (capacity < wanted) {
        capacity = capacity > SIZE_MAX / 2 ? wanted : capacity * 2;
    }
    capacity = MIN(capacity, pipe->capacity_max);
    if (capacity <= pipe->capacity) {
        return ERR_OK;
    }
    uint8_t *ring = malloc(capacity);
    if (!ring) {
        return pipe->length < pipe->capacity ? ERR_OK : ERR_NOMEM;
    }
    size_t first = MIN(pipe->length, pipe->capacity - pipe->start);
    if (pipe->length > 0) {
        memcpy(ring, pipe->ring + pipe->start, first);
        memcpy(ring + first, pipe->ring, pipe->length - first);
    }
    free(pipe->ring);
    pipe->ring = ring;
    pipe->capacity = capacity;
    pipe->start = 0;
    return ERR_OK;
}

/* Locked. PENDING if there is nothing to say yet. */
static enum err try_read(struct pipe *pipe, void *data, size_t length, size_t *ret_read) {
    if (pipe->length == 0 || length == 0) {
        if (length > 0 && !pipe->write_closed && !pipe->read_closed) {
            return ERR_PENDING;
        }
        *ret_read = 0;
        return ERR_OK;
    }
    length = MIN(length, pipe->length);
    size_t first = MIN(length, pipe->capacity - pipe->start);
    memcpy(data, pipe->ring + pipe->start, first);
    memcpy((uint8_t *)data + first, pipe->ring, length - first);
    pipe->length -= length;
    pipe->start = pipe->length ? (pipe->start + length) % pipe->capacity : 0;
    *ret_read = length;
    return ERR_OK;
}

/* Locked. */
static enum err try_write(struct pipe *pipe, const void *data, size_t length, size_t *ret_written) {
    if (pipe->write_closed || pipe->read_closed) {
        return ERR_PIPE;
    }
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    length = MIN(length, pipe->capacity_max - pipe->length);
    if (length == 0) {
        return ERR_PENDING;
    }
    enum err err = grow(pipe, pipe->length + length);
    if (err != ERR_OK) {
        return err;
    }
    length = MIN(length, pipe->capacity - pipe->length);
    size_t end = (pipe->start + pipe->length) % pipe->capacity;
    size_t first = MIN(length, pipe->capacity - end);
    memcpy(pipe->ring + end, data, first);
    memcpy(pipe->ring, (const uint8_t *)data + first, length - first);
    pipe->length += length;
    *ret_written = length;
    return ERR_OK;
}

/* What to do about a condition that does not hold: OK the first time, when it has to be tried once
 * more because a wake may have come before the op was in the queue. */
static enum err wait_in(struct op_queue *queue, struct op *op, bool *waits) {
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    if (*waits) {
        return ERR_PENDING;
    }
    *waits = true;
    return op_queue_wait(queue, op);
}

enum err pipe_read(struct op *op, struct pipe *pipe, void *data, size_t length, size_t *ret_read) {
    enum err err = ERR_OK;
    for (bool waits = false; err == ERR_OK;) {
        size_t read = 0;
        pthread_mutex_lock(&pipe->mutex);
        err = try_read(pipe, data, length, &read);
        bool has_room = pipe->length <= pipe->capacity_max / 2;
        pthread_mutex_unlock(&pipe->mutex);
        if (err == ERR_OK) {
            /* Writers wait when it is full, until half of it has been read: or one on another loop
             * would be woken, and its thread with it, for each small read. */
            if (read > 0 && has_room) {
                op_queue_wake_all(&pipe->writers);
            }
            *ret_read = read;
            return op_finish(op, ERR_OK);
        }
        err = wait_in(&pipe->readers, op, &waits);
    }
    return err;
}

enum err pipe_write(struct op *op, struct pipe *pipe, const void *data, size_t length,
                    size_t *ret_written) {
    enum err err = ERR_OK;
    for (bool waits = false; err == ERR_OK;) {
        size_t written = 0;
        pthread_mutex_lock(&pipe->mutex);
        err = try_write(pipe, data, length, &written);
        pthread_mutex_unlock(&pipe->mutex);
        if (err == ERR_OK) {
            if (written > 0) {
                op_queue_wake_all(&pipe->readers);
            }
            *ret_written = written;
        }
        if (err != ERR_PENDING) {
            return op_finish(op, err);
        }
        err = wait_in(&pipe->writers, op, &waits);
    }
    return err;
}

enum err pipe_poll(struct op *op, struct pipe *pipe, unsigned wanted, unsigned *ret_ready,
                   uint64_t *ret_bytes) {
    struct op_queue *queue = wanted & POLL_READABLE ? &pipe->readers : &pipe->writers;
    enum err err = ERR_OK;
    for (bool waits = false; err == ERR_OK;) {
        unsigned ready = 0;
        pthread_mutex_lock(&pipe->mutex);
        uint64_t bytes = wanted & POLL_READABLE ? pipe->length : 0;
        if (wanted & POLL_READABLE && (bytes || pipe->write_closed || pipe->read_closed)) {
            ready |= POLL_READABLE | (pipe->write_closed ? POLL_HANGUP : 0);
        }
        if (wanted & POLL_WRITABLE &&
            (pipe->length < pipe->capacity_max || pipe->read_closed || pipe->write_closed)) {
            ready |= POLL_WRITABLE | (pipe->read_closed ? POLL_HANGUP : 0);
        }
        pthread_mutex_unlock(&pipe->mutex);
        if (ready || op->nonblocking) {
            *ret_ready = ready;
            *ret_bytes = bytes;
            return op_finish(op, ERR_OK);
        }
        err = wait_in(queue, op, &waits);
    }
    return err;
}

static void wake_both(struct pipe *pipe) {
    op_queue_wake_all(&pipe->readers);
    op_queue_wake_all(&pipe->writers);
}

void pipe_close_write(struct pipe *pipe) {
    pthread_mutex_lock(&pipe->mutex);
    pipe->write_closed = true;
    pthread_mutex_unlock(&pipe->mutex);
    wake_both(pipe);
}

void pipe_close_read(struct pipe *pipe) {
    pthread_mutex_lock(&pipe->mutex);
    pipe->read_closed = true;
    pipe->length = pipe->start = 0;
    free(STEAL(pipe->ring));
    pipe->capacity = 0;
    pthread_mutex_unlock(&pipe->mutex);
    wake_both(pipe);
}

size_t pipe_length(struct pipe *pipe) {
    pthread_mutex_lock(&pipe->mutex);
    size_t length = pipe->length;
    pthread_mutex_unlock(&pipe->mutex);
    return length;
}
