/* The log of an app: what its runs wrote, line by line, in files under DIR/logs/APP-ID/, read by
 * offset.
 *
 * A line: "TIME RUN-ID STREAM TEXT\n" where STREAM is out, err, or sys (the system's own words:
 * started, ended with reason, cut). A line of a guest that did not end with a newline when the run
 * ended is ended by us. Control characters other than tab, and what is not UTF-8, are written as
 * \xNN; a line longer than 16 KiB is cut in pieces. Offsets count bytes from the app's first line
 * ever and never change; the files are segments. Where the limit (bytes or age) has removed old
 * segments, reading from before says so in a line of its own. Appends are buffered and written by a
 * worker within a second, at applog_flush, and at the end. A rate limit may drop lines: a line says
 * how many.
 *
 * Thread: any. Layer: loop. */
#pragma once

#include "base/buf.h"
#include "loop/op.h"

struct applog;
struct applog_set;

struct applog_limits {
    uint64_t bytes_max; /* of one app */
    uint64_t age_max_ns;
};
MUST_USE enum err applog_set_new(const char *directory, const struct applog_limits *limits,
                                 struct applog_set **ret_set);
/* Writes what is buffered. Blocking. */
void applog_set_free(struct applog_set *set);
/* The log of an app, shared: a reference. Cheap when it is open already; opens lazily. */
MUST_USE enum err applog_get(struct applog_set *set, int64_t app_id, struct applog **ret_log);
void applog_unref(struct applog *log);
/* Removes an app's log. */
void applog_remove(struct applog_set *set, int64_t app_id);

/* Appends one line (without its newline). Never waits. */
void applog_append(struct applog *log, uint64_t realtime_ns, uint64_t run_id, const char *stream,
                   struct str line);
uint64_t applog_first_offset(struct applog *log);
uint64_t applog_end_offset(struct applog *log);
/* Polled. Reads from an offset, also what is still buffered; 0 bytes: nothing there yet (wait on
 * applog_wait to follow). `*ret_offset` is where the data begins: later than `offset` if that was
 * cut. */
MUST_USE enum err applog_read(struct op *op, struct applog *log, uint64_t offset, void *data,
                              size_t length, size_t *ret_read, uint64_t *ret_offset);
/* The queue that wakes when lines are appended. */
struct op_queue *applog_appended(struct applog *log);
/* Polled: all that was appended is in the file. */
MUST_USE enum err applog_flush(struct op *op, struct applog *log);
