/* A record of a guest's host calls as text, a line each, like that of strace(1):
 *
 *     0.000113 path_open(3, follow, "in/a.csv", 0, read|seek|0x200008, 0, 0) = 5 <0.000041>
 *     0.000160 fd_read(5, [4096]) = 6 "1,2,3\n" <0.000009>
 *     0.000180 path_unlink_file(3, "no\x07") = noent <0.000007>
 *
 * The time since the trace began, the function, its arguments (without the addresses of results),
 * the result or the name of the error, and what the call took, in seconds. Buffers are shown by
 * their size and first bytes, strings are cut, and everything that is not printable is escaped.
 *
 * What is traced is hostile: addresses go through wasi/memory.h, and a line is bounded whatever the
 * guest passes. Thread: the run's loop. Layer: ns. */
#pragma once

#include "wasi/wasi.h"

struct wasi_trace {
    /* Set by the owner before the first call: */
    uint64_t began_ns;   /* monotonic; what times are counted from */
    uint64_t room_bytes; /* when so much has been written, calls are only counted */

    /* For the owner to take; the last line may be that of a call under way, which goes on later. */
    struct buf text;
    uint64_t untold; /* calls that are not in it */

    /* the call under way */
    bool in_call;
    uint64_t call_began_ns;
};

/* Around a call: wasi.c calls these if wasi->trace is set. */
void wasi_trace_begin(struct wasi *wasi, const struct wasi_function *function,
                      const uint64_t *arguments);
void wasi_trace_end(struct wasi *wasi, const struct wasi_function *function,
                    const uint64_t *arguments, enum err result);
/* The last lines: of a call that was given up, of calls that were not written, and how it ended
 * ("exit 0"). Nothing may be traced afterwards. */
void wasi_trace_close(struct wasi_trace *trace, const char *how);
/* Frees the text. */
void wasi_trace_done(struct wasi_trace *trace);
