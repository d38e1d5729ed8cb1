/* A run's life on its loop: starting, stepping, ending.
 *
 * CPU time of a run is that of its turns, host calls on its behalf included. It is measured by the
 * monotonic clock, one reading a turn, because reading the thread's CPU clock costs as much as a
 * short run's own work; a turn is short, so what the host takes away from us in it is little. For
 * runs that compute, where it would add up on a crowded machine, the thread's CPU clock is used. */
#include "run/internal.h"

enum {
    CALLS_MAX = 512,    /* host calls of one turn */
    CALLS_PER_LOOK = 8, /* host calls between two looks at the clock */
    EXIT_TRAPPED = 134, /* as a shell says it: 128 + SIGABRT */
    EXIT_KILLED = 137,  /* 128 + SIGKILL */
    EXIT_NOT_STARTED = 126,
};

void run_set_state(struct run *run, enum run_state state) {
    atomic_store_explicit(&run->state, (int)state, memory_order_release);
}

void run_op_wake(struct op *op) {
    run_make_ready(CONTAINER_OF(op, struct run, op), QUEUE_READY);
}

static void wasi_wake(struct op *op) {
    run_make_ready(CONTAINER_OF(op, struct run_guest, wasi.op)->run, QUEUE_READY);
}

static void finish_failed(struct run *run, enum err err, const struct buf *message) {
    run_finish(run, RUN_REASON_FAILED, EXIT_NOT_STARTED, err, message);
}

static void finish_killed(struct run *run, enum run_reason reason) {
    static const struct buf nothing;
    if (run->phase == PHASE_QUEUED) {
        (void)runs_leave_queue(run->runs, run);
    }
    run_finish(run, reason, EXIT_KILLED, ERR_OK, &nothing);
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
    run_finish(run, RUN_REASON_EXIT, run->guest->wasi.exit_status, ERR_OK, &nothing);
}

/* Its guest has trapped; polled, while a core dump is written. */
static void finish_trap(struct run *run) {
    struct buf cleanup_buf detail = {0};
    sandbox_failure(run->sandbox, &detail);
    if (run->wants_core) {
        run->phase = PHASE_CORE;
        enum err err = run_core_make(&run->op, run);
        if (err == ERR_PENDING) {
            return;
        }
        if (err) {
            (void)!buf_printf(&detail, "no core dump: %s\n",
                              err == ERR_2BIG ? "it would be larger than the limit"
                                              : err_text(err));
        }
    }
    bool memory = sandbox_memory_was_refused(run->sandbox);
    run_finish(run, memory ? RUN_REASON_MEMORY : RUN_REASON_TRAP, EXIT_TRAPPED, ERR_OK, &detail);
}

/* ---- limits in time ---- */

void run_timer_expired(struct loop_timer *timer) {
    struct run *run = CONTAINER_OF(timer, struct run, timer);
    if (run->phase != PHASE_QUEUED) {
        bool has_left = run->left_deadline_ns && run->left_deadline_ns < run->wall_deadline_ns;
        run_kill(run, has_left ? RUN_REASON_CLIENT : RUN_REASON_WALL);
    } else if (runs_leave_queue(run->runs, run)) {
        struct buf cleanup_buf message = {0};
        (void)buf_fail(&message, ERR_AGAIN, "all places were taken for too long, try again later");
        finish_failed(run, ERR_AGAIN, &message);
    }
}

static void set_wall_deadline(struct run *run) {
    uint64_t started_ns = atomic_load_explicit(&run->started_ns, memory_order_relaxed);
    bool is_far = run->limits.wall_ns > UINT64_MAX - started_ns;
    run->wall_deadline_ns = is_far ? UINT64_MAX : started_ns + run->limits.wall_ns;
}

void run_start_timer(struct run *run) {
    uint64_t left_ns = run->left_deadline_ns ? run->left_deadline_ns : UINT64_MAX;
    loop_timer_start(run->home->loop, &run->timer, MIN(run->wall_deadline_ns, left_ns));
}

/* Nobody will see what it says, and it has a place that others may want. */
static void set_left_deadline(struct run *run) {
    uint64_t now_ns = run->is_paused ? run->paused_ns : clock_monotonic_ns();
    run->left_deadline_ns = now_ns + MIN(run->runs->options.unheard_ns, UINT64_MAX - now_ns);
    if (run->wall_deadline_ns && !run->is_paused) {
        run_start_timer(run);
    }
}

static void pause_run(struct run *run) {
    if (!run->is_paused) {
        run->is_paused = true;
        run->paused_ns = clock_monotonic_ns();
        if (run->phase == PHASE_GUEST) {
            loop_timer_stop(&run->timer);
            run_set_computing(run, false);
            run_set_state(run, RUN_PAUSED);
        }
    }
}

static void resume_run(struct run *run) {
    if (run->is_paused) {
        run->is_paused = false;
        if (run->wall_deadline_ns) {
            uint64_t paused_ns = clock_monotonic_ns() - run->paused_ns;
            run->wall_deadline_ns += MIN(paused_ns, UINT64_MAX - run->wall_deadline_ns);
            if (run->left_deadline_ns) {
                run->left_deadline_ns += MIN(paused_ns, UINT64_MAX - run->left_deadline_ns);
            }
            run_start_timer(run);
        }
    }
}

/* ---- starting ---- */

static uint64_t guest_cpu_time(struct wasi *wasi) {
    struct run *run = wasi->owner;
    return atomic_load_explicit(&run->cpu_ns, memory_order_relaxed) +
           (clock_monotonic_ns() - run->turn_started_ns);
}

static enum err make_guest(struct run *run) {
    struct run_guest *guest = run->home->spare_guests;
    if (guest) {
        run->home->spare_guests = guest->next_spare;
        run->home->spare_guest_count--;
    } else {
        guest = malloc(sizeof(*guest));
        if (!guest) {
            return ERR_NOMEM;
        }
        guest->message = (struct buf){0};
    }
    guest->run = run;
    struct wasi_limits limits = wasi_limits_default;
    limits.open_files = (uint32_t)MIN(run->limits.open_files, (uint64_t)UINT32_MAX);
    enum err err = wasi_init(&guest->wasi, run->home->loop, NULL, run->ns, &run->arguments,
                             &run->environment, &limits, &run->who, wasi_wake);
    if (err) {
        buf_done(&guest->message);
        free(guest);
        return err;
    }
    run->guest = guest;
    guest->message.length = 0;
    guest->wasi.op.message = &guest->message;
    guest->wasi.cpu_time_ns = guest_cpu_time;
    guest->wasi.owner = run;
    if (run->trace) {
        run_trace_begin(run);
    }
    static const unsigned flags[] = {OPEN_READ, OPEN_WRITE, OPEN_WRITE};
    for (unsigned i = 0; i < ARRAY_LENGTH(flags); i++) {
        struct file *file = run_stream_file(run, i);
        if (!file) {
            return ERR_NOMEM;
        }
        err = wasi_add_stream(&guest->wasi, file, flags[i]);
        if (err) {
            file_unref(file);
            return err;
        }
    }
    err = wasi_add_preopen(&guest->wasi);
    if (!err && run->listener) {
        err = wasi_add_listener(&guest->wasi, file_ref(run->listener));
        if (err) {
            file_unref(run->listener);
        }
    }
    return err;
}

static enum err make_sandbox(struct run *run, struct buf *message) {
    struct sandbox_options options = {
        .limits = {.memory_bytes = run->limits.memory_bytes},
        .wasi = &run->guest->wasi,
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

static void begin_guest(struct run *run) {
    const struct run_hooks *hooks = &run->runs->hooks;
    if ((run->root_mode.length > 0 || run->app->mount_count > 0) && hooks->begin_tree) {
        hooks->begin_tree(hooks->context, run, run->tree);
    }
    run_note_time(run->home, RUN_TIME_START, clock_monotonic_ns() - run->created_ns);
    run->phase = PHASE_GUEST;
    run_set_state(run, RUN_RUNNING);
    op_queue_wake_all(&run->changed); /* run_wait_begun */
    atomic_store(&run->started_ns, run->turn_started_ns);
    if (run->is_paused) {
        run->paused_ns = run->turn_started_ns;
        set_wall_deadline(run);
        run_set_state(run, RUN_PAUSED);
    }
}

/* Last of all, so that whatever refuses the run leaves nothing of them. */
static void step_files(struct run *run) {
    const struct run_hooks *hooks = &run->runs->hooks;
    struct buf cleanup_buf message = {0};
    enum err err = ERR_OK;
    if (hooks->place_files) {
        err = hooks->place_files(hooks->context, &run->op, run, run->tree, &message);
    }
    if (!err) {
        /* So that this is not taken for the guest's. */
        run_charge(run);
        run->turn_started_ns = run->home->charged_ns;
        begin_guest(run);
    } else if (err != ERR_PENDING) {
        finish_failed(run, err, &message);
    }
}

static void start_guest(struct run *run) {
    struct buf cleanup_buf message = {0};
    enum err err = make_guest(run);
    if (!err) {
        err = make_sandbox(run, &message);
    }
    if (err) {
        finish_failed(run, err, &message);
    } else if (run->files) {
        run->phase = PHASE_FILES;
    } else {
        begin_guest(run);
    }
}

static void step_program(struct run *run) {
    struct buf cleanup_buf message = {0};
    run_set_state(run, RUN_STARTING);
    enum err err =
        runs_program(&run->op, run->runs, run->version->module_sha256, &run->program, &message);
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
    if (run->phase == PHASE_ENDED) {
        return; /* run_finish has charged it */
    }
    if (run->phase == PHASE_QUEUED || run->phase == PHASE_COMMIT) {
        /* Its app's share pays, and not the run whose turn is next. */
        run->home->charged_ns = clock_monotonic_ns();
        return;
    }
    run_charge(run);
    if (run->phase == PHASE_CORE) {
        return;
    }
    if (run->guest) {
        run_note_usage(run);
    }
    if (run->trace) {
        run_trace_flush(run);
    }
    if (run->charged) {
        run_charge_budgets(run);
    }
    if (atomic_load_explicit(&run->cpu_ns, memory_order_relaxed) + run_cpu_below_ns(run) >
        run->limits.cpu_ns) {
        run_kill(run, RUN_REASON_CPU);
    }
    if (run->phase == PHASE_GUEST && !run->wall_deadline_ns) {
        /* Only now: most runs end in their first turn and never need the timer. */
        set_wall_deadline(run);
        run_start_timer(run);
    }
}

/* A host call has failed, and a device has said why: kept for /proc/self/errstr. */
static void note_errstr(struct run *run) {
    struct buf *message = &run->guest->message;
    run_set_errstr(run, buf_str(message));
    message->length = 0;
}

/* A host call has failed, and there is no more to say. What was said of an earlier failure must not
 * be taken for the reason why something can't be opened; what fails on an open file leaves it: a
 * file that fails again, or is cleaned up after, has the same reason. */
static void forget_errstr(struct run *run, const struct wasi_function *function) {
    if (run->errstr.length > 0 && strcmp(function->name, "path_open") == 0) {
        run_set_errstr(run, STR(""));
    }
}

/* Steps the guest until its turn is over, it waits, or somebody wants something of it. */
static void step_guest(struct run *run) {
    run_set_state(run, RUN_RUNNING);
    for (unsigned calls = 0; !atomic_load_explicit(&run->signals, memory_order_acquire);) {
        if (run->is_calling) {
            const struct wasi_function *function = run->guest->wasi.pending;
            enum err result = wasi_call_step(&run->guest->wasi);
            if (result == ERR_PENDING) {
                run_set_computing(run, false);
                run_set_state(run, RUN_WAITING);
                return;
            }
            run->is_calling = false;
            if (result != ERR_OK && run->guest->message.length > 0) {
                note_errstr(run);
            } else if (result != ERR_OK) {
                forget_errstr(run, function);
            }
            sandbox_finish_call(run->sandbox, result);
            calls++;
            if (calls % CALLS_PER_LOOK == 0) {
                bool slice_over = clock_monotonic_ns() - run->turn_started_ns > RUN_SLICE_NS;
                if (slice_over || calls >= CALLS_MAX) {
                    run_set_computing(run, slice_over);
                    run_make_ready(run, slice_over ? QUEUE_COMPUTING : QUEUE_READY);
                    return;
                }
            }
            continue; /* a signal may have come of this call */
        }
        switch (sandbox_step(run->sandbox, !run->home->is_for_computing)) {
        case SANDBOX_YIELDED:
            if (clock_monotonic_ns() - run->turn_started_ns < RUN_SLICE_NS / 2) {
                break; /* a tick that came by chance: its turn has only begun */
            }
            run_set_computing(run, true);
            run_make_ready(run, QUEUE_COMPUTING);
            return;
        case SANDBOX_CALLING:
            run->is_calling = true;
            run->guest->message.length = 0;
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

/* Its client has left: a page for nobody is not begun. True if the run has ended by it. */
static bool note_left(struct run *run) {
    if (run->phase == PHASE_QUEUED && runs_leave_queue(run->runs, run)) {
        finish_killed(run, RUN_REASON_CLIENT);
        return true;
    }
    set_left_deadline(run);
    return false;
}

/* True if the run has ended by it. */
static bool handle_signals(struct run *run) {
    unsigned signals = atomic_exchange_explicit(&run->signals, 0, memory_order_acq_rel);
    if (!signals || run->phase >= PHASE_CORE) {
        return false;
    }
    if (signals & SIGNAL_KILL) {
        finish_killed(run, (enum run_reason)atomic_load(&run->kill_reason));
        return true;
    }
    if (signals & SIGNAL_LEFT && note_left(run)) {
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
        run_note_time(run->home, RUN_TIME_QUEUE,
                      run->turn_started_ns - MIN(run->created_ns, run->turn_started_ns));
    } else if (run->phase == PHASE_QUEUED && signals & SIGNAL_QUEUED) {
        loop_timer_start(run->home->loop, &run->timer, run->created_ns + run->limits.queue_wait_ns);
    }
    return false;
}

void run_step(struct run *run) {
    if (!handle_signals(run)) {
        if (run->phase == PHASE_COMMIT) {
            run_step_commit(run);
        }
        if (run->phase == PHASE_CORE) {
            finish_trap(run);
        }
        if (run->phase == PHASE_PROGRAM) {
            step_program(run);
        }
        if (run->phase == PHASE_TREE) {
            step_tree(run);
        }
        if (run->phase == PHASE_FILES) {
            step_files(run);
        }
        if (run->phase == PHASE_GUEST && !run->is_paused) {
            step_guest(run);
        }
    }
    account(run);
}
