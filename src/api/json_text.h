/* Program output as JSON text: escaping, and telling text from bytes piece by piece. Pure
 * functions. Layer: base. */
#pragma once

#include "base/buf.h"

/* Appends `text`, which must be valid UTF-8, as the inside of a JSON string (RFC 8259 section 7).
 */
MUST_USE enum err json_text_escape(struct str text, struct buf *ret_json);
/* Appends base64 (RFC 4648 section 4, with padding). */
MUST_USE enum err json_text_base64(struct str bytes, struct buf *ret_text);
/* The length of the longest prefix that does not end in the middle of a UTF-8 sequence: what is
 * behind it (3 bytes at most) belongs to the next piece. */
size_t json_text_whole_length(struct str bytes);
