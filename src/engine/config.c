#include "base/sha256.h"
#include "engine/internal.h"

#include <stdio.h>

/* To be raised with every change below that changes what compiled code looks like. */
enum { SETTINGS_VERSION = 1 };

wasm_config_t *engine_config_new(void) {
    wasm_config_t *config = wasm_config_new();
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_max_wasm_stack_set(config, WASM_STACK_BYTES);
    wasmtime_config_async_stack_size_set(config, ASYNC_STACK_BYTES);
    wasmtime_config_memory_reservation_set(config, MEMORY_RESERVATION_BYTES);
    wasmtime_config_memory_guard_size_set(config, MEMORY_GUARD_BYTES);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_init_cow_set(config, true);
    wasmtime_config_cranelift_opt_level_set(config, WASMTIME_OPT_LEVEL_SPEED);
    /* Backtraces follow frame pointers. */
    wasmtime_config_native_unwind_info_set(config, false);
    wasmtime_config_debug_info_set(config, false);

    /* What LLVM, Go and Rust emit for preview 1, and nothing else: what is off can't be attacked.
     */
    wasmtime_config_wasm_reference_types_set(config, true);
    wasmtime_config_wasm_bulk_memory_set(config, true);
    wasmtime_config_wasm_multi_value_set(config, true);
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(config, true);
    wasmtime_config_wasm_tail_call_set(config, true);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_function_references_set(config, false);
    wasmtime_config_wasm_gc_set(config, false);
    wasmtime_config_gc_support_set(config, false); /* function references need none */
    wasmtime_config_wasm_exceptions_set(config, false);
    wasmtime_config_wasm_stack_switching_set(config, false);
    wasmtime_config_wasm_wide_arithmetic_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, false);
    wasmtime_config_shared_memory_set(config, false);
    return config;
}

/* A line that names the features of the processor: compiled code uses what it finds. */
static void append_processor(struct buf *text) {
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file) {
        return;
    }
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t length; (length = getline(&line, &capacity, file)) >= 0;) {
        if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) {
            if (buf_append(text, line, (size_t)length)) {
                break;
            }
            break;
        }
    }
    free(line);
    fclose(file);
}

static char key[64];

static void make_key(void) {
    cleanup_buf struct buf text = {0};
    append_processor(&text);
    uint8_t hash[SHA256_SIZE] = {0};
    if (sha256_of(text.data, text.length, hash)) {
        memset(hash, 0, sizeof(hash)); /* no worse than an unknown processor */
    }
#if defined(__x86_64__)
    const char *machine = "x86_64";
#elif defined(__aarch64__)
    const char *machine = "aarch64";
#else
    const char *machine = "other";
#endif
    snprintf(key, sizeof(key), "wasmtime-%s-%d-%s-%02x%02x%02x%02x", WASMTIME_VERSION,
             SETTINGS_VERSION, machine, hash[0], hash[1], hash[2], hash[3]);
}

const char *engine_key(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    return key;
}

void engine_take_error(wasmtime_error_t *error, struct buf *text) {
    wasm_byte_vec_t bytes;
    wasmtime_error_message(error, &bytes);
    if (buf_append(text, bytes.data, bytes.size)) {
        /* The text is for humans; without memory it stays short. */
    }
    wasm_byte_vec_delete(&bytes);
    wasmtime_error_delete(error);
}
