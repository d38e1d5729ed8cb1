/* From a request to a run: checks, limits, arguments and environment; then admission. */
#include "ns/memory.h"
#include "run/internal.h"

static bool has_nul(struct str text) {
    return text.length > 0 && memchr(text.data, 0, text.length);
}

static enum err add_string(struct wasi_strings *strings, uint32_t count_max, struct str text,
                           const char *what, struct buf *message) {
    if (has_nul(text)) {
        return buf_fail(message, ERR_INVAL, "%s contains a NUL", what);
    }
    if (strings->count >= count_max) {
        return buf_fail(message, ERR_2BIG, "%s: more than %u", what, count_max);
    }
    if (text.length >= RUN_STRINGS_BYTES_MAX - strings->bytes.length) {
        return buf_fail(message, ERR_2BIG, "%s: more than %d bytes in all", what,
                        RUN_STRINGS_BYTES_MAX);
    }
    return wasi_strings_add(strings, text);
}

/* argv[0] is the app's name. */
static enum err add_arguments(struct run *run, const struct run_request *request,
                              struct buf *message) {
    enum err err = add_string(&run->arguments, RUN_ARGUMENTS_MAX, str_of(run->app->name),
                              "arguments", message);
    if (request->has_arguments) {
        for (size_t i = 0; !err && i < request->argument_count; i++) {
            err = add_string(&run->arguments, RUN_ARGUMENTS_MAX, request->arguments[i], "arguments",
                             message);
        }
    } else {
        for (char **next = run->app->arguments; !err && next && *next; next++) {
            err =
                add_string(&run->arguments, RUN_ARGUMENTS_MAX, str_of(*next), "arguments", message);
        }
    }
    return err;
}

/* Whether two strings of an environment are of the same variable. */
static bool is_same_variable(struct str a, struct str b) {
    struct str a_name = str_cut(&a, '=');
    return str_equal(a_name, str_cut(&b, '='));
}

/* Whether one of `strings` from `first` on is of the same variable. */
static bool is_overridden(struct str variable, const struct str *strings, size_t first,
                          size_t count) {
    for (size_t i = first; i < count; i++) {
        if (is_same_variable(variable, strings[i])) {
            return true;
        }
    }
    return false;
}

static enum err add_variable(struct run *run, struct str variable, struct buf *message) {
    const char *equals = variable.length ? memchr(variable.data, '=', variable.length) : NULL;
    if (!equals || equals == variable.data) {
        return buf_fail(message, ERR_INVAL, "an environment variable is NAME=VALUE");
    }
    return add_string(&run->environment, RUN_ENVIRONMENT_MAX, variable, "environment", message);
}

/* Whether it has a variable of that name. */
static bool is_in(struct str environment, struct str variable) {
    while (environment.length > 0) {
        if (is_same_variable(variable, str_cut(&environment, 0))) {
            return true;
        }
    }
    return false;
}

/* What is there in one piece is taken in one piece. */
static enum err add_more_environment(struct run *run, const struct run_request *request,
                                     struct buf *message) {
    struct wasi_strings *strings = &run->environment;
    struct str more = request->more_environment;
    if (more.length == 0) {
        return ERR_OK;
    }
    INVARIANT(more.data[more.length - 1] == 0);
    if (request->more_environment_count > RUN_ENVIRONMENT_MAX - strings->count) {
        return buf_fail(message, ERR_2BIG, "environment: more than %d", RUN_ENVIRONMENT_MAX);
    }
    if (more.length > RUN_STRINGS_BYTES_MAX - strings->bytes.length) {
        return buf_fail(message, ERR_2BIG, "environment: more than %d bytes in all",
                        RUN_STRINGS_BYTES_MAX);
    }
    strings->count += request->more_environment_count;
    return buf_append_str(&strings->bytes, more);
}

/* The request's variables win over the app's, later ones over earlier ones. Nothing is added: the
 * working directory, which some hosts give as PWD, is the only preopened one, "/", anyway. */
static enum err add_environment(struct run *run, const struct run_request *request,
                                struct buf *message) {
    size_t count = request->environment_count;
    if (count > RUN_ENVIRONMENT_MAX) {
        return buf_fail(message, ERR_2BIG, "environment: more than %d", RUN_ENVIRONMENT_MAX);
    }
    enum err err = ERR_OK;
    for (char **next = run->app->environment; !err && next && *next; next++) {
        struct str variable = str_of(*next);
        if (!is_overridden(variable, request->environment, 0, count) &&
            !is_in(request->more_environment, variable)) {
            err = add_variable(run, variable, message);
        }
    }
    for (size_t i = 0; !err && i < count; i++) {
        if (!is_overridden(request->environment[i], request->environment, i + 1, count)) {
            err = add_variable(run, request->environment[i], message);
        }
    }
    return err ? err : add_more_environment(run, request, message);
}

/* A hop of the trace that the request belongs to. */
static enum err join_trace(struct run *run, const struct run_request *request) {
    if (!request->traceparent) {
        return ERR_OK;
    }
    run->traceparent = traceparent_child(request->traceparent);
    run->has_traceparent = true;
    return buf_append_str(&run->tracestate, request->tracestate);
}

#define TRACE_VARIABLE "TRACEPARENT="
#define STATE_VARIABLE "TRACESTATE="

/* Unless the app or the request has a variable TRACEPARENT. */
static enum err add_trace_variables(struct run *run, struct buf *message) {
    const char *next = (const char *)run->environment.bytes.data;
    for (uint32_t i = 0; i < run->environment.count; i++, next += strlen(next) + 1) {
        if (str_starts(str_of(next), STR(TRACE_VARIABLE))) {
            return ERR_OK;
        }
    }
    char variable[sizeof(TRACE_VARIABLE) - 1 + TRACEPARENT_TEXT_SIZE] = TRACE_VARIABLE;
    traceparent_format(&run->traceparent, variable + sizeof(TRACE_VARIABLE) - 1);
    enum err err = add_variable(run, str_of(variable), message);
    if (err || run->tracestate.length == 0) {
        return err;
    }
    char state[sizeof(STATE_VARIABLE) + TRACESTATE_MAX];
    int length = snprintf(state, sizeof(state), STATE_VARIABLE "%s", buf_text(&run->tracestate));
    return add_variable(run, (struct str){state, MIN((size_t)length, sizeof(state) - 1)}, message);
}

/* The tag number `i` of a run: those of who starts it come first, so that whoever ends all runs of
 * a tag ends what they have started, too. */
static struct str tag_at(const struct run_request *request, size_t inherited, size_t i) {
    return i < inherited ? str_of(request->parent->tags[i]) : request->tags[i - inherited];
}

enum err run_tag_check(struct str tag, struct buf *message) {
    const char *colon = tag.length ? memchr(tag.data, ':', tag.length) : NULL;
    if (!colon || colon == tag.data || has_nul(tag) || memchr(tag.data, '\n', tag.length)) {
        return buf_fail(message, ERR_INVAL, "a tag is KEY:VALUE, in one line");
    }
    if (tag.length > RUN_TAG_BYTES_MAX) {
        return buf_fail(message, ERR_2BIG, "a tag has more than %d bytes", RUN_TAG_BYTES_MAX);
    }
    return ERR_OK;
}

/* One allocation: the pointers, then the texts. */
static enum err add_tags(struct run *run, const struct run_request *request, struct buf *message) {
    size_t inherited = request->parent ? request->parent->tag_count : 0;
    size_t count = inherited + request->tag_count;
    if (count == 0) {
        return ERR_OK;
    }
    if (count > RUN_TAGS_MAX) {
        return buf_fail(message, ERR_2BIG, "more than %d tags%s", RUN_TAGS_MAX,
                        inherited ? ", with those of the run that starts it" : "");
    }
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++) {
        struct str tag = tag_at(request, inherited, i);
        enum err err = run_tag_check(tag, message);
        if (err) {
            return err;
        }
        bytes += tag.length + 1;
    }
    run->tags = malloc(bytes);
    if (!run->tags) {
        return ERR_NOMEM;
    }
    char *text = (char *)(run->tags + count);
    for (size_t i = 0; i < count; i++) {
        struct str tag = tag_at(request, inherited, i);
        memcpy(text, tag.data, tag.length);
        text[tag.length] = 0;
        run->tags[i] = text;
        text += tag.length + 1;
    }
    run->tag_count = count;
    return ERR_OK;
}

/* The app's setting stands for the server's default; the request can only take away. */
static uint64_t merge(uint64_t server, uint64_t app, uint64_t request) {
    uint64_t limit = app ? app : server;
    return request && request < limit ? request : limit;
}

static struct run_limits merge_limits(const struct runs_options *options,
                                      const struct app_limits *app,
                                      const struct run_request *request) {
    const struct run_limits *server = &options->defaults;
    const struct app_limits *asked = &request->limits;
    uint64_t wall_ns = request->detached ? options->detached_wall_ns : server->wall_ns;
    bool is_kept = request->listener != NULL;
    return (struct run_limits){
        .memory_bytes = merge(server->memory_bytes, app->memory_bytes, asked->memory_bytes),
        .cpu_ns = is_kept ? UINT64_MAX : merge(server->cpu_ns, app->cpu_ns, asked->cpu_ns),
        .wall_ns = is_kept ? UINT64_MAX : merge(wall_ns, app->wall_ns, asked->wall_ns),
        .output_bytes = merge(server->output_bytes, app->output_bytes, asked->output_bytes),
        .tmp_bytes = merge(server->tmp_bytes, app->tmp_bytes, asked->tmp_bytes),
        .disk_bytes = merge(server->disk_bytes, app->disk_bytes, asked->disk_bytes),
        .files = merge(server->files, app->disk_inodes, asked->disk_inodes),
        .open_files = merge(server->open_files, app->open_files, asked->open_files),
        .queue_wait_ns = merge(options->queue_wait_ns, app->queue_wait_ns, asked->queue_wait_ns),
    };
}

/* What an app's net= says, as a list of its own at the end of `net`. */
static enum err add_net_of_app(struct buf *net, const struct app *app) {
    const json_t *hosts = app->config ? json_object_get(app->config, "net") : NULL;
    bool is_word = json_is_string(hosts);
    size_t count = is_word ? 1 : json_array_size(hosts);
    enum err err = count > 0 && net->length > 0 ? buf_append_byte(net, '\n') : ERR_OK;
    for (size_t i = 0; !err && i < count; i++) {
        const json_t *host = is_word ? hosts : json_array_get(hosts, i);
        err = buf_printf(net, "%s\n", json_string_value(host));
    }
    return err;
}

static enum err add_net(struct run *run, const struct run_request *request, struct buf *message) {
    if (request->net_count > APP_NET_MAX) {
        return buf_fail(message, ERR_2BIG, "more than %d hosts in net=", APP_NET_MAX);
    }
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < request->net_count; i++) {
        struct str host = request->net[i];
        bool is_word = str_equal_text(host, "none") || str_equal_text(host, "public");
        if (is_word ? request->net_count > 1 : !app_config_is_host(host)) {
            return buf_fail(message, ERR_INVAL,
                            "net= is none, public, or hosts: HOST, *.DOMAIN, an address, or "
                            "[ADDRESS], each with an optional :PORT");
        }
        err = buf_printf(&run->net, STR_FORMAT "\n", STR_ARGS(host));
    }
    return err;
}

/* A sandbox, and what is below one, may be anybody's code or do what that says. It can have other
 * apps work on its input, as their owner has set them up; with what would make another program of
 * one (an interpreter runs its arguments) it would have their files, environment and network. */
static enum err check_input_only(const struct run *run, const struct run_request *request,
                                 struct buf *message) {
    const struct run *parent = request->parent;
    bool is_set_up = request->has_arguments || request->environment_count > 0 ||
                     request->more_environment.length > 0 || request->version ||
                     request->call.length > 0 || request->root.length > 0 || request->ttl_ns;
    if (!parent || !parent->is_confined || parent->app->id == run->app->id || !is_set_up) {
        return ERR_OK;
    }
    return buf_fail(message, ERR_ACCES,
                    "a run with a root of its own%s gives other apps input only: call it, or start "
                    "it without arg and env, call, root, ttl and version",
                    parent->who.has_own_root ? "" : ", or below one,");
}

/* Where nothing that it writes stays. */
static bool is_narrow_root(struct str root) {
    return str_equal_text(root, "fresh") || str_equal_text(root, "ro");
}

/* A run whose `/` is not its app's volume is a sandbox: it may be anybody's code. What it starts
 * must not get at what it can't reach itself: of its own app only the files that it sees, and no
 * volume by its name. Other apps keep the root that they have (check_input_only). */
static enum err confine_root(const struct run *run, const struct run *parent, struct str asked,
                             struct str *ret_root, struct buf *message) {
    struct str own = run_root_mode(parent);
    bool is_same_app = parent->app->id == run->app->id;
    INVARIANT(is_same_app || asked.length == 0);
    if (asked.length > 0 && !is_narrow_root(asked) && !str_equal(asked, own)) {
        return buf_fail(message, ERR_ACCES,
                        "a run with root=" STR_FORMAT " can start others with root=fresh and "
                        "root=ro only",
                        STR_ARGS(own));
    }
    *ret_root = asked.length > 0 ? asked
                : is_same_app    ? own
                : run->app->root ? str_of(run->app->root)
                                 : STR("keep");
    return ERR_OK;
}

/* Whoever may change an app may also say what a run of it has at `/`: its own runs, and the control
 * door. Another app's run may not: what the app says is its owner's word, and only tightened. */
static enum err check_override(const struct run *run, const struct run *parent, struct str asked,
                               struct buf *message) {
    const char *own = run->app->root;
    if (asked.length == 0 || is_narrow_root(asked) || parent->app->id == run->app->id || !own ||
        str_equal_text(asked, own)) {
        return ERR_OK;
    }
    return buf_fail(message, ERR_ACCES,
                    "'%s' has root=%s, which other apps can't change to root=" STR_FORMAT
                    "; leave root= out, or say fresh or ro",
                    run->app->name, own, STR_ARGS(asked));
}

/* The name is checked here, where nothing has been done yet. */
static enum err check_root_name(struct str root, struct buf *message) {
    if (app_is_root_mode(root) || app_name_check(root, NULL) == ERR_OK) {
        return ERR_OK;
    }
    return buf_fail(message, ERR_INVAL,
                    "root='" STR_FORMAT "' is not valid: it is keep, fresh or ro, in small "
                    "letters, or the name of a volume (1 to %d of a-z 0-9 _ -)",
                    (int)MIN(root.length, (size_t)2 * APP_NAME_MAX), root.data, APP_NAME_MAX);
}

static enum err set_root(struct run *run, const struct run_request *request, struct buf *message) {
    struct str root = request->root.length > 0 ? request->root
                      : run->app->root         ? str_of(run->app->root)
                                               : STR("keep");
    enum err err = check_root_name(root, message);
    if (!err && request->parent && request->parent->who.has_own_root) {
        err = confine_root(run, request->parent, request->root, &root, message);
    } else if (!err && request->parent) {
        err = check_override(run, request->parent, request->root, message);
    }
    if (err) {
        return err;
    }
    bool is_keep = str_equal_text(root, "keep");
    if (request->ttl_ns && app_is_root_mode(root)) {
        return buf_fail(message, ERR_INVAL,
                        "ttl= is for a volume by name: root=NAME; this run has root=" STR_FORMAT,
                        STR_ARGS(root));
    }
    return is_keep ? ERR_OK : buf_append_str(&run->root_mode, root);
}

static enum err add_files(struct run *run, struct file *files, struct buf *message) {
    const struct run_limits *limits = &run->limits;
    struct memory_usage usage = memory_usage(files);
    uint64_t bytes = usage.bytes;
    bool is_over_disk = limits->disk_bytes && bytes > limits->disk_bytes;
    if (is_over_disk || bytes > limits->tmp_bytes) {
        return buf_fail(
            message, ERR_FBIG,
            "the run's files take %llu bytes of memory (each is rounded up), more than its limit "
            "%s "
            "of %llu bytes",
            (unsigned long long)bytes, is_over_disk ? "disk" : "tmp",
            (unsigned long long)(is_over_disk ? limits->disk_bytes : limits->tmp_bytes));
    }
    if (limits->files && usage.inodes > limits->files) {
        return buf_fail(message, ERR_FBIG,
                        "the run has %llu files and directories, more than its limit files of %llu",
                        (unsigned long long)usage.inodes, (unsigned long long)limits->files);
    }
    run->files = file_ref(files);
    return ERR_OK;
}

static enum err fill(struct run *run, const struct run_request *request, struct buf *message) {
    struct runs *runs = run->runs;
    enum err err = check_input_only(run, request, message);
    if (err) {
        return err;
    }
    if (run->version->is_library && request->call.length == 0) {
        return buf_fail(message, ERR_NOENT,
                        "'%s' has no _start; name one of its functions with call=", run->app->name);
    }
    if (has_nul(request->call) || has_nul(request->root)) {
        return buf_fail(message, ERR_INVAL, "a name contains a NUL");
    }
    err = buf_append_str(&run->call, request->call);
    if (!err) {
        err = set_root(run, request, message);
    }
    if (!err && request->files) {
        err = add_files(run, request->files, message);
    }
    if (!err) {
        err = add_arguments(run, request, message);
    }
    if (!err) {
        err = add_environment(run, request, message);
    }
    if (!err) {
        err = join_trace(run, request);
    }
    if (!err && run->has_traceparent) {
        err = add_trace_variables(run, message);
    }
    if (!err) {
        err = add_tags(run, request, message);
    }
    if (!err) {
        err = add_net(run, request, message);
    }
    if (!err && request->stdin_open) {
        err = pipe_new(RUN_STDIN_BYTES, &run->input);
    }
    if (!err && request->trace) {
        err = run_trace_new(&run->trace);
    }
    /* Without its log a run can still run. */
    if (!err && runs->logs && applog_get(runs->logs, run->app->id, &run->log) != ERR_OK) {
        run->log = NULL;
    }
    return err;
}

/* Of two limits where 0 is none. */
static uint64_t tighter(uint64_t a, uint64_t b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* What was taken from a run is not given to others that it starts: neither to more of its own app
 * nor, by a sandbox or what is below it, to any. */
static enum err narrow(struct run *run, const struct run *parent, bool is_same_app) {
    run->limits.output_bytes = MIN(run->limits.output_bytes, parent->limits.output_bytes);
    run->limits.disk_bytes = tighter(run->limits.disk_bytes, parent->limits.disk_bytes);
    run->limits.tmp_bytes = MIN(run->limits.tmp_bytes, parent->limits.tmp_bytes);
    run->limits.files = tighter(run->limits.files, parent->limits.files);
    run->limits.open_files = MIN(run->limits.open_files, parent->limits.open_files);
    if (is_same_app) { /* another app's volumes are its own matter */
        run->disk_bytes_max = tighter(run->disk_bytes_max, parent->disk_bytes_max);
        run->disk_files_max = tighter(run->disk_files_max, parent->disk_files_max);
    }
    enum err err = ERR_OK;
    if (parent->net.length > 0) {
        err = run->net.length > 0 ? buf_append_byte(&run->net, '\n') : ERR_OK;
        err = err ? err : buf_append_str(&run->net, buf_str(&parent->net));
    }
    return err || is_same_app ? err : add_net_of_app(&run->net, parent->app);
}

/* What follows from who starts it. */
static enum err join_parent(struct run *run, struct run *parent, struct buf *message) {
    if (parent->depth >= RUN_DEPTH_MAX) {
        return buf_fail(message, ERR_LOOP,
                        "runs that start each other are at most %d deep; '%s' would be one more",
                        RUN_DEPTH_MAX, run->app->name);
    }
    if (run->detached && parent->who.has_own_root) {
        return buf_fail(message, ERR_ACCES,
                        "a run with root=" STR_FORMAT " can't leave detached ones behind",
                        STR_ARGS(run_root_mode(parent)));
    }
    run->parent_id = parent->id;
    run->top_id = parent->top_id ? parent->top_id : parent->id;
    /* Longer than usual only if its parent is. */
    run->keep_ns = MIN(run->keep_ns, MAX(parent->keep_ns, run->runs->options.keep_ns));
    run->depth = (uint8_t)(parent->depth + 1);
    bool is_same_app = parent->app->id == run->app->id;
    if (is_same_app || parent->is_confined) {
        enum err err = narrow(run, parent, is_same_app);
        if (err) {
            return err;
        }
    }
    return run->detached ? ERR_OK : run_join_budget(run, parent, message);
}

/* Of an older version, which the app's own has not. */
static enum err take_version(struct run *run, const struct app_version *version) {
    struct app_version *copy = malloc(sizeof(*copy));
    if (!copy) {
        return ERR_NOMEM;
    }
    *copy = *version;
    copy->unknown_imports = NULL;
    run->version = copy;
    run->own_version = true;
    return ERR_OK;
}

static enum err start(struct runs *runs, struct loop *loop, const struct run_request *request,
                      struct run **ret_run, struct buf *message) {
    struct run *run = run_alloc(runs);
    if (!run) {
        return ERR_NOMEM;
    }
    run->app = app_ref(request->app);
    run->version = &run->app->version;
    enum err err = request->version ? take_version(run, request->version) : ERR_OK;
    run->limits = merge_limits(&runs->options, &run->app->limits, request);
    run->disk_bytes_max = request->limits.disk_bytes;
    run->disk_files_max = request->limits.disk_inodes;
    run->keep_ns = request->keep_ns ? request->keep_ns : runs->options.keep_ns;
    run->parent_id = run->top_id = request->parent_id;
    run->ttl_ns = request->ttl_ns;
    run->detached = request->detached;
    run->discard_stderr = request->discard_stderr;
    run->is_web = run->output.forgets = request->is_web;
    run->wants_core = request->core;
    run->listener = request->listener ? file_ref(request->listener) : NULL;
    run->is_unheard = run->listener != NULL;
    run->created_ns = clock_monotonic_ns();
    run->created_realtime_ns = clock_realtime_ns();
    run->is_call = request->is_call;
    err = err ? err : fill(run, request, message);
    if (err) {
        run_unref(run);
        return err;
    }
    if (request->parent) {
        err = join_parent(run, request->parent, message);
        if (err) {
            run_unref(run);
            return err;
        }
    }
    bool has_own_root = !str_equal_text(run_root_mode(run), "keep");
    run->is_confined = has_own_root || (request->parent && request->parent->is_confined);
    run->id = catalog_next_run_id(runs->catalog);
    run->who = (struct who){.run_id = run->id,
                            .app_id = run->app->id,
                            .owner_id = run->app->owner_id,
                            .has_own_root = has_own_root,
                            .traceparent = run->has_traceparent ? &run->traceparent : NULL,
                            .tracestate = buf_str(&run->tracestate),
                            .disk_bytes_max = run->disk_bytes_max,
                            .disk_files_max = run->disk_files_max};
    bool admitted;
    err = runs_enter(runs, loop, run, &admitted, message);
    if (err) {
        run_leave_budget(run);
        run_unref(run);
        return err;
    }
    if (run->log && run->detached) {
        applog_append(run->log, run->created_realtime_ns, run->id, "sys", STR("started"));
    }
    run_signal(run, admitted ? SIGNAL_BEGIN : SIGNAL_QUEUED);
    *ret_run = run;
    return ERR_OK;
}

enum err run_start(struct runs *runs, struct loop *loop, const struct run_request *request,
                   struct run **ret_run, struct buf *message) {
    enum err err = start(runs, loop, request, ret_run, message);
    if (err) {
        runs_count_refused(runs, err);
    }
    return err;
}
