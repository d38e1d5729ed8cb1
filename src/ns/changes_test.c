#include "ns/changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* The set in words: "+/a" what is there, "-/a" what is removed, "/" behind directories, "*" behind
 * whole ones, "..." if there are more. */
static void check(struct changes *set, const char *expected) {
    cleanup_buf struct buf text = {0};
    changes_sort(set);
    for (size_t i = 0; i < changes_count(set); i++) {
        unsigned flags;
        struct str path = changes_path(set, i, &flags);
        assert_int_equal(buf_printf(&text, "%s%s" STR_FORMAT "%s%s", i ? " " : "",
                                    flags & CHANGE_REMOVED ? "-" : "+", STR_ARGS(path),
                                    flags & CHANGE_DIRECTORY ? "/" : "",
                                    flags & CHANGE_WHOLE ? "*" : ""),
                         ERR_OK);
    }
    assert_int_equal(buf_printf(&text, "%s", changes_has_more(set) ? "..." : ""), ERR_OK);
    assert_string_equal(buf_text(&text), expected);
    changes_free(set);
}

static void test_made_and_removed(void **state) {
    (void)state;
    struct changes *set = NULL;
    check(set, "");
    changes_made(&set, STR("/b"), 0);
    changes_made(&set, STR("/a"), CHANGE_IS_NEW);
    changes_made(&set, STR("/d"), CHANGE_IS_NEW | CHANGE_DIRECTORY);
    changes_removed(&set, STR("/c"));
    check(set, "+/a +/b -/c +/d/");
    /* What came and went is nothing; what was there before and is there again was written. */
    set = NULL;
    changes_made(&set, STR("/a"), CHANGE_IS_NEW);
    changes_removed(&set, STR("/a"));
    changes_made(&set, STR("/b"), 0);
    changes_removed(&set, STR("/b"));
    changes_removed(&set, STR("/c"));
    changes_made(&set, STR("/c"), CHANGE_IS_NEW);
    check(set, "-/b +/c");
    set = NULL;
    changes_removed(&set, STR("/c"));
    changes_made(&set, STR("/c"), CHANGE_IS_NEW);
    changes_removed(&set, STR("/c"));
    check(set, "-/c");
}

static void test_renamed(void **state) {
    (void)state;
    struct changes *set = NULL;
    changes_made(&set, STR("/t.tmp"), CHANGE_IS_NEW);
    changes_renamed(&set, STR("/t.tmp"), STR("/t"), 0);
    changes_renamed(&set, STR("/old"), STR("/new"), 0);
    changes_renamed(&set, STR("/same"), STR("/same"), 0);
    check(set, "+/new -/old +/t");
    /* A directory that was there comes with what is in it; what was changed in it, too. */
    set = NULL;
    changes_made(&set, STR("/d/x"), 0);
    changes_made(&set, STR("/d/y/z"), CHANGE_IS_NEW);
    changes_removed(&set, STR("/d/gone"));
    changes_made(&set, STR("/dx"), 0);
    changes_renamed(&set, STR("/d"), STR("/e"), CHANGE_DIRECTORY);
    check(set, "-/d +/dx +/e/* +/e/x +/e/y/z");
    /* One that was made by the same run is known in all its parts. */
    set = NULL;
    changes_made(&set, STR("/d"), CHANGE_IS_NEW | CHANGE_DIRECTORY);
    changes_made(&set, STR("/d/x"), CHANGE_IS_NEW);
    changes_renamed(&set, STR("/d"), STR("/e"), CHANGE_DIRECTORY);
    check(set, "+/e/ +/e/x");
}

static void test_bounds(void **state) {
    (void)state;
    struct changes *set = NULL;
    char path[300];
    for (int i = 0; i <= CHANGES_MAX; i++) {
        struct str text = {path, (size_t)snprintf(path, sizeof path, "/%d", i)};
        changes_made(&set, text, 0);
        assert_int_equal(changes_has_more(set), i == CHANGES_MAX);
    }
    changes_removed(&set, STR("/7")); /* what is known is still kept up */
    changes_sort(set);
    changes_made(&set, STR("/late"), 0);
    assert_int_equal(changes_count(set), CHANGES_MAX);
    assert_false(changes_select(set, STR("/7")));
    assert_false(changes_select(set, STR("/late")));
    assert_true(changes_select(set, STR("/8")));
    changes_free(set);

    set = NULL;
    memset(path, 'x', sizeof path);
    for (int i = 0; i < CHANGES_MAX; i++) {
        snprintf(path, 8, "/%06d", i);
        path[7] = 'x';
        changes_made(&set, (struct str){path, sizeof path}, 0);
    }
    assert_true(changes_has_more(set));
    assert_true(changes_bytes(set) > CHANGES_BYTES_MAX - 1000);
    changes_free(set);
    set = NULL;
    changes_lost(&set);
    check(set, "...");
}

static void test_select(void **state) {
    (void)state;
    assert_false(changes_select(NULL, STR("/a")));
    struct changes *set = NULL;
    changes_made(&set, STR("/a/b/c"), 0);
    changes_made(&set, STR("/a-x"), 0);
    changes_made(&set, STR("/w"), CHANGE_DIRECTORY | CHANGE_WHOLE);
    changes_made(&set, STR("/d"), CHANGE_DIRECTORY);
    changes_removed(&set, STR("/gone/x"));
    changes_sort(set);
    static const char *const in[] = {"/a", "/a/b", "/a/b/c", "/a-x", "/w", "/w/x/y", "/d"};
    static const char *const out[] = {"/b", "/a/c", "/a/b/c/d", "/a-", "/d/x", "/gone", "/gone/x"};
    for (size_t i = 0; i < ARRAY_LENGTH(in); i++) {
        assert_true(changes_select(set, str_of(in[i])));
        assert_false(changes_select(set, str_of(out[i])));
    }
    changes_free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_and_removed),
        cmocka_unit_test(test_renamed),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
