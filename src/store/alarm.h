/* An alarm: when an app is run by itself, with what input, and how that went. Here is what follows
 * from the time that it is, without clocks, disks and runs; volume_alarm.h keeps alarms,
 * run/alarms.h acts on them.
 *
 *  - It is due when its next time has come. A time that was missed (no server, a clock that was set
 *    forward) is made up for by one run, however many were missed.
 *  - While a run of it goes on, the next time is skipped.
 *  - `every` and cron lines go on whatever becomes of a run. `once` is tried again ALARM_RETRIES
 *    times after a failure, with growing delays, and then is over.
 *  - A clock that is set back by up to three hours makes nothing happen twice; after more than that
 *    times are found anew.
 *
 * Times are realtime, nanoseconds. Thread: the owner's. Layer: store. */
#pragma once

#include "base/schedule.h"

enum {
    ALARM_NAME_MAX = 64, /* of A-Z a-z 0-9 _ - . */
    ALARM_INPUT_BYTES_MAX = 64 * 1024,
    ALARM_RESULTS_MAX = 5,
    ALARM_RESULT_BYTES_MAX = 200,
    ALARM_RETRIES = 3,
};

struct alarm {
    char name[ALARM_NAME_MAX + 1];
    char line[SCHEDULE_LINE_MAX + 1];
    struct buf input; /* the standard input of its runs */
    struct schedule schedule;
    bool is_broken; /* its line is not understood (any more): it never comes */
    uint64_t set_ns;
    uint64_t next_ns;                                        /* 0: never again */
    unsigned attempts;                                       /* of `once`, that have failed */
    char results[ALARM_RESULTS_MAX][ALARM_RESULT_BYTES_MAX]; /* the newest first; "" at the end */

    /* not kept on disk: */
    uint64_t serial; /* tells it from another one of the same name */
    bool is_running;
    bool is_dirty, is_stored, is_gone; /* volume_alarm.c's */
};

MUST_USE enum err alarm_name_check(struct str name, struct buf *message);
/* Of what is written to its file: the first line says when, the rest is the input. INVAL and FBIG
 * with a message. To be freed with alarm_free. */
MUST_USE enum err alarm_new(struct str name, struct str text, uint64_t now_ns,
                            struct alarm **ret_alarm, struct buf *message);
/* Of what was kept. What can't be is IO; a line that is not understood is kept, but never comes. */
MUST_USE enum err alarm_load(struct str name, struct str line, struct str input, uint64_t set_ns,
                             uint64_t next_ns, uint64_t attempts, struct str results,
                             struct alarm **ret_alarm);
void alarm_free(struct alarm *alarm); /* accepts NULL */
/* The results as alarm_load takes them: a line each. */
MUST_USE enum err alarm_results_text(const struct alarm *alarm, struct buf *ret_text);

/* When somebody has to look at it; 0: never. */
uint64_t alarm_wake_ns(const struct alarm *alarm);
static inline bool alarm_is_due(const struct alarm *alarm, uint64_t now_ns) {
    uint64_t wake_ns = alarm_wake_ns(alarm);
    return wake_ns && wake_ns <= now_ns;
}
/* One that is due comes: true if a run is to be started, which then counts as running; false if its
 * last one still runs. */
bool alarm_come(struct alarm *alarm, uint64_t now_ns);
/* A run of it has ended. `is_final` is false if the server stopped it: then `once` stays due. */
void alarm_ended(struct alarm *alarm, uint64_t now_ns, bool is_good, bool is_final);
/* The clock shows so much less than it did. */
void alarm_clock_set_back(struct alarm *alarm, uint64_t now_ns, uint64_t by_ns);
/* Whether it will never come again by itself. */
static inline bool alarm_is_over(const struct alarm *alarm) {
    return alarm->next_ns == 0 && !alarm->is_running;
}

/* Remembers how it went, in a line of printable characters. */
void alarm_add_result(struct alarm *alarm, struct str line);
/* What reading it shows: facts as "name: value" lines, an empty line, its input. `run_id` is that
 * of the run that goes on, or 0. */
MUST_USE enum err alarm_show(const struct alarm *alarm, uint64_t run_id, struct buf *text);
