#include "loop/op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

static struct loop *loop;
static const struct who who = {.owner_id = 1};

static int set_up(void **state) {
    (void)state;
    return loop_new(0, &loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    loop_free(loop);
    return 0;
}

/* An op that counts. */
struct counted {
    struct op op;
    unsigned wakes;
};
static void on_counted(struct op *op) {
    CONTAINER_OF(op, struct counted, op)->wakes++;
}
static void counted_init(struct counted *counted) {
    counted->wakes = 0;
    op_init(&counted->op, loop, &who, on_counted);
}
static void turns(void) {
    while (loop_turn(loop)) {
    }
}

static unsigned drops;
static void drop_state(struct op *op) {
    assert_ptr_equal(op->state, &drops);
    drops++;
}

static void test_wake_comes_from_the_ready_queue_once(void **state) {
    (void)state;
    struct counted counted;
    counted_init(&counted);
    op_wake(&counted.op);
    op_wake(&counted.op);
    assert_int_equal(counted.wakes, 0);
    turns();
    assert_int_equal(counted.wakes, 1);
    op_wake(&counted.op);
    op_done(&counted.op);
    turns();
    assert_int_equal(counted.wakes, 1);
}

static void test_state_is_dropped_once(void **state) {
    (void)state;
    struct counted counted;
    counted_init(&counted);
    drops = 0;
    op_set_state(&counted.op, &drops, drop_state);
    op_wake(&counted.op);
    assert_int_equal(op_finish(&counted.op, ERR_NOSPC), ERR_NOSPC);
    assert_int_equal(drops, 1);
    assert_null(counted.op.state);
    assert_int_equal(op_finish(&counted.op, ERR_OK), ERR_OK);
    assert_int_equal(drops, 1);
    turns();
    assert_int_equal(counted.wakes, 0); /* there is nothing to wake for */
    op_set_state(&counted.op, &drops, drop_state);
    op_abandon(&counted.op);
    op_abandon(&counted.op);
    assert_int_equal(drops, 2);
    op_set_state(&counted.op, &drops, drop_state); /* used anew */
    op_done(&counted.op);
    assert_int_equal(drops, 3);
}

static void test_children_wake_the_topmost(void **state) {
    (void)state;
    struct counted counted;
    struct op child, grandchild;
    counted_init(&counted);
    counted.op.nonblocking = true;
    op_init_child(&child, &counted.op);
    op_init_child(&grandchild, &child);
    assert_ptr_equal(grandchild.who, &who);
    assert_ptr_equal(grandchild.loop, loop);
    assert_true(grandchild.nonblocking);
    op_wake(&grandchild);
    op_wake(&child);
    turns();
    assert_int_equal(counted.wakes, 1);
    /* The wake of one child survives the end of another. */
    op_wake(&grandchild);
    op_done(&grandchild);
    op_done(&child);
    turns();
    assert_int_equal(counted.wakes, 2);
    op_done(&counted.op);
}

static void test_queue_wakes_who_waits(void **state) {
    (void)state;
    struct op_queue queue, other;
    struct counted a, b;
    counted_init(&a);
    counted_init(&b);
    assert_int_equal(op_queue_init(&queue), ERR_OK);
    assert_int_equal(op_queue_init(&other), ERR_OK);
    op_queue_wake_all(&queue);
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    assert_int_equal(op_queue_wait(&queue, &b.op), ERR_OK);
    turns();
    assert_int_equal(a.wakes, 0);
    op_queue_wake_all(&queue);
    op_queue_wake_all(&queue);
    turns();
    assert_int_equal(a.wakes, 1);
    assert_int_equal(b.wakes, 1);
    op_queue_wake_all(&queue); /* nobody waits any more */
    turns();
    assert_int_equal(a.wakes, 1);

    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    assert_int_equal(op_queue_wait(&queue, &b.op), ERR_OK);
    assert_int_equal(op_queue_wait(&other, &b.op), ERR_OK); /* leaves the first */
    op_abandon(&a.op);
    op_queue_wake_all(&queue);
    turns();
    assert_int_equal(a.wakes, 1);
    assert_int_equal(b.wakes, 1);
    op_queue_wake_all(&other);
    turns();
    assert_int_equal(b.wakes, 2);

    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    assert_int_equal(op_finish(&a.op, ERR_OK), ERR_OK);
    op_queue_wake_all(&queue);
    turns();
    assert_int_equal(a.wakes, 1);
    op_done(&a.op);
    op_done(&b.op);
    op_queue_done(&queue);
    op_queue_done(&queue);
    op_queue_done(&other);
}

/* What it was to be woken for, on the loop that it leaves, is none of its business any more. */
static void test_moves_to_another_loop(void **state) {
    (void)state;
    struct counted counted;
    counted_init(&counted);
    struct op_queue queue;
    struct loop *other;
    assert_int_equal(op_queue_init(&queue), ERR_OK);
    assert_int_equal(loop_new(1, &other), ERR_OK);
    assert_int_equal(op_queue_wait(&queue, &counted.op), ERR_OK);
    op_wake(&counted.op);
    op_move(&counted.op, other);
    op_queue_wake_all(&queue);
    turns();
    assert_int_equal(counted.wakes, 0);
    assert_int_equal(op_queue_wait(&queue, &counted.op), ERR_OK);
    op_queue_wake_all(&queue);
    turns();
    assert_int_equal(counted.wakes, 0);
    while (loop_turn(other)) {
    }
    assert_int_equal(counted.wakes, 1);
    op_done(&counted.op);
    op_queue_done(&queue);
    loop_free(other);
    turns(); /* this thread has the first loop again */
}

static void test_an_op_outlives_its_queue(void **state) {
    (void)state;
    struct op_queue *queue = malloc(sizeof *queue);
    assert_non_null(queue);
    struct counted a;
    struct op child;
    counted_init(&a);
    op_init_child(&child, &a.op);
    assert_int_equal(op_queue_init(queue), ERR_OK);
    assert_int_equal(op_queue_wait(queue, &child), ERR_OK);
    op_queue_done(queue);
    free(queue);
    turns();
    assert_int_equal(a.wakes, 1);
    op_done(&child);
    op_done(&a.op);
}

/* Posted by another thread, then given up before the post arrives. */
static void *wake_all(void *queue) {
    op_queue_wake_all(queue);
    return NULL;
}
static void wake_from_elsewhere(struct op_queue *queue) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_all, queue), 0);
    pthread_join(thread, NULL);
}
static void test_given_up_while_a_wake_is_on_its_way(void **state) {
    (void)state;
    struct op_queue queue;
    struct counted a;
    assert_int_equal(op_queue_init(&queue), ERR_OK);
    counted_init(&a);
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    wake_from_elsewhere(&queue);
    op_done(&a.op);
    memset(&a, 0xff, sizeof a.op);
    turns();

    counted_init(&a);
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    wake_from_elsewhere(&queue);
    assert_int_equal(op_finish(&a.op, ERR_OK), ERR_OK);
    turns();
    assert_int_equal(a.wakes, 0);
    /* and the next wait is woken as ever */
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK);
    wake_from_elsewhere(&queue);
    assert_int_equal(op_queue_wait(&queue, &a.op), ERR_OK); /* again, before it has arrived */
    wake_from_elsewhere(&queue);
    turns();
    assert_int_equal(a.wakes, 1);
    op_done(&a.op);
    op_queue_done(&queue);
}

/* A counter that other threads raise: no wake may be lost, or this does not end. */
enum { RAISERS = 2, RAISES = 3000 };
static struct op_queue raised_queue;
static atomic_uint raised;

static void *raise_counter(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < RAISES; i++) {
        atomic_fetch_add(&raised, 1);
        op_queue_wake_all(&raised_queue);
    }
    return NULL;
}

struct reader {
    struct op op;
    unsigned seen;
};
static unsigned readers_left;

/* The device: ends when the counter is not what the reader has seen. */
static enum err read_counter(struct op *op, unsigned seen, unsigned *ret_value) {
    enum err err = op_queue_wait(&raised_queue, op);
    if (err) {
        return op_finish(op, err);
    }
    unsigned value = atomic_load(&raised);
    if (value == seen) {
        return ERR_PENDING;
    }
    *ret_value = value;
    return op_finish(op, ERR_OK);
}
static void read_on(struct op *op) {
    struct reader *reader = CONTAINER_OF(op, struct reader, op);
    enum err err;
    do {
        err = read_counter(op, reader->seen, &reader->seen);
        assert_true(err == ERR_OK || err == ERR_PENDING);
        if (reader->seen == RAISERS * RAISES) {
            op_done(op);
            if (--readers_left == 0) {
                loop_stop(loop);
            }
            return;
        }
    } while (err == ERR_OK);
}

static void test_no_wake_is_lost(void **state) {
    (void)state;
    struct reader readers[3];
    pthread_t threads[RAISERS];
    atomic_store(&raised, 0);
    assert_int_equal(op_queue_init(&raised_queue), ERR_OK);
    readers_left = ARRAY_LENGTH(readers);
    for (size_t i = 0; i < ARRAY_LENGTH(readers); i++) {
        readers[i].seen = 0;
        op_init(&readers[i].op, loop, &who, read_on);
        op_wake(&readers[i].op);
    }
    for (size_t i = 0; i < RAISERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, raise_counter, NULL), 0);
    }
    loop_run(loop);
    for (size_t i = 0; i < RAISERS; i++) {
        pthread_join(threads[i], NULL);
    }
    op_queue_done(&raised_queue);
}

/* Ops that come and go in every way while other threads wake them. */
static atomic_bool is_over;
static void *wake_until_over(void *queue) {
    while (!atomic_load(&is_over)) {
        op_queue_wake_all(queue);
    }
    return NULL;
}

static void test_wakes_race_with_the_end_of_ops(void **state) {
    (void)state;
    struct op_queue queue;
    pthread_t threads[2];
    assert_int_equal(op_queue_init(&queue), ERR_OK);
    atomic_store(&is_over, false);
    for (size_t i = 0; i < ARRAY_LENGTH(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wake_until_over, &queue), 0);
    }
    for (unsigned i = 0; i < 5000; i++) {
        struct counted *counted = malloc(sizeof *counted);
        assert_non_null(counted);
        counted_init(counted);
        for (unsigned k = 0; k < i % 4; k++) {
            assert_int_equal(op_queue_wait(&queue, &counted->op), ERR_OK);
            if (i & 8) {
                loop_turn(loop);
            }
            if (i & 16) {
                op_abandon(&counted->op);
            }
        }
        op_done(&counted->op);
        free(counted);
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i < ARRAY_LENGTH(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    op_queue_done(&queue);
    turns();
}

/* A queue that another thread ends while its op is given up. */
static void *end_queue(void *queue) {
    op_queue_done(queue);
    free(queue);
    return NULL;
}

static void test_the_end_of_a_queue_races_with_the_end_of_an_op(void **state) {
    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        struct op_queue *queue = malloc(sizeof *queue);
        assert_non_null(queue);
        assert_int_equal(op_queue_init(queue), ERR_OK);
        struct counted a, b;
        counted_init(&a);
        counted_init(&b);
        assert_int_equal(op_queue_wait(queue, &a.op), ERR_OK);
        assert_int_equal(op_queue_wait(queue, &b.op), ERR_OK);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, end_queue, queue), 0);
        op_done(&a.op);
        op_abandon(&b.op);
        pthread_join(thread, NULL);
        loop_turn(loop);
        assert_int_equal(b.wakes, 0);
        op_done(&b.op);
    }
    turns();
}

/* Work: adds one to a number, when it may. */
struct add_work {
    struct op_work base;
    sem_t *started, *gate; /* may be NULL */
    unsigned number;
};
static unsigned releases;

static void run_add(struct op_work *base) {
    struct add_work *work = CONTAINER_OF(base, struct add_work, base);
    if (work->started) {
        sem_post(work->started);
        sem_wait(work->gate);
    }
    work->number++;
}
static void release_add(struct op_work *base) {
    releases++;
    free(CONTAINER_OF(base, struct add_work, base));
}

/* The device's function, in `steps` works. */
static enum err add(struct op *op, unsigned number, unsigned steps, sem_t *started, sem_t *gate,
                    unsigned *ret_number) {
    struct add_work *work = op->state;
    if (!work) {
        work = calloc(1, sizeof *work);
        if (!work) {
            return ERR_NOMEM;
        }
        work->base.run = run_add;
        work->base.release = release_add;
        work->number = number;
        work->started = started;
        work->gate = gate;
        return op_work_start(op, &work->base);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    if (work->number < number + steps) {
        return op_work_start(op, &work->base);
    }
    *ret_number = work->number;
    return op_finish(op, ERR_OK);
}

static unsigned added;
static void on_add(struct op *op) {
    enum err err = add(op, 5, 3, NULL, NULL, &added);
    if (err != ERR_PENDING) {
        assert_int_equal(err, ERR_OK);
        loop_stop(loop);
    }
}

static void test_work_in_steps(void **state) {
    (void)state;
    struct op op;
    op_init(&op, loop, &who, on_add);
    releases = added = 0;
    assert_int_equal(add(&op, 5, 3, NULL, NULL, &added), ERR_PENDING);
    assert_int_equal(add(&op, 5, 3, NULL, NULL, &added), ERR_PENDING); /* harmless */
    loop_run(loop);
    assert_int_equal(added, 8);
    assert_int_equal(releases, 1);
    op_done(&op);
    assert_int_equal(releases, 1);
}

static void fail_when_woken(struct op *op) {
    (void)op;
    fail();
}

static void test_work_given_up_while_the_worker_runs(void **state) {
    (void)state;
    sem_t started, gate;
    assert_int_equal(sem_init(&started, 0, 0), 0);
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    releases = added = 0;
    struct op op;
    op_init(&op, loop, &who, fail_when_woken);
    assert_int_equal(add(&op, 5, 1, &started, &gate, &added), ERR_PENDING);
    sem_wait(&started);
    op_done(&op);
    memset(&op, 0xff, sizeof op);
    assert_int_equal(releases, 0); /* the worker has it */
    sem_post(&gate);
    while (releases == 0) {
        loop_turn(loop);
    }
    assert_int_equal(releases, 1);
    sem_destroy(&started);
    sem_destroy(&gate);
}

static void test_work_given_up_when_it_has_finished(void **state) {
    (void)state;
    releases = added = 0;
    struct counted counted;
    counted_init(&counted);
    assert_int_equal(add(&counted.op, 5, 1, NULL, NULL, &added), ERR_PENDING);
    struct add_work *work = counted.op.state;
    while (!work->base.finished) {
        loop_turn(loop);
    }
    op_abandon(&counted.op);
    assert_int_equal(releases, 1);
    op_done(&counted.op);
    turns();
    assert_int_equal(releases, 1);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_wake_comes_from_the_ready_queue_once),
        TEST(test_state_is_dropped_once),
        TEST(test_children_wake_the_topmost),
        TEST(test_queue_wakes_who_waits),
        TEST(test_moves_to_another_loop),
        TEST(test_an_op_outlives_its_queue),
        TEST(test_given_up_while_a_wake_is_on_its_way),
        TEST(test_no_wake_is_lost),
        TEST(test_wakes_race_with_the_end_of_ops),
        TEST(test_the_end_of_a_queue_races_with_the_end_of_an_op),
        TEST(test_work_in_steps),
        TEST(test_work_given_up_while_the_worker_runs),
        TEST(test_work_given_up_when_it_has_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
