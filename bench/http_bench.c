/* The HTTP server alone, to be loaded by wrk: bench/http.sh compares it with nginx.
 *
 *     http_bench PORT      until SIGTERM or SIGINT; one loop, one thread
 *
 *     GET /constant   answered at once                 GET /turn     in the same turn of the loop
 *     GET /wait       after a millisecond, suspended   GET /stream   a chunk and trailers
 *     POST /drop      reads the body, says how long it was */
#include "base/log.h"
#include "http/http.h"

#include <signal.h>
#include <stdio.h>

static const char answer[] = "Hello, world! Hello, world!\n";

/* What a request needs beyond its exchange. */
struct request {
    struct loop_task task;
    struct loop_timer timer;
    struct http_exchange *exchange;
    uint64_t body_bytes;
    bool is_sent;
};

static void respond(struct http_exchange *exchange) {
    http_respond(exchange, 200, "text/plain", answer, sizeof answer - 1);
}

static void on_task(struct loop_task *task) {
    respond(CONTAINER_OF(task, struct request, task)->exchange);
}

static void on_timer(struct loop_timer *timer) {
    respond(CONTAINER_OF(timer, struct request, timer)->exchange);
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct request *request = argument;
    if (request->is_sent) {
        return http_add_trailer(request->exchange, "Run-Exit", "0") == ERR_OK ? HTTP_PULL_END
                                                                              : HTTP_PULL_ABORT;
    }
    *ret_length = MIN(size, sizeof answer - 1);
    memcpy(buffer, answer, *ret_length);
    request->is_sent = true;
    return HTTP_PULL_DATA;
}

static void begin(void *context, struct http_exchange *exchange) {
    (void)context;
    if (str_equal(http_raw_path(exchange), STR("/constant"))) {
        return;
    }
    struct request *request = calloc(1, sizeof *request);
    if (!request) {
        http_abort(exchange);
        return;
    }
    request->exchange = exchange;
    loop_task_init(&request->task, on_task);
    loop_timer_init(&request->timer, on_timer);
    http_exchange_set_user(exchange, request);
}

static size_t body(void *context, struct http_exchange *exchange, const uint8_t *data,
                   size_t length) {
    (void)context;
    (void)data;
    struct request *request = http_exchange_user(exchange);
    if (request) {
        request->body_bytes += length;
    }
    return length;
}

static void body_end(void *context, struct http_exchange *exchange) {
    (void)context;
    struct str path = http_raw_path(exchange);
    struct request *request = http_exchange_user(exchange);
    struct loop *loop = http_exchange_loop(exchange);
    if (!request) {
        respond(exchange);
    } else if (str_equal(path, STR("/turn"))) {
        loop_ready(loop, &request->task);
    } else if (str_equal(path, STR("/wait"))) {
        loop_timer_start(loop, &request->timer, loop_now_ns(loop) + NS_PER_MS);
    } else if (str_equal(path, STR("/stream"))) {
        if (http_add_header(exchange, "Trailer", "Run-Exit") != ERR_OK) {
            http_abort(exchange);
            return;
        }
        http_respond_stream(exchange, 200, "text/plain", HTTP_LENGTH_UNKNOWN, pull, request);
    } else if (str_equal(path, STR("/drop"))) {
        char text[32];
        int length = snprintf(text, sizeof text, "%llu\n", (unsigned long long)request->body_bytes);
        http_respond(exchange, 200, "text/plain", text, (size_t)length);
    } else {
        http_respond(exchange, 404, "text/plain", "error: not found\n", 17);
    }
}

static void end(void *context, struct http_exchange *exchange, bool completed) {
    (void)context;
    (void)completed;
    struct request *request = http_exchange_user(exchange);
    if (request) {
        loop_task_cancel(&request->task);
        loop_timer_stop(&request->timer);
        free(request);
    }
}

static void on_stop(void *argument) {
    loop_stop(argument);
}

int main(int argc, char **argv) {
    uint64_t port = 0;
    if (argc != 2 || str_to_u64(str_of(argv[1]), &port) != ERR_OK || port > UINT16_MAX) {
        fprintf(stderr, "usage: http_bench PORT\n");
        return 2;
    }
    struct loop *loop = NULL;
    struct http_server *server = NULL;
    cleanup_buf struct buf message = {0};
    const struct http_application application = {
        .begin = begin, .body = body, .body_end = body_end, .end = end};
    const struct http_options options = {.address = "127.0.0.1",
                                         .port = (uint16_t)port,
                                         .connections_max = 20000,
                                         .head_timeout_ns = 5 * NS_PER_S,
                                         .body_rate_timeout_ns = 10 * NS_PER_S,
                                         .body_rate_minimum = 1,
                                         .head_bytes_max = 32 * KIB};
    if (loop_new(0, &loop) != ERR_OK ||
        http_server_new(loop, &options, &application, &server, &message) != ERR_OK ||
        loop_on_signal(loop, SIGTERM, on_stop, loop) != ERR_OK ||
        loop_on_signal(loop, SIGINT, on_stop, loop) != ERR_OK) {
        fprintf(stderr, "http_bench: %s\n", buf_text(&message));
        return 1;
    }
    printf("%u\n", (unsigned)http_port(server));
    fflush(stdout);
    loop_run(loop);
    http_server_free(server);
    loop_free(loop);
    return 0;
}
