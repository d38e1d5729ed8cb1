/* serve=listen: a request of the web door waits for a program that is kept (dev/service.h), until
 * it is taken by whoever asks first: /net/serve, whose file (dev/serve_file.c) is the other end of
 * what is here, and in which the program writes what a CGI program would print; or accept, a
 * connection (dev/serve_connection.c), over which it speaks HTTP/1.1, one request after the other.
 *
 * /net/serve gets a request when its body is complete or long, so that a slow client does not make
 * a program wait that does one thing at a time. What is answered before the body's end waits for
 * that, because most clients send all before they read any, unless it is all of the answer, or as
 * much as may wait, or the program takes nothing of the body for a second: then it goes out while
 * the body still comes.
 */
#include "api/web_internal.h"

#include <inttypes.h>

/* --- failures ----------------------------------------------------------------------------- */

/* The program may still have it, and is not heard from now on. */
static void leave(struct web_serve *serve) {
    if (!serve->has_left) {
        serve->has_left = true;
        serve_withdraw(serve->request);
        serve_request_leave(serve->request);
    }
}

static void fail(struct web *web, int status, const char *sentence, const char *why) {
    web_log(web, "no answer to a request of the web door: %s", why);
    loop_timer_stop(&web->serve->timer);
    leave(web->serve);
    web_fail(web, status, sentence);
}

/* There is no instance, or no place. `delay` as that of service_hold. */
static void fail_submit(struct web *web, enum err err, struct service_delay delay) {
    struct request *request = web->request;
    uint64_t retry_ns = delay.retry_ns;
    if (err != ERR_AGAIN || retry_ns > 0) {
        web_log(web, "no answer to a request of the web door: %s",
                request->message.length ? buf_text(&request->message) : err_text(err));
    }
    request->retry_after_s = (unsigned)((retry_ns + NS_PER_S - 1) / NS_PER_S);
    if (err == ERR_AGAIN && retry_ns == 0) {
        web_fail(web, 503, "this page has too many visitors; try again later");
    } else if (err == ERR_AGAIN && delay.never_asked) {
        web_fail(web, 503,
                 "the program of this page has not accepted a connection on fd 4 before it ended; "
                 "its log says what to do");
    } else if (err == ERR_AGAIN) {
        web_fail(web, 503, "the program of this page is started again; try again later");
    } else {
        web_fail(web, err == ERR_NOMEM || err == ERR_NFILE ? 503 : 502,
                 "the program of this page can't be started");
    }
}

static void time_is_over(struct loop_timer *timer) {
    struct web_serve *serve = CONTAINER_OF(timer, struct web_serve, timer);
    struct web *web = serve->web;
    if (web->request->responded) {
        return;
    }
    bool is_taken = serve_request_state(serve->request) == SERVE_TAKEN;
    if (!is_taken && !serve_listener_is_asked(serve->request->listener)) {
        fail(web, 504, "the program of this page has not accepted a connection on fd 4 in time",
             "not in time: " SERVE_NOT_ASKED);
    } else {
        fail(web, 504, "the program of this page did not answer in time",
             is_taken ? "not in time" : "not in time: the program has not taken it");
    }
}

/* There will be no answer by the program that had the request. If its time is over, that is why,
 * whichever is seen first: a program that hangs is ended just then. True: that was answered. */
static bool fail_if_late(struct web *web) {
    struct web_serve *serve = web->serve;
    bool is_late =
        loop_timer_is_started(&serve->timer) && clock_monotonic_ns() >= serve->timer.deadline_ns;
    if (is_late) {
        time_is_over(&serve->timer);
    }
    return is_late;
}

/* --- the request -------------------------------------------------------------------------- */

/* The head but for its end, which says how long the body is. */
static enum err make_head(struct web *web) {
    struct serve_request *request = web->serve->request;
    struct buf *head = &request->head;
    enum err err = buf_reserve(head, 1024);
    if (!err) {
        err = buf_printf(head, STR_FORMAT " ", STR_ARGS(web->method));
    }
    if (!err) {
        err = web_forward_target(web, head);
    }
    if (!err) {
        err = buf_append_str(head, STR(" HTTP/1.1\r\n"));
    }
    if (!err) {
        err = web_forward_fields(web, head);
    }
    if (!err) {
        err = buf_reserve(head, SERVE_HEAD_END_BYTES);
    }
    request->head_length = head->length;
    request->has_body = web->has_body;
    request->has_length =
        web->has_body && http_content_length(web->request->exchange, &request->length);
    return err;
}

/* Its body is complete, or long: /net/serve may have it. */
static void ripen(struct web *web) {
    struct web_serve *serve = web->serve;
    if (!serve->is_ripe) {
        serve->is_ripe = true;
        serve_ripen(serve->request, web->has_body && web->body_ended, serve->gathered);
    }
}

/* Finds it a place to wait. */
static void submit(struct web *web) {
    struct web_serve *serve = web->serve;
    struct request *request = web->request;
    struct instance *instance = NULL;
    struct service_delay delay = {0};
    enum err err = serve_request_watch(&request->op, serve->request) ? ERR_NOMEM : ERR_PIPE;
    for (unsigned tries = 0; err == ERR_PIPE && tries < 3; tries++) { /* it has ended just now */
        err = service_hold(request->api->services, request->loop, web->app, &instance, &delay,
                           &request->message);
        if (!err) {
            web->run_id = instance_run_id(instance);
            err = service_put(instance, serve->request, &request->message);
            if (err) {
                service_done(instance);
            }
        }
    }
    if (err) {
        leave(serve);
        fail_submit(web, err == ERR_PIPE ? ERR_AGAIN : err, delay);
    }
}

/* --- the answer --------------------------------------------------------------------------- */

/* What the program has written, up to the end of a line if `is_line`. */
static enum err read_raw(struct web *web, void *data, size_t size, bool is_line,
                         size_t *ret_length) {
    struct serve_request *request = web->serve->request;
    enum err err = serve_request_answer(request, data, size, is_line, ret_length);
    if (err == ERR_AGAIN) {
        err = serve_request_watch(&web->request->op, request);
        if (!err) { /* it may have come between the look and the wait */
            err = serve_request_answer(request, data, size, is_line, ret_length);
        }
    }
    if (err == ERR_IO) {
        web->document.why[0] = web->document.response.is_http
                                   ? "the connection was closed in the middle of it"
                                   : "the program ended before it had closed /net/serve";
    }
    return err == ERR_AGAIN ? ERR_PENDING : err;
}

/* What is written later is logged then. Whether there is more already. */
static bool note_length_reached(struct web *web, bool has_more) {
    has_more = has_more || serve_request_complete(web->serve->request, web->request->api->logs,
                                                  web->app->id, web->run_id);
    if (has_more) {
        web_log(web, SERVE_TOO_LONG);
    }
    return has_more;
}

static void length_reached(struct web *web, bool has_more) {
    if (!web->document.response.is_http) { /* else its frame has ended already */
        (void)note_length_reached(web, has_more);
    }
}

/* All of an answer by a connection is here. */
static enum err frame_ends(struct web *web, bool may_go_on) {
    struct web_serve *serve = web->serve;
    serve->frame = FRAME_OVER;
    serve_answered(serve->request, may_go_on && web->body_ended && !web->document.response.closes);
    return ERR_OK;
}

/* Where the body ends (RFC 9112 section 6.3). */
static void find_frame(struct web *web) {
    struct web_serve *serve = web->serve;
    const struct cgi_response *response = &web->document.response;
    serve->remaining = response->has_length ? response->length : 0;
    serve->chunks = (struct http_body){.state = HTTP_BODY_SIZE_FIRST, .is_chunked = true};
    bool is_bare =
        str_equal_text(web->method, "HEAD") || response->status == 204 || response->status == 304;
    if (is_bare) {
        (void)!frame_ends(web, true);
    } else if (response->has_length && response->length == 0) {
        (void)!frame_ends(web, !note_length_reached(web, false));
    } else {
        serve->frame = response->is_chunked   ? FRAME_CHUNKS
                       : response->has_length ? FRAME_LENGTH
                                              : FRAME_CLOSE;
    }
}

/* Moves what is data in `*length` bytes of chunks to their front. */
static enum err take_chunks(struct web *web, uint8_t *data, size_t *length) {
    struct http_body *chunks = &web->serve->chunks;
    size_t at = 0, out = 0, piece = 0;
    while (at < *length && !http_body_is_over(chunks) && !http_body_is_broken(chunks)) {
        at += http_body_next(chunks, data + at, *length - at, &piece);
        memmove(data + out, data + at, piece);
        http_body_took(chunks, piece);
        at += piece;
        out += piece;
    }
    bool has_more = at < *length;
    *length = out;
    if (http_body_is_over(chunks)) {
        return frame_ends(web, !has_more);
    }
    if (http_body_is_broken(chunks)) {
        web->document.why[0] = "its chunks are malformed";
        return ERR_IO;
    }
    return ERR_OK;
}

/* The program has closed the connection. */
static enum err close_frame(struct web *web) {
    switch (web->serve->frame) {
    case FRAME_CLOSE:
        return frame_ends(web, false);
    case FRAME_LENGTH:
        web->document.why[0] = "its body is shorter than its Content-Length";
        return ERR_IO;
    default:
        web->document.why[0] = "the connection was closed in the middle of it";
        return ERR_IO;
    }
}

static enum err read_frame(struct web *web, uint8_t *data, size_t size, size_t *ret_length) {
    struct web_serve *serve = web->serve;
    if (serve->frame == FRAME_UNKNOWN) {
        find_frame(web);
    }
    size_t length = 0;
    while (serve->frame != FRAME_OVER && length == 0) {
        if (serve->frame == FRAME_LENGTH) {
            size = (size_t)MIN((uint64_t)size, serve->remaining);
        }
        enum err err = read_raw(web, data, size, false, &length);
        if (!err && length == 0) {
            err = close_frame(web);
        } else if (!err && serve->frame == FRAME_CHUNKS) {
            err = take_chunks(web, data, &length);
        } else if (!err && serve->frame == FRAME_LENGTH) {
            serve->remaining -= length;
            if (serve->remaining == 0) {
                err = frame_ends(web, !note_length_reached(web, false));
            }
        }
        if (err) {
            return err;
        }
    }
    *ret_length = length;
    return ERR_OK;
}

static enum err read_answer(struct web *web, void *data, size_t size, size_t *ret_length) {
    if (!web->document.response.is_http) {
        return read_raw(web, data, size, false, ret_length);
    }
    /* Not more than the head is handed on as such. */
    return web->document.response.state == CGI_HEAD ? read_raw(web, data, size, true, ret_length)
                                                    : read_frame(web, data, size, ret_length);
}

static void answer_ended(struct web *web, enum err err) {
    bool is_http = web->document.response.is_http;
    if (err == ERR_NOMEM) {
        fail(web, 503, "the server is out of memory", err_text(err));
    } else if ((err || web->document.response.gathered.length == 0) && fail_if_late(web)) {
        return;
    } else if (err) {
        fail(web, 502, "the program of this page failed",
             web->document.why[0] ? web->document.why[0] : err_text(err));
    } else if (web->document.response.gathered.length == 0) {
        fail(web, 502, "the program of this page gave no valid answer",
             is_http ? "the connection was closed, and nothing was written"
                     : "/net/serve was closed, and nothing was written");
    } else {
        web_document_finish(web);
    }
}

static void step_answer(struct web *web) {
    struct web_serve *serve = web->serve;
    struct web_document *document = &web->document;
    if (serve->request->by_connection && !document->response.is_http) {
        document->response.is_http = true;
        document->name = "response";
    }
    document->talks = document->talks || serve_request_is_full(serve->request);
    document->is_held =
        !web->body_ended && !document->talks && !serve_request_is_answered(serve->request);
    if (!document->is_held || document->response.is_http) {
        web_document_step(web);
    }
    if (web->serve && web->request->responded) {
        loop_timer_stop(&web->serve->timer);
    }
}

/* The instance has ended before anybody had taken it. */
static void submit_again(struct web *web) {
    if (fail_if_late(web)) {
        return;
    }
    service_done(serve_request_take_instance(web->serve->request));
    web->document.response.is_http = false;
    submit(web);
}

/* --- what web.c calls --------------------------------------------------------------------- */

void web_serve_start(struct web *web) {
    struct web_serve *serve = calloc(1, sizeof *serve);
    if (!serve || serve_request_new(&serve->request) != ERR_OK) {
        free(serve);
        web_fail(web, 503, "the server is out of memory");
        return;
    }
    web->serve = serve;
    serve->web = web;
    loop_timer_init(&serve->timer, time_is_over);
    web->document = (struct web_document){
        .name = "response to /net/serve",
        .read = read_answer,
        .ended = answer_ended,
        .length_reached = length_reached,
    };
    web->document.response.takes_status_line = true;
    if (make_head(web)) {
        fail(web, 503, "the server is out of memory", "no memory");
        return;
    }
    if (!web->has_body) {
        serve_request_body_end(serve->request);
        ripen(web);
    }
    /* Its time begins no later than the program can see it: the loop keeps this reading for its
     * timer. */
    (void)loop_now_ns(web->request->loop);
    submit(web);
    if (web->request->responded) {
        return;
    }
    if (web->body_waits) {
        web->body_waits = false;
        http_body_resume(web->request->exchange);
    }
    if (web->body_ended) {
        web_serve_body_end(web);
    }
}

/* If there is no room it waits again. */
static void resume_body(struct web *web) {
    if (web->serve->body_waits) {
        web->serve->body_waits = false;
        http_body_resume(web->request->exchange);
    }
}

size_t web_serve_body(struct web *web, const uint8_t *data, size_t length) {
    struct web_serve *serve = web->serve;
    if (!web->has_body || serve_request_is_answered(serve->request)) {
        return length; /* it has answered without wanting all of it */
    }
    size_t taken = serve_request_body(serve->request, data, length);
    serve->gathered += taken;
    if (taken > 0) { /* it counts from when the program took the last of it */
        loop_timer_stop(&serve->timer);
    }
    serve->body_waits = taken < length;
    if (taken < length || serve->gathered >= SERVE_BODY_BYTES) {
        ripen(web);
    }
    return taken;
}

/* The answer's head has to come in time, from the end of the body on, or from when the program
 * takes no more of it. */
static void start_timer(struct web *web) {
    struct loop *loop = web->request->loop;
    uint64_t wall_ns = web->app->limits.wall_ns;
    if (wall_ns == 0) {
        wall_ns = runs_get_options(web->request->api->runs)->defaults.wall_ns;
    }
    loop_timer_start(loop, &web->serve->timer, loop_now_ns(loop) + MIN(wall_ns, UINT64_MAX / 4));
}

void web_serve_stalled(struct web *web) {
    struct web_serve *serve = web->serve;
    if (!loop_timer_is_started(&serve->timer)) {
        start_timer(web);
    }
    if (serve_request_state(serve->request) == SERVE_TAKEN) {
        web->document.talks = true;
        op_wake(&web->request->op);
    }
}

void web_serve_body_end(struct web *web) {
    if (web->request->responded && !web->document.talks) {
        return;
    }
    serve_request_body_end(web->serve->request);
    ripen(web);
    if (!web->request->responded) {
        start_timer(web);
        op_wake(&web->request->op); /* perhaps there is an answer already */
    }
}

/* Of an answer that is under way. */
static void go_on(struct web *web) {
    struct web_serve *serve = web->serve;
    if (web->document.talks && !web->body_ended) {
        /* The pull may have no need to wait, but the body has. */
        if (serve_request_watch(&web->request->op, serve->request)) {
            http_abort(web->request->exchange);
            return;
        }
        resume_body(web);
    }
    web_document_woken(web);
}

void web_serve_step(struct web *web) {
    struct web_serve *serve = web->serve;
    struct serve_request *request = serve->request;
    if (web->document.is_pulled) {
        go_on(web);
        return;
    }
    if (web->request->responded) {
        return;
    }
    if (serve_request_watch(&web->request->op, request)) {
        fail(web, 503, "the server is out of memory", "no memory");
        return;
    }
    resume_body(web);
    switch (serve_request_state(request)) {
    case SERVE_WAITING:
        break;
    case SERVE_REFUSED:
        submit_again(web);
        break;
    case SERVE_TAKEN:
        step_answer(web);
        break;
    }
}

void web_serve_done(struct web *web) {
    struct web_serve *serve = STEAL(web->serve);
    if (serve) {
        loop_timer_stop(&serve->timer);
        leave(serve);
        serve_request_unref(serve->request);
        free(serve);
    }
}
