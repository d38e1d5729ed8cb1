#include "base/clock.h"
#include "dev/apps_internal.h"

#include <inttypes.h>

enum err apps_text_args(const struct apps_file *file, struct buf *text) {
    enum err err = ERR_OK;
    for (char **argument = file->app->arguments; !err && argument && *argument; argument++) {
        err = buf_printf(text, "%s\n", *argument);
    }
    return err;
}

enum err apps_text_config(const struct apps_file *file, struct buf *text) {
    cleanup_free char *dumped = json_dumps(file->app->config, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    return dumped ? buf_printf(text, "%s\n", dumped) : ERR_NOMEM;
}

bool apps_find_variable(const struct app *app, struct str key, struct str *ret_value) {
    for (char **variable = app->environment; variable && *variable; variable++) {
        struct str value = str_of(*variable);
        if (str_equal(str_cut(&value, '='), key)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

enum err apps_text_variable(const struct apps_file *file, struct buf *text) {
    struct str value;
    return apps_find_variable(file->app, str_of(file->key), &value) ? buf_append_str(text, value)
                                                                    : ERR_OK;
}

static enum err append_time(struct buf *text, const char *name, uint64_t time_ns) {
    char formatted[CLOCK_TEXT_SIZE];
    clock_format_utc(time_ns, formatted);
    return buf_printf(text, "%s: %s\n", name, formatted);
}

static enum err append_version(const struct app_version *version, struct buf *text) {
    char sha256[SHA256_TEXT_SIZE];
    sha256_to_text(version->module_sha256, sha256);
    enum err err = buf_printf(text,
                              "version: %" PRIu32 "\n"
                              "sha256: %s\n"
                              "module: %" PRIu64 "\n"
                              "kind: %s\n"
                              "files: %" PRIu64 "\n"
                              "bytes: %" PRIu64 "\n",
                              version->number, sha256, version->module_bytes,
                              version->is_library ? "library" : "program", version->layer_files,
                              version->layer_bytes);
    if (!err) {
        err = append_time(text, "uploaded", version->created_ns);
    }
    if (!err && version->from_name[0]) {
        err = buf_printf(text, "from: %s@%" PRIu32 "\n", version->from_name, version->from_number);
    }
    if (!err && version->rollback_number) {
        err = buf_printf(text, "rollback: %" PRIu32 "\n", version->rollback_number);
    }
    struct str rest = str_of(version->unknown_imports);
    while (!err && rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        err = buf_printf(text, "unknown: " STR_FORMAT "\n", STR_ARGS(line));
    }
    return err;
}

enum err apps_text_version_info(const struct apps_file *file, struct buf *text) {
    return append_version(apps_version_of(file), text);
}

/* The settings that are one value each; lists are files of their own. */
static enum err append_settings(const struct app *app, struct buf *text) {
    enum err err = ERR_OK;
    for (const struct app_config_key *key = app_config_keys; !err && key->name; key++) {
        json_t *value = json_object_get(app->config, key->name);
        if (json_is_string(value)) {
            err = buf_printf(text, "%s: %s\n", key->name, json_string_value(value));
        } else if (json_is_integer(value)) {
            /* `files` is a quota here; the line above of that name says what came with it. */
            const char *name = strcmp(key->name, "files") == 0 ? "files_max" : key->name;
            err =
                buf_printf(text, "%s: %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(value));
        }
    }
    return err;
}

enum err apps_text_info(const struct apps_file *file, struct buf *text) {
    const struct app *app = file->app;
    enum err err = buf_printf(text, "name: %s\n", app->name);
    if (!err) {
        err = append_version(&app->version, text);
    }
    if (!err) {
        err = append_time(text, "created", app->created_ns);
    }
    if (!err) {
        err = append_time(text, "changed", app->changed_ns);
    }
    return err ? err : append_settings(app, text);
}

enum err apps_text_instances(const struct apps_file *file, struct buf *text) {
    struct services *services = file->apps->services;
    return services ? services_show(services, file->app, text) : ERR_OK;
}
