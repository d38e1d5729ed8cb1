/* For tests and benchmarks of the engine: a WASI of a few functions in place of src/wasi, and ways
 * to make programs. Included by one file a program: it defines the functions of wasi/wasi.h. */
#pragma once

#include "base/fsio.h"
#include "base/sha256.h"
#include "engine/engine.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the double of a run remembers. */
struct double_run {
    struct wasi wasi; /* first */
    struct buf output;
    unsigned pending_before_read; /* fd_read is PENDING that often, then at its end */
    unsigned steps;               /* of polled calls */
};

static uint8_t *double_memory(struct wasi *wasi, uint32_t offset, uint32_t length) {
    size_t size;
    uint8_t *memory = wasi->guest->memory(wasi->guest, &size);
    return offset <= size && length <= size - offset ? memory + offset : NULL;
}

static enum err double_zero_two(struct wasi *wasi, const uint64_t *arguments) {
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *data = double_memory(wasi, (uint32_t)arguments[i], 4);
        if (!data) {
            return ERR_FAULT;
        }
        memset(data, 0, 4);
    }
    return ERR_OK;
}

static enum err double_ok(struct wasi *wasi, const uint64_t *arguments) {
    (void)wasi;
    (void)arguments;
    return ERR_OK;
}

static enum err double_bad(struct wasi *wasi, const uint64_t *arguments) {
    (void)wasi;
    (void)arguments;
    return ERR_BADF;
}

static enum err double_clock(struct wasi *wasi, const uint64_t *arguments) {
    uint8_t *data = double_memory(wasi, (uint32_t)arguments[2], 8);
    if (!data) {
        return ERR_FAULT;
    }
    uint64_t time = arguments[0] + arguments[1]; /* shows that the arguments arrive */
    memcpy(data, &time, sizeof(time));
    return ERR_OK;
}

static enum err double_fdstat(struct wasi *wasi, const uint64_t *arguments) {
    uint8_t *data = double_memory(wasi, (uint32_t)arguments[1], 24);
    if (!data) {
        return ERR_FAULT;
    }
    memset(data, 0, 24);
    data[0] = 2; /* a character device */
    memset(data + 8, 0xff, 8);
    return ERR_OK;
}

static enum err double_write(struct wasi *wasi, const uint64_t *arguments) {
    struct double_run *run = (struct double_run *)wasi;
    uint32_t total = 0;
    for (uint32_t i = 0; i < (uint32_t)arguments[2]; i++) {
        uint32_t vector[2];
        uint8_t *data = double_memory(wasi, (uint32_t)arguments[1] + 8 * i, sizeof(vector));
        if (!data) {
            return ERR_FAULT;
        }
        memcpy(vector, data, sizeof(vector));
        data = double_memory(wasi, vector[0], vector[1]);
        if (!data || buf_append(&run->output, data, vector[1])) {
            return ERR_FAULT;
        }
        total += vector[1];
    }
    uint8_t *count = double_memory(wasi, (uint32_t)arguments[3], 4);
    if (!count) {
        return ERR_FAULT;
    }
    memcpy(count, &total, sizeof(total));
    return ERR_OK;
}

static enum err double_read(struct wasi *wasi, const uint64_t *arguments) {
    struct double_run *run = (struct double_run *)wasi;
    if (run->pending_before_read > 0) {
        run->pending_before_read--;
        return ERR_PENDING;
    }
    uint8_t *count = double_memory(wasi, (uint32_t)arguments[3], 4);
    if (!count) {
        return ERR_FAULT;
    }
    memset(count, 0, 4);
    return ERR_OK;
}

static enum err double_exit(struct wasi *wasi, const uint64_t *arguments) {
    wasi->exit_status = (int32_t)(uint32_t)arguments[0];
    return ERR_EXIT;
}

#define DOUBLE(name_, parameters_, kind_, run_)                                                    \
    {                                                                                              \
        .name = #name_, .parameters = parameters_, .has_result = true, .in_unstable = true,        \
        .kind = kind_, .run = run_                                                                 \
    }
#define NOTHING                                                                                    \
    { .name = "", .parameters = "" }
const struct wasi_function wasi_functions[WASI_FUNCTION_COUNT] = {
    DOUBLE(args_get, "ii", WASI_IMMEDIATE, double_ok),
    DOUBLE(args_sizes_get, "ii", WASI_IMMEDIATE, double_zero_two),
    DOUBLE(environ_get, "ii", WASI_IMMEDIATE, double_ok),
    DOUBLE(environ_sizes_get, "ii", WASI_IMMEDIATE, double_zero_two),
    DOUBLE(clock_time_get, "iIi", WASI_IMMEDIATE, double_clock),
    DOUBLE(fd_close, "i", WASI_POLLED, double_ok),
    DOUBLE(fd_fdstat_get, "ii", WASI_IMMEDIATE, double_fdstat),
    DOUBLE(fd_prestat_get, "ii", WASI_IMMEDIATE, double_bad),
    DOUBLE(fd_prestat_dir_name, "iii", WASI_IMMEDIATE, double_bad),
    DOUBLE(fd_read, "iiii", WASI_POLLED, double_read),
    DOUBLE(fd_write, "iiii", WASI_POLLED, double_write),
    DOUBLE(sched_yield, "", WASI_POLLED, double_ok),
    {.name = "fd_seek",
     .parameters = "iIii",
     .has_result = true,
     .in_unstable = false,
     .kind = WASI_POLLED,
     .run = double_bad},
    {.name = "proc_exit",
     .parameters = "i",
     .has_result = false,
     .in_unstable = true,
     .kind = WASI_POLLED,
     .run = double_exit},
    [14] = NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
};

enum err wasi_call_immediate(struct wasi *wasi, const struct wasi_function *function,
                             const uint64_t *arguments) {
    return function->run(wasi, arguments);
}

void wasi_call_begin(struct wasi *wasi, const struct wasi_function *function,
                     const uint64_t *arguments) {
    wasi->pending = function;
    memcpy(wasi->pending_arguments, arguments, strlen(function->parameters) * sizeof(*arguments));
}

enum err wasi_call_step(struct wasi *wasi) {
    ((struct double_run *)wasi)->steps++;
    enum err err = wasi->pending->run(wasi, wasi->pending_arguments);
    if (err != ERR_PENDING) {
        wasi->pending = NULL;
    }
    return err;
}

/* cmocka puts its own handlers of fatal signals in place of the engine's, which it needs for traps:
 * keep them after engine_new, and put them back at the beginning of every test. */
static const int double_signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
static struct sigaction double_handlers[ARRAY_LENGTH(double_signals)];
static inline void double_keep_handlers(void) {
    for (size_t i = 0; i < ARRAY_LENGTH(double_signals); i++) {
        sigaction(double_signals[i], NULL, &double_handlers[i]);
    }
}
static inline void double_restore_handlers(void) {
    for (size_t i = 0; i < ARRAY_LENGTH(double_signals); i++) {
        sigaction(double_signals[i], &double_handlers[i], NULL);
    }
}

/* Runs a sandbox to its end; `ret_yields` may be NULL. */
static inline enum sandbox_state double_run_to_end(struct sandbox *sandbox, struct double_run *run,
                                                   unsigned *ret_yields) {
    for (;;) {
        enum sandbox_state state = sandbox_step(sandbox, true);
        if (state == SANDBOX_CALLING) {
            enum err err;
            while ((err = wasi_call_step(&run->wasi)) == ERR_PENDING) {
            }
            sandbox_finish_call(sandbox, err);
        } else if (state == SANDBOX_YIELDED) {
            if (ret_yields) {
                (*ret_yields)++;
            }
        } else {
            return state;
        }
    }
}

/* The program is its own compiler: its main begins with this. True if it was started as that. */
static inline bool double_is_compiler(int argc, char **argv, int *ret_status) {
    if (argc != 4 || strcmp(argv[1], "compile-module") != 0) {
        return false;
    }
    *ret_status = engine_compile_main(argv[2], argv[3]);
    return true;
}

/* Compiles in a child; true if it could. */
static inline bool double_compile(const char *module_path, const char *compiled_path) {
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "compiler", "compile-module", module_path, compiled_path,
              (char *)NULL);
        _exit(127);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* Compiles a file and loads it. */
static inline enum err double_load(struct engine *engine, const char *directory,
                                   const char *module_path, struct program **ret_program,
                                   struct buf *message) {
    char path[256];
    snprintf(path, sizeof(path), "%s/compiled", directory);
    uint8_t hash[SHA256_SIZE];
    if (!double_compile(module_path, path)) {
        return buf_fail(message, ERR_NOEXEC, "does not compile");
    }
    enum err err = sha256_of_file(path, hash);
    return err ? err : program_load(engine, path, hash, ret_program, message);
}

/* The same from the text of a module. */
static inline enum err double_load_text(struct engine *engine, const char *directory,
                                        const char *text, struct program **ret_program,
                                        struct buf *message) {
    char path[256];
    snprintf(path, sizeof(path), "%s/module.wat", directory);
    enum err err = fsio_replace_file(path, text, strlen(text));
    return err ? err : double_load(engine, directory, path, ret_program, message);
}
