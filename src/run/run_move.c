/* Which loop a run is on.
 *
 * A server has loops for what is prompt, which also have its connections, and others for what
 * computes, whose threads give way to those of the first (loop_set_priority): so a short request
 * need not wait for the slice of a guest that computes, nor for the memory of a large one to be
 * given back. Where a run begins is decided by what its app's last runs were like
 * (runs.c). One that computes where nobody expected it is moved after its first slice, between two
 * steps of its guest: then no host call is under way, and all that ties it to its loop is its
 * timer, its place in the queues, and files that are connections. With such a file it stays.
 *
 * While it is moving it belongs to nobody: its old loop has let go of it, its new one has not seen
 * it yet, and what it is told meanwhile waits in its signals. */
#include "run/internal.h"

static unsigned computing_count(const struct run_loop *home) {
    return atomic_load_explicit(&home->computing_count, memory_order_relaxed);
}

/* What is prompt stays where it was asked for. What computes goes to the loop with the fewest of
 * its kind; who is on one of those already stays there, unless another has clearly fewer: what runs
 * start is often short, and its caller waits. */
struct run_loop *run_choose_loop(struct runs *runs, const struct loop *loop, bool computes) {
    size_t own = 0;
    while (own + 1 < runs->loop_count && runs->loops[own].loop != loop) {
        own++;
    }
    size_t first = runs->loop_count - runs->options.computing_loops;
    if (!computes) {
        return &runs->loops[own];
    }
    if (runs->options.computing_loops == 0) {
        first = 0;
    }
    bool is_there = own >= first;
    struct run_loop *best = &runs->loops[is_there ? own : first + own % (runs->loop_count - first)];
    unsigned fewest = computing_count(best);
    fewest -= is_there ? MIN(fewest, 1u) : 0;
    for (size_t i = first; i < runs->loop_count; i++) {
        if (computing_count(&runs->loops[i]) < fewest) {
            best = &runs->loops[i];
            fewest = computing_count(best);
        }
    }
    return best;
}

static void arrive(struct loop_post *post) {
    struct run_guest *guest = CONTAINER_OF(post, struct run_guest, move);
    struct run *run = guest->run;
    atomic_store(&run->home, guest->target);
    atomic_store(&run->is_moving, false);
    if (!run->is_paused && run->wall_deadline_ns) {
        run_start_timer(run);
    }
    run_set_computing(run, true);
    bool is_told = atomic_load(&run->signals) != 0;
    run_make_ready(run, is_told ? QUEUE_READY : QUEUE_COMPUTING);
    run_unref(run);
}

void run_move_away(struct run *run) {
    struct run_loop *home = run->home;
    struct runs *runs = run->runs;
    if (home->is_for_computing || runs->options.computing_loops == 0 || run->phase != PHASE_GUEST) {
        return;
    }
    runs_note_computing(runs, run);
    struct run_guest *guest = run->guest;
    if (!wasi_may_move(&guest->wasi)) {
        return;
    }
    atomic_store(&run->is_moving, true);
    run_set_computing(run, false);
    run_leave_share(run);
    loop_timer_stop(&run->timer);
    guest->target = run_choose_loop(runs, home->loop, true);
    guest->move.run = arrive;
    op_move(&run->op, guest->target->loop);
    wasi_move(&guest->wasi, guest->target->loop);
    run_ref(run);
    loop_post(guest->target->loop, &guest->move);
}
