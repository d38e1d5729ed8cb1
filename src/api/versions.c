/* GET /apps/NAME/versions: what each version is. POST /apps/NAME/rollback: an older one again. */
#include "api/first_argument.h"
#include "api/handlers.h"
#include "base/clock.h"

#include <inttypes.h>

struct versions {
    struct app *app;     /* a reference */
    uint32_t number;     /* rollback; 0 = the one before */
    struct app *current; /* after it, a reference */
    struct first_argument first_argument;
};

static void end(struct request *request, bool completed) {
    (void)completed;
    struct versions *versions = request->state;
    if (versions) {
        first_argument_done(&versions->first_argument);
        app_unref(versions->current);
        app_unref(versions->app);
        free(versions);
    }
}

/* NULL if the request was answered. */
static struct versions *begin(struct request *request, const char *const *parameters) {
    struct app *app = NULL;
    if (!request_check_parameters(request, parameters) || !request_find_app(request, &app)) {
        return NULL;
    }
    struct versions *versions = calloc(1, sizeof *versions);
    if (!versions) {
        app_unref(app);
        request_fail(request, ERR_NOMEM, NULL);
        return NULL;
    }
    versions->app = app;
    request->state = versions;
    return versions;
}

/* --- the list --------------------------------------------------------------------------------- */

static json_t *version_json(const struct app_version *version, bool is_current) {
    char sha256[SHA256_TEXT_SIZE], uploaded[CLOCK_TEXT_SIZE];
    sha256_to_text(version->module_sha256, sha256);
    clock_format_utc(version->created_ns, uploaded);
    /* `name` and `type` as in every list of a directory. */
    json_t *json = json_pack(
        "{s:o, s:s, s:I, s:s, s:I, s:I, s:I, s:s, s:b}", "name",
        json_sprintf("%" PRIu32, version->number), "type", "directory", "version",
        (json_int_t)version->number, "sha256", sha256, "bytes", (json_int_t)version->module_bytes,
        "files", (json_int_t)version->layer_files, "files_bytes", (json_int_t)version->layer_bytes,
        "uploaded", uploaded, "current", is_current);
    if (json && version->from_name[0]) {
        json_object_set_new(json, "from",
                            json_sprintf("%s@%" PRIu32, version->from_name, version->from_number));
    }
    if (json && version->rollback_number) {
        json_object_set_new(json, "rollback", json_integer(version->rollback_number));
    }
    return json;
}

static enum err version_text(const struct app_version *version, bool is_current, struct buf *text) {
    char sha256[SHA256_TEXT_SIZE], uploaded[CLOCK_TEXT_SIZE];
    sha256_to_text(version->module_sha256, sha256);
    clock_format_utc(version->created_ns, uploaded);
    enum err err =
        buf_printf(text, "%" PRIu32 " %s %s %" PRIu64 " bytes, %" PRIu64 " files", version->number,
                   uploaded, sha256, version->module_bytes, version->layer_files);
    if (!err && version->from_name[0]) {
        err = buf_printf(text, ", from %s@%" PRIu32, version->from_name, version->from_number);
    }
    if (!err && version->rollback_number) {
        err = buf_printf(text, ", rollback to %" PRIu32, version->rollback_number);
    }
    return err ? err : buf_printf(text, "%s\n", is_current ? ", current" : "");
}

static void answer_list(struct request *request, const struct app_version *list, size_t count) {
    const struct versions *versions = request->state;
    uint32_t current = versions->app->version.number;
    if (request->accept == ACCEPT_JSON) {
        json_t *json = json_array();
        for (size_t i = 0; json && i < count; i++) {
            json_array_append_new(json, version_json(&list[i], list[i].number == current));
        }
        request_respond_json(request, 200, json);
        return;
    }
    cleanup_buf struct buf text = {0};
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < count; i++) {
        err = version_text(&list[i], list[i].number == current, &text);
    }
    if (err) {
        request_fail(request, err, NULL);
    } else {
        request_respond_text(request, 200, buf_str(&text));
    }
}

static void list_step(struct request *request) {
    const struct versions *versions = request->state;
    struct app_version *list = NULL;
    size_t count = 0;
    enum err err =
        catalog_versions(&request->op, request->api->catalog, versions->app, &list, &count);
    if (err == ERR_PENDING) {
        return;
    }
    if (err) {
        request_fail(request, err, NULL);
    } else {
        answer_list(request, list, count);
    }
    app_versions_free(list, count);
}

static void list_start(struct request *request) {
    static const char *const parameters[] = {NULL};
    if (begin(request, parameters)) {
        list_step(request);
    }
}

const struct request_handler versions_handler = {
    .start = list_start, .step = list_step, .end = end};

/* --- rollback --------------------------------------------------------------------------------- */

static void answer_rollback(struct request *request) {
    const struct versions *versions = request->state;
    const struct first_argument *first_argument = &versions->first_argument;
    const struct app *app = versions->current;
    const struct app_version *version = &app->version;
    if (request->accept == ACCEPT_JSON) {
        json_t *json = version_json(version, true);
        if (json) {
            json_object_set_new(json, "name", json_string(app->name));
            json_object_del(json, "type");
        }
        first_argument_tell_json(first_argument, app, json);
        request_respond_json(request, 200, json);
        return;
    }
    cleanup_buf struct buf text = {0};
    enum err err = buf_printf(&text,
                              "%s: version %" PRIu32 " is online, with the program and files of "
                              "version %" PRIu32 "\n",
                              app->name, version->number, version->rollback_number);
    err = err ? err : first_argument_tell(first_argument, app, "  missing  ", &text);
    if (err) {
        request_fail(request, err, NULL);
    } else {
        request_respond_text(request, 200, buf_str(&text));
    }
}

static void rollback_step(struct request *request) {
    struct versions *versions = request->state;
    enum err err =
        versions->current
            ? ERR_OK
            : catalog_rollback(&request->op, request->api->catalog, str_of(versions->app->name),
                               versions->number, &versions->current, &request->message);
    if (!err) {
        err = first_argument_look(request, versions->current, &versions->first_argument);
    }
    if (err == ERR_PENDING) {
        return;
    }
    if (err) {
        request_fail(request, err, &request->message);
    } else {
        answer_rollback(request);
    }
}

static void rollback_start(struct request *request) {
    static const char *const parameters[] = {"version", NULL};
    struct versions *versions = begin(request, parameters);
    if (!versions) {
        return;
    }
    const struct query_pair *pair = query_find(&request->query, "version");
    uint64_t number = 0;
    if (pair && (str_to_u64(pair->value, &number) || number == 0 || number > UINT32_MAX)) {
        request_fail_status(request, 400, "version='" STR_FORMAT "' is no version's number",
                            STR_ARGS(pair->value));
        return;
    }
    versions->number = (uint32_t)number;
    rollback_step(request);
}

const struct request_handler rollback_handler = {
    .start = rollback_start, .step = rollback_step, .end = end};
