/* What each command's file gives to the table in commands.c. Layer: base. */
#pragma once

#include "cli/command.h"

#include <stddef.h>

/* The row of a command: NAME_main finds its own for messages about wrong usage. */
/* clang-format off */
#define COMMANDS(X)                                                                                \
    X(call)                                                                                        \
    X(create) X(run) X(apps) X(show) X(open) X(versions) X(rollback) X(ps) X(top) X(log) X(trace)   \
    X(kill) X(pause) X(resume) X(env) X(secret) X(ls) X(cat) X(cp) X(mv) X(rm) X(alarm)   \
    X(health)
/* clang-format on */

#define COMMAND_DECLARE(name)                                                                      \
    extern const char name##_help[];                                                               \
    int name##_main(int argc, char **argv);
COMMANDS(COMMAND_DECLARE)
#undef COMMAND_DECLARE

#define COMMAND_NUMBER(name) COMMAND_##name,
enum command_number { COMMANDS(COMMAND_NUMBER) };
#undef COMMAND_NUMBER
#define COMMAND_ROW(name) (&commands[COMMAND_##name])
