/* serve=listen: a request of the web door waits for a program that is kept (dev/service.h), until
 * it is taken by whoever asks first: accept, then web_listen.c goes on; or /net/serve, whose file
 * (dev/serve_file.c) is the other end of what is here. There the program reads the request as text
 * and writes what a CGI program would print, or a response that begins with a status line.
 *
 * /net/serve gets a request when its body is complete or long, so that a slow client does not make
 * a program wait that does one thing at a time. Nothing can be answered before the body has ended;
 * what is written meanwhile waits. */
#include "api/web_internal.h"

#include <inttypes.h>

/* Both sides wait for each other, as it seems: then, if nothing has changed. */
#define STUCK_NS (5 * NS_PER_S)

/* --- failures ----------------------------------------------------------------------------- */

/* The program may still have it, and is not heard from now on. */
static void leave(struct web_serve *serve) {
    if (!serve->has_left) {
        serve->has_left = true;
        serve_listener_withdraw(serve->request);
        serve_request_leave(serve->request);
    }
}

static void fail(struct web *web, int status, const char *sentence, const char *why) {
    web_log(web, "no answer to a request of the web door: %s", why);
    loop_timer_stop(&web->serve->timer);
    leave(web->serve);
    web_fail(web, status, sentence);
}

void web_serve_fail(struct web *web, enum err err, uint64_t retry_ns) {
    struct request *request = web->request;
    if (err != ERR_AGAIN || retry_ns > 0) {
        web_log(web, "no answer to a request of the web door: %s",
                request->message.length ? buf_text(&request->message) : err_text(err));
    }
    request->retry_after_s = (unsigned)((retry_ns + NS_PER_S - 1) / NS_PER_S);
    if (err == ERR_AGAIN && retry_ns == 0) {
        web_fail(web, 503, "this page has too many visitors; try again later");
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
    uint64_t taken;
    if (web->request->responded) {
        return;
    }
    if (web->body_ended) {
        fail(web, 504, "the program of this page did not answer in time", "not in time");
    } else if (serve_request_is_stuck(serve->request, &taken) && taken == serve->taken) {
        fail(web, 502, "the program of this page failed",
             "it writes more than 1 MiB before it has read the request, which can't be sent yet");
    }
}

static void start_timer(struct web *web, uint64_t time_ns) {
    loop_timer_start(web->request->loop, &web->serve->timer,
                     loop_now_ns(web->request->loop) + MIN(time_ns, UINT64_MAX / 4));
}

/* --- the request -------------------------------------------------------------------------- */

/* The head but for its end, which says how long the body is. */
static enum err make_head(struct web *web) {
    struct buf *head = &web->serve->request->head;
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
    return err ? err : web_forward_fields(web, head);
}

/* Its body is complete, or long: the program may have it. */
static void ripen(struct web *web) {
    struct web_serve *serve = web->serve;
    struct serve_request *request = serve->request;
    if (request->is_ripe) {
        return;
    }
    uint64_t length = 0;
    bool has_length = web->has_body;
    if (has_length && !http_content_length(web->request->exchange, &length)) {
        has_length = web->body_ended;
        length = serve->gathered;
    }
    enum err err = has_length
                       ? buf_printf(&request->head, "Content-Length: %" PRIu64 "\r\n\r\n", length)
                       : buf_append_str(&request->head, STR("\r\n"));
    if (err) {
        fail(web, 503, "the server is out of memory", err_text(err));
        return;
    }
    if (request->listener) {
        serve_request_ripen(request);
    } else {
        request->is_ripe = true; /* nobody else knows it yet */
    }
}

/* Finds it a place to wait. */
static void submit(struct web *web) {
    struct web_serve *serve = web->serve;
    struct request *request = web->request;
    struct instance *instance = NULL;
    uint64_t retry_ns = 0;
    enum err err = serve_request_watch(&request->op, serve->request) ? ERR_NOMEM : ERR_PIPE;
    for (unsigned tries = 0; err == ERR_PIPE && tries < 3; tries++) { /* it has ended just now */
        err = service_hold(request->api->services, request->loop, web->app, &instance, &retry_ns,
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
        web_serve_fail(web, err == ERR_PIPE ? ERR_AGAIN : err, retry_ns);
    }
}

/* --- the answer --------------------------------------------------------------------------- */

static enum err read_answer(struct web *web, void *data, size_t size, size_t *ret_length) {
    struct serve_request *request = web->serve->request;
    enum err err = serve_request_answer(request, data, size, ret_length);
    if (err == ERR_AGAIN) {
        err = serve_request_watch(&web->request->op, request);
        if (!err) { /* it may have come between the look and the wait */
            err = serve_request_answer(request, data, size, ret_length);
        }
    }
    return err == ERR_AGAIN ? ERR_PENDING : err;
}

static void answer_ended(struct web *web, enum err err) {
    if (err == ERR_NOMEM) {
        fail(web, 503, "the server is out of memory", err_text(err));
    } else if (err) {
        fail(web, 502, "the program of this page failed",
             "the program ended before it had closed /net/serve");
    } else if (web->document.response.gathered.length == 0) {
        fail(web, 502, "the program of this page gave no valid answer",
             "/net/serve was closed and nothing was written");
    } else {
        web_document_finish(web);
    }
}

static void step_answer(struct web *web) {
    struct web_serve *serve = web->serve;
    if (web->body_ended || serve_request_is_answered(serve->request)) {
        web_document_step(web);
    } else if (!loop_timer_is_started(&serve->timer) &&
               serve_request_is_stuck(serve->request, &serve->taken)) {
        start_timer(web, STUCK_NS);
    }
    if (web->request->responded && web->serve) {
        loop_timer_stop(&web->serve->timer);
    }
}

/* The program has asked for a connection. */
static void connect_it(struct web *web) {
    struct serve_request *request = serve_request_ref(web->serve->request);
    struct fifo body;
    serve_request_take_body(request, &body);
    loop_timer_stop(&web->serve->timer);
    web->body_waits = web->serve->body_waits;
    web_listen_start(web, serve_request_take_instance(request), request, &body);
    web_serve_done(web);
    serve_request_unref(request);
}

/* The instance has ended before anybody had taken it. */
static void submit_again(struct web *web) {
    service_done(serve_request_take_instance(web->serve->request));
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
        .name = "response to /net/serve", .read = read_answer, .ended = answer_ended};
    web->document.response.takes_status_line = true;
    if (make_head(web)) {
        fail(web, 503, "the server is out of memory", "no memory");
        return;
    }
    if (!web->has_body) {
        serve_request_body_end(serve->request);
        ripen(web);
    }
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

size_t web_serve_body(struct web *web, const uint8_t *data, size_t length) {
    struct web_serve *serve = web->serve;
    if (!web->has_body || serve_request_is_answered(serve->request)) {
        return length; /* it has answered without wanting all of it */
    }
    size_t taken = serve_request_body(serve->request, data, length);
    serve->gathered += taken;
    serve->body_waits = taken < length;
    if (taken < length || serve->gathered >= SERVE_BODY_BYTES) {
        ripen(web);
    }
    return taken;
}

void web_serve_body_end(struct web *web) {
    if (web->request->responded) {
        return;
    }
    serve_request_body_end(web->serve->request);
    ripen(web);
    if (!web->request->responded) {
        const struct runs_options *options = runs_get_options(web->request->api->runs);
        uint64_t wall_ns = web->app->limits.wall_ns;
        start_timer(web, wall_ns ? wall_ns : options->defaults.wall_ns);
        op_wake(&web->request->op); /* perhaps there is an answer already */
    }
}

void web_serve_step(struct web *web) {
    struct web_serve *serve = web->serve;
    struct serve_request *request = serve->request;
    if (web->document.is_pulled) {
        web_document_woken(web);
        return;
    }
    if (web->request->responded) {
        return;
    }
    if (serve_request_watch(&web->request->op, request)) {
        fail(web, 503, "the server is out of memory", "no memory");
        return;
    }
    if (serve->body_waits) {
        serve->body_waits = false;
        http_body_resume(web->request->exchange); /* if there is no room it waits again */
    }
    switch (serve_request_state(request)) {
    case SERVE_WAITING:
        break;
    case SERVE_CONNECTING:
        connect_it(web);
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
