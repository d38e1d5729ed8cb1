#include "ns/pipe.h"

#include "ns/pending_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

static int setup(void **state) {
    (void)state;
    test_begin();
    return 0;
}
static int teardown(void **state) {
    (void)state;
    test_end();
    return 0;
}

static void test_bytes_pass_in_order(void **state) {
    (void)state;
    struct pipe *pipe;
    assert_int_equal(pipe_new(3000, &pipe), ERR_OK);
    uint8_t piece[700];
    uint32_t in = 0, out = 0;
    for (int round = 0; round < 200; round++) {
        size_t length = 1 + (size_t)(round * 37) % sizeof piece, done = 0;
        for (size_t i = 0; i < length; i++) {
            piece[i] = (uint8_t)((in + i) * 7);
        }
        test_op.nonblocking = true;
        enum err err = pipe_write(&test_op, pipe, piece, length, &done);
        assert_true(err == ERR_OK || (err == ERR_AGAIN && pipe_length(pipe) == 3000));
        in += (uint32_t)done;
        if (round % 3 == 0 || err == ERR_AGAIN) {
            done = 0;
            assert_int_equal(pipe_read(&test_op, pipe, piece, sizeof piece, &done), ERR_OK);
            for (size_t i = 0; i < done; i++) {
                assert_int_equal(piece[i], (uint8_t)((out + i) * 7));
            }
            out += (uint32_t)done;
        }
        assert_int_equal(pipe_length(pipe), in - out);
    }
    pipe_unref(pipe);
}

static void test_ends(void **state) {
    (void)state;
    struct pipe *pipe;
    size_t done = 99;
    char byte;
    assert_int_equal(pipe_new(4, &pipe), ERR_OK);
    assert_int_equal(pipe_write(&test_op, pipe, "abcdef", 6, &done), ERR_OK);
    assert_int_equal(done, 4);
    assert_int_equal(pipe_write(&test_op, pipe, "e", 1, &done), ERR_PENDING);
    op_abandon(&test_op);
    pipe_close_write(pipe);
    assert_int_equal(pipe_write(&test_op, pipe, "e", 1, &done), ERR_PIPE);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pipe_read(&test_op, pipe, &byte, 1, &done), ERR_OK);
        assert_int_equal(byte, 'a' + i);
    }
    assert_int_equal(pipe_read(&test_op, pipe, &byte, 1, &done), ERR_OK);
    assert_int_equal(done, 0);
    pipe_unref(pipe);

    assert_int_equal(pipe_new(4, &pipe), ERR_OK);
    assert_int_equal(pipe_write(&test_op, pipe, "ab", 2, &done), ERR_OK);
    pipe_close_read(pipe);
    assert_int_equal(pipe_length(pipe), 0);
    assert_int_equal(pipe_write(&test_op, pipe, "c", 1, &done), ERR_PIPE);
    assert_int_equal(pipe_read(&test_op, pipe, &byte, 1, &done), ERR_OK);
    assert_int_equal(done, 0);
    pipe_unref(pipe);
}

static void test_waiting_and_polling(void **state) {
    (void)state;
    struct pipe *pipe;
    struct op writer;
    size_t done = 0;
    unsigned ready = 99;
    uint64_t bytes = 99;
    char text[8];
    op_init(&writer, test_loop, &test_who, test_wake);
    assert_int_equal(pipe_new(4, &pipe), ERR_OK);
    assert_int_equal(pipe_read(&test_op, pipe, text, 8, &done), ERR_PENDING);
    assert_int_equal(pipe_write(&writer, pipe, "xyz", 3, &done), ERR_OK);
    test_wait();
    assert_int_equal(pipe_read(&test_op, pipe, text, 8, &done), ERR_OK);
    assert_int_equal(done, 3);
    assert_int_equal(pipe_poll(&test_op, pipe, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    assert_int_equal(pipe_poll(&writer, pipe, POLL_WRITABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_WRITABLE);
    pipe_close_write(pipe);
    test_wait();
    assert_int_equal(pipe_poll(&test_op, pipe, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE | POLL_HANGUP);
    assert_int_equal(bytes, 0);
    op_done(&writer);
    pipe_unref(pipe);
}

enum { TRANSFERRED = 1000000 };

static void *write_all(void *argument) {
    struct pipe *pipe = argument;
    struct loop *loop;
    struct op op;
    INVARIANT(loop_new(1, &loop) == ERR_OK);
    op_init(&op, loop, &test_who, test_wake);
    for (uint32_t at = 0; at < TRANSFERRED;) {
        uint8_t piece[1000];
        for (uint32_t i = 0; i < sizeof piece; i++) {
            piece[i] = (uint8_t)((at + i) * 13);
        }
        size_t done = 0;
        enum err err = pipe_write(&op, pipe, piece, MIN(sizeof piece, TRANSFERRED - at), &done);
        if (err == ERR_PENDING) {
            loop_turn(loop);
        }
        at += (uint32_t)done;
    }
    pipe_close_write(pipe);
    op_done(&op);
    while (loop_turn(loop)) {
    }
    loop_free(loop);
    return NULL;
}

static void test_two_threads(void **state) {
    (void)state;
    struct pipe *pipe;
    pthread_t thread;
    assert_int_equal(pipe_new(1500, &pipe), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, write_all, pipe), 0);
    uint8_t piece[777];
    uint32_t at = 0;
    for (;;) {
        size_t done = 0;
        enum err err = pipe_read(&test_op, pipe, piece, sizeof piece, &done);
        if (err == ERR_PENDING) {
            loop_turn(test_loop);
            continue;
        }
        assert_int_equal(err, ERR_OK);
        if (done == 0) {
            break;
        }
        for (size_t i = 0; i < done; i++) {
            assert_int_equal(piece[i], (uint8_t)((at + i) * 13));
        }
        at += (uint32_t)done;
    }
    assert_int_equal(at, TRANSFERRED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pipe_unref(pipe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_pass_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_and_polling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
