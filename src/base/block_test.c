#include "base/block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

static void test_a_block_is_zero_whatever_it_was_before(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 64, 65, 1600, BLOCK_BYTES_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        void *block = block_new_raw(sizes[i]);
        assert_non_null(block);
        memset(block, 0xab, sizes[i]);
        block_free(block, sizes[i]);
        uint8_t *again = block_new(sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++) {
            assert_int_equal(again[j], 0);
        }
        block_free(again, sizes[i]);
    }
    block_free(NULL, 100);
}

static void test_blocks_do_not_overlap(void **state) {
    (void)state;
    enum { COUNT = 1000, BYTES = 1000 }; /* more than are kept */
    static uint8_t *blocks[COUNT];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            blocks[i] = block_new(BYTES);
            assert_non_null(blocks[i]);
            memset(blocks[i], (int)i, BYTES);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(blocks[i][0], (uint8_t)i);
            assert_int_equal(blocks[i][BYTES - 1], (uint8_t)i);
            block_free(blocks[i], BYTES);
        }
    }
}

static void *use_blocks(void *argument) {
    void *given = block_new(200);
    block_free(argument, 200); /* another thread's */
    block_free(block_new(300), 300);
    return given;
}

static void test_a_block_may_go_to_another_thread(void **state) {
    (void)state;
    pthread_t thread;
    void *given = NULL;
    assert_int_equal(pthread_create(&thread, NULL, use_blocks, block_new(200)), 0);
    assert_int_equal(pthread_join(thread, &given), 0);
    assert_non_null(given);
    block_free(given, 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_block_is_zero_whatever_it_was_before),
        cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_a_block_may_go_to_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
