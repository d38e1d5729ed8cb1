/* POST /create: an upload becomes an app, or the next version of one.
 *
 * The body goes to a temporary file. Then, in order: an archive is unpacked (its app.wasm is the
 * module, the other files a layer volume), the module is inspected and hashed, compiled by a child
 * process unless that was done before, and last the catalog takes all of it at once. Until then
 * nothing of the app has changed, and whatever goes wrong leaves nothing behind. */
#include "api/archive.h"
#include "api/handlers.h"
#include "api/json_text.h"
#include "api/upload.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "dev/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYER_FILES_MAX 100000
#define PROGRESS_INTERVAL_NS NS_PER_S
#define MODULE_NAME "app.wasm"
/* How often an update is tried anew when somebody else's came in between. */
#define APPLY_TRIES_MAX 8

enum stage {
    STAGE_UPLOAD,
    STAGE_LOOK,    /* worker: what is it? */
    STAGE_UNPACK,  /* an archive: its files into the layer */
    STAGE_SYNC,    /* the layer's database on disk */
    STAGE_CLOSE,   /* worker: the layer's database closed */
    STAGE_INSPECT, /* worker: refusals, the hash, whether it is compiled already */
    STAGE_COMPILE,
    STAGE_RECORD, /* worker: the hash of the compiled code into the catalog */
    STAGE_APPLY,
    STAGE_WARM, /* loads the program, so that the first run does not have to */
    STAGE_DONE,
};

struct create {
    struct request *request;
    struct upload upload;
    enum stage stage;
    json_t *changes;          /* of the configuration, from the query */
    struct buf module_path;   /* where the module is: the upload, or taken out of the archive */
    bool module_is_temporary; /* module_path is a file of its own that has to go */
    struct volume *layer;
    struct buf layer_path;
    bool layer_is_temporary;
    struct unpack *unpack;
    int module_descriptor; /* the archive's module on its way out; -1 = none */
    struct unpack_result unpacked;

    uint64_t module_bytes;
    uint8_t module_sha256[SHA256_SIZE];
    uint8_t compiled_sha256[SHA256_SIZE];
    struct module_report report;
    bool was_compiled; /* the cache had it */
    uint64_t compile_began_ns, compile_took_ns;
    unsigned tries;
    json_t *config; /* merged; owned while STAGE_APPLY is pending, as are the following */
    struct buf offered_module,
        offered_layer; /* second names of the files, which the catalog takes */
    int64_t if_id;
    uint64_t if_generation;
    struct app *app;
    bool created;
    struct program *program;

    /* NDJSON: progress as events */
    struct buf events;
    bool streaming, pull_waits, events_end;
    struct loop_timer progress_timer;
};

static void create_step(struct request *request);

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
static void send_event(struct create *create, json_t *event) {
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

static void fail(struct create *create, enum err err) {
    struct request *request = create->request;
    create->stage = STAGE_DONE;
    loop_timer_stop(&create->progress_timer);
    if (!create->streaming) {
        request_fail(request, err, &request->message);
        return;
    }
    const char *text = request->message.length ? buf_text(&request->message) : err_text(err);
    create->events_end = true;
    send_event(create, json_pack("{s:s, s:i, s:s, s:s}", "event", "error", "status",
                                 err_http_status(err), "error", err_name(err), "detail", text));
}

static void progress_timer_expired(struct loop_timer *timer) {
    struct create *create = CONTAINER_OF(timer, struct create, progress_timer);
    if (create->stage != STAGE_COMPILE) {
        return;
    }
    uint64_t now_ns = clock_monotonic_ns();
    send_event(create, json_pack("{s:s, s:I}", "event", "compiling", "seconds",
                                 (json_int_t)((now_ns - create->compile_began_ns) / NS_PER_S)));
    loop_timer_start(create->request->loop, timer, now_ns + PROGRESS_INTERVAL_NS);
}

/* --- workers ---------------------------------------------------------------------------------- */

/* All work of this file on another thread: what it needs is copied in, what it finds copied out. */
struct create_work {
    struct op_work base;
    enum stage stage;
    int descriptor; /* STAGE_LOOK: the upload */
    bool is_archive;
    struct volume *volume; /* STAGE_CLOSE */
    struct buf path;       /* STAGE_INSPECT: the module */
    struct catalog *catalog;
    uint64_t memory_max_bytes, module_bytes_max, module_bytes;
    uint8_t module_sha256[SHA256_SIZE], compiled_sha256[SHA256_SIZE];
    bool was_compiled;
    struct module_report report;
    struct buf message;
    enum err result;
};

static void look(struct create_work *work) {
    char beginning[512];
    ssize_t length = pread(work->descriptor, beginning, sizeof beginning, 0);
    work->result = length < 0 ? err_from_errno(errno) : ERR_OK;
    work->is_archive =
        length > 0 && unpack_looks_like_archive((struct str){beginning, (size_t)length});
}

static enum err inspect_mapped(struct create_work *work, struct str module) {
    enum err err = engine_inspect(module, work->memory_max_bytes, &work->report, &work->message);
    if (!err) {
        err = sha256_of(module.data, module.length, work->module_sha256);
    }
    if (err) {
        return err;
    }
    /* Compiled before, by this engine, and still there? A damaged file shows when it is loaded. */
    cleanup_buf struct buf path = {0};
    err = catalog_compiled_path(work->catalog, engine_key(), work->module_sha256, &path);
    if (err) {
        return err;
    }
    work->was_compiled = access(buf_text(&path), R_OK) == 0 &&
                         catalog_compiled_hash(work->catalog, engine_key(), work->module_sha256,
                                               work->compiled_sha256) == ERR_OK;
    return ERR_OK;
}

static void inspect(struct create_work *work) {
    int descriptor = open(buf_text(&work->path), O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        work->result = err_from_errno(errno);
    } else if ((uint64_t)status.st_size > work->module_bytes_max) {
        work->result = buf_fail(&work->message, ERR_2BIG,
                                "the module is larger than %" PRIu64
                                " bytes; strip debug information, or raise --module",
                                work->module_bytes_max);
    } else if (status.st_size == 0) {
        struct str nothing = {"", 0};
        work->result = inspect_mapped(work, nothing);
    } else {
        size_t length = (size_t)status.st_size;
        void *data = mmap(NULL, length, PROT_READ, MAP_PRIVATE, descriptor, 0);
        work->module_bytes = length;
        if (data == MAP_FAILED) {
            work->result = err_from_errno(errno);
        } else {
            work->result = inspect_mapped(work, (struct str){data, length});
            munmap(data, length);
        }
    }
    if (descriptor >= 0) {
        close(descriptor);
    }
}

static void work_run(struct op_work *base) {
    struct create_work *work = CONTAINER_OF(base, struct create_work, base);
    switch (work->stage) {
    case STAGE_LOOK:
        look(work);
        break;
    case STAGE_CLOSE:
        volume_unref(STEAL(work->volume));
        break;
    case STAGE_INSPECT:
        inspect(work);
        break;
    case STAGE_RECORD:
        work->result = catalog_set_compiled_hash(work->catalog, engine_key(), work->module_sha256,
                                                 work->compiled_sha256);
        break;
    default:
        work->result = ERR_INVAL;
    }
}

static void work_release(struct op_work *base) {
    struct create_work *work = CONTAINER_OF(base, struct create_work, base);
    volume_unref(work->volume);
    if (work->descriptor >= 0) {
        close(work->descriptor);
    }
    buf_done(&work->path);
    buf_done(&work->message);
    module_report_done(&work->report);
    free(work);
}

/* What the app's runs may have at most after this update: a module that wants more can't run. */
static enum err memory_limit(struct create *create, uint64_t *ret_bytes) {
    struct request *request = create->request;
    struct app *app = NULL;
    json_t *config = NULL;
    struct app_limits limits = {0};
    enum err err = catalog_find(request->api->catalog, request_parameter(request, "name"), &app);
    if (err && err != ERR_NOENT) {
        return err;
    }
    err = app_config_merge(app ? app->config : NULL, create->changes, &config, &request->message);
    app_unref(app);
    if (!err) {
        err = app_config_check(config, &limits, &request->message);
    }
    json_decref(config);
    if (err) {
        return err;
    }
    *ret_bytes = limits.memory_bytes ? limits.memory_bytes
                                     : runs_get_options(request->api->runs)->defaults.memory_bytes;
    return ERR_OK;
}

static enum err start_work(struct create *create) {
    struct api *api = create->request->api;
    struct create_work *work = calloc(1, sizeof *work);
    if (!work) {
        return ERR_NOMEM;
    }
    work->base.run = work_run;
    work->base.release = work_release;
    work->stage = create->stage;
    work->catalog = api->catalog;
    work->module_bytes_max = api->limits.module_bytes_max;
    work->descriptor = -1;
    enum err err = ERR_OK;
    switch (create->stage) {
    case STAGE_LOOK:
        work->descriptor = fcntl(create->upload.descriptor, F_DUPFD_CLOEXEC, 3);
        err = work->descriptor < 0 ? err_from_errno(errno) : ERR_OK;
        break;
    case STAGE_CLOSE:
        work->volume = STEAL(create->layer);
        break;
    case STAGE_INSPECT:
        err = buf_append_str(&work->path, buf_str(&create->module_path));
        if (!err) {
            err = memory_limit(create, &work->memory_max_bytes);
        }
        break;
    default:
        memcpy(work->module_sha256, create->module_sha256, SHA256_SIZE);
        memcpy(work->compiled_sha256, create->compiled_sha256, SHA256_SIZE);
    }
    if (err) {
        work_release(&work->base);
        return err;
    }
    return op_work_start(&create->request->op, &work->base);
}

/* Polled: the work of the present stage; its results go into `create`. */
static enum err do_work(struct create *create, bool *ret_is_archive) {
    struct op *op = &create->request->op;
    struct create_work *work = op->state;
    if (!work) {
        return start_work(create);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    if (create->stage == STAGE_INSPECT && !work->result) {
        create->module_bytes = work->module_bytes;
        create->was_compiled = work->was_compiled;
        memcpy(create->module_sha256, work->module_sha256, SHA256_SIZE);
        memcpy(create->compiled_sha256, work->compiled_sha256, SHA256_SIZE);
        create->report = work->report;
        work->report = (struct module_report){0};
    }
    if (work->message.length > 0) {
        struct buf swapped = create->request->message;
        create->request->message = work->message;
        work->message = swapped;
    }
    *ret_is_archive = work->is_archive;
    return op_finish(op, work->result);
}

/* --- the stages ------------------------------------------------------------------------------- */

/* Prepares to unpack: an empty layer, and a file for the module. */
static enum err begin_unpack(struct create *create) {
    struct request *request = create->request;
    struct catalog *catalog = request->api->catalog;
    enum err err = catalog_temporary_path(catalog, &create->layer_path);
    if (!err) {
        err = catalog_temporary_path(catalog, &create->module_path);
    }
    if (err) {
        return err;
    }
    struct volume_options options = {.path = buf_text(&create->layer_path),
                                     .create = true,
                                     .bytes_max = request->api->limits.upload_bytes_max,
                                     .inodes_max = LAYER_FILES_MAX};
    err = volume_open(&options, &create->layer, &request->message);
    if (err) {
        return err;
    }
    create->layer_is_temporary = true;
    create->module_descriptor =
        open(buf_text(&create->module_path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (create->module_descriptor < 0) {
        return err_from_errno(errno);
    }
    create->module_is_temporary = true;
    struct file *root = NULL;
    err = dev_volume_root(create->layer, false, &root);
    if (err) {
        return err;
    }
    struct unpack_options unpack = {.directory = root,
                                    .descriptor = create->upload.descriptor,
                                    .entries_max = LAYER_FILES_MAX,
                                    .bytes_max = request->api->limits.upload_bytes_max,
                                    .diverted_name = MODULE_NAME,
                                    .diverted_descriptor = create->module_descriptor};
    err = unpack_new(&unpack, &create->unpack);
    file_unref(root);
    return err;
}

static enum err after_look(struct create *create, bool is_archive) {
    if (is_archive) {
        create->stage = STAGE_UNPACK;
        return begin_unpack(create);
    }
    create->stage = STAGE_INSPECT;
    return buf_append_str(&create->module_path, buf_str(&create->upload.path));
}

static enum err unpack(struct create *create) {
    struct request *request = create->request;
    enum err err = unpack_step(&request->op, create->unpack, &create->unpacked, &request->message);
    if (err) {
        return err;
    }
    unpack_free(STEAL(create->unpack));
    close(create->module_descriptor);
    create->module_descriptor = -1;
    if (!create->unpacked.diverted) {
        return buf_fail(&request->message, ERR_INVAL,
                        "the archive has no %s at its top: that is the program; the other files "
                        "are what it sees",
                        MODULE_NAME);
    }
    create->stage = STAGE_SYNC;
    return ERR_OK;
}

static enum err compile(struct create *create) {
    struct request *request = create->request;
    if (create->was_compiled) {
        create->stage = STAGE_APPLY;
        return ERR_OK;
    }
    if (create->compile_began_ns == 0) {
        create->compile_began_ns = clock_monotonic_ns();
        if (create->streaming) {
            loop_timer_start(request->loop, &create->progress_timer, create->compile_began_ns);
        }
    }
    cleanup_buf struct buf path = {0};
    enum err err =
        catalog_compiled_path(request->api->catalog, engine_key(), create->module_sha256, &path);
    if (!err) {
        err = engine_compile(request->api->engine, &request->op,
                             &runs_get_options(request->api->runs)->compile,
                             buf_str(&create->module_path), buf_str(&path), create->compiled_sha256,
                             &request->message);
    }
    if (err) {
        return err;
    }
    loop_timer_stop(&create->progress_timer);
    create->compile_took_ns = clock_monotonic_ns() - create->compile_began_ns;
    create->stage = STAGE_RECORD;
    return ERR_OK;
}

/* The configuration after this update, from the app as it is now. */
static enum err merge_config(struct create *create, struct str name) {
    struct request *request = create->request;
    struct app *app = NULL;
    enum err err = catalog_find(request->api->catalog, name, &app);
    if (err && err != ERR_NOENT) {
        return err;
    }
    create->if_id = app ? app->id : 0;
    create->if_generation = app ? app->generation : 0;
    err = app_config_merge(app ? app->config : NULL, create->changes, &create->config,
                           &request->message);
    app_unref(app);
    return err;
}

/* Gives a file a second name for the catalog to take, so that another try still has the first. */
static enum err offer_file(struct create *create, const struct buf *path, struct buf *ret_offered) {
    ret_offered->length = 0;
    if (path->length == 0) {
        return ERR_OK;
    }
    enum err err = catalog_temporary_path(create->request->api->catalog, ret_offered);
    if (err) {
        return err;
    }
    return link(buf_text(path), buf_text(ret_offered)) == 0 ? ERR_OK : err_from_errno(errno);
}

static enum err apply(struct create *create) {
    struct request *request = create->request;
    struct str name = request_parameter(request, "name");
    if (!create->config) {
        enum err err = merge_config(create, name);
        if (!err) {
            err = offer_file(create, &create->module_path, &create->offered_module);
        }
        if (!err) {
            err = offer_file(create, &create->layer_path, &create->offered_layer);
        }
        if (err) {
            return err;
        }
    }
    struct app_change change = {
        .name = name,
        .create_only = request_has_parameter(request, "new") || create->if_id == 0,
        .update_only = create->if_id != 0,
        .has_version = true,
        .version = {.module_bytes = create->module_bytes,
                    .is_library = create->report.kind == MODULE_LIBRARY,
                    .layer_files = create->unpacked.files,
                    .layer_bytes = create->unpacked.bytes,
                    .unknown_imports = create->report.unknown_names.length
                                           ? (char *)create->report.unknown_names.data
                                           : NULL},
        .module_temporary_path = buf_str(&create->offered_module),
        .layer_temporary_path = buf_str(&create->offered_layer),
        .config = create->config,
        .if_id = create->if_id,
        .if_generation = create->if_generation,
    };
    memcpy(change.version.module_sha256, create->module_sha256, SHA256_SIZE);
    enum err err = catalog_apply(&request->op, request->api->catalog, &change, &create->app,
                                 &create->created, &request->message);
    if (err == ERR_PENDING) {
        return err;
    }
    json_decref(STEAL(create->config));
    if (err == ERR_EXIST && request_has_parameter(request, "new")) {
        return buf_fail(&request->message, ERR_EXIST,
                        "there is an app named '" STR_FORMAT
                        "' already; leave 'new' out to make this its next version",
                        STR_ARGS(name));
    }
    if (err) {
        return err;
    }
    create->stage = STAGE_WARM;
    return ERR_OK;
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
    if (!err && version->layer_files > 0) {
        err = buf_printf(text, "  files    %" PRIu64 ", %" PRIu64 " bytes\n", version->layer_files,
                         version->layer_bytes);
    }
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

static void answer(struct create *create) {
    struct request *request = create->request;
    create->stage = STAGE_DONE;
    int status = create->created ? 201 : 200;
    if (create->streaming) {
        json_t *event = answer_json(create);
        if (event) {
            json_object_set_new(event, "event", json_string("done"));
        }
        create->events_end = true;
        send_event(create, event);
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

/* --- the handler ------------------------------------------------------------------------------ */

static void create_step(struct request *request) {
    struct create *create = request->state;
    enum err err = ERR_OK;
    while (!err && create->stage != STAGE_UPLOAD && create->stage != STAGE_DONE) {
        bool is_archive = false;
        switch (create->stage) {
        case STAGE_LOOK:
            err = do_work(create, &is_archive);
            if (!err) {
                err = after_look(create, is_archive);
            }
            break;
        case STAGE_UNPACK:
            err = unpack(create);
            break;
        case STAGE_SYNC:
            err = volume_sync(&request->op, create->layer);
            create->stage = err ? create->stage : STAGE_CLOSE;
            break;
        case STAGE_CLOSE:
            err = do_work(create, &is_archive);
            create->stage = err ? create->stage : STAGE_INSPECT;
            break;
        case STAGE_INSPECT:
            err = do_work(create, &is_archive);
            create->stage = err ? create->stage : STAGE_COMPILE;
            break;
        case STAGE_COMPILE:
            err = compile(create);
            break;
        case STAGE_RECORD:
            err = do_work(create, &is_archive);
            create->stage = err ? create->stage : STAGE_APPLY;
            break;
        case STAGE_APPLY:
            err = apply(create);
            if ((err == ERR_STALE || err == ERR_EXIST || err == ERR_NOENT) &&
                !request_has_parameter(request, "new") && ++create->tries < APPLY_TRIES_MAX) {
                err = ERR_OK;
            }
            break;
        case STAGE_WARM:
            err = runs_program(&request->op, request->api->runs, create->module_sha256,
                               &create->program, NULL);
            if (err != ERR_PENDING) {
                /* It is online; should loading fail, the first run says why. */
                err = ERR_OK;
                answer(create);
            }
            break;
        case STAGE_UPLOAD:
        case STAGE_DONE:
            break;
        }
    }
    if (err && err != ERR_PENDING) {
        fail(create, err);
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
        fail(create, err);
        return;
    }
    if (create->upload.length == 0) {
        err = buf_fail(&request->message, ERR_INVAL,
                       "the body is empty: send the module, as with curl --data-binary @x.wasm");
        fail(create, err);
        return;
    }
    create->stage = STAGE_LOOK;
    if (request->accept == ACCEPT_NDJSON) {
        create->streaming = true;
        request->responded = true;
        http_respond_stream(request->exchange, 200, "application/x-ndjson", HTTP_LENGTH_UNKNOWN,
                            pull_events, create);
        send_event(create, json_pack("{s:s, s:I}", "event", "received", "bytes",
                                     (json_int_t)create->upload.length));
    }
    create_step(request);
}

/* Says what there is instead; the keys of the configuration are parameters, too. */
static void fail_unknown_parameter(struct request *request, struct str name) {
    enum { WORDS_MAX = 64 };
    const char *words[WORDS_MAX + 1] = {"name", "new"};
    size_t count = 2;
    for (const struct app_config_key *key = app_config_keys; key->name && count < WORDS_MAX;
         key++) {
        words[count++] = key->option ? key->option : key->name;
    }
    words[count] = NULL;
    request_fail_unknown_parameter(request, name, words);
}

/* Options of the app from the query; the request has been answered if it fails. */
static enum err collect_changes(struct request *request, json_t *changes) {
    for (size_t i = 0; i < request->query.count; i++) {
        const struct query_pair *pair = &request->query.pairs[i];
        if (str_equal_text(pair->name, "name") || str_equal_text(pair->name, "new")) {
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
    loop_timer_init(&create->progress_timer, progress_timer_expired);
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
    app_unref(create->app);
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
