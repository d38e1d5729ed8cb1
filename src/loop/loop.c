#include "base/clock.h"
#include "loop/loop_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { IN_TURN_MAX = 4 };

static _Thread_local struct loop *current;

void loop_task_init(struct loop_task *task, void (*run)(struct loop_task *task)) {
    list_init(&task->link);
    task->run = run;
    task->queued = false;
}

static void queue_task(struct loop *loop, struct list *queue, struct loop_task *task) {
    loop_check_thread(loop);
    if (!task->queued) {
        task->queued = true;
        list_append(queue, &task->link);
    }
}

void loop_ready(struct loop *loop, struct loop_task *task) {
    queue_task(loop, &loop->ready, task);
}

void loop_ready_in_turn(struct loop *loop, struct loop_task *task) {
    queue_task(loop, &loop->in_turn, task);
}

void loop_ready_last(struct loop *loop, struct loop_task *task) {
    queue_task(loop, &loop->last, task);
}

static bool has_tasks(const struct loop *loop) {
    return !list_is_empty(&loop->ready) || !list_is_empty(&loop->in_turn) ||
           !list_is_empty(&loop->last);
}

void loop_task_cancel(struct loop_task *task) {
    if (task->queued) {
        task->queued = false;
        list_remove(&task->link);
    }
}

static void run_first(struct list *queue) {
    struct loop_task *task = CONTAINER_OF(queue->next, struct loop_task, link);
    list_remove(&task->link);
    task->queued = false;
    task->run(task); /* may free it, or cancel others of the queue */
}

/* Runs the tasks that are in the queue now; those that come meanwhile stay for the next turn. */
static void run_tasks(struct list *queue) {
    if (list_is_empty(queue)) {
        return;
    }
    struct list batch;
    list_append(queue, &batch);
    /* `batch` is now the last node of the ring; without its old head the ring is the batch's. */
    list_remove(queue);
    while (!list_is_empty(&batch)) {
        run_first(&batch);
    }
}

static void run_some_in_turn(struct loop *loop) {
    for (unsigned count = 0; count < IN_TURN_MAX && !list_is_empty(&loop->in_turn); count++) {
        run_first(&loop->in_turn);
    }
}

static void run_posts(struct loop *loop) {
    struct loop_post *newest = atomic_exchange_explicit(&loop->posts, NULL, memory_order_acquire);
    struct loop_post *oldest = NULL;
    while (newest) {
        struct loop_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct loop_post *post = oldest;
        oldest = post->next; /* read first: from `run` on the post is its owner's again */
        post->run(post);
    }
}

/* Thread: any. A full counter has woken it, too. */
static void wake(struct loop *loop) {
    uint64_t one = 1;
    while (write(loop->wake_descriptor, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void loop_post(struct loop *loop, struct loop_post *post) {
    struct loop_post *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posts, &head, post, memory_order_release,
                                                    memory_order_relaxed));
    if (!head) { /* who pushed the first one has woken the loop already */
        wake(loop);
    }
}

/* What is read is what was posted before, so it is read first. */
static void on_wake(uv_poll_t *handle, int status, int events) {
    (void)status;
    (void)events;
    struct loop *loop = CONTAINER_OF(handle, struct loop, wake);
    uint64_t count;
    (void)!read(loop->wake_descriptor, &count, sizeof count);
    run_posts(loop);
}

static void on_idle(uv_idle_t *idle) {
    (void)idle; /* is there to make the timeout zero */
}

static void on_prepare(uv_prepare_t *prepare) {
    struct loop *loop = CONTAINER_OF(prepare, struct loop, prepare);
    run_tasks(&loop->last);
    bool has_expired = loop_timers_arm(loop);
    if (has_expired || has_tasks(loop)) {
        uv_idle_start(&loop->idle, on_idle);
    } else {
        uv_idle_stop(&loop->idle);
    }
    loop->now_is_stale = true;
}

static void on_check(uv_check_t *check) {
    struct loop *loop = CONTAINER_OF(check, struct loop, check);
    loop_timers_expire(loop);
    run_tasks(&loop->ready);
    run_some_in_turn(loop);
    if (atomic_load(&loop->is_stopping)) {
        uv_stop(&loop->uv);
    }
}

enum err loop_new(unsigned index, struct loop **ret_loop) {
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        return ERR_NOMEM;
    }
    int result = uv_loop_init(&loop->uv);
    if (result < 0) {
        free(loop);
        return err_from_uv(result);
    }
    loop->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    result = loop->wake_descriptor < 0
                 ? -errno
                 : uv_poll_init(&loop->uv, &loop->wake, loop->wake_descriptor);
    if (result < 0) {
        if (loop->wake_descriptor >= 0) {
            close(loop->wake_descriptor);
        }
        uv_loop_close(&loop->uv);
        free(loop);
        return err_from_uv(result);
    }
    /* These can't fail. */
    uv_poll_start(&loop->wake, UV_READABLE, on_wake);
    uv_timer_init(&loop->uv, &loop->timer);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_check_start(&loop->check, on_check);
    loop->index = index;
    loop->now_is_stale = true;
    loop_timers_init(loop);
    list_init(&loop->ready);
    list_init(&loop->in_turn);
    list_init(&loop->last);
    list_init(&loop->processes);
    list_init(&loop->signals);
    *ret_loop = loop;
    return ERR_OK;
}

void loop_free(struct loop *loop) {
    if (!loop) {
        return;
    }
    INVARIANT(!loop->has_thread);
    INVARIANT(loop->timers.count == 0 && list_is_empty(&loop->processes));
    /* Without these no task runs any more. */
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    loop_signals_close(loop);
    /* Works that nobody waits for may still be with a worker: their memory is freed by `done`. */
    while (loop->work_count > 0) {
        uv_run(&loop->uv, UV_RUN_ONCE);
    }
    run_posts(loop);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    int result = UV_EBUSY;
    for (int i = 0; i < 16 && result == UV_EBUSY; i++) {
        uv_run(&loop->uv, UV_RUN_NOWAIT); /* closes; a signal on its way takes a round more */
        result = uv_loop_close(&loop->uv);
    }
    if (result < 0) {
        log_fatal("loop_free: a watch is left: %s", uv_strerror(result));
    }
    close(loop->wake_descriptor);
    if (current == loop) {
        current = NULL;
    }
    heap_done(&loop->timers);
    free(loop);
}

static void enter(struct loop *loop) {
    INVARIANT(!loop->has_thread);
    loop->thread = pthread_self();
    loop->has_thread = true;
    loop->now_is_stale = true;
    current = loop;
}

void loop_run(struct loop *loop) {
    enter(loop);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    atomic_store(&loop->is_stopping, false);
    loop->has_thread = false;
}

bool loop_turn(struct loop *loop) {
    enter(loop);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    loop->has_thread = false;
    loop->now_is_stale = true;
    return has_tasks(loop) || atomic_load(&loop->posts) != NULL || loop_timers_are_due(loop);
}

void loop_stop(struct loop *loop) {
    atomic_store(&loop->is_stopping, true);
    wake(loop);
}

unsigned loop_index(const struct loop *loop) {
    return loop->index;
}

struct loop *loop_current(void) {
    return current;
}

uint64_t loop_now_ns(const struct loop *loop) {
    if (loop->now_is_stale) {
        /* Read lazily, since many turns do not need it: the cache is no part of what const
         * promises, and a struct loop is never a const object. */
        struct loop *cache = (struct loop *)(uintptr_t)loop;
        cache->now_ns = clock_monotonic_ns();
        cache->now_is_stale = false;
    }
    return loop->now_ns;
}
