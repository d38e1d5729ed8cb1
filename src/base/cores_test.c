#include "base/cores.h"

#include "base/fsio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>

static char mount[64];

static int set_up(void **state) {
    (void)state;
    strcpy(mount, "/tmp/cores-test-XXXXXX");
    return mkdtemp(mount) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    return fsio_remove_tree(mount) ? -1 : 0;
}

static void limit(const char *group, const char *text) {
    cleanup_buf struct buf path = {0};
    assert_int_equal(buf_printf(&path, "%s%s", mount, group), ERR_OK);
    assert_int_equal(fsio_make_directories(buf_text(&path)), ERR_OK);
    assert_int_equal(buf_printf(&path, "/cpu.max"), ERR_OK);
    assert_int_equal(fsio_replace_file(buf_text(&path), text, strlen(text)), ERR_OK);
}

static unsigned count(const char *cgroup) {
    return core_count_within(8, str_of(cgroup), mount);
}

static void test_quota(void **state) {
    (void)state;
    assert_int_equal(count("0::/\n"), 8); /* no file: the root of the whole system */
    limit("/", "max 100000\n");
    assert_int_equal(count("0::/\n"), 8);
    limit("/", "200000 100000\n");
    assert_int_equal(count("0::/\n"), 2);
    limit("/", "150000 100000\n");
    assert_int_equal(count("0::/\n"), 2);
    limit("/", "1000 100000\n");
    assert_int_equal(count("0::/\n"), 1);
    limit("/", "0 100000\n");
    assert_int_equal(count("0::/\n"), 1);
    limit("/", "18446744073709551615 1\n");
    assert_int_equal(count("0::/\n"), 8);
}

static void test_the_least_of_all_groups_above(void **state) {
    (void)state;
    limit("/a", "300000 100000\n");
    limit("/a/b", "500000 100000\n");
    limit("/a/b/c", "max 100000\n");
    assert_int_equal(count("0::/a/b/c\n"), 3);
    assert_int_equal(count("0::/a\n"), 3);
    assert_int_equal(count("0::/\n"), 8);
    assert_int_equal(count("4:memory:/a/b\n0::/a/b\n"), 3);
    limit("/a/b", "100000 100000\n");
    assert_int_equal(count("0::/a/b/c\n"), 1);
}

static void test_what_is_not_understood(void **state) {
    (void)state;
    static const char *const texts[] = {"",           "\n",          "100000",     "100000\n",
                                        "100000 0\n", "-1 100000\n", "x 100000\n", "100000 x\n",
                                        "100000 \n",  " \n"};
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        limit("/", texts[i]);
        assert_int_equal(count("0::/\n"), 8);
    }
    limit("/", "100000 100000\n");
    assert_int_equal(count(""), 8);
    assert_int_equal(count("0::/"), 8); /* cut off */
    assert_int_equal(count("1:cpu:/\n"), 8);
    assert_int_equal(count("10::/\n"), 8);
    assert_int_equal(count("0::/\n"), 1);
}

static void test_of_this_process(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_in_range(core_count(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(core_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_quota),
        TEST(test_the_least_of_all_groups_above),
        TEST(test_what_is_not_understood),
        TEST(test_of_this_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
