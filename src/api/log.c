/* Logs by offset: what one run wrote (/proc/ID/log, stdout, stderr), and what all runs of an app
 * wrote (/apps/NAME/log). */
#include "api/handlers.h"
#include "api/run_answer.h"

#include <inttypes.h>
#include <stdio.h>

/* ?from=N; answers 400 and returns false if it is no number. */
static bool parse_from(struct request *request, uint64_t *ret_from) {
    const struct query_pair *from = query_find(&request->query, "from");
    if (from && str_to_u64(from->value, ret_from)) {
        request_fail_status(request, 400, "from='" STR_FORMAT "' is no offset in bytes",
                            STR_ARGS(from->value));
        return false;
    }
    return true;
}

/* `name` is given, without a value: one that says no would be taken for yes. Answers 400 and
 * returns false if it has one. */
static bool parse_flag(struct request *request, const char *name, bool *ret_given) {
    const struct query_pair *pair = query_find(&request->query, name);
    if (pair && pair->value.length > 0) {
        request_fail_status(request, 400,
                            "%s='" STR_FORMAT "' is not valid; write %s without a value, or leave "
                            "it out",
                            name, STR_ARGS(pair->value), name);
        return false;
    }
    *ret_given = pair != NULL;
    return true;
}

/* --- a run ------------------------------------------------------------------------------------ */

static const char *const run_parameters[] = {"from", "follow", "attach", NULL};

struct run_log {
    struct run_answer *answer;
    struct run *run; /* a reference; NULL unless this client is bound to it (?attach) */
};

static void run_start_reading(struct request *request, unsigned streams, bool follow) {
    uint64_t id = 0, from = 0;
    bool follows, attached;
    if (!request_check_parameters(request, run_parameters) || !parse_from(request, &from) ||
        !parse_flag(request, "follow", &follows) || !parse_flag(request, "attach", &attached)) {
        return;
    }
    struct str id_text = request_second_component(request);
    struct run *run = NULL;
    if (str_to_u64(id_text, &id) || runs_find(request->api->runs, id, &run)) {
        request_fail_status(request, 404,
                            "no run " STR_FORMAT "; GET /proc lists those that run or ended lately",
                            STR_ARGS(id_text));
        return;
    }
    struct run_answer_options options = {
        .run = run,
        .from = from,
        .streams = streams,
        .follow = follow || follows,
        .attached = attached,
        .form = request->accept == ACCEPT_NDJSON ? ACCEPT_NDJSON : ACCEPT_TEXT,
    };
    struct run_log *log = calloc(1, sizeof *log);
    enum err err = log ? ERR_OK : ERR_NOMEM;
    request->state = log;
    if (!err) {
        log->run = options.attached ? run_ref(run) : NULL;
        err = run_answer_start(request, &options, &log->answer);
    }
    run_unref(run);
    if (err) {
        request_fail(request, err, NULL);
    }
}

static void run_log_start(struct request *request) {
    run_start_reading(request, RUN_STDOUT | RUN_STDERR, false);
}
static void run_stdout_start(struct request *request) {
    run_start_reading(request, RUN_STDOUT, true);
}
static void run_stderr_start(struct request *request) {
    run_start_reading(request, RUN_STDERR, true);
}

static void run_step(struct request *request) {
    struct run_log *log = request->state;
    if (log && log->answer) {
        run_answer_step(log->answer);
    }
}

static void run_end(struct request *request, bool completed) {
    (void)completed;
    struct run_log *log = request->state;
    if (!log) {
        return;
    }
    if (log->run) {
        /* The client of a dialogue has gone. Nothing if the run has ended. */
        run_kill(log->run, RUN_REASON_CLIENT);
        run_unref(log->run);
    }
    run_answer_free(log->answer);
    free(log);
}

const struct request_handler run_log_handler = {
    .start = run_log_start, .step = run_step, .end = run_end};
const struct request_handler run_stdout_handler = {
    .start = run_stdout_start, .step = run_step, .end = run_end};
const struct request_handler run_stderr_handler = {
    .start = run_stderr_start, .step = run_step, .end = run_end};

/* --- an app ----------------------------------------------------------------------------------- */

#define PIECE_BYTES (16 * KIB)
/* A line of the log is never longer (store/applog.h). */
#define LINE_BYTES_MAX (32 * KIB)

struct app_log {
    struct request *request;
    struct applog *log;
    uint64_t offset;
    bool follow, waiting, ended;
    struct buf ready; /* lines to be sent */
    size_t taken;
    struct buf partial; /* ?run=ID: the beginning of a line */
    struct str run;     /* ?run=ID, or length 0 */
};

/* "TIME RUN STREAM TEXT": whether it is of this run. The words about cut pieces belong to
 * everybody. */
static bool is_of_run(struct str line, struct str run) {
    str_cut(&line, ' ');
    struct str id = str_cut(&line, ' ');
    return str_equal(id, run) || str_equal_text(id, "-");
}

/* Moves the whole lines of the wanted run from `partial` to `ready`. */
static enum err filter_lines(struct app_log *log) {
    size_t used = 0;
    while (used < log->partial.length) {
        const char *start = (const char *)log->partial.data + used;
        const char *newline = memchr(start, '\n', log->partial.length - used);
        if (!newline) {
            break;
        }
        struct str line = {start, (size_t)(newline - start) + 1};
        enum err err = is_of_run(line, log->run) ? buf_append_str(&log->ready, line) : ERR_OK;
        if (err) {
            return err;
        }
        used += line.length;
    }
    buf_consume(&log->partial, used);
    return ERR_OK;
}

/* Polled: more into `ready`; OK with nothing added is the end. */
static enum err read_more(struct app_log *log) {
    struct op *op = &log->request->op;
    while (log->ready.length == 0 && !log->ended) {
        struct buf *into = log->run.length ? &log->partial : &log->ready;
        if (into->length > LINE_BYTES_MAX) {
            into->length = 0; /* no line is that long: damaged */
        }
        enum err err = buf_reserve(into, PIECE_BYTES);
        if (err) {
            return err;
        }
        size_t length = 0;
        uint64_t begins = log->offset;
        err = applog_read(op, log->log, log->offset, into->data + into->length, PIECE_BYTES,
                          &length, &begins);
        if (err) {
            return err;
        }
        if (length == 0 && !log->follow) {
            log->ended = true;
            return ERR_OK;
        }
        if (length == 0) {
            err = op_queue_wait(applog_appended(log->log), op);
            if (err) {
                return err;
            }
            if (applog_end_offset(log->log) <= log->offset) {
                return ERR_PENDING;
            }
            enum err ignored = op_finish(op, ERR_OK);
            (void)ignored;
            continue;
        }
        if (begins > log->offset) {
            err = applog_format_cut(&log->ready, log->offset, begins);
            if (err) {
                return err;
            }
            log->offset = begins;
            continue; /* read again, from there */
        }
        into->length += length;
        log->offset = begins + length;
        if (log->run.length) {
            err = filter_lines(log);
            if (err) {
                return err;
            }
        }
    }
    return ERR_OK;
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct app_log *log = argument;
    log->waiting = false;
    if (log->taken == log->ready.length) {
        log->ready.length = 0;
        log->taken = 0;
        enum err err = read_more(log);
        if (err == ERR_PENDING) {
            log->waiting = true;
            return HTTP_PULL_WAIT;
        }
        if (err) {
            return HTTP_PULL_ABORT;
        }
    }
    size_t length = MIN(size, log->ready.length - log->taken);
    if (length == 0) {
        return HTTP_PULL_END;
    }
    memcpy(buffer, log->ready.data + log->taken, length);
    log->taken += length;
    *ret_length = length;
    return HTTP_PULL_DATA;
}

static const char *const app_parameters[] = {"from", "follow", "run", NULL};

/* ?run=ID, or nothing; answers 400 and returns false if it is no id. */
static bool parse_run(struct request *request, struct str *ret_run) {
    const struct query_pair *pair = query_find(&request->query, "run");
    uint64_t id;
    if (pair && (str_to_u64(pair->value, &id) || pair->value.data[0] == '0')) {
        request_fail_status(request, 400,
                            "run='" STR_FORMAT "' is no id of a run, such as run=7; GET /proc "
                            "lists those that run or ended lately",
                            STR_ARGS(pair->value));
        return false;
    }
    *ret_run = pair ? pair->value : (struct str){0};
    return true;
}

static void app_log_start(struct request *request) {
    uint64_t from = 0;
    bool follows;
    struct str run;
    if (!request_check_parameters(request, app_parameters) || !parse_from(request, &from) ||
        !parse_flag(request, "follow", &follows) || !parse_run(request, &run)) {
        return;
    }
    struct app *app = NULL;
    if (!request_find_app(request, &app)) {
        return;
    }
    int64_t app_id = app->id;
    app_unref(app);
    struct app_log *log = calloc(1, sizeof *log);
    if (!log) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = log;
    log->request = request;
    log->follow = follows;
    log->run = run;
    log->offset = from;
    enum err err = applog_get(request->api->logs, app_id, &log->log);
    char end_text[24];
    if (!err && from > applog_end_offset(log->log)) {
        request_fail_status(request, 416, "the log ends at %" PRIu64, applog_end_offset(log->log));
        return;
    }
    if (!err) {
        /* Where the next reading may begin, for those who come back. */
        snprintf(end_text, sizeof end_text, "%" PRIu64, applog_end_offset(log->log));
        err = http_add_header(request->exchange, "Log-End", end_text);
    }
    if (!err) { /* guests wrote it */
        err = http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
    }
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request->responded = true;
    http_respond_stream(request->exchange, 200, "text/plain; charset=utf-8", HTTP_LENGTH_UNKNOWN,
                        pull, log);
}

static void app_log_step(struct request *request) {
    struct app_log *log = request->state;
    if (log && log->waiting) {
        log->waiting = false;
        http_pull_resume(request->exchange);
    }
}

static void app_log_end(struct request *request, bool completed) {
    (void)completed;
    struct app_log *log = request->state;
    if (!log) {
        return;
    }
    applog_unref(log->log);
    buf_done(&log->ready);
    buf_done(&log->partial);
    free(log);
}

const struct request_handler app_log_handler = {
    .start = app_log_start, .step = app_log_step, .end = app_log_end};
