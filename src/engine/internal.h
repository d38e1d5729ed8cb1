/* What the files of src/engine share. Nobody else includes it. */
#pragma once

#include "base/list.h"
#include "engine/engine.h"
#include "engine/lines.h"

#include <pthread.h>
#include <stdatomic.h>
#include <wasm.h>
#include <wasmtime.h>

enum {
    ASYNC_STACK_BYTES = 2 << 20,     /* a fiber's stack */
    WASM_STACK_BYTES = 512 << 10,    /* of it the guest's; the rest is for the host */
    STACK_RESIDENT_BYTES = 64 << 10, /* deeper pages of a stack are given back after a run */
    TABLE_ELEMENTS_MAX = 128 << 10,  /* of each table; CPython has about 10,000 */
    TABLES_MAX = 4,                  /* a module */
    WAT_BYTES_MAX = 1 << 20,         /* text modules are for experiments */
};
/* The compiled code relies on these (it omits bounds checks): part of engine_key. */
#define MEMORY_RESERVATION_BYTES (4 * GIB)
#define MEMORY_GUARD_BYTES (32 * MIB)

struct engine {
    wasm_engine_t *wasm;
    uint64_t memory_max_bytes;

    /* The ticker: advances the epoch while sandboxes run, sleeps while none does. */
    pthread_t ticker;
    bool ticker_started;
    uint64_t tick_ns;
    _Atomic uint64_t ticks;        /* of the epoch so far */
    _Atomic uint32_t overruns;     /* turns that a tick ended, of sandboxes that had such before */
    _Atomic uint32_t running;      /* sandboxes inside sandbox_step */
    _Atomic uint32_t ticker_state; /* enum ticker_state; a futex */

    /* Any one fiber stack's lowest address, from which all others follow; 0 = unknown. */
    uintptr_t stack_anchor;
    uintptr_t stack_stride;
    uint64_t stack_mark; /* random: fills the page below what stays resident of a stack */

    /* Compilations under way, those that wait, and what guards the number. */
    pthread_mutex_t compile_mutex;
    unsigned compiling;
    struct op_queue compile_waiters;
};

/* The settings that decide what compiled code looks like: the same for compiling and loading. Owned
 * by the caller (wasm_engine_new_with_config takes it). */
wasm_config_t *engine_config_new(void);

/* Appends what the engine says about a failure, without a NUL, and deletes the error. */
void engine_take_error(wasmtime_error_t *error, struct buf *text);

/* `running` goes up and down with these; the ticker wakes for the first. Thread: any. */
void engine_enter(struct engine *engine);
void engine_leave(struct engine *engine);

struct program {
    _Atomic unsigned references;
    struct engine *engine; /* borrowed: outlives its programs */
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *instance_pre;
    wasm_exporttype_vec_t exports;
    bool has_exports; /* `exports` is valid */
    bool has_start;   /* _start and _initialize, without parameters and results */
    bool has_initialize;
    const uint8_t *lines_data; /* the file's pages that hold `lines`; mapped, owned */
    size_t lines_length;
    struct lines lines; /* where the code came from; empty without debug information */
};

/* The type of an exported function (the program's), NULL if there is none of that name. */
const wasm_functype_t *program_export(const struct program *program, struct str name);

/* Defines every function that the module imports: WASI's as they are, all others as traps. */
MUST_USE enum err hostcalls_define(struct engine *engine, wasmtime_linker_t *linker,
                                   const wasmtime_module_t *module, struct buf *message);

/* The WASI function behind an import's names, NULL if there is none. Its signature is the caller's
 * to compare. */
const struct wasi_function *hostcalls_find(struct str module, struct str name);

enum sandbox_phase {
    PHASE_INSTANTIATE, /* runs the module's start function, if it has one */
    PHASE_INITIALIZE,  /* _initialize of a library */
    PHASE_CALL,
    PHASE_ENDED,
};
enum { CALL_VALUES_MAX = 16 }; /* parameters and results of a `call` */

/* Apart from the sandbox, because only a `call` needs them and they are most of its size. */
struct call_values {
    wasmtime_val_t arguments[CALL_VALUES_MAX];
    wasmtime_val_t results[CALL_VALUES_MAX];
};

struct sandbox {
    struct guest guest;
    struct program *program; /* a reference */
    struct wasi *wasi;       /* borrowed */
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_call_future_t *future; /* of the phase */
    wasm_trap_t *trap;
    wasmtime_error_t *error;
    enum sandbox_phase phase;
    enum sandbox_state ended; /* in PHASE_ENDED */
    bool has_yielded;         /* ever */
    uint64_t memory_limit_bytes;

    /* The host call under way. The pointers stay valid until its continuation is done. */
    bool calling;
    bool call_finished;
    enum err call_result;
    bool call_has_result;
    wasmtime_val_t *call_results;

    bool has_memory; /* `memory` is known */
    wasmtime_memory_t memory;
    wasmtime_instance_t instance;
    wasmtime_func_t function;
    uintptr_t stack_address; /* somewhere in the fiber's stack; 0 = not known yet */

    /* A `call` in place of _start. */
    struct buf call_name;
    uint8_t argument_count, result_count;
    struct call_values *values; /* owned; NULL for _start */
};

/* The memory that the module exports; `guest` has it from now on. */
void sandbox_set_memory(struct sandbox *sandbox, const wasmtime_memory_t *memory);

/* Checks options->call and its arguments against the program and stores them. Errors as sandbox_new
 * has them. */
MUST_USE enum err call_prepare(struct sandbox *sandbox, const struct sandbox_options *options,
                               struct buf *message);
