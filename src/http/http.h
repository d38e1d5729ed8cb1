/* The HTTP server (HTTP/1.1, RFC 9112, and HTTP/1.0).
 *
 * One server a loop, with its own listening socket (SO_REUSEPORT). A request is a struct
 * http_exchange; the application gives callbacks (struct http_application), all called on the
 * loop's thread from the loop's own turn. Nothing is held whole in memory: request bodies are taken
 * piece by piece, response bodies are pulled piece by piece, and both sides may wait.
 *
 *   begin → (body)* → body_end → http_respond_…  → (pull)* → end
 *
 * http_respond_… may be called at any time, even in `begin`: the answer goes out at once, and what
 * still comes of the body is read and dropped, up to 16 MiB; then, and where it is known before
 * that there is more, or where the client waits for 100 Continue, the connection ends with the
 * answer. With http_keep_body both go on side by side. `end` comes exactly once for every `begin`,
 * whether the exchange was finished or the client vanished, and never from within a call of the
 * application's.
 *
 * A client that closes its sending side (`nc -N`) while the application works is taken for gone
 * after some 20 ms: nothing tells it from one that has left. Answers before that reach it.
 *
 * A request costs no system call beyond its read and its write; a response with http_respond is one
 * write, and so is a short stream. Requests that follow without waiting for answers are done one
 * after the other, one in a turn of the loop.
 *
 * The gate (RFC 9112, notes at http_gate.h) refuses with 400 and `Connection: close` before
 * `begin`; chunks that are malformed end the exchange, with 400 if it had no answer yet. Trailers
 * of a request are dropped. Every response gets: Date, `X-Content-Type-Options: nosniff`; HEAD, 204
 * and 304 get no body. Memory: http_exchange.h.
 *
 * Thread: the loop's. Layer: loop. */
#pragma once

#include "base/buf.h"
#include "loop/loop.h"

struct http_server;
struct http_exchange;

struct http_application {
    void *context;
    /* The head is complete. Set http_exchange_set_user here. */
    void (*begin)(void *context, struct http_exchange *exchange);
    /* A piece of the body. Returns how much of it was taken; less than all pauses the body until
     * http_body_resume. Not called after a response was given, but for http_keep_body. */
    size_t (*body)(void *context, struct http_exchange *exchange, const uint8_t *data,
                   size_t length);
    /* The body is complete (also called, at once, when there is none). Not called after a response
     * was given, but for http_keep_body. */
    void (*body_end)(void *context, struct http_exchange *exchange);
    /* The exchange is over; `completed` is false if the client vanished or was cut off. The
     * exchange is invalid afterwards. */
    void (*end)(void *context, struct http_exchange *exchange, bool completed);
};

struct http_options {
    const char *address;      /* "127.0.0.1", "::1", "0.0.0.0" … */
    uint16_t port;            /* 0: any; the first server's port is then asked of http_port */
    uint32_t connections_max; /* of this loop */
    uint32_t connections_per_address_max; /* of this loop; 0 = no limit (loopback needs many) */
    uint64_t head_timeout_ns;      /* for the complete head, and for idle keep-alive connections */
    uint64_t body_rate_timeout_ns; /* a body of which nothing arrives for so long ends, as does a
                                      response of which nothing is taken; not while the application
                                      makes it wait */
    uint64_t body_rate_minimum;    /* bytes a second on average, after the first timeout */
    size_t head_bytes_max;         /* 431 beyond, 414 for the target; from 1 KiB to 65,535 */
};

MUST_USE enum err http_server_new(struct loop *loop, const struct http_options *options,
                                  const struct http_application *application,
                                  struct http_server **ret_server, struct buf *message);
uint16_t http_port(const struct http_server *server);
/* Takes no new connections; open ones get `Connection: close` with their next response. */
void http_server_quiesce(struct http_server *server);
/* How many are under way, and open. Thread: any. */
uint32_t http_server_exchanges(const struct http_server *server);
uint32_t http_server_connections(const struct http_server *server);
/* Requests that are not HTTP as it has to be, which the application has not seen, or not to their
 * end; modulo 2^32. Thread: any. */
uint32_t http_server_refused(const struct http_server *server);
/* Ends all exchanges (with `end`) and frees it. */
void http_server_free(struct http_server *server);

/* The request. Everything borrowed from the exchange, valid until `end`. */
void http_exchange_set_user(struct http_exchange *exchange, void *user);
void *http_exchange_user(const struct http_exchange *exchange);
struct loop *http_exchange_loop(const struct http_exchange *exchange);
struct str http_method(const struct http_exchange *exchange);
/* The path as sent, not decoded, without the query; begins with '/'. */
struct str http_raw_path(const struct http_exchange *exchange);
/* What is behind '?', not decoded; length 0 if nothing. */
struct str http_raw_query(const struct http_exchange *exchange);
/* The first header of this name (case-insensitive); data NULL if there is none. */
struct str http_header(const struct http_exchange *exchange, const char *name);
void http_headers_each(const struct http_exchange *exchange,
                       void (*each)(void *argument, struct str name, struct str value),
                       void *argument);
/* Of the body; false if it is chunked. No body: 0 and true. */
bool http_content_length(const struct http_exchange *exchange, uint64_t *ret_length);
bool http_has_body(const struct http_exchange *exchange);
/* The client's address as text, without port. */
const char *http_client_address(const struct http_exchange *exchange);
bool http_client_is_loopback(const struct http_exchange *exchange);
bool http_is_1_0(const struct http_exchange *exchange);
/* `body` is called again when there is more to take. */
void http_body_resume(struct http_exchange *exchange);
/* Of a body whose length is known, and from which nobody has anything before it is whole: pieces of
 * less than HTTP_GATHER_BYTES may wait in the kernel until there is more, or the rest. Else each
 * packet of each slow client wakes the loop. At any time before the end of the body. */
#define HTTP_GATHER_BYTES (4 * KIB)
void http_gather_body(struct http_exchange *exchange);
/* Before the response: `body` and `body_end` go on to be called while it is under way, for those
 * who talk and listen at once. While the stream waits for the application, the client may be silent
 * for as long as it likes. Where the response ends first, what still comes is dropped as ever. */
void http_keep_body(struct http_exchange *exchange);
/* Ends that patience: the client has to send the rest of its body, as fast as ever. */
void http_expect_body(struct http_exchange *exchange);

/* The response. Headers first, then one of http_respond_…, once. Names and values are checked:
 * control characters make it fail with INVAL, as do Content-Length, Transfer-Encoding, Connection
 * and Date, which are not the application's; 2BIG where there is no room. */
MUST_USE enum err http_add_header(struct http_exchange *exchange, const char *name,
                                  const char *value);
/* Whether one of this name was added. */
bool http_has_added(const struct http_exchange *exchange, const char *name);
/* The body is copied. Status: 200 to 599. Where memory fails, the connection is cut. */
void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length);
#define HTTP_LENGTH_UNKNOWN UINT64_MAX
enum http_pull_result {
    HTTP_PULL_DATA,  /* *ret_length bytes (more than 0) were put into the buffer */
    HTTP_PULL_WAIT,  /* nothing now: http_pull_resume when there is */
    HTTP_PULL_END,   /* the body is complete; trailers may have been added */
    HTTP_PULL_ABORT, /* something went wrong: cut the connection, so that the client notices */
};
typedef enum http_pull_result http_pull(void *argument, void *buffer, size_t size,
                                        size_t *ret_length);
/* A body that is pulled. Chunked if `length` is unknown; in HTTP/1.0 it ends with the connection.
 * `pull` comes from a turn of the loop, never from within a call of the application's;
 * not at all for HEAD, 204 and 304. It must not respond to other exchanges. Ending before `length`
 * cuts the connection. */
void http_respond_stream(struct http_exchange *exchange, int status, const char *content_type,
                         uint64_t length, http_pull *pull, void *argument);
/* From within `pull`, before it returns HTTP_PULL_END; only with an unknown length. */
MUST_USE enum err http_add_trailer(struct http_exchange *exchange, const char *name,
                                   const char *value);
void http_pull_resume(struct http_exchange *exchange);
/* Cuts the connection; `end` follows. */
void http_abort(struct http_exchange *exchange);
bool http_has_responded(const struct http_exchange *exchange);

/* Query strings and percent-encoding (RFC 3986), apart from connections so that they are fuzzed:
 * http/query.h. */
