/* `0asm ls`: names in a directory of an app. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <unistd.h>

const char ls_help[] = "One name a line, a slash after directories. APP alone is APP:/.\n\n"
                       "  0asm ls hello:/data\n";

/* At a terminal control characters are escaped; a program gets the names as they are. */
static void print_name(const char *name, const char *after) {
    if (isatty(STDOUT_FILENO)) {
        cleanup_buf struct buf escaped = {0};
        text_escape(str_of(name), false, &escaped);
        printf("%s%s\n", buf_text(&escaped), after);
    } else {
        printf("%s%s\n", name, after);
    }
}

static bool list(struct client *client, const char *path) {
    cleanup_buf struct buf target = {0};
    enum remote_kind kind;
    if (!remote_target(path, true, &target) || !remote_kind(client, buf_text(&target), &kind)) {
        return false;
    }
    if (kind == REMOTE_FILE) {
        print_name(path, "");
        return true;
    }
    json_t *names = remote_list(client, buf_text(&target)); /* says so if it is not there */
    size_t index;
    json_t *entry;
    json_array_foreach(names, index, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        const char *type = json_string_value(json_object_get(entry, "type"));
        if (name) {
            print_name(name, type && strcmp(type, "directory") == 0 ? "/" : "");
        }
    }
    bool good = names != NULL;
    json_decref(names);
    return good;
}

int ls_main(int argc, char **argv) {
    struct arguments arguments = {
        .command = COMMAND_ROW(ls), .count_min = 1, .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? 0 : 1;
        for (size_t i = 0; client && i < arguments.count; i++) {
            status = list(client, arguments.list[i]) ? status : 1;
        }
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
