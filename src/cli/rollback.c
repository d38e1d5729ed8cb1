/* `0asm rollback`: an older version again. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char rollback_help[] =
    "The program and files of version N become the newest version; without N, those of the version "
    "before the\ncurrent one, and once more, of the one before that. What its runs have written "
    "stays, and so do its settings.\n\n"
    "  0asm rollback hello\n"
    "  0asm rollback hello 3\n";

static int rollback(struct client *client, const struct arguments *arguments) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    remote_app_target(arguments->list[0], "/rollback", &target);
    if (arguments->count == 2) {
        text_add_parameter(&target, "version", arguments->list[1]);
    }
    struct client_request request = {
        .method = "POST", .target = buf_text(&target), .gather = &text};
    if (!client_perform(client, &request, NULL)) {
        return 1;
    }
    text_print(stdout, buf_str(&text));
    return 0;
}

int rollback_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(rollback), .count_min = 1, .count_max = 2};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client =
            remote_check_app_name(arguments.list[0]) ? client_new(arguments.server) : NULL;
        status = client ? rollback(client, &arguments) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
