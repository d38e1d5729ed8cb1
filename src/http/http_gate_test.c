#include "http/http_gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* As a connection does it, with all of the head at once. */
static struct http_refusal check(const char *text, size_t length, struct http_head *head) {
    struct http_scan scan = {0};
    size_t head_length = 0;
    static char kept[HTTP_HEAD_BYTES_LIMIT + 4096]; /* what the head borrows */
    assert_true(length <= sizeof kept);
    /* On the heap and of the exact size, so that a sanitizer sees what is read beyond. */
    char *exact = malloc(length);
    memcpy(exact, text, length);
    struct http_refusal refusal = http_gate_scan(&scan, exact, length, 32 * KIB, &head_length);
    if (!refusal.status) {
        assert_int_equal(head_length, length);
        refusal = http_gate_check(exact, length, head);
    }
    free(exact);
    if (!refusal.status) {
        memcpy(kept, text, length);
        refusal = http_gate_check(kept, length, head);
    }
    return refusal;
}

static struct http_head head;

#define ASSERT_STATUS(text, expected)                                                              \
    do {                                                                                           \
        struct http_refusal refusal_ = check((text), sizeof(text) - 1, &head);                     \
        if (refusal_.status != (expected)) {                                                       \
            print_error("%s\n -> %d %s\n", (text), refusal_.status, refusal_.reason);              \
        }                                                                                          \
        assert_int_equal(refusal_.status, (expected));                                             \
    } while (0)

static void test_lets_in(void **state) {
    (void)state;
    ASSERT_STATUS("POST /run?name=x&arg=1 HTTP/1.1\r\nHost: a.b:80\r\nX-A:  v w \t\r\n"
                  "Content-Length: 12\r\nEmpty:\r\n\r\n",
                  0);
    assert_int_equal(head.method_length, 4);
    assert_true(str_equal_text(head.path, "/run"));
    assert_true(str_equal_text(head.query, "name=x&arg=1"));
    assert_int_equal(head.field_count, 4);
    assert_true(str_equal_text(http_field_name(&head, 1), "X-A"));
    assert_true(str_equal_text(http_field_value(&head, 1), "v w"));
    assert_true(str_equal_text(http_head_find(&head, STR("x-a")), "v w"));
    assert_non_null(http_head_find(&head, STR("empty")).data);
    assert_int_equal(http_head_find(&head, STR("empty")).length, 0);
    assert_null(http_head_find(&head, STR("x")).data);
    assert_true(head.has_content_length);
    assert_int_equal(head.content_length, 12);
    assert_false(head.is_chunked || head.is_http_1_0 || head.expects_continue);

    ASSERT_STATUS("GET / HTTP/1.0\r\n\r\n", 0);
    assert_true(head.is_http_1_0);
    assert_int_equal(head.field_count, 0);
    assert_int_equal(head.query.length, 0);
    ASSERT_STATUS("GET /? HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 0);
    assert_int_equal(head.query.length, 0);
    ASSERT_STATUS("GET /?? HTTP/1.1\r\nHost: a\r\n\r\n", 0);
    assert_true(str_equal_text(head.query, "?"));
    ASSERT_STATUS("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n"
                  "expect: 100-Continue\r\n\r\n",
                  0);
    assert_true(head.is_chunked && head.expects_continue);
    ASSERT_STATUS("GET /x HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", 0);
    assert_false(head.expects_continue);
    ASSERT_STATUS("GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n", 0);
    ASSERT_STATUS("GET http://A.b/x/y?z HTTP/1.1\r\nHost: a.B\r\n\r\n", 0);
    assert_true(str_equal_text(head.path, "/x/y"));
    assert_true(str_equal_text(head.query, "z"));
}

static void test_request_line(void **state) {
    (void)state;
    ASSERT_STATUS("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a  HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505);
    ASSERT_STATUS("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    ASSERT_STATUS("GET / http/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET /a?b\0c HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

static void test_framing(void **state) {
    (void)state;
#define POST(fields) "POST / HTTP/1.1\r\nHost: a\r\n" fields "\r\n\r\n"
    ASSERT_STATUS(POST("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400);
    ASSERT_STATUS(POST("Transfer-Encoding: chunked\r\nContent-Length: 1"), 400);
    ASSERT_STATUS(POST("Content-Length: 1\r\nContent-Length: 1"), 400);
    ASSERT_STATUS(POST("Content-Length: 1, 1"), 400);
    ASSERT_STATUS(POST("Content-Length: +1"), 400);
    ASSERT_STATUS(POST("Content-Length: -1"), 400);
    ASSERT_STATUS(POST("Content-Length: 0x1"), 400);
    ASSERT_STATUS(POST("Content-Length:"), 400);
    ASSERT_STATUS(POST("Content-Length: 9223372036854775808"), 400);
    ASSERT_STATUS(POST("Content-Length: 99999999999999999999999"), 400);
    ASSERT_STATUS(POST("Content-Length: 9223372036854775807"), 0);
    ASSERT_STATUS(POST("Transfer-Encoding: gzip, chunked"), 400);
    ASSERT_STATUS(POST("Transfer-Encoding: xchunked"), 400);
    ASSERT_STATUS(POST("Transfer-Encoding: identity"), 400);
    ASSERT_STATUS(POST("Transfer-Encoding:"), 400);
    ASSERT_STATUS(POST("Transfer-Encoding: chunked "), 400);
    ASSERT_STATUS(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400);
    ASSERT_STATUS("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", 400);
}

static void test_fields(void **state) {
    (void)state;
    ASSERT_STATUS(POST("X : a"), 400);
    ASSERT_STATUS(POST(" X: a"), 400);
    ASSERT_STATUS(POST("X: a\r\n b"), 400); /* folded */
    ASSERT_STATUS(POST("X: a\r\n\tb: c"), 400);
    ASSERT_STATUS(POST("X"), 400);
    ASSERT_STATUS(POST(": a"), 400);
    ASSERT_STATUS(POST("X(: a"), 400);
    ASSERT_STATUS(POST("X\x80: a"), 400);
    ASSERT_STATUS(POST("X: a\x01"), 400);
    ASSERT_STATUS(POST("X: a\x7f"), 400);
    ASSERT_STATUS(POST("X: a\rY: b"), 400); /* a bare CR */
    ASSERT_STATUS(POST("X: a\0b"), 400);
    ASSERT_STATUS(POST("X: a\0"), 400);
    ASSERT_STATUS(POST("X: a\0\0"), 400);
    ASSERT_STATUS(POST("X\0: a"), 400);
    ASSERT_STATUS(POST("X: a\0\0Y: b"), 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    ASSERT_STATUS("GET / HTTP/1.1\nHost: a\n\n", 400);
}

static void test_many_fields(void **state) {
    (void)state;
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_append_str(&text, STR("GET / HTTP/1.1\r\nHost: a\r\n")), ERR_OK);
    for (unsigned i = 1; i < HTTP_FIELDS_MAX; i++) {
        assert_int_equal(buf_printf(&text, "X-%u: %u\r\n", i, i), ERR_OK);
    }
    size_t fields_end = text.length;
    assert_int_equal(buf_append_str(&text, STR("\r\n")), ERR_OK);
    assert_int_equal(check(buf_text(&text), text.length, &head).status, 0);
    assert_int_equal(head.field_count, HTTP_FIELDS_MAX);
    assert_true(str_equal_text(http_head_find(&head, STR("X-99")), "99"));
    text.length = fields_end;
    assert_int_equal(buf_append_str(&text, STR("One-More: x\r\n\r\n")), ERR_OK);
    assert_int_equal(check(buf_text(&text), text.length, &head).status, 431);
}

/* Fills a head up to `size` bytes with the value of a field, or with the target. */
static int status_of_size(size_t size, bool is_target) {
    cleanup_buf struct buf text = {0};
    const char *before = is_target ? "GET /" : "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    const char *after = is_target ? " HTTP/1.1\r\nHost: a\r\n\r\n" : "\r\n\r\n";
    assert_int_equal(buf_append_str(&text, str_of(before)), ERR_OK);
    while (text.length + strlen(after) < size) {
        assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
    }
    assert_int_equal(buf_append_str(&text, str_of(after)), ERR_OK);
    return check(buf_text(&text), text.length, &head).status;
}

static void test_sizes(void **state) {
    (void)state;
    assert_int_equal(status_of_size(32 * KIB, false), 0);
    assert_int_equal(head.fields[1].value_length,
                     32 * KIB - strlen("GET / HTTP/1.1\r\nHost: a\r\nX: "
                                       "\r\n\r\n"));
    assert_int_equal(status_of_size(32 * KIB + 1, false), 431);
    assert_int_equal(status_of_size(32 * KIB, true), 0);
    assert_int_equal(status_of_size(32 * KIB + 1, true), 431);
    assert_int_equal(status_of_size(33 * KIB, true), 414);
    assert_int_equal(status_of_size(65 * KIB, false), 431);
}

/* A head cut off anywhere is refused, and nothing beyond is read. */
static void test_cut_off(void **state) {
    (void)state;
    static const char text[] = "GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for (size_t length = 0; length < sizeof text - 1; length++) {
        char *exact = malloc(length + !length);
        memcpy(exact, text, length);
        assert_int_not_equal(http_gate_check(exact, length, &head).status, 0);
        free(exact);
    }
}

/* Wherever it is split, the end of a head is found, and what is wrong is seen as soon as it can. */
static void test_scan(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t head_length; /* 0: there is no end */
        int status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n", 27, 0},
        {"GET /\r\n\r\n", 9, 0}, /* the gate's own matter */
        {"GET / HTTP/1.1\r\nHost: a\r\nX", 0, 0},
        {"GET / HTTP/1.1\nHost", 0, 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n\nX", 0, 400},
        {"GET / HTTP/1.1\r\n\nHost: a", 0, 400},
        {"\x16\x03\x01", 0, 400},
        {" ", 0, 400},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        size_t length = strlen(cases[i].text);
        for (size_t split = 0; split <= length; split++) {
            struct http_scan scan = {0};
            size_t found = 0;
            struct http_refusal refusal = http_gate_scan(&scan, cases[i].text, split, 1024, &found);
            if (!refusal.status && found == 0) {
                refusal = http_gate_scan(&scan, cases[i].text, length, 1024, &found);
            }
            assert_int_equal(refusal.status, cases[i].status);
            assert_int_equal(found, cases[i].head_length);
        }
    }
}

/* What is too much is refused without waiting for its end. */
static void test_scan_too_much(void **state) {
    (void)state;
    static char text[3000];
    memset(text, 'x', sizeof text);
    struct http_scan scan = {0};
    size_t found = 0;
    assert_int_equal(http_gate_scan(&scan, text, 2000, 2000, &found).status, 0);
    assert_int_equal(http_gate_scan(&scan, text, 2001, 2000, &found).status, 414);
    memcpy(text, "GET / HTTP/1.1\r\n", 16);
    scan = (struct http_scan){0};
    assert_int_equal(http_gate_scan(&scan, text, 2000, 2000, &found).status, 0);
    assert_int_equal(http_gate_scan(&scan, text, 2001, 2000, &found).status, 431);
}

static void test_connection(void **state) {
    (void)state;
#define GET_1_1(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"
    ASSERT_STATUS(GET_1_1(""), 0);
    assert_false(head.closes || head.is_head);
    static const char *const closing[] = {
        GET_1_1("Connection: close\r\n"),
        GET_1_1("connection: CLOSE\r\n"),
        GET_1_1("Connection: keep-alive , close\r\n"),
        GET_1_1("Connection: x\r\nConnection:close,y\r\n"),
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(closing); i++) {
        assert_int_equal(check(closing[i], strlen(closing[i]), &head).status, 0);
        assert_true(head.closes);
    }
    ASSERT_STATUS(GET_1_1("Connection: closed, xclose\r\n"), 0);
    assert_false(head.closes);
    ASSERT_STATUS("HEAD / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 0);
    assert_true(!head.closes && head.is_head);
}

static void test_response_fields(void **state) {
    (void)state;
    assert_true(http_is_field("X-A", "b c\t\xc3\xbc"));
    assert_true(http_is_field("X", ""));
    assert_false(http_is_field("", "a"));
    assert_false(http_is_field("X Y", "a"));
    assert_false(http_is_field("X:", "a"));
    assert_false(http_is_field("X", "a\r\nSet-Cookie: b"));
    assert_false(http_is_field("X", "a\nb"));
    assert_false(http_is_field("X\n", "a"));
    assert_false(http_is_field("X", "a\x1b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lets_in),         cmocka_unit_test(test_request_line),
        cmocka_unit_test(test_framing),         cmocka_unit_test(test_fields),
        cmocka_unit_test(test_many_fields),     cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_cut_off),         cmocka_unit_test(test_scan),
        cmocka_unit_test(test_scan_too_much),   cmocka_unit_test(test_connection),
        cmocka_unit_test(test_response_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
