#include "store/alarm.h"

#include "base/clock.h"

#include <inttypes.h>

#define SET_BACK_MAX_NS (3 * UINT64_C(3600) * NS_PER_S)

static const uint64_t retry_delays_ns[ALARM_RETRIES] = {60 * NS_PER_S, 10 * UINT64_C(60) * NS_PER_S,
                                                        UINT64_C(3600) * NS_PER_S};

enum err alarm_name_check(struct str name, struct buf *message) {
    bool good = name.length >= 1 && name.length <= ALARM_NAME_MAX && name.data[0] != '.';
    for (size_t i = 0; good && i < name.length; i++) {
        char c = name.data[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.';
    }
    return good ? ERR_OK
                : buf_fail(message, ERR_INVAL,
                           "the name of an alarm is 1 to %d of A-Z a-z 0-9 _ - . and does not "
                           "begin with a dot",
                           ALARM_NAME_MAX);
}

static struct str without_return(struct str line) {
    line.length -= line.length > 0 && line.data[line.length - 1] == '\r';
    return line;
}

static enum err alarm_alloc(struct str name, struct str line, struct str input,
                            struct alarm **ret_alarm) {
    struct alarm *alarm = calloc(1, sizeof *alarm);
    if (!alarm) {
        return ERR_NOMEM;
    }
    memcpy(alarm->name, name.data, name.length);
    if (line.length > 0) {
        memcpy(alarm->line, line.data, line.length);
    }
    enum err err = input.length > 0 ? buf_append_str(&alarm->input, input) : ERR_OK;
    if (err) {
        alarm_free(alarm);
        return err;
    }
    *ret_alarm = alarm;
    return ERR_OK;
}

void alarm_free(struct alarm *alarm) {
    if (alarm) {
        buf_done(&alarm->input);
        free(alarm);
    }
}

enum err alarm_new(struct str name, struct str text, uint64_t now_ns, struct alarm **ret_alarm,
                   struct buf *message) {
    struct str input = text;
    struct str line = without_return(str_cut(&input, '\n'));
    struct schedule schedule;
    enum err err = alarm_name_check(name, message);
    err = err ? err : schedule_parse(line, &schedule, message);
    if (err) {
        return err;
    }
    if (input.length > ALARM_INPUT_BYTES_MAX) {
        return buf_fail(message, ERR_FBIG, "the input of an alarm has at most %d bytes",
                        ALARM_INPUT_BYTES_MAX);
    }
    uint64_t next_ns = schedule_next(&schedule, now_ns, now_ns);
    if (!next_ns) {
        return buf_fail(message, ERR_INVAL, "that time has passed");
    }
    err = alarm_alloc(name, line, input, ret_alarm);
    if (!err) {
        (*ret_alarm)->schedule = schedule;
        (*ret_alarm)->set_ns = now_ns;
        (*ret_alarm)->next_ns = next_ns;
    }
    return err;
}

enum err alarm_load(struct str name, struct str line, struct str input, uint64_t set_ns,
                    uint64_t next_ns, uint64_t attempts, struct str results,
                    struct alarm **ret_alarm) {
    if (alarm_name_check(name, NULL) || line.length > SCHEDULE_LINE_MAX ||
        input.length > ALARM_INPUT_BYTES_MAX || attempts > ALARM_RETRIES + 1) {
        return ERR_IO;
    }
    struct alarm *alarm;
    enum err err = alarm_alloc(name, line, input, &alarm);
    if (err) {
        return err;
    }
    alarm->set_ns = set_ns;
    alarm->next_ns = next_ns;
    alarm->attempts = (unsigned)attempts;
    alarm->is_broken = schedule_parse(line, &alarm->schedule, NULL) != ERR_OK;
    /* Added from the oldest on. */
    struct str lines[ALARM_RESULTS_MAX];
    size_t count = 0;
    while (results.length > 0 && count < ALARM_RESULTS_MAX) {
        lines[count++] = str_cut(&results, '\n');
    }
    while (count > 0) {
        if (lines[--count].length > 0) {
            alarm_add_result(alarm, lines[count]);
        }
    }
    *ret_alarm = alarm;
    return ERR_OK;
}

enum err alarm_results_text(const struct alarm *alarm, struct buf *ret_text) {
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ALARM_RESULTS_MAX && alarm->results[i][0]; i++) {
        err = buf_printf(ret_text, "%s\n", alarm->results[i]);
    }
    return err;
}

/* --- what follows from the time --------------------------------------------------------------- */

uint64_t alarm_wake_ns(const struct alarm *alarm) {
    bool waits_for_its_end = alarm->schedule.kind == SCHEDULE_ONCE && alarm->is_running;
    return alarm->is_broken || waits_for_its_end ? 0 : alarm->next_ns;
}

bool alarm_come(struct alarm *alarm, uint64_t now_ns) {
    if (alarm->schedule.kind != SCHEDULE_ONCE) {
        alarm->next_ns = schedule_next(&alarm->schedule, alarm->set_ns, now_ns);
    }
    bool start = !alarm->is_running;
    alarm->is_running = true;
    return start;
}

void alarm_ended(struct alarm *alarm, uint64_t now_ns, bool is_good, bool is_final) {
    alarm->is_running = false;
    if (alarm->schedule.kind != SCHEDULE_ONCE || !is_final) {
        return;
    }
    alarm->attempts += !is_good;
    bool again = !is_good && alarm->attempts <= ALARM_RETRIES;
    alarm->next_ns = again ? now_ns + retry_delays_ns[alarm->attempts - 1] : 0;
}

void alarm_clock_set_back(struct alarm *alarm, uint64_t now_ns, uint64_t by_ns) {
    if (alarm->is_broken || alarm->next_ns == 0 || alarm->schedule.kind == SCHEDULE_ONCE) {
        return;
    }
    if (alarm->schedule.kind == SCHEDULE_EVERY) {
        if (alarm->next_ns > now_ns + alarm->schedule.period_ns) {
            alarm->set_ns = now_ns; /* counts from now */
            alarm->next_ns = now_ns + alarm->schedule.period_ns;
        }
        return;
    }
    if (by_ns > SET_BACK_MAX_NS) {
        alarm->next_ns = schedule_next(&alarm->schedule, alarm->set_ns, now_ns);
    }
}

/* --- results ---------------------------------------------------------------------------------- */

void alarm_add_result(struct alarm *alarm, struct str line) {
    memmove(alarm->results[1], alarm->results[0], sizeof alarm->results - sizeof alarm->results[0]);
    size_t length = MIN(line.length, ALARM_RESULT_BYTES_MAX - 1);
    for (size_t i = 0; i < length; i++) {
        char c = line.data[i];
        alarm->results[0][i] = c >= 0x20 && c <= 0x7e ? c : '?';
    }
    alarm->results[0][length] = 0;
}

static enum err show_times(const struct alarm *alarm, struct buf *text) {
    uint64_t next_ns = alarm->next_ns;
    enum err err = ERR_OK;
    for (int i = 0; !err && next_ns && i < 3; i++) {
        char time[CLOCK_TEXT_SIZE];
        clock_format_utc(next_ns, time);
        err = buf_printf(text, "next: %s\n", time);
        next_ns = alarm->schedule.kind == SCHEDULE_ONCE
                      ? 0
                      : schedule_next(&alarm->schedule, alarm->set_ns, next_ns);
    }
    return err;
}

/* They are kept in the order in which they came, when a run had ended; each begins with the time
 * when it started, and by that they are shown, the latest first. */
static enum err show_results(const struct alarm *alarm, struct buf *text) {
    const char *sorted[ALARM_RESULTS_MAX];
    size_t count = 0;
    for (; count < ALARM_RESULTS_MAX && alarm->results[count][0]; count++) {
        const char *line = alarm->results[count];
        size_t at = count;
        for (; at > 0 && strncmp(sorted[at - 1], line, CLOCK_TEXT_SIZE - 1) < 0; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = line;
    }
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < count; i++) {
        err = buf_printf(text, "last: %s\n", sorted[i]);
    }
    return err;
}

enum err alarm_show(const struct alarm *alarm, uint64_t run_id, struct buf *text) {
    enum err err = buf_printf(text, "when: %s\n", alarm->line);
    if (!err && alarm->is_broken) {
        cleanup_buf struct buf message = {0};
        struct schedule schedule;
        (void)!schedule_parse(str_of(alarm->line), &schedule, &message);
        err = buf_printf(text, "state: broken, %s\n", buf_text(&message));
    } else if (!err && alarm->is_running) {
        err = run_id ? buf_printf(text, "state: run %" PRIu64 "\n", run_id)
                     : buf_printf(text, "state: starting\n");
    } else if (!err && alarm->attempts > 0 && alarm->next_ns) {
        err = buf_printf(text, "state: failed, tried again (%u of %d)\n", alarm->attempts,
                         ALARM_RETRIES);
    } else if (!err) {
        err = buf_printf(text, "state: %s\n", alarm->next_ns ? "waiting" : "over");
    }
    err = err || alarm->is_broken ? err : show_times(alarm, text);
    err = err ? err : show_results(alarm, text);
    err = err ? err : buf_append_byte(text, '\n');
    return err || alarm->input.length == 0 ? err : buf_append_str(text, buf_str(&alarm->input));
}
