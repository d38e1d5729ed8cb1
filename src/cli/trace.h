/* The trace of a run, shown. Thread: the only one. Layer: base. */
#pragma once

#include "cli/client.h"

#include <stdio.h>

/* Prints /proc/ID/trace as it grows, to its end. Says what went wrong and returns false. */
MUST_USE bool trace_print(struct client *client, const char *run_id, FILE *stream);
