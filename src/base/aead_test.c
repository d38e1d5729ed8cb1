#include "base/aead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint8_t key[AEAD_KEY_SIZE] = {1, 2, 3};

static void test_opens_what_was_sealed(void **state) {
    (void)state;
    static const char text[] = "a text of some length, longer than a block";
    for (size_t length = 0; length < sizeof text; length++) {
        cleanup_buf struct buf sealed = {0}, again = {0}, plain = {0};
        struct str given = {text, length};
        assert_int_equal(aead_seal(key, STR("place"), given, &sealed), ERR_OK);
        assert_int_equal(sealed.length, length + AEAD_EXTRA);
        assert_int_equal(aead_open(key, STR("place"), buf_str(&sealed), &plain), ERR_OK);
        assert_true(str_equal(buf_str(&plain), given));
        /* The same text twice does not look the same. */
        assert_int_equal(aead_seal(key, STR("place"), given, &again), ERR_OK);
        assert_false(str_equal(buf_str(&sealed), buf_str(&again)));
        if (length > 8) {
            assert_null(memmem(sealed.data, sealed.length, text, 8));
        }
    }
}

static void test_appends(void **state) {
    (void)state;
    cleanup_buf struct buf sealed = {0}, plain = {0};
    assert_int_equal(buf_append_str(&sealed, STR("x")), ERR_OK);
    assert_int_equal(aead_seal(key, STR(""), STR("secret"), &sealed), ERR_OK);
    assert_int_equal(buf_append_str(&plain, STR("it is ")), ERR_OK);
    struct str behind = {(const char *)sealed.data + 1, sealed.length - 1};
    assert_int_equal(aead_open(key, STR(""), behind, &plain), ERR_OK);
    assert_string_equal(buf_text(&plain), "it is secret");
}

static void test_refuses_everything_else(void **state) {
    (void)state;
    cleanup_buf struct buf sealed = {0}, plain = {0};
    assert_int_equal(aead_seal(key, STR("place"), STR("secret"), &sealed), ERR_OK);
    assert_int_equal(buf_append_str(&plain, STR("kept")), ERR_OK);
    for (size_t i = 0; i < sealed.length * 8; i++) {
        sealed.data[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(aead_open(key, STR("place"), buf_str(&sealed), &plain), ERR_IO);
        sealed.data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t length = 0; length < sealed.length; length++) {
        struct str cut = {(const char *)sealed.data, length};
        assert_int_equal(aead_open(key, STR("place"), cut, &plain), ERR_IO);
    }
    static const uint8_t other[AEAD_KEY_SIZE] = {1, 2, 4};
    assert_int_equal(aead_open(other, STR("place"), buf_str(&sealed), &plain), ERR_IO);
    assert_int_equal(aead_open(key, STR("plac"), buf_str(&sealed), &plain), ERR_IO);
    assert_string_equal(buf_text(&plain), "kept");
    assert_int_equal(aead_open(key, STR("place"), buf_str(&sealed), &plain), ERR_OK);
    assert_string_equal(buf_text(&plain), "keptsecret");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_what_was_sealed),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_refuses_everything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
