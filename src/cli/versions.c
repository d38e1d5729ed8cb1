/* `0asm versions`: what an app was uploaded with, over time. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char versions_help[] =
    "A line each, the newest first: number, time, hash and size of the program, the files that "
    "came "
    "with it,\nand where it came from.\n\n"
    "  --remove N           remove an older version, and what nothing else uses of it\n\n"
    "  0asm versions hello\n"
    "  0asm versions hello --remove 1\n";

static bool print(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    remote_app_target(name, "/versions", &target);
    if (!client_get(client, buf_text(&target), NULL, &text)) {
        return false;
    }
    text_print(stdout, buf_str(&text));
    return true;
}

static bool remove_one(struct client *client, const char *name, const char *number) {
    cleanup_buf struct buf target = {0};
    if (!remote_is_run_id(number)) { /* digits, too */
        cli_error("'%s' is no version's number", number);
        return false;
    }
    remote_app_target(name, "/versions/", &target);
    cli_check(buf_append_str(&target, str_of(number)));
    struct client_request request = {.method = "DELETE", .target = buf_text(&target)};
    return client_perform(client, &request, NULL);
}

int versions_main(int argc, char **argv) {
    const char *removed = NULL;
    const struct argument_option options[] = {{.name = "remove", .text = &removed}};
    struct arguments arguments = {.command = COMMAND_ROW(versions),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        const char *name = arguments.list[0];
        struct client *client = remote_check_app_name(name) ? client_new(arguments.server) : NULL;
        bool done = client && (removed ? remove_one(client, name, removed) : print(client, name));
        status = done ? 0 : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
