/* /apps/NAME/start: a run with arguments and whatever else /run takes. The question is a parameter
 * a line, `name=value`, the answer the id of the run and a newline; the rest is in /proc/ID. */
#include "dev/apps_internal.h"

#include "run/run_parameters.h"

#include <inttypes.h>

struct start {
    const struct apps_file *node; /* borrowed from the context */
    struct buf question;
    bool is_parsed, is_counted;
    struct run_parameters parameters; /* borrow from `question` */
    struct app_version *version;      /* owned */
    char answer[24];
    size_t answer_length, answer_taken;
};

static enum err start_begin(struct op *op, void *context, void **ret_exchange) {
    (void)op;
    struct start *start = calloc(1, sizeof(*start));
    if (!start) {
        return ERR_NOMEM;
    }
    start->node = apps_file_of(context);
    *ret_exchange = start;
    return ERR_OK;
}

static enum err start_question(struct op *op, void *exchange, const void *data, size_t length,
                               size_t *ret_taken) {
    struct start *start = exchange;
    if (length > APPS_START_BYTES_MAX - start->question.length) {
        return buf_fail(op->message, ERR_2BIG, "the parameters of a run have at most %d bytes",
                        APPS_START_BYTES_MAX);
    }
    enum err err = buf_append(&start->question, data, length);
    if (!err) {
        *ret_taken = length;
    }
    return err;
}

static enum err fail_unknown(struct op *op, struct str name) {
    cleanup_buf struct buf names = {0};
    for (size_t i = 0; run_parameters_name(i); i++) {
        (void)!buf_printf(&names, " %s", run_parameters_name(i));
    }
    return buf_fail(op->message, ERR_INVAL,
                    "a run has no parameter '%.*s'; there are, a line each:%s",
                    (int)MIN(name.length, (size_t)32), name.data, buf_text(&names));
}

static enum err parse(struct op *op, struct start *start) {
    struct str rest = buf_str(&start->question);
    enum err err = ERR_OK;
    while (!err && rest.data) {
        struct str value = str_cut(&rest, '\n');
        if (value.length == 0) {
            continue;
        }
        struct str name = str_cut(&value, '=');
        err = run_parameters_add(&start->parameters, name, value, op->message);
        if (err == ERR_NOENT) {
            err = fail_unknown(op, name);
        }
    }
    start->is_parsed = !err;
    return err;
}

/* It did not come as far as run_start, which counts its own; a read of it fails again and again. */
static enum err count_refusal(struct start *start, enum err err) {
    if (err && err != ERR_PENDING && !start->is_counted) {
        start->is_counted = true;
        runs_count_refused(start->node->apps->runs, err);
    }
    return err;
}

/* Polled: the version that is wanted may have to be looked up. */
static enum err start_run(struct op *op, struct start *start) {
    const struct apps_file *node = start->node;
    struct run_request request;
    run_parameters_request(&start->parameters, &request);
    if (start->parameters.version_number) {
        enum err err = catalog_version(op, node->apps->catalog, node->app,
                                       start->parameters.version_number, &start->version);
        if (count_refusal(start, err)) {
            return err == ERR_NOENT ? buf_fail(op->message, err, "'%s' has no version %u",
                                               node->app->name, start->parameters.version_number)
                                    : err;
        }
        request.version = start->version;
    }
    struct run *run;
    enum err err = apps_run_start(op, node->apps, node->app->id, &request, &run);
    if (!err) {
        int length = snprintf(start->answer, sizeof(start->answer), "%" PRIu64 "\n", run_id(run));
        start->answer_length = (size_t)length;
        run_unref(run);
    }
    return err;
}

static enum err start_answer(struct op *op, void *exchange, void *data, size_t length,
                             size_t *ret_read) {
    struct start *start = exchange;
    enum err err = start->is_parsed ? ERR_OK : count_refusal(start, parse(op, start));
    if (!err && start->answer_length == 0) {
        err = start_run(op, start);
    }
    if (err) {
        return err;
    }
    length = MIN(length, start->answer_length - start->answer_taken);
    memcpy(data, start->answer + start->answer_taken, length);
    start->answer_taken += length;
    *ret_read = length;
    return ERR_OK;
}

/* Starting is not waited for, only done. */
static enum err start_poll(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                           uint64_t *ret_bytes) {
    (void)op;
    const struct start *start = exchange;
    bool is_over = start->answer_length > 0 && start->answer_taken == start->answer_length;
    *ret_bytes = start->answer_length - start->answer_taken;
    *ret_ready = wanted | (wanted & POLL_READABLE && is_over ? POLL_HANGUP : 0u);
    return ERR_OK;
}

static void start_done(void *exchange) {
    struct start *start = exchange;
    run_parameters_done(&start->parameters);
    app_versions_free(start->version, start->version ? 1 : 0);
    buf_done(&start->question);
    free(start);
}

static const struct transaction_service start_service = {
    .name = "start",
    .begin = start_begin,
    .question = start_question,
    .answer = start_answer,
    .poll = start_poll,
    .done = start_done,
    .release = apps_transaction_release,
};

static enum err start_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    (void)op, (void)open_flags;
    return transaction_open(&start_service, file_ref(file), file->device, file->inode, ret_file);
}

const struct dev apps_start_dev = {.name = "apps", .open = start_open, .release = apps_release};
