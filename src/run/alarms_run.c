/* The runs of alarms: from their start until it is kept what became of them. */
#include "run/alarms_internal.h"

void firing_free(struct firing *firing) {
    op_done(&firing->op);
    run_unref(firing->run);
    volume_unref(firing->volume);
    app_unref(firing->app);
    buf_done(&firing->input);
    free(firing);
}

static void say(const struct firing *firing, const char *text) {
    struct applog_set *logs = firing->alarms->options.logs;
    struct applog *log;
    if (logs && applog_get(logs, firing->app->id, &log) == ERR_OK) {
        char line[ALARM_RESULT_BYTES_MAX + ALARM_NAME_MAX + 16];
        int length = snprintf(line, sizeof line, "alarm %s: %s", firing->name, text);
        uint64_t id = firing->run ? run_id(firing->run) : 0;
        applog_append(log, alarms_now_ns(firing->alarms), id, "sys",
                      (struct str){line, (size_t)length});
        applog_unref(log);
    }
}

static enum alarm_visit keep_result(void *argument, struct alarm *alarm) {
    struct firing *firing = argument;
    if (alarm->serial != firing->serial) {
        return ALARM_SEEN;
    }
    alarm_add_result(alarm, str_of(firing->result));
    if (firing->is_skipped) {
        return ALARM_CHANGED;
    }
    bool is_good = false, is_final = !firing->alarms->stopped;
    if (firing->run) {
        struct run_status status = run_status(firing->run);
        is_good = status.reason == RUN_REASON_EXIT && status.exit_status == 0;
        is_final = status.reason != RUN_REASON_SHUTDOWN;
    }
    alarm_ended(alarm, alarms_now_ns(firing->alarms), is_good, is_final);
    return ALARM_CHANGED;
}

static void describe_end(struct firing *firing) {
    struct run_status status = run_status(firing->run);
    char time[CLOCK_TEXT_SIZE];
    clock_format_utc(firing->started_ns, time);
    snprintf(firing->result, sizeof firing->result, "%s run %" PRIu64 " exit %d reason %s", time,
             status.id, status.exit_status, run_reason_text(status.reason));
}

/* Writes the input, waits for the end, keeps the result. */
static enum err firing_step(struct firing *firing) {
    while (firing->run && !firing->is_written) {
        size_t written = 0;
        enum err err = ERR_OK;
        if (firing->written < firing->input.length) {
            err = run_stdin_write(&firing->op, firing->run, firing->input.data + firing->written,
                                  firing->input.length - firing->written, &written);
        }
        if (err == ERR_PENDING) {
            return err;
        }
        firing->written += written;
        if (err || firing->written == firing->input.length) { /* it may have ended already */
            run_stdin_close(firing->run);
            firing->is_written = true;
        }
    }
    if (firing->run && !firing->has_ended) {
        enum err err = run_wait(&firing->op, firing->run);
        if (err == ERR_PENDING) {
            return err;
        }
        firing->has_ended = true;
        describe_end(firing);
    }
    return volume_alarms_visit(&firing->op, firing->volume, keep_result, firing);
}

static void firing_wake(struct op *op) {
    struct firing *firing = CONTAINER_OF(op, struct firing, op);
    struct alarms *alarms = firing->alarms;
    enum err err = firing_step(firing);
    if (err == ERR_PENDING) {
        return;
    }
    if (err) {
        log_error("what became of the alarm '%s' of '%s' is lost: %s", firing->name,
                  firing->app->name, err_text(err));
    }
    int64_t app_id = firing->app->id;
    pthread_mutex_lock(&alarms->mutex);
    list_remove(&firing->link);
    pthread_mutex_unlock(&alarms->mutex);
    firing_free(firing);
    alarms_want_look(alarms, app_id); /* it may be tried again */
}

struct firing *firing_new(struct alarms *alarms, struct app *app, struct volume *volume,
                          const struct alarm *alarm, uint64_t now_ns) {
    struct firing *firing = calloc(1, sizeof *firing);
    if (!firing) {
        return NULL;
    }
    if (alarm->input.length > 0 && buf_append_str(&firing->input, buf_str(&alarm->input))) {
        free(firing);
        return NULL;
    }
    list_init(&firing->link);
    firing->alarms = alarms;
    firing->app = app_ref(app);
    firing->volume = volume_ref(volume);
    firing->serial = alarm->serial;
    firing->started_ns = now_ns;
    memcpy(firing->name, alarm->name, sizeof firing->name);
    op_init(&firing->op, alarms->options.loop, &alarms_who, firing_wake);
    return firing;
}

void firing_start(struct firing *firing) {
    struct alarms *alarms = firing->alarms;
    pthread_mutex_lock(&alarms->mutex);
    list_append(&alarms->firings, &firing->link);
    pthread_mutex_unlock(&alarms->mutex);
    char time[CLOCK_TEXT_SIZE];
    clock_format_utc(firing->started_ns, time);
    if (firing->is_skipped) {
        snprintf(firing->result, sizeof firing->result, "%s skipped: the last run goes on", time);
        say(firing, "skipped: the last run goes on");
    } else {
        char variable[ALARM_NAME_MAX + 8], tag[ALARM_NAME_MAX + 8];
        snprintf(variable, sizeof variable, "ALARM=%s", firing->name);
        snprintf(tag, sizeof tag, "alarm:%s", firing->name);
        const struct str variables[] = {str_of(variable)}, tags[] = {str_of(tag)};
        const struct run_request request = {.app = firing->app,
                                            .environment = variables,
                                            .environment_count = 1,
                                            .tags = tags,
                                            .tag_count = 1,
                                            .detached = true,
                                            .stdin_open = true};
        cleanup_buf struct buf message = {0};
        struct run *run = NULL;
        enum err err =
            run_start(alarms->options.runs, alarms->options.loop, &request, &run, &message);
        pthread_mutex_lock(&alarms->mutex);
        firing->run = run;
        pthread_mutex_unlock(&alarms->mutex);
        if (err) {
            const char *why = message.length ? buf_text(&message) : err_text(err);
            snprintf(firing->result, sizeof firing->result, "%s not started: %.150s", time, why);
            say(firing, firing->result + strlen(time) + 1);
        } else {
            say(firing, "its time has come");
        }
    }
    op_wake(&firing->op);
}

uint64_t alarms_run_id(struct alarms *alarms, uint64_t serial) {
    uint64_t id = 0;
    pthread_mutex_lock(&alarms->mutex);
    LIST_FOR_EACH (link, &alarms->firings) {
        const struct firing *firing = CONTAINER_OF(link, struct firing, link);
        if (firing->serial == serial && firing->run) {
            id = run_id(firing->run);
        }
    }
    pthread_mutex_unlock(&alarms->mutex);
    return id;
}
