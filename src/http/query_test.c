#include "http/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void assert_decoded(const char *text, bool plus_is_space, const char *expected) {
    cleanup_buf struct buf decoded = {0};
    assert_int_equal(query_decode(str_of(text), plus_is_space, &decoded), ERR_OK);
    assert_string_equal(buf_text(&decoded), expected);
    assert_int_equal(decoded.length, strlen(expected));
}

static void test_decode(void **state) {
    (void)state;
    assert_decoded("", true, "");
    assert_decoded("abc", true, "abc");
    assert_decoded("a%20b", false, "a b");
    assert_decoded("a+b%2b", false, "a+b+");
    assert_decoded("a+b%2B", true, "a b+");
    assert_decoded("%c3%BC", true, "\xc3\xbc");
    assert_decoded("%2F%2e%2E", false, "/..");
}

static void test_decode_refuses(void **state) {
    (void)state;
    const char *bad[] = {"%", "%1", "a%", "a%g0", "%0g", "%-1", "% 1", "%00", "a%00b", "%%41"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        cleanup_buf struct buf decoded = {0};
        assert_int_equal(buf_append(&decoded, "before", 6), ERR_OK);
        assert_int_equal(query_decode(str_of(bad[i]), true, &decoded), ERR_INVAL);
        assert_string_equal(buf_text(&decoded), "before");
        assert_int_equal(decoded.length, 6);
    }
    cleanup_buf struct buf decoded = {0};
    assert_int_equal(query_decode((struct str){"a\0b", 3}, true, &decoded), ERR_INVAL);
}

static void test_encode(void **state) {
    (void)state;
    cleanup_buf struct buf encoded = {0};
    assert_int_equal(query_encode(STR("a/b c\xff-._~"), true, &encoded), ERR_OK);
    assert_string_equal(buf_text(&encoded), "a/b%20c%FF-._~");
    assert_int_equal(query_encode(STR("/&="), false, &encoded), ERR_OK);
    assert_string_equal(buf_text(&encoded), "a/b%20c%FF-._~%2F%26%3D");
}

static void test_encode_and_decode(void **state) {
    (void)state;
    char all[255];
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (char)(i + 1);
    }
    for (int keep_slash = 0; keep_slash < 2; keep_slash++) {
        cleanup_buf struct buf encoded = {0};
        cleanup_buf struct buf decoded = {0};
        assert_int_equal(query_encode((struct str){all, sizeof all}, keep_slash, &encoded), ERR_OK);
        assert_int_equal(query_decode(buf_str(&encoded), true, &decoded), ERR_OK);
        assert_int_equal(decoded.length, sizeof all);
        assert_memory_equal(decoded.data, all, sizeof all);
    }
}

static void assert_pair(const struct query_pair *pair, const char *name, const char *value,
                        bool has_value) {
    assert_true(str_equal_text(pair->name, name));
    assert_true(str_equal_text(pair->value, value));
    assert_int_equal(pair->has_value, has_value);
}

static void test_parse(void **state) {
    (void)state;
    struct query query;
    assert_int_equal(query_parse(STR("name=x&arg=a+b&arg=%26%3D&new&env=K=V&&=&e="), &query),
                     ERR_OK);
    assert_int_equal(query.count, 7);
    assert_pair(&query.pairs[0], "name", "x", true);
    assert_pair(&query.pairs[1], "arg", "a b", true);
    assert_pair(&query.pairs[2], "arg", "&=", true);
    assert_pair(&query.pairs[3], "new", "", false);
    assert_pair(&query.pairs[4], "env", "K=V", true);
    assert_pair(&query.pairs[5], "", "", true);
    assert_pair(&query.pairs[6], "e", "", true);
    assert_ptr_equal(query_find(&query, "arg"), &query.pairs[1]);
    assert_null(query_find(&query, "ar"));
    assert_string_equal(query.pairs[1].value.data, "a b"); /* ends with NUL */
    query_done(&query);
    assert_int_equal(query_parse(STR(""), &query), ERR_OK);
    assert_int_equal(query.count, 0);
    assert_null(query_find(&query, "a"));
    query_done(&query);
    assert_int_equal(query_parse(STR("&&&"), &query), ERR_OK);
    assert_int_equal(query.count, 0);
    query_done(&query);
}

static void test_parse_refuses(void **state) {
    (void)state;
    struct query query = {.count = 42};
    assert_int_equal(query_parse(STR("a=%zz"), &query), ERR_INVAL);
    assert_int_equal(query_parse(STR("a=1&%=2"), &query), ERR_INVAL);
    assert_int_equal(query_parse(STR("a=%00"), &query), ERR_INVAL);
    assert_int_equal(query_parse(STR("a=%ff"), &query), ERR_ILSEQ);
    assert_int_equal(query_parse(STR("\xc3=1"), &query), ERR_ILSEQ);
    assert_int_equal(query_parse(STR("a=%ed%a0%80"), &query), ERR_ILSEQ);
    assert_int_equal(query.count, 42); /* untouched on failure */
}

static void test_parse_many(void **state) {
    (void)state;
    cleanup_buf struct buf text = {0};
    for (unsigned i = 0; i < QUERY_PAIRS_MAX; i++) {
        assert_int_equal(buf_append(&text, "a&", 2), ERR_OK);
    }
    struct query query;
    assert_int_equal(query_parse(buf_str(&text), &query), ERR_OK);
    assert_int_equal(query.count, QUERY_PAIRS_MAX);
    query_done(&query);
    assert_int_equal(buf_append(&text, "a", 1), ERR_OK);
    assert_int_equal(query_parse(buf_str(&text), &query), ERR_2BIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),     cmocka_unit_test(test_decode_refuses),
        cmocka_unit_test(test_encode),     cmocka_unit_test(test_encode_and_decode),
        cmocka_unit_test(test_parse),      cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_parse_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
