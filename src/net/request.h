/* HTTP/1.1 requests as text, as guests write them into /net/request: the parser.
 *
 * Strict, in what can be meant in two ways: absolute-form target; a Host, if given, is the target's
 * authority; Content-Length or "Transfer-Encoding: chunked", once and not both; names are tokens
 * that a colon follows, values have no control characters, lines are not folded; no bare CR. Lines
 * may end in LF alone. What concerns the hop from the guest to here (Connection, Keep-Alive,
 * Proxy-…, TE, Trailer, Expect) is read and left out; an Upgrade is refused, and CONNECT: those are
 * /net/tcp's.
 *
 * Comes in pieces of any size. Thread: the owner's. Layer: base. Source: RFC 9112. */
#pragma once

#include "net/http.h"

enum {
    NET_REQUEST_HEAD_MAX = 64 * 1024, /* bytes */
    NET_REQUEST_FIELDS_MAX = 128,
    NET_REQUEST_LINE_MAX = 1024,         /* of a chunk's size with its extensions */
    NET_REQUEST_TRAILER_MAX = 16 * 1024, /* bytes; they are left out */
};

enum net_request_phase {
    NET_REQUEST_HEAD, /* not complete */
    NET_REQUEST_BODY, /* the head is complete, the body is not */
    NET_REQUEST_END,
};

struct net_request {
    enum net_request_phase phase;
    struct buf head; /* as it came; wiped after it was read */
    /* After the head: */
    struct buf method;
    struct net_url url;
    struct buf fields;   /* as struct net_http_request has it */
    uint64_t body_bytes; /* or NET_BODY_NONE, NET_BODY_CHUNKED */
    bool has_length;     /* there is a Content-Length */

    uint64_t left; /* of the body, or of the chunk */
    enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER } chunk;
    struct buf line;      /* of the framing between chunks */
    size_t trailer_bytes; /* so far */
};
/* A struct of zeros is an empty request. */
void net_request_done(struct net_request *request);

/* Takes bytes of the head, up to its end: the phase changes then. INVAL with a message. */
MUST_USE enum err net_request_head(struct net_request *request, const void *data, size_t length,
                                   size_t *ret_taken, struct buf *message);
/* Takes what lies between pieces of the body: nothing of it, perhaps. The phase changes at the end.
 * INVAL with a message. */
MUST_USE enum err net_request_framing(struct net_request *request, const void *data, size_t length,
                                      size_t *ret_taken, struct buf *message);
/* How many of the next bytes are the body's, of `length`. */
size_t net_request_body(const struct net_request *request, size_t length);
/* So many of them were taken. */
void net_request_took(struct net_request *request, size_t length);
