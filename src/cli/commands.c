#include "cli/commands.h"

#include "cli/text.h"

#include <stdarg.h>

#define ROW(id, usage_text, summary_text, ...)                                                     \
    [COMMAND_##id] = {.name = #id,                                                                 \
                      .usage = usage_text,                                                         \
                      .summary = summary_text,                                                     \
                      .help = id##_help,                                                           \
                      .run = id##_main,                                                            \
                      __VA_ARGS__}

const struct command commands[] = {
    ROW(create, "NAME [FILE|DIR|-] [OPTIONS]", "upload a program, or its next version"),
    ROW(run, "NAME [OPTIONS] [--] [ARGUMENT...]", "run a program; its streams are yours",
        .passes_arguments = true),
    ROW(call, "NAME", "ask a program: standard input is the question, the answer comes back"),
    ROW(apps, "[-q]", "list the apps"),
    ROW(show, "NAME", "what an app is: version, size, settings"),
    ROW(open, "NAME [--print]", "show an app's own pages in a browser"),
    ROW(versions, "NAME [--remove N]", "the versions of an app"),
    ROW(rollback, "NAME [N]", "an older version of an app again; its data stays"),
    ROW(ps, "[--all] [--tag K:V]", "list the programs that run"),
    ROW(top, "[--once] [-n N]", "the programs that run, those that compute most first"),
    ROW(log, "[-f] NAME|ID", "what an app's runs, or one run, wrote"),
    ROW(trace, "ID", "the host calls of a run"),
    ROW(kill, "ID... | --tag K:V", "end runs"),
    ROW(pause, "ID...", "stop runs where they are"),
    ROW(resume, "ID...", "let paused runs go on"),
    ROW(env, "NAME [KEY[=VALUE]...] [--unset KEY]", "read and set an app's environment"),
    ROW(secret, "NAME [KEY [--host HOST]...] [--unset KEY]",
        "write an app's secrets; nothing reads them back"),
    ROW(ls, "APP:/DIR...", "list a directory of an app"),
    ROW(cat, "APP:/FILE...", "print files of an app"),
    ROW(cp, "[-r] SOURCE... TARGET", "copy files to, from and between apps"),
    ROW(mv, "APP:/OLD APP:/NEW", "rename a file or directory of an app"),
    ROW(rm, "[-r] APP:/FILE...|APP...", "remove files of an app, or an app"),
    ROW(alarm, "NAME [ALARM] [--set LINE] [--rm]", "have an app run by itself at certain times"),
    ROW(health, "", "whether the server answers"),
};
const size_t command_count = ARRAY_LENGTH(commands);

void command_print_help(const struct command *command, FILE *stream) {
    fprintf(stream, "0asm %s: %s\n\nusage: 0asm %s%s%s\n", command->name, command->summary,
            command->name, command->usage[0] ? " " : "", command->usage);
    if (command->help && command->help[0]) {
        fprintf(stream, "\n%s", command->help);
    }
    if (command->print_more) {
        command->print_more();
    }
    bool is_client = command >= commands && command < commands + command_count;
    if (is_client) {
        fprintf(stream, "\n  --server URL     the server ($ZASM_SERVER, or "
                        "http://127.0.0.1:8080); its token is $ZASM_TOKEN\n");
    }
}

bool command_wants_help(const struct command *command, int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            command_print_help(command, stdout);
            return true;
        }
    }
    return false;
}

int command_misused(const struct command *command, const char *format, ...) {
    cleanup_buf struct buf text = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&text, format, arguments);
    va_end(arguments);
    cli_check(err);
    cli_error("%s; usage: 0asm %s%s%s ('0asm %s --help' explains it)", buf_text(&text),
              command->name, command->usage[0] ? " " : "", command->usage, command->name);
    return 2;
}
