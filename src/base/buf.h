/* Byte buffers and strings.
 *
 * struct str borrows bytes that need not end with NUL. struct buf owns its bytes; `data[length]` is
 * always a NUL that is not counted, so that `data` is a C string when the content has no NUL.
 * An empty buf is all zero and needs no init. Thread: the owner's. */
#pragma once

#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *data; /* borrowed; may be NULL when length is 0 */
    size_t length;    /* bytes */
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_FORMAT "%.*s"
#define STR_ARGS(str) (int)(str).length, (str).data

static inline struct str str_of(const char *text) {
    return (struct str){text, text ? strlen(text) : 0};
}
bool str_equal(struct str a, struct str b);
bool str_equal_text(struct str a, const char *text);
bool str_starts(struct str text, struct str prefix);
/* Whether all of it is valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool str_is_utf8(struct str text);
/* Cuts `*rest` at the first `separator`: returns what is before it, leaves what is after it
 * (nothing, with data NULL, when there was no separator). */
struct str str_cut(struct str *rest, char separator);
/* Without the spaces and tabs at both ends (OWS of RFC 9110 section 5.6.3). */
static inline struct str str_trim(struct str text) {
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 &&
           (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}
/* The last component of a path, without the slashes that follow it; empty for "/". */
struct str str_base_name(struct str path);
/* The value of a hexadecimal digit of either case; -1 if it is none. */
int str_hexadecimal(char digit);
/* A decimal number without sign that fits; INVAL otherwise, RANGE where it does not fit. */
MUST_USE enum err str_to_u64(struct str text, uint64_t *ret_value);
/* A count of bytes with an optional unit: "64", "64KiB", "64k", "1GiB", "1g" (powers of 1,024). */
MUST_USE enum err str_to_bytes(struct str text, uint64_t *ret_bytes);
/* A duration with a unit: "10s", "500ms", "1m", "1h", "7d"; a bare number is seconds. */
MUST_USE enum err str_to_duration_ns(struct str text, uint64_t *ret_ns);

struct buf {
    uint8_t *data;   /* owned; NULL when capacity is 0 */
    size_t length;   /* bytes used */
    size_t capacity; /* bytes allocated, less the NUL */
};

/* Frees the content and leaves an empty buf. */
void buf_done(struct buf *buf);
#define cleanup_buf __attribute__((cleanup(buf_done)))
/* The same for what must not stay in memory: overwrites it first. What a growing buf has left
 * behind is not reached: reserve before such bytes are appended. */
void buf_wipe(struct buf *buf);
#define cleanup_wiped_buf __attribute__((cleanup(buf_wipe)))

/* Makes room for `extra` bytes more. NOMEM leaves the buf as it was. */
MUST_USE enum err buf_reserve(struct buf *buf, size_t extra);
MUST_USE enum err buf_append(struct buf *buf, const void *data, size_t length);
MUST_USE enum err buf_append_str(struct buf *buf, struct str text);
MUST_USE enum err buf_append_byte(struct buf *buf, uint8_t byte);
MUST_USE enum err buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
MUST_USE enum err buf_vprintf(struct buf *buf, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);
/* Removes `length` bytes from the front. */
void buf_consume(struct buf *buf, size_t length);
static inline struct str buf_str(const struct buf *buf) {
    return (struct str){(const char *)buf->data, buf->length};
}
static inline const char *buf_text(const struct buf *buf) {
    return buf->data ? (const char *)buf->data : "";
}

/* For messages to humans: writes `format` into `message` (which may be NULL) in place of what was
 * there and returns `err`, so that a failure is one statement. Lack of memory shortens the text. */
enum err buf_fail(struct buf *message, enum err err, const char *format, ...) PRINTF_LIKE(3, 4);
