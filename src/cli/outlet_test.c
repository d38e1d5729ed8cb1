#include "cli/outlet.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard output is a pipe that nobody empties until the test does. */
struct scene {
    struct outlet outlet;
    int pipe[2];
    int saved;
};

static void set_up(struct scene *scene) {
    signal(SIGPIPE, SIG_IGN);
    outlet_init(&scene->outlet);
    assert_int_equal(pipe2(scene->pipe, O_CLOEXEC), 0);
    fflush(stdout);
    scene->saved = dup(STDOUT_FILENO);
    assert_true(scene->saved >= 0);
    assert_int_equal(dup2(scene->pipe[1], STDOUT_FILENO), STDOUT_FILENO);
    close(scene->pipe[1]);
}

static void tear_down(struct scene *scene) {
    assert_int_equal(dup2(scene->saved, STDOUT_FILENO), STDOUT_FILENO);
    close(scene->saved);
    outlet_done(&scene->outlet);
}

static void test_keeps_what_is_not_taken(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    static uint8_t piece[100000], read_back[100000];
    uint64_t given = 0, taken = 0;
    enum err err = ERR_OK;
    for (int i = 0; !err && i < 10; i++) {
        for (size_t j = 0; j < sizeof piece; j++) {
            piece[j] = (uint8_t)((given + j) % 251);
        }
        err = outlet_add(&scene.outlet, STDOUT_FILENO,
                         (struct str){(const char *)piece, sizeof piece});
        given += sizeof piece;
    }
    struct pollfd watched = {0};
    bool kept = outlet_poll(&scene.outlet, &watched);
    uint64_t bytes = scene.outlet.bytes;
    bool in_order = true;
    while (!err && taken < given) {
        ssize_t length = read(scene.pipe[0], read_back, sizeof read_back);
        for (ssize_t j = 0; j < length; j++) {
            in_order = in_order && read_back[j] == (taken + (uint64_t)j) % 251;
        }
        taken += length > 0 ? (uint64_t)length : 0;
        err = outlet_flush(&scene.outlet, false);
    }
    bool empty = !outlet_poll(&scene.outlet, &watched) && scene.outlet.bytes == 0;
    close(scene.pipe[0]);
    tear_down(&scene);
    assert_int_equal(err, ERR_OK);
    assert_true(kept);
    assert_int_equal(watched.fd, STDOUT_FILENO);
    assert_true(bytes > 0 && bytes < given);
    assert_true(in_order);
    assert_true(empty);
    assert_int_equal(taken, given);
}

static void test_nobody_reads(void **state) {
    (void)state;
    struct scene scene;
    set_up(&scene);
    close(scene.pipe[0]);
    enum err err = outlet_add(&scene.outlet, STDOUT_FILENO, STR("x"));
    tear_down(&scene);
    assert_int_equal(err, ERR_PIPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_what_is_not_taken),
        cmocka_unit_test(test_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
