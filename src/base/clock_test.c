#include "base/clock.h"

#include "base/macros.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_format(void **state) {
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {999999, "1970-01-01T00:00:00.000Z"},
        {1000000, "1970-01-01T00:00:00.001Z"},
        {1709210096987654321u, "2024-02-29T12:34:56.987Z"},
        {UINT64_MAX, "2554-07-21T23:34:33.709Z"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        char text[CLOCK_TEXT_SIZE];
        clock_format_utc(cases[i].ns, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_clocks(void **state) {
    (void)state;
    uint64_t monotonic_ns = clock_monotonic_ns();
    uint64_t cpu_ns = clock_thread_cpu_ns();
    while (clock_monotonic_ns() == monotonic_ns || clock_thread_cpu_ns() == cpu_ns) {
    }
    assert_true(clock_monotonic_ns() > monotonic_ns);
    assert_true(clock_thread_cpu_ns() > cpu_ns);
    assert_true(clock_realtime_ns() > 1600000000 * NS_PER_S);
}

static void test_random(void **state) {
    (void)state;
    uint8_t a[300] = {0}, b[300] = {0};
    random_bytes(a, sizeof a);
    random_bytes(b, sizeof b - 1);
    assert_memory_not_equal(a, b, 16);
    assert_memory_not_equal(a + 250, b + 250, 16);
    assert_int_equal(b[299], 0);
    random_bytes(NULL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
