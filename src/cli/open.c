/* `0asm open`: where an app's own pages are, in a browser. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

const char open_help[] =
    "  --print          only print the URL, open no browser\n\n"
    "Prints the URL of the app's own pages, and opens it with xdg-open at a terminal.\n"
    "  0asm open guestbook\n"
    "  curl \"$(0asm open --print guestbook)\"\n";

static bool is_loopback(struct str host) {
    return str_equal_text(host, "localhost") || str_starts(host, STR("127.")) ||
           str_equal_text(host, "[::1]");
}

/* On this machine an app has a host name of its own, and so an origin of its own in a browser; of
 * other servers nobody knows whether names below theirs lead to them. Host names have no '_'. */
static void make_url(const char *server, const char *name, struct buf *ret_url) {
    struct str rest = str_of(server);
    const char *authority = strstr(server, "://");
    if (authority) {
        rest = str_of(authority + 3);
    }
    struct str scheme = {server, (size_t)(rest.data - server)};
    bool has_path = memchr(rest.data, '/', rest.length) != NULL;
    const char *port = memrchr(rest.data, ':', rest.length);
    bool has_port = port && !memchr(port, ']', (size_t)(rest.data + rest.length - port));
    struct str host = {rest.data, has_port ? (size_t)(port - rest.data) : rest.length};
    if (has_path || !is_loopback(host)) {
        cli_check(buf_printf(ret_url, "%s/web/%s/", server, name));
        return;
    }
    cli_check(buf_append_str(ret_url, scheme));
    for (const char *next = name; *next; next++) {
        cli_check(buf_append_byte(ret_url, *next == '_' ? '-' : (uint8_t)*next));
    }
    cli_check(buf_printf(ret_url, ".localhost%s/", has_port ? port : ""));
}

/* Nothing where there is no xdg-open: the URL was printed. */
static void open_browser(const char *url) {
    char *const arguments[] = {(char *)(uintptr_t) "xdg-open", (char *)(uintptr_t)url, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return;
    }
    pid_t child;
    bool is_quiet = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
                    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) == 0 &&
                    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0;
    if (is_quiet) {
        (void)!posix_spawnp(&child, "xdg-open", &actions, NULL, arguments, environ);
    }
    posix_spawn_file_actions_destroy(&actions);
}

static int open_app(struct client *client, const char *name, bool print_only) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf info = {0};
    cleanup_buf struct buf url = {0};
    remote_app_target(name, "/info", &target);
    if (!client_get(client, buf_text(&target), NULL, &info)) {
        return 1;
    }
    if (str_equal_text(text_fact(buf_str(&info), "web"), "off")) {
        return cli_error("'%s' shows no pages: its setting 'web' is 'off'", name);
    }
    make_url(client_server(client), name, &url);
    printf("%s\n", buf_text(&url));
    fflush(stdout);
    if (!print_only && isatty(STDOUT_FILENO)) {
        open_browser(buf_text(&url));
    }
    return 0;
}

int open_main(int argc, char **argv) {
    bool print_only = false;
    const struct argument_option options[] = {{.name = "print", .flag = &print_only}};
    struct arguments arguments = {.command = COMMAND_ROW(open),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = 1};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status && !remote_check_app_name(arguments.list[0])) {
        status = 1;
    }
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? open_app(client, arguments.list[0], print_only) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
