/* A connection to a checked address, plain or with TLS: bytes in both directions at once.
 *
 * What is written goes out as it is; of TLS a record at most waits here, of plain connections
 * nothing but in the machine's own buffers. Closing a stream sends what waits, for a few seconds,
 * while the caller is done with it.
 *
 * Failures, of the first read or write and of all that follow: PERM (policy), HOSTUNREACH (no such
 * name), BUSY, CONNREFUSED and the like, TIMEDOUT, CONNRESET, IO (TLS), each with a sentence.
 *
 * Thread: the loop's. Layer: loop. Source: OpenSSL's ssl(7); RFC 8446 section 6.1. */
#pragma once

#include "net/net.h"

struct net_stream;

/* Begins to connect. Takes over `party`'s content in any case. PERM and BUSY may come at once. */
MUST_USE enum err net_stream_open(struct net *net, struct loop *loop, struct net_party *party,
                                  const struct net_host *host, uint16_t port, bool is_tls,
                                  struct net_stream **ret_stream, struct buf *message);
/* Accepts NULL. Nothing of the party is used any more. */
void net_stream_close(struct net_stream *stream);

/* Polled. 0 bytes: the peer has closed its side. */
MUST_USE enum err net_stream_read(struct op *op, struct net_stream *stream, void *data,
                                  size_t length, size_t *ret_read);
/* Polled. PIPE after shutdown. */
MUST_USE enum err net_stream_write(struct op *op, struct net_stream *stream, const void *data,
                                   size_t length, size_t *ret_written);
/* As dev->poll. */
MUST_USE enum err net_stream_poll(struct op *op, struct net_stream *stream, unsigned wanted,
                                  unsigned *ret_ready, uint64_t *ret_bytes);
/* As dev->shutdown: with SHUTDOWN_WRITE the peer reads the end after what was written; with
 * SHUTDOWN_READ reads give the end. */
void net_stream_shutdown(struct net_stream *stream, unsigned shutdown_flags);
