/* Operations: what every layer that may have to wait is made of.
 *
 * An operation is polled. Its owner calls a function of a device with a struct op; the function
 * returns at once: OK, an error, or ERR_PENDING. After ERR_PENDING the owner returns to the loop
 * and calls the same function with the same arguments again when `wake` has been called (calling
 * more often is harmless). Until it has finished, the operation has had no effect, or keeps its
 * progress in the op. Pointers among the arguments are valid during each call only: what outlives a
 * call belongs to the device's state.
 *
 * An op serves one operation after the other. Whoever gives it up in between (a killed run, a
 * client that left) calls op_abandon: the device's state goes, work that is with another thread is
 * detached and its result dropped.
 *
 * A device that uses other devices drives them with child ops in its own state (op_init_child).
 *
 * Thread: an op belongs to one loop (op_move). Layer: base and loop. */
#pragma once

#include "base/traceparent.h"
#include "loop/loop.h"

#include <stdatomic.h>

/* On whose behalf an operation is done. Devices look here for rights, never at where it came from.
 */
struct who {
    uint64_t run_id;   /* the guest's run; 0 = the control door */
    int64_t app_id;    /* the guest's app; 0 = the control door */
    int64_t owner_id;  /* people; 1 = local */
    bool may_control;  /* the control door: may change and see everything of the owner's */
    bool has_own_root; /* the guest's `/` is not its app's volume (a fresh one, say): it must not
                          get at that volume by another way */
    /* The hop of a trace that it belongs to, borrowed; NULL: none. What is done for it elsewhere
     * (a run, a request) is handed traceparent_child of it. */
    const struct traceparent *traceparent;
    struct str tracestate; /* borrowed; what is handed on with it, perhaps nothing */
    /* A volume that it makes fuller than this is full, whatever the volume's own limits; 0: none.
     */
    uint64_t disk_bytes_max, disk_files_max;
};

struct op_waiter;

struct op {
    struct loop *loop;
    void (*wake)(
        struct op *op); /* on the loop's thread, from its ready queue, never from inside a call */
    const struct who *who; /* borrowed; not NULL */
    struct buf *message;   /* borrowed; where a device may put a sentence for humans that says why
                              an operation failed; NULL: nobody would read it */
    bool nonblocking;      /* AGAIN in place of ERR_PENDING where there is no end in sight (an
                              empty pipe); work that is bounded (a disk) is still PENDING */
    /* the device's, while PENDING: */
    void *state;
    void (*drop_state)(struct op *op); /* frees `state`; called by op_finish and op_abandon */
    struct op *parent;                 /* woken when this one is */
    struct loop_task wake_task;
    struct op_waiter *waiter; /* lazily made, see op_queue_wait */
};

void op_init(struct op *op, struct loop *loop, const struct who *who, void (*wake)(struct op *op));
/* A child wakes its parent, acts for the same `who` with the same `message`, and is nonblocking if
 * the parent is. */
void op_init_child(struct op *child, struct op *parent);
/* Gives up whatever is pending; the op can then be used anew. Harmless when nothing is. */
void op_abandon(struct op *op);
/* op_abandon and the end of the op. */
void op_done(struct op *op);

/* Of an op that nothing is pending of: it belongs to another loop from now on. Thread: its loop's
 * so far. */
void op_move(struct op *op, struct loop *loop);

/* For devices. Sets the state of a beginning operation, which has none yet. */
void op_set_state(struct op *op, void *state, void (*drop_state)(struct op *op));
/* Drops the state, leaves the queue and takes back a wake that is on its way; returns `result`, so
 * that `return op_finish(op, err);` ends an operation. One that has neither a state nor waited may
 * end without. */
enum err op_finish(struct op *op, enum err result);
/* Queues the owner's wake, for a child that of its topmost parent. Thread: the op's loop. */
void op_wake(struct op *op);

/* What operations wait for: data in a pipe, room in a queue. Guards itself; any thread may wake.
 * An op that is given up leaves the queue by itself. The queue must be empty (or woken) and unused
 * when it goes. */
struct op_queue {
    void *mutex; /* opaque; allocated by init */
    struct list waiters;
    atomic_bool may_wait; /* false: nobody waits, so that waking nobody takes no mutex */
};
MUST_USE enum err op_queue_init(struct op_queue *queue);
/* Wakes whoever is left and frees it. */
void op_queue_done(struct op_queue *queue);
/* The op is woken by the next op_queue_wake_all. An op may wait in several queues only through
 * child ops; waiting again in the same queue is harmless. Check the condition after this call, not
 * before, or a wake from another thread may be lost. Thread: the op's loop. */
MUST_USE enum err op_queue_wait(struct op_queue *queue, struct op *op);
/* Thread: any. */
void op_queue_wake_all(struct op_queue *queue);
/* Whether an op waits there at this moment. Thread: any. */
bool op_queue_has_waiter(struct op_queue *queue);

/* Work on another thread for an op. Embed it as the first member of the device's state object,
 * which then belongs to the work: allocated by malloc, freed by `release` when both the op and the
 * worker have let go. Pattern:
 *
 *     struct my_work *work = op->state;
 *     if (!work) {
 *         … allocate, copy the arguments in …
 *         return op_work_start(op, &work->base);    // ERR_PENDING, or an error (then released)
 *     }
 *     if (!work->base.finished) return ERR_PENDING;
 *     … copy the results out …
 *     return op_finish(op, work->result);            // releases
 *
 * The same object may be started again when it has finished, for an operation of several steps. */
struct op_work {
    struct loop_work loop_work;
    void (*run)(struct op_work *work);     /* worker thread: touches the work object only */
    void (*release)(struct op_work *work); /* loop's thread */
    struct op *op;                         /* NULL after it was given up */
    bool finished;
};
MUST_USE enum err op_work_start(struct op *op, struct op_work *work);
