/* Sandboxes: instantiating, host calls, yielding, ending, failing, memory. */
#include "engine/engine_test_double.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#define WASI "wasi_snapshot_preview1"

static struct engine *engine;
static char directory[] = "/tmp/engine-test-XXXXXX";

static int set_up(void **state) {
    (void)state;
    const struct engine_options options = {
        .sandboxes_max = 8, .memory_max_bytes = 64 * MIB, .keep_resident_bytes = 256 * KIB};
    cleanup_buf struct buf message = {0};
    if (!mkdtemp(directory) || engine_new(&options, &engine, &message)) {
        fprintf(stderr, "%s\n", buf_text(&message));
        return -1;
    }
    double_keep_handlers();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    double_restore_handlers();
    engine_free(engine);
    return fsio_remove_tree(directory) ? -1 : 0;
}

static struct program *load(const char *text) {
    double_restore_handlers();
    cleanup_buf struct buf message = {0};
    struct program *program = NULL;
    enum err err = double_load_text(engine, directory, text, &program, &message);
    if (err) {
        fail_msg("%s: %s", err_text(err), buf_text(&message));
    }
    return program;
}

static struct sandbox *start(struct program *program, struct double_run *run) {
    const struct sandbox_options options = {.limits = {.memory_bytes = 16 * MIB},
                                            .wasi = &run->wasi};
    cleanup_buf struct buf message = {0};
    struct sandbox *sandbox = NULL;
    enum err err = sandbox_new(program, &options, &sandbox, &message);
    if (err) {
        fail_msg("%s: %s", err_text(err), buf_text(&message));
    }
    return sandbox;
}

static enum sandbox_state run_once(struct program *program, struct double_run *run,
                                   struct buf *failure) {
    struct sandbox *sandbox = start(program, run);
    enum sandbox_state state = double_run_to_end(sandbox, run, NULL);
    if (failure) {
        sandbox_failure(sandbox, failure);
    }
    sandbox_free(sandbox);
    return state;
}

static const char hello[] =
    "(module (import \"" WASI "\" \"fd_write\""
    "   (func $write (param i32 i32 i32 i32) (result i32)))"
    " (memory (export \"memory\") 1)"
    " (data (i32.const 0) \"\\10\\00\\00\\00\\06\\00\\00\\00\")"
    " (data (i32.const 16) \"hello\\n\")"
    " (func (export \"_start\")"
    "   (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))"
    "     (then unreachable))"
    "   (if (i32.ne (i32.load (i32.const 8)) (i32.const 6)) (then unreachable))))";

/* Its turn may end at any place, if the machine has enough else to do. */
static enum sandbox_state step_on(struct sandbox *sandbox) {
    enum sandbox_state state;
    do {
        state = sandbox_step(sandbox, true);
    } while (state == SANDBOX_YIELDED);
    return state;
}

static void writes_and_returns(void **state) {
    (void)state;
    struct program *program = load(hello);
    for (unsigned i = 0; i < 100; i++) { /* more often than there are slots */
        struct double_run run = {0};
        assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
        assert_true(str_equal_text(buf_str(&run.output), "hello\n"));
        assert_int_equal(run.steps, 1);
        assert_null(run.wasi.guest);
        buf_done(&run.output);
    }
    program_unref(program);
}

static void exits_with_status(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"proc_exit\" (func $exit (param i32)))"
             " (memory (export \"memory\") 1)"
             " (func $deep (param i32)"
             "   (if (i32.eqz (local.get 0)) (then (call $exit (i32.const 300))))"
             "   (call $deep (i32.sub (local.get 0) (i32.const 1))) unreachable)"
             " (func (export \"_start\") (call $deep (i32.const 10))))");
    struct double_run run = {0};
    assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
    assert_int_equal(run.wasi.exit_status, 300);
    program_unref(program);
}

static void immediate_calls_get_their_arguments(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"clock_time_get\""
             "   (func $clock (param i32 i64 i32) (result i32)))"
             " (memory (export \"memory\") 1)"
             " (func (export \"_start\")"
             "   (if (call $clock (i32.const 7) (i64.const 0x100000000) (i32.const 64))"
             "     (then unreachable))"
             "   (if (i64.ne (i64.load (i32.const 64)) (i64.const 0x100000007)) (then unreachable))"
             /* FAULT comes back as a number */
             "   (if (i32.ne (i32.const 21)"
             "     (call $clock (i32.const 7) (i64.const 0) (i32.const 65535)))"
             "     (then unreachable))))");
    struct double_run run = {0};
    assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
    program_unref(program);
}

static void waiting_call_is_reported_until_it_is_finished(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"fd_read\""
             "   (func $read (param i32 i32 i32 i32) (result i32)))"
             " (memory (export \"memory\") 1)"
             " (func (export \"_start\")"
             "   (if (i32.ne (i32.const 6)"
             "     (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
             "     (then unreachable))))");
    struct double_run run = {.pending_before_read = 1};
    struct sandbox *sandbox = start(program, &run);
    assert_int_equal(step_on(sandbox), SANDBOX_CALLING);
    assert_int_equal(step_on(sandbox), SANDBOX_CALLING);
    assert_int_equal(run.steps, 0);
    assert_int_equal(wasi_call_step(&run.wasi), ERR_PENDING);
    sandbox_finish_call(sandbox, ERR_AGAIN);
    assert_int_equal(step_on(sandbox), SANDBOX_RETURNED);
    assert_int_equal(step_on(sandbox), SANDBOX_RETURNED);
    sandbox_free(sandbox);

    /* One that is given up while it waits frees its slot. */
    for (unsigned i = 0; i < 20; i++) {
        sandbox = start(program, &run);
        assert_int_equal(step_on(sandbox), SANDBOX_CALLING);
        sandbox_free(sandbox);
    }
    program_unref(program);
}

static void endless_loop_yields(void **state) {
    (void)state;
    struct program *program = load("(module (memory (export \"memory\") 1)"
                                   " (func (export \"_start\") (loop (br 0))))");
    struct double_run run = {0};
    struct sandbox *sandbox = start(program, &run);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(sandbox_step(sandbox, true), SANDBOX_YIELDED);
    }
    sandbox_free(sandbox);
    program_unref(program);
}

static void start_function_calls_waits_and_yields(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"fd_read\""
             "   (func $read (param i32 i32 i32 i32) (result i32)))"
             " (import \"" WASI "\" \"clock_time_get\""
             "   (func $clock (param i32 i64 i32) (result i32)))"
             " (memory (export \"memory\") 1) (global $g (mut i32) (i32.const 0))"
             " (func $init (local i32)"
             "   (if (call $clock (i32.const 1) (i64.const 1) (i32.const 64)) (then unreachable))"
             "   (if (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8))"
             "     (then unreachable))"
             "   (global.set $g (i32.const 1)))"
             " (start $init)"
             " (func (export \"_start\") (if (i32.eqz (global.get $g)) (then unreachable))))");
    struct double_run run = {.pending_before_read = 3};
    assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
    assert_int_equal(run.steps, 4);
    /* Given up before it is instantiated. */
    struct sandbox *sandbox = start(program, &run);
    assert_int_equal(step_on(sandbox), SANDBOX_CALLING);
    sandbox_free(sandbox);
    program_unref(program);

    program = load("(module (func $init (loop (br 0))) (start $init) (func (export \"_start\")))");
    sandbox = start(program, &run);
    assert_int_equal(sandbox_step(sandbox, true), SANDBOX_YIELDED);
    sandbox_free(sandbox);
    program_unref(program);

    program = load("(module (func $init unreachable) (start $init) (func (export \"_start\")))");
    cleanup_buf struct buf failure = {0};
    assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
    assert_non_null(strstr(buf_text(&failure), "unreachable"));
    program_unref(program);
}

static void failures_have_reason_and_backtrace(void **state) {
    (void)state;
    static const struct {
        const char *body, *expected;
    } cases[] = {
        {"(drop (i32.load (i32.const 0x20000)))", "memory access out of bounds (at 0x20000"},
        {"(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer division by zero"},
        {"unreachable", "unreachable code was reached"},
        {"(call $inner)", "stack overflow: recursion too deep"},
        {"(call_indirect (type $t) (i32.const 0))", "call of a null function pointer"},
        {"(call_indirect (type $u) (i32.const 1) (i32.const 1))",
         "call of a function pointer of another type"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        char text[1024];
        snprintf(text, sizeof(text),
                 "(module (type $t (func)) (type $u (func (param i32)))"
                 " (memory (export \"memory\") 1) (table 2 funcref)"
                 " (elem (i32.const 1) func $_ZN3foo3barEv)"
                 " (func $_ZN3foo3barEv (export \"x\")) (func $inner %s)"
                 " (func $outer (call $inner)) (func (export \"_start\") (call $outer)))",
                 cases[i].body);
        struct program *program = load(text);
        struct double_run run = {0};
        cleanup_buf struct buf failure = {0};
        assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
        if (strncmp(buf_text(&failure), cases[i].expected, strlen(cases[i].expected)) != 0 ||
            !strstr(buf_text(&failure), "\n  at inner (+0x")) {
            fail_msg("%s", buf_text(&failure));
        }
        assert_true(failure.length <= 8192);
        program_unref(program);
    }
    struct program *program =
        load("(module (func $_ZN3foo3barEi (export \"_start\") unreachable))");
    struct double_run run = {0};
    cleanup_buf struct buf failure = {0};
    assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
    assert_non_null(strstr(buf_text(&failure), "  at foo::bar(int) (+0x"));
    program_unref(program);

    /* Not C++'s codes of types. */
    program = load("(module (func $i unreachable) (func $d (call $i)) (func $f (call $d))"
                   " (func (export \"_start\") (call $f)))");
    failure.length = 0;
    assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
    const char *frames = buf_text(&failure);
    assert_non_null(frames = strstr(frames, "\n  at i (+0x"));
    assert_non_null(frames = strstr(frames, "\n  at d (+0x"));
    assert_non_null(strstr(frames, "\n  at f (+0x"));
    program_unref(program);
}

static void unknown_imports_trap_when_called(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"env\" \"magic\" (func $magic (param i64 funcref) (result f32)))"
             " (import \"" WASI "\" \"fd_write\" (func $wrong (param i64)))"
             " (import \"wasi_unstable\" \"fd_seek\""
             "   (func $seek (param i32 i64 i32 i32) (result i32)))"
             " (import \"wasi_unstable\" \"sched_yield\" (func $yield (result i32)))"
             " (func (export \"_start\")"
             "   (if (call $yield) (then unreachable))"
             "   (drop (call $magic (i64.const 1) (ref.null func)))))");
    struct double_run run = {0};
    cleanup_buf struct buf failure = {0};
    assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
    assert_int_equal(run.steps, 1);
    assert_non_null(strstr(buf_text(&failure), "the program called env.magic, which does not"));
    program_unref(program);
}

static void memory_grows_up_to_the_limit(void **state) {
    (void)state;
    struct program *program =
        load("(module (memory (export \"memory\") 1)"
             " (func (export \"_start\")"
             "   (if (i32.ne (memory.grow (i32.const 254)) (i32.const 1)) (then unreachable))"
             "   (if (i32.ne (memory.grow (i32.const 1)) (i32.const 255)) (then unreachable))"
             "   (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))"
             "   (i32.store (i32.const 0xfffffc) (i32.const 1))"
             "   unreachable))");
    struct double_run run = {0};
    struct sandbox *sandbox = start(program, &run);
    assert_int_equal(sandbox_memory_bytes(sandbox), 64 * KIB);
    assert_false(sandbox_memory_was_refused(sandbox));
    assert_int_equal(double_run_to_end(sandbox, &run, NULL), SANDBOX_TRAPPED);
    assert_int_equal(sandbox_memory_bytes(sandbox), 16 * MIB);
    assert_int_equal(sandbox_memory_peak_bytes(sandbox), 16 * MIB);
    assert_true(sandbox_memory_was_refused(sandbox));
    sandbox_free(sandbox);

    cleanup_buf struct buf message = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = 60 * KIB},
                                            .wasi = &run.wasi};
    assert_int_equal(sandbox_new(program, &options, &sandbox, &message), ERR_2BIG);
    program_unref(program);
}

static void memory_is_fresh_in_every_sandbox(void **state) {
    (void)state;
    struct program *program =
        load("(module (memory (export \"memory\") 4) (data (i32.const 70000) \"abcd\")"
             " (global $g (mut i32) (i32.const 5)) (table $t 2 funcref)"
             " (func $f) (elem declare func $f)"
             " (func $check (param i32) (if (i32.load (local.get 0)) (then unreachable))"
             "   (i32.store (local.get 0) (i32.const -1)))"
             " (func (export \"_start\")"
             "   (if (i32.ne (global.get $g) (i32.const 5)) (then unreachable))"
             "   (global.set $g (i32.const 6))"
             "   (if (i32.eqz (ref.is_null (table.get $t (i32.const 0)))) (then unreachable))"
             "   (table.set $t (i32.const 0) (ref.func $f))"
             "   (if (i32.ne (i32.load (i32.const 70000)) (i32.const 0x64636261))"
             "     (then unreachable))"
             "   (i32.store (i32.const 70000) (i32.const 1))"
             "   (call $check (i32.const 0)) (call $check (i32.const 70004))"
             "   (call $check (i32.const 262140))"
             "   (drop (memory.grow (i32.const 16))) (call $check (i32.const 1310716))))");
    for (unsigned i = 0; i < 50; i++) {
        struct double_run run = {0};
        assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
    }
    program_unref(program);
}

static void full_pool_is_an_error(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"sched_yield\" (func $yield (result i32)))"
             " (memory (export \"memory\") 1) (func (export \"_start\") (drop (call $yield))))");
    struct double_run runs[9] = {0};
    struct sandbox *sandboxes[9] = {0};
    for (unsigned i = 0; i < 8; i++) {
        sandboxes[i] = start(program, &runs[i]);
        assert_int_equal(step_on(sandboxes[i]), SANDBOX_CALLING);
    }
    const struct sandbox_options options = {.limits = {.memory_bytes = 16 * MIB},
                                            .wasi = &runs[8].wasi};
    cleanup_buf struct buf message = {0};
    assert_int_equal(sandbox_new(program, &options, &sandboxes[8], &message), ERR_NOMEM);
    assert_true(message.length > 0);
    for (unsigned i = 0; i < 8; i++) {
        sandbox_free(sandboxes[i]);
    }
    struct double_run run = {0};
    assert_int_equal(run_once(program, &run, NULL), SANDBOX_RETURNED);
    program_unref(program);
}

struct turn {
    struct program *program;
    _Atomic bool *is_mine, *is_next; /* relaxed: nothing but the engine's pool orders the threads */
    unsigned wrong;
};

/* Writes into a memory whose program waits, and ends it, as a run that is killed. */
static void *use_slots(void *argument) {
    struct turn *turn = argument;
    while (!atomic_load_explicit(turn->is_mine, memory_order_relaxed)) {
        sched_yield();
    }
    for (unsigned i = 0; i < 16; i++) {
        struct double_run run = {0};
        const struct sandbox_options options = {.limits = {.memory_bytes = 16 * MIB},
                                                .wasi = &run.wasi};
        cleanup_buf struct buf message = {0};
        struct sandbox *sandbox = NULL;
        if (sandbox_new(turn->program, &options, &sandbox, &message)) {
            turn->wrong++;
            continue;
        }
        turn->wrong += step_on(sandbox) != SANDBOX_CALLING;
        size_t length;
        uint8_t *memory = run.wasi.guest->memory(run.wasi.guest, &length);
        turn->wrong += memory[8] != 1;
        memory[8]++;
        sandbox_free(sandbox);
    }
    atomic_store_explicit(turn->is_next, true, memory_order_relaxed);
    return NULL;
}

/* The thread sanitizer sees more than this does. */
static void slots_go_from_thread_to_thread(void **state) {
    (void)state;
    struct program *program =
        load("(module (import \"" WASI "\" \"sched_yield\" (func $yield (result i32)))"
             " (memory (export \"memory\") 1) (data (i32.const 8) \"\\01\")"
             " (func (export \"_start\") (drop (call $yield))))");
    _Atomic bool first = true, second = false, done = false;
    struct turn turns[] = {{program, &first, &second, 0}, {program, &second, &done, 0}};
    pthread_t threads[ARRAY_LENGTH(turns)];
    for (size_t i = 0; i < ARRAY_LENGTH(turns); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_slots, &turns[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(turns); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(turns[i].wrong, 0);
    }
    program_unref(program);
}

/* --- call= --- */

static const char library[] =
    "(module (memory (export \"memory\") 1) (global $ready (mut i32) (i32.const 0))"
    " (func (export \"_initialize\") (global.set $ready (i32.const 1)))"
    " (func (export \"add\") (param i32 i32) (result i32)"
    "   (if (i32.eqz (global.get $ready)) (then unreachable))"
    "   (i32.add (local.get 0) (local.get 1)))"
    " (func (export \"mixed\") (param i64 f32 f64) (result f64 f32 i64)"
    "   (local.get 2) (local.get 1) (local.get 0))"
    " (func (export \"none\")) (func (export \"vector\") (param v128))"
    " (func (export \"reference\") (param funcref) (result funcref) (ref.null func)))";

static enum err call(struct program *program, const char *name, const char *const *arguments,
                     struct buf *results) {
    struct str texts[32];
    size_t count = 0;
    while (arguments[count]) {
        texts[count] = str_of(arguments[count]);
        count++;
    }
    struct double_run run = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = MIB},
                                            .wasi = &run.wasi,
                                            .call = str_of(name),
                                            .call_arguments = texts,
                                            .call_argument_count = count};
    struct sandbox *sandbox;
    cleanup_buf struct buf message = {0};
    buf_done(results);
    enum err err = sandbox_new(program, &options, &sandbox, &message);
    if (err) {
        assert_true(message.length > 0);
        return err;
    }
    assert_int_equal(double_run_to_end(sandbox, &run, NULL), SANDBOX_RETURNED);
    sandbox_results(sandbox, results);
    sandbox_free(sandbox);
    return ERR_OK;
}
#define CALL(name, results, ...)                                                                   \
    call(program, name, (const char *const[]){__VA_ARGS__, NULL}, results)

static void calls_exported_functions(void **state) {
    (void)state;
    struct program *program = load(library);
    cleanup_buf struct buf text = {0};
    assert_int_equal(CALL("add", &text, "2", "3"), ERR_OK);
    assert_string_equal(buf_text(&text), "5\n");
    assert_int_equal(CALL("add", &text, "-0x10", "0xffffffff"), ERR_OK);
    assert_string_equal(buf_text(&text), "-17\n");
    assert_int_equal(CALL("add", &text, "4294967295", "-2147483648"), ERR_OK);
    assert_string_equal(buf_text(&text), "2147483647\n");
    assert_int_equal(CALL("mixed", &text, "-9223372036854775808", "0.1", "-1e300"), ERR_OK);
    assert_string_equal(buf_text(&text), "-1e+300 0.1 -9223372036854775808\n");
    assert_int_equal(CALL("mixed", &text, "18446744073709551615", "inf", "nan"), ERR_OK);
    assert_string_equal(buf_text(&text), "nan inf -1\n");
    assert_int_equal(CALL("none", &text, NULL), ERR_OK);
    assert_string_equal(buf_text(&text), "");

    assert_int_equal(CALL("missing", &text, NULL), ERR_NOENT);
    assert_int_equal(CALL("memory", &text, NULL), ERR_NOENT);
    assert_int_equal(CALL("add", &text, "2"), ERR_INVAL);
    assert_int_equal(CALL("add", &text, "2", "3", "4"), ERR_INVAL);
    static const char *const wrong[] = {"",   " 1",  "1 ",         "x",          "--1",
                                        "0x", "1.5", "+ 1",        "0x-1",       "1e3",
                                        "-",  "0xg", "4294967296", "-2147483649"};
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        assert_int_equal(CALL("add", &text, wrong[i], "3"), ERR_INVAL);
    }
    assert_int_equal(CALL("vector", &text, "1"), ERR_INVAL);
    assert_int_equal(CALL("reference", &text, "1"), ERR_INVAL);
    struct double_run run = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = MIB}, .wasi = &run.wasi};
    struct sandbox *sandbox;
    cleanup_buf struct buf message = {0};
    assert_int_equal(sandbox_new(program, &options, &sandbox, &message), ERR_NOENT);
    program_unref(program);
}

/* --- stacks --- */

static uint64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long total = 0, resident = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %llu", &total, &resident), 2);
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void deep_stacks_are_given_back(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* it keeps what was freed */
#endif
    /* Recursion down to the limit, in all slots, with and without host calls. */
    static const char *const texts[] = {
        "(module (func $f (call $f) (call $f)) (func (export \"_start\") (call $f)))",
        "(module (import \"" WASI "\" \"sched_yield\" (func $yield (result i32)))"
        " (func $f (call $f) (call $f)) (func (export \"_start\") (drop (call $yield)) (call $f)))",
    };
    for (size_t text = 0; text < ARRAY_LENGTH(texts); text++) {
        struct program *program = load(texts[text]);
        struct double_run run = {0};
        struct sandbox *sandboxes[8];
        assert_int_equal(run_once(program, &run, NULL), SANDBOX_TRAPPED);
        uint64_t before = resident_bytes();
        for (unsigned i = 0; i < 8; i++) {
            sandboxes[i] = start(program, &run);
            assert_int_equal(double_run_to_end(sandboxes[i], &run, NULL), SANDBOX_TRAPPED);
        }
        uint64_t during = resident_bytes();
        for (unsigned i = 0; i < 8; i++) {
            sandbox_free(sandboxes[i]);
        }
        malloc_trim(0); /* what backtraces took */
        uint64_t after = resident_bytes();
        assert_true(during > before + 8 * 256 * KIB); /* or the test shows nothing */
        assert_true(after < before + MIB);
        program_unref(program);
    }
}

static void host_call_at_the_deepest_point(void **state) {
    (void)state;
    /* Calls the host at every depth until the stack is exhausted. */
    struct program *program =
        load("(module (import \"" WASI "\" \"clock_time_get\""
             "   (func $clock (param i32 i64 i32) (result i32)))"
             " (import \"" WASI "\" \"sched_yield\" (func $yield (result i32)))"
             " (memory (export \"memory\") 1)"
             " (func $f (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0)))"
             "   (drop (call $yield)) (call $f) (drop (call $yield)))"
             " (func (export \"_start\") (call $f)))");
    struct double_run run = {0};
    cleanup_buf struct buf failure = {0};
    assert_int_equal(run_once(program, &run, &failure), SANDBOX_TRAPPED);
    assert_true(run.steps > 1000);
    assert_non_null(strstr(buf_text(&failure), "stack overflow"));
    program_unref(program);
}

int main(int argc, char **argv) {
    int status;
    if (double_is_compiler(argc, argv, &status)) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_returns),
        cmocka_unit_test(exits_with_status),
        cmocka_unit_test(immediate_calls_get_their_arguments),
        cmocka_unit_test(waiting_call_is_reported_until_it_is_finished),
        cmocka_unit_test(endless_loop_yields),
        cmocka_unit_test(start_function_calls_waits_and_yields),
        cmocka_unit_test(failures_have_reason_and_backtrace),
        cmocka_unit_test(unknown_imports_trap_when_called),
        cmocka_unit_test(memory_grows_up_to_the_limit),
        cmocka_unit_test(memory_is_fresh_in_every_sandbox),
        cmocka_unit_test(full_pool_is_an_error),
        cmocka_unit_test(slots_go_from_thread_to_thread),
        cmocka_unit_test(calls_exported_functions),
        cmocka_unit_test(deep_stacks_are_given_back),
        cmocka_unit_test(host_call_at_the_deepest_point),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
