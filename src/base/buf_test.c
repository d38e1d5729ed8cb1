#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_content(const struct buf *buf, const char *text) {
    assert_int_equal(buf->length, strlen(text));
    assert_string_equal(buf_text(buf), text);
    assert_true(!buf->data || buf->data[buf->length] == 0);
    assert_true(buf->length <= buf->capacity || !buf->data);
}

static void test_empty(void **state) {
    (void)state;
    struct buf buf = {0};
    assert_content(&buf, "");
    assert_int_equal(buf_append(&buf, NULL, 0), ERR_OK);
    assert_null(buf.data);
    buf_consume(&buf, 0);
    buf_consume(&buf, 5);
    assert_content(&buf, "");
    buf_done(&buf);
    buf_done(&buf);
}

static void test_append_and_consume(void **state) {
    (void)state;
    cleanup_buf struct buf buf = {0};
    assert_int_equal(buf_append(&buf, "hello", 5), ERR_OK);
    assert_int_equal(buf_append_byte(&buf, ' '), ERR_OK);
    assert_int_equal(buf_append_str(&buf, STR("world")), ERR_OK);
    assert_content(&buf, "hello world");
    buf_consume(&buf, 6);
    assert_content(&buf, "world");
    buf_consume(&buf, 99);
    assert_content(&buf, "");
}

static void test_grows(void **state) {
    (void)state;
    cleanup_buf struct buf buf = {0};
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(buf_append_byte(&buf, (uint8_t)(i % 251)), ERR_OK);
        assert_int_equal(buf.data[buf.length], 0);
    }
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(buf.data[i], i % 251);
    }
}

static void test_refuses_what_no_memory_holds(void **state) {
    (void)state;
    cleanup_buf struct buf buf = {0};
    assert_int_equal(buf_append(&buf, "abc", 3), ERR_OK);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX), ERR_NOMEM);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX - 3), ERR_NOMEM);
    assert_int_equal(buf_reserve(&buf, (size_t)PTRDIFF_MAX), ERR_NOMEM);
    assert_content(&buf, "abc");
}

static void test_printf(void **state) {
    (void)state;
    cleanup_buf struct buf buf = {0};
    assert_int_equal(buf_printf(&buf, "%d-%s", 7, "seven"), ERR_OK);
    assert_content(&buf, "7-seven");
    /* Over what there is room for, from every length. */
    for (size_t length = 0; length < 200; length++) {
        cleanup_buf struct buf other = {0};
        assert_int_equal(buf_append(&other, "x", 1), ERR_OK);
        assert_int_equal(buf_printf(&other, "%*s", (int)length, ""), ERR_OK);
        assert_int_equal(other.length, length + 1);
        assert_int_equal(strlen((char *)other.data), length + 1);
    }
    assert_int_equal(buf_printf(&buf, "%s", ""), ERR_OK);
    struct buf empty = {0};
    assert_int_equal(buf_printf(&empty, "%s", ""), ERR_OK);
    assert_int_equal(empty.length, 0);
    buf_done(&empty);
    assert_content(&buf, "7-seven");
}

static void test_fail_may_use_the_old_message(void **state) {
    (void)state;
    cleanup_buf struct buf message = {0};
    assert_int_equal(buf_fail(&message, ERR_NOENT, "no app named '%s'", "x"), ERR_NOENT);
    assert_content(&message, "no app named 'x'");
    assert_int_equal(buf_fail(&message, ERR_INVAL, "cannot run: %s", buf_text(&message)),
                     ERR_INVAL);
    assert_content(&message, "cannot run: no app named 'x'");
    assert_int_equal(buf_fail(NULL, ERR_IO, "%s", "nobody listens"), ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),  cmocka_unit_test(test_append_and_consume),
        cmocka_unit_test(test_grows),  cmocka_unit_test(test_refuses_what_no_memory_holds),
        cmocka_unit_test(test_printf), cmocka_unit_test(test_fail_may_use_the_old_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
