/* What a program writes for somebody who has left. It is dropped, and for a second or
 * UNHEARD_BYTES_MAX after the first such write the program is not told, so that one which does its
 * work and writes a short page need not care; afterwards its writes are to fail, so that a stream
 * for nobody ends. Thread: whoever holds the owner's lock. Layer: base. */
#pragma once

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>

#define UNHEARD_BYTES_MAX (64 * KIB)
#define UNHEARD_NS NS_PER_S

/* All zero before the first write. */
struct unheard {
    uint64_t bytes, since_ns; /* that were dropped, the first of them then; 0: none was */
};

/* So many bytes more are dropped. True: the program is to be told. */
static inline bool unheard_drop(struct unheard *unheard, size_t length) {
    uint64_t now_ns = clock_monotonic_ns();
    if (unheard->since_ns == 0) {
        unheard->since_ns = now_ns;
    }
    unheard->bytes += length;
    return unheard->bytes > UNHEARD_BYTES_MAX || now_ns - unheard->since_ns > UNHEARD_NS;
}
