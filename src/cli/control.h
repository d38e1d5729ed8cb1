/* The commands that write a word to /proc/ID/ctl. Layer: base. */
#pragma once

#include "cli/command.h"

/* Writes `verb` to the ctl of each run that is named; the exit status. */
int control_main(const struct command *command, const char *verb, int argc, char **argv);
