/* `0asm`: finds the command and runs it. */
#include "completion.h"
#include "docs.h"
#include "engine/engine.h"
#include "program.h"
#include "serve.h"

#include <string.h>

static int version_main(int argc, char **argv);
static int help_main(int argc, char **argv);

static const struct command command_version = {.name = "version",
                                               .usage = "",
                                               .summary = "what this is, and the engine in it",
                                               .run = version_main};
static const struct command command_help = {
    .name = "help",
    .usage = "[COMMAND]",
    .summary = "this text, or that of a command: 0asm help COMMAND",
    .run = help_main};

/* Those that need no server, behind the others. */
static const struct command *const local_commands[] = {&command_token, &command_completion,
                                                       &command_version, &command_help};

const struct command *program_command(size_t index) {
    if (index == 0) {
        return &command_serve;
    }
    if (index <= command_count) {
        return &commands[index - 1];
    }
    index -= command_count + 1;
    return index < sizeof local_commands / sizeof *local_commands ? local_commands[index] : NULL;
}

static const struct command *find_command(const char *name) {
    const struct command *command;
    for (size_t i = 0; (command = program_command(i)); i++) {
        if (strcmp(name, command->name) == 0) {
            return command;
        }
    }
    return NULL;
}

static void print_row(const struct command *command, FILE *stream) {
    fprintf(stream, "  %-10s %s\n", command->name, command->summary);
}

static void print_overview(FILE *stream) {
    fprintf(stream, "0asm: a WebAssembly cloud in one process\n\n"
                    "usage: 0asm COMMAND [ARGUMENTS]\n\n");
    const struct command *command;
    for (size_t i = 0; (command = program_command(i)); i++) {
        print_row(command, stream);
    }
    fprintf(stream, "\nEach command explains itself: 0asm COMMAND --help. The commands talk to the "
                    "server at\n$ZASM_SERVER (http://127.0.0.1:8080 if it is not set), or at "
                    "--server URL.\n");
}

static int no_command(const char *name) {
    fprintf(stderr, "error: no command named '%s'; '0asm help' lists them\n", name);
    return 2;
}

static int version_main(int argc, char **argv) {
    if (argc > 1) {
        return command_misused(&command_version, "'%s' is too much", argv[1]);
    }
    printf("0asm %s (engine %s)\n", ZASM_VERSION, engine_key());
    return 0;
}

static int help_main(int argc, char **argv) {
    if (argc > 2) {
        return command_misused(&command_help, "'%s' is too much", argv[2]);
    }
    if (argc < 2) {
        print_overview(stdout);
        return 0;
    }
    const struct command *command = find_command(argv[1]);
    if (!command) {
        return no_command(argv[1]);
    }
    command_print_help(command, stdout);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "compile-module") == 0 && argc == 4) {
        return engine_compile_main(argv[2], argv[3]);
    }
    if (strcmp(name, "docs") == 0 && argc == 3) {
        return docs_main(argv[2]);
    }
    if (strcmp(name, "--version") == 0) {
        name = command_version.name;
    } else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = command_help.name;
    }
    const struct command *command = find_command(name);
    if (!command) {
        return no_command(name);
    }
    if (!command->passes_arguments && command_wants_help(command, argc - 1, argv + 1)) {
        return 0;
    }
    int status = command->run(argc - 1, argv + 1);
    return status == COMMAND_HELPED ? 0 : status;
}
