/* What the files of the loop share. Nobody else includes this. */
#pragma once

#include "base/log.h"
#include "base/thread.h"
#include "loop/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct loop {
    uv_loop_t uv;
    /* Posts have come, or loop_stop. Not a uv_async_t: who gets one waits, spinning, until the
     * thread that sends it is back from the system call, and that has been interrupted by who gets
     * it where it is one that gives way (loop_set_priority). */
    uv_poll_t wake;
    int wake_descriptor;  /* an eventfd */
    uv_timer_t timer;     /* wakes the loop for the first of its own timers; does nothing else */
    uv_idle_t idle;       /* active: do not wait */
    uv_prepare_t prepare; /* before waiting */
    uv_check_t check;     /* after waiting and the descriptors */
    unsigned index;

    /* The thread that is inside of loop_run or loop_turn, for checks. */
    pthread_t thread;
    bool has_thread;

    uint64_t now_ns;
    bool now_is_stale; /* time may have passed since now_ns was read */

    struct list ready;   /* struct loop_task.link */
    struct list in_turn; /* likewise, some in each turn */
    struct list last;    /* likewise, for the end of the turn */

    /* Guarded by being atomic: a stack that the loop takes as a whole and turns round. */
    _Atomic(struct loop_post *) posts;
    atomic_bool is_stopping;

    struct heap timers; /* of struct loop_timer; the earliest first */

    size_t work_count;     /* with the pool of workers */
    struct list processes; /* struct loop_process.link */
    struct list signals;   /* struct loop_signal.link */
};

static inline void loop_check_thread(const struct loop *loop) {
    INVARIANT(!loop->has_thread || pthread_equal(loop->thread, pthread_self()));
}
static inline enum err err_from_uv(int result) {
    return result < 0 ? err_from_errno(-result) : ERR_OK;
}

/* timer.c */
void loop_timers_init(struct loop *loop);
/* Whether there is one to expire now. */
bool loop_timers_are_due(struct loop *loop);
/* Calls what has expired, as many as there are timers now. */
void loop_timers_expire(struct loop *loop);
/* Arms libuv's timer for the first one. True: one has expired already. */
bool loop_timers_arm(struct loop *loop);

/* watch.c */
void loop_signals_close(struct loop *loop);
