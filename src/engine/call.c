/* Calling an exported function by name, with arguments and results as text. */
#include "engine/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

/* The kind of a value type, without wasm_valtype_kind, which ends the process at types that it does
 * not know. */
static wasmtime_valkind_t kind_of(const wasm_valtype_t *type) {
    wasmtime_valtype_t copy;
    wasmtime_valtype_new(type, &copy);
    wasmtime_valkind_t kind = copy.kind;
    wasmtime_valtype_delete(&copy);
    return kind;
}

static bool is_number(wasmtime_valkind_t kind) {
    return kind <= WASMTIME_VALTYPE_KIND_F64; /* i32, i64, f32, f64 */
}

/* Integers: decimal or hexadecimal (0x), signed or unsigned, within the type's bits. */
static bool parse_integer(const char *text, unsigned bits, uint64_t *ret_value) {
    const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;
    int base = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') ? 16 : 10;
    /* strtoull would take spaces and a second sign. */
    const char *first = base == 16 ? digits + 2 : digits;
    if (!(*first >= '0' && *first <= '9') &&
        !(base == 16 && ((*first >= 'a' && *first <= 'f') || (*first >= 'A' && *first <= 'F')))) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long magnitude = strtoull(digits, &end, base);
    uint64_t sign_bit = UINT64_C(1) << (bits - 1);
    if (errno || *end || (bits < 64 && magnitude >> bits != 0) ||
        (text[0] == '-' && magnitude > sign_bit)) {
        return false;
    }
    *ret_value = text[0] == '-' ? (uint64_t)0 - magnitude : magnitude;
    return true;
}

static bool parse_float(const char *text, double *ret_value) {
    if (text[0] == 0 || strchr(" \t\n\v\f\r", text[0])) {
        return false;
    }
    char *end;
    *ret_value = strtod(text, &end); /* also hexadecimal, inf and nan; out of range is infinite */
    return *end == 0;
}

static bool parse_value(struct str text, wasmtime_valkind_t kind, wasmtime_val_t *ret_value) {
    char copy[128];
    if (text.length >= sizeof(copy) || memchr(text.data, 0, text.length)) {
        return false;
    }
    memcpy(copy, text.data, text.length);
    copy[text.length] = 0;
    uint64_t integer;
    double number;
    wasmtime_val_t value = {.kind = kind};
    switch (kind) {
    case WASMTIME_I32:
        if (!parse_integer(copy, 32, &integer)) {
            return false;
        }
        value.of.i32 = (int32_t)(uint32_t)integer;
        break;
    case WASMTIME_I64:
        if (!parse_integer(copy, 64, &integer)) {
            return false;
        }
        value.of.i64 = (int64_t)integer;
        break;
    case WASMTIME_F32:
        if (!parse_float(copy, &number)) {
            return false;
        }
        value.of.f32 = strtof(copy, NULL); /* rounded once */
        break;
    case WASMTIME_F64:
        if (!parse_float(copy, &number)) {
            return false;
        }
        value.of.f64 = number;
        break;
    default:
        return false;
    }
    *ret_value = value;
    return true;
}

enum err call_prepare(struct sandbox *sandbox, const struct sandbox_options *options,
                      struct buf *message) {
    static const char *const names[] = {"i32", "i64", "f32", "f64"};
    struct str name = options->call;
    const wasm_functype_t *type = program_export(sandbox->program, name);
    if (!type) {
        return buf_fail(message, ERR_NOENT, "the program exports no function named '%.*s'",
                        (int)MIN(name.length, (size_t)100), name.data);
    }
    const wasm_valtype_vec_t *parameters = wasm_functype_params(type);
    const wasm_valtype_vec_t *results = wasm_functype_results(type);
    if (parameters->size != options->call_argument_count) {
        return buf_fail(message, ERR_INVAL, "'%.*s' takes %zu argument%s, not %zu",
                        (int)MIN(name.length, (size_t)100), name.data, parameters->size,
                        parameters->size == 1 ? "" : "s", options->call_argument_count);
    }
    if (parameters->size > CALL_VALUES_MAX || results->size > CALL_VALUES_MAX) {
        return buf_fail(message, ERR_INVAL, "'%.*s' has more than %d arguments or results",
                        (int)MIN(name.length, (size_t)100), name.data, CALL_VALUES_MAX);
    }
    for (size_t i = 0; i < results->size; i++) {
        if (!is_number(kind_of(results->data[i]))) {
            return buf_fail(message, ERR_INVAL, "result %zu of '%.*s' is no number", i + 1,
                            (int)MIN(name.length, (size_t)100), name.data);
        }
    }
    sandbox->values = calloc(1, sizeof(*sandbox->values));
    if (!sandbox->values) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < parameters->size; i++) {
        wasmtime_valkind_t kind = kind_of(parameters->data[i]);
        if (!is_number(kind)) {
            return buf_fail(message, ERR_INVAL, "argument %zu of '%.*s' is no number", i + 1,
                            (int)MIN(name.length, (size_t)100), name.data);
        }
        struct str text = options->call_arguments[i];
        if (!parse_value(text, kind, &sandbox->values->arguments[i])) {
            return buf_fail(message, ERR_INVAL, "argument %zu, '%.*s', is not an %s", i + 1,
                            (int)MIN(text.length, (size_t)100), text.data, names[kind]);
        }
    }
    sandbox->argument_count = (uint8_t)parameters->size;
    sandbox->result_count = (uint8_t)results->size;
    return buf_append_str(&sandbox->call_name, name);
}

/* The shortest decimal form that gives the same value again. */
static void format_float(double value, bool is_single, char text[32]) {
    if (isnan(value)) {
        snprintf(text, 32, "nan");
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (is_single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value) {
            return;
        }
    }
}

void sandbox_results(const struct sandbox *sandbox, struct buf *text) {
    for (size_t i = 0; i < sandbox->result_count; i++) {
        const wasmtime_val_t *value = &sandbox->values->results[i];
        char number[32] = "";
        switch (value->kind) {
        case WASMTIME_I32:
            snprintf(number, sizeof(number), "%d", value->of.i32);
            break;
        case WASMTIME_I64:
            snprintf(number, sizeof(number), "%lld", (long long)value->of.i64);
            break;
        case WASMTIME_F32:
            format_float((double)value->of.f32, true, number);
            break;
        case WASMTIME_F64:
            format_float(value->of.f64, false, number);
            break;
        default:
            break;
        }
        if (buf_printf(text, "%s%s", number, i + 1 < sandbox->result_count ? " " : "\n")) {
            return;
        }
    }
}
