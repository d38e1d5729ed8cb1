#include "usage.h"

#include "serve.h"
#include "serve_options.h"

#include <ctype.h>

/* Cuts at two spaces or more. */
static struct str cut_group(struct str *rest) {
    size_t length = 0;
    while (length < rest->length && !(rest->data[length] == ' ' && length + 1 < rest->length &&
                                      rest->data[length + 1] == ' ')) {
        length++;
    }
    struct str group = {rest->data, length};
    while (length < rest->length && rest->data[length] == ' ') {
        length++;
    }
    *rest = (struct str){rest->data + length, rest->length - length};
    return group;
}

static void skip(struct str *text, size_t count) {
    text->data += count;
    text->length -= count;
}

/* "-f, --follow", "--tag K:V". False if the group is none. */
static bool parse_option(struct str group, struct usage_option *ret_option) {
    struct usage_option option = {0};
    if (group.length > 4 && group.data[0] == '-' && group.data[1] != '-' && group.data[2] == ',') {
        option.letter = group.data[1];
        skip(&group, 4);
    }
    if (!str_starts(group, STR("--"))) {
        return false;
    }
    skip(&group, 2);
    option.name = str_cut(&group, ' ');
    option.value = group;
    *ret_option = option;
    return option.name.length > 0;
}

void usage_options_each(const struct command *command,
                        void (*visit)(void *argument, const struct usage_option *option),
                        void *argument) {
    struct str rest = str_of(command->help);
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        if (!str_starts(line, STR("  -"))) {
            continue;
        }
        skip(&line, 2);
        struct usage_option option;
        while (line.length > 0 && parse_option(cut_group(&line), &option)) {
            visit(argument, &option);
        }
    }
    for (size_t i = 0; command == &command_serve && i < serve_option_count; i++) {
        struct usage_option option = {.name = str_of(serve_option_rows[i].name),
                                      .value = str_of(serve_option_rows[i].value)};
        visit(argument, &option);
    }
    if (command >= commands && command < commands + command_count) {
        struct usage_option option = {.name = STR("server"), .value = STR("URL")};
        visit(argument, &option);
    }
}

/* --- arguments -------------------------------------------------------------------------------- */

static bool contains(struct str text, const char *part) {
    return text.length > 0 && memmem(text.data, text.length, part, strlen(part)) != NULL;
}

enum usage_kind usage_kind_of(struct str text) {
    bool has_words = text.length > 0 && islower((unsigned char)text.data[0]);
    if (contains(text, "APP:")) {
        return USAGE_REMOTE;
    }
    if (str_starts(text, STR("SOURCE")) || str_starts(text, STR("TARGET"))) {
        return USAGE_REMOTE_OR_FILE;
    }
    if (str_starts(text, STR("NAME"))) {
        return contains(text, "ID") ? USAGE_APP_OR_RUN : USAGE_APP;
    }
    if (str_starts(text, STR("ID"))) {
        return USAGE_RUN;
    }
    if (str_starts(text, STR("DIR"))) {
        return USAGE_DIRECTORY;
    }
    if (str_starts(text, STR("FILE")) || str_starts(text, STR("ARGUMENT"))) {
        return USAGE_FILE;
    }
    if (str_starts(text, STR("COMMAND"))) {
        return USAGE_COMMAND;
    }
    return has_words ? USAGE_WORDS : USAGE_NONE;
}

/* The next word of a usage; brackets hold together what is in them. */
static struct str cut_word(struct str *rest) {
    int depth = 0;
    size_t length = 0;
    for (; length < rest->length && (depth > 0 || rest->data[length] != ' '); length++) {
        depth += (rest->data[length] == '[') - (rest->data[length] == ']');
    }
    struct str word = {rest->data, length};
    skip(rest, length < rest->length ? length + 1 : length);
    return word;
}

static bool ends_with_dots(struct str text) {
    return text.length >= 3 && memcmp(text.data + text.length - 3, "...", 3) == 0;
}

size_t usage_arguments(const struct command *command,
                       struct usage_argument ret_arguments[USAGE_ARGUMENTS_MAX],
                       bool *ret_last_repeats) {
    struct str rest = str_of(command->usage);
    size_t count = 0;
    *ret_last_repeats = false;
    while (rest.length > 0 && count < USAGE_ARGUMENTS_MAX) {
        struct str word = cut_word(&rest);
        bool is_optional = word.length > 2 && word.data[0] == '[';
        if (is_optional) {
            word = (struct str){word.data + 1, word.length - 2};
        }
        bool is_option = str_starts(word, STR("-")) || str_equal_text(word, "OPTIONS");
        if (word.length == 0 || is_option) {
            continue;
        }
        *ret_last_repeats = ends_with_dots(word);
        ret_arguments[count++] = (struct usage_argument){usage_kind_of(word), word};
    }
    return count;
}
