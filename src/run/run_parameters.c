#include "run/run_parameters.h"

static enum err add_to(struct run_parameters_list *list, struct str value, size_t count_max,
                       const char *what, struct buf *message) {
    if (list->count >= count_max) {
        return buf_fail(message, ERR_2BIG, "%s: more than %zu", what, count_max);
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 8;
        struct str *texts = reallocarray(list->texts, capacity, sizeof(*texts));
        if (!texts) {
            return ERR_NOMEM;
        }
        list->texts = texts;
        list->capacity = capacity;
    }
    list->texts[list->count++] = value;
    return ERR_OK;
}

static enum err add_argument(struct run_parameters *parameters, struct str value,
                             struct buf *message) {
    return add_to(&parameters->arguments, value, RUN_ARGUMENTS_MAX, "arguments", message);
}

static enum err add_variable(struct run_parameters *parameters, struct str value,
                             struct buf *message) {
    if (!value.length || value.data[0] == '=' || !memchr(value.data, '=', value.length)) {
        return buf_fail(message, ERR_INVAL, "env='" STR_FORMAT "' is not KEY=VALUE",
                        STR_ARGS(value));
    }
    return add_to(&parameters->environment, value, RUN_ENVIRONMENT_MAX, "environment", message);
}

static enum err add_tag(struct run_parameters *parameters, struct str value, struct buf *message) {
    return add_to(&parameters->tags, value, RUN_TAGS_MAX, "tags", message);
}

static enum err add_host(struct run_parameters *parameters, struct str value, struct buf *message) {
    return add_to(&parameters->net, value, APP_NET_MAX, "hosts in net", message);
}

static enum err set_call(struct run_parameters *parameters, struct str value, struct buf *message) {
    (void)message;
    parameters->request.call = value;
    return ERR_OK;
}

static enum err set_root(struct run_parameters *parameters, struct str value, struct buf *message) {
    if (value.length == 0) { /* which would look like none given */
        return buf_fail(message, ERR_INVAL,
                        "root= says nothing: it is keep, fresh or ro, in small letters, or the "
                        "name of a volume; leave it out for what the app says");
    }
    parameters->request.root = value;
    return ERR_OK;
}

static enum err set_stderr(struct run_parameters *parameters, struct str value,
                           struct buf *message) {
    if (!str_equal_text(value, "off") && !str_equal_text(value, "on")) {
        return buf_fail(message, ERR_INVAL, "stderr is 'on' or 'off'");
    }
    parameters->request.discard_stderr = str_equal_text(value, "off");
    return ERR_OK;
}

static enum err set_stdin(struct run_parameters *parameters, struct str value,
                          struct buf *message) {
    if (!str_equal_text(value, "open")) {
        return buf_fail(message, ERR_INVAL,
                        "stdin='" STR_FORMAT "' is not valid; write stdin=open, or leave it out",
                        STR_ARGS(value));
    }
    parameters->request.stdin_open = true;
    return ERR_OK;
}

/* A word that says enough without a value. One that says no would be taken for yes. */
static enum err set_flag(bool *flag, const char *name, struct str value, struct buf *message) {
    if (value.length > 0) {
        return buf_fail(message, ERR_INVAL,
                        "%s='" STR_FORMAT "' is not valid; write %s without a value, or leave it "
                        "out",
                        name, STR_ARGS(value), name);
    }
    *flag = true;
    return ERR_OK;
}

static enum err set_detach(struct run_parameters *parameters, struct str value,
                           struct buf *message) {
    return set_flag(&parameters->request.detached, "detach", value, message);
}

static enum err set_trace(struct run_parameters *parameters, struct str value,
                          struct buf *message) {
    return set_flag(&parameters->request.trace, "trace", value, message);
}

static enum err set_core(struct run_parameters *parameters, struct str value, struct buf *message) {
    return set_flag(&parameters->request.core, "core", value, message);
}

static enum err set_keep(struct run_parameters *parameters, struct str value, struct buf *message) {
    uint64_t keep_ns = 0;
    enum err err = str_to_duration_ns(value, &keep_ns);
    if (err == ERR_RANGE || (!err && keep_ns > RUN_KEEP_NS_MAX)) {
        return buf_fail(message, ERR_INVAL, "keep='" STR_FORMAT "' is too long: it is at most 365d",
                        STR_ARGS(value));
    }
    if (err) {
        return buf_fail(message, ERR_INVAL,
                        "keep='" STR_FORMAT "' is not a time like 10m, up to 365d",
                        STR_ARGS(value));
    }
    parameters->request.keep_ns = MAX(keep_ns, 1u); /* 0 is the server's default */
    return ERR_OK;
}

static enum err set_ttl(struct run_parameters *parameters, struct str value, struct buf *message) {
    uint64_t *ttl_ns = &parameters->request.ttl_ns;
    if (str_to_duration_ns(value, ttl_ns) || *ttl_ns < NS_PER_MS || *ttl_ns > APP_TTL_NS_MAX) {
        return buf_fail(message, ERR_INVAL,
                        "ttl='" STR_FORMAT "' is not a time like 1h, from 1ms to 365d",
                        STR_ARGS(value));
    }
    return ERR_OK;
}

static enum err set_version(struct run_parameters *parameters, struct str value,
                            struct buf *message) {
    uint64_t number = 0;
    if (str_to_u64(value, &number) || number == 0 || number > UINT32_MAX) {
        return buf_fail(message, ERR_INVAL, "version='" STR_FORMAT "' is no version's number",
                        STR_ARGS(value));
    }
    parameters->version_number = (uint32_t)number;
    return ERR_OK;
}

/* Those that are limits have no function, but where they go, an example and the least. There is no
 * most: a run's limits only tighten. */
static const struct row {
    const char *name;
    enum err (*add)(struct run_parameters *parameters, struct str value, struct buf *message);
    bool is_list;
    enum { LIMIT_BYTES, LIMIT_DURATION, LIMIT_COUNT } kind;
    size_t offset; /* in struct app_limits */
    const char *example, *least;
} rows[] = {
    {"arg", add_argument, true, 0, 0, NULL, NULL},
    {"env", add_variable, true, 0, 0, NULL, NULL},
    {"tag", add_tag, true, 0, 0, NULL, NULL},
    {"net", add_host, true, 0, 0, NULL, NULL},
    {"call", set_call, false, 0, 0, NULL, NULL},
    {"root", set_root, false, 0, 0, NULL, NULL},
    {"stderr", set_stderr, false, 0, 0, NULL, NULL},
    {"stdin", set_stdin, false, 0, 0, NULL, NULL},
    {"detach", set_detach, false, 0, 0, NULL, NULL},
    {"core", set_core, false, 0, 0, NULL, NULL},
    {"trace", set_trace, false, 0, 0, NULL, NULL},
    {"keep", set_keep, false, 0, 0, NULL, NULL},
    {"ttl", set_ttl, false, 0, 0, NULL, NULL},
    {"version", set_version, false, 0, 0, NULL, NULL},
    {"memory", NULL, false, LIMIT_BYTES, offsetof(struct app_limits, memory_bytes), "64MiB", "1"},
    {"cpu", NULL, false, LIMIT_DURATION, offsetof(struct app_limits, cpu_ns), "500ms", "1ms"},
    {"wall", NULL, false, LIMIT_DURATION, offsetof(struct app_limits, wall_ns), "10s", "1ms"},
    {"output", NULL, false, LIMIT_BYTES, offsetof(struct app_limits, output_bytes), "1MiB", "1"},
    {"disk", NULL, false, LIMIT_BYTES, offsetof(struct app_limits, disk_bytes), "100MiB", "1"},
    {"files", NULL, false, LIMIT_COUNT, offsetof(struct app_limits, disk_inodes), "1000", "1"},
    {"tmp", NULL, false, LIMIT_BYTES, offsetof(struct app_limits, tmp_bytes), "16MiB", "1"},
    {"open_files", NULL, false, LIMIT_COUNT, offsetof(struct app_limits, open_files), "64", "8"},
    {"queue_wait", NULL, false, LIMIT_DURATION, offsetof(struct app_limits, queue_wait_ns), "5s",
     "1ms"},
};

const char *run_parameters_name(size_t index) {
    return index < ARRAY_LENGTH(rows) ? rows[index].name : NULL;
}

static enum err parse_limit(const struct row *row, struct str text, uint64_t *ret_value) {
    return row->kind == LIMIT_BYTES      ? str_to_bytes(text, ret_value)
           : row->kind == LIMIT_DURATION ? str_to_duration_ns(text, ret_value)
                                         : str_to_u64(text, ret_value);
}

static enum err set_limit(const struct row *row, struct app_limits *limits, struct str text,
                          struct buf *message) {
    uint64_t value = 0, least = 0;
    enum err err = parse_limit(row, text, &value);
    if (!err) {
        err = parse_limit(row, str_of(row->least), &least);
    }
    if (err || value < least) {
        return buf_fail(message, ERR_INVAL,
                        "%s='" STR_FORMAT "' is not valid; write it like %s=%s: from %s to what "
                        "the app has",
                        row->name, STR_ARGS(text), row->name, row->example, row->least);
    }
    *(uint64_t *)(void *)((char *)limits + row->offset) = value;
    return ERR_OK;
}

enum err run_parameters_add(struct run_parameters *parameters, struct str name, struct str value,
                            struct buf *message) {
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        const struct row *row = &rows[i];
        if (!str_equal_text(name, row->name)) {
            continue;
        }
        if (!row->is_list && parameters->seen & UINT32_C(1) << i) {
            /* Whoever adds to what somebody else has written must not lose against it unseen. */
            return buf_fail(message, ERR_INVAL, "%s= is given twice", row->name);
        }
        parameters->seen |= UINT32_C(1) << i;
        return row->add ? row->add(parameters, value, message)
                        : set_limit(row, &parameters->request.limits, value, message);
    }
    return ERR_NOENT;
}

void run_parameters_request(const struct run_parameters *parameters,
                            struct run_request *ret_request) {
    *ret_request = parameters->request;
    ret_request->arguments = parameters->arguments.texts;
    ret_request->argument_count = parameters->arguments.count;
    ret_request->has_arguments = parameters->arguments.count > 0;
    ret_request->environment = parameters->environment.texts;
    ret_request->environment_count = parameters->environment.count;
    ret_request->tags = parameters->tags.texts;
    ret_request->tag_count = parameters->tags.count;
    ret_request->net = parameters->net.texts;
    ret_request->net_count = parameters->net.count;
}

void run_parameters_done(struct run_parameters *parameters) {
    free(parameters->arguments.texts);
    free(parameters->environment.texts);
    free(parameters->tags.texts);
    free(parameters->net.texts);
    *parameters = (struct run_parameters){0};
}
