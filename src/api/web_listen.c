/* serve=listen: a request of the web door that a program has claimed by accept (web_serve.c) goes
 * on to it by a connection of its own. HTTP is spoken by libcurl; both bodies stream.
 *
 * libcurl connects to a socket of the loop's own (AF_UNIX, in no file system); what is accepted
 * there at once is the program's end. A socket pair would do, but libcurl 7.88 connects also those
 * that are said to be connected.
 *
 * What follows an answer of the request's body is dropped; so what the program answers before the
 * request has ended waits here, up to EARLY_MAX. */
#include "api/web_internal.h"

#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    WINDOW = 64 * 1024,      /* bytes of a body that wait, in each direction */
    EARLY_MAX = 1024 * 1024, /* of an answer that comes before the request has ended */
};

static void wake(struct web_listen *listen) {
    op_wake(&listen->web->request->op);
}

/* --- what libcurl calls ------------------------------------------------------------------- */

/* A new head begins; what came before was one of 1xx. */
static void begin_head(struct web_listen *listen, struct str line) {
    uint64_t status = 0;
    str_cut(&line, ' ');
    struct str number = str_cut(&line, ' ');
    number.length = MIN(number.length, (size_t)3);
    listen->status = str_to_u64(number, &status) ? 0 : (int)status;
    listen->fields.length = 0;
    listen->has_length = false;
}

static struct str trim(struct str text) {
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 && strchr(" \t\r\n", text.data[text.length - 1])) {
        text.length--;
    }
    return text;
}

static bool is_named(struct str name, const char *other) {
    return name.length == strlen(other) && strncasecmp(name.data, other, name.length) == 0;
}

static bool take_field(struct web_listen *listen, struct str line) {
    struct str value = line;
    struct str name = str_cut(&value, ':');
    value = trim(value);
    if (!value.data || memchr(name.data, 0, name.length) || memchr(value.data, 0, value.length)) {
        return false;
    }
    if (is_named(name, "Content-Length")) {
        listen->has_length = str_to_u64(value, &listen->length) == ERR_OK;
        return listen->has_length && listen->length <= INT64_MAX;
    }
    if (is_named(name, "Transfer-Encoding")) {
        listen->is_chunked = true;
    }
    if (cgi_is_kept_back(name)) {
        return true;
    }
    return buf_append_str(&listen->fields, name) == ERR_OK &&
           buf_append_byte(&listen->fields, 0) == ERR_OK &&
           buf_append_str(&listen->fields, value) == ERR_OK &&
           buf_append_byte(&listen->fields, 0) == ERR_OK;
}

static size_t on_head(char *data, size_t size, size_t count, void *context) {
    struct web_listen *listen = context;
    struct str line = {data, size * count};
    if (listen->head_done) {
        return line.length; /* trailers */
    }
    listen->head_bytes += line.length;
    if (listen->head_bytes > CGI_HEAD_BYTES_MAX) {
        return 0;
    }
    if (str_starts(line, STR("HTTP/"))) {
        begin_head(listen, line);
    } else if (trim(line).length > 0) {
        return take_field(listen, line) ? line.length : 0;
    } else if (listen->status >= 200) {
        listen->head_done = true;
        wake(listen);
    } else if (listen->status == 101) {
        return 0; /* nobody has asked for another protocol */
    }
    return line.length;
}

static size_t on_write(char *data, size_t size, size_t count, void *context) {
    struct web_listen *listen = context;
    size_t length = size * count;
    size_t waiting = fifo_length(&listen->answer);
    if (listen->web->body_ended && waiting > 0 && waiting + length > WINDOW) {
        listen->recv_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (waiting + length > EARLY_MAX || fifo_append(&listen->answer, data, length) != ERR_OK) {
        return 0;
    }
    wake(listen);
    return length;
}

static size_t on_read(char *data, size_t size, size_t count, void *context) {
    struct web_listen *listen = context;
    size_t length = fifo_take(&listen->body, data, size * count);
    if (length > 0) {
        if (listen->body_waits) {
            wake(listen);
        }
        return length;
    }
    if (listen->web->body_ended) {
        return 0;
    }
    listen->send_paused = true;
    return CURL_READFUNC_PAUSE;
}

static void release_instance(struct web_listen *listen) {
    if (listen->instance) {
        service_done(STEAL(listen->instance));
    }
}

static void on_done(struct net_easy *easy, CURLcode result) {
    struct web_listen *listen = CONTAINER_OF(easy, struct web_listen, easy);
    listen->is_over = true;
    listen->result = result;
    release_instance(listen);
    wake(listen);
}

/* After something that libcurl waits for has come. Not from inside of its callbacks. */
static void unpause(struct web_listen *listen) {
    if (!listen->is_over && listen->easy.multi) {
        curl_easy_pause(listen->easy.curl, (listen->send_paused ? CURLPAUSE_SEND : 0) |
                                               (listen->recv_paused ? CURLPAUSE_RECV : 0));
    }
}

/* --- the request -------------------------------------------------------------------------- */

static enum err add_line(struct web_listen *listen, const char *line) {
    struct curl_slist *longer = curl_slist_append(listen->lines, line);
    if (!longer) {
        return ERR_NOMEM;
    }
    listen->lines = longer;
    return ERR_OK;
}

/* The fields as libcurl takes them: it takes "NAME:" for "leave it out", "NAME;" for an empty one.
 */
static enum err add_fields(struct web *web) {
    cleanup_buf struct buf fields = {0};
    enum err err = web_forward_fields(web, &fields);
    char *at = (char *)fields.data, *end;
    for (; !err && *at; at = end + 2) {
        end = strstr(at, "\r\n");
        end[0] = '\0';
        char *colon = strchr(at, ':');
        if (colon[2] == '\0') {
            colon[0] = ';';
            colon[1] = '\0';
        }
        err = add_line(web->listen, at);
    }
    /* Not libcurl's own. */
    static const char *const absent[] = {"Expect", "Accept", "User-Agent", "Content-Type"};
    for (size_t i = 0; !err && i < ARRAY_LENGTH(absent); i++) {
        char line[16];
        snprintf(line, sizeof line, "%s:", absent[i]);
        if (i == 0 || !http_header(web->request->exchange, absent[i]).data) {
            err = add_line(web->listen, line);
        }
    }
    return err;
}

static enum err set_target(struct web *web, CURL *curl) {
    cleanup_buf struct buf target = {0};
    enum err err = web_forward_target(web, &target);
    if (!err && curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, buf_text(&target)) != CURLE_OK) {
        err = ERR_NOMEM;
    }
    return err;
}

static void set_body(struct web *web, CURL *curl) {
    struct web_listen *listen = web->listen;
    char method[64];
    snprintf(method, sizeof method, STR_FORMAT, STR_ARGS(web->method));
    if (str_equal_text(web->method, "HEAD")) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (web->has_body) {
        uint64_t length = 0;
        bool has_length = http_content_length(web->request->exchange, &length);
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                         has_length ? (curl_off_t)length : (curl_off_t)-1);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, listen);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

static enum err set_up(struct web *web, const struct web_wire *wire) {
    struct web_listen *listen = web->listen;
    enum err err = net_easy_new(on_done, &listen->easy);
    if (err) {
        return err;
    }
    CURL *curl = listen->easy.curl;
    err = add_fields(web);
    if (!err) {
        err = set_target(web, curl);
    }
    if (err) {
        return err;
    }
    curl_easy_setopt(curl, CURLOPT_URL, "http://127.0.0.1/");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, listen->lines);
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 0L); /* it is no TCP */
    curl_easy_setopt(curl, CURLOPT_ABSTRACT_UNIX_SOCKET, wire->name);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, listen);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, listen);
    set_body(web, curl);
    return ERR_OK;
}

/* --- the wire ----------------------------------------------------------------------------- */

/* The kernel gives it a name that no other socket has. */
static enum err open_wire(struct web_wire *wire) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    wire->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->listener < 0) {
        return ERR_NFILE;
    }
    const size_t name_at = offsetof(struct sockaddr_un, sun_path) + 1;
    if (bind(wire->listener, (struct sockaddr *)&address, sizeof address.sun_family) != 0 ||
        getsockname(wire->listener, (struct sockaddr *)&address, &length) != 0 ||
        listen(wire->listener, 16) != 0 || length <= name_at ||
        length - name_at >= sizeof wire->name) {
        close(wire->listener);
        return ERR_NFILE;
    }
    memcpy(wire->name, address.sun_path + 1, length - name_at);
    return ERR_OK;
}

/* The loop's, made when first needed. */
static enum err get_wire(struct web *web, struct web_wire **ret_wire) {
    struct web_wire *wire = &web->request->api->wires[loop_index(web->request->loop)];
    enum err err = ERR_OK;
    if (!wire->name[0]) {
        err = open_wire(wire);
    }
    if (!err && !wire->multi) {
        err = net_multi_new(web->request->loop, 1, &wire->multi);
    }
    *ret_wire = wire;
    return err;
}

void web_wire_done(struct web_wire *wire) {
    net_multi_free(STEAL(wire->multi));
    if (wire->name[0]) {
        close(wire->listener);
        wire->name[0] = '\0';
    }
}

/* The other end of what libcurl has just connected: it alone, since others on this machine could
 * connect, too. */
static int accept_own(const struct web_wire *wire) {
    for (;;) {
        int descriptor = accept4(wire->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct ucred peer;
        socklen_t length = sizeof peer;
        if (descriptor < 0 ||
            (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
             peer.pid == getpid())) {
            return descriptor;
        }
        close(descriptor);
    }
}

/* --- starting ----------------------------------------------------------------------------- */

/* Lets libcurl connect, and gives the other end to the program. */
static enum err connect_program(struct web *web, struct serve_request *claimed) {
    struct web_listen *listen = web->listen;
    struct web_wire *wire;
    enum err err = get_wire(web, &wire);
    if (!err) {
        err = set_up(web, wire);
    }
    if (!err) {
        err = net_multi_add(wire->multi, &listen->easy);
    }
    if (err) {
        return err;
    }
    net_multi_kick(wire->multi);
    int descriptor = accept_own(wire);
    if (descriptor < 0) {
        return ERR_NFILE;
    }
    err = service_connect(listen->instance, claimed, descriptor, &web->request->message);
    if (err) {
        close(descriptor);
    }
    return err;
}

/* --- the answer --------------------------------------------------------------------------- */

static void time_is_over(struct loop_timer *timer) {
    struct web_listen *listen = CONTAINER_OF(timer, struct web_listen, timer);
    if (!listen->web->request->responded) {
        web_log(listen->web, "no answer to a request of the web door in time");
        web_fail(listen->web, 504, "the program of this page did not answer in time");
    }
}

static void start_timer(struct web *web) {
    const struct runs_options *options = runs_get_options(web->request->api->runs);
    uint64_t wall_ns =
        web->app->limits.wall_ns ? web->app->limits.wall_ns : options->defaults.wall_ns;
    loop_timer_start(web->request->loop, &web->listen->timer,
                     loop_now_ns(web->request->loop) + MIN(wall_ns, UINT64_MAX / 4));
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct web_listen *listen = argument;
    listen->waiting = false;
    size_t length = fifo_take(&listen->answer, buffer, size);
    if (listen->recv_paused && fifo_length(&listen->answer) <= WINDOW / 2) {
        listen->recv_paused = false;
        unpause(listen); /* may bring more at once */
    }
    if (length > 0) {
        *ret_length = length;
        return HTTP_PULL_DATA;
    }
    if (listen->is_over) {
        return listen->result == CURLE_OK ? HTTP_PULL_END : HTTP_PULL_ABORT;
    }
    listen->waiting = true;
    return HTTP_PULL_WAIT;
}

/* Name and value of each field, as http_add_header has them. */
static enum err add_head(struct web *web, const char **ret_type) {
    struct web_listen *listen = web->listen;
    struct http_exchange *exchange = web->request->exchange;
    size_t room = http_head_room(exchange);
    enum err err = web_add_headers(web);
    struct str fields = buf_str(&listen->fields);
    const char *end = fields.data + fields.length;
    for (const char *name = fields.data; !err && name < end;) {
        const char *value = name + strlen(name) + 1;
        size_t cost = strlen(name) + strlen(value) + 4 + 64;
        if (cost > room) {
            return ERR_2BIG;
        }
        room -= cost;
        if (strcasecmp(name, "Content-Type") == 0 && !*ret_type) {
            *ret_type = value;
        } else {
            err = http_add_header(exchange, name, value);
        }
        name = value + strlen(value) + 1;
    }
    return err;
}

static void respond(struct web *web) {
    struct web_listen *listen = web->listen;
    const char *type = NULL;
    loop_timer_stop(&listen->timer);
    if (listen->status > 599 || add_head(web, &type)) {
        web_log(web, "bad answer to a request of the web door: its head");
        web_fail(web, 502, "the program of this page gave no valid answer");
        return;
    }
    struct http_exchange *exchange = web->request->exchange;
    web->request->responded = true;
    if (listen->status == 204 || listen->status == 304) {
        http_respond(exchange, listen->status, type, NULL, 0);
        return;
    }
    bool has_length = listen->has_length && !listen->is_chunked;
    http_respond_stream(exchange, listen->status, type,
                        has_length ? listen->length : HTTP_LENGTH_UNKNOWN, pull, listen);
}

/* It ended before its head was complete. */
static void fail_over(struct web *web) {
    struct web_listen *listen = web->listen;
    loop_timer_stop(&listen->timer);
    web_log(web, "no answer to a request of the web door: %s", curl_easy_strerror(listen->result));
    web_fail(web, 502, "the program of this page failed");
}

/* --- what web.c calls --------------------------------------------------------------------- */

void web_listen_start(struct web *web, struct instance *instance, struct serve_request *claimed,
                      struct fifo *body) {
    struct web_listen *listen = calloc(1, sizeof *listen);
    if (!listen) {
        service_done(instance);
        fifo_done(body);
        web_fail(web, 503, "the server is out of memory");
        return;
    }
    web->listen = listen;
    web->stage = WEB_LISTEN;
    listen->web = web;
    listen->instance = instance;
    listen->body = *body;
    *body = (struct fifo){0};
    listen->body_waits = web->body_waits;
    web->body_waits = false;
    loop_timer_init(&listen->timer, time_is_over);
    enum err err = connect_program(web, claimed);
    if (err) {
        net_easy_free(&listen->easy);
        listen->easy = (struct net_easy){0};
        release_instance(listen);
        web_serve_fail(web, err, 0);
        return;
    }
    if (listen->body_waits) {
        listen->body_waits = false;
        http_body_resume(web->request->exchange);
    }
    if (web->body_ended) {
        web_listen_body_end(web);
    }
}

size_t web_listen_body(struct web *web, const uint8_t *data, size_t length) {
    struct web_listen *listen = web->listen;
    if (listen->is_over) {
        return length; /* it has answered without wanting all of it */
    }
    size_t waiting = fifo_length(&listen->body);
    size_t taken = MIN(length, waiting < WINDOW ? WINDOW - waiting : 0);
    if (taken == 0 || fifo_append(&listen->body, data, taken) != ERR_OK) {
        listen->body_waits = true;
        return 0;
    }
    if (listen->send_paused) {
        listen->send_paused = false;
        unpause(listen);
    }
    listen->body_waits = taken < length;
    return taken;
}

void web_listen_body_end(struct web *web) {
    struct web_listen *listen = web->listen;
    if (web->request->responded) {
        return;
    }
    if (listen->send_paused) {
        listen->send_paused = false;
        unpause(listen);
    }
    start_timer(web);
    wake(listen);
}

void web_listen_step(struct web *web) {
    struct web_listen *listen = web->listen;
    if (web->request->responded) {
        if (listen->waiting) {
            listen->waiting = false;
            http_pull_resume(web->request->exchange);
        }
        return;
    }
    if (listen->head_done && (web->body_ended || listen->is_over)) {
        respond(web);
    } else if (listen->is_over) {
        fail_over(web);
    }
    if (listen->body_waits && (listen->is_over || fifo_length(&listen->body) < WINDOW)) {
        listen->body_waits = false;
        http_body_resume(web->request->exchange);
    }
}

void web_listen_done(struct web *web) {
    struct web_listen *listen = web->listen;
    if (!listen) {
        return;
    }
    loop_timer_stop(&listen->timer);
    net_easy_free(&listen->easy);
    curl_slist_free_all(listen->lines);
    release_instance(listen);
    buf_done(&listen->fields);
    fifo_done(&listen->answer);
    fifo_done(&listen->body);
    free(listen);
    web->listen = NULL;
}
