/* When memory is given back. */
#include "api/trim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_when_it_is_due(void **state) {
    (void)state;
    static const struct {
        struct trim_state state;
        bool is_due;
    } cases[] = {
        {{100 * MIB, 100 * MIB, 3600 * NS_PER_S, true}, false},
        {{50 * MIB, 100 * MIB, 3600 * NS_PER_S, true}, false},
        {{107 * MIB, 100 * MIB, 3600 * NS_PER_S, true}, false},
        {{108 * MIB, 100 * MIB, 0, true}, true},
        {{108 * MIB, 100 * MIB, 3600 * NS_PER_S, false}, false},
        {{227 * MIB, 100 * MIB, 3600 * NS_PER_S, false}, false},
        {{228 * MIB, 100 * MIB, 60 * NS_PER_S, false}, true},
        {{228 * MIB, 100 * MIB, 59 * NS_PER_S, false}, false},
        {{228 * MIB, 100 * MIB, 0, true}, true},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        assert_int_equal(trim_is_due(&cases[i].state), cases[i].is_due);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_when_it_is_due)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
