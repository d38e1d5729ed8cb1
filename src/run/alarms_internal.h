/* What the files of alarms share: alarms.c has the clock, the apps, and looks at them; alarms_run.c
 * has the runs of alarms; alarms_set.c what others tell. Nobody else includes this. */
#pragma once

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "run/alarms.h"
#include "store/volume_alarm.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

/* For whom the looking and running is done. */
extern const struct who alarms_who;

/* An app that may have alarms. */
struct alarm_app {
    struct map_node node;
    int64_t app_id;
    uint64_t wake_ns;      /* when to look at it; 0: when told to */
    uint64_t set_back_ns;  /* the clock was set back by so much since it was looked at */
    struct list wait_link; /* alarms->waiting: to be looked at */
    struct look *look;     /* it is being looked at */
    bool look_again;       /* and must be once more */
};

/* A run of an alarm, from its start until its result is kept. */
struct firing {
    struct list link; /* a look's, then alarms->firings */
    struct alarms *alarms;
    struct op op;
    struct app *app;       /* a reference */
    struct volume *volume; /* a reference */
    uint64_t serial;
    char name[ALARM_NAME_MAX + 1];
    uint64_t started_ns;
    struct buf input;
    size_t written;
    struct run *run; /* a reference; NULL if it could not be started */
    bool is_skipped; /* the last one still runs */
    bool is_written, has_ended;
    char result[ALARM_RESULT_BYTES_MAX];
};

struct alarms {
    struct alarms_options options;
    struct alarms_clock clock;
    int timer; /* a descriptor, or -1 */
    struct loop_watch *watch;
    uint64_t armed_ns;    /* wake_at was called for */
    uint64_t last_now_ns; /* what the clock showed last */
    struct map apps;      /* struct alarm_app by id */
    struct list waiting;
    struct list looks;
    size_t look_count;
    bool stopped;

    /* Guards the following, which other threads use. Taken after a volume's. */
    pthread_mutex_t mutex;
    struct list firings;
    struct map noted;      /* apps that catalog.db has noted */
    struct list told;      /* apps to be looked at, for the loop */
    struct list laters;    /* alarms to be set, for the loop, or on their way */
    struct loop_post post; /* takes them there */
    bool is_posted;
};

static inline uint64_t alarms_now_ns(const struct alarms *alarms) {
    return alarms->clock.now_ns(alarms->clock.context);
}
/* alarms.c: has the app looked at, and looks as far as may be. */
void alarms_want_look(struct alarms *alarms, int64_t app_id);
void alarms_begin_looks(struct alarms *alarms);

/* alarms_run.c. With the volume locked; NULL: no memory. */
struct firing *firing_new(struct alarms *alarms, struct app *app, struct volume *volume,
                          const struct alarm *alarm, uint64_t now_ns);
/* Starts the run, or only keeps the result if it is skipped. */
void firing_start(struct firing *firing);
void firing_free(struct firing *firing);

/* alarms_set.c. */
/* That catalog.db has noted the app. */
void alarms_note(struct alarms *alarms, int64_t app_id);
/* On the loop: what others have told. */
void alarms_take_post(struct loop_post *post);
/* Ends what is under way; no other thread is left. */
void alarms_stop_setting(struct alarms *alarms);
void alarms_done_setting(struct alarms *alarms);
