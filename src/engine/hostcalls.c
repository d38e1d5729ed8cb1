/* The functions that guests import: WASI's, as the wasi layer has them, and a trap for every other.
 *
 * Calls that never wait are plain functions on the guest's stack ("unchecked": the signature was
 * compared when the program was loaded). Calls that may wait store their arguments and suspend the
 * fiber; the run does their work on the loop's stack and says sandbox_finish_call. */
#include "engine/internal.h"

#include <stdio.h>

static struct sandbox *sandbox_of(wasmtime_caller_t *caller) {
    struct sandbox *sandbox = wasmtime_context_get_data(wasmtime_caller_context(caller));
    if (!sandbox->has_memory) {
        /* Also while the module's start function runs, when there is no instance yet. */
        wasmtime_extern_t item;
        if (wasmtime_caller_export_get(caller, "memory", 6, &item) &&
            item.kind == WASMTIME_EXTERN_MEMORY) {
            sandbox_set_memory(sandbox, &item.of.memory);
        }
    }
    if (!sandbox->stack_address) {
        sandbox->stack_address = (uintptr_t)__builtin_frame_address(0);
    }
    return sandbox;
}

static wasm_trap_t *call_immediate(void *environment, wasmtime_caller_t *caller,
                                   wasmtime_val_raw_t *values, size_t count) {
    (void)count;
    const struct wasi_function *function = environment;
    struct sandbox *sandbox = sandbox_of(caller);
    uint64_t arguments[WASI_ARGUMENTS_MAX];
    size_t i = 0;
    for (const char *letter = function->parameters; *letter; letter++, i++) {
        arguments[i] = *letter == 'I' ? (uint64_t)values[i].i64 : (uint32_t)values[i].i32;
    }
    enum err err = wasi_call_immediate(sandbox->wasi, function, arguments);
    values[0].i32 = (int32_t)err;
    return NULL;
}

static bool is_finished(void *environment) {
    struct sandbox *sandbox = environment;
    if (!sandbox->call_finished) {
        return false;
    }
    sandbox->calling = false;
    if (sandbox->call_has_result) {
        sandbox->call_results[0].kind = WASMTIME_I32;
        sandbox->call_results[0].of.i32 = (int32_t)sandbox->call_result;
    }
    return true;
}

static void call_polled(void *environment, wasmtime_caller_t *caller, const wasmtime_val_t *values,
                        size_t count, wasmtime_val_t *results, size_t result_count,
                        wasm_trap_t **ret_trap, wasmtime_async_continuation_t *ret_continuation) {
    (void)count;
    (void)ret_trap;
    const struct wasi_function *function = environment;
    struct sandbox *sandbox = sandbox_of(caller);
    uint64_t arguments[WASI_ARGUMENTS_MAX];
    size_t i = 0;
    for (const char *letter = function->parameters; *letter; letter++, i++) {
        arguments[i] = *letter == 'I' ? (uint64_t)values[i].of.i64 : (uint32_t)values[i].of.i32;
    }
    sandbox->calling = true;
    sandbox->call_finished = false;
    sandbox->call_has_result = result_count > 0;
    sandbox->call_results = results;
    wasi_call_begin(sandbox->wasi, function, arguments);
    *ret_continuation =
        (wasmtime_async_continuation_t){.callback = is_finished, .env = sandbox, .finalizer = NULL};
}

static wasm_trap_t *call_unknown(void *environment, wasmtime_caller_t *caller,
                                 wasmtime_val_raw_t *values, size_t count) {
    (void)caller;
    (void)values;
    (void)count;
    const char *text = environment;
    return wasmtime_trap_new(text, strlen(text));
}

/* --- which of them an import gets --- */

static bool has_types(const wasm_valtype_vec_t *types, const char *letters) {
    if (types->size != strlen(letters)) {
        return false;
    }
    for (size_t i = 0; i < types->size; i++) {
        /* Not wasm_valtype_kind, which ends the process at types that it does not know. */
        wasmtime_valtype_t type;
        wasmtime_valtype_new(types->data[i], &type);
        bool fits = type.kind ==
                    (letters[i] == 'I' ? WASMTIME_VALTYPE_KIND_I64 : WASMTIME_VALTYPE_KIND_I32);
        wasmtime_valtype_delete(&type);
        if (!fits) {
            return false;
        }
    }
    return true;
}

const struct wasi_function *hostcalls_find(struct str module, struct str name) {
    bool old = str_equal_text(module, "wasi_unstable");
    if (!old && !str_equal_text(module, "wasi_snapshot_preview1")) {
        return NULL;
    }
    for (size_t i = 0; i < WASI_FUNCTION_COUNT; i++) {
        if (str_equal_text(name, wasi_functions[i].name)) {
            return old && !wasi_functions[i].in_unstable ? NULL : &wasi_functions[i];
        }
    }
    return NULL;
}

static wasmtime_error_t *define_one(wasmtime_linker_t *linker, const wasm_name_t *module,
                                    const wasm_name_t *name, const wasm_functype_t *type) {
    const struct wasi_function *function = hostcalls_find((struct str){module->data, module->size},
                                                          (struct str){name->data, name->size});
    if (function && has_types(wasm_functype_params(type), function->parameters) &&
        has_types(wasm_functype_results(type), function->has_result ? "i" : "")) {
        void *environment = (void *)(uintptr_t)function;
        if (function->kind == WASI_IMMEDIATE) {
            return wasmtime_linker_define_func_unchecked(linker, module->data, module->size,
                                                         name->data, name->size, type,
                                                         call_immediate, environment, NULL);
        }
        return wasmtime_linker_define_async_func(linker, module->data, module->size, name->data,
                                                 name->size, type, call_polled, environment, NULL);
    }
    struct buf text = {0};
    enum err err = buf_printf(&text,
                              "the program called %.*s.%.*s, which does not exist here (it is not "
                              "a function of WASI preview 1)",
                              (int)MIN(module->size, 100), module->data, (int)MIN(name->size, 100),
                              name->data);
    if (err) {
        return wasmtime_error_new("out of memory");
    }
    /* The linker owns the text, a malloc'ed string. */
    return wasmtime_linker_define_func_unchecked(linker, module->data, module->size, name->data,
                                                 name->size, type, call_unknown, text.data, free);
}

enum err hostcalls_define(struct engine *engine, wasmtime_linker_t *linker,
                          const wasmtime_module_t *module, struct buf *message) {
    (void)engine;
    /* A module may import one function several times. */
    wasmtime_linker_allow_shadowing(linker, true);
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module, &imports);
    enum err err = ERR_OK;
    for (size_t i = 0; i < imports.size && !err; i++) {
        const wasm_externtype_t *type = wasm_importtype_type(imports.data[i]);
        if (wasm_externtype_kind(type) != WASM_EXTERN_FUNC) {
            continue; /* instantiate_pre refuses it, with its name */
        }
        wasmtime_error_t *error = define_one(linker, wasm_importtype_module(imports.data[i]),
                                             wasm_importtype_name(imports.data[i]),
                                             wasm_externtype_as_functype_const(type));
        if (error) {
            cleanup_buf struct buf text = {0};
            engine_take_error(error, &text);
            err = buf_fail(message, ERR_NOEXEC, "%s", buf_text(&text));
        }
    }
    wasm_importtype_vec_delete(&imports);
    return err;
}
