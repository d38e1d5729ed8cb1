#include "store/alarm.h"

#include "base/clock.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MINUTE_NS (60 * NS_PER_S)
#define HOUR_NS (60 * MINUTE_NS)
#define DAY_NS (24 * HOUR_NS)

static uint64_t at(const char *time) {
    struct schedule schedule;
    assert_int_equal(schedule_parse(str_of(time), &schedule, NULL), ERR_OK);
    return schedule.at_ns;
}

static struct alarm *make(const char *text, uint64_t now_ns) {
    struct alarm *alarm;
    cleanup_buf struct buf message = {0};
    if (alarm_new(STR("test"), str_of(text), now_ns, &alarm, &message) != ERR_OK) {
        fail_msg("'%s': %s", text, buf_text(&message));
    }
    return alarm;
}

/* Lets time go on to `now_ns` as the scheduler does: whatever is due comes, and its run ends at
 * once and well. Returns how often a run was started. */
static unsigned live(struct alarm *alarm, uint64_t now_ns) {
    unsigned runs = 0;
    while (alarm_is_due(alarm, now_ns)) {
        uint64_t time_ns = alarm_wake_ns(alarm);
        assert_true(alarm_come(alarm, time_ns));
        alarm_ended(alarm, time_ns, true, true);
        runs++;
    }
    return runs;
}

static void test_names(void **state) {
    (void)state;
    static const char *const good[] = {"a", "nightly-report_2.1", "A"};
    static const char *const bad[] = {"", ".", "..", ".a", "a/b", "a b", "a\n", "\xc3\xa4"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_int_equal(alarm_name_check(str_of(good[i]), NULL), ERR_OK);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(alarm_name_check(str_of(bad[i]), NULL), ERR_INVAL);
    }
    char name[ALARM_NAME_MAX + 1];
    memset(name, 'a', sizeof name);
    assert_int_equal(alarm_name_check((struct str){name, ALARM_NAME_MAX}, NULL), ERR_OK);
    assert_int_equal(alarm_name_check((struct str){name, ALARM_NAME_MAX + 1}, NULL), ERR_INVAL);
}

static void test_text(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("every 5m\r\nline 1\nline 2\n", now);
    assert_string_equal(alarm->line, "every 5m");
    assert_string_equal(buf_text(&alarm->input), "line 1\nline 2\n");
    alarm_free(alarm);
    alarm = make("every 5m", now);
    assert_int_equal(alarm->input.length, 0);
    alarm_free(alarm);
    cleanup_buf struct buf message = {0};
    assert_int_equal(alarm_new(STR("x"), STR("\nevery 5m"), now, &alarm, &message), ERR_INVAL);
    assert_int_equal(alarm_new(STR("x"), STR("once 2025-12-31T23:59:59Z"), now, &alarm, &message),
                     ERR_INVAL);
    assert_non_null(strstr(buf_text(&message), "passed"));
    cleanup_buf struct buf text = {0};
    assert_int_equal(buf_printf(&text, "every 5m\n"), ERR_OK);
    for (int i = 0; i < ALARM_INPUT_BYTES_MAX; i++) {
        assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
    }
    assert_int_equal(alarm_new(STR("x"), buf_str(&text), now, &alarm, &message), ERR_OK);
    alarm_free(alarm);
    assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
    assert_int_equal(alarm_new(STR("x"), buf_str(&text), now, &alarm, &message), ERR_FBIG);
}

static void test_every(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("every 5m", now);
    assert_int_equal(live(alarm, now), 0);
    assert_int_equal(live(alarm, now + 5 * MINUTE_NS - 1), 0);
    assert_int_equal(live(alarm, now + 5 * MINUTE_NS), 1);
    assert_int_equal(live(alarm, now + DAY_NS), 24 * 12 - 1);
    alarm_free(alarm);
}

/* Times that nobody was there for are made up for by one run, and then it goes on in step. */
static void test_missed(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    static const char *const lines[] = {"every 5m", "*/5 * * * *", "0 6 * * *"};
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        struct alarm *alarm = make(lines[i], now);
        uint64_t later = now + 10 * DAY_NS + 7 * HOUR_NS + 2 * MINUTE_NS;
        assert_true(alarm_is_due(alarm, later));
        assert_true(alarm_come(alarm, later));
        alarm_ended(alarm, later, true, true);
        assert_false(alarm_is_due(alarm, later));
        uint64_t expected = i < 2 ? later + 3 * MINUTE_NS : later + 22 * HOUR_NS + 58 * MINUTE_NS;
        assert_int_equal(alarm_wake_ns(alarm), expected);
        alarm_free(alarm);
    }
}

static void test_overlap(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("every 1m", now);
    assert_true(alarm_come(alarm, now + MINUTE_NS));
    for (unsigned i = 2; i < 5; i++) {
        assert_true(alarm_is_due(alarm, now + i * MINUTE_NS));
        assert_false(alarm_come(alarm, now + i * MINUTE_NS));
        assert_false(alarm_is_due(alarm, now + i * MINUTE_NS));
    }
    alarm_ended(alarm, now + 4 * MINUTE_NS + 1, false, true);
    assert_true(alarm_come(alarm, now + 5 * MINUTE_NS));
    alarm_free(alarm);
}

static void test_once(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("once 2026-01-02T00:00:00Z", now);
    assert_int_equal(live(alarm, now + DAY_NS - 1), 0);
    assert_int_equal(live(alarm, now + DAY_NS), 1);
    assert_true(alarm_is_over(alarm));
    assert_int_equal(live(alarm, now + 400 * DAY_NS), 0);
    alarm_free(alarm);
}

static void test_once_is_retried(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("once 2026-01-02T00:00:00Z", now);
    static const uint64_t delays[] = {MINUTE_NS, 10 * MINUTE_NS, HOUR_NS};
    now += DAY_NS;
    for (size_t i = 0; i < ARRAY_LENGTH(delays); i++) {
        assert_true(alarm_is_due(alarm, now));
        assert_true(alarm_come(alarm, now));
        assert_int_equal(alarm_wake_ns(alarm), 0); /* while it runs */
        now += 5 * NS_PER_S;
        alarm_ended(alarm, now, false, true);
        assert_false(alarm_is_over(alarm));
        assert_int_equal(alarm_wake_ns(alarm), now + delays[i]);
        now += delays[i];
    }
    assert_true(alarm_come(alarm, now));
    alarm_ended(alarm, now, false, true);
    assert_true(alarm_is_over(alarm));
    alarm_free(alarm);
    /* A good one in between ends it. */
    alarm = make("once 2026-01-02T00:00:00Z", at("2026-01-01T00:00:00Z"));
    assert_true(alarm_come(alarm, now));
    alarm_ended(alarm, now, false, true);
    assert_int_equal(live(alarm, now + HOUR_NS), 1);
    assert_true(alarm_is_over(alarm));
    alarm_free(alarm);
}

/* The server stopped while it ran: it is still due. */
static void test_once_that_was_stopped(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:00:00Z");
    struct alarm *alarm = make("once 2026-01-02T00:00:00Z", now);
    assert_true(alarm_come(alarm, now + DAY_NS));
    alarm_ended(alarm, now + DAY_NS, false, false);
    assert_int_equal(alarm->attempts, 0);
    assert_true(alarm_is_due(alarm, now + DAY_NS));
    alarm_free(alarm);
}

static void test_clock_set_back(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T06:05:00Z");
    /* An hour: what has come does not come again. */
    struct alarm *alarm = make("0 6 * * *", now - HOUR_NS);
    assert_int_equal(live(alarm, now), 1);
    alarm_clock_set_back(alarm, now - HOUR_NS, HOUR_NS);
    assert_int_equal(live(alarm, now + HOUR_NS), 0);
    assert_int_equal(live(alarm, now + DAY_NS), 1);
    /* Ten years, as when the clock was wrong at start: found anew. */
    uint64_t right = at("2016-01-01T06:05:00Z");
    alarm_clock_set_back(alarm, right, now - right);
    assert_int_equal(alarm_wake_ns(alarm), at("2016-01-02T06:00:00Z"));
    alarm_free(alarm);
    /* Every five minutes stays every five minutes. */
    alarm = make("every 5m", now);
    assert_int_equal(live(alarm, now + HOUR_NS), 12);
    alarm_clock_set_back(alarm, now, HOUR_NS);
    assert_int_equal(alarm_wake_ns(alarm), now + 5 * MINUTE_NS);
    assert_int_equal(live(alarm, now + 10 * MINUTE_NS), 2);
    alarm_free(alarm);
    /* A moment stays what it is. */
    alarm = make("once 2026-01-02T00:00:00Z", now);
    alarm_clock_set_back(alarm, right, now - right);
    assert_int_equal(alarm_wake_ns(alarm), at("2026-01-02T00:00:00Z"));
    alarm_free(alarm);
}

static void test_clock_set_forward(void **state) {
    (void)state;
    uint64_t now = at("2026-01-01T00:30:00Z");
    struct alarm *alarm = make("0 * * * *", now);
    assert_true(alarm_come(alarm, now + HOUR_NS)); /* 01:30: late by half an hour */
    alarm_ended(alarm, now + HOUR_NS, true, true);
    assert_int_equal(alarm_wake_ns(alarm), at("2026-01-01T02:00:00Z"));
    alarm_free(alarm);
}

/* A year of it, in a zone whose clocks change: every day once. */
static void test_a_year(void **state) {
    (void)state;
    const struct zone *zone;
    if (zone_find(STR("Europe/Berlin"), &zone, NULL) != ERR_OK) {
        skip(); /* no database here */
    }
    struct alarm *alarm = make("30 2 * * * tz=Europe/Berlin", at("2027-12-31T12:00:00Z"));
    assert_int_equal(live(alarm, at("2028-12-31T12:00:00Z")), 366);
    alarm_free(alarm);
    alarm = make("0 * * * * tz=Europe/Berlin", at("2027-12-31T12:30:00Z"));
    assert_int_equal(live(alarm, at("2028-12-31T12:30:00Z")), 366 * 24);
    alarm_free(alarm);
}

static void test_results(void **state) {
    (void)state;
    struct alarm *alarm = make("every 1h\ninput", at("2026-01-01T00:00:00Z"));
    char line[400];
    for (int i = 1; i <= 7; i++) {
        snprintf(line, sizeof line, "result %d\x1b", i);
        alarm_add_result(alarm, str_of(line));
    }
    cleanup_buf struct buf text = {0};
    assert_int_equal(alarm_show(alarm, 0, &text), ERR_OK);
    assert_string_equal(buf_text(&text), "when: every 1h\nstate: waiting\n"
                                         "next: 2026-01-01T01:00:00.000Z\n"
                                         "next: 2026-01-01T02:00:00.000Z\n"
                                         "next: 2026-01-01T03:00:00.000Z\n"
                                         "last: result 7?\nlast: result 6?\nlast: result 5?\n"
                                         "last: result 4?\nlast: result 3?\n\ninput");
    memset(line, 'x', sizeof line);
    alarm_add_result(alarm, (struct str){line, sizeof line});
    assert_int_equal(strlen(alarm->results[0]), ALARM_RESULT_BYTES_MAX - 1);

    /* As it is kept. */
    cleanup_buf struct buf kept = {0};
    struct alarm *again;
    assert_int_equal(alarm_results_text(alarm, &kept), ERR_OK);
    assert_int_equal(alarm_load(STR("test"), STR("every 1h"), STR("input"), alarm->set_ns,
                                alarm->next_ns, 0, buf_str(&kept), &again),
                     ERR_OK);
    assert_memory_equal(again->results, alarm->results, sizeof alarm->results);
    assert_int_equal(alarm_wake_ns(again), alarm_wake_ns(alarm));
    alarm_free(again);
    alarm_free(alarm);
}

/* They come when a run ends, and are shown by when it started. */
static void test_results_are_in_the_order_of_time(void **state) {
    (void)state;
    struct alarm *alarm = make("every 1h", at("2026-01-01T00:00:00Z"));
    alarm_add_result(alarm, STR("2026-01-01T01:00:00.000Z run 1"));
    alarm_add_result(alarm, STR("2026-01-01T03:00:00.000Z skipped"));
    alarm_add_result(alarm, STR("2026-01-01T04:00:00.000Z skipped"));
    alarm_add_result(alarm, STR("2026-01-01T02:00:00.000Z run 2"));
    alarm_add_result(alarm, STR("2026-01-01T04:00:00.000Z run 3"));
    cleanup_buf struct buf text = {0};
    assert_int_equal(alarm_show(alarm, 0, &text), ERR_OK);
    assert_non_null(strstr(buf_text(&text), "last: 2026-01-01T04:00:00.000Z run 3\n"
                                            "last: 2026-01-01T04:00:00.000Z skipped\n"
                                            "last: 2026-01-01T03:00:00.000Z skipped\n"
                                            "last: 2026-01-01T02:00:00.000Z run 2\n"
                                            "last: 2026-01-01T01:00:00.000Z run 1\n"));
    alarm_free(alarm);
}

static void test_load_of_anything(void **state) {
    (void)state;
    struct alarm *alarm;
    assert_int_equal(alarm_load(STR("a/b"), STR("every 1h"), STR(""), 0, 0, 0, STR(""), &alarm),
                     ERR_IO);
    assert_int_equal(alarm_load(STR("a"), STR("every 1h"), STR(""), 0, 0, 9, STR(""), &alarm),
                     ERR_IO);
    /* A line that nobody understands any more is shown, but never comes. */
    cleanup_buf struct buf text = {0};
    assert_int_equal(alarm_load(STR("a"), STR("0 0 * * * tz=Europe/Atlantis"), STR("in"), 5, 6, 0,
                                STR("\n\none\n\x01\n"), &alarm),
                     ERR_OK);
    assert_false(alarm_is_due(alarm, UINT64_MAX));
    assert_int_equal(alarm_show(alarm, 0, &text), ERR_OK);
    assert_non_null(strstr(buf_text(&text), "state: broken"));
    assert_non_null(strstr(buf_text(&text), "Atlantis"));
    assert_non_null(strstr(buf_text(&text), "last: one\nlast: ?\n"));
    alarm_free(alarm);
    char line[SCHEDULE_LINE_MAX + 1];
    memset(line, '*', sizeof line);
    assert_int_equal(
        alarm_load(STR("a"), (struct str){line, sizeof line}, STR(""), 0, 0, 0, STR(""), &alarm),
        ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_every),
        cmocka_unit_test(test_missed),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_once_is_retried),
        cmocka_unit_test(test_once_that_was_stopped),
        cmocka_unit_test(test_clock_set_back),
        cmocka_unit_test(test_clock_set_forward),
        cmocka_unit_test(test_a_year),
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_results_are_in_the_order_of_time),
        cmocka_unit_test(test_load_of_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
