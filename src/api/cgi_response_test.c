/* What a CGI program's first bytes mean, in pieces of every size. */
#include "api/cgi_response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool takes_status_line, is_http;

/* Takes the text in pieces, then its end. */
static void parse(struct cgi_response *response, struct str text, size_t piece) {
    *response = (struct cgi_response){.takes_status_line = takes_status_line, .is_http = is_http};
    size_t at = 0;
    while (at < text.length && response->state == CGI_HEAD) {
        size_t length = MIN(piece, text.length - at);
        assert_int_equal(cgi_response_take(response, text.data + at, length), ERR_OK);
        at += length;
    }
    cgi_response_end(response);
    assert_int_not_equal(response->state, CGI_HEAD);
    if (response->state != CGI_BROKEN) {
        /* What was not taken follows. */
        assert_int_equal(buf_append(&response->gathered, text.data + at, text.length - at), ERR_OK);
    }
}

/* The response in one line, the same in pieces of every size. */
static void expect(const char *text, const char *expected) {
    for (size_t piece = 1; piece <= 64; piece++) {
        struct cgi_response response;
        cleanup_buf struct buf line = {0};
        parse(&response, str_of(text), piece);
        enum err err = ERR_OK;
        if (response.state == CGI_BROKEN) {
            assert_non_null(response.broken);
            err = buf_append_str(&line, STR("broken"));
        } else if (response.state == CGI_TEXT) {
            err =
                buf_printf(&line, "text [" STR_FORMAT "]", STR_ARGS(cgi_response_body(&response)));
        } else {
            err = buf_printf(&line, "%d %s", response.status,
                             cgi_response_type(&response) ? cgi_response_type(&response) : "-");
            if (!err && cgi_response_location(&response)) {
                err = buf_printf(&line, " %s %s", response.is_local_redirect ? "local" : "at",
                                 cgi_response_location(&response));
            }
            if (!err && response.has_length) {
                err = buf_printf(&line, " length %d", (int)response.length);
            }
            if (!err && response.is_chunked) {
                err = buf_append_str(&line, STR(" chunked"));
            }
            if (!err && response.closes && is_http) {
                err = buf_append_str(&line, STR(" closes"));
            }
            const char *name, *value;
            for (size_t i = 0; !err && cgi_response_field(&response, &i, &name, &value);) {
                err = buf_printf(&line, " %s=%s", name, value);
            }
            if (!err) {
                err =
                    buf_printf(&line, " [" STR_FORMAT "]", STR_ARGS(cgi_response_body(&response)));
            }
        }
        assert_int_equal(err, ERR_OK);
        assert_string_equal(buf_text(&line), expected);
        cgi_response_done(&response);
    }
}

static void test_documents(void **state) {
    (void)state;
    expect("Content-Type: text/html\n\n<p>", "200 text/html [<p>]");
    expect("Content-Type: text/html\r\n\r\n<p>\r\n", "200 text/html [<p>\r\n]");
    expect("Content-type:text/html\r\n\n", "200 text/html []");
    expect("Status: 404 Not Found\nContent-Type: a/b\n\nno", "404 a/b [no]");
    expect("Status: 204\n\n", "204 - []");
    expect("STATUS:599 \t\n\n", "599 - []");
    expect("Content-Type: a/b\nX-One:  1 2 \t\nset-cookie: a=b\nSet-Cookie: c=d\n\n\n",
           "200 a/b X-One=1 2 set-cookie=a=b Set-Cookie=c=d [\n]");
    expect("X-First: 1\nContent-Type: a/b\nX-Empty:\n\n", "200 a/b X-First=1 []");
    expect("Content-Type: a/b\nX-Utf: \xc3\xa9\n\n", "200 a/b X-Utf=\xc3\xa9 []");
}

static void test_lengths(void **state) {
    (void)state;
    expect("Content-Type: a/b\nContent-Length: 3\n\nabc", "200 a/b length 3 [abc]");
    expect("Content-Type: a/b\nContent-Length: 3\nContent-Length: 3\n\n", "200 a/b length 3 []");
    static const char *const ignored[] = {"",
                                          "x",
                                          "-1",
                                          "+3",
                                          "3x",
                                          "0x3",
                                          "3 3",
                                          "3,3",
                                          "18446744073709551616",
                                          "9223372036854775808"};
    for (size_t i = 0; i < ARRAY_LENGTH(ignored); i++) {
        char text[128];
        snprintf(text, sizeof text, "Content-Type: a/b\nContent-Length: %s\n\n", ignored[i]);
        expect(text, "200 a/b []");
    }
    /* Nobody knows which is meant: whoever believes the other one takes a part for all. */
    expect("Content-Type: a/b\nContent-Length: 3\nContent-Length: 4\n\n", "broken");
    expect("Content-Length: 3\nContent-Length: 4\nContent-Type: a/b\n\n", "broken");
    expect("Content-Type: a/b\nContent-Length: 3\nX: y\ncontent-length: x\n\n", "broken");
    expect("Content-Type: a/b\nContent-Length: x\nContent-Length: 3\n\n", "broken");
    expect("Content-Length: 3\nContent-Length: 4\n\nabc",
           "text [Content-Length: 3\nContent-Length: 4\n\nabc]");
}

static void test_redirects(void **state) {
    (void)state;
    expect("Location: https://example.org/x?y\n\n", "302 - at https://example.org/x?y []");
    expect("Location: /other?a=b\n\n", "302 - local /other?a=b []");
    expect("Location: /\r\n\r\nbody", "302 - local / [body]");
    expect("Location: /other\nStatus: 303 See Other\n\n", "303 - at /other []");
    expect("Location: /other\nSet-Cookie: a=b\n\n", "302 - at /other Set-Cookie=a=b []");
    expect("Location: //example.org/\n\n", "302 - at //example.org/ []");
    expect("Location: /\\example.org/\n\n", "302 - at /\\example.org/ []");
    expect("Location: other\n\n", "302 - at other []");
    expect("Location:\n\n", "broken");
    expect("Location: /a\nLocation: /b\n\n", "broken");
}

static void test_kept_back(void **state) {
    (void)state;
    expect("Content-Type: a/b\nConnection: close\nKeep-Alive: 1\n"
           "upgrade: x\nTE: x\nTrailer: x\nProxy-Authenticate: x\nDate: x\nDATE: y\n"
           "X-Content-Type-Options: x\nX-CGI-Thing: x\nX-Cgi: y\n\n",
           "200 a/b X-Cgi=y []");
}

/* The body is what is written: its chunks would be delivered with it. */
static void test_transfer_encoding(void **state) {
    (void)state;
    expect("Content-Type: a/b\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n0\r\n\r\n", "broken");
    expect("transfer-encoding: identity\r\nStatus: 200\r\n\r\nx", "broken");
    /* What has no head is text, whatever it says. */
    expect("Transfer-Encoding: chunked\n\n", "text [Transfer-Encoding: chunked\n\n]");
}

static void test_text(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "\n",
        "\r\n",
        "x",
        "hello\n",
        "Hello, world!\n",
        "Result: 42\n",
        "Result: 42",
        "Note: this\nis no head\n",
        "a: b\n\nc\n",
        "\xff\xfe",
        " Content-Type: a/b\n\n",
        ": x\n\n",
        "Content-Type",
        "Content Type: a/b\n\n",
        "<html>\n",
        "\nContent-Type: a/b\n\n",
        "a:\x01\nContent-Type: a/b\n\n",
        "Content-Length: 3\n\nabc",
        "Content-Type: a/b",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "text [%s]", texts[i]);
        expect(texts[i], expected);
    }
}

static void test_broken(void **state) {
    (void)state;
    static const char *const texts[] = {
        "Content-Type: a/b\n",
        "Content-Type: a/b\r\n\r",
        "Content-Type: a/b\nbody",
        "Content-Type: a/b\nbody\n\n",
        "Content-Type: a/b\n folded\n\n",
        "Content-Type: a/b\n\rx",
        "Content-Type: a/b\n: x\n\n",
        "Content-Type: a/b\nX Y: z\n\n",
        "Content-Type: a/b\nX: \r1\n\n",
        "Content-Type: a/b\nX: \x7f\n\n",
        "Content-Type: a/b\nX: \x01\n\n",
        "Content-Type:\n\n",
        "Content-Type: a\nContent-Type: b\n\n",
        "Status: 100\n\n",
        "Status: 101 Switching\n\n",
        "Status: 199\n\n",
        "Status: 600\n\n",
        "Status:\n\n",
        "Status: OK\n\n",
        "Status: 20\n\n",
        "Status: 2000\n\n",
        "Status: +20\n\n",
        "Status: 200\nStatus: 200\n\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        expect(texts[i], "broken");
    }
    struct cgi_response response;
    parse(&response, (struct str){"Status: 200\nX: a\0b\n\n", 20}, 3);
    assert_int_equal(response.state, CGI_BROKEN);
    cgi_response_done(&response);
}

static void test_status_lines(void **state) {
    (void)state;
    expect("HTTP/1.1 200 OK\r\n\r\nx", "text [HTTP/1.1 200 OK\r\n\r\nx]");
    takes_status_line = true;
    expect("HTTP/1.1 200 OK\r\n\r\nx", "200 - [x]");
    expect("HTTP/1.0 404\nX-One: 1\n\nx", "404 - X-One=1 [x]");
    expect(
        "HTTP/1.1 201 Cr\xe9\xe9 :/\r\nContent-Type: a/b\r\nContent-Length: 1\r\nDate: x\r\n\r\nx",
        "201 a/b length 1 [x]");
    expect("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", "302 - at /x []");
    expect("HTTP/1.1 200 \r\n\r\n", "200 - []");
    /* What CGI programs write is understood as before. */
    expect("Status: 404\n\nx", "404 - [x]");
    expect("Location: /x\n\n", "302 - local /x []");
    static const char *const texts[] = {
        "HTTP",
        "HTTP/",
        "HTTP/1.1",
        "HTTP/1.1 is a protocol\n",
        "HTTP/2 is another\n",
        "HTTP/one 200 OK\n\n",
        "HTTP/1.1\n200 OK\n\n",
        "HTTPS/1.1 200 OK\n\n",
        "X: y\nHTTP/1.1 200 OK\n\n",
        "http/1.1 200 OK\n\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "text [%s]", texts[i]);
        expect(texts[i], expected);
    }
    static const char *const broken[] = {
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 OK\nX: y",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\x01K\n\n",
        "HTTP/1.1 200 O\rK\n\n",
        "HTTP/1.2 200 OK\n\n",
        "HTTP/2 200\n\n",
        "HTTP/1.1 100 Continue\n\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n<p>",
        "HTTP/1.1 600 Beyond\n\n",
        "HTTP/1.1  200 OK\n\n",
        "HTTP/1.1 20 OK\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n",
        "HTTP/1.1 200 OK\nno field\n\n",
        "HTTP/1.1 200 OK\nHTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\nStatus: 200\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.1 200 OK\nContent-Type:\n\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(broken); i++) {
        expect(broken[i], "broken");
    }
    takes_status_line = false;
}

/* What a server sends. */
static void test_http(void **state) {
    (void)state;
    is_http = true;
    expect("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 - length 1 [x]");
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Type: a/b\r\n\r\n1",
           "200 a/b chunked [1]");
    expect("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
           "200 - chunked []");
    expect("HTTP/1.1 200 OK\r\nConnection: X-One , close\r\n\r\n", "200 - closes []");
    expect("HTTP/1.1 200 OK\r\nConnection: closed\r\n\r\n", "200 - []");
    expect("HTTP/1.0 200 OK\r\n\r\n", "200 - closes []");
    expect("HTTP/1.1 200 OK\r\nStatus: 404\r\nLocation: /x\r\n\r\n", "200 - at /x Status=404 []");
    expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 103 Early Hints\r\nContent-Type: a/b\r\n"
           "Connection: close\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
           "200 - [x]");
    static const char *const broken[] = {
        "",
        "text",
        "Content-Type: a/b\n\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 100 Continue\n\n",
        "HTTP/1.1 101 Switching Protocols\n\n",
        "HTTP/1.1 099 OK\n\n",
        "HTTP/2 200 OK\n\n",
        "HTTP/1.1 200 OK\nContent-Length: x\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n",
        "HTTP/1.1 200 OK\nX Y: z\n\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(broken); i++) {
        expect(broken[i], "broken");
    }
    is_http = false;
}

static void parse_long(const char *first, size_t line_length, size_t lines,
                       enum cgi_state expected) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_append_str(&text, str_of(first)), ERR_OK);
    for (size_t i = 0; i < lines; i++) {
        assert_int_equal(buf_append_str(&text, STR("X: ")), ERR_OK);
        for (size_t j = 4; j < line_length; j++) {
            assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
        }
        assert_int_equal(buf_append_byte(&text, '\n'), ERR_OK);
    }
    assert_int_equal(buf_append_byte(&text, '\n'), ERR_OK);
    struct cgi_response response;
    parse(&response, buf_str(&text), 1000);
    assert_int_equal(response.state, expected);
    if (expected == CGI_TEXT) {
        assert_true(str_equal(cgi_response_body(&response), buf_str(&text)));
    }
    cgi_response_done(&response);
}

static void test_limits(void **state) {
    (void)state;
    parse_long("Status: 200\n", 8, CGI_FIELDS_MAX - 1, CGI_DOCUMENT);
    parse_long("Status: 200\n", 8, CGI_FIELDS_MAX, CGI_BROKEN);
    parse_long("", 8, CGI_FIELDS_MAX + 1, CGI_TEXT);
    parse_long("Status: 200\n", CGI_HEAD_BYTES_MAX - 13, 1, CGI_DOCUMENT);
    parse_long("Status: 200\n", CGI_HEAD_BYTES_MAX - 12, 1, CGI_BROKEN);
    parse_long("", CGI_HEAD_BYTES_MAX, 2, CGI_TEXT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_kept_back),
        cmocka_unit_test(test_transfer_encoding),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_status_lines),
        cmocka_unit_test(test_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
