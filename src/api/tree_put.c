/* PUT (and POST to a transaction file) in the tree: a file is written whole or not at all.
 *
 * Where the device can rename, the content goes to a file beside the target, which is renamed over
 * it when all has come and is on disk: a client that vanishes, or a crash, leaves the old content.
 * Directories that are missing on the way are made only then, and the file waits in the last one
 * that is there: so nothing has to be taken back that others may be using by now.
 * Other files (a run's standard input or ctl, an app's settings) are written as the body comes.
 * With ?unpack the body is a tar whose entries are written below a directory. */
#include "api/handlers.h"
#include "api/tree_put_internal.h"

#include <inttypes.h>

#define UNPACK_ENTRIES_MAX 100000
/* How often a directory on the way may be missing when it is looked for and there when it is made.
 */
#define COLLISIONS_MAX 16
#define NAME_BYTES_MAX 255

static void step(struct request *request);

/* --- the way there ---------------------------------------------------------------------------- */

/* Whether the rest of the way can be names at all: what is walked later is checked before the body
 * comes, and the last one is only given to a device (ns/dev.h). */
static enum err check_names(struct str rest) {
    if (!str_is_utf8(rest)) {
        return ERR_ILSEQ;
    }
    if (memchr(rest.data, 0, rest.length)) {
        return ERR_INVAL;
    }
    while (rest.data) {
        if (str_cut(&rest, '/').length > NAME_BYTES_MAX) {
            return ERR_NAMETOOLONG;
        }
    }
    return ERR_OK;
}

/* Whether the component, which was not found, can be made when the body has come. NOENT: it is
 * there, as a link that leads nowhere. */
static enum err stop_short(struct tree_put *put, struct str name) {
    struct file *found = NULL;
    size_t walked = 0;
    enum err err = file_walk(&put->request->op, put->directory.file, &name, 1, &walked, &found);
    if (!err) {
        file_unref(found);
        return ERR_NOENT;
    }
    put->is_short = err == ERR_NOENT;
    put->creating = err == ERR_PENDING;
    return put->is_short ? check_names(put->rest) : err;
}

static bool may_stop_short(const struct tree_put *put) {
    const struct dev *dev = put->directory.file->dev;
    return !put->has_come && http_has_body(put->request->exchange) && dev->create && dev->rename;
}

/* One component further; directories that are missing are made. */
static enum err walk_parents(struct tree_put *put) {
    struct request *request = put->request;
    struct op *op = &request->op;
    bool unpack = request_has_parameter(request, "unpack");
    for (;;) {
        while (put->rest.length > 0 && put->rest.data[0] == '/') {
            put->rest.data++;
            put->rest.length--;
        }
        const char *slash = memchr(put->rest.data, '/', put->rest.length);
        bool last = !slash && !(unpack && put->rest.length > 0);
        if (last) {
            put->name = put->rest;
            return ERR_OK;
        }
        struct str name = {put->rest.data,
                           slash ? (size_t)(slash - put->rest.data) : put->rest.length};
        struct ns_walk_result result = {0};
        enum err err = ERR_OK;
        if (!put->creating) {
            err = ns_walk(op, &put->walk, request->api->tree, &put->directory, name, NS_FOLLOW,
                          &result);
            if (err == ERR_PENDING) {
                return err;
            }
            ns_walk_done(&put->walk);
            put->creating = err == ERR_NOENT;
        }
        if (put->creating && may_stop_short(put)) {
            return stop_short(put, name);
        }
        if (put->creating) {
            err = file_create(op, put->directory.file, name, FILE_DIRECTORY, &put->made);
            if (err == ERR_PENDING) {
                return err;
            }
            put->creating = false;
            if (err == ERR_EXIST && ++put->collisions < COLLISIONS_MAX) {
                continue; /* made by somebody else meanwhile: walk again */
            }
            if (err == ERR_EXIST) { /* there all the time: a link that leads nowhere */
                err = ERR_NOENT;
            }
            if (err == ERR_ROFS || err == ERR_NOTSUP) {
                /* It can't be made here; that it is missing says more. */
                err = ERR_NOENT;
            }
            if (!err) {
                file_unref(STEAL(put->made));
                continue;
            }
        }
        if (err) {
            return err;
        }
        ns_place_done(&put->directory);
        put->directory = result.place;
        put->rest.data += name.length;
        put->rest.length -= name.length;
    }
}

static enum err find_target(struct tree_put *put) {
    struct request *request = put->request;
    struct ns_walk_result result = {0};
    enum err err = ns_walk(&request->op, &put->walk, request->api->tree, &put->directory, put->name,
                           NS_FOLLOW, &result);
    if (err == ERR_PENDING) {
        return err;
    }
    ns_walk_done(&put->walk);
    if (err && err != ERR_NOENT) {
        return err;
    }
    put->exists = err == ERR_OK;
    put->child = result.place;
    put->stage = put->exists ? STAGE_STAT : STAGE_CREATE;
    return ERR_OK;
}

static enum err check_target(struct tree_put *put) {
    struct op *op = &put->request->op;
    if (put->stage == STAGE_STAT) {
        enum err err = file_stat(op, put->child.file, &put->stat);
        if (err) {
            return err;
        }
        if (put->stat.type == FILE_DIRECTORY) {
            return ERR_ISDIR;
        }
        if (put->child.file->traits & FILE_REWINDABLE) {
            put->stage = STAGE_ANSWERED; /* nobody would read the answer */
            put->request->allow = "POST";
            request_fail_status(put->request, 405, "POST a question to " STR_FORMAT,
                                STR_ARGS(buf_str(&put->request->path)));
            return ERR_OK;
        }
        put->stage = STAGE_CREATE;
    }
    if (!tree_preconditions_hold(put->request, put->exists ? &put->stat : NULL)) {
        put->stage = STAGE_ANSWERED;
        return ERR_OK;
    }
    if (put->has_come) { /* only looked at again */
        put->as_link = put->exists && put->stat.inode == put->missed.inode &&
                       put->stat.version == put->missed.version;
        put->stage = STAGE_RENAME;
        return ERR_OK;
    }
    const struct dev *dev = put->directory.file->dev;
    put->beside = dev->create && dev->rename && (!put->exists || put->stat.type == FILE_REGULAR);
    if (put->beside) {
        ns_temporary_name(put->temporary);
        if (tree_sweep_is_due(put->request)) {
            put->stage = STAGE_SWEEP;
        }
    }
    return ERR_OK;
}

static enum err create_file(struct tree_put *put) {
    struct op *op = &put->request->op;
    if (put->beside || !put->exists) {
        struct str name = put->beside ? str_of(put->temporary) : put->name;
        ns_place_done(&put->child); /* what is there already was only looked at */
        /* Said first: should the client vanish meanwhile, it is made all the same. */
        put->temporary_is_there = put->beside;
        if (!put->beside_in) {
            put->beside_in = file_ref(put->directory.file);
        }
        enum err err = file_create(op, put->directory.file, name, FILE_REGULAR, &put->child.file);
        if (err) {
            /* It can't be made here; that the directory is missing says more. */
            return put->is_short && (err == ERR_ROFS || err == ERR_NOTSUP) ? ERR_NOENT : err;
        }
    }
    put->stage = STAGE_OPEN;
    return ERR_OK;
}

/* --- the body --------------------------------------------------------------------------------- */

static size_t body(struct request *request, const uint8_t *data, size_t length) {
    struct tree_put *put = request->state;
    if (put->stage == STAGE_UPLOAD) {
        return upload_body(&put->upload, data, length);
    }
    if (put->stage == STAGE_ANSWERED || put->stage == STAGE_CLEAN) {
        return length;
    }
    if (put->stage != STAGE_BODY) { /* still on the way there */
        put->body_waits = true;
        return 0;
    }
    if (length > request->api->limits.upload_bytes_max - tree_put_taken_end(put)) {
        op_abandon(&request->op); /* a write may be pending */
        put->failure = ERR_FBIG;
        put->stage = STAGE_CLEAN;
        step(request);
        return length;
    }
    size_t taken = 0;
    while (taken < length) {
        size_t piece = 0;
        enum err err = tree_put_take(put, data + taken, length - taken, &piece);
        if (err == ERR_PENDING) {
            put->body_waits = true;
            return taken;
        }
        if (err) {
            put->failure = err;
            put->stage = STAGE_CLEAN;
            step(request);
            return length;
        }
        taken += piece;
    }
    return length;
}

static void body_end(struct request *request) {
    struct tree_put *put = request->state;
    if (!put || put->stage == STAGE_ANSWERED) {
        return;
    }
    put->body_ended = true;
    if (put->stage == STAGE_UPLOAD) {
        upload_end(&put->upload);
        return;
    }
    step(request);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* What nobody has open has no room when it is removed: so before the answer, not at the end. */
static void let_go_of_file(struct tree_put *put) {
    if (put->opened) {
        file_closed(put->opened, OPEN_WRITE);
        file_unref(STEAL(put->opened));
    }
    ns_place_done(&put->child);
}

static void answer(struct tree_put *put) {
    struct request *request = put->request;
    put->stage = STAGE_ANSWERED;
    let_go_of_file(put);
    if (put->unpacked.files > 0 || put->upload.request) {
        cleanup_buf struct buf text = {0};
        enum err err = buf_printf(&text, "%" PRIu64 " files, %" PRIu64 " bytes\n",
                                  put->unpacked.files, put->unpacked.bytes);
        err = err ? err : unpack_tell_hidden(&put->unpacked, "", &text);
        if (err) {
            request_fail(request, err, NULL);
            return;
        }
        request_respond_text(request, 200, buf_str(&text));
        return;
    }
    if (!tree_put_tell(put)) {
        request_respond_empty(request, put->exists ? 204 : 201);
    }
}

/* The preconditions are those of the moment in which the content is replaced: who was overtaken
 * while the body came looks again. */
static enum err rename_over(struct tree_put *put) {
    struct file_expected room;
    const struct file_expected *expected =
        put->as_link ? NULL : tree_expected(put->request, put->exists ? &put->stat : NULL, &room);
    enum err err = file_rename_expected(&put->request->op, put->beside_in, str_of(put->temporary),
                                        put->directory.file, put->name, expected);
    if (err == ERR_STALE && ++put->collisions < COLLISIONS_MAX) {
        put->missed = put->exists ? put->stat : (struct file_stat){0};
        ns_place_done(&put->child);
        put->stage = STAGE_TARGET;
        return ERR_OK;
    }
    if (!err) {
        put->temporary_is_there = false;
        put->stage = STAGE_COMMIT;
    }
    return err;
}

static void unpack_received(struct request *request, enum err err) {
    struct tree_put *put = request->state;
    if (err) {
        put->stage = STAGE_ANSWERED;
        tree_fail(request, err);
        return;
    }
    put->has_come = true;
    put->stage = STAGE_PARENTS;
    step(request);
}

static enum err begin_unpack(struct tree_put *put) {
    struct unpack_options options = {
        .directory = put->directory.file,
        .descriptor = put->upload.descriptor,
        .entries_max = UNPACK_ENTRIES_MAX,
        .bytes_max = put->request->api->limits.upload_bytes_max,
        .diverted_descriptor = -1,
        .is_hidden = tree_hidden_in(buf_str(&put->request->path)),
    };
    enum err err = unpack_new(&options, &put->unpack);
    put->stage = err ? put->stage : STAGE_UNPACK;
    return err;
}

static enum err begin_upload(struct tree_put *put) {
    put->stage = STAGE_UPLOAD;
    enum err err = upload_init(&put->upload, put->request,
                               put->request->api->limits.upload_bytes_max, unpack_received);
    if (!err && put->body_waits) {
        put->body_waits = false;
        http_body_resume(put->request->exchange);
    }
    if (!err && put->body_ended) {
        upload_end(&put->upload);
    }
    return err;
}

static enum err after_parents(struct tree_put *put) {
    if (request_has_parameter(put->request, "unpack")) {
        return put->has_come ? begin_unpack(put) : begin_upload(put);
    }
    if (put->has_come) {
        put->stage = STAGE_RENAME;
        return ERR_OK;
    }
    if (put->is_short) {
        put->stage = STAGE_CREATE;
        return check_target(put);
    }
    if (put->name.length == 0) { /* a path that ends in a slash: the directory is there now */
        put->stage = STAGE_COMMIT;
        return ERR_OK;
    }
    put->stage = STAGE_TARGET;
    return ERR_OK;
}

static enum err step_once(struct tree_put *put) {
    struct op *op = &put->request->op;
    enum err err = ERR_OK;
    switch (put->stage) {
    case STAGE_PARENTS:
        err = walk_parents(put);
        return err ? err : after_parents(put);
    case STAGE_TARGET:
        err = find_target(put);
        if (!err && put->stage == STAGE_CREATE) {
            err = check_target(put);
        }
        return err;
    case STAGE_STAT:
        return check_target(put);
    case STAGE_SWEEP:
        err = ns_sweep_step(op, put->directory.file, &put->sweep);
        if (err !=
            ERR_PENDING) { /* what can't be swept does not keep anything from being written */
            put->stage = STAGE_CREATE;
            err = ERR_OK;
        }
        return err;
    case STAGE_CREATE:
        return create_file(put);
    case STAGE_OPEN:
        err = file_open(op, put->child.file, OPEN_WRITE | OPEN_TRUNCATE, &put->opened);
        if (err) {
            return err;
        }
        put->stage = STAGE_BODY;
        if (put->beside) { /* else somebody may read what there is of it */
            http_gather_body(put->request->exchange);
        }
        if (put->body_waits) {
            put->body_waits = false;
            http_body_resume(put->request->exchange);
        }
        return ERR_OK;
    case STAGE_BODY:
        if (put->body_ended) {
            err = tree_put_write_gathered(put);
            if (err) {
                return err;
            }
        }
        if (put->body_waits) {
            put->body_waits = false;
            http_body_resume(put->request->exchange);
        }
        if (!put->body_ended) {
            return ERR_PENDING;
        }
        put->has_come = true;
        put->stage = put->is_short ? STAGE_PARENTS : put->beside ? STAGE_RENAME : STAGE_SYNC;
        return ERR_OK;
    case STAGE_RENAME:
        return rename_over(put);
    case STAGE_SYNC:
        err = file_sync(op, put->opened);
        put->stage = err ? put->stage : STAGE_COMMIT;
        return err;
    case STAGE_UNPACK:
        err = unpack_step(op, put->unpack, &put->unpacked, &put->request->message);
        put->stage = err ? put->stage : STAGE_COMMIT;
        return err;
    case STAGE_COMMIT:
        err = file_sync(op, put->directory.file);
        put->stage = err ? put->stage : STAGE_LOOK;
        return err;
    case STAGE_LOOK:
        err = tree_put_look(put);
        if (!err) {
            answer(put);
        }
        return err;
    case STAGE_CLEAN:
        let_go_of_file(put);
        if (put->temporary_is_there) {
            err = file_remove(op, put->beside_in, str_of(put->temporary), false);
            if (err == ERR_PENDING) {
                return err;
            }
            put->temporary_is_there = false;
        }
        put->stage = STAGE_ANSWERED;
        tree_fail(put->request, put->failure);
        return ERR_OK;
    case STAGE_UPLOAD:
        return ERR_PENDING;
    case STAGE_ANSWERED:
        break;
    }
    return ERR_OK;
}

static void step(struct request *request) {
    struct tree_put *put = request->state;
    enum err err = ERR_OK;
    while (put->stage != STAGE_ANSWERED && err != ERR_PENDING) {
        err = step_once(put);
        if (err && err != ERR_PENDING) {
            put->failure = err;
            put->stage = STAGE_CLEAN;
            err = ERR_OK;
        }
    }
    if (put->stage == STAGE_ANSWERED && put->body_waits) {
        put->body_waits = false;
        http_body_resume(request->exchange);
    }
}

static void start(struct request *request) {
    if (atomic_load_explicit(&request->api->shutting_down, memory_order_relaxed)) {
        request_fail_status(request, 503, "the server is stopping");
        return;
    }
    bool unpacks = request_has_parameter(request, "unpack"); /* which tells it at the end */
    if (tree_is_past(request) || (!unpacks && tree_is_unseen(request, &request->path))) {
        return;
    }
    if (ns_has_temporary(buf_str(&request->path))) {
        request_fail_status(request, 400, "%s: this name is the server's own; take another one",
                            buf_text(&request->path));
        return;
    }
    uint64_t length = 0;
    uint64_t length_max = request->api->limits.upload_bytes_max;
    bool is_length_known = http_content_length(request->exchange, &length);
    if (is_length_known && length > length_max) {
        request_fail_status(request, 413, "the body is larger than %" PRIu64 " bytes", length_max);
        return;
    }
    bool ends_in_slash = request->path.data[request->path.length - 1] == '/';
    if (ends_in_slash && http_has_body(request->exchange) && !unpacks) {
        request_fail_status(request, 400,
                            "%s is a directory, which has no content; leave the body out to make "
                            "it, or the last slash to write a file",
                            buf_text(&request->path));
        return;
    }
    struct tree_put *put = calloc(1, sizeof *put);
    if (!put) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = put;
    put->request = request;
    put->length = is_length_known ? length : UINT64_MAX;
    put->upload.descriptor = -1;
    put->rest = tree_path(request);
    put->directory = ns_root(request->api->tree);
    step(request);
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct tree_put *put = request->state;
    if (!put) {
        return;
    }
    let_go_of_file(put);
    if (put->temporary_is_there) {
        ns_remove_later(&put->request->op, put->beside_in, str_of(put->temporary));
    }
    file_unref(put->beside_in);
    ns_walk_done(&put->walk);
    ns_sweep_free(put->sweep);
    file_unref(put->made);
    ns_place_done(&put->directory);
    unpack_free(put->unpack);
    upload_done(&put->upload);
    tree_put_end_gathering(put);
    tree_put_end_look(put);
    free(put);
}

const struct request_handler tree_put_handler = {
    .start = start,
    .body = body,
    .body_end = body_end,
    .step = step,
    .end = end,
};
