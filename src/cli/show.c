/* `0asm show`: what is known of an app. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char show_help[] = "Prints 'name: value' lines, then its arguments and environment.\n";

static bool print_arguments(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    remote_app_target(name, "/args", &target);
    if (!client_get(client, buf_text(&target), NULL, &text)) {
        return false;
    }
    struct str rest = buf_str(&text);
    while (rest.length > 0) {
        fputs("arg: ", stdout);
        text_print(stdout, str_cut(&rest, '\n'));
        putchar('\n');
    }
    return true;
}

static bool print_environment(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    remote_app_target(name, "/env", &target);
    json_t *list = remote_list(client, buf_text(&target));
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *key = json_string_value(json_object_get(entry, "name"));
        fputs("env: ", stdout);
        text_print(stdout, str_of(key ? key : "?"));
        putchar('\n');
    }
    bool good = list != NULL;
    json_decref(list);
    return good;
}

static int show_app(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf info = {0};
    remote_app_target(name, "/info", &target);
    if (!client_get(client, buf_text(&target), NULL, &info)) {
        return 1;
    }
    text_print(stdout, buf_str(&info));
    return print_arguments(client, name) && print_environment(client, name) ? 0 : 1;
}

int show_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(show), .count_min = 1, .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        const char *name = arguments.list[0];
        struct client *client = remote_check_app_name(name) ? client_new(arguments.server) : NULL;
        status = client ? show_app(client, name) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
