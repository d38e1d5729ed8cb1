/* `0asm completion bash|zsh`: a script that teaches a shell the commands, their options and what
 * may follow them; names and ids are asked from the server at the time. Made from the commands' own
 * usage and help (usage.h). Layer: all. */
#pragma once

#include "cli/command.h"

extern const struct command command_completion;
