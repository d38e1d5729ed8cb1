/* The first lines of alarms, and files of time zones. The first byte says which of both, and for a
 * line from when on. What follows from a good line goes forward, leaves nothing out, and shows the
 * fields of a cron line. */
#include "base/log.h"
#include "base/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_cron(const struct schedule *schedule, uint64_t time_ns) {
    int64_t utc_s = (int64_t)(time_ns / NS_PER_S);
    int64_t local_s = utc_s + zone_offset(schedule->zone, utc_s);
    INVARIANT(time_ns % NS_PER_S == 0);
    if (schedule->zone != zone_utc) {
        return; /* the moment of a jump shows another time */
    }
    INVARIANT(local_s % 60 == 0);
    INVARIANT(schedule->minutes >> (local_s / 60 % 60) & 1);
    INVARIANT(schedule->hours >> (local_s / 3600 % 24) & 1);
    struct calendar_date date = calendar_date(local_s / 86400);
    INVARIANT(schedule->months >> date.month & 1);
    INVARIANT((schedule->days >> date.day & 1) || (schedule->weekdays >> date.weekday & 1));
}

static void check_line(struct str line, uint64_t from_ns) {
    struct schedule schedule;
    struct buf message = {0};
    enum err err = schedule_parse(line, &schedule, &message);
    INVARIANT((err == ERR_OK) == (message.length == 0));
    buf_done(&message);
    if (err) {
        return;
    }
    uint64_t now_ns = from_ns;
    for (int i = 0; i < 4; i++) {
        uint64_t next_ns = schedule_next(&schedule, from_ns, now_ns);
        if (!next_ns) {
            INVARIANT(schedule.kind != SCHEDULE_EVERY);
            return;
        }
        INVARIANT(next_ns > now_ns);
        INVARIANT(schedule_next(&schedule, from_ns, next_ns - 1) == next_ns);
        if (schedule.kind == SCHEDULE_CRON) {
            check_cron(&schedule, next_ns);
        }
        now_ns = next_ns;
    }
}

static void check_zone(const uint8_t *data, size_t size) {
    struct zone *zone;
    if (zone_parse(STR("Test/Zone"), data, size, &zone) != ERR_OK) {
        return;
    }
    static const int64_t times[] = {INT32_MIN, -1, 0, 951782400, 1774749600, 1792900800, INT32_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(times); i++) {
        int64_t moments[2];
        size_t count = zone_moments(zone, times[i], moments);
        for (size_t j = 0; j < count; j++) {
            INVARIANT(moments[j] + zone_offset(zone, moments[j]) == times[i]);
        }
        INVARIANT(count < 2 || moments[0] < moments[1]);
    }
    zone_free(zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    if (data[0] == 'T') {
        check_zone(data, size);
    } else {
        /* From 1970 until 2100. */
        uint64_t from_ns = data[0] * UINT64_C(130) * 86400 * 366 / 256 * NS_PER_S;
        check_line((struct str){(const char *)data + 1, size - 1}, from_ns);
    }
    return 0;
}
