/* POST on a transaction file (ns/transaction.h): the body is the question, the answer the answer.
 *
 * A failure becomes the status as long as nothing has been sent, so up to HELD_BYTES_MAX of the
 * answer wait for its end; of a longer one a failure shows as a cut connection. */
#include "api/handlers.h"
#include "api/tree.h"
#include "ns/transaction.h"

enum { HELD_BYTES_MAX = 64 * 1024, PIECE_BYTES = 16 * 1024 };

enum stage {
    STAGE_WALK,
    STAGE_OPEN,
    STAGE_BODY,
    STAGE_END,    /* of the question */
    STAGE_ANSWER, /* until its end, or too much of it */
    STAGE_ANSWERED,
};

struct ask {
    struct request *request;
    enum stage stage;
    struct tree_walk walk;
    struct ns_walk_result found;
    struct file *opened; /* a reference */
    bool body_waits, body_ended;
    struct buf held; /* of the answer */
    size_t held_sent;
    bool waiting; /* the pull waits for the op */
};

/* The file's failures are those of what it stands for. */
static void fail(struct ask *ask, enum err err) {
    struct request *request = ask->request;
    bool is_asked = ask->stage > STAGE_OPEN;
    ask->stage = STAGE_ANSWERED;
    const char *text = request->message.length ? buf_text(&request->message) : err_text(err);
    if (is_asked && err == ERR_IO) {
        request_fail_status(request, 502, "%s", text);
    } else if (is_asked && err == ERR_BUSY) {
        request_fail_status(request, 429, "%s", text);
    } else if (is_asked) {
        request_fail(request, err, &request->message);
    } else {
        tree_fail(request, err);
    }
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct ask *ask = argument;
    ask->waiting = false;
    size_t length = MIN(size, ask->held.length - ask->held_sent);
    if (length > 0) {
        memcpy(buffer, ask->held.data + ask->held_sent, length);
        ask->held_sent += length;
        *ret_length = length;
        return HTTP_PULL_DATA;
    }
    buf_done(&ask->held);
    ask->held_sent = 0;
    enum err err = file_read(&ask->request->op, ask->opened, buffer, size, 0, &length);
    if (err == ERR_PENDING) {
        ask->waiting = true;
        return HTTP_PULL_WAIT;
    }
    *ret_length = length;
    return err ? HTTP_PULL_ABORT : length > 0 ? HTTP_PULL_DATA : HTTP_PULL_END;
}

/* All of the answer is held, or so much that the rest is streamed. */
static enum err respond(struct ask *ask, bool is_whole) {
    struct http_exchange *exchange = ask->request->exchange;
    enum err err = http_add_header(exchange, "Content-Security-Policy", "sandbox");
    if (err) {
        return err;
    }
    static const char type[] = "text/plain; charset=utf-8";
    ask->stage = STAGE_ANSWERED;
    ask->request->responded = true;
    if (is_whole) {
        http_respond(exchange, 200, type, ask->held.data, ask->held.length);
    } else {
        http_respond_stream(exchange, 200, type, HTTP_LENGTH_UNKNOWN, pull, ask);
    }
    return ERR_OK;
}

static enum err read_answer(struct ask *ask) {
    struct buf *held = &ask->held;
    while (held->length < HELD_BYTES_MAX) {
        enum err err = buf_reserve(held, PIECE_BYTES);
        size_t length = 0;
        if (!err) {
            err = file_read(&ask->request->op, ask->opened, held->data + held->length, PIECE_BYTES,
                            0, &length);
        }
        if (err) {
            return err;
        }
        if (length == 0) {
            return respond(ask, true);
        }
        held->length += length;
    }
    return respond(ask, false);
}

static enum err step_once(struct ask *ask) {
    struct request *request = ask->request;
    struct op *op = &request->op;
    enum err err = ERR_OK;
    switch (ask->stage) {
    case STAGE_WALK:
        err = tree_walk(request, &ask->walk, tree_path(request), NS_FOLLOW, &ask->found);
        if (!err && !(ask->found.place.file->traits & FILE_REWINDABLE)) {
            ask->stage = STAGE_ANSWERED;
            request_fail_status(request, 405, STR_FORMAT " can't be asked; PUT writes a file",
                                STR_ARGS(buf_str(&request->path)));
        } else if (!err) {
            ask->stage = STAGE_OPEN;
        }
        return err;
    case STAGE_OPEN:
        err = file_open(op, ask->found.place.file, OPEN_READ | OPEN_WRITE, &ask->opened);
        if (!err) {
            ask->stage = ask->body_ended ? STAGE_END : STAGE_BODY;
        }
        if (!err && ask->body_waits) {
            ask->body_waits = false;
            http_body_resume(request->exchange);
        }
        return err;
    case STAGE_BODY:
        return ERR_PENDING;
    case STAGE_END:
        err = file_shutdown(op, ask->opened, SHUTDOWN_WRITE);
        if (!err) {
            ask->stage = STAGE_ANSWER;
        }
        return err;
    case STAGE_ANSWER:
        return read_answer(ask);
    case STAGE_ANSWERED:
        break;
    }
    return ERR_OK;
}

static void go_on(struct ask *ask) {
    enum err err = ERR_OK;
    while (!err && ask->stage != STAGE_ANSWERED) {
        err = step_once(ask);
    }
    if (err && err != ERR_PENDING) {
        fail(ask, err);
    }
}

static void start(struct request *request) {
    struct ask *ask = calloc(1, sizeof(*ask));
    if (!ask) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = ask;
    ask->request = request;
    request_join_trace(request);
    go_on(ask);
}

static size_t body(struct request *request, const uint8_t *data, size_t length) {
    struct ask *ask = request->state;
    size_t taken = 0;
    while (ask->stage < STAGE_ANSWERED && taken < length) {
        size_t written = 0;
        enum err err =
            ask->stage == STAGE_BODY
                ? file_write(&request->op, ask->opened, data + taken, length - taken, 0, &written)
                : ERR_PENDING;
        if (err == ERR_PENDING) {
            ask->body_waits = true;
            return taken;
        }
        if (err) {
            fail(ask, err);
            break;
        }
        taken += written;
    }
    return length;
}

static void body_end(struct request *request) {
    struct ask *ask = request->state;
    ask->body_ended = true;
    if (ask->stage == STAGE_BODY) {
        ask->stage = STAGE_END;
        go_on(ask);
    }
}

static void step(struct request *request) {
    struct ask *ask = request->state;
    if (ask->stage == STAGE_ANSWERED) {
        if (ask->waiting) {
            ask->waiting = false;
            http_pull_resume(request->exchange);
        }
    } else if (ask->stage == STAGE_BODY) {
        if (ask->body_waits) {
            ask->body_waits = false;
            http_body_resume(request->exchange);
        }
    } else {
        go_on(ask);
    }
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct ask *ask = request->state;
    if (!ask) {
        return;
    }
    if (ask->opened) {
        file_closed(ask->opened, OPEN_READ | OPEN_WRITE);
        file_unref(ask->opened);
    }
    ns_place_done(&ask->found.place);
    tree_walk_done(&ask->walk);
    buf_done(&ask->held);
    free(ask);
}

const struct request_handler ask_handler = {
    .start = start, .body = body, .body_end = body_end, .step = step, .end = end};
