/* `0asm log`: what the runs of an app wrote, or one run. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>
#include <unistd.h>

const char log_help[] =
    "For an app, a line has time, run, stream (out, err, sys) and text. For a run, its output as "
    "it was\nwritten. A name of digits alone is taken for the id of a run, unless --app says "
    "otherwise.\n\n"
    "  -f, --follow         go on as more is written\n"
    "  --from N             begin at this offset in bytes\n"
    "  --run ID             of an app's log, the lines of this run\n"
    "  --app                it is the name of an app\n\n"
    "  0asm log hello\n"
    "  0asm log -f 17\n";

static bool write_through(void *context, const struct client_response *response, const char *data,
                          size_t length) {
    (void)context, (void)response;
    /* At once: whoever follows wants to see it. */
    if (fwrite(data, 1, length, stdout) == length && fflush(stdout) == 0) {
        return true;
    }
    cli_error("standard output can't be written: %s", strerror(errno));
    return false;
}

int log_main(int argc, char **argv) {
    cleanup_buf struct buf target = {0};
    bool follow = false, is_app = false;
    const char *from = NULL, *run = NULL;
    const struct argument_option options[] = {
        {.name = "follow", .letter = 'f', .flag = &follow},
        {.name = "from", .text = &from},
        {.name = "run", .text = &run},
        {.name = "app", .flag = &is_app},
    };
    struct arguments arguments = {.command = COMMAND_ROW(log),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    struct client *client = NULL;
    if (!status) {
        const char *name = arguments.list[0];
        status = 1;
        if (!is_app && !run && remote_is_run_id(name)) {
            cli_check(buf_printf(&target, "/proc/%s/log", name));
            client = client_new(arguments.server);
        } else if (remote_check_app_name(name)) {
            remote_app_target(name, "/log", &target);
            client = client_new(arguments.server);
        }
    }
    if (client) {
        if (from) {
            text_add_parameter(&target, "from", from);
        }
        if (run) {
            text_add_parameter(&target, "run", run);
        }
        if (follow) {
            text_add_parameter(&target, "follow", NULL);
        }
        struct client_request request = {
            .method = "GET", .target = buf_text(&target), .write = write_through};
        status = client_perform(client, &request, NULL) ? 0 : 1;
    }
    client_free(client);
    arguments_done(&arguments);
    return status;
}
