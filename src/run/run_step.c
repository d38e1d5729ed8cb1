/* A run's life on its loop: starting, stepping, ending; and the loop's order of turns.
 *
 * Order. A loop has three queues: fresh runs, runs whose host call can go on, and runs that compute
 * (the last turn was a whole slice). One turn of the loop takes runs from the first two alternately
 * until they are empty or TURN_BUDGET_NS is over, and then gives one computing run its slice, which
 * the engine's next tick ends. So a newcomer waits for a slice or two however many compute, and
 * those who compute share what is left in turn, but always get something.
 *
 * CPU time of a run is that of its turns, host calls on its behalf included. It is measured by the
 * monotonic clock, one reading a turn, because reading the thread's CPU clock costs as much as a
 * short run's own work; a turn is short, so what the host takes away from us in it is little. For
 * runs that compute, where it would add up on a crowded machine, the thread's CPU clock is used. */
#include "run/internal.h"

enum {
    SLICE_NS = 1000 * 1000, /* of a guest that makes host calls; the engine's tick */
    TURN_BUDGET_NS = 4 * 1000 * 1000,
    CALLS_MAX = 512,    /* host calls of one turn */
    CALLS_PER_LOOK = 8, /* host calls between two looks at the clock */
    EXIT_TRAPPED = 134, /* as a shell says it: 128 + SIGABRT */
    EXIT_KILLED = 137,  /* 128 + SIGKILL */
    EXIT_NOT_STARTED = 126,
    IOVECS_MAX = 1024,
    SUBSCRIPTIONS_MAX = 4096,
};

/* ---- queues ---- */

void run_make_ready(struct run *run, enum run_queue queue) {
    if (run->phase == PHASE_ENDED) {
        return;
    }
    if (run->queue == QUEUE_COMPUTING && queue == QUEUE_READY) {
        /* It is to be killed or paused, and shall not wait for its slice. */
        list_remove(&run->link);
    } else if (run->queue != QUEUE_NONE) {
        return;
    }
    struct run_loop *home = run->home;
    struct list *lists[] = {NULL, &home->fresh, &home->ready, &home->computing};
    run->queue = queue;
    list_append(lists[queue], &run->link);
    loop_ready(home->loop, &home->task);
}

static void leave_queue(struct run *run) {
    list_remove(&run->link);
    run->queue = QUEUE_NONE;
}

static void set_computing(struct run *run, bool is_computing) {
    if (run->is_computing != is_computing) {
        run->is_computing = is_computing;
        atomic_fetch_add_explicit(&run->home->computing_count, is_computing ? 1u : -1u,
                                  memory_order_relaxed);
    }
}

static void set_state(struct run *run, enum run_state state) {
    atomic_store_explicit(&run->state, (int)state, memory_order_release);
}

void run_op_wake(struct op *op) {
    run_make_ready(CONTAINER_OF(op, struct run, op), QUEUE_READY);
}

static void wasi_wake(struct op *op) {
    run_make_ready(CONTAINER_OF(op, struct run, wasi.op), QUEUE_READY);
}

/* ---- ending ---- */

static void print_limit(struct buf *text, const char *what, uint64_t value, const char *unit) {
    (void)!buf_printf(text, "%s limit of %llu %s reached", what, (unsigned long long)value, unit);
}

static void print_duration_limit(struct buf *text, const char *what, uint64_t limit_ns) {
    if (limit_ns % NS_PER_S == 0) {
        print_limit(text, what, limit_ns / NS_PER_S, "s");
    } else {
        print_limit(text, what, limit_ns / NS_PER_MS, "ms");
    }
}

static void print_bytes_limit(struct buf *text, const char *what, uint64_t limit_bytes) {
    if (limit_bytes % MIB == 0) {
        print_limit(text, what, limit_bytes / MIB, "MiB");
    } else if (limit_bytes % KIB == 0) {
        print_limit(text, what, limit_bytes / KIB, "KiB");
    } else {
        print_limit(text, what, limit_bytes, "bytes");
    }
}

/* What happened, in words; nothing after a plain exit. `detail` is what the engine or the start
 * said. */
static void print_failure(const struct run *run, enum run_reason reason, enum err start_error,
                          const struct buf *detail, struct buf *text) {
    switch (reason) {
    case RUN_REASON_NONE:
    case RUN_REASON_EXIT:
        return;
    case RUN_REASON_WALL:
        print_duration_limit(text, "wall", run->limits.wall_ns);
        break;
    case RUN_REASON_CPU:
        print_duration_limit(text, "cpu", run->limits.cpu_ns);
        break;
    case RUN_REASON_MEMORY:
        print_bytes_limit(text, "memory", run->limits.memory_bytes);
        break;
    case RUN_REASON_OUTPUT:
        print_bytes_limit(text, "output", run->limits.output_bytes);
        break;
    case RUN_REASON_DISK:
        print_bytes_limit(text, "disk", run->limits.disk_bytes);
        break;
    case RUN_REASON_KILLED:
        (void)!buf_append_str(text, STR("by request"));
        break;
    case RUN_REASON_CLIENT:
        (void)!buf_append_str(text, STR("its client has left"));
        break;
    case RUN_REASON_SHUTDOWN:
        (void)!buf_append_str(text, STR("the server shuts down"));
        break;
    case RUN_REASON_FAILED:
        if (detail->length == 0) {
            (void)!buf_append_str(text, str_of(err_text(start_error)));
        }
        break;
    case RUN_REASON_TRAP:
        break;
    }
    if (detail->length > 0) {
        (void)!(text->length ? buf_append_byte(text, '\n') : ERR_OK);
        (void)!buf_append_str(text, buf_str(detail));
    }
    while (text->length > 0 && text->data[text->length - 1] == '\n') {
        text->data[--text->length] = 0;
    }
}

/* A last line on standard error, as a shell would say it. */
static void say_last_words(struct run *run, enum run_reason reason, const struct buf *failure) {
    const char *what = reason == RUN_REASON_TRAP     ? "trap"
                       : reason == RUN_REASON_FAILED ? "cannot start"
                                                     : "killed";
    struct buf cleanup_buf text = {0};
    if (buf_printf(&text, "0asm: %s: %s\n", what, buf_text(failure)) == ERR_OK) {
        run_say(run, RUN_STDERR, buf_str(&text), true);
    }
}

static void note_usage(struct run *run) {
    atomic_store_explicit(&run->calls, run->wasi.calls, memory_order_relaxed);
    atomic_store_explicit(&run->bytes_read, run->wasi.bytes_read, memory_order_relaxed);
    atomic_store_explicit(&run->bytes_written, run->wasi.bytes_written, memory_order_relaxed);
    if (run->sandbox) {
        atomic_store_explicit(&run->memory_bytes, sandbox_memory_bytes(run->sandbox),
                              memory_order_relaxed);
        atomic_store_explicit(&run->memory_peak_bytes, sandbox_memory_peak_bytes(run->sandbox),
                              memory_order_relaxed);
    }
}

/* Charges the run the time since the last charge of its loop. */
static void charge(struct run *run) {
    struct run_loop *home = run->home;
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t used_ns = now_ns - home->charged_ns;
    home->charged_ns = now_ns;
    if (home->is_exact) {
        uint64_t cpu_now_ns = clock_thread_cpu_ns();
        used_ns = cpu_now_ns - home->charged_cpu_ns;
        home->charged_cpu_ns = cpu_now_ns;
    }
    atomic_store_explicit(&run->cpu_ns,
                          atomic_load_explicit(&run->cpu_ns, memory_order_relaxed) + used_ns,
                          memory_order_relaxed);
}

/* In the app's log: the end of runs that failed or that nobody watched. A line for each success of
 * an attached run would cost more than the run. */
static void log_end(struct run *run) {
    if (!run->log) {
        return;
    }
    uint64_t time_ns = run_realtime_ns(run, clock_monotonic_ns());
    lines_flush(&run->lines, run->log, run->id, time_ns);
    if (run->detached || run->reason != RUN_REASON_EXIT || run->exit_status != 0) {
        char line[96];
        int length =
            snprintf(line, sizeof(line), "ended: %s %d, cpu %llu us", run_reason_text(run->reason),
                     run->exit_status, (unsigned long long)atomic_load(&run->cpu_ns) / NS_PER_US);
        applog_append(run->log, time_ns, run->id, "sys", (struct str){line, (size_t)length});
    }
}

/* The last step: its effects are on disk (or it had none). */
static void end(struct run *run) {
    struct runs *runs = run->runs;
    op_done(&run->op);
    void *tree = NULL;
    bool gives_tree = run->tree && !runs->hooks.tree_is_kept(runs->hooks.context, run->tree);
    log_end(run);
    pthread_mutex_lock(&run->lock);
    if (gives_tree) {
        tree = STEAL(run->tree);
    }
    run->output_ended = true;
    run->has_reader = false;
    /* Of the loop's clock of turns: a reading saved. */
    atomic_store(&run->ended_ns, MAX(run->home->charged_ns, atomic_load(&run->started_ns)));
    set_state(run, RUN_ENDED);
    pthread_mutex_unlock(&run->lock);
    if (tree) {
        runs->hooks.tree_done(runs->hooks.context, tree);
    }
    lines_done(&run->lines);
    run->phase = PHASE_ENDED;
    leave_queue(run);
    runs_run_ended(runs, run);
    op_queue_wake_all(&run->changed);
    run_unref(run); /* the reference of its life */
}

static void step_commit(struct run *run) {
    struct runs *runs = run->runs;
    if (run->tree) {
        enum err err = runs->hooks.commit_tree(runs->hooks.context, &run->op, run->tree);
        if (err == ERR_PENDING) {
            return;
        }
        if (err) {
            /* The guest is gone: whoever asks for its result shall not take it for kept. */
            struct buf cleanup_buf text = {0};
            (void)!buf_printf(&text, "0asm: what it wrote could not be saved: %s\n", err_text(err));
            run_say(run, RUN_STDERR, buf_str(&text), true);
            pthread_mutex_lock(&run->lock);
            run->reason = RUN_REASON_FAILED;
            run->start_error = err;
            pthread_mutex_unlock(&run->lock);
        }
    }
    end(run);
}

/* The guest is done with, or never was: lets go of what it used and begins the commit. `detail` may
 * be empty. */
static void finish(struct run *run, enum run_reason reason, int32_t exit_status,
                   enum err start_error, const struct buf *detail) {
    set_computing(run, false);
    loop_timer_stop(&run->timer);
    op_abandon(&run->op);
    struct buf failure = {0};
    print_failure(run, reason, start_error, detail, &failure);
    if (failure.length > 0) {
        say_last_words(run, reason, &failure);
    }
    if (run->has_wasi) {
        note_usage(run);
        sandbox_free(STEAL(run->sandbox));
        wasi_done(&run->wasi);
        run->has_wasi = false;
        charge(run);
    }
    program_unref(STEAL(run->program));
    ns_unref(STEAL(run->ns));
    if (run->input) {
        pipe_close_read(run->input);
    }
    atomic_store_explicit(&run->memory_bytes, 0, memory_order_relaxed);
    pthread_mutex_lock(&run->lock);
    run->failure = failure;
    run->reason = reason;
    run->start_error = start_error;
    run->exit_status = exit_status;
    pthread_mutex_unlock(&run->lock);
    run->phase = PHASE_COMMIT;
    step_commit(run);
}

static void finish_failed(struct run *run, enum err err, const struct buf *message) {
    finish(run, RUN_REASON_FAILED, EXIT_NOT_STARTED, err, message);
}

static void finish_killed(struct run *run, enum run_reason reason) {
    static const struct buf nothing;
    if (run->phase == PHASE_QUEUED) {
        (void)runs_leave_queue(run->runs, run);
    }
    finish(run, reason, EXIT_KILLED, ERR_OK, &nothing);
}

static void finish_exit(struct run *run) {
    static const struct buf nothing;
    if (run->call.length > 0) {
        struct buf cleanup_buf results = {0};
        sandbox_results(run->sandbox, &results);
        if (results.length > 0) {
            run_say(run, RUN_STDOUT, buf_str(&results), false);
        }
    }
    finish(run, RUN_REASON_EXIT, run->wasi.exit_status, ERR_OK, &nothing);
}

static void finish_trap(struct run *run) {
    struct buf cleanup_buf detail = {0};
    sandbox_failure(run->sandbox, &detail);
    bool memory = sandbox_memory_was_refused(run->sandbox);
    finish(run, memory ? RUN_REASON_MEMORY : RUN_REASON_TRAP, EXIT_TRAPPED, ERR_OK, &detail);
}

/* ---- limits in time ---- */

void run_timer_expired(struct loop_timer *timer) {
    struct run *run = CONTAINER_OF(timer, struct run, timer);
    if (run->phase != PHASE_QUEUED) {
        run_kill(run, RUN_REASON_WALL);
    } else if (runs_leave_queue(run->runs, run)) {
        struct buf cleanup_buf message = {0};
        (void)buf_fail(&message, ERR_AGAIN, "all places were taken for too long, try again later");
        atomic_fetch_add(&run->runs->refused, 1);
        finish_failed(run, ERR_AGAIN, &message);
    }
}

static void set_wall_deadline(struct run *run) {
    uint64_t started_ns = atomic_load_explicit(&run->started_ns, memory_order_relaxed);
    bool is_far = run->limits.wall_ns > UINT64_MAX - started_ns;
    run->wall_deadline_ns = is_far ? UINT64_MAX : started_ns + run->limits.wall_ns;
}

static void pause_run(struct run *run) {
    if (!run->is_paused) {
        run->is_paused = true;
        run->paused_ns = clock_monotonic_ns();
        if (run->phase == PHASE_GUEST) {
            loop_timer_stop(&run->timer);
            set_computing(run, false);
            set_state(run, RUN_PAUSED);
        }
    }
}

static void resume_run(struct run *run) {
    if (run->is_paused) {
        run->is_paused = false;
        if (run->wall_deadline_ns) {
            uint64_t paused_ns = clock_monotonic_ns() - run->paused_ns;
            run->wall_deadline_ns += MIN(paused_ns, UINT64_MAX - run->wall_deadline_ns);
            loop_timer_start(run->home->loop, &run->timer, run->wall_deadline_ns);
        }
    }
}

/* ---- starting ---- */

static uint64_t guest_cpu_time(struct wasi *wasi) {
    struct run *run = wasi->owner;
    return atomic_load_explicit(&run->cpu_ns, memory_order_relaxed) +
           (clock_monotonic_ns() - run->turn_started_ns);
}

static enum err make_wasi(struct run *run) {
    struct wasi_limits limits = {
        .open_files = (uint32_t)MIN(run->limits.open_files, (uint64_t)UINT32_MAX),
        .iovecs = IOVECS_MAX,
        .subscriptions = SUBSCRIPTIONS_MAX,
    };
    enum err err = wasi_init(&run->wasi, run->home->loop, NULL, run->ns, &run->arguments,
                             &run->environment, &limits, &run->who, wasi_wake);
    if (err) {
        return err;
    }
    run->has_wasi = true;
    run->wasi.cpu_time_ns = guest_cpu_time;
    run->wasi.owner = run;
    static const unsigned flags[] = {OPEN_READ, OPEN_WRITE, OPEN_WRITE};
    for (unsigned i = 0; i < ARRAY_LENGTH(flags); i++) {
        struct file *file = run_stream_file(run, i);
        err = wasi_add_stream(&run->wasi, file, flags[i]);
        if (err) {
            file_unref(file);
            return err;
        }
    }
    return wasi_add_preopen(&run->wasi);
}

static enum err make_sandbox(struct run *run, struct buf *message) {
    struct sandbox_options options = {
        .limits = {.memory_bytes = run->limits.memory_bytes},
        .wasi = &run->wasi,
        .call = buf_str(&run->call),
    };
    cleanup_free struct str *call_arguments = NULL;
    if (run->call.length > 0 && run->arguments.count > 1) {
        call_arguments = calloc(run->arguments.count, sizeof(*call_arguments));
        if (!call_arguments) {
            return ERR_NOMEM;
        }
        const char *text = (const char *)run->arguments.bytes.data;
        text += strlen(text) + 1; /* the program's name */
        for (uint32_t i = 0; i < run->arguments.count - 1; i++) {
            call_arguments[i] = str_of(text);
            text += call_arguments[i].length + 1;
        }
        options.call_arguments = call_arguments;
        options.call_argument_count = run->arguments.count - 1;
    }
    return sandbox_new(run->program, &options, &run->sandbox, message);
}

static void start_guest(struct run *run) {
    struct buf cleanup_buf message = {0};
    enum err err = make_wasi(run);
    if (!err) {
        err = make_sandbox(run, &message);
    }
    if (err) {
        finish_failed(run, err, &message);
        return;
    }
    run->phase = PHASE_GUEST;
    atomic_store(&run->started_ns, run->turn_started_ns);
    if (run->is_paused) {
        run->paused_ns = run->turn_started_ns;
        set_wall_deadline(run);
        set_state(run, RUN_PAUSED);
    }
}

static void step_program(struct run *run) {
    struct buf cleanup_buf message = {0};
    set_state(run, RUN_STARTING);
    enum err err =
        runs_program(&run->op, run->runs, run->version.module_sha256, &run->program, &message);
    if (!err) {
        run->phase = PHASE_TREE;
    } else if (err != ERR_PENDING) {
        finish_failed(run, err, &message);
    }
}

static void step_tree(struct run *run) {
    struct run_hooks *hooks = &run->runs->hooks;
    struct buf cleanup_buf message = {0};
    void *tree = NULL;
    enum err err = hooks->make_tree(hooks->context, &run->op, run, &run->ns, &tree, &message);
    if (!err) {
        pthread_mutex_lock(&run->lock);
        run->tree = tree;
        pthread_mutex_unlock(&run->lock);
        start_guest(run);
    } else if (err != ERR_PENDING) {
        finish_failed(run, err, &message);
    }
}

/* ---- the guest's turn ---- */

/* The turn is over: CPU time and limits. */
static void account(struct run *run) {
    if (run->phase != PHASE_GUEST) {
        return; /* finish() has charged it */
    }
    charge(run);
    note_usage(run);
    if (atomic_load_explicit(&run->cpu_ns, memory_order_relaxed) > run->limits.cpu_ns) {
        run_kill(run, RUN_REASON_CPU);
    }
    if (!run->wall_deadline_ns) {
        /* Only now: most runs end in their first turn and never need the timer. */
        set_wall_deadline(run);
        loop_timer_start(run->home->loop, &run->timer, run->wall_deadline_ns);
    }
}

/* Steps the guest until its turn is over, it waits, or somebody wants something of it. */
static void step_guest(struct run *run) {
    set_state(run, RUN_RUNNING);
    for (unsigned calls = 0; !atomic_load_explicit(&run->signals, memory_order_acquire);) {
        if (run->is_calling) {
            enum err result = wasi_call_step(&run->wasi);
            if (result == ERR_PENDING) {
                set_computing(run, false);
                set_state(run, RUN_WAITING);
                return;
            }
            run->is_calling = false;
            sandbox_finish_call(run->sandbox, result);
            calls++;
            if (calls % CALLS_PER_LOOK == 0) {
                bool slice_over = clock_monotonic_ns() - run->turn_started_ns > SLICE_NS;
                if (slice_over || calls >= CALLS_MAX) {
                    set_computing(run, slice_over);
                    run_make_ready(run, slice_over ? QUEUE_COMPUTING : QUEUE_READY);
                    return;
                }
            }
            continue; /* a signal may have come of this call */
        }
        switch (sandbox_step(run->sandbox)) {
        case SANDBOX_YIELDED:
            set_computing(run, true);
            run_make_ready(run, QUEUE_COMPUTING);
            return;
        case SANDBOX_CALLING:
            run->is_calling = true;
            break;
        case SANDBOX_RETURNED:
            finish_exit(run);
            return;
        case SANDBOX_TRAPPED:
            finish_trap(run);
            return;
        }
    }
    run_make_ready(run, QUEUE_READY);
}

/* True if the run has ended by it. */
static bool handle_signals(struct run *run) {
    unsigned signals = atomic_exchange_explicit(&run->signals, 0, memory_order_acq_rel);
    if (!signals || run->phase >= PHASE_COMMIT) {
        return false;
    }
    if (signals & SIGNAL_KILL) {
        finish_killed(run, (enum run_reason)atomic_load(&run->kill_reason));
        return true;
    }
    if (signals & SIGNAL_PAUSE) {
        pause_run(run);
    }
    if (signals & SIGNAL_RESUME) {
        resume_run(run);
    }
    if (run->phase == PHASE_QUEUED && signals & SIGNAL_BEGIN) {
        loop_timer_stop(&run->timer);
        run->phase = PHASE_PROGRAM;
    } else if (run->phase == PHASE_QUEUED && signals & SIGNAL_QUEUED) {
        loop_timer_start(run->home->loop, &run->timer,
                         run->created_ns + run->runs->options.queue_wait_ns);
    }
    return false;
}

/* One turn of a run that was taken out of its queue. */
static void turn(struct run *run) {
    if (handle_signals(run)) {
        return;
    }
    if (run->phase == PHASE_COMMIT) {
        step_commit(run);
        return;
    }
    if (run->phase == PHASE_PROGRAM) {
        step_program(run);
    }
    if (run->phase == PHASE_TREE) {
        step_tree(run);
    }
    if (run->phase == PHASE_GUEST && !run->is_paused) {
        step_guest(run);
    }
}

/* Takes the first of a queue and gives it its turn. */
static void turn_of_first(struct run_loop *home, struct list *queue) {
    struct run *run = run_ref(CONTAINER_OF(queue->next, struct run, link));
    leave_queue(run);
    home->is_exact = run->is_computing;
    if (home->is_exact) {
        home->charged_cpu_ns = clock_thread_cpu_ns();
    }
    run->turn_started_ns = home->charged_ns;
    turn(run);
    account(run);
    run_unref(run);
}

static void loop_turn_of_runs(struct loop_task *task) {
    struct run_loop *home = CONTAINER_OF(task, struct run_loop, task);
    uint64_t began_ns = home->charged_ns = clock_monotonic_ns();
    while ((!list_is_empty(&home->fresh) || !list_is_empty(&home->ready)) &&
           home->charged_ns - began_ns < TURN_BUDGET_NS) {
        if (!list_is_empty(&home->fresh)) {
            turn_of_first(home, &home->fresh);
        }
        if (!list_is_empty(&home->ready)) {
            turn_of_first(home, &home->ready);
        }
    }
    if (!list_is_empty(&home->computing)) {
        turn_of_first(home, &home->computing);
    }
    if (!list_is_empty(&home->fresh) || !list_is_empty(&home->ready) ||
        !list_is_empty(&home->computing)) {
        loop_ready(home->loop, &home->task);
    }
}

void run_loop_init(struct run_loop *home, struct runs *runs, struct loop *loop) {
    *home = (struct run_loop){.runs = runs, .loop = loop};
    loop_task_init(&home->task, loop_turn_of_runs);
    list_init(&home->fresh);
    list_init(&home->ready);
    list_init(&home->computing);
}
