/* Compiling in a child, the queue of compilations, loading compiled code, source lines.
 *
 * This program is its own compiler: the engine starts it again with `compile-module IN OUT`. */
#include "engine/engine_test_double.h"

#include "engine/lines.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct engine *engine;
static struct loop *loop;
static char directory[] = "/tmp/engine-test-XXXXXX";
static const struct who who = {.may_control = true};

static const struct compile_limits limits = {
    .memory_bytes = 4 * GIB, .cpu_seconds = 60, .wall_ns = 60 * NS_PER_S, .at_once = 2};

static int set_up(void **state) {
    (void)state;
    const struct engine_options options = {.sandboxes_max = 4, .memory_max_bytes = 64 * MIB};
    cleanup_buf struct buf message = {0};
    if (!mkdtemp(directory) || loop_new(0, &loop) || engine_new(&options, &engine, &message)) {
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
    loop_free(loop);
    return fsio_remove_tree(directory) ? -1 : 0;
}

static const char *path_of(const char *name) {
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LENGTH(paths)];
    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, struct str content) {
    assert_int_equal(fsio_replace_file(path_of(name), content.data, content.length), ERR_OK);
}

static unsigned file_count(void) {
    char command[300];
    snprintf(command, sizeof(command), "ls %s | wc -l", directory);
    FILE *pipe = popen(command, "r");
    unsigned count = 0;
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

/* --- compiling by op --- */

struct compilation_under_test {
    struct op op; /* first */
    const char *module, *compiled;
    struct compile_limits limits;
    enum err result;
    uint8_t hash[SHA256_SIZE];
    struct buf message;
};
static unsigned under_way;

static void poll_compilation(struct compilation_under_test *test) {
    test->result = engine_compile(engine, &test->op, &test->limits, str_of(path_of(test->module)),
                                  str_of(path_of(test->compiled)), test->hash, &test->message);
    if (test->result != ERR_PENDING && --under_way == 0) {
        loop_stop(loop);
    }
}

static void woken(struct op *op) {
    struct compilation_under_test *test = (struct compilation_under_test *)op;
    if (test->result == ERR_PENDING) {
        poll_compilation(test);
    }
}

static void begin(struct compilation_under_test *test) {
    op_init(&test->op, loop, &who, woken);
    under_way++;
    poll_compilation(test);
}

static void end(struct compilation_under_test *test) {
    op_done(&test->op);
    buf_done(&test->message);
}

static void compile_alone(struct compilation_under_test *test) {
    double_restore_handlers();
    begin(test);
    if (under_way > 0) {
        loop_run(loop);
    }
}

static void compiles_in_a_child(void **state) {
    (void)state;
    write_file("a.wat", STR("(module (func (export \"_start\")))"));
    struct compilation_under_test test = {
        .module = "a.wat", .compiled = "a.cwasm", .limits = limits};
    compile_alone(&test);
    if (test.result) {
        fail_msg("%s", buf_text(&test.message));
    }
    uint8_t hash[SHA256_SIZE];
    assert_int_equal(sha256_of_file(path_of("a.cwasm"), hash), ERR_OK);
    assert_memory_equal(hash, test.hash, sizeof(hash));
    struct stat status;
    assert_int_equal(stat(path_of("a.cwasm"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(file_count(), 2); /* nothing temporary is left */

    struct program *program;
    assert_int_equal(program_load(engine, path_of("a.cwasm"), hash, &program, NULL), ERR_OK);
    struct double_run run = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = MIB}, .wasi = &run.wasi};
    struct sandbox *sandbox;
    assert_int_equal(sandbox_new(program, &options, &sandbox, NULL), ERR_OK);
    program_unref(program); /* the sandbox holds it */
    assert_int_equal(double_run_to_end(sandbox, &run, NULL), SANDBOX_RETURNED);
    sandbox_free(sandbox);
    end(&test);
}

static void refusals_have_the_compilers_words(void **state) {
    (void)state;
    unsigned before = file_count();
    write_file("b.wat", STR("(module (func (export \"_start\") (i32.add)))"));
    struct compilation_under_test test = {
        .module = "b.wat", .compiled = "b.cwasm", .limits = limits};
    compile_alone(&test);
    assert_int_equal(test.result, ERR_NOEXEC);
    assert_non_null(strstr(buf_text(&test.message), "type mismatch"));
    end(&test);
    assert_int_equal(file_count(), before + 1);

    test = (struct compilation_under_test){
        .module = "missing", .compiled = "b.cwasm", .limits = limits};
    compile_alone(&test);
    assert_int_equal(test.result, ERR_NOEXEC);
    end(&test);
    test = (struct compilation_under_test){
        .module = "a.wat", .compiled = "no/such/directory", .limits = limits};
    compile_alone(&test);
    assert_int_not_equal(test.result, ERR_OK);
    end(&test);
}

/* A module that takes long to compile: many functions that are long. */
static void write_large_module(const char *name) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_append_str(&text, STR("(module (memory 1) (func (export \"_start\"))")),
                     ERR_OK);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(buf_append_str(&text, STR("(func (param i32) (result i32)")), ERR_OK);
        for (unsigned k = 0; k < 500; k++) {
            assert_int_equal(
                buf_printf(&text,
                           "(local.set 0 (i32.xor (i32.load (local.get 0)) (i32.const %u)))"
                           "(if (local.get 0) (then (i32.store (i32.const %u) (local.get 0))))",
                           k * i, k),
                ERR_OK);
        }
        assert_int_equal(buf_append_str(&text, STR("(local.get 0))")), ERR_OK);
    }
    assert_int_equal(buf_append_byte(&text, ')'), ERR_OK);
    write_file(name, buf_str(&text));
}

static void limits_end_the_child(void **state) {
    (void)state;
    write_large_module("large.wat");
    unsigned before = file_count();
    struct compilation_under_test test = {
        .module = "large.wat", .compiled = "c.cwasm", .limits = limits};
    test.limits.wall_ns = NS_PER_MS;
    compile_alone(&test);
    assert_int_equal(test.result, ERR_2BIG);
    assert_non_null(strstr(buf_text(&test.message), "longer than"));
    end(&test);
    assert_int_equal(file_count(), before);
}

static void memory_limit_ends_the_child(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* no limits there, see compile.c */
#endif
    struct compilation_under_test test = {
        .module = "large.wat", .compiled = "c.cwasm", .limits = limits};
    test.limits.memory_bytes = 64 * MIB;
    compile_alone(&test);
    assert_int_equal(test.result, ERR_2BIG);
    assert_string_equal(buf_text(&test.message), "compiling took more than 64 MiB");
    end(&test);
}

static void compilations_wait_for_their_turn(void **state) {
    (void)state;
    double_restore_handlers();
    struct compilation_under_test tests[6] = {0};
    static const char *const names[] = {"d0", "d1", "d2", "d3", "d4", "d5"};
    for (unsigned i = 0; i < ARRAY_LENGTH(tests); i++) {
        tests[i] = (struct compilation_under_test){
            .module = "a.wat", .compiled = names[i], .limits = limits};
        tests[i].limits.at_once = 1;
        begin(&tests[i]);
        assert_int_equal(tests[i].result, ERR_PENDING);
    }
    /* One that waits and one that runs are given up; the others come to their turn. */
    op_abandon(&tests[0].op);
    op_abandon(&tests[3].op);
    tests[0].result = tests[3].result = ERR_CANCELED;
    under_way -= 2;
    loop_run(loop);
    for (unsigned i = 0; i < ARRAY_LENGTH(tests); i++) {
        assert_int_equal(tests[i].result, i == 0 || i == 3 ? ERR_CANCELED : ERR_OK);
        end(&tests[i]);
    }
    while (loop_turn(loop)) {
    }
    assert_int_not_equal(access(path_of("d3"), F_OK), 0);
}

/* --- loading --- */

static void altered_code_is_never_loaded(void **state) {
    (void)state;
    double_restore_handlers();
    uint8_t hash[SHA256_SIZE];
    struct program *program = NULL;
    assert_true(double_compile(path_of("a.wat"), path_of("e")));
    assert_int_equal(sha256_of_file(path_of("e"), hash), ERR_OK);
    assert_int_equal(program_load(engine, path_of("missing"), hash, &program, NULL), ERR_STALE);
    assert_int_equal(symlink("e", path_of("link")), 0);
    assert_int_equal(program_load(engine, path_of("link"), hash, &program, NULL), ERR_STALE);
    assert_int_equal(program_load(engine, directory, hash, &program, NULL), ERR_STALE);

    int descriptor = open(path_of("e"), O_RDWR);
    assert_true(descriptor >= 0);
    uint8_t byte;
    assert_int_equal(pread(descriptor, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(descriptor, &byte, 1, 5000), 1);
    assert_int_equal(program_load(engine, path_of("e"), hash, &program, NULL), ERR_STALE);
    byte ^= 1;
    assert_int_equal(pwrite(descriptor, &byte, 1, 5000), 1);
    assert_int_equal(program_load(engine, path_of("e"), hash, &program, NULL), ERR_OK);
    program_unref(program);
    close(descriptor);

    /* Right by its hash, but no code of this engine. */
    write_file("f", STR("not compiled code"));
    cleanup_buf struct buf message = {0};
    assert_int_equal(sha256_of_file(path_of("f"), hash), ERR_OK);
    assert_int_equal(program_load(engine, path_of("f"), hash, &program, &message), ERR_STALE);
    assert_true(message.length > 0);
}

static void what_a_slot_can_not_hold_is_too_big(void **state) {
    (void)state;
    double_restore_handlers();
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_append_str(&text, STR("(module (func (export \"_start\"))")), ERR_OK);
    for (unsigned i = 0; i < 90000; i++) {
        assert_int_equal(buf_append_str(&text, STR("(global (mut i64) (i64.const 1))")), ERR_OK);
    }
    assert_int_equal(buf_append_byte(&text, ')'), ERR_OK);
    struct program *program;
    cleanup_buf struct buf message = {0};
    assert_int_equal(double_load_text(engine, directory, buf_text(&text), &program, &message),
                     ERR_2BIG);
    assert_true(message.length > 0);
}

static void impossible_engines_are_refused(void **state) {
    (void)state;
    static const struct {
        struct engine_options options;
        enum err expected;
    } cases[] = {
        {{.sandboxes_max = 0, .memory_max_bytes = MIB}, ERR_INVAL},
        {{.sandboxes_max = 1, .memory_max_bytes = 5 * GIB}, ERR_INVAL},
        {{.sandboxes_max = 1, .memory_max_bytes = 0}, ERR_INVAL},
        {{.sandboxes_max = UINT32_MAX, .memory_max_bytes = MIB}, ERR_INVAL},
        {{.sandboxes_max = 100000, .memory_max_bytes = MIB}, ERR_NOMEM},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct engine *none = NULL;
        cleanup_buf struct buf message = {0};
        assert_int_equal(engine_new(&cases[i].options, &none, &message), cases[i].expected);
        assert_null(none);
        assert_true(message.length > 0);
    }
}

static void key_is_a_directory_name(void **state) {
    (void)state;
    const char *key = engine_key();
    assert_ptr_equal(key, engine_key());
    assert_true(strlen(key) > 10 && strlen(key) < 64);
    assert_null(strchr(key, '/'));
}

/* --- guests in C --- */

static bool compile_c(const char *source, const char *options, const char *wasm) {
    write_file("guest.c", str_of(source));
    char command[1024];
    snprintf(command, sizeof(command),
             "cd %s && clang --target=wasm32-wasi %s -o %s guest.c 2>clang.log", directory, options,
             wasm);
    return system(command) == 0;
}

static void c_program_runs(void **state) {
    (void)state;
    double_restore_handlers();
    if (!compile_c("#include <stdio.h>\n#include <stdlib.h>\n"
                   "int main(void) { char *p = malloc(100000); if (!p) return 2;\n"
                   "  printf(\"hello from %s\\n\", \"C\"); exit(7); }\n",
                   "-O2", "hello.wasm")) {
        skip();
    }
    struct program *program;
    assert_int_equal(double_load(engine, directory, path_of("hello.wasm"), &program, NULL), ERR_OK);
    struct double_run run = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = MIB}, .wasi = &run.wasi};
    struct sandbox *sandbox;
    assert_int_equal(sandbox_new(program, &options, &sandbox, NULL), ERR_OK);
    assert_int_equal(double_run_to_end(sandbox, &run, NULL), SANDBOX_RETURNED);
    assert_int_equal(run.wasi.exit_status, 7);
    assert_true(str_equal_text(buf_str(&run.output), "hello from C\n"));
    sandbox_free(sandbox);
    program_unref(program);
    buf_done(&run.output);
}

static void backtraces_name_source_lines(void **state) {
    (void)state;
    double_restore_handlers();
    static const char source[] = "__attribute__((noinline)) int inner(int *p) {\n"
                                 "  return *p + 1;\n"
                                 "}\n"
                                 "volatile int zero;\n"
                                 "int main(int argc, char **argv) {\n"
                                 "  (void)argv;\n"
                                 "  int x = inner((int *)(0x7fffff00 + zero));\n"
                                 "  return x + zero;\n"
                                 "}\n";
    static const char *const formats[] = {"-O1 -gdwarf-4", "-O1 -gdwarf-5", "-O1 -gdwarf-3"};
    for (size_t i = 0; i < ARRAY_LENGTH(formats); i++) {
        if (!compile_c(source, formats[i], "trap.wasm")) {
            skip();
        }
        struct program *program;
        assert_int_equal(double_load(engine, directory, path_of("trap.wasm"), &program, NULL),
                         ERR_OK);
        struct double_run run = {0};
        const struct sandbox_options options = {.limits = {.memory_bytes = MIB}, .wasi = &run.wasi};
        struct sandbox *sandbox;
        assert_int_equal(sandbox_new(program, &options, &sandbox, NULL), ERR_OK);
        assert_int_equal(double_run_to_end(sandbox, &run, NULL), SANDBOX_TRAPPED);
        cleanup_buf struct buf failure = {0};
        sandbox_failure(sandbox, &failure);
        if (!strstr(buf_text(&failure), "  at inner (guest.c:2)\n") ||
            !strstr(buf_text(&failure), "(guest.c:7)\n") ||
            !strstr(buf_text(&failure), "memory access out of bounds")) {
            fail_msg("%s: %s", formats[i], buf_text(&failure));
        }
        sandbox_free(sandbox);
        program_unref(program);
    }
}

/* Debug information with every byte changed never does harm; the sanitizers say if it does. */
static void damaged_debug_information_does_no_harm(void **state) {
    (void)state;
    if (!compile_c("int main(void) { return 0; }\n",
                   "-O1 -gdwarf-5 -nostdlib -Wl,--no-entry "
                   "-Wl,--export=main",
                   "small.wasm")) {
        skip();
    }
    cleanup_buf struct buf module = {0};
    assert_int_equal(fsio_read_file(path_of("small.wasm"), MIB, &module), ERR_OK);
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    unsigned tables = 0;
    for (size_t position = 8; position < module.length; position++) {
        uint8_t before = module.data[position];
        for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
            module.data[position] = values[i];
            cleanup_buf struct buf table = {0};
            assert_int_equal(lines_make(buf_str(&module), &table), ERR_OK);
            if (table.length > 0) {
                struct lines lines;
                assert_int_equal(lines_open(table.data, table.length, &lines), ERR_OK);
                struct str file;
                uint32_t line;
                for (uint64_t offset = 0; offset < module.length; offset += 3) {
                    if (lines_find(&lines, offset, &file, &line)) {
                        tables++;
                    }
                }
            }
        }
        module.data[position] = before;
    }
    assert_true(tables > 0);
}

static void tables_of_lines_are_checked(void **state) {
    (void)state;
    uint8_t footer[LINES_FOOTER_BYTES] = {0};
    struct lines lines = {0};
    struct str file;
    uint32_t line;
    assert_int_equal(lines_length(footer), 0);
    assert_int_equal(lines_open(footer, sizeof(footer), &lines), ERR_BADMSG);
    assert_int_equal(lines_open(footer, 3, &lines), ERR_BADMSG);
    assert_false(lines_find(&lines, 5, &file, &line));
    cleanup_buf struct buf table = {0};
    assert_int_equal(lines_make(STR("\0asm\1\0\0\0"), &table), ERR_OK);
    assert_int_equal(lines_make(STR("\0as"), &table), ERR_OK);
    assert_int_equal(table.length, 0);
}

int main(int argc, char **argv) {
    int status;
    if (double_is_compiler(argc, argv, &status)) {
        return status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiles_in_a_child),
        cmocka_unit_test(refusals_have_the_compilers_words),
        cmocka_unit_test(limits_end_the_child),
        cmocka_unit_test(memory_limit_ends_the_child),
        cmocka_unit_test(compilations_wait_for_their_turn),
        cmocka_unit_test(altered_code_is_never_loaded),
        cmocka_unit_test(what_a_slot_can_not_hold_is_too_big),
        cmocka_unit_test(impossible_engines_are_refused),
        cmocka_unit_test(key_is_a_directory_name),
        cmocka_unit_test(c_program_runs),
        cmocka_unit_test(backtraces_name_source_lines),
        cmocka_unit_test(damaged_debug_information_does_no_harm),
        cmocka_unit_test(tables_of_lines_are_checked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
