#include "base/clock.h"
#include "loop/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct loop *loop;

static int set_up(void **state) {
    (void)state;
    return loop_new(0, &loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    loop_free(loop);
    return 0;
}

enum { COUNT = 1000 };
struct tracked {
    struct loop_timer timer;
    bool should_expire;
    unsigned times;
};
static struct tracked timers[COUNT];
static uint64_t last_deadline_ns;
static unsigned expired_count;

static void on_tracked(struct loop_timer *timer) {
    struct tracked *tracked = CONTAINER_OF(timer, struct tracked, timer);
    assert_true(tracked->should_expire);
    assert_false(loop_timer_is_started(timer));
    assert_true(timer->deadline_ns >= last_deadline_ns);
    last_deadline_ns = timer->deadline_ns;
    tracked->times++;
    expired_count++;
}

/* A sequence that is the same in every run. */
static uint64_t pseudo_random(void) {
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void test_expire_in_order(void **state) {
    (void)state;
    last_deadline_ns = 0;
    expired_count = 0;
    for (size_t i = 0; i < COUNT; i++) {
        timers[i] = (struct tracked){.should_expire = true};
        loop_timer_init(&timers[i].timer, on_tracked);
        loop_timer_start(loop, &timers[i].timer, pseudo_random() % 5000);
    }
    for (size_t round = 0; round < 3 * COUNT; round++) {
        struct tracked *tracked = &timers[pseudo_random() % COUNT];
        if (pseudo_random() % 2) {
            tracked->should_expire = true; /* started, or moved */
            loop_timer_start(loop, &tracked->timer, pseudo_random() % 5000);
        } else {
            tracked->should_expire = false;
            loop_timer_stop(&tracked->timer);
        }
        assert_int_equal(loop_timer_is_started(&tracked->timer), tracked->should_expire);
    }
    unsigned expected = 0;
    for (size_t i = 0; i < COUNT; i++) {
        expected += timers[i].should_expire;
    }
    assert_false(loop_turn(loop));
    assert_int_equal(expired_count, expected);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(timers[i].times, timers[i].should_expire);
    }
}

static struct loop_timer early, late;
static unsigned early_count;

static void on_early(struct loop_timer *timer) {
    early_count++;
    loop_timer_start(loop, timer, 0); /* again, for a time that has passed */
    loop_timer_stop(&late);
}
static void on_late(struct loop_timer *timer) {
    (void)timer;
    fail();
}

static void test_neither_holds_the_loop_nor_expires_when_stopped(void **state) {
    (void)state;
    early_count = 0;
    loop_timer_init(&early, on_early);
    loop_timer_init(&late, on_late);
    loop_timer_start(loop, &early, 1);
    loop_timer_start(loop, &late, 2);
    assert_true(loop_turn(loop)); /* says that there is more to do */
    assert_in_range(early_count, 1, 2);
    assert_false(loop_timer_is_started(&late));
    unsigned before = early_count;
    assert_true(loop_turn(loop));
    assert_true(early_count > before);
    loop_timer_stop(&early);
    loop_timer_stop(&early);
    assert_false(loop_turn(loop));
}

static void on_future(struct loop_timer *timer) {
    assert_true(clock_monotonic_ns() >= timer->deadline_ns);
    assert_true(loop_now_ns(loop) >= timer->deadline_ns);
    if (++expired_count == 5) {
        loop_stop(loop);
    } else {
        loop_timer_start(loop, timer, loop_now_ns(loop) + expired_count * NS_PER_MS / 3);
    }
}

static void test_wakes_a_waiting_loop_never_early(void **state) {
    (void)state;
    expired_count = 0;
    struct loop_timer timer, far;
    loop_timer_init(&timer, on_future);
    loop_timer_init(&far, on_late);
    loop_timer_start(loop, &far, UINT64_MAX);
    loop_timer_start(loop, &timer, loop_now_ns(loop) + 2 * NS_PER_MS);
    loop_run(loop);
    assert_int_equal(expired_count, 5);
    loop_timer_stop(&far);
}

static void on_freeing(struct loop_timer *timer) {
    free(timer);
    expired_count++;
}

static void test_may_free_itself(void **state) {
    (void)state;
    expired_count = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct loop_timer *timer = malloc(sizeof *timer);
        assert_non_null(timer);
        loop_timer_init(timer, on_freeing);
        loop_timer_start(loop, timer, i);
    }
    loop_turn(loop);
    assert_int_equal(expired_count, 10);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_expire_in_order),
        TEST(test_neither_holds_the_loop_nor_expires_when_stopped),
        TEST(test_wakes_a_waiting_loop_never_early),
        TEST(test_may_free_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
