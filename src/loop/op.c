#include "loop/op.h"

#include "base/block.h"
#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>

/* The mutex of a queue. Waiters hold a reference, so that an op can always find out under the mutex
 * whether it is still in the queue, even when the queue itself is gone. */
struct guard {
    pthread_mutex_t mutex;
    atomic_uint references;
};

/* An op's place in a queue. Belongs to the op; after op_done to its post if that is on its way. */
struct op_waiter {
    struct op *op;       /* op's loop; NULL after op_done */
    struct loop *loop;   /* the op's; never changes */
    struct guard *guard; /* op's loop; of the queue that it was put in last; a reference */
    bool waits;          /* op's loop; false: a wake on its way is none of the op's business */
    struct list link;    /* guard: in the queue, or empty */
    struct loop_post post;
    atomic_bool is_posted; /* `post` is on its way */
};

static void guard_unref(struct guard *guard) {
    if (guard && atomic_fetch_sub_explicit(&guard->references, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&guard->mutex);
        free(guard);
    }
}

static void guard_lock(struct guard *guard) {
    INVARIANT(pthread_mutex_lock(&guard->mutex) == 0);
}

static void guard_unlock(struct guard *guard) {
    INVARIANT(pthread_mutex_unlock(&guard->mutex) == 0);
}

/* Takes the op out of the queue that it waits in. */
static void stop_waiting(struct op_waiter *waiter) {
    if (waiter && waiter->waits) {
        guard_lock(waiter->guard);
        list_remove(&waiter->link);
        guard_unlock(waiter->guard);
        waiter->waits = false;
    }
}

static void waiter_free(struct op_waiter *waiter) {
    guard_unref(waiter->guard);
    block_free(waiter, sizeof *waiter);
}

static struct op *topmost(struct op *op) {
    while (op->parent) {
        op = op->parent;
    }
    return op;
}

/* One of perhaps many that have waited in a queue. */
static void wake_in_turn(struct op *op) {
    op = topmost(op);
    loop_ready_in_turn(op->loop, &op->wake_task);
}

static void on_waiter_post(struct loop_post *post) {
    struct op_waiter *waiter = CONTAINER_OF(post, struct op_waiter, post);
    /* From here on a wake needs a post of its own. Reading what the waker has written orders what
     * it did before the wake to before the op's next call. */
    atomic_exchange_explicit(&waiter->is_posted, false, memory_order_acq_rel);
    if (!waiter->op) {
        waiter_free(waiter);
    } else if (waiter->waits) {
        wake_in_turn(waiter->op);
    }
}

static void run_wake(struct loop_task *task) {
    struct op *op = CONTAINER_OF(task, struct op, wake_task);
    op->wake(op);
}

void op_init(struct op *op, struct loop *loop, const struct who *who, void (*wake)(struct op *op)) {
    *op = (struct op){.loop = loop, .wake = wake, .who = who};
    loop_task_init(&op->wake_task, run_wake);
}

void op_init_child(struct op *child, struct op *parent) {
    op_init(child, parent->loop, parent->who, NULL);
    child->parent = parent;
    child->nonblocking = parent->nonblocking;
    child->message = parent->message;
}

static void drop_state(struct op *op) {
    if (op->state) {
        op->drop_state(op);
        op->state = NULL;
        op->drop_state = NULL;
    }
    stop_waiting(op->waiter);
    loop_task_cancel(&op->wake_task); /* never queued for a child */
}

void op_abandon(struct op *op) {
    drop_state(op);
}

void op_done(struct op *op) {
    drop_state(op);
    struct op_waiter *waiter = STEAL(op->waiter);
    if (!waiter) {
        return;
    }
    /* It is in no queue any more, so that nobody can post it now. */
    if (atomic_load_explicit(&waiter->is_posted, memory_order_acquire)) {
        waiter->op = NULL;
    } else {
        waiter_free(waiter);
    }
}

void op_move(struct op *op, struct loop *loop) {
    INVARIANT(!op->state && !op->parent);
    op_done(op);
    op->loop = loop;
}

void op_set_state(struct op *op, void *state, void (*drop)(struct op *op)) {
    INVARIANT(!op->state);
    op->state = state;
    op->drop_state = drop;
}

enum err op_finish(struct op *op, enum err result) {
    drop_state(op);
    return result;
}

void op_wake(struct op *op) {
    op = topmost(op);
    loop_ready(op->loop, &op->wake_task);
}

enum err op_queue_init(struct op_queue *queue) {
    struct guard *guard = malloc(sizeof *guard);
    if (!guard) {
        return ERR_NOMEM;
    }
    int result = pthread_mutex_init(&guard->mutex, NULL);
    if (result) {
        free(guard);
        return err_from_errno(result);
    }
    atomic_init(&guard->references, 1);
    atomic_init(&queue->may_wait, false);
    queue->mutex = guard;
    list_init(&queue->waiters);
    return ERR_OK;
}

void op_queue_done(struct op_queue *queue) {
    if (queue->mutex) {
        op_queue_wake_all(queue);
        guard_unref(queue->mutex);
        queue->mutex = NULL;
    }
}

enum err op_queue_wait(struct op_queue *queue, struct op *op) {
    struct guard *guard = queue->mutex;
    struct op_waiter *waiter = op->waiter;
    if (!waiter) {
        waiter = block_new_raw(sizeof *waiter);
        if (!waiter) {
            return ERR_NOMEM;
        }
        *waiter = (struct op_waiter){.op = op, .loop = op->loop, .post.run = on_waiter_post};
        list_init(&waiter->link);
        op->waiter = waiter;
    }
    if (waiter->guard != guard) {
        stop_waiting(waiter);
        guard_unref(waiter->guard);
        atomic_fetch_add_explicit(&guard->references, 1, memory_order_relaxed);
        waiter->guard = guard;
    }
    guard_lock(guard);
    if (list_is_empty(&waiter->link)) {
        list_append(&queue->waiters, &waiter->link);
    }
    /* Whoever wakes exchanges it, too: it either sees this, or what it has changed before is seen
     * by the op's next look at its condition. */
    atomic_exchange_explicit(&queue->may_wait, true, memory_order_acq_rel);
    guard_unlock(guard);
    waiter->waits = true;
    return ERR_OK;
}

void op_queue_wake_all(struct op_queue *queue) {
    if (!atomic_exchange_explicit(&queue->may_wait, false, memory_order_acq_rel)) {
        return;
    }
    struct guard *guard = queue->mutex;
    struct loop *current = loop_current();
    guard_lock(guard);
    while (!list_is_empty(&queue->waiters)) {
        struct op_waiter *waiter = CONTAINER_OF(queue->waiters.next, struct op_waiter, link);
        list_remove(&waiter->link);
        if (waiter->loop == current) {
            wake_in_turn(waiter->op);
        } else if (!atomic_exchange_explicit(&waiter->is_posted, true, memory_order_acq_rel)) {
            loop_post(waiter->loop, &waiter->post); /* the waiter may be gone after this */
        }
    }
    guard_unlock(guard);
}

bool op_queue_has_waiter(struct op_queue *queue) {
    struct guard *guard = queue->mutex;
    guard_lock(guard);
    bool has_waiter = !list_is_empty(&queue->waiters);
    guard_unlock(guard);
    return has_waiter;
}

static void run_op_work(struct loop_work *loop_work) {
    struct op_work *work = CONTAINER_OF(loop_work, struct op_work, loop_work);
    work->run(work);
}

static void on_op_work_done(struct loop_work *loop_work) {
    struct op_work *work = CONTAINER_OF(loop_work, struct op_work, loop_work);
    work->finished = true;
    if (work->op) {
        op_wake(work->op);
    } else {
        work->release(work);
    }
}

static void drop_op_work(struct op *op) {
    struct op_work *work = op->state;
    work->op = NULL;
    if (work->finished) {
        work->release(work);
    }
}

enum err op_work_start(struct op *op, struct op_work *work) {
    if (op->state != work) {
        op_set_state(op, work, drop_op_work);
    }
    work->op = op;
    work->finished = false;
    work->loop_work.run = run_op_work;
    work->loop_work.done = on_op_work_done;
    enum err err = loop_work_start(op->loop, &work->loop_work);
    if (err) {
        work->finished = true; /* no worker has it: dropping releases */
        return op_finish(op, err);
    }
    return ERR_PENDING;
}
