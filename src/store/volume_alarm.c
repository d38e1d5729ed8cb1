#include "store/volume_alarm.h"

#include "store/volume_internal.h"

#include <inttypes.h>

/* What volume->alarms is: in the order of names. Those that are gone stay until the commit. */
struct volume_alarms {
    struct alarm *list[2 * VOLUME_ALARMS_MAX + 1];
    size_t count;
};

static atomic_uint_fast64_t next_serial = 1;

static uint64_t bytes_of(const struct alarm *alarm) {
    return strlen(alarm->name) + strlen(alarm->line) + alarm->input.length;
}

void volume_alarms_free(struct volume *volume) {
    struct volume_alarms *alarms = volume->alarms;
    for (size_t i = 0; alarms && i < alarms->count; i++) {
        alarm_free(alarms->list[i]);
    }
    free(alarms);
    volume->alarms = NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct str column_bytes(sqlite3_stmt *row, int column) {
    const void *data = sqlite3_column_blob(row, column);
    return (struct str){data ? data : "", (size_t)sqlite3_column_bytes(row, column)};
}

static enum err load_row(sqlite3_stmt *row, struct volume_alarms *alarms) {
    struct alarm *alarm;
    enum err err =
        alarms->count == VOLUME_ALARMS_MAX
            ? ERR_IO
            : alarm_load(column_bytes(row, 0), column_bytes(row, 1), column_bytes(row, 2),
                         volume_column(row, 3), volume_column(row, 4), volume_column(row, 5),
                         column_bytes(row, 6), &alarm);
    if (!err) {
        alarm->serial = atomic_fetch_add(&next_serial, 1);
        alarm->is_stored = true;
        alarms->list[alarms->count++] = alarm;
    }
    return err;
}

static enum err load(struct volume *volume) {
    if (volume->alarms) {
        return ERR_OK;
    }
    volume->alarms = calloc(1, sizeof *volume->alarms);
    if (!volume->alarms) {
        return ERR_NOMEM;
    }
    if (!volume->has_alarm_table) {
        return ERR_OK;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ALARM_LIST);
    bool row;
    enum err err;
    while (!(err = volume_step(volume, statement, &row)) && row) {
        err = load_row(statement, volume->alarms);
        if (err) {
            break;
        }
    }
    volume_reset(statement);
    if (err) {
        volume_alarms_free(volume);
    }
    return err;
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool is_dirty(const struct volume *volume) {
    for (size_t i = 0; volume->alarms && i < volume->alarms->count; i++) {
        if (volume->alarms->list[i]->is_dirty) {
            return true;
        }
    }
    return false;
}

static enum err write_one(struct volume *volume, const struct alarm *alarm) {
    if (alarm->is_gone) {
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ALARM_DELETE);
        volume_bind_bytes(statement, 1, alarm->name, strlen(alarm->name));
        return volume_run(volume, statement);
    }
    cleanup_buf struct buf results = {0};
    enum err err = alarm_results_text(alarm, &results);
    if (err) {
        return err;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ALARM_PUT);
    volume_bind_bytes(statement, 1, alarm->name, strlen(alarm->name));
    volume_bind_bytes(statement, 2, alarm->line, strlen(alarm->line));
    volume_bind_bytes(statement, 3, alarm->input.length ? (const void *)alarm->input.data : "",
                      alarm->input.length);
    volume_bind(statement, 4, alarm->set_ns);
    volume_bind(statement, 5, alarm->next_ns);
    volume_bind(statement, 6, alarm->attempts);
    volume_bind_bytes(statement, 7, buf_text(&results), results.length);
    return volume_run(volume, statement);
}

enum err volume_alarms_write(struct volume *volume) {
    if (!is_dirty(volume)) {
        return ERR_OK;
    }
    struct volume_alarms *alarms = volume->alarms;
    enum err err = volume->has_alarm_table ? ERR_OK : volume_database_make_alarm_table(volume);
    /* Those that are gone first: another one may have their name. */
    for (int gone = 1; gone >= 0; gone--) {
        for (size_t i = 0; !err && i < alarms->count; i++) {
            const struct alarm *alarm = alarms->list[i];
            if (alarm->is_dirty && alarm->is_gone == gone) {
                err = write_one(volume, alarm);
            }
        }
    }
    return err;
}

void volume_alarms_settle(struct volume *volume) {
    if (!is_dirty(volume)) {
        return;
    }
    struct volume_alarms *alarms = volume->alarms;
    size_t kept = 0;
    for (size_t i = 0; i < alarms->count; i++) {
        struct alarm *alarm = alarms->list[i];
        alarm->is_dirty = false;
        alarm->is_stored = true;
        if (alarm->is_gone) {
            alarm_free(alarm);
        } else {
            alarms->list[kept++] = alarm;
        }
    }
    alarms->count = kept;
    volume->has_alarm_table = true;
}

static void touch(struct volume *volume, struct alarm *alarm) {
    if (!alarm->is_dirty) {
        alarm->is_dirty = true;
        volume->dirty_bytes += bytes_of(alarm) + sizeof *alarm;
    }
    if (volume->created) {
        /* The first commit makes a whole volume of it. */
        volume_inode_touch(volume, volume_inode_find(volume, VOLUME_ROOT_INODE));
    }
    volume_mark_dirty(volume);
}

/* --- changes ---------------------------------------------------------------------------------- */

/* The place of the alarm of this name, or where it would be. */
static bool find(const struct volume_alarms *alarms, struct str name, size_t *ret_place) {
    size_t place = 0;
    for (; place < alarms->count; place++) {
        const struct alarm *alarm = alarms->list[place];
        size_t length = strlen(alarm->name);
        int order = memcmp(alarm->name, name.data, MIN(length, name.length));
        order = order ? order : (length > name.length) - (length < name.length);
        if (order == 0 && !alarm->is_gone) {
            *ret_place = place;
            return true;
        }
        if (order > 0) {
            break;
        }
    }
    *ret_place = place;
    return false;
}

static void drop(struct volume *volume, size_t place) {
    struct volume_alarms *alarms = volume->alarms;
    struct alarm *alarm = alarms->list[place];
    volume_uncharge(volume, bytes_of(alarm), 0);
    if (alarm->is_stored) {
        alarm->is_gone = true;
        touch(volume, alarm);
        return;
    }
    alarm_free(alarm);
    alarms->count--;
    memmove(&alarms->list[place], &alarms->list[place + 1],
            (alarms->count - place) * sizeof(struct alarm *));
}

static size_t count_present(const struct volume_alarms *alarms) {
    size_t count = 0;
    for (size_t i = 0; i < alarms->count; i++) {
        count += !alarms->list[i]->is_gone;
    }
    return count;
}

static bool drop_one_that_is_over(struct volume *volume) {
    struct volume_alarms *alarms = volume->alarms;
    size_t oldest = SIZE_MAX;
    for (size_t i = 0; i < alarms->count; i++) {
        const struct alarm *alarm = alarms->list[i];
        if (!alarm->is_gone && alarm_is_over(alarm) &&
            (oldest == SIZE_MAX || alarm->set_ns < alarms->list[oldest]->set_ns)) {
            oldest = i;
        }
    }
    if (oldest != SIZE_MAX) {
        drop(volume, oldest);
    }
    return oldest != SIZE_MAX;
}

static enum err set(struct volume *volume, struct alarm *alarm, struct buf *message) {
    struct volume_alarms *alarms = volume->alarms;
    struct str name = str_of(alarm->name);
    size_t place;
    bool replaces = find(alarms, name, &place);
    if (!replaces && count_present(alarms) >= VOLUME_ALARMS_MAX && !drop_one_that_is_over(volume)) {
        return buf_fail(message, ERR_NOSPC, "an app has %d alarms at most; remove one",
                        VOLUME_ALARMS_MAX);
    }
    if (alarms->count == ARRAY_LENGTH(alarms->list)) {
        return ERR_BUSY; /* too many were removed since the last commit */
    }
    uint64_t before = replaces ? bytes_of(alarms->list[place]) : 0;
    if (bytes_of(alarm) > before) {
        enum err err = volume_charge(volume, bytes_of(alarm) - before, 0);
        if (err) {
            return err;
        }
        volume_uncharge(volume, bytes_of(alarm) - before, 0);
    }
    if (replaces) {
        drop(volume, place);
    }
    (void)!volume_charge(volume, bytes_of(alarm), 0); /* it fits, as was just seen */
    (void)find(alarms, name, &place);
    memmove(&alarms->list[place + 1], &alarms->list[place],
            (alarms->count - place) * sizeof(struct alarm *));
    alarms->list[place] = alarm;
    alarms->count++;
    alarm->serial = atomic_fetch_add(&next_serial, 1);
    touch(volume, alarm);
    return ERR_OK;
}

enum err volume_alarm_set(struct op *op, struct volume *volume, struct alarm *alarm) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err) {
        return err;
    }
    err = load(volume);
    err = err ? err : set(volume, alarm, op->message);
    return volume_leave(op, volume, err);
}

enum err volume_alarm_remove(struct op *op, struct volume *volume, struct str name) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE | VOLUME_SHRINKS);
    if (err) {
        return err;
    }
    err = load(volume);
    size_t place;
    if (!err && !find(volume->alarms, name, &place)) {
        err = ERR_NOENT;
    }
    if (!err) {
        drop(volume, place);
    }
    return volume_leave(op, volume, err);
}

enum err volume_alarms_visit(struct op *op, struct volume *volume,
                             enum alarm_visit (*visit)(void *argument, struct alarm *alarm),
                             void *argument) {
    enum err err = volume_enter(op, volume, 0);
    if (err) {
        return err;
    }
    err = load(volume);
    for (size_t i = 0; !err && i < volume->alarms->count; i++) {
        struct alarm *alarm = volume->alarms->list[i];
        if (!alarm->is_gone && visit(argument, alarm) == ALARM_CHANGED) {
            touch(volume, alarm);
        }
    }
    return volume_leave(op, volume, err);
}
