/* Random operations on a volume against a model, with commits and reopening in between. */
#include "store/volume_testing.h"

static void run(uint64_t seed, int steps) {
    struct model model;
    model_init(&model, seed);
    struct volume *volume = open_volume();
    for (int i = 0; i < steps; i++) {
        model_step(&model, volume);
        uint64_t chance = next_random(&seed) % 300;
        if (chance < 6) {
            assert_ok(volume_sync(&op, volume));
            assert_false(volume_is_dirty(volume));
        } else if (chance == 6) {
            model_let_go(&model, volume, true);
            struct volume_usage usage = volume_usage(volume);
            volume_unref(volume);
            check_accounts(&usage);
            volume = open_volume();
            struct volume_usage now = volume_usage(volume);
            assert_int_equal(now.bytes, usage.bytes);
            assert_int_equal(now.inodes, usage.inodes);
        }
        if (i % 50 == 0) {
            assert_true(model_matches(&model, 0, volume, VOLUME_ROOT_INODE));
        }
    }
    model_let_go(&model, volume, true);
    assert_true(model_matches(&model, 0, volume, VOLUME_ROOT_INODE));
    volume_unref(volume);
    model_done(&model);
    assert_int_equal(unlink(volume_path), 0);
}

static void test_random_operations_do_what_the_model_does(void **state) {
    (void)state;
    const char *seeds = getenv("VOLUME_MODEL_SEEDS"); /* for a longer search */
    uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 6;
    for (uint64_t seed = 1; seed <= count; seed++) {
        run(seed, 3000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_operations_do_what_the_model_does, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
