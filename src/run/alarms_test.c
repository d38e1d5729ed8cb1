/* Alarms with a clock that the test drives: what is started when, and what is kept of it. */
#include "run/alarms.h"

#include "run/run_testing.h"
#include "store/volume_alarm.h"

#define START_NS (UINT64_C(1767225600) * NS_PER_S) /* 2026-01-01T00:00:00Z */
#define MINUTE_NS (60 * NS_PER_S)

static struct fixture fixture;
static struct alarms *alarms;
static struct op op;
static struct app *app;

static uint64_t fake_now_ns;
static uint64_t fake_wake_ns; /* what the scheduler wants to be woken at */
static unsigned fake_wakes;

static uint64_t fake_now(void *context) {
    (void)context;
    return fake_now_ns;
}
static void fake_wake_at(void *context, uint64_t realtime_ns) {
    (void)context;
    fake_wake_ns = realtime_ns;
    fake_wakes++;
}
static const struct alarms_clock fake_clock = {.now_ns = fake_now, .wake_at = fake_wake_at};

static void begin(void) {
    const struct alarms_options options = {.runs = fixture.runs,
                                           .catalog = fixture.catalog,
                                           .logs = fixture.logs,
                                           .loop = fixture.loops[0],
                                           .clock = &fake_clock};
    fake_wake_ns = 0;
    assert_int_equal(alarms_new(&options, &alarms, NULL), ERR_OK);
}

static void end(void) {
    alarms_quiesce(alarms);
    alarms_stop(alarms);
    loop_turn(fixture.loops[0]); /* a post that is on its way */
    loop_turn(fixture.loops[0]);
    alarms_free(alarms);
    alarms = NULL;
}

static int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    fixture_make_runs(&fixture);
    fixture_restore_handlers(&fixture);
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    fake_now_ns = START_NS;
    app = NULL;
    begin();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    app_unref(app);
    if (alarms) {
        end();
    }
    op_done(&op);
    fixture_free_runs(&fixture);
    fixture_done(&fixture);
    return 0;
}

static void make_app(const char *name, const char *module) {
    app_unref(app);
    app = fixture_app(&fixture, name, module, NULL);
}

static void set(const char *name, const char *text) {
    cleanup_buf struct buf message = {0};
    op.message = &message;
    enum err err = FIXTURE_WAIT(&fixture, alarms_set(&op, alarms, app, str_of(name), str_of(text)));
    op.message = NULL;
    if (err) {
        fail_msg("%s: %s", text, buf_text(&message));
    }
}

static enum alarm_visit show_one(void *argument, struct alarm *alarm) {
    assert_int_equal(alarm_show(alarm, alarms_run_id(alarms, alarm->serial), argument), ERR_OK);
    return ALARM_SEEN;
}

/* What all alarms of the app show. */
static const char *shown(void) {
    static struct buf text;
    buf_done(&text);
    if (!app) {
        return NULL;
    }
    struct volume *volume = NULL;
    assert_int_equal(
        FIXTURE_WAIT(&fixture, catalog_app_volume(&op, fixture.catalog, app, &volume, NULL)),
        ERR_OK);
    assert_int_equal(FIXTURE_WAIT(&fixture, volume_alarms_visit(&op, volume, show_one, &text)),
                     ERR_OK);
    volume_unref(volume);
    return buf_text(&text);
}

static size_t count(const char *what) {
    size_t found = 0;
    for (const char *at = shown(); (at = strstr(at, what)); at++) {
        found++;
    }
    return found;
}

/* Turns until so many of `what` are shown. */
static void wait_for(const char *what, size_t number) {
    FIXTURE_TURN_UNTIL(&fixture, count(what) == number);
}

/* The clock goes on to this time, as the timer would have it. */
static void go_to(uint64_t time_ns) {
    fake_now_ns = time_ns;
    fixture_restore_handlers(&fixture);
    alarms_tick(alarms);
}

/* Whether or not their guests have begun. */
static uint64_t started(void) {
    struct runs_counters counters = runs_counters(fixture.runs);
    uint64_t count = counters.running + counters.queued;
    for (size_t i = 0; i < ARRAY_LENGTH(counters.ended_by_reason); i++) {
        count += counters.ended_by_reason[i];
    }
    return count;
}

static void test_every(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    set("tick", "every 5m\nsome input");
    FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns);
    assert_int_equal(fake_wake_ns, START_NS + 5 * MINUTE_NS);
    unsigned wakes = fake_wakes;
    for (int i = 0; i < 100; i++) {
        loop_turn(fixture.loops[0]);
    }
    assert_int_equal(fake_wakes, wakes); /* it sleeps */
    go_to(START_NS + 5 * MINUTE_NS - 1);
    go_to(START_NS + 5 * MINUTE_NS);
    wait_for("exit 0 reason exit", 1);
    FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns == START_NS + 10 * MINUTE_NS);
    go_to(START_NS + 10 * MINUTE_NS + 1);
    wait_for("exit 0 reason exit", 2);
    assert_int_equal(started(), 2);
    assert_int_equal(count("last: 2026-01-01T00:05:00.000Z run "), 1);
}

/* What the run is given. */
static void test_the_run(void **state) {
    (void)state;
    make_app("hello", guest_loop);
    set("night-ly", "every 5m\nsome input");
    go_to(START_NS + 5 * MINUTE_NS);
    wait_for("state: run ", 1);
    struct run **list;
    size_t found;
    assert_int_equal(runs_list(fixture.runs, &list, &found), ERR_OK);
    assert_int_equal(found, 1);
    const struct wasi_strings *environment = run_environment(list[0]);
    assert_int_equal(environment->count, 1);
    assert_string_equal((const char *)environment->bytes.data, "ALARM=night-ly");
    const char *const *tags;
    assert_int_equal(run_tags(list[0], &tags), 1);
    assert_string_equal(tags[0], "alarm:night-ly");
    assert_true(run_status(list[0]).detached);
    run_kill(list[0], RUN_REASON_KILLED);
    run_unref(list[0]);
    free(list);
    wait_for("exit 137 reason killed", 1);
    wait_for("state: waiting", 1);
}

static void test_overlap_is_skipped(void **state) {
    (void)state;
    make_app("spin", guest_loop);
    set("slow", "every 1m");
    go_to(START_NS + MINUTE_NS);
    wait_for("state: run ", 1);
    go_to(START_NS + 2 * MINUTE_NS);
    wait_for("skipped: the last run goes on", 1);
    go_to(START_NS + 3 * MINUTE_NS);
    wait_for("skipped: the last run goes on", 2);
    assert_int_equal(started(), 1);
    /* One that was set anew is another one. */
    set("slow", "every 1m");
    go_to(START_NS + 4 * MINUTE_NS);
    wait_for("state: run ", 1);
    assert_int_equal(count("skipped"), 0);
    assert_int_equal(started(), 2);
}

static void test_missed_while_there_was_no_server(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    set("tick", "every 5m");
    set("day", "0 12 * * *");
    set("far", "once 2030-01-01T00:00:00Z");
    end();
    fake_now_ns = START_NS + 1000 * MINUTE_NS + 1;
    begin();
    wait_for("exit 0 reason exit", 2);
    assert_int_equal(started(), 2);
    FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns);
    assert_int_equal(fake_wake_ns, START_NS + 1005 * MINUTE_NS);
}

static void test_once_is_retried_and_then_over(void **state) {
    (void)state;
    make_app("both", guest_both); /* exits with 3 */
    set("once", "once 2026-01-01T00:01:00Z");
    uint64_t now_ns = START_NS + MINUTE_NS;
    static const uint64_t delays[] = {MINUTE_NS, 10 * MINUTE_NS, 60 * MINUTE_NS};
    for (size_t i = 0; i < ARRAY_LENGTH(delays); i++) {
        go_to(now_ns);
        wait_for("exit 3 reason exit", i + 1);
        wait_for("state: failed, tried again", 1);
        now_ns += delays[i];
        FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns == now_ns);
    }
    go_to(now_ns);
    wait_for("exit 3 reason exit", 4);
    wait_for("state: over", 1);
    go_to(now_ns + 100000 * MINUTE_NS);
    for (int i = 0; i < 100; i++) {
        loop_turn(fixture.loops[0]);
    }
    assert_int_equal(started(), 4);
}

static void test_what_can_not_be_started(void **state) {
    (void)state;
    make_app("library", "(module (func (export \"add\")))");
    set("tick", "every 1m");
    go_to(START_NS + MINUTE_NS);
    wait_for("not started: ", 1);
    wait_for("state: waiting", 1);
    go_to(START_NS + 2 * MINUTE_NS);
    wait_for("not started: ", 2);
}

static void test_removed(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    set("a", "every 1m");
    set("b", "every 1m");
    struct volume *volume = NULL;
    assert_int_equal(
        FIXTURE_WAIT(&fixture, catalog_app_volume(&op, fixture.catalog, app, &volume, NULL)),
        ERR_OK);
    assert_int_equal(FIXTURE_WAIT(&fixture, volume_alarm_remove(&op, volume, STR("a"))), ERR_OK);
    volume_unref(volume);
    go_to(START_NS + MINUTE_NS);
    wait_for("exit 0 reason exit", 1);
    /* Without its app nothing comes. */
    app_unref(STEAL(app));
    assert_int_equal(FIXTURE_WAIT(&fixture, catalog_remove(&op, fixture.catalog, STR("hello"))),
                     ERR_OK);
    go_to(START_NS + 2 * MINUTE_NS);
    for (int i = 0; i < 100; i++) {
        loop_turn(fixture.loops[0]);
    }
    assert_int_equal(started(), 1);
}

static void test_clock_set_back(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    set("tick", "every 5m");
    set("hour", "0 * * * *");
    go_to(START_NS + 60 * MINUTE_NS);
    wait_for("exit 0 reason exit", 2);
    FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns == START_NS + 65 * MINUTE_NS);
    /* Half an hour: every five minutes goes on, the full hour does not come twice. */
    go_to(START_NS + 30 * MINUTE_NS);
    FIXTURE_TURN_UNTIL(&fixture, fake_wake_ns == START_NS + 35 * MINUTE_NS);
    go_to(START_NS + 35 * MINUTE_NS);
    wait_for("exit 0 reason exit", 3);
    go_to(START_NS + 61 * MINUTE_NS);
    wait_for("exit 0 reason exit", 4);
    assert_int_equal(started(), 4);
}

/* A run that the server ends is no failure of `once`: it comes again. */
static void test_stopped_server(void **state) {
    (void)state;
    make_app("spin", guest_loop);
    set("once", "once 2026-01-01T00:01:00Z");
    go_to(START_NS + MINUTE_NS);
    wait_for("state: run ", 1);
    alarms_quiesce(alarms);
    bool finished = false;
    runs_shut_down(fixture.runs, fixture.loops[0], 0, fixture_finished, &finished);
    FIXTURE_TURN_UNTIL(&fixture, finished);
    wait_for("reason shutdown", 1);
    end();
    runs_free(STEAL(fixture.runs));
    fixture_make_runs(&fixture);
    begin();
    wait_for("state: run ", 1);
    assert_int_equal(started(), 1);
}

static void test_refused(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    cleanup_buf struct buf message = {0};
    op.message = &message;
    assert_int_equal(
        FIXTURE_WAIT(&fixture, alarms_set(&op, alarms, app, STR("x"), STR("sometimes"))),
        ERR_INVAL);
    assert_true(message.length > 0);
    op.message = NULL;
    assert_string_equal(shown(), "");
}

/* Set without anybody who waits; given up half way. */
static void test_later(void **state) {
    (void)state;
    make_app("hello", guest_hello);
    alarms_set_later(alarms, fixture.who, app, STR("x"), STR("every 1m"));
    wait_for("state: waiting", 1);
    alarms_set_later(alarms, fixture.who, app, STR("y"), STR("every 1x"));
    assert_int_equal(alarms_set(&op, alarms, app, STR("z"), STR("every 1m")), ERR_PENDING);
    op_abandon(&op);
    alarms_set_later(alarms, fixture.who, app, STR("w"), STR("every 9m"));
    wait_for("when: every 9m", 1);
    assert_int_equal(count("when: every 1x"), 0);
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_overlap_is_skipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missed_while_there_was_no_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_once_is_retried_and_then_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_can_not_be_started, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clock_set_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_later, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
