#include "net/url.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_url(const struct net_url *url, const char *origin, const char *target) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(net_url_append_origin(url, &text), ERR_OK);
    assert_string_equal(buf_text(&text), origin);
    assert_string_equal(buf_text(&url->target), target);
}

static void urls_are_taken_apart(void **state) {
    (void)state;
    static const struct {
        const char *url, *origin, *target;
    } cases[] = {
        {"http://example.org", "http://example.org", "/"},
        {"HTTP://Example.org:80/", "http://example.org", "/"},
        {"https://example.org:443/a?b=c/d?e", "https://example.org", "/a?b=c/d?e"},
        {"https://example.org:8443?q", "https://example.org:8443", "/?q"},
        {"http://[2001:DB8::1]:8080/%2e%2E/x", "http://[2001:db8::1]:8080", "/%2e%2E/x"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        cleanup_net_url struct net_url url = {0};
        assert_int_equal(net_url_parse(str_of(cases[i].url), &url, NULL), ERR_OK);
        check_url(&url, cases[i].origin, cases[i].target);
    }
}

static void tricks_are_refused(void **state) {
    (void)state;
    static const char *const tricks[] = {
        "",
        "http",
        "http:",
        "http:/",
        "http://",
        "http:///x",
        "http:a",
        "http:/a",
        "//a",
        "/a",
        "ftp://a/",
        "file:///etc/passwd",
        "gopher://a/",
        "dict://a/",
        "javascript:1",
        "data:,x",
        "http://user@a/",
        "http://user:pass@a/",
        "http://a@127.0.0.1/",
        "http://@a/",
        "http://a%40b/",
        "http://a#@b/",
        "http://a/#x",
        "http://a\\@b/",
        "http://a\\b/",
        "http:\\\\a",
        "http://a b/",
        " http://a/",
        "http://a/ ",
        "http://a/\r\nX: y",
        "http://a/\n",
        "http://a\r/",
        "http://a/\x7f",
        "http://a/\xc3\xa4",
        "http://\xef\xbd\x81/",
        "http://a:b/",
        "http://a:/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:80:80/",
        "http://[::1/",
        "http://::1/",
        "http://[::1%25lo]/",
        "http://[::1%lo]/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://127.0.0.1./",
        "http://a./",
        "http://.a/",
        "http://-a/",
        "http://a,b/",
        "http://*/",
        "http://a;b/",
        "hhttp://a/",
        "http//a/",
        "http://a/\t",
        "https:://a/",
        "http://?x",
        "http://#x",
        "http://%61/",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(tricks); i++) {
        struct net_url url = {0};
        cleanup_buf struct buf message = {0};
        if (net_url_parse(str_of(tricks[i]), &url, &message) != ERR_INVAL) {
            fail_msg("'%s' is accepted", tricks[i]);
        }
        assert_true(message.length > 0);
    }
    struct net_url url = {0};
    assert_int_equal(net_url_parse((struct str){"http://a\0b/", 11}, &url, NULL), ERR_INVAL);
}

static void locations_are_resolved(void **state) {
    (void)state;
    static const struct {
        const char *location, *origin, *target;
    } cases[] = {
        {"http://b/x", "http://b", "/x"},
        {"//b:81/x#y", "https://b:81", "/x"},
        {"/x", "https://a", "/x"},
        {"/x/../y/./z", "https://a", "/y/z"},
        {"x", "https://a", "/d/x"},
        {"./x?q=../", "https://a", "/d/x?q=../"},
        {"../x", "https://a", "/x"},
        {"../../../x", "https://a", "/x"},
        {"..", "https://a", "/"},
        {".", "https://a", "/d/"},
        {"?new", "https://a", "/d/e?new"},
        {"#y", "https://a", "/d/e?old"},
        {"", "https://a", "/d/e?old"},
        {"x:y/../http", NULL, NULL},
        {"./x:y", "https://a", "/d/x:y"},
        {"file:///etc/passwd", NULL, NULL},
        {"gopher://b/", NULL, NULL},
        {"//user@b/", NULL, NULL},
        {"http://127.1/", NULL, NULL},
        {"/a\r\nb", NULL, NULL},
        {"/a b", NULL, NULL},
        {"\\\\b\\c", NULL, NULL},
    };
    cleanup_net_url struct net_url base = {0};
    assert_int_equal(net_url_parse(STR("https://a/d/e?old"), &base, NULL), ERR_OK);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        cleanup_net_url struct net_url url = {0};
        enum err err = net_url_resolve(&base, str_of(cases[i].location), &url, NULL);
        if (!cases[i].origin) {
            assert_int_equal(err, ERR_INVAL);
        } else {
            assert_int_equal(err, ERR_OK);
            check_url(&url, cases[i].origin, cases[i].target);
        }
    }
}

static void names_are_encoded(void **state) {
    (void)state;
    cleanup_buf struct buf text = {0};
    assert_int_equal(net_url_encode(STR("a b?%41%4x%\xc3\xa4#'"), false, &text), ERR_OK);
    assert_string_equal(buf_text(&text), "a%20b%3F%41%254x%25%C3%A4%23'");
    text.length = 0;
    assert_int_equal(net_url_encode(STR("?a=b&c={}"), true, &text), ERR_OK);
    assert_string_equal(buf_text(&text), "?a=b&c=%7B%7D");
    assert_int_equal(net_url_encode(STR("a\r\nb"), true, &text), ERR_INVAL);
    assert_int_equal(net_url_encode((struct str){"a\0b", 3}, true, &text), ERR_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(tricks_are_refused),
        cmocka_unit_test(locations_are_resolved),
        cmocka_unit_test(names_are_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
