/* `0asm cat`: files of an app to standard output. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>

const char cat_help[] = "  0asm cat hello:/data/notes.txt\n";

static bool write_through(void *context, const struct client_response *response, const char *data,
                          size_t length) {
    const char *path = context;
    if (client_response_is_directory(response)) {
        cli_error("%s is a directory; '0asm ls' lists it", path);
        return false;
    }
    if (fwrite(data, 1, length, stdout) != length) {
        cli_error("standard output can't be written: %s", strerror(errno));
        return false;
    }
    return true;
}

static bool print(struct client *client, char *path) {
    cleanup_buf struct buf target = {0};
    if (!remote_target(path, false, &target)) {
        return false;
    }
    struct client_request request = {.method = "GET",
                                     .target = buf_text(&target),
                                     .accept = "application/json",
                                     .write = write_through,
                                     .write_context = path};
    return client_perform(client, &request, NULL);
}

int cat_main(int argc, char **argv) {
    struct arguments arguments = {
        .command = COMMAND_ROW(cat), .count_min = 1, .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? 0 : 1;
        for (size_t i = 0; client && i < arguments.count; i++) {
            status = print(client, arguments.list[i]) ? status : 1;
        }
        if (fflush(stdout) != 0 && !status) {
            status = cli_error("standard output can't be written: %s", strerror(errno));
        }
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
