/* Clocks. The two CPU clocks show what the guest itself has used. */
#include "wasi/wasi_internal.h"

/* clock_res_get(id, resolution) */
enum err wasi_clock_res_get(struct wasi *wasi, const uint64_t *arguments) {
    if (argument_u32(arguments, 0) > CLOCKID_THREAD_CPUTIME)
        return ERR_INVAL;
    return guest_write_u64(wasi->guest, argument_u32(arguments, 1), 1);
}

/* clock_time_get(id, precision, time) */
enum err wasi_clock_time_get(struct wasi *wasi, const uint64_t *arguments) {
    uint64_t time_ns;
    switch (argument_u32(arguments, 0)) {
    case CLOCKID_REALTIME:
        time_ns = clock_realtime_ns();
        break;
    case CLOCKID_MONOTONIC:
        time_ns = clock_monotonic_ns();
        break;
    case CLOCKID_PROCESS_CPUTIME:
    case CLOCKID_THREAD_CPUTIME:
        if (!wasi->cpu_time_ns)
            return ERR_NOTSUP;
        time_ns = wasi->cpu_time_ns(wasi);
        break;
    default:
        return ERR_INVAL;
    }
    return guest_write_u64(wasi->guest, argument_u32(arguments, 2), time_ns);
}
