/* The engine: compiling, caching, and running WebAssembly with Wasmtime. Its only user.
 *
 * Life of a program: engine_inspect (refusals with the cure) → engine_compile (a child process with
 * limits writes the compiled file) → program_load (maps it; checked by its hash) → sandbox_new for
 * each run, which takes microseconds.
 *
 * Threads: struct engine and struct program are shared by all loops; a sandbox belongs to the loop
 * of its run, and may change threads between two steps. Layer: wasi. */
#pragma once

#include "base/buf.h"
#include "wasi/wasi.h"

struct engine;
struct program;
struct sandbox;

struct engine_options {
    uint32_t sandboxes_max;       /* slots of the pool: sandboxes that exist at once */
    uint64_t memory_max_bytes;    /* of one guest, at most 4 GiB */
    uint64_t keep_resident_bytes; /* of a slot's memory that stays resident after a run */
    uint64_t tick_ns;             /* of the epoch; 0 = 1 ms. Four times as long
                                     while no sandbox computes that long */
};
/* Starts the ticker, a thread that sleeps while no sandbox runs. Makes the handlers of SIGSEGV,
 * SIGILL, SIGFPE and SIGBUS the engine's: nobody may change them afterwards. INVAL, or NOMEM where
 * the machine lacks address space or memory mappings for so many sandboxes; `message` says which
 * setting helps. */
MUST_USE enum err engine_new(const struct engine_options *options, struct engine **ret_engine,
                             struct buf *message);
void engine_free(struct engine *engine);
/* One tick: what the ticker does now and then, and tests do when they like. Any thread. */
void engine_tick(struct engine *engine);
/* Whether a compiler still runs, also one that was given up and has been killed: then the engine
 * can't be freed yet. Any thread. */
bool engine_is_compiling(struct engine *engine);
/* Identifies everything that decides what compiled code looks like (engine version, settings,
 * target): the directory name of the cache. Static for the process. Needs no struct engine. */
const char *engine_key(void);

/* What an uploaded file is, found without compiling it. */
enum module_kind { MODULE_COMMAND, MODULE_LIBRARY }; /* has _start, or other exported functions */
struct module_report {
    enum module_kind kind;
    uint32_t unknown_imports; /* functions that become traps */
    struct buf unknown_names; /* the first ones, "module.name", one a line */
    struct buf exports;       /* MODULE_LIBRARY: "name(i32 i32) -> i32", one a line */
    uint64_t memory_minimum_bytes;
};
void module_report_done(struct module_report *report);
/* Checks an upload by its structure: header, sections, imports, exports, declared memory and
 * tables. NOEXEC with a sentence that says what it is instead and how to get it right (a component,
 * wasm-bindgen, wasip2, an ELF file, a gzip, HTML, a truncated module); 2BIG where a limit is
 * exceeded. Linear in the size, never allocates what the module declares. Thread: any (a worker).
 */
MUST_USE enum err engine_inspect(struct str module, uint64_t memory_max_bytes,
                                 struct module_report *ret_report, struct buf *message);

/* Compiling is done by this program itself as a child process: `0asm compile-module IN OUT`. Main
 * calls this for that command; it prints the reason of a failure on standard error and returns the
 * exit status. IN may be text (`(module`). Behind the code it writes the table of source lines (see
 * lines.h). Lowers its own priority: the process should do nothing else afterwards. */
int engine_compile_main(const char *module_path, const char *compiled_path);

struct compile_limits {
    uint64_t memory_bytes, cpu_seconds, wall_ns;
    unsigned at_once; /* children; more wait in a queue */
};
/* Polled. Compiles `module_path` into `compiled_path` (written as a temporary file, synced,
 * renamed) and hashes it. A refusal by the compiler is NOEXEC with its message; a limit is 2BIG
 * (the message says which). Abandoning the op kills the child. Several at once but bounded: the
 * rest wait. */
MUST_USE enum err engine_compile(struct engine *engine, struct op *op,
                                 const struct compile_limits *limits, struct str module_path,
                                 struct str compiled_path, uint8_t ret_sha256[32],
                                 struct buf *message);
/* The path of the executable to start as the compiler; /proc/self/exe unless a test sets it. */
void engine_set_compiler_path(const char *path);

/* Maps compiled code. STALE if the file is missing, altered (its hash differs from `sha256`), or of
 * another engine: compile again. 2BIG if it needs more than a sandbox has (tables, globals), NOEXEC
 * if its imports can't be linked. The file is mapped, not copied: replace it by renaming, never
 * write into it. Blocking: call it on a worker. */
MUST_USE enum err program_load(struct engine *engine, const char *compiled_path,
                               const uint8_t sha256[32], struct program **ret_program,
                               struct buf *message);
struct program *program_ref(struct program *program);
void program_unref(struct program *program);

struct sandbox_limits {
    uint64_t memory_bytes; /* linear memory; growing beyond fails (memory.grow gives -1) */
};
enum sandbox_state {
    SANDBOX_YIELDED,  /* the epoch ended its turn: call sandbox_step again when others had theirs */
    SANDBOX_CALLING,  /* a host call waits: drive wasi_call_step, then sandbox_finish_call */
    SANDBOX_RETURNED, /* _start returned, or proc_exit was called: wasi->exit_status */
    SANDBOX_TRAPPED,  /* sandbox_failure says why */
};
/* `call` names the exported function to call in place of `_start` (with its arguments as text), or
 * has length 0. Errors: NOMEM (no slot is free, or the machine's memory is), NOENT (no such
 * export), INVAL (arguments do not fit it), 2BIG (the module's own minimum is over
 * limits->memory_bytes). `wasi` is borrowed and must outlive the sandbox, which sets wasi->guest to
 * its own memory. */
struct sandbox_options {
    struct sandbox_limits limits;
    struct wasi *wasi;
    struct str call;
    const struct str *call_arguments;
    size_t call_argument_count;
};
MUST_USE enum err sandbox_new(struct program *program, const struct sandbox_options *options,
                              struct sandbox **ret_sandbox, struct buf *message);
/* Deletes the pending call (unwinding its fiber) and then the store. Pages of a stack deeper than
 * 64 KiB are given back to the system. Accepts NULL. */
void sandbox_free(struct sandbox *sandbox);
/* Runs the guest until it yields, calls, returns or traps. `is_in_the_way`: others wait for the
 * end of this turn; while there are such guests who use theirs up, turns are a tick long, else a
 * few. */
enum sandbox_state sandbox_step(struct sandbox *sandbox, bool is_in_the_way);
/* The result of the host call that SANDBOX_CALLING reported. With ERR_EXIT the next step returns
 * SANDBOX_RETURNED. */
void sandbox_finish_call(struct sandbox *sandbox, enum err result);
uint64_t sandbox_memory_bytes(const struct sandbox *sandbox); /* now */
uint64_t sandbox_memory_peak_bytes(const struct sandbox *sandbox);
/* Whether a failure is probably one of memory. The engine does not tell when it refuses a growth,
 * so this looks at what is left below the limit: less than an eighth of what is used (at least 1,
 * at most 64 MiB). A guest that has asked for much more at once than is left is not recognised. */
bool sandbox_memory_was_refused(const struct sandbox *sandbox);
/* After SANDBOX_TRAPPED: the reason and the guest's backtrace, several lines, appended. */
void sandbox_failure(const struct sandbox *sandbox, struct buf *text);
/* After SANDBOX_TRAPPED: a core dump, in two steps because its memory may be large. The first, on
 * the run's loop, collects all but the memory, which is borrowed from the sandbox; the second
 * writes it: on any thread (a worker), as long as the sandbox is there. 2BIG: it would have more
 * than `bytes_max` (2 GiB at most); then, or where writing fails, the file has half of it. `name`
 * is that of the program. NOMEM. */
struct sandbox_core {
    struct buf head;
    const uint8_t *memory;
    uint64_t memory_bytes;
};
MUST_USE enum err sandbox_core(struct sandbox *sandbox, struct str name,
                               struct sandbox_core *ret_core);
MUST_USE enum err sandbox_core_write(const struct sandbox_core *core, int descriptor,
                                     uint64_t bytes_max, uint64_t *ret_bytes);
void sandbox_core_done(struct sandbox_core *core);
/* After SANDBOX_RETURNED of a `call`: the results as text, one line ("5\n"), appended. */
void sandbox_results(const struct sandbox *sandbox, struct buf *text);
