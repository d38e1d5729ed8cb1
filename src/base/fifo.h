/* Bytes on their way: appended at the end, taken from the front. All zero at first; no bound of its
 * own. Thread: the owner's. */
#pragma once

#include "base/buf.h"
#include "base/macros.h"

struct fifo {
    struct buf buf;
    size_t at; /* what is before was taken */
};

static inline size_t fifo_length(const struct fifo *fifo) {
    return fifo->buf.length - fifo->at;
}

MUST_USE static inline enum err fifo_append(struct fifo *fifo, const void *data, size_t length) {
    return buf_append(&fifo->buf, data, length);
}

/* How many bytes were taken: all there are, up to `size`. */
static inline size_t fifo_take(struct fifo *fifo, void *data, size_t size) {
    size_t length = MIN(size, fifo_length(fifo));
    if (length > 0) {
        memcpy(data, fifo->buf.data + fifo->at, length);
        fifo->at += length;
    }
    if (fifo->at == fifo->buf.length) {
        fifo->at = fifo->buf.length = 0;
    } else if (fifo->at > fifo->buf.length / 2) { /* so that each byte is moved once at most */
        buf_consume(&fifo->buf, fifo->at);
        fifo->at = 0;
    }
    return length;
}

static inline void fifo_done(struct fifo *fifo) {
    buf_done(&fifo->buf);
    fifo->at = 0;
}
