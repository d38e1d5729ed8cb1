/* `0asm serve`: puts the parts together and runs until it is told to stop. Layer: all. */
#pragma once

#include "cli/command.h"

extern const struct command command_serve;
/* `0asm token`: makes a token in a state directory. */
extern const struct command command_token;
