/* Arguments, environment, randomness, yielding, the end, clocks, and the table of functions. */
#include "wasi/wasi_test_fixture.h"

static void test_table_is_witx(void **state) {
    (void)state;
    unsigned without_result = 0;
    for (size_t i = 0; i < WASI_FUNCTION_COUNT; i++) {
        const struct wasi_function *function = &wasi_functions[i];
        assert_non_null(function->name);
        assert_non_null(function->run);
        assert_true(strlen(function->parameters) <= WASI_ARGUMENTS_MAX);
        assert_int_equal(strspn(function->parameters, "iI"), strlen(function->parameters));
        without_result += !function->has_result;
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(function->name, wasi_functions[j].name);
    }
    assert_int_equal(without_result, 1);
    assert_string_equal(wasi_functions[0].name, "args_get");
    assert_string_equal(wasi_functions[WASI_FUNCTION_COUNT - 1].name, "sock_shutdown");
    assert_string_equal(function_named("path_open")->parameters, "iiiiiIIii");
    assert_string_equal(function_named("fd_seek")->parameters, "iIii");
    assert_false(function_named("fd_seek")->in_unstable);
    assert_true(function_named("fd_write")->in_unstable);
}

static void test_arguments(void **state) {
    struct fixture *f = *state;
    OK(f, args_sizes_get, AT_RESULT, AT_RESULT_2);
    assert_int_equal(get_u32(f, AT_RESULT), 3);
    assert_int_equal(get_u32(f, AT_RESULT_2), 8 + 1 + 10);
    OK(f, args_get, AT_STRUCT, AT_DATA);
    assert_string_equal(f->memory + get_u32(f, AT_STRUCT), "program");
    assert_string_equal(f->memory + get_u32(f, AT_STRUCT + 4), "");
    assert_string_equal(f->memory + get_u32(f, AT_STRUCT + 8), "two words");
    /* The last byte of the memory may be used, none beyond. */
    OK(f, args_get, AT_STRUCT, GUEST_BYTES - 19);
    EXPECT(ERR_FAULT, f, args_get, AT_STRUCT, GUEST_BYTES - 18);
    EXPECT(ERR_FAULT, f, args_get, GUEST_BYTES - 11, AT_DATA);
    EXPECT(ERR_FAULT, f, args_sizes_get, AT_RESULT, GUEST_BYTES - 3);
    /* The two lists on top of each other: nonsense, but harmless. */
    OK(f, args_get, AT_STRUCT, AT_STRUCT);
}

static void test_environment(void **state) {
    struct fixture *f = *state;
    OK(f, environ_sizes_get, AT_RESULT, AT_RESULT_2);
    assert_int_equal(get_u32(f, AT_RESULT), 1);
    OK(f, environ_get, AT_STRUCT, AT_DATA);
    assert_string_equal(f->memory + get_u32(f, AT_STRUCT), "PWD=/");
    struct wasi_strings none = {0};
    f->wasi.environment = &none;
    OK(f, environ_sizes_get, AT_RESULT, AT_RESULT_2);
    assert_int_equal(get_u32(f, AT_RESULT), 0);
    OK(f, environ_get, 0xffffffff, 0xffffffff);
}

static void test_strings_are_checked(void **state) {
    (void)state;
    struct wasi_strings strings = {0};
    assert_int_equal(wasi_strings_add(&strings, (struct str){"a\0b", 3}), ERR_INVAL);
    char *large = calloc(1, WASI_STRINGS_BYTES_MAX);
    memset(large, 'x', WASI_STRINGS_BYTES_MAX);
    assert_int_equal(wasi_strings_add(&strings, (struct str){large, WASI_STRINGS_BYTES_MAX}),
                     ERR_2BIG);
    assert_int_equal(wasi_strings_add(&strings, (struct str){large, WASI_STRINGS_BYTES_MAX - 1}),
                     ERR_OK);
    assert_int_equal(wasi_strings_add(&strings, STR("")), ERR_2BIG);
    assert_int_equal(strings.count, 1);
    free(large);
    wasi_strings_done(&strings);
}

static void test_random(void **state) {
    struct fixture *f = *state;
    OK(f, random_get, AT_DATA, 1000);
    unsigned zeros = 0;
    for (unsigned i = 0; i < 1000; i++)
        zeros += f->memory[AT_DATA + i] == 0;
    assert_true(zeros < 100);
    assert_int_equal(f->memory[AT_DATA + 1000], 0);
    OK(f, random_get, 0, 0);
    OK(f, random_get, 0xffffffff, 0);
    EXPECT(ERR_FAULT, f, random_get, GUEST_BYTES - 1, 2);
    EXPECT(ERR_FAULT, f, random_get, 1, 0xffffffff);
}

static void test_random_in_pieces(void **state) {
    (void)state;
    struct wasi_limits limits = wasi_limits_default;
    limits.piece_bytes = 1000;
    struct fixture *f = fixture_new(&limits, GUEST_BYTES);
    uint64_t arguments[] = {AT_DATA, 2500};
    assert_int_equal(fixture_begin(f, function_named("random_get"), arguments), ERR_PENDING);
    for (unsigned i = 1000; i < 2500; i++)
        assert_int_equal(f->memory[AT_DATA + i], 0);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    unsigned zeros = 0;
    for (unsigned i = 2000; i < 2500; i++)
        zeros += f->memory[AT_DATA + i] == 0;
    assert_true(zeros < 100);
    fixture_free(f);
}

static void test_yield(void **state) {
    struct fixture *f = *state;
    assert_int_equal(fixture_begin(f, function_named("sched_yield"), NULL), ERR_PENDING);
    assert_false(f->is_woken); /* not before the loop had a turn */
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(f->wasi.calls, 1);
}

static void test_exit(void **state) {
    struct fixture *f = *state;
    EXPECT(ERR_EXIT, f, proc_exit, 33);
    assert_int_equal(f->wasi.exit_status, 33);
    EXPECT(ERR_EXIT, f, proc_exit, 0xffffffff);
    assert_int_equal(f->wasi.exit_status, -1);
    EXPECT(ERR_NOTSUP, f, proc_raise, 6);
}

static void test_killed_while_it_waits(void **state) {
    struct fixture *f = *state;
    put_iovec(f, 0, AT_DATA, 10);
    uint64_t arguments[] = {FD_STDIN, AT_IOVECS, 1, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("fd_read"), arguments), ERR_PENDING);
    /* The teardown ends it: nothing leaks, nothing is woken. */
}

static uint64_t cpu_time(struct wasi *wasi) {
    (void)wasi;
    return 12345;
}

static void test_clocks(void **state) {
    struct fixture *f = *state;
    OK(f, clock_time_get, CLOCKID_REALTIME, 0, AT_RESULT);
    uint64_t realtime = get_u64(f, AT_RESULT);
    assert_true(realtime > 1600000000 * NS_PER_S);
    OK(f, clock_time_get, CLOCKID_MONOTONIC, 1, AT_RESULT);
    uint64_t first = get_u64(f, AT_RESULT);
    OK(f, clock_time_get, CLOCKID_MONOTONIC, UINT64_MAX, AT_RESULT);
    assert_true(get_u64(f, AT_RESULT) >= first);
    EXPECT(ERR_NOTSUP, f, clock_time_get, CLOCKID_PROCESS_CPUTIME, 0, AT_RESULT);
    f->wasi.cpu_time_ns = cpu_time;
    OK(f, clock_time_get, CLOCKID_PROCESS_CPUTIME, 0, AT_RESULT);
    assert_int_equal(get_u64(f, AT_RESULT), 12345);
    OK(f, clock_time_get, CLOCKID_THREAD_CPUTIME, 0, AT_RESULT);
    EXPECT(ERR_INVAL, f, clock_time_get, 4, 0, AT_RESULT);
    EXPECT(ERR_FAULT, f, clock_time_get, CLOCKID_REALTIME, 0, GUEST_BYTES - 7);
    OK(f, clock_time_get, CLOCKID_REALTIME, 0, GUEST_BYTES - 8);
    OK(f, clock_res_get, CLOCKID_MONOTONIC, AT_RESULT);
    assert_int_equal(get_u64(f, AT_RESULT), 1);
    EXPECT(ERR_INVAL, f, clock_res_get, 4, AT_RESULT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_witx),
        FIXTURE_TEST(test_arguments),
        FIXTURE_TEST(test_environment),
        cmocka_unit_test(test_strings_are_checked),
        FIXTURE_TEST(test_random),
        cmocka_unit_test(test_random_in_pieces),
        FIXTURE_TEST(test_yield),
        FIXTURE_TEST(test_exit),
        FIXTURE_TEST(test_killed_while_it_waits),
        FIXTURE_TEST(test_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
