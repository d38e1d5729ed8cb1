/* The web door: an app's own pages, at /web/NAME/PATH or at the host name NAME.localhost. Who may
 * see them is said by the app's `web`: those who have the control door (private, the default),
 * everybody (public), nobody (off). */
#include "api/handlers.h"
#include "api/web_internal.h"
#include "base/block.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define PREFIX "/web/"
/* Of a request's path and query in a line of the log. */
#define LOGGED_BYTES_MAX 200

/* A page below /web/ shares its origin with the control door and with other apps: it may run
 * scripts, but acts for nobody (it has an opaque origin). */
#define SANDBOX                                                                                    \
    "sandbox allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox allow-modals "  \
    "allow-downloads"

/* --- answers ---------------------------------------------------------------------------------- */

enum err web_add_headers(struct web *web) {
    return web->is_by_host
               ? ERR_OK
               : http_add_header(web->request->exchange, "Content-Security-Policy", SANDBOX);
}

void web_fail(struct web *web, int status, const char *sentence) {
    web->stage = WEB_DONE;
    if (web->run_id) {
        request_fail_status(web->request, status, "%s (run %" PRIu64 ")", sentence, web->run_id);
    } else {
        request_fail_status(web->request, status, "%s", sentence);
    }
}

/* " (GET /page?query)", as it was sent or redirected to; of a long one the beginning. */
static enum err append_request_line(const struct web *web, struct buf *line) {
    size_t path_length = MIN(web->raw_path.length, (size_t)LOGGED_BYTES_MAX);
    size_t query_length = MIN(web->raw_query.length, LOGGED_BYTES_MAX - path_length);
    bool is_whole = path_length == web->raw_path.length && query_length == web->raw_query.length;
    return buf_printf(line, " (" STR_FORMAT " %.*s%s%.*s%s)", STR_ARGS(web->method),
                      (int)path_length, web->raw_path.data, query_length > 0 ? "?" : "",
                      (int)query_length, query_length > 0 ? web->raw_query.data : "",
                      is_whole ? "" : "...");
}

enum err web_log_line(const struct web *web, const char *sentence, struct buf *ret_line) {
    enum err err = buf_append_str(ret_line, str_of(sentence));
    return err ? err : append_request_line(web, ret_line);
}

void web_log(struct web *web, const char *format, ...) {
    cleanup_buf struct buf line = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&line, format, arguments);
    va_end(arguments);
    err = err ? err : append_request_line(web, &line);
    struct applog *log = NULL;
    if (!err && applog_get(web->request->api->logs, web->app->id, &log) == ERR_OK) {
        applog_append(log, clock_realtime_ns(), web->run_id, "sys", buf_str(&line));
        applog_unref(log);
    }
}

enum err web_send_to(struct web *web, int status, struct str path_info) {
    cleanup_buf struct buf location = {0};
    enum err err = buf_append_str(&location, web->script_name);
    if (!err) {
        err = query_encode(path_info, true, &location);
    }
    if (!err) {
        err = buf_append_byte(&location, '/');
    }
    if (!err && web->raw_query.length > 0) {
        err = buf_printf(&location, "?" STR_FORMAT, STR_ARGS(web->raw_query));
    }
    if (!err) {
        err = http_add_header(web->request->exchange, "Location", buf_text(&location));
    }
    if (!err) {
        err = web_add_headers(web);
    }
    if (!err) {
        cleanup_buf struct buf text = {0};
        err = buf_printf(&text, "the page is at %s\n", buf_text(&location));
        web->stage = WEB_DONE;
        web->request->responded = true;
        http_respond(web->request->exchange, status, "text/plain; charset=utf-8", text.data,
                     err ? 0 : text.length);
        err = ERR_OK;
    }
    return err;
}

/* --- which app -------------------------------------------------------------------------------- */

/* Host names are compared without regard to case; names of apps have no capitals. */
static enum err find_by_host(struct web *web) {
    struct request *request = web->request;
    struct str label = request->web_host;
    char name[APP_NAME_MAX + 1];
    if (label.length > APP_NAME_MAX) {
        return ERR_NOENT;
    }
    for (size_t i = 0; i < label.length; i++) {
        char byte = label.data[i];
        name[i] = byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
    }
    web->is_by_host = true;
    web->path_info = buf_str(&request->path);
    return catalog_find(request->api->catalog, (struct str){name, label.length}, &web->app);
}

static enum err find_by_path(struct web *web) {
    struct str path = buf_str(&web->request->path);
    if (!str_starts(path, STR(PREFIX))) {
        return ERR_NOTSUP;
    }
    struct str rest = {path.data + strlen(PREFIX), path.length - strlen(PREFIX)};
    struct str name = str_cut(&rest, '/');
    web->script_name = (struct str){path.data, strlen(PREFIX) + name.length};
    web->path_info =
        (struct str){path.data + web->script_name.length, path.length - web->script_name.length};
    return catalog_find(web->request->api->catalog, name, &web->app);
}

/* Whether the client may; else it is answered. An app that is off is as if there were none, and who
 * may not see private pages is not told which apps there are. */
static bool check_access(struct web *web, enum err found) {
    struct request *request = web->request;
    const struct api *api = request->api;
    if (found == ERR_NOTSUP) { /* it names no app */
        request_fail_status(request, 404, "there is no page here; apps' pages are at /web/NAME/");
        return false;
    }
    uint64_t who = found ? APP_WEB_DEFAULT : web->app->limits.web;
    if (who == APP_WEB_PUBLIC) {
        return true;
    }
    const struct access *access = request->is_web_only ? &api->web_access : &api->access;
    enum access_verdict verdict =
        access_check_exchange(access, request->exchange, request->web_host.data != NULL);
    if (verdict == ACCESS_FOREIGN_ORIGIN && !web->is_by_host && !found) {
        /* Its own scripts and forms, too: they have no origin there. */
        request_fail_status(request, 403,
                            "pages of a private app work in a browser at its own host name only: "
                            "'0asm open %s' prints it",
                            web->app->name);
    } else if (verdict != ACCESS_GRANTED) {
        request_fail_status(request, access_http_status(verdict), "%s", access_explain(verdict));
    } else if (found && found != ERR_NOENT && found != ERR_INVAL) {
        request_fail(request, found, NULL);
    } else if (found || who == APP_WEB_OFF) {
        request_fail_status(request, 404, "there is no page here");
    } else {
        return true;
    }
    return false;
}

/* --- what answers ----------------------------------------------------------------------------- */

static bool is_get(const struct web *web) {
    return str_equal_text(web->method, "GET") || str_equal_text(web->method, "HEAD");
}

static void start_program(struct web *web) {
    web_static_done(web);
    if (web->app->limits.serve == APP_SERVE_LISTEN) {
        web->stage = WEB_SERVE;
        web_serve_start(web);
    } else {
        web->stage = WEB_CGI;
        web_cgi_start(web);
    }
}

static void step_static(struct web *web) {
    enum err err = web_static_step(web);
    if (err == ERR_NOENT) {
        start_program(web);
    } else if (err && err != ERR_PENDING) {
        log_warning("/www of '%s' can't be read: %s", web->app->name, err_text(err));
        web_fail(web, err == ERR_NOMEM ? 503 : 500, "the page can't be read");
    }
}

/* With all that is known of the request: a file, or the program. */
static void begin(struct web *web) {
    if (is_get(web)) {
        web->stage = WEB_STATIC;
        step_static(web);
    } else {
        start_program(web);
    }
}

/* The path of a local redirect as it is meant; false if it is no page of the app. */
static bool take_location(const struct web *web, const char *location, struct buf *ret_path) {
    struct str query = str_of(location);
    struct str raw_path = str_cut(&query, '?');
    if (strchr(location, '#') || query_decode(raw_path, false, ret_path) != ERR_OK ||
        !str_is_utf8(buf_str(ret_path))) {
        return false;
    }
    tree_path_normalize(ret_path);
    size_t length = web->script_name.length;
    return str_starts(buf_str(ret_path), web->script_name) && ret_path->length > length &&
           ret_path->data[length] == '/';
}

bool web_redirect(struct web *web, const char *location) {
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf raw = {0};
    if (!take_location(web, location, &path) || buf_append_str(&raw, str_of(location)) != ERR_OK) {
        return false;
    }
    if (web->redirects == WEB_REDIRECTS_MAX) {
        web_log(web, "bad CGI response: more than %d local redirects, one after the other",
                WEB_REDIRECTS_MAX);
        web_fail(web, 502, "the program of this page gave no valid answer");
        return true;
    }
    web->body_waits = web->cgi.body_waits || (web->serve && web->serve->body_waits);
    web_cgi_done(web);
    web_serve_done(web);
    web_document_done(&web->document); /* with `location`, which was its own */
    op_abandon(&web->request->op);
    web->redirects++;
    web->run_id = 0;
    buf_done(&web->redirected);
    buf_done(&web->redirected_raw);
    web->redirected = path;
    web->redirected_raw = raw;
    path = raw = (struct buf){0};
    web->path_info = (struct str){buf_text(&web->redirected) + web->script_name.length,
                                  web->redirected.length - web->script_name.length};
    web->raw_query = buf_str(&web->redirected_raw);
    web->raw_path = str_cut(&web->raw_query, '?');
    web->method = str_equal_text(web->method, "HEAD") ? STR("HEAD") : STR("GET");
    web->has_body = false;
    begin(web);
    return true;
}

/* --- the handler ------------------------------------------------------------------------------ */

static void start(struct request *request) {
    struct web *web = block_new(sizeof *web);
    if (!web) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = web;
    web->request = request;
    web->stage = WEB_DONE;
    web->method = http_method(request->exchange);
    web->raw_path = http_raw_path(request->exchange);
    web->raw_query = http_raw_query(request->exchange);
    web->has_body = http_has_body(request->exchange);
    enum err found = request->web_host.data ? find_by_host(web) : find_by_path(web);
    if (!check_access(web, found)) {
        return;
    }
    if (atomic_load_explicit(&request->api->shutting_down, memory_order_relaxed)) {
        request_fail_status(request, 503, "the server is stopping");
        return;
    }
    if (web->path_info.length == 0 && is_get(web)) {
        /* Relative links would lead to other apps. */
        if (web_send_to(web, 308, web->path_info)) {
            web_fail(web, 503, "the server is out of memory");
        }
        return;
    }
    begin(web);
}

static void start_stall_timer(struct web *web) {
    struct loop *loop = web->request->loop;
    loop_timer_start(loop, &web->stall, loop_now_ns(loop) + WEB_STALL_NS);
}

/* The program takes nothing of the body for a while. It may never do so, and what it has answered
 * must not wait for that: nor would it ever be seen that the client has gone, whose end is behind
 * what waits. */
static void body_stalls(struct loop_timer *timer) {
    struct web *web = CONTAINER_OF(timer, struct web, stall);
    if (web->request->responded) {
        return;
    }
    start_stall_timer(web);
    if (web->stage == WEB_CGI) {
        web_cgi_stalled(web);
    } else if (web->stage == WEB_SERVE) {
        web_serve_stalled(web);
    }
}

static void watch_body(struct web *web, size_t taken, size_t length) {
    if (taken > 0) {
        loop_timer_stop(&web->stall);
    }
    if (taken < length && !web->request->responded && !loop_timer_is_started(&web->stall)) {
        loop_timer_init(&web->stall, body_stalls);
        start_stall_timer(web);
    }
}

static size_t body(struct request *request, const uint8_t *data, size_t length) {
    struct web *web = request->state;
    size_t taken = length;
    switch (web->stage) {
    case WEB_STATIC:
        web->body_waits = true;
        return 0;
    case WEB_CGI:
        taken = web_cgi_body(web, data, length);
        break;
    case WEB_SERVE:
        taken = web_serve_body(web, data, length);
        break;
    case WEB_DONE:
        break;
    }
    watch_body(web, taken, length);
    return taken;
}

static void body_end(struct request *request) {
    struct web *web = request->state;
    if (!web) {
        return;
    }
    web->body_ended = true;
    if (web->stage == WEB_CGI) {
        web_cgi_body_end(web);
    } else if (web->stage == WEB_SERVE) {
        web_serve_body_end(web);
    }
}

static void step(struct request *request) {
    struct web *web = request->state;
    if (web->stage == WEB_STATIC) {
        step_static(web);
    } else if (web->stage == WEB_CGI) {
        web_cgi_step(web);
    } else if (web->stage == WEB_SERVE) {
        web_serve_step(web);
    }
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct web *web = request->state;
    if (!web) {
        return;
    }
    loop_timer_stop(&web->stall);
    web_cgi_done(web);
    web_serve_done(web);
    web_document_done(&web->document);
    web_static_done(web);
    app_unref(web->app);
    buf_done(&web->redirected);
    buf_done(&web->redirected_raw);
    block_free(web, sizeof *web);
}

const struct request_handler web_handler = {
    .start = start,
    .body = body,
    .body_end = body_end,
    .step = step,
    .end = end,
};
