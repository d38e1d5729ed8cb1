/* Parts of engine_inspect. */
#pragma once

#include "engine/engine.h"

/* What an upload that does not begin with wasm's magic number is, and how to get it right: writes
 * that sentence and returns NOEXEC. Text of a module ("(module") is not for this. */
MUST_USE enum err inspect_refuse_foreign(struct str upload, struct buf *message);
/* Whether it is the text of a module, after spaces and comments. */
bool inspect_is_text_module(struct str upload);

/* What imports tell about who made a module. */
struct inspect_imports {
    uint32_t wasi, unknown;
    bool wasm_bindgen, go_js, emscripten, threads, component;
};
void inspect_note_import(struct inspect_imports *imports, struct str module, struct str name);
/* OK, or NOEXEC with the cure for a module that no import of WASI shows to be for us. */
MUST_USE enum err inspect_judge_imports(const struct inspect_imports *imports, struct buf *message);
