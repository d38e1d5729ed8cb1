#include "ns/temporary.h"

#include "ns/memory.h"
#include "ns/pending_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct file *memory, *root;

static int setup(void **state) {
    (void)state;
    test_begin();
    assert_int_equal(memory_new(&(struct memory_options){0}, &memory), ERR_OK);
    root = pending_wrap(file_ref(memory));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    file_unref(root);
    file_unref(memory);
    test_end();
    assert_int_equal(pending_files, 0);
    return 0;
}

static void make(const char *name) {
    struct file *file = NULL;
    assert_int_equal(file_create(&test_op, memory, str_of(name), FILE_REGULAR, &file), ERR_OK);
    file_unref(file);
}

static size_t files(void) {
    return (size_t)memory_usage(memory).inodes;
}

static void test_names(void **state) {
    (void)state;
    char name[NS_TEMPORARY_SIZE], other[NS_TEMPORARY_SIZE];
    ns_temporary_name(name);
    ns_temporary_name(other);
    assert_string_not_equal(name, other);
    assert_false(ns_is_leftover(str_of(name)));
    assert_false(ns_is_leftover(STR("name")));
    assert_true(ns_is_temporary(str_of(name)));
    char digit = name[sizeof ".zasm-put-" - 1];
    name[sizeof ".zasm-put-" - 1] = digit == '0' ? '1' : '0'; /* of another life */
    assert_true(ns_is_leftover(str_of(name)));
    assert_true(ns_is_temporary(str_of(name)));
}

/* Others may begin like it. */
static void test_form_of_names(void **state) {
    (void)state;
    static const char *const others[] = {
        "",
        ".zasm-put-",
        ".zasm-put-of-mine",
        ".zasm-put-00000000-000000000000000",
        ".zasm-put-00000000-00000000000000000",
        ".zasm-put-00000000-000000000000000g",
        ".zasm-put-00000000-000000000000000A",
        ".zasm-put-000000000000000000000000-",
        "xzasm-put-00000000-0000000000000000",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
        assert_false(ns_is_temporary(str_of(others[i])));
        assert_false(ns_is_leftover(str_of(others[i])));
        assert_false(ns_has_temporary(str_of(others[i])));
    }
    assert_true(ns_is_leftover(STR(".zasm-put-0123abcd-0123456789abcdef")));
    assert_true(ns_has_temporary(STR("a/.zasm-put-0123abcd-0123456789abcdef")));
    assert_true(ns_has_temporary(STR("/.zasm-put-0123abcd-0123456789abcdef/b")));
    assert_false(ns_has_temporary(STR("/a.zasm-put-0123abcd-0123456789abcdef/b")));
    assert_false(ns_has_temporary((struct str){0}));
}

/* The op and its name are gone, and so may be the last other reference to the directory. */
static void test_removal_outlives_its_op(void **state) {
    (void)state;
    make("a");
    make("b");
    assert_false(ns_has_removals());
    struct op op;
    struct who who = test_who;
    char name[] = "a";
    op_init(&op, test_loop, &who, test_wake);
    ns_remove_later(&op, root, str_of(name));
    op_done(&op);
    memset(&who, 0xff, sizeof who);
    name[0] = 'b';
    file_unref(STEAL(root));
    assert_true(ns_has_removals());
    assert_int_equal(files(), 2);
    for (int turns = 0; ns_has_removals(); turns++) {
        assert_true(turns < 1000);
        loop_turn(test_loop);
    }
    assert_int_equal(files(), 1);
    assert_int_equal(pending_files, 0);
}

static void test_removals_that_fail_or_do_not_wait(void **state) {
    (void)state;
    make("a");
    pending_fail = 1;
    ns_remove_later(&test_op, root, STR("a"));
    ns_remove_later(&test_op, root, STR("missing"));
    assert_true(ns_has_removals());
    while (ns_has_removals()) {
        loop_turn(test_loop);
    }
    assert_int_equal(files(), 1);
    ns_remove_later(&test_op, memory, STR("a")); /* done at once */
    assert_false(ns_has_removals());
    assert_int_equal(files(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test(test_form_of_names),
        cmocka_unit_test_setup_teardown(test_removal_outlives_its_op, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removals_that_fail_or_do_not_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
