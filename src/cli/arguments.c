#include "cli/arguments.h"

static int take_option(struct arguments *arguments, const struct argument_option *option,
                       const char *shown, const char *value) {
    if (option->flag) {
        *option->flag = true;
    } else if (option->text) {
        if (*option->text) {
            return command_misused(arguments->command, "%s is given twice", shown);
        }
        *option->text = value;
    } else if (option->values) {
        option->values->list[option->values->count++] = value;
    } else {
        text_add_parameter(arguments->target, option->parameter, value);
    }
    return 0;
}

static const struct argument_option *find_option(const struct arguments *arguments,
                                                 struct str name) {
    for (size_t i = 0; i < arguments->option_count; i++) {
        const struct argument_option *option = &arguments->options[i];
        char letter[] = {'-', option->letter, 0};
        if ((option->letter && str_equal_text(name, letter)) ||
            (str_starts(name, STR("--")) &&
             str_equal_text((struct str){name.data + 2, name.length - 2}, option->name))) {
            return option;
        }
    }
    return NULL;
}

/* One option at argv[*at], which is moved to its value if that is an argument of its own. */
static int parse_option(struct arguments *arguments, int argc, char **argv, int *at) {
    const struct argument_option server = {.name = "server", .text = &arguments->server};
    const char *argument = argv[*at];
    const char *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    struct str name = {argument, equals ? (size_t)(equals - argument) : strlen(argument)};
    if (str_equal_text(name, "--help") || str_equal_text(name, "-h")) {
        command_print_help(arguments->command, stdout);
        return COMMAND_HELPED;
    }
    const struct argument_option *option =
        str_equal_text(name, "--server") ? &server : find_option(arguments, name);
    if (!option) {
        return command_misused(
            arguments->command, "there is no option " STR_FORMAT "%s", STR_ARGS(name),
            arguments->literal_from ? " (what is meant for the program goes behind --)" : "");
    }
    if (option->flag && equals) {
        return command_misused(arguments->command, STR_FORMAT " takes no value", STR_ARGS(name));
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!option->flag && !value) {
        if (*at + 1 == argc) {
            return command_misused(arguments->command, STR_FORMAT " needs a value", STR_ARGS(name));
        }
        value = argv[++*at];
    }
    cleanup_free char *shown = strndup(name.data, name.length);
    return take_option(arguments, option, shown ? shown : "the option", value);
}

int arguments_parse(struct arguments *arguments, int argc, char **argv) {
    arguments->list = calloc((size_t)argc + 1, sizeof *arguments->list);
    cli_check(arguments->list ? ERR_OK : ERR_NOMEM);
    bool literal = false;
    for (int i = 1; i < argc; i++) {
        if (!literal && strcmp(argv[i], "--") == 0) {
            literal = true;
            continue;
        }
        /* A lone dash is standard input. */
        if (!literal && argv[i][0] == '-' && argv[i][1]) {
            int status = parse_option(arguments, argc, argv, &i);
            if (status) {
                return status;
            }
            continue;
        }
        arguments->list[arguments->count++] = argv[i];
        literal =
            literal || (arguments->literal_from > 0 && arguments->count >= arguments->literal_from);
    }
    if (arguments->count < arguments->count_min) {
        return command_misused(arguments->command, "something is missing");
    }
    if (arguments->count > arguments->count_max) {
        return command_misused(arguments->command, "'%s' is too much",
                               arguments->list[arguments->count_max]);
    }
    return 0;
}

void arguments_done(struct arguments *arguments) {
    free(arguments->list);
    arguments->list = NULL;
}
