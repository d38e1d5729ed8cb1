/* DELETE and MOVE in the tree. Both answer when the change is on disk. */
#include "api/handlers.h"
#include "api/tree.h"

/* How deep a directory may be that DELETE removes with all that is in it. */
#define DEPTH_MAX 256
/* Steps of a removal in one go: then others have their turn. */
#define STEPS_MAX 128
/* How often what is there may have changed between a look at it and its removal. */
#define OVERTAKEN_MAX 16

/* --- DELETE ----------------------------------------------------------------------------------- */

enum delete_stage {
    DELETE_WALK,
    DELETE_STEP,
    DELETE_STAT,
    DELETE_REMOVE, /* the name itself; a directory that is not empty is entered */
    DELETE_LIST,
    DELETE_ENTRY, /* the next entry of the innermost directory */
    DELETE_ENTER,
    DELETE_SYNC,
    DELETE_ANSWERED,
};

/* A directory on its way out, and what is left in it. */
struct level {
    struct file *directory;
    struct dir_list list;
    size_t next;
};

struct tree_delete {
    struct request *request;
    enum delete_stage stage;
    struct tree_walk walk;
    struct ns_walk_result found;
    struct ns_place target;
    struct file_stat stat;
    struct level *levels[DEPTH_MAX];
    size_t depth;
    unsigned overtaken;
};

static enum err push_level(struct tree_delete *delete, struct file *directory) {
    if (delete->depth == DEPTH_MAX) {
        return ERR_LOOP;
    }
    struct level *level = calloc(1, sizeof *level);
    if (!level) {
        return ERR_NOMEM;
    }
    level->directory = file_ref(directory);
    delete->levels[delete->depth++] = level;
    delete->stage = DELETE_LIST;
    return ERR_OK;
}

static void pop_level(struct tree_delete *delete) {
    struct level *level = delete->levels[--delete->depth];
    file_unref(level->directory);
    dir_list_done(&level->list);
    free(level);
}

/* The directory and name of what is to be removed now: an entry of the innermost level, or the
 * target itself when there is none. */
static struct file *present_parent(const struct tree_delete *delete, size_t depth) {
    return depth > 0 ? delete->levels[depth - 1]->directory : delete->found.place.file;
}

static struct str present_name(const struct tree_delete *delete, size_t depth) {
    if (depth == 0) {
        return delete->found.name;
    }
    const struct level *level = delete->levels[depth - 1];
    return dir_list_name(&level->list, level->next);
}

static enum err remove_entry(struct tree_delete *delete) {
    struct op *op = &delete->request->op;
    struct level *level = delete->levels[delete->depth - 1];
    if (level->next == level->list.count) {
        /* Empty now: it goes itself, from its parent. */
        enum err err = file_remove(op, present_parent(delete, delete->depth - 1),
                                   present_name(delete, delete->depth - 1), true);
        if (err) {
            return err;
        }
        pop_level(delete);
        if (delete->depth == 0) {
            delete->stage = DELETE_SYNC;
        } else {
            delete->levels[delete->depth - 1]->next++;
        }
        return ERR_OK;
    }
    bool is_directory = level->list.entries[level->next].type == FILE_DIRECTORY;
    enum err err =
        file_remove(op, level->directory, present_name(delete, delete->depth), is_directory);
    if (is_directory && err == ERR_NOTEMPTY) {
        delete->stage = DELETE_ENTER;
        return ERR_OK;
    }
    if (!err || err == ERR_NOENT) {
        level->next++;
        return ERR_OK;
    }
    return err;
}

static enum err enter(struct tree_delete *delete) {
    struct str name = present_name(delete, delete->depth);
    struct file *child = NULL;
    size_t walked = 0;
    enum err err = file_walk(&delete->request->op, present_parent(delete, delete->depth), &name, 1,
                             &walked, &child);
    if (err) {
        return err;
    }
    err = push_level(delete, child);
    file_unref(child);
    return err;
}

static enum err delete_once(struct tree_delete *delete) {
    struct request *request = delete->request;
    struct op *op = &request->op;
    enum err err = ERR_OK;
    switch (delete->stage) {
    case DELETE_WALK:
        err = tree_walk(request, &delete->walk, tree_path(request), NS_PARENT, &delete->found);
        if (err) {
            return err;
        }
        if (delete->found.is_mount_point) {
            return ERR_BUSY;
        }
        delete->stage = DELETE_STEP;
        return ERR_OK;
    case DELETE_STEP:
        err = ns_step(op, request->api->tree, &delete->found.place, delete->found.name,
                      &delete->target);
        delete->stage = err ? delete->stage : DELETE_STAT;
        return err;
    case DELETE_STAT:
        err = file_stat(op, delete->target.file, &delete->stat);
        if (err) {
            return err;
        }
        if (!tree_preconditions_hold(request, &delete->stat)) {
            delete->stage = DELETE_ANSWERED;
            return ERR_OK;
        }
        delete->stage = DELETE_REMOVE;
        return ERR_OK;
    case DELETE_REMOVE: {
        bool is_directory = delete->stat.type == FILE_DIRECTORY;
        struct file_expected room;
        err = file_remove_expected(op, delete->found.place.file, delete->found.name, is_directory,
                                   tree_expected(request, &delete->stat, &room));
        if (err == ERR_STALE && ++delete->overtaken < OVERTAKEN_MAX) {
            ns_place_done(&delete->target);
            delete->stage = DELETE_STEP;
            return ERR_OK;
        }
        if (is_directory && err == ERR_NOTEMPTY) {
            return push_level(delete, delete->target.file);
        }
        delete->stage = err ? delete->stage : DELETE_SYNC;
        return err;
    }
    case DELETE_LIST: {
        struct level *level = delete->levels[delete->depth - 1];
        err = file_readdir(op, level->directory, &level->list);
        delete->stage = err ? delete->stage : DELETE_ENTRY;
        return err;
    }
    case DELETE_ENTRY:
        return remove_entry(delete);
    case DELETE_ENTER:
        return enter(delete);
    case DELETE_SYNC:
        ns_place_done(&delete->target); /* it has its room while it is held */
        err = file_sync(op, delete->found.place.file);
        if (!err) {
            delete->stage = DELETE_ANSWERED;
            request_respond_empty(request, 204);
        }
        return err;
    case DELETE_ANSWERED:
        break;
    }
    return ERR_OK;
}

static void delete_step(struct request *request) {
    struct tree_delete *delete = request->state;
    enum err err = ERR_OK;
    for (unsigned steps = 0; !err && delete->stage != DELETE_ANSWERED; steps++) {
        if (steps == STEPS_MAX) {
            op_wake(&request->op);
            return;
        }
        err = delete_once(delete);
    }
    if (err && err != ERR_PENDING) {
        delete->stage = DELETE_ANSWERED;
        tree_fail(request, err);
    }
}

static void delete_start(struct request *request) {
    if (tree_is_past(request)) {
        return;
    }
    struct tree_delete *delete = calloc(1, sizeof *delete);
    if (!delete) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = delete;
    delete->request = request;
    delete_step(request);
}

static void delete_end(struct request *request, bool completed) {
    (void)completed;
    struct tree_delete *delete = request->state;
    if (!delete) {
        return;
    }
    while (delete->depth > 0) {
        pop_level(delete);
    }
    ns_place_done(&delete->target);
    ns_place_done(&delete->found.place);
    tree_walk_done(&delete->walk);
    free(delete);
}

const struct request_handler tree_delete_handler = {
    .start = delete_start, .step = delete_step, .end = delete_end};

/* --- MOVE (the verb and its headers as in RFC 4918 section 9.9) ------------------------------- */

enum move_stage { MOVE_FROM, MOVE_TO, MOVE_LOOK, MOVE_RENAME, MOVE_SYNC, MOVE_ANSWERED };

struct tree_move {
    struct request *request;
    enum move_stage stage;
    struct buf destination; /* decoded path */
    struct tree_walk from_walk, to_walk;
    struct ns_walk_result from, to;
    bool replaces;
    bool is_there; /* where it fails, what is wrong is at the destination */
};

/* The path of the Destination header: absolute, or a whole URL. */
static enum err parse_destination(struct request *request, struct buf *ret_path) {
    struct str text = http_header(request->exchange, "Destination");
    if (!text.data) {
        return buf_fail(&request->message, ERR_INVAL,
                        "say where to: a header 'Destination: /apps/NAME/files/...'");
    }
    const char *scheme = memmem(text.data, text.length, "://", 3);
    if (scheme) {
        struct str rest = {scheme + 3, text.length - (size_t)(scheme + 3 - text.data)};
        struct str path = rest;
        if (!str_equal(str_cut(&path, '/'), http_header(request->exchange, "Host"))) {
            return buf_fail(&request->message, ERR_INVAL,
                            "the Destination header names another server");
        }
        const char *slash = memchr(rest.data, '/', rest.length);
        text = slash ? (struct str){slash, rest.length - (size_t)(slash - rest.data)} : STR("/");
    }
    struct str query = text;
    text = str_cut(&query, '?');
    enum err err = query_decode(text, false, ret_path);
    if (err || ret_path->length < 2 || ret_path->data[0] != '/' ||
        !str_is_utf8(buf_str(ret_path))) {
        return buf_fail(&request->message, ERR_INVAL, "the Destination header is no absolute path");
    }
    tree_path_normalize(ret_path);
    return ERR_OK;
}

/* "/apps/NAME/secrets/..." */
static bool is_of_secrets(struct str path) {
    str_cut(&path, '/');
    bool is_of_app = str_equal_text(str_cut(&path, '/'), "apps");
    str_cut(&path, '/');
    return is_of_app && str_equal_text(str_cut(&path, '/'), "secrets");
}

static enum err move_once(struct tree_move *move) {
    struct request *request = move->request;
    struct op *op = &request->op;
    enum err err = ERR_OK;
    switch (move->stage) {
    case MOVE_FROM:
        err = tree_walk(request, &move->from_walk, tree_path(request), NS_PARENT, &move->from);
        if (!err && move->from.is_mount_point) {
            err = ERR_BUSY;
        }
        move->stage = err ? move->stage : MOVE_TO;
        return err;
    case MOVE_TO: {
        move->is_there = true;
        struct str path = buf_str(&move->destination);
        path.data++;
        path.length--;
        err = tree_walk(request, &move->to_walk, path, NS_PARENT, &move->to);
        if (!err && move->to.is_mount_point) {
            err = ERR_BUSY;
        }
        move->stage = err ? move->stage : MOVE_LOOK;
        return err;
    }
    case MOVE_LOOK: {
        struct ns_place there = {0};
        err = ns_step(op, request->api->tree, &move->to.place, move->to.name, &there);
        if (err && err != ERR_NOENT) {
            return err;
        }
        move->replaces = !err;
        ns_place_done(&there);
        struct str overwrite = http_header(request->exchange, "Overwrite");
        if (move->replaces && str_equal_text(overwrite, "F")) {
            request_fail_status(request, 412, "%s is there already", buf_text(&move->destination));
            move->stage = MOVE_ANSWERED;
            return ERR_OK;
        }
        move->stage = MOVE_RENAME;
        return ERR_OK;
    }
    case MOVE_RENAME:
        if (is_of_secrets(buf_str(&request->path)) || is_of_secrets(buf_str(&move->destination))) {
            return buf_fail(&request->message, ERR_ACCES,
                            "secrets can't be moved, since nobody can read them: write it anew, by "
                            "PUT /apps/NAME/secrets/KEY");
        }
        if (move->from.place.file->device != move->to.place.file->device) {
            return buf_fail(&request->message, ERR_XDEV,
                            "%s and %s are on different volumes; copy it, then delete it",
                            buf_text(&request->path), buf_text(&move->destination));
        }
        err = file_rename(op, move->from.place.file, move->from.name, move->to.place.file,
                          move->to.name);
        move->is_there =
            err == ERR_EXIST || err == ERR_NOTEMPTY || err == ERR_ISDIR || err == ERR_NOTDIR;
        move->stage = err ? move->stage : MOVE_SYNC;
        return err;
    case MOVE_SYNC:
        err = file_sync(op, move->to.place.file);
        if (!err) {
            move->stage = MOVE_ANSWERED;
            request_respond_empty(request, move->replaces ? 204 : 201);
        }
        return err;
    case MOVE_ANSWERED:
        break;
    }
    return ERR_OK;
}

static void move_step(struct request *request) {
    struct tree_move *move = request->state;
    enum err err = ERR_OK;
    while (!err && move->stage != MOVE_ANSWERED) {
        err = move_once(move);
    }
    if (err && err != ERR_PENDING) {
        move->stage = MOVE_ANSWERED;
        tree_fail_at(request, move->is_there ? &move->destination : &request->path, err);
    }
}

static void move_start(struct request *request) {
    struct tree_move *move = calloc(1, sizeof *move);
    if (!move) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = move;
    move->request = request;
    enum err err = parse_destination(request, &move->destination);
    if (err) {
        move->stage = MOVE_ANSWERED;
        request_fail(request, err, &request->message);
        return;
    }
    if (tree_is_unseen(request, &move->destination)) {
        move->stage = MOVE_ANSWERED;
        return;
    }
    move_step(request);
}

static void move_end(struct request *request, bool completed) {
    (void)completed;
    struct tree_move *move = request->state;
    if (!move) {
        return;
    }
    ns_place_done(&move->from.place);
    ns_place_done(&move->to.place);
    tree_walk_done(&move->from_walk);
    tree_walk_done(&move->to_walk);
    buf_done(&move->destination);
    free(move);
}

const struct request_handler tree_move_handler = {
    .start = move_start, .step = move_step, .end = move_end};
