/* What the program is made of as its user sees it. Layer: all. */
#pragma once

#include "cli/command.h"

#include <stddef.h>

#ifndef ZASM_VERSION
#define ZASM_VERSION "0.1.0"
#endif

/* Every command in the order of `0asm help`; NULL behind the last one. */
const struct command *program_command(size_t index);
