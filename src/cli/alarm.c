/* `0asm alarm`: the alarms of an app. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_BYTES_MAX (64 * KIB)

const char alarm_help[] =
    "Without more it lists the alarms; ALARM shows when one comes next and how it went.\n\n"
    "  --set LINE           set it: 'every 5m', 'once 2026-12-24T18:00:00Z', or as cron has it\n"
    "                       '0 6 * * mon-fri tz=Europe/Berlin'; standard input, unless it is a\n"
    "                       terminal, will be that of its runs\n"
    "  --rm                 remove it\n\n"
    "  0asm alarm hello\n"
    "  0asm alarm hello nightly --set '0 3 * * * tz=Europe/Berlin' < /dev/null\n"
    "  0asm alarm hello nightly\n"
    "  0asm alarm hello nightly --rm\n";

static bool read_input(struct buf *text) {
    struct stat status;
    if (isatty(STDIN_FILENO) || fstat(STDIN_FILENO, &status) != 0) {
        return true;
    }
    for (;;) {
        char data[4096];
        ssize_t length = read(STDIN_FILENO, data, sizeof data);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0) {
            cli_error("standard input can't be read: %s", strerror(errno));
            return false;
        }
        if (length == 0) {
            return true;
        }
        if (text->length + (size_t)length > INPUT_BYTES_MAX + 1024) {
            cli_error("the input of an alarm has at most %d bytes", (int)INPUT_BYTES_MAX);
            return false;
        }
        cli_check(buf_append(text, data, (size_t)length));
    }
}

static int set_alarm(struct client *client, const char *target, const char *line) {
    cleanup_buf struct buf text = {0};
    cli_check(buf_printf(&text, "%s\n", line));
    if (!read_input(&text)) {
        return 1;
    }
    struct client_request request = {
        .method = "PUT", .target = target, .data = text.data, .length = text.length};
    return client_perform(client, &request, NULL) ? 0 : 1;
}

static int list_alarms(struct client *client, const char *target) {
    json_t *list = remote_list(client, target);
    if (!list) {
        return 1;
    }
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name) {
            text_print(stdout, str_of(name));
            putchar('\n');
        }
    }
    json_decref(list);
    return 0;
}

static int show_alarm(struct client *client, const char *target) {
    cleanup_buf struct buf text = {0};
    if (!client_get(client, target, NULL, &text)) {
        return 1;
    }
    text_print(stdout, buf_str(&text));
    return 0;
}

static int act(struct client *client, const struct arguments *arguments, const char *line,
               bool remove) {
    if (!remote_check_app_name(arguments->list[0])) {
        return 1;
    }
    cleanup_buf struct buf target = {0};
    remote_app_target(arguments->list[0], "/alarm/", &target);
    if (arguments->count == 1) {
        return list_alarms(client, buf_text(&target));
    }
    text_encode(str_of(arguments->list[1]), false, &target);
    if (line) {
        return set_alarm(client, buf_text(&target), line);
    }
    if (remove) {
        struct client_request request = {.method = "DELETE", .target = buf_text(&target)};
        return client_perform(client, &request, NULL) ? 0 : 1;
    }
    return show_alarm(client, buf_text(&target));
}

int alarm_main(int argc, char **argv) {
    const char *line = NULL;
    bool remove = false;
    const struct argument_option options[] = {{.name = "set", .text = &line},
                                              {.name = "rm", .flag = &remove}};
    struct arguments arguments = {.command = COMMAND_ROW(alarm),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = 2};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status && (line || remove) && arguments.count < 2) {
        status = command_misused(arguments.command, "which alarm?");
    } else if (!status && line && remove) {
        status = command_misused(arguments.command, "--set and --rm exclude each other");
    }
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? act(client, &arguments, line, remove) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
