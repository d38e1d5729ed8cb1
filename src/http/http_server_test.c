/* A real server on a port of its own, with clients in the same thread: a client step is a turn of
 * the loop and a system call that does not wait, so nothing depends on time but the deadlines
 * under test. */
#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* --- The application under test: what it does is in the path --- */

struct request {
    struct http_exchange *exchange;
    struct loop_task task;
    struct loop_timer timer;
    struct buf body;
    unsigned pulls;
    bool is_over;
};

static struct {
    struct loop *loop;
    struct http_server *server;
    unsigned begun, ended, completed;
    size_t taken_max;        /* of the body, in one call */
    struct request *waiting; /* the last one at /never or /stuck */
    struct buf seen;         /* what was asked of the exchange */
} test;

static bool path_is(struct http_exchange *exchange, const char *path) {
    return str_equal_text(http_raw_path(exchange), path);
}

static void answer(struct request *request) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_printf(&text, "[" STR_FORMAT " " STR_FORMAT " " STR_FORMAT "]",
                                STR_ARGS(http_method(request->exchange)),
                                STR_ARGS(http_raw_path(request->exchange)),
                                STR_ARGS(buf_str(&request->body))),
                     ERR_OK);
    http_respond(request->exchange, 200, "text/plain", text.data, text.length);
}

static void on_task(struct loop_task *task) {
    struct request *request = CONTAINER_OF(task, struct request, task);
    if (http_has_responded(request->exchange)) {
        http_pull_resume(request->exchange);
    } else if (path_is(request->exchange, "/slow-body")) {
        http_body_resume(request->exchange);
    } else {
        answer(request);
    }
}

static void on_timer(struct loop_timer *timer) {
    struct request *request = CONTAINER_OF(timer, struct request, timer);
    on_task(&request->task);
}

/* "piece N" ten times, with all ways of waiting in between, and a trailer. */
static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct request *request = argument;
    struct loop *loop = http_exchange_loop(request->exchange);
    unsigned step = request->pulls++;
    if (step == 20) {
        assert_int_equal(http_add_trailer(request->exchange, "Bad\r\n", "x"), ERR_INVAL);
        (void)!http_add_trailer(request->exchange, "Run-Exit", "7");
        return path_is(request->exchange, "/stream-abort") ? HTTP_PULL_ABORT : HTTP_PULL_END;
    }
    if (step % 2 == 0) {
        if (step % 3 == 0) { /* a long wait: it is suspended */
            loop_timer_start(loop, &request->timer, loop_now_ns(loop) + 2 * NS_PER_MS);
        } else if (step % 3 == 1) { /* a short one */
            loop_ready(loop, &request->task);
        } else { /* none at all */
            http_pull_resume(request->exchange);
        }
        return HTTP_PULL_WAIT;
    }
    *ret_length = (size_t)snprintf(buffer, size, "piece %u\n", step / 2);
    return HTTP_PULL_DATA;
}

static enum http_pull_result pull_zeros(void *argument, void *buffer, size_t size,
                                        size_t *ret_length) {
    (void)argument;
    memset(buffer, 'z', size);
    *ret_length = size;
    return HTTP_PULL_DATA;
}

static enum http_pull_result pull_short(void *argument, void *buffer, size_t size,
                                        size_t *ret_length) {
    (void)size;
    struct request *request = argument;
    if (request->pulls++ > 0) {
        return HTTP_PULL_END;
    }
    memcpy(buffer, "short", 5);
    *ret_length = 5;
    return HTTP_PULL_DATA;
}

static void begin(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = calloc(1, sizeof *request);
    request->exchange = exchange;
    loop_task_init(&request->task, on_task);
    loop_timer_init(&request->timer, on_timer);
    http_exchange_set_user(exchange, request);
    test.begun++;
    if (path_is(exchange, "/begin")) {
        http_respond(exchange, 413, "text/plain", "[early]", 7);
    } else if (path_is(exchange, "/abort-begin")) {
        http_abort(exchange);
    }
}

static size_t body(void *context, struct http_exchange *exchange, const uint8_t *data,
                   size_t length) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    assert_false(http_has_responded(exchange));
    size_t taken = length;
    if (path_is(exchange, "/slow-body")) {
        taken = MIN(length, 1000);
        loop_ready(test.loop, &request->task);
    } else if (path_is(exchange, "/stuck")) {
        test.waiting = request;
        return 0;
    }
    test.taken_max = MAX(test.taken_max, taken);
    assert_int_equal(buf_append(&request->body, data, taken), ERR_OK);
    if (path_is(exchange, "/middle")) {
        http_respond(exchange, 413, "text/plain", "[middle]", 8);
    }
    return taken;
}

static void see(void *argument, struct str name, struct str value) {
    (void)argument;
    (void)!buf_printf(&test.seen, STR_FORMAT "=" STR_FORMAT ";", STR_ARGS(name), STR_ARGS(value));
}

static void body_end(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    struct loop *loop = test.loop;
    if (path_is(exchange, "/task")) {
        loop_ready(loop, &request->task);
    } else if (path_is(exchange, "/timer")) {
        loop_timer_start(loop, &request->timer, loop_now_ns(loop) + 2 * NS_PER_MS);
    } else if (path_is(exchange, "/never")) {
        test.waiting = request;
    } else if (path_is(exchange, "/stream") || path_is(exchange, "/stream-abort")) {
        assert_int_equal(http_add_header(exchange, "Trailer", "Run-Exit"), ERR_OK);
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull, request);
    } else if (path_is(exchange, "/zeros")) {
        http_respond_stream(exchange, 200, "text/plain", 3 * MIB, pull_zeros, request);
    } else if (path_is(exchange, "/flood")) { /* more than the buffers of two sockets hold */
        http_respond_stream(exchange, 200, "text/plain", GIB, pull_zeros, request);
    } else if (path_is(exchange, "/short")) {
        http_respond_stream(exchange, 200, "text/plain", 100, pull_short, request);
    } else if (path_is(exchange, "/abort")) {
        http_abort(exchange);
    } else if (path_is(exchange, "/see")) {
        uint64_t length = 42;
        bool has_length = http_content_length(exchange, &length);
        (void)!buf_printf(&test.seen, "query=" STR_FORMAT ";length=%d,%d;loopback=%d;address=%s;",
                          STR_ARGS(http_raw_query(exchange)), has_length, (int)length,
                          http_client_is_loopback(exchange), http_client_address(exchange));
        http_headers_each(exchange, see, NULL);
        assert_int_equal(http_add_header(exchange, "X-Good", "a b"), ERR_OK);
        assert_int_equal(http_add_header(exchange, "X-Bad", "a\r\nb: c"), ERR_INVAL);
        assert_int_equal(http_add_header(exchange, "X Bad", "a"), ERR_INVAL);
        assert_int_equal(http_add_header(exchange, "Content-Length", "5"), ERR_INVAL);
        assert_int_equal(http_add_header(exchange, "X-Empty", ""), ERR_OK);
        answer(request);
        assert_int_equal(http_add_header(exchange, "X-Late", "a"), ERR_INVAL);
    } else {
        answer(request);
    }
}

static void end(void *context, struct http_exchange *exchange, bool completed) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    assert_ptr_equal(request->exchange, exchange);
    test.ended++;
    test.completed += completed;
    if (test.waiting == request) {
        test.waiting = NULL;
    }
    loop_task_cancel(&request->task);
    loop_timer_stop(&request->timer);
    buf_done(&request->body);
    free(request);
}

static void start(const struct http_options *options) {
    const struct http_application application = {
        .begin = begin, .body = body, .body_end = body_end, .end = end};
    cleanup_buf struct buf message = {0};
    memset(&test, 0, sizeof test);
    assert_int_equal(loop_new(0, &test.loop), ERR_OK);
    assert_int_equal(http_server_new(test.loop, options, &application, &test.server, &message),
                     ERR_OK);
}

static const struct http_options usual = {.address = "127.0.0.1",
                                          .connections_max = 100,
                                          .head_timeout_ns = 60 * NS_PER_S,
                                          .body_rate_timeout_ns = 60 * NS_PER_S,
                                          .body_rate_minimum = 1,
                                          .head_bytes_max = 32 * KIB};

static void stop(void) {
    http_server_free(test.server);
    loop_free(test.loop);
    buf_done(&test.seen);
    assert_int_equal(test.begun, test.ended);
}

/* --- Clients --- */

static uint64_t patience_ns; /* of the current step */

static void step(void) {
    loop_turn(test.loop);
    if (clock_monotonic_ns() > patience_ns) {
        fail_msg("nothing happens");
    }
}
static void be_patient(void) {
    patience_ns = clock_monotonic_ns() + 20 * NS_PER_S;
}

static int client_new(void) {
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_port(test.server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    return client;
}

static void client_send(int client, const void *data, size_t length) {
    be_patient();
    while (length > 0) {
        ssize_t sent = send(client, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) {
                return; /* the server has closed: the test sees that when it reads */
            }
            step();
            continue;
        }
        data = (const char *)data + sent;
        length -= (size_t)sent;
    }
}
#define SEND(client, literal) client_send((client), (literal), sizeof(literal) - 1)

/* Reads until the server closes or `until` has come so many times (0: nothing but the end). */
static bool client_read(int client, struct buf *text, const char *until, unsigned times) {
    be_patient();
    for (;;) {
        char data[4096];
        ssize_t length = recv(client, data, sizeof data, MSG_DONTWAIT);
        if (length == 0 || (length < 0 && errno != EAGAIN)) {
            return false;
        }
        if (length > 0) {
            assert_int_equal(buf_append(text, data, (size_t)length), ERR_OK);
        } else {
            step();
        }
        unsigned found = 0;
        for (const char *at = buf_text(text); times > 0 && (at = strstr(at, until)); at++) {
            found++;
        }
        if (times > 0 && found >= times) {
            return true;
        }
    }
}

/* Turns until all that begun has ended and libmicrohttpd knows of no connection. */
static void settle(void) {
    be_patient();
    while (http_server_connections(test.server) > 0) {
        step();
    }
}

static void wait_for_begun(unsigned count) {
    be_patient();
    while (test.begun < count) {
        step();
    }
}

static void assert_contains(const struct buf *text, const char *part) {
    if (!strstr(buf_text(text), part)) {
        fail_msg("no '%s' in: %s", part, buf_text(text));
    }
}

/* --- Tests --- */

static void test_one_connection(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    const char *paths[] = {"/", "/task", "/timer", "/", "/task", "/timer"};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        char request[100];
        int length =
            snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
        client_send(client, request, (size_t)length);
        cleanup_buf struct buf text = {0};
        assert_true(client_read(client, &text, "]", 1));
        assert_contains(&text, "HTTP/1.1 200 OK\r\n");
        assert_contains(&text, "\r\nDate: ");
        assert_contains(&text, "\r\nX-Content-Type-Options: nosniff\r\n");
        assert_contains(&text, "\r\nContent-Type: text/plain\r\n");
        assert_contains(&text, paths[i]);
    }
    assert_int_equal(http_server_connections(test.server), 1);
    close(client);
    settle();
    assert_int_equal(test.completed, 6);
    assert_int_equal(http_server_exchanges(test.server), 0);
    stop();
}

static void test_pipelined(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    cleanup_buf struct buf all = {0};
    const char *paths[] = {"/a", "/task", "/timer", "/b", "/stream"};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        assert_int_equal(buf_printf(&all,
                                    "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx%zuy",
                                    paths[i], i),
                         ERR_OK);
    }
    client_send(client, all.data, all.length);
    cleanup_buf struct buf text = {0};
    assert_true(client_read(client, &text, "Run-Exit: 7", 1));
    const char *expected[] = {"[POST /a x0y]", "[POST /task x1y]", "[POST /timer x2y]",
                              "[POST /b x3y]", "piece 9"};
    const char *at = buf_text(&text);
    for (size_t i = 0; i < ARRAY_LENGTH(expected); i++) { /* in this order */
        at = strstr(at, expected[i]);
        assert_non_null(at);
    }
    close(client);
    stop();
}

static void test_request_parts(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    SEND(client, "GET /see?a=%20&b HTTP/1.1\r\nHost: h:1\r\nX-Y:  z \r\n\r\n");
    cleanup_buf struct buf text = {0};
    assert_true(client_read(client, &text, "]", 1));
    assert_string_equal(buf_text(&test.seen),
                        "query=a=%20&b;length=1,0;loopback=1;address=127.0.0.1;"
                        "Host=h:1;X-Y=z;");
    assert_contains(&text, "\r\nX-Good: a b\r\n");
    assert_null(strstr(buf_text(&text), "X-Bad"));
    assert_null(strstr(buf_text(&text), "X-Late"));
    close(client);
    stop();
}

static void test_stream(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    for (int i = 0; i < 3; i++) {
        SEND(client, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        cleanup_buf struct buf text = {0};
        assert_true(client_read(client, &text, "\r\n0\r\nRun-Exit: 7\r\n\r\n", 1));
        assert_contains(&text, "\r\nTransfer-Encoding: chunked\r\n");
        assert_contains(&text, "\r\nTrailer: Run-Exit\r\n");
        assert_contains(&text, "8\r\npiece 0\n\r\n");
        assert_contains(&text, "8\r\npiece 9\n\r\n");
    }
    SEND(client, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf head = {0};
    assert_true(client_read(client, &head, "\r\n\r\n", 1));
    SEND(client, "GET /zeros HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf zeros = {0};
    assert_true(client_read(client, &zeros, "\r\n\r\n", 1));
    assert_null(strstr(buf_text(&head), "piece"));
    assert_contains(&zeros, "\r\nContent-Length: 3145728\r\n");
    size_t head_length = (size_t)(strstr(buf_text(&zeros), "\r\n\r\n") + 4 - buf_text(&zeros));
    be_patient();
    while (zeros.length < head_length + 3 * MIB) {
        char data[8192];
        ssize_t length = recv(client, data, sizeof data, MSG_DONTWAIT);
        assert_int_not_equal(length, 0);
        if (length > 0) {
            assert_int_equal(buf_append(&zeros, data, (size_t)length), ERR_OK);
        }
        step();
    }
    assert_int_equal(zeros.length, head_length + 3 * MIB);
    close(client);
    settle();
    assert_int_equal(test.completed, 5);
    stop();
}

/* Without chunks the end of the connection is the end of the body: an abort must be an error. */
static void test_http_1_0(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    SEND(client, "GET /stream HTTP/1.0\r\n\r\n");
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    assert_contains(&text, "piece 8\npiece 9\n");
    assert_null(strstr(buf_text(&text), "chunked"));
    close(client);
    client = client_new();
    SEND(client, "GET /stream-abort HTTP/1.0\r\n\r\n");
    cleanup_buf struct buf cut = {0};
    assert_true(client_read(client, &cut, "piece 9\n", 1));
    settle();
    char byte;
    assert_int_equal(recv(client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(client);
    client = client_new();
    SEND(client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                 "GET /2 HTTP/1.0\r\n\r\n");
    cleanup_buf struct buf two = {0};
    assert_false(client_read(client, &two, "", 0));
    assert_contains(&two, "[GET /2 ]");
    close(client);
    settle();
    assert_int_equal(test.completed, 3);
    stop();
}

static void test_aborts(void **state) {
    (void)state;
    start(&usual);
    const char *paths[] = {"/stream-abort", "/short", "/abort", "/abort-begin"};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        int client = client_new();
        char request[100];
        int length =
            snprintf(request, sizeof request,
                     "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", paths[i]);
        client_send(client, request, (size_t)length);
        cleanup_buf struct buf text = {0};
        assert_false(client_read(client, &text, "", 0));
        assert_null(strstr(buf_text(&text), "\r\n0\r\n"));
        assert_null(strstr(buf_text(&text), "Run-Exit: 7"));
        close(client);
        settle();
        assert_int_equal(test.ended, i + 1);
    }
    assert_int_equal(test.completed, 0);
    stop();
}

/* Takes a thousand bytes at a time, pausing in between; all arrive in order. */
static void test_body_backpressure(void **state) {
    (void)state;
    start(&usual);
    enum { SIZE = 300000 };
    char *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (char)('a' + i % 23);
    }
    int client = client_new();
    SEND(client, "PUT /slow-body HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    client_send(client, data, SIZE);
    cleanup_buf struct buf text = {0};
    assert_true(client_read(client, &text, "]", 1));
    const char *echoed = strstr(buf_text(&text), "[PUT /slow-body ");
    assert_non_null(echoed);
    assert_memory_equal(echoed + strlen("[PUT /slow-body "), data, SIZE);
    assert_int_equal(test.taken_max, 1000);
    close(client);
    free(data);
    stop();
}

static void test_chunked_body(void **state) {
    (void)state;
    start(&usual);
    static const char request[] =
        "POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\nT: v\r\n\r\n"
        "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
    for (size_t split = 1; split < sizeof request; split++) {
        int client = client_new();
        client_send(client, request, split);
        for (int i = 0; i < 8; i++) {
            loop_turn(test.loop);
        }
        client_send(client, request + split, sizeof request - 1 - split);
        cleanup_buf struct buf text = {0};
        assert_false(client_read(client, &text, "", 0)); /* and nothing behind it is answered */
        assert_contains(&text, "[POST /e hello, world]");
        assert_contains(&text, "\r\nConnection: close\r\n");
        assert_null(strstr(buf_text(&text), "/behind"));
        close(client);
    }
    settle();
    stop();
}

static void test_expect_continue(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    SEND(client, "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    cleanup_buf struct buf text = {0};
    assert_true(client_read(client, &text, "HTTP/1.1 100 Continue\r\n\r\n", 1));
    SEND(client, "hello");
    assert_true(client_read(client, &text, "[PUT /e hello]", 1));
    /* Refused before the body: no 100, the answer at once, and the connection ends. */
    SEND(client,
         "PUT /begin HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n");
    cleanup_buf struct buf early = {0};
    assert_false(client_read(client, &early, "", 0));
    assert_contains(&early, "HTTP/1.1 413 ");
    assert_contains(&early, "[early]");
    assert_null(strstr(buf_text(&early), "100 Continue"));
    close(client);
    settle();
    assert_int_equal(test.completed, 2);
    stop();
}

/* An answer before the end of the body: the rest is dropped, and the connection is in step. */
static void test_early_answers(void **state) {
    (void)state;
    start(&usual);
    const char *paths[] = {"/begin", "/middle"};
    char *data = calloc(1, 1000000);
    memset(data, 'x', 1000000);
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        int client = client_new();
        char request[100];
        int length =
            snprintf(request, sizeof request,
                     "PUT %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", paths[i]);
        client_send(client, request, (size_t)length);
        client_send(client, data, 1000000);
        SEND(client, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        cleanup_buf struct buf text = {0};
        assert_true(client_read(client, &text, "[GET /next ]", 1));
        assert_contains(&text, "HTTP/1.1 413 ");
        close(client);
    }
    /* Too much to drop: the answer comes at once, with the end of the connection. */
    int client = client_new();
    SEND(client, "PUT /begin HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    assert_contains(&text, "[early]");
    assert_contains(&text, "\r\nConnection: close\r\n");
    close(client);
    /* Or, where the length is not known, without an answer. */
    client = client_new();
    SEND(client, "PUT /begin HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 40; i++) {
        SEND(client, "f4240\r\n");
        client_send(client, data, 1000000);
        SEND(client, "\r\n");
    }
    cleanup_buf struct buf none = {0};
    assert_false(client_read(client, &none, "", 0));
    close(client);
    free(data);
    settle();
    stop();
}

static void test_gate(void **state) {
    (void)state;
    start(&usual);
    static const char *const refused[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.3\r\nHost: a\r\n\r\n",
        "GET /?a=b HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(refused); i++) {
        size_t length = strlen(refused[i]);
        for (size_t split = 1; split <= length; split++) {
            int client = client_new();
            client_send(client, refused[i], split);
            for (int turn = 0; turn < 4; turn++) {
                loop_turn(test.loop);
            }
            client_send(client, refused[i] + split, length - split);
            SEND(client, "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
            cleanup_buf struct buf text = {0};
            assert_false(client_read(client, &text, "", 0));
            close(client);
            bool is_refused = strstr(buf_text(&text), "HTTP/1.1 400 ") ||
                              strstr(buf_text(&text), "HTTP/1.1 505 ") || text.length == 0;
            if (!is_refused || strstr(buf_text(&text), "/behind") || test.begun != 0) {
                fail_msg("let in, split at %zu: %s -> %s", split, refused[i], buf_text(&text));
            }
        }
    }
    settle();
    stop();
}

static void test_large_heads(void **state) {
    (void)state;
    start(&usual);
    for (int kind = 0; kind < 4; kind++) {
        cleanup_buf struct buf text = {0};
        assert_int_equal(buf_append_str(&text, STR("GET /")), ERR_OK);
        if (kind == 1) { /* a target of 60 KiB */
            for (int i = 0; i < 60 * 1024; i++) {
                assert_int_equal(buf_append_byte(&text, 'a'), ERR_OK);
            }
        } else if (kind == 2) { /* one of 12,000 pairs, which fits */
            assert_int_equal(buf_append_byte(&text, '?'), ERR_OK);
            for (int i = 0; i < 12000; i++) {
                assert_int_equal(buf_append(&text, "a&", 2), ERR_OK);
            }
        }
        assert_int_equal(buf_append_str(&text, STR(" HTTP/1.1\r\nHost: a\r\n")), ERR_OK);
        for (int i = 0; i < 2000 && (kind == 0 || (kind == 3 && i < 95)); i++) {
            assert_int_equal(buf_printf(&text, "X-%d: %0*d\r\n", i, kind == 3 ? 300 : 40, i),
                             ERR_OK);
        }
        assert_int_equal(buf_append(&text, "\r\n", 2), ERR_OK);
        int client = client_new();
        client_send(client, text.data, text.length);
        cleanup_buf struct buf reply = {0};
        if (kind < 2) {
            assert_false(client_read(client, &reply, "", 0));
            /* What is unread when the server closes may cost the answer; never is it let in. */
            assert_true(reply.length == 0 || strstr(buf_text(&reply), "HTTP/1.1 431 ") ||
                        strstr(buf_text(&reply), "HTTP/1.1 414 "));
        } else {
            assert_true(client_read(client, &reply, "]", 1));
        }
        close(client);
    }
    assert_int_equal(test.begun, 2);
    settle();
    stop();
}

/* A client that goes away while the application works, or while its body waits. */
static void test_client_gone(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    SEND(client, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_begun(1);
    assert_int_equal(http_server_exchanges(test.server), 1);
    close(client);
    settle();
    assert_int_equal(test.ended, 1);
    client = client_new();
    SEND(client, "PUT /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    wait_for_begun(2);
    close(client);
    settle();
    assert_int_equal(test.ended, 2);
    /* In the middle of a body that is being read, and of a response that is being sent. */
    client = client_new();
    SEND(client, "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    wait_for_begun(3);
    close(client);
    settle();
    client = client_new();
    SEND(client, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_begun(4);
    close(client);
    settle();
    assert_int_equal(test.ended, 4);
    assert_int_equal(test.completed, 0);
    stop();
}

static void test_body_cut_off_anywhere(void **state) {
    (void)state;
    start(&usual);
    static const char *const requests[] = {
        "PUT /e?q HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
        "PUT /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        for (size_t length = 0; length < strlen(requests[i]); length++) {
            int client = client_new();
            client_send(client, requests[i], length);
            be_patient();
            while (http_server_connections(test.server) == 0) {
                step();
            }
            close(client);
            settle();
        }
    }
    assert_int_equal(test.completed, 0);
    stop();
}

static void test_deadlines(void **state) {
    (void)state;
    struct http_options options = usual;
    options.head_timeout_ns = 30 * NS_PER_MS;
    options.body_rate_timeout_ns = 30 * NS_PER_MS;
    start(&options);
    int idle = client_new();
    int slow_head = client_new();
    SEND(slow_head, "GET / HTTP/1.1\r\nHo");
    int slow_body = client_new();
    SEND(slow_body, "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n012");
    int slow_reader = client_new();
    SEND(slow_reader, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    int waiting = client_new();
    SEND(waiting, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_begun(3);
    be_patient();
    while (http_server_connections(test.server) != 1) {
        step(); /* a byte at a time does not help the head */
        (void)!send(slow_head, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    /* Who waits for the application has no deadline here. */
    assert_non_null(test.waiting);
    assert_int_equal(test.ended, 2);
    answer(test.waiting);
    cleanup_buf struct buf text = {0};
    assert_true(client_read(waiting, &text, "[GET /never ]", 1));
    settle(); /* idle afterwards, it is closed */
    close(idle);
    close(slow_head);
    close(slow_body);
    close(slow_reader);
    close(waiting);
    assert_int_equal(test.completed, 1);
    stop();
}

/* Faster than the timeout, slower than the least rate. */
static void test_drip(void **state) {
    (void)state;
    struct http_options options = usual;
    options.body_rate_timeout_ns = 30 * NS_PER_MS;
    options.body_rate_minimum = 1000000;
    start(&options);
    int client = client_new();
    SEND(client, "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    wait_for_begun(1);
    be_patient();
    uint64_t next_ns = 0;
    while (http_server_connections(test.server) != 0) {
        step();
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns >= next_ns) {
            next_ns = now_ns + NS_PER_MS;
            (void)!send(client, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }
    close(client);
    assert_int_equal(test.ended, 1);
    stop();
}

static void test_connection_limits(void **state) {
    (void)state;
    struct http_options options = usual;
    options.connections_per_address_max = 2;
    start(&options);
    int clients[2] = {client_new(), client_new()};
    be_patient();
    while (http_server_connections(test.server) != 2) {
        step();
    }
    int third = client_new();
    cleanup_buf struct buf text = {0};
    assert_false(client_read(third, &text, "", 0));
    assert_int_equal(text.length, 0);
    close(third);
    SEND(clients[1], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(client_read(clients[1], &text, "]", 1));
    close(clients[0]);
    close(clients[1]);
    stop();
}

static void test_quiesce(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    SEND(client, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_begun(1);
    http_server_quiesce(test.server);
    http_server_quiesce(test.server);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_port(test.server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&address, sizeof address), -1);
    close(late);
    answer(test.waiting);
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    assert_contains(&text, "\r\nConnection: close\r\n");
    assert_contains(&text, "[GET /never ]");
    close(client);
    stop();
}

/* Freed with exchanges in every state; each is told its end. */
static void test_free_under_load(void **state) {
    (void)state;
    start(&usual);
    static const char *const requests[] = {
        "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
        "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHos",
        "",
    };
    int clients[ARRAY_LENGTH(requests)];
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        clients[i] = client_new();
        client_send(clients[i], requests[i], strlen(requests[i]));
    }
    wait_for_begun(5);
    for (int i = 0; i < 10; i++) {
        loop_turn(test.loop);
    }
    stop(); /* asserts that all have ended */
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        close(clients[i]);
    }
}

static void test_two_servers_on_one_loop(void **state) {
    (void)state;
    start(&usual);
    const struct http_application application = {
        .begin = begin, .body = body, .body_end = body_end, .end = end};
    struct http_server *first = test.server;
    struct http_server *second = NULL;
    assert_int_equal(http_server_new(test.loop, &usual, &application, &second, NULL), ERR_OK);
    assert_int_not_equal(http_port(first), http_port(second));
    for (int i = 0; i < 2; i++) {
        test.server = i ? first : second;
        int client = client_new();
        SEND(client, "GET /task HTTP/1.1\r\nHost: a\r\n\r\n");
        cleanup_buf struct buf text = {0};
        assert_true(client_read(client, &text, "]", 1));
        close(client);
        if (i == 0) {
            http_server_free(second); /* the first goes on */
        }
    }
    stop();
}

static void test_options(void **state) {
    (void)state;
    const struct http_application application = {
        .begin = begin, .body = body, .body_end = body_end, .end = end};
    struct loop *loop;
    assert_int_equal(loop_new(0, &loop), ERR_OK);
    struct http_server *server = NULL;
    cleanup_buf struct buf message = {0};
    struct http_options options = usual;
    options.address = "not an address";
    assert_int_equal(http_server_new(loop, &options, &application, &server, &message), ERR_INVAL);
    assert_contains(&message, "not an address");
    options = usual;
    options.address = "203.0.113.1"; /* of nobody */
    assert_int_equal(http_server_new(loop, &options, &application, &server, &message),
                     ERR_ADDRNOTAVAIL);
    options = usual;
    options.head_bytes_max = 70000;
    assert_int_equal(http_server_new(loop, &options, &application, &server, &message), ERR_INVAL);
    assert_null(server);
    loop_free(loop);
}

static int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory)) {
        count++;
    }
    closedir(directory);
    return count;
}

static int descriptors_before;
static int count_before(void **state) {
    (void)state;
    descriptors_before = open_descriptors();
    return 0;
}
static int count_after(void **state) {
    (void)state;
    int count = open_descriptors();
    if (count != descriptors_before) {
        print_error("%d descriptors left open\n", count - descriptors_before);
    }
    return count == descriptors_before ? 0 : -1;
}

/* The first loop of a process opens descriptors that stay. */
static int open_first_loop(void **state) {
    (void)state;
    struct loop *loop;
    if (loop_new(0, &loop) != ERR_OK) {
        return -1;
    }
    loop_free(loop);
    return 0;
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, count_before, count_after)
    const struct CMUnitTest tests[] = {
        TEST(test_one_connection),
        TEST(test_pipelined),
        TEST(test_request_parts),
        TEST(test_stream),
        TEST(test_http_1_0),
        TEST(test_aborts),
        TEST(test_body_backpressure),
        TEST(test_chunked_body),
        TEST(test_expect_continue),
        TEST(test_early_answers),
        TEST(test_gate),
        TEST(test_large_heads),
        TEST(test_client_gone),
        TEST(test_body_cut_off_anywhere),
        TEST(test_deadlines),
        TEST(test_drip),
        TEST(test_connection_limits),
        TEST(test_quiesce),
        TEST(test_free_under_load),
        TEST(test_two_servers_on_one_loop),
        TEST(test_options),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
