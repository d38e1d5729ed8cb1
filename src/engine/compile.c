/* Compiling in a child process: this program itself, started as `0asm compile-module IN OUT`.
 *
 * A compiler that reads hostile input may take long, take all memory, or crash; in a child all
 * three cost that child only. */
#include "base/clock.h"
#include "base/cores.h"
#include "base/fsio.h"
#include "base/sha256.h"
#include "engine/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ERRORS_BYTES_MAX = 2048 };

/* The sanitizers reserve more address space than any limit allows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_LIMITED 0
#else
#define MEMORY_IS_LIMITED 1
#endif

/* --- the child --- */

static int fail_child(const char *text) {
    fprintf(stderr, "%.*s\n", ERRORS_BYTES_MAX, text);
    return 1;
}

/* As binary: what begins with the magic number is, all else is taken for text. */
static bool is_binary(struct str module) {
    return module.length >= 4 && memcmp(module.data, "\0asm", 4) == 0;
}

static int fail_child_for(wasmtime_error_t *error) {
    cleanup_buf struct buf text = {0};
    engine_take_error(error, &text);
    return fail_child(buf_text(&text));
}

/* Code, and behind it the lines of its source. */
static int write_code(struct str module, const wasmtime_module_t *compiled, int output) {
    wasm_byte_vec_t code;
    wasmtime_error_t *error = wasmtime_module_serialize(compiled, &code);
    if (error) {
        return fail_child_for(error);
    }
    bool is_written = fsio_write_all(output, code.data, code.size) == 0;
    int reason = errno;
    wasm_byte_vec_delete(&code);
    if (!is_written) {
        return fail_child(strerror(reason));
    }
    cleanup_buf struct buf text = {0};
    if (lines_make(module, &text)) {
        buf_done(&text); /* backtraces will have no lines, that is all */
    }
    if (text.length > 0 && fsio_write_all(output, text.data, text.length)) {
        return fail_child(strerror(errno));
    }
    return 0;
}

static int compile(struct str module, int output) {
    wasm_engine_t *engine = wasm_engine_new_with_config(engine_config_new());
    wasmtime_module_t *compiled;
    wasmtime_error_t *error =
        wasmtime_module_new(engine, (const uint8_t *)module.data, module.length, &compiled);
    int status;
    if (error) {
        status = fail_child_for(error);
    } else {
        status = write_code(module, compiled, output);
        wasmtime_module_delete(compiled);
    }
    wasm_engine_delete(engine);
    return status;
}

/* A compilation is to be no burden for the programs that run meanwhile, nor to need more address
 * space the more processors there are. */
static void be_modest(void) {
    char threads[16];
    snprintf(threads, sizeof(threads), "%u", MIN(core_count(), 4U));
    setenv("RAYON_NUM_THREADS", threads, 1);
    unsetenv("RUST_BACKTRACE");
    mallopt(M_ARENA_MAX, 2);
    errno = 0;
    if (nice(10) == -1 && errno != 0) {
        errno = 0; /* then at the same priority */
    }
}

static int compile_to(struct str module, const char *compiled_path) {
    int output = open(compiled_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (output < 0) {
        return fail_child(strerror(errno));
    }
    int status = compile(module, output);
    if (close(output) != 0 && status == 0) {
        status = fail_child(strerror(errno));
    }
    return status;
}

#if defined(__SANITIZE_THREAD__)
/* The sanitizer sees half of what the compiler's threads do, and takes it for races. None of them
 * is reported (tools/tsan.supp), but to find that out takes minutes. It reads its options once. */
static void be_unwatched(const char *module_path, const char *compiled_path) {
    static const char unwatched[] = "report_bugs=0";
    const char *options = getenv("TSAN_OPTIONS");
    cleanup_buf struct buf text = {0};
    if ((options && strstr(options, unwatched)) ||
        buf_printf(&text, "%s:%s", options ? options : "", unwatched)) {
        return;
    }
    setenv("TSAN_OPTIONS", buf_text(&text), 1);
    execl("/proc/self/exe", "0asm", "compile-module", module_path, compiled_path, NULL);
}
#else
static void be_unwatched(const char *module_path, const char *compiled_path) {
    (void)module_path;
    (void)compiled_path;
}
#endif

int engine_compile_main(const char *module_path, const char *compiled_path) {
    be_unwatched(module_path, compiled_path);
    be_modest();
    cleanup_buf struct buf source = {0};
    enum err err = fsio_read_file(module_path, SIZE_MAX / 2, &source);
    if (err) {
        return fail_child(err_text(err));
    }
    struct str module = buf_str(&source);
    if (is_binary(module)) {
        return compile_to(module, compiled_path);
    }
    wasm_byte_vec_t binary;
    wasmtime_error_t *error = wasmtime_wat2wasm(module.data, module.length, &binary);
    if (error) {
        return fail_child_for(error);
    }
    int status = compile_to((struct str){binary.data, binary.size}, compiled_path);
    wasm_byte_vec_delete(&binary);
    return status;
}

/* --- the parent --- */

static const char *compiler_path = "/proc/self/exe";

void engine_set_compiler_path(const char *path) {
    compiler_path = path;
}

/* One compilation. The op, the child and the worker each hold a reference; an op that is given up
 * leaves the others to end by themselves. */
struct compilation {
    struct loop_work work;
    unsigned references; /* the loop's thread */
    struct engine *engine;
    struct op *op; /* NULL after it was given up */
    bool counted;  /* one of engine->compiling */
    bool finished;
    struct loop_process *process; /* NULL unless the child runs */
    int errors;                   /* a memory file: the child's standard error */
    struct buf module_path, compiled_path, temporary_path;
    struct compile_limits limits;
    /* the outcome */
    enum err result;
    uint8_t sha256[SHA256_SIZE];
    struct buf message;
};

static void compilation_unref(struct compilation *compilation) {
    if (--compilation->references > 0) {
        return;
    }
    if (compilation->errors >= 0) {
        close(compilation->errors);
    }
    buf_done(&compilation->module_path);
    buf_done(&compilation->compiled_path);
    buf_done(&compilation->temporary_path);
    buf_done(&compilation->message);
    free(compilation);
}

/* Lets the next one begin. */
static void give_up_turn(struct compilation *compilation) {
    if (!compilation->counted) {
        return;
    }
    struct engine *engine = compilation->engine;
    compilation->counted = false;
    pthread_mutex_lock(&engine->compile_mutex);
    engine->compiling--;
    pthread_mutex_unlock(&engine->compile_mutex);
    op_queue_wake_all(&engine->compile_waiters);
}

bool engine_is_compiling(struct engine *engine) {
    pthread_mutex_lock(&engine->compile_mutex);
    bool is_compiling = engine->compiling > 0;
    pthread_mutex_unlock(&engine->compile_mutex);
    return is_compiling;
}

static void drop_state(struct op *op) {
    struct compilation *compilation = op->state;
    compilation->op = NULL;
    if (compilation->process) {
        loop_process_kill(compilation->process);
    }
    compilation_unref(compilation);
}

/* Worker: publishes the compiled file, or removes what is left of it. */
static void finish_files(struct loop_work *work) {
    struct compilation *compilation = CONTAINER_OF(work, struct compilation, work);
    const char *temporary = buf_text(&compilation->temporary_path);
    const char *path = buf_text(&compilation->compiled_path);
    enum err err = compilation->result;
    if (!err) {
        int descriptor = open(temporary, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (descriptor < 0) {
            err = err_from_errno(errno);
        } else {
            err = sha256_of_descriptor(descriptor, compilation->sha256);
            if (!err && fsync(descriptor) != 0) {
                err = err_from_errno(errno);
            }
            close(descriptor);
        }
        if (!err && rename(temporary, path) != 0) {
            err = err_from_errno(errno);
        }
        if (!err) {
            const char *slash = strrchr(path, '/');
            cleanup_buf struct buf directory = {0};
            err = slash ? buf_append(&directory, path, (size_t)(slash - path) + (slash == path))
                        : buf_append_str(&directory, STR("."));
            err = err ? err : fsio_sync_directory(buf_text(&directory));
        }
        if (err) {
            err = buf_fail(&compilation->message, err, "compiled code can't be written: %s",
                           err_text(err));
        }
    }
    if (err) {
        unlink(temporary);
    }
    compilation->result = err;
}

static void files_finished(struct loop_work *work) {
    struct compilation *compilation = CONTAINER_OF(work, struct compilation, work);
    compilation->finished = true;
    give_up_turn(compilation);
    if (compilation->op) {
        op_wake(compilation->op);
    }
    compilation_unref(compilation);
}

static void judge(struct compilation *compilation, int exit_status, int signal_number,
                  bool timed_out) {
    const struct compile_limits *limits = &compilation->limits;
    struct buf *message = &compilation->message;
    char errors[ERRORS_BYTES_MAX + 1];
    ssize_t length = pread(compilation->errors, errors, sizeof(errors) - 1, 0);
    errors[MAX(length, 0)] = 0;
    while (length > 0 && errors[length - 1] == '\n') {
        errors[--length] = 0;
    }
    if (timed_out) {
        compilation->result = buf_fail(message, ERR_2BIG, "compiling took longer than %llu s",
                                       (unsigned long long)(limits->wall_ns / NS_PER_S));
    } else if (signal_number == SIGXCPU || (signal_number == SIGKILL && limits->cpu_seconds)) {
        compilation->result =
            buf_fail(message, ERR_2BIG, "compiling took more than %llu s of processor time",
                     (unsigned long long)limits->cpu_seconds);
    } else if (signal_number != 0 &&
               (strstr(errors, "memory allocation") || strstr(errors, "Cannot allocate memory"))) {
        compilation->result = buf_fail(message, ERR_2BIG, "compiling took more than %llu MiB",
                                       (unsigned long long)(limits->memory_bytes / MIB));
    } else if (signal_number != 0) {
        compilation->result =
            buf_fail(message, ERR_NOEXEC, "the compiler failed at this module (signal %d)%s%s",
                     signal_number, errors[0] ? ": " : "", errors);
    } else if (exit_status != 0) {
        compilation->result =
            buf_fail(message, ERR_NOEXEC, "%s", errors[0] ? errors : "the compiler refused it");
    }
}

static void child_exited(void *argument, int exit_status, int signal_number, bool timed_out) {
    struct compilation *compilation = argument;
    compilation->process = NULL;
    compilation->result = ERR_OK;
    if (!compilation->op) {
        compilation->result = ERR_CANCELED;
    } else {
        judge(compilation, exit_status, signal_number, timed_out);
    }
    /* The child's reference becomes the worker's. */
    compilation->work.run = finish_files;
    compilation->work.done = files_finished;
    enum err err = loop_work_start(compilation->work.loop, &compilation->work);
    if (err) {
        compilation->result = err;
        unlink(buf_text(&compilation->temporary_path));
        files_finished(&compilation->work);
    }
}

static enum err start_child(struct compilation *compilation) {
    compilation->errors = memfd_create("compiler-errors", MFD_CLOEXEC);
    if (compilation->errors < 0) {
        return err_from_errno(errno);
    }
    const char *const arguments[] = {compiler_path, "compile-module",
                                     buf_text(&compilation->module_path),
                                     buf_text(&compilation->temporary_path), NULL};
    const struct loop_process_options options = {
        .arguments = arguments,
        .memory_bytes = MEMORY_IS_LIMITED ? compilation->limits.memory_bytes : 0,
        .cpu_seconds = compilation->limits.cpu_seconds,
        .wall_ns = compilation->limits.wall_ns,
        .error_descriptor = compilation->errors,
        .exited = child_exited,
        .argument = compilation,
    };
    compilation->references++;
    enum err err = loop_process_start(compilation->work.loop, &options, &compilation->process);
    if (err) {
        compilation->references--;
    }
    return err;
}

static enum err compilation_new(struct engine *engine, struct op *op,
                                const struct compile_limits *limits, struct str module_path,
                                struct str compiled_path) {
    struct compilation *compilation = calloc(1, sizeof(*compilation));
    if (!compilation) {
        return ERR_NOMEM;
    }
    compilation->references = 1;
    compilation->engine = engine;
    compilation->op = op;
    compilation->errors = -1;
    compilation->limits = *limits;
    compilation->work.loop = op->loop;
    uint64_t number;
    random_bytes(&number, sizeof(number));
    enum err err = buf_append_str(&compilation->module_path, module_path);
    err = err ? err : buf_append_str(&compilation->compiled_path, compiled_path);
    err = err ? err
              : buf_printf(&compilation->temporary_path, STR_FORMAT ".tmp-%016llx",
                           STR_ARGS(compiled_path), (unsigned long long)number);
    if (err) {
        compilation_unref(compilation);
        return err;
    }
    op_set_state(op, compilation, drop_state);
    return ERR_OK;
}

static bool take_turn(struct compilation *compilation) {
    struct engine *engine = compilation->engine;
    pthread_mutex_lock(&engine->compile_mutex);
    if (engine->compiling < MAX(compilation->limits.at_once, 1u)) {
        engine->compiling++;
        compilation->counted = true;
    }
    pthread_mutex_unlock(&engine->compile_mutex);
    return compilation->counted;
}

enum err engine_compile(struct engine *engine, struct op *op, const struct compile_limits *limits,
                        struct str module_path, struct str compiled_path, uint8_t ret_sha256[32],
                        struct buf *message) {
    if (!op->state) {
        enum err err = compilation_new(engine, op, limits, module_path, compiled_path);
        if (err) {
            return buf_fail(message, err, "%s", err_text(err));
        }
    }
    struct compilation *compilation = op->state;
    if (!compilation->finished && !compilation->counted) {
        /* Waiting first: a turn that becomes free in between must not be missed. */
        enum err err = op_queue_wait(&engine->compile_waiters, op);
        if (!err && !take_turn(compilation)) {
            return ERR_PENDING;
        }
        err = err ? err : start_child(compilation);
        if (err) {
            give_up_turn(compilation);
            return op_finish(
                op, buf_fail(message, err, "the compiler can't be started: %s", err_text(err)));
        }
    }
    if (!compilation->finished) {
        return ERR_PENDING;
    }
    enum err result = compilation->result;
    if (result) {
        buf_fail(message, result, "%s",
                 compilation->message.length ? buf_text(&compilation->message) : err_text(result));
    } else {
        memcpy(ret_sha256, compilation->sha256, SHA256_SIZE);
    }
    return op_finish(op, result);
}
