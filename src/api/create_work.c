/* The part of POST /create that workers do: looking at an upload, inspecting and hashing a module,
 * closing the layer, recording the hash of compiled code. */
#include "api/create_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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
    err = create_merge_config(create, app ? app->config : NULL, &config);
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

/* The module of another app has to be what it was when it was uploaded. */
static void check_source(const struct create *create, struct create_work *work) {
    const struct app_version *version = create->source_version;
    bool is_missing = work->result == ERR_NOENT;
    bool is_other =
        !work->result && memcmp(work->module_sha256, version->module_sha256, SHA256_SIZE) != 0;
    if (is_missing || is_other) {
        work->result = buf_fail(&work->message, is_missing ? ERR_NOENT : ERR_IO,
                                "from=: the module of '%s' version %" PRIu32 " is %s",
                                create->source->name, version->number,
                                is_missing ? "not there any more" : "damaged: upload it again");
    }
}

/* Polled: the work of the present stage; its results go into `create`. */
enum err create_work(struct create *create, bool *ret_is_archive) {
    struct op *op = &create->request->op;
    struct create_work *work = op->state;
    if (!work) {
        return start_work(create);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    if (create->stage == STAGE_INSPECT && create->source) {
        check_source(create, work);
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
