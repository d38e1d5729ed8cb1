/* The commands of `0asm`: one file each, one row each in commands.c. Layer: base (and libcurl). */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct command {
    const char *name;
    const char *usage;   /* what follows the name: "NAME FILE [--arg A]…" */
    const char *summary; /* one line, for `0asm help` */
    const char *help;    /* the rest of `0asm NAME --help`: options and examples, whole lines */
    void (*print_more)(void); /* prints what can't be a constant, below `help`; may be NULL */
    /* Its arguments may be another program's, and so may --help: `run` knows where they begin. */
    bool passes_arguments;
    /* argv[0] is the command's name. Returns the exit status: 0, 1 for a failure that was told on
     * standard error, 2 for wrong usage; `run` returns the program's own. Or COMMAND_HELPED. */
    int (*run)(int argc, char **argv);
};

/* No exit status: help was asked for and has been printed. */
enum { COMMAND_HELPED = -1 };

/* Those that talk to a server, in the order of `0asm help`. */
extern const struct command commands[];
extern const size_t command_count;

/* Usage, summary and help of a command, as --help prints them. */
void command_print_help(const struct command *command, FILE *stream);
/* Whether `--help` or `-h` stands among the arguments before a `--`; then it has been printed. */
bool command_wants_help(const struct command *command, int argc, char **argv);
/* Says what is wrong and how to get help, on standard error; returns 2. */
int command_misused(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
