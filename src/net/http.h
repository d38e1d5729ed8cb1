/* One HTTP request and its response, both streamed: a transfer to a checked address.
 *
 * Redirects are not followed here: each hop is a transfer of its own, by whoever wants to follow.
 * Memory is bounded whatever is sent: NET_HTTP_BUFFER in each direction, and the response's head.
 *
 * Failures: PERM (policy), HOSTUNREACH (no such name), TIMEDOUT, BUSY (too many connections of the
 * app), FBIG (more than the limit), IO (everything else); each with a sentence (net_http_message).
 *
 * Thread: the loop's. Layer: loop. Source: RFC 9110, 9112; libcurl's easy interface. */
#pragma once

#include "net/net.h"
#include "net/url.h"

struct net_http;

enum {
    NET_HTTP_BUFFER = 256 * 1024,  /* bytes of a body that wait, in each direction */
    NET_HTTP_HEAD_MAX = 64 * 1024, /* of a response's head */
};
/* As body_bytes. */
#define NET_BODY_NONE UINT64_MAX
#define NET_BODY_CHUNKED (UINT64_MAX - 1)

struct net_http_request {
    const struct net_url *url;
    struct str method; /* a token */
    /* Lines "NAME: VALUE\n" without what frames the message: no Host, Content-Length,
     * Transfer-Encoding, Connection, Expect. Checked by who made them: tokens, no controls. */
    struct str fields;
    uint64_t body_bytes; /* or NET_BODY_… */
};

/* Begins. Everything is copied but `party`, which lives until net_http_free. PERM and BUSY may come
 * at once. */
MUST_USE enum err net_http_start(struct net *net, struct loop *loop, const struct net_party *party,
                                 const struct net_http_request *request, struct net_http **ret_http,
                                 struct buf *message);
/* Gives up what has not ended. Accepts NULL. */
void net_http_free(struct net_http *http);

/* Polled. A piece of the request's body. After the response has ended what is written goes nowhere:
 * a server may answer without wanting all of it. INVAL: more than was announced. */
MUST_USE enum err net_http_write(struct op *op, struct net_http *http, const void *data,
                                 size_t length, size_t *ret_written);
/* The body is complete. One that was announced to be longer: the transfer fails. */
void net_http_write_end(struct net_http *http);

/* Polled: until the response's head is there, or the transfer has failed. */
MUST_USE enum err net_http_wait_head(struct op *op, struct net_http *http);
/* Then: */
unsigned net_http_status(const struct net_http *http);
struct str net_http_reason(const struct net_http *http);
/* Lines "NAME: VALUE\r\n" that say something of the message itself, not of its framing between
 * here and there. Content-Length is among them where the body has that length. */
struct str net_http_fields(const struct net_http *http);
/* The first of a name, without spaces around it; data NULL if there is none. */
struct str net_http_field(const struct net_http *http, const char *name);

/* Polled. A piece of the response's body; 0 bytes: its end. A body that was cut off fails. */
MUST_USE enum err net_http_read(struct op *op, struct net_http *http, void *data, size_t length,
                                size_t *ret_read);
/* As dev->poll; for POLL_READABLE also before the head is there. */
MUST_USE enum err net_http_poll(struct op *op, struct net_http *http, unsigned wanted,
                                unsigned *ret_ready, uint64_t *ret_bytes);
/* Why it has failed; empty if it has not. */
struct str net_http_message(const struct net_http *http);
