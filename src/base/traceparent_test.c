#include "base/traceparent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"
#define VALID "00-" TRACE "-" PARENT "-01"

static void test_valid(void **state) {
    (void)state;
    static const char *const texts[] = {
        VALID,
        "cc-" TRACE "-" PARENT "-01",        /* of a version to come */
        "cc-" TRACE "-" PARENT "-01-more-x", /* which may have more */
        "01-" TRACE "-" PARENT "-01-",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        struct traceparent traceparent;
        char text[TRACEPARENT_TEXT_SIZE];
        assert_int_equal(traceparent_parse(str_of(texts[i]), &traceparent), ERR_OK);
        traceparent_format(&traceparent, text);
        assert_string_equal(text, VALID);
    }
    struct traceparent flags;
    char text[TRACEPARENT_TEXT_SIZE];
    assert_int_equal(traceparent_parse(STR("00-" TRACE "-" PARENT "-f0"), &flags), ERR_OK);
    assert_int_equal(flags.flags, 0xf0);
    traceparent_format(&flags, text);
    assert_string_equal(text, "00-" TRACE "-" PARENT "-f0");
}

static void test_not_valid(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-01-",
        "00-" TRACE "-" PARENT "-011",
        "00-" TRACE "-" PARENT "-01 ",
        " " VALID,
        "cc-" TRACE "-" PARENT "-01.more",
        "ff-" TRACE "-" PARENT "-01",
        "0x-" TRACE "-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-00f067aa0ba902B7-01",
        "00-" TRACE "-" PARENT "-0A",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        struct traceparent traceparent = {.flags = 7};
        assert_int_equal(traceparent_parse(str_of(texts[i]), &traceparent), ERR_INVAL);
        assert_int_equal(traceparent.flags, 7); /* untouched */
    }
    struct str cut = {VALID, sizeof(VALID) - 2};
    struct traceparent traceparent;
    assert_int_equal(traceparent_parse(cut, &traceparent), ERR_INVAL);
}

static void test_hops(void **state) {
    (void)state;
    struct traceparent first = traceparent_new();
    struct traceparent second = traceparent_child(&first);
    struct traceparent third = traceparent_child(&first);
    assert_memory_equal(first.trace_id, second.trace_id, sizeof(first.trace_id));
    assert_memory_not_equal(first.parent_id, second.parent_id, sizeof(first.parent_id));
    assert_memory_not_equal(third.parent_id, second.parent_id, sizeof(first.parent_id));
    assert_int_equal(second.flags, 1);
    struct traceparent other = traceparent_new();
    assert_memory_not_equal(first.trace_id, other.trace_id, sizeof(first.trace_id));
    char text[TRACEPARENT_TEXT_SIZE];
    struct traceparent again;
    traceparent_format(&third, text);
    assert_int_equal(traceparent_parse(str_of(text), &again), ERR_OK);
    assert_memory_equal(&again, &third, sizeof(again));
}

static void test_state(void **state) {
    (void)state;
    static const struct {
        const char *text, *state; /* NULL: not valid */
    } rows[] = {
        {"", ""},
        {"a=1", "a=1"},
        {"a=1, b=2 ,\tc=3", "a=1,b=2,c=3"},
        {",,a=1, ,", "a=1"},
        {"t_0-9*/x@y=! ~", "t_0-9*/x@y=! ~"},
        {"a=", "a="},
        {"a", NULL},
        {"=1", NULL},
        {"A=1", NULL},
        {"a b=1", NULL},
        {"a=1=2", NULL},
        {"a=\x7f", NULL},
        {"a=\xc3\xa4", NULL},
        {"a=1,b", NULL},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        cleanup_buf struct buf tracestate = {0};
        assert_int_equal(tracestate_parse(str_of(rows[i].text), &tracestate),
                         rows[i].state ? ERR_OK : ERR_INVAL);
        assert_string_equal(buf_text(&tracestate), rows[i].state ? rows[i].state : "");
    }
}

static void test_long_states(void **state) {
    (void)state;
    cleanup_buf struct buf field = {0}, tracestate = {0};
    for (int i = 0; i < TRACESTATE_MEMBERS_MAX; i++) {
        assert_int_equal(buf_printf(&field, "k%02d=%020d,", i, i), ERR_OK);
    }
    assert_int_equal(tracestate_parse(buf_str(&field), &tracestate), ERR_OK);
    /* Members of 24 bytes and a comma between: whole ones, from the left. */
    assert_int_equal(tracestate.length, 20 * 25 - 1);
    assert_true(str_starts(buf_str(&tracestate), STR("k00=")));
    /* A short one behind those that were left out would be out of order. */
    cleanup_buf struct buf gap = {0}, wide = {0};
    assert_int_equal(buf_printf(&wide, "a=%0256d,b=%0256d,c=1", 1, 1), ERR_OK);
    assert_int_equal(tracestate_parse(buf_str(&wide), &gap), ERR_OK);
    assert_int_equal(gap.length, 258);
    buf_done(&gap);
    wide.length = 0;
    assert_int_equal(buf_printf(&wide, "a=%0257d", 1), ERR_OK);
    assert_int_equal(tracestate_parse(buf_str(&wide), &gap), ERR_INVAL);
    assert_int_equal(buf_append_str(&field, STR("one=more")), ERR_OK);
    buf_done(&tracestate);
    assert_int_equal(tracestate_parse(buf_str(&field), &tracestate), ERR_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),       cmocka_unit_test(test_not_valid),
        cmocka_unit_test(test_hops),        cmocka_unit_test(test_state),
        cmocka_unit_test(test_long_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
