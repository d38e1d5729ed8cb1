#include "api/run_answer_internal.h"

#include "base/block.h"

/* An answer that is complete and no longer goes out in one piece. */
#define WHOLE_BYTES_MAX (32 * KIB)

enum err run_answer_read(struct run_answer *answer, unsigned streams, void *data, size_t size,
                         size_t *ret_length, unsigned *ret_stream, uint64_t *ret_time_ns) {
    struct op *op = &answer->request->op;
    op->nonblocking = !answer->follow;
    enum err err = run_output_read(op, answer->run, &answer->reader, streams, data, size,
                                   ret_length, ret_stream, ret_time_ns);
    op->nonblocking = false;
    if (err == ERR_AGAIN) {
        *ret_length = 0;
        err = ERR_OK;
    }
    return err;
}

/* --- pulling ------------------------------------------------------------------------------ */

static enum http_pull_result take_formatted(struct run_answer *answer, void *buffer, size_t size,
                                            size_t *ret_length) {
    size_t length = MIN(size, answer->formatted.length - answer->formatted_taken);
    memcpy(buffer, answer->formatted.data + answer->formatted_taken, length);
    answer->formatted_taken += length;
    if (answer->formatted_taken == answer->formatted.length) {
        answer->formatted.length = 0;
        answer->formatted_taken = 0;
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

/* Four numbers are in each answer: printf takes as long for them as for the head. `text` has room
 * for 20 digits, a sign and the NUL. */
static const char *number_text(bool is_negative, uint64_t number, char text[24]) {
    char *at = text + 23;
    *at = 0;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    if (is_negative) {
        *--at = '-';
    }
    return at;
}

/* How the run ended, by http_add_trailer or http_add_header. */
static enum err add_ending(struct http_exchange *exchange, const struct run_status *status,
                           enum err (*add)(struct http_exchange *exchange, const char *name,
                                           const char *value)) {
    char text[24];
    int64_t exit_status = status->exit_status;
    bool is_negative = exit_status < 0;
    enum err err =
        add(exchange, "Run-Exit",
            number_text(is_negative, (uint64_t)(is_negative ? -exit_status : exit_status), text));
    if (!err) {
        err = add(exchange, "Run-Reason", run_reason_text(status->reason));
    }
    if (!err) {
        err = add(exchange, "Run-Cpu-Us", number_text(false, status->cpu_ns / NS_PER_US, text));
    }
    return err ? err
               : add(exchange, "Run-Peak-Bytes",
                     number_text(false, status->memory_peak_bytes, text));
}

static enum http_pull_result add_trailers(struct run_answer *answer) {
    struct run_status status = run_status(answer->run);
    answer->stage = STAGE_DONE;
    if (status.state != RUN_ENDED) {
        return HTTP_PULL_END; /* only what is there now was asked for */
    }
    enum err err = add_ending(answer->request->exchange, &status, http_add_trailer);
    return err ? HTTP_PULL_ABORT : HTTP_PULL_END;
}

static enum http_pull_result pull_text(struct run_answer *answer, void *buffer, size_t size,
                                       size_t *ret_length) {
    size_t length = 0;
    unsigned stream = 0;
    uint64_t time_ns = 0;
    enum err err =
        run_answer_read(answer, answer->streams, buffer, size, &length, &stream, &time_ns);
    if (err == ERR_PENDING) {
        answer->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (err) {
        return HTTP_PULL_ABORT;
    }
    if (length == 0 && answer->input_comes) {
        http_expect_body(answer->request->exchange); /* it has nobody to talk to any more */
        answer->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (length == 0) {
        return add_trailers(answer);
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct run_answer *answer = argument;
    answer->waiting = false;
    if (answer->form == ACCEPT_TEXT) {
        return pull_text(answer, buffer, size, ret_length);
    }
    /* Many small frames go together, so that each does not cost a turn of the loop. */
    enum err err = answer->failed ? ERR_NOMEM : ERR_OK;
    for (unsigned steps = 0; !err && answer->stage != STAGE_DONE; steps++) {
        bool is_enough = answer->formatted.length >= PIECE_BYTES || steps >= SCAN_READS_MAX;
        if (answer->formatted.length > 0 && is_enough) {
            break;
        }
        err = run_answer_format(answer);
    }
    if (err && err != ERR_PENDING) {
        return HTTP_PULL_ABORT;
    }
    if (answer->formatted.length > 0) {
        return take_formatted(answer, buffer, size, ret_length);
    }
    answer->waiting = err == ERR_PENDING;
    return err ? HTTP_PULL_WAIT : HTTP_PULL_END;
}

/* --- life --------------------------------------------------------------------------------- */

static const char *content_type(const struct run_answer *answer) {
    switch (answer->form) {
    case ACCEPT_NDJSON:
        return "application/x-ndjson";
    case ACCEPT_JSON:
        return "application/json";
    default:
        return "text/plain; charset=utf-8";
    }
}

static enum err add_headers(struct run_answer *answer) {
    struct http_exchange *exchange = answer->request->exchange;
    char text[24];
    enum err err =
        http_add_header(exchange, "Run-Id", number_text(false, run_id(answer->run), text));
    if (!err && answer->form == ACCEPT_TEXT) {
        err = http_add_header(exchange, "Content-Security-Policy", "sandbox");
    }
    return err;
}

static void respond_stream(struct run_answer *answer) {
    struct http_exchange *exchange = answer->request->exchange;
    answer->request->responded = true;
    enum err err = add_headers(answer);
    if (!err && answer->form == ACCEPT_TEXT && !http_is_1_0(exchange)) {
        err = http_add_header(exchange, "Trailer",
                              "Run-Exit, Run-Reason, Run-Cpu-Us, Run-Peak-Bytes");
    }
    if (err) {
        http_abort(exchange);
        return;
    }
    if (answer->input_comes) {
        answer->request->keeps_body = true;
        http_keep_body(exchange);
    }
    http_respond_stream(exchange, 200, content_type(answer), HTTP_LENGTH_UNKNOWN, pull, answer);
}

/* All output of an ended run into `formatted`. False if it is too much for one turn; the reader is
 * then where it was. */
static bool gather_text(struct run_answer *answer, const struct run_status *status) {
    struct buf *out = &answer->formatted;
    struct run_reader before = answer->reader;
    /* One byte more: the end is seen by a read that finds nothing. */
    if (status->output_bytes > WHOLE_BYTES_MAX ||
        buf_reserve(out, (size_t)status->output_bytes + 1) != ERR_OK) {
        return false;
    }
    for (unsigned reads = 0; reads < SCAN_READS_MAX; reads++) {
        size_t length = 0;
        unsigned stream = 0;
        uint64_t time_ns = 0;
        if (run_answer_read(answer, answer->streams, out->data + out->length,
                            out->capacity - out->length, &length, &stream, &time_ns) != ERR_OK) {
            break; /* streaming meets the error again */
        }
        if (length == 0) {
            return true;
        }
        out->length += length;
    }
    out->length = 0;
    answer->reader = before;
    return false;
}

/* The same for events and JSON; what was made of it when it is too much is streamed first. A
 * failure is left to the stream, too, which cuts the connection. */
static bool gather_formatted(struct run_answer *answer) {
    enum err err = ERR_OK;
    for (unsigned steps = 0; !err && answer->stage != STAGE_DONE; steps++) {
        if (answer->formatted.length > WHOLE_BYTES_MAX || steps >= SCAN_READS_MAX) {
            return false;
        }
        err = run_answer_format(answer);
    }
    answer->failed = err && err != ERR_PENDING;
    return !err;
}

/* A short answer of a run that has ended goes out in one piece, with its end in the head: a
 * fraction of the work of chunks and trailers, and it reaches the many clients that show no
 * trailers. Who asks for trailers (RFC 9110 section 6.5.1) gets them always. */
static bool respond_whole(struct run_answer *answer, const struct run_status *status) {
    struct http_exchange *exchange = answer->request->exchange;
    if (status->state != RUN_ENDED) {
        return false;
    }
    bool is_text = answer->form == ACCEPT_TEXT;
    bool is_whole = is_text
                        ? !request_accepts_trailers(answer->request) && gather_text(answer, status)
                        : gather_formatted(answer);
    if (!is_whole) {
        return false;
    }
    answer->stage = STAGE_DONE;
    answer->request->responded = true;
    enum err err = add_headers(answer);
    if (!err && is_text) {
        err = add_ending(exchange, status, http_add_header);
    }
    if (err) {
        http_abort(exchange);
        return true;
    }
    http_respond(exchange, 200, content_type(answer), answer->formatted.data,
                 answer->formatted.length);
    return true;
}

static void respond(struct run_answer *answer, const struct run_status *status) {
    if (!respond_whole(answer, status)) {
        respond_stream(answer);
    }
}

enum err run_answer_start(struct request *request, const struct run_answer_options *options,
                          struct run_answer **ret_answer) {
    struct run_answer *answer = block_new(sizeof *answer);
    if (!answer) {
        return ERR_NOMEM;
    }
    answer->request = request;
    answer->run = run_ref(options->run);
    answer->form = options->form;
    answer->streams = options->streams;
    answer->follow = options->follow || options->form == ACCEPT_JSON;
    answer->reader.offset = options->from;
    *ret_answer = answer;
    answer->stage = STAGE_BEGIN;
    answer->attached = options->attached;
    answer->input_comes = options->input_comes;
    run_answer_step(answer);
    return ERR_OK;
}

/* Whether the run could not be started at all; then that is the answer. */
static bool fail_if_not_started(struct run_answer *answer, const struct run_status *status) {
    if (status->state != RUN_ENDED || status->reason != RUN_REASON_FAILED || !answer->attached) {
        return false;
    }
    struct request *request = answer->request;
    request->message.length = 0;
    run_failure(answer->run, &request->message);
    answer->stage = STAGE_DONE;
    if (status->failure == ERR_AGAIN) {
        request_fail_status(request, 429, "%s", buf_text(&request->message));
    } else {
        request_fail(request, status->failure, &request->message);
    }
    return true;
}

/* The run has begun, or ended: begins the answer, or waits until a JSON result can be told. */
static void begin_answer(struct run_answer *answer) {
    struct run_status status = run_status(answer->run);
    if (fail_if_not_started(answer, &status)) {
        return;
    }
    if (answer->form == ACCEPT_JSON) {
        answer->stage = STAGE_WAIT;
        return;
    }
    if (answer->input_comes) {
        answer->stage = STAGE_TALK;
        return;
    }
    answer->stage = STAGE_OUTPUT;
    if (answer->attached && status.state != RUN_ENDED) {
        run_bind_reader(answer->run, &answer->reader);
    }
    respond(answer, &status);
}

/* Begins when there is something to say, though input still comes. What has ended without a word is
 * answered when that has ended, too: then in one piece. */
static void talk(struct run_answer *answer) {
    unsigned ready = 0;
    enum err err = run_output_poll(&answer->request->op, answer->run, &answer->reader,
                                   answer->streams, &ready);
    if (!err && !(ready & POLL_HANGUP)) {
        answer->stage = STAGE_OUTPUT;
        respond_stream(answer);
    }
}

void run_answer_input_ended(struct run_answer *answer) {
    answer->input_comes = false;
    if (answer->stage == STAGE_TALK) {
        op_abandon(&answer->request->op);
        begin_answer(answer);
    } else if (answer->stage == STAGE_OUTPUT) {
        if (run_status(answer->run).state != RUN_ENDED) {
            run_bind_reader(answer->run, &answer->reader);
        }
        if (answer->waiting) {
            answer->waiting = false;
            http_pull_resume(answer->request->exchange);
        }
    }
}

void run_answer_step(struct run_answer *answer) {
    struct op *op = &answer->request->op;
    if (answer->stage == STAGE_BEGIN) {
        enum err err = answer->attached ? run_wait_begun(op, answer->run) : ERR_OK;
        if (err == ERR_PENDING) {
            return;
        }
        begin_answer(answer);
        if (answer->stage != STAGE_WAIT && answer->stage != STAGE_TALK) {
            return;
        }
    }
    if (answer->stage == STAGE_TALK) {
        talk(answer);
        return;
    }
    if (answer->stage == STAGE_WAIT && !answer->request->responded) {
        enum err err = run_wait(op, answer->run);
        if (err == ERR_PENDING) {
            return;
        }
        struct run_status status = run_status(answer->run);
        respond(answer, &status);
        return;
    }
    if (answer->waiting) {
        answer->waiting = false;
        http_pull_resume(answer->request->exchange);
    }
}

void run_answer_free(struct run_answer *answer) {
    if (!answer) {
        return;
    }
    run_unref(answer->run);
    buf_done(&answer->formatted);
    block_free(answer, sizeof *answer);
}
