#include "base/log.h"
#include "engine/internal.h"

#include <sys/mman.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>

/* Of the sanitizer's, in no header. */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif

/* --- the guest's memory --- */

/* The engine's pool hands a memory from one thread to the next under locks of its own, which the
 * thread sanitizer does not see. It is told, so that what it reports is real: a write of ours to a
 * memory that was given back is, what the engine clears there is not. */
static void memory_taken(struct sandbox *sandbox) {
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(wasmtime_memory_data(sandbox->context, &sandbox->memory));
#else
    (void)sandbox;
#endif
}

static void delete_store(struct sandbox *sandbox) {
#ifdef __SANITIZE_THREAD__
    if (sandbox->has_memory) {
        __tsan_release(wasmtime_memory_data(sandbox->context, &sandbox->memory));
    }
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    wasmtime_store_delete(sandbox->store);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#else
    wasmtime_store_delete(sandbox->store);
#endif
}

void sandbox_set_memory(struct sandbox *sandbox, const wasmtime_memory_t *memory) {
    sandbox->memory = *memory;
    sandbox->has_memory = true;
    memory_taken(sandbox);
}

static void find_memory(struct sandbox *sandbox) {
    wasmtime_extern_t item;
    if (!sandbox->has_memory &&
        wasmtime_instance_export_get(sandbox->context, &sandbox->instance, "memory", 6, &item) &&
        item.kind == WASMTIME_EXTERN_MEMORY) {
        sandbox_set_memory(sandbox, &item.of.memory);
    }
}

static uint8_t *guest_memory(struct guest *guest, size_t *ret_length_bytes) {
    struct sandbox *sandbox = CONTAINER_OF(guest, struct sandbox, guest);
    if (!sandbox->has_memory) {
        *ret_length_bytes = 0;
        return NULL;
    }
    *ret_length_bytes = wasmtime_memory_data_size(sandbox->context, &sandbox->memory);
    return wasmtime_memory_data(sandbox->context, &sandbox->memory);
}

uint64_t sandbox_memory_bytes(const struct sandbox *sandbox) {
    return sandbox->has_memory ? wasmtime_memory_data_size(sandbox->context, &sandbox->memory) : 0;
}

uint64_t sandbox_memory_peak_bytes(const struct sandbox *sandbox) {
    return sandbox_memory_bytes(sandbox); /* a memory never shrinks */
}

bool sandbox_memory_was_refused(const struct sandbox *sandbox) {
    uint64_t used = sandbox_memory_bytes(sandbox);
    uint64_t left = sandbox->memory_limit_bytes > used ? sandbox->memory_limit_bytes - used : 0;
    return used > 0 && left < MAX(MIB, MIN(used / 8, 64 * MIB));
}

/* --- phases --- */

static void end(struct sandbox *sandbox, enum sandbox_state state) {
    sandbox->phase = PHASE_ENDED;
    sandbox->ended = state;
}

static void call_function(struct sandbox *sandbox, enum sandbox_phase phase, struct str name,
                          size_t argument_count, size_t result_count) {
    wasmtime_extern_t item;
    bool found = wasmtime_instance_export_get(sandbox->context, &sandbox->instance, name.data,
                                              name.length, &item);
    /* The program's exports were looked at before. */
    INVARIANT(found && item.kind == WASMTIME_EXTERN_FUNC);
    sandbox->function = item.of.func;
    sandbox->phase = phase;
    struct call_values *values = sandbox->values;
    sandbox->future = wasmtime_func_call_async(
        sandbox->context, &sandbox->function, values ? values->arguments : NULL, argument_count,
        values ? values->results : NULL, result_count, &sandbox->trap, &sandbox->error);
}

/* The future of the phase is done: goes on to the next. */
static void advance(struct sandbox *sandbox) {
    wasmtime_call_future_delete(sandbox->future);
    sandbox->future = NULL;
    if (sandbox->trap || sandbox->error) {
        end(sandbox, SANDBOX_TRAPPED);
        return;
    }
    bool is_call = sandbox->call_name.length > 0;
    switch (sandbox->phase) {
    case PHASE_INSTANTIATE:
        find_memory(sandbox);
        if (is_call && sandbox->program->has_initialize) {
            call_function(sandbox, PHASE_INITIALIZE, STR("_initialize"), 0, 0);
            return;
        }
        /* fall through */
    case PHASE_INITIALIZE:
        if (is_call) {
            call_function(sandbox, PHASE_CALL, buf_str(&sandbox->call_name),
                          sandbox->argument_count, sandbox->result_count);
        } else {
            call_function(sandbox, PHASE_CALL, STR("_start"), 0, 0);
        }
        return;
    case PHASE_CALL:
    case PHASE_ENDED:
        end(sandbox, SANDBOX_RETURNED);
    }
}

/* Polls the future once. False if the guest is not done with it: *ret_state says why. */
static bool poll_phase(struct sandbox *sandbox, bool is_in_the_way, enum sandbox_state *ret_state) {
    struct engine *engine = sandbox->program->engine;
    for (;;) {
        uint64_t ticks = atomic_load_explicit(&engine->ticks, memory_order_relaxed);
        if (wasmtime_call_future_poll(sandbox->future)) {
            return true;
        }
        if (sandbox->calling) {
            *ret_state = SANDBOX_CALLING;
            return false;
        }
        /* A guest that waited for longer than a tick finds its deadline behind it. That is no turn
         * that it has had: unless the epoch has advanced just now, it goes on. */
        if (ticks != atomic_load_explicit(&engine->ticks, memory_order_relaxed)) {
            if (sandbox->has_yielded && is_in_the_way) {
                atomic_fetch_add_explicit(&engine->overruns, 1, memory_order_relaxed);
            }
            sandbox->has_yielded = true;
            *ret_state = SANDBOX_YIELDED;
            return false;
        }
    }
}

enum sandbox_state sandbox_step(struct sandbox *sandbox, bool is_in_the_way) {
    if (sandbox->phase == PHASE_ENDED) {
        return sandbox->ended;
    }
    if (sandbox->calling) {
        if (!sandbox->call_finished) {
            return SANDBOX_CALLING;
        }
        if (sandbox->call_result == ERR_EXIT) {
            end(sandbox, SANDBOX_RETURNED); /* the fiber goes with the sandbox */
            return sandbox->ended;
        }
    }
    struct engine *engine = sandbox->program->engine;
    enum sandbox_state state;
    engine_enter(engine);
    for (;;) {
        if (!poll_phase(sandbox, is_in_the_way, &state)) {
            break;
        }
        advance(sandbox);
        if (sandbox->phase == PHASE_ENDED) {
            state = sandbox->ended;
            break;
        }
    }
    engine_leave(engine);
    return state;
}

void sandbox_finish_call(struct sandbox *sandbox, enum err result) {
    INVARIANT(sandbox->calling && !sandbox->call_finished && result != ERR_PENDING);
    sandbox->call_result = result;
    sandbox->call_finished = true;
}

/* --- life --- */

/* The text of an instantiation's failure that is not the guest's own. */
static enum err instantiation_failed(struct sandbox *sandbox, struct buf *message) {
    cleanup_buf struct buf text = {0};
    engine_take_error(STEAL(sandbox->error), &text);
    if (strstr(buf_text(&text), "exceeds memory limits") ||
        strstr(buf_text(&text), "exceeds table limits") ||
        strstr(buf_text(&text), "limit exceeded")) {
        return buf_fail(message, ERR_2BIG, "the program needs more memory than it may have: %s",
                        buf_text(&text));
    }
    return buf_fail(message, ERR_NOMEM, "no room for another program: %s", buf_text(&text));
}

static bool has_frames(const wasmtime_error_t *error) {
    wasm_frame_vec_t frames;
    wasmtime_error_wasm_trace(error, &frames);
    bool any = frames.size > 0;
    wasm_frame_vec_delete(&frames);
    return any;
}

enum err sandbox_new(struct program *program, const struct sandbox_options *options,
                     struct sandbox **ret_sandbox, struct buf *message) {
    if (options->call.length == 0 && !program->has_start) {
        return buf_fail(message, ERR_NOENT,
                        "the program has no _start; name one of its functions with call=");
    }
    struct sandbox *sandbox = alloc_zeroed(sizeof(*sandbox));
    if (!sandbox) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    sandbox->guest.memory = guest_memory;
    sandbox->program = program_ref(program);
    sandbox->wasi = options->wasi;
    sandbox->memory_limit_bytes =
        MIN(options->limits.memory_bytes, program->engine->memory_max_bytes);
    enum err err = ERR_OK;
    if (options->call.length > 0) {
        err = call_prepare(sandbox, options, message);
        if (err) {
            goto fail;
        }
    }
    sandbox->store = wasmtime_store_new(program->engine->wasm, sandbox, NULL);
    sandbox->context = wasmtime_store_context(sandbox->store);
    wasmtime_store_limiter(sandbox->store, (int64_t)sandbox->memory_limit_bytes, TABLE_ELEMENTS_MAX,
                           1, TABLES_MAX, 1);
    wasmtime_context_epoch_deadline_async_yield_and_update(sandbox->context, 1);
    wasmtime_context_set_epoch_deadline(sandbox->context, 1);
    options->wasi->guest = &sandbox->guest;

    sandbox->future = wasmtime_instance_pre_instantiate_async(program->instance_pre,
                                                              sandbox->context, &sandbox->instance,
                                                              &sandbox->trap, &sandbox->error);
    engine_enter(program->engine);
    enum sandbox_state state;
    if (poll_phase(sandbox, true, &state)) {
        if (sandbox->error && !has_frames(sandbox->error)) {
            err = instantiation_failed(sandbox, message);
        } else {
            advance(sandbox);
        }
    }
    engine_leave(program->engine);
    if (err) {
        goto fail;
    }
    *ret_sandbox = sandbox;
    return ERR_OK;
fail:
    sandbox_free(sandbox);
    return err;
}

/* --- stacks --- */

static wasm_trap_t *note_stack(void *environment, wasmtime_caller_t *caller,
                               wasmtime_val_raw_t *values, size_t count) {
    (void)environment;
    (void)values;
    (void)count;
    struct sandbox *sandbox = wasmtime_context_get_data(wasmtime_caller_context(caller));
    sandbox->stack_address = (uintptr_t)__builtin_frame_address(0);
    return NULL;
}

/* A guest that has never called the host has not shown where its stack is. The store keeps it for
 * the next call, so one more call finds out. */
static void find_stack(struct sandbox *sandbox) {
    wasm_functype_t *type = wasm_functype_new_0_0();
    wasmtime_func_t function;
    wasmtime_func_new_unchecked(sandbox->context, type, note_stack, NULL, NULL, &function);
    wasm_functype_delete(type);
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = NULL;
    wasmtime_call_future_t *future =
        wasmtime_func_call_async(sandbox->context, &function, NULL, 0, NULL, 0, &trap, &error);
    while (!wasmtime_call_future_poll(future)) {
    }
    wasmtime_call_future_delete(future);
    if (trap) {
        wasm_trap_delete(trap);
    }
    if (error) {
        wasmtime_error_delete(error);
    }
}

/* Not the sanitizers' business: our own functions on the fiber have marked parts of it, and the
 * engine's pool, which hands a stack from one thread to the next, has locks that they don't see. */
#define NOT_SANITIZED __attribute__((no_sanitize("address", "thread")))

NOT_SANITIZED static bool has_mark(const uint64_t *page, size_t bytes, uint64_t mark) {
    typedef uint64_t words __attribute__((vector_size(16)));
    const words *all = (const words *)(const void *)page;
    const words wanted = {mark, mark};
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < bytes / sizeof(*all); i += 4) {
        a |= all[i] ^ wanted;
        b |= all[i + 1] ^ wanted;
        c |= all[i + 2] ^ wanted;
        d |= all[i + 3] ^ wanted;
    }
    a |= b | c | d;
    return (a[0] | a[1]) == 0;
}

NOT_SANITIZED static void set_mark(uint64_t *page, size_t bytes, uint64_t mark) {
    for (size_t i = 0; i < bytes / sizeof(*page); i++) {
        page[i] = mark;
    }
}

/* Gives a deep stack's pages back, see find_stacks. Stacks are used from the top without gaps:
 * every call leaves its return address, and code with large frames writes to each page. So one page
 * full of a mark that guests don't know tells whether those below were used; asking the kernel
 * (mincore) would cost a microsecond. */
static void trim_stack(struct sandbox *sandbox) {
    const struct engine *engine = sandbox->program->engine;
    if (!engine->stack_anchor) {
        return;
    }
    if (!sandbox->stack_address) {
        find_stack(sandbox);
        if (!sandbox->stack_address) {
            return;
        }
    }
    /* Multiples of the stride away from the anchor, in either direction. */
    uintptr_t stride = engine->stack_stride;
    uintptr_t behind = engine->stack_anchor % stride;
    uintptr_t bottom = (sandbox->stack_address - behind) / stride * stride + behind;
    uintptr_t below = bottom + ASYNC_STACK_BYTES - STACK_RESIDENT_BYTES;
    size_t page_bytes = stride - ASYNC_STACK_BYTES;
    uint64_t *page = (uint64_t *)(below - page_bytes);
    if (!has_mark(page, page_bytes, engine->stack_mark)) {
        madvise((void *)bottom, below - bottom, MADV_DONTNEED);
        set_mark(page, page_bytes, engine->stack_mark);
    }
}

void sandbox_free(struct sandbox *sandbox) {
    if (!sandbox) {
        return;
    }
    if (sandbox->future) {
        wasmtime_call_future_delete(sandbox->future);
    }
    if (sandbox->trap) {
        wasm_trap_delete(sandbox->trap);
    }
    if (sandbox->error) {
        wasmtime_error_delete(sandbox->error);
    }
    if (sandbox->store) {
        trim_stack(sandbox);
        if (sandbox->wasi->guest == &sandbox->guest) {
            sandbox->wasi->guest = NULL;
        }
        delete_store(sandbox);
    }
    program_unref(sandbox->program);
    buf_done(&sandbox->call_name);
    free(sandbox->values);
    free(sandbox);
}
