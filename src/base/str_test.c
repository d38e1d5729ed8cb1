#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_trim(void **state) {
    (void)state;
    assert_true(str_equal_text(str_trim(STR(" \t a b\t ")), "a b"));
    assert_true(str_equal_text(str_trim(STR("a")), "a"));
    assert_true(str_equal_text(str_trim(STR("\n")), "\n"));
    assert_int_equal(str_trim(STR(" \t ")).length, 0);
    assert_int_equal(str_trim((struct str){0}).length, 0);
}

static void test_compare(void **state) {
    (void)state;
    struct str none = {0};
    assert_true(str_equal(none, STR("")));
    assert_true(str_equal_text(STR("abc"), "abc"));
    assert_false(str_equal_text(STR("abc"), "abcd"));
    assert_false(str_equal_text(STR("abd"), "abc"));
    assert_false(str_equal(STR("a\0b"), STR("a\0c")));
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_true(str_starts(STR("abc"), none));
    assert_true(str_starts(none, none));
    assert_false(str_starts(STR("ab"), STR("abc")));
    assert_int_equal(str_of(NULL).length, 0);
}

static void test_cut(void **state) {
    (void)state;
    struct str rest = STR("a,,b");
    assert_true(str_equal_text(str_cut(&rest, ','), "a"));
    assert_true(str_equal_text(str_cut(&rest, ','), ""));
    assert_non_null(rest.data);
    assert_true(str_equal_text(str_cut(&rest, ','), "b"));
    assert_null(rest.data);
    assert_int_equal(rest.length, 0);
    assert_true(str_equal_text(str_cut(&rest, ','), ""));

    rest = STR("a,");
    assert_true(str_equal_text(str_cut(&rest, ','), "a"));
    assert_non_null(rest.data); /* there was a separator: one more, empty, field */
    assert_true(str_equal_text(str_cut(&rest, ','), ""));
    assert_null(rest.data);
}

static void test_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain text of more than eight", true},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xed\x9f\xbf", true},
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"12345678\xc3\xa9", true},
        {"1234567\xc3\xa9 and on", true},
        {"\x80", false},
        {"\xbf", false},
        {"\xc0\x80", false},
        {"\xc1\xbf", false},
        {"\xc2", false},
        {"\xc2 ", false},
        {"\xe0\x9f\xbf", false},
        {"\xe0\xa0", false},
        {"\xe2\x82 ", false},
        {"\xed\xa0\x80", false},
        {"\xed\xbf\xbf", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf0\x90\x80", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\xfe", false},
        {"\xff", false},
        {"12345678\xff", false},
        {"1234567\xc3", false},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        /* At the very end of an allocation, for the sanitizer to see a read beyond. */
        size_t length = strlen(cases[i].text);
        char *copy = malloc(length + 1);
        assert_non_null(copy);
        char *exact = length ? realloc(copy, length) : copy;
        assert_non_null(exact);
        memcpy(exact, cases[i].text, length);
        if (str_is_utf8((struct str){exact, length}) != cases[i].valid) {
            fail_msg("case %zu", i);
        }
        free(exact);
    }
    assert_true(str_is_utf8(STR("a\0b")));
}

/* Against the definition: every code point encodes to something valid but surrogates. */
static void test_utf8_of_all_code_points(void **state) {
    (void)state;
    for (uint32_t point = 0x80; point < 0x110000; point++) {
        char text[4];
        size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        for (size_t i = length - 1, rest = point; i > 0; i--, rest >>= 6) {
            text[i] = (char)(0x80 | (rest & 0x3f));
        }
        static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
        text[0] = (char)(marks[length] | point >> (6 * (length - 1)));
        bool is_surrogate = point >= 0xd800 && point <= 0xdfff;
        if (str_is_utf8((struct str){text, length}) == is_surrogate) {
            fail_msg("U+%04X", point);
        }
    }
}

static void test_numbers(void **state) {
    (void)state;
    uint64_t value = 42;
    assert_int_equal(str_to_u64(STR("18446744073709551615"), &value), ERR_OK);
    assert_true(value == UINT64_MAX);
    value = 42;
    assert_int_equal(str_to_u64(STR("18446744073709551616"), &value), ERR_RANGE);
    assert_int_equal(str_to_u64(STR("99999999999999999999999x"), &value), ERR_INVAL);
    static const char *const invalid[] = {"", "-1", "+1", " 1", "1 ", "0x1", "1.0"};
    for (size_t i = 0; i < ARRAY_LENGTH(invalid); i++) {
        assert_int_equal(str_to_u64(str_of(invalid[i]), &value), ERR_INVAL);
    }
    assert_int_equal(str_to_u64((struct str){0}, &value), ERR_INVAL);
    assert_true(value == 42);
    assert_int_equal(str_to_u64(STR("007"), &value), ERR_OK);
    assert_true(value == 7);
    assert_int_equal(str_to_u64((struct str){"123", 2}, &value), ERR_OK);
    assert_true(value == 12);
}

static void test_bytes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } valid[] = {
        {"0", 0},           {"64", 64},
        {"64k", 64 * KIB},  {"64KiB", 64 * KIB},
        {"3m", 3 * MIB},    {"3MiB", 3 * MIB},
        {"1g", GIB},        {"1GiB", GIB},
        {"2t", 2048 * GIB}, {"17179869183g", 17179869183u * GIB},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(valid); i++) {
        uint64_t bytes = 1;
        assert_int_equal(str_to_bytes(str_of(valid[i].text), &bytes), ERR_OK);
        assert_true(bytes == valid[i].bytes);
    }
    uint64_t bytes = 42;
    assert_int_equal(str_to_bytes(STR("17179869184g"), &bytes), ERR_RANGE);
    static const char *const invalid[] = {"", "k", "64 k", "-1k", "1.5g", "1x", "1kk", "1ki"};
    for (size_t i = 0; i < ARRAY_LENGTH(invalid); i++) {
        assert_int_equal(str_to_bytes(str_of(invalid[i]), &bytes), ERR_INVAL);
    }
    assert_true(bytes == 42);
}

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } valid[] = {
        {"10", 10 * NS_PER_S},      {"10s", 10 * NS_PER_S},
        {"500ms", 500 * NS_PER_MS}, {"1m", 60 * NS_PER_S},
        {"1h", 3600 * NS_PER_S},    {"7d", 7 * 86400 * NS_PER_S},
        {"250us", 250 * NS_PER_US}, {"0", 0},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(valid); i++) {
        uint64_t ns = 1;
        assert_int_equal(str_to_duration_ns(str_of(valid[i].text), &ns), ERR_OK);
        assert_true(ns == valid[i].ns);
    }
    uint64_t ns = 42;
    assert_int_equal(str_to_duration_ns(STR("18446744074"), &ns), ERR_RANGE);
    assert_int_equal(str_to_duration_ns(STR("s"), &ns), ERR_INVAL);
    assert_int_equal(str_to_duration_ns(STR("1y"), &ns), ERR_INVAL);
    assert_true(ns == 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_utf8_of_all_code_points),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
