/* `0asm env`: an app's default environment. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"

const char env_help[] =
    "Without more it lists KEY=VALUE lines; KEY prints one value, KEY=VALUE sets it. Runs that "
    "start from\nthen on have it.\n\n"
    "  --unset KEY          remove it\n\n"
    "  0asm env hello\n"
    "  0asm env hello MODE=production\n"
    "  0asm env hello MODE\n"
    "  0asm env hello --unset MODE\n";

static void variable_target(const char *name, struct str key, struct buf *target) {
    remote_app_target(name, "/env/", target);
    text_encode(key, false, target);
}

static bool check_key(struct str key) {
    bool good = key.length > 0 && !memchr(key.data, '/', key.length) && !str_equal_text(key, ".") &&
                !str_equal_text(key, "..");
    if (!good) {
        cli_error("'" STR_FORMAT "' can't be the name of a variable", STR_ARGS(key));
    }
    return good;
}

static bool print_variable(struct client *client, const char *name, struct str key, bool raw) {
    cleanup_buf struct buf target = {0};
    cleanup_buf struct buf value = {0};
    variable_target(name, key, &target);
    if (!client_get(client, buf_text(&target), NULL, &value)) {
        return false;
    }
    if (raw) {
        fwrite(buf_text(&value), 1, value.length, stdout);
        putchar('\n');
        return true;
    }
    cleanup_buf struct buf line = {0};
    text_escape(key, false, &line);
    cli_check(buf_append_byte(&line, '='));
    text_escape(buf_str(&value), false, &line);
    puts(buf_text(&line));
    return true;
}

static bool print_all(struct client *client, const char *name) {
    cleanup_buf struct buf target = {0};
    remote_app_target(name, "/env", &target);
    json_t *list = remote_list(client, buf_text(&target));
    bool good = list != NULL;
    size_t index;
    json_t *entry;
    json_array_foreach(list, index, entry) {
        const char *key = json_string_value(json_object_get(entry, "name"));
        good = good && key && print_variable(client, name, str_of(key), false);
    }
    json_decref(list);
    return good;
}

static bool set_variable(struct client *client, const char *name, struct str key,
                         struct str value) {
    cleanup_buf struct buf target = {0};
    variable_target(name, key, &target);
    struct client_request request = {
        .method = "PUT", .target = buf_text(&target), .data = value.data, .length = value.length};
    return client_perform(client, &request, NULL);
}

static bool unset_variable(struct client *client, const char *name, struct str key) {
    cleanup_buf struct buf target = {0};
    variable_target(name, key, &target);
    struct client_request request = {.method = "DELETE", .target = buf_text(&target)};
    return client_perform(client, &request, NULL);
}

static bool apply(struct client *client, const struct arguments *arguments, const char *unset) {
    const char *name = arguments->list[0];
    if (unset && (!check_key(str_of(unset)) || !unset_variable(client, name, str_of(unset)))) {
        return false;
    }
    if (!unset && arguments->count == 1) {
        return print_all(client, name);
    }
    for (size_t i = 1; i < arguments->count; i++) {
        struct str value = str_of(arguments->list[i]);
        struct str key = str_cut(&value, '=');
        bool done = check_key(key) && (value.data ? set_variable(client, name, key, value)
                                                  : print_variable(client, name, key, true));
        if (!done) {
            return false;
        }
    }
    return true;
}

int env_main(int argc, char **argv) {
    const char *unset = NULL;
    const struct argument_option options[] = {{.name = "unset", .text = &unset}};
    struct arguments arguments = {.command = COMMAND_ROW(env),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 1,
                                  .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    if (!status) {
        struct client *client =
            remote_check_app_name(arguments.list[0]) ? client_new(arguments.server) : NULL;
        status = client && apply(client, &arguments, unset) ? 0 : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
