/* Time and randomness behind one seam, so that tests can drive them. Thread: any. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_monotonic_ns(void); /* since an arbitrary point, never goes back */
/* The same, some milliseconds behind, for a fraction of the price. */
uint64_t clock_monotonic_coarse_ns(void);
uint64_t clock_realtime_ns(void);   /* since 1970-01-01T00:00:00Z */
uint64_t clock_thread_cpu_ns(void); /* CPU time that the calling thread has used */

/* Fills `data` from the host's generator (getrandom); the process ends if that fails. */
void random_bytes(void *data, size_t length);

/* A time as "2026-11-23T15:07:29.123Z" (RFC 3339, UTC, milliseconds): 24 characters and a NUL. */
#define CLOCK_TEXT_SIZE 25
void clock_format_utc(uint64_t realtime_ns, char text[CLOCK_TEXT_SIZE]);
