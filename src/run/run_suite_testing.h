/* The set-up that suites of runs share: one fixture for all tests of the program, and runs of their
 * own for each test. */
#pragma once

#include "run/run_testing.h"

static struct fixture fixture;

static inline int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    fixture_done(&fixture);
    return 0;
}

static inline int begin(void **state) {
    (void)state;
    fixture.options = fixture_options;
    fixture.hooks = fixture_hooks;
    fixture_pending = 0;
    fixture_tree_error = fixture_commit_error = ERR_OK;
    fixture_make_runs(&fixture);
    return 0;
}

static inline int finish(void **state) {
    (void)state;
    fixture_free_runs(&fixture);
    return 0;
}

/* Other options than the usual ones. */
static inline void again_with(const struct runs_options *options) {
    fixture_free_runs(&fixture);
    fixture.options = *options;
    fixture_make_runs(&fixture);
}

static inline struct run *start(const char *text, struct run_request request) {
    char name[32];
    static unsigned count;
    snprintf(name, sizeof(name), "app%u", count++);
    struct app *app = fixture_app(&fixture, name, text, NULL);
    request.app = app;
    struct run *run = fixture_start(&fixture, &request);
    app_unref(app);
    return run;
}
