#include "base/schedule.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint64_t at(const char *time) {
    struct schedule schedule;
    assert_int_equal(schedule_parse(str_of(time), &schedule, NULL), ERR_OK);
    assert_int_equal(schedule.kind, SCHEDULE_ONCE);
    return schedule.at_ns;
}

/* What follows `from`, one after the other. */
static void expect(const char *line, const char *from, const char *const *times) {
    struct schedule schedule;
    cleanup_buf struct buf message = {0};
    if (schedule_parse(str_of(line), &schedule, &message) != ERR_OK) {
        fail_msg("'%s': %s", line, buf_text(&message));
    }
    uint64_t now_ns = at(from);
    for (size_t i = 0; times[i]; i++) {
        now_ns = schedule_next(&schedule, at(from), now_ns);
        char text[CLOCK_TEXT_SIZE] = "never";
        if (now_ns) {
            clock_format_utc(now_ns, text);
        }
        size_t length = strlen(times[i]);
        if (strncmp(text, times[i], length - (times[i][length - 1] == 'Z')) != 0) {
            fail_msg("'%s' from %s: number %zu is %s, not %s", line, from, i, text, times[i]);
        }
    }
}
#define EXPECT(line, from, ...) expect(line, from, (const char *const[]){__VA_ARGS__, NULL})

static void expect_refused(const char *line, const char *because) {
    struct schedule schedule;
    cleanup_buf struct buf message = {0};
    enum err err = schedule_parse(str_of(line), &schedule, &message);
    if (err != ERR_INVAL || !strstr(buf_text(&message), because)) {
        fail_msg("'%s' is %s: %s", line, err ? "refused" : "accepted", buf_text(&message));
    }
}

static void test_once(void **state) {
    (void)state;
    char text[CLOCK_TEXT_SIZE];
    clock_format_utc(at("once 2026-12-24T18:00:00Z"), text);
    assert_string_equal(text, "2026-12-24T18:00:00.000Z");
    clock_format_utc(at("2024-02-29t23:59:60.5-01:30"), text);
    assert_string_equal(text, "2024-03-01T01:30:00.500Z");
    assert_int_equal(at("once  2026-12-24T19:00:00+01:00 "), at("2026-12-24T18:00:00Z"));
    EXPECT("once 2026-12-24T18:00:00Z", "2026-12-24T17:59:59Z", "2026-12-24T18:00:00", "never");
    EXPECT("once 2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z", "never");
    static const char *const bad[] = {"once",
                                      "once tomorrow",
                                      "2026-12-24",
                                      "2026-12-24T18:00Z",
                                      "2026-12-24T18:00:00",
                                      "2026-13-24T18:00:00Z",
                                      "2026-02-29T18:00:00Z",
                                      "2026-12-24T24:00:00Z",
                                      "2026-12-24T18:60:00Z",
                                      "2026-12-24T18:00:61Z",
                                      "2026-12-24T18:00:00.Z",
                                      "2026-12-24T18:00:00+1:00",
                                      "2026-12-24T18:00:00Zx",
                                      "2026-12-24T18:00:00Z x",
                                      "1970-01-01T00:00:00+01:00"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        expect_refused(bad[i], "a time is written like");
    }
}

static void test_every(void **state) {
    (void)state;
    EXPECT("every 5m", "2026-01-01T00:00:07Z", "2026-01-01T00:05:07", "2026-01-01T00:10:07");
    EXPECT("every 1s", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01", "2026-01-01T00:00:02");
    EXPECT("every 90", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30");
    struct schedule schedule;
    assert_int_equal(schedule_parse(STR("every 10s"), &schedule, NULL), ERR_OK);
    /* Later, it goes on in step. */
    assert_int_equal(schedule_next(&schedule, 1000 * NS_PER_S, 1234 * NS_PER_S), 1240 * NS_PER_S);
    assert_int_equal(schedule_next(&schedule, 1000 * NS_PER_S, 1240 * NS_PER_S), 1250 * NS_PER_S);
    /* Before it was set: the clock went back. */
    assert_int_equal(schedule_next(&schedule, 1000 * NS_PER_S, 10), 1010 * NS_PER_S);
    assert_int_equal(schedule_next(&schedule, UINT64_MAX - 5, UINT64_MAX - 4), 0);
    expect_refused("every", "followed by a time");
    expect_refused("every day", "followed by a time");
    expect_refused("every 5m sharp", "followed by a time");
    expect_refused("every 999ms", "every second at most");
    expect_refused("every 0", "every second at most");
    expect_refused("every 367d", "366 days");
}

static void test_cron(void **state) {
    (void)state;
    EXPECT("* * * * *", "2026-01-01T00:00:59.9Z", "2026-01-01T00:01:00.000", "2026-01-01T00:02:00");
    EXPECT("*/20 * * * *", "2026-01-01T00:40:00Z", "2026-01-01T01:00", "2026-01-01T01:20");
    EXPECT("5-10/2,50 0 * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05", "2026-01-01T00:07",
           "2026-01-01T00:09", "2026-01-01T00:50", "2026-01-02T00:05");
    EXPECT("0 6 * * mon-fri", "2026-01-02T06:00:00Z", "2026-01-05T06:00", "2026-01-06T06:00");
    EXPECT("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00", "2026-01-11T00:00");
    EXPECT("0 0 * * SAT-sun", "2026-01-01T00:00:00Z", "2026-01-03T00:00", "2026-01-04T00:00",
           "2026-01-10T00:00");
    EXPECT("0 12 1 Jan,jul *", "2026-01-01T12:00:00Z", "2026-07-01T12:00", "2027-01-01T12:00");
    /* Both restricted: either. */
    EXPECT("0 0 13 * fri", "2026-02-01T00:00:00Z", "2026-02-06T00:00", "2026-02-13T00:00",
           "2026-02-20T00:00", "2026-02-27T00:00", "2026-03-06T00:00", "2026-03-13T00:00");
    /* One of them begins with a star: both. */
    EXPECT("0 0 */10 * mon", "2026-01-01T00:00:00Z", "2026-05-11T00:00", "2026-06-01T00:00");
    EXPECT("  0\t0  1 1 *  ", "2026-06-01T00:00:00Z", "2027-01-01T00:00");
    EXPECT("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T01:00", "2026-01-01T02:00");
    EXPECT("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00");
    EXPECT("@monthly", "2026-01-01T00:00:00Z", "2026-02-01T00:00");
    EXPECT("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00");
}

static void test_leap_days(void **state) {
    (void)state;
    EXPECT("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00", "2032-02-29T00:00");
    EXPECT("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00");
    EXPECT("0 0 */28 2 sun", "2026-02-02T00:00:00Z", "2032-02-01T00:00", "2032-02-29T00:00",
           "2037-02-01T00:00");
    EXPECT("59 23 31 12 *", "2027-12-31T23:59:00Z", "2028-12-31T23:59");
    expect_refused("0 0 30 2 *", "there is no such day");
    expect_refused("0 0 31 2,4,6 *", "there is no such day");
}

static void test_refused(void **state) {
    (void)state;
    expect_refused("", "an alarm begins with a line");
    expect_refused("* * * *", "an alarm begins with a line");
    expect_refused("hello", "an alarm begins with a line");
    expect_refused("60 * * * *", "is no minute");
    expect_refused("-1 * * * *", "is no minute");
    expect_refused("* 24 * * *", "is no hour");
    expect_refused("* * 0 * *", "is no day");
    expect_refused("* * * 13 *", "is no month");
    expect_refused("* * * foo *", "is no month");
    expect_refused("* * * * 8", "is no weekday");
    expect_refused("5-1 * * * *", "is no minute");
    expect_refused("1, * * * *", "is no minute");
    expect_refused("1/2 * * * *", "is no minute");
    expect_refused("*/0 * * * *", "is no minute");
    expect_refused("*/100 * * * *", "is no minute");
    expect_refused("*1 * * * *", "is no minute");
    expect_refused("001 * * * *", "is no minute");
    expect_refused("* * * * * x", "time zone");
    expect_refused("* * * * * tz=UTC x", "time zone");
    expect_refused("* * * * * tz=", "time zone");
    expect_refused("* * * * * tz=../../etc/passwd", "time zone");
    expect_refused("* * * * * tz=Europe/Atlantis", "Europe/Atlantis");
    expect_refused("@always", "@hourly");
    expect_refused("* * * * *\x01", "printable");
    char line[SCHEDULE_LINE_MAX + 2];
    memset(line, ' ', sizeof line);
    line[sizeof line - 1] = 0;
    expect_refused(line, "printable");
}

static void test_zones(void **state) {
    (void)state;
    const struct zone *zone;
    if (zone_find(STR("Europe/Berlin"), &zone, NULL) != ERR_OK) {
        skip(); /* no database here */
    }
    EXPECT("0 6 * * * tz=Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T05:00");
    EXPECT("0 6 * * * tz=Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T04:00");
    EXPECT("@daily tz=Asia/Kathmandu", "2026-07-01T00:00:00Z", "2026-07-01T18:15");
    EXPECT("* * * * * tz=UTC", "2026-07-01T00:00:00Z", "2026-07-01T00:01");

    /* 2026-03-29: at 02:00 it is 03:00 (01:00 UTC). A fixed time is at the jump, once. */
    EXPECT("30 2 * * * tz=Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-28T01:30",
           "2026-03-29T01:00:00", "2026-03-30T00:30");
    EXPECT("0,30 2 * * * tz=Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00",
           "2026-03-30T00:00");
    EXPECT("0 2,3 * * * tz=Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00",
           "2026-03-30T00:00", "2026-03-30T01:00");
    /* Every hour goes by the clock. */
    EXPECT("30 * * * * tz=Europe/Berlin", "2026-03-28T23:45:00Z", "2026-03-29T00:30",
           "2026-03-29T01:30", "2026-03-29T02:30");

    /* 2026-10-25: at 03:00 it is 02:00 again (01:00 UTC). A fixed time is the first of both. */
    EXPECT("30 2 * * * tz=Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30",
           "2026-10-26T01:30");
    EXPECT("30 2 * * * tz=Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30");
    EXPECT("*/30 * * * * tz=Europe/Berlin", "2026-10-24T23:45:00Z", "2026-10-25T00:00",
           "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00");

    /* Clocks that change at midnight; a whole day that never was (2011-12-30 in Apia). */
    EXPECT("0 0 * * * tz=America/Havana", "2026-03-07T12:00:00Z", "2026-03-08T05:00:00",
           "2026-03-09T04:00");
    EXPECT("30 23 * * * tz=America/Havana", "2026-10-31T12:00:00Z", "2026-11-01T03:30",
           "2026-11-02T04:30");
    EXPECT("0 12 * * * tz=Pacific/Apia", "2011-12-29T12:00:00Z", "2011-12-29T22:00",
           "2011-12-30T10:00", "2011-12-30T22:00");
    /* 10:00 UTC is the moment of the jump over that day. */
    EXPECT("*/30 * * * * tz=Australia/Lord_Howe", "2026-04-04T14:30:00Z", "2026-04-04T15:00",
           "2026-04-04T15:30", "2026-04-04T16:00");
    /* Far in the future, by the rule. */
    EXPECT("0 6 * * * tz=Europe/Berlin", "2150-07-01T00:00:00Z", "2150-07-01T04:00");
}

/* Times always go forward, whatever the zone and the line. */
static void test_forward(void **state) {
    (void)state;
    static const char *const names[] = {
        "UTC",         "Europe/Berlin",  "America/St_Johns",    "Africa/Casablanca", "Pacific/Apia",
        "Asia/Tehran", "America/Havana", "Australia/Lord_Howe", "Europe/Dublin"};
    static const char *const lines[] = {"30 2 * * *", "0 */3 * * *", "59 23 * * 0", "1 0 1 * *"};
    for (size_t i = 0; i < ARRAY_LENGTH(names) * ARRAY_LENGTH(lines); i++) {
        const char *name = names[i / ARRAY_LENGTH(lines)];
        const struct zone *zone;
        if (zone_find(str_of(name), &zone, NULL) != ERR_OK) {
            continue;
        }
        cleanup_buf struct buf line = {0};
        struct schedule schedule;
        assert_int_equal(buf_printf(&line, "%s tz=%s", lines[i % ARRAY_LENGTH(lines)], name),
                         ERR_OK);
        assert_int_equal(schedule_parse(buf_str(&line), &schedule, NULL), ERR_OK);
        uint64_t now_ns = at("2009-01-01T00:00:00Z"), end_ns = at("2040-01-01T00:00:00Z");
        size_t count = 0;
        while (now_ns < end_ns) {
            uint64_t next_ns = schedule_next(&schedule, 0, now_ns);
            assert_true(next_ns > now_ns);
            assert_true(next_ns - now_ns <= 33 * UINT64_C(86400) * NS_PER_S);
            /* Nothing lies between them. */
            assert_int_equal(schedule_next(&schedule, 0, next_ns - 1), next_ns);
            assert_int_equal(schedule_next(&schedule, 0, now_ns + (next_ns - now_ns) / 2), next_ns);
            now_ns = next_ns;
            count++;
        }
        assert_in_range(count, 31 * 12 - 1, 31 * 366 * 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once),    cmocka_unit_test(test_every),
        cmocka_unit_test(test_cron),    cmocka_unit_test(test_leap_days),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_zones),
        cmocka_unit_test(test_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
