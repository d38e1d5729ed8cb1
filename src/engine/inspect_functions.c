/* The types of an upload's functions, and what it exports. */
#include "engine/inspect.h"

enum {
    TYPES_MAX = 1000000,
    PARAMETERS_MAX = 1000,
    EXPORTS_MAX = 100000,
    EXPORTS_LISTED = 200,
    NAME_BYTES_LISTED = 100,
};

enum err inspect_too_many(struct inspection *inspection, const char *what, uint64_t count,
                          uint64_t limit) {
    return buf_fail(inspection->message, ERR_2BIG, "the module has %llu %s; the limit is %llu",
                    (unsigned long long)count, what, (unsigned long long)limit);
}

enum err inspect_damaged(struct inspection *inspection, const char *where) {
    return buf_fail(inspection->message, ERR_NOEXEC,
                    "the module is damaged in its %s section (was the upload cut off, or sent with "
                    "curl -d instead of --data-binary?)",
                    where);
}

/* --- types --- */

bool inspect_skip_value_type(struct wasm_reader *reader) {
    uint8_t kind = wasm_byte(reader);
    if (kind == 0x63 || kind == 0x64) { /* (ref null? HEAP) */
        wasm_signed(reader);
    }
    return !reader->failed;
}

/* Reads past one function type; ERR_NOEXEC for any other form of type. */
static enum err skip_type(struct inspection *inspection, struct wasm_reader *reader) {
    uint8_t form = wasm_byte(reader);
    if (form != 0x60) {
        if (form == 0x4e || form == 0x4f || form == 0x50 || form == 0x5e || form == 0x5f) {
            return buf_fail(inspection->message, ERR_NOEXEC,
                            "the module uses garbage-collected types (WasmGC), as Kotlin, Dart and "
                            "Java compilers do for browsers, which is not supported");
        }
        return inspect_damaged(inspection, "type");
    }
    for (unsigned list = 0; list < 2; list++) {
        uint32_t count = wasm_u32(reader);
        if (count > PARAMETERS_MAX) {
            return inspect_too_many(inspection, "parameters or results of one function", count,
                                    PARAMETERS_MAX);
        }
        for (uint32_t i = 0; i < count && !reader->failed; i++) {
            inspect_skip_value_type(reader);
        }
    }
    return reader->failed ? inspect_damaged(inspection, "type") : ERR_OK;
}

static enum err read_types(struct inspection *inspection, struct wasm_reader *reader) {
    inspection->type_count = wasm_u32(reader);
    if (inspection->type_count > TYPES_MAX) {
        return inspect_too_many(inspection, "types", inspection->type_count, TYPES_MAX);
    }
    inspection->types = (struct str){(const char *)reader->position, wasm_left(reader)};
    for (uint32_t i = 0; i < inspection->type_count; i++) {
        enum err err = skip_type(inspection, reader);
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err index_types(struct inspection *inspection, struct type_index *ret_index) {
    /* The count is true: each type took at least three bytes of the upload. */
    const uint8_t **starts = calloc((size_t)inspection->type_count + 1, sizeof(*starts));
    if (!starts) {
        return buf_fail(inspection->message, ERR_NOMEM, "out of memory");
    }
    struct wasm_reader reader = wasm_reader_of(inspection->types);
    for (uint32_t i = 0; i < inspection->type_count; i++) {
        starts[i] = reader.position;
        enum err err = skip_type(inspection, &reader);
        if (err) {
            free(starts);
            return err;
        }
    }
    ret_index->starts = starts;
    return ERR_OK;
}

static struct wasm_reader type_at(const struct inspection *inspection,
                                  const struct type_index *index, uint32_t number) {
    const uint8_t *end = (const uint8_t *)inspection->types.data + inspection->types.length;
    const uint8_t *start = number < inspection->type_count ? index->starts[number] : end;
    return (struct wasm_reader){start, end, false};
}

/* Whether a type's next list is what the letters say (i = i32, I = i64). */
static bool list_is(struct wasm_reader *reader, const char *letters) {
    uint32_t count = wasm_u32(reader);
    bool same = count == strlen(letters);
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        const uint8_t *position = reader->position;
        inspect_skip_value_type(reader);
        same = same && !reader->failed && *position == (letters[i] == 'I' ? 0x7e : 0x7f);
    }
    return same && !reader->failed;
}

bool inspect_type_is(const struct inspection *inspection, const struct type_index *index,
                     uint32_t number, const char *parameters, const char *results) {
    struct wasm_reader reader = type_at(inspection, index, number);
    return wasm_byte(&reader) == 0x60 && list_is(&reader, parameters) && list_is(&reader, results);
}

struct limits inspect_read_limits(struct wasm_reader *reader) {
    struct limits limits = {.flags = wasm_byte(reader), .maximum = UINT64_MAX};
    unsigned bits = limits.flags & 4 ? 64 : 32;
    limits.minimum = wasm_unsigned(reader, bits);
    if (limits.flags & 1) {
        limits.maximum = wasm_unsigned(reader, bits);
    }
    if (limits.flags > 7) {
        wasm_fail(reader);
    }
    return limits;
}

enum err inspect_types(struct inspection *inspection, struct wasm_reader *reader,
                       struct type_index *index) {
    enum err err = read_types(inspection, reader);
    return err ? err : index_types(inspection, index);
}

/* --- exports --- */

static const char *value_type_name(uint8_t kind) {
    switch (kind) {
    case 0x7f:
        return "i32";
    case 0x7e:
        return "i64";
    case 0x7d:
        return "f32";
    case 0x7c:
        return "f64";
    case 0x7b:
        return "v128";
    default:
        return "ref";
    }
}

static enum err append_list(struct buf *text, struct wasm_reader *reader) {
    uint32_t count = wasm_u32(reader);
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < count && !err && !reader->failed; i++) {
        const uint8_t *position = reader->position;
        if (!inspect_skip_value_type(reader)) {
            break;
        }
        if (i < 16) {
            err = buf_printf(text, "%s%s", i ? " " : "", value_type_name(*position));
        } else if (i == 16) {
            err = buf_append_str(text, STR(" ..."));
        }
    }
    return err;
}

static enum err append_signature(struct inspection *inspection, const struct type_index *index,
                                 struct str name, uint32_t type) {
    struct buf *text = &inspection->report.exports;
    struct wasm_reader reader = type_at(inspection, index, type);
    wasm_byte(&reader);
    enum err err = buf_printf(text, STR_FORMAT "(", STR_ARGS(name));
    err = err ? err : append_list(text, &reader);
    err = err ? err : buf_append_str(text, STR(") -> "));
    size_t before = text->length;
    err = err ? err : append_list(text, &reader);
    if (!err && text->length == before) {
        err = buf_append_str(text, STR("nothing"));
    }
    return err ? err : buf_append_byte(text, '\n');
}

static bool is_printable(struct str name) {
    for (size_t i = 0; i < name.length; i++) {
        if ((uint8_t)name.data[i] < 0x20 || (uint8_t)name.data[i] == 0x7f) {
            return false;
        }
    }
    return name.length > 0 && name.length <= NAME_BYTES_LISTED && str_is_utf8(name);
}

/* The type numbers of all functions, imported ones first. */
static enum err index_functions(struct inspection *inspection, uint32_t **ret_types) {
    uint64_t count = (uint64_t)inspection->imported_function_count + inspection->function_count;
    uint32_t *types = calloc((size_t)count + 1, sizeof(*types));
    if (!types) {
        return buf_fail(inspection->message, ERR_NOMEM, "out of memory");
    }
    size_t next = 0;
    struct wasm_reader reader = wasm_reader_of(inspection->import_section);
    uint32_t import_count = wasm_u32(&reader);
    for (uint32_t i = 0; i < import_count && next < inspection->imported_function_count; i++) {
        wasm_vector(&reader);
        wasm_vector(&reader);
        switch (wasm_byte(&reader)) {
        case 0:
            types[next++] = wasm_u32(&reader);
            break;
        case 1:
            inspect_skip_value_type(&reader);
            inspect_read_limits(&reader);
            break;
        case 2:
            inspect_read_limits(&reader);
            break;
        case 3:
            inspect_skip_value_type(&reader);
            wasm_byte(&reader);
            break;
        default:
            wasm_byte(&reader);
            wasm_u32(&reader);
        }
    }
    reader = wasm_reader_of(inspection->functions);
    for (uint32_t i = 0; i < inspection->function_count; i++) {
        types[next++] = wasm_u32(&reader);
    }
    *ret_types = types;
    return ERR_OK;
}

enum err inspect_exports(struct inspection *inspection, struct wasm_reader *reader,
                         const struct type_index *index) {
    uint32_t count = wasm_u32(reader);
    if (count > EXPORTS_MAX) {
        return inspect_too_many(inspection, "exports", count, EXPORTS_MAX);
    }
    uint32_t *types = NULL;
    enum err err = index_functions(inspection, &types);
    if (err) {
        return err;
    }
    uint32_t function_limit = inspection->imported_function_count + inspection->function_count;
    unsigned listed = 0;
    for (uint32_t i = 0; i < count && !err; i++) {
        struct str name = wasm_vector(reader);
        uint8_t kind = wasm_byte(reader);
        uint32_t number = wasm_u32(reader);
        if (reader->failed || kind > 4 || (kind == 0 && number >= function_limit)) {
            err = inspect_damaged(inspection, "export");
        } else if (kind == 0) {
            if (str_equal_text(name, "_start")) {
                inspection->has_start = inspect_type_is(inspection, index, types[number], "", "");
            } else if (!str_equal_text(name, "_initialize") && is_printable(name) &&
                       listed < EXPORTS_LISTED) {
                listed++;
                err = append_signature(inspection, index, name, types[number]);
            }
        }
    }
    free(types);
    return err;
}
