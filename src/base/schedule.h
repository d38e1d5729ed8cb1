/* When an alarm goes off: the line that says so, and the times that follow from it.
 *
 *   once 2026-12-24T18:00:00Z          a time (RFC 3339); "once" may be left out
 *   every 5m                           a duration of at least a second: after it was set, again and
 *                                      again
 *   MIN HOUR DAY MONTH WEEKDAY         as cron has it: `*`, numbers, ranges (1-5), lists (1,15) and
 *                                      steps (0-59/10, or of all: star, slash, 10); names of three
 *                                      letters for months and weekdays; Sunday is 0 and 7
 *   @hourly @daily @weekly @monthly @yearly
 *
 * Where day and weekday are both restricted, either will do. A cron line is in UTC, or in the time
 * zone of a last word "tz=Europe/Berlin". There the clocks change: a time that they skip is at the
 * moment of the jump; of a time that comes twice the first counts; but if the hour begins with `*`
 * it simply goes on by the clocks: nothing is added in a jump, and both hours count.
 *
 * Thread: any. Layer: base. */
#pragma once

#include "base/zone.h"

enum schedule_kind { SCHEDULE_ONCE, SCHEDULE_EVERY, SCHEDULE_CRON };

struct schedule {
    enum schedule_kind kind;
    uint64_t at_ns;     /* ONCE: realtime */
    uint64_t period_ns; /* EVERY */
    /* CRON: a bit for each that is meant */
    uint64_t minutes;
    uint32_t hours, days, months, weekdays;
    bool any_hour, any_day, any_weekday; /* the field begins with '*' */
    const struct zone *zone;
};

#define SCHEDULE_LINE_MAX 200
#define SCHEDULE_PERIOD_MIN_NS NS_PER_S
/* INVAL with a message that says what is wrong; IO: the file of its time zone is damaged. */
MUST_USE enum err schedule_parse(struct str line, struct schedule *ret_schedule,
                                 struct buf *message);

/* The first time after `after_ns`; 0 if there is none. EVERY counts from `set_ns`, when it was set.
 * All are realtime, nanoseconds. */
uint64_t schedule_next(const struct schedule *schedule, uint64_t set_ns, uint64_t after_ns);
