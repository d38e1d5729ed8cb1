/* What POST /create answers: events on the way, a failure, or what is online now. */
#include "api/create_internal.h"
#include "base/clock.h"

#include <inttypes.h>

#define PROGRESS_INTERVAL_NS NS_PER_S

/* --- events and failures ---------------------------------------------------------------------- */

static enum http_pull_result pull_events(void *argument, void *buffer, size_t size,
                                         size_t *ret_length) {
    struct create *create = argument;
    if (create->events.length > 0) {
        size_t length = MIN(size, create->events.length);
        memcpy(buffer, create->events.data, length);
        buf_consume(&create->events, length);
        *ret_length = length;
        return HTTP_PULL_DATA;
    }
    if (create->events_end) {
        return HTTP_PULL_END;
    }
    create->pull_waits = true;
    return HTTP_PULL_WAIT;
}

/* Takes over `event`. */
void create_answer_event(struct create *create, json_t *event) {
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    json_decref(event);
    if (!text || buf_printf(&create->events, "%s\n", text)) {
        http_abort(create->request->exchange);
    }
    free(text);
    if (create->pull_waits) {
        create->pull_waits = false;
        http_pull_resume(create->request->exchange);
    }
}

void create_answer_failure(struct create *create, enum err err) {
    struct request *request = create->request;
    create->stage = STAGE_DONE;
    loop_timer_stop(&create->progress_timer);
    if (!create->streaming) {
        request_fail(request, err, &request->message);
        return;
    }
    const char *text = request->message.length ? buf_text(&request->message) : err_text(err);
    create->events_end = true;
    create_answer_event(create,
                        json_pack("{s:s, s:i, s:s, s:s}", "event", "error", "status",
                                  err_http_status(err), "error", err_name(err), "detail", text));
}

static void progress_timer_expired(struct loop_timer *timer) {
    struct create *create = CONTAINER_OF(timer, struct create, progress_timer);
    if (create->stage != STAGE_COMPILE) {
        return;
    }
    uint64_t now_ns = clock_monotonic_ns();
    create_answer_event(create,
                        json_pack("{s:s, s:I}", "event", "compiling", "seconds",
                                  (json_int_t)((now_ns - create->compile_began_ns) / NS_PER_S)));
    loop_timer_start(create->request->loop, timer, now_ns + PROGRESS_INTERVAL_NS);
}

void create_answer_init(struct create *create) {
    loop_timer_init(&create->progress_timer, progress_timer_expired);
}

void create_answer_stream(struct create *create) {
    create->streaming = true;
    create->request->responded = true;
    http_respond_stream(create->request->exchange, 200, "application/x-ndjson", HTTP_LENGTH_UNKNOWN,
                        pull_events, create);
}

/* --- the answer ------------------------------------------------------------------------------- */

static const char *version_hash(const struct create *create, char text[SHA256_TEXT_SIZE]) {
    sha256_to_text(create->module_sha256, text);
    return text;
}

static json_t *answer_json(const struct create *create) {
    const struct app_version *version = &create->app->version;
    char hash[SHA256_TEXT_SIZE];
    json_t *json =
        json_pack("{s:s, s:i, s:s, s:I, s:b, s:I, s:I, s:b}", "name", create->app->name, "version",
                  (int)version->number, "sha256", version_hash(create, hash), "bytes",
                  (json_int_t)version->module_bytes, "library", version->is_library, "files",
                  (json_int_t)version->layer_files, "compile_ms",
                  (json_int_t)(create->compile_took_ns / NS_PER_MS), "created", create->created);
    if (json && version->unknown_imports) {
        json_object_set_new(json, "unknown_imports", json_string(version->unknown_imports));
    }
    if (json && create->unpacked.hidden > 0) {
        json_object_set_new(json, "hidden", json_integer((json_int_t)create->unpacked.hidden));
        json_object_set_new(json, "first_hidden", json_string(create->unpacked.first_hidden));
    }
    if (json && version->from_name[0]) {
        json_object_set_new(json, "from",
                            json_sprintf("%s@%" PRIu32, version->from_name, version->from_number));
    }
    first_argument_tell_json(&create->first_argument, create->app, json);
    if (json && create->report.exports.length > 0) {
        json_object_set_new(json, "exports", json_string(buf_text(&create->report.exports)));
    }
    return json;
}

/* The first exported function, for the command to try: "add(i32 i32) -> i32" gives "add". */
static struct str first_export(const struct create *create) {
    struct str rest = buf_str(&create->report.exports);
    return str_cut(&rest, '(');
}

/* Each line of `lines`, indented. */
static enum err append_indented(struct buf *text, struct str lines) {
    enum err err = ERR_OK;
    while (!err && lines.length > 0) {
        struct str line = str_cut(&lines, '\n');
        err = buf_printf(text, "    " STR_FORMAT "\n", STR_ARGS(line));
    }
    return err;
}

static enum err answer_text(const struct create *create, struct buf *text) {
    const struct app *app = create->app;
    const struct app_version *version = &app->version;
    struct request *request = create->request;
    char hash[SHA256_TEXT_SIZE];
    enum err err = buf_printf(
        text, "%s: version %" PRIu32 " is online\n  module   %" PRIu64 " bytes, sha256 %s\n",
        app->name, version->number, version->module_bytes, version_hash(create, hash));
    if (!err && version->from_name[0]) {
        err = buf_printf(text, "  from     %s version %" PRIu32 "\n", version->from_name,
                         version->from_number);
    }
    if (!err && version->layer_files > 0) {
        err = buf_printf(text, "  files    %" PRIu64 ", %" PRIu64 " bytes\n", version->layer_files,
                         version->layer_bytes);
    }
    err = err ? err : unpack_tell_hidden(&create->unpacked, "  hidden   ", text);
    err = err ? err : first_argument_tell(&create->first_argument, app, "  missing  ", text);
    if (!err && create->was_compiled) {
        err = buf_printf(text, "  compiled before\n");
    } else if (!err) {
        err =
            buf_printf(text, "  compiled in %" PRIu64 " ms\n", create->compile_took_ns / NS_PER_MS);
    }
    struct str rest = str_of(version->unknown_imports);
    if (!err && rest.length > 0) {
        err = buf_printf(text,
                         "  %" PRIu32 " imported functions are not known here; calling one "
                         "ends the run:\n",
                         create->report.unknown_imports);
    }
    if (!err) {
        err = append_indented(text, rest);
    }
    rest = buf_str(&create->report.exports);
    if (!err && version->is_library) {
        err = buf_printf(text, "  it has no _start; its functions:\n");
    }
    if (!err && version->is_library) {
        err = append_indented(text, rest);
    }
    struct str host = http_header(request->exchange, "Host");
    if (!err && version->is_library) {
        struct str function = first_export(create);
        err = buf_printf(text,
                         "\nrun it:   curl -X POST 'http://" STR_FORMAT
                         "/run?name=%s&call=" STR_FORMAT "&arg=1&arg=2'\n",
                         STR_ARGS(host), app->name, STR_ARGS(function));
    } else if (!err) {
        err = buf_printf(text, "\nrun it:   curl -X POST 'http://" STR_FORMAT "/run?name=%s'\n",
                         STR_ARGS(host), app->name);
    }
    if (!err) {
        err = buf_printf(text, "its log:  curl 'http://" STR_FORMAT "/apps/%s/log'\n",
                         STR_ARGS(host), app->name);
    }
    return err;
}

void create_answer_success(struct create *create) {
    struct request *request = create->request;
    create->stage = STAGE_DONE;
    int status = create->created ? 201 : 200;
    if (create->streaming) {
        json_t *event = answer_json(create);
        if (event) {
            json_object_set_new(event, "event", json_string("done"));
        }
        create->events_end = true;
        create_answer_event(create, event);
        return;
    }
    if (request->accept == ACCEPT_JSON) {
        request_respond_json(request, status, answer_json(create));
        return;
    }
    cleanup_buf struct buf text = {0};
    if (answer_text(create, &text)) {
        text.length = 0;
    }
    request_respond_text(request, status, buf_str(&text));
}
