/* Alarms: has apps run when their alarms come (store/alarm.h has the rules, store/volume_alarm.h
 * keeps them).
 *
 * Belongs to one loop, and sleeps there until the next alarm of any app comes. In memory there is
 * when each app is to be looked at; what its alarms are is read from its volume then. At start
 * every app is looked at that may have alarms, a few at a time, so that a server with many of them
 * is ready at once.
 *
 * An alarm's run has its input as standard input, ALARM=NAME in its environment, the tag
 * alarm:NAME, and is detached. What becomes of it is kept with the alarm. After a crash an alarm
 * may come again that had come in the last second, and a `once` whose run had not ended.
 *
 * Thread: the loop's, unless said otherwise. Layer: store, run. */
#pragma once

#include "run/run.h"
#include "store/alarm.h"

struct alarms;

/* The clock behind a seam, for tests. */
struct alarms_clock {
    void *context;
    uint64_t (*now_ns)(void *context); /* realtime */
    /* Has alarms_tick called at this time, or when the clock was set; 0: at none. */
    void (*wake_at)(void *context, uint64_t realtime_ns);
};

struct alarms_options {
    /* All borrowed: they outlive it. `logs` may be NULL. */
    struct runs *runs;
    struct catalog *catalog;
    struct applog_set *logs;
    struct loop *loop;
    const struct alarms_clock *clock; /* NULL: the system's */
};
MUST_USE enum err alarms_new(const struct alarms_options *options, struct alarms **ret_alarms,
                             struct buf *message);
/* No alarm comes any more; what its runs come to is still kept. */
void alarms_quiesce(struct alarms *alarms);
/* Lets go of everything but its memory. Before what it borrows goes. */
void alarms_stop(struct alarms *alarms);
/* When the loop is gone, too. Accepts NULL. */
void alarms_free(struct alarms *alarms);
/* Looks whether anything has come. */
void alarms_tick(struct alarms *alarms);

/* For devices; any thread, polled. The text is that of the file: a line, and the input. On disk
 * when it returns OK; a failure has a message. */
MUST_USE enum err alarms_set(struct op *op, struct alarms *alarms, struct app *app, struct str name,
                             struct str text);
/* The same without anybody who waits: a failure is told in the app's log. */
void alarms_set_later(struct alarms *alarms, const struct who *who, struct app *app,
                      struct str name, struct str text);
/* Something about the app's alarms has changed, or was seen: it is looked at. */
void alarms_look(struct alarms *alarms, int64_t app_id);
/* The run that goes on for an alarm (struct alarm.serial), or 0. */
uint64_t alarms_run_id(struct alarms *alarms, uint64_t serial);
