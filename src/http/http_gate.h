/* The gate: which request heads are let in (RFC 9112).
 *
 * What two programs on the way of a request read differently is how requests are smuggled. So a
 * head is taken apart once, strictly, and what is not as the standard says is refused, not guessed.
 *
 * Refused with 400: Content-Length together with Transfer-Encoding; more than one Content-Length or
 * one that is no number; any Transfer-Encoding but exactly one `chunked`, and any in HTTP/1.0; more
 * or less than one Host in HTTP/1.1, more than one in HTTP/1.0, a Host with characters that no host
 * has; names that are no token (section 5.1); control characters; a folded line (5.2); line ends
 * that are not CRLF (2.2); a target that is no path, or whose authority is not the Host (3.2.2).
 * 431: more than HTTP_FIELDS_MAX fields, or more bytes than allowed. 414: a request line beyond
 * that. 505: anything but HTTP/1.0 and HTTP/1.1.
 *
 * Pure functions, no connection. Thread: any. Layer: base. */
#pragma once

#include "base/buf.h"

#define HTTP_FIELDS_MAX 100u
#define HTTP_HEAD_BYTES_LIMIT 65535u /* offsets have 16 bits */

/* One header field. Offsets into the head, so that little memory is needed for them. */
struct http_field {
    uint16_t name, name_length;
    uint16_t value, value_length; /* without white space around it */
};

struct http_head {
    const char *data; /* borrowed */
    size_t method_length;
    struct str path;  /* begins with '/' */
    struct str query; /* what is behind '?'; length 0 if nothing */
    size_t field_count;
    uint64_t content_length; /* 0 if there is none */
    bool has_content_length;
    bool is_chunked;
    bool is_http_1_0;
    bool is_head;          /* the method is HEAD */
    bool expects_continue; /* Expect: 100-continue, in HTTP/1.1 */
    bool closes;           /* the connection, after the response (section 9.3) */
    struct http_field fields[HTTP_FIELDS_MAX];
};

/* A status of 0 lets the request in. `reason` is a line for the client, static. */
struct http_refusal {
    int status;
    const char *reason;
};

/* How far a head that comes in pieces has been looked at. All zero at its beginning. */
struct http_scan {
    size_t line; /* where the present line begins */
    size_t at;   /* what is before has been seen */
};

/* Looks for the end of the head in the `length` bytes that have come of it, and of what is behind;
 * whatever was seen by an earlier call is not looked at again. *ret_length is the head's length,
 * or 0 while it is not complete. Refuses as soon as it can't become one of at most `bytes_max`. */
struct http_refusal http_gate_scan(struct http_scan *scan, const char *data, size_t length,
                                   size_t bytes_max, size_t *ret_length);

/* Takes a complete head apart: `length` is what http_gate_scan has found, at most
 * HTTP_HEAD_BYTES_LIMIT. `ret_head` borrows `data`, and is undefined after a refusal. */
struct http_refusal http_gate_check(const char *data, size_t length, struct http_head *ret_head);

/* The first field of this name (case-insensitive); data NULL if there is none. */
struct str http_head_find(const struct http_head *head, struct str name);
static inline struct str http_field_name(const struct http_head *head, size_t index) {
    return (struct str){head->data + head->fields[index].name, head->fields[index].name_length};
}
static inline struct str http_field_value(const struct http_head *head, size_t index) {
    return (struct str){head->data + head->fields[index].value, head->fields[index].value_length};
}

/* Whether a response may carry this: `name` is a token, `value` has no control character but the
 * tabulator (RFC 9110 section 5.5). */
bool http_is_field(const char *name, const char *value);
/* Classes of a byte (RFC 9110 sections 5.6.2 and 5.5): of a token, and of a field's value. */
bool http_is_token_byte(uint8_t byte);
bool http_is_value_byte(uint8_t byte);
