/* /apps/NAME/call: a run of the app in one file. The question is its standard input, the answer its
 * standard output; what it writes to standard error goes to its log. If it fails, reading does. */
#include "dev/apps_internal.h"

enum { STDERR_TAIL_MAX = 16 * KIB, LAST_LINE_MAX = 256 };

struct call {
    struct run *run; /* a reference */
    struct run_reader reader;
};

enum err apps_run_start(struct op *op, struct apps *apps, int64_t app_id,
                        struct run_request *request, struct run **ret_run) {
    struct run *parent = NULL;
    struct app *app = NULL;
    if (op->who->run_id && runs_find(apps->runs, op->who->run_id, &parent) != ERR_OK) {
        return ERR_SRCH;
    }
    /* As it is now: the file may have been open for long. */
    enum err err = catalog_find_id(apps->catalog, app_id, &app);
    if (err) {
        (void)buf_fail(op->message, err, "the app was removed");
    } else {
        request->app = app;
        request->parent = parent;
        request->traceparent = op->who->traceparent;
        request->tracestate = op->who->tracestate;
        err = run_start(apps->runs, op->loop, request, ret_run, op->message);
    }
    app_unref(app);
    run_unref(parent);
    /* AGAIN would tell a guest to wait for the file. */
    return err == ERR_AGAIN ? ERR_BUSY : err;
}

static enum err call_begin(struct op *op, void *context, void **ret_exchange) {
    const struct apps_file *node = apps_file_of(context);
    struct call *call = calloc(1, sizeof(*call));
    if (!call) {
        return ERR_NOMEM;
    }
    struct run_request request = {.stdin_open = true, .is_call = true};
    enum err err = apps_run_start(op, node->apps, node->app->id, &request, &call->run);
    if (err) {
        free(call);
        return err;
    }
    *ret_exchange = call;
    return ERR_OK;
}

/* What the run does not want to read is dropped: whether that matters, its answer tells. */
static enum err call_question(struct op *op, void *exchange, const void *data, size_t length,
                              size_t *ret_taken) {
    struct call *call = exchange;
    size_t written = length;
    enum err err = run_stdin_write(op, call->run, data, length, &written);
    if (err && err != ERR_PIPE) {
        return err;
    }
    *ret_taken = err ? length : written;
    return ERR_OK;
}

/* Until now the output was kept as far as its limit goes, because the caller was not to read. */
static enum err call_question_end(struct op *op, void *exchange) {
    (void)op;
    struct call *call = exchange;
    run_bind_reader(call->run, &call->reader);
    run_stdin_close(call->run);
    return ERR_OK;
}

/* ---- why it failed ---- */

/* What it says why it failed. That is the last line, but where a runtime has said more behind it:
 * Go the stacks of its goroutines, Rust how to see its own. */
static struct str find_last_words(struct str text) {
    struct str rest = text, last = {0}, crash = {0};
    while (rest.data) {
        struct str line = str_cut(&rest, '\n');
        last = line.length > 0 ? line : last;
        if (str_starts(line, STR("panic: ")) || str_starts(line, STR("fatal error: "))) {
            crash = line;
        } else if (str_starts(line, STR("thread '")) &&
                   memmem(line.data, line.length, " panicked at ", 13)) {
            struct str after = rest, message = str_cut(&after, '\n'); /* on a line of its own */
            crash.data = line.data;
            crash.length = line.length + (message.data ? 1 + message.length : 0);
        }
    }
    return crash.length > 0 ? crash : last;
}

/* The last words on its standard error, appended, as far as they can be shown. */
static void last_words(struct op *op, struct run *run, struct buf *text) {
    struct run_status status = run_status(run);
    struct run_reader reader = {.offset = status.output_bytes -
                                          MIN(status.output_bytes, (uint64_t)STDERR_TAIL_MAX)};
    cleanup_buf struct buf tail = {0};
    struct op child;
    op_init_child(&child, op);
    child.nonblocking = true;
    for (size_t got = 1; got > 0;) {
        char piece[512];
        unsigned stream;
        uint64_t time_ns;
        got = 0;
        if (run_output_read(&child, run, &reader, RUN_STDERR, piece, sizeof(piece), &got, &stream,
                            &time_ns) != ERR_OK ||
            buf_append(&tail, piece, got) != ERR_OK) {
            break;
        }
    }
    op_done(&child);
    struct str last = find_last_words(buf_str(&tail));
    last.length = MIN(last.length, (size_t)LAST_LINE_MAX);
    if (last.length > 0 && str_is_utf8(last) && buf_append_str(text, STR(": ")) == ERR_OK) {
        for (size_t i = 0; i < last.length; i++) {
            uint8_t byte = (uint8_t)last.data[i];
            (void)!buf_append_byte(text, byte < ' ' || byte == 0x7f ? ' ' : byte);
        }
    }
}

/* A run that has ended otherwise than well. */
static enum err explain(struct op *op, struct run *run) {
    struct run_status status = run_status(run);
    bool is_exit = status.reason == RUN_REASON_EXIT;
    cleanup_buf struct buf detail = {0};
    if (is_exit) {
        last_words(op, run, &detail);
    } else {
        cleanup_buf struct buf failure = {0};
        run_failure(run, &failure);
        struct str rest = buf_str(&failure);
        struct str line = str_cut(&rest, '\n');
        (void)!buf_printf(&detail, ": " STR_FORMAT, STR_ARGS(line));
    }
    enum err err = status.reason == RUN_REASON_FAILED && status.failure == ERR_AGAIN ? ERR_BUSY
                   : status.reason == RUN_REASON_WALL || status.reason == RUN_REASON_CPU
                       ? ERR_TIMEDOUT
                       : ERR_IO;
    if (is_exit) {
        return buf_fail(op->message, err, "'%s' failed with exit status %d%s", status.app,
                        status.exit_status, buf_text(&detail));
    }
    if (status.reason == RUN_REASON_FAILED) {
        return buf_fail(op->message, err, "'%s' could not be run%s", status.app, buf_text(&detail));
    }
    return buf_fail(op->message, err, "'%s' failed (%s)%s", status.app,
                    run_reason_text(status.reason), buf_text(&detail));
}

static enum err call_answer(struct op *op, void *exchange, void *data, size_t length,
                            size_t *ret_read) {
    struct call *call = exchange;
    size_t read = 0;
    unsigned stream;
    uint64_t time_ns;
    enum err err = run_output_read(op, call->run, &call->reader, RUN_STDOUT, data, length, &read,
                                   &stream, &time_ns);
    if (!err && read == 0) {
        struct run_status status = run_status(call->run);
        if (status.reason != RUN_REASON_EXIT || status.exit_status != 0) {
            err = explain(op, call->run);
        }
    }
    if (!err) {
        *ret_read = read;
    }
    return err;
}

static enum err call_poll(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                          uint64_t *ret_bytes) {
    struct call *call = exchange;
    *ret_bytes = 0;
    if (wanted & POLL_WRITABLE) {
        return run_stdin_poll(op, call->run, ret_ready);
    }
    return run_output_poll(op, call->run, &call->reader, RUN_STDOUT, ret_ready);
}

static void call_done(void *exchange) {
    struct call *call = exchange;
    run_client_left(call->run); /* nothing if it has ended */
    run_unref(call->run);
    free(call);
}

void apps_transaction_release(void *context) {
    file_unref(context);
}

static const struct transaction_service call_service = {
    .name = "call",
    .poll_asks = true,
    .begin = call_begin,
    .question = call_question,
    .question_end = call_question_end,
    .answer = call_answer,
    .poll = call_poll,
    .done = call_done,
    .release = apps_transaction_release,
};

static enum err call_open(struct op *op, struct file *file, unsigned open_flags,
                          struct file **ret_file) {
    (void)op, (void)open_flags;
    return transaction_open(&call_service, file_ref(file), file->device, file->inode, ret_file);
}

const struct dev apps_call_dev = {.name = "apps", .open = call_open, .release = apps_release};
