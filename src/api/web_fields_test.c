/* What of a program's head reaches a visitor, and how far. */
#include "api/web_fields.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_fields(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum web_field by_path, by_host;
    } cases[] = {
        {"Content-Language", WEB_FIELD_PASSES, WEB_FIELD_PASSES},
        {"Access-Control-Allow-Origin", WEB_FIELD_PASSES, WEB_FIELD_PASSES},
        {"Run", WEB_FIELD_PASSES, WEB_FIELD_PASSES},
        {"set-cookie", WEB_FIELD_COOKIE, WEB_FIELD_COOKIE},
        {"run-ID", WEB_FIELD_DROPPED, WEB_FIELD_DROPPED},
        {"Run-Exit", WEB_FIELD_DROPPED, WEB_FIELD_DROPPED},
        {"0asm-Error", WEB_FIELD_DROPPED, WEB_FIELD_DROPPED},
        {"clear-site-data", WEB_FIELD_DROPPED, WEB_FIELD_PASSES},
        {"Strict-Transport-Security", WEB_FIELD_DROPPED, WEB_FIELD_PASSES},
        {"NEL", WEB_FIELD_DROPPED, WEB_FIELD_PASSES},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct str name = str_of(cases[i].name);
        assert_int_equal(web_field_judge(name, STR("/web/a")), cases[i].by_path);
        assert_int_equal(web_field_judge(name, STR("")), cases[i].by_host);
    }
}

/* NULL: left out. */
static void check_cookie(const char *cookie, const char *prefix, const char *expected) {
    cleanup_buf struct buf confined = {0};
    enum err err = web_cookie_confine(str_of(cookie), str_of(prefix), &confined);
    assert_int_equal(err, expected ? ERR_OK : ERR_INVAL);
    if (expected) {
        assert_string_equal(buf_text(&confined), expected);
    }
}

static void test_cookies_by_path(void **state) {
    (void)state;
    static const struct {
        const char *cookie, *expected;
    } cases[] = {
        {"sid=1", "sid=1; Path=/web/a"},
        {"sid=1; Path=/", "sid=1; Path=/web/a"},
        {"sid=1;path = / ;HttpOnly", "sid=1; HttpOnly; Path=/web/a"},
        {"sid=1; Path=/web/b", "sid=1; Path=/web/a"},
        {"sid=1; Path=/web/ab", "sid=1; Path=/web/a"},
        {"sid=1; Path=/web", "sid=1; Path=/web/a"},
        {"sid=1; Path=\"/web/a/x\"", "sid=1; Path=/web/a"},
        {"sid=1; Path", "sid=1; Path=/web/a"},
        {"sid=1; Path=", "sid=1; Path=/web/a"},
        {"sid=1; Path=/web/a", "sid=1; Path=/web/a"},
        {"sid=1; Path=/web/a/", "sid=1; Path=/web/a/"},
        {"sid=1; Secure; Path=/web/a/x=y; Max-Age=3", "sid=1; Secure; Max-Age=3; Path=/web/a/x=y"},
        {"sid=1; Path=/web/a/x; Path=/", "sid=1; Path=/web/a"},
        {"sid=1; Path=/; PATH=/web/a/x", "sid=1; Path=/web/a/x"},
        {"sid=1; Domain=localhost; domain=.example.org", "sid=1; Path=/web/a"},
        {"sid=\"a; Path=/\"", "sid=\"a; Path=/web/a"},
        {" sid=a b ;; ;X", "sid=a b; X; Path=/web/a"},
        {"\tPath=/", "Path=/; Path=/web/a"}, /* a cookie of that name */
        {"alone", "alone; Path=/web/a"},
        {"__Secure-sid=1; Secure", "__Secure-sid=1; Secure; Path=/web/a"},
        {"__Host-sid=1; Secure; Path=/", NULL},
        {"__host-sid=1", NULL},
        {"", NULL},
        {" ; Path=/", NULL},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        check_cookie(cases[i].cookie, "/web/a", cases[i].expected);
    }
}

static void test_cookies_by_host(void **state) {
    (void)state;
    check_cookie("sid=1; Path=/x; Secure", "", "sid=1; Path=/x; Secure");
    check_cookie("sid=1", "", "sid=1");
    check_cookie("sid=1; Domain=cloud.example.org; Path=/", "", "sid=1; Path=/");
    check_cookie("sid=1;DOMAIN=a;domain;Domain =b", "", "sid=1");
    check_cookie("__Host-sid=1; Secure; Path=/", "", "__Host-sid=1; Secure; Path=/");
    check_cookie(";", "", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_cookies_by_path),
        cmocka_unit_test(test_cookies_by_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
