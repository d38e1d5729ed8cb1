/* For tests of runs and of the devices that show them: a state directory, an engine, a catalog with
 * apps made of WAT text, and one loop that the test turns. Included by one file a program. */
#pragma once

#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "ns/memory.h"
#include "run/run.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE_WASI "wasi_snapshot_preview1"

struct fixture {
    char directory[64];
    struct engine *engine;
    struct catalog *catalog;
    struct applog_set *logs;
    struct loop *loops[2]; /* the second one is another thread's, if a test starts that */
    struct runs *runs;
    struct run_hooks hooks;
    struct runs_options options;
    struct sigaction handlers[4]; /* the engine's; cmocka puts its own in their place */
    const struct who *who;        /* the control door */
};

static const struct who fixture_who = {.owner_id = 1, .may_control = true};
static const int fixture_signals[4] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};

/* Turns the loop until `expression`, which is a polled call with this op, is not PENDING. */
#define FIXTURE_WAIT(fixture, expression)                                                          \
    ({                                                                                             \
        enum err err_;                                                                             \
        while ((err_ = (expression)) == ERR_PENDING) {                                             \
            loop_turn((fixture)->loops[0]);                                                        \
        }                                                                                          \
        err_;                                                                                      \
    })
#define FIXTURE_TURN_UNTIL(fixture, condition)                                                     \
    do {                                                                                           \
        loop_turn((fixture)->loops[0]);                                                            \
    } while (!(condition))

/* A plain tree of memory for runs, in place of dev/tree.h. */
struct fixture_tree {
    struct file *root;
    bool is_kept;
};
static atomic_uint fixture_trees;     /* that exist */
static unsigned fixture_pending;      /* so many calls of make_tree and commit_tree are PENDING */
static enum err fixture_tree_error;   /* of make_tree */
static enum err fixture_commit_error; /* of commit_tree */

static inline enum err fixture_make_tree(void *context, struct op *op, struct run *run,
                                         struct ns **ret_ns, void **ret_tree, struct buf *message) {
    (void)context;
    if (fixture_pending > 0) {
        fixture_pending--;
        op_wake(op);
        return ERR_PENDING;
    }
    if (fixture_tree_error) {
        return buf_fail(message, fixture_tree_error, "no tree today");
    }
    struct fixture_tree *tree = calloc(1, sizeof(*tree));
    struct memory_options options = {.bytes_max = MIB};
    assert_non_null(tree);
    assert_int_equal(memory_new(&options, &tree->root), ERR_OK);
    assert_int_equal(ns_new(tree->root, ret_ns), ERR_OK);
    tree->is_kept = str_equal(run_root_mode(run), STR("fresh"));
    fixture_trees++;
    *ret_tree = tree;
    return ERR_OK;
}

static inline enum err fixture_commit_tree(void *context, struct op *op, void *tree) {
    (void)context;
    (void)tree;
    if (fixture_pending > 0) {
        fixture_pending--;
        op_wake(op);
        return ERR_PENDING;
    }
    return fixture_commit_error;
}

static inline bool fixture_tree_is_kept(void *context, void *tree) {
    (void)context;
    return ((struct fixture_tree *)tree)->is_kept;
}

static inline uint64_t fixture_tree_bytes(void *context, void *tree) {
    (void)context;
    return ((struct fixture_tree *)tree)->is_kept ? 70000 : 0;
}

static inline struct file *fixture_tree_root(void *context, void *tree) {
    (void)context;
    return file_ref(((struct fixture_tree *)tree)->root);
}

static inline void fixture_tree_done(void *context, void *tree) {
    (void)context;
    file_unref(((struct fixture_tree *)tree)->root);
    free(tree);
    fixture_trees--;
}

static const struct run_hooks fixture_hooks = {.make_tree = fixture_make_tree,
                                               .commit_tree = fixture_commit_tree,
                                               .tree_is_kept = fixture_tree_is_kept,
                                               .tree_bytes = fixture_tree_bytes,
                                               .tree_root = fixture_tree_root,
                                               .tree_done = fixture_tree_done};

#ifdef __SANITIZE_THREAD__
enum { FIXTURE_COMPILER_BYTES = 0 }; /* its shadow memory needs all of the address space */
#else
#define FIXTURE_COMPILER_BYTES (4 * GIB)
#endif

static const struct runs_options fixture_options = {
    .defaults = {.memory_bytes = 16 * MIB,
                 .cpu_ns = 600 * NS_PER_S,
                 .wall_ns = 600 * NS_PER_S,
                 .output_bytes = 64 * MIB,
                 .tmp_bytes = MIB,
                 .disk_bytes = 64 * MIB,
                 .open_files = 64},
    .detached_wall_ns = 3600 * NS_PER_S,
    .keep_ns = 600 * NS_PER_S,
    .max_runs_per_app = 100,
    .queue_per_app = 100,
    .queue_wait_ns = 600 * NS_PER_S,
    .unheard_ns = 600 * NS_PER_S,
    .max_runs = 100,
    .kept_max = 1000,
    .kept_bytes_max = 64 * MIB,
    .compile = {.memory_bytes = FIXTURE_COMPILER_BYTES,
                .cpu_seconds = 60,
                .wall_ns = 60 * NS_PER_S,
                .at_once = 2},
};

/* The runs may be made anew with other options or hooks. */
static inline void fixture_make_runs(struct fixture *fixture) {
    assert_int_equal(runs_new(&fixture->options, fixture->engine, fixture->catalog, fixture->logs,
                              &fixture->hooks, fixture->loops, fixture->loops[1] ? 2 : 1,
                              &fixture->runs),
                     ERR_OK);
}

static inline void fixture_init(struct fixture *fixture) {
    *fixture = (struct fixture){
        .directory = "/tmp/run-test-XXXXXX", .hooks = fixture_hooks, .options = fixture_options};
    fixture->who = &fixture_who;
    cleanup_buf struct buf message = {0};
    cleanup_buf struct buf path = {0};
    const struct engine_options engine = {
        .sandboxes_max = 100, .memory_max_bytes = 64 * MIB, .keep_resident_bytes = 64 * KIB};
    const struct applog_limits limits = {.bytes_max = 64 * MIB, .age_max_ns = 3600 * NS_PER_S};
    assert_non_null(mkdtemp(fixture->directory));
    assert_int_equal(loop_new(0, &fixture->loops[0]), ERR_OK);
    if (engine_new(&engine, &fixture->engine, &message) != ERR_OK ||
        catalog_open(fixture->directory, &fixture->catalog, &message) != ERR_OK) {
        fail_msg("%s", buf_text(&message));
    }
    for (size_t i = 0; i < ARRAY_LENGTH(fixture_signals); i++) {
        sigaction(fixture_signals[i], NULL, &fixture->handlers[i]);
    }
    assert_int_equal(buf_printf(&path, "%s/logs", fixture->directory), ERR_OK);
    assert_int_equal(applog_set_new(buf_text(&path), &limits, &fixture->logs), ERR_OK);
}

/* Within every test, as cmocka puts its own at its beginning: traps need the engine's handlers. */
static inline void fixture_restore_handlers(const struct fixture *fixture) {
    for (size_t i = 0; i < ARRAY_LENGTH(fixture_signals); i++) {
        sigaction(fixture_signals[i], &fixture->handlers[i], NULL);
    }
}

static inline void fixture_finished(void *argument) {
    *(bool *)argument = true;
}

static inline void fixture_end_runs(struct fixture *fixture) {
    bool finished = false;
    runs_shut_down(fixture->runs, fixture->loops[0], 0, fixture_finished, &finished);
    FIXTURE_TURN_UNTIL(fixture, finished);
}

/* Ends all runs and frees them. */
static inline void fixture_free_runs(struct fixture *fixture) {
    fixture_end_runs(fixture);
    runs_free(STEAL(fixture->runs));
    assert_int_equal(fixture_trees, 0);
}

static inline void fixture_no_wake(struct op *op) {
    (void)op;
}

/* Makes (or updates) an app of a module as text; `config` may be NULL. A reference. */
static inline struct app *fixture_app(struct fixture *fixture, const char *name, const char *text,
                                      const char *config) {
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf message = {0};
    assert_int_equal(catalog_temporary_path(fixture->catalog, &path), ERR_OK);
    assert_int_equal(fsio_replace_file(buf_text(&path), text, strlen(text)), ERR_OK);
    struct app_change change = {
        .name = str_of(name),
        .has_version = true,
        .version = {.module_bytes = strlen(text), .is_library = strstr(text, "_start") == NULL},
        .module_temporary_path = buf_str(&path),
        .config = config ? json_loads(config, 0, NULL) : NULL,
    };
    assert_int_equal(sha256_of(text, strlen(text), change.version.module_sha256), ERR_OK);
    struct op op;
    op_init(&op, fixture->loops[0], fixture->who, fixture_no_wake);
    struct app *app = NULL;
    bool created;
    enum err err = FIXTURE_WAIT(
        fixture, catalog_apply(&op, fixture->catalog, &change, &app, &created, &message));
    if (err) {
        fail_msg("%s: %s: %s", name, err_text(err), buf_text(&message));
    }
    op_done(&op);
    json_decref((json_t *)change.config);
    return app;
}

static inline struct run *fixture_start(struct fixture *fixture,
                                        const struct run_request *request) {
    fixture_restore_handlers(fixture);
    cleanup_buf struct buf message = {0};
    struct run *run = NULL;
    enum err err = run_start(fixture->runs, fixture->loops[0], request, &run, &message);
    if (err) {
        fail_msg("%s: %s", err_text(err), buf_text(&message));
    }
    return run;
}

/* Turns until it has ended. */
static inline struct run_status fixture_wait(struct fixture *fixture, struct run *run) {
    struct op op;
    op_init(&op, fixture->loops[0], fixture->who, fixture_no_wake);
    assert_int_equal(FIXTURE_WAIT(fixture, run_wait(&op, run)), ERR_OK);
    op_done(&op);
    return run_status(run);
}

/* Reads what there is from `reader` on, to the end of the run; the text is valid until the next
 * call. */
static inline const char *fixture_output(struct fixture *fixture, struct run *run,
                                         unsigned streams) {
    static struct buf text;
    buf_done(&text);
    if (!run) {
        return NULL; /* the last call gives the memory back */
    }
    struct run_reader reader = {0};
    struct op op;
    op_init(&op, fixture->loops[0], fixture->who, fixture_no_wake);
    for (;;) {
        char data[1000];
        size_t length = 0;
        unsigned stream;
        uint64_t time_ns;
        enum err err =
            FIXTURE_WAIT(fixture, run_output_read(&op, run, &reader, streams, data, sizeof(data),
                                                  &length, &stream, &time_ns));
        assert_int_equal(err, ERR_OK);
        if (length == 0) {
            break;
        }
        assert_true(stream & streams);
        assert_int_equal(buf_append(&text, data, length), ERR_OK);
    }
    op_done(&op);
    return buf_text(&text);
}

static inline void fixture_done(struct fixture *fixture) {
    (void)fixture_output(NULL, NULL, 0);
    /* A compiler that was given up, and killed, or the loading of a program that nobody wants. */
    while (engine_is_compiling(fixture->engine) || loop_has_works(fixture->loops[0])) {
        loop_turn(fixture->loops[0]);
    }
    applog_set_free(fixture->logs);
    catalog_free(fixture->catalog);
    engine_free(fixture->engine);
    loop_free(fixture->loops[0]);
    assert_int_equal(fsio_remove_tree(fixture->directory), ERR_OK);
}

/* The end of a fixture whose second loop has a thread of its own: ends the runs, and both. */
static inline int fixture_done_with_thread(struct fixture *fixture, pthread_t thread) {
    fixture_end_runs(fixture);
    loop_stop(fixture->loops[1]);
    if (pthread_join(thread, NULL) != 0) {
        return -1;
    }
    runs_free(STEAL(fixture->runs));
    loop_free(fixture->loops[1]);
    fixture_done(fixture);
    return 0;
}

/* The program is its own compiler of modules: its main begins with this. */
#define FIXTURE_COMPILER_MAIN(argc, argv)                                                          \
    if ((argc) == 4 && strcmp((argv)[1], "compile-module") == 0) {                                 \
        return engine_compile_main((argv)[2], (argv)[3]);                                          \
    }

/* ---- guests ---- */

#define FIXTURE_IMPORT(name, type)                                                                 \
    "(import \"" FIXTURE_WASI "\" \"" name "\" (func $" name " " type "))"
#define FIXTURE_WRITE FIXTURE_IMPORT("fd_write", "(param i32 i32 i32 i32) (result i32)")
#define FIXTURE_READ FIXTURE_IMPORT("fd_read", "(param i32 i32 i32 i32) (result i32)")
#define FIXTURE_EXIT FIXTURE_IMPORT("proc_exit", "(param i32)")

/* Writes "hello\n" to standard output. */
static const char guest_hello[] __attribute__((unused)) =
    "(module " FIXTURE_WRITE "(memory (export \"memory\") 1)"
    "(data (i32.const 0) \"\\10\\00\\00\\00\\06\\00\\00\\00\") (data (i32.const 16) \"hello\\n\")"
    "(func (export \"_start\")"
    " (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))";

/* "out 1\n" to standard output, "err\n" to standard error, "out 2\n" to output; exits with 3. */
static const char guest_both[] __attribute__((unused)) =
    "(module " FIXTURE_WRITE FIXTURE_EXIT "(memory (export \"memory\") 1)"
    "(data (i32.const 0) \"\\20\\00\\00\\00\\06\\00\\00\\00\\30\\00\\00\\00\\04\\00\\00\\00"
    "\\40\\00\\00\\00\\06\\00\\00\\00\")"
    "(data (i32.const 32) \"out 1\\n\") (data (i32.const 48) \"err\\n\")"
    "(data (i32.const 64) \"out 2\\n\")"
    "(func (export \"_start\")"
    " (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))"
    " (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 100)))"
    " (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 100)))"
    " (call $proc_exit (i32.const 3))))";

/* Computes for ever. */
static const char guest_loop[] __attribute__((unused)) =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $again (br $again))))";

/* Copies standard input to standard output until its end. */
static const char guest_cat[] __attribute__((unused)) =
    "(module " FIXTURE_READ FIXTURE_WRITE "(memory (export \"memory\") 2)"
    "(func (export \"_start\") (loop $again"
    " (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))"
    " (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))"
    "  (then unreachable))"
    " (if (i32.eqz (i32.load (i32.const 8))) (then return))"
    " (loop $rest (i32.store (i32.const 4) (i32.load (i32.const 8)))"
    "  (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))"
    "   (then unreachable))"
    "  (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 12))))"
    "  (i32.store (i32.const 8) (i32.sub (i32.load (i32.const 8)) (i32.load (i32.const 12))))"
    "  (br_if $rest (i32.load (i32.const 8))))"
    " (br $again))))";

/* Writes 4,096 bytes to standard output again and again. */
static const char guest_flood[] __attribute__((unused)) =
    "(module " FIXTURE_WRITE "(memory (export \"memory\") 1)"
    "(func (export \"_start\") (loop $again"
    " (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))"
    " (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    " (br $again))))";

/* Says "about to\n" without its newline and traps. */
static const char guest_trap[] __attribute__((unused)) =
    "(module " FIXTURE_WRITE "(memory (export \"memory\") 1)"
    "(data (i32.const 0) \"\\10\\00\\00\\00\\08\\00\\00\\00\") (data (i32.const 16) \"about to\")"
    "(func $inner unreachable) (func $outer call $inner)"
    "(func (export \"_start\")"
    " (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    " call $outer))";

/* Takes memory until it gets no more, and traps. */
static const char guest_grow[] __attribute__((unused)) =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $again"
    " (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))"
    " (br $again))))";
