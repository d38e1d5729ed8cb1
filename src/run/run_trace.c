/* The record of a run's host calls: written by its loop, a turn's lines at once, read by anybody.
 * It is kept as output is, in memory at first, then in an unlinked file. */
#include "run/internal.h"

enum err run_trace_new(struct run_trace **ret_trace) {
    struct run_trace *trace = calloc(1, sizeof(*trace));
    if (!trace) {
        return ERR_NOMEM;
    }
    trace->calls.room_bytes = RUN_TRACE_BYTES_MAX;
    output_init(&trace->record);
    *ret_trace = trace;
    return ERR_OK;
}

void run_trace_free(struct run_trace *trace) {
    if (trace) {
        wasi_trace_done(&trace->calls);
        output_done(&trace->record);
        free(trace);
    }
}

void run_trace_begin(struct run *run) {
    run->trace->calls.began_ns = run->turn_started_ns;
    run->guest->wasi.trace = &run->trace->calls;
}

static void take_text(struct run *run, bool is_last) {
    struct run_trace *trace = run->trace;
    struct buf *text = &trace->calls.text;
    pthread_mutex_lock(&run->lock);
    enum err err = output_append(&trace->record, run->runs->catalog, RUN_STDOUT, text->data,
                                 text->length, run->created_realtime_ns);
    trace->has_ended = is_last;
    pthread_mutex_unlock(&run->lock);
    if (err) {
        trace->calls.room_bytes = 0; /* no memory, or the disk is full: no more */
    }
    text->length = 0;
    op_queue_wake_all(&run->changed);
}

void run_trace_flush(struct run *run) {
    if (run->trace->calls.text.length > 0) {
        take_text(run, false);
    }
}

void run_trace_end(struct run *run, const char *reason, int32_t exit_status) {
    char how[32];
    snprintf(how, sizeof(how), "%s %d", reason, exit_status);
    wasi_trace_close(&run->trace->calls, how);
    take_text(run, true);
    wasi_trace_done(&run->trace->calls);
    if (run->guest) {
        run->guest->wasi.trace = NULL;
    }
}

bool run_has_trace(const struct run *run) {
    return run->trace;
}

static enum err try_read(struct run *run, uint64_t offset, void *data, size_t size,
                         size_t *ret_read) {
    struct run_reader reader = {.offset = offset};
    struct output_frame frame;
    pthread_mutex_lock(&run->lock);
    enum err err =
        output_read(&run->trace->record, &reader, RUN_STDOUT, data, size, ret_read, &frame);
    if (!err && *ret_read == 0 && !run->trace->has_ended) {
        err = ERR_PENDING;
    }
    pthread_mutex_unlock(&run->lock);
    return err;
}

enum err run_trace_read(struct op *op, struct run *run, uint64_t offset, void *data, size_t size,
                        size_t *ret_read) {
    if (!run->trace) {
        return ERR_NOENT;
    }
    enum err err = try_read(run, offset, data, size, ret_read);
    if (err != ERR_PENDING) {
        return op_finish(op, err);
    }
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    err = op_queue_wait(&run->changed, op);
    if (!err) {
        /* Once more: it may have come between the look and the wait. */
        err = try_read(run, offset, data, size, ret_read);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}
