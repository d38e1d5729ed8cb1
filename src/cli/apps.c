/* `0asm apps`: one line for each app. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char apps_help[] = "  -q, --quiet          names only\n";

static void print_cell(struct str text, int width) {
    cleanup_buf struct buf escaped = {0};
    text_escape(text, false, &escaped);
    printf("%-*s ", width, buf_text(&escaped));
}

static bool print_app(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf info = {0};
    remote_app_target(name, "/info", &target);
    struct client_request request = {
        .method = "GET", .target = buf_text(&target), .gather = &info, .quiet = true};
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        return response.status == 404; /* removed meanwhile */
    }
    uint64_t bytes = 0;
    char size[TEXT_BYTES_SIZE] = "?";
    if (str_to_u64(text_fact(buf_str(&info), "module"), &bytes) == ERR_OK) {
        text_format_bytes(bytes, size);
    }
    print_cell(str_of(name), 24);
    print_cell(text_fact(buf_str(&info), "version"), 8);
    print_cell(str_of(size), 11);
    text_print(stdout, text_fact(buf_str(&info), "changed"));
    putchar('\n');
    return true;
}

static int list_apps(struct client *client, bool quiet) {
    json_t *list = remote_list(client, "/apps");
    if (!list) {
        return 1;
    }
    if (!quiet) {
        printf("%-24s %-8s %-11s %s\n", "NAME", "VERSION", "SIZE", "CHANGED");
    }
    bool good = true;
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (!name || !remote_is_app_name(str_of(name))) {
            continue; /* not an app */
        }
        if (quiet) {
            puts(name);
        } else if (!print_app(client, name)) {
            good = false;
            break;
        }
    }
    json_decref(list);
    return good ? 0 : 1;
}

int apps_main(int argc, char **argv) {
    bool quiet = false;
    const struct argument_option options[] = {{.name = "quiet", .letter = 'q', .flag = &quiet}};
    struct arguments arguments = {
        .command = COMMAND_ROW(apps), .options = options, .option_count = ARRAY_LENGTH(options)};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? list_apps(client, quiet) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
