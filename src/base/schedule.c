#include "base/schedule.h"

#include <ctype.h>
#include <strings.h>

#define DAY_S 86400
/* A cron line that hits no day in so many: the 30th of February. A leap year follows in 8 years at
 * the latest, a weekday on its last of February in 40. */
#define SEARCH_DAYS (366 * 41)
#define YEAR_NS (UINT64_C(366) * DAY_S * NS_PER_S)
#define EPOCH_END_S ((int64_t)(UINT64_MAX / NS_PER_S) - 2 * DAY_S)

static bool take(struct str *text, char c) {
    bool is_there = text->length > 0 && text->data[0] == c;
    text->data += is_there;
    text->length -= is_there;
    return is_there;
}

/* Words apart by spaces and tabs. */
static struct str cut_word(struct str *rest) {
    size_t begin = 0;
    while (begin < rest->length && (rest->data[begin] == ' ' || rest->data[begin] == '\t')) {
        begin++;
    }
    size_t end = begin;
    while (end < rest->length && rest->data[end] != ' ' && rest->data[end] != '\t') {
        end++;
    }
    struct str word = {rest->data + begin, end - begin};
    *rest = (struct str){rest->data + end, rest->length - end};
    return word;
}

/* --- a time (RFC 3339 section 5.6) --------------------------------------------------------------
 */

static bool take_digits(struct str *text, size_t count, unsigned min, unsigned max,
                        unsigned *ret_number) {
    unsigned number = 0;
    if (text->length < count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!isdigit((unsigned char)text->data[i])) {
            return false;
        }
        number = number * 10 + (unsigned)(text->data[i] - '0');
    }
    text->data += count;
    text->length -= count;
    *ret_number = number;
    return number >= min && number <= max;
}

static uint64_t take_fraction_ns(struct str *text) {
    uint64_t ns = 0, unit = NS_PER_S;
    while (text->length > 0 && isdigit((unsigned char)text->data[0])) {
        unit /= 10;
        ns += unit * (uint64_t)(text->data[0] - '0');
        text->data++;
        text->length--;
    }
    return ns;
}

static bool take_offset(struct str *text, int64_t *ret_offset_s) {
    if (take(text, 'Z') || take(text, 'z')) {
        *ret_offset_s = 0;
        return true;
    }
    bool west = text->length > 0 && text->data[0] == '-';
    unsigned hours, minutes;
    bool good = (take(text, '+') || take(text, '-')) && take_digits(text, 2, 0, 23, &hours) &&
                take(text, ':') && take_digits(text, 2, 0, 59, &minutes);
    if (good) {
        int64_t offset_s = (int64_t)hours * 3600 + (int64_t)minutes * 60;
        *ret_offset_s = west ? -offset_s : offset_s;
    }
    return good;
}

static bool parse_time(struct str text, uint64_t *ret_ns) {
    unsigned year, month, day, hour, minute, second;
    uint64_t fraction_ns = 0;
    int64_t offset_s;
    bool good = take_digits(&text, 4, 1970, 2500, &year) && take(&text, '-') &&
                take_digits(&text, 2, 1, 12, &month) && take(&text, '-') &&
                take_digits(&text, 2, 1, 31, &day) && (take(&text, 'T') || take(&text, 't')) &&
                take_digits(&text, 2, 0, 23, &hour) && take(&text, ':') &&
                take_digits(&text, 2, 0, 59, &minute) && take(&text, ':') &&
                take_digits(&text, 2, 0, 60, &second);
    if (!good) {
        return false;
    }
    if (take(&text, '.')) {
        size_t before = text.length;
        fraction_ns = take_fraction_ns(&text);
        if (before == text.length) {
            return false;
        }
    }
    int64_t days = calendar_days(year, month, day);
    if (!take_offset(&text, &offset_s) || text.length > 0 || calendar_date(days).day != day) {
        return false;
    }
    int64_t utc_s = days * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
    if (utc_s <= 0) {
        return false;
    }
    *ret_ns = (uint64_t)utc_s * NS_PER_S + fraction_ns;
    return true;
}

/* --- cron ---------------------------------------------------------------------------------------
 */

struct field {
    const char *name;
    unsigned min, max;
    const char *names; /* of three letters each, for min, min + 1, ... */
};
static const struct field fields[] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day", 1, 31, NULL},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"weekday", 0, 7, "sunmontuewedthufrisat"},
};

static bool take_value(struct str *text, const struct field *field, unsigned *ret_value) {
    for (unsigned i = 0; field->names && field->names[i * 3]; i++) {
        if (text->length >= 3 && strncasecmp(text->data, field->names + i * 3, 3) == 0) {
            text->data += 3;
            text->length -= 3;
            *ret_value = field->min + i;
            return true;
        }
    }
    size_t digits = 0;
    while (digits < text->length && digits < 2 && isdigit((unsigned char)text->data[digits])) {
        digits++;
    }
    return digits > 0 && take_digits(text, digits, field->min, field->max, ret_value);
}

/* One of a list: "*", "5", "1-5", each with "/STEP". */
static bool parse_item(struct str item, const struct field *field, uint64_t *bits) {
    unsigned first = field->min, last = field->max, step = 1;
    bool is_range = take(&item, '*');
    if (is_range) {
        last -= field->max == 7; /* Sunday once */
    } else {
        if (!take_value(&item, field, &first)) {
            return false;
        }
        last = first;
        if (take(&item, '-')) {
            is_range = true;
            if (!take_value(&item, field, &last)) {
                return false;
            }
            /* "fri-sun" */
            last += field->max == 7 && last == 0 && first > 0 ? 7 : 0;
        }
    }
    if (take(&item, '/')) {
        size_t digits = item.length;
        if (!is_range || digits < 1 || digits > 2 ||
            !take_digits(&item, digits, 1, field->max, &step)) {
            return false;
        }
    }
    if (item.length > 0 || first > last) {
        return false;
    }
    for (unsigned value = first; value <= last; value += step) {
        *bits |= UINT64_C(1) << value;
    }
    return true;
}

static enum err parse_field(struct str text, const struct field *field, uint64_t *ret_bits,
                            struct buf *message) {
    uint64_t bits = 0;
    bool good = text.length > 0;
    struct str rest = text;
    while (good && rest.data) {
        struct str item = str_cut(&rest, ',');
        good = parse_item(item, field, &bits);
    }
    if (!good) {
        return buf_fail(message, ERR_INVAL,
                        "'" STR_FORMAT "' is no %s of a cron line: `*`, numbers from %u to %u, "
                        "ranges, lists and steps (1-5, 1,15, */10)",
                        STR_ARGS(text), field->name, field->min, field->max);
    }
    *ret_bits = bits;
    return ERR_OK;
}

static bool begins_with_star(struct str text) {
    return text.length > 0 && text.data[0] == '*';
}

static enum err parse_zone(struct str rest, const struct zone **ret_zone, struct buf *message) {
    struct str word = cut_word(&rest);
    struct str further = cut_word(&rest);
    *ret_zone = zone_utc;
    if (word.length == 0) {
        return ERR_OK;
    }
    if (!str_starts(word, STR("tz=")) || further.length > 0) {
        return buf_fail(message, ERR_INVAL,
                        "what follows the five fields of a cron line is a time zone, such as "
                        "tz=Europe/Berlin, or nothing");
    }
    enum err err = zone_find((struct str){word.data + 3, word.length - 3}, ret_zone, message);
    return err == ERR_NOENT ? ERR_INVAL : err; /* the line is wrong; where it goes to is there */
}

static enum err parse_cron(struct str line, struct schedule *schedule, struct buf *message) {
    uint64_t bits[ARRAY_LENGTH(fields)];
    struct str texts[ARRAY_LENGTH(fields)];
    for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
        texts[i] = cut_word(&line);
        if (texts[i].length == 0 || str_starts(texts[i], STR("tz="))) {
            return buf_fail(message, ERR_INVAL,
                            "an alarm begins with a line like 'every 5m', "
                            "'once 2026-12-24T18:00:00Z' or 'MIN HOUR DAY MONTH WEEKDAY'");
        }
    }
    for (size_t i = 0; i < ARRAY_LENGTH(fields); i++) {
        enum err err = parse_field(texts[i], &fields[i], &bits[i], message);
        if (err) {
            return err;
        }
    }
    schedule->kind = SCHEDULE_CRON;
    schedule->minutes = bits[0];
    schedule->hours = (uint32_t)bits[1];
    schedule->days = (uint32_t)bits[2];
    schedule->months = (uint32_t)bits[3];
    schedule->weekdays = (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f);
    schedule->any_hour = begins_with_star(texts[1]);
    schedule->any_day = begins_with_star(texts[2]);
    schedule->any_weekday = begins_with_star(texts[4]);
    enum err err = parse_zone(line, &schedule->zone, message);
    if (!err && schedule_next(schedule, 0, 0) == 0) {
        return buf_fail(message, ERR_INVAL, "there is no such day");
    }
    return err;
}

static const struct {
    const char *name, *line;
} shorthands[] = {
    {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

static enum err parse_shorthand(struct str word, struct str rest, struct schedule *schedule,
                                struct buf *message) {
    for (size_t i = 0; i < ARRAY_LENGTH(shorthands); i++) {
        if (str_equal_text(word, shorthands[i].name)) {
            const struct zone *zone;
            enum err err = parse_zone(rest, &zone, message);
            err = err ? err : parse_cron(str_of(shorthands[i].line), schedule, message);
            schedule->zone = err ? NULL : zone;
            return err;
        }
    }
    return buf_fail(message, ERR_INVAL, "there are @hourly, @daily, @weekly, @monthly and @yearly");
}

/* --- any line -----------------------------------------------------------------------------------
 */

static bool is_text(struct str line) {
    for (size_t i = 0; i < line.length; i++) {
        unsigned char c = (unsigned char)line.data[i];
        if (c != '\t' && (c < 0x20 || c > 0x7e)) {
            return false;
        }
    }
    return line.length <= SCHEDULE_LINE_MAX;
}

static enum err parse_every(struct str rest, struct schedule *schedule, struct buf *message) {
    struct str word = cut_word(&rest);
    uint64_t period_ns;
    enum err err = str_to_duration_ns(word, &period_ns);
    if (err || cut_word(&rest).length > 0) {
        return buf_fail(message, ERR_INVAL, "'every' is followed by a time like 30s, 5m, 1h or 7d");
    }
    if (period_ns < SCHEDULE_PERIOD_MIN_NS || period_ns > YEAR_NS) {
        return buf_fail(message, ERR_INVAL,
                        "an alarm comes every second at most, and every 366 "
                        "days at least");
    }
    schedule->kind = SCHEDULE_EVERY;
    schedule->period_ns = period_ns;
    return ERR_OK;
}

static enum err parse_once(struct str word, struct str rest, struct schedule *schedule,
                           struct buf *message) {
    if (!parse_time(word, &schedule->at_ns) || cut_word(&rest).length > 0) {
        return buf_fail(message, ERR_INVAL,
                        "a time is written like 2026-12-24T18:00:00Z or 2026-12-24T19:00:00+01:00");
    }
    schedule->kind = SCHEDULE_ONCE;
    return ERR_OK;
}

enum err schedule_parse(struct str line, struct schedule *ret_schedule, struct buf *message) {
    struct schedule schedule = {0};
    if (!is_text(line)) {
        return buf_fail(message, ERR_INVAL,
                        "the first line says when: at most %d printable characters",
                        SCHEDULE_LINE_MAX);
    }
    struct str rest = line;
    struct str word = cut_word(&rest);
    enum err err;
    if (str_equal_text(word, "every")) {
        err = parse_every(rest, &schedule, message);
    } else if (str_equal_text(word, "once")) {
        word = cut_word(&rest);
        err = parse_once(word, rest, &schedule, message);
    } else if (str_starts(word, STR("@"))) {
        err = parse_shorthand(word, rest, &schedule, message);
    } else if (word.length > 5 && word.data[4] == '-' && isdigit((unsigned char)word.data[0])) {
        err = parse_once(word, rest, &schedule, message);
    } else {
        err = parse_cron(line, &schedule, message);
    }
    if (!err) {
        *ret_schedule = schedule;
    }
    return err;
}

/* --- what follows -------------------------------------------------------------------------------
 */

static bool is_day(const struct schedule *schedule, const struct calendar_date *date) {
    bool day = schedule->days >> date->day & 1;
    bool weekday = schedule->weekdays >> date->weekday & 1;
    bool either = !schedule->any_day && !schedule->any_weekday;
    return (schedule->months >> date->month & 1) && (either ? day || weekday : day && weekday);
}

static bool is_minute(const struct schedule *schedule, unsigned minute) {
    return (schedule->hours >> (minute / 60) & 1) && (schedule->minutes >> (minute % 60) & 1);
}

/* On a day near which the clocks are not changed. */
static int64_t next_on_plain_day(const struct schedule *schedule, int64_t begin_s,
                                 int64_t after_s) {
    int64_t first = after_s < begin_s ? 0 : (after_s - begin_s) / 60 + 1;
    for (int64_t minute = first; minute < 24 * 60; minute++) {
        if (is_minute(schedule, (unsigned)minute)) {
            return begin_s + minute * 60;
        }
    }
    return INT64_MAX;
}

/* The first moment after `after_s` at which the clocks show one of the schedule's times of that
 * day; INT64_MAX if there is none. */
static int64_t next_on_day(const struct schedule *schedule, int64_t days, int64_t after_s) {
    struct calendar_date date = calendar_date(days);
    int64_t earliest = INT64_MAX;
    if (!is_day(schedule, &date)) {
        return earliest;
    }
    int64_t begin_s = days * DAY_S;
    int32_t offset = zone_offset(schedule->zone, begin_s - 2 * DAY_S);
    if (offset == zone_offset(schedule->zone, begin_s + 3 * DAY_S)) {
        return next_on_plain_day(schedule, begin_s - offset, after_s);
    }
    for (unsigned minute = 0; minute < 24 * 60; minute++) {
        if (!is_minute(schedule, minute)) {
            continue;
        }
        int64_t moments[2];
        size_t count = zone_moments(schedule->zone, begin_s + minute * 60, moments);
        if (!schedule->any_hour) {
            count = 1; /* the first of two; or the moment of the jump */
        }
        for (size_t i = 0; i < count; i++) {
            if (moments[i] > after_s && moments[i] < earliest) {
                earliest = moments[i];
            }
        }
    }
    return earliest;
}

static uint64_t next_cron(const struct schedule *schedule, uint64_t after_ns) {
    int64_t after_s = (int64_t)(after_ns / NS_PER_S);
    int64_t today = (after_s + zone_offset(schedule->zone, after_s)) / DAY_S;
    /* From the day before on, and one day further than the first hit: where clocks go back over
     * midnight, a later day may have an earlier moment. */
    int64_t earliest = INT64_MAX;
    for (int64_t days = today - 1, last = today + SEARCH_DAYS; days <= last; days++) {
        int64_t moment = next_on_day(schedule, days, after_s);
        if (moment < earliest) {
            earliest = moment;
            last = MIN(last, days + 1);
        }
    }
    return earliest > 0 && earliest < EPOCH_END_S ? (uint64_t)earliest * NS_PER_S : 0;
}

uint64_t schedule_next(const struct schedule *schedule, uint64_t set_ns, uint64_t after_ns) {
    switch (schedule->kind) {
    case SCHEDULE_ONCE:
        return schedule->at_ns > after_ns ? schedule->at_ns : 0;
    case SCHEDULE_EVERY: {
        uint64_t passed = after_ns > set_ns ? (after_ns - set_ns) / schedule->period_ns : 0;
        uint64_t next;
        bool over = __builtin_mul_overflow(passed + 1, schedule->period_ns, &next) ||
                    __builtin_add_overflow(next, set_ns, &next);
        return over ? 0 : next;
    }
    case SCHEDULE_CRON:
        return next_cron(schedule, after_ns);
    }
    return 0;
}
