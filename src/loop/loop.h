/* The event loop of a thread, on libuv.
 *
 * There is one loop a thread. Everything that belongs to a loop (runs, connections, operations) is
 * touched on its thread only; `loop_post` is the one way in from elsewhere. One turn of a loop:
 * descriptors and timers, then the ready tasks that were there when the turn began (so that tasks
 * which make each other ready can't starve input), then those for the turn's end, then waiting.
 *
 * Layer: knows base and libuv only. Nobody else includes <uv.h> but loop/. */
#pragma once

#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct loop;

/* A piece of work for a loop. Embedded in its owner; in at most one loop's queue at a time. */
struct loop_task {
    struct list link;
    void (*run)(struct loop_task *task);
    bool queued;
};
void loop_task_init(struct loop_task *task, void (*run)(struct loop_task *task));

/* `index` tells the loops of a server apart (0, 1, …). Thread: the one that will run it. */
MUST_USE enum err loop_new(unsigned index, struct loop **ret_loop);
/* All its timers, watches and processes must be gone, and no other thread may post any more. Waits
 * for works that nobody waits for any longer, and runs the posts that have come; no tasks. Accepts
 * NULL. */
void loop_free(struct loop *loop);
/* Runs until loop_stop. Thread: the loop's own from then on. */
void loop_run(struct loop *loop);
/* One turn without waiting, for tests: true if there is more to do at once. */
bool loop_turn(struct loop *loop);
/* Ends loop_run after the current turn. Thread: any. */
void loop_stop(struct loop *loop);

/* How the kernel shall see the calling thread. */
enum loop_priority {
    LOOP_PROMPT,    /* works for a short time, and shall have the processor as soon as it wakes */
    LOOP_WORKING,   /* works for long at times: whoever is prompt interrupts it */
    LOOP_COMPUTING, /* does little else: so does a worker */
};
/* Where the kernel refuses, the thread stays as it is. Workers do it themselves. */
void loop_set_priority(enum loop_priority priority);

unsigned loop_index(const struct loop *loop);
/* The loop that the calling thread runs, or has run last; NULL on a thread without one (a worker).
 */
struct loop *loop_current(void);
/* The monotonic time of the turn, cached (clock_monotonic_ns reads the clock itself). */
uint64_t loop_now_ns(const struct loop *loop);

/* Queues a task for this or the next turn; nothing if it is queued. Thread: the loop's. */
void loop_ready(struct loop *loop, struct loop_task *task);
/* Likewise, for a task that may become ready together with hundreds of others: a turn runs no more
 * than 4 of these, in their order, so that what comes meanwhile need not wait for all of them. */
void loop_ready_in_turn(struct loop *loop, struct loop_task *task);
/* Queues a task for the end of this turn: it runs after the ready tasks, right before the loop
 * waits, and what it makes ready is not waited upon. What these tasks queue likewise is for the
 * next turn. Nothing if it is queued, here or as ready. Thread: the loop's. */
void loop_ready_last(struct loop *loop, struct loop_task *task);
/* Takes a queued task back. Thread: the loop's. */
void loop_task_cancel(struct loop_task *task);

/* Hands `run(argument)` to another loop. Owned by the caller until `run` is called; a post can't be
 * taken back, so what it points at must outlive it. Thread: any. */
struct loop_post {
    struct loop_post *next;
    void (*run)(struct loop_post *post);
};
void loop_post(struct loop *loop, struct loop_post *post);

/* Timers: intrusive, started and stopped in O(log n) without allocation. Thread: the loop's. */
struct loop_timer {
    uint64_t deadline_ns;  /* on the monotonic clock */
    struct heap_node node; /* in the loop's heap while it is started */
    void (*expired)(struct loop_timer *timer);
    struct loop *loop;
};
void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer));
/* Starts, or moves, the timer. It expires up to a millisecond late, never early. Can't fail: the
 * process ends if there is no memory for eight more bytes a timer. */
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
/* Harmless if it is not started. */
void loop_timer_stop(struct loop_timer *timer);
static inline bool loop_timer_is_started(const struct loop_timer *timer) {
    return timer->node.position != 0;
}

/* Watches a descriptor of the host for readability, writability, or the peer's end (RDHUP).
 * Level-triggered. An error on the descriptor comes as all that was wanted and LOOP_FAILED, once:
 * then the watch rests until loop_watch_change. The descriptor is made non-blocking. One watch a
 * descriptor and loop (EXIST); PERM for what can't be waited for (a regular file). Thread: the
 * loop's. */
enum { LOOP_READABLE = 1, LOOP_WRITABLE = 2, LOOP_DISCONNECTED = 4, LOOP_FAILED = 8 };
struct loop_watch;
typedef void loop_watch_callback(struct loop_watch *watch, unsigned events, void *argument);
MUST_USE enum err loop_watch_new(struct loop *loop, int descriptor, unsigned events,
                                 loop_watch_callback *callback, void *argument,
                                 struct loop_watch **ret_watch);
void loop_watch_change(struct loop_watch *watch, unsigned events);
/* No callback comes after this; the descriptor may be closed at once. Accepts NULL. */
void loop_watch_free(struct loop_watch *watch);

/* Work for the pool of worker threads (shared by all loops, bounded): `run` on a worker, then
 * `done` on the loop. It can't be taken back: what it uses belongs to it until `done`.
 * Thread: the loop's. */
struct loop_work {
    void (*run)(struct loop_work *work);  /* worker thread */
    void (*done)(struct loop_work *work); /* loop's thread; may free the work */
    struct loop *loop;
    void *request; /* libuv's */
};
/* Starts the workers, which else begin with the first work, and with the priority of whoever has
 * it. Thread: before there are others. */
void loop_start_workers(void);
MUST_USE enum err loop_work_start(struct loop *loop, struct loop_work *work);
/* Whether works are under way or wait to be done, such as those of operations that were given up:
 * what they use must not go before. Thread: the loop's. */
bool loop_has_works(const struct loop *loop);

/* A child process, without a shell, with an empty standard input, in a session of its own. `exited`
 * comes once on the loop's thread; the process object is then gone. It dies with the thread that
 * has started it. The server must leave SIGCHLD alone. Thread: the loop's. */
struct loop_process;
struct loop_process_options {
    const char *const *arguments; /* arguments[0] is the file, a path; ends with NULL */
    uint64_t memory_bytes;        /* RLIMIT_AS; 0 = none */
    uint64_t cpu_seconds;         /* RLIMIT_CPU; 0 = none */
    uint64_t wall_ns;             /* killed after this; 0 = never */
    int error_descriptor;         /* where its standard error and output go; -1 = our error */
    /* `exit_status` is -1 when a signal ended it; 127 if the file could not be executed. */
    void (*exited)(void *argument, int exit_status, int signal, bool timed_out);
    void *argument;
};
MUST_USE enum err loop_process_start(struct loop *loop, const struct loop_process_options *options,
                                     struct loop_process **ret_process);
/* Kills it (SIGKILL); `exited` still comes. */
void loop_process_kill(struct loop_process *process);

/* Calls `callback` on the loop's thread when the process gets this signal. Thread: the loop's. */
MUST_USE enum err loop_on_signal(struct loop *loop, int signal, void (*callback)(void *argument),
                                 void *argument);
