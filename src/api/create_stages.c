/* The stages of POST /create that the loop drives: unpacking, compiling, and the change of the
 * catalog. */
#include "api/create_internal.h"
#include "base/clock.h"
#include "dev/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define LAYER_FILES_MAX 100000
#define MODULE_NAME "app.wasm"

/* A file for the module that an archive has. */
static enum err open_module(struct create *create) {
    enum err err = catalog_temporary_path(create->request->api->catalog, &create->module_path);
    if (err) {
        return err;
    }
    create->module_descriptor =
        open(buf_text(&create->module_path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (create->module_descriptor < 0) {
        return err_from_errno(errno);
    }
    create->module_is_temporary = true;
    return ERR_OK;
}

/* Prepares to unpack: an empty layer, and a file for the module unless it is another app's. */
static enum err begin_unpack(struct create *create) {
    struct request *request = create->request;
    enum err err = catalog_temporary_path(request->api->catalog, &create->layer_path);
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
    struct file *root = NULL;
    err = create->source ? ERR_OK : open_module(create);
    err = err ? err : dev_volume_root(create->layer, false, &root);
    if (err) {
        return err;
    }
    struct unpack_options unpack = {
        .directory = root,
        .descriptor = create->upload.descriptor,
        .entries_max = LAYER_FILES_MAX,
        .bytes_max = request->api->limits.upload_bytes_max,
        .diverted_name = MODULE_NAME,
        .diverted_descriptor = create->module_descriptor,
        .single_path = create->file_path.length ? buf_text(&create->file_path) : NULL,
        .is_hidden = app_is_system_name};
    err = unpack_new(&unpack, &create->unpack);
    file_unref(root);
    create->stage = STAGE_UNPACK;
    return err;
}

enum err create_after_source(struct create *create) {
    if (create->file_path.length > 0) {
        return begin_unpack(create);
    }
    create->stage = create->upload.length > 0 ? STAGE_LOOK : STAGE_INSPECT;
    return ERR_OK;
}

enum err create_after_look(struct create *create, bool is_archive) {
    if (is_archive) {
        return begin_unpack(create);
    }
    if (create->source) {
        return buf_fail(
            &create->request->message, ERR_INVAL,
            "the body is no tar: with from= it is a tar of files, or one file and where "
            "it goes, as in file=/main.py");
    }
    create->stage = STAGE_INSPECT;
    return buf_append_str(&create->module_path, buf_str(&create->upload.path));
}

enum err create_unpack(struct create *create) {
    struct request *request = create->request;
    enum err err = unpack_step(&request->op, create->unpack, &create->unpacked, &request->message);
    if (err) {
        return err;
    }
    unpack_free(STEAL(create->unpack));
    if (create->module_descriptor >= 0) {
        close(create->module_descriptor);
        create->module_descriptor = -1;
    }
    if (!create->source && !create->unpacked.diverted) {
        return buf_fail(&request->message, ERR_INVAL,
                        "the archive has no %s at its top: that is the program; the other files "
                        "are what it sees",
                        MODULE_NAME);
    }
    create->stage = STAGE_SYNC;
    return ERR_OK;
}

void create_after_close(struct create *create) {
    create->stage = STAGE_INSPECT;
    if (access(buf_text(&create->layer_path), F_OK) != 0) {
        /* The archive had the program alone: a volume in which nothing was written has no file. */
        create->layer_path.length = 0;
        create->layer_is_temporary = false;
    }
}

enum err create_compile(struct create *create) {
    struct request *request = create->request;
    if (create->was_compiled) {
        create->stage = STAGE_APPLY;
        return ERR_OK;
    }
    if (create->compile_began_ns == 0) {
        enum err refusal =
            refusals_find(&request->api->refusals, create->module_sha256, &request->message);
        if (refusal) {
            return refusal;
        }
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
    if (err == ERR_PENDING) {
        return err;
    }
    if (err) {
        refusals_add(&request->api->refusals, create->module_sha256, err, &request->message);
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
    err = create_merge_config(create, app ? app->config : NULL, &create->config);
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

enum err create_apply(struct create *create) {
    struct request *request = create->request;
    struct str name = request_parameter(request, "name");
    if (!create->config) {
        enum err err = merge_config(create, name);
        if (!err && !create->source) {
            err = offer_file(create, &create->module_path, &create->offered_module);
        }
        if (!err) {
            err = offer_file(create, &create->layer_path, &create->offered_layer);
            if (err && create->offered_module.length > 0) {
                unlink(buf_text(&create->offered_module));
            }
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
    if (create->source) {
        change.version.layer_id = create->source_version->layer_id;
        memcpy(change.version.from_name, create->source->name, sizeof change.version.from_name);
        change.version.from_number = create->source_version->number;
    }
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
    create->stage = STAGE_ARGUMENT;
    return ERR_OK;
}
