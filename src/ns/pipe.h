/* A bounded pipe of bytes between two sides that may be on different loops: standard input, both
 * directions of a connection.
 *
 * Thread: guards itself (polled functions: the loop of their op). Layer: loop. */
#pragma once

#include "ns/dev.h"

struct pipe;

/* Holds `capacity_bytes` at most, at least 1; memory is taken as it is needed. One reference. */
MUST_USE enum err pipe_new(size_t capacity_bytes, struct pipe **ret_pipe);
struct pipe *pipe_ref(struct pipe *pipe);
void pipe_unref(struct pipe *pipe); /* accepts NULL */

/* Polled. PENDING (AGAIN if op->nonblocking) while it is empty; 0 bytes with OK after the writing
 * side has closed and all was read, or the reading side has closed. */
MUST_USE enum err pipe_read(struct op *op, struct pipe *pipe, void *data, size_t length,
                            size_t *ret_read);
/* Polled. PENDING (AGAIN) while it is full, and from then on until half of it was read; writes what
 * there is room for. PIPE when either side
 * has closed. */
MUST_USE enum err pipe_write(struct op *op, struct pipe *pipe, const void *data, size_t length,
                             size_t *ret_written);
/* As dev->poll, for the reading side (POLL_READABLE) or the writing side (POLL_WRITABLE). HANGUP
 * when the other side has closed. */
MUST_USE enum err pipe_poll(struct op *op, struct pipe *pipe, unsigned wanted, unsigned *ret_ready,
                            uint64_t *ret_bytes);
/* No more is written: what is in the pipe can still be read. */
void pipe_close_write(struct pipe *pipe);
/* Nobody reads any more: what is in the pipe is dropped. */
void pipe_close_read(struct pipe *pipe);
size_t pipe_length(struct pipe *pipe); /* bytes waiting to be read */
