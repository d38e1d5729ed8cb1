/* What the usage and help of a command say about its options and arguments, for those that need it
 * apart: completion (completion.c) and the manual page (docs_man.c). So nobody has to write it
 * twice.
 *
 * In a help text a line of options begins with two spaces and a dash; options in it are set apart
 * by two spaces or more: "  -f, --follow   go on", "  --memory SIZE  --cpu TIME". Layer: all.
 * Thread: the only one. */
#pragma once

#include "base/buf.h"
#include "cli/command.h"

struct usage_option {
    struct str name;  /* without its dashes */
    char letter;      /* 0: none */
    struct str value; /* "SIZE", "keep|fresh|ro|VOLUME"; empty: none */
};
/* Calls `visit` for each option of the command, --help not counted. What is passed lives for the
 * call only. */
void usage_options_each(const struct command *command,
                        void (*visit)(void *argument, const struct usage_option *option),
                        void *argument);

enum usage_kind {
    USAGE_NONE, /* nothing that could be listed */
    USAGE_APP,
    USAGE_RUN,
    USAGE_APP_OR_RUN,
    USAGE_REMOTE,         /* APP:/FILE */
    USAGE_REMOTE_OR_FILE, /* that, or a file of this machine */
    USAGE_FILE,
    USAGE_DIRECTORY,
    USAGE_COMMAND,
    USAGE_WORDS, /* one of those in the text, with bars between them; capital ones stand for more */
};
struct usage_argument {
    enum usage_kind kind;
    struct str text; /* borrowed from the command */
};
#define USAGE_ARGUMENTS_MAX 4
/* The arguments that are no options, in order; where the last one is repeated it stands for all
 * that follow. Returns their number. */
size_t usage_arguments(const struct command *command,
                       struct usage_argument ret_arguments[USAGE_ARGUMENTS_MAX],
                       bool *ret_last_repeats);
/* Of the value of an option, or of an argument. */
enum usage_kind usage_kind_of(struct str text);
