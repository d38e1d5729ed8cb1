/* A run's output, cut in lines, for the log of its app. */
#include "run/internal.h"

/* The log cuts longer lines; a guest that never ends its line shall not make us keep more. */
enum { LINE_MAX_BYTES = 16 * 1024 };

static const char *const stream_names[2] = {"out", "err"};

static void append(struct applog *log, uint64_t run_id, unsigned which, const void *data,
                   size_t length, uint64_t time_ns) {
    applog_append(log, time_ns, run_id, stream_names[which],
                  (struct str){(const char *)data, length});
}

void lines_append(struct lines *lines, struct applog *log, uint64_t run_id, unsigned stream,
                  const void *data, size_t length, uint64_t time_ns) {
    unsigned which = stream == RUN_STDERR;
    struct buf *partial = &lines->partial[which];
    const uint8_t *bytes = data;
    while (length > 0) {
        size_t room = LINE_MAX_BYTES - partial->length;
        size_t within = MIN(length, room);
        const uint8_t *newline = memchr(bytes, '\n', within);
        size_t line = newline ? (size_t)(newline - bytes) : within;
        bool ends = newline || within == room;
        if (ends && partial->length == 0) {
            append(log, run_id, which, bytes, line, time_ns);
        } else if (buf_append(partial, bytes, line) != ERR_OK || ends) {
            /* Without memory for a line it is logged in pieces. */
            append(log, run_id, which, partial->data, partial->length, time_ns);
            partial->length = 0;
        }
        size_t used = line + (newline ? 1 : 0);
        bytes += used;
        length -= used;
    }
}

void lines_flush(struct lines *lines, struct applog *log, uint64_t run_id, uint64_t time_ns) {
    for (unsigned which = 0; which < 2; which++) {
        struct buf *partial = &lines->partial[which];
        if (partial->length > 0) {
            append(log, run_id, which, partial->data, partial->length, time_ns);
        }
        partial->length = 0;
    }
}

void lines_done(struct lines *lines) {
    buf_done(&lines->partial[0]);
    buf_done(&lines->partial[1]);
}
