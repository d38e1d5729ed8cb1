/* How a run ends: its last words, the commit of what it wrote, what remains of it. */
#include "run/internal.h"

enum { SPARE_GUESTS_MAX = 64 };

/* ---- ending ---- */

static void print_limit(struct buf *text, const char *what, uint64_t value, const char *unit) {
    (void)!buf_printf(text, "%s limit of %llu %s reached", what, (unsigned long long)value, unit);
}

static void print_duration(struct buf *text, uint64_t duration_ns) {
    bool is_whole = duration_ns % NS_PER_S == 0;
    (void)!buf_printf(text, "%llu %s",
                      (unsigned long long)(duration_ns / (is_whole ? NS_PER_S : NS_PER_MS)),
                      is_whole ? "s" : "ms");
}

static void print_duration_limit(struct buf *text, const char *what, uint64_t limit_ns) {
    (void)!buf_printf(text, "%s limit of ", what);
    print_duration(text, limit_ns);
    (void)!buf_append_str(text, STR(" reached"));
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
        (void)!buf_append_str(text, run->charged ? STR("the run that started it has left it")
                                                 : STR("its client has left"));
        break;
    case RUN_REASON_SHUTDOWN:
        (void)!buf_append_str(text, STR("the server shuts down"));
        break;
    case RUN_REASON_HUNG:
        (void)!buf_append_str(text, STR("it has not answered for "));
        print_duration(text, run_answer_ns(run));
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

void run_note_usage(struct run *run) {
    const struct wasi *wasi = &run->guest->wasi;
    atomic_store_explicit(&run->calls, wasi->calls, memory_order_relaxed);
    atomic_store_explicit(&run->bytes_read, wasi->bytes_read, memory_order_relaxed);
    atomic_store_explicit(&run->bytes_written, wasi->bytes_written, memory_order_relaxed);
    if (run->sandbox) {
        atomic_store_explicit(&run->memory_bytes, sandbox_memory_bytes(run->sandbox),
                              memory_order_relaxed);
        atomic_store_explicit(&run->memory_peak_bytes, sandbox_memory_peak_bytes(run->sandbox),
                              memory_order_relaxed);
    }
}

void run_charge(struct run *run) {
    struct run_loop *home = run->home;
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t used_ns = now_ns - home->charged_ns;
    home->charged_ns = now_ns;
    if (home->is_exact) {
        uint64_t cpu_now_ns = clock_thread_cpu_ns();
        used_ns = cpu_now_ns - home->charged_cpu_ns;
        home->charged_cpu_ns = cpu_now_ns;
    }
    /* What it takes to begin (large files to be placed, say) tells nothing of the guest. */
    run->has_computed = run->has_computed || (run->phase >= PHASE_GUEST && used_ns > RUN_PROMPT_NS);
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
    uint64_t time_ns = run_realtime_ns(run, MAX(run->home->charged_ns, run->created_ns));
    lines_flush(&run->lines, run->log, run->id, time_ns);
    if (run->detached || run->reason != RUN_REASON_EXIT || run->exit_status != 0 ||
        run->has_traceparent) {
        char trace[TRACEPARENT_TEXT_SIZE] = "";
        if (run->has_traceparent) {
            traceparent_format(&run->traceparent, trace);
        }
        uint64_t cpu_us = (atomic_load(&run->cpu_ns) + run_cpu_below_ns(run)) / NS_PER_US;
        char line[96 + TRACEPARENT_TEXT_SIZE];
        int length =
            snprintf(line, sizeof(line), "ended: %s %d, cpu %llu us%s%s",
                     run_reason_text(run->reason), run->exit_status, (unsigned long long)cpu_us,
                     run->has_traceparent ? ", trace " : "", trace);
        applog_append(run->log, time_ns, run->id, "sys", (struct str){line, (size_t)length});
    }
}

static void free_guest(struct run_loop *home, struct run_guest *guest) {
    wasi_done(&guest->wasi);
    if (home->spare_guest_count >= SPARE_GUESTS_MAX) {
        buf_done(&guest->message);
        free(guest);
        return;
    }
    guest->next_spare = home->spare_guests;
    home->spare_guests = guest;
    home->spare_guest_count++;
}

/* The last step: its effects are on disk (or it had none). */
static void end(struct run *run) {
    struct runs *runs = run->runs;
    op_done(&run->op);
    void *tree = NULL;
    bool gives_tree = run->tree && !runs->hooks.tree_is_kept(runs->hooks.context, run->tree);
    log_end(run);
    /* Of the loop's clock of turns: a reading saved. */
    uint64_t started_ns = atomic_load_explicit(&run->started_ns, memory_order_relaxed);
    uint64_t ended_ns = MAX(run->home->charged_ns, started_ns);
    if (started_ns) {
        run_note_time(run->home, RUN_TIME_RUN, ended_ns - started_ns);
    }
    pthread_mutex_lock(&run->lock);
    /* From here on it becomes no longer, but a reader on another loop may have it forget. */
    uint64_t output_bytes = run->output.size - run->output.base_position;
    output_bytes += run->output.spool >= 0 ? runs->options.kept_file_bytes : 0;
    output_bytes += run->core ? runs->options.kept_file_bytes : 0;
    if (gives_tree) {
        tree = STEAL(run->tree);
    }
    run->output_ended = true;
    run->has_reader = false;
    atomic_store(&run->ended_ns, ended_ns);
    run_set_state(run, RUN_ENDED);
    pthread_mutex_unlock(&run->lock);
    if (tree) {
        runs->hooks.tree_done(runs->hooks.context, tree);
    }
    lines_done(&run->lines);
    run->phase = PHASE_ENDED;
    run_leave_share(run);
    runs_run_ended(runs, run, output_bytes);
    op_queue_wake_all(&run->changed);
    run_unref(run); /* the reference of its life */
}

void run_step_commit(struct run *run) {
    struct runs *runs = run->runs;
    bool has_begun = atomic_load_explicit(&run->started_ns, memory_order_relaxed) != 0;
    if (run->tree && !has_begun && runs->hooks.undo_tree) {
        if (runs->hooks.undo_tree(runs->hooks.context, &run->op, run->tree) == ERR_PENDING) {
            return;
        }
        /* What could not be taken back stays, and harms nobody. */
    } else if (run->tree) {
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

void run_finish(struct run *run, enum run_reason reason, int32_t exit_status, enum err start_error,
                const struct buf *detail) {
    run_set_computing(run, false);
    loop_timer_stop(&run->timer);
    op_abandon(&run->op);
    struct buf failure = {0};
    print_failure(run, reason, start_error, detail, &failure);
    if (failure.length > 0) {
        say_last_words(run, reason, &failure);
    }
    if (run->trace) {
        run_trace_end(run, run_reason_text(reason), exit_status);
    }
    if (run->guest) {
        run_note_usage(run);
        run->changes = STEAL(run->guest->wasi.changes);
        changes_sort(run->changes);
        sandbox_free(STEAL(run->sandbox));
        free_guest(run->home, STEAL(run->guest));
    }
    if (run->phase != PHASE_QUEUED) {
        run_charge(run); /* also what it took to find out that it can't begin */
    }
    run_end_members(run);
    program_unref(STEAL(run->program));
    ns_unref(STEAL(run->ns));
    file_unref(STEAL(run->files));
    if (run->input) {
        pipe_close_read(run->input);
    }
    atomic_store_explicit(&run->memory_bytes, 0, memory_order_relaxed);
    run_leave_budget(run);
    pthread_mutex_lock(&run->lock);
    run->failure = failure;
    run->reason = reason;
    run->start_error = start_error;
    run->exit_status = exit_status;
    pthread_mutex_unlock(&run->lock);
    run->phase = PHASE_COMMIT;
    run_step_commit(run);
}
