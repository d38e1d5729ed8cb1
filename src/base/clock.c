#include "base/clock.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t read_clock(clockid_t id) {
    struct timespec time;
    INVARIANT(clock_gettime(id, &time) == 0);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

uint64_t clock_monotonic_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_monotonic_coarse_ns(void) {
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

uint64_t clock_realtime_ns(void) {
    return read_clock(CLOCK_REALTIME);
}

uint64_t clock_thread_cpu_ns(void) {
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void random_bytes(void *data, size_t length) {
    uint8_t *at = data;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            log_fatal("getrandom: %s", strerror(errno));
        }
        at += got;
        length -= (size_t)got;
    }
}

void clock_format_utc(uint64_t realtime_ns, char text[CLOCK_TEXT_SIZE]) {
    time_t seconds = (time_t)(realtime_ns / NS_PER_S); /* 64 bits of ns end in the year 2554 */
    unsigned milliseconds = (unsigned)(realtime_ns % NS_PER_S / NS_PER_MS);
    struct tm tm;
    INVARIANT(gmtime_r(&seconds, &tm));
    size_t length = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    INVARIANT(length == 19);
    text[19] = '.';
    text[20] = (char)('0' + milliseconds / 100);
    text[21] = (char)('0' + milliseconds / 10 % 10);
    text[22] = (char)('0' + milliseconds % 10);
    text[23] = 'Z';
    text[24] = 0;
}
