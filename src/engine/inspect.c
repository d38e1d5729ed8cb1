/* What an upload is, by its structure alone: one pass over the sections, no code is looked into
 * beyond the declarations of local variables. Whether the code is valid says the compiler.
 *
 * Source: WebAssembly Core Specification 5.5 (sections), and the limits of JavaScript embeddings
 * (https://webassembly.github.io/spec/js-api/#limits), which compilers keep. */
#include "engine/inspect.h"

#include "engine/internal.h"
#include "engine/wasm_reader.h"

enum {
    FUNCTIONS_MAX = 1000000,
    IMPORTS_MAX = 100000,
    GLOBALS_MAX = 100000,
    DATA_SEGMENTS_MAX = 100000,
    ELEMENT_SEGMENTS_MAX = 1000000,
    LOCALS_MAX = 50000,
    FUNCTION_BYTES_MAX = 7654321,
    PAGE_BYTES = 65536,
    NAMES_LISTED = 20, /* unknown imports that a report spells out */
    NAME_BYTES_LISTED = 100,
};

enum { /* section numbers */
       SECTION_CUSTOM,
       SECTION_TYPE,
       SECTION_IMPORT,
       SECTION_FUNCTION,
       SECTION_TABLE,
       SECTION_MEMORY,
       SECTION_GLOBAL,
       SECTION_EXPORT,
       SECTION_START,
       SECTION_ELEMENT,
       SECTION_CODE,
       SECTION_DATA,
       SECTION_DATA_COUNT,
       SECTION_TAG,
       SECTION_COUNT,
};
static const char *const section_names[SECTION_COUNT] = {
    "custom", "type",  "import",  "function", "table", "memory",     "global",
    "export", "start", "element", "code",     "data",  "data count", "tag"};

static enum err unsupported(struct inspection *inspection, const char *what) {
    return buf_fail(inspection->message, ERR_NOEXEC, "the module uses %s, which is not supported",
                    what);
}

/* --- limits of memories and tables --- */

static enum err check_memory(struct inspection *inspection, struct wasm_reader *reader) {
    struct limits limits = inspect_read_limits(reader);
    if (reader->failed) {
        return inspect_damaged(inspection, "memory");
    }
    if (limits.flags & 2) {
        inspection->imports.threads = true;
        return inspect_judge_imports(&inspection->imports, inspection->message);
    }
    if (limits.flags & 4) {
        return buf_fail(inspection->message, ERR_NOEXEC,
                        "the module has a 64-bit memory (memory64), which is not supported; build "
                        "for wasm32");
    }
    if (++inspection->memory_count > 1) {
        return unsupported(inspection, "several memories");
    }
    if (limits.minimum > 65536) {
        return inspect_damaged(inspection, "memory");
    }
    inspection->report.memory_minimum_bytes = limits.minimum * PAGE_BYTES;
    if (inspection->report.memory_minimum_bytes > inspection->memory_max_bytes) {
        bool whole = inspection->report.memory_minimum_bytes % MIB == 0 &&
                     inspection->memory_max_bytes % MIB == 0;
        uint64_t unit = whole ? MIB : KIB;
        return buf_fail(inspection->message, ERR_2BIG,
                        "the module wants at least %llu %s of memory; the limit is %llu %s "
                        "(memory=SIZE at /create raises it)",
                        (unsigned long long)(inspection->report.memory_minimum_bytes / unit),
                        whole ? "MiB" : "KiB",
                        (unsigned long long)(inspection->memory_max_bytes / unit),
                        whole ? "MiB" : "KiB");
    }
    return ERR_OK;
}

static enum err check_table(struct inspection *inspection, struct wasm_reader *reader) {
    inspect_skip_value_type(reader);
    struct limits limits = inspect_read_limits(reader);
    if (reader->failed) {
        return inspect_damaged(inspection, "table");
    }
    if (++inspection->table_count > TABLES_MAX) {
        return inspect_too_many(inspection, "tables", inspection->table_count, TABLES_MAX);
    }
    if (limits.minimum > TABLE_ELEMENTS_MAX) {
        return inspect_too_many(inspection, "elements in a table", limits.minimum,
                                TABLE_ELEMENTS_MAX);
    }
    return ERR_OK;
}

/* --- imports --- */

static enum err append_listed(struct buf *list, struct str module, struct str name) {
    for (unsigned part = 0; part < 2; part++) {
        struct str text = part == 0 ? module : name;
        for (size_t i = 0; i < MIN(text.length, (size_t)NAME_BYTES_LISTED); i++) {
            uint8_t byte = (uint8_t)text.data[i];
            enum err err = buf_append_byte(list, byte < 0x20 || byte >= 0x7f ? '?' : byte);
            if (err) {
                return err;
            }
        }
        enum err err = buf_append_byte(list, part == 0 ? '.' : '\n');
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err note_function_import(struct inspection *inspection, const struct type_index *index,
                                     struct str module, struct str name, uint32_t type) {
    const struct wasi_function *function = hostcalls_find(module, name);
    if (str_starts(module, STR("wasi_"))) {
        inspection->imports.wasi++;
    }
    inspect_note_import(&inspection->imports, module, name);
    if (function && inspect_type_is(inspection, index, type, function->parameters,
                                    function->has_result ? "i" : "")) {
        return ERR_OK;
    }
    struct module_report *report = &inspection->report;
    report->unknown_imports++;
    if (report->unknown_imports <= NAMES_LISTED) {
        return append_listed(&report->unknown_names, module, name);
    }
    return ERR_OK;
}

static enum err read_imports(struct inspection *inspection, struct wasm_reader *reader,
                             const struct type_index *index) {
    uint32_t count = wasm_u32(reader);
    if (count > IMPORTS_MAX) {
        return inspect_too_many(inspection, "imports", count, IMPORTS_MAX);
    }
    cleanup_buf struct buf refused = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct str module = wasm_vector(reader), name = wasm_vector(reader);
        uint8_t kind = wasm_byte(reader);
        const char *what = NULL;
        enum err err = ERR_OK;
        switch (kind) {
        case 0:
            inspection->imported_function_count++;
            err = note_function_import(inspection, index, module, name, wasm_u32(reader));
            break;
        case 1:
            what = "a table";
            inspect_note_import(&inspection->imports, module, name);
            err = check_table(inspection, reader);
            break;
        case 2:
            what = "a memory";
            inspect_note_import(&inspection->imports, module, name);
            err = check_memory(inspection, reader);
            break;
        case 3:
            what = "a global";
            inspect_note_import(&inspection->imports, module, name);
            inspect_skip_value_type(reader);
            wasm_byte(reader);
            break;
        case 4:
            what = "an exception tag";
            wasm_byte(reader);
            wasm_u32(reader);
            break;
        default:
            return inspect_damaged(inspection, "import");
        }
        if (!err && reader->failed) {
            err = inspect_damaged(inspection, "import");
        }
        if (!err && what && refused.length == 0) {
            err = buf_printf(&refused, "%s, ", what);
            err = err ? err : append_listed(&refused, module, name);
            if (!err) {
                refused.length--; /* the newline */
            }
        }
        if (err) {
            return err;
        }
    }
    enum err err = inspect_judge_imports(&inspection->imports, inspection->message);
    if (!err && refused.length > 0) {
        err = buf_fail(inspection->message, ERR_NOEXEC,
                       "the module imports %.*s, which a WASI program brings itself (is it a "
                       "library for JavaScript, or a shared object?)",
                       (int)refused.length, buf_text(&refused));
    }
    return err;
}

/* --- the rest --- */

static enum err read_functions(struct inspection *inspection, struct wasm_reader *reader) {
    inspection->function_count = wasm_u32(reader);
    if (inspection->function_count > FUNCTIONS_MAX) {
        return inspect_too_many(inspection, "functions", inspection->function_count, FUNCTIONS_MAX);
    }
    inspection->functions = (struct str){(const char *)reader->position, wasm_left(reader)};
    for (uint32_t i = 0; i < inspection->function_count && !reader->failed; i++) {
        if (wasm_u32(reader) >= inspection->type_count) {
            wasm_fail(reader);
        }
    }
    return reader->failed ? inspect_damaged(inspection, "function") : ERR_OK;
}

static enum err read_code(struct inspection *inspection, struct wasm_reader *reader) {
    uint32_t count = wasm_u32(reader);
    if (reader->failed || count != inspection->function_count) {
        return inspect_damaged(inspection, "code");
    }
    for (uint32_t i = 0; i < count; i++) {
        struct str body = wasm_vector(reader);
        struct wasm_reader locals = wasm_reader_of(body);
        uint32_t groups = wasm_u32(&locals);
        uint64_t total = 0;
        for (uint32_t group = 0; group < groups && !locals.failed; group++) {
            total += wasm_u32(&locals);
            inspect_skip_value_type(&locals);
        }
        if (reader->failed || locals.failed) {
            return inspect_damaged(inspection, "code");
        }
        if (total > LOCALS_MAX) {
            return inspect_too_many(inspection, "local variables in one function", total,
                                    LOCALS_MAX);
        }
        if (body.length > FUNCTION_BYTES_MAX) {
            return inspect_too_many(inspection, "bytes in one function", body.length,
                                    FUNCTION_BYTES_MAX);
        }
    }
    return ERR_OK;
}

static enum err read_counted(struct inspection *inspection, struct wasm_reader *reader,
                             const char *what, uint32_t limit) {
    uint32_t count = wasm_u32(reader);
    return count > limit ? inspect_too_many(inspection, what, count, limit) : ERR_OK;
}

static enum err read_custom(struct inspection *inspection, struct wasm_reader *reader) {
    struct str name = wasm_vector(reader);
    if (reader->failed) {
        return inspect_damaged(inspection, "custom");
    }
    if (str_equal_text(name, "linking") || str_starts(name, STR("reloc."))) {
        return buf_fail(inspection->message, ERR_NOEXEC,
                        "this is an object file (.o); link it into a program: clang "
                        "--target=wasm32-wasi -o app.wasm file.o");
    }
    if (str_equal_text(name, "dylink.0") || str_equal_text(name, "dylink")) {
        return buf_fail(inspection->message, ERR_NOEXEC,
                        "this is a shared library; link a program without -shared and -fPIC");
    }
    return ERR_OK;
}

static enum err read_section(struct inspection *inspection, uint8_t id, struct str content,
                             struct type_index *index) {
    struct wasm_reader reader = wasm_reader_of(content);
    enum err err = ERR_OK;
    switch (id) {
    case SECTION_CUSTOM:
        return read_custom(inspection, &reader);
    case SECTION_TYPE:
        return inspect_types(inspection, &reader, index);
    case SECTION_IMPORT:
        inspection->import_section = content;
        return read_imports(inspection, &reader, index);
    case SECTION_FUNCTION:
        return read_functions(inspection, &reader);
    case SECTION_TABLE: {
        uint32_t count = wasm_u32(&reader);
        /* A table with an initial value is of the GC proposal; the compiler refuses it. */
        for (uint32_t i = 0; i < count && !err; i++) {
            err = check_table(inspection, &reader);
        }
        return err;
    }
    case SECTION_MEMORY: {
        uint32_t count = wasm_u32(&reader);
        for (uint32_t i = 0; i < count && !err; i++) {
            err = check_memory(inspection, &reader);
        }
        return err;
    }
    case SECTION_GLOBAL:
        return read_counted(inspection, &reader, "globals", GLOBALS_MAX);
    case SECTION_EXPORT:
        return inspect_exports(inspection, &reader, index);
    case SECTION_ELEMENT:
        return read_counted(inspection, &reader, "element segments", ELEMENT_SEGMENTS_MAX);
    case SECTION_CODE:
        return read_code(inspection, &reader);
    case SECTION_DATA:
        return read_counted(inspection, &reader, "data segments", DATA_SEGMENTS_MAX);
    case SECTION_TAG:
        return unsupported(inspection, "exceptions (build without -fwasm-exceptions)");
    default:
        return ERR_OK;
    }
}

static enum err read_sections(struct inspection *inspection, struct type_index *index) {
    struct wasm_reader reader = wasm_reader_of(inspection->module);
    wasm_bytes(&reader, 8);
    uint32_t seen = 0;
    while (wasm_left(&reader) > 0) {
        uint8_t id = wasm_byte(&reader);
        if (id >= SECTION_COUNT) {
            return buf_fail(inspection->message, ERR_NOEXEC,
                            "the module is damaged: it has a section number %u, which does not "
                            "exist",
                            id);
        }
        uint32_t length = wasm_u32(&reader);
        size_t left = wasm_left(&reader);
        if (reader.failed || length > left) {
            return buf_fail(inspection->message, ERR_NOEXEC,
                            "the module is cut off: its %s section has %u bytes, of which %zu are "
                            "here; upload it again",
                            section_names[id], length, left);
        }
        if (id != SECTION_CUSTOM) {
            if (seen & UINT32_C(1) << id) {
                return buf_fail(inspection->message, ERR_NOEXEC,
                                "the module is damaged: it has two %s sections", section_names[id]);
            }
            seen |= UINT32_C(1) << id;
        }
        enum err err = read_section(inspection, id, wasm_bytes(&reader, length), index);
        if (err) {
            return err;
        }
    }
    if (inspection->function_count > 0 && !(seen & UINT32_C(1) << SECTION_CODE)) {
        return buf_fail(inspection->message, ERR_NOEXEC,
                        "the module is cut off: it has no code; upload it again");
    }
    return ERR_OK;
}

/* --- the whole --- */

static enum err check_header(struct str module, struct buf *message) {
    static const uint8_t core[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    if (memcmp(module.data, core, sizeof(core)) == 0) {
        return ERR_OK;
    }
    if (module.data[6] == 1 && module.data[7] == 0) {
        return buf_fail(message, ERR_NOEXEC,
                        "this is a WASI 0.2 component; build with --target wasm32-wasip1 (Rust), "
                        "-buildmode=default with GOOS=wasip1 (Go), or -target=wasip1 (TinyGo)");
    }
    return buf_fail(message, ERR_NOEXEC,
                    "this is WebAssembly of a version that does not exist (%02x%02x%02x%02x); the "
                    "file is damaged",
                    (uint8_t)module.data[4], (uint8_t)module.data[5], (uint8_t)module.data[6],
                    (uint8_t)module.data[7]);
}

static enum err inspect_binary(struct str module, uint64_t memory_max_bytes,
                               struct module_report *ret_report, struct buf *message) {
    enum err err = check_header(module, message);
    if (err) {
        return err;
    }
    struct inspection inspection = {
        .module = module, .memory_max_bytes = memory_max_bytes, .message = message};
    struct type_index index = {0};
    err = read_sections(&inspection, &index);
    free(index.starts);
    struct module_report *report = &inspection.report;
    if (!err) {
        report->kind = inspection.has_start ? MODULE_COMMAND : MODULE_LIBRARY;
        if (report->kind == MODULE_COMMAND) {
            buf_done(&report->exports);
        } else if (report->exports.length == 0) {
            err = buf_fail(message, ERR_NOEXEC,
                           "the module exports neither _start nor any other function, so there is "
                           "nothing to run; build a program with main (without -c, -shared and "
                           "--no-entry)");
        }
    }
    if (err) {
        module_report_done(report);
        if (err == ERR_NOMEM) {
            return buf_fail(message, err, "out of memory");
        }
        return err;
    }
    *ret_report = *report;
    return ERR_OK;
}

void module_report_done(struct module_report *report) {
    buf_done(&report->unknown_names);
    buf_done(&report->exports);
}

enum err engine_inspect(struct str module, uint64_t memory_max_bytes,
                        struct module_report *ret_report, struct buf *message) {
    if (module.length >= 8 && memcmp(module.data, "\0asm", 4) == 0) {
        return inspect_binary(module, memory_max_bytes, ret_report, message);
    }
    if (!inspect_is_text_module(module)) {
        return inspect_refuse_foreign(module, message);
    }
    if (module.length > WAT_BYTES_MAX) {
        return buf_fail(message, ERR_2BIG,
                        "the text of a module may have %d KiB; assemble it (wat2wasm) and send the "
                        "binary",
                        WAT_BYTES_MAX / 1024);
    }
    wasm_byte_vec_t binary;
    wasmtime_error_t *error = wasmtime_wat2wasm(module.data, module.length, &binary);
    if (error) {
        cleanup_buf struct buf text = {0};
        engine_take_error(error, &text);
        return buf_fail(message, ERR_NOEXEC, "%.2000s", buf_text(&text));
    }
    enum err err = inspect_binary((struct str){binary.data, binary.size}, memory_max_bytes,
                                  ret_report, message);
    wasm_byte_vec_delete(&binary);
    return err;
}
