/* Runs on two loops: started on one, told things and read from the other. */
#include "run/run_testing.h"

#include <pthread.h>

static struct fixture fixture;
static pthread_t thread;

static void *thread_main(void *argument) {
    loop_run(argument);
    return NULL;
}

static int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    assert_int_equal(loop_new(1, &fixture.loops[1]), ERR_OK);
    fixture_make_runs(&fixture);
    return pthread_create(&thread, NULL, thread_main, fixture.loops[1]);
}

static int tear_down(void **state) {
    (void)state;
    return fixture_done_with_thread(&fixture, thread);
}

/* Starts runs on the second loop, from its own thread. */
struct remote_start {
    struct loop_post post;
    struct run_request request;
    struct run *run;
    atomic_bool done;
};

static void start_there(struct loop_post *post) {
    struct remote_start *start = CONTAINER_OF(post, struct remote_start, post);
    cleanup_buf struct buf message = {0};
    if (run_start(fixture.runs, fixture.loops[1], &start->request, &start->run, &message) !=
        ERR_OK) {
        start->run = NULL;
    }
    atomic_store(&start->done, true);
}

static struct run *start_request_on_other(const struct run_request *request) {
    struct remote_start start = {.request = *request};
    fixture_restore_handlers(&fixture);
    start.post.run = start_there;
    loop_post(fixture.loops[1], &start.post);
    FIXTURE_TURN_UNTIL(&fixture, atomic_load(&start.done));
    assert_non_null(start.run);
    return start.run;
}

static struct run *start_on_other(struct app *app, bool stdin_open) {
    struct run_request request = {.app = app, .stdin_open = stdin_open};
    return start_request_on_other(&request);
}

/* A dialogue from here with a guest there, byte for byte. */
static void test_dialogue(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "cat", guest_cat, NULL);
    struct run *run = start_on_other(app, true);
    struct run_reader reader = {0};
    run_bind_reader(run, &reader);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    for (int i = 0; i < 2000; i++) {
        char line[32], answer[32];
        int length = snprintf(line, sizeof(line), "line %d\n", i);
        size_t written = 0, got = 0;
        unsigned stream;
        uint64_t time_ns;
        assert_int_equal(
            FIXTURE_WAIT(&fixture, run_stdin_write(&op, run, line, (size_t)length, &written)),
            ERR_OK);
        assert_int_equal(written, length);
        for (size_t done = 0; done < (size_t)length; done += got) {
            assert_int_equal(
                FIXTURE_WAIT(&fixture, run_output_read(&op, run, &reader, 3, answer, sizeof(answer),
                                                       &got, &stream, &time_ns)),
                ERR_OK);
            assert_true(got > 0);
            assert_memory_equal(answer, line + done, got);
        }
    }
    run_stdin_close(run);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    op_done(&op);
    run_unref(run);
    app_unref(app);
}

/* Much output, with a reader that makes the guest wait. */
static void test_stream(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "flood", guest_flood, "{\"output\": \"4MiB\"}");
    struct run *run = start_on_other(app, false);
    struct run_reader reader = {0};
    run_bind_reader(run, &reader);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    uint64_t total = 0;
    for (;;) {
        static char data[70000];
        size_t got;
        unsigned stream;
        uint64_t time_ns;
        assert_int_equal(
            FIXTURE_WAIT(&fixture, run_output_read(&op, run, &reader, RUN_STDOUT, data,
                                                   sizeof(data), &got, &stream, &time_ns)),
            ERR_OK);
        if (got == 0) {
            break;
        }
        total += got;
    }
    assert_int_equal(total, 4 * MIB);
    assert_int_equal(run_status(run).reason, RUN_REASON_OUTPUT);
    op_done(&op);
    run_unref(run);
    app_unref(app);
}

/* The answer of a page, of which its record forgets here what was read, when the run ends there. */
static void test_pages(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "page", guest_hello, NULL);
    struct run_request request = {.app = app, .is_web = true};
    for (int i = 0; i < 300; i++) {
        struct run *run = start_request_on_other(&request);
        struct run_reader reader = {0};
        run_bind_reader(run, &reader);
        struct op op;
        op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
        char data[16];
        size_t length = 0, got;
        do {
            unsigned stream;
            uint64_t time_ns;
            assert_int_equal(
                FIXTURE_WAIT(&fixture,
                             run_output_read(&op, run, &reader, RUN_STDOUT, data + length,
                                             sizeof(data) - length, &got, &stream, &time_ns)),
                ERR_OK);
            length += got;
        } while (got > 0);
        assert_int_equal(length, 6);
        assert_memory_equal(data, "hello\n", 6);
        assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
        op_done(&op);
        run_unref(run);
    }
    app_unref(app);
}

/* Killed, paused and resumed from here at any moment; found and listed meanwhile. */
static void test_signals(void **state) {
    (void)state;
    struct app *loops = fixture_app(&fixture, "loops", guest_loop, NULL);
    struct app *hello = fixture_app(&fixture, "hello", guest_hello, NULL);
    for (int i = 0; i < 60; i++) {
        struct run *run = start_on_other(i % 3 ? loops : hello, false);
        for (int j = 0; j < i % 7; j++) {
            run_pause(run);
            run_resume(run);
            run_status(run);
        }
        struct run **list;
        size_t count;
        assert_int_equal(runs_list(fixture.runs, &list, &count), ERR_OK);
        for (size_t j = 0; j < count; j++) {
            run_unref(list[j]);
        }
        free(list);
        run_kill(run, RUN_REASON_KILLED);
        enum run_reason reason = fixture_wait(&fixture, run).reason;
        assert_true(reason == RUN_REASON_KILLED || (i % 3 == 0 && reason == RUN_REASON_EXIT));
        run_unref(run);
    }
    app_unref(loops);
    app_unref(hello);
}

/* New runs go to the other loop when this one has more that compute. */
static void test_spread(void **state) {
    (void)state;
    struct app *loops = fixture_app(&fixture, "spread", guest_loop, NULL);
    struct run_request request = {.app = loops};
    struct run *runs[6];
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        runs[i] = fixture_start(&fixture, &request);
        /* Until it is known to compute. */
        FIXTURE_TURN_UNTIL(&fixture, run_status(runs[i]).cpu_ns > 3 * NS_PER_MS ||
                                         run_status(runs[i]).state == RUN_ENDED);
        assert_int_not_equal(run_status(runs[i]).state, RUN_ENDED);
    }
    /* Two here, then there and here in turn: the ones there compute without this loop. */
    uint64_t before[ARRAY_LENGTH(runs)];
    size_t elsewhere = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        before[i] = run_status(runs[i]).cpu_ns;
    }
    bool moved = false;
    while (!moved) {
        for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
            moved |= run_status(runs[i]).cpu_ns > before[i] + 50 * NS_PER_MS;
        }
    }
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        elsewhere += run_status(runs[i]).cpu_ns > before[i];
    }
    for (size_t i = 0; i < ARRAY_LENGTH(runs); i++) {
        run_kill(runs[i], RUN_REASON_KILLED);
        fixture_wait(&fixture, runs[i]);
        run_unref(runs[i]);
    }
    assert_in_range(elsewhere, 1, 4);
    app_unref(loops);
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogue), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_pages),    cmocka_unit_test(test_signals),
        cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
