/* What can be asked of a run and told to it, from any thread; making and freeing it. */
#include "run/internal.h"

enum { SPARES_MAX = 256, SPARE_STRINGS_MAX = 4096 };

const char *run_reason_text(enum run_reason reason) {
    static const char *const texts[] = {
        [RUN_REASON_NONE] = "none",         [RUN_REASON_EXIT] = "exit",
        [RUN_REASON_TRAP] = "trap",         [RUN_REASON_WALL] = "wall",
        [RUN_REASON_CPU] = "cpu",           [RUN_REASON_MEMORY] = "memory",
        [RUN_REASON_OUTPUT] = "output",     [RUN_REASON_DISK] = "disk",
        [RUN_REASON_KILLED] = "killed",     [RUN_REASON_CLIENT] = "client",
        [RUN_REASON_SHUTDOWN] = "shutdown", [RUN_REASON_HUNG] = "hung",
        [RUN_REASON_FAILED] = "failed",
    };
    return texts[reason];
}

const char *run_state_text(enum run_state state) {
    static const char *const texts[] = {
        [RUN_QUEUED] = "queued",   [RUN_STARTING] = "starting", [RUN_RUNNING] = "running",
        [RUN_WAITING] = "waiting", [RUN_PAUSED] = "paused",     [RUN_ENDED] = "ended",
    };
    return texts[state];
}

/* ---- making and freeing ---- */

static struct run *take_spare(struct runs *runs) {
    pthread_mutex_lock(&runs->spare_lock);
    struct run *run = runs->spares;
    if (run) {
        runs->spares = run->next_spare;
        runs->spare_count--;
    }
    pthread_mutex_unlock(&runs->spare_lock);
    return run;
}

/* Has its loop look at its signals. One that is moving looks when it has arrived; if it arrives
 * just now, `home` is the new one, since that is said first. */
static void deliver(struct run *run) {
    if (atomic_load(&run->is_moving)) {
        return;
    }
    struct run_loop *home = atomic_load(&run->home);
    if (loop_current() == home->loop) {
        bool is_new = atomic_load(&run->signals) & SIGNAL_BEGIN;
        run_make_ready(run, is_new ? QUEUE_FRESH : QUEUE_READY);
    } else if (!atomic_exchange(&run->is_posted, true)) {
        run_ref(run);
        loop_post(home->loop, &run->post);
    }
}

static void on_post(struct loop_post *post) {
    struct run *run = CONTAINER_OF(post, struct run, post);
    /* From here on a signal needs a post of its own. */
    atomic_store(&run->is_posted, false);
    deliver(run);
    run_unref(run);
}

struct run *run_alloc(struct runs *runs) {
    struct run *run = take_spare(runs);
    if (!run) {
        run = calloc(1, sizeof(*run));
        if (!run) {
            return NULL;
        }
        if (op_queue_init(&run->changed) != ERR_OK) {
            free(run);
            return NULL;
        }
        pthread_mutex_init(&run->lock, NULL);
        output_init(&run->output);
    }
    run->runs = runs;
    atomic_store_explicit(&run->references, 1, memory_order_relaxed);
    run->post.run = on_post;
    list_init(&run->link);
    list_init(&run->admission);
    list_init(&run->end_order);
    list_init(&run->member);
    loop_timer_init(&run->timer, run_timer_expired);
    return run;
}

void run_free(struct run *run) {
    op_queue_done(&run->changed);
    pthread_mutex_destroy(&run->lock);
    buf_done(&run->arguments.bytes);
    buf_done(&run->environment.bytes);
    free(run);
}

static void trim(struct wasi_strings *strings) {
    strings->count = 0;
    strings->bytes.length = 0;
    if (strings->bytes.capacity > SPARE_STRINGS_MAX) {
        buf_done(&strings->bytes);
    }
}

/* Lets go of everything but what the next run would have to allocate again. */
static void run_release(struct run *run) {
    struct runs *runs = run->runs;
    if (run->tree) {
        runs->hooks.tree_done(runs->hooks.context, run->tree);
    }
    output_done(&run->output);
    lines_done(&run->lines);
    buf_done(&run->failure);
    buf_done(&run->errstr);
    buf_done(&run->too_long);
    buf_done(&run->call);
    buf_done(&run->root_mode);
    buf_done(&run->net);
    buf_done(&run->tracestate);
    free(run->tags);
    file_unref(run->files);
    changes_free(run->changes);
    pipe_unref(run->input);
    file_unref(run->listener);
    applog_unref(run->log);
    run_trace_free(run->trace);
    run_core_drop(run);
    if (run->own_version) {
        free((void *)(uintptr_t)run->version);
    }
    app_unref(run->app);
    run_release_budgets(run);
    trim(&run->arguments);
    trim(&run->environment);

    memset(run, 0, offsetof(struct run, arguments));

    pthread_mutex_lock(&runs->spare_lock);
    bool keep = runs->spare_count < SPARES_MAX;
    if (keep) {
        run->next_spare = runs->spares;
        runs->spares = run;
        runs->spare_count++;
    }
    pthread_mutex_unlock(&runs->spare_lock);
    if (!keep) {
        run_free(run);
    }
}

struct run *run_ref(struct run *run) {
    atomic_fetch_add_explicit(&run->references, 1, memory_order_relaxed);
    return run;
}

void run_unref(struct run *run) {
    if (run && atomic_fetch_sub_explicit(&run->references, 1, memory_order_acq_rel) == 1) {
        run_release(run);
    }
}

void run_unref_at_home(struct run *run) {
    struct run_loop *home = run->home;
    if (loop_current() == home->loop || atomic_exchange(&run->is_posted, true)) {
        run_unref(run);
    } else {
        loop_post(home->loop, &run->post); /* with this reference */
    }
}

/* ---- asking ---- */

uint64_t run_realtime_ns(const struct run *run, uint64_t monotonic_ns) {
    return run->created_realtime_ns + (monotonic_ns - run->created_ns);
}

uint64_t run_id(const struct run *run) {
    return run->id;
}
uint64_t run_parent_id(const struct run *run) {
    return run->parent_id;
}
const struct app *run_app(const struct run *run) {
    return run->app;
}
const struct who *run_who(const struct run *run) {
    return &run->who;
}
const struct wasi_strings *run_arguments(const struct run *run) {
    return &run->arguments;
}
const struct wasi_strings *run_environment(const struct run *run) {
    return &run->environment;
}
const struct app_version *run_version(const struct run *run) {
    return run->version;
}
const struct run_limits *run_limits(const struct run *run) {
    return &run->limits;
}
struct str run_net(const struct run *run) {
    return buf_str(&run->net);
}

struct str run_root_mode(const struct run *run) {
    return run->root_mode.length ? buf_str(&run->root_mode) : STR("keep");
}
uint64_t run_ttl_ns(const struct run *run) {
    return run->ttl_ns;
}
const struct changes *run_changes(struct run *run) {
    return atomic_load(&run->state) == RUN_ENDED ? run->changes : NULL;
}
struct file *run_files(const struct run *run) {
    return run->files;
}
struct file *run_listener(const struct run *run) {
    return run->listener;
}

struct applog *run_applog(const struct run *run) {
    return run->log;
}

bool run_traceparent(const struct run *run, struct traceparent *ret_traceparent) {
    if (run->has_traceparent) {
        *ret_traceparent = run->traceparent;
    }
    return run->has_traceparent;
}

struct str run_tracestate(const struct run *run) {
    return buf_str(&run->tracestate);
}

size_t run_tags(const struct run *run, const char *const **ret_tags) {
    *ret_tags = (const char *const *)run->tags;
    return run->tag_count;
}

struct run_status run_status(struct run *run) {
    struct run_status status = {
        .id = run->id,
        .parent_id = run->parent_id,
        .app_id = run->who.app_id,
        .owner_id = run->who.owner_id,
        .version = run->version->number,
        .detached = run->detached,
        .created_ns = run->created_realtime_ns,
        .limits = run->limits,
    };
    memcpy(status.app, run->app->name, sizeof(status.app));
    pthread_mutex_lock(&run->lock);
    /* Under the lock, so that a state of ENDED comes with its reason. */
    status.state = (enum run_state)atomic_load(&run->state);
    status.reason = run->reason;
    status.failure = run->start_error;
    status.exit_status = run->exit_status;
    status.output_bytes = run->output.length;
    uint64_t started_ns = atomic_load(&run->started_ns);
    uint64_t ended_ns = atomic_load(&run->ended_ns);
    pthread_mutex_unlock(&run->lock);

    uint64_t now_ns = ended_ns ? ended_ns : clock_monotonic_ns();
    status.started_ns = started_ns ? run_realtime_ns(run, started_ns) : 0;
    status.ended_ns = ended_ns ? run_realtime_ns(run, ended_ns) : 0;
    uint64_t left_queue_ns = started_ns ? started_ns : now_ns;
    status.queued_ns = left_queue_ns - MIN(run->created_ns, left_queue_ns);
    status.wall_ns = started_ns ? now_ns - MIN(started_ns, now_ns) : 0;
    status.cpu_below_ns = run_cpu_below_ns(run);
    status.cpu_ns = atomic_load(&run->cpu_ns) + status.cpu_below_ns;
    status.memory_bytes = atomic_load(&run->memory_bytes);
    status.memory_peak_bytes = atomic_load(&run->memory_peak_bytes);
    status.calls = atomic_load(&run->calls);
    status.bytes_read = atomic_load(&run->bytes_read);
    status.bytes_written = atomic_load(&run->bytes_written);
    return status;
}

enum run_reason run_ending(struct run *run, int32_t *ret_exit_status, enum err *ret_failure) {
    pthread_mutex_lock(&run->lock);
    enum run_reason reason = run->reason;
    *ret_exit_status = run->exit_status;
    *ret_failure = run->start_error;
    pthread_mutex_unlock(&run->lock);
    return reason;
}

void run_failure(struct run *run, struct buf *text) {
    pthread_mutex_lock(&run->lock);
    /* Without memory it is shorter. */
    (void)!buf_append_str(text, buf_str(&run->failure));
    pthread_mutex_unlock(&run->lock);
}

void run_errstr(struct run *run, struct buf *text) {
    pthread_mutex_lock(&run->lock);
    (void)!buf_append_str(text, buf_str(&run->errstr));
    pthread_mutex_unlock(&run->lock);
}

void run_set_errstr(struct run *run, struct str text) {
    pthread_mutex_lock(&run->lock);
    run->errstr.length = 0;
    text.length = MIN(text.length, (size_t)RUN_ERRSTR_MAX);
    (void)!buf_append_str(&run->errstr, text); /* without memory there is none */
    pthread_mutex_unlock(&run->lock);
}

enum err run_root(struct run *run, struct file **ret_root) {
    enum err err = ERR_NOENT;
    pthread_mutex_lock(&run->lock);
    if (run->tree) {
        *ret_root = run->runs->hooks.tree_root(run->runs->hooks.context, run->tree);
        err = ERR_OK;
    }
    pthread_mutex_unlock(&run->lock);
    return err;
}

enum err run_open_root(struct op *op, struct run *run, struct file **ret_root) {
    const struct run_hooks *hooks = &run->runs->hooks;
    if (!op->state && run_root(run, ret_root) == ERR_OK) {
        return ERR_OK;
    }
    if (atomic_load(&run->state) != RUN_ENDED || !hooks->open_root) {
        return op_finish(op, ERR_NOENT);
    }
    return hooks->open_root(hooks->context, op, run, ret_root);
}

enum err run_wait(struct op *op, struct run *run) {
    if (atomic_load(&run->state) == RUN_ENDED) {
        return op_finish(op, ERR_OK);
    }
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    enum err err = op_queue_wait(&run->changed, op);
    if (err) {
        return op_finish(op, err);
    }
    return atomic_load(&run->state) == RUN_ENDED ? op_finish(op, ERR_OK) : ERR_PENDING;
}

static bool has_begun(struct run *run) {
    int state = atomic_load(&run->state);
    return state != RUN_QUEUED && state != RUN_STARTING;
}

enum err run_wait_begun(struct op *op, struct run *run) {
    if (has_begun(run)) {
        return op_finish(op, ERR_OK);
    }
    enum err err = op_queue_wait(&run->changed, op);
    if (err) {
        return op_finish(op, err);
    }
    return has_begun(run) ? op_finish(op, ERR_OK) : ERR_PENDING;
}

/* ---- telling ---- */

void run_signal(struct run *run, unsigned signals) {
    /* The later of pause and resume wins. */
    unsigned opposite = signals & SIGNAL_PAUSE    ? SIGNAL_RESUME
                        : signals & SIGNAL_RESUME ? SIGNAL_PAUSE
                                                  : 0;
    unsigned before = atomic_load(&run->signals);
    while (!atomic_compare_exchange_weak(&run->signals, &before, (before & ~opposite) | signals)) {
    }
    deliver(run);
}

void run_kill(struct run *run, enum run_reason reason) {
    if (atomic_load(&run->state) == RUN_ENDED) {
        return;
    }
    int none = RUN_REASON_NONE;
    if (atomic_compare_exchange_strong(&run->kill_reason, &none, reason)) {
        run_signal(run, SIGNAL_KILL);
    }
}

uint64_t run_answer_ns(const struct run *run) {
    uint64_t of_app = run->app->limits.wall_ns;
    return of_app ? of_app : run->runs->options.defaults.wall_ns;
}

void run_pause(struct run *run) {
    run_signal(run, SIGNAL_PAUSE);
}

void run_resume(struct run *run) {
    run_signal(run, SIGNAL_RESUME);
}

void run_client_left(struct run *run) {
    pthread_mutex_lock(&run->lock);
    run->has_reader = false;
    if (run->is_web) {
        run->is_unheard = true;
        output_forget(&run->output, &(struct run_reader){.offset = run->output.length});
        output_trim(&run->output);
    }
    pthread_mutex_unlock(&run->lock);
    if (!run->detached && !run->is_web) {
        run_kill(run, RUN_REASON_CLIENT);
        return;
    }
    op_queue_wake_all(&run->changed); /* it need not wait for that reader any more */
    if (run->is_web && atomic_load(&run->state) != RUN_ENDED) {
        run_signal(run, SIGNAL_LEFT);
    }
}
