/* From an offset in a module to the source line it was compiled from.
 *
 * The debug information (DWARF's .debug_line) of an upload is hostile and can be large, so nothing
 * in the server reads it: the compiler, which is a child process with limits, makes a sorted table
 * of it, written behind the compiled code in the same file (whose hash covers both). A backtrace
 * then costs a binary search a frame.
 *
 * Thread: any. Source: DWARF 4 and 5, section 6.2; wasm's addresses are offsets in the code
 * section (https://yurydelendik.github.io/webassembly-dwarf). */
#pragma once

#include "base/buf.h"

/* Appends the table for `module` (binary) to `table`, with its footer; nothing if there is no debug
 * information that can be used. Errors: NOMEM. */
MUST_USE enum err lines_make(struct str module, struct buf *table);

/* A table in memory; all zero: no table. */
struct lines {
    const uint8_t *rows; /* of 12 bytes, borrowed */
    uint32_t row_count;
    const uint8_t *files; /* where each name begins, and where the last ends */
    uint32_t file_count;
    const char *names;
    uint32_t names_length;
};
/* How long the table at the end of a file is, given the file's last bytes; 0 if there is none. */
#define LINES_FOOTER_BYTES 24
uint64_t lines_length(const uint8_t footer[LINES_FOOTER_BYTES]);
/* Opens a table of that length, ending with its footer. BADMSG if it is not one. */
MUST_USE enum err lines_open(const uint8_t *table, uint64_t length, struct lines *ret_lines);
/* The file and line of the instruction at `module_offset`; false if they are not known. */
bool lines_find(const struct lines *lines, uint64_t module_offset, struct str *ret_file,
                uint32_t *ret_line);
