/* Texts of the command line: what others wrote made harmless for a terminal, URLs, errors.
 *
 * Lack of memory ends the process with a message: nothing of a command can go on without, and the
 * server ends what belongs to a client that is gone. Thread: the only one. Layer: base. */
#pragma once

#include "base/buf.h"

#include <stdio.h>

/* Ends the process with exit status 1 if `err` is one. For lack of memory. */
void cli_check(enum err err);

/* Says "error: ..." in one line on standard error, control characters escaped. Returns 1, the exit
 * status of a failure. */
int cli_error(const char *format, ...) PRINTF_LIKE(1, 2);

/* Appends a text so that it can't do anything to a terminal: control characters (tab and newline
 * stay; the newline only if `keep_newlines`), DEL, the C1 controls of Unicode and what is not UTF-8
 * become \xNN, byte by byte. */
void text_escape(struct str text, bool keep_newlines, struct buf *ret_text);
/* Prints it so, with its newlines. */
void text_print(FILE *stream, struct str text);

/* Appends the percent-encoding of a text (RFC 3986): unreserved characters stay, and a slash if
 * `keep_slashes`. */
void text_encode(struct str text, bool keep_slashes, struct buf *ret_text);
/* Appends "?NAME=VALUE" or "&NAME=VALUE" to a request target; NULL: without "=VALUE". */
void text_add_parameter(struct buf *target, const char *name, const char *value);

/* "12.3 MiB" */
#define TEXT_BYTES_SIZE 24
void text_format_bytes(uint64_t bytes, char text[TEXT_BYTES_SIZE]);

/* Decodes base64 (RFC 4648 section 4, with padding). BADMSG if it is none. */
MUST_USE enum err text_decode_base64(struct str text, struct buf *ret_bytes);

/* The value of "NAME: value" in a text of such lines; data NULL if there is none. */
struct str text_fact(struct str lines, const char *name);
