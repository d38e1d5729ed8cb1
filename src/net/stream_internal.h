/* What the files stream*.c share. */
#pragma once

#include "net/net_internal.h"
#include "net/stream.h"

#include <openssl/ssl.h>

enum stream_state {
    STREAM_LOOKUP,
    STREAM_CONNECTING,
    STREAM_HANDSHAKE,
    STREAM_OPEN,
    STREAM_DEAD, /* `failure` says why */
};

struct net_stream {
    struct net *net;
    struct net_loop *home;
    struct net_party party; /* owned */
    struct net_host host;
    uint16_t port;
    enum stream_state state;
    enum err failure;
    struct buf message;
    struct op_queue changed;

    struct net_lookup *lookup;
    struct net_addresses addresses;
    size_t next; /* the address that is tried next */
    uint64_t deadline_ns;
    struct loop_timer timer; /* connecting; lingering */

    int descriptor; /* -1 = none */
    struct loop_watch *watch;
    unsigned interest; /* what is watched for */

    bool write_shut, read_shut;
    bool is_closed; /* by its owner; it lingers */
    bool is_shut;   /* then: the peer has been told */
    struct list link;

    /* TLS; `ssl` NULL: plain. It reads and writes memory, never the socket. */
    bool is_tls;
    SSL *ssl;
    BIO *from_peer, *to_peer; /* belong to ssl */
    uint8_t *waiting;         /* encrypted bytes that the socket did not take */
    size_t waiting_at, waiting_length;
};

/* Watches for more, until it comes. */
void stream_watch(struct net_stream *stream, unsigned events);
void stream_fail(struct net_stream *stream, enum err err, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* ERR_AGAIN where nothing moves now. */
MUST_USE enum err stream_send(struct net_stream *stream, const void *data, size_t length,
                              size_t *ret_sent);
MUST_USE enum err stream_receive(struct net_stream *stream, void *data, size_t length,
                                 size_t *ret_received);

/* stream_tls.c */
MUST_USE enum err stream_tls_new(struct net_stream *stream, struct buf *message);
void stream_tls_free(struct net_stream *stream);
/* OK: the handshake is done. AGAIN: it waits for the peer, and the socket is watched. */
MUST_USE enum err stream_tls_handshake(struct net_stream *stream, struct buf *message);
/* AGAIN: the socket takes no more now; it is watched. */
MUST_USE enum err stream_tls_flush(struct net_stream *stream);
MUST_USE enum err stream_tls_read(struct net_stream *stream, void *data, size_t length,
                                  size_t *ret_read, struct buf *message);
MUST_USE enum err stream_tls_write(struct net_stream *stream, const void *data, size_t length,
                                   size_t *ret_written);
/* Says that no more comes. */
void stream_tls_end(struct net_stream *stream);
/* Whether a read would give something now: OK (`*ret_bytes` can be read at least, 0: the end, or an
 * error), or AGAIN. */
MUST_USE enum err stream_tls_peek(struct net_stream *stream, size_t *ret_bytes);
