#include "cli/control.h"

#include "cli/arguments.h"
#include "cli/remote.h"

static bool has_ended(struct client *client, const char *id) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf status = {0};
    cli_check(buf_printf(&target, "/proc/%s/status", id));
    struct client_request request = {
        .method = "GET", .target = buf_text(&target), .gather = &status, .quiet = true};
    return client_perform(client, &request, NULL) &&
           str_equal_text(text_fact(buf_str(&status), "state"), "ended");
}

static bool control_run(struct client *client, const char *id, const char *verb,
                        bool needs_running) {
    if (!remote_is_run_id(id)) {
        cli_error("'%s' is not the id of a run; '0asm ps' lists them", id);
        return false;
    }
    if (needs_running && has_ended(client, id)) {
        cli_error("run %s has ended; '0asm ps --all' says how", id);
        return false;
    }
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf line = {0};
    cli_check(buf_printf(&target, "/proc/%s/ctl", id));
    cli_check(buf_printf(&line, "%s\n", verb));
    struct client_request request = {.method = "PUT",
                                     .target = buf_text(&target),
                                     .accept = "application/json",
                                     .data = line.data,
                                     .length = line.length,
                                     .quiet = true};
    struct client_response response;
    bool done = client_perform(client, &request, &response);
    if (!done && response.status == 404) {
        cli_error("there is no run %s, or it has ended long ago; '0asm ps --all' lists them", id);
    } else if (!done && response.status) {
        cli_error("run %s can't be changed: the server answered with status %ld", id,
                  response.status);
    }
    return done;
}

int control_runs(const struct arguments *arguments, const char *verb, bool needs_running) {
    struct client *client = client_new(arguments->server);
    int status = client ? 0 : 1;
    for (size_t i = 0; client && i < arguments->count; i++) {
        if (!control_run(client, arguments->list[i], verb, needs_running)) {
            status = 1;
        }
    }
    client_free(client);
    return status;
}

int control_main(const struct command *command, const char *verb, bool needs_running, int argc,
                 char **argv) {
    struct arguments arguments = {.command = command, .count_min = 1, .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        status = control_runs(&arguments, verb, needs_running);
    }
    arguments_done(&arguments);
    return status;
}
