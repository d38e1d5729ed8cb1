#include "dev/serve.h"

#include "base/clock.h"
#include "dev/service.h"

/* Of a request's target in a line of the log. */
#define LOGGED_BYTES_MAX 200

enum err serve_request_new(struct serve_request **ret_request) {
    struct serve_request *request = calloc(1, sizeof *request);
    if (!request) {
        return ERR_NOMEM;
    }
    enum err err = op_queue_init(&request->of_door);
    if (!err) {
        err = op_queue_init(&request->of_program);
    }
    if (err) {
        op_queue_done(&request->of_door);
        free(request);
        return err;
    }
    atomic_init(&request->references, 1);
    atomic_init(&request->state, SERVE_WAITING);
    pthread_mutex_init(&request->lock, NULL);
    list_init(&request->link);
    *ret_request = request;
    return ERR_OK;
}

struct serve_request *serve_request_ref(struct serve_request *request) {
    atomic_fetch_add(&request->references, 1);
    return request;
}

void serve_request_unref(struct serve_request *request) {
    if (!request || atomic_fetch_sub(&request->references, 1) != 1) {
        return;
    }
    op_queue_done(&request->of_door);
    op_queue_done(&request->of_program);
    pthread_mutex_destroy(&request->lock);
    file_unref(request->listener);
    buf_done(&request->head);
    fifo_done(&request->body);
    fifo_done(&request->answer);
    fifo_done(&request->chunks);
    free(request);
}

static void lock(struct serve_request *request) {
    pthread_mutex_lock(&request->lock);
}

static void unlock(struct serve_request *request) {
    pthread_mutex_unlock(&request->lock);
}

struct instance *serve_request_take_instance(struct serve_request *request) {
    lock(request);
    struct instance *instance = STEAL(request->instance);
    unlock(request);
    return instance;
}

/* The instance is held until the program has let go of the request; if it never had it, by the
 * door. */
static void release_instance(struct serve_request *request) {
    struct instance *instance = serve_request_take_instance(request);
    if (instance) {
        service_done(instance);
    }
}

/* ---- the door's side ---- */

enum err serve_request_watch(struct op *op, struct serve_request *request) {
    return op_queue_wait(&request->of_door, op);
}

size_t serve_request_body(struct serve_request *request, const void *data, size_t length) {
    lock(request);
    size_t waiting = fifo_length(&request->body);
    size_t taken = MIN(length, waiting < SERVE_BODY_BYTES ? SERVE_BODY_BYTES - waiting : 0);
    if (taken > 0 && fifo_append(&request->body, data, taken) != ERR_OK) {
        taken = 0;
    }
    unlock(request);
    if (taken > 0) {
        op_queue_wake_all(&request->of_program);
    }
    return taken;
}

void serve_request_body_end(struct serve_request *request) {
    lock(request);
    request->body_ended = true;
    unlock(request);
    op_queue_wake_all(&request->of_program);
}

enum err serve_request_answer(struct serve_request *request, void *data, size_t length,
                              bool is_line, size_t *ret_read) {
    lock(request);
    size_t before = fifo_length(&request->answer);
    if (is_line && before > 0) {
        const uint8_t *first = request->answer.buf.data + request->answer.at;
        const uint8_t *end = memchr(first, '\n', MIN(length, before));
        length = end ? (size_t)(end + 1 - first) : length;
    }
    size_t read = fifo_take(&request->answer, data, length);
    bool has_room = before > SERVE_ANSWER_BYTES / 2 && before - read <= SERVE_ANSWER_BYTES / 2;
    enum err err = read > 0 || request->answer_ended ? ERR_OK
                   : request->answer_cut             ? ERR_IO
                                                     : ERR_AGAIN;
    unlock(request);
    if (has_room) {
        op_queue_wake_all(&request->of_program);
    }
    if (!err) {
        *ret_read = read;
    }
    return err;
}

bool serve_request_complete(struct serve_request *request, struct applog_set *logs, int64_t app_id,
                            uint64_t run_id) {
    lock(request);
    bool has_more = fifo_length(&request->answer) > 0;
    request->logs = has_more ? NULL : logs;
    request->log_app_id = app_id;
    request->log_run_id = run_id;
    unlock(request);
    return has_more;
}

bool serve_request_is_answered(struct serve_request *request) {
    lock(request);
    bool is_answered = request->answer_ended || request->answer_cut;
    unlock(request);
    return is_answered;
}

bool serve_request_is_full(struct serve_request *request) {
    lock(request);
    bool is_full = !request->body_ended && fifo_length(&request->answer) >= SERVE_EARLY_BYTES;
    unlock(request);
    return is_full;
}

void serve_request_leave(struct serve_request *request) {
    lock(request);
    request->door_left = true;
    request->body_lost = !request->body_ended;
    bool is_open = serve_request_state(request) == SERVE_TAKEN && !request->answer_ended &&
                   !request->answer_cut;
    fifo_done(&request->answer);
    unlock(request);
    op_queue_wake_all(&request->of_program);
    if (!is_open) {
        release_instance(request);
    }
}

/* ---- the program's side ---- */

/* With the lock. */
static size_t take_head(struct serve_request *request, void *data, size_t length) {
    length = MIN(length, request->head.length - request->head_read);
    if (length > 0) {
        memcpy(data, request->head.data + request->head_read, length);
        request->head_read += length;
    }
    return length;
}

/* With the lock: what there is of the body, as chunks. */
static enum err make_chunks(struct serve_request *request) {
    size_t length = MIN(fifo_length(&request->body), (size_t)SERVE_BODY_BYTES / 4);
    struct fifo *chunks = &request->chunks;
    if (fifo_length(chunks) > 0 || request->has_last_chunk ||
        (length == 0 && !request->body_ended)) {
        return ERR_OK;
    }
    enum err err = buf_reserve(&chunks->buf, length + 16);
    if (err) {
        return err;
    }
    if (length > 0) {
        err = buf_printf(&chunks->buf, "%zx\r\n", length);
        chunks->buf.length +=
            fifo_take(&request->body, chunks->buf.data + chunks->buf.length, length);
    } else {
        request->has_last_chunk = true;
        err = buf_append_str(&chunks->buf, STR("0\r\n"));
    }
    return err ? err : buf_append_str(&chunks->buf, STR("\r\n"));
}

/* With the lock. */
static bool is_read(const struct serve_request *request) {
    return request->body_ended && request->head_read == request->head.length &&
           fifo_length(&request->body) == 0 && fifo_length(&request->chunks) == 0 &&
           (!request->is_chunked || request->has_last_chunk);
}

/* With the lock: what a read would do now. AGAIN: it would wait. */
static enum err read_now(struct serve_request *request, void *data, size_t length, size_t *ret_read,
                         bool *ret_has_room) {
    size_t read = take_head(request, data, length);
    size_t before = fifo_length(&request->body);
    enum err err = request->is_chunked ? make_chunks(request) : ERR_OK;
    if (!err && read < length) {
        read += fifo_take(request->is_chunked ? &request->chunks : &request->body,
                          (uint8_t *)data + read, length - read);
    }
    size_t after = fifo_length(&request->body);
    *ret_has_room = before > SERVE_BODY_BYTES / 2 && after <= SERVE_BODY_BYTES / 2;
    if (!err && read == 0 && !is_read(request)) {
        err = request->body_lost ? ERR_CONNRESET : ERR_AGAIN;
    }
    if (!err) {
        *ret_read = read;
    }
    return err;
}

enum err serve_request_read_now(struct serve_request *request, void *data, size_t length,
                                size_t *ret_read) {
    bool has_room;
    lock(request);
    enum err err = read_now(request, data, length, ret_read, &has_room);
    unlock(request);
    if (!err && *ret_read > 0) {
        serve_note_progress(request);
    }
    if (has_room) {
        op_queue_wake_all(&request->of_door);
    }
    return err;
}

enum err serve_request_read(struct op *op, struct serve_request *request, void *data, size_t length,
                            size_t *ret_read) {
    for (bool again = false;; again = true) {
        enum err err = serve_request_read_now(request, data, length, ret_read);
        if (err != ERR_AGAIN) {
            return op_finish(op, err);
        }
        if (op->nonblocking || again) {
            return op->nonblocking ? ERR_AGAIN : ERR_PENDING;
        }
        err = op_queue_wait(&request->of_program, op);
        if (err) {
            return op_finish(op, err);
        }
    }
}

/* With the lock. */
static size_t answer_room(const struct serve_request *request) {
    size_t most = request->body_ended ? SERVE_ANSWER_BYTES : SERVE_EARLY_BYTES;
    size_t waiting = fifo_length(&request->answer);
    return waiting < most ? most - waiting : 0;
}

/* With the lock: what a write would do now. AGAIN: it would wait. */
static enum err write_now(struct serve_request *request, const void *data, size_t length,
                          size_t *ret_written) {
    if (request->answer_ended) {
        return ERR_PIPE;
    }
    request->answer_begun = true;
    if (request->door_left) {
        *ret_written = length;
        return unheard_drop(&request->unheard, length) ? ERR_PIPE : ERR_OK;
    }
    length = MIN(length, answer_room(request));
    if (length == 0) {
        return ERR_AGAIN;
    }
    enum err err = fifo_append(&request->answer, data, length);
    if (!err) {
        *ret_written = length;
    }
    return err;
}

/* It writes more than it said. */
static void log_too_long(const struct serve_request *request, struct applog_set *logs) {
    struct str target = buf_str(&request->head);
    struct str method = str_cut(&target, ' ');
    target = str_cut(&target, ' ');
    target.length = MIN(target.length, (size_t)LOGGED_BYTES_MAX);
    struct buf cleanup_buf line = {0};
    struct applog *log = NULL;
    if (buf_printf(&line, SERVE_TOO_LONG " (" STR_FORMAT " " STR_FORMAT ")", STR_ARGS(method),
                   STR_ARGS(target)) == ERR_OK &&
        applog_get(logs, request->log_app_id, &log) == ERR_OK) {
        applog_append(log, clock_realtime_ns(), request->log_run_id, "sys", buf_str(&line));
        applog_unref(log);
    }
}

enum err serve_request_write(struct op *op, struct serve_request *request, const void *data,
                             size_t length, size_t *ret_written) {
    if (length == 0) {
        *ret_written = 0;
        return op_finish(op, ERR_OK);
    }
    for (bool again = false;; again = true) {
        size_t written = 0;
        lock(request);
        enum err err = write_now(request, data, length, &written);
        struct applog_set *logs = STEAL(request->logs);
        unlock(request);
        if (logs) {
            log_too_long(request, logs);
        }
        if (err != ERR_AGAIN) {
            op_queue_wake_all(&request->of_door);
            if (!err) {
                serve_note_progress(request);
                *ret_written = written;
            }
            return op_finish(op, err);
        }
        if (op->nonblocking || again) {
            return op->nonblocking ? ERR_AGAIN : ERR_PENDING;
        }
        err = op_queue_wait(&request->of_program, op);
        if (err) {
            return op_finish(op, err);
        }
    }
}

/* With the lock. */
static unsigned ready_now(const struct serve_request *request, unsigned wanted,
                          uint64_t *ret_bytes) {
    unsigned ready = 0;
    *ret_bytes = 0;
    if (wanted & POLL_READABLE) {
        *ret_bytes = request->head.length - request->head_read + fifo_length(&request->body) +
                     fifo_length(&request->chunks) +
                     (request->is_chunked && request->body_ended && !request->has_last_chunk);
        bool is_over = request->body_ended || request->body_lost;
        ready = *ret_bytes > 0 ? (unsigned)POLL_READABLE
                : is_over      ? (unsigned)(POLL_READABLE | POLL_HANGUP)
                               : 0;
    }
    if (wanted & POLL_WRITABLE) {
        bool is_over = request->door_left || request->answer_ended;
        ready |= is_over                    ? (unsigned)(POLL_WRITABLE | POLL_HANGUP)
                 : answer_room(request) > 0 ? (unsigned)POLL_WRITABLE
                                            : 0;
    }
    return ready;
}

enum err serve_request_poll(struct op *op, struct serve_request *request, unsigned wanted,
                            unsigned *ret_ready, uint64_t *ret_bytes) {
    for (bool again = false;; again = true) {
        uint64_t bytes;
        lock(request);
        unsigned ready = ready_now(request, wanted, &bytes);
        unlock(request);
        if (ready || op->nonblocking) {
            *ret_ready = ready;
            *ret_bytes = bytes;
            return op_finish(op, ERR_OK);
        }
        if (again) {
            return ERR_PENDING;
        }
        enum err err = op_queue_wait(&request->of_program, op);
        if (err) {
            return op_finish(op, err);
        }
    }
}

unsigned serve_request_ready(struct serve_request *request, unsigned wanted, uint64_t *ret_bytes) {
    lock(request);
    unsigned ready = ready_now(request, wanted, ret_bytes);
    unlock(request);
    return ready;
}

bool serve_request_is_read(struct serve_request *request) {
    lock(request);
    bool result = is_read(request);
    unlock(request);
    return result;
}

bool serve_request_is_left(struct serve_request *request) {
    lock(request);
    bool result = request->door_left;
    unlock(request);
    return result;
}

bool serve_request_is_untouched(struct serve_request *request) {
    lock(request);
    bool result = request->is_given && request->head_read == 0 && !request->door_left &&
                  !request->answer_ended && fifo_length(&request->answer) == 0;
    unlock(request);
    return result;
}

/* With the lock. */
static bool has_unread(const struct serve_request *request) {
    return request->head_read < request->head.length || fifo_length(&request->body) > 0 ||
           fifo_length(&request->chunks) > 0;
}

enum serve_turn serve_request_turn(struct serve_request *request) {
    lock(request);
    bool is_body_over = request->body_ended || request->body_lost;
    bool has_input = is_body_over || has_unread(request);
    bool is_full = !request->door_left && !request->answer_ended && answer_room(request) == 0;
    enum serve_turn turn = SERVE_TURN_NONE;
    if ((!has_input || is_full) && op_queue_has_waiter(&request->of_program)) {
        turn = SERVE_TURN_VISITOR;
    } else if (has_input && !request->answer_begun && !request->answer_ended) {
        turn = SERVE_TURN_PROGRAM;
    }
    unlock(request);
    return turn;
}

void serve_request_end(struct serve_request *request) {
    lock(request);
    request->answer_ended = !request->answer_cut;
    unlock(request);
    op_queue_wake_all(&request->of_door);
}

void serve_request_close(struct serve_request *request) {
    lock(request);
    request->answer_cut = !request->answer_ended;
    fifo_done(&request->body);
    fifo_done(&request->chunks);
    unlock(request);
    op_queue_wake_all(&request->of_door);
    release_instance(request);
}
