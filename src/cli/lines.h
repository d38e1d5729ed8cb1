/* Answers as NDJSON: one event a line, cut out of the pieces in which they come. Layer: base. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

struct event_lines {
    struct buf partial; /* the beginning of a line */
};
/* Adds the next piece and calls `take` for each whole line; it borrows the event and returns false
 * to stop. False if it did, or after saying that a line is no event (or longer than 1 MiB). */
MUST_USE bool event_lines_add(struct event_lines *lines, const char *data, size_t length,
                              bool (*take)(void *context, json_t *event), void *context);
void event_lines_done(struct event_lines *lines);
