/* `0asm run`: runs a program with our standard streams, or detached. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/session.h"

#include <sys/stat.h>
#include <unistd.h>

const char run_help[] =
    "Standard input is passed on as it comes, standard output and error come back apart, and the "
    "exit\nstatus is the program's (134 after a trap, 137 when it was ended, 126 when it can't be "
    "started). "
    "Ctrl-C, or\nanything else that ends this command, ends the run.\n\n"
    "  --env KEY=VALUE      an environment variable, besides the app's; may be repeated\n"
    "  --arg A              an argument, before those after NAME; may be repeated\n"
    "  --call FUNCTION      call this function of a module without _start\n"
    "  --memory SIZE  --cpu TIME  --wall TIME  --output SIZE  --disk SIZE  --open-files N\n"
    "                       limits, tighter than the app's\n"
    "  --version N          an older version of it\n"
    "  --root keep|fresh|ro|VOLUME\n"
    "                       where its files go: the app's volume (keep), nowhere, ...\n"
    "  --net none|HOST      the network: nothing, or these of the hosts that the app may reach\n"
    "  --tag K:V            for 0asm ps --tag; may be repeated\n"
    "  --keep TIME          how long its files and output are kept after its end\n"
    "  --trace              record its host calls and print them at the end, to standard error\n"
    "  --core               keep a core dump, should it trap: /proc/ID/core\n"
    "  --detach             print the id and go; standard input is sent first, unless it is a "
    "terminal\n\n"
    "Options stand before NAME or directly after it. From the first argument that is none, "
    "everything is the\nprogram's, and so is everything behind --, which is not passed on. "
    "Arguments "
    "replace the app's.\n\n"
    "  0asm run hello\n"
    "  0asm run wc --memory 16MiB -- -l < README.md\n"
    "  0asm log -f $(0asm run --detach worker < /dev/null)\n";

static int run_detached(struct client *client, struct buf *target) {
    struct stat status;
    bool has_input = fstat(STDIN_FILENO, &status) == 0 && !isatty(STDIN_FILENO);
    cleanup_buf struct buf text = {0};
    text_add_parameter(target, "detach", NULL);
    struct client_request request = {.method = "POST",
                                     .target = buf_text(target),
                                     .gather = &text,
                                     .read = has_input ? client_read_input : NULL,
                                     .length = CLIENT_LENGTH_UNKNOWN};
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        return response.status >= 400 ? SESSION_NOT_STARTED : 1;
    }
    printf("%s\n", response.run_id);
    return 0;
}

int run_main(int argc, char **argv) {
    cleanup_buf struct buf target = {0};
    bool detach = false, trace = false, core = false;
    const struct argument_option options[] = {
        {.name = "env", .parameter = "env"},
        {.name = "arg", .parameter = "arg"},
        {.name = "call", .parameter = "call"},
        {.name = "memory", .parameter = "memory"},
        {.name = "cpu", .parameter = "cpu"},
        {.name = "wall", .parameter = "wall"},
        {.name = "output", .parameter = "output"},
        {.name = "disk", .parameter = "disk"},
        {.name = "open-files", .parameter = "open_files"},
        {.name = "version", .parameter = "version"},
        {.name = "root", .parameter = "root"},
        {.name = "net", .parameter = "net"},
        {.name = "tag", .parameter = "tag"},
        {.name = "keep", .parameter = "keep"},
        {.name = "trace", .flag = &trace},
        {.name = "core", .flag = &core},
        {.name = "detach", .letter = 'd', .flag = &detach},
    };
    cli_check(buf_append_str(&target, STR("/run")));
    struct arguments arguments = {.command = COMMAND_ROW(run),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &target,
                                  .count_min = 1,
                                  .count_max = SIZE_MAX,
                                  .literal_from = 2};
    int status = arguments_parse(&arguments, argc, argv);
    struct client *client = NULL;
    if (!status) {
        const char *name = arguments.list[0];
        text_add_parameter(&target, "name", name);
        for (size_t i = 1; i < arguments.count; i++) {
            text_add_parameter(&target, "arg", arguments.list[i]);
        }
        if (core) {
            text_add_parameter(&target, "core", NULL);
        }
        if (trace) {
            text_add_parameter(&target, "trace", NULL);
        }
        status = 1;
        client = remote_check_app_name(name) ? client_new(arguments.server) : NULL;
        if (client && detach) {
            status = run_detached(client, &target);
        } else if (client) {
            struct session_options session = {
                .app = name, .target = buf_str(&target), .trace = trace};
            status = session_run(client, &session);
        }
    }
    client_free(client);
    arguments_done(&arguments);
    return status;
}
