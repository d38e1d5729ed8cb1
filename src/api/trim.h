/* Gives memory that was freed back to the system.
 *
 * The C library keeps what is freed for the next who wants some, and gives back only what is at an
 * end of its arenas: hundreds of MiB after a crowd, for good. So every TRIM_PERIOD_NS it is looked
 * how much the process has, and once that is clearly more than it was after the last time, a worker
 * lets the library give back all whole pages that are free. That takes some milliseconds, in which
 * who allocates may wait: so it is done when nothing runs and nobody waits for an answer; when that
 * is never so, at most every TRIM_BUSY_PERIOD_NS, and for much.
 *
 * Ended runs whose time is over are forgotten by it, too, where nobody else comes by.
 *
 * Thread: the loop's. */
#pragma once

#include "api/api.h"

struct trim {
    struct api *api;   /* borrowed */
    struct loop *loop; /* borrowed */
    struct loop_timer timer;
    struct loop_work work;
    bool is_working;
    uint64_t least_bytes;    /* resident: the least since the last time, and what was left then */
    uint64_t last_ns;        /* monotonic: when that was */
    uint64_t resident_bytes; /* after it; the worker's while it works */
};
void trim_start(struct trim *trim, struct loop *loop, struct api *api);
/* Before the loops end; harmless if it was not started. */
void trim_stop(struct trim *trim);

/* What is to be done; apart from the clock, so that it can be tested. */
struct trim_state {
    uint64_t resident_bytes, least_bytes, since_last_ns;
    bool is_quiet; /* nothing runs, nobody waits */
};
bool trim_is_due(const struct trim_state *state);
