/* For the tests of the HTTP server: a real server on a port of its own, with clients in the same
 * thread: a client step is a turn of the loop and a system call that does not wait, so nothing
 * depends on time but the deadlines under test. */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
    bool has_paused; /* at /pauses, for the piece that comes next */
    struct buf body;
    unsigned pulls;
    bool is_over;
};

static struct {
    struct loop *loop;
    struct http_server *server;
    unsigned begun, ended, completed;
    size_t taken_max;        /* of the body, in one call */
    unsigned pieces;         /* of bodies that were taken */
    struct request *waiting; /* the last one at /never or /stuck */
    struct buf seen;         /* what was asked of the exchange */
} test;

static inline bool path_is(struct http_exchange *exchange, const char *path) {
    return str_equal_text(http_raw_path(exchange), path);
}

static inline bool is_dialogue(struct http_exchange *exchange) {
    return path_is(exchange, "/dialogue") || path_is(exchange, "/dialogue-over");
}

/* The answer is under way, and nothing of the body is taken. */
static inline bool is_deaf(struct http_exchange *exchange) {
    return path_is(exchange, "/deaf") || path_is(exchange, "/deaf-flood");
}

static inline bool pauses(struct http_exchange *exchange) {
    return path_is(exchange, "/pauses") || path_is(exchange, "/gather-pauses");
}

static inline void answer(struct request *request) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_printf(&text, "[" STR_FORMAT " " STR_FORMAT " " STR_FORMAT "]",
                                STR_ARGS(http_method(request->exchange)),
                                STR_ARGS(http_raw_path(request->exchange)),
                                STR_ARGS(buf_str(&request->body))),
                     ERR_OK);
    http_respond(request->exchange, 200, "text/plain", text.data, text.length);
}

static inline void on_task(struct loop_task *task) {
    struct request *request = CONTAINER_OF(task, struct request, task);
    if (http_has_responded(request->exchange)) {
        http_pull_resume(request->exchange);
    } else if (path_is(request->exchange, "/slow-body") || pauses(request->exchange)) {
        http_body_resume(request->exchange);
    } else {
        answer(request);
    }
}

static inline void on_timer(struct loop_timer *timer) {
    struct request *request = CONTAINER_OF(timer, struct request, timer);
    on_task(&request->task);
}

/* "piece N" ten times, with all ways of waiting in between, and a trailer. */
static inline enum http_pull_result pull(void *argument, void *buffer, size_t size,
                                         size_t *ret_length) {
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

static inline enum http_pull_result pull_zeros(void *argument, void *buffer, size_t size,
                                               size_t *ret_length) {
    (void)argument;
    memset(buffer, 'z', size);
    *ret_length = size;
    return HTTP_PULL_DATA;
}

static inline enum http_pull_result pull_short(void *argument, void *buffer, size_t size,
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

/* Three pieces, and the end. */
static inline enum http_pull_result pull_pieces(void *argument, void *buffer, size_t size,
                                                size_t *ret_length) {
    struct request *request = argument;
    static const char *const pieces[] = {"first ", "second ", "and third"};
    if (request->pulls == 3) {
        assert_int_equal(http_add_trailer(request->exchange, "Run-Exit", "0"), ERR_OK);
        return HTTP_PULL_END;
    }
    const char *piece = pieces[request->pulls++];
    *ret_length = MIN(size, strlen(piece));
    memcpy(buffer, piece, *ret_length);
    return HTTP_PULL_DATA;
}

/* What has come of the body goes back at once, in capitals; it ends with the body. */
static inline enum http_pull_result pull_dialogue(void *argument, void *buffer, size_t size,
                                                  size_t *ret_length) {
    struct request *request = argument;
    if (request->body.length == 0 && path_is(request->exchange, "/dialogue-over")) {
        http_expect_body(request->exchange);
    }
    if (request->body.length == 0) {
        return request->is_over ? HTTP_PULL_END : HTTP_PULL_WAIT;
    }
    *ret_length = MIN(size, request->body.length);
    for (size_t i = 0; i < *ret_length; i++) {
        ((uint8_t *)buffer)[i] = (uint8_t)toupper(request->body.data[i]);
    }
    request->body.length -= *ret_length;
    memmove(request->body.data, request->body.data + *ret_length, request->body.length);
    return HTTP_PULL_DATA;
}

static inline void begin(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = calloc(1, sizeof *request);
    request->exchange = exchange;
    loop_task_init(&request->task, on_task);
    loop_timer_init(&request->timer, on_timer);
    http_exchange_set_user(exchange, request);
    test.begun++;
    if (path_is(exchange, "/begin")) {
        http_respond(exchange, 413, "text/plain", "[early]", 7);
    } else if (path_is(exchange, "/early-stream")) {
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull, request);
    } else if (is_dialogue(exchange)) {
        http_keep_body(exchange);
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull_dialogue,
                            request);
    } else if (is_deaf(exchange)) {
        http_keep_body(exchange);
        http_expect_body(exchange);
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN,
                            path_is(exchange, "/deaf") ? pull_pieces : pull_zeros, request);
    } else if (path_is(exchange, "/abort-begin")) {
        http_abort(exchange);
    } else if (path_is(exchange, "/gather") || path_is(exchange, "/gather-pauses")) {
        http_gather_body(exchange);
    }
}

static inline size_t body(void *context, struct http_exchange *exchange, const uint8_t *data,
                          size_t length) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    size_t taken = length;
    if (is_dialogue(exchange)) {
        assert_int_equal(buf_append(&request->body, data, taken), ERR_OK);
        http_pull_resume(exchange);
        return taken;
    }
    if (is_deaf(exchange)) {
        return 0;
    }
    assert_false(http_has_responded(exchange));
    if (path_is(exchange, "/slow-body")) {
        taken = MIN(length, 1000);
        loop_ready(test.loop, &request->task);
    } else if (pauses(exchange) && !request->has_paused) { /* once each piece */
        request->has_paused = true;
        loop_ready(test.loop, &request->task);
        return 0;
    } else if (path_is(exchange, "/stuck")) {
        test.waiting = request;
        return 0;
    }
    request->has_paused = false;
    test.pieces++;
    test.taken_max = MAX(test.taken_max, taken);
    assert_int_equal(buf_append(&request->body, data, taken), ERR_OK);
    if (path_is(exchange, "/middle")) {
        http_respond(exchange, 413, "text/plain", "[middle]", 8);
    }
    return taken;
}

static inline void see(void *argument, struct str name, struct str value) {
    (void)argument;
    (void)!buf_printf(&test.seen, STR_FORMAT "=" STR_FORMAT ";", STR_ARGS(name), STR_ARGS(value));
}

static inline void body_end(void *context, struct http_exchange *exchange) {
    (void)context;
    struct request *request = http_exchange_user(exchange);
    struct loop *loop = test.loop;
    if (is_dialogue(exchange)) {
        request->is_over = true;
        http_pull_resume(exchange);
    } else if (path_is(exchange, "/task")) {
        loop_ready(loop, &request->task);
    } else if (path_is(exchange, "/timer")) {
        loop_timer_start(loop, &request->timer, loop_now_ns(loop) + 2 * NS_PER_MS);
    } else if (path_is(exchange, "/never")) {
        test.waiting = request;
    } else if (path_is(exchange, "/stream") || path_is(exchange, "/stream-abort")) {
        assert_int_equal(http_add_header(exchange, "Trailer", "Run-Exit"), ERR_OK);
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull, request);
    } else if (path_is(exchange, "/pieces")) {
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull_pieces, request);
    } else if (path_is(exchange, "/204")) {
        http_respond(exchange, 204, "text/plain", "not sent", 8);
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

static inline void end(void *context, struct http_exchange *exchange, bool completed) {
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

static inline void start(const struct http_options *options) {
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

static inline void stop(void) {
    http_server_free(test.server);
    loop_free(test.loop);
    buf_done(&test.seen);
    assert_int_equal(test.begun, test.ended);
}

/* --- Clients --- */

static uint64_t patience_ns; /* of the current step */

static inline void step(void) {
    loop_turn(test.loop);
    if (clock_monotonic_ns() > patience_ns) {
        fail_msg("nothing happens");
    }
}
static inline void be_patient(void) {
    patience_ns = clock_monotonic_ns() + 20 * NS_PER_S;
}

static inline int client_new(void) {
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_port(test.server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    return client;
}

/* Each piece at once, whatever was not acknowledged yet. */
static inline int client_new_without_delay(void) {
    int client = client_new(), yes = 1;
    assert_int_equal(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), 0);
    return client;
}

static inline void client_send(int client, const void *data, size_t length) {
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
static inline bool client_read(int client, struct buf *text, const char *until, unsigned times) {
    be_patient();
    for (;;) {
        char data[1024];
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

/* Reads until `last` has come: for more than client_read should search again and again. */
static inline bool client_read_once(int client, struct buf *text, const char *last) {
    size_t length = strlen(last);
    be_patient();
    while (text->length < length || memcmp(text->data + text->length - length, last, length) != 0) {
        static char data[64 * KIB];
        ssize_t got = recv(client, data, sizeof data, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            return false;
        }
        if (got > 0) {
            assert_int_equal(buf_append(text, data, (size_t)got), ERR_OK);
        } else {
            step();
        }
    }
    return true;
}

/* Turns until all that begun has ended and there is no connection. */
static inline void settle(void) {
    be_patient();
    while (http_server_connections(test.server) > 0) {
        step();
    }
}

static inline void wait_for_begun(unsigned count) {
    be_patient();
    while (test.begun < count) {
        step();
    }
}

static inline void assert_contains(const struct buf *text, const char *part) {
    if (!strstr(buf_text(text), part)) {
        fail_msg("no '%s' in: %s", part, buf_text(text));
    }
}

/* --- Descriptors --- */

static inline int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory)) {
        count++;
    }
    closedir(directory);
    return count;
}

static int descriptors_before;
static inline int count_before(void **state) {
    (void)state;
    descriptors_before = open_descriptors();
    return 0;
}
static inline int count_after(void **state) {
    (void)state;
    int count = open_descriptors();
    if (count != descriptors_before) {
        print_error("%d descriptors left open\n", count - descriptors_before);
    }
    return count == descriptors_before ? 0 : -1;
}

/* The first loop of a process opens descriptors that stay. */
static inline int open_first_loop(void **state) {
    (void)state;
    struct loop *loop;
    if (loop_new(0, &loop) != ERR_OK) {
        return -1;
    }
    loop_free(loop);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, count_before, count_after)
