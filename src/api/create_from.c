/* POST /create?from=APP[@VERSION]: the program of another app. */
#include "api/create_internal.h"
#include "api/run_form.h"

#include <inttypes.h>

static bool fail_library(struct request *request, const struct app *app, uint32_t number) {
    request_fail_status(request, 400,
                        "from=%s: version %" PRIu32
                        " has no _start, so nothing would use the files; call its functions with "
                        "POST /run?name=%s&call=FUNCTION",
                        app->name, number, app->name);
    return false;
}

static bool parse_from(struct create *create, struct str text) {
    struct request *request = create->request;
    struct str number_text = text;
    struct str name = str_cut(&number_text, '@');
    uint64_t number = 0;
    if (number_text.data &&
        (str_to_u64(number_text, &number) || number == 0 || number > UINT32_MAX)) {
        request_fail_status(request, 400, "from='" STR_FORMAT "' is not APP or APP@VERSION",
                            STR_ARGS(text));
        return false;
    }
    struct app *app = NULL;
    enum err err = catalog_find(request->api->catalog, name, &app);
    if (!err && app->owner_id != request->who.owner_id) {
        app_unref(app);
        err = ERR_NOENT;
    }
    if (err) {
        request_fail_status(request, 404,
                            "from=: no app named '" STR_FORMAT "'; GET /apps lists them",
                            STR_ARGS(name));
        return false;
    }
    create->source = app;
    create->source_number = (uint32_t)number;
    bool is_current = number == 0 || number == app->version.number;
    return is_current && app->version.is_library ? fail_library(request, app, app->version.number)
                                                 : true;
}

static bool parse_file(struct create *create, struct str path) {
    struct request *request = create->request;
    if (!create->source) {
        request_fail_status(request, 400,
                            "file= needs from=APP: the app whose program runs that file; a program "
                            "of your own comes with its files in a tar");
        return false;
    }
    if (path.length < 2 || path.data[0] != '/' || path.data[path.length - 1] == '/') {
        request_fail_status(request, 400,
                            "file='" STR_FORMAT "' is not where a file could be: say file=/main.py",
                            STR_ARGS(path));
        return false;
    }
    const char *fault = run_form_path_fault(path);
    if (fault) {
        request_fail_status(request, 400, "file='" STR_FORMAT "' %s", STR_ARGS(path), fault);
        return false;
    }
    enum err err = buf_append(&create->file_path, path.data + 1, path.length - 1);
    if (err) {
        request_fail(request, err, NULL);
    }
    return !err;
}

bool create_from_begin(struct create *create) {
    const struct query *query = &create->request->query;
    const struct query_pair *from = query_find(query, "from"), *file = query_find(query, "file");
    for (size_t i = 0; i < query->count; i++) {
        const struct query_pair *pair = &query->pairs[i];
        bool is_again = (str_equal_text(pair->name, "from") && pair != from) ||
                        (str_equal_text(pair->name, "file") && pair != file);
        if (is_again) {
            request_fail_status(create->request, 400, STR_FORMAT "= is given twice",
                                STR_ARGS(pair->name));
            return false;
        }
    }
    return (!from || parse_from(create, from->value)) && (!file || parse_file(create, file->value));
}

/* What is set neither there nor here stays away: arguments, limits, mounts and secrets are the
 * other app's own. */
static json_t *inherited_changes(const json_t *source, const json_t *config) {
    json_t *theirs = json_object_get(source, "env"), *own = json_object_get(config, "env");
    json_t *environment = theirs ? json_copy(theirs) : json_object();
    json_t *changes = json_object();
    bool good = environment && changes && (!own || json_object_update(environment, own) == 0);
    if (good && json_object_size(environment) > json_object_size(own)) {
        good = json_object_set(changes, "env", environment) == 0;
    }
    json_t *memory = json_object_get(source, "memory");
    if (good && memory && !json_object_get(config, "memory")) {
        good = json_object_set(changes, "memory", memory) == 0;
    }
    json_decref(environment);
    if (!good) {
        json_decref(changes);
        return NULL;
    }
    return changes;
}

enum err create_merge_config(struct create *create, const json_t *old, json_t **ret_config) {
    struct buf *message = &create->request->message;
    json_t *config = NULL;
    enum err err = app_config_merge(old, create->changes, &config, message);
    if (err || !create->source) {
        if (!err) {
            *ret_config = config;
        }
        return err;
    }
    json_t *changes = inherited_changes(create->source->config, config);
    err = changes ? app_config_merge(config, changes, ret_config, message) : ERR_NOMEM;
    json_decref(changes);
    json_decref(config);
    return err;
}

enum err create_source(struct create *create) {
    struct request *request = create->request;
    struct catalog *catalog = request->api->catalog;
    struct app *source = create->source;
    uint32_t number = create->source_number ? create->source_number : source->version.number;
    enum err err = catalog_version(&request->op, catalog, source, number, &create->source_version);
    if (err == ERR_NOENT) {
        return buf_fail(&request->message, err,
                        "from=: '%s' has no version %" PRIu32 "; GET /apps/%s/versions lists them",
                        source->name, number, source->name);
    }
    if (err) {
        return err;
    }
    if (create->source_version->is_library) {
        return buf_fail(&request->message, ERR_INVAL,
                        "from=: version %" PRIu32
                        " of '%s' has no _start, so nothing would use the "
                        "files",
                        number, source->name);
    }
    return catalog_module_path(catalog, create->source_version->module_sha256,
                               &create->module_path);
}
