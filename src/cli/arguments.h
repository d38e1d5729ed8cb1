/* The arguments of a command: options anywhere, "--" ends them. Where the arguments may be another
 * program's (`literal_from`), the first of these ends the options, too.
 *
 * An option is "--name VALUE", "--name=VALUE" or "--name"; some have a letter, "-f". Every command
 * that talks to a server has --server. Thread: the only one. Layer: base. */
#pragma once

#include "cli/command.h"
#include "cli/text.h"

/* The values of an option that may be repeated, in order; `list` has room for all arguments and is
 * the caller's to free. */
struct argument_values {
    const char **list; /* of borrowed text */
    size_t count;
};

struct argument_option {
    const char *name; /* without its dashes */
    char letter;      /* 0: none */
    /* One of these: */
    bool *flag;                     /* set to true */
    const char **text;              /* gets the value; given twice it is an error */
    const char *parameter;          /* added with the value to the request target `target` */
    struct argument_values *values; /* gets one more value */
};

struct arguments {
    const struct command *command;
    const struct argument_option *options; /* besides --server; may be NULL */
    size_t option_count;
    struct buf *target;  /* for options with `parameter` */
    size_t count_min;    /* arguments that are no options */
    size_t count_max;    /* SIZE_MAX: any number */
    size_t literal_from; /* from this argument on nothing is an option any more; 0: no such */

    /* The results: */
    char **list; /* owned array of borrowed text */
    size_t count;
    const char *server; /* NULL if not given */
};

/* Returns 0, 2 after saying what is wrong, or COMMAND_HELPED for --help or -h. `arguments_done`
 * afterwards in any case. */
int arguments_parse(struct arguments *arguments, int argc, char **argv);
void arguments_done(struct arguments *arguments);
