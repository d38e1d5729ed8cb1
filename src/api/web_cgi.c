/* serve=cgi: a request of the web door starts a run of its own, which is told of it as RFC 3875
 * says. The body goes into its standard input as it comes in; what it prints goes out as it is
 * printed, once its head is complete (cgi_response.h). A short answer of a program that has ended
 * goes out in one piece. */
#include "api/web_internal.h"

#include <inttypes.h>
#include <unistd.h>

/* The body of an answer is gathered up to this size, as long as the program does not wait. */
#define WHOLE_BYTES_MAX (32 * KIB)
#define PIECE_BYTES (8 * KIB)
#define FEED_BYTES (64 * KIB)

static void answer_step(struct web *web);

/* --- failures --------------------------------------------------------------------------------- */

static void fail_response(struct web *web, const char *why) {
    web_log(web, "bad CGI response: %s", why);
    web_fail(web, 502, "the program of this page gave no valid answer");
}

/* It ended otherwise than by itself, and nothing has been answered. */
static void fail_ended(struct web *web, const struct run_status *status) {
    if (status->reason == RUN_REASON_FAILED && status->failure == ERR_AGAIN) {
        web_fail(web, 503, "this page has too many visitors; try again later");
    } else if (status->reason == RUN_REASON_WALL) {
        web_fail(web, 504, "the program of this page did not answer in time");
    } else if (status->reason == RUN_REASON_SHUTDOWN) {
        web_fail(web, 503, "the server is stopping");
    } else {
        web_fail(web, 502, "the program of this page failed");
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Name, colon, value, line end, and a record of it. */
static size_t cost_of(const char *name, const char *value) {
    return strlen(name) + strlen(value) + 4 + 64;
}

/* The head as the program gave it. 2BIG: it does not fit beside the request's. */
static enum err add_head(struct web *web, const char **ret_type) {
    const struct cgi_response *response = &web->cgi.response;
    struct http_exchange *exchange = web->request->exchange;
    *ret_type = "text/plain; charset=utf-8";
    enum err err = web_add_headers(web);
    if (response->state == CGI_TEXT || err) {
        return err;
    }
    size_t room = http_head_room(exchange);
    size_t used = 0;
    const char *name, *value;
    for (size_t i = 0; !err && cgi_response_field(response, &i, &name, &value);) {
        used += cost_of(name, value);
        err = used > room ? ERR_2BIG : http_add_header(exchange, name, value);
    }
    const char *location = cgi_response_location(response);
    if (!err && location) {
        used += cost_of("Location", location);
        err = used > room ? ERR_2BIG : http_add_header(exchange, "Location", location);
    }
    const char *type = cgi_response_type(response);
    if (type) {
        *ret_type = type;
        used += cost_of("Content-Type", type);
    } else if (location || response->status == 204 || response->status == 304) {
        *ret_type = NULL;
    }
    return err || used > room ? ERR_2BIG : ERR_OK;
}

static bool has_no_body(int status) {
    return status == 204 || status == 304;
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct web *web = argument;
    struct cgi *cgi = &web->cgi;
    cgi->waiting = false;
    if (cgi->body_remaining == 0) {
        return HTTP_PULL_END;
    }
    size = (size_t)MIN((uint64_t)size, cgi->body_remaining);
    struct str body = cgi_response_body(&cgi->response);
    size_t length = MIN(size, body.length - cgi->body_sent);
    if (length > 0) {
        memcpy(buffer, body.data + cgi->body_sent, length);
        cgi->body_sent += length;
    } else {
        unsigned stream = 0;
        uint64_t time_ns = 0;
        enum err err = run_output_read(&web->request->op, cgi->run, &cgi->reader, RUN_STDOUT,
                                       buffer, size, &length, &stream, &time_ns);
        if (err == ERR_PENDING) {
            cgi->waiting = true;
            return HTTP_PULL_WAIT;
        }
        if (err) {
            return HTTP_PULL_ABORT;
        }
    }
    if (length == 0) {
        cgi->has_ended = true;
        /* Half an answer must not look like a whole one. */
        return run_status(cgi->run).reason == RUN_REASON_EXIT ? HTTP_PULL_END : HTTP_PULL_ABORT;
    }
    if (cgi->body_remaining != UINT64_MAX) {
        cgi->body_remaining -= length;
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

static int status_of(const struct cgi_response *response) {
    return response->state == CGI_TEXT ? 200 : response->status;
}

/* The rest follows as the program writes it, or the client wants the head alone. */
static void respond_stream(struct web *web) {
    struct cgi *cgi = &web->cgi;
    const char *type;
    if (add_head(web, &type)) {
        fail_response(web, "its head does not fit");
        return;
    }
    web->request->responded = true;
    cgi->is_pulled = true;
    cgi->body_remaining = UINT64_MAX;
    uint64_t length = HTTP_LENGTH_UNKNOWN;
    if (cgi->response.state == CGI_DOCUMENT && cgi->response.has_length) {
        cgi->body_remaining = length = cgi->response.length;
    }
    http_respond_stream(web->request->exchange, status_of(&cgi->response), type, length, pull, web);
}

/* All of the answer is there. */
static void respond_whole(struct web *web) {
    const struct cgi_response *response = &web->cgi.response;
    struct str body = cgi_response_body(response);
    int status = status_of(response);
    bool is_head = str_equal_text(web->method, "HEAD");
    if (response->state == CGI_DOCUMENT && response->has_length && !has_no_body(status)) {
        if (is_head) { /* it need not have printed what it would */
            respond_stream(web);
            return;
        }
        if (body.length < response->length) {
            fail_response(web, "its body is shorter than its Content-Length");
            return;
        }
        body.length = (size_t)response->length;
    }
    const char *type;
    if (add_head(web, &type)) {
        fail_response(web, "its head does not fit");
        return;
    }
    web->request->responded = true;
    if (has_no_body(status)) {
        body.length = 0;
    }
    http_respond(web->request->exchange, status, type, body.data, body.length);
}

/* The program has ended, and what it printed is all here. */
static void finish(struct web *web) {
    struct cgi *cgi = &web->cgi;
    struct cgi_response *response = &cgi->response;
    struct run_status status = run_status(cgi->run);
    cgi->has_ended = true;
    cgi_response_end(response);
    if (status.reason != RUN_REASON_EXIT) {
        fail_ended(web, &status);
    } else if (response->state == CGI_BROKEN) {
        fail_response(web, response->broken);
    } else if (response->gathered.length == 0 && status.exit_status != 0) {
        web_fail(web, 502, "the program of this page failed");
    } else if (response->state == CGI_DOCUMENT && response->is_local_redirect &&
               web_redirect(web, cgi_response_location(response))) {
        return; /* begun anew */
    } else {
        respond_whole(web);
    }
}

static enum err take_output(struct cgi_response *response, const uint8_t *data, size_t length) {
    return response->state == CGI_HEAD ? cgi_response_take(response, data, length)
                                       : buf_append(&response->gathered, data, length);
}

/* Gathers the head and what comes with it. */
static void answer_step(struct web *web) {
    struct cgi *cgi = &web->cgi;
    struct cgi_response *response = &cgi->response;
    struct op *op = &web->request->op;
    while (!web->request->responded) {
        uint8_t piece[PIECE_BYTES];
        size_t length = 0;
        unsigned stream = 0;
        uint64_t time_ns = 0;
        enum err err = run_output_read(op, cgi->run, &cgi->reader, RUN_STDOUT, piece, sizeof piece,
                                       &length, &stream, &time_ns);
        bool has_more = !err && length > 0;
        if (has_more) {
            err = take_output(response, piece, length);
        }
        if (err && err != ERR_PENDING) {
            web_fail(web, 503, "the server is out of memory");
        } else if (!err && !has_more) {
            finish(web);
            return;
        } else if (response->state == CGI_BROKEN) {
            fail_response(web, response->broken);
        } else if (response->state == CGI_DOCUMENT && response->is_local_redirect) {
            if (!web_redirect(web, cgi_response_location(response))) {
                respond_stream(web);
            }
            return;
        } else if (response->state != CGI_HEAD &&
                   (err == ERR_PENDING || cgi_response_body(response).length > WHOLE_BYTES_MAX)) {
            if (has_no_body(status_of(response))) {
                respond_whole(web);
            } else {
                respond_stream(web);
            }
        } else if (err == ERR_PENDING) {
            return;
        }
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
    run_bind_reader(cgi->run, &cgi->reader);
    answer_step(web);
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
    feed(CONTAINER_OF(op, struct cgi, feed));
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
    op_init(&cgi->feed, request->loop, &request->who, feed_woken);
    cgi->has_feed = cgi->feeds = true;
    feed(cgi);
    begin_answer(web);
}

/* --- what web.c calls ------------------------------------------------------------------------- */

void web_cgi_start(struct web *web) {
    struct cgi *cgi = &web->cgi;
    uint64_t length = 0;
    cgi->body_waits = web->body_waits;
    web->body_waits = false;
    cgi->is_spooled = web->has_body && !http_content_length(web->request->exchange, &length);
    if (!cgi->is_spooled) {
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
            run_stdin_write(&web->request->op, cgi->run, data + taken, length - taken, &written);
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
    if (web->request->responded) {
        return;
    }
    if (cgi->is_spooled) {
        upload_end(&cgi->spool);
    } else if (cgi->run) {
        run_stdin_close(cgi->run);
        begin_answer(web);
    }
}

void web_cgi_step(struct web *web) {
    struct cgi *cgi = &web->cgi;
    if (cgi->is_pulled) {
        if (cgi->waiting) {
            cgi->waiting = false;
            http_pull_resume(web->request->exchange);
        }
    } else if (cgi->body_waits) {
        cgi->body_waits = false;
        http_body_resume(web->request->exchange);
    } else if (cgi->run && cgi->reader.binding) {
        answer_step(web);
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
    cgi_response_done(&cgi->response);
    buf_done(&cgi->feeding);
    *cgi = (struct cgi){0};
}
