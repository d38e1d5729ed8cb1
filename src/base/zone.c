#include "base/zone.h"

#include "base/fsio.h"
#include "base/map.h"

#include <pthread.h>

#define DATABASE "/usr/share/zoneinfo"
#define FILE_BYTES_MAX (256 * KIB)
#define TRANSITIONS_MAX 10000
#define TYPES_MAX 256
#define OFFSET_MAX_S (26 * 3600)
#define DAY_S 86400

/* When a part of the year begins, by the rule at the end of a file. */
struct change {
    char kind; /* 'J': day 1 to 365 without leap days; 'D': 0 to 365; 'M': month, week, weekday */
    uint8_t month, week;
    uint16_t day;
    int32_t time_s; /* local time of that day; may be negative or over 24 hours */
};

struct zone {
    struct map_node node;
    char name[ZONE_NAME_MAX + 1];
    size_t transition_count;
    int64_t *times;   /* ascending */
    int32_t *offsets; /* from that time on */
    int32_t first_offset;
    /* Behind the last transition: */
    bool has_rule, has_summer;
    int32_t standard_s, summer_s;
    struct change begin, end; /* of summer time */
};

static const struct zone utc = {.name = "UTC"};
const struct zone *const zone_utc = &utc;

const char *zone_name(const struct zone *zone) {
    return zone->name;
}

void zone_free(struct zone *zone) {
    if (zone) {
        free(zone->times);
        free(zone->offsets);
        free(zone);
    }
}

/* --- the calendar ------------------------------------------------------------------------------
 */

static bool is_leap(int64_t year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days are counted from March on, so that the leap day is the last one of a year. */
int64_t calendar_days(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

struct calendar_date calendar_date(int64_t days) {
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted_month = (unsigned)((5 * day_of_year + 2) / 153);
    unsigned month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    return (struct calendar_date){
        .year = year_of_era + era * 400 + (month <= 2),
        .month = month,
        .day = (unsigned)(day_of_year - (153 * (int64_t)shifted_month + 2) / 5) + 1,
        .weekday = (unsigned)(((days + 4) % 7 + 7) % 7),
    };
}

/* --- the rule at the end of a file (POSIX TZ) ---------------------------------------------------
 */

static bool take(struct str *text, char c) {
    bool is_there = text->length > 0 && text->data[0] == c;
    text->data += is_there;
    text->length -= is_there;
    return is_there;
}

static bool take_number(struct str *text, unsigned max, unsigned *ret_number) {
    unsigned number = 0;
    size_t digits = 0;
    while (digits < text->length && text->data[digits] >= '0' && text->data[digits] <= '9' &&
           digits < 4) {
        number = number * 10 + (unsigned)(text->data[digits++] - '0');
    }
    text->data += digits;
    text->length -= digits;
    *ret_number = number;
    return digits > 0 && number <= max;
}

/* "<+03>" or "CET": not needed, but must be there. */
static bool take_name(struct str *text) {
    bool quoted = take(text, '<');
    size_t length = 0;
    for (; length < text->length; length++) {
        char c = text->data[length];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(quoted && (c == '+' || c == '-' || (c >= '0' && c <= '9')))) {
            break;
        }
    }
    text->data += length;
    text->length -= length;
    return length >= 3 && (!quoted || take(text, '>'));
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(struct str *text, unsigned hours_max, int32_t *ret_time_s) {
    bool negative = take(text, '-');
    if (!negative) {
        (void)take(text, '+');
    }
    unsigned hours, minutes = 0, seconds = 0;
    bool good = take_number(text, hours_max, &hours);
    if (good && take(text, ':')) {
        good = take_number(text, 59, &minutes);
        if (good && take(text, ':')) {
            good = take_number(text, 59, &seconds);
        }
    }
    int32_t time_s = (int32_t)(hours * 3600 + minutes * 60 + seconds);
    *ret_time_s = negative ? -time_s : time_s;
    return good;
}

static bool take_change(struct str *text, struct change *ret_change) {
    struct change change = {.time_s = 2 * 3600};
    unsigned month = 1, week = 1, day = 0;
    bool good;
    if (take(text, 'M')) {
        change.kind = 'M';
        good = take_number(text, 12, &month) && month > 0 && take(text, '.') &&
               take_number(text, 5, &week) && week > 0 && take(text, '.') &&
               take_number(text, 6, &day);
    } else if (take(text, 'J')) {
        change.kind = 'J';
        good = take_number(text, 365, &day) && day > 0;
    } else {
        change.kind = 'D';
        good = take_number(text, 365, &day);
    }
    change.month = (uint8_t)month;
    change.week = (uint8_t)week;
    change.day = (uint16_t)day;
    if (good && take(text, '/')) {
        good = take_time(text, 167, &change.time_s);
    }
    *ret_change = change;
    return good;
}

/* std offset [dst [offset] , start , end]; what is west of Greenwich is positive there. */
static enum err parse_rule(struct zone *zone, struct str text) {
    int32_t west;
    if (text.length == 0) {
        return ERR_OK;
    }
    if (!take_name(&text) || !take_time(&text, 24, &west)) {
        return ERR_INVAL;
    }
    zone->has_rule = true;
    zone->standard_s = -west;
    if (text.length == 0) {
        return ERR_OK;
    }
    zone->has_summer = true;
    zone->summer_s = zone->standard_s + 3600;
    if (!take_name(&text)) {
        return ERR_INVAL;
    }
    if (text.length > 0 && text.data[0] != ',') {
        if (!take_time(&text, 24, &west)) {
            return ERR_INVAL;
        }
        zone->summer_s = -west;
    }
    bool good = take(&text, ',') && take_change(&text, &zone->begin) && take(&text, ',') &&
                take_change(&text, &zone->end) && text.length == 0;
    return good ? ERR_OK : ERR_INVAL;
}

/* In local time. */
static int64_t change_in_year(const struct change *change, int64_t year) {
    int64_t days = calendar_days(year, 1, 1);
    if (change->kind == 'J') {
        days += change->day - 1 + (is_leap(year) && change->day >= 60);
    } else if (change->kind == 'D') {
        days += change->day;
    } else {
        static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        unsigned length =
            lengths[change->month - 1] + (change->month == 2 && is_leap(year) ? 1u : 0u);
        days = calendar_days(year, change->month, 1);
        unsigned first = (change->day + 7 - calendar_date(days).weekday) % 7;
        unsigned day = first + (change->week - 1u) * 7;
        days += day < length ? day : day - 7;
    }
    return days * DAY_S + change->time_s;
}

static int32_t offset_by_rule(const struct zone *zone, int64_t utc_s) {
    if (!zone->has_summer) {
        return zone->standard_s;
    }
    int64_t local_s = utc_s + zone->standard_s;
    int64_t days = local_s >= 0 ? local_s / DAY_S : (local_s - DAY_S + 1) / DAY_S;
    int64_t year = calendar_date(days).year;
    int64_t begin = change_in_year(&zone->begin, year) - zone->standard_s;
    int64_t end = change_in_year(&zone->end, year) - zone->summer_s;
    bool is_summer = begin < end ? utc_s >= begin && utc_s < end : !(utc_s >= end && utc_s < begin);
    return is_summer ? zone->summer_s : zone->standard_s;
}

/* --- TZif ---------------------------------------------------------------------------------------
 */

struct header {
    char version;
    uint32_t utc_count, standard_count, leap_count, transition_count, type_count, name_bytes;
};
enum { HEADER_SIZE = 44 };

static uint32_t get_u32(const uint8_t *data) {
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

static bool parse_header(const uint8_t *data, size_t length, struct header *ret_header) {
    if (length < HEADER_SIZE || memcmp(data, "TZif", 4) != 0) {
        return false;
    }
    *ret_header = (struct header){
        .version = (char)data[4],
        .utc_count = get_u32(data + 20),
        .standard_count = get_u32(data + 24),
        .leap_count = get_u32(data + 28),
        .transition_count = get_u32(data + 32),
        .type_count = get_u32(data + 36),
        .name_bytes = get_u32(data + 40),
    };
    return ret_header->transition_count <= TRANSITIONS_MAX && ret_header->type_count <= TYPES_MAX &&
           ret_header->type_count > 0 && ret_header->name_bytes <= KIB * 64 &&
           ret_header->utc_count <= TYPES_MAX && ret_header->standard_count <= TYPES_MAX &&
           ret_header->leap_count == 0; /* zones that count leap seconds ("right/") */
}

static size_t block_size(const struct header *header, size_t time_size) {
    return header->transition_count * (time_size + 1) + header->type_count * 6u +
           header->name_bytes + header->standard_count + header->utc_count;
}

static enum err parse_block(struct zone *zone, const struct header *header, const uint8_t *data) {
    size_t count = header->transition_count;
    const uint8_t *indexes = data + count * 8;
    const uint8_t *types = indexes + count;
    zone->times = calloc(count + 1, sizeof *zone->times);
    zone->offsets = calloc(count + 1, sizeof *zone->offsets);
    if (!zone->times || !zone->offsets) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i <= count; i++) {
        size_t type = i < count ? indexes[i] : 0;
        if (type >= header->type_count) {
            return ERR_INVAL;
        }
        int32_t offset = (int32_t)get_u32(types + type * 6);
        if (offset < -OFFSET_MAX_S || offset > OFFSET_MAX_S) {
            return ERR_INVAL;
        }
        if (i == count) {
            zone->first_offset = offset;
            break;
        }
        zone->times[i] =
            (int64_t)((uint64_t)get_u32(data + i * 8) << 32 | get_u32(data + i * 8 + 4));
        zone->offsets[i] = offset;
        if (i > 0 && zone->times[i] <= zone->times[i - 1]) {
            return ERR_INVAL;
        }
    }
    zone->transition_count = count;
    return ERR_OK;
}

/* The first block has times of 32 bits, for old readers; behind it is the one that counts. */
static enum err parse_file(struct zone *zone, const uint8_t *data, size_t length) {
    struct header header;
    if (!parse_header(data, length, &header) || header.version < '2' ||
        block_size(&header, 4) > length - HEADER_SIZE) {
        return ERR_INVAL;
    }
    size_t skipped = HEADER_SIZE + block_size(&header, 4);
    data += skipped;
    length -= skipped;
    if (!parse_header(data, length, &header) || block_size(&header, 8) > length - HEADER_SIZE) {
        return ERR_INVAL;
    }
    enum err err = parse_block(zone, &header, data + HEADER_SIZE);
    if (err) {
        return err;
    }
    skipped = HEADER_SIZE + block_size(&header, 8);
    struct str footer = {(const char *)data + skipped, length - skipped};
    if (!take(&footer, '\n')) {
        return ERR_INVAL;
    }
    const char *end = footer.length > 0 ? memchr(footer.data, '\n', footer.length) : NULL;
    return end ? parse_rule(zone, (struct str){footer.data, (size_t)(end - footer.data)})
               : ERR_INVAL;
}

enum err zone_parse(struct str name, const void *data, size_t length, struct zone **ret_zone) {
    if (name.length > ZONE_NAME_MAX) {
        return ERR_INVAL;
    }
    struct zone *zone = calloc(1, sizeof *zone);
    if (!zone) {
        return ERR_NOMEM;
    }
    memcpy(zone->name, name.data, name.length);
    enum err err = parse_file(zone, data, length);
    if (err) {
        zone_free(zone);
        return err;
    }
    *ret_zone = zone;
    return ERR_OK;
}

/* --- zones by name ------------------------------------------------------------------------------
 */

static pthread_mutex_t zones_mutex = PTHREAD_MUTEX_INITIALIZER; /* guards `zones` */
static struct map zones;

/* Components of letters, digits, '+', '-' and '_': nothing that leads out of the database. */
static bool is_name(struct str name) {
    bool begins = true;
    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool inside = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '_';
        if (!letter && !(inside && !begins) && !(c == '/' && !begins && i + 1 < name.length)) {
            return false;
        }
        begins = c == '/';
    }
    return name.length > 0 && name.length <= ZONE_NAME_MAX;
}

static enum err load(struct str name, struct zone **ret_zone, struct buf *message) {
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf content = {0};
    enum err err = buf_printf(&path, DATABASE "/" STR_FORMAT, STR_ARGS(name));
    if (!err) {
        err = fsio_read_file(buf_text(&path), FILE_BYTES_MAX, &content);
    }
    if (err == ERR_NOENT || err == ERR_NOTDIR || err == ERR_ISDIR) {
        return buf_fail(message, ERR_NOENT,
                        "there is no time zone '" STR_FORMAT "' in " DATABASE
                        " (the package tzdata); one is written like Europe/Berlin",
                        STR_ARGS(name));
    }
    if (!err) {
        err = zone_parse(name, content.data, content.length, ret_zone);
    }
    return err ? buf_fail(message, err == ERR_NOMEM ? err : ERR_IO, "%s can't be used: %s",
                          buf_text(&path), err_text(err))
               : ERR_OK;
}

enum err zone_find(struct str name, const struct zone **ret_zone, struct buf *message) {
    if (str_equal_text(name, "UTC")) {
        *ret_zone = zone_utc;
        return ERR_OK;
    }
    if (!is_name(name)) {
        return buf_fail(message, ERR_INVAL,
                        "'" STR_FORMAT "' is no time zone: one is written like Europe/Berlin or "
                        "UTC, of letters, digits and '/', '_', '+', '-'",
                        STR_ARGS(name));
    }
    pthread_mutex_lock(&zones_mutex);
    struct map_node *node = map_find(&zones, name);
    enum err err = ERR_OK;
    if (!node) {
        struct zone *zone = NULL;
        err = load(name, &zone, message);
        if (!err) {
            err = map_insert(&zones, &zone->node, str_of(zone->name));
        }
        if (err) {
            zone_free(zone);
        } else {
            node = &zone->node;
        }
    }
    pthread_mutex_unlock(&zones_mutex);
    if (!err) {
        *ret_zone = CONTAINER_OF(node, struct zone, node);
    }
    return err;
}

/* --- times --------------------------------------------------------------------------------------
 */

int32_t zone_offset(const struct zone *zone, int64_t utc_s) {
    size_t low = 0, high = zone->transition_count; /* the first transition that is later */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= utc_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == zone->transition_count && zone->has_rule) {
        return offset_by_rule(zone, utc_s);
    }
    return low == 0 ? zone->first_offset : zone->offsets[low - 1];
}

size_t zone_moments(const struct zone *zone, int64_t local_s, int64_t ret_utc_s[2]) {
    /* What the clocks show a day before and a day after; they change once between at most. */
    int32_t before = zone_offset(zone, local_s - DAY_S - OFFSET_MAX_S / 2);
    int32_t after = zone_offset(zone, local_s + DAY_S + OFFSET_MAX_S / 2);
    int64_t early = local_s - before;
    int64_t late = local_s - after;
    bool is_early = zone_offset(zone, early) == before;
    bool is_late = late != early && zone_offset(zone, late) == after;
    size_t count = 0;
    if (is_early) {
        ret_utc_s[count++] = early;
    }
    if (is_late) {
        ret_utc_s[count++] = late;
    }
    if (count > 0) {
        return count;
    }
    /* Skipped: the clocks jump between both. */
    int64_t low = MIN(early, late) - 1, high = MAX(early, late) + 1;
    int32_t offset = zone_offset(zone, low);
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (zone_offset(zone, middle) == offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ret_utc_s[0] = high;
    return 0;
}
