/* `0asm kill`. */
#include "cli/arguments.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/control.h"

const char kill_help[] = "A run that has ended already stays as it is.\n\n"
                         "  --tag K:V            all that have this tag, in place of ids; may be "
                         "repeated: all of\n                       these tags. Prints how many\n\n"
                         "  0asm kill 17 18\n"
                         "  0asm kill --tag job:nightly\n";

static int kill_tagged(const struct arguments *arguments) {
    struct client *client = client_new(arguments->server);
    cleanup_buf struct buf text = {0};
    struct client_request request = {
        .method = "DELETE", .target = buf_text(arguments->target), .gather = &text};
    bool done = client && client_perform(client, &request, NULL);
    if (done) {
        fputs(buf_text(&text), stdout);
    }
    client_free(client);
    return done ? 0 : 1;
}

int kill_main(int argc, char **argv) {
    cleanup_buf struct buf target = {0};
    const struct argument_option options[] = {{.name = "tag", .parameter = "tag"}};
    cli_check(buf_append_str(&target, STR("/proc")));
    size_t length = target.length;
    struct arguments arguments = {.command = COMMAND_ROW(kill),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &target,
                                  .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    bool has_tag = target.length > length;
    if (!status && has_tag == (arguments.count > 0)) {
        status =
            command_misused(arguments.command, "%s",
                            has_tag ? "ids and --tag don't go together" : "something is missing");
    }
    if (!status) {
        status = has_tag ? kill_tagged(&arguments) : control_runs(&arguments, "kill", false);
    }
    arguments_done(&arguments);
    return status;
}
