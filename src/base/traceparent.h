/* W3C Trace Context, level 1: the header `traceparent`, by which every hop of a request can be
 * found again in the logs, and `tracestate`, which goes with it
 * (https://www.w3.org/TR/trace-context/, sections 3.2 and 3.3).
 *
 *     traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                  version, trace, parent, flags; lower case
 *     tracestate:  KEY=VALUE,KEY=VALUE; we add none, and hand on what came
 *
 * A value that is not valid is as none (section 4.3), so what is read has no error but INVAL.
 * Thread: any. */
#pragma once

#include "base/buf.h"

struct traceparent {
    uint8_t trace_id[16];
    uint8_t parent_id[8]; /* of the hop that sends it on: in our case, a run */
    uint8_t flags;        /* bit 0: sampled */
};

#define TRACEPARENT_TEXT_SIZE 56 /* with the NUL */
#define TRACESTATE_MAX 512       /* bytes that are handed on, as the standard asks for at least */
#define TRACESTATE_MEMBERS_MAX 32

/* INVAL if it is not valid: upper case, ids of zeros alone, version ff, a rest after version 00.
 * Of later versions what 00 has is taken, as the standard demands. */
MUST_USE enum err traceparent_parse(struct str text, struct traceparent *ret_traceparent);
/* Version 00. */
void traceparent_format(const struct traceparent *traceparent, char text[TRACEPARENT_TEXT_SIZE]);
/* The next hop's: of the same trace, with a parent-id drawn at random. */
struct traceparent traceparent_child(const struct traceparent *parent);
/* The first hop of a new trace. Sampled: somebody has asked for it. */
struct traceparent traceparent_new(void);
/* The values of all fields `tracestate`, with a comma between, as one value of at most
 * TRACESTATE_MAX bytes, appended: members that do not fit are left out, and all behind them. */
MUST_USE enum err tracestate_parse(struct str text, struct buf *ret_tracestate);
