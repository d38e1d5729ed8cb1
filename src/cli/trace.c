/* `0asm trace`: the host calls of a run. */
#include "cli/trace.h"

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char trace_help[] =
    "One line a call: the time since its start, the call, its result or error, and what it took, "
    "in "
    "seconds.\nOf a run that was started with --trace (or /run?...&trace); goes on until it has "
    "ended.\n\n"
    "  0asm trace $(0asm run --detach --trace hello < /dev/null)\n";

struct printer {
    FILE *stream;
    struct buf line; /* that has not ended */
};

static bool print_lines(void *context, const struct client_response *response, const char *data,
                        size_t length) {
    (void)response;
    struct printer *printer = context;
    cli_check(buf_append(&printer->line, data, length));
    const char *text = buf_text(&printer->line);
    const char *end = memrchr(text, '\n', printer->line.length);
    if (end) {
        size_t whole = (size_t)(end - text) + 1;
        text_print(printer->stream, (struct str){text, whole});
        buf_consume(&printer->line, whole);
    }
    if (fflush(printer->stream) == 0) {
        return true;
    }
    cli_error("the trace can't be written");
    return false;
}

bool trace_print(struct client *client, const char *run_id, FILE *stream) {
    cleanup_buf struct buf target = {0};
    cli_check(buf_printf(&target, "/proc/%s/trace", run_id));
    struct printer printer = {.stream = stream};
    struct client_request request = {.method = "GET",
                                     .target = buf_text(&target),
                                     .write = print_lines,
                                     .write_context = &printer};
    bool good = client_perform(client, &request, NULL);
    text_print(stream, buf_str(&printer.line));
    buf_done(&printer.line);
    return good;
}

int trace_main(int argc, char **argv) {
    struct arguments arguments = {.command = COMMAND_ROW(trace), .count_min = 1, .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status && !remote_is_run_id(arguments.list[0])) {
        status =
            command_misused(arguments.command, "'%s' is not the id of a run", arguments.list[0]);
    }
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client && trace_print(client, arguments.list[0], stdout) ? 0 : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
