/* `0asm rm`: removes files, directories, apps. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char rm_help[] =
    "  -r, --recursive      directories with all that is in them, and whole apps\n\n"
    "  0asm rm hello:/data/old.txt\n"
    "  0asm rm -r hello\n";

static bool remove_path(struct client *client, const char *path, bool recursive) {
    cleanup_buf struct buf target = {0};
    bool is_app = remote_is_app_name(str_of(path));
    if (is_app && !recursive) {
        cli_error("'%s' is an app with all its versions and files: '0asm rm -r %s' removes it; a "
                  "file is APP:/FILE",
                  path, path);
        return false;
    }
    if (is_app) {
        remote_app_target(path, "", &target);
    } else if (!remote_target(path, false, &target)) {
        return false;
    }
    enum remote_kind kind = REMOTE_FILE;
    if (!recursive && !remote_kind(client, buf_text(&target), &kind)) {
        return false;
    }
    if (kind == REMOTE_DIRECTORY) {
        cli_error("%s is a directory; rm -r removes it with all that is in it", path);
        return false;
    }
    struct client_request request = {.method = "DELETE", .target = buf_text(&target)};
    return client_perform(client, &request, NULL);
}

int rm_main(int argc, char **argv) {
    bool recursive = false;
    const struct argument_option options[] = {
        {.name = "recursive", .letter = 'r', .flag = &recursive}};
    struct arguments arguments = {.command = COMMAND_ROW(rm),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? 0 : 1;
        for (size_t i = 0; client && i < arguments.count; i++) {
            status = remove_path(client, arguments.list[i], recursive) ? status : 1;
        }
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
