#include "net/request.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Reads a whole request, in pieces of `piece` bytes; its body goes to `body`. */
static enum err read_all(struct net_request *request, struct str text, size_t piece,
                         struct buf *body, size_t *ret_used, struct buf *message) {
    size_t at = 0;
    enum err err = ERR_OK;
    while (!err && at < text.length && request->phase != NET_REQUEST_END) {
        size_t length = MIN(piece, text.length - at), taken = 0;
        if (request->phase == NET_REQUEST_HEAD) {
            err = net_request_head(request, text.data + at, length, &taken, message);
        } else {
            err = net_request_framing(request, text.data + at, length, &taken, message);
            size_t data = err ? 0 : net_request_body(request, length - taken);
            if (data > 0) {
                assert_int_equal(buf_append(body, text.data + at + taken, data), ERR_OK);
                net_request_took(request, data);
                taken += data;
            }
        }
        assert_true(err || taken > 0);
        at += taken;
    }
    *ret_used = at;
    return err;
}

static void requests_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text, *method, *origin, *target, *fields, *body;
        uint64_t body_bytes;
    } cases[] = {
        {"GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\n\r\n", "GET",
         "http://example.org", "/a?b", "", "", NET_BODY_NONE},
        {"GET https://example.org HTTP/1.0\n\n", "GET", "https://example.org", "/", "", "",
         NET_BODY_NONE},
        {"POST http://a:81/ HTTP/1.1\r\nHOST:a:81\r\nX-A:  b c \t\r\nX-E:\r\nContent-Length: 3\r\n"
         "Connection: close\r\nProxy-Connection: x\r\nExpect: 100-continue\r\nTE: trailers\r\n\r\n"
         "abc",
         "POST", "http://a:81", "/", "X-A: b c\nX-E: \n", "abc", 3},
        {"PUT http://a/ HTTP/1.1\r\n\r\n", "PUT", "http://a", "/", "", "", 0},
        {"DELETE http://a/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "DELETE", "http://a", "/", "",
         "", 0},
        {"PATCH http://a/ HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0a;x=\"y\"\r\n"
         "0123456789\r\n000\r\nX: y\r\n\r\n",
         "PATCH", "http://a", "/", "", "abc0123456789", NET_BODY_CHUNKED},
        {"POST http://a/ HTTP/1.1\nTransfer-Encoding: chunked\n\n1\na\n0\n\n", "POST", "http://a",
         "/", "", "a", NET_BODY_CHUNKED},
        {"GET http://[::1]:8080/ HTTP/1.1\r\nHost: [0:0::1]:8080\r\n\r\n", "GET",
         "http://[::1]:8080", "/", "", "", NET_BODY_NONE},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        for (size_t piece = 1; piece < 200; piece = piece < 9 ? piece + 1 : piece * 2) {
            struct net_request request = {0};
            cleanup_buf struct buf body = {0}, message = {0}, origin = {0};
            size_t used;
            struct str text = str_of(cases[i].text);
            if (read_all(&request, text, piece, &body, &used, &message)) {
                fail_msg("case %zu: %s", i, buf_text(&message));
            }
            assert_int_equal(request.phase, NET_REQUEST_END);
            assert_int_equal(used, text.length);
            assert_string_equal(buf_text(&request.method), cases[i].method);
            assert_int_equal(net_url_append_origin(&request.url, &origin), ERR_OK);
            assert_string_equal(buf_text(&origin), cases[i].origin);
            assert_string_equal(buf_text(&request.url.target), cases[i].target);
            assert_string_equal(buf_text(&request.fields), cases[i].fields);
            assert_string_equal(buf_text(&body), cases[i].body);
            assert_true(request.body_bytes == cases[i].body_bytes);
            net_request_done(&request);
        }
    }
}

#define GET "GET http://a/ HTTP/1.1\r\n"
#define POST "POST http://a/ HTTP/1.1\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "\r\n",
        "\n",
        " \r\n\r\n",
        "GET\r\n\r\n",
        "GET http://a/\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET a HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "GET  http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a/  HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1 \r\n\r\n",
        " GET http://a/ HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/2\r\n\r\n",
        "GET http://a/ HTTP/1.2\r\n\r\n",
        "GET http://a/ http/1.1\r\n\r\n",
        "GE(T http://a/ HTTP/1.1\r\n\r\n",
        "GET\thttp://a/\tHTTP/1.1\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\n\r\n",
        "CONNECT http://a/ HTTP/1.1\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\n\r\n",
        "GET http://b@a/ HTTP/1.1\r\n\r\n",
        "GET http://a/#x HTTP/1.1\r\n\r\n",
        "GET http://127.1/ HTTP/1.1\r\n\r\n",
        "GET http://a/ b HTTP/1.1\r\n\r\n",
        GET "Host: b\r\n\r\n",
        GET "Host: a:81\r\n\r\n",
        GET "Host:\r\n\r\n",
        GET "Host: a\r\nHost: a\r\n\r\n",
        GET "Host: a, a\r\n\r\n",
        GET "X\r\n\r\n",
        GET ": x\r\n\r\n",
        GET "X : y\r\n\r\n",
        GET "X Y: z\r\n\r\n",
        GET " X: y\r\n\r\n",
        GET "X: y\r\n z\r\n\r\n",
        GET "X: y\r\n\tz\r\n\r\n",
        GET "X: a\rb\r\n\r\n",
        GET "X: a\x01\r\n\r\n",
        GET "X: a\x7f\r\n\r\n",
        GET "X\xc3: a\r\n\r\n",
        GET "X: a\r\r\n\r\n",
        "GET http://a/\r HTTP/1.1\r\n\r\n",
        GET "Upgrade: websocket\r\n\r\n",
        GET "Content-Length: 1, 1\r\n\r\n",
        GET "Content-Length: -1\r\n\r\n",
        GET "Content-Length: +1\r\n\r\n",
        GET "Content-Length: 0x1\r\n\r\n",
        GET "Content-Length: 1 1\r\n\r\n",
        GET "Content-Length:\r\n\r\n",
        GET "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        GET "Content-Length: 9999999999999999999\r\n\r\n",
        GET "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET "Transfer-Encoding: gzip, chunked\r\n\r\n",
        GET "Transfer-Encoding: identity\r\n\r\n",
        GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET "Transfer-Encoding: xchunked\r\n\r\n",
        GET "Transfer-Encoding:\r\n\r\n",
        "POST http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HEAD http://a/ HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        CHUNKED "\r\n",
        CHUNKED "x\r\n",
        CHUNKED "-1\r\n",
        CHUNKED "0x1\r\n",
        CHUNKED "1 1\r\n",
        CHUNKED ";x\r\n",
        CHUNKED "1\r\nab\r\n",
        CHUNKED "1\r\na0\r\n",
        CHUNKED "1000000000000000\r\n",
        CHUNKED "fffffffffffffffffffff\r\n",
        CHUNKED "1\rx\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        for (size_t piece = 1; piece < 400; piece += 7) {
            struct net_request request = {0};
            cleanup_buf struct buf body = {0}, message = {0};
            size_t used;
            if (read_all(&request, str_of(wrong[i]), piece, &body, &used, &message) != ERR_INVAL) {
                fail_msg("accepted: %s", wrong[i]);
            }
            assert_true(message.length > 0);
            net_request_done(&request);
        }
    }
}

static void size_is_limited(void **state) {
    (void)state;
    for (unsigned which = 0; which < 4; which++) {
        cleanup_buf struct buf text = {0}, body = {0}, message = {0};
        assert_int_equal(buf_append_str(&text, which < 2 ? STR(GET) : STR(CHUNKED)), ERR_OK);
        for (size_t i = 0; i < 70000 && which == 0; i++) { /* one long line */
            assert_int_equal(buf_append_byte(&text, 'a'), ERR_OK);
        }
        for (size_t i = 0; i <= NET_REQUEST_FIELDS_MAX && which == 1; i++) {
            assert_int_equal(buf_append_str(&text, STR("A: b\r\n")), ERR_OK);
        }
        for (size_t i = 0; i < 2000 && which == 2; i++) { /* a chunk's size */
            assert_int_equal(buf_append_byte(&text, ' '), ERR_OK);
        }
        assert_int_equal(buf_append_str(&text, which == 3 ? STR("0\r\n") : STR("\r\n")), ERR_OK);
        for (size_t i = 0; i < 10000 && which == 3; i++) { /* trailers */
            assert_int_equal(buf_append_str(&text, STR("a: b\r\n")), ERR_OK);
        }
        struct net_request request = {0};
        size_t used;
        assert_int_equal(read_all(&request, buf_str(&text), 512, &body, &used, &message),
                         ERR_INVAL);
        net_request_done(&request);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(size_is_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
