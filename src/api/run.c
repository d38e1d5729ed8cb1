/* POST /run: starts a run, gives it the request body as standard input and answers its output. */
#include "api/handlers.h"
#include "api/run_answer.h"
#include "api/run_form.h"
#include "api/run_options.h"
#include "base/block.h"

#include <inttypes.h>

struct run_exchange {
    struct request *request;
    struct run *run;
    struct run_answer *answer;
    struct run_options options; /* until it is started */
    bool preparing;             /* the version that was asked for is being looked up */
    bool detach, stdin_stays_open;
    bool body_ended;
    bool body_waits;  /* a piece of the body found no room */
    bool input_ended; /* the program reads no more: the rest of the body is dropped */
    bool is_counted;  /* run_start has refused it, and counted that */

    struct run_form *form; /* the body, if it is one */
    struct file *input;    /* what it has as standard input, while it is handed over; a reference */
    uint64_t input_offset;
    struct op input_op; /* of standard input; the request's op has the output at the same time */
};

static const char *const parameters[] = {
    "name",       "arg",        "env",    "version", "root",  "tag",    "keep", "stderr", "detach",
    "stdin",      "call",       "memory", "cpu",     "wall",  "output", "disk", "files",  "tmp",
    "open_files", "queue_wait", "ttl",    "net",     "trace", "core",   NULL,
};

static void give_answer(struct request *request);
static void input_woken(struct op *op);

/* Whether what the program prints goes out while its input still comes in. Who waits for one JSON
 * result reads nothing before its end. */
static bool may_talk(const struct run_exchange *own) {
    const struct request *request = own->request;
    return own->run && !own->body_ended && !own->form && !own->detach &&
           request->accept != ACCEPT_JSON && !http_is_1_0(request->exchange);
}

/* Starts the run as soon as all is known of it, and goes on with what came in meanwhile. */
static void begin_run(struct request *request) {
    struct run_exchange *own = request->state;
    struct run_options *options = &own->options;
    enum err err = run_options_find_version(request, options);
    if (err == ERR_PENDING) {
        return;
    }
    own->preparing = false;
    if (!err) {
        options->request.detached = own->detach;
        options->request.stdin_open =
            own->stdin_stays_open ||
            (own->form ? own->input != NULL : http_has_body(request->exchange));
        options->request.files = own->form ? run_form_files(own->form) : NULL;
        request_join_trace(request);
        options->request.traceparent = request->who.traceparent;
        options->request.tracestate = request->who.tracestate;
        err = run_start(request->api->runs, request->loop, &options->request, &own->run,
                        &request->message);
        own->is_counted = err != ERR_OK;
        if (err == ERR_AGAIN) {
            request_fail_status(request, 429, "%s", buf_text(&request->message));
        } else if (err) {
            request_fail(request, err, &request->message);
        }
    }
    run_options_done(options);
    *options = (struct run_options){0};
    if (own->form) {
        run_form_release(own->form);
    }
    if (own->body_waits) {
        own->body_waits = false;
        http_body_resume(request->exchange);
    }
    if (own->body_ended) {
        give_answer(request);
    } else if (may_talk(own)) {
        op_wake(
            &request->op); /* in this turn the body's end may come, too: most bodies are short */
    }
}

/* All options are known. */
static void prepare(struct request *request) {
    struct run_exchange *own = request->state;
    own->detach = request_has_parameter(request, "detach");
    own->stdin_stays_open =
        own->detach && str_equal_text(request_parameter(request, "stdin"), "open");
    if (run_options_parse(request, &own->options)) {
        return;
    }
    if (own->options.request.stdin_open && !own->detach) {
        runs_count_refused(request->api->runs, ERR_INVAL);
        request_fail_status(request, 400,
                            "stdin=open is for a run without a client: add detach, then PUT to "
                            "/proc/ID/stdin; without both, the body is its standard input");
        return;
    }
    own->preparing = true;
    begin_run(request);
}

static void start(struct request *request) {
    if (!request_check_parameters(request, parameters)) {
        return;
    }
    struct run_exchange *own = block_new(sizeof *own);
    if (!own) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = own;
    own->request = request;
    op_init(&own->input_op, request->loop, &request->who, input_woken);
    if (atomic_load_explicit(&request->api->shutting_down, memory_order_relaxed)) {
        request_fail_status(request, 503, "the server is stopping");
        return;
    }
    if (run_form_is_wanted(request)) {
        own->form = run_form_new(request, parameters);
        return;
    }
    prepare(request);
}

static size_t body(struct request *request, const uint8_t *data, size_t length) {
    struct run_exchange *own = request->state;
    if (own->form) {
        (void)run_form_body(own->form, data, length);
        return length;
    }
    if (own->preparing) {
        own->body_waits = true;
        return 0;
    }
    size_t taken = 0;
    while (taken < length && !own->input_ended) {
        size_t written = 0;
        enum err err =
            run_stdin_write(&own->input_op, own->run, data + taken, length - taken, &written);
        if (err == ERR_PENDING) {
            own->body_waits = true;
            return taken;
        }
        if (err) {
            own->input_ended = true;
            break;
        }
        taken += written;
    }
    return length;
}

static void answer_detached(struct request *request, struct run *run) {
    char id[24], location[32];
    snprintf(id, sizeof id, "%" PRIu64, run_id(run));
    snprintf(location, sizeof location, "/proc/%s", id);
    enum err err = http_add_header(request->exchange, "Run-Id", id);
    if (!err) {
        err = http_add_header(request->exchange, "Location", location);
    }
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    if (request->accept == ACCEPT_JSON || request->accept == ACCEPT_NDJSON) {
        request_respond_json(request, 202, json_pack("{s:I}", "id", (json_int_t)run_id(run)));
        return;
    }
    cleanup_buf struct buf line = {0};
    err = buf_printf(&line, "%s\n", id);
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request_respond_text(request, 202, buf_str(&line));
}

/* ---- standard input that a form has ---- */

/* Hands over as much as the program takes now. */
static void give_input(struct run_exchange *own) {
    enum err err = ERR_OK;
    while (!err) {
        uint8_t piece[8 * KIB];
        size_t length = 0, written = 0;
        err =
            file_read(&own->input_op, own->input, piece, sizeof piece, own->input_offset, &length);
        if (err || length == 0) {
            break;
        }
        err = run_stdin_write(&own->input_op, own->run, piece, length, &written);
        if (err == ERR_PENDING) {
            return;
        }
        own->input_offset += written;
    }
    op_done(&own->input_op);
    file_unref(STEAL(own->input));
    if (!own->stdin_stays_open) {
        run_stdin_close(own->run);
    }
}

static void input_woken(struct op *op) {
    struct run_exchange *own = CONTAINER_OF(op, struct run_exchange, input_op);
    if (own->body_waits) {
        own->body_waits = false;
        http_body_resume(own->request->exchange);
    } else if (own->input) {
        give_input(own);
        if (!own->input && own->detach) {
            give_answer(own->request);
        }
    }
}

static void take_input(struct run_exchange *own) {
    struct file *input = run_form_input(own->form);
    if (input) {
        own->input = file_ref(input);
    }
}

/* ---- the answer ---- */

static void body_end(struct request *request) {
    struct run_exchange *own = request->state;
    own->body_ended = true;
    if (own->form) {
        if (!request->responded && run_form_end(own->form)) {
            take_input(own);
            prepare(request);
        }
        return;
    }
    if (!own->preparing) {
        give_answer(request);
    }
}

static void begin_answer(struct request *request) {
    struct run_exchange *own = request->state;
    struct run_answer_options options = {
        .run = own->run,
        .streams = RUN_STDOUT | RUN_STDERR,
        .attached = true,
        .follow = true,
        .form = request->accept,
        .input_comes = !own->body_ended,
    };
    enum err err = run_answer_start(request, &options, &own->answer);
    if (err) {
        request_fail(request, err, NULL);
    }
}

static void give_answer(struct request *request) {
    struct run_exchange *own = request->state;
    if (!own->run || (request->responded && !own->answer)) {
        return;
    }
    if (own->input) {
        give_input(own);
    } else if (!own->stdin_stays_open && !own->form) {
        run_stdin_close(own->run);
    }
    if (own->detach && own->input) {
        return; /* it is answered when all of that is taken */
    }
    if (own->detach) {
        answer_detached(request, own->run);
        return;
    }
    if (own->answer) {
        run_answer_input_ended(own->answer);
    } else {
        begin_answer(request);
    }
}

static void step(struct request *request) {
    struct run_exchange *own = request->state;
    if (own->preparing) {
        begin_run(request);
    } else if (own->answer) {
        run_answer_step(own->answer);
    } else if (may_talk(own)) {
        begin_answer(request);
    }
}

/* Without a run it never began. */
static void failing(struct request *request, int status) {
    const struct run_exchange *own = request->state;
    if (own && (own->run || own->is_counted)) {
        return;
    }
    struct api *api = request->api;
    bool is_stopping = status == 503 && atomic_load(&api->shutting_down);
    runs_count_refused_status(api->runs, is_stopping ? 429 : status);
}

static void end(struct request *request, bool completed) {
    struct run_exchange *own = request->state;
    if (!own) {
        return;
    }
    (void)completed;
    if (own->run) {
        /* Nothing if it has ended, or is detached. */
        run_client_left(own->run);
        if (own->detach && !request->responded && (own->input || !own->stdin_stays_open)) {
            /* The upload of its standard input was cut off: it must not take half for all. */
            run_kill(own->run, RUN_REASON_CLIENT);
        }
    }
    op_done(&own->input_op);
    if (own->input) {
        file_unref(own->input);
    }
    run_options_done(&own->options);
    run_form_free(own->form);
    run_answer_free(own->answer);
    run_unref(own->run);
    block_free(own, sizeof *own);
}

const struct request_handler run_handler = {
    .start = start,
    .body = body,
    .body_end = body_end,
    .step = step,
    .failing = failing,
    .end = end,
};
