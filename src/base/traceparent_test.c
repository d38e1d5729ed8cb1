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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_not_valid),
        cmocka_unit_test(test_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
