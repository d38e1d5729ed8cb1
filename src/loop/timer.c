/* The timers of a loop: a heap of them, the earliest first. */
#include "base/clock.h"
#include "loop/loop_internal.h"

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer)) {
    *timer = (struct loop_timer){.expired = expired};
}

static struct loop_timer *timer_of(const struct heap_node *node) {
    return CONTAINER_OF(node, struct loop_timer, node);
}

static bool is_before(const struct heap_node *a, const struct heap_node *b) {
    return timer_of(a)->deadline_ns < timer_of(b)->deadline_ns;
}

void loop_timers_init(struct loop *loop) {
    heap_init(&loop->timers, is_before);
}

/* Callers of loop_timer_start can't do anything about a lack of memory, and a timer that is lost
 * would be a run without its limits. Eight bytes a timer: the process would not live long anyway.
 */
static void make_room(struct loop *loop) {
    if (heap_reserve(&loop->timers, loop->timers.count + 1) != ERR_OK) {
        log_fatal("no memory for %zu timers", loop->timers.count + 1);
    }
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns) {
    loop_check_thread(loop);
    timer->deadline_ns = deadline_ns;
    if (loop_timer_is_started(timer)) {
        INVARIANT(timer->loop == loop);
        heap_update(&loop->timers, &timer->node);
        return;
    }
    make_room(loop);
    timer->loop = loop;
    heap_insert(&loop->timers, &timer->node);
}

void loop_timer_stop(struct loop_timer *timer) {
    if (!loop_timer_is_started(timer)) {
        return;
    }
    loop_check_thread(timer->loop);
    heap_remove(&timer->loop->timers, &timer->node);
}

bool loop_timers_are_due(struct loop *loop) {
    const struct heap_node *first = heap_first(&loop->timers);
    return first && timer_of(first)->deadline_ns <= loop_now_ns(loop);
}

void loop_timers_expire(struct loop *loop) {
    if (loop->timers.count == 0) {
        return;
    }
    uint64_t now_ns = loop_now_ns(loop);
    /* A timer that starts itself anew for a time that has passed must not hold the loop. */
    for (size_t limit = loop->timers.count; limit > 0 && loop->timers.count > 0; limit--) {
        struct loop_timer *timer = timer_of(heap_first(&loop->timers));
        if (timer->deadline_ns > now_ns) {
            return;
        }
        loop_timer_stop(timer);
        timer->expired(timer); /* may free it */
    }
}

static void on_uv_timer(uv_timer_t *timer) {
    (void)timer; /* has ended the waiting, which is all it is for */
}

bool loop_timers_arm(struct loop *loop) {
    if (loop->timers.count == 0) {
        uv_timer_stop(&loop->timer);
        return false;
    }
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t deadline_ns = timer_of(heap_first(&loop->timers))->deadline_ns;
    if (deadline_ns <= now_ns) {
        return true;
    }
    /* libuv counts from its cached time, but between here and its waiting that does not change, so
     * that this is how long it waits. Rounded up, or the last millisecond would be spent spinning;
     * a day at most, since libuv's timeout is an int. */
    uint64_t wait_ms = (deadline_ns - now_ns - 1) / NS_PER_MS + 1;
    uv_timer_start(&loop->timer, on_uv_timer, MIN(wait_ms, (uint64_t)24 * 3600 * 1000), 0);
    return false;
}
