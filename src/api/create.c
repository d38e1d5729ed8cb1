/* POST /create: an upload becomes an app, or the next version of one.
 *
 * The body goes to a temporary file. Then, in order: an archive is unpacked (its app.wasm is the
 * module, the other files a layer volume; with from= the module is another app's, and that app's
 * layers lie below), the module is inspected and hashed, compiled by a child
 * process unless that was done before, and last the catalog takes all of it at once. Until then
 * nothing of the app has changed, and whatever goes wrong leaves nothing behind. */
#include "api/create_internal.h"
#include "api/handlers.h"

#include <inttypes.h>
#include <unistd.h>

/* How often an update is tried anew when somebody else's came in between. */
#define APPLY_TRIES_MAX 64

static void create_step(struct request *request) {
    struct create *create = request->state;
    enum err err = ERR_OK;
    while (!err && create->stage != STAGE_UPLOAD && create->stage != STAGE_DONE) {
        bool is_archive = false;
        switch (create->stage) {
        case STAGE_SOURCE:
            err = create_source(create);
            err = err ? err : create_after_source(create);
            break;
        case STAGE_LOOK:
            err = create_work(create, &is_archive);
            if (!err) {
                err = create_after_look(create, is_archive);
            }
            break;
        case STAGE_UNPACK:
            err = create_unpack(create);
            break;
        case STAGE_SYNC:
            err = volume_sync(&request->op, create->layer);
            create->stage = err ? create->stage : STAGE_CLOSE;
            break;
        case STAGE_CLOSE:
            err = create_work(create, &is_archive);
            if (!err) {
                create_after_close(create);
            }
            break;
        case STAGE_INSPECT:
            err = create_work(create, &is_archive);
            create->stage = err ? create->stage : STAGE_COMPILE;
            break;
        case STAGE_COMPILE:
            err = create_compile(create);
            break;
        case STAGE_RECORD:
            err = create_work(create, &is_archive);
            create->stage = err ? create->stage : STAGE_APPLY;
            break;
        case STAGE_APPLY:
            err = create_apply(create);
            if ((err == ERR_STALE || err == ERR_EXIST || err == ERR_NOENT) &&
                !request_has_parameter(request, "new") && ++create->tries < APPLY_TRIES_MAX) {
                err = ERR_OK;
            }
            break;
        case STAGE_ARGUMENT:
            err = first_argument_look(request, create->app, &create->first_argument);
            create->stage = err ? create->stage : STAGE_WARM;
            break;
        case STAGE_WARM:
            err = runs_program(&request->op, request->api->runs, create->module_sha256,
                               &create->program, NULL);
            if (err != ERR_PENDING) {
                /* It is online; should loading fail, the first run says why. */
                err = ERR_OK;
                create_answer_success(create);
            }
            break;
        case STAGE_UPLOAD:
        case STAGE_DONE:
            break;
        }
    }
    if (err && err != ERR_PENDING) {
        create_answer_failure(create, err);
    }
}

static void upload_finished(struct request *request, enum err err) {
    struct create *create = request->state;
    if (err == ERR_FBIG) {
        create->stage = STAGE_DONE;
        request_fail_status(request, 413, "the upload is larger than %" PRIu64 " bytes",
                            create->upload.length_max);
        return;
    }
    if (err) {
        create_answer_failure(create, err);
        return;
    }
    if (create->upload.length == 0 && (!create->source || create->file_path.length > 0)) {
        err = buf_fail(&request->message, ERR_INVAL,
                       create->source
                           ? "the body is empty: send the file, as with curl --data-binary @x.py"
                           : "the body is empty: send the module, as with curl --data-binary "
                             "@x.wasm");
        create_answer_failure(create, err);
        return;
    }
    create->stage = create->source ? STAGE_SOURCE : STAGE_LOOK;
    if (request->accept == ACCEPT_NDJSON) {
        create_answer_stream(create);
        create_answer_event(create, json_pack("{s:s, s:I}", "event", "received", "bytes",
                                              (json_int_t)create->upload.length));
    }
    create_step(request);
}

/* Says what there is instead; the keys of the configuration are parameters, too. */
static void fail_unknown_parameter(struct request *request, struct str name) {
    enum { WORDS_MAX = 64 };
    const char *words[WORDS_MAX + 1] = {"name", "new", "from", "file"};
    size_t count = 4;
    for (const struct app_config_key *key = app_config_keys; key->name && count < WORDS_MAX;
         key++) {
        words[count++] = key->option ? key->option : key->name;
    }
    words[count] = NULL;
    request_fail_unknown_parameter(request, name, words);
}

/* A parameter that is no key of the configuration. */
static bool is_our_own(struct str name) {
    return str_equal_text(name, "name") || str_equal_text(name, "new") ||
           str_equal_text(name, "from") || str_equal_text(name, "file");
}

/* Options of the app from the query; the request has been answered if it fails. */
static enum err collect_changes(struct request *request, json_t *changes) {
    for (size_t i = 0; i < request->query.count; i++) {
        const struct query_pair *pair = &request->query.pairs[i];
        if (is_our_own(pair->name)) {
            continue;
        }
        enum err err = app_config_add_option(changes, pair->name, pair->value, &request->message);
        if (err == ERR_NOENT) {
            fail_unknown_parameter(request, pair->name);
            return err;
        }
        if (err) {
            request_fail(request, err, &request->message);
            return err;
        }
    }
    /* Mistakes should show before a long upload. */
    json_t *checked = NULL;
    enum err err = app_config_merge(NULL, changes, &checked, &request->message);
    json_decref(checked);
    if (err) {
        request_fail(request, err, &request->message);
    }
    return err;
}

static void start(struct request *request) {
    struct str name = request_parameter(request, "name");
    if (!name.data) {
        request_fail_status(request, 400, "say what to call it: POST /create?name=NAME");
        return;
    }
    enum err err = app_name_check(name, &request->message);
    if (err) {
        request_fail(request, err, &request->message);
        return;
    }
    if (atomic_load_explicit(&request->api->shutting_down, memory_order_relaxed)) {
        request_fail_status(request, 503, "the server is stopping");
        return;
    }
    uint64_t length = 0;
    uint64_t length_max = request->api->limits.upload_bytes_max;
    if (http_content_length(request->exchange, &length) && length > length_max) {
        request_fail_status(request, 413, "the upload is larger than %" PRIu64 " bytes",
                            length_max);
        return;
    }
    struct app *app = NULL;
    if (request_has_parameter(request, "new") &&
        catalog_find(request->api->catalog, name, &app) == ERR_OK) {
        app_unref(app);
        request_fail_status(request, 409,
                            "there is an app named '" STR_FORMAT
                            "' already; leave 'new' out to make this its next version",
                            STR_ARGS(name));
        return;
    }
    struct create *create = calloc(1, sizeof *create);
    if (!create) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = create;
    create->request = request;
    create->module_descriptor = -1;
    create_answer_init(create);
    if (!create_from_begin(create)) {
        return;
    }
    create->changes = json_object();
    err = create->changes ? collect_changes(request, create->changes) : ERR_NOMEM;
    if (err) {
        if (!request->responded) {
            request_fail(request, err, NULL);
        }
        return;
    }
    err = upload_init(&create->upload, request, length_max, upload_finished);
    if (err) {
        request_fail(request, err, NULL);
    }
}

static size_t body(struct request *request, const uint8_t *data, size_t length) {
    struct create *create = request->state;
    return upload_body(&create->upload, data, length);
}

static void body_end(struct request *request) {
    struct create *create = request->state;
    if (create && !request->responded) {
        upload_end(&create->upload);
    }
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct create *create = request->state;
    if (!create) {
        return;
    }
    loop_timer_stop(&create->progress_timer);
    unpack_free(create->unpack);
    volume_unref(create->layer);
    if (create->module_descriptor >= 0) {
        close(create->module_descriptor);
    }
    if (create->module_is_temporary) {
        unlink(buf_text(&create->module_path));
    }
    if (create->layer_is_temporary) {
        unlink(buf_text(&create->layer_path));
    }
    upload_done(&create->upload);
    module_report_done(&create->report);
    json_decref(create->changes);
    json_decref(create->config);
    first_argument_done(&create->first_argument);
    app_unref(create->app);
    app_unref(create->source);
    app_versions_free(create->source_version, 1);
    buf_done(&create->file_path);
    program_unref(create->program);
    buf_done(&create->module_path);
    buf_done(&create->layer_path);
    buf_done(&create->offered_module);
    buf_done(&create->offered_layer);
    buf_done(&create->events);
    free(create);
}

const struct request_handler create_handler = {
    .start = start,
    .body = body,
    .body_end = body_end,
    .step = create_step,
    .end = end,
};
