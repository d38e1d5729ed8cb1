#include "api/run_options.h"

static enum err collect(const struct query *query, const char *name, struct str **ret_values,
                        size_t *ret_count) {
    size_t count = 0;
    for (size_t i = 0; i < query->count; i++) {
        count += str_equal_text(query->pairs[i].name, name);
    }
    if (count == 0) {
        return ERR_OK;
    }
    struct str *values = calloc(count, sizeof *values);
    if (!values) {
        return ERR_NOMEM;
    }
    size_t used = 0;
    for (size_t i = 0; i < query->count; i++) {
        if (str_equal_text(query->pairs[i].name, name)) {
            values[used++] = query->pairs[i].value;
        }
    }
    *ret_values = values;
    *ret_count = count;
    return ERR_OK;
}

/* Limits that a run may tighten: the parameter, how it is written, where it goes. */
static const struct limit_row {
    const char *name;
    enum { LIMIT_BYTES, LIMIT_DURATION, LIMIT_COUNT } kind;
    size_t offset;
    const char *example;
} limit_rows[] = {
    {"memory", LIMIT_BYTES, offsetof(struct app_limits, memory_bytes), "64MiB"},
    {"cpu", LIMIT_DURATION, offsetof(struct app_limits, cpu_ns), "500ms"},
    {"wall", LIMIT_DURATION, offsetof(struct app_limits, wall_ns), "10s"},
    {"output", LIMIT_BYTES, offsetof(struct app_limits, output_bytes), "1MiB"},
    {"disk", LIMIT_BYTES, offsetof(struct app_limits, disk_bytes), "100MiB"},
    {"open_files", LIMIT_COUNT, offsetof(struct app_limits, open_files), "64"},
};

static enum err parse_limit(struct request *request, const struct limit_row *row,
                            struct app_limits *limits) {
    const struct query_pair *pair = query_find(&request->query, row->name);
    if (!pair) {
        return ERR_OK;
    }
    uint64_t value = 0;
    enum err err = row->kind == LIMIT_BYTES      ? str_to_bytes(pair->value, &value)
                   : row->kind == LIMIT_DURATION ? str_to_duration_ns(pair->value, &value)
                                                 : str_to_u64(pair->value, &value);
    if (err || value == 0) {
        request_fail_status(request, 400, "%s='" STR_FORMAT "' is not valid; write it like %s=%s",
                            row->name, STR_ARGS(pair->value), row->name, row->example);
        return ERR_INVAL;
    }
    *(uint64_t *)(void *)((char *)limits + row->offset) = value;
    return ERR_OK;
}

static enum err parse(struct request *request, struct run_options *options) {
    struct run_request *run = &options->request;
    const struct query *query = &request->query;
    struct str name = request_parameter(request, "name");
    if (!name.data) {
        request_fail_status(request, 400, "say which app: POST /run?name=NAME");
        return ERR_INVAL;
    }
    enum err err = catalog_find(request->api->catalog, name, &options->app);
    if (err) {
        request_fail_status(request, 404, "no app named '" STR_FORMAT "'; GET /apps lists them",
                            STR_ARGS(name));
        return err;
    }
    run->app = options->app;

    err = collect(query, "arg", &options->arguments, &run->argument_count);
    if (!err) {
        err = collect(query, "env", &options->environment, &run->environment_count);
    }
    if (!err) {
        err = collect(query, "tag", &options->tags, &run->tag_count);
    }
    if (err) {
        request_fail(request, err, NULL);
        return err;
    }
    run->arguments = options->arguments;
    run->has_arguments = run->argument_count > 0;
    run->environment = options->environment;
    run->tags = options->tags;
    for (size_t i = 0; i < run->environment_count; i++) {
        struct str pair = run->environment[i];
        if (!pair.length || pair.data[0] == '=' || !memchr(pair.data, '=', pair.length)) {
            request_fail_status(request, 400, "env='" STR_FORMAT "' is not KEY=VALUE",
                                STR_ARGS(pair));
            return ERR_INVAL;
        }
    }
    const struct query_pair *ttl = query_find(query, "ttl");
    if (ttl && (str_to_duration_ns(ttl->value, &run->ttl_ns) || run->ttl_ns == 0)) {
        request_fail_status(request, 400, "ttl='" STR_FORMAT "' is not a time like 1h",
                            STR_ARGS(ttl->value));
        return ERR_INVAL;
    }
    run->call = request_parameter(request, "call");
    run->root = request_parameter(request, "root");
    struct str errors = request_parameter(request, "stderr");
    if (errors.data && !str_equal_text(errors, "off") && !str_equal_text(errors, "on")) {
        request_fail_status(request, 400, "stderr is 'on' or 'off'");
        return ERR_INVAL;
    }
    run->discard_stderr = str_equal_text(errors, "off");
    run->trace = request_has_parameter(request, "trace");
    const struct query_pair *keep = query_find(query, "keep");
    if (keep && str_to_duration_ns(keep->value, &run->keep_ns)) {
        request_fail_status(request, 400, "keep='" STR_FORMAT "' is not a time like 10m",
                            STR_ARGS(keep->value));
        return ERR_INVAL;
    }
    const struct query_pair *version = query_find(query, "version");
    uint64_t number = 0;
    if (version && (str_to_u64(version->value, &number) || number == 0 || number > UINT32_MAX)) {
        request_fail_status(request, 400, "version='" STR_FORMAT "' is no version's number",
                            STR_ARGS(version->value));
        return ERR_INVAL;
    }
    options->version_number = (uint32_t)number;
    for (size_t i = 0; i < ARRAY_LENGTH(limit_rows); i++) {
        err = parse_limit(request, &limit_rows[i], &run->limits);
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

enum err run_options_parse(struct request *request, struct run_options *ret_options) {
    *ret_options = (struct run_options){0};
    return parse(request, ret_options);
}

enum err run_options_find_version(struct request *request, struct run_options *options) {
    if (options->version_number == 0 || options->older_version) {
        return ERR_OK;
    }
    enum err err = catalog_version(&request->op, request->api->catalog, options->app,
                                   options->version_number, &options->older_version);
    if (err == ERR_NOENT) {
        request_fail_status(request, 404, "%s has no version %u; GET /apps/%s/versions lists them",
                            options->app->name, options->version_number, options->app->name);
    } else if (err && err != ERR_PENDING) {
        request_fail(request, err, NULL);
    }
    options->request.version = options->older_version;
    return err;
}

void run_options_done(struct run_options *options) {
    app_unref(options->app);
    app_versions_free(options->older_version, options->older_version ? 1 : 0);
    free(options->arguments);
    free(options->environment);
    free(options->tags);
}
