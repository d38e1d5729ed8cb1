#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_names_and_texts(void **state) {
    (void)state;
    assert_string_equal(err_name(ERR_OK), "success");
    assert_string_equal(err_name(ERR_2BIG), "2big");
    assert_string_equal(err_name(ERR_NOTRECOVERABLE), "notrecoverable");
    assert_string_equal(err_name(ERR_PROTONOSUPPORT), "protonosupport");
    assert_string_equal(err_text(ERR_NOENT), "no such file or directory");
    assert_string_equal(err_name((enum err)999), "io");
    assert_string_equal(err_text((enum err)999), err_text(ERR_IO));
}

static void test_numbers_are_those_of_wasi(void **state) {
    (void)state;
    assert_int_equal(ERR_BADF, 8);
    assert_int_equal(ERR_INVAL, 28);
    assert_int_equal(ERR_NOENT, 44);
    assert_int_equal(ERR_NOTCAPABLE, 76);
}

static void test_http_status(void **state) {
    (void)state;
    assert_int_equal(err_http_status(ERR_OK), 200);
    assert_int_equal(err_http_status(ERR_NOENT), 404);
    assert_int_equal(err_http_status(ERR_IO), 500);
    assert_int_equal(err_http_status((enum err)999), 500);
#define CHECK(name, number, http_status, text)                                                     \
    assert_int_equal(err_http_status(ERR_##name), http_status);
    ERR_LIST(CHECK)
#undef CHECK
}

static void test_from_errno(void **state) {
    (void)state;
    assert_int_equal(err_from_errno(0), ERR_OK);
    assert_int_equal(err_from_errno(E2BIG), ERR_2BIG);
    assert_int_equal(err_from_errno(ENOENT), ERR_NOENT);
    assert_int_equal(err_from_errno(EWOULDBLOCK), ERR_AGAIN);
    assert_int_equal(err_from_errno(EOPNOTSUPP), ERR_NOTSUP);
    assert_int_equal(err_from_errno(EXDEV), ERR_XDEV);
    assert_int_equal(err_from_errno(EDQUOT), ERR_DQUOT);
    assert_int_equal(err_from_errno(ENOTBLK), ERR_IO);
    assert_int_equal(err_from_errno(-1), ERR_IO);
    for (int number = 1; number < 140; number++) { /* never what is not an error */
        enum err err = err_from_errno(number);
        assert_true(err != ERR_OK && err < ERR_PENDING);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_texts),
        cmocka_unit_test(test_numbers_are_those_of_wasi),
        cmocka_unit_test(test_http_status),
        cmocka_unit_test(test_from_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
