/* Runs that have ended: how long they are kept, and which make room for others. */
#include "run/run_suite_testing.h"

static void test_keeping(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.kept_max = 3;
    again_with(&options);
    uint64_t ids[6];
    for (int i = 0; i < 6; i++) {
        struct run *run = start(guest_hello, (struct run_request){0});
        fixture_wait(&fixture, run);
        ids[i] = run_id(run);
        run_unref(run);
    }
    struct run *found;
    for (int i = 0; i < 6; i++) {
        enum err err = runs_find(fixture.runs, ids[i], &found);
        assert_int_equal(err, i < 3 ? ERR_NOENT : ERR_OK);
        if (!err) {
            assert_int_equal(run_id(found), ids[i]);
            run_unref(found);
        }
    }
    assert_int_equal(runs_find(fixture.runs, 0, &found), ERR_NOENT);
    struct run **list;
    size_t count;
    assert_int_equal(runs_list(fixture.runs, &list, &count), ERR_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(run_id(list[i]), ids[3 + i]);
        run_unref(list[i]);
    }
    free(list);
    /* One that is to be forgotten at once is. */
    struct run *run = start(guest_hello, (struct run_request){.keep_ns = 1});
    fixture_wait(&fixture, run);
    assert_int_equal(runs_find(fixture.runs, run_id(run), &found), ERR_NOENT);
    /* A reference still shows all of it. */
    assert_string_equal(fixture_output(&fixture, run, 3), "hello\n");
    run_unref(run);
    /* Much output counts. */
    options.kept_bytes_max = 100000;
    again_with(&options);
    for (int i = 0; i < 2; i++) {
        run = start(guest_flood, (struct run_request){.limits = {.output_bytes = 70000}});
        fixture_wait(&fixture, run);
        run_unref(run);
    }
    assert_int_equal(runs_counters(fixture.runs).kept, 1);
    /* And the file that has it, however little that is: there are few descriptors. */
    options.kept_bytes_max = 64 * MIB;
    options.kept_file_bytes = 30 * MIB;
    again_with(&options);
    for (int i = 0; i < 3; i++) {
        run = start(guest_flood, (struct run_request){.limits = {.output_bytes = MIB}});
        fixture_wait(&fixture, run);
        run_unref(run);
    }
    assert_int_equal(runs_counters(fixture.runs).kept, 2);
    options.kept_bytes_max = 100000;
    options.kept_file_bytes = 0;
    /* So do files that only the run's own tree has. */
    again_with(&options);
    for (int i = 0; i < 2; i++) {
        run = start(guest_hello, (struct run_request){.root = STR("fresh")});
        fixture_wait(&fixture, run);
        run_unref(run);
    }
    assert_int_equal(runs_counters(fixture.runs).kept, 1);
    assert_int_equal(fixture_trees, 1);
}

static struct run *start_and_wait(struct run_request request) {
    struct run *run = start(guest_hello, request);
    fixture_wait(&fixture, run);
    return run;
}

static bool is_kept(const struct run *run) {
    struct run *found = NULL;
    if (runs_find(fixture.runs, run_id(run), &found) != ERR_OK) {
        return false;
    }
    run_unref(found);
    return true;
}

/* Runs that are to be kept for long don't take the place of others that are not. */
static void test_kept_order(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    options.kept_max = 4;
    again_with(&options);
    struct run *runs[6];
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        uint64_t keep_ns = i < 2 ? 7200 * NS_PER_S : i < 4 ? 0 : 3600 * NS_PER_S;
        runs[i] = start_and_wait((struct run_request){.keep_ns = keep_ns});
    }
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        assert_int_equal(is_kept(runs[i]), i >= 2);
        run_unref(runs[i]);
    }
}

/* However many a program starts, half of the room is for what clients have asked for; and the other
 * way round. */
static void test_kept_halves(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    for (unsigned way = 0; way < 4; way++) {
        if (way < 2) {
            options.kept_max = 4;
        } else {
            options.kept_max = 1000;
            options.kept_bytes_max = 4 * 70000 + 34000; /* see fixture_tree_bytes */
        }
        again_with(&options);
        uint64_t few = way % 2 == 0 ? 0 : 77, many = 77 - few;
        struct run_request request = {.root = STR("fresh"), .parent_id = few};
        struct run *quiet[2], *flood[9];
        for (size_t i = 0; i < ARRAY_LENGTH(quiet); i++) {
            quiet[i] = start_and_wait(request);
        }
        request.parent_id = many;
        request.keep_ns = 3600 * NS_PER_S;
        for (size_t i = 0; i < ARRAY_LENGTH(flood); i++) {
            flood[i] = start_and_wait(request);
        }
        assert_int_equal(runs_counters(fixture.runs).kept, 4);
        for (size_t i = 0; i < ARRAY_LENGTH(quiet); i++) {
            assert_true(is_kept(quiet[i]));
            run_unref(quiet[i]);
        }
        for (size_t i = 0; i < ARRAY_LENGTH(flood); i++) {
            assert_int_equal(is_kept(flood[i]), i >= ARRAY_LENGTH(flood) - 2);
            run_unref(flood[i]);
        }
    }
}

/* Of many times: a run is forgotten when its own is over, whatever the order in which they end. */
static void test_kept_times(void **state) {
    (void)state;
    again_with(&fixture_options);
    struct app *app = fixture_app(&fixture, "lasting", guest_hello, NULL);
    struct run *lasting[40];
    for (size_t i = 0; i < ARRAY_LENGTH(lasting); i++) {
        uint64_t keep_ns = (1 + i * 7 % ARRAY_LENGTH(lasting)) * 3600 * NS_PER_S;
        lasting[i] = fixture_start(
            &fixture, &(struct run_request){.app = app, .keep_ns = keep_ns, .parent_id = i % 3});
        fixture_wait(&fixture, lasting[i]);
        struct run *brief = start_and_wait((struct run_request){.keep_ns = 1 + i % 2});
        assert_false(is_kept(brief));
        run_unref(brief);
    }
    runs_sweep(fixture.runs);
    assert_int_equal(runs_counters(fixture.runs).kept, ARRAY_LENGTH(lasting));
    runs_forget_app(fixture.runs, app->id);
    app_unref(app);
    assert_int_equal(runs_counters(fixture.runs).kept, 0);
    for (size_t i = 0; i < ARRAY_LENGTH(lasting); i++) {
        run_unref(lasting[i]);
    }
}

/* However many there are, among those of others. */
static void test_kept_of_an_app_with_many(void **state) {
    (void)state;
    again_with(&fixture_options);
    struct app *apps[] = {fixture_app(&fixture, "stays", guest_hello, NULL),
                          fixture_app(&fixture, "goes", guest_hello, NULL)};
    struct run *runs[64];
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        runs[i] = fixture_start(&fixture, &(struct run_request){.app = apps[i % 3 > 0]});
        fixture_wait(&fixture, runs[i]);
    }
    runs_forget_app(fixture.runs, apps[1]->id);
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        assert_int_equal(is_kept(runs[i]), i % 3 == 0);
        run_unref(runs[i]);
    }
    app_unref(apps[0]);
    app_unref(apps[1]);
}

/* A run that is under way when its app is removed is not kept, however long it was to be. */
static void test_kept_of_a_removed_app(void **state) {
    (void)state;
    for (uint64_t keep_ns = 0; keep_ns < 2; keep_ns++) {
        again_with(&fixture_options);
        struct run *run =
            start(guest_loop, (struct run_request){.keep_ns = keep_ns * 3600 * NS_PER_S});
        runs_forget_app(fixture.runs, run_app(run)->id);
        assert_true(is_kept(run));
        run_kill(run, RUN_REASON_KILLED);
        fixture_wait(&fixture, run);
        assert_int_equal(runs_counters(fixture.runs).kept, 0);
        run_unref(run);
    }
}

/* Of what programs have started, too: one app's can't take the room of all others'. */
static void test_kept_by_app(void **state) {
    (void)state;
    struct runs_options options = fixture_options;
    for (unsigned way = 0; way < 2; way++) {
        options.kept_max = way ? 1000 : 16;
        options.kept_bytes_max = way ? 16 * 70000 + 34000 : fixture_options.kept_bytes_max;
        again_with(&options);
        struct app *apps[3] = {fixture_app(&fixture, "kept-a", guest_hello, NULL),
                               fixture_app(&fixture, "kept-b", guest_hello, NULL),
                               fixture_app(&fixture, "kept-c", guest_hello, NULL)};
        struct run *quiet[4], *flood[40];
        struct run_request request = {.root = STR("fresh"), .parent_id = 77};
        for (size_t i = 0; i < ARRAY_LENGTH(quiet); i++) {
            request.app = apps[i / 2];
            quiet[i] = fixture_start(&fixture, &request);
            fixture_wait(&fixture, quiet[i]);
        }
        for (size_t i = 0; i < ARRAY_LENGTH(flood); i++) {
            request.app = apps[2];
            request.keep_ns = i % 2 ? 3600 * NS_PER_S : 0;
            flood[i] = fixture_start(&fixture, &request);
            fixture_wait(&fixture, flood[i]);
        }
        assert_int_equal(runs_counters(fixture.runs).kept, 16);
        for (size_t i = 0; i < ARRAY_LENGTH(quiet); i++) {
            assert_true(is_kept(quiet[i]));
            run_unref(quiet[i]);
        }
        for (size_t i = 0; i < ARRAY_LENGTH(flood); i++) {
            assert_int_equal(is_kept(flood[i]), i >= ARRAY_LENGTH(flood) - 12);
            run_unref(flood[i]);
        }
        for (size_t i = 0; i < ARRAY_LENGTH(apps); i++) {
            app_unref(apps[i]);
        }
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, finish)

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(test_keeping),
        TEST(test_kept_order),
        TEST(test_kept_halves),
        TEST(test_kept_times),
        TEST(test_kept_of_an_app_with_many),
        TEST(test_kept_of_a_removed_app),
        TEST(test_kept_by_app),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
