/* `0asm ps`: one line for each run. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <inttypes.h>

const char ps_help[] =
    "  -a, --all            those that have ended, too (they are kept for a while)\n"
    "  -q, --quiet          ids only\n"
    "  --tag K:V            those with this tag; may be repeated: all of these tags\n";

struct choice {
    bool all, quiet;
};

static void print_cell(struct str text, int width) {
    cleanup_buf struct buf escaped = {0};
    text_escape(text, false, &escaped);
    printf("%-*s ", width, buf_text(&escaped));
}

static void print_number(struct str number, uint64_t divisor, int width) {
    uint64_t value = 0;
    char text[32] = "?";
    if (str_to_u64(number, &value) == ERR_OK) {
        snprintf(text, sizeof text, "%" PRIu64 ".%02" PRIu64 " s", value / divisor,
                 value % divisor * 100 / divisor);
    }
    printf("%-*s ", width, text);
}

static void print_row(const char *id, struct str status) {
    bool has_ended = str_equal_text(text_fact(status, "state"), "ended");
    cleanup_buf struct buf state = {0};
    cli_check(buf_append_str(&state, text_fact(status, "state")));
    if (has_ended) {
        struct str reason = text_fact(status, "reason");
        struct str code = text_fact(status, "exit");
        cli_check(
            buf_printf(&state, ": " STR_FORMAT " " STR_FORMAT, STR_ARGS(reason), STR_ARGS(code)));
    }
    uint64_t bytes = 0;
    char memory[TEXT_BYTES_SIZE] = "?";
    if (str_to_u64(text_fact(status, "peak_bytes"), &bytes) == ERR_OK) {
        text_format_bytes(bytes, memory);
    }
    printf("%-8s ", id);
    print_cell(text_fact(status, "app"), 24);
    print_cell(buf_str(&state), 20);
    print_number(text_fact(status, "wall_us"), 1000000, 11);
    print_number(text_fact(status, "cpu_us"), 1000000, 11);
    puts(memory);
}

static bool show_run(struct client *client, const char *id, const struct choice *choice) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    cli_check(buf_printf(&target, "/proc/%s/status", id));
    struct client_request request = {
        .method = "GET", .target = buf_text(&target), .gather = &text, .quiet = true};
    struct client_response response;
    if (!client_perform(client, &request, &response)) {
        return response.status == 404; /* forgotten meanwhile */
    }
    struct str status = buf_str(&text);
    if (!choice->all && str_equal_text(text_fact(status, "state"), "ended")) {
        return true;
    }
    if (choice->quiet) {
        puts(id);
    } else {
        print_row(id, status);
    }
    return true;
}

/* Ids are numbers without zeros before them. */
static int compare_ids(const void *left, const void *right) {
    const char *one = *(const char *const *)left, *other = *(const char *const *)right;
    size_t length = strlen(one), other_length = strlen(other);
    return length != other_length ? (length < other_length ? -1 : 1) : strcmp(one, other);
}

static int list_runs(struct client *client, const char *target, const struct choice *choice) {
    json_t *list = remote_list(client, target);
    if (!list) {
        return 1;
    }
    if (!choice->quiet) {
        printf("%-8s %-24s %-20s %-11s %-11s %s\n", "ID", "APP", "STATE", "TIME", "CPU", "MEMORY");
    }
    cleanup_free const char **ids = calloc(json_array_size(list) + 1, sizeof *ids);
    cli_check(ids ? ERR_OK : ERR_NOMEM);
    size_t count = 0, index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *id = json_string_value(json_object_get(entry, "name"));
        if (id && remote_is_run_id(id)) {
            ids[count++] = id;
        }
    }
    qsort(ids, count, sizeof *ids, compare_ids);
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        good = show_run(client, ids[i], choice);
    }
    json_decref(list);
    return good ? 0 : 1;
}

int ps_main(int argc, char **argv) {
    struct choice choice = {0};
    cleanup_buf struct buf target = {0};
    cli_check(buf_append_str(&target, STR("/proc")));
    const struct argument_option options[] = {
        {.name = "all", .letter = 'a', .flag = &choice.all},
        {.name = "quiet", .letter = 'q', .flag = &choice.quiet},
        {.name = "tag", .parameter = "tag"},
    };
    struct arguments arguments = {.command = COMMAND_ROW(ps),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &target};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? list_runs(client, buf_text(&target), &choice) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
