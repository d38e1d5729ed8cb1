/* Listening sockets of programs that are kept, and their connections. */
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
    enum err err = serve_listener_connect(listener, ends[1], waiting_max);
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
    assert_int_equal(serve_listener_waiting(listener), 2);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connection, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
