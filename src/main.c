/* `0asm`: finds the command and runs it. */
#include "cli/command.h"
#include "docs.h"
#include "engine/engine.h"
#include "serve.h"

#include <string.h>

#ifndef ZASM_VERSION
#define ZASM_VERSION "0.1.0"
#endif

static const struct command *find_command(const char *name) {
    if (strcmp(name, command_serve.name) == 0) {
        return &command_serve;
    }
    if (strcmp(name, command_token.name) == 0) {
        return &command_token;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return &commands[i];
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
    print_row(&command_serve, stream);
    for (size_t i = 0; i < command_count; i++) {
        print_row(&commands[i], stream);
    }
    print_row(&command_token, stream);
    fprintf(stream, "  %-10s %s\n", "version", "what this is, and the engine in it");
    fprintf(stream, "  %-10s %s\n", "help", "this text, or that of a command: 0asm help COMMAND");
    fprintf(stream, "\nEach command explains itself: 0asm COMMAND --help. The commands talk to the "
                    "server at\n$ZASM_SERVER (http://127.0.0.1:8080 if it is not set), or at "
                    "--server URL.\n");
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
    if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
        printf("0asm %s (engine %s)\n", ZASM_VERSION, engine_key());
        return 0;
    }
    bool help = strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (help && argc == 2) {
        print_overview(stdout);
        return 0;
    }
    if (help) {
        name = argv[2];
    }
    const struct command *command = find_command(name);
    if (!command) {
        fprintf(stderr, "error: no command named '%s'; '0asm help' lists them\n", name);
        return 2;
    }
    if (help) {
        command_print_help(command, stdout);
        return 0;
    }
    if (command_wants_help(command, argc - 1, argv + 1)) {
        return 0;
    }
    return command->run(argc - 1, argv + 1);
}
