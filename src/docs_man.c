/* The manual page, 0asm.1, in the macros of man(7): of the commands' usage and help. */
#include "docs.h"

#include "base/buf.h"
#include "program.h"
#include "serve.h"
#include "serve_options.h"

#include <ctype.h>
#include <stdio.h>

/* Text in which nothing is a request or an escape. */
static void print_text(struct str text) {
    if (text.length > 0 && (text.data[0] == '.' || text.data[0] == '\'')) {
        printf("\\&");
    }
    for (size_t i = 0; i < text.length; i++) {
        switch (text.data[i]) {
        case '\\':
            printf("\\e");
            break;
        case '-':
            printf("\\-");
            break;
        case '\'':
            printf("\\(aq");
            break;
        case '`':
            printf("\\(ga");
            break;
        case '^':
            printf("\\(ha");
            break;
        case '~':
            printf("\\(ti");
            break;
        default:
            putchar(text.data[i]);
        }
    }
}

static void print_upper(const char *text) {
    for (; *text; text++) {
        putchar(toupper((unsigned char)*text));
    }
}

/* Lines that begin with two spaces are shown as they stand, the others are filled. */
static void print_help(struct str help) {
    bool is_shown = false;
    bool is_new = true; /* a paragraph */
    while (help.length > 0) {
        struct str line = str_cut(&help, '\n');
        bool show = str_starts(line, STR("  "));
        if (line.length == 0) {
            is_new = true;
            continue;
        }
        if (is_shown && (!show || is_new)) {
            printf(".EE\n");
            is_shown = false;
        }
        if (is_new) {
            printf(".PP\n");
            is_new = false;
        }
        if (show && !is_shown) {
            printf(".EX\n");
            is_shown = true;
        }
        print_text(line);
        putchar('\n');
    }
    if (is_shown) {
        printf(".EE\n");
    }
}

static void print_serve_options(void) {
    const char *group = "";
    for (size_t i = 0; i < serve_option_count; i++) {
        const struct option_row *row = &serve_option_rows[i];
        if (strcmp(row->group, group) != 0) {
            group = row->group;
            printf(".PP\n%s:\n", group);
        }
        printf(".TP\n.BI \\-\\-");
        print_text(str_of(row->name));
        printf(" \" %s\"\n", row->value);
        print_text(str_of(row->help));
        if (row->initial[0]) {
            printf(" (");
            print_text(str_of(row->initial));
            putchar(')');
        }
        putchar('\n');
    }
}

static void print_command(const struct command *command) {
    printf(".SS ");
    print_upper(command->name);
    printf("\n.B 0asm %s\n", command->name);
    if (command->usage[0]) {
        print_text(str_of(command->usage));
        putchar('\n');
    }
    printf(".PP\n%c", toupper((unsigned char)command->summary[0]));
    print_text(str_of(command->summary + 1));
    printf(".\n");
    if (command->help) {
        print_help(str_of(command->help));
    }
    if (command == &command_serve) {
        print_serve_options();
    }
}

void docs_print_man(void) {
    printf(".\\\" Made by `0asm docs man`.\n"
           ".TH 0ASM 1 \"\" \"0asm %s\" \"0asm\"\n"
           ".SH NAME\n"
           "0asm \\- a WebAssembly cloud in one process\n"
           ".SH SYNOPSIS\n"
           ".B 0asm\n"
           ".I COMMAND\n"
           ".RI [ ARGUMENTS ]\n"
           ".SH DESCRIPTION\n"
           "Uploads WASI programs and runs them, each run in a fresh sandbox with limits.\n",
           ZASM_VERSION);
    printf(
        ".PP\n.B 0asm serve\n"
        "is the server. The other commands talk to one, by HTTP. Options may stand anywhere, as\n"
        ".B \\-\\-name VALUE\n"
        "or\n"
        ".BR \\-\\-name=VALUE ;\n"
        "with\n"
        ".B 0asm run\n"
        "they stand before the arguments of the program.\n"
        ".SH COMMANDS\n");
    const struct command *command;
    for (size_t i = 0; (command = program_command(i)); i++) {
        print_command(command);
    }
    printf(".SH ENVIRONMENT\n"
           ".TP\n.B ZASM_SERVER\n"
           "The server that commands talk to, unless\n.B \\-\\-server\nnames one;\n"
           "http://127.0.0.1:8080 if it is not set.\n"
           ".TP\n.B ZASM_TOKEN\n"
           "The token that commands send, and one that\n.B 0asm serve\naccepts.\n"
           ".SH EXIT STATUS\n"
           "0; 1 after a failure, which is one line on standard error; 2 for wrong usage.\n"
           ".B 0asm run\n"
           "has that of the program, or 126 if it could not be started.\n"
           ".SH SEE ALSO\n"
           ".BR curl (1)\n");
}
