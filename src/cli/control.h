/* The commands that write a word to /proc/ID/ctl. Layer: base. */
#pragma once

#include "cli/arguments.h"

/* Writes `verb` to the ctl of each run that is named; the exit status. With `needs_running` it is a
 * failure if a run has ended. */
int control_runs(const struct arguments *arguments, const char *verb, bool needs_running);
/* The same for a command that has no options. */
int control_main(const struct command *command, const char *verb, bool needs_running, int argc,
                 char **argv);
