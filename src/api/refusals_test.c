#include "api/refusals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void hash_of(unsigned number, uint8_t hash[SHA256_SIZE]) {
    assert_int_equal(sha256_of(&number, sizeof number, hash), ERR_OK);
}

static void test_remembers_what_the_compiler_said(void **state) {
    (void)state;
    static struct refusals refusals;
    refusals_init(&refusals);
    uint8_t hash[SHA256_SIZE];
    struct buf message = {0};
    hash_of(1, hash);
    assert_int_equal(refusals_find(&refusals, hash, &message), ERR_OK);
    assert_int_equal(buf_fail(&message, ERR_NOEXEC, "bad code"), ERR_NOEXEC);
    refusals_add(&refusals, hash, ERR_NOEXEC, &message);
    message.length = 0;
    assert_int_equal(refusals_find(&refusals, hash, &message), ERR_NOEXEC);
    assert_string_equal(buf_text(&message), "bad code");
    hash_of(2, hash);
    refusals_add(&refusals, hash, ERR_NOSPC, &message); /* the disk's fault, not the module's */
    assert_int_equal(refusals_find(&refusals, hash, &message), ERR_OK);
    buf_done(&message);
    refusals_done(&refusals);
}

static void test_the_oldest_go(void **state) {
    (void)state;
    static struct refusals refusals;
    refusals_init(&refusals);
    uint8_t hash[SHA256_SIZE];
    struct buf message = {0};
    for (unsigned i = 0; i <= REFUSALS_MAX; i++) {
        hash_of(i, hash);
        refusals_add(&refusals, hash, ERR_2BIG, &message);
    }
    hash_of(0, hash);
    assert_int_equal(refusals_find(&refusals, hash, NULL), ERR_OK);
    hash_of(1, hash);
    assert_int_equal(refusals_find(&refusals, hash, NULL), ERR_2BIG);
    hash_of(REFUSALS_MAX, hash);
    assert_int_equal(refusals_find(&refusals, hash, NULL), ERR_2BIG);
    refusals_done(&refusals);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers_what_the_compiler_said),
        cmocka_unit_test(test_the_oldest_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
