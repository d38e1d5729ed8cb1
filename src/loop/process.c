/* Child processes.
 *
 * libuv's own can't be given resource limits before they run, hence fork here. The server has many
 * threads, so the child may call async-signal-safe functions only until it is another program
 * (POSIX, fork), and everything that needs memory is made ready before. */
#include "base/clock.h"
#include "loop/loop_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_NOT_EXECUTED = 127 }; /* as shells have it */

struct loop_process {
    struct loop *loop;
    struct list link; /* loop->processes */
    pid_t pid;        /* not reaped before this object goes, so it is no other process's */
    int descriptor;   /* owned; readable when the process has ended (pidfd_open(2)) */
    struct loop_watch *watch;
    struct loop_timer wall_timer;
    bool timed_out;
    void (*exited)(void *argument, int exit_status, int signal, bool timed_out);
    void *argument;
};

/* A tighter limit of the server's own stays. */
static void set_limit(__rlimit_resource_t resource, uint64_t value) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0) {
        _exit(EXIT_NOT_EXECUTED);
    }
    limit.rlim_max = MIN(limit.rlim_max, (rlim_t)value);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(resource, &limit) < 0) {
        _exit(EXIT_NOT_EXECUTED); /* never without its limits */
    }
}

/* In the child, all signals blocked. `null_descriptor` is above 2. */
static _Noreturn void become(const struct loop_process_options *options, int null_descriptor,
                             pid_t parent) {
    /* Dies with the thread that started it; the thread may have gone before this call. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent) {
        _exit(EXIT_NOT_EXECUTED);
    }
    setsid(); /* the terminal's signals are for the server, which decides */

    struct sigaction default_action = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &default_action, NULL); /* KILL, STOP and libc's own refuse */
    }
    sigset_t none;
    sigemptyset(&none);

    if (options->memory_bytes) {
        set_limit(RLIMIT_AS, options->memory_bytes);
    }
    if (options->cpu_seconds) {
        set_limit(RLIMIT_CPU, options->cpu_seconds);
    }
    set_limit(RLIMIT_CORE, 0);

    if ((options->error_descriptor >= 0 && dup2(options->error_descriptor, 2) < 0) ||
        dup2(2, 1) < 0 || dup2(null_descriptor, 0) < 0 || fcntl(2, F_SETFD, 0) < 0 ||
        syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0) {
        _exit(EXIT_NOT_EXECUTED);
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(options->arguments[0], (char *const *)(uintptr_t)options->arguments);
    _exit(EXIT_NOT_EXECUTED);
}

static enum err start_child(const struct loop_process_options *options, pid_t *ret_pid) {
    int opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (opened < 0) {
        return err_from_errno(errno);
    }
    int null_descriptor = fcntl(opened, F_DUPFD_CLOEXEC, 3);
    enum err err = null_descriptor < 0 ? err_from_errno(errno) : ERR_OK;
    close(opened);
    if (err) {
        return err;
    }
    pid_t parent = getpid();
    /* A signal handler of the server must not run in the child: libuv's would write into a pipe
     * that both have. */
    sigset_t all, before;
    sigfillset(&all);
    INVARIANT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        become(options, null_descriptor, parent);
    }
    err = pid < 0 ? err_from_errno(errno) : ERR_OK;
    INVARIANT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    close(null_descriptor);
    if (!err) {
        *ret_pid = pid;
    }
    return err;
}

void loop_process_kill(struct loop_process *process) {
    loop_check_thread(process->loop);
    /* The group is what it has started itself; there is none yet if it has just begun. */
    kill(-process->pid, SIGKILL);
    kill(process->pid, SIGKILL);
}

static void on_wall_timer(struct loop_timer *timer) {
    struct loop_process *process = CONTAINER_OF(timer, struct loop_process, wall_timer);
    process->timed_out = true;
    loop_process_kill(process);
}

static void on_end(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    (void)events;
    struct loop_process *process = argument;
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG);
    } while (result < 0 && errno == EINTR);
    if (result == 0 && info.si_pid == 0) {
        return; /* not yet */
    }
    /* If somebody else has reaped it (SIGCHLD ignored), nobody knows how it ended. */
    bool is_known = result == 0;
    int exit_status = is_known && info.si_code == CLD_EXITED ? info.si_status : -1;
    int signal = is_known && info.si_code != CLD_EXITED ? info.si_status : 0;

    /* `exited` may start the next one, or stop the loop. */
    struct loop_process ended = *process;
    loop_timer_stop(&process->wall_timer);
    loop_watch_free(process->watch);
    close(process->descriptor);
    list_remove(&process->link);
    free(process);
    ended.exited(ended.argument, exit_status, signal, ended.timed_out);
}

enum err loop_process_start(struct loop *loop, const struct loop_process_options *options,
                            struct loop_process **ret_process) {
    loop_check_thread(loop);
    struct loop_process *process = calloc(1, sizeof *process);
    if (!process) {
        return ERR_NOMEM;
    }
    enum err err = start_child(options, &process->pid);
    if (err) {
        free(process);
        return err;
    }
    process->loop = loop;
    process->exited = options->exited;
    process->argument = options->argument;
    loop_timer_init(&process->wall_timer, on_wall_timer);
    process->descriptor = (int)syscall(SYS_pidfd_open, process->pid, 0u);
    err = process->descriptor < 0 ? err_from_errno(errno)
                                  : loop_watch_new(loop, process->descriptor, LOOP_READABLE, on_end,
                                                   process, &process->watch);
    if (err) {
        kill(process->pid, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        if (process->descriptor >= 0) {
            close(process->descriptor);
        }
        free(process);
        return err;
    }
    list_append(&loop->processes, &process->link);
    if (options->wall_ns) {
        uint64_t now_ns = clock_monotonic_ns();
        uint64_t deadline_ns;
        if (!__builtin_add_overflow(now_ns, options->wall_ns, &deadline_ns)) {
            loop_timer_start(loop, &process->wall_timer, deadline_ns);
        }
    }
    *ret_process = process;
    return ERR_OK;
}
