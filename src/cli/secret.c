/* `0asm secret`: what an app may use and nobody may read. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <errno.h>
#include <termios.h>
#include <unistd.h>

/* As the server has it, with a newline. */
#define SECRET_BYTES_MAX (64 * 1024 + 1)

const char secret_help[] =
    "With NAME alone it lists the names and the hosts that they may go to. With KEY it reads the "
    "value from\nstandard input (one newline at its end is dropped) and writes it. Nothing reads "
    "it "
    "back: it is used\noutside of the program, in requests to the hosts that it is bound to.\n\n"
    "  --host HOST[:PORT]   where it may go; may be repeated. Not given: as it was\n"
    "  --unset KEY          remove it\n\n"
    "  0asm secret hello API_KEY --host api.example.org < key.txt\n"
    "  0asm secret hello\n"
    "  0asm secret hello --unset API_KEY\n";

static void secret_target(const char *name, const char *key, struct buf *target) {
    remote_app_target(name, "/secrets/", target);
    text_encode(str_of(key), false, target);
}

static bool check_key(const char *key) {
    bool good = key[0] && !strchr(key, '/') && strcmp(key, ".") != 0 && strcmp(key, "..") != 0;
    if (!good) {
        cli_error("'%s' can't be the name of a secret", key);
    }
    return good;
}

static bool list(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf text = {0};
    remote_app_target(name, "/secrets", &target);
    if (!client_get(client, buf_text(&target), NULL, &text)) {
        return false;
    }
    text_print(stdout, buf_str(&text));
    return true;
}

static bool unset(struct client *client, const char *name, const char *key) {
    cleanup_buf struct buf target = {0};
    secret_target(name, key, &target);
    struct client_request request = {.method = "DELETE", .target = buf_text(&target)};
    return check_key(key) && client_perform(client, &request, NULL);
}

/* All of standard input, or of one line of it at a terminal. */
static bool read_all(struct buf *value, bool is_terminal) {
    cli_check(buf_reserve(value, SECRET_BYTES_MAX));
    while (value->length < SECRET_BYTES_MAX) {
        ssize_t length =
            read(STDIN_FILENO, value->data + value->length, SECRET_BYTES_MAX - value->length);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0) {
            cli_error("standard input can't be read: %s", strerror(errno));
            return false;
        }
        value->length += (size_t)length;
        if (length == 0 || (is_terminal && value->data[value->length - 1] == '\n')) {
            return true;
        }
    }
    return true; /* too long, as the server will say */
}

/* At a terminal it is typed without being shown. */
static bool read_value(const char *key, struct buf *value) {
    struct termios before;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0) {
        return read_all(value, false);
    }
    struct termios silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", key);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    bool good = read_all(value, true);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return good;
}

/* `hosts` is "?host=A&host=B", or empty. */
static bool set(struct client *client, const char *name, const char *key, const struct buf *hosts) {
    cleanup_buf struct buf target = {0};
    cleanup_wiped_buf struct buf value = {0};
    secret_target(name, key, &target);
    cli_check(buf_append_str(&target, buf_str(hosts)));
    if (!check_key(key) || !read_value(key, &value)) {
        return false;
    }
    struct client_request request = {.method = "PUT",
                                     .target = buf_text(&target),
                                     .data = buf_text(&value),
                                     .length = value.length};
    return client_perform(client, &request, NULL);
}

int secret_main(int argc, char **argv) {
    const char *removed = NULL;
    cleanup_buf struct buf hosts = {0};
    const struct argument_option options[] = {{.name = "host", .parameter = "host"},
                                              {.name = "unset", .text = &removed}};
    struct arguments arguments = {.command = COMMAND_ROW(secret),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &hosts,
                                  .count_min = 1,
                                  .count_max = 2};
    int status = arguments_parse(&arguments, argc, argv);
    bool has_key = arguments.count == 2;
    if (!status && (removed ? has_key || hosts.length > 0 : !has_key && hosts.length > 0)) {
        status = command_misused(arguments.command,
                                 removed ? "--unset stands alone" : "--host needs a KEY");
    }
    if (!status) {
        const char *name = arguments.list[0];
        struct client *client = remote_check_app_name(name) ? client_new(arguments.server) : NULL;
        bool done = client && (removed   ? unset(client, name, removed)
                               : has_key ? set(client, name, arguments.list[1], &hosts)
                                         : list(client, name));
        status = done ? 0 : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
