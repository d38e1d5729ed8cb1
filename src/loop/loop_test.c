#include "loop/loop.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;

static int set_up(void **state) {
    (void)state;
    return loop_new(3, &loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    loop_free(loop);
    return loop_current() == NULL ? 0 : -1;
}

struct task {
    struct loop_task base;
    struct task *cancels;
    struct task *makes_ready;
    char letter;
};
static char order[32];

static void run_task(struct loop_task *base) {
    struct task *task = CONTAINER_OF(base, struct task, base);
    size_t length = strlen(order);
    assert_true(length < sizeof order - 1);
    order[length] = task->letter;
    order[length + 1] = 0;
    if (task->cancels) {
        loop_task_cancel(&task->cancels->base);
    }
    if (task->makes_ready) {
        loop_ready(loop, &task->makes_ready->base);
    }
}

static void init_task(struct task *task, char letter) {
    *task = (struct task){.letter = letter};
    loop_task_init(&task->base, run_task);
}

static void test_tasks_run_in_order_once(void **state) {
    (void)state;
    struct task a, b, c;
    order[0] = 0;
    init_task(&a, 'a');
    init_task(&b, 'b');
    init_task(&c, 'c');
    loop_ready(loop, &a.base);
    loop_ready(loop, &b.base);
    loop_ready(loop, &a.base); /* is queued */
    loop_ready(loop, &c.base);
    loop_task_cancel(&c.base);
    loop_task_cancel(&c.base);
    assert_false(loop_turn(loop));
    assert_string_equal(order, "ab");
    assert_false(loop_turn(loop));
    assert_string_equal(order, "ab");
    assert_int_equal(loop_index(loop), 3);
    assert_ptr_equal(loop_current(), loop);
}

static void test_what_tasks_make_ready_waits_for_the_next_turn(void **state) {
    (void)state;
    struct task a, b;
    order[0] = 0;
    init_task(&a, 'a');
    init_task(&b, 'b');
    a.makes_ready = &b;
    b.makes_ready = &a;
    loop_ready(loop, &a.base);
    assert_true(loop_turn(loop));
    assert_string_equal(order, "a");
    assert_true(loop_turn(loop));
    assert_string_equal(order, "ab");
    loop_task_cancel(&a.base);
    assert_false(loop_turn(loop));
}

static void test_a_task_may_cancel_another_of_its_turn(void **state) {
    (void)state;
    struct task a, b, c;
    order[0] = 0;
    init_task(&a, 'a');
    init_task(&b, 'b');
    init_task(&c, 'c');
    a.cancels = &b;
    loop_ready(loop, &a.base);
    loop_ready(loop, &b.base);
    loop_ready(loop, &c.base);
    loop_turn(loop);
    assert_string_equal(order, "ac");
    assert_false(b.base.queued);
}

/* Two tasks that make each other ready without end, and a post that must get through. */
static void stop_posted(struct loop_post *post) {
    (void)post;
    loop_stop(loop);
}
static void run_again(struct loop_task *task) {
    loop_ready(loop, task);
}
static void *post_stop(void *post) {
    loop_post(loop, post);
    return NULL;
}
static void test_tasks_do_not_starve_input(void **state) {
    (void)state;
    struct loop_task again;
    struct loop_post post = {.run = stop_posted};
    loop_task_init(&again, run_again);
    loop_ready(loop, &again);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, post_stop, &post), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    assert_true(again.queued);
    loop_task_cancel(&again);
}

static void test_stop_before_run(void **state) {
    (void)state;
    loop_stop(loop);
    loop_run(loop); /* returns */
    loop_stop(loop);
    loop_run(loop);
}

enum { POSTERS = 4, POSTS = 5000 };
struct numbered_post {
    struct loop_post base;
    unsigned poster, number;
};
static struct numbered_post posts[POSTERS][POSTS];
static unsigned posts_seen[POSTERS], posts_total;

static void run_numbered(struct loop_post *base) {
    struct numbered_post *post = CONTAINER_OF(base, struct numbered_post, base);
    assert_int_equal(post->number, posts_seen[post->poster]);
    posts_seen[post->poster]++;
    base->next = NULL; /* it is its owner's again */
    if (++posts_total == POSTERS * POSTS) {
        loop_stop(loop);
    }
}

static void *post_all(void *argument) {
    struct numbered_post *mine = argument;
    for (unsigned i = 0; i < POSTS; i++) {
        loop_post(loop, &mine[i].base);
    }
    return NULL;
}

static void test_posts_of_many_threads_arrive_in_order(void **state) {
    (void)state;
    pthread_t threads[POSTERS];
    posts_total = 0;
    memset(posts_seen, 0, sizeof posts_seen);
    for (unsigned i = 0; i < POSTERS; i++) {
        for (unsigned k = 0; k < POSTS; k++) {
            posts[i][k] =
                (struct numbered_post){.base.run = run_numbered, .poster = i, .number = k};
        }
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, posts[i]), 0);
    }
    loop_run(loop);
    for (unsigned i = 0; i < POSTERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(posts_seen[i], POSTS);
    }
}

static bool has_posted;
static void note_posted(struct loop_post *post) {
    (void)post;
    has_posted = true;
}
static void test_free_runs_posts(void **state) {
    (void)state;
    struct loop *other;
    struct loop_post post = {.run = note_posted};
    has_posted = false;
    assert_int_equal(loop_new(1, &other), ERR_OK);
    loop_post(other, &post);
    loop_free(other);
    assert_true(has_posted);
}

/* Watches. */
struct seen {
    unsigned count, events;
    bool frees;
};
static void on_watch(struct loop_watch *watch, unsigned events, void *argument) {
    struct seen *seen = argument;
    seen->count++;
    seen->events = events;
    if (seen->frees) {
        loop_watch_free(watch);
    }
}

static void test_watch_is_level_triggered(void **state) {
    (void)state;
    int ends[2];
    struct seen seen = {0};
    struct loop_watch *watch;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(loop_watch_new(loop, ends[0], LOOP_READABLE, on_watch, &seen, &watch), ERR_OK);
    loop_turn(loop);
    assert_int_equal(seen.count, 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop);
    loop_turn(loop);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.events, LOOP_READABLE);
    loop_watch_change(watch, 0);
    loop_turn(loop);
    assert_int_equal(seen.count, 2);
    loop_watch_change(watch, LOOP_READABLE);
    loop_turn(loop);
    assert_int_equal(seen.count, 3);
    struct loop_watch *second = NULL;
    assert_int_equal(loop_watch_new(loop, ends[0], LOOP_READABLE, on_watch, &seen, &second),
                     ERR_EXIST);
    assert_null(second);
    loop_watch_free(watch);
    loop_watch_free(NULL);
    close(ends[0]);
    close(ends[1]);
}

static void test_watch_freed_in_callback_and_number_used_again(void **state) {
    (void)state;
    int ends[2];
    struct seen seen = {.frees = true};
    struct loop_watch *watch;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(loop_watch_new(loop, ends[1], LOOP_WRITABLE, on_watch, &seen, &watch), ERR_OK);
    loop_turn(loop);
    loop_turn(loop);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.events, LOOP_WRITABLE);
    /* Freed and closed in the same turn as a watch for another file of the same number. */
    struct seen first = {0}, second = {0};
    assert_int_equal(loop_watch_new(loop, ends[1], LOOP_WRITABLE, on_watch, &first, &watch),
                     ERR_OK);
    loop_watch_free(watch);
    assert_int_equal(dup2(ends[0], ends[1]), ends[1]);
    assert_int_equal(loop_watch_new(loop, ends[1], LOOP_READABLE, on_watch, &second, &watch),
                     ERR_OK);
    loop_turn(loop);
    assert_int_equal(first.count, 0);
    assert_int_equal(second.count, 1); /* the end: the only writer has gone */
    loop_watch_free(watch);
    close(ends[0]);
    close(ends[1]);
}

static void test_watch_sees_the_peer_leave(void **state) {
    (void)state;
    int ends[2];
    struct seen seen = {0};
    struct loop_watch *watch;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(loop_watch_new(loop, ends[0], LOOP_DISCONNECTED, on_watch, &seen, &watch),
                     ERR_OK);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop);
    assert_int_equal(seen.count, 0); /* data was not asked for */
    close(ends[1]);
    loop_turn(loop);
    assert_int_equal(seen.count, 1);
    assert_true(seen.events & LOOP_DISCONNECTED);
    loop_watch_free(watch);
    close(ends[0]);
}

static void test_watch_tells_errors_once(void **state) {
    (void)state;
    int ends[2];
    struct seen seen = {0};
    struct loop_watch *watch;
    assert_int_equal(pipe(ends), 0);
    static char full[65536];
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
    assert_int_equal(loop_watch_new(loop, ends[1], LOOP_WRITABLE, on_watch, &seen, &watch), ERR_OK);
    assert_int_equal(write(ends[1], full, sizeof full), 4096);
    loop_turn(loop);
    assert_int_equal(seen.count, 0);
    close(ends[0]); /* what writing would say is EPIPE */
    loop_turn(loop);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.events, LOOP_WRITABLE | LOOP_FAILED);
    loop_turn(loop);
    assert_int_equal(seen.count, 1);
    loop_watch_change(watch, LOOP_WRITABLE); /* asked again, told again */
    loop_turn(loop);
    assert_int_equal(seen.count, 2);
    loop_watch_free(watch);
    close(ends[1]);
}

static void test_watch_refuses_files(void **state) {
    (void)state;
    struct seen seen = {0};
    struct loop_watch *watch = NULL;
    int descriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_int_equal(loop_watch_new(loop, descriptor, LOOP_READABLE, on_watch, &seen, &watch),
                     ERR_PERM);
    close(descriptor);
    assert_int_equal(loop_watch_new(loop, descriptor, LOOP_READABLE, on_watch, &seen, &watch),
                     ERR_BADF);
    assert_null(watch);
}

struct last {
    struct loop_task task;
    unsigned runs;
    struct loop_task *makes_ready;
};
static void on_last(struct loop_task *task) {
    struct last *last = CONTAINER_OF(task, struct last, task);
    last->runs++;
    loop_ready_last(loop, task); /* for the next turn */
    if (last->makes_ready) {
        loop_ready(loop, STEAL(last->makes_ready));
    }
}
static void stop_task(struct loop_task *task) {
    (void)task;
    loop_stop(loop);
}
static void test_ready_last(void **state) {
    (void)state;
    struct last last = {0};
    loop_task_init(&last.task, on_last);
    loop_ready_last(loop, &last.task);
    loop_ready_last(loop, &last.task);
    assert_int_equal(last.runs, 0);
    assert_true(loop_turn(loop));
    assert_int_equal(last.runs, 1); /* once a turn, though it is queued again */
    assert_true(loop_turn(loop));
    assert_int_equal(last.runs, 2);
    /* What it makes ready is not waited upon. */
    struct loop_task task;
    loop_task_init(&task, stop_task);
    last.makes_ready = &task;
    loop_run(loop);
    assert_int_equal(last.runs, 3);
    loop_task_cancel(&last.task);
    assert_false(loop_turn(loop));
    assert_int_equal(last.runs, 3);
}

struct numbered {
    struct loop_task task;
    unsigned number;
};
static unsigned numbers_run; /* so many, in the order of their numbers */
static void on_number(struct loop_task *task) {
    assert_int_equal(CONTAINER_OF(task, struct numbered, task)->number, numbers_run);
    numbers_run++;
}
static unsigned numbers_before_other;
static void on_other(struct loop_task *task) {
    (void)task;
    numbers_before_other = numbers_run;
}
static void test_ready_in_turn(void **state) {
    (void)state;
    static struct numbered crowd[40];
    numbers_run = 0;
    for (unsigned i = 0; i < ARRAY_LENGTH(crowd); i++) {
        loop_task_init(&crowd[i].task, on_number);
        crowd[i].number = i;
        loop_ready_in_turn(loop, &crowd[i].task);
        loop_ready_in_turn(loop, &crowd[i].task);
    }
    assert_true(loop_turn(loop));
    assert_int_equal(numbers_run, 4);
    struct loop_task other; /* comes later, and does not wait for them */
    loop_task_init(&other, on_other);
    loop_ready(loop, &other);
    loop_task_cancel(&crowd[39].task);
    assert_true(loop_turn(loop));
    assert_int_equal(numbers_before_other, 4);
    assert_int_equal(numbers_run, 8);
    while (loop_turn(loop)) {
    }
    assert_int_equal(numbers_run, 39);
    assert_false(crowd[39].task.queued);
}

static void test_now(void **state) {
    (void)state;
    uint64_t first_ns = loop_now_ns(loop);
    assert_true(first_ns <= clock_monotonic_ns());
    while (clock_monotonic_ns() == first_ns) {
    }
    assert_true(loop_now_ns(loop) == first_ns); /* cached */
    loop_turn(loop);
    assert_true(loop_now_ns(loop) > first_ns);
}

struct work {
    struct loop_work base;
    sem_t *gate; /* waited for on the worker; may be NULL */
    pthread_t thread;
    struct loop *loop_of_worker;
    bool is_done;
};
static void run_work(struct loop_work *base) {
    struct work *work = CONTAINER_OF(base, struct work, base);
    if (work->gate) {
        sem_wait(work->gate);
    }
    work->thread = pthread_self();
    work->loop_of_worker = loop_current();
}
static void stop_when_done(struct loop_work *base) {
    struct work *work = CONTAINER_OF(base, struct work, base);
    work->is_done = true;
    assert_ptr_equal(loop_current(), loop);
    loop_stop(loop);
}
static void free_when_done(struct loop_work *base) {
    free(CONTAINER_OF(base, struct work, base));
}

static void test_work(void **state) {
    (void)state;
    struct work work = {.base = {.run = run_work, .done = stop_when_done}, .loop_of_worker = loop};
    assert_false(loop_has_works(loop));
    assert_int_equal(loop_work_start(loop, &work.base), ERR_OK);
    assert_true(loop_has_works(loop));
    loop_run(loop);
    assert_false(loop_has_works(loop));
    assert_true(work.is_done);
    assert_false(pthread_equal(work.thread, pthread_self()));
    assert_null(work.loop_of_worker);
}

static void *open_gate(void *gate) {
    sem_post(gate);
    return NULL;
}
static void test_free_waits_for_work(void **state) {
    (void)state;
    struct loop *other;
    sem_t gate;
    pthread_t thread;
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    assert_int_equal(loop_new(1, &other), ERR_OK);
    struct work *work = calloc(1, sizeof *work);
    assert_non_null(work);
    work->gate = &gate;
    work->base.run = run_work;
    work->base.done = free_when_done;
    assert_int_equal(loop_work_start(other, &work->base), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, open_gate, &gate), 0);
    loop_free(other); /* the leak check tells if `done` is not called */
    pthread_join(thread, NULL);
    sem_destroy(&gate);
}

static unsigned signal_count;
static void on_signal(void *argument) {
    assert_ptr_equal(argument, &signal_count);
    signal_count++;
    loop_stop(loop);
}
static void test_signal(void **state) {
    (void)state;
    signal_count = 0;
    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, &signal_count), ERR_OK);
    assert_int_equal(loop_on_signal(loop, SIGKILL, on_signal, &signal_count), ERR_INVAL);
    raise(SIGUSR1);
    loop_run(loop);
    assert_int_equal(signal_count, 1);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_tasks_run_in_order_once),
        TEST(test_what_tasks_make_ready_waits_for_the_next_turn),
        TEST(test_a_task_may_cancel_another_of_its_turn),
        TEST(test_tasks_do_not_starve_input),
        TEST(test_stop_before_run),
        TEST(test_posts_of_many_threads_arrive_in_order),
        TEST(test_free_runs_posts),
        TEST(test_watch_is_level_triggered),
        TEST(test_watch_freed_in_callback_and_number_used_again),
        TEST(test_watch_sees_the_peer_leave),
        TEST(test_watch_tells_errors_once),
        TEST(test_watch_refuses_files),
        TEST(test_ready_last),
        TEST(test_ready_in_turn),
        TEST(test_now),
        TEST(test_work),
        TEST(test_free_waits_for_work),
        TEST(test_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
