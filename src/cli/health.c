/* `0asm health`: whether the server can take work. */
#include "cli/arguments.h"
#include "cli/client.h"
#include "cli/commands.h"

#define TIMEOUT_MS 10000

const char health_help[] = "Prints 'ok', or says why not and fails. No token is needed.\n";

int health_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(health)};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        cleanup_buf struct buf answer = {0};
        struct client_request request = {
            .method = "GET", .target = "/healthz", .gather = &answer, .timeout_ms = TIMEOUT_MS};
        struct client *client = client_new(arguments.server);
        status = client && client_perform(client, &request, NULL) ? 0 : 1;
        if (!status) {
            text_print(stdout, buf_str(&answer));
        }
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
