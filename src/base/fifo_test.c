#include "base/fifo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* What goes in comes out, in pieces of other sizes, and memory does not grow with what went by. */
static void test_order(void **state) {
    (void)state;
    struct fifo fifo = {0};
    uint8_t in = 0, out = 0, piece[100];
    for (size_t i = 0; i < 10000; i++) {
        size_t length = i * 7 % sizeof piece;
        for (size_t j = 0; j < length; j++) {
            piece[j] = in++;
        }
        assert_int_equal(fifo_append(&fifo, piece, length), ERR_OK);
        size_t before = fifo_length(&fifo);
        length = fifo_take(&fifo, piece, i * 11 % sizeof piece + (i % 100 == 0 ? 0 : 1));
        assert_int_equal(fifo_length(&fifo), before - length);
        for (size_t j = 0; j < length; j++) {
            assert_int_equal(piece[j], out++);
        }
        while (fifo_length(&fifo) > 500) {
            length = fifo_take(&fifo, piece, sizeof piece);
            out = (uint8_t)(out + length);
        }
    }
    assert_true(fifo.buf.capacity < 4096);
    fifo_done(&fifo);
    assert_int_equal(fifo_length(&fifo), 0);
    assert_int_equal(fifo_take(&fifo, piece, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
