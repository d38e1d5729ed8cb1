/* What a program wrote, on its way to our standard output and error: in order, without waiting for
 * a slow reader until much has gathered. The server ends a client that takes nothing for a while,
 * which `0asm run x | less` should not be. Thread: the only one. Layer: base. */
#pragma once

#include "base/buf.h"

#include <poll.h>

/* So much is kept in memory; then whoever adds waits. */
#define OUTPUT_QUEUE_BYTES_MAX (128 * MIB)

struct outlet_piece;
struct outlet {
    struct outlet_piece *first, **last; /* owned list; `last` is where the next one goes */
    uint64_t bytes;                     /* in all of them */
};
void outlet_init(struct outlet *output);
void outlet_done(struct outlet *output);

/* `descriptor` is 1 or 2. Writes what can be written at once and keeps the rest. PIPE: nobody reads
 * our standard output any more; IO and others of write(2). INTR: a signal came while it waited for
 * room. What standard error can't take is dropped. */
MUST_USE enum err outlet_add(struct outlet *output, int descriptor, struct str data);
/* Writes what can be written without waiting (all of it if `wait`). */
MUST_USE enum err outlet_flush(struct outlet *output, bool wait);
/* What to wait for before outlet_flush helps; false if nothing is kept. */
bool outlet_poll(const struct outlet *output, struct pollfd *ret_poll);
