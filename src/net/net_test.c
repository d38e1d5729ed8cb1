/* Transfers and streams against a server of this process, with a resolver that changes its answers.
 */
#include "net/http.h"
#include "net/stream.h"
#include "ns/dev.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a server on all of 127.0.0.0/8 that says where it was reached ---- */

static struct {
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_uint forbidden; /* connections that came to 127.0.0.1 */
} server;

static void serve_one(int connection) {
    struct sockaddr_in local;
    socklen_t length = sizeof local;
    assert_int_equal(getsockname(connection, (struct sockaddr *)&local, &length), 0);
    bool is_forbidden = ntohl(local.sin_addr.s_addr) == INADDR_LOOPBACK;
    atomic_fetch_add(&server.forbidden, is_forbidden);
    char request[4096];
    size_t got = 0;
    ssize_t here;
    while (got < sizeof request - 1 &&
           (here = read(connection, request + got, sizeof request - 1 - got)) > 0) {
        got += (size_t)here;
        request[got] = 0;
        if (strstr(request, "\r\n\r\n")) {
            break;
        }
    }
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    (void)!write(connection, answer, sizeof answer - 1);
    close(connection);
}

static void *server_main(void *argument) {
    (void)argument;
    for (;;) {
        int connection = accept(server.listener, NULL, NULL);
        if (connection < 0) {
            return NULL;
        }
        serve_one(connection);
    }
}

static void server_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    server.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(server.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server.listener, 64), 0);
    assert_int_equal(getsockname(server.listener, (struct sockaddr *)&address, &length), 0);
    server.port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server.thread, NULL, server_main, NULL), 0);
}

static void server_stop(void) {
    shutdown(server.listener, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.listener);
}

/* ---- a resolver that changes its answer with each question ---- */

static atomic_uint questions;

static enum err flip(void *context, const char *name, struct net_addresses *ret_addresses,
                     struct buf *message) {
    (void)context;
    static const char *const answers[][2] = {
        {"127.0.0.2", NULL}, {"127.0.0.1", NULL}, {"127.0.0.1", "127.0.0.2"}, {"10.0.0.1", NULL}};
    if (strcmp(name, "missing.example") == 0) {
        return buf_fail(message, ERR_HOSTUNREACH, "no such name");
    }
    unsigned turn = atomic_fetch_add(&questions, 1) % ARRAY_LENGTH(answers);
    struct net_addresses addresses = {0};
    for (size_t i = 0; i < 2 && answers[turn][i]; i++) {
        assert_int_equal(
            net_address_parse(str_of(answers[turn][i]), &addresses.list[addresses.count++]),
            ERR_OK);
    }
    *ret_addresses = addresses;
    return ERR_OK;
}

/* ---- the fixture ---- */

static struct loop *loop;
static struct net *net;
static struct op op;
static struct buf message, notes;
static const struct who somebody = {.run_id = 1, .app_id = 1, .owner_id = 1};

static void on_wake(struct op *woken) {
    (void)woken;
}

static void take_note(void *context, struct str line) {
    (void)context;
    assert_int_equal(buf_append_str(&notes, line), ERR_OK);
    assert_int_equal(buf_append_byte(&notes, '\n'), ERR_OK);
}

static int set_up(void **state) {
    (void)state;
    static const char *const rules[] = {"127.0.0.2"};
    struct net_options options = {.allow_private = rules,
                                  .allow_private_count = 1,
                                  .connections_per_app = 4,
                                  .connections_max = 6,
                                  .timeout_ns = 30 * NS_PER_S,
                                  .bytes_max = MIB,
                                  .resolve = flip};
    server_start();
    assert_int_equal(loop_new(0, &loop), ERR_OK);
    assert_int_equal(net_new(&options, &loop, 1, &net, NULL), ERR_OK);
    op_init(&op, loop, &somebody, on_wake);
    op.message = &message;
    atomic_store(&questions, 0);
    atomic_store(&server.forbidden, 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    op_done(&op);
    net_free(net);
    loop_free(loop);
    server_stop();
    buf_done(&message);
    buf_done(&notes);
    return 0;
}

static void turn(void) {
    if (!loop_turn(loop)) {
        poll(NULL, 0, 1); /* somebody else's turn: the server's, the resolver's */
    }
}

static enum err fetch(int64_t app_id, const char *text) {
    cleanup_net_url struct net_url url = {0};
    assert_int_equal(net_url_parse(str_of(text), &url, NULL), ERR_OK);
    if (url.port == 80) {
        url.port = server.port;
    }
    struct net_party party = {.app_id = app_id, .note = take_note};
    struct net_http_request request = {
        .url = &url, .method = STR("GET"), .body_bytes = NET_BODY_NONE};
    struct net_http *http = NULL;
    enum err err = net_http_start(net, loop, &party, &request, &http, &message);
    while (!err && (err = net_http_wait_head(&op, http)) == ERR_PENDING) {
        err = ERR_OK;
        turn();
    }
    char body[16];
    size_t read;
    while (!err && (err = net_http_read(&op, http, body, sizeof body, &read)) == ERR_PENDING) {
        err = ERR_OK;
        turn();
    }
    if (!err) {
        assert_int_equal(net_http_status(http), 200);
        assert_int_equal(read, 2);
    }
    op_abandon(&op);
    net_http_free(http);
    return err;
}

/* A name that changes its addresses gains nothing: what is connected is what was checked. */
static void changing_answers_are_checked(void **state) {
    (void)state;
    static const enum err expected[] = {ERR_OK, ERR_PERM, ERR_OK, ERR_PERM};
    for (unsigned i = 0; i < 40; i++) {
        /* An app each: nothing is known from before. */
        assert_int_equal(fetch(i, "http://rebind.example/"), expected[i % 4]);
    }
    assert_int_equal(atomic_load(&questions), 40);
    assert_int_equal(atomic_load(&server.forbidden), 0);
    assert_non_null(strstr(buf_text(&notes), "net: allowed rebind.example (127.0.0.2)"));
    assert_non_null(strstr(buf_text(&notes), "net: refused rebind.example (127.0.0.1)"));
    assert_null(strstr(buf_text(&notes), "net: allowed rebind.example (127.0.0.1)"));
}

static void answers_are_kept_for_their_app(void **state) {
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(fetch(1, "http://rebind.example/"), ERR_OK);
    }
    assert_int_equal(atomic_load(&questions), 1);
    assert_int_equal(fetch(2, "http://rebind.example/"), ERR_PERM);
    assert_int_equal(fetch(1, "http://missing.example/"), ERR_HOSTUNREACH);
    assert_int_equal(fetch(1, "http://127.0.0.2/"), ERR_OK);
    assert_int_equal(fetch(1, "http://127.0.0.1/"), ERR_PERM);
    assert_int_equal(fetch(1, "http://[::ffff:127.0.0.1]/"), ERR_PERM);
    assert_int_equal(atomic_load(&server.forbidden), 0);
}

static enum err connect_to(int64_t app_id, const char *name) {
    struct net_host host;
    assert_int_equal(net_host_parse(str_of(name), &host, NULL), ERR_OK);
    struct net_party party = {.app_id = app_id, .note = take_note};
    struct net_stream *stream;
    enum err err = net_stream_open(net, loop, &party, &host, server.port, false, &stream, &message);
    if (err) {
        return err;
    }
    static const char question[] = "GET / HTTP/1.0\r\n\r\n";
    size_t done = 0;
    while ((err = net_stream_write(&op, stream, question, sizeof question - 1, &done)) ==
           ERR_PENDING) {
        turn();
    }
    char answer[256];
    size_t read = 1, total = 0;
    while (!err && read > 0) {
        err = net_stream_read(&op, stream, answer, sizeof answer, &read);
        total += err ? 0 : read;
        if (err == ERR_PENDING) {
            err = ERR_OK;
            turn();
        }
    }
    assert_true(err || total > 0);
    op_abandon(&op);
    net_stream_close(stream);
    return err;
}

static void streams_are_checked_too(void **state) {
    (void)state;
    static const enum err expected[] = {ERR_OK, ERR_PERM, ERR_OK, ERR_PERM};
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(connect_to(i, "rebind.example"), expected[i % 4]);
    }
    assert_int_equal(connect_to(1, "127.0.0.1"), ERR_PERM);
    assert_int_equal(connect_to(1, "127.0.0.2"), ERR_OK);
    assert_int_equal(connect_to(1, "missing.example"), ERR_HOSTUNREACH);
    assert_int_equal(atomic_load(&server.forbidden), 0);
}

/* Given up at every point: nothing comes afterwards, and nothing is left. */
static void transfers_are_given_up(void **state) {
    (void)state;
    cleanup_net_url struct net_url url = {0};
    assert_int_equal(net_url_parse(STR("http://rebind.example/"), &url, NULL), ERR_OK);
    url.port = server.port;
    struct net_http_request request = {
        .url = &url, .method = STR("GET"), .body_bytes = NET_BODY_NONE};
    for (unsigned turns = 0; turns < 40; turns++) {
        struct net_party party = {.app_id = (int64_t)turns};
        struct net_http *http;
        atomic_store(&questions, 0);
        assert_int_equal(net_http_start(net, loop, &party, &request, &http, NULL), ERR_OK);
        for (unsigned i = 0; i < turns; i++) {
            turn();
        }
        (void)!net_http_wait_head(&op, http);
        op_abandon(&op);
        net_http_free(http);
    }
}

static void an_app_has_a_limit(void **state) {
    (void)state;
    cleanup_net_url struct net_url url = {0};
    assert_int_equal(net_url_parse(STR("http://127.0.0.2/"), &url, NULL), ERR_OK);
    url.port = server.port;
    struct net_http_request request = {
        .url = &url, .method = STR("GET"), .body_bytes = NET_BODY_NONE};
    struct net_party party = {.app_id = 1}, other = {.app_id = 2};
    struct net_http *open[4], *more = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(open); i++) {
        assert_int_equal(net_http_start(net, loop, &party, &request, &open[i], NULL), ERR_OK);
    }
    assert_int_equal(net_http_start(net, loop, &party, &request, &more, &message), ERR_BUSY);
    assert_int_equal(net_http_start(net, loop, &other, &request, &more, &message), ERR_OK);
    struct net_party third = {.app_id = 3};
    struct net_http *last, *beyond;
    assert_int_equal(net_http_start(net, loop, &third, &request, &last, NULL), ERR_OK);
    assert_int_equal(net_http_start(net, loop, &third, &request, &beyond, &message), ERR_BUSY);
    assert_non_null(strstr(buf_text(&message), "all apps together"));
    net_http_free(last);
    net_http_free(more);
    net_http_free(open[0]);
    assert_int_equal(net_http_start(net, loop, &party, &request, &open[0], &message), ERR_OK);
    for (size_t i = 0; i < ARRAY_LENGTH(open); i++) {
        net_http_free(open[i]);
    }
}

static void net_is_asked_first(void **state) {
    (void)state;
    struct net_host host;
    assert_int_equal(net_host_parse(STR("rebind.example"), &host, NULL), ERR_OK);
    struct net_party party = {.app_id = 1, .note = take_note};
    assert_int_equal(buf_append_str(&party.app_hosts, STR("*.example\n")), ERR_OK);
    assert_int_equal(buf_append_str(&party.run_hosts, STR("other.example\n")), ERR_OK);
    struct net_stream *stream;
    assert_int_equal(net_stream_open(net, loop, &party, &host, 80, false, &stream, &message),
                     ERR_PERM);
    assert_int_equal(atomic_load(&questions), 0); /* nobody was asked for the name */
    assert_non_null(strstr(buf_text(&notes), "not in the run's net="));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(changing_answers_are_checked), TEST(answers_are_kept_for_their_app),
        TEST(streams_are_checked_too),      TEST(transfers_are_given_up),
        TEST(an_app_has_a_limit),           TEST(net_is_asked_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
