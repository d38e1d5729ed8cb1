#include "base/zone.h"

#include "base/fsio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, ERR_OK)

static void put(struct buf *bytes, uint64_t value, size_t size) {
    while (size-- > 0) {
        uint64_t shifted = size < sizeof value ? value >> size * 8 : 0;
        OK(buf_append_byte(bytes, (uint8_t)shifted));
    }
}

static void put_header(struct buf *bytes, char version, uint32_t transitions, uint32_t types) {
    OK(buf_append(bytes, "TZif", 4));
    put(bytes, (uint8_t)version, 1);
    put(bytes, 0, 15);
    put(bytes, 0, 12);
    put(bytes, transitions, 4);
    put(bytes, types, 4);
    put(bytes, 4, 4);
}

struct transition {
    int64_t time;
    uint8_t type;
};

static void make_file(struct buf *bytes, const struct transition *transitions, uint32_t count,
                      const int32_t *offsets, uint32_t types, const char *rule) {
    put_header(bytes, '2', 0, 1);
    put(bytes, 0, 6 + 4);
    put_header(bytes, '2', count, types);
    for (uint32_t i = 0; i < count; i++) {
        put(bytes, (uint64_t)transitions[i].time, 8);
    }
    for (uint32_t i = 0; i < count; i++) {
        put(bytes, transitions[i].type, 1);
    }
    for (uint32_t i = 0; i < types; i++) {
        put(bytes, (uint32_t)offsets[i], 4);
        put(bytes, 0, 2);
    }
    put(bytes, 0, 4);
    OK(buf_printf(bytes, "\n%s\n", rule));
}

static struct zone *zone_of_rule(const char *rule) {
    cleanup_buf struct buf bytes = {0};
    const int32_t offset = 0;
    struct zone *zone;
    make_file(&bytes, NULL, 0, &offset, 1, rule);
    OK(zone_parse(STR("Test"), bytes.data, bytes.length, &zone));
    return zone;
}

static int64_t at(int64_t year, unsigned month, unsigned day, unsigned hour, unsigned minute) {
    return calendar_days(year, month, day) * 86400 + hour * 3600 + minute * 60;
}

static void test_calendar(void **state) {
    (void)state;
    assert_int_equal(calendar_days(1970, 1, 1), 0);
    assert_int_equal(calendar_days(2000, 3, 1), 11017);
    assert_int_equal(calendar_days(1600, 2, 29), -135081);
    int64_t days = calendar_days(1900, 1, 1);
    unsigned weekday = 1; /* a Monday */
    for (int64_t year = 1900; year < 2400; year++) {
        for (unsigned month = 1; month <= 12; month++) {
            static const unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
            bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            unsigned length = lengths[month - 1] + (month == 2 && leap ? 1u : 0u);
            for (unsigned day = 1; day <= length; day++, days++, weekday = (weekday + 1) % 7) {
                struct calendar_date date = calendar_date(days);
                assert_int_equal(calendar_days(year, month, day), days);
                assert_true(date.year == year && date.month == month && date.day == day);
                assert_int_equal(date.weekday, weekday);
            }
        }
    }
}

static void test_utc(void **state) {
    (void)state;
    int64_t moments[2];
    assert_int_equal(zone_offset(zone_utc, 1000), 0);
    assert_int_equal(zone_moments(zone_utc, 5000, moments), 1);
    assert_int_equal(moments[0], 5000);
}

static void test_rule_of_europe(void **state) {
    (void)state;
    struct zone *zone = zone_of_rule("CET-1CEST,M3.5.0,M10.5.0/3");
    /* 2026: from the 29th of March to the 25th of October, at 01:00 UTC. */
    assert_int_equal(zone_offset(zone, at(2026, 3, 29, 0, 59)), 3600);
    assert_int_equal(zone_offset(zone, at(2026, 3, 29, 1, 0)), 7200);
    assert_int_equal(zone_offset(zone, at(2026, 10, 25, 0, 59)), 7200);
    assert_int_equal(zone_offset(zone, at(2026, 10, 25, 1, 0)), 3600);
    int64_t moments[2];
    assert_int_equal(zone_moments(zone, at(2026, 7, 1, 12, 0), moments), 1);
    assert_int_equal(moments[0], at(2026, 7, 1, 10, 0));
    /* skipped */
    assert_int_equal(zone_moments(zone, at(2026, 3, 29, 2, 30), moments), 0);
    assert_int_equal(moments[0], at(2026, 3, 29, 1, 0));
    assert_int_equal(zone_moments(zone, at(2026, 3, 29, 3, 0), moments), 1);
    assert_int_equal(moments[0], at(2026, 3, 29, 1, 0));
    assert_int_equal(zone_moments(zone, at(2026, 3, 29, 1, 59), moments), 1);
    /* twice */
    assert_int_equal(zone_moments(zone, at(2026, 10, 25, 2, 30), moments), 2);
    assert_int_equal(moments[0], at(2026, 10, 25, 0, 30));
    assert_int_equal(moments[1], at(2026, 10, 25, 1, 30));
    assert_int_equal(zone_moments(zone, at(2026, 10, 25, 3, 0), moments), 1);
    zone_free(zone);
}

static void test_other_rules(void **state) {
    (void)state;
    /* The southern summer goes over the new year. */
    struct zone *zone = zone_of_rule("AEST-10AEDT,M10.1.0,M4.1.0/3");
    assert_int_equal(zone_offset(zone, at(2026, 1, 1, 0, 0)), 11 * 3600);
    assert_int_equal(zone_offset(zone, at(2026, 7, 1, 0, 0)), 10 * 3600);
    zone_free(zone);
    /* Ireland's winter time is the exception; negative, and half an hour. */
    zone = zone_of_rule("IST-1GMT0,M10.5.0,M3.5.0/1");
    assert_int_equal(zone_offset(zone, at(2026, 7, 1, 0, 0)), 3600);
    assert_int_equal(zone_offset(zone, at(2026, 12, 1, 0, 0)), 0);
    zone_free(zone);
    zone = zone_of_rule("<-0330>3:30<-0230>,J60/0,300/-1");
    assert_int_equal(zone_offset(zone, at(2026, 1, 1, 0, 0)), -(3 * 3600 + 1800));
    assert_int_equal(zone_offset(zone, at(2026, 3, 1, 12, 0)), -(2 * 3600 + 1800));
    assert_int_equal(zone_offset(zone, at(2024, 2, 29, 12, 0)), -(3 * 3600 + 1800));
    zone_free(zone);
    zone = zone_of_rule("<+0545>-5:45");
    assert_int_equal(zone_offset(zone, at(2026, 1, 1, 0, 0)), 5 * 3600 + 45 * 60);
    zone_free(zone);
}

static void test_transitions(void **state) {
    (void)state;
    const struct transition transitions[] = {{-100, 1}, {1000, 2}, {2000, 0}};
    const int32_t offsets[] = {600, 1200, -1800};
    cleanup_buf struct buf bytes = {0};
    struct zone *zone;
    make_file(&bytes, transitions, 3, offsets, 3, "");
    OK(zone_parse(STR("A/B"), bytes.data, bytes.length, &zone));
    assert_string_equal(zone_name(zone), "A/B");
    assert_int_equal(zone_offset(zone, -101), 600);
    assert_int_equal(zone_offset(zone, -100), 1200);
    assert_int_equal(zone_offset(zone, 999), 1200);
    assert_int_equal(zone_offset(zone, 1000), -1800);
    assert_int_equal(zone_offset(zone, 2000), 600);
    assert_int_equal(zone_offset(zone, INT32_MAX), 600);
    zone_free(zone);
}

static void test_damage(void **state) {
    (void)state;
    const struct transition transitions[] = {{100, 1}, {200, 0}};
    const int32_t offsets[] = {0, 3600};
    cleanup_buf struct buf bytes = {0};
    struct zone *zone;
    make_file(&bytes, transitions, 2, offsets, 2, "CET-1CEST,M3.5.0,M10.5.0/3");
    for (size_t length = 0; length < bytes.length; length++) {
        /* A copy, so that a sanitizer sees a read behind its end. */
        uint8_t *copy = malloc(length + 1);
        assert_non_null(copy);
        memcpy(copy, bytes.data, length);
        uint8_t *exact = realloc(copy, length ? length : 1);
        assert_non_null(exact);
        assert_int_equal(zone_parse(STR("X"), exact, length, &zone), ERR_INVAL);
        free(exact);
    }
    /* Any byte may be anything. */
    for (size_t i = 0; i < bytes.length; i++) {
        uint8_t before = bytes.data[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[i] = (uint8_t)(before ^ 1u << bit);
            if (zone_parse(STR("X"), bytes.data, bytes.length, &zone) == ERR_OK) {
                int64_t moments[2];
                (void)zone_moments(zone, at(2026, 3, 29, 2, 30), moments);
                zone_free(zone);
            }
        }
        bytes.data[i] = before;
    }
    static const char *const rules[] = {"C",
                                        "CET",
                                        "CET-25",
                                        "CET-1CEST",
                                        "CET-1CEST,M3.5.0",
                                        "CET-1CEST,M0.5.0,M10.5.0",
                                        "CET-1CEST,M3.6.0,M10.5.0",
                                        "CET-1CEST,M3.5.7,M10.5.0",
                                        "CET-1CEST,J0,J5",
                                        "CET-1CEST,M3.5.0,M10.5.0/168",
                                        "CET-1CEST,M3.5.0,M10.5.0x",
                                        "<C>-1",
                                        "CET-1:60"};
    for (size_t i = 0; i < ARRAY_LENGTH(rules); i++) {
        bytes.length = 0;
        make_file(&bytes, transitions, 2, offsets, 2, rules[i]);
        assert_int_equal(zone_parse(STR("X"), bytes.data, bytes.length, &zone), ERR_INVAL);
    }
}

static void test_find(void **state) {
    (void)state;
    cleanup_buf struct buf message = {0};
    const struct zone *zone, *again;
    OK(zone_find(STR("UTC"), &zone, NULL));
    assert_ptr_equal(zone, zone_utc);
    static const char *const bad[] = {
        "",    "/etc/passwd",   "../x",    "Europe/",        "Europe//Berlin",
        "a b", "Europe/../UTC", ".hidden", "Europe/Berlin\n"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(zone_find(str_of(bad[i]), &zone, &message), ERR_INVAL);
    }
    assert_int_equal(zone_find(STR("Europe/Atlantis"), &zone, &message), ERR_NOENT);
    assert_non_null(strstr(buf_text(&message), "Europe/Atlantis"));
    if (zone_find(STR("Europe/Berlin"), &zone, NULL) != ERR_OK) {
        skip(); /* no database here */
    }
    OK(zone_find(STR("Europe/Berlin"), &again, NULL));
    assert_ptr_equal(zone, again);
    assert_int_equal(zone_offset(zone, at(2026, 7, 1, 0, 0)), 7200);
    assert_int_equal(zone_offset(zone, at(1970, 7, 1, 0, 0)), 3600);
    assert_int_equal(zone_find(STR("Europe"), &zone, &message), ERR_NOENT);
    assert_int_equal(zone_find(STR("tzdata.zi"), &zone, &message), ERR_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calendar),       cmocka_unit_test(test_utc),
        cmocka_unit_test(test_rule_of_europe), cmocka_unit_test(test_other_rules),
        cmocka_unit_test(test_transitions),    cmocka_unit_test(test_damage),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
