/* How long runs waited, took to start and ran: histograms for /metrics. Each loop counts its own,
 * without locks, from times that are known anyway; whoever asks adds them up. */
#include "run/internal.h"

/* Upper ends of buckets; the last bucket has none. */
const uint64_t run_time_bounds_ns[RUN_TIME_BUCKETS - 1] = {
    10 * NS_PER_US,  25 * NS_PER_US,  50 * NS_PER_US, 100 * NS_PER_US, 250 * NS_PER_US,
    500 * NS_PER_US, 1 * NS_PER_MS,   3 * NS_PER_MS,  10 * NS_PER_MS,  30 * NS_PER_MS,
    100 * NS_PER_MS, 300 * NS_PER_MS, 1 * NS_PER_S,   3 * NS_PER_S,    10 * NS_PER_S,
    30 * NS_PER_S,   100 * NS_PER_S,  300 * NS_PER_S, 1000 * NS_PER_S,
};

/* One thread writes, so that no locked instruction is needed. */
static void add(atomic_uint_fast64_t *counter, uint64_t more) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

void run_note_time(struct run_loop *home, enum run_time which, uint64_t duration_ns) {
    struct run_loop_times *times = &home->times[which];
    size_t bucket = 0;
    while (bucket < RUN_TIME_BUCKETS - 1 && duration_ns > run_time_bounds_ns[bucket]) {
        bucket++;
    }
    add(&times->counts[bucket], 1);
    add(&times->sum_ns, duration_ns);
}

struct run_times runs_times(struct runs *runs, enum run_time which) {
    struct run_times all = {0};
    for (size_t i = 0; i < runs->loop_count; i++) {
        const struct run_loop_times *times = &runs->loops[i].times[which];
        for (size_t j = 0; j < RUN_TIME_BUCKETS; j++) {
            all.counts[j] += atomic_load_explicit(&times->counts[j], memory_order_relaxed);
        }
        all.sum_ns += atomic_load_explicit(&times->sum_ns, memory_order_relaxed);
    }
    return all;
}
