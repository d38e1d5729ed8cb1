/* Where the body of a request is in what comes behind its head: so many bytes (RFC 9112 section
 * 6.2), or chunks (section 7.1). Both are read strictly: lines end with CR LF, sizes are plain
 * hexadecimal digits, white space has no place. Chunk extensions are checked for what they are
 * made of and ignored, trailers dropped, each up to a limit.
 *
 * A pure state machine over pieces of any size. Thread: the owner's. Layer: base. */
#pragma once

#include "http/http_gate.h"

#define HTTP_CHUNK_LINE_BYTES_MAX 1024u /* a size with its extensions */
#define HTTP_TRAILER_BYTES_MAX 8192u    /* all trailers of a body */

enum http_body_state {
    HTTP_BODY_DATA,
    HTTP_BODY_DATA_END, /* CR LF behind a chunk's data */
    HTTP_BODY_DATA_FEED,
    HTTP_BODY_SIZE_FIRST, /* a digit at least */
    HTTP_BODY_SIZE,
    HTTP_BODY_EXTENSION,
    HTTP_BODY_SIZE_FEED,
    HTTP_BODY_TRAILER_FIRST, /* a line of the trailers, or the last one */
    HTTP_BODY_TRAILER_NAME,
    HTTP_BODY_TRAILER_VALUE,
    HTTP_BODY_TRAILER_FEED,
    HTTP_BODY_LAST_FEED,
    HTTP_BODY_OVER,
    HTTP_BODY_BROKEN,
};

struct http_body {
    uint64_t remaining;      /* of the body or the chunk; the size as far as it was read */
    uint32_t overhead_bytes; /* of the present chunk's line, or of the trailers */
    uint8_t state;
    bool is_chunked;
};

/* Of a request with this head. */
void http_body_init(struct http_body *body, const struct http_head *head);
/* Skips what is not data: returns how many of the bytes that is, 0 to `length`; *ret_piece bytes of
 * data follow at once (0: there are none in these bytes). */
size_t http_body_next(struct http_body *body, const uint8_t *data, size_t length,
                      size_t *ret_piece);
/* So many bytes of that data were taken. */
void http_body_took(struct http_body *body, size_t length);
static inline bool http_body_is_over(const struct http_body *body) {
    return body->state == HTTP_BODY_OVER;
}
static inline bool http_body_is_broken(const struct http_body *body) {
    return body->state == HTTP_BODY_BROKEN;
}
