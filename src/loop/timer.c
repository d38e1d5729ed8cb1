/* The timers of a loop: a binary heap of pointers. Each timer knows its place in it. */
#include "base/clock.h"
#include "loop/loop_internal.h"

enum { HEAP_CAPACITY_MIN = 256 };

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer)) {
    *timer = (struct loop_timer){.expired = expired};
}

static void put(struct loop *loop, size_t position, struct loop_timer *timer) {
    loop->heap[position] = timer;
    timer->position = position;
}

/* Moves a timer that has a free place at `position` to where it belongs. */
static void settle(struct loop *loop, size_t position, struct loop_timer *timer) {
    while (position > 1 && timer->deadline_ns < loop->heap[position / 2]->deadline_ns) {
        put(loop, position, loop->heap[position / 2]);
        position /= 2;
    }
    for (;;) {
        size_t child = position * 2;
        if (child > loop->heap_count) {
            break;
        }
        if (child < loop->heap_count &&
            loop->heap[child + 1]->deadline_ns < loop->heap[child]->deadline_ns) {
            child++;
        }
        if (timer->deadline_ns <= loop->heap[child]->deadline_ns) {
            break;
        }
        put(loop, position, loop->heap[child]);
        position = child;
    }
    put(loop, position, timer);
}

/* Callers of loop_timer_start can't do anything about a lack of memory, and a timer that is lost
 * would be a run without its limits. Eight bytes a timer: the process would not live long anyway.
 */
static void make_room(struct loop *loop) {
    if (loop->heap_count + 1 < loop->heap_capacity) {
        return;
    }
    size_t capacity = MAX(loop->heap_capacity * 2, (size_t)HEAP_CAPACITY_MIN);
    struct loop_timer **heap = reallocarray(loop->heap, capacity, sizeof *heap);
    if (!heap) {
        log_fatal("no memory for %zu timers", capacity);
    }
    loop->heap = heap;
    loop->heap_capacity = capacity;
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns) {
    loop_check_thread(loop);
    timer->deadline_ns = deadline_ns;
    if (timer->position) {
        INVARIANT(timer->loop == loop);
        settle(loop, timer->position, timer);
        return;
    }
    make_room(loop);
    timer->loop = loop;
    loop->heap_count++;
    settle(loop, loop->heap_count, timer);
}

void loop_timer_stop(struct loop_timer *timer) {
    if (!timer->position) {
        return;
    }
    struct loop *loop = timer->loop;
    loop_check_thread(loop);
    size_t position = timer->position;
    struct loop_timer *last = loop->heap[loop->heap_count--];
    if (last != timer) {
        settle(loop, position, last);
    }
    timer->position = 0;
}

void loop_timers_expire(struct loop *loop) {
    if (loop->heap_count == 0) {
        return;
    }
    uint64_t now_ns = loop_now_ns(loop);
    /* A timer that starts itself anew for a time that has passed must not hold the loop. */
    for (size_t limit = loop->heap_count; limit > 0 && loop->heap_count > 0; limit--) {
        struct loop_timer *timer = loop->heap[1];
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
    if (loop->heap_count == 0) {
        uv_timer_stop(&loop->timer);
        return false;
    }
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t deadline_ns = loop->heap[1]->deadline_ns;
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
