/* Requests and responses of the HTTP server, in all the ways in which both can wait. */
#include "http/http_server_testing.h"

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
    /* Nothing behind it, and the connection ends: nobody knows how long the body would be. */
    assert_false(client_read(client, &head, "", 0));
    assert_contains(&head, "\r\nConnection: close\r\n");
    assert_string_equal(strstr(buf_text(&head), "\r\n\r\n"), "\r\n\r\n");
    close(client);
    client = client_new();
    SEND(client, "GET /zeros HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf zeros = {0};
    assert_true(client_read(client, &zeros, "\r\n\r\n", 1));
    assert_null(strstr(buf_text(&head), "piece"));
    assert_contains(&zeros, "\r\nContent-Length: 3145728\r\n");
    size_t head_length = (size_t)(strstr(buf_text(&zeros), "\r\n\r\n") + 4 - buf_text(&zeros));
    be_patient();
    while (zeros.length < head_length + 3 * MIB) {
        char data[1024];
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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_one_connection),    TEST(test_pipelined),
        TEST(test_request_parts),     TEST(test_stream),
        TEST(test_http_1_0),          TEST(test_aborts),
        TEST(test_body_backpressure), TEST(test_chunked_body),
        TEST(test_expect_continue),   TEST(test_early_answers),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
