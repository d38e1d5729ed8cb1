/* What the files of the log share: applog.c (logs in memory, the thread that writes), applog_line.c
 * (lines), applog_file.c (segments). */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "store/applog.h"

#include <pthread.h>

enum {
    APPLOG_LINE_MAX = 16 * 1024,     /* of a guest's bytes in one line */
    APPLOG_FLUSH_AT = 64 * 1024,     /* buffered bytes that wake the writer */
    APPLOG_BUFFER_MAX = 1024 * 1024, /* buffered bytes of one app, at most */
    APPLOG_SEGMENT_MAX = 8 * 1024 * 1024,
};

struct applog_segment {
    uint64_t first;  /* offset of its first byte: its name */
    uint64_t length; /* bytes */
};

/* The files of one log. Guarded by applog.file_mutex. */
struct applog_files {
    char *directory; /* owned */
    struct applog_segment *segments;
    size_t count, capacity;
    int descriptor; /* of the last segment, for appending; -1 = not open */
    uint64_t segment_max;
};

struct applog {
    struct map_node node; /* set.mutex */
    struct applog_set *set;
    int64_t app_id;
    size_t references;      /* set.mutex */
    uint64_t idle_since_ns; /* set.mutex; monotonic, when references is 0 */
    bool is_removed;        /* set.mutex: it is not in the map any more */
    struct list dirty;      /* set.mutex: in the set's list, or empty */

    pthread_mutex_t file_mutex; /* guards `files`; held while they are written. Before `mutex`. */
    struct applog_files files;

    pthread_mutex_t mutex; /* guards the following */
    uint64_t first;        /* offset of the first byte that there is */
    uint64_t written;      /* offset of the first byte that is not in a file */
    struct buf active;     /* appended, behind `writing` */
    struct buf writing;    /* with the writer, from `written` on */
    uint64_t dropped;      /* lines since the last that had room */
    bool is_gone;          /* it was removed: nothing is kept any more */
    bool is_dirty;         /* in the set's list, or on its way there */
    bool is_urgent;        /* the writer was woken for it */
    uint64_t flushes;      /* attempts to write that have ended */
    enum err flush_error;  /* of the last one */
    struct op_queue appended, flushed;
};

struct applog_set {
    char *directory;
    struct applog_limits limits;
    pthread_mutex_t mutex; /* guards the following */
    struct map logs;       /* by app id */
    struct list dirty;
    pthread_cond_t wanted;
    bool stop, urgent;
    pthread_t writer;
    bool writer_started;
};

/* applog_line.c */

/* How much of a guest's line makes the first line of the log: all, or what comes before the
 * character that does not fit. */
size_t applog_piece_length(struct str line);
/* Appends one line of the log. On failure nothing is appended. */
MUST_USE enum err applog_format(struct buf *text, uint64_t realtime_ns, uint64_t run_id,
                                const char *stream, struct str line);

/* applog_file.c: blocking, with file_mutex held. */

/* Finds the segments and cuts a half line at the end. A directory that is not there is an empty
 * log. */
MUST_USE enum err applog_files_open(struct applog_files *files);
void applog_files_done(struct applog_files *files);
uint64_t applog_files_first(const struct applog_files *files);
uint64_t applog_files_end(const struct applog_files *files);
/* Writes whole lines at the end. On failure none of them is there. */
MUST_USE enum err applog_files_write(struct applog_files *files, struct str lines);
/* Removes the oldest segments over the limits; `now_ns` is realtime. */
void applog_files_trim(struct applog_files *files, const struct applog_limits *limits,
                       uint64_t now_ns);
/* Reads at most `length` bytes that lie in one segment, at `offset` or, where that was removed,
 * from the next there is. */
MUST_USE enum err applog_files_read(struct applog_files *files, uint64_t offset, void *data,
                                    size_t length, size_t *ret_read, uint64_t *ret_offset);

/* Forgets logs that nobody has had for a while. */
void applog_forget_idle(struct applog_set *set, uint64_t now_ns);
/* Removes what is over the limits, of all logs that there are. */
void applog_trim_all(struct applog_set *set, uint64_t realtime_ns);
