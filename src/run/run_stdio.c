/* The standard streams of a run: its input pipe, and the files 0, 1 and 2. */
#include "base/block.h"
#include "run/internal.h"

/* Of one call, so that a loop is never held for long: in the log an empty line costs as much as a
 * long one. */
enum { WRITE_MAX = 256 * 1024, WRITE_LINES_MAX = 1024 };

/* One number for the st_dev of all standard streams. */
static uint64_t stream_device(void) {
    static atomic_uint_fast64_t device;
    uint64_t number = atomic_load_explicit(&device, memory_order_acquire);
    if (number == 0) {
        uint64_t expected = 0;
        number = dev_next_number();
        if (!atomic_compare_exchange_strong(&device, &expected, number)) {
            number = expected;
        }
    }
    return number;
}

/* One of the files 0, 1 and 2, for who has it open; a run that has ended needs none. */
struct run_stream {
    struct file file;
    struct run *run; /* a reference */
};

static struct run *run_of(struct file *file) {
    return CONTAINER_OF(file, struct run_stream, file)->run;
}

static unsigned stream_of(const struct file *file) {
    return file->inode % 4 == 1 ? RUN_STDOUT : RUN_STDERR;
}

/* ---- standard input ---- */

static enum err stdin_read(struct op *op, struct file *file, void *data, size_t length,
                           uint64_t offset, size_t *ret_read) {
    (void)offset;
    struct run *run = run_of(file);
    if (!run->input) {
        *ret_read = 0;
        return ERR_OK;
    }
    return pipe_read(op, run->input, data, length, ret_read);
}

static enum err stdin_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                           uint64_t *ret_bytes) {
    struct run *run = run_of(file);
    if (!run->input) {
        *ret_ready = (wanted & POLL_READABLE) | POLL_HANGUP;
        *ret_bytes = 0;
        return ERR_OK;
    }
    return pipe_poll(op, run->input, wanted & POLL_READABLE, ret_ready, ret_bytes);
}

enum err run_stdin_write(struct op *op, struct run *run, const void *data, size_t length,
                         size_t *ret_written) {
    if (!run->input) {
        return ERR_PIPE;
    }
    return pipe_write(op, run->input, data, length, ret_written);
}

bool run_has_stdin(const struct run *run) {
    return run->input != NULL;
}

enum err run_stdin_poll(struct op *op, struct run *run, unsigned *ret_ready) {
    if (!run->input) {
        *ret_ready = POLL_WRITABLE | POLL_HANGUP;
        return ERR_OK;
    }
    uint64_t bytes;
    return pipe_poll(op, run->input, POLL_WRITABLE, ret_ready, &bytes);
}

void run_stdin_close(struct run *run) {
    if (run->input) {
        pipe_close_write(run->input);
    }
}

/* ---- standard output and error ---- */

/* How much the guest may write now: less than it wants at the limit, none while a reader is behind.
 * Called with the lock. */
static size_t room_for(struct run *run, size_t length, bool *ret_limit) {
    *ret_limit = false;
    if (run->is_web && run->has_reader) {
        return MIN(length, output_room(&run->output));
    }
    if (run->has_reader && run->output.length - run->reader_offset > RUN_READER_LAG_MAX) {
        return 0;
    }
    uint64_t charged = output_charged(&run->output);
    uint64_t left = run->limits.output_bytes > charged ? run->limits.output_bytes - charged : 0;
    if (length <= left) {
        return length;
    }
    *ret_limit = !run->is_web; /* which waits for a reader */
    return (size_t)left;
}

/* The guest was told that nobody hears it, perhaps not for the first time. */
static void note_deaf(struct run *run) {
    pthread_mutex_lock(&run->lock);
    uint64_t now_ns = clock_monotonic_ns();
    if (run->deaf_writes == 0) {
        run->deaf_since_ns = now_ns;
    }
    run->deaf_writes++;
    bool is_deaf = run->deaf_writes >= RUN_DEAF_WRITES || now_ns - run->deaf_since_ns > RUN_DEAF_NS;
    pthread_mutex_unlock(&run->lock);
    if (is_deaf) {
        run_kill(run, RUN_REASON_CLIENT);
    }
}

static enum err try_write(struct run *run, unsigned stream, const void *data, size_t length,
                          uint64_t time_ns, size_t *ret_written) {
    bool limit;
    struct buf cleanup_buf too_long = {0};
    pthread_mutex_lock(&run->lock);
    if (run->too_long.length > 0 && stream == RUN_STDOUT) {
        too_long = run->too_long;
        run->too_long = (struct buf){0};
    }
    size_t room = room_for(run, length, &limit);
    enum err err = ERR_OK;
    if (run->output_ended) {
        err = ERR_PIPE;
    } else if (run->is_unheard) {
        room = length;
        limit = false;
        err = run->is_web && unheard_drop(&run->unheard, length) ? ERR_PIPE : ERR_OK;
    } else if (room == 0 && !limit) {
        err = ERR_PENDING;
    } else {
        err = output_append(&run->output, run->runs->catalog, stream, data, room, time_ns);
    }
    pthread_mutex_unlock(&run->lock);
    if (too_long.length > 0 && run->log) {
        applog_append(run->log, run_realtime_ns(run, clock_monotonic_ns()), run->id, "sys",
                      buf_str(&too_long));
    }
    if (err) {
        return err;
    }
    if (limit) {
        /* The guest sees its write done; it ends before it can do anything else. */
        run_kill(run, RUN_REASON_OUTPUT);
    }
    *ret_written = limit ? length : room;
    if (room > 0) {
        op_queue_wake_all(&run->changed);
    }
    return ERR_OK;
}

/* How much of it is one call's. */
static size_t piece_of(const char *data, size_t length) {
    length = MIN(length, (size_t)WRITE_MAX);
    size_t piece = 0;
    for (unsigned lines = 0; lines < WRITE_LINES_MAX; lines++) {
        const char *newline = memchr(data + piece, '\n', length - piece);
        if (!newline) {
            return length;
        }
        piece = (size_t)(newline - data) + 1;
    }
    return piece;
}

static enum err output_write(struct op *op, struct file *file, const void *data, size_t length,
                             uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct run *run = run_of(file);
    unsigned stream = stream_of(file);
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    length = piece_of(data, length);
    /* A page's pieces are shown with no time of theirs: that of the turn will do. */
    uint64_t time_ns =
        run_realtime_ns(run, run->is_web ? run->turn_started_ns : clock_monotonic_ns());
    size_t written = length;
    enum err err = ERR_OK;
    bool discarded = stream == RUN_STDERR && (run->discard_stderr || run->is_web);
    if (!discarded) {
        err = try_write(run, stream, data, length, time_ns, &written);
        if (err == ERR_PENDING && op->nonblocking) {
            err = ERR_AGAIN;
        } else if (err == ERR_PENDING) {
            err = op_queue_wait(&run->changed, op);
            if (!err) {
                err = try_write(run, stream, data, length, time_ns, &written);
            }
        }
        if (err == ERR_PENDING) {
            return err;
        }
        err = op_finish(op, err);
    }
    /* Another guest may hold this file by /proc; only the run itself may end for it or cut its
     * lines. */
    bool is_own = op->who == &run->who;
    if (err == ERR_PIPE && is_own) {
        note_deaf(run);
    }
    if (err) {
        return err;
    }
    bool is_answer = stream == RUN_STDOUT && (run->is_call || run->is_web);
    bool is_logged = run->log && !is_answer;
    if (is_logged && is_own) {
        lines_append(&run->lines, run->log, run->id, stream, data, written, time_ns);
    }
    *ret_written = written;
    return ERR_OK;
}

static enum err output_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                            uint64_t *ret_bytes) {
    struct run *run = run_of(file);
    for (bool again = false;; again = true) {
        bool limit;
        pthread_mutex_lock(&run->lock);
        bool ready = room_for(run, 1, &limit) > 0 || limit || run->is_unheard;
        bool has_left = run->is_web && run->is_unheard && stream_of(file) == RUN_STDOUT;
        pthread_mutex_unlock(&run->lock);
        if (ready || op->nonblocking || !(wanted & POLL_WRITABLE)) {
            *ret_ready = ready ? wanted & POLL_WRITABLE : 0;
            *ret_ready |= has_left && *ret_ready ? (unsigned)POLL_HANGUP : 0;
            *ret_bytes = 0;
            return again ? op_finish(op, ERR_OK) : ERR_OK;
        }
        if (again) {
            return ERR_PENDING;
        }
        enum err err = op_queue_wait(&run->changed, op);
        if (err) {
            return err;
        }
    }
}

static void stream_release(struct file *file) {
    struct run_stream *stream = CONTAINER_OF(file, struct run_stream, file);
    run_unref(stream->run);
    block_free(stream, sizeof(*stream));
}

static const struct dev stdin_dev = {
    .name = "stdin",
    .read = stdin_read,
    .poll = stdin_poll,
    .release = stream_release,
};
static const struct dev output_dev = {
    .name = "stdout",
    .write = output_write,
    .poll = output_poll,
    .release = stream_release,
};

struct file *run_stream_file(struct run *run, unsigned descriptor) {
    struct run_stream *stream = block_new_raw(sizeof(*stream));
    if (!stream) {
        return NULL;
    }
    /* Standard input is no terminal (an interpreter would begin a dialogue); standard output and
     * error look like one, so that guests flush line by line. The response of a web page is none.
     */
    bool is_terminal = descriptor == 2 || (descriptor == 1 && !run->is_web);
    file_init(&stream->file, descriptor ? &output_dev : &stdin_dev, stream_device(),
              run->id * 4 + descriptor, is_terminal ? FILE_CHARACTER_DEVICE : FILE_SOCKET_STREAM,
              is_terminal ? FILE_TERMINAL : 0);
    stream->run = run_ref(run);
    return &stream->file;
}

void run_say(struct run *run, unsigned stream, struct str text, bool own_line) {
    uint64_t time_ns = run_realtime_ns(run, clock_monotonic_ns());
    if (own_line && run->log) {
        lines_flush(&run->lines, run->log, run->id, time_ns);
    }
    if (run->log && !(run->is_call && stream == RUN_STDOUT)) {
        run->lines.used_bytes = 0; /* however much the run has said, what we say of it is logged */
        lines_append(&run->lines, run->log, run->id, stream, text.data, text.length, time_ns);
    }
    if (run->is_web || (stream == RUN_STDERR && run->discard_stderr)) {
        return;
    }
    pthread_mutex_lock(&run->lock);
    struct output *output = &run->output;
    enum err err = ERR_OK;
    if (own_line && output->length > 0 && !output->last_was_newline[output->frame.stream]) {
        err = output_append(output, run->runs->catalog, stream, "\n", 1, time_ns);
    }
    if (!err) {
        /* A full disk can't be told where it would have to be written; run_failure has it. */
        err = output_append(output, run->runs->catalog, stream, text.data, text.length, time_ns);
    }
    pthread_mutex_unlock(&run->lock);
    (void)err;
    op_queue_wake_all(&run->changed);
}
