#include "base/buf.h"
#include "base/fsio.h"
#include "loop/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

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

struct end {
    unsigned count;
    int exit_status, signal;
    bool timed_out;
};

static void on_exited(void *argument, int exit_status, int signal, bool timed_out) {
    struct end *end = argument;
    end->count++;
    end->exit_status = exit_status;
    end->signal = signal;
    end->timed_out = timed_out;
    loop_stop(loop);
}

static struct loop_process_options shell(const char *arguments[4], const char *script,
                                         struct end *end) {
    arguments[0] = "/bin/sh";
    arguments[1] = "-c";
    arguments[2] = script;
    arguments[3] = NULL;
    *end = (struct end){0};
    return (struct loop_process_options){
        .arguments = arguments, .error_descriptor = -1, .exited = on_exited, .argument = end};
}

/* Runs a script to its end; what it writes to standard error and output is `output`. */
static struct end run_script(const char *script, const struct loop_process_options *limits,
                             struct buf *output) {
    const char *arguments[4];
    struct end end;
    struct loop_process_options options = shell(arguments, script, &end);
    if (limits) {
        options.memory_bytes = limits->memory_bytes;
        options.cpu_seconds = limits->cpu_seconds;
        options.wall_ns = limits->wall_ns;
    }
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    options.error_descriptor = ends[1];
    struct loop_process *process;
    assert_int_equal(loop_process_start(loop, &options, &process), ERR_OK);
    close(ends[1]);
    loop_run(loop);
    assert_int_equal(end.count, 1);
    if (output) {
        assert_int_equal(fsio_read_descriptor(ends[0], 4096, output), ERR_OK);
    }
    close(ends[0]);
    return end;
}

static void test_exit_status(void **state) {
    (void)state;
    struct end end = run_script("exit 3", NULL, NULL);
    assert_int_equal(end.exit_status, 3);
    assert_int_equal(end.signal, 0);
    assert_false(end.timed_out);
    end = run_script("kill -TERM $$", NULL, NULL);
    assert_int_equal(end.exit_status, -1);
    assert_int_equal(end.signal, SIGTERM);
}

static void test_not_executed(void **state) {
    (void)state;
    const char *const arguments[] = {"/nowhere/none", NULL};
    struct end end = {0};
    struct loop_process_options options = {
        .arguments = arguments, .error_descriptor = -1, .exited = on_exited, .argument = &end};
    struct loop_process *process;
    assert_int_equal(loop_process_start(loop, &options, &process), ERR_OK);
    loop_run(loop);
    assert_int_equal(end.exit_status, 127);
}

static void test_standard_files(void **state) {
    (void)state;
    /* Ours has something to read; the child must not get it. */
    int ends[2];
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(saved >= 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], "line\n", 5), 5);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    cleanup_buf struct buf output = {0};
    struct end end =
        run_script("if read line; then exit 1; fi; echo out; echo err >&2", NULL, &output);
    assert_int_equal(dup2(saved, STDIN_FILENO), STDIN_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(end.exit_status, 0);
    assert_string_equal(buf_text(&output), "out\nerr\n");
}

static void test_nothing_else_is_inherited(void **state) {
    (void)state;
    assert_int_equal(dup2(STDERR_FILENO, 77), 77); /* without CLOEXEC */
    struct end end = run_script("test ! -e /proc/$$/fd/77", NULL, NULL);
    close(77);
    assert_int_equal(end.exit_status, 0);
}

static void test_signals_are_as_at_first(void **state) {
    (void)state;
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    signal(SIGPIPE, SIG_IGN);
    /* 32 and 33 are glibc's own: nobody can set them, and make starts its commands with both
     * ignored. */
    struct end end = run_script("while read name value; do case $name in"
                                " SigBlk:|SigIgn:) case $value in 0000000[01][08]0000000) ;;"
                                " *) exit 1;; esac;; esac; done < /proc/self/status",
                                NULL, NULL);
    signal(SIGPIPE, SIG_DFL);
    sigset_t after;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, &after), 0);
    assert_int_equal(end.exit_status, 0);
    assert_true(sigismember(&after, SIGUSR2)); /* and ours are what they were */
    assert_false(sigismember(&after, SIGTERM));
}

static void test_limits(void **state) {
    (void)state;
    cleanup_buf struct buf output = {0};
    struct loop_process_options limits = {.memory_bytes = 512 * MIB, .cpu_seconds = 1};
    struct end end = run_script("ulimit -v; ulimit -H -t; ulimit -c", &limits, &output);
    assert_int_equal(end.exit_status, 0);
    assert_string_equal(buf_text(&output), "524288\n1\n0\n");
    end = run_script("while :; do :; done", &limits, NULL);
    assert_int_equal(end.exit_status, -1);
    assert_true(end.signal == SIGXCPU || end.signal == SIGKILL);
    assert_false(end.timed_out);
}

static void test_wall_time(void **state) {
    (void)state;
    /* The reader's end comes when the shell's own child is gone as well. */
    cleanup_buf struct buf output = {0};
    struct loop_process_options limits = {.wall_ns = 20 * NS_PER_MS};
    struct end end = run_script("sleep 1000 & wait", &limits, &output);
    assert_true(end.timed_out);
    assert_int_equal(end.signal, SIGKILL);
}

static void test_kill(void **state) {
    (void)state;
    const char *arguments[4];
    struct end end;
    struct loop_process_options options = shell(arguments, "sleep 1000", &end);
    struct loop_process *process;
    assert_int_equal(loop_process_start(loop, &options, &process), ERR_OK);
    loop_process_kill(process);
    loop_process_kill(process);
    loop_run(loop);
    assert_int_equal(end.count, 1);
    assert_int_equal(end.signal, SIGKILL);
    assert_false(end.timed_out);
}

struct starter {
    const struct loop_process_options *options;
    int reader;
    char first;
};
static void *start_and_leave(void *argument) {
    struct starter *starter = argument;
    struct loop_process *process;
    if (loop_process_start(loop, starter->options, &process) ||
        read(starter->reader, &starter->first, 1) != 1) { /* it runs */
        starter->first = 0;
    }
    return NULL;
}
static void test_dies_with_its_thread(void **state) {
    (void)state;
    const char *arguments[4];
    struct end end;
    struct loop_process_options options = shell(arguments, "echo; exec sleep 1000", &end);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    options.error_descriptor = ends[1];
    struct starter starter = {.options = &options, .reader = ends[0]};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_and_leave, &starter), 0);
    pthread_join(thread, NULL);
    assert_int_equal(starter.first, '\n');
    loop_run(loop);
    assert_int_equal(end.signal, SIGKILL);
    close(ends[0]);
    close(ends[1]);
}

static void test_many_at_once(void **state) {
    (void)state;
    enum { COUNT = 8 };
    const char *arguments[4];
    struct end end;
    struct loop_process_options options = shell(arguments, "exit 5", &end);
    for (unsigned i = 0; i < COUNT; i++) {
        struct loop_process *process;
        assert_int_equal(loop_process_start(loop, &options, &process), ERR_OK);
    }
    while (end.count < COUNT) {
        loop_run(loop);
    }
    assert_int_equal(end.exit_status, 5);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_exit_status),
        TEST(test_not_executed),
        TEST(test_standard_files),
        TEST(test_nothing_else_is_inherited),
        TEST(test_signals_are_as_at_first),
        TEST(test_limits),
        TEST(test_wall_time),
        TEST(test_kill),
        TEST(test_dies_with_its_thread),
        TEST(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
