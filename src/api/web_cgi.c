/* serve=cgi: a request of the web door starts a run of its own, which is told of it as RFC 3875
 * says. The body goes into its standard input as it comes in; what it prints is its answer
 * (web_document.c), which waits for the body's end, because most clients send all before they read
 * any, unless the program has ended, has printed as much as may wait, or takes nothing of the body
 * for a second. */
#include "api/web_internal.h"

#include <inttypes.h>
#include <unistd.h>

#define FEED_BYTES (64 * KIB)

/* --- failures --------------------------------------------------------------------------------- */

/* It ended otherwise than by itself, and nothing has been answered. */
static void fail_ended(struct web *web, enum run_reason reason, enum err failure) {
    if (reason == RUN_REASON_FAILED && failure == ERR_AGAIN) {
        web_fail(web, 503, "this page has too many visitors; try again later");
    } else if (reason == RUN_REASON_WALL) {
        web_fail(web, 504, "the program of this page did not answer in time");
    } else if (reason == RUN_REASON_SHUTDOWN) {
        web_fail(web, 503, "the server is stopping");
    } else {
        web_fail(web, 502, "the program of this page failed");
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

static enum err read_output(struct web *web, void *data, size_t size, size_t *ret_length) {
    struct cgi *cgi = &web->cgi;
    unsigned stream = 0;
    uint64_t time_ns = 0;
    enum err err = run_output_read(&web->request->op, cgi->run, &cgi->reader, RUN_STDOUT, data,
                                   size, ret_length, &stream, &time_ns);
    if (!err && *ret_length == 0) {
        cgi->has_ended = true;
        int32_t exit_status;
        enum err failure;
        enum run_reason reason = run_ending(cgi->run, &exit_status, &failure);
        web->document.why[0] = "the program was ended in the middle of it";
        web->document.why[1] = run_reason_text(reason);
        return reason == RUN_REASON_EXIT ? ERR_OK : ERR_IO;
    }
    return err;
}

/* What it writes later is logged by the run. */
static void length_reached(struct web *web, bool has_more) {
    cleanup_buf struct buf line = {0};
    if (has_more || (web_log_line(web, SERVE_TOO_LONG, &line) == ERR_OK &&
                     run_answered(web->cgi.run, &web->cgi.reader, &line))) {
        web_log(web, SERVE_TOO_LONG);
    }
}

/* The program has ended, and what it printed is all here. */
static void output_ended(struct web *web, enum err err) {
    struct cgi *cgi = &web->cgi;
    int32_t exit_status;
    enum err failure;
    enum run_reason reason = run_ending(cgi->run, &exit_status, &failure);
    if (err && !cgi->has_ended) {
        web_fail(web, 503, "the server is out of memory");
    } else if (reason != RUN_REASON_EXIT) {
        fail_ended(web, reason, failure);
    } else if (web->document.response.gathered.length == 0 && exit_status != 0) {
        web_fail(web, 502, "the program of this page failed");
    } else {
        web_document_finish(web);
    }
}

/* --- starting --------------------------------------------------------------------------------- */

/* `length` of the body. On failure it is answered. */
static void start_run(struct web *web, uint64_t length) {
    struct request *request = web->request;
    struct cgi *cgi = &web->cgi;
    struct cgi_environment environment;
    if (cgi_environment_build(web, length, &environment)) {
        web_fail(web, 503, "the server is out of memory");
        return;
    }
    request_join_trace(request);
    struct run_request run = {
        .app = web->app,
        .traceparent = request->who.traceparent,
        .tracestate = request->who.tracestate,
        .more_environment = {environment.text, environment.length},
        .more_environment_count = environment.count,
        .is_web = true,
        .stdin_open = web->has_body && length > 0,
    };
    enum err err = run_start(request->api->runs, request->loop, &run, &cgi->run, &request->message);
    cgi_environment_done(&environment);
    web->run_id = cgi->run ? run_id(cgi->run) : 0;
    if (err == ERR_AGAIN) {
        web_fail(web, 503, "this page has too many visitors; try again later");
    } else if (err) {
        web_log(web, "no run for a request of the web door: %s",
                request->message.length ? buf_text(&request->message) : err_text(err));
        web_fail(web, err == ERR_NOMEM ? 503 : 502, "the program of this page can't be started");
    }
}

/* From here on the answer is read, and the guest waits for its reader. */
static void begin_answer(struct web *web) {
    struct cgi *cgi = &web->cgi;
    op_abandon(&web->request->op);
    web->document.is_held = false;
    run_bind_reader(cgi->run, &cgi->reader);
    web_document_step(web);
}

/* While the body still comes in, an answer that is whole goes out, and so does a failure: else it
 * waits, and is not taken from the record, for the guest must not wait for it. When it has to,
 * because the record is full, it may never go on to take the body, unless the answer goes out. */
static void look_for_answer(struct web *web) {
    struct cgi *cgi = &web->cgi;
    web->document.is_held = true;
    web_document_step(web);
    if (web->request->responded || web->stage != WEB_CGI) {
        return;
    }
    enum err err = ERR_PENDING;
    if (web_document_is_full(&web->document)) {
        err = run_wait(&web->request->op, cgi->run);
    }
    if (err == ERR_PENDING) {
        if (run_output_is_full(cgi->run)) {
            web->document.talks = true;
            begin_answer(web);
        }
        return;
    }
    int32_t exit_status;
    enum err failure;
    enum run_reason reason = run_ending(cgi->run, &exit_status, &failure);
    if (err) {
        web_fail(web, 503, "the server is out of memory");
    } else if (reason != RUN_REASON_EXIT) {
        cgi->has_ended = true;
        fail_ended(web, reason, failure);
    } else {
        begin_answer(web);
    }
}

void web_cgi_stalled(struct web *web) {
    struct cgi *cgi = &web->cgi;
    if (cgi->run && !cgi->reader.binding && web->document.response.gathered.length > 0) {
        web->document.talks = true;
        begin_answer(web);
    }
}

/* --- a body without a length ------------------------------------------------------------------ */

/* A program has to be told how long its input is (RFC 3875 section 4.1.2), so a chunked body goes
 * into a file first. */

struct read_work {
    struct op_work base;
    int descriptor; /* a duplicate */
    uint64_t offset;
    struct buf data;
    enum err result;
};

static void read_run(struct op_work *base) {
    struct read_work *work = CONTAINER_OF(base, struct read_work, base);
    ssize_t got = pread(work->descriptor, work->data.data, FEED_BYTES, (off_t)work->offset);
    work->result = got > 0 ? ERR_OK : ERR_IO; /* the end is known */
    work->data.length = got > 0 ? (size_t)got : 0;
}

static void read_release(struct op_work *base) {
    struct read_work *work = CONTAINER_OF(base, struct read_work, base);
    close(work->descriptor);
    buf_done(&work->data);
    free(work);
}

/* Polled: the next piece, into cgi->feeding. */
static enum err read_piece(struct cgi *cgi) {
    struct read_work *work = cgi->feed.state;
    if (!work) {
        work = calloc(1, sizeof *work);
        if (!work) {
            return ERR_NOMEM;
        }
        work->descriptor = dup(cgi->spool.descriptor);
        if (work->descriptor < 0 || buf_reserve(&work->data, FEED_BYTES)) {
            close(work->descriptor);
            free(work);
            return ERR_NOMEM;
        }
        work->offset = cgi->fed;
        work->base.run = read_run;
        work->base.release = read_release;
        return op_work_start(&cgi->feed, &work->base);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    enum err err = work->result;
    buf_done(&cgi->feeding);
    cgi->feeding = work->data;
    work->data = (struct buf){0};
    cgi->feeding_taken = 0;
    cgi->fed += cgi->feeding.length;
    return op_finish(&cgi->feed, err);
}

static void feed(struct cgi *cgi) {
    enum err err = ERR_OK;
    while (!err) {
        bool is_taken = cgi->feeding_taken == cgi->feeding.length;
        if (is_taken && cgi->fed == cgi->spool.length) {
            run_stdin_close(cgi->run);
            cgi->feeds = false;
            return;
        }
        if (is_taken) {
            err = read_piece(cgi);
            continue;
        }
        size_t written = 0;
        err = run_stdin_write(&cgi->feed, cgi->run, cgi->feeding.data + cgi->feeding_taken,
                              cgi->feeding.length - cgi->feeding_taken, &written);
        cgi->feeding_taken += err ? 0 : written;
    }
    if (err == ERR_PIPE) { /* it reads no more */
        cgi->feeds = false;
    } else if (err != ERR_PENDING) {
        run_kill(cgi->run, RUN_REASON_CLIENT); /* it must not take half for all */
    }
}

static void feed_woken(struct op *op) {
    struct cgi *cgi = CONTAINER_OF(op, struct cgi, feed);
    if (cgi->feeds) {
        feed(cgi);
    } else if (cgi->body_waits) {
        cgi->body_waits = false;
        http_body_resume(CONTAINER_OF(cgi, struct web, cgi)->request->exchange);
    }
}

static void make_feed(struct web *web) {
    struct request *request = web->request;
    op_init(&web->cgi.feed, request->loop, &request->who, feed_woken);
    web->cgi.has_feed = true;
}

static void spooled(struct request *request, enum err err) {
    struct web *web = request->state;
    struct cgi *cgi = &web->cgi;
    if (request->responded) {
        return;
    }
    if (err == ERR_FBIG) {
        web_fail(web, 413, "the request's body is too large");
        return;
    }
    if (err) {
        web_fail(web, 503, "the request's body can't be kept");
        return;
    }
    start_run(web, cgi->spool.length);
    if (!cgi->run) {
        return;
    }
    make_feed(web);
    cgi->feeds = true;
    feed(cgi);
    begin_answer(web);
}

/* --- what web.c calls ------------------------------------------------------------------------- */

void web_cgi_start(struct web *web) {
    struct cgi *cgi = &web->cgi;
    uint64_t length = 0;
    web->document = (struct web_document){
        .name = "CGI response",
        .read = read_output,
        .ended = output_ended,
        .length_reached = length_reached,
    };
    cgi->body_waits = web->body_waits;
    web->body_waits = false;
    cgi->is_spooled = web->has_body && !http_content_length(web->request->exchange, &length);
    if (!cgi->is_spooled) {
        make_feed(web);
        start_run(web, length);
    } else if (upload_init(&cgi->spool, web->request, web->request->api->limits.upload_bytes_max,
                           spooled)) {
        web_fail(web, 503, "the request's body can't be kept");
    }
    if (cgi->body_waits) {
        cgi->body_waits = false;
        http_body_resume(web->request->exchange);
    }
    if (web->body_ended) {
        web_cgi_body_end(web);
    } else if (cgi->run) {
        op_wake(&web->request->op); /* in this turn the body's end may come, too */
    }
}

size_t web_cgi_body(struct web *web, const uint8_t *data, size_t length) {
    struct cgi *cgi = &web->cgi;
    if (cgi->is_spooled) {
        return upload_body(&cgi->spool, data, length);
    }
    size_t taken = 0;
    while (taken < length && cgi->run && !cgi->input_ended) {
        size_t written = 0;
        enum err err =
            run_stdin_write(&cgi->feed, cgi->run, data + taken, length - taken, &written);
        if (err == ERR_PENDING) {
            cgi->body_waits = true;
            return taken;
        }
        cgi->input_ended = err != ERR_OK;
        taken += err ? 0 : written;
    }
    return length;
}

void web_cgi_body_end(struct web *web) {
    struct cgi *cgi = &web->cgi;
    if (web->request->responded && !web->document.talks) {
        return;
    }
    if (cgi->is_spooled) {
        upload_end(&cgi->spool);
    } else if (cgi->run) {
        run_stdin_close(cgi->run);
        if (!cgi->reader.binding) {
            begin_answer(web);
        }
    }
}

void web_cgi_step(struct web *web) {
    struct cgi *cgi = &web->cgi;
    if (web->document.is_pulled) {
        web_document_woken(web);
    } else if (cgi->run && cgi->reader.binding) {
        web_document_step(web);
    } else if (cgi->run && !web->request->responded) {
        look_for_answer(web);
    }
}

void web_cgi_done(struct web *web) {
    struct cgi *cgi = &web->cgi;
    if (cgi->feeds) {
        run_kill(cgi->run, RUN_REASON_CLIENT); /* it must not take half for all */
    }
    if (cgi->has_feed) {
        op_done(&cgi->feed);
    }
    upload_done(&cgi->spool);
    if (cgi->run && !cgi->has_ended) {
        run_client_left(cgi->run);
        if (web->has_body && !web->body_ended) {
            /* The upload of its standard input was cut off: it must not take half for all. */
            run_kill(cgi->run, RUN_REASON_CLIENT);
        }
    }
    run_unref(cgi->run);
    buf_done(&cgi->feeding);
    *cgi = (struct cgi){0};
}
