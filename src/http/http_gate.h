/* The gate: which request heads are let in (RFC 9112).
 *
 * libmicrohttpd 0.9.75 is lenient about framing, and what two programs on the way of a request read
 * differently is how requests are smuggled. So each head is taken apart a second time, strictly,
 * before anybody acts on it. The head is read where libmicrohttpd has it: its parser leaves the
 * bytes in place and replaces the separators by NUL, and from where the NULs are all can be seen
 * that its interface hides:
 *
 *     METHOD 0 TARGET 0 HTTP/1.1 0 0 NAME 0 VALUE 0 0 NAME 0 VALUE 0 0 0 0
 *
 * A line that ends with a bare LF leaves one NUL instead of two, and so does a NUL that the client
 * has sent; a folded line and a space before a colon are no token.
 *
 * Refused with 400: Content-Length together with Transfer-Encoding; more than one Content-Length or
 * one that is no number; any Transfer-Encoding but exactly one `chunked`, and any in HTTP/1.0; more
 * or less than one Host in HTTP/1.1, more than one in HTTP/1.0, a Host with characters that no host
 * has; names that are no token (section 5.1); control characters; a folded line (5.2); line ends
 * that are not CRLF (2.2); a target that is no path, or whose authority is not the Host (3.2.2).
 * 431: more than HTTP_FIELDS_MAX fields, or more than `bytes_max` bytes. 414: a request line beyond
 * that. 505: anything but HTTP/1.0 and HTTP/1.1.
 *
 * What can't be seen here is how the lines of a chunked body end; so a connection is closed after a
 * chunked request, and nothing behind it is ever read as a request.
 *
 * Pure functions, no connection. Thread: any. Layer: base. */
#pragma once

#include "base/buf.h"

#define HTTP_FIELDS_MAX 100u
#define HTTP_HEAD_BYTES_LIMIT 65535u /* offsets have 16 bits */

/* One header field. Offsets into the head, so that a connection needs little memory for them. */
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
    bool expects_continue; /* Expect: 100-continue, in HTTP/1.1 */
    struct http_field fields[HTTP_FIELDS_MAX];
};

/* A status of 0 lets the request in. `reason` is a line for the client, static. */
struct http_refusal {
    int status;
    const char *reason;
};

/* Takes the head of `length` bytes apart. `target_length` is that of the request target, inside
 * which NULs stand for nothing but the '?' (`query_at`: its offset in the target, or the target's
 * length if there is none). `ret_head` borrows `data`, and is undefined after a refusal. */
struct http_refusal http_gate_check(const char *data, size_t length, size_t target_length,
                                    size_t query_at, size_t bytes_max, struct http_head *ret_head);

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
