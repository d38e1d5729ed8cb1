/* The clock of alarms, the apps that have some, and looking at them. */
#include "run/alarms_internal.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Apps that are looked at at the same time: a volume each is opened. */
#define LOOKS_MAX 8
/* A clock that is set back by less is only being adjusted. */
#define SET_BACK_MIN_NS NS_PER_S

const struct who alarms_who = {.owner_id = 1, .may_control = true};

/* Looking at an app: opens its volume, and begins what is due. */
struct look {
    struct list link;
    struct alarms *alarms;
    struct alarm_app *entry;
    struct op op;
    struct app *app; /* a reference */
    struct volume *volume;
    uint64_t set_back_ns;
    uint64_t now_ns, wake_ns;
    struct list begun;  /* struct firing: what is to be started */
    bool is_incomplete; /* there was no memory for one */
};

/* ---- the clock --------------------------------------------------------------------------------
 */

static uint64_t system_now_ns(void *context) {
    (void)context;
    return clock_realtime_ns();
}

/* The timer is told when somebody sets the clock, so that nothing has to look now and then. */
static void system_wake_at(void *context, uint64_t realtime_ns) {
    struct alarms *alarms = context;
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(realtime_ns / NS_PER_S),
                                           .tv_nsec = (long)(realtime_ns % NS_PER_S)}};
    if (timerfd_settime(alarms->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec, NULL)) {
        log_error("the timer of alarms can't be set: %s", strerror(errno));
    }
}

static void timer_is_readable(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch, (void)events;
    struct alarms *alarms = argument;
    uint64_t count;
    ssize_t got = read(alarms->timer, &count, sizeof count);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    alarms->armed_ns = 0;
    alarms_tick(alarms);
}

static enum err open_timer(struct alarms *alarms, struct buf *message) {
    alarms->timer = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    enum err err = alarms->timer >= 0 ? ERR_OK : err_from_errno(errno);
    if (!err) {
        err = loop_watch_new(alarms->options.loop, alarms->timer, LOOP_READABLE, timer_is_readable,
                             alarms, &alarms->watch);
    }
    alarms->clock = (struct alarms_clock){alarms, system_now_ns, system_wake_at};
    return err ? buf_fail(message, err, "the timer of alarms can't be made: %s", err_text(err))
               : ERR_OK;
}

/* Not later than this. */
static void arm(struct alarms *alarms, uint64_t wake_ns) {
    if (wake_ns && (!alarms->armed_ns || wake_ns < alarms->armed_ns)) {
        alarms->armed_ns = wake_ns;
        alarms->clock.wake_at(alarms->clock.context, wake_ns);
    }
}

/* ---- apps -------------------------------------------------------------------------------------
 */

static enum err get_entry(struct alarms *alarms, int64_t app_id, struct alarm_app **ret_entry) {
    struct map_node *node = map_find(&alarms->apps, MAP_KEY(app_id));
    if (node) {
        *ret_entry = CONTAINER_OF(node, struct alarm_app, node);
        return ERR_OK;
    }
    struct alarm_app *entry = calloc(1, sizeof *entry);
    if (!entry) {
        return ERR_NOMEM;
    }
    entry->app_id = app_id;
    list_init(&entry->wait_link);
    enum err err = map_insert(&alarms->apps, &entry->node, MAP_KEY(entry->app_id));
    if (err) {
        free(entry);
        return err;
    }
    *ret_entry = entry;
    return ERR_OK;
}

static void forget_entry(struct alarms *alarms, struct alarm_app *entry) {
    list_remove(&entry->wait_link);
    map_remove(&alarms->apps, &entry->node);
    free(entry);
}

static void want_look(struct alarms *alarms, struct alarm_app *entry) {
    if (list_is_empty(&entry->wait_link)) {
        list_append(&alarms->waiting, &entry->wait_link);
    }
}

void alarms_want_look(struct alarms *alarms, int64_t app_id) {
    struct alarm_app *entry;
    if (!alarms->stopped && get_entry(alarms, app_id, &entry) == ERR_OK) {
        want_look(alarms, entry);
        alarms_begin_looks(alarms);
    }
}

void alarms_tick(struct alarms *alarms) {
    if (alarms->stopped) {
        return;
    }
    uint64_t now = alarms_now_ns(alarms), next = 0;
    uint64_t back = alarms->last_now_ns > now ? alarms->last_now_ns - now : 0;
    alarms->last_now_ns = now;
    alarms->armed_ns = 0;
    for (struct map_node *node = map_next(&alarms->apps, NULL); node;
         node = map_next(&alarms->apps, node)) {
        struct alarm_app *entry = CONTAINER_OF(node, struct alarm_app, node);
        if (back >= SET_BACK_MIN_NS) {
            entry->set_back_ns += back;
            want_look(alarms, entry);
        } else if (entry->wake_ns && entry->wake_ns <= now) {
            entry->wake_ns = 0;
            want_look(alarms, entry);
        } else if (entry->wake_ns && (!next || entry->wake_ns < next)) {
            next = entry->wake_ns;
        }
    }
    arm(alarms, next);
    alarms_begin_looks(alarms);
}

/* ---- looking at an app ------------------------------------------------------------------------
 */

static void look_free(struct look *look) {
    op_done(&look->op);
    while (!list_is_empty(&look->begun)) {
        struct firing *firing = CONTAINER_OF(look->begun.next, struct firing, link);
        list_remove(&firing->link);
        firing_free(firing);
    }
    volume_unref(look->volume);
    app_unref(look->app);
    list_remove(&look->link);
    free(look);
}

static enum alarm_visit look_at(void *argument, struct alarm *alarm) {
    struct look *look = argument;
    enum alarm_visit visit = ALARM_SEEN;
    if (look->set_back_ns) {
        alarm_clock_set_back(alarm, look->now_ns, look->set_back_ns);
        visit = ALARM_CHANGED;
    }
    if (alarm_is_due(alarm, look->now_ns)) {
        struct firing *firing =
            firing_new(look->alarms, look->app, look->volume, alarm, look->now_ns);
        if (firing) {
            firing->is_skipped = !alarm_come(alarm, look->now_ns);
            list_append(&look->begun, &firing->link);
            visit = ALARM_CHANGED;
        } else {
            look->is_incomplete = true;
        }
    }
    uint64_t wake_ns = alarm_wake_ns(alarm);
    if (wake_ns && (!look->wake_ns || wake_ns < look->wake_ns)) {
        look->wake_ns = wake_ns;
    }
    return visit;
}

static enum err look_step(struct look *look) {
    struct alarms *alarms = look->alarms;
    if (!look->app &&
        catalog_find_id(alarms->options.catalog, look->entry->app_id, &look->app) != ERR_OK) {
        return ERR_NOENT;
    }
    if (!look->volume) {
        enum err err =
            catalog_app_volume(&look->op, alarms->options.catalog, look->app, &look->volume, NULL);
        if (err) {
            return err;
        }
    }
    look->now_ns = alarms_now_ns(alarms);
    look->wake_ns = 0;
    return volume_alarms_visit(&look->op, look->volume, look_at, look);
}

static void look_wake(struct op *op) {
    struct look *look = CONTAINER_OF(op, struct look, op);
    struct alarms *alarms = look->alarms;
    struct alarm_app *entry = look->entry;
    enum err err = look_step(look);
    if (err == ERR_PENDING) {
        return;
    }
    entry->look = NULL;
    alarms->look_count--;
    entry->wake_ns = look->wake_ns;
    if (err && err != ERR_NOENT) {
        log_error("the alarms of the app %" PRId64 " can't be read: %s", entry->app_id,
                  err_text(err));
    }
    if (look->is_incomplete) {
        entry->wake_ns = look->now_ns + NS_PER_S;
    }
    arm(alarms, entry->wake_ns);
    if (entry->look_again) {
        entry->look_again = false;
        want_look(alarms, entry);
    }
    if (err == ERR_NOENT) { /* the app is gone */
        forget_entry(alarms, entry);
    }
    while (!list_is_empty(&look->begun)) {
        struct firing *firing = CONTAINER_OF(look->begun.next, struct firing, link);
        list_remove(&firing->link);
        firing_start(firing);
    }
    look_free(look);
    alarms_begin_looks(alarms);
}

static enum err look_new(struct alarms *alarms, struct alarm_app *entry) {
    struct look *look = calloc(1, sizeof *look);
    if (!look) {
        return ERR_NOMEM;
    }
    look->alarms = alarms;
    look->entry = entry;
    look->set_back_ns = entry->set_back_ns;
    entry->set_back_ns = 0;
    list_init(&look->begun);
    list_append(&alarms->looks, &look->link);
    op_init(&look->op, alarms->options.loop, &alarms_who, look_wake);
    entry->look = look;
    alarms->look_count++;
    op_wake(&look->op);
    return ERR_OK;
}

void alarms_begin_looks(struct alarms *alarms) {
    while (alarms->look_count < LOOKS_MAX && !list_is_empty(&alarms->waiting) && !alarms->stopped) {
        struct alarm_app *entry = CONTAINER_OF(alarms->waiting.next, struct alarm_app, wait_link);
        list_remove(&entry->wait_link);
        if (entry->look) {
            entry->look_again = true;
        } else if (look_new(alarms, entry) != ERR_OK) {
            entry->wake_ns = alarms_now_ns(alarms) + NS_PER_S;
            arm(alarms, entry->wake_ns);
        }
    }
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

static enum err add_at_start(void *argument, int64_t app_id) {
    struct alarms *alarms = argument;
    struct alarm_app *entry;
    enum err err = get_entry(alarms, app_id, &entry);
    if (!err) {
        want_look(alarms, entry);
        alarms_note(alarms, app_id);
    }
    return err;
}

enum err alarms_new(const struct alarms_options *options, struct alarms **ret_alarms,
                    struct buf *message) {
    struct alarms *alarms = calloc(1, sizeof *alarms);
    if (!alarms) {
        return ERR_NOMEM;
    }
    alarms->options = *options;
    alarms->timer = -1;
    pthread_mutex_init(&alarms->mutex, NULL);
    list_init(&alarms->waiting);
    list_init(&alarms->looks);
    list_init(&alarms->firings);
    list_init(&alarms->told);
    list_init(&alarms->laters);
    alarms->post.run = alarms_take_post;
    enum err err = ERR_OK;
    if (options->clock) {
        alarms->clock = *options->clock;
    } else {
        err = open_timer(alarms, message);
    }
    if (!err) {
        err = catalog_each_with_alarms(options->catalog, add_at_start, alarms);
        if (err) {
            (void)buf_fail(message, err, "catalog.db does not say which apps have alarms: %s",
                           err_text(err));
        }
    }
    if (err) {
        alarms_stop(alarms);
        alarms_free(alarms);
        return err;
    }
    alarms->last_now_ns = alarms_now_ns(alarms);
    alarms_begin_looks(alarms);
    *ret_alarms = alarms;
    return ERR_OK;
}

void alarms_quiesce(struct alarms *alarms) {
    alarms->stopped = true;
}

void alarms_stop(struct alarms *alarms) {
    if (!alarms) {
        return;
    }
    alarms->stopped = true;
    while (!list_is_empty(&alarms->looks)) {
        look_free(CONTAINER_OF(alarms->looks.next, struct look, link));
    }
    while (!list_is_empty(&alarms->firings)) {
        struct firing *firing = CONTAINER_OF(alarms->firings.next, struct firing, link);
        list_remove(&firing->link);
        firing_free(firing);
    }
    alarms_stop_setting(alarms);
    loop_watch_free(STEAL(alarms->watch));
    if (alarms->timer >= 0) {
        close(alarms->timer);
        alarms->timer = -1;
    }
}

void alarms_free(struct alarms *alarms) {
    if (!alarms) {
        return;
    }
    struct map_node *node;
    while ((node = map_next(&alarms->apps, NULL))) {
        forget_entry(alarms, CONTAINER_OF(node, struct alarm_app, node));
    }
    alarms_done_setting(alarms);
    map_done(&alarms->apps);
    pthread_mutex_destroy(&alarms->mutex);
    free(alarms);
}
