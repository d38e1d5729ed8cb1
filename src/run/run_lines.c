/* A run's output, cut in lines, for the log of its app.
 *
 * A log is read by people and has a limit that all runs of the app share. A program that writes a
 * gigabyte would push everybody's lines out of it, and spend more on that than on its output, which
 * is in /proc/ID/stdout anyway. So a run logs LOG_BURST_BYTES as fast as it likes and from there on
 * LOG_BYTES_A_SECOND; of what is more, the log has the count. */
#include "run/internal.h"

#include "base/clock.h"

#include <inttypes.h>

/* The log cuts longer lines; a guest that never ends its line shall not make us keep more. */
enum { LINE_MAX_BYTES = 16 * 1024 };

static const char *const stream_names[2] = {"out", "err"};

/* What a line costs the log besides its text. */
enum { LINE_HEAD_BYTES = 48 };

/* What has come back since the last time. */
static void give_back(struct lines *lines, uint64_t time_ns) {
    if (lines->used_bytes == 0) {
        lines->since_ns = time_ns;
        return;
    }
    const uint64_t longest_ns = LOG_BURST_BYTES / LOG_BYTES_A_SECOND * NS_PER_S;
    uint64_t passed_ns = time_ns > lines->since_ns ? time_ns - lines->since_ns : 0;
    if (passed_ns < NS_PER_MS) {
        return;
    }
    uint64_t bytes = MIN(passed_ns, longest_ns) * LOG_BYTES_A_SECOND / NS_PER_S;
    lines->used_bytes -= MIN(lines->used_bytes, bytes);
    lines->since_ns = time_ns;
}

/* Whether the log takes a line of that length now. Once it has left out one it waits until there is
 * room for a second's, so that the counts are few. */
static bool may_log(struct lines *lines, size_t length) {
    uint64_t most = LOG_BURST_BYTES - (lines->left_out > 0 ? LOG_BYTES_A_SECOND : 0);
    uint64_t used_bytes = lines->used_bytes + length + LINE_HEAD_BYTES;
    if (used_bytes > most) {
        lines->left_out++;
        lines->left_out_bytes += length;
        return false;
    }
    lines->used_bytes = used_bytes;
    return true;
}

static void say_left_out(struct lines *lines, struct applog *log, uint64_t run_id,
                         uint64_t time_ns) {
    if (lines->left_out == 0) {
        return;
    }
    char text[160];
    int length = snprintf(text, sizeof(text),
                          "%" PRIu64 " lines of %" PRIu64 " bytes are left out here: a run may log "
                          "%d MiB at once, and then %d MiB a second",
                          lines->left_out, lines->left_out_bytes, (int)(LOG_BURST_BYTES / MIB),
                          (int)(LOG_BYTES_A_SECOND / MIB));
    applog_append(log, time_ns, run_id, "sys", (struct str){text, (size_t)length});
    lines->left_out = lines->left_out_bytes = 0;
}

static void append(struct lines *lines, struct applog *log, uint64_t run_id, unsigned which,
                   const void *data, size_t length, uint64_t time_ns) {
    if (may_log(lines, length)) {
        say_left_out(lines, log, run_id, time_ns);
        applog_append(log, time_ns, run_id, stream_names[which],
                      (struct str){(const char *)data, length});
    }
}

void lines_append(struct lines *lines, struct applog *log, uint64_t run_id, unsigned stream,
                  const void *data, size_t length, uint64_t time_ns) {
    unsigned which = stream == RUN_STDERR;
    struct buf *partial = &lines->partial[which];
    const uint8_t *bytes = data;
    give_back(lines, time_ns);
    while (length > 0) {
        size_t room = LINE_MAX_BYTES - partial->length;
        size_t within = MIN(length, room);
        const uint8_t *newline = memchr(bytes, '\n', within);
        size_t line = newline ? (size_t)(newline - bytes) : within;
        bool ends = newline || within == room;
        if (ends && partial->length == 0) {
            append(lines, log, run_id, which, bytes, line, time_ns);
        } else if (buf_append(partial, bytes, line) != ERR_OK || ends) {
            /* Without memory for a line it is logged in pieces. */
            append(lines, log, run_id, which, partial->data, partial->length, time_ns);
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
            append(lines, log, run_id, which, partial->data, partial->length, time_ns);
        }
        partial->length = 0;
    }
    say_left_out(lines, log, run_id, time_ns);
}

void lines_done(struct lines *lines) {
    buf_done(&lines->partial[0]);
    buf_done(&lines->partial[1]);
}
