/* What a run costs in the engine alone: store to teardown of a program, with a WASI of a few
 * functions; and what host calls cost. Prints ratios to look at, asserts nothing.
 *
 *     engine_bench MODULE [KEEP_RESIDENT_KIB [SANDBOXES]]
 *
 * MODULE is a WASI program that needs no input, such as a hello world in C. */
#include "engine/engine_test_double.h"

#include "base/clock.h"

static const char loop_polled[] =
    "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $call (result i32)))"
    " (memory (export \"memory\") 1) (func (export \"_start\") (local i32)"
    " (loop (drop (call $call)) (local.set 0 (i32.add (local.get 0) (i32.const 1)))"
    " (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000000))))))";
static const char loop_immediate[] =
    "(module (import \"wasi_snapshot_preview1\" \"args_get\""
    " (func $call (param i32 i32) (result i32)))"
    " (memory (export \"memory\") 1) (func (export \"_start\") (local i32)"
    " (loop (drop (call $call (i32.const 0) (i32.const 0)))"
    " (local.set 0 (i32.add (local.get 0) (i32.const 1)))"
    " (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000000))))))";
static const char exits[] =
    "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))"
    " (memory (export \"memory\") 2) (func $f (call $exit (i32.const 0)) unreachable)"
    " (func (export \"_start\") (call $f)))";
static const char returns[] =
    "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $call (result i32)))"
    " (memory (export \"memory\") 2) (func $f (drop (call $call)))"
    " (func (export \"_start\") (call $f)))";
static const char traps[] =
    "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $call (result i32)))"
    " (memory (export \"memory\") 2) (func $f (drop (call $call)) unreachable)"
    " (func (export \"_start\") (call $f)))";

static struct program *must_load(struct engine *engine, const char *directory, const char *path,
                                 const char *text) {
    struct program *program = NULL;
    struct buf message = {0};
    enum err err = text ? double_load_text(engine, directory, text, &program, &message)
                        : double_load(engine, directory, path, &program, &message);
    if (err) {
        fprintf(stderr, "%s\n", buf_text(&message));
        exit(1);
    }
    return program;
}

static void run_once(struct program *program) {
    struct double_run run = {0};
    const struct sandbox_options options = {.limits = {.memory_bytes = 256 * MIB},
                                            .wasi = &run.wasi};
    struct sandbox *sandbox;
    if (sandbox_new(program, &options, &sandbox, NULL)) {
        exit(1);
    }
    double_run_to_end(sandbox, &run, NULL);
    sandbox_free(sandbox);
    buf_done(&run.output);
}

static void measure(const char *what, struct program *program, unsigned runs, double divisor,
                    const char *unit) {
    for (unsigned i = 0; i < MIN(runs, 100u); i++) {
        run_once(program);
    }
    uint64_t best = UINT64_MAX, total = 0;
    for (unsigned round = 0; round < 5; round++) {
        uint64_t start = clock_monotonic_ns();
        for (unsigned i = 0; i < runs; i++) {
            run_once(program);
        }
        uint64_t took = clock_monotonic_ns() - start;
        best = MIN(best, took);
        total += took;
    }
    printf("%-28s %8.2f %s (mean %.2f)\n", what, (double)best / runs / divisor, unit,
           (double)total / 5 / runs / divisor);
}

static uint64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long total = 0, resident = 0;
    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2) {
        exit(1);
    }
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Guests that wait in their first host call that may wait. */
static void measure_waiting(struct program *program, unsigned count) {
    struct sandbox **sandboxes = calloc(count, sizeof(struct sandbox *));
    struct double_run *runs = calloc(count, sizeof(*runs));
    if (!sandboxes || !runs) {
        exit(1);
    }
    memset(runs, 0, count * sizeof(*runs));
    uint64_t before = resident_bytes(), start = clock_monotonic_ns();
    for (unsigned i = 0; i < count; i++) {
        const struct sandbox_options options = {.limits = {.memory_bytes = 256 * MIB},
                                                .wasi = &runs[i].wasi};
        struct buf message = {0};
        if (sandbox_new(program, &options, &sandboxes[i], &message)) {
            fprintf(stderr, "%u: %s\n", i, buf_text(&message));
            exit(1);
        }
        sandbox_step(sandboxes[i]);
    }
    uint64_t took = clock_monotonic_ns() - start;
    unsigned mappings = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    for (int c; maps && (c = getc(maps)) != EOF;) {
        mappings += c == '\n';
    }
    if (maps) {
        fclose(maps);
    }
    printf("%u waiting: %.1f KiB and %.1f us each, %.2f mappings each\n", count,
           (double)(resident_bytes() - before) / count / 1024, (double)took / count / 1000,
           (double)mappings / count);
    for (unsigned i = 0; i < count; i++) {
        sandbox_free(sandboxes[i]);
    }
    free(sandboxes);
    free(runs);
}

int main(int argc, char **argv) {
    int status;
    if (double_is_compiler(argc, argv, &status)) {
        return status;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: engine_bench MODULE [KEEP_RESIDENT_KIB [SANDBOXES]]\n");
        return 2;
    }
    const struct engine_options options = {
        .sandboxes_max = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1000,
        .memory_max_bytes = 4 * GIB,
        .keep_resident_bytes = (argc > 2 ? strtoul(argv[2], NULL, 10) : 256) * KIB};
    struct engine *engine;
    struct buf message = {0};
    char directory[] = "/tmp/engine-bench-XXXXXX";
    if (!mkdtemp(directory) || engine_new(&options, &engine, &message)) {
        fprintf(stderr, "%s\n", buf_text(&message));
        return 1;
    }
    struct program *program = must_load(engine, directory, argv[1], NULL);
    measure_waiting(program, MIN(options.sandboxes_max, 2000u));
    measure("the module", program, 2000, 1e3, "us a run");
    program_unref(program);
    static const struct {
        const char *what, *text;
        unsigned runs;
        double divisor;
        const char *unit;
    } rows[] = {
        {"one call, return", returns, 2000, 1e3, "us a run"},
        {"proc_exit", exits, 2000, 1e3, "us a run"},
        {"one call, trap", traps, 2000, 1e3, "us a run"},
        {"a call that may wait", loop_polled, 1, 1e6, "ns"},
        {"an immediate call", loop_immediate, 1, 1e6, "ns"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        program = must_load(engine, directory, NULL, rows[i].text);
        measure(rows[i].what, program, rows[i].runs, rows[i].divisor, rows[i].unit);
        program_unref(program);
    }
    engine_free(engine);
    return fsio_remove_tree(directory) ? 1 : 0;
}
