/* What others tell: alarms to be set, apps to be looked at. */
#include "run/alarms_internal.h"

/* ---- what other threads tell ------------------------------------------------------------------
 */

struct told {
    struct list link;
    int64_t app_id;
};

/* An alarm that was written by a guest that ended without closing the file. If it ended by itself,
 * it has written all that it wanted. */
struct later {
    struct list link; /* alarms->laters */
    struct alarms *alarms;
    struct op op;
    struct who who;
    struct app *app; /* a reference */
    struct buf name, text, message;
    struct run *run; /* a reference: the guest's run, once it was found */
    bool has_begun, run_has_ended;
};

static void later_free(struct later *later) {
    if (later->has_begun) {
        op_done(&later->op);
    }
    run_unref(later->run);
    app_unref(later->app);
    buf_done(&later->name);
    buf_done(&later->text);
    buf_done(&later->message);
    free(later);
}

static enum err wait_for_guest(struct later *later) {
    struct runs *runs = later->alarms->options.runs;
    if (later->who.run_id && !later->run_has_ended) {
        if (!later->run && runs_find(runs, later->who.run_id, &later->run) != ERR_OK) {
            return buf_fail(&later->message, ERR_CANCELED, "its run is forgotten already");
        }
        enum err err = run_wait(&later->op, later->run);
        if (err) {
            return err;
        }
        if (run_status(later->run).reason != RUN_REASON_EXIT) {
            return buf_fail(&later->message, ERR_CANCELED,
                            "the program was ended before it had closed the file");
        }
        later->run_has_ended = true;
    }
    return ERR_OK;
}

static void later_wake(struct op *op) {
    struct later *later = CONTAINER_OF(op, struct later, op);
    struct alarms *alarms = later->alarms;
    enum err err = wait_for_guest(later);
    if (!err) {
        err = alarms_set(op, alarms, later->app, buf_str(&later->name), buf_str(&later->text));
    }
    if (err == ERR_PENDING) {
        return;
    }
    struct applog *log;
    if (err && alarms->options.logs &&
        applog_get(alarms->options.logs, later->app->id, &log) == ERR_OK) {
        cleanup_buf struct buf line = {0};
        const char *why = later->message.length ? buf_text(&later->message) : err_text(err);
        if (buf_printf(&line, "alarm %s was not set: %s", buf_text(&later->name), why) == ERR_OK) {
            applog_append(log, alarms_now_ns(alarms), later->who.run_id, "sys", buf_str(&line));
        }
        applog_unref(log);
    }
    pthread_mutex_lock(&alarms->mutex);
    list_remove(&later->link);
    pthread_mutex_unlock(&alarms->mutex);
    later_free(later);
}

/* On the loop. */
void alarms_take_post(struct loop_post *post) {
    struct alarms *alarms = CONTAINER_OF(post, struct alarms, post);
    struct list told_now;
    list_init(&told_now);
    pthread_mutex_lock(&alarms->mutex);
    alarms->is_posted = false;
    while (!list_is_empty(&alarms->told)) {
        struct told *told = CONTAINER_OF(alarms->told.next, struct told, link);
        list_remove(&told->link);
        list_append(&told_now, &told->link);
    }
    LIST_FOR_EACH (link, &alarms->laters) {
        struct later *later = CONTAINER_OF(link, struct later, link);
        if (!later->has_begun && !alarms->stopped) {
            op_init(&later->op, alarms->options.loop, &later->who, later_wake);
            later->op.message = &later->message;
            later->has_begun = true;
            op_wake(&later->op);
        }
    }
    pthread_mutex_unlock(&alarms->mutex);
    while (!list_is_empty(&told_now)) {
        struct told *told = CONTAINER_OF(told_now.next, struct told, link);
        list_remove(&told->link);
        alarms_want_look(alarms, told->app_id);
        free(told);
    }
}

/* With the mutex held. */
static void send_post(struct alarms *alarms) {
    if (!alarms->is_posted) {
        alarms->is_posted = true;
        loop_post(alarms->options.loop, &alarms->post);
    }
}

void alarms_look(struct alarms *alarms, int64_t app_id) {
    struct told *told = malloc(sizeof *told);
    if (!told) {
        log_error("no memory: the alarms of an app are not looked at until it is started again");
        return;
    }
    told->app_id = app_id;
    list_init(&told->link);
    pthread_mutex_lock(&alarms->mutex);
    list_append(&alarms->told, &told->link);
    send_post(alarms);
    pthread_mutex_unlock(&alarms->mutex);
}

void alarms_set_later(struct alarms *alarms, const struct who *whose, struct app *app,
                      struct str name, struct str text) {
    struct later *later = calloc(1, sizeof *later);
    if (!later) {
        return;
    }
    list_init(&later->link);
    later->alarms = alarms;
    later->who = *whose;
    later->app = app_ref(app);
    if (buf_append_str(&later->name, name) || buf_append_str(&later->text, text)) {
        later_free(later);
        return;
    }
    pthread_mutex_lock(&alarms->mutex);
    list_append(&alarms->laters, &later->link);
    send_post(alarms);
    pthread_mutex_unlock(&alarms->mutex);
}

/* ---- setting one ------------------------------------------------------------------------------
 */

struct noted {
    struct map_node node;
    int64_t app_id;
};

static bool is_noted(struct alarms *alarms, int64_t app_id) {
    pthread_mutex_lock(&alarms->mutex);
    bool found = map_find(&alarms->noted, MAP_KEY(app_id)) != NULL;
    pthread_mutex_unlock(&alarms->mutex);
    return found;
}

/* Without memory it is asked for again the next time. */
void alarms_note(struct alarms *alarms, int64_t app_id) {
    struct noted *noted = malloc(sizeof *noted);
    if (!noted) {
        return;
    }
    noted->app_id = app_id;
    pthread_mutex_lock(&alarms->mutex);
    enum err err = map_insert(&alarms->noted, &noted->node, MAP_KEY(noted->app_id));
    pthread_mutex_unlock(&alarms->mutex);
    if (err) {
        free(noted);
    }
}

struct setting {
    struct op child;
    struct alarm *alarm; /* owned, until the volume has it */
    struct volume *volume;
    bool is_noted;
};

static void drop_setting(struct op *op) {
    struct setting *setting = op->state;
    op_done(&setting->child);
    alarm_free(setting->alarm);
    volume_unref(setting->volume);
    free(setting);
}

/* That the app has alarms is on disk before the alarm is: or a start would not look. */
static enum err setting_step(struct setting *setting, struct alarms *alarms, struct app *app) {
    struct op *op = &setting->child;
    enum err err = ERR_OK;
    if (!setting->is_noted) {
        err = is_noted(alarms, app->id) ? ERR_OK
                                        : catalog_note_alarms(op, alarms->options.catalog, app->id);
        if (err) {
            return err;
        }
        alarms_note(alarms, app->id);
        setting->is_noted = true;
    }
    if (!setting->volume) {
        err = catalog_app_volume(op, alarms->options.catalog, app, &setting->volume, op->message);
        if (err) {
            return err;
        }
    }
    if (setting->alarm) {
        err = volume_alarm_set(op, setting->volume, setting->alarm);
        if (err) {
            return err;
        }
        setting->alarm = NULL;
        alarms_look(alarms, app->id);
    }
    return volume_sync(op, setting->volume);
}

enum err alarms_set(struct op *op, struct alarms *alarms, struct app *app, struct str name,
                    struct str text) {
    struct setting *setting = op->state;
    if (!setting) {
        struct alarm *alarm;
        enum err err = alarm_new(name, text, alarms_now_ns(alarms), &alarm, op->message);
        if (err) {
            return op_finish(op, err);
        }
        setting = calloc(1, sizeof *setting);
        if (!setting) {
            alarm_free(alarm);
            return op_finish(op, ERR_NOMEM);
        }
        setting->alarm = alarm;
        op_init_child(&setting->child, op);
        op_set_state(op, setting, drop_setting);
    }
    enum err err = setting_step(setting, alarms, app);
    return err == ERR_PENDING ? err : op_finish(op, err);
}

/* ---- the end ----------------------------------------------------------------------------------
 */

void alarms_stop_setting(struct alarms *alarms) {
    while (!list_is_empty(&alarms->laters)) {
        struct later *later = CONTAINER_OF(alarms->laters.next, struct later, link);
        list_remove(&later->link);
        later_free(later);
    }
}

void alarms_done_setting(struct alarms *alarms) {
    struct map_node *node;
    while ((node = map_next(&alarms->noted, NULL))) {
        map_remove(&alarms->noted, node);
        free(CONTAINER_OF(node, struct noted, node));
    }
    map_done(&alarms->noted);
    while (!list_is_empty(&alarms->told)) {
        struct told *told = CONTAINER_OF(alarms->told.next, struct told, link);
        list_remove(&told->link);
        free(told);
    }
}
