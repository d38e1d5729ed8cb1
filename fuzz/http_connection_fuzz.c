/* What clients send, through the HTTP server itself: however the bytes are cut into pieces, the
 * application sees the same requests and the client gets the same answers; every request that began
 * ends, and nothing is left of the connection.
 *
 * The first byte is the size of the pieces, the second how many turns the loop makes between two,
 * and whether they come over TCP, where little of a body may wait in the kernel. What the
 * application does is in the path's second byte. */
#include "base/log.h"
#include "http/http_exchange.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define IS_TCP 0x80u /* no letter: it takes a hundred times as long */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct request {
    struct http_exchange *exchange;
    struct loop_task task;
    struct buf body;
    unsigned pulls;
};

static struct {
    struct loop *loop;
    struct http_server *server;
    int listener; /* of TCP */
    struct sockaddr_in address;
    struct buf seen; /* by the application */
    unsigned begun, ended;
} fuzz;

static char kind_of(struct http_exchange *exchange) {
    struct str path = http_raw_path(exchange);
    return path.length > 1 ? path.data[1] : '\0';
}

static void note(const char *what, struct str text) {
    INVARIANT(buf_printf(&fuzz.seen, "%s " STR_FORMAT "\n", what, STR_ARGS(text)) == ERR_OK);
}

static void answer(struct request *request) {
    struct http_exchange *exchange = request->exchange;
    INVARIANT(http_add_header(exchange, "X-Path", "p") == ERR_OK);
    http_respond(exchange, 200, "text/plain", request->body.data, request->body.length);
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct request *request = argument;
    switch (request->pulls++) {
    case 0:
    case 3:
        *ret_length = MIN(size, 5);
        memcpy(buffer, "piece", *ret_length);
        return HTTP_PULL_DATA;
    case 1:
        loop_ready(fuzz.loop, &request->task);
        return HTTP_PULL_WAIT;
    case 2:
        http_pull_resume(request->exchange);
        return HTTP_PULL_WAIT;
    default:
        INVARIANT(http_add_trailer(request->exchange, "X-End", "7") == ERR_OK);
        return kind_of(request->exchange) == 'x' ? HTTP_PULL_ABORT : HTTP_PULL_END;
    }
}

static void on_task(struct loop_task *task) {
    struct request *request = CONTAINER_OF(task, struct request, task);
    if (http_has_responded(request->exchange)) {
        http_pull_resume(request->exchange);
    } else if (kind_of(request->exchange) == 'p') {
        http_body_resume(request->exchange);
    } else {
        answer(request);
    }
}

static void see_field(void *argument, struct str name, struct str value) {
    (void)argument;
    INVARIANT(name.length > 0 && !memchr(name.data, '\r', name.length));
    INVARIANT(value.length == 0 || !memchr(value.data, '\n', value.length));
    note("name", name);
    note("value", value);
}

static void begin(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = calloc(1, sizeof *request);
    INVARIANT(request);
    request->exchange = exchange;
    loop_task_init(&request->task, on_task);
    http_exchange_set_user(exchange, request);
    fuzz.begun++;
    note("method", http_method(exchange));
    note("path", http_raw_path(exchange));
    note("query", http_raw_query(exchange));
    http_headers_each(exchange, see_field, NULL);
    INVARIANT(http_raw_path(exchange).data[0] == '/');
    uint64_t length = 0;
    bool has_length = http_content_length(exchange, &length);
    INVARIANT(has_length || http_has_body(exchange));
    if (kind_of(exchange) == 'b') {
        http_respond(exchange, 413, NULL, "early", 5);
    } else if (kind_of(exchange) == 'c') {
        http_abort(exchange);
    } else if (kind_of(exchange) == 'g') {
        http_gather_body(exchange);
    }
}

static size_t body(void *context, struct http_exchange *exchange, const uint8_t *data,
                   size_t length) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    INVARIANT(!http_has_responded(exchange) && length > 0);
    if (kind_of(exchange) == 'p') { /* a byte at a time, pausing in between */
        length = 1;
        loop_ready(fuzz.loop, &request->task);
    }
    INVARIANT(buf_append(&request->body, data, length) == ERR_OK);
    if (kind_of(exchange) == 'm') {
        http_respond(exchange, 413, NULL, "middle", 6);
    }
    return length;
}

static void body_end(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    INVARIANT(!http_has_responded(exchange));
    note("body", buf_str(&request->body));
    switch (kind_of(exchange)) {
    case 's':
    case 'x':
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull, request);
        break;
    case 't':
        http_respond_stream(exchange, 200, "text/plain", 5, pull, request);
        break;
    case 'w':
        loop_ready(fuzz.loop, &request->task);
        break;
    default:
        answer(request);
    }
}

static void end(void *context, struct http_exchange *exchange, bool completed) {
    (void)context;
    (void)completed;
    struct request *request = http_exchange_user(exchange);
    fuzz.ended++;
    loop_task_cancel(&request->task);
    buf_done(&request->body);
    free(request);
}

static void start(void) {
    static const struct http_options options = {.address = "127.0.0.1",
                                                .connections_max = 10,
                                                .head_timeout_ns = 3600 * NS_PER_S,
                                                .body_rate_timeout_ns = 3600 * NS_PER_S,
                                                .head_bytes_max = 4 * KIB};
    static const struct http_application application = {
        .begin = begin, .body = body, .body_end = body_end, .end = end};
    INVARIANT(loop_new(0, &fuzz.loop) == ERR_OK);
    INVARIANT(http_server_new(fuzz.loop, &options, &application, &fuzz.server, NULL) == ERR_OK);
    fuzz.address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof fuzz.address;
    fuzz.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    INVARIANT(fuzz.listener >= 0);
    INVARIANT(bind(fuzz.listener, (struct sockaddr *)&fuzz.address, size) == 0);
    INVARIANT(getsockname(fuzz.listener, (struct sockaddr *)&fuzz.address, &size) == 0);
    INVARIANT(listen(fuzz.listener, 8) == 0);
}

/* The server's end and the client's. */
static void connect_ends(bool is_tcp, int ends[2]) {
    if (!is_tcp) {
        int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
        INVARIANT(socketpair(AF_UNIX, type, 0, ends) == 0);
        return;
    }
    int yes = 1;
    struct linger reset = {.l_onoff = 1}; /* so that no port stays taken */
    ends[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    INVARIANT(ends[1] >= 0);
    INVARIANT(setsockopt(ends[1], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
    INVARIANT(setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    INVARIANT(connect(ends[1], (struct sockaddr *)&fuzz.address, sizeof fuzz.address) == 0);
    ends[0] = accept4(fuzz.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    INVARIANT(ends[0] >= 0);
    /* As http_server.c has it; and what was sent before an abort arrives. */
    INVARIANT(setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
}

/* Reads what there is; false at the end. */
static bool take_answers(int client, struct buf *answers, bool *ret_is_new) {
    char data[4096];
    ssize_t length = recv(client, data, sizeof data, MSG_DONTWAIT);
    if (length > 0) {
        INVARIANT(buf_append(answers, data, (size_t)length) == ERR_OK);
        *ret_is_new = true;
    }
    return length > 0 || (length < 0 && errno == EAGAIN);
}

static bool has_answers(int client, int milliseconds) {
    struct pollfd poll_client = {.fd = client, .events = POLLIN};
    return poll(&poll_client, 1, milliseconds) != 0;
}

/* Until the server's kernel has all that was sent: while nobody reads it, it says so rarely, and
 * the client's sends no more meanwhile. */
static void await_arrival(int client) {
    int under_way = 0;
    while (ioctl(client, SIOCOUTQ, &under_way) == 0 && under_way > 0 && !has_answers(client, 1)) {
    }
}

/* Turns until nothing happens any more; false when the server has closed. */
static bool settle(int client, bool is_tcp, struct buf *answers) {
    for (int quiet = 0; quiet < 4; quiet++) {
        if (is_tcp && quiet == 0) {
            await_arrival(client);
        }
        bool is_new = loop_turn(fuzz.loop) || (is_tcp && quiet == 3 && has_answers(client, 2));
        if (!take_answers(client, answers, &is_new)) {
            return false;
        }
        if (is_new) {
            quiet = -1;
        }
    }
    return true;
}

static void talk(const uint8_t *data, size_t size, size_t piece, unsigned turns, bool is_tcp,
                 struct buf *answers) {
    int ends[2];
    connect_ends(is_tcp, ends);
    static const struct sockaddr_in address = {.sin_family = AF_INET};
    http_connection_new(fuzz.server, ends[0], (const struct sockaddr *)&address);
    bool is_open = true;
    for (size_t at = 0; at < size && is_open;) {
        ssize_t sent = send(ends[1], data + at, MIN(piece, size - at), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            break;
        }
        at += sent > 0 ? (size_t)sent : 0;
        for (unsigned i = 0; i < (sent > 0 ? turns : turns + 1) && is_open; i++) {
            bool is_new;
            loop_turn(fuzz.loop);
            is_open = take_answers(ends[1], answers, &is_new);
        }
    }
    if (is_open) {
        settle(ends[1], is_tcp, answers);
    }
    close(ends[1]);
    while (http_server_connections(fuzz.server) > 0) {
        loop_turn(fuzz.loop);
    }
    INVARIANT(fuzz.begun == fuzz.ended && http_server_exchanges(fuzz.server) == 0);
}

/* Takes out what depends on when things come: the date, 100 Continue. */
static void take_out(struct buf *answers, const char *beginning, size_t length) {
    char *at;
    while (answers->length > 0 &&
           (at = memmem(answers->data, answers->length, beginning, strlen(beginning)))) {
        size_t offset = (size_t)(at - (char *)answers->data);
        size_t count = MIN(length, answers->length - offset);
        memmove(at, at + count, answers->length - offset - count);
        answers->length -= count;
    }
}

static bool is_same(struct buf *a, struct buf *b) {
    return a->length == b->length && (a->length == 0 || memcmp(a->data, b->data, a->length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    if (!fuzz.loop) {
        start();
    }
    struct buf answers[2] = {0};
    struct buf seen[2] = {0};
    for (int i = 0; i < 2; i++) {
        talk(data + 2, size - 2, i ? data[0] % 64u + 1 : size, i ? data[1] % 4u : 0,
             i && (data[1] & IS_TCP), &answers[i]);
        seen[i] = fuzz.seen;
        fuzz.seen = (struct buf){0};
        take_out(&answers[i], "Date: ", strlen("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"));
        take_out(&answers[i], "HTTP/1.1 100 C", strlen("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    INVARIANT(is_same(&seen[0], &seen[1]));
    INVARIANT(is_same(&answers[0], &answers[1]));
    for (int i = 0; i < 2; i++) {
        buf_done(&answers[i]);
        buf_done(&seen[i]);
    }
    return 0;
}
