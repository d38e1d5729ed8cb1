/* Programs that are kept: requests that wait for them, taken by /net/serve or by connections. */
#include "dev/serve.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

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

static struct op door_op;

/* A request with this head and body; complete if `is_whole`. */
static struct serve_request *request_new(const char *head, const char *body, bool is_whole) {
    struct serve_request *request;
    assert_int_equal(serve_request_new(&request), ERR_OK);
    assert_int_equal(buf_append_str(&request->head, str_of(head)), ERR_OK);
    assert_int_equal(buf_reserve(&request->head, SERVE_HEAD_END_BYTES), ERR_OK);
    request->head_length = strlen(head);
    request->has_body = body[0];
    assert_int_equal(serve_request_body(request, body, strlen(body)), strlen(body));
    request->is_ripe = true;
    if (is_whole) {
        serve_request_body_end(request);
    }
    return request;
}

static void request_free(struct serve_request *request) {
    serve_withdraw(request);
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
    assert_int_equal(serve_request_answer(request, text, sizeof text, false, &length), ERR_OK);
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
    assert_false(serve_listener_is_asked(listener)); /* to open it asks for nothing */
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_AGAIN);
    assert_true(serve_listener_is_asked(listener));
    assert_int_equal(file_write(&op, file, "x", 1, 0, &length), ERR_AGAIN);
    assert_int_equal(file_poll(&op, file, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, 0);
    op.nonblocking = false;
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_PENDING);
    struct serve_request *request = request_new("HEAD\r\n", "body", true);
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
    assert_int_equal(serve_request_answer(request, text, 1, false, &length), ERR_AGAIN);
    assert_false(serve_request_complete(request, NULL, 0, 0));
    assert_int_equal(file_write(&op, file, " goes on", 8, 0, &length), ERR_OK);
    assert_true(serve_request_complete(request, NULL, 0, 0));
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
    assert_int_equal(serve_request_answer(request, text, 1, false, &length), ERR_IO);
    request_free(request);

    /* The visitor leaves in its body, and later: a short answer is dropped, a long one fails. */
    request = request_new("HEAD", "bo", false);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    expect_read(file, 100, "HEAD\r\nbo");
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_PENDING);
    request_free(request);
    turn_until_woken();
    assert_int_equal(file_read(&op, file, text, 1, 0, &length), ERR_CONNRESET);
    assert_int_equal(file_write(&op, file, "answer", 6, 0, &length), ERR_OK);
    static const char much[UNHEARD_BYTES_MAX];
    assert_int_equal(file_write(&op, file, much, sizeof much, 0, &length), ERR_PIPE);
    close_file(file, true);
    file_unref(listener);
}

static void test_bounds(void **state) {
    (void)state;
    static char much[2 * SERVE_EARLY_BYTES];
    struct file *listener, *file;
    size_t length;
    unsigned ready;
    uint64_t bytes;
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    struct serve_request *request = request_new("HEAD", "", false);
    assert_int_equal(serve_listener_put(listener, request, 1), ERR_OK);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    assert_int_equal(serve_request_body(request, much, sizeof much), SERVE_BODY_BYTES);
    assert_int_equal(serve_request_body(request, much, 1), 0);
    assert_int_equal(file_write(&op, file, much, SERVE_EARLY_BYTES - 1, 0, &length), ERR_OK);
    assert_int_equal(length, SERVE_EARLY_BYTES - 1);
    assert_false(serve_request_is_full(request));
    assert_int_equal(file_write(&op, file, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(length, 1);
    assert_true(serve_request_is_full(request));
    assert_int_equal(file_write(&op, file, much, 1, 0, &length), ERR_PENDING);
    op_abandon(&op);

    /* The program reads: there is room for more of the body, and its door is woken. */
    op_init(&door_op, loop, &who, on_wake);
    assert_int_equal(serve_request_watch(&door_op, request), ERR_OK);
    assert_int_equal(file_read(&op, file, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(length, SERVE_BODY_BYTES + 6);
    turn_until_woken();
    assert_true(serve_request_is_full(request));
    serve_request_body_end(request);
    assert_false(serve_request_is_full(request)); /* it goes out anyway */

    /* The answer goes out; then less may wait. */
    assert_int_equal(file_poll(&op, file, POLL_WRITABLE, &ready, &bytes), ERR_PENDING);
    while (serve_request_answer(request, much, sizeof much, false, &length) == ERR_OK) {
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
    size_t length;
    unsigned ready;
    uint64_t bytes;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    assert_int_equal(listener->type, FILE_SOCKET_STREAM);
    assert_int_equal(file_read(&op, listener, text, 1, 0, &length), ERR_NOTCONN);
    assert_int_equal(file_write(&op, listener, text, 1, 0, &length), ERR_NOTCONN);
    op.nonblocking = true;
    assert_int_equal(file_accept(&op, listener, &connection), ERR_AGAIN);
    op.nonblocking = false;
    assert_int_equal(file_accept(&op, listener, &connection), ERR_PENDING);
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        requests[i] = request_new("HEAD", "", true);
        requests[i]->is_ripe = i > 0; /* the first one's body has only begun */
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(serve_listener_put(listener, requests[i], 3), ERR_OK);
    }
    turn_until_woken();
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_AGAIN);
    assert_int_equal(serve_listener_waiting(listener).all, 3);
    assert_int_equal(serve_listener_waiting(listener).ripe, 2);
    assert_int_equal(file_poll(&op, listener, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(serve_file_open(listener, 1, 2, &file), ERR_OK);
    expect_read(file, 100, "HEAD\r\n");
    assert_int_equal(serve_request_state(requests[1]), SERVE_TAKEN);

    /* accept takes those that are not ripe, too. */
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    assert_int_equal(serve_request_state(requests[0]), SERVE_TAKEN);
    assert_true(requests[0]->by_connection);
    close_file(connection, true);
    /* One that has left is none. */
    request_free(requests[2]);
    assert_int_equal(file_accept(&op, listener, &connection), ERR_PENDING);
    op_abandon(&op);

    /* The program ends: nobody has seen what waits. */
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_OK);
    serve_listener_close(listener);
    assert_int_equal(serve_request_state(requests[3]), SERVE_REFUSED);
    assert_int_equal(serve_listener_put(listener, requests[3], 3), ERR_PIPE);
    close_file(file, true);
    request_free(requests[0]);
    request_free(requests[1]);
    request_free(requests[3]);
    file_unref(listener);
}

static bool owes(struct file *listener) {
    uint64_t progress;
    return serve_listener_owes(listener, &progress);
}

static uint64_t progress_of(struct file *listener) {
    uint64_t progress;
    (void)serve_listener_owes(listener, &progress);
    return progress;
}

/* What waits at one listener goes to another one, in the order in which it came. */
static void test_given_back(void **state) {
    (void)state;
    struct file *listeners[2], *connection;
    struct serve_request *requests[3];
    for (size_t i = 0; i < ARRAY_LENGTH(listeners); i++) {
        assert_int_equal(serve_listener_new(&listeners[i]), ERR_OK);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        requests[i] = request_new("HEAD", "", true);
        assert_int_equal(serve_listener_put(listeners[i == 1], requests[i], 3), ERR_OK);
    }
    serve_listener_give_back(listeners[0]);
    assert_int_equal(serve_request_state(requests[0]), SERVE_REFUSED);
    assert_int_equal(serve_listener_waiting(listeners[0]).all, 1);
    serve_listener_close(listeners[0]);
    assert_int_equal(serve_request_state(requests[2]), SERVE_REFUSED);
    requests[2]->is_ripe = false; /* it becomes so when it waits nowhere */
    serve_ripen(requests[2], true, 5);
    assert_true(requests[2]->has_length && requests[2]->length == 5);
    assert_int_equal(serve_listener_put(listeners[1], requests[2], 1), ERR_OK);
    assert_int_equal(serve_listener_put(listeners[1], requests[0], 1), ERR_OK);
    assert_int_equal(serve_listener_waiting(listeners[1]).ripe, 3);
    for (size_t i = 0; i < ARRAY_LENGTH(requests); i++) {
        assert_int_equal(file_accept(&op, listeners[1], &connection), ERR_OK);
        assert_int_equal(serve_request_state(requests[i]), SERVE_TAKEN);
        close_file(connection, true);
        request_free(requests[i]);
    }
    serve_listener_give_back(listeners[1]); /* there is none */
    file_unref(listeners[0]);
    file_unref(listeners[1]);
}

/* Whose turn it is, and what counts as something done. */
static void test_owes(void **state) {
    (void)state;
    struct file *listener, *connection;
    struct op waits;
    size_t length;
    char text[100];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    assert_false(owes(listener));
    struct serve_request *request = request_new("HEAD", "", true);
    assert_int_equal(serve_listener_put(listener, request, 3), ERR_OK);
    assert_true(owes(listener)); /* it waits */
    uint64_t progress = progress_of(listener);
    request_free(request);
    assert_true(owes(listener)); /* it has waited in vain */
    assert_int_equal(progress_of(listener), progress);
    op_init(&waits, loop, &who, on_wake);
    assert_int_equal(file_accept(&waits, listener, &connection), ERR_PENDING);
    assert_false(owes(listener)); /* the program asks */
    assert_true(serve_listener_is_awaited(listener));
    assert_int_not_equal(progress_of(listener), progress);

    request = request_new("HEAD", "half", false);
    request->is_ripe = false;
    assert_int_equal(serve_listener_put(listener, request, 3), ERR_OK);
    assert_false(owes(listener)); /* its body has only begun */
    assert_int_equal(file_accept(&waits, listener, &connection), ERR_OK);
    assert_true(owes(listener)); /* there is something to read */
    progress = progress_of(listener);
    assert_int_equal(file_read(&op, connection, text, sizeof text, 0, &length), ERR_OK);
    while (length > 0 && owes(listener)) {
        assert_int_equal(file_read(&op, connection, text, sizeof text, 0, &length), ERR_OK);
    }
    assert_int_not_equal(progress_of(listener), progress);
    assert_false(owes(listener)); /* it waits for the visitor */
    serve_request_body_end(request);
    assert_true(owes(listener));
    progress = progress_of(listener);
    assert_int_equal(file_write(&op, connection, "some", 4, 0, &length), ERR_OK);
    assert_false(owes(listener)); /* the answer has begun */
    assert_int_not_equal(progress_of(listener), progress);
    struct serve_request *other = request_new("HEAD", "", true);
    assert_int_equal(serve_listener_put(listener, other, 3), ERR_OK);
    assert_true(owes(listener)); /* another one waits */
    static char much[SERVE_ANSWER_BYTES];
    assert_int_equal(file_write(&op, connection, much, sizeof much, 0, &length), ERR_OK);
    assert_int_equal(file_write(&op, connection, much, sizeof much, 0, &length), ERR_PENDING);
    assert_false(owes(listener)); /* but the program waits for a visitor */
    op_abandon(&op);
    assert_true(owes(listener));
    progress = progress_of(listener);
    close_file(connection, false);
    assert_int_not_equal(progress_of(listener), progress);
    op_done(&waits);
    request_free(request);
    request_free(other);
    file_unref(listener);
}

/* ---- connections ---- */

static struct file *accepted(struct file *listener, struct serve_request *request) {
    struct file *connection;
    assert_int_equal(serve_listener_put(listener, request, 10), ERR_OK);
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    assert_int_equal(connection->type, FILE_SOCKET_STREAM);
    return connection;
}

static void answer(struct file *connection, struct serve_request *request, bool may_go_on) {
    size_t length;
    struct op other; /* while `op` reads */
    op_init(&other, loop, &who, on_wake);
    assert_int_equal(file_write(&other, connection, "answer", 6, 0, &length), ERR_OK);
    op_done(&other);
    expect_answer(request, "answer");
    serve_answered(request, may_go_on);
    request_free(request);
}

static void test_connection(void **state) {
    (void)state;
    struct file *listener;
    size_t length;
    unsigned ready;
    uint64_t bytes;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    struct serve_request *request = request_new("ONE", "", true);
    struct file *connection = accepted(listener, request);
    expect_read(connection, 2, "ON");
    assert_int_equal(file_poll(&op, connection, POLL_READABLE | POLL_WRITABLE, &ready, &bytes),
                     ERR_OK);
    assert_int_equal(ready, POLL_READABLE | POLL_WRITABLE);
    assert_int_equal(bytes, 3);
    expect_read(connection, 100, "E\r\n");
    op.nonblocking = true;
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_AGAIN);
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, 0);
    op.nonblocking = false;

    /* The next request comes when the program reads on, and not before: it may close. */
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_PENDING);
    answer(connection, request, true);
    request = request_new("TWO", "", true);
    assert_int_equal(serve_listener_put(listener, request, 10), ERR_OK);
    assert_int_equal(serve_request_state(request), SERVE_WAITING);
    turn_until_woken();
    expect_read(connection, 100, "TWO\r\n");
    assert_int_equal(serve_request_state(request), SERVE_TAKEN);
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    answer(connection, request, true);
    turn_until_woken();
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_PENDING);

    /* One that comes while the program closes was seen by nobody. */
    request = request_new("THREE", "", true);
    assert_int_equal(serve_listener_put(listener, request, 10), ERR_OK);
    assert_int_equal(serve_request_state(request), SERVE_TAKEN);
    op_abandon(&op);
    close_file(connection, true);
    assert_int_equal(serve_request_state(request), SERVE_REFUSED);
    assert_int_equal(serve_listener_put(listener, request, 10), ERR_OK);
    assert_int_equal(serve_request_state(request), SERVE_WAITING);
    assert_int_equal(file_accept(&op, listener, &connection), ERR_OK);
    expect_read(connection, 100, "THREE\r\n");

    /* The last one of its connection. */
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_PENDING);
    answer(connection, request, false);
    turn_until_woken();
    expect_read(connection, 100, "");
    assert_int_equal(file_poll(&op, connection, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE | POLL_HANGUP);
    assert_int_equal(file_write(&op, connection, "x", 1, 0, &length), ERR_PIPE);
    close_file(connection, true);
    file_unref(listener);
}

static void test_connection_ends(void **state) {
    (void)state;
    struct file *listener;
    size_t length;
    char text[10];
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    /* The client leaves: for the program the peer has closed. */
    struct serve_request *request = request_new("HEAD", "", true);
    struct file *connection = accepted(listener, request);
    expect_read(connection, 100, "HEAD\r\n");
    assert_int_equal(file_read(&op, connection, text, 10, 0, &length), ERR_PENDING);
    request_free(request);
    turn_until_woken();
    expect_read(connection, 100, "");
    close_file(connection, true);
    /* The program closes without an answer, and ends in the middle of one. */
    request = request_new("HEAD", "", true);
    close_file(accepted(listener, request), true);
    expect_answer(request, "");
    request_free(request);
    request = request_new("HEAD", "", true);
    connection = accepted(listener, request);
    assert_int_equal(file_write(&op, connection, "half", 4, 0, &length), ERR_OK);
    close_file(connection, false);
    expect_answer(request, "half");
    assert_int_equal(serve_request_answer(request, text, 1, false, &length), ERR_IO);
    request_free(request);
    /* By shutdown, and what follows is for nobody. */
    request = request_new("HEAD", "", true);
    connection = accepted(listener, request);
    assert_int_equal(file_write(&op, connection, "a\nb", 3, 0, &length), ERR_OK);
    assert_int_equal(file_shutdown(&op, connection, SHUTDOWN_WRITE), ERR_OK);
    assert_int_equal(file_write(&op, connection, "x", 1, 0, &length), ERR_PIPE);
    assert_int_equal(serve_request_answer(request, text, 10, true, &length), ERR_OK);
    assert_int_equal(length, 2); /* a line at a time */
    expect_answer(request, "b");
    expect_answer(request, "");
    close_file(connection, true);
    request_free(request);
    file_unref(listener);
}

/* A body of unknown length, in pieces of any size. */
static void test_chunks(void **state) {
    (void)state;
    struct file *listener;
    assert_int_equal(serve_listener_new(&listener), ERR_OK);
    for (size_t size = 1; size < 50; size++) {
        struct serve_request *request = request_new("HEAD\r\n", "0123456789abcdef0", false);
        struct file *connection = accepted(listener, request);
        cleanup_buf struct buf all = {0};
        char text[50];
        size_t length;
        enum err err;
        while ((err = file_read(&op, connection, text, size, 0, &length)) == ERR_OK) {
            assert_int_equal(buf_append(&all, text, length), ERR_OK);
        }
        assert_int_equal(err, ERR_PENDING);
        assert_int_equal(serve_request_body(request, "x", 1), 1);
        serve_request_body_end(request);
        turn_until_woken();
        while ((err = file_read(&op, connection, text, size, 0, &length)) == ERR_OK) {
            assert_int_equal(buf_append(&all, text, length), ERR_OK);
        }
        assert_int_equal(err, ERR_PENDING);
        assert_string_equal(buf_text(&all), "HEAD\r\nTransfer-Encoding: chunked\r\n\r\n"
                                            "11\r\n0123456789abcdef0\r\n1\r\nx\r\n0\r\n\r\n");
        op_abandon(&op);
        close_file(connection, true);
        request_free(request);
    }
    file_unref(listener);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_owes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connection_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chunks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
