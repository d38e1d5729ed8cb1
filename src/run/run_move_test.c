/* Which loop a run is on: the first is for what is prompt, the second, another thread's, for what
 * computes. */
#include "run/internal.h"
#include "run/run_testing.h"

#include <pthread.h>

static struct fixture fixture;
static pthread_t thread;

/* Computes for ever if it has an argument. */
static const char guest_either[] = "(module " FIXTURE_IMPORT(
    "args_sizes_get",
    "(param i32 i32) (result i32)") "(memory (export \"memory\") 1) (func (export \"_start\")"
                                    " (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))"
                                    " (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 1)) (then "
                                    "(loop $again (br $again))))))";

/* Computes for a fraction of a slice. */
static const char guest_brief[] =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (local $left i32)"
    " (local.set $left (i32.const 500000))"
    " (loop $again (br_if $again"
    "  (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))";

enum { PROMPT_RUNS = 8 }; /* after so many an app is known to be prompt */

enum { KEPT_RUNS = 20 };

/* Where the last tree that was kept was given back. */
static struct loop *_Atomic freed_on;

static void tree_done(void *context, void *tree) {
    if (((struct fixture_tree *)tree)->is_kept) {
        atomic_store(&freed_on, loop_current());
    }
    fixture_tree_done(context, tree);
}

static void *thread_main(void *argument) {
    loop_set_priority(LOOP_COMPUTING);
    loop_run(argument);
    return NULL;
}

/* Copies for a long while, in one turn or in two. */
static enum err place_files(void *context, struct op *op, struct run *run, void *tree,
                            struct buf *message) {
    static bool is_second;
    (void)context, (void)run, (void)tree, (void)message;
    uint64_t until_ns = clock_thread_cpu_ns() + 2 * RUN_SLICE_NS;
    while (clock_thread_cpu_ns() < until_ns) {
    }
    is_second = !is_second;
    if (is_second) {
        op_wake(op);
    }
    return is_second ? ERR_PENDING : ERR_OK;
}

static int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    assert_int_equal(loop_new(1, &fixture.loops[1]), ERR_OK);
    fixture.options.computing_loops = 1;
    fixture.options.kept_max = KEPT_RUNS;
    fixture.hooks.tree_done = tree_done;
    fixture.hooks.place_files = place_files;
    fixture_make_runs(&fixture);
    return pthread_create(&thread, NULL, thread_main, fixture.loops[1]);
}

static int tear_down(void **state) {
    (void)state;
    return fixture_done_with_thread(&fixture, thread);
}

static bool is_on(const struct run *run, size_t loop) {
    return atomic_load(&run->home)->loop == fixture.loops[loop];
}

/* On a busy machine a short run may seem to compute; so there are as many as it takes. */
static void be_prompt(struct app *app) {
    const struct run_request request = {.app = app};
    for (bool is_prompt = false; !is_prompt;) {
        for (unsigned i = 0; i < PROMPT_RUNS; i++) {
            struct run *run = fixture_start(&fixture, &request);
            is_prompt = is_on(run, 0);
            assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
            run_unref(run);
        }
    }
}

/* A run whose files take long to be placed is as prompt as its guest. */
static void test_placing_is_not_computing(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "placed", guest_either, NULL);
    struct file *files;
    const struct memory_options options = {.bytes_max = MIB};
    assert_int_equal(memory_new(&options, &files), ERR_OK);
    const struct run_request request = {.app = app, .files = files};
    bool is_prompt = false;
    for (unsigned i = 0; i < 100 && !is_prompt; i++) { /* see be_prompt */
        struct run *run = fixture_start(&fixture, &request);
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, RUN_REASON_EXIT);
        assert_true(status.cpu_ns >= 4 * RUN_SLICE_NS);
        is_prompt = !run->has_computed;
        run_unref(run);
    }
    assert_true(is_prompt);
    file_unref(files);
    app_unref(app);
}

static struct run *start_spinning(struct app *app, uint64_t wall_ns, uint64_t cpu_ns) {
    static const struct str argument = {"x", 1};
    const struct run_request request = {.app = app,
                                        .arguments = &argument,
                                        .argument_count = 1,
                                        .has_arguments = true,
                                        .limits = {.wall_ns = wall_ns, .cpu_ns = cpu_ns}};
    return fixture_start(&fixture, &request);
}

static void test_what_is_unknown_computes(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "unknown", guest_either, NULL);
    struct run *run = fixture_start(&fixture, &(struct run_request){.app = app});
    assert_true(is_on(run, 1));
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
    run_unref(run);
    app_unref(app);
}

static void end(struct run *run) {
    run_kill(run, RUN_REASON_KILLED);
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_KILLED);
    run_unref(run);
}

static atomic_bool is_ticking;

/* Many in each turn of a guest. */
static void *tick(void *argument) {
    (void)argument;
    while (atomic_load(&is_ticking)) {
        engine_tick(fixture.engine);
        uint64_t end_ns = clock_monotonic_ns() + 20 * NS_PER_US;
        while (clock_monotonic_ns() < end_ns) {
        }
    }
    return NULL;
}

/* Ticks come when they come: who was just given its turn has not used it up. */
static void test_a_tick_alone_moves_nobody(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "brief", guest_brief, NULL);
    be_prompt(app);
    pthread_t ticking;
    atomic_store(&is_ticking, true);
    assert_int_equal(pthread_create(&ticking, NULL, tick, NULL), 0);
    bool has_stayed = false; /* one of so many, on any machine */
    for (unsigned i = 0; i < 200 && !has_stayed; i++) {
        struct run *run = fixture_start(&fixture, &(struct run_request){.app = app});
        bool was_prompt = is_on(run, 0);
        assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
        has_stayed = was_prompt && is_on(run, 0);
        run_unref(run);
    }
    atomic_store(&is_ticking, false);
    pthread_join(ticking, NULL);
    assert_true(has_stayed);
    app_unref(app);
}

static void test_what_was_prompt_moves(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "moves", guest_either, NULL);
    struct run *run = NULL;
    do {
        if (run) {
            end(run);
        }
        be_prompt(app);
        run = start_spinning(app, 0, 0);
    } while (!is_on(run, 0));
    FIXTURE_TURN_UNTIL(&fixture, is_on(run, 1));
    /* It goes on without this loop. */
    uint64_t before_ns = run_status(run).cpu_ns;
    while (run_status(run).cpu_ns < before_ns + 5 * NS_PER_MS) {
        assert_int_equal(run_status(run).state, RUN_RUNNING);
    }
    end(run);
    app_unref(app);
}

static void test_limits_move_with_it(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "limits", guest_either, NULL);
    for (unsigned i = 0; i < 2; i++) {
        be_prompt(app);
        struct run *run =
            i ? start_spinning(app, 50 * NS_PER_MS, 0) : start_spinning(app, 0, 20 * NS_PER_MS);
        enum run_reason reason = fixture_wait(&fixture, run).reason;
        assert_int_equal(reason, i ? RUN_REASON_WALL : RUN_REASON_CPU);
        run_unref(run);
    }
    app_unref(app);
}

static void *tell(void *argument) {
    struct run *run = argument;
    for (unsigned i = 0; i < 200 && !is_on(run, 1); i++) {
        run_pause(run);
        run_resume(run);
    }
    return NULL;
}

/* Paused, resumed and killed at any moment of its way, by a third thread and by this one. */
static void test_told_while_it_moves(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "told", guest_either, NULL);
    for (unsigned i = 0; i < 20; i++) {
        be_prompt(app);
        struct run *run = start_spinning(app, 0, 0);
        pthread_t teller;
        assert_int_equal(pthread_create(&teller, NULL, tell, run), 0);
        if (i % 2) {
            FIXTURE_TURN_UNTIL(&fixture, is_on(run, 1));
        } else {
            for (unsigned turns = 0; turns < i; turns++) {
                loop_turn(fixture.loops[0]);
            }
        }
        run_kill(run, RUN_REASON_KILLED);
        assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_KILLED);
        pthread_join(teller, NULL);
        run_unref(run);
    }
    app_unref(app);
}

/* It is forgotten because of others, but not at their expense. */
static void test_large_ones_are_freed_at_home(void **state) {
    (void)state;
    struct app *flood = fixture_app(&fixture, "flood", guest_flood, "{\"output\": \"512KiB\"}");
    struct run *run =
        fixture_start(&fixture, &(struct run_request){.app = flood, .root = STR("fresh")});
    assert_true(is_on(run, 1));
    assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_OUTPUT);
    run_unref(run);
    assert_null(atomic_load(&freed_on));
    struct app *app = fixture_app(&fixture, "others", guest_either, NULL);
    for (unsigned i = 0; i < KEPT_RUNS + PROMPT_RUNS && !atomic_load(&freed_on); i++) {
        run = fixture_start(&fixture, &(struct run_request){.app = app});
        assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
        run_unref(run);
    }
    while (!atomic_load(&freed_on)) {
    }
    assert_ptr_equal(atomic_load(&freed_on), fixture.loops[1]);
    app_unref(flood);
    app_unref(app);
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_unknown_computes),
        cmocka_unit_test(test_a_tick_alone_moves_nobody),
        cmocka_unit_test(test_placing_is_not_computing),
        cmocka_unit_test(test_what_was_prompt_moves),
        cmocka_unit_test(test_limits_move_with_it),
        cmocka_unit_test(test_told_while_it_moves),
        cmocka_unit_test(test_large_ones_are_freed_at_home),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
