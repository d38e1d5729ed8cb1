/* `0asm mv`: renames within an app. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char mv_help[] = "What is at the new name is replaced. Into a directory: a target that is "
                       "one, or ends in a slash.\nBetween apps: cp, then rm.\n\n"
                       "  0asm mv hello:/draft.txt hello:/final.txt\n";

static bool move(struct client *client, const char *from, const char *to) {
    cleanup_buf struct buf from_target = {0};
    cleanup_buf struct buf to_target = {0};
    enum remote_kind kind;
    if (!remote_target(from, false, &from_target) || !remote_target(to, false, &to_target) ||
        !remote_kind(client, buf_text(&to_target), &kind)) {
        return false;
    }
    bool into = kind == REMOTE_DIRECTORY || to[strlen(to) - 1] == '/';
    if (into) {
        struct str name = str_base_name(buf_str(&from_target)); /* encoded already */
        cli_check(buf_printf(&to_target, "/" STR_FORMAT, STR_ARGS(name)));
    }
    struct client_request request = {
        .method = "MOVE", .target = buf_text(&from_target), .destination = buf_text(&to_target)};
    return client_perform(client, &request, NULL);
}

int mv_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(mv), .count_min = 2, .count_max = 2};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client && move(client, arguments.list[0], arguments.list[1]) ? 0 : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
