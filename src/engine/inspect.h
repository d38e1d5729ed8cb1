/* Parts of engine_inspect. */
#pragma once

#include "engine/engine.h"
#include "engine/wasm_reader.h"

/* What an upload that does not begin with wasm's magic number is, and how to get it right: writes
 * that sentence and returns NOEXEC. Text of a module ("(module") is not for this. */
MUST_USE enum err inspect_refuse_foreign(struct str upload, struct buf *message);
/* Whether it is the text of a module, after spaces and comments. */
bool inspect_is_text_module(struct str upload);

/* What imports tell about who made a module. */
struct inspect_imports {
    uint32_t wasi; /* functions of WASI */
    bool wasm_bindgen, go_js, emscripten, threads, component;
};
void inspect_note_import(struct inspect_imports *imports, struct str module, struct str name);
/* OK, or NOEXEC with the cure for a module that no import of WASI shows to be for us. */
MUST_USE enum err inspect_judge_imports(const struct inspect_imports *imports, struct buf *message);

/* An inspection under way. Where the types and functions begin is kept and their numbers are read
 * again when they are needed, so that nothing is allocated for what a module declares. */
struct inspection {
    struct str module;
    uint64_t memory_max_bytes;
    struct buf *message;
    struct module_report report;
    struct inspect_imports imports;
    struct str types, functions;
    uint32_t type_count, function_count, imported_function_count;
    struct str import_section;
    uint32_t memory_count, table_count;
    bool has_start;
};

MUST_USE enum err inspect_too_many(struct inspection *inspection, const char *what, uint64_t count,
                                   uint64_t limit);
MUST_USE enum err inspect_damaged(struct inspection *inspection, const char *where);

/* An index of the types' beginnings, made once they are all read. */
struct type_index {
    const uint8_t **starts;
};

struct limits {
    uint8_t flags;
    uint64_t minimum, maximum;
};

/* False at the end of the bytes. */
bool inspect_skip_value_type(struct wasm_reader *reader);
struct limits inspect_read_limits(struct wasm_reader *reader);
/* The sections of types and exports. The index is freed by the caller. */
MUST_USE enum err inspect_types(struct inspection *inspection, struct wasm_reader *reader,
                                struct type_index *index);
MUST_USE enum err inspect_exports(struct inspection *inspection, struct wasm_reader *reader,
                                  const struct type_index *index);
/* Whether a type is the function that the letters say (i = i32, I = i64). */
bool inspect_type_is(const struct inspection *inspection, const struct type_index *index,
                     uint32_t number, const char *parameters, const char *results);
