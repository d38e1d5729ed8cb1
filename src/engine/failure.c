/* Why a guest has trapped, for humans: one line with the reason, then one a frame. */
#include "engine/internal.h"

#include <stdio.h>

enum { NAME_BYTES_MAX = 160, TEXT_BYTES_MAX = 4096 };

static const char *const reasons[] = {
    [WASMTIME_TRAP_CODE_STACK_OVERFLOW] = "stack overflow: recursion too deep",
    [WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS] = "memory access out of bounds",
    [WASMTIME_TRAP_CODE_HEAP_MISALIGNED] = "misaligned memory access",
    [WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS] = "table access out of bounds",
    [WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL] = "call of a null function pointer",
    [WASMTIME_TRAP_CODE_BAD_SIGNATURE] = "call of a function pointer of another type",
    [WASMTIME_TRAP_CODE_INTEGER_OVERFLOW] = "integer overflow",
    [WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO] = "integer division by zero",
    [WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER] = "a number that does not fit an integer",
    [WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED] =
        "unreachable code was reached (an abort, a panic or a failed assertion)",
};

/* Appends what a guest has named, cut and without control characters. */
static enum err append_name(struct buf *text, struct str name) {
    bool utf8 = str_is_utf8(name);
    size_t length = MIN(name.length, (size_t)NAME_BYTES_MAX);
    while (utf8 && length < name.length && length > 0 &&
           ((uint8_t)name.data[length] & 0xc0) == 0x80) {
        length--; /* not in the middle of a character */
    }
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)name.data[i];
        if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !utf8)) {
            byte = '?';
        }
        enum err err = buf_append_byte(text, byte);
        if (err) {
            return err;
        }
    }
    return length < name.length ? buf_append_str(text, STR("...")) : ERR_OK;
}

/* The engine's own text has the names of functions demangled, one frame a line: "  12:   0x3f -
 * MODULE!NAME". Finds the line of frame `index` from *position on. */
static struct str demangled_name(struct str whole, size_t index, size_t module_name_length,
                                 size_t *position) {
    char start[32];
    int start_length = snprintf(start, sizeof(start), "\n  %3zu: ", index);
    const char *line =
        memmem(whole.data + *position, whole.length - *position, start, (size_t)start_length);
    if (!line) {
        return (struct str){0};
    }
    const char *name = line + start_length;
    const char *end = memchr(name, '\n', (size_t)(whole.data + whole.length - name));
    if (!end) {
        end = whole.data + whole.length;
    }
    *position = (size_t)(end - whole.data);
    const char *dash = memmem(name, (size_t)(end - name), " - ", 3);
    if (dash) {
        name = dash + 3;
    }
    if ((size_t)(end - name) <= module_name_length + 1) {
        return (struct str){0};
    }
    name += module_name_length + 1;
    return (struct str){name, (size_t)(end - name)};
}

/* Of C++ and Rust. What the engine has made of other names is not to be believed: to it a function
 * `i` is C++'s code of the type `int`. */
static bool is_mangled(const wasm_name_t *name) {
    struct str text = {name->data, name->size};
    return str_starts(text, STR("_Z")) || str_starts(text, STR("_R"));
}

static enum err append_frame(const struct sandbox *sandbox, const wasm_frame_t *frame,
                             struct str whole, size_t index, size_t *position, struct buf *text) {
    const wasm_name_t *module_name = wasmtime_frame_module_name(frame);
    const wasm_name_t *raw_name = wasmtime_frame_func_name(frame);
    struct str name = demangled_name(
        whole, index, module_name ? module_name->size : strlen("<unknown>"), position);
    enum err err = buf_append_str(text, STR("  at "));
    if (err) {
        return err;
    }
    if (name.length > 0 && raw_name && is_mangled(raw_name)) {
        err = append_name(text, name);
    } else if (raw_name) {
        err = append_name(text, (struct str){raw_name->data, raw_name->size});
    } else {
        err = buf_printf(text, "function %u", wasm_frame_func_index(frame));
    }
    if (err) {
        return err;
    }
    struct str file;
    uint32_t line;
    size_t offset = wasm_frame_module_offset(frame);
    if (lines_find(&sandbox->program->lines, offset, &file, &line)) {
        err = buf_append_str(text, STR(" ("));
        err = err ? err : append_name(text, file);
        return err ? err : buf_printf(text, ":%u)\n", line);
    }
    if (offset != SIZE_MAX) {
        return buf_printf(text, " (+0x%zx)\n", offset);
    }
    return buf_append_byte(text, '\n');
}

/* The innermost cause in the engine's text: its last line, which may be numbered. */
static struct str last_line(struct str whole) {
    while (whole.length > 0 &&
           (whole.data[whole.length - 1] == '\n' || whole.data[whole.length - 1] == 0)) {
        whole.length--;
    }
    const char *newline = memrchr(whole.data, '\n', whole.length);
    struct str line =
        newline ? (struct str){newline + 1, (size_t)(whole.data + whole.length - newline - 1)}
                : whole;
    while (line.length > 0 && line.data[0] == ' ') {
        line.data++;
        line.length--;
    }
    return line;
}

void sandbox_failure(const struct sandbox *sandbox, struct buf *text) {
    if (!sandbox->trap && !sandbox->error) {
        return;
    }
    wasm_byte_vec_t whole_bytes;
    wasm_frame_vec_t frames;
    if (sandbox->trap) {
        wasm_trap_message(sandbox->trap, &whole_bytes);
        wasm_trap_trace(sandbox->trap, &frames);
    } else {
        wasmtime_error_message(sandbox->error, &whole_bytes);
        wasmtime_error_wasm_trace(sandbox->error, &frames);
    }
    struct str whole = {whole_bytes.data, whole_bytes.size};
    size_t limit = text->length + TEXT_BYTES_MAX;
    wasmtime_trap_code_t code;
    enum err err;
    if (sandbox->trap && wasmtime_trap_code(sandbox->trap, &code) && code < ARRAY_LENGTH(reasons) &&
        reasons[code]) {
        err = buf_append_str(text, str_of(reasons[code]));
        /* "memory fault at wasm address X in linear memory of size Y" */
        const char *fault = memmem(whole.data, whole.length, "memory fault at wasm address ", 29);
        if (!err && fault) {
            const char *address = fault + 29;
            size_t left = (size_t)(whole.data + whole.length - address), length = 0;
            while (length < MIN(left, (size_t)20) && address[length] > ' ') {
                length++;
            }
            err = buf_printf(text, " (at %.*s of 0x%llx bytes)", (int)length, address,
                             (unsigned long long)sandbox_memory_bytes(sandbox));
        }
    } else {
        err = append_name(text, last_line(whole));
    }
    err = err ? err : buf_append_byte(text, '\n');
    size_t position = 0;
    for (size_t i = 0; i < frames.size && !err && text->length < limit; i++) {
        err = append_frame(sandbox, frames.data[i], whole, i, &position, text);
    }
    wasm_frame_vec_delete(&frames);
    wasm_byte_vec_delete(&whole_bytes);
}
