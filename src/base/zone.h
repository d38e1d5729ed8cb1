/* Time zones of the system's database (/usr/share/zoneinfo), read by us: localtime knows one zone a
 * process.
 *
 * A zone is immutable and never freed once it was found, so a pointer to it is good for ever. Times
 * are seconds since 1970-01-01T00:00:00Z without leap seconds. Thread: any. Layer: base.
 * Source: RFC 9636 (TZif), POSIX.1-2017 section 8.3 (TZ). */
#pragma once

#include "base/buf.h"

struct zone;

#define ZONE_NAME_MAX 64
/* The zone of a name such as "Europe/Berlin" or "UTC". The first time it is read from disk (a few
 * KiB). INVAL: not a name; NOENT: there is none; IO: its file is damaged; each with a message. */
MUST_USE enum err zone_find(struct str name, const struct zone **ret_zone, struct buf *message);
/* UTC, which needs no database. */
extern const struct zone *const zone_utc;
const char *zone_name(const struct zone *zone);

/* What local time is ahead of UTC at this moment, in seconds. */
int32_t zone_offset(const struct zone *zone, int64_t utc_s);

/* The moments at which the zone's clocks show this local time (counted in seconds as if it were
 * UTC): none (the clocks skip it), one, or two (they go back over it), the earlier one first. If
 * none, `ret_utc_s[0]` is the moment of the jump. Returns their number. */
size_t zone_moments(const struct zone *zone, int64_t local_s, int64_t ret_utc_s[2]);

/* Of the bytes of a TZif file, for tests; freed by zone_free. INVAL if it is none. */
MUST_USE enum err zone_parse(struct str name, const void *data, size_t length,
                             struct zone **ret_zone);
void zone_free(struct zone *zone);

/* The days from 1970-01-01 to a day of the proleptic Gregorian calendar, and back. `month` 1 to 12.
 */
int64_t calendar_days(int64_t year, unsigned month, unsigned day);
struct calendar_date {
    int64_t year;
    unsigned month, day; /* from 1 */
    unsigned weekday;    /* 0: Sunday */
};
struct calendar_date calendar_date(int64_t days);
