/* A process that changes a volume is killed at any moment, again and again: afterwards the volume
 * is as it was after one of the operations, none of them by half, and not before the last one that
 * was acknowledged as being on disk. */
#include "store/volume_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#define ROUNDS 10 /* for one volume */
#define STEPS_MAX 2000

/* What the child tells through the pipe. */
struct report {
    uint32_t steps;
    uint32_t is_synced; /* so many steps are on disk; else: are about to be done */
};

/* What happened to the volume in earlier rounds: the seeds of the steps and how many counted. */
struct history {
    struct {
        uint64_t seed, steps;
    } rounds[ROUNDS];
    size_t count;
};

static void replay(struct model *model, const struct history *history) {
    model_init(model, 0);
    for (size_t i = 0; i < history->count; i++) {
        model->seed = history->rounds[i].seed;
        for (uint64_t step = 0; step < history->rounds[i].steps; step++) {
            model_step(model, NULL);
        }
        model_let_go(model, NULL, true);
    }
}

/* Tells the model the inodes of an existing volume. */
static void bind_model(struct model *model, int at, struct volume *volume, uint64_t inode) {
    model->nodes[at].inode = inode;
    if (model->nodes[at].type != FILE_DIRECTORY) {
        return;
    }
    struct dir_list list = {0};
    assert_ok(volume_readdir(&op, volume, inode, &list));
    for (size_t i = 0; i < list.count; i++) {
        for (int name = 0; name < MODEL_NAMES; name++) {
            if (str_equal(dir_list_name(&list, i), model_name(name))) {
                bind_model(model, model->nodes[at].entries[name], volume, list.entries[i].inode);
            }
        }
    }
    dir_list_done(&list);
}

static void report(int pipe, uint64_t steps, bool is_synced) {
    struct report message = {(uint32_t)steps, is_synced};
    assert_int_equal(write(pipe, &message, sizeof(message)), sizeof(message));
}

/* The process that is killed: changes the volume and says what it does. */
static int child(const char *path, int pipe, const struct history *history, uint64_t seed) {
    assert_int_equal(loop_new(0, &loop), ERR_OK);
    op_init(&op, loop, &who, on_wake);
    (void)snprintf(volume_path, sizeof(volume_path), "%s", path);
    struct model model;
    replay(&model, history);
    struct volume *volume = open_volume();
    bind_model(&model, 0, volume, VOLUME_ROOT_INODE);
    model.seed = seed;
    for (uint64_t step = 0; step < STEPS_MAX; step++) {
        report(pipe, step + 1, false);
        model_step(&model, volume);
        if (next_random(&seed) % 16 == 0) {
            assert_ok(volume_sync(&op, volume));
            report(pipe, step + 1, true);
        }
    }
    pause(); /* until it is killed */
    return 0;
}

static pid_t start_child(int *ret_pipe, const struct history *history, uint64_t seed) {
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    char texts[3 + 2 * ROUNDS][24];
    char *arguments[6 + 2 * ROUNDS] = {"volume_crash_test", volume_path};
    size_t count = 0;
    (void)snprintf(texts[count++], sizeof(texts[0]), "%d", pipes[1]);
    (void)snprintf(texts[count++], sizeof(texts[0]), "%llu", (unsigned long long)seed);
    for (size_t i = 0; i < history->count; i++) {
        (void)snprintf(texts[count++], sizeof(texts[0]), "%llu",
                       (unsigned long long)history->rounds[i].seed);
        (void)snprintf(texts[count++], sizeof(texts[0]), "%llu",
                       (unsigned long long)history->rounds[i].steps);
    }
    for (size_t i = 0; i < count; i++) {
        arguments[2 + i] = texts[i];
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(pipes[0]);
        (void)execv("/proc/self/exe", arguments);
        _exit(127);
    }
    (void)close(pipes[1]);
    *ret_pipe = pipes[0];
    return pid;
}

/* Runs the child until it has said so many things and kills it. What it did in between is found by
 * comparing: appended to the history. */
static void round_of_killing(struct history *history, uint64_t seed, uint64_t reports) {
    int pipe;
    pid_t pid = start_child(&pipe, history, seed);
    uint64_t begun = 0, synced = 0, seen = 0;
    struct report message;
    while (read(pipe, &message, sizeof(message)) == sizeof(message)) {
        if (message.is_synced) {
            synced = message.steps;
        } else {
            begun = message.steps;
        }
        if (++seen == reports) {
            assert_int_equal(kill(pid, SIGKILL), 0);
        }
    }
    (void)close(pipe);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);

    struct model model;
    replay(&model, history);
    model.seed = seed;
    struct volume *volume = open_volume();
    uint64_t steps = 0;
    for (; steps < synced; steps++) {
        model_step(&model, NULL);
    }
    while (!model_matches(&model, 0, volume, VOLUME_ROOT_INODE)) {
        assert_true(steps < begun);
        model_step(&model, NULL);
        steps++;
    }
    struct volume_usage usage = volume_usage(volume);
    volume_unref(volume);
    check_accounts(&usage);
    model_done(&model);
    history->rounds[history->count].seed = seed;
    history->rounds[history->count].steps = steps;
    history->count++;
}

static void test_a_kill_loses_nothing_that_was_acknowledged(void **state) {
    (void)state;
    const char *volumes = getenv("VOLUME_CRASH_VOLUMES"); /* for a longer search */
    uint64_t count = volumes ? strtoull(volumes, NULL, 10) : 4, seed = 1;
    for (uint64_t i = 0; i < count; i++) {
        struct history history = {0};
        while (history.count < ROUNDS) {
            uint64_t round_seed = next_random(&seed);
            round_of_killing(&history, round_seed, 1 + next_random(&seed) % 300);
        }
        (void)unlink(volume_path);
    }
}

int main(int argument_count, char **arguments) {
    if (argument_count >= 4) {
        struct history history = {0};
        for (int i = 4; i + 1 < argument_count; i += 2) {
            history.rounds[history.count].seed = strtoull(arguments[i], NULL, 10);
            history.rounds[history.count].steps = strtoull(arguments[i + 1], NULL, 10);
            history.count++;
        }
        return child(arguments[1], (int)strtol(arguments[2], NULL, 10), &history,
                     strtoull(arguments[3], NULL, 10));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_kill_loses_nothing_that_was_acknowledged, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
