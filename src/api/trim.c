#include "api/trim.h"

#include "base/clock.h"
#include "base/resident.h"

#include <malloc.h>

/* What is not worth it, where nobody is disturbed and where somebody may be. */
#define TRIM_BYTES_MIN (8 * MIB)
#define TRIM_BUSY_BYTES_MIN (128 * MIB)
#define TRIM_PERIOD_NS (5 * NS_PER_S)
#define TRIM_BUSY_PERIOD_NS (60 * NS_PER_S)

bool trim_is_due(const struct trim_state *state) {
    uint64_t more = state->resident_bytes - MIN(state->least_bytes, state->resident_bytes);
    return state->is_quiet
               ? more >= TRIM_BYTES_MIN
               : more >= TRIM_BUSY_BYTES_MIN && state->since_last_ns >= TRIM_BUSY_PERIOD_NS;
}

static void trim_run(struct loop_work *work) {
    struct trim *trim = CONTAINER_OF(work, struct trim, work);
    malloc_trim(0);
    trim->resident_bytes = resident_bytes();
}

static void trim_done(struct loop_work *work) {
    struct trim *trim = CONTAINER_OF(work, struct trim, work);
    trim->is_working = false;
    trim->least_bytes = trim->resident_bytes;
    trim->last_ns = clock_monotonic_ns();
}

static bool is_quiet(const struct api *api, const struct runs_counters *counters) {
    uint64_t exchanges = 0;
    for (size_t i = 0; i < api->server_count; i++) {
        exchanges += http_server_exchanges(api->servers[i]);
    }
    return counters->running == 0 && counters->queued == 0 && exchanges == 0;
}

static void timer_expired(struct loop_timer *timer) {
    struct trim *trim = CONTAINER_OF(timer, struct trim, timer);
    uint64_t now_ns = clock_monotonic_ns();
    loop_timer_start(trim->loop, timer, now_ns + TRIM_PERIOD_NS);
    struct runs_counters counters = runs_counters(trim->api->runs); /* and forgets ended runs */
    struct trim_state state = {.resident_bytes = resident_bytes(),
                               .least_bytes = trim->least_bytes,
                               .since_last_ns = now_ns - trim->last_ns,
                               .is_quiet = is_quiet(trim->api, &counters)};
    if (trim->is_working) {
        return;
    }
    trim->least_bytes = MIN(trim->least_bytes, state.resident_bytes);
    if (trim_is_due(&state)) {
        trim->work = (struct loop_work){.run = trim_run, .done = trim_done};
        trim->is_working = loop_work_start(trim->loop, &trim->work) == ERR_OK;
    }
}

void trim_start(struct trim *trim, struct loop *loop, struct api *api) {
    *trim = (struct trim){.api = api, .loop = loop, .least_bytes = resident_bytes()};
    trim->last_ns = clock_monotonic_ns();
    loop_timer_init(&trim->timer, timer_expired);
    loop_timer_start(loop, &trim->timer, trim->last_ns + TRIM_PERIOD_NS);
}

void trim_stop(struct trim *trim) {
    if (trim->loop) {
        loop_timer_stop(&trim->timer);
    }
}
