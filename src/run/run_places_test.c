/* Who gets an app's places: clients and programs, chains of programs, and those that wait. */
#include "run/run_suite_testing.h"

static struct app *waiting_app(const char *name, const char *config) {
    return fixture_app(&fixture, name, guest_cat, config);
}

enum { CLIENT = 0, A = 1000001, B, C, D, E };

/* One that waits for the end of its input, started below the run `top`. */
static struct run *start_below(struct app *app, uint64_t top) {
    struct run_request request = {.app = app, .stdin_open = true, .parent_id = top};
    return fixture_start(&fixture, &request);
}

static void assert_refused(struct app *app, uint64_t top, const char *part) {
    struct run_request request = {.app = app, .stdin_open = true, .parent_id = top};
    cleanup_buf struct buf message = {0};
    struct run *run;
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_AGAIN);
    assert_non_null(strstr(buf_text(&message), part));
}

static void assert_counts(uint64_t running, uint64_t queued) {
    struct runs_counters counters = runs_counters(fixture.runs);
    assert_int_equal(counters.running, running);
    assert_int_equal(counters.queued, queued);
}

static void end(struct run *run) {
    run_stdin_close(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
}

static void await_place(struct run *run) {
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
}

static void unref_all(struct run **runs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        run_unref(runs[i]);
    }
}

static void test_programs_have_half(void **state) {
    (void)state;
    struct app *app = waiting_app("half", "{\"max_runs\": 8, \"queue\": 8}");
    struct run *runs[16];
    size_t count = 0;
    /* A chain has half of what the others leave of four places, and of four in the queue. */
    for (int i = 0; i < 4; i++) {
        runs[count++] = start_below(app, A);
    }
    assert_counts(2, 2);
    assert_refused(app, A, "programs have started 2 runs of 'half' that are under way and 2 that");
    runs[count++] = start_below(app, B);
    runs[count++] = start_below(app, B);
    assert_counts(3, 3);
    assert_refused(app, B, "3 that wait");
    runs[count++] = start_below(app, C); /* each that is new has one */
    assert_counts(4, 3);
    runs[count++] = start_below(app, D);
    assert_counts(4, 4);
    assert_refused(app, D, "4 that wait");
    assert_refused(app, E, "4 that wait");
    /* The rest is for clients. */
    for (int i = 0; i < 4; i++) {
        runs[count++] = start_below(app, CLIENT);
    }
    assert_counts(8, 4);
    for (int i = 0; i < 4; i++) {
        runs[count++] = start_below(app, CLIENT);
    }
    assert_counts(8, 8);
    assert_refused(app, CLIENT, "8 runs of 'half' are under way and 8 wait");
    for (size_t i = 0; i < count; i++) {
        run_kill(runs[i], RUN_REASON_KILLED);
    }
    for (size_t i = 0; i < count; i++) {
        fixture_wait(&fixture, runs[i]);
    }
    assert_counts(0, 0);
    unref_all(runs, count);
    app_unref(app);
}

static void test_clients_may_have_all(void **state) {
    (void)state;
    struct app *app = waiting_app("all", "{\"max_runs\": 2, \"queue\": 2}");
    struct run *runs[] = {start_below(app, CLIENT), start_below(app, CLIENT), start_below(app, A),
                          start_below(app, CLIENT)};
    assert_counts(2, 2);
    assert_refused(app, CLIENT, "2 wait");
    assert_refused(app, B, "2 wait");
    end(runs[0]); /* programs have none, and clients two */
    await_place(runs[2]);
    assert_int_equal(run_status(runs[3]).state, RUN_QUEUED);
    end(runs[1]);
    await_place(runs[3]);
    assert_counts(2, 0);
    unref_all(runs, ARRAY_LENGTH(runs));
    app_unref(app);
}

/* Whoever has fewer places is next, and among programs it goes round. */
static void test_turns(void **state) {
    (void)state;
    struct app *app = waiting_app("turns", "{\"max_runs\": 4}");
    struct run *a[] = {start_below(app, A), start_below(app, A), start_below(app, A)};
    struct run *b = start_below(app, B), *c = start_below(app, C);
    struct run *clients[] = {start_below(app, CLIENT), start_below(app, CLIENT),
                             start_below(app, CLIENT), start_below(app, CLIENT)};
    assert_counts(4, 5); /* of each chain one, as there are two for them */
    end(a[0]);
    await_place(a[1]);
    end(b);
    await_place(c);
    assert_int_equal(run_status(a[2]).state, RUN_QUEUED);
    end(clients[0]);
    await_place(clients[2]);
    assert_int_equal(run_status(a[2]).state, RUN_QUEUED);
    end(c); /* the chain has what it may have: for clients, before it stays empty */
    await_place(clients[3]);
    assert_int_equal(run_status(a[2]).state, RUN_QUEUED);
    end(a[1]);
    await_place(a[2]);
    assert_counts(4, 0);
    unref_all(a, ARRAY_LENGTH(a));
    unref_all(clients, ARRAY_LENGTH(clients));
    run_unref(b);
    run_unref(c);
    app_unref(app);
}

/* The server has one place for all: neither clients nor programs have it for ever. */
static void test_turns_of_a_full_server(void **state) {
    (void)state;
    fixture_free_runs(&fixture);
    fixture.options.max_runs = 1;
    fixture_make_runs(&fixture);
    struct app *app = waiting_app("full", NULL);
    struct run *a[] = {start_below(app, A), start_below(app, A), start_below(app, A)};
    struct run *b = start_below(app, B);
    struct run *clients[] = {start_below(app, CLIENT), start_below(app, CLIENT)};
    struct run *order[] = {a[0], clients[0], a[1], clients[1], b, a[2]};
    for (size_t i = 0; i < ARRAY_LENGTH(order); i++) {
        await_place(order[i]);
        for (size_t j = i + 1; j < ARRAY_LENGTH(order); j++) {
            assert_int_equal(run_status(order[j]).state, RUN_QUEUED);
        }
        end(order[i]);
        run_unref(order[i]);
    }
    assert_counts(0, 0);
    app_unref(app);
}

/* What calls its own app. */
static void test_calls_of_oneself(void **state) {
    (void)state;
    struct app *app = waiting_app("itself", "{\"max_runs\": 4}");
    struct run *top = start_below(app, CLIENT);
    await_place(top);
    struct run_request request = {.app = app, .stdin_open = true, .parent = top};
    struct run *first = fixture_start(&fixture, &request);
    await_place(first);
    /* One beside it may wait, because that one will end. */
    struct run *second = fixture_start(&fixture, &request);
    assert_counts(2, 1);
    /* But that one's own calls would wait for it. */
    cleanup_buf struct buf message = {0};
    struct run *refused;
    request.parent = first;
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &refused, &message),
                     ERR_DEADLK);
    assert_non_null(strstr(buf_text(&message), "max_runs (now 4) has to be four times"));
    assert_counts(2, 1);
    end(first);
    await_place(second);
    end(second);
    end(top);
    assert_counts(0, 0);
    run_unref(top);
    run_unref(first);
    run_unref(second);
    app_unref(app);
}

/* More places than before are for those that wait, and for the apps behind them. */
static void test_max_runs_is_raised(void **state) {
    (void)state;
    struct app *app = waiting_app("raised", "{\"max_runs\": 1}");
    struct app *other = waiting_app("other", NULL);
    struct run *runs[5];
    for (int i = 0; i < 3; i++) {
        runs[i] = start_below(app, CLIENT);
    }
    assert_counts(1, 2);
    app_unref(app);
    app = waiting_app("raised", "{\"max_runs\": 3}");
    runs[3] = start_below(app, CLIENT);
    assert_counts(3, 1);
    await_place(runs[2]);
    runs[4] = start_below(other, CLIENT);
    assert_counts(4, 1);
    unref_all(runs, ARRAY_LENGTH(runs));
    app_unref(app);
    app_unref(other);
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, finish)
    const struct CMUnitTest tests[] = {
        TEST(test_programs_have_half),
        TEST(test_clients_may_have_all),
        TEST(test_turns),
        TEST(test_turns_of_a_full_server),
        TEST(test_calls_of_oneself),
        TEST(test_max_runs_is_raised),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
