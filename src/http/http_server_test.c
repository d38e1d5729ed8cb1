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
    /* Nothing behind the head but the next response. */
    SEND(client, "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n"
                 "HEAD /e HTTP/1.1\r\nHost: a\r\n\r\nHEAD /zeros HTTP/1.1\r\nHost: a\r\n\r\n"
                 "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf heads = {0};
    assert_true(client_read(client, &heads, "\r\n\r\n", 4));
    const char *at = buf_text(&heads);
    static const char *const fields[] = {"Transfer-Encoding: chunked", "Content-Length: 10",
                                         "Content-Length: 3145728", "text/plain"};
    for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
        assert_memory_equal(at, "HTTP/1.1 20", 11);
        const char *end = strstr(at, "\r\n\r\n");
        const char *field = strstr(at, fields[i]);
        assert_true(field && field < end);
        at = end + 4;
    }
    assert_string_equal(at, "");
    assert_null(strstr(strstr(buf_text(&heads), "HTTP/1.1 204"), "Content-Length"));
    SEND(client, "GET /zeros HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf zeros = {0};
    assert_true(client_read(client, &zeros, "\r\n\r\n", 1));
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
    assert_int_equal(test.completed, 8);
    stop();
}

/* The head of a stream, what it has at once, and its end leave in one packet. */
static void test_short_stream(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    for (int i = 0; i < 3; i++) {
        SEND(client, "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n");
        be_patient();
        char data[1024];
        ssize_t length;
        while ((length = recv(client, data, sizeof data - 1, MSG_DONTWAIT)) < 0) {
            step();
        }
        data[length] = '\0';
        assert_string_equal(strstr(data, "\r\n\r\n"), "\r\n\r\n16\r\nfirst second and third\r\n"
                                                      "0\r\nRun-Exit: 0\r\n\r\n");
    }
    close(client);
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

static void send_in_drops(int client, unsigned count) {
    static const char drop[100] = "a drop";
    for (unsigned i = 0; i < count; i++) {
        client_send(client, drop, sizeof drop);
        loop_turn(test.loop);
        loop_turn(test.loop);
    }
}

/* Drops wait in the kernel until they are worth it. */
static void test_gathered_body(void **state) {
    (void)state;
    start(&usual);
    int client = client_new_without_delay();
    SEND(client, "PUT /gather HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n");
    wait_for_begun(1);
    send_in_drops(client, 40);
    assert_int_equal(test.pieces, 1); /* before the first one nobody knows that it is slow */
    send_in_drops(client, 20);
    cleanup_buf struct buf text = {0};
    assert_true(client_read_once(client, &text, "]"));
    assert_in_range(test.pieces, 2, 3); /* and the rest */
    close(client);
    settle();
    stop();
}

/* Whatever its length is and the pieces are, all of it arrives, and then the next request. */
static void test_gathered_bodies(void **state) {
    (void)state;
    start(&usual);
    static const size_t lengths[] = {1, 4095, 4096, 4097, 8191, 16384, 16385, 20480, 70001};
    static const size_t pieces[] = {1000, 4096, 5000, 16384, 70001};
    static char data[70001];
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < ARRAY_LENGTH(lengths) * ARRAY_LENGTH(pieces) * 2; i++) {
        size_t length = lengths[i / 2 % ARRAY_LENGTH(lengths)];
        size_t piece = pieces[i / 2 / ARRAY_LENGTH(lengths)];
        int client = client_new();
        cleanup_buf struct buf text = {0};
        assert_int_equal(buf_printf(&text,
                                    "PUT /gather%s HTTP/1.1\r\nHost: a\r\n"
                                    "Content-Length: %zu\r\n\r\n",
                                    i % 2 ? "-pauses" : "", length),
                         ERR_OK);
        client_send(client, text.data, text.length);
        wait_for_begun(test.begun + 1);
        for (size_t at = 0; at < length; at += piece) {
            client_send(client, data, MIN(piece, length - at));
            loop_turn(test.loop);
        }
        SEND(client, "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
        text.length = 0;
        assert_true(client_read_once(client, &text, "[GET /behind ]"));
        assert_true(text.length > length);
        close(client);
    }
    settle();
    assert_int_equal(test.completed, test.begun);
    stop();
}

/* Wherever it is split, the body is the same, and the next request is seen. */
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
        assert_true(client_read(client, &text, "]", 2));
        assert_contains(&text, "[POST /e hello, world]");
        assert_contains(&text, "[GET /behind ]");
        assert_null(strstr(buf_text(&text), "\r\nConnection:"));
        close(client);
    }
    settle();
    stop();
}

/* A byte at a time, on one connection. */
static void test_drop_by_drop(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    static const char requests[] =
        "\r\nPOST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n"
        "PUT /pauses HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nthere"
        "\r\n\r\nGET /stream HTTP/1.0\r\n\r\n";
    for (size_t i = 0; i < sizeof requests - 1; i++) {
        client_send(client, requests + i, 1);
        loop_turn(test.loop);
        loop_turn(test.loop);
    }
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    assert_contains(&text, "[POST /e hello]");
    assert_contains(&text, "[PUT /pauses there]");
    assert_contains(&text, "piece 8\npiece 9\n");
    close(client);
    settle();
    assert_int_equal(test.completed, 3);
    stop();
}

/* More requests than any buffer holds, with bodies that pause; the client reads only then. */
static void test_long_pipeline(void **state) {
    (void)state;
    start(&usual);
    enum { COUNT = 3000 };
    cleanup_buf struct buf all = {0};
    for (unsigned i = 0; i < COUNT; i += 3) {
        assert_int_equal(
            buf_printf(&all,
                       "POST /task HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%04u"
                       "POST /pauses HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "4\r\n%04u\r\n0\r\n\r\n"
                       "GET /%04u HTTP/1.1\r\nHost: a\r\n\r\n",
                       i, i + 1, i + 2),
            ERR_OK);
    }
    int client = client_new();
    client_send(client, all.data, all.length);
    cleanup_buf struct buf text = {0};
    assert_true(client_read_once(client, &text, "[GET /2999 ]"));
    const char *at = buf_text(&text);
    static const char *const kinds[] = {"[POST /task ", "[POST /pauses ", "[GET /"};
    for (unsigned i = 0; i < COUNT; i++) { /* in this order */
        char expected[40];
        snprintf(expected, sizeof expected, "%s%04u", kinds[i % 3], i);
        at = strstr(at, expected);
        assert_non_null(at);
    }
    close(client);
    settle();
    assert_int_equal(test.completed, COUNT);
    stop();
}

/* Of those who send many requests at once, nobody is served twice before others are once. */
static void test_pipelines_take_turns(void **state) {
    (void)state;
    start(&usual);
    int clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = client_new();
        for (int j = 0; j < 20; j++) {
            SEND(clients[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
    }
    be_patient();
    while (test.ended < 40) {
        unsigned before = test.begun;
        step();
        assert_true(test.begun <= before + 4); /* two a connection: what came, and what waited */
    }
    close(clients[0]);
    close(clients[1]);
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

/* An answer before the end of the body goes out at once. */
static void test_early_answers(void **state) {
    (void)state;
    start(&usual);
    static const char *const paths[] = {"/begin", "/middle", "/begin", "/middle", "/early-stream"};
    static const char *const answers[] = {"[early]", "[middle]", "[early]", "[middle]", "piece 9"};
    char *data = calloc(1, 1000000);
    memset(data, 'x', 1000000);
    int client = client_new();
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        char request[100];
        int length =
            snprintf(request, sizeof request, "PUT %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", paths[i],
                     i < 2 ? "Content-Length: 1000000" : "Transfer-Encoding: chunked");
        client_send(client, request, (size_t)length);
        if (i >= 2) {
            SEND(client, "f4240\r\n");
        }
        client_send(client, data, 1000);
        cleanup_buf struct buf text = {0};
        assert_true(client_read(client, &text, answers[i], 1));
        /* The rest is dropped, and the connection is in step. */
        client_send(client, data, 999000);
        if (i >= 2) {
            SEND(client, "\r\n0\r\n\r\n");
        }
        SEND(client, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        text.length = 0;
        assert_true(client_read(client, &text, "[GET /next ]", 1));
    }
    close(client);
    settle();
    assert_int_equal(test.completed, 10);
    free(data);
    stop();
}

/* Too much to drop: the answer ends the connection, but is not lost by what still comes. */
static void test_early_answers_of_long_bodies(void **state) {
    (void)state;
    start(&usual);
    char *data = calloc(1, 1000000);
    int client = client_new();
    SEND(client, "PUT /begin HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client_send(client, data, 1000000);
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    assert_contains(&text, "[early]");
    assert_contains(&text, "\r\nConnection: close\r\n");
    close(client);
    /* Where the length is not known that shows later. */
    client = client_new();
    SEND(client, "PUT /begin HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    cleanup_buf struct buf other = {0};
    assert_true(client_read(client, &other, "[early]", 1));
    for (int i = 0; i < 20; i++) {
        SEND(client, "f4240\r\n");
        client_send(client, data, 1000000);
        SEND(client, "\r\n");
    }
    assert_false(client_read(client, &other, "", 0));
    close(client);
    free(data);
    settle();
    assert_int_equal(test.completed, 2);
    stop();
}

/* Talking and listening at once: each piece is answered before the next is sent. */
static void test_dialogue(void **state) {
    (void)state;
    start(&usual);
    static const char *const words[] = {"one ", "two ", "three "};
    static const char *const answers[] = {"ONE ", "TWO ", "THREE "};
    int client = client_new();
    for (int round = 0; round < 2; round++) {
        cleanup_buf struct buf text = {0};
        SEND(client, "POST /dialogue HTTP/1.1\r\nHost: a\r\n");
        if (round == 0) {
            SEND(client, "Transfer-Encoding: chunked\r\n\r\n");
        } else {
            SEND(client, "Content-Length: 14\r\n\r\n");
        }
        for (size_t i = 0; i < ARRAY_LENGTH(words); i++) {
            char piece[20];
            int length = round == 0 ? snprintf(piece, sizeof piece, "%zx\r\n%s\r\n",
                                               strlen(words[i]), words[i])
                                    : snprintf(piece, sizeof piece, "%s", words[i]);
            client_send(client, piece, (size_t)length);
            assert_true(client_read(client, &text, answers[i], 1));
        }
        if (round == 0) {
            SEND(client, "0\r\n\r\n");
        }
        assert_true(client_read(client, &text, "\r\n0\r\n\r\n", 1));
        assert_null(strstr(buf_text(&text), "Connection:"));
    }
    /* What is no chunk ends it, and so does who leaves in the middle. */
    SEND(client, "POST /dialogue HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx");
    cleanup_buf struct buf text = {0};
    assert_false(client_read(client, &text, "", 0));
    close(client);
    client = client_new();
    SEND(client, "POST /dialogue HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\none ");
    assert_true(client_read(client, &text, "ONE ", 1));
    close(client);
    settle();
    assert_int_equal(test.completed, 2);
    stop();
}

/* Of a body that the application keeps, and does not take, the rest is dropped when the answer has
 * ended. */
static void test_dialogue_ends_before_the_body(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    cleanup_buf struct buf text = {0};
    static char rest[300000];
    SEND(client, "POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 300010\r\n\r\n0123456789");
    client_send(client, rest, sizeof rest);
    SEND(client, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(client_read(client, &text, "[GET /next ]", 1));
    assert_contains(&text, "and third");
    close(client);
    settle();
    assert_int_equal(test.completed, 2);
    stop();
}

/* Chunks that are none, before there is an answer and after. */
static void test_broken_chunks(void **state) {
    (void)state;
    start(&usual);
    static const char *const paths[] = {"/e", "/begin", "/middle", "/stuck"};
    static const char *const expected[] = {"HTTP/1.1 400 ", "[early]", "[middle]", ""};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        int client = client_new();
        char request[200];
        int length = snprintf(request, sizeof request,
                              "PUT %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "5\r\nhello\r\nX\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n",
                              paths[i]);
        client_send(client, request, (size_t)length);
        cleanup_buf struct buf text = {0};
        if (i == 3) { /* it has not come to them */
            wait_for_begun(4);
            shutdown(client, SHUT_WR);
        }
        assert_false(client_read(client, &text, "", 0));
        assert_contains(&text, expected[i]);
        assert_null(strstr(buf_text(&text), "/next"));
        close(client);
        settle();
        assert_int_equal(test.ended, i + 1);
    }
    assert_int_equal(test.completed, 2);
    stop();
}

/* A response that the kernel does not take at once, by http_respond. */
static void test_large_answer(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    char *data = malloc(8 * MIB);
    memset(data, 'a', 8 * MIB);
    SEND(client, "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n");
    client_send(client, data, 8 * MIB);
    SEND(client, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    cleanup_buf struct buf text = {0};
    assert_true(client_read_once(client, &text, "[GET /next ]"));
    const char *echoed = strstr(buf_text(&text), "[PUT /e ");
    assert_non_null(echoed);
    assert_memory_equal(echoed + 8, data, 8 * MIB);
    assert_int_equal(echoed[8 + 8 * MIB], ']');
    close(client);
    free(data);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_one_connection),
        TEST(test_pipelined),
        TEST(test_request_parts),
        TEST(test_stream),
        TEST(test_short_stream),
        TEST(test_http_1_0),
        TEST(test_aborts),
        TEST(test_body_backpressure),
        TEST(test_gathered_body),
        TEST(test_gathered_bodies),
        TEST(test_chunked_body),
        TEST(test_drop_by_drop),
        TEST(test_long_pipeline),
        TEST(test_pipelines_take_turns),
        TEST(test_expect_continue),
        TEST(test_early_answers),
        TEST(test_early_answers_of_long_bodies),
        TEST(test_dialogue),
        TEST(test_dialogue_ends_before_the_body),
        TEST(test_broken_chunks),
        TEST(test_large_answer),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
