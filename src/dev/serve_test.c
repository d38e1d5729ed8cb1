/* Listening sockets of programs that are kept, their connections, and requests by /net/serve. */
#include "dev/serve.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const struct who who = {.run_id = 1};
static struct loop *loop;
static struct op op;
static unsigned wakes;

static void on_wake(struct op *woken) {
    (void)woken;
    wakes++;
}

static int set_up(void **state) {
    (void)state;
    assert_int_equal(loop_new(0, &loop), ERR_OK);
    op_init(&op, loop, &who, on_wake);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    op_done(&op);
    loop_free(loop);
    return 0;
}

static void turn_until_woken(void) {
    unsigned before = wakes;
    uint64_t end_ns = clock_monotonic_ns() + 20 * NS_PER_S;
    while (wakes == before) {
        loop_turn(loop);
        assert_true(clock_monotonic_ns() < end_ns);
    }
}

/* A connection; `*ret_peer` is our end. */
static enum err connect_to(struct file *listener, size_t waiting_max, int *ret_peer) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    enum err err = serve_listener_connect(listener, NULL, ends[1], waiting_max);
    if (err) {
        close(ends[0]);
        close(ends[1]);
    } else {
        *ret_peer = ends[0];
    }
    return err;
}

static void test_accept(void **state) {
    (void)state;
    struct file *listener, *connection;
    int peers[3];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    assert_int_equal(listener->type, FILE_SOCKET_STREAM);
    op.nonblocking = true;
    assert_int_equal(file_accept(&op, listener, &connection), ERR_AGAIN);
    op.nonblocking = false;
    assert_int_equal(file_accept(&op, listener, &connection), ERR_PENDING);
    assert_int_equal(connect_to(listener, 2, &peers[0]), ERR_OK);
    turn_until_woken();
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    close(peers[0]);
    file_unref(connection);

    unsigned ready;
    uint64_t bytes;
    assert_int_equal(file_poll(&op, listener, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    assert_int_equal(connect_to(listener, 2, &peers[0]), ERR_OK);
    turn_until_woken();
    assert_int_equal(file_poll(&op, listener, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(connect_to(listener, 2, &peers[1]), ERR_OK);
    assert_int_equal(serve_listener_waiting(listener).all, 2);
    assert_int_equal(connect_to(listener, 2, &peers[2]), ERR_AGAIN);

    /* In the order in which they came; those that are left are closed with it. */
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    assert_int_equal(write(peers[0], "first", 5), 5);
    char text[10];
    size_t length;
    assert_int_equal(file_read(&op, connection, text, sizeof text, 0, &length), ERR_OK);
    assert_int_equal(length, 5);
    serve_listener_close(listener);
    assert_int_equal(read(peers[1], text, 1), 0);
    assert_int_equal(connect_to(listener, 2, &peers[2]), ERR_PIPE);
    close(peers[0]);
    close(peers[1]);
    file_unref(connection);
    assert_int_equal(file_read(&op, listener, text, 1, 0, &length), ERR_NOTCONN);
    assert_int_equal(file_write(&op, listener, text, 1, 0, &length), ERR_NOTCONN);
    file_unref(listener);
}

static void test_connection(void **state) {
    (void)state;
    struct file *listener, *connection;
    int peer;
    char text[10];
    static char much[4 << 20];
    size_t length;
    unsigned ready;
    uint64_t bytes;
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    assert_int_equal(connect_to(listener, 1, &peer), ERR_OK);
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);

    op.nonblocking = true;
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_AGAIN);
    assert_int_equal(file_poll(&op, connection, POLL_READABLE | POLL_WRITABLE, &ready, &bytes),
                     ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE);
    op.nonblocking = false;
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_PENDING);
    assert_int_equal(write(peer, "question", 8), 8);
    turn_until_woken();
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(bytes, 8);
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_OK);
    assert_memory_equal(text, "question", 8);

    /* Until the other side takes no more. */
    enum err err;
    while ((err = file_write(&op, connection, much, sizeof much, 0, &length)) == ERR_OK) {
    }
    assert_int_equal(err, ERR_PENDING);
    while (read(peer, much, sizeof much) > 0) {
    }
    turn_until_woken();
    assert_int_equal(file_write(&op, connection, "answer", 6, 0, &length), ERR_OK);
    assert_int_equal(length, 6);
    assert_int_equal(read(peer, text, 10), 6);

    assert_int_equal(file_shutdown(&op, connection, SHUTDOWN_WRITE), ERR_OK);
    assert_int_equal(read(peer, text, 1), 0);
    assert_int_equal(file_write(&op, connection, "x", 1, 0, &length), ERR_PIPE);
    op_abandon(&op);
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    close(peer);
    turn_until_woken();
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE | POLL_HANGUP);
    assert_int_equal(file_read(&op, connection, text, 1, 0, &length), ERR_OK);
    assert_int_equal(length, 0);
    file_unref(connection);
    file_unref(listener);
}

/* ---- requests ---- */

static struct op door_op;

/* A request with this head and body; complete if `is_whole`. */
static struct serve_request *request_new(const char *head, const char *body, bool is_whole) {
    struct serve_request *request;
    assert_int_equal(serve_request_new(&request), ERR_OK);
    assert_int_equal(buf_append_str(&request->head, str_of(head)), ERR_OK);
    assert_int_equal(serve_request_body(request, body, strlen(body)), strlen(body));
    request->is_ripe = true;
    if (is_whole) {
        serve_request_body_end(request);
    }
    return request;
}

static void request_free(struct serve_request *request) {
    serve_listener_withdraw(request);
    serve_request_leave(request);
    serve_request_unref(request);
}

static void close_file(struct file *file, bool is_closed_well) {
    if (is_closed_well) {
        assert_int_equal(file_flush(&op, file), ERR_OK);
    }
    file_closed(file, OPEN_READ | OPEN_WRITE);
    file_unref(file);
}

static void expect_read(struct file *file, size_t size, const char *expected) {
    char text[200];
    size_t length;
    assert_true(size <= sizeof text);
    assert_int_equal(file_read(&op, file, text, size, 0, &length), ERR_OK);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length);
}

static void expect_answer(struct serve_request *request, const char *expected) {
    char text[200];
    size_t length;
    assert_int_equal(serve_request_answer(request, text, sizeof text, &length), ERR_OK);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(text, expected, length);
}

static void test_request(void **state) {
    (void)state;
    struct file *listener, *file;
    size_t length;
    unsigned ready;
    uint64_t bytes;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    assert_int_equal(file->type, FILE_CHARACTER_DEVICE);
    op.nonblocking = true;
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_AGAIN);
    assert_int_equal(file_write(&op, file, "x", 1, 0, &length), ERR_AGAIN);
    assert_int_equal(file_poll(&op, file, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, 0);
    op.nonblocking = false;
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_PENDING);
    struct serve_request *request = request_new("HEAD\r\n\r\n", "body", true);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_request_state(request), SERVE_WAITING);
    turn_until_woken();
    expect_read(file, 3, "HEA");
    assert_int_equal(serve_request_state(request), SERVE_TAKEN);
    expect_read(file, 100, "D\r\n\r\nbody");
    /* Libraries give back what they have read ahead. */
    assert_int_equal(file_unread(&op, file, 4), ERR_OK);
    assert_int_equal(file_unread(&op, file, 100), ERR_SPIPE);
    assert_int_equal(file_poll(&op, file, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(bytes, 4);
    assert_int_equal(file_write(&op, file, "answer", 6, 0, &length), ERR_OK);
    expect_answer(request, "answer");
    expect_read(file, 100, "body");
    assert_int_equal(file_poll(&op, file, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE | POLL_HANGUP);
    expect_read(file, 100, "");
    assert_int_equal(serve_request_answer(request, text, 1, &length), ERR_AGAIN);
    assert_int_equal(file_write(&op, file, " goes on", 8, 0, &length), ERR_OK);
    close_file(file, true);
    assert_true(serve_request_is_answered(request));
    expect_answer(request, " goes on");
    expect_answer(request, "");
    request_free(request);
    file_unref(listener);
}

static void test_cut(void **state) {
    (void)state;
    struct file *listener, *file;
    size_t length;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    /* The program ends in between. */
    struct serve_request *request = request_new("HEAD", "", true);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    assert_int_equal(file_write(&op, file, "half", 4, 0, &length), ERR_OK);
    close_file(file, false);
    expect_answer(request, "half");
    assert_int_equal(serve_request_answer(request, text, 1, &length), ERR_IO);
    request_free(request);

    /* The visitor leaves in its body, and later: a short answer is dropped, a long one fails. */
    request = request_new("HEAD", "bo", false);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    expect_read(file, 100, "HEADbo");
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_PENDING);
    request_free(request);
    turn_until_woken();
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_CONNRESET);
    assert_int_equal(file_write(&op, file, "answer", 6, 0, &length), ERR_OK);
    static const char much[SERVE_UNHEARD_BYTES];
    assert_int_equal(file_write(&op, file, much, sizeof much, 0, &length), ERR_PIPE);
    close_file(file, true);
    file_unref(listener);
}

static void test_bounds(void **state) {
    (void)state;
    static char much[2 * SERVE_EARLY_BYTES];
    struct file *listener, *file;
    size_t length;
    uint64_t taken;
    unsigned ready;
    uint64_t bytes;
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    struct serve_request *request = request_new("HEAD", "", false);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    assert_int_equal(serve_request_body(request, much, sizeof much), SERVE_BODY_BYTES);
    assert_int_equal(serve_request_body(request, much, 1), 0);
    assert_false(serve_request_is_stuck(request, &taken));
    assert_int_equal(file_write(&op, file, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(length, SERVE_EARLY_BYTES);
    assert_true(serve_request_is_stuck(request, &taken));
    assert_int_equal(taken, 0);
    assert_int_equal(file_write(&op, file, much, 1, 0, &length), ERR_PENDING);
    op_abandon(&op);

    /* The program reads: there is room for more of the body, and its door is woken. */
    op_init(&door_op, loop, &who, on_wake);
    assert_int_equal(serve_request_watch(&door_op, request), ERR_OK);
    assert_int_equal(file_read(&op, file, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(length, SERVE_BODY_BYTES + 4);
    turn_until_woken();
    assert_false(serve_request_is_stuck(request, &taken));
    assert_int_equal(taken, SERVE_BODY_BYTES);
    serve_request_body_end(request);

    /* The answer goes out; then less may wait. */
    assert_int_equal(file_poll(&op, file, POLL_WRITABLE, &ready, &bytes), ERR_PENDING);
    while (serve_request_answer(request, much, sizeof much, &length) == ERR_OK) {
    }
    turn_until_woken();
    assert_int_equal(file_poll(&op, file, POLL_WRITABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE);
    assert_int_equal(file_write(&op, file, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(length, SERVE_ANSWER_BYTES);
    serve_request_leave(request);
    assert_int_equal(file_poll(&op, file, POLL_WRITABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE | POLL_HANGUP);
    close_file(file, true);
    op_done(&door_op);
    serve_request_unref(request);
    file_unref(listener);
}

/* What waits goes to whoever asks first, and each only once. */
static void test_waiting(void **state) {
    (void)state;
    struct file *listener, *connection, *file;
    struct serve_request *requests[4];
    int ends[2];
    size_t length;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        requests[i] = request_new("HEAD", "", true);
        requests[i]->is_ripe = i > 0; /* the first one's body has only begun */
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(serve_listener_put(listener, requests[i], 3), ERR_OK);
    }
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_AGAIN);
    assert_int_equal(serve_listener_waiting(listener).all, 3);
    assert_int_equal(serve_listener_waiting(listener).ripe, 2);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    expect_read(file, 100, "HEAD");
    assert_int_equal(serve_request_state(requests[1]), SERVE_TAKEN);

    /* accept takes those that are not ripe, too. One that leaves meanwhile is none. */
    op_init(&door_op, loop, &who, on_wake);
    assert_int_equal(serve_request_watch(&door_op, requests[0]), ERR_OK);
    op.nonblocking = true;
    assert_int_equal(file_accept(&op, listener, &connection), ERR_PENDING);
    assert_int_equal(serve_request_state(requests[0]), SERVE_CONNECTING);
    assert_int_equal(serve_request_state(requests[2]), SERVE_WAITING);
    turn_until_woken();
    request_free(requests[0]);
    turn_until_woken();
    assert_int_equal(file_accept(&op, listener, &connection), ERR_PENDING);
    assert_int_equal(serve_request_state(requests[2]), SERVE_CONNECTING);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(serve_listener_connect(listener, requests[2], ends[1], 0), ERR_OK);
    turn_until_woken();
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    assert_int_equal(file_accept(&op, listener, &connection), ERR_AGAIN);
    file_unref(connection);
    close(ends[0]);

    /* The program ends: nobody has seen what waits. */
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_OK);
    serve_listener_close(listener);
    assert_int_equal(serve_request_state(requests[3]), SERVE_REFUSED);
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_PIPE);
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_OK);
    close_file(file, true);
    op_done(&door_op);
    for (size_t i = 1; i < ARRAY_LENGTH(requests); i++) {
        request_free(requests[i]);
    }
    file_unref(listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waiting, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
