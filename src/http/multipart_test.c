#include "http/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Reads a form in pieces of `piece` bytes and writes down what came: "NAME=CONTENT;", "." at the
 * end, "!" and the sentence where it is wrong. */
static void read_form(const char *type, struct str body, size_t piece, struct buf *story) {
    struct multipart multipart;
    cleanup_buf struct buf message = {0};
    enum err err = multipart_init(&multipart, str_of(type), &message);
    while (!err && body.length > 0) {
        struct str input = {body.data, MIN(piece, body.length)};
        body.data += input.length;
        body.length -= input.length;
        enum multipart_event event = MULTIPART_PART;
        while (!err && event != MULTIPART_MORE && event != MULTIPART_END) {
            struct str data;
            err = multipart_next(&multipart, &input, &event, &data, &message);
            if (err) {
                break;
            }
            assert_true((event == MULTIPART_DATA) == (data.length > 0));
            if (event == MULTIPART_PART) {
                assert_int_equal(buf_append_str(story, buf_str(&multipart.name)), ERR_OK);
                assert_int_equal(buf_append_byte(story, '='), ERR_OK);
            } else if (event == MULTIPART_DATA) {
                assert_int_equal(buf_append_str(story, data), ERR_OK);
            } else if (event == MULTIPART_PART_END) {
                assert_int_equal(buf_append_byte(story, ';'), ERR_OK);
            }
        }
        assert_true(err || input.length == 0);
    }
    if (err) {
        assert_int_equal(err, ERR_INVAL);
        assert_int_equal(buf_printf(story, "!%s", buf_text(&message)), ERR_OK);
    } else if (multipart.state == MULTIPART_ENDED) {
        assert_int_equal(buf_append_byte(story, '.'), ERR_OK);
    }
    multipart_done(&multipart);
}

#define FORM "multipart/form-data; boundary=XyZ"

/* The same however it is cut. */
static void check(const char *type, const char *body, size_t length, const char *expected) {
    for (size_t piece = 1; piece <= length + 1; piece += piece < 40 ? 1 : 97) {
        cleanup_buf struct buf story = {0};
        read_form(type, (struct str){body, length}, piece, &story);
        if (strchr(expected, '!')) {
            assert_non_null(strstr(buf_text(&story), expected));
        } else {
            assert_string_equal(buf_text(&story), expected);
        }
    }
}
#define CHECK(body, expected) check(FORM, body, sizeof(body) - 1, expected)
#define PART(name, content)                                                                        \
    "--XyZ\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" content "\r\n"
#define HEAD(lines) "--XyZ\r\n" lines "\r\n\r\nx\r\n--XyZ--\r\n"

static void test_forms(void **state) {
    (void)state;
    CHECK(PART("a", "1") PART("b", "") "--XyZ--\r\n", "a=1;b=;.");
    CHECK("--XyZ--", ".");
    CHECK("before\r\n" PART("a", "1") "--XyZ-- \r\nbehind\r\n--XyZ\r\n", "a=1;.");
    CHECK("--XyZ \t\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--XyZ--", "a=1;.");
    /* Several header lines, in any case and order. */
    CHECK(HEAD("content-type: text/plain\r\nCONTENT-DISPOSITION:form-data ; filename=\"a.csv\" ; "
               "name=\"/in/a.csv\"\r\nContent-Transfer-Encoding: binary"),
          "/in/a.csv=x;.");
}

static void test_content_that_looks_like_a_boundary(void **state) {
    (void)state;
    CHECK(PART("a", "\r\n--XyY\r\n-\r\r\n--Xy\r\n\r\n") "--XyZ--",
          "a=\r\n--XyY\r\n-\r\r\n--Xy\r\n\r\n;.");
    CHECK(PART("a", "--XyZ-- x--XyZ") "--XyZ--", "a=--XyZ-- x--XyZ;.");
    CHECK(PART("a", "\n--XyZ\n") "--XyZ--", "a=\n--XyZ\n;.");
    CHECK(PART("a", "\r\r\r\n\r\n-") "--XyZ--", "a=\r\r\r\n\r\n-;.");
}

static void test_names(void **state) {
    (void)state;
    CHECK(HEAD("Content-Disposition: form-data; name=\"a\\\"b\\\\c\\d%22e%25\""),
          "a\"b\\c\\d\"e%25=x;.");
    CHECK(HEAD("Content-Disposition: form-data; name=\"\xc3\xbc;=\""), "\xc3\xbc;==x;.");
    CHECK(HEAD("Content-Disposition: form-data; name=\"\""), "=x;.");
    CHECK(HEAD("Content-Disposition: form-data; name=\"a%0Ab\""), "!the name of a field");
    CHECK(HEAD("Content-Disposition: form-data; name=\"\xff\""), "!the name of a field");
    CHECK(HEAD("Content-Disposition: form-data; name=\"a\"; name=\"b\""), "!a part of the form");
    CHECK(HEAD("Content-Disposition: form-data; name=\"a"), "!a part of the form");
    CHECK(HEAD("Content-Disposition: form-data; name"), "!a part of the form");
    CHECK(HEAD("Content-Disposition: form-data; name=\"a\"b"), "!a part of the form");
    CHECK(HEAD("Content-Disposition: form-data"), "!a part of the form has no name");
    CHECK(HEAD("Content-Disposition: attachment; name=a"), "!a part of the form is no form-data");
    CHECK(HEAD("X: y"), "!a part of the form has no name");
}

static void test_refused(void **state) {
    (void)state;
    CHECK("--XyZ\r\nContent-Disposition: form-data; name=a\n\n1\r\n--XyZ--", "!the head of a part");
    CHECK(HEAD("Content-Disposition: form-data; name=a\rb"), "!the head of a part");
    CHECK(HEAD("Content-Disposition: form-data;\r\n name=a"), "!a line in the head");
    CHECK(HEAD("no header"), "!a line in the head");
    CHECK(HEAD("a\0b: c"), "!the head of a part");
    CHECK(HEAD("Content-Transfer-Encoding: base64"), "!a part of the form is encoded as 'base64'");
    CHECK(PART("a", "1") "--XyZabc\r\n", "a=1!something follows a boundary");
    CHECK(PART("a", "1") "--XyZ\n", "a=1!something follows a boundary");
    CHECK(PART("a", "1") "--XyZ-x", "a=1!something follows a boundary");
    char *large = malloc(MULTIPART_HEAD_MAX + 100);
    assert_non_null(large);
    int length = snprintf(large, 100, "--XyZ\r\nX: ");
    memset(large + length, 'x', MULTIPART_HEAD_MAX);
    cleanup_buf struct buf story = {0};
    read_form(FORM, (struct str){large, (size_t)length + MULTIPART_HEAD_MAX}, 100, &story);
    assert_non_null(strstr(buf_text(&story), "!the head of a part has more than 8192 bytes"));
    free(large);
}

/* What ends early is not the end. */
static void test_cut_off(void **state) {
    (void)state;
    static const char body[] = PART("a", "1") "--XyZ--";
    for (size_t length = 0; length < sizeof(body) - 1; length++) {
        cleanup_buf struct buf story = {0};
        read_form(FORM, (struct str){body, length}, 3, &story);
        assert_null(memchr(buf_text(&story), '.', story.length));
    }
    CHECK("nothing of it", "");
}

static void test_content_types(void **state) {
    (void)state;
    static const char body[] = PART("a", "1") "--XyZ--";
    static const char *const good[] = {
        "multipart/form-data; boundary=XyZ",
        "Multipart/Form-Data;charset=utf-8;BOUNDARY=\"XyZ\" ; x=y",
        "multipart/form-data ;; boundary=XyZ;",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_true(multipart_is_form(str_of(good[i])));
        check(good[i], body, sizeof(body) - 1, "a=1;.");
    }
    static const char *const bad[] = {
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\tb\"",
        "multipart/form-data; boundary=a; boundary=a",
        "multipart/form-data; boundary="
        "12345678901234567890123456789012345678901234567890123456789012345678901",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_true(multipart_is_form(str_of(bad[i])));
        check(bad[i], body, sizeof(body) - 1, "!the Content-Type of a form names its boundary");
    }
    assert_false(multipart_is_form((struct str){0}));
    assert_false(multipart_is_form(STR("multipart/form-data2; boundary=a")));
    assert_false(multipart_is_form(STR("text/plain; boundary=multipart/form-data")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),   cmocka_unit_test(test_content_that_looks_like_a_boundary),
        cmocka_unit_test(test_names),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut_off), cmocka_unit_test(test_content_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
