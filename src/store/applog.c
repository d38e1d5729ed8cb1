#include "store/applog.h"

#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/applog_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

/* The longest that one line of the log can be: every byte escaped. */
enum { LINE_ROOM = 4 * APPLOG_LINE_MAX + 128, WRITE_MAX = 256 * 1024 };

static const uint64_t idle_max_ns = 10 * NS_PER_S;
static const uint64_t trim_every_ns = 3600 * NS_PER_S;

static void lock(pthread_mutex_t *mutex) {
    INVARIANT(pthread_mutex_lock(mutex) == 0);
}

static void unlock(pthread_mutex_t *mutex) {
    INVARIANT(pthread_mutex_unlock(mutex) == 0);
}

/* Logs */

static void log_free(struct applog *log) {
    op_queue_done(&log->appended);
    op_queue_done(&log->flushed);
    applog_files_done(&log->files);
    pthread_mutex_destroy(&log->file_mutex);
    pthread_mutex_destroy(&log->mutex);
    buf_done(&log->active);
    buf_done(&log->writing);
    free(log);
}

static enum err log_new(struct applog_set *set, int64_t app_id, struct applog **ret_log) {
    struct applog *log = calloc(1, sizeof *log);
    if (!log) {
        return ERR_NOMEM;
    }
    log->set = set;
    log->app_id = app_id;
    log->references = 1;
    list_init(&log->dirty);
    pthread_mutex_init(&log->file_mutex, NULL);
    pthread_mutex_init(&log->mutex, NULL);
    log->files.descriptor = -1;
    uint64_t share = set->limits.bytes_max / 8;
    log->files.segment_max =
        share ? MIN(MAX(share, 4 * KIB), (uint64_t)APPLOG_SEGMENT_MAX) : APPLOG_SEGMENT_MAX;
    enum err err = op_queue_init(&log->appended);
    err = err ? err : op_queue_init(&log->flushed);
    if (!err && asprintf(&log->files.directory, "%s/%lld", set->directory, (long long)app_id) < 0) {
        log->files.directory = NULL;
        err = ERR_NOMEM;
    }
    err = err ? err : applog_files_open(&log->files);
    if (err) {
        log_free(log);
        return err;
    }
    log->first = applog_files_first(&log->files);
    log->written = applog_files_end(&log->files);
    *ret_log = log;
    return ERR_OK;
}

static struct applog *find_log(struct applog_set *set, int64_t app_id) {
    struct map_node *node = map_find(&set->logs, MAP_KEY(app_id));
    return node ? CONTAINER_OF(node, struct applog, node) : NULL;
}

enum err applog_get(struct applog_set *set, int64_t app_id, struct applog **ret_log) {
    enum err err = ERR_OK;
    lock(&set->mutex);
    struct applog *log = find_log(set, app_id);
    if (log) {
        log->references++;
    } else {
        err = log_new(set, app_id, &log);
        if (!err) {
            err = map_insert(&set->logs, &log->node, MAP_KEY(log->app_id));
            if (err) {
                log_free(log);
            }
        }
    }
    unlock(&set->mutex);
    if (!err) {
        *ret_log = log;
    }
    return err;
}

void applog_unref(struct applog *log) {
    if (!log) {
        return;
    }
    struct applog_set *set = log->set;
    lock(&set->mutex);
    bool last = --log->references == 0;
    if (last) {
        log->idle_since_ns = clock_monotonic_ns();
    }
    /* Others stay for a while: their app may run again. */
    bool gone = last && log->is_removed && list_is_empty(&log->dirty);
    unlock(&set->mutex);
    if (gone) {
        log_free(log);
    }
}

void applog_remove(struct applog_set *set, int64_t app_id) {
    struct applog *log;
    if (applog_get(set, app_id, &log)) {
        return; /* what is there goes with the catalog's leftovers */
    }
    lock(&set->mutex);
    map_remove(&set->logs, &log->node);
    list_remove(&log->dirty);
    log->is_removed = true;
    unlock(&set->mutex);
    lock(&log->file_mutex);
    lock(&log->mutex);
    log->first = log->written = log->written + log->writing.length + log->active.length;
    buf_done(&log->writing);
    buf_done(&log->active);
    log->is_gone = true;
    unlock(&log->mutex);
    if (fsio_remove_tree(log->files.directory)) {
        log_debug("the log %s can't be removed", log->files.directory);
    }
    log->files.count = 0;
    unlock(&log->file_mutex);
    op_queue_wake_all(&log->appended);
    op_queue_wake_all(&log->flushed);
    applog_unref(log);
}

/* Appending */

/* mutex. Says what was dropped, in its place. */
static void say_dropped(struct applog *log, uint64_t realtime_ns) {
    if (log->dropped == 0) {
        return;
    }
    char line[96];
    snprintf(line, sizeof line,
             "%llu lines were dropped here: they came faster than they could be written",
             (unsigned long long)log->dropped);
    if (!applog_format(&log->active, realtime_ns, 0, "sys", str_of(line))) {
        log->dropped = 0;
    }
}

/* Puts the log in the list of those that the writer looks at. */
static void make_dirty(struct applog *log, bool urgent) {
    struct applog_set *set = log->set;
    lock(&set->mutex);
    if (!log->is_removed && list_is_empty(&log->dirty)) {
        list_append(&set->dirty, &log->dirty);
    }
    set->urgent = set->urgent || urgent;
    pthread_cond_signal(&set->wanted);
    unlock(&set->mutex);
}

void applog_append(struct applog *log, uint64_t realtime_ns, uint64_t run_id, const char *stream,
                   struct str line) {
    bool first_piece = true;
    lock(&log->mutex);
    bool is_gone = log->is_gone;
    while (!is_gone && (first_piece || line.length > 0)) {
        struct str piece = {line.data, applog_piece_length(line)};
        if (log->active.length + 2 * LINE_ROOM > APPLOG_BUFFER_MAX) {
            log->dropped++;
        } else {
            say_dropped(log, realtime_ns);
            if (applog_format(&log->active, realtime_ns, run_id, stream, piece)) {
                log->dropped++;
            }
        }
        line.length -= piece.length;
        line.data = line.length ? line.data + piece.length : NULL;
        first_piece = false;
    }
    bool urgent = !is_gone && log->active.length >= APPLOG_FLUSH_AT && !log->is_urgent;
    bool dirty = !is_gone && !log->is_dirty;
    log->is_urgent = log->is_urgent || urgent;
    log->is_dirty = log->is_dirty || dirty;
    unlock(&log->mutex);
    if (dirty || urgent) {
        make_dirty(log, urgent);
    }
    op_queue_wake_all(&log->appended);
}

uint64_t applog_first_offset(struct applog *log) {
    lock(&log->mutex);
    uint64_t first = log->first;
    unlock(&log->mutex);
    return first;
}

/* mutex */
static uint64_t end_offset(const struct applog *log) {
    return log->written + log->writing.length + log->active.length;
}

uint64_t applog_end_offset(struct applog *log) {
    lock(&log->mutex);
    uint64_t end = end_offset(log);
    unlock(&log->mutex);
    return end;
}

struct op_queue *applog_appended(struct applog *log) {
    return &log->appended;
}

/* Writing */

/* How much of `lines` is written at once: whole lines. */
static size_t write_length(const struct applog *log, struct str lines) {
    size_t max = (size_t)MIN((uint64_t)WRITE_MAX, log->files.segment_max);
    if (lines.length <= max) {
        return lines.length;
    }
    const char *newline = memrchr(lines.data, '\n', max);
    if (!newline) {
        newline = memchr(lines.data, '\n', lines.length);
    }
    return newline ? (size_t)(newline - lines.data) + 1 : lines.length;
}

/* file_mutex. Writes what is in `writing`; what has got to the file leaves it. */
static enum err write_out(struct applog *log) {
    enum err err = ERR_OK;
    size_t done = 0;
    while (done < log->writing.length && !err) {
        /* Only this thread changes `writing`; the mutex is for those that read. */
        struct str left = {(const char *)log->writing.data + done, log->writing.length - done};
        left.length = write_length(log, left);
        err = applog_files_write(&log->files, left);
        done += err ? 0 : left.length;
    }
    if (done > 0) {
        lock(&log->mutex);
        buf_consume(&log->writing, done);
        log->written += done;
        unlock(&log->mutex);
    }
    return err;
}

/* Writes what was appended; on failure it is dirty again. */
static void write_log(struct applog *log) {
    lock(&log->file_mutex);
    lock(&log->mutex);
    if (log->is_gone) {
        unlock(&log->mutex);
        unlock(&log->file_mutex);
        return;
    }
    if (log->writing.length == 0) { /* else the last attempt has failed */
        struct buf empty = log->writing;
        log->writing = log->active;
        log->active = empty;
        say_dropped(log, clock_realtime_ns());
    }
    unlock(&log->mutex);
    enum err err = write_out(log);
    applog_files_trim(&log->files, &log->set->limits, clock_realtime_ns());
    lock(&log->mutex);
    log->first = applog_files_first(&log->files);
    if (log->writing.length == 0 && log->writing.capacity > APPLOG_FLUSH_AT * 2) {
        buf_done(&log->writing); /* after a burst */
    }
    bool again = log->writing.length > 0 || log->active.length > 0;
    log->is_dirty = again;
    log->is_urgent = err != ERR_OK; /* what fails is tried once a second, not at each line */
    log->flush_error = err;
    log->flushes++;
    unlock(&log->mutex);
    unlock(&log->file_mutex);
    if (again) {
        make_dirty(log, false);
    }
    op_queue_wake_all(&log->flushed);
}

/* set.mutex, released while writing. Works off the logs that are dirty now. */
static void write_dirty(struct applog_set *set) {
    struct list now;
    list_init(&now);
    while (!list_is_empty(&set->dirty)) {
        struct list *node = set->dirty.next;
        list_remove(node);
        list_append(&now, node);
    }
    while (!list_is_empty(&now)) {
        struct applog *log = CONTAINER_OF(now.next, struct applog, dirty);
        list_remove(&log->dirty);
        log->references++;
        unlock(&set->mutex);
        write_log(log);
        applog_unref(log);
        lock(&set->mutex);
    }
}

void applog_forget_idle(struct applog_set *set, uint64_t now_ns) {
    lock(&set->mutex);
    struct map_node *node = map_next(&set->logs, NULL);
    while (node) {
        struct applog *log = CONTAINER_OF(node, struct applog, node);
        node = map_next(&set->logs, node);
        if (log->references == 0 && list_is_empty(&log->dirty) &&
            now_ns - log->idle_since_ns >= idle_max_ns) {
            map_remove(&set->logs, &log->node);
            log_free(log);
        }
    }
    unlock(&set->mutex);
}

void applog_trim_all(struct applog_set *set, uint64_t realtime_ns) {
    DIR *stream = opendir(set->directory);
    struct dirent *entry;
    while (stream && (entry = readdir(stream))) {
        uint64_t app_id;
        struct applog *log;
        if (str_to_u64(str_of(entry->d_name), &app_id) || app_id > INT64_MAX ||
            applog_get(set, (int64_t)app_id, &log)) {
            continue;
        }
        lock(&log->file_mutex);
        if (!log->is_gone) {
            applog_files_trim(&log->files, &set->limits, realtime_ns);
        }
        lock(&log->mutex);
        log->first = log->is_gone ? log->first : applog_files_first(&log->files);
        unlock(&log->mutex);
        unlock(&log->file_mutex);
        applog_unref(log);
    }
    if (stream) {
        closedir(stream);
    }
}

static void wait_for_work(struct applog_set *set) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    while (!set->stop && !set->urgent) {
        if (pthread_cond_timedwait(&set->wanted, &set->mutex, &until)) {
            return;
        }
    }
}

static void *run_writer(void *argument) {
    struct applog_set *set = argument;
    thread_set_name("log");
    uint64_t trim_ns = 0;
    bool stop = false;
    while (!stop) {
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns >= trim_ns) {
            applog_trim_all(set, clock_realtime_ns());
            trim_ns = now_ns + trim_every_ns;
        }
        applog_forget_idle(set, now_ns);
        lock(&set->mutex);
        wait_for_work(set);
        stop = set->stop;
        set->urgent = false;
        write_dirty(set);
        unlock(&set->mutex);
    }
    return NULL;
}

/* Flushing and reading */

struct flush_state {
    uint64_t end;     /* everything before this is to be written */
    uint64_t flushes; /* attempts before ours */
};

static void drop_flush(struct op *op) {
    free(op->state);
}

static enum err poll_flush(struct applog *log, const struct flush_state *state) {
    lock(&log->mutex);
    enum err err = log->written >= state->end                          ? ERR_OK
                   : log->flushes > state->flushes && log->flush_error ? log->flush_error
                                                                       : ERR_PENDING;
    unlock(&log->mutex);
    return err;
}

enum err applog_flush(struct op *op, struct applog *log) {
    struct flush_state *state = op->state;
    bool begins = !state;
    if (begins) {
        state = malloc(sizeof *state);
        if (!state) {
            return ERR_NOMEM;
        }
        lock(&log->mutex);
        *state = (struct flush_state){end_offset(log), log->flushes};
        unlock(&log->mutex);
        op_set_state(op, state, drop_flush);
    }
    enum err err = poll_flush(log, state);
    if (err == ERR_PENDING) {
        enum err wait_err = op_queue_wait(&log->flushed, op);
        if (begins) {
            make_dirty(log, true);
        }
        err = wait_err ? wait_err : poll_flush(log, state);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

enum { READ_MAX = 256 * 1024 };

struct read_work {
    struct op_work base; /* first */
    struct applog *log;  /* a reference */
    uint64_t offset;
    size_t length;
    enum err result;
    size_t got;
    uint64_t got_offset;
    uint8_t data[];
};

static void run_read(struct op_work *base) {
    struct read_work *work = (struct read_work *)base;
    lock(&work->log->file_mutex);
    work->result = applog_files_read(&work->log->files, work->offset, work->data, work->length,
                                     &work->got, &work->got_offset);
    unlock(&work->log->file_mutex);
}

static void release_read(struct op_work *base) {
    struct read_work *work = (struct read_work *)base;
    applog_unref(work->log);
    free(work);
}

static enum err start_read(struct op *op, struct applog *log, uint64_t offset, size_t length) {
    length = MIN(length, (size_t)READ_MAX);
    struct read_work *work = malloc(sizeof *work + length);
    if (!work) {
        return ERR_NOMEM;
    }
    *work = (struct read_work){.log = log, .offset = offset, .length = length};
    work->base.run = run_read;
    work->base.release = release_read;
    lock(&log->set->mutex);
    log->references++;
    unlock(&log->set->mutex);
    return op_work_start(op, &work->base);
}

/* mutex. What is in a buffer that begins at `begin`. */
static size_t read_buffer(const struct buf *buffer, uint64_t begin, uint64_t offset, void *data,
                          size_t length) {
    if (offset < begin || offset - begin >= buffer->length) {
        return 0;
    }
    size_t size = MIN(length, buffer->length - (size_t)(offset - begin));
    memcpy(data, buffer->data + (offset - begin), size);
    return size;
}

enum err applog_read(struct op *op, struct applog *log, uint64_t offset, void *data, size_t length,
                     size_t *ret_read, uint64_t *ret_offset) {
    struct read_work *work = op->state;
    if (work) {
        if (!work->base.finished) {
            return ERR_PENDING;
        }
        enum err err = work->result;
        if (!err) {
            memcpy(data, work->data, MIN(work->got, length));
            *ret_read = MIN(work->got, length);
            *ret_offset = work->got_offset;
        }
        return op_finish(op, err);
    }
    size_t got = 0;
    lock(&log->mutex);
    uint64_t end = end_offset(log);
    bool in_file = offset < log->written && log->written > log->first;
    if (!in_file) {
        offset = MAX(offset, log->written);
        got = read_buffer(&log->writing, log->written, offset, data, length);
        if (got == 0) {
            got =
                read_buffer(&log->active, log->written + log->writing.length, offset, data, length);
        }
    }
    unlock(&log->mutex);
    if (in_file && length > 0) {
        return start_read(op, log, offset, length);
    }
    if (offset > end) {
        return ERR_RANGE;
    }
    *ret_read = got;
    *ret_offset = offset;
    return ERR_OK;
}

/* The set */

enum err applog_set_new(const char *directory, const struct applog_limits *limits,
                        struct applog_set **ret_set) {
    enum err err = fsio_make_directories(directory);
    if (err) {
        return err;
    }
    struct applog_set *set = calloc(1, sizeof *set);
    char *copy = strdup(directory);
    if (!set || !copy) {
        free(set);
        free(copy);
        return ERR_NOMEM;
    }
    set->directory = copy;
    set->limits = *limits;
    list_init(&set->dirty);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&set->mutex, NULL);
    pthread_cond_init(&set->wanted, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int result = pthread_create(&set->writer, NULL, run_writer, set);
    set->writer_started = result == 0;
    if (result) {
        applog_set_free(set);
        return err_from_errno(result);
    }
    *ret_set = set;
    return ERR_OK;
}

void applog_set_free(struct applog_set *set) {
    if (!set) {
        return;
    }
    lock(&set->mutex);
    set->stop = true;
    pthread_cond_signal(&set->wanted);
    unlock(&set->mutex);
    if (set->writer_started) {
        pthread_join(set->writer, NULL);
    }
    struct map_node *node;
    while ((node = map_next(&set->logs, NULL))) {
        struct applog *log = CONTAINER_OF(node, struct applog, node);
        write_log(log); /* what came while the writer ended */
        list_remove(&log->dirty);
        map_remove(&set->logs, node);
        log_free(log);
    }
    map_done(&set->logs);
    pthread_mutex_destroy(&set->mutex);
    pthread_cond_destroy(&set->wanted);
    free(set->directory);
    free(set);
}
