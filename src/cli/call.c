/* `0asm call`: an app as a function: standard input is the question, standard output the answer. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>
#include <unistd.h>

const char call_help[] =
    "Runs the app with standard input (none if it is a terminal) and prints what it answers. A run "
    "that\nfails is an error, with the last line that it wrote to standard error; all of them are "
    "in its log.\n\n"
    "  echo hello | 0asm call upper\n";

static bool print(void *context, const struct client_response *response, const char *data,
                  size_t length) {
    (void)context, (void)response;
    if (fwrite(data, 1, length, stdout) != length) {
        cli_error("standard output can't be written: %s", strerror(errno));
        return false;
    }
    return true;
}

static int call(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cli_check(buf_printf(&target, "/apps/%s/call", name));
    struct client_request request = {.method = "POST",
                                     .target = buf_text(&target),
                                     .read = isatty(STDIN_FILENO) ? NULL : client_read_input,
                                     .length = CLIENT_LENGTH_UNKNOWN,
                                     .write = print};
    int status = client_perform(client, &request, NULL) ? 0 : 1;
    if (fflush(stdout) != 0 && !status) {
        status = cli_error("standard output can't be written: %s", strerror(errno));
    }
    return status;
}

int call_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(call), .count_min = 1, .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        const char *name = arguments.list[0];
        struct client *client = remote_check_app_name(name) ? client_new(arguments.server) : NULL;
        status = client ? call(client, name) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
