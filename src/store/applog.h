/* The log of an app: what its runs wrote, line by line, in files under DIR/APP-ID/, read by offset.
 *
 * A line: "TIME RUN-ID STREAM TEXT\n" where STREAM is out, err, or sys (the system's own words:
 * started, ended with reason, cut). A line of a guest that did not end with a newline when the run
 * ended is ended by us. Control characters other than tab, the backslash before what would read as
 * such an escape, and what is not UTF-8, are written as \xNN; a line longer than 16 KiB is cut in
 * pieces, each a line.
 *
 * Offsets count bytes from the app's first line ever and never change; the files are segments of at
 * most 8 MiB, named by their first offset, each of whole lines. Where the limit (bytes or age) has
 * removed old segments, a reader is told where the log begins now, and says so in a line of its own
 * (applog_format_cut).
 *
 * Appends go to a buffer of at most 1 MiB, which a thread writes within a second, when 64 KiB are
 * there, at applog_flush, and at the end. What comes faster than it can be written is dropped, and
 * a line says how many lines that were. Lines are not synced: a killed server loses what was
 * buffered (a second), a power cut perhaps more; both leave whole lines.
 *
 * Thread: any. Layer: loop. */
#pragma once

#include "base/buf.h"
#include "loop/op.h"

struct applog;
struct applog_set;

struct applog_limits {
    uint64_t bytes_max;  /* of one app; 0 = none */
    uint64_t age_max_ns; /* 0 = none */
};
/* Makes the directory if it is missing, and starts the thread that writes. Blocking (short). */
MUST_USE enum err applog_set_new(const char *directory, const struct applog_limits *limits,
                                 struct applog_set **ret_set);
/* Writes what is buffered. Nobody may hold a log any more. Accepts NULL. Blocking. */
void applog_set_free(struct applog_set *set);
/* The log of an app, shared: a reference. Cheap when it is open already; else it looks at the
 * app's directory and cuts a half line that a crash has left (short). */
MUST_USE enum err applog_get(struct applog_set *set, int64_t app_id, struct applog **ret_log);
void applog_unref(struct applog *log);
/* Removes an app's log. Who still holds it may go on appending: that is dropped. Blocking. */
void applog_remove(struct applog_set *set, int64_t app_id);

/* Appends one line (without its newline). Never waits for the disk. */
void applog_append(struct applog *log, uint64_t realtime_ns, uint64_t run_id, const char *stream,
                   struct str line);
/* Where the log begins and ends; the same while it is empty. */
uint64_t applog_first_offset(struct applog *log);
uint64_t applog_end_offset(struct applog *log);
/* Polled. Reads from an offset, also what is still buffered; 0 bytes: nothing there yet (to follow,
 * wait on applog_appended, then read again before returning PENDING). `*ret_offset` is where the
 * data begins: later than `offset` if what was there has been removed. RANGE: `offset` is behind
 * the end. */
MUST_USE enum err applog_read(struct op *op, struct applog *log, uint64_t offset, void *data,
                              size_t length, size_t *ret_read, uint64_t *ret_offset);
/* The queue that wakes when lines are appended. */
struct op_queue *applog_appended(struct applog *log);
/* Polled: all that was appended before the first call is in the file. IO, NOSPC: it could not be
 * written (it is tried again). */
MUST_USE enum err applog_flush(struct op *op, struct applog *log);
/* Appends the line that tells a reader that what was from `offset` to `first_offset` is gone. */
MUST_USE enum err applog_format_cut(struct buf *text, uint64_t offset, uint64_t first_offset);
