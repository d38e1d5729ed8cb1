#include "dev/place.h"

#include "ns/temporary.h"

enum { DEPTH_MAX = 128, PIECE_BYTES = 64 * 1024, STEPS_MAX = 8, LOOKS_MAX = 64 };

/* Twice through the files: first each is written under a hidden name, and looked whether its place
 * can be had; then directories are made and names given, which takes next to no time. */
enum stage {
    STAGE_ENTRY,
    STAGE_FIND, /* a directory: is it there? */
    STAGE_MAKE,
    STAGE_LOOK, /* is something in the way? */
    STAGE_HIDE,
    STAGE_CREATE,
    STAGE_OPEN,
    STAGE_WRITE,
    STAGE_RENAME,
    STAGE_CLEAN,
    STAGE_DONE
};

/* A directory that is being placed. */
struct level {
    struct file *from, *to; /* references; `to` NULL: it is not there, and has to be made */
    struct dir_list list;   /* of `from` */
    size_t next;
    size_t path_length; /* of place->path, with the slash behind it */
};

struct place {
    struct op op; /* a child of the owner's */
    struct ns *ns;
    struct file *root; /* of what is written to, a reference: hidden names are there */
    struct level levels[DEPTH_MAX];
    size_t depth;
    enum stage stage;
    bool is_naming;  /* the second time */
    struct buf path; /* of the present entry */
    struct str name; /* its last component, in the level's list */
    unsigned looks;  /* how often it was a directory that others made meanwhile */
    struct ns_walk walk;
    struct file *source;          /* what is placed, a reference */
    struct file *target, *opened; /* under its hidden name, references */
    /* The hidden names, in the order of the files: those from `named_count` on are there. */
    char (*hidden)[NS_TEMPORARY_SIZE];
    size_t hidden_count, hidden_capacity, named_count;
    uint64_t offset;
    size_t piece_length, piece_written;
    enum err failure;
    uint8_t piece[PIECE_BYTES];
};

static enum err push(struct place *place, struct file *from, struct file *to) {
    if (place->depth == DEPTH_MAX) {
        return ERR_LOOP;
    }
    struct level *level = &place->levels[place->depth++];
    *level = (struct level){.from = file_ref(from), .to = to ? file_ref(to) : NULL};
    if (place->path.length > 0) {
        enum err err = buf_append_byte(&place->path, '/');
        if (err) {
            return err;
        }
    }
    level->path_length = place->path.length;
    place->stage = STAGE_ENTRY;
    return file_readdir(&place->op, from, &level->list);
}

static void pop(struct place *place) {
    struct level *level = &place->levels[--place->depth];
    file_unref(level->from);
    file_unref(level->to);
    dir_list_done(&level->list);
}

enum err place_new(struct op *op, struct file *from, struct file *to, struct place **ret_place) {
    struct place *place = malloc(sizeof *place);
    if (!place) {
        return ERR_NOMEM;
    }
    memset(place, 0, offsetof(struct place, piece));
    op_init_child(&place->op, op);
    place->root = file_ref(to);
    enum err err = ns_new(to, &place->ns);
    err = err ? err : push(place, from, to);
    if (err) {
        place_free(place);
        return err;
    }
    *ret_place = place;
    return ERR_OK;
}

static void let_go_of_file(struct place *place) {
    if (place->opened) {
        file_closed(place->opened, OPEN_WRITE);
    }
    file_unref(STEAL(place->opened));
    file_unref(STEAL(place->target));
    file_unref(STEAL(place->source));
}

void place_free(struct place *place) {
    if (!place) {
        return;
    }
    let_go_of_file(place);
    op_abandon(&place->op);
    while (place->named_count < place->hidden_count) {
        ns_remove_later(&place->op, place->root, str_of(place->hidden[place->named_count++]));
    }
    free(place->hidden);
    ns_walk_done(&place->walk);
    op_done(&place->op);
    while (place->depth > 0) {
        pop(place);
    }
    ns_unref(place->ns);
    file_unref(place->root);
    buf_done(&place->path);
    free(place);
}

/* One directory is through; behind the outermost one it begins again, or is over. */
static enum err leave(struct place *place) {
    struct file *from = place->depth == 1 ? file_ref(place->levels[0].from) : NULL;
    pop(place);
    place->stage = STAGE_ENTRY;
    enum err err = ERR_OK;
    if (from && place->is_naming) {
        place->stage = STAGE_DONE;
    } else if (from) {
        place->is_naming = true;
        place->path.length = 0;
        err = push(place, from, place->root);
    }
    file_unref(from);
    return err;
}

/* The next entry of the innermost directory. */
static enum err begin_entry(struct place *place, struct level *level) {
    if (level->next == level->list.count) {
        return leave(place);
    }
    place->name = dir_list_name(&level->list, level->next);
    bool is_directory = level->list.entries[level->next].type == FILE_DIRECTORY;
    level->next++;
    place->looks = 0;
    place->path.length = level->path_length;
    enum err err = buf_append_str(&place->path, place->name);
    size_t walked;
    err = err ? err : file_walk(&place->op, level->from, &place->name, 1, &walked, &place->source);
    if (err) {
        return err;
    }
    if (is_directory && !level->to) { /* below one that is not there */
        struct file *source = STEAL(place->source);
        err = push(place, source, NULL);
        file_unref(source);
        return err;
    }
    place->stage = is_directory       ? STAGE_FIND
                   : place->is_naming ? STAGE_RENAME
                   : level->to        ? STAGE_LOOK
                                      : STAGE_HIDE;
    return ERR_OK;
}

/* Is the directory there? */
static enum err find_directory(struct place *place) {
    struct ns_place root = ns_root(place->ns);
    struct ns_walk_result found = {0};
    enum err err = ns_walk(&place->op, &place->walk, place->ns, &root, buf_str(&place->path),
                           NS_FOLLOW, &found);
    ns_place_done(&root);
    if (err == ERR_PENDING) {
        return err;
    }
    ns_walk_done(&place->walk);
    if (err) {
        place->stage = place->is_naming ? STAGE_MAKE : STAGE_LOOK;
        return err == ERR_NOENT ? ERR_OK : err;
    }
    struct file *source = STEAL(place->source);
    err = found.place.file->type == FILE_DIRECTORY ? push(place, source, found.place.file)
                                                   : ERR_NOTDIR;
    file_unref(source);
    ns_place_done(&found.place);
    return err;
}

/* A directory was not found, and now something is there: others may have made it meanwhile, so it
 * is looked for again. That ends where it is removed and made again all the time, and with a link
 * that leads nowhere. */
static enum err find_again(struct place *place, enum err err) {
    if (place->looks++ == LOOKS_MAX) {
        return err;
    }
    place->stage = STAGE_FIND;
    return ERR_OK;
}

/* Where a directory was not found, a link that leads nowhere would be in the way; where a file
 * goes, a directory. */
static enum err look(struct place *place, struct level *level) {
    struct file *found = NULL;
    size_t walked;
    enum err err = file_walk(&place->op, level->to, &place->name, 1, &walked, &found);
    if (err && err != ERR_NOENT) {
        return err;
    }
    bool is_directory = place->source->type == FILE_DIRECTORY;
    bool finds_directory = !err && found->type == FILE_DIRECTORY;
    file_unref(found);
    if (is_directory && finds_directory) {
        return find_again(place, ERR_BUSY);
    }
    if (!err && (is_directory || finds_directory)) {
        return is_directory ? ERR_NOTDIR : ERR_ISDIR;
    }
    if (!is_directory) {
        place->stage = STAGE_HIDE;
        return ERR_OK;
    }
    struct file *source = STEAL(place->source);
    err = push(place, source, NULL);
    file_unref(source);
    return err;
}

static enum err make_directory(struct place *place, struct level *level) {
    struct file *made;
    enum err err = file_create(&place->op, level->to, place->name, FILE_DIRECTORY, &made);
    if (err) {
        return err == ERR_EXIST ? find_again(place, err) : err;
    }
    struct file *source = STEAL(place->source);
    err = push(place, source, made);
    file_unref(source);
    file_unref(made);
    return err;
}

/* A hidden name for the next file. Should it be given up while that is being made, it is made: so
 * it is noted first. */
static enum err hide(struct place *place) {
    if (place->hidden_count == place->hidden_capacity) {
        size_t capacity = place->hidden_capacity ? place->hidden_capacity * 2 : 8;
        void *hidden = reallocarray(place->hidden, capacity, sizeof(place->hidden[0]));
        if (!hidden) {
            return ERR_NOMEM;
        }
        place->hidden = hidden;
        place->hidden_capacity = capacity;
    }
    ns_temporary_name(place->hidden[place->hidden_count++]);
    place->stage = STAGE_CREATE;
    return ERR_OK;
}

static enum err write_piece(struct place *place) {
    if (place->piece_written == place->piece_length) {
        size_t length = 0;
        enum err err =
            file_read(&place->op, place->source, place->piece, PIECE_BYTES, place->offset, &length);
        if (err) {
            return err;
        }
        place->piece_length = length;
        place->piece_written = 0;
        if (length == 0) {
            let_go_of_file(place);
            place->stage = STAGE_ENTRY;
            return ERR_OK;
        }
    }
    size_t written = 0;
    enum err err = file_write(&place->op, place->opened, place->piece + place->piece_written,
                              place->piece_length - place->piece_written, place->offset, &written);
    if (!err) {
        place->piece_written += written;
        place->offset += written;
    }
    return err;
}

/* Gives the next hidden file its name. */
static enum err name_file(struct place *place, struct level *level) {
    struct str hidden = str_of(place->hidden[place->named_count]);
    enum err err = file_rename(&place->op, place->root, hidden, level->to, place->name);
    if (!err) {
        place->named_count++;
        let_go_of_file(place);
        place->stage = STAGE_ENTRY;
    }
    return err;
}

/* It has failed: what has no name yet goes. */
static enum err clean(struct place *place) {
    if (place->named_count == place->hidden_count) {
        place->stage = STAGE_DONE;
        return ERR_OK;
    }
    struct str hidden = str_of(place->hidden[place->named_count]);
    enum err err = file_remove(&place->op, place->root, hidden, false);
    if (err != ERR_PENDING) {
        place->named_count++;
        err = ERR_OK;
    }
    return err;
}

static enum err step_once(struct place *place) {
    struct level *level = place->depth ? &place->levels[place->depth - 1] : NULL;
    enum err err = ERR_OK;
    switch (place->stage) {
    case STAGE_ENTRY:
        return begin_entry(place, level);
    case STAGE_FIND:
        return find_directory(place);
    case STAGE_MAKE:
        return make_directory(place, level);
    case STAGE_LOOK:
        return look(place, level);
    case STAGE_HIDE:
        return hide(place);
    case STAGE_CREATE:
        err = file_create(&place->op, place->root, str_of(place->hidden[place->hidden_count - 1]),
                          FILE_REGULAR, &place->target);
        place->stage = err ? place->stage : STAGE_OPEN;
        return err;
    case STAGE_OPEN:
        err = file_open(&place->op, place->target, OPEN_WRITE, &place->opened);
        place->stage = err ? place->stage : STAGE_WRITE;
        place->offset = place->piece_length = place->piece_written = 0;
        return err;
    case STAGE_WRITE:
        return write_piece(place);
    case STAGE_RENAME:
        return name_file(place, level);
    case STAGE_CLEAN:
        return clean(place);
    case STAGE_DONE:
        break;
    }
    return ERR_OK;
}

enum err place_step(struct place *place, struct buf *message) {
    for (unsigned steps = 0; place->stage != STAGE_DONE; steps++) {
        if (steps == STEPS_MAX) {
            op_wake(&place->op);
            return ERR_PENDING;
        }
        enum err err = step_once(place);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err) {
            place->failure = err;
            place->stage = STAGE_CLEAN;
        }
    }
    return place->failure
               ? buf_fail(message, place->failure, "the file '/%s' of the run can't be written: %s",
                          buf_text(&place->path), err_text(place->failure))
               : ERR_OK;
}
