/* PUT (and POST to a transaction file) in the tree: a file is written whole or not at all.
 *
 * Where the device can rename, the content goes to a file beside the target, which is renamed over
 * it when all has come and is on disk: a client that vanishes, or a crash, leaves the old content.
 * Directories that are missing on the way are made only then, and the file waits in the last one
 * that is there: so nothing has to be taken back that others may be using by now.
 * Other files (a run's standard input or ctl, an app's settings) are written as the body comes.
 * Of a file that nobody sees yet, what comes in small pieces is gathered: a crowd of slow clients
 * would else keep its volume busy with writes of some hundred bytes each, whose chunks every commit
 * writes anew.
 * With ?unpack the body is a tar whose entries are written below a directory. */
#include "api/archive.h"
#include "api/handlers.h"
#include "api/tree.h"
#include "api/upload.h"
#include "ns/temporary.h"

#include <inttypes.h>

#define UNPACK_ENTRIES_MAX 100000
/* Smaller pieces are gathered up to what a volume stores as one (store/volume.h), or less while
 * many do that. A larger one is written as it is if nothing was gathered before it, so that fast
 * clients copy nothing. */
#define PIECE_BYTES (2 * HTTP_GATHER_BYTES)
#define GATHERED_MAX (16 * KIB)
#define GATHERED_LITTLE (4 * KIB)
#define GATHERED_TOGETHER_MAX (64 * MIB)
/* How often a directory on the way may be missing when it is looked for and there when it is made.
 */
#define COLLISIONS_MAX 16
#define NAME_BYTES_MAX 255

enum stage {
    STAGE_PARENTS, /* walks to the directory, making what is missing */
    STAGE_TARGET,  /* what is there now? */
    STAGE_STAT,
    STAGE_SWEEP,  /* what a crash left in the directory goes */
    STAGE_CREATE, /* the file that is written: beside the target, or the target itself */
    STAGE_OPEN,
    STAGE_BODY,
    STAGE_SYNC,
    STAGE_RENAME,
    STAGE_COMMIT,
    STAGE_UPLOAD, /* ?unpack: the archive comes in */
    STAGE_UNPACK,
    STAGE_CLEAN, /* failed: removes the temporary file, then answers */
    STAGE_ANSWERED,
};

struct tree_put {
    struct request *request;
    enum stage stage;
    struct str rest;           /* of the path: what was not walked yet */
    struct ns_place directory; /* so far */
    struct ns_walk walk;
    struct ns_place child;
    unsigned collisions;
    bool creating; /* the next component is not there and is being made */
    bool is_short; /* the way ended before the last directory: what is missing is made at the end */
    bool has_come; /* the body, as a whole */
    struct file *beside_in; /* where the temporary file is; a reference */
    struct file *made;
    struct str name; /* the last component */
    bool exists;
    struct file_stat stat;   /* of the target, if it exists */
    struct file_stat missed; /* what was looked for and not found when it was renamed; all zero */
    bool as_link;            /* the name is a link, which is replaced whatever it leads to */
    bool beside;             /* written beside the target, then renamed */
    char temporary[NS_TEMPORARY_SIZE];
    bool temporary_is_there; /* or may be: it was asked for */
    struct ns_sweep *sweep;
    struct file *opened;
    uint64_t length;     /* of the body; UINT64_MAX: not said */
    uint64_t offset;     /* so much is written */
    struct buf gathered; /* what comes behind that, from `gathered_at` on; empty as a rule */
    size_t gathered_at;
    size_t gathered_room; /* of the whole; counted in api->gathered_bytes; 0: nothing is gathered */
    bool body_waits, body_ended;
    enum err failure; /* while STAGE_CLEAN is under way */
    struct upload upload;
    struct unpack *unpack;
    struct unpack_result unpacked;
};

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

/* The end of what was taken of the body. */
static uint64_t taken_end(const struct tree_put *put) {
    return put->offset + put->gathered.length - put->gathered_at;
}

/* All of it at once, of which the kernel gives what is used: blocks that grow would leave the
 * smaller ones of a whole crowd unused. */
static enum err begin_gathering(struct tree_put *put) {
    atomic_uint_fast64_t *together = &put->request->api->gathered_bytes;
    size_t most = atomic_load_explicit(together, memory_order_relaxed) < GATHERED_TOGETHER_MAX
                      ? GATHERED_MAX
                      : GATHERED_LITTLE;
    size_t room = (size_t)MIN(most - put->offset % most, put->length - put->offset);
    enum err err = buf_reserve(&put->gathered, room);
    if (!err) {
        put->gathered_room = room;
        atomic_fetch_add_explicit(together, room, memory_order_relaxed);
    }
    return err;
}

static void end_gathering(struct tree_put *put) {
    atomic_fetch_sub_explicit(&put->request->api->gathered_bytes, put->gathered_room,
                              memory_order_relaxed);
    buf_done(&put->gathered);
    put->gathered_at = put->gathered_room = 0;
}

static enum err write_gathered(struct tree_put *put) {
    while (put->gathered_at < put->gathered.length) {
        size_t written = 0;
        enum err err =
            file_write(&put->request->op, put->opened, put->gathered.data + put->gathered_at,
                       put->gathered.length - put->gathered_at, put->offset, &written);
        if (err) {
            return err;
        }
        put->gathered_at += written;
        put->offset += written;
    }
    end_gathering(put);
    return ERR_OK;
}

/* Gathers or writes some of a piece. */
static enum err take_piece(struct tree_put *put, const uint8_t *data, size_t length,
                           size_t *ret_taken) {
    bool is_rest = length >= put->length - taken_end(put);
    enum err err = ERR_OK;
    *ret_taken = 0;
    if (put->gathered_room == 0 && put->beside && length < PIECE_BYTES && !is_rest) {
        err = begin_gathering(put);
    }
    if (err || put->gathered_room == 0) {
        err =
            err ? err
                : file_write(&put->request->op, put->opened, data, length, put->offset, ret_taken);
        put->offset += *ret_taken;
        return err;
    }
    if (put->gathered.length == put->gathered_room) {
        return write_gathered(put);
    }
    *ret_taken = MIN(length, put->gathered_room - put->gathered.length);
    return buf_append(&put->gathered, data, *ret_taken);
}

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
    if (length > request->api->limits.upload_bytes_max - taken_end(put)) {
        op_abandon(&request->op); /* a write may be pending */
        put->failure = ERR_FBIG;
        put->stage = STAGE_CLEAN;
        step(request);
        return length;
    }
    size_t taken = 0;
    while (taken < length) {
        size_t piece = 0;
        enum err err = take_piece(put, data + taken, length - taken, &piece);
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
    request_respond_empty(request, put->exists ? 204 : 201);
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
            err = write_gathered(put);
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
    if (tree_is_past(request)) {
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
    if (ends_in_slash && http_has_body(request->exchange) &&
        !request_has_parameter(request, "unpack")) {
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
    end_gathering(put);
    free(put);
}

const struct request_handler tree_put_handler = {
    .start = start,
    .body = body,
    .body_end = body_end,
    .step = step,
    .end = end,
};
