/* Heads of responses, line by line. */
#include "net/http_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Feeds lines; true if all were taken. */
static bool feed(struct net_http *http, const char *text) {
    struct str rest = str_of(text);
    while (rest.length > 0) {
        const char *begin = rest.data;
        (void)str_cut(&rest, '\n');
        size_t length = rest.data ? (size_t)(rest.data - begin) : strlen(begin);
        if (!net_http_head_line(http, (struct str){begin, length})) {
            return false;
        }
    }
    return true;
}

static void done(struct net_http *http) {
    buf_done(&http->reason);
    buf_done(&http->shown);
    buf_done(&http->message);
}

static void what_is_shown(void **state) {
    (void)state;
    static const struct {
        const char *head;
        unsigned status;
        const char *reason, *shown;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\n", 200, "OK",
         "Content-Length: 5\r\nX-A: b\r\n"},
        {"HTTP/1.1 204\r\n\r\n", 204, "", ""},
        {"HTTP/1.0 404 Not Found\nA: b\n\n", 404, "Not Found", "A: b\r\n"},
        {"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 Yes\r\n\r\n",
         200, "Yes", ""},
        {"HTTP/1.1 200 OK\r\nConnection: x\r\nKeep-Alive: x\r\nUpgrade: x\r\nTrailer: x\r\nTE: "
         "x\r\n"
         "Proxy-Connection: x\r\nA: b\r\n\r\n",
         200, "OK", "A: b\r\n"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n", 200,
         "OK", "A: b\r\n"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 200, "OK",
         ""},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 01\r\nContent-Length: x\r\n\r\n",
         200, "OK", "Content-Length: 1\r\n"},
        {"HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "2\r\n\r\n",
         200, "OK", "Content-Length: 2\r\n"},
        {"HTTP/1.1 200 OK\r\nA: b\x01\r\nA\x01: b\r\n: b\r\nnothing\r\nB: c\r\n "
         "folded\r\n\td\r\nC: \r\n\r\n",
         200, "OK", "B: c\r\nC: \r\n"},
        {"HTTP/1.1 200 a\x01z\r\n\r\n", 200, "", ""},
        {"HTTP/1.1 502 Bad\r\n0ASM-Error: forged\r\nA: b\r\n\r\n", 502, "Bad", "A: b\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct net_http http = {0};
        assert_true(feed(&http, cases[i].head));
        assert_true(http.head_done);
        assert_int_equal(net_http_status(&http), cases[i].status);
        assert_int_equal(net_http_reason(&http).length, strlen(cases[i].reason));
        assert_memory_equal(buf_text(&http.reason), cases[i].reason, strlen(cases[i].reason));
        cleanup_buf struct buf shown = {0};
        assert_int_equal(buf_append_str(&shown, net_http_fields(&http)), ERR_OK);
        assert_string_equal(buf_text(&shown), cases[i].shown);
        done(&http);
    }
}

static void what_is_refused(void **state) {
    (void)state;
    static const char *const heads[] = {
        "HTTP/1.1\r\n",
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 abc OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 +20 OK\r\n",
        "HTTP/1.1 101 Switching\r\n",
        "HTTP/1.1  200\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nContent-Length: "
        "2\r\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(heads); i++) {
        struct net_http http = {0};
        assert_false(feed(&http, heads[i]));
        assert_int_equal(http.failure, ERR_IO);
        done(&http);
    }
}

static void size_is_limited(void **state) {
    (void)state;
    struct net_http http = {0};
    assert_true(feed(&http, "HTTP/1.1 200 OK\r\n"));
    unsigned lines = 0;
    while (feed(&http, "A: 0123456789012345678901234567890123456789\r\n")) {
        lines++;
    }
    assert_true(lines > 1000 && lines < 2000);
    assert_int_equal(http.failure, ERR_IO);
    done(&http);
}

static void fields_are_found(void **state) {
    (void)state;
    struct net_http http = {0};
    assert_true(feed(&http, "HTTP/1.1 200 OK\r\nLocation:  /x \r\nA: b\r\nlocation: /y\r\n\r\n"));
    assert_true(str_equal_text(net_http_field(&http, "location"), "/x"));
    assert_true(str_equal_text(net_http_field(&http, "A"), "b"));
    assert_null(net_http_field(&http, "b").data);
    done(&http);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shown),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(size_is_limited),
        cmocka_unit_test(fields_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
