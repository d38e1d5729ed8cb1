#include "api/api.h"

#include "api/handlers.h"
#include "api/tree.h"
#include "base/block.h"

#include <stdio.h>
#include <strings.h>

#define REQUEST_PATH_BYTES_MAX (16 * KIB)

/* Of what is for the web door, whether or not its path says so. */
static const struct route web_route = {.method = "*", .handler = &web_handler, .role = ROLE_WEB};

/* --- the form that the client wants ------------------------------------------------------- */

/* Whether a list of a header (RFC 9110 section 5.6.1) has the item, whatever its parameters. */
static bool accepts(struct str accept, const char *type) {
    while (accept.length > 0) {
        struct str item = str_cut(&accept, ',');
        struct str name = str_cut(&item, ';');
        while (name.length > 0 && name.data[0] == ' ') {
            name.data++;
            name.length--;
        }
        while (name.length > 0 && name.data[name.length - 1] == ' ') {
            name.length--;
        }
        if (name.length == strlen(type) && strncasecmp(name.data, type, name.length) == 0) {
            return true;
        }
    }
    return false;
}

static enum request_accept accept_of(const struct http_exchange *exchange) {
    struct str accept = http_header(exchange, "Accept");
    if (!accept.data) {
        return ACCEPT_TEXT;
    }
    if (accepts(accept, "application/x-ndjson")) {
        return ACCEPT_NDJSON;
    }
    if (accepts(accept, "application/json") || accepts(accept, "application/problem+json")) {
        return ACCEPT_JSON;
    }
    return accepts(accept, "application/x-tar") ? ACCEPT_TAR : ACCEPT_TEXT;
}

bool request_accepts_trailers(const struct request *request) {
    return accepts(http_header(request->exchange, "TE"), "trailers");
}

/* --- routes ------------------------------------------------------------------------------- */

/* A "*" between two slashes stands for one component, at the end of the pattern for whatever
 * follows there. */
static bool route_matches(const struct route *route, struct str path) {
    /* What comes before the first "*" tells nearly all of them apart. */
    for (size_t i = 0; route->path[i] && route->path[i] != '*'; i++) {
        if (i == path.length || path.data[i] != route->path[i]) {
            return false;
        }
    }
    struct str pattern = str_of(route->path);
    if (str_equal(pattern, path)) {
        return true;
    }
    while (pattern.data) {
        struct str expected = str_cut(&pattern, '/');
        struct str given = str_cut(&path, '/');
        bool is_last = pattern.data == NULL;
        if (is_last && expected.length > 1 && expected.data[expected.length - 1] == '*') {
            expected.length--;
            return str_equal(expected, given);
        }
        bool matches =
            str_equal_text(expected, "*") ? given.length > 0 : str_equal(expected, given);
        if (!matches || is_last != (path.data == NULL)) {
            return false;
        }
    }
    return true;
}

/* HEAD is GET. */
static bool is_method(const struct route *route, struct str method) {
    return str_equal_text(str_equal_text(method, "HEAD") ? STR("GET") : method, route->method);
}

static const struct route *find_route(struct str method, struct str path) {
    for (size_t i = 0; i < route_count; i++) {
        const struct route *route = &routes[i];
        if (route_matches(route, path) && (is_method(route, method) || route->method[0] == '*')) {
            return route;
        }
    }
    return NULL;
}

/* The methods that the request's path has, each once, without the one that was refused. */
static void list_methods(const struct request *request, struct buf *list) {
    for (size_t i = 0; i < route_count; i++) {
        const struct route *route = &routes[i];
        if (route_matches(route, buf_str(&request->path)) &&
            !is_method(route, http_method(request->exchange)) &&
            !accepts(buf_str(list), route->method)) {
            (void)!buf_printf(list, "%s%s", list->length ? ", " : "",
                              str_equal_text(STR("GET"), route->method) ? "GET, HEAD"
                                                                        : route->method);
        }
    }
}

/* --- answers ------------------------------------------------------------------------------ */

/* What guests or users wrote may be looked at in a browser, but never acts there as a page of ours.
 * A failure that is found late has the field already. */
static void add_common_headers(struct request *request) {
    static const char name[] = "Content-Security-Policy";
    if (!http_has_added(request->exchange, name)) {
        enum err ignored = http_add_header(request->exchange, name, "sandbox");
        (void)ignored;
    }
}

void request_respond_text(struct request *request, int status, struct str text) {
    request->responded = true;
    add_common_headers(request);
    http_respond(request->exchange, status, "text/plain; charset=utf-8", text.data, text.length);
}

void request_respond_json(struct request *request, int status, json_t *json) {
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(json);
    request->responded = true;
    if (!text) {
        http_respond(request->exchange, 503, "text/plain; charset=utf-8", "error: out of memory\n",
                     strlen("error: out of memory\n"));
        return;
    }
    cleanup_buf struct buf line = {0};
    if (buf_printf(&line, "%s\n", text)) {
        line.length = 0;
    }
    free(text);
    add_common_headers(request);
    http_respond(request->exchange, status,
                 status >= 400 ? "application/problem+json" : "application/json", line.data,
                 line.length);
}

void request_respond_empty(struct request *request, int status) {
    request->responded = true;
    http_respond(request->exchange, status, NULL, NULL, 0);
}

/* Before the client can ask for the counters. */
static void count_failure(struct request *request, int status) {
    struct api *api = request->api;
    bool is_access = status == 401 || status == 403 || status == 421;
    const struct route *route = request->refused ? NULL : request->route;
    if (is_access && (!route || route->role == ROLE_WEB)) {
        atomic_fetch_add_explicit(&api->refused_access, 1, memory_order_relaxed);
    } else if (!route) {
        atomic_fetch_add_explicit(&api->refused_requests, 1, memory_order_relaxed);
    } else if (route->handler->failing) {
        route->handler->failing(request, status);
    }
}

static void fail_with(struct request *request, int status, const char *name, const char *text) {
    count_failure(request, status);
    if (status == 401) {
        enum err ignored =
            http_add_header(request->exchange, "WWW-Authenticate", "Bearer realm=\"0asm\"");
        (void)ignored;
    }
    if (status == 405) { /* RFC 9110 section 15.5.6 */
        cleanup_buf struct buf allowed = {0};
        list_methods(request, &allowed);
        enum err ignored = http_add_header(request->exchange, "Allow",
                                           request->allow ? request->allow : buf_text(&allowed));
        (void)ignored;
    }
    if (status == 503 || status == 429) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", MAX(request->retry_after_s, 1u));
        enum err ignored = http_add_header(request->exchange, "Retry-After", seconds);
        (void)ignored;
    }
    if (request->accept == ACCEPT_JSON || request->accept == ACCEPT_NDJSON) {
        /* RFC 9457; `error` is the name by which programs tell errors apart. */
        json_t *problem = json_pack("{s:s, s:i, s:s, s:s}", "type", "about:blank", "status", status,
                                    "detail", text, "error", name);
        if (!problem) { /* the text is not UTF-8 */
            problem = json_pack("{s:s, s:i, s:s}", "type", "about:blank", "status", status, "error",
                                name);
        }
        request_respond_json(request, status, problem);
        return;
    }
    cleanup_buf struct buf line = {0};
    if (buf_printf(&line, "error: %s\n", text)) {
        line.length = 0;
    }
    request_respond_text(request, status, buf_str(&line));
}

void request_fail(struct request *request, enum err err, const struct buf *message) {
    const char *text = message && message->length > 0 ? buf_text(message) : err_text(err);
    fail_with(request, err_http_status(err), err_name(err), text);
}

/* The error of docs/http.md that an answer of this status, which has no other, is of. */
static const char *name_of_status(int status) {
    static const struct {
        int status;
        enum err err;
    } rows[] = {
        {400, ERR_INVAL}, {403, ERR_ACCES}, {404, ERR_NOENT},       {405, ERR_NOTSUP},
        {409, ERR_EXIST}, {413, ERR_FBIG},  {414, ERR_NAMETOOLONG}, {429, ERR_AGAIN},
        {502, ERR_IO},    {503, ERR_AGAIN}, {504, ERR_TIMEDOUT},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (rows[i].status == status) {
            return err_name(rows[i].err);
        }
    }
    return "refused";
}

void request_fail_status(struct request *request, int status, const char *format, ...) {
    cleanup_buf struct buf text = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&text, format, arguments);
    va_end(arguments);
    fail_with(request, status, name_of_status(status), err ? err_text(err) : buf_text(&text));
}

/* --- parameters --------------------------------------------------------------------------- */

struct trace_fields {
    size_t parents;
    struct buf state;
    enum err err; /* of the state */
};

static bool is_field(struct str name, const char *wanted) {
    return name.length == strlen(wanted) && strncasecmp(name.data, wanted, name.length) == 0;
}

static void take_trace_field(void *argument, struct str name, struct str value) {
    struct trace_fields *fields = argument;
    fields->parents += is_field(name, "traceparent");
    if (!fields->err && is_field(name, "tracestate")) {
        fields->err = buf_printf(&fields->state, STR_FORMAT ",", STR_ARGS(value));
    }
}

void request_join_trace(struct request *request) {
    struct str header = http_header(request->exchange, "traceparent");
    if (!header.data || traceparent_parse(header, &request->traceparent) != ERR_OK) {
        return;
    }
    struct trace_fields fields = {0};
    http_headers_each(request->exchange, take_trace_field, &fields);
    if (fields.parents == 1) { /* of two, none is believed */
        request->who.traceparent = &request->traceparent;
        if (!fields.err &&
            tracestate_parse(buf_str(&fields.state), &request->tracestate) == ERR_OK) {
            request->who.tracestate = buf_str(&request->tracestate);
        }
    }
    buf_done(&fields.state);
}

struct str request_second_component(const struct request *request) {
    struct str rest = buf_str(&request->path);
    str_cut(&rest, '/');
    str_cut(&rest, '/');
    return str_cut(&rest, '/');
}

bool request_find_app(struct request *request, struct app **ret_app) {
    struct str name = request_second_component(request);
    struct app *app = NULL;
    enum err err = catalog_find(request->api->catalog, name, &app);
    if (!err && app->owner_id != request->who.owner_id) {
        app_unref(app);
        err = ERR_NOENT;
    }
    if (err) {
        request_fail_status(request, 404, "no app named '" STR_FORMAT "'; GET /apps lists them",
                            STR_ARGS(name));
        return false;
    }
    *ret_app = app;
    return true;
}

struct str request_parameter(const struct request *request, const char *name) {
    const struct query_pair *pair = query_find(&request->query, name);
    return pair ? pair->value : (struct str){0};
}

bool request_has_parameter(const struct request *request, const char *name) {
    return query_find(&request->query, name) != NULL;
}

static bool is_among(struct str name, const char *const *words) {
    for (; *words; words++) {
        if (str_equal_text(name, *words)) {
            return true;
        }
    }
    return false;
}

void request_fail_unknown_parameter(struct request *request, struct str name,
                                    const char *const *allowed) {
    const char *nearest = app_config_nearest(name, allowed);
    cleanup_buf struct buf list = {0};
    for (const char *const *known = allowed; *known; known++) {
        if (buf_printf(&list, "%s%s", list.length ? ", " : "", *known)) {
            break; /* the list is shorter then */
        }
    }
    if (nearest) {
        request_fail_status(request, 400,
                            "no parameter '" STR_FORMAT "'; did you mean '%s'? Known are: %s",
                            STR_ARGS(name), nearest, buf_text(&list));
    } else {
        request_fail_status(request, 400, "no parameter '" STR_FORMAT "'; known are: %s",
                            STR_ARGS(name), buf_text(&list));
    }
}

bool request_check_parameters(struct request *request, const char *const *allowed) {
    for (size_t i = 0; i < request->query.count; i++) {
        if (!is_among(request->query.pairs[i].name, allowed)) {
            request_fail_unknown_parameter(request, request->query.pairs[i].name, allowed);
            return false;
        }
    }
    return true;
}

/* --- the life of a request ---------------------------------------------------------------- */

static void request_woken(struct op *op) {
    struct request *request = CONTAINER_OF(op, struct request, op);
    if (request->route && !request->refused && request->route->handler->step) {
        request->route->handler->step(request);
    }
}

/* The path as it is meant: decoded, without dots. False if that was answered. */
static bool take_path(struct request *request) {
    struct str raw_path = http_raw_path(request->exchange);
    if (raw_path.length > REQUEST_PATH_BYTES_MAX) {
        request_fail_status(request, 414, "the path is longer than %d bytes",
                            (int)REQUEST_PATH_BYTES_MAX);
        return false;
    }
    /* A proxy before us takes "%2F" for a part of a name and may have let it pass for that. */
    bool is_plain = raw_path.length > 0 && !memchr(raw_path.data, '%', raw_path.length);
    if (!is_plain && (memmem(raw_path.data, raw_path.length, "%2F", 3) ||
                      memmem(raw_path.data, raw_path.length, "%2f", 3))) {
        request_fail_status(request, 400, "a name has no slash in it: %%2F can't be in a path");
        return false;
    }
    enum err err = is_plain ? buf_append_str(&request->path, raw_path)
                            : query_decode(raw_path, false, &request->path);
    if (err || !str_is_utf8(buf_str(&request->path))) {
        request_fail_status(request, 400,
                            "the path is not valid: percent-encoded UTF-8 without "
                            "NUL is expected");
        return false;
    }
    tree_path_normalize(&request->path);
    return true;
}

static void hand_over(struct request *request, const struct route *route) {
    request->route = route;
    request->refused = false;
    route->handler->start(request);
}

/* Whether the request is for an app's own pages: by its host name, or because there is nothing else
 * where it came in. */
static bool is_for_web(struct request *request) {
    struct str host = http_header(request->exchange, "Host");
    struct str label = {0};
    if (access_host_app(&request->api->access, host, &label)) {
        request->web_host = label;
        return true;
    }
    return request->is_web_only;
}

static void fail_without_route(struct request *request) {
    cleanup_buf struct buf allowed = {0};
    list_methods(request, &allowed);
    if (allowed.length > 0) {
        request_fail_status(request, 405, STR_FORMAT " can't be done here; this path has: %s",
                            STR_ARGS(http_method(request->exchange)), buf_text(&allowed));
        return;
    }
    request_fail_status(request, 404, "there is nothing at %s; GET / lists what there is",
                        buf_text(&request->path));
}

static void begin_any(struct api *api, struct http_exchange *exchange, bool is_web_only) {
    struct request *request = block_new(sizeof *request);
    if (!request) {
        http_abort(exchange);
        return;
    }
    request->api = api;
    request->exchange = exchange;
    request->loop = http_exchange_loop(exchange);
    request->accept = accept_of(exchange);
    request->refused = true; /* until a handler has it */
    request->is_web_only = is_web_only;
    request->who = (struct who){.owner_id = 1, .may_control = true};
    op_init(&request->op, request->loop, &request->who, request_woken);
    request->op.message = &request->message;
    http_exchange_set_user(exchange, request);
    atomic_fetch_add_explicit(&api->requests, 1, memory_order_relaxed);

    if (!take_path(request)) {
        return;
    }
    if (is_for_web(request) || str_starts(buf_str(&request->path), STR("/web/"))) {
        hand_over(request, &web_route);
        return;
    }
    const struct route *route = find_route(http_method(exchange), buf_str(&request->path));
    if (route && route->role == ROLE_WEB) {
        hand_over(request, route);
        return;
    }
    enum err err = query_parse(http_raw_query(exchange), &request->query);
    if (err) {
        request_fail_status(request, 400, "the query is not valid: %s",
                            err == ERR_2BIG ? "too many parameters"
                                            : "percent-encoded UTF-8 without NUL is expected");
        return;
    }
    enum access_verdict verdict = route && route->role == ROLE_PUBLIC
                                      ? ACCESS_GRANTED
                                      : access_check_exchange(&api->access, exchange, false);
    if (verdict != ACCESS_GRANTED) {
        request_fail_status(request, access_http_status(verdict), "%s", access_explain(verdict));
        return;
    }
    if (!route) {
        fail_without_route(request);
        return;
    }
    hand_over(request, route);
}

static void begin(void *context, struct http_exchange *exchange) {
    begin_any(context, exchange, false);
}

static void begin_web(void *context, struct http_exchange *exchange) {
    begin_any(context, exchange, true);
}

static size_t body(void *context, struct http_exchange *exchange, const uint8_t *data,
                   size_t length) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    if (!request || request->refused || (request->responded && !request->keeps_body) ||
        !request->route->handler->body) {
        return length; /* a body that nobody asked for means nothing (RFC 9110 section 9.3.1) */
    }
    return request->route->handler->body(request, data, length);
}

static void body_end(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    if (request && !request->refused && request->route->handler->body_end) {
        request->route->handler->body_end(request);
    }
}

static void end(void *context, struct http_exchange *exchange, bool completed) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    if (!request) {
        return;
    }
    op_done(&request->op);
    if (!request->refused && request->route->handler->end) {
        request->route->handler->end(request, completed);
    }
    buf_done(&request->path);
    buf_done(&request->message);
    buf_done(&request->tracestate);
    query_done(&request->query);
    block_free(request, sizeof *request);
}

struct http_application api_web_application(struct api *api) {
    struct http_application application = api_application(api);
    application.begin = begin_web;
    return application;
}

struct http_application api_application(struct api *api) {
    return (struct http_application){
        .context = api,
        .begin = begin,
        .body = body,
        .body_end = body_end,
        .end = end,
    };
}
