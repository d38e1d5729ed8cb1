/* `0asm run`: runs a program with our standard streams, or detached. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/session.h"

#include <errno.h>
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
    "  --memory SIZE  --cpu TIME  --wall TIME  --output SIZE  --disk SIZE  --files N\n"
    "  --tmp SIZE  --open-files N  --queue-wait TIME\n"
    "                       limits, tighter than the app's\n"
    "  --version N          an older version of it\n"
    "  --root keep|fresh|ro|VOLUME\n"
    "                       where its files go: the app's volume (keep), nowhere, ...\n"
    "  --ttl TIME           how long after its last use the volume goes that --root makes\n"
    "  --file PATH=FILE     our FILE at PATH in its tree, for this run; may be repeated. It stays\n"
    "                       there with --root keep or a volume\n"
    "  --net none|HOST      the network: nothing, or these of the hosts that the app may reach\n"
    "  --tag K:V            for 0asm ps --tag; may be repeated\n"
    "  --keep TIME          how long its files and output are kept after its end\n"
    "  --trace              record its host calls and print them at the end, to standard error\n"
    "  --core               keep a core dump, should it trap: /proc/ID/core\n"
    "  --json               print one JSON object at the end: output, how it ended, what it "
    "changed\n"
    "  --detach             print the id and go; standard input is sent first, unless it is a "
    "terminal\n\n"
    "Options stand before NAME or directly after it. From the first argument that is none, "
    "everything is the\nprogram's, and so is everything behind --, which is not passed on. "
    "Arguments "
    "replace the app's.\n\n"
    "  0asm run hello\n"
    "  0asm run python --root fresh --file /main.py=main.py /main.py\n"
    "  0asm run wc --memory 16MiB -- -l < README.md\n"
    "  0asm log -f $(0asm run --detach worker < /dev/null)\n";

/* "PATH=FILE": false after saying what is wrong. */
static bool parse_file(const char *text, struct client_file *ret_file) {
    struct str rest = str_of(text);
    struct str field = str_cut(&rest, '=');
    struct stat status;
    if (!rest.data || rest.length == 0 || field.length == 0 || field.data[0] != '/') {
        cli_error("--file %s: it is PATH=FILE, and PATH begins with a slash", text);
        return false;
    }
    if (stat(rest.data, &status) != 0 || access(rest.data, R_OK) != 0) {
        cli_error("%s can't be read: %s", rest.data, strerror(errno));
        return false;
    }
    if (!S_ISREG(status.st_mode)) {
        cli_error("%s is no regular file", rest.data);
        return false;
    }
    *ret_file = (struct client_file){.field = field, .path = rest.data};
    return true;
}

static bool parse_files(const struct argument_values *values, struct client_file **ret_files) {
    struct client_file *files = calloc(values->count + 1, sizeof *files);
    cli_check(files ? ERR_OK : ERR_NOMEM);
    bool good = true;
    for (size_t i = 0; i < values->count && good; i++) {
        good = parse_file(values->list[i], &files[i]);
    }
    *ret_files = files;
    return good;
}

/* Standard input for runs that are no dialogue: as the body, or in the form, which has it whole. */
static void add_input(struct client_request *request, struct buf *input) {
    struct stat status;
    if (fstat(STDIN_FILENO, &status) != 0 || isatty(STDIN_FILENO)) {
        return;
    }
    if (request->file_count == 0) {
        request->read = client_read_input;
        request->length = CLIENT_LENGTH_UNKNOWN;
        return;
    }
    char piece[4096];
    size_t length;
    while ((length = client_read_input(NULL, piece, sizeof piece)) > 0 && length != SIZE_MAX) {
        cli_check(buf_append(input, piece, length));
    }
    request->data = input->data;
    request->length = input->length;
}

static int run_detached(struct client *client, struct buf *target, const struct client_file *files,
                        size_t file_count) {
    cleanup_buf struct buf text = {0};
    cleanup_buf struct buf input = {0};
    text_add_parameter(target, "detach", NULL);
    struct client_request request = {.method = "POST",
                                     .target = buf_text(target),
                                     .files = files,
                                     .file_count = file_count,
                                     .gather = &text};
    add_input(&request, &input);
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        return response.status >= 400 ? SESSION_NOT_STARTED : 1;
    }
    printf("%s\n", response.run_id);
    return 0;
}

static bool print_content(void *context, const struct client_response *response, const char *data,
                          size_t length) {
    (void)context, (void)response;
    return fwrite(data, 1, length, stdout) == length;
}

/* The result as the server gives it, whatever the program's exit status. */
static int run_json(struct client *client, const struct buf *target,
                    const struct client_file *files, size_t file_count) {
    cleanup_buf struct buf input = {0};
    struct client_request request = {.method = "POST",
                                     .target = buf_text(target),
                                     .accept = "application/json",
                                     .files = files,
                                     .file_count = file_count,
                                     .write = print_content};
    add_input(&request, &input);
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        return response.status >= 400 ? SESSION_NOT_STARTED : 1;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}

int run_main(int argc, char **argv) {
    cleanup_buf struct buf target = {0};
    bool detach = false, trace = false, core = false, json = false;
    struct argument_values values = {.list = calloc((size_t)argc + 1, sizeof(char *))};
    cli_check(values.list ? ERR_OK : ERR_NOMEM);
    const struct argument_option options[] = {
        {.name = "env", .parameter = "env"},
        {.name = "arg", .parameter = "arg"},
        {.name = "call", .parameter = "call"},
        {.name = "memory", .parameter = "memory"},
        {.name = "cpu", .parameter = "cpu"},
        {.name = "wall", .parameter = "wall"},
        {.name = "output", .parameter = "output"},
        {.name = "disk", .parameter = "disk"},
        {.name = "files", .parameter = "files"},
        {.name = "tmp", .parameter = "tmp"},
        {.name = "open-files", .parameter = "open_files"},
        {.name = "queue-wait", .parameter = "queue_wait"},
        {.name = "version", .parameter = "version"},
        {.name = "root", .parameter = "root"},
        {.name = "net", .parameter = "net"},
        {.name = "tag", .parameter = "tag"},
        {.name = "keep", .parameter = "keep"},
        {.name = "ttl", .parameter = "ttl"},
        {.name = "file", .values = &values},
        {.name = "trace", .flag = &trace},
        {.name = "json", .flag = &json},
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
    struct client_file *files = NULL;
    if (!status && json && detach) {
        status = command_misused(arguments.command, "--json waits for the end, --detach does not");
    }
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
        bool is_good = remote_check_app_name(name) && parse_files(&values, &files);
        client = is_good ? client_new(arguments.server) : NULL;
        if (client && detach) {
            status = run_detached(client, &target, files, values.count);
        } else if (client && json) {
            status = run_json(client, &target, files, values.count);
        } else if (client) {
            struct session_options session = {.app = name,
                                              .target = buf_str(&target),
                                              .files = files,
                                              .file_count = values.count,
                                              .trace = trace};
            status = session_run(client, &session);
        }
    }
    client_free(client);
    free(files);
    free(values.list);
    arguments_done(&arguments);
    return status;
}
