#include "http/http_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* All data of a chunked body that comes in pieces of a size, and how much of it was taken. */
struct read {
    struct http_body body;
    struct buf data;
    size_t at;
};

static void read_in_pieces(struct read *read, const char *text, size_t length, size_t piece_size) {
    static struct http_head head;
    head.is_chunked = true;
    *read = (struct read){0};
    http_body_init(&read->body, &head);
    while (read->at < length && !http_body_is_over(&read->body) &&
           !http_body_is_broken(&read->body)) {
        size_t size = MIN(piece_size, length - read->at);
        /* On the heap and of the exact size, so that a sanitizer sees what is read beyond. */
        uint8_t *exact = malloc(size);
        memcpy(exact, text + read->at, size);
        size_t piece = 0;
        size_t skipped = http_body_next(&read->body, exact, size, &piece);
        assert_true(skipped <= size && piece <= size - skipped);
        assert_true(skipped + piece > 0);
        assert_int_equal(buf_append(&read->data, exact + skipped, piece), ERR_OK);
        http_body_took(&read->body, piece);
        read->at += skipped + piece;
        free(exact);
    }
}

static void test_chunks(void **state) {
    (void)state;
    static const struct {
        const char *text, *data; /* data NULL: it is broken */
        size_t behind;
    } cases[] = {
        {"0\r\n\r\n", "", 0},
        {"5\r\nhello\r\n0\r\n\r\nGET /", "hello", 5},
        {"5\r\nhello\r\n00006\r\n world\r\n000\r\n\r\n", "hello world", 0},
        {"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 0},
        {"5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n", "hello", 0},
        {"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n", 0},
        {"0\r\nA: b\r\nContent-Length: 5\r\nE:\r\n\r\nrest", "", 4},
        {"5\nhello\r\n0\r\n\r\n", NULL, 0},
        {"5\r\nhello\n0\r\n\r\n", NULL, 0},
        {"5\r\nhello0\r\n\r\n", NULL, 0},
        {"5\r\nhelloX\r\n0\r\n\r\n", NULL, 0},
        {"\r\n", NULL, 0},
        {" 5\r\nhello\r\n", NULL, 0},
        {"5 \r\nhello\r\n", NULL, 0},
        {"5 ;a\r\nhello\r\n", NULL, 0},
        {"+5\r\nhello\r\n", NULL, 0},
        {"-1\r\nhello\r\n", NULL, 0},
        {"0x5\r\nhello\r\n", NULL, 0},
        {"g\r\n", NULL, 0},
        {";a\r\n", NULL, 0},
        {"5\r\rhello", NULL, 0},
        {"5;a\nb\r\nhello", NULL, 0},
        {"5;a\x01\r\nhello", NULL, 0},
        {"8000000000000000\r\n", NULL, 0},
        {"10000000000000005\r\nhello\r\n", NULL, 0},
        {"0\r\n\n", NULL, 0},
        {"0\r\n\rX", NULL, 0},
        {"0\r\nA\r\n\r\n", NULL, 0},
        {"0\r\nA : b\r\n\r\n", NULL, 0},
        {"0\r\n: b\r\n\r\n", NULL, 0},
        {"0\r\nA: b\n\r\n", NULL, 0},
        {"0\r\nA: b\r\n c\r\n\r\n", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        size_t length = strlen(cases[i].text);
        for (size_t piece = 1; piece <= length; piece++) {
            struct read read;
            read_in_pieces(&read, cases[i].text, length, piece);
            if (cases[i].data) {
                assert_true(http_body_is_over(&read.body));
                assert_string_equal(buf_text(&read.data), cases[i].data);
                assert_int_equal(length - read.at, cases[i].behind);
            } else {
                assert_true(http_body_is_broken(&read.body));
            }
            buf_done(&read.data);
        }
    }
}

static bool is_accepted(const char *before, size_t count, const char *after) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_append_str(&text, str_of(before)), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
    }
    assert_int_equal(buf_append_str(&text, str_of(after)), ERR_OK);
    bool is_over[2];
    for (size_t i = 0; i < 2; i++) { /* split or not, it is the same */
        struct read read;
        read_in_pieces(&read, buf_text(&text), text.length, i ? 7 : text.length);
        is_over[i] = http_body_is_over(&read.body);
        assert_int_equal(is_over[i], !http_body_is_broken(&read.body));
        buf_done(&read.data);
    }
    assert_int_equal(is_over[0], is_over[1]);
    return is_over[0];
}

static void test_limits(void **state) {
    (void)state;
    /* "5;" and CR LF count. */
    assert_true(is_accepted("5;", HTTP_CHUNK_LINE_BYTES_MAX - 4, "\r\nhello\r\n0\r\n\r\n"));
    assert_false(is_accepted("5;", HTTP_CHUNK_LINE_BYTES_MAX, "\r\nhello\r\n0\r\n\r\n"));
    assert_true(is_accepted("0\r\nA: ", HTTP_TRAILER_BYTES_MAX - 10, "\r\n\r\n"));
    assert_false(is_accepted("0\r\nA: ", HTTP_TRAILER_BYTES_MAX, "\r\n\r\n"));
    /* Many short ones count together; a line of each chunk for itself. */
    cleanup_buf struct buf text = {0};
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(buf_append_str(&text, STR("1;abcdef\r\nx\r\n")), ERR_OK);
    }
    assert_int_equal(buf_append_str(&text, STR("0\r\n")), ERR_OK);
    size_t trailers = text.length;
    assert_int_equal(buf_append_str(&text, STR("\r\n")), ERR_OK);
    struct read read;
    read_in_pieces(&read, buf_text(&text), text.length, 1000);
    assert_true(http_body_is_over(&read.body));
    assert_int_equal(read.data.length, 5000);
    buf_done(&read.data);
    text.length = trailers;
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(buf_append_str(&text, STR("A: b\r\n")), ERR_OK);
    }
    assert_int_equal(buf_append_str(&text, STR("\r\n")), ERR_OK);
    read_in_pieces(&read, buf_text(&text), text.length, 1000);
    assert_true(http_body_is_broken(&read.body));
    buf_done(&read.data);
}

static void test_length(void **state) {
    (void)state;
    static struct http_head head;
    struct http_body body;
    http_body_init(&body, &head);
    assert_true(http_body_is_over(&body));
    head.content_length = 5;
    head.has_content_length = true;
    http_body_init(&body, &head);
    size_t piece = 0;
    assert_int_equal(http_body_next(&body, (const uint8_t *)"abcdefgh", 8, &piece), 0);
    assert_int_equal(piece, 5);
    http_body_took(&body, 2);
    assert_false(http_body_is_over(&body));
    assert_int_equal(http_body_next(&body, (const uint8_t *)"cdefgh", 6, &piece), 0);
    assert_int_equal(piece, 3);
    http_body_took(&body, 3);
    assert_true(http_body_is_over(&body));
    assert_int_equal(http_body_next(&body, (const uint8_t *)"fgh", 3, &piece), 0);
    assert_int_equal(piece, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
