/* What the HTTP server refuses, cuts off and survives; and its start and its end. */
#include "http/http_server_testing.h"

#include <sys/resource.h>

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

/* One that resets the connection at once: the error may be all that is ever told of it. */
static void test_client_resets(void **state) {
    (void)state;
    start(&usual);
    static const char *const requests[] = {
        "",
        "GET / HTTP/1.1\r\nHo",
        "PUT /e HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
        "PUT /stuck HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        "GET /never HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /flood HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        for (int turns = 0; turns < 5; turns++) {
            int client = client_new();
            client_send(client, requests[i], strlen(requests[i]));
            for (int turn = 0; turn < turns; turn++) {
                loop_turn(test.loop);
            }
            struct linger linger = {.l_onoff = 1, .l_linger = 0};
            assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
            close(client);
            settle();
        }
    }
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

/* Faster than the timeout, slower than the least rate; also where each byte makes the application
 * pause the body. */
static void test_drip(void **state) {
    (void)state;
    static const char *const paths[] = {"/e", "/pauses"};
    for (size_t i = 0; i < ARRAY_LENGTH(paths); i++) {
        struct http_options options = usual;
        options.body_rate_timeout_ns = 30 * NS_PER_MS;
        options.body_rate_minimum = 1000000;
        start(&options);
        int client = client_new();
        char head[80];
        int length =
            snprintf(head, sizeof head,
                     "PUT %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", paths[i]);
        client_send(client, head, (size_t)length);
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
}

/* What waits in the kernel until it is worth reading has come all the same. */
static void test_drip_that_is_gathered(void **state) {
    (void)state;
    struct http_options options = usual;
    options.body_rate_timeout_ns =
        400 * NS_PER_MS; /* much longer than others may keep us waiting */
    start(&options);
    int client = client_new_without_delay();
    SEND(client, "PUT /gather HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n");
    wait_for_begun(1);
    be_patient();
    unsigned sent = 0;
    uint64_t next_ns = 0;
    for (; sent < 100; step()) { /* a byte between any two looks at it */
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns >= next_ns) {
            next_ns = now_ns + 10 * NS_PER_MS;
            client_send(client, "x", 1);
            sent++;
        }
    }
    assert_int_equal(test.ended, 0);
    assert_int_equal(test.pieces, 1);
    while (http_server_connections(test.server) != 0) { /* and then nothing comes */
        step();
    }
    close(client);
    assert_int_equal(test.completed, 0);
    stop();
}

/* Who talks with the application may be silent, but not when that has nothing more to say. */
static void test_silence_in_a_dialogue(void **state) {
    (void)state;
    struct http_options options = usual;
    options.body_rate_timeout_ns = 30 * NS_PER_MS;
    start(&options);
    int silent = client_new();
    int late = client_new();
    cleanup_buf struct buf text = {0};
    SEND(silent, "POST /dialogue HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\none ");
    assert_true(client_read(silent, &text, "ONE ", 1));
    text.length = 0;
    SEND(late, "POST /dialogue-over HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\none ");
    assert_true(client_read(late, &text, "ONE ", 1));
    assert_false(client_read(late, &text, "", 0));
    close(late);
    for (uint64_t end_ns = clock_monotonic_ns() + 150 * NS_PER_MS; clock_monotonic_ns() < end_ns;) {
        loop_turn(test.loop);
    }
    SEND(silent, "two three ");
    assert_true(client_read(silent, &text, "0\r\n\r\n", 1));
    close(silent);
    settle();
    assert_int_equal(test.completed, 1);
    stop();
}

/* Who sends and never reads is too slow, also when nothing more of its body is taken. */
static void test_sends_and_never_reads(void **state) {
    (void)state;
    struct http_options options = usual;
    options.body_rate_timeout_ns = 30 * NS_PER_MS;
    start(&options);
    int client = client_new();
    static char rest[100000];
    SEND(client, "POST /deaf-flood HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n");
    wait_for_begun(1);
    client_send(client, rest, sizeof rest);
    settle();
    close(client);
    assert_int_equal(test.completed, 0);
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

/* At the limit of all connections one more waits until another has gone. */
static void test_all_connections(void **state) {
    (void)state;
    struct http_options options = usual;
    options.connections_max = 2;
    start(&options);
    int clients[3] = {client_new(), client_new(), client_new()};
    SEND(clients[2], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 20; i++) {
        loop_turn(test.loop);
    }
    assert_int_equal(http_server_connections(test.server), 2);
    assert_false(loop_turn(test.loop)); /* and nothing is tried again and again */
    close(clients[0]);
    cleanup_buf struct buf text = {0};
    assert_true(client_read(clients[2], &text, "]", 1));
    close(clients[1]);
    close(clients[2]);
    stop();
}

/* Without descriptors for new connections they wait, too. */
static void test_no_descriptors(void **state) {
    (void)state;
    start(&usual);
    log_set_level(LOG_ERROR); /* it warns */
    int client = client_new();
    SEND(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    int next = dup(client); /* the lowest number that is free */
    close(next);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 20; i++) {
        loop_turn(test.loop);
    }
    assert_int_equal(http_server_connections(test.server), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    cleanup_buf struct buf text = {0};
    assert_true(client_read(client, &text, "]", 1));
    close(client);
    settle();
    stop();
    log_set_level(LOG_INFO);
}

/* What is set once, for the listener, holds for its connections. */
static void test_socket_options(void **state) {
    (void)state;
    start(&usual);
    int client = client_new();
    be_patient();
    while (http_server_connections(test.server) == 0) {
        step();
    }
    struct sockaddr_in mine = {0}, peer = {0};
    socklen_t size = sizeof mine;
    assert_int_equal(getsockname(client, (struct sockaddr *)&mine, &size), 0);
    int found = -1;
    for (int descriptor = 0; descriptor < 100; descriptor++) {
        size = sizeof peer;
        if (getpeername(descriptor, (struct sockaddr *)&peer, &size) == 0 &&
            peer.sin_family == AF_INET && peer.sin_port == mine.sin_port) {
            found = descriptor;
        }
    }
    assert_true(found >= 0);
    int value = 0;
    size = sizeof value;
    assert_int_equal(getsockopt(found, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    assert_int_not_equal(value, 0);
    assert_int_equal(getsockopt(found, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    assert_int_equal(value, 1);
    assert_int_equal(getsockopt(found, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
    assert_int_equal(value, 60);
    assert_int_equal(getsockopt(found, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, &size), 0);
    assert_true(value > 0 && value <= (int)MIB);
    close(client);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_gate),
        TEST(test_large_heads),
        TEST(test_client_gone),
        TEST(test_client_resets),
        TEST(test_body_cut_off_anywhere),
        TEST(test_deadlines),
        TEST(test_drip),
        TEST(test_drip_that_is_gathered),
        TEST(test_silence_in_a_dialogue),
        TEST(test_sends_and_never_reads),
        TEST(test_connection_limits),
        TEST(test_all_connections),
        TEST(test_no_descriptors),
        TEST(test_socket_options),
        TEST(test_quiesce),
        TEST(test_free_under_load),
        TEST(test_two_servers_on_one_loop),
        TEST(test_options),
    };
    return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
