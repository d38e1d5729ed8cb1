#include "cli/arguments.h"
#include "cli/lines.h"
#include "cli/remote.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ESCAPED(text, newlines, expected)                                                          \
    do {                                                                                           \
        struct buf escaped_ = {0};                                                                 \
        text_escape(STR(text), newlines, &escaped_);                                               \
        assert_string_equal(buf_text(&escaped_), expected);                                        \
        buf_done(&escaped_);                                                                       \
    } while (0)

static void test_escape(void **state) {
    (void)state;
    ESCAPED("plain \xc3\xbc \xf0\x9f\x8c\x8d\t.", false, "plain \xc3\xbc \xf0\x9f\x8c\x8d\t.");
    ESCAPED("\x1b[31m\x07", false, "\\x1b[31m\\x07");
    ESCAPED("a\nb\r", false, "a\\x0ab\\x0d");
    ESCAPED("a\nb\r", true, "a\nb\\x0d");
    ESCAPED("\x7f\xc2\x80\xc2\x9f\xc2\xa0", false, "\\x7f\\xc2\\x80\\xc2\\x9f\xc2\xa0");
    ESCAPED("\xff\xc3", false, "\\xff\\xc3");          /* no UTF-8, cut off */
    ESCAPED("\xed\xa0\x80", false, "\\xed\\xa0\\x80"); /* a surrogate */
    ESCAPED("\xc0\x9b", false, "\\xc0\\x9b");          /* ESC, overlong */
    ESCAPED("a\0b", false, "a\\x00b");
}

static void test_encode(void **state) {
    (void)state;
    cleanup_buf struct buf text = {0};
    text_encode(STR("aZ09-._~/ %?#&=+\xc3\xbc\0"), true, &text);
    assert_string_equal(buf_text(&text), "aZ09-._~/%20%25%3F%23%26%3D%2B%C3%BC%00");
    text.length = 0;
    text_encode(STR("/"), false, &text);
    assert_string_equal(buf_text(&text), "%2F");
    text.length = 0;
    cli_check(buf_append_str(&text, STR("/run")));
    text_add_parameter(&text, "arg", "a&b");
    text_add_parameter(&text, "detach", NULL);
    assert_string_equal(buf_text(&text), "/run?arg=a%26b&detach");
}

static void test_format_bytes(void **state) {
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {{0, "0 B"},        {1023, "1023 B"},           {1024, "1.0 KiB"},
                {1536, "1.5 KiB"}, {1048576, "1.0 MiB"},       {1023998, "1.0 MiB"},
                {GIB, "1.0 GiB"},  {UINT64_MAX, "16384.0 PiB"}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        char text[TEXT_BYTES_SIZE];
        text_format_bytes(rows[i].bytes, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_base64(void **state) {
    (void)state;
    cleanup_buf struct buf bytes = {0};
    assert_int_equal(text_decode_base64(STR("//4AAQ=="), &bytes), ERR_OK);
    assert_int_equal(bytes.length, 4);
    assert_memory_equal(bytes.data, "\xff\xfe\x00\x01", 4);
    static const char *const bad[] = {
        "A", "AB", "ABC", "A===", "=AAA", "AA=A", "AA==AAAA", "AA\nA"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(text_decode_base64(str_of(bad[i]), &bytes), ERR_BADMSG);
        assert_int_equal(bytes.length, 4);
    }
    assert_int_equal(text_decode_base64(STR(""), &bytes), ERR_OK);
    assert_int_equal(bytes.length, 4);
}

static void test_base_name(void **state) {
    (void)state;
    assert_true(str_equal_text(str_base_name(STR("a/b//")), "b"));
    assert_true(str_equal_text(str_base_name(STR("b")), "b"));
    assert_int_equal(str_base_name(STR("/")).length, 0);
    assert_int_equal(str_base_name(STR("")).length, 0);
}

static void test_fact(void **state) {
    (void)state;
    struct str lines = STR("id: 7\nstate: ended\nempty:\nstate: second\n");
    assert_true(str_equal_text(text_fact(lines, "state"), "ended"));
    assert_true(str_equal_text(text_fact(lines, "id"), "7"));
    assert_int_equal(text_fact(lines, "empty").length, 0);
    assert_null(text_fact(lines, "i").data);
}

static void check_target(const char *text, const char *expected) {
    struct buf target = {0};
    assert_int_equal(remote_target(text, true, &target), expected != NULL);
    if (expected) {
        assert_string_equal(buf_text(&target), expected);
    }
    buf_done(&target);
}

static void test_remote(void **state) {
    (void)state;
    assert_true(remote_looks_like("app:/x"));
    assert_true(remote_looks_like("0:/"));
    assert_false(remote_looks_like("app"));
    assert_false(remote_looks_like("app:x"));
    assert_false(remote_looks_like("./app:/x"));
    assert_false(remote_looks_like(":/x"));
    assert_false(remote_looks_like("-a:/x"));
    assert_false(remote_looks_like("A:/x"));
    check_target("app", "/apps/app/files");
    check_target("app:/", "/apps/app/files");
    check_target("app://a/./b#//", "/apps/app/files/a/b%23");
    check_target("app:/..x/x..", "/apps/app/files/..x/x..");
    check_target("app:/a/..", NULL);
    check_target("app:/../b", NULL);
    check_target("x/y", NULL);
    assert_true(remote_is_run_id("17"));
    assert_false(remote_is_run_id("0"));
    assert_false(remote_is_run_id("017"));
    assert_false(remote_is_run_id(""));
    assert_false(remote_is_run_id("99999999999999999999"));
}

static bool count_event(void *context, json_t *event) {
    int *sum = context;
    *sum += (int)json_integer_value(json_object_get(event, "n"));
    return *sum < 100;
}

static void test_event_lines(void **state) {
    (void)state;
    static const char text[] = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct event_lines lines = {0};
        int sum = 0;
        for (size_t at = 0; at < sizeof text - 1; at += piece) {
            size_t length = MIN(piece, sizeof text - 1 - at);
            assert_true(event_lines_add(&lines, text + at, length, count_event, &sum));
        }
        assert_int_equal(sum, 6);
        event_lines_done(&lines);
    }
    struct event_lines lines = {0};
    int sum = 0;
    assert_false(event_lines_add(&lines, "{\"n\":100}\n{\"n\":5}\n", 18, count_event, &sum));
    assert_int_equal(sum, 100); /* it was told to stop */
    event_lines_done(&lines);
}

static void test_arguments(void **state) {
    (void)state;
    bool flag = false;
    const char *text = NULL;
    struct buf target = {0};
    const struct argument_option options[] = {{.name = "flag", .letter = 'f', .flag = &flag},
                                              {.name = "text", .text = &text},
                                              {.name = "env", .parameter = "env"}};
    struct arguments arguments = {.command = &commands[0],
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &target,
                                  .count_max = SIZE_MAX,
                                  .literal_from = 2};
    char *argv[] = {"x",          "--env", "A=1", "one",    "-f",       "--text=",
                    "--server=S", "-",     "-f",  "--text", "--env=x=y"};
    assert_int_equal(arguments_parse(&arguments, ARRAY_LENGTH(argv), argv), 0);
    assert_true(flag);
    assert_string_equal(text, "");
    assert_string_equal(arguments.server, "S");
    assert_string_equal(buf_text(&target), "?env=A%3D1");
    assert_int_equal(arguments.count, 5);
    assert_string_equal(arguments.list[1], "-");
    assert_string_equal(arguments.list[2], "-f");
    arguments_done(&arguments);
    buf_done(&target);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape),       cmocka_unit_test(test_encode),
        cmocka_unit_test(test_format_bytes), cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base_name),    cmocka_unit_test(test_fact),
        cmocka_unit_test(test_remote),       cmocka_unit_test(test_event_lines),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
