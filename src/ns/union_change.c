/* The changes of a union's tree: making, removing and renaming names. Each runs as a job, phase by
 * phase; a phase is called again until it is no longer PENDING. */
#include "ns/union_internal.h"

#define NEXT_PHASE(job)                                                                            \
    (job)->phase++;                                                                                \
    __attribute__((fallthrough))

static const struct str opaque_name = {UNION_OPAQUE_NAME, sizeof UNION_OPAQUE_NAME - 1};

/* Makes a whiteout; `name` in `directory`, a directory of the top layer. */
static enum err make_whiteout(struct union_job *job, struct file *directory, struct str name) {
    struct file *file = NULL;
    enum err err = file_create(&job->op, directory, name, FILE_WHITEOUT, &file);
    if (err == ERR_OK) {
        file_unref(file);
    }
    return err;
}

/* ---- making ---- */

/* Makes what is wanted under `name`. */
static enum err make_plain(struct union_job *job, struct str name) {
    struct file *directory = union_top(job->directory);
    if (job->node) {
        return file_link(&job->op, union_top(job->node), directory, name);
    }
    if (job->type == FILE_SYMBOLIC_LINK) {
        return file_symlink(&job->op, directory, name, buf_str(&job->target));
    }
    return file_create(&job->op, directory, name, job->type, &job->made);
}

enum {
    MAKE_LOOK,
    MAKE_COPY,
    MAKE_TOP,
    MAKE_PLAIN,
    MAKE_HIDDEN,
    MAKE_OPAQUE,
    MAKE_RENAME,
    MAKE_UNCOVER,
    MAKE_RENAME_AGAIN,
    MAKE_RESULT,
    MAKE_CLEAN_MARKER,
    MAKE_CLEAN
};

static enum err make_clean(struct union_job *job, enum err failure) {
    job->failure = failure;
    job->phase = MAKE_CLEAN_MARKER;
    return union_run_make(job);
}

enum err union_run_make(struct union_job *job) {
    struct file *directory = union_top(job->directory);
    struct str name = union_job_name(job), hidden = str_of(job->temporary_name);
    bool is_directory = job->type == FILE_DIRECTORY;
    enum err err;
    switch (job->phase) {
    case MAKE_LOOK:
        if (atomic_load(&job->directory->removed)) {
            return ERR_NOENT;
        }
        err = union_look_up(&job->op, &job->lookup, job->directory, name, true);
        if (err == ERR_OK && job->lookup.type != FILE_UNKNOWN) {
            err = ERR_EXIST;
        }
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case MAKE_COPY:
        err = job->node ? union_copy_up(job, job->node) : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case MAKE_TOP:
        err = union_ensure_top(job, job->directory);
        if (err != ERR_OK) {
            return err;
        }
        directory = union_top(job->directory);
        NEXT_PHASE(job);
    case MAKE_PLAIN:
        if (!job->lookup.top) {
            err = make_plain(job, name);
            if (err == ERR_OK) {
                job->phase = MAKE_RESULT;
                return union_run_make(job);
            }
            return err;
        }
        /* A whiteout is in the way: the new file is renamed over it, so that what it covers never
         * shows. */
        if (!job->temporary_name[0]) {
            union_make_reserved_name(job->temporary_name);
            hidden = str_of(job->temporary_name);
        }
        NEXT_PHASE(job);
    case MAKE_HIDDEN:
        err = make_plain(job, hidden);
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case MAKE_OPAQUE:
        err = is_directory ? make_whiteout(job, job->made, opaque_name) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return make_clean(job, err);
        }
        NEXT_PHASE(job);
    case MAKE_RENAME:
        /* A directory can't be renamed over a whiteout, which is none. */
        if (!is_directory) {
            err = file_rename(&job->op, directory, hidden, directory, name);
            if (err == ERR_PENDING) {
                return err;
            }
            if (err != ERR_OK) {
                return make_clean(job, err);
            }
            job->phase = MAKE_RESULT;
            return union_run_make(job);
        }
        NEXT_PHASE(job);
    case MAKE_UNCOVER:
        err = file_remove(&job->op, directory, name, false);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return make_clean(job, err);
        }
        NEXT_PHASE(job);
    case MAKE_RENAME_AGAIN:
        err = file_rename(&job->op, directory, hidden, directory, name);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return make_clean(job, err);
        }
        NEXT_PHASE(job);
    case MAKE_RESULT: {
        if (!job->made) {
            return ERR_OK;
        }
        struct union_lookup found = {.type = (uint8_t)job->type, .found = {job->made}};
        struct union_node *node = NULL;
        err = union_node_get(job->directory, name, &found, &node);
        if (err == ERR_OK) {
            job->ret_file = &node->file;
        }
        return err;
    }
    case MAKE_CLEAN_MARKER:
        err = is_directory ? file_remove(&job->op, job->made, opaque_name, false) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    default: /* MAKE_CLEAN */
        err = file_remove(&job->op, directory, hidden, is_directory);
        return err == ERR_PENDING ? err : job->failure;
    }
}

/* ---- emptying a directory of whiteouts ---- */

enum { CLEAR_FIND, CLEAR_LIST, CLEAR_NAMES, CLEAR_DIRECTORY };

/* Removes the directory `name` of the top layer with the whiteouts in it. What another user has put
 * there meanwhile stays, out of sight. */
static enum err clear_directory(struct union_job *job, struct file *parent, struct str name) {
    enum err err;
    size_t walked;
    switch (job->clear_phase) {
    case CLEAR_FIND:
        err = file_walk(&job->op, parent, &name, 1, &walked, &job->cleared);
        if (err != ERR_OK) {
            return err;
        }
        job->clear_phase++;
        __attribute__((fallthrough));
    case CLEAR_LIST:
        err = file_readdir(&job->op, job->cleared, &job->whiteouts);
        if (err != ERR_OK) {
            return err;
        }
        job->clear_phase++;
        __attribute__((fallthrough));
    case CLEAR_NAMES:
        for (; job->whiteout_at < job->whiteouts.count; job->whiteout_at++) {
            if (job->whiteouts.entries[job->whiteout_at].type != FILE_WHITEOUT) {
                continue;
            }
            err = file_remove(&job->op, job->cleared,
                              dir_list_name(&job->whiteouts, job->whiteout_at), false);
            if (err == ERR_PENDING) {
                return err;
            }
        }
        job->clear_phase++;
        __attribute__((fallthrough));
    default: /* CLEAR_DIRECTORY */
        err = file_remove(&job->op, parent, name, true);
        return err;
    }
}

/* Whether the directory that `node` is has no visible names. */
static enum err check_empty(struct union_job *job, struct union_node *node) {
    enum err err = union_list(&job->op, &job->listing, node);
    return err != ERR_OK ? err : job->listing.result.count > 0 ? ERR_NOTEMPTY : ERR_OK;
}

/* ---- removing ---- */

enum { REMOVE_LOOK, REMOVE_EMPTY, REMOVE_TOP, REMOVE_HIDE, REMOVE_CLEAR, REMOVE_COVER };

enum err union_run_remove(struct union_job *job) {
    struct file *directory = union_top(job->directory);
    struct str name = union_job_name(job);
    bool is_directory = job->lookup.type == FILE_DIRECTORY;
    enum err err;
    switch (job->phase) {
    case REMOVE_LOOK:
        err = union_look_up(&job->op, &job->lookup, job->directory, name, true);
        if (err != ERR_OK) {
            return err;
        }
        if (job->lookup.type == FILE_UNKNOWN) {
            return ERR_NOENT;
        }
        is_directory = job->lookup.type == FILE_DIRECTORY;
        if (is_directory != job->directory_wanted) {
            return is_directory ? ERR_ISDIR : ERR_NOTDIR;
        }
        err = union_node_get(job->directory, name, &job->lookup, &job->source);
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case REMOVE_EMPTY:
        err = is_directory ? check_empty(job, job->source) : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case REMOVE_TOP:
        err = union_ensure_top(job, job->directory);
        if (err != ERR_OK) {
            return err;
        }
        directory = union_top(job->directory);
        if (is_directory) {
            union_make_reserved_name(job->temporary_name);
        }
        NEXT_PHASE(job);
    case REMOVE_HIDE:
        /* A file goes before the whiteout comes, so that at the quota something can be removed. */
        if (job->lookup.found[0]) {
            err = is_directory ? file_rename(&job->op, directory, name, directory,
                                             str_of(job->temporary_name))
                               : file_remove(&job->op, directory, name, false);
            if (err != ERR_OK) {
                return err;
            }
        }
        NEXT_PHASE(job);
    case REMOVE_CLEAR:
        if (job->lookup.found[0] && is_directory) {
            err = clear_directory(job, directory, str_of(job->temporary_name));
            if (err == ERR_PENDING) {
                return err;
            }
        }
        NEXT_PHASE(job);
    default: /* REMOVE_COVER */
        err = job->lookup.covers ? make_whiteout(job, directory, name) : ERR_OK;
        if (err == ERR_OK) {
            union_forget(job->directory, name);
        }
        return err;
    }
}

/* ---- renaming ---- */

enum {
    RENAME_LOOK,
    RENAME_LOOK_NEW,
    RENAME_EMPTY,
    RENAME_COPY,
    RENAME_TOP,
    RENAME_OPAQUE,
    RENAME_WHITEOUT,
    RENAME_ASIDE,
    RENAME_UNCOVER,
    RENAME_MOVE,
    RENAME_COVER,
    RENAME_CLEAR,
    RENAME_DONE,
    RENAME_UNDO_ASIDE,
    RENAME_UNDO_UNCOVER,
    RENAME_UNDO_WHITEOUT
};

/* Whether the two names that are looked up are those of one file. */
static bool are_one_file(struct union_job *job) {
    const struct file *source = union_actual(job->source), *replaced = union_actual(job->replaced);
    return source->device == replaced->device && source->inode == replaced->inode;
}

/* What can be said once both names have been looked up. `*ret_same`: there is nothing to do. */
static enum err may_rename(struct union_job *job, bool *ret_same) {
    const struct union_node *source = job->source, *replaced = job->replaced;
    bool is_directory = source->file.type == FILE_DIRECTORY;
    *ret_same = source == replaced || (replaced && !is_directory && are_one_file(job));
    if (*ret_same) {
        return ERR_OK;
    }
    for (const struct union_node *above = job->new_directory; above && is_directory;
         above = above->parent) {
        if (above == source) {
            return ERR_INVAL;
        }
    }
    if (replaced && is_directory && replaced->file.type != FILE_DIRECTORY) {
        return ERR_NOTDIR;
    }
    if (replaced && !is_directory && replaced->file.type == FILE_DIRECTORY) {
        return ERR_ISDIR;
    }
    return is_directory && union_has_lower(source) ? ERR_XDEV : ERR_OK;
}

/* The node has its new place: whoever holds it goes with it. */
static void move_node(struct union_job *job) {
    struct union_node *node = job->source, *old_parent = node->parent;
    union_forget(job->new_directory, union_job_new_name(job));
    pthread_mutex_lock(&job->fs->mutex);
    bool is_listed = !list_is_empty(&node->link);
    if (is_listed) {
        list_remove(&node->link);
        list_append(&job->new_directory->children, &node->link);
        node->parent = union_node_of(file_ref(&job->new_directory->file));
        free(node->renamed_name);
        node->renamed_name = STEAL(job->renamed_name);
        node->name = (struct str){node->renamed_name, job->new_name_length};
    }
    pthread_mutex_unlock(&job->fs->mutex);
    if (is_listed) {
        file_unref(&old_parent->file);
    }
}

static enum err rename_undo(struct union_job *job, enum err failure) {
    job->failure = failure;
    job->phase = RENAME_UNDO_ASIDE;
    return union_run_rename(job);
}

/* From RENAME_LOOK to RENAME_TOP: nothing that is visible changes. `*ret_same` as above. */
static enum err rename_prepare(struct union_job *job, bool *ret_same) {
    struct str name = union_job_name(job), new_name = union_job_new_name(job);
    enum err err;
    switch (job->phase) {
    case RENAME_LOOK:
        err = union_look_up(&job->op, &job->lookup, job->directory, name, true);
        if (err == ERR_OK && job->lookup.type == FILE_UNKNOWN) {
            err = ERR_NOENT;
        }
        if (err == ERR_OK) {
            err = union_node_get(job->directory, name, &job->lookup, &job->source);
        }
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_LOOK_NEW:
        if (atomic_load(&job->new_directory->removed)) {
            return ERR_NOENT;
        }
        err = union_look_up(&job->op, &job->new_lookup, job->new_directory, new_name, true);
        if (err == ERR_OK && job->new_lookup.type != FILE_UNKNOWN) {
            err = union_node_get(job->new_directory, new_name, &job->new_lookup, &job->replaced);
        }
        if (err == ERR_OK) {
            err = may_rename(job, ret_same);
        }
        if (err != ERR_OK || *ret_same) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_EMPTY:
        if (job->replaced && job->replaced->file.type == FILE_DIRECTORY) {
            err = check_empty(job, job->replaced);
            if (err != ERR_OK) {
                return err;
            }
        }
        job->renamed_name = malloc(job->new_name_length + 1);
        if (!job->renamed_name) {
            return ERR_NOMEM;
        }
        memcpy(job->renamed_name, new_name.data, new_name.length);
        NEXT_PHASE(job);
    case RENAME_COPY:
        if (job->source->file.type != FILE_DIRECTORY) {
            err = union_copy_up(job, job->source);
            if (err != ERR_OK) {
                return err;
            }
        }
        NEXT_PHASE(job);
    default: /* RENAME_TOP */
        err = union_ensure_top(job, job->directory);
        if (err == ERR_OK) {
            err = union_ensure_top(job, job->new_directory);
        }
        if (err == ERR_OK) {
            job->temporary_name[0] = '\0';
            job->phase = RENAME_OPAQUE;
        }
        return err;
    }
}

enum err union_run_rename(struct union_job *job) {
    enum err err;
    if (job->phase < RENAME_OPAQUE) {
        bool is_same = false;
        err = rename_prepare(job, &is_same);
        if (err != ERR_OK || is_same) {
            return err;
        }
    }
    struct file *directory = union_top(job->directory);
    struct file *new_directory = union_top(job->new_directory);
    struct str name = union_job_name(job), new_name = union_job_new_name(job);
    const struct file *in_the_way = job->new_lookup.top;
    bool is_directory = job->source->file.type == FILE_DIRECTORY;
    bool is_aside = in_the_way && in_the_way->type == FILE_DIRECTORY;
    bool is_uncovered = is_directory && in_the_way && in_the_way->type == FILE_WHITEOUT;
    switch (job->phase) {
    case RENAME_OPAQUE:
        /* A directory must not be merged with what lies below its new name. */
        if (is_directory && job->new_lookup.covers) {
            err = make_whiteout(job, union_top(job->source), opaque_name);
            if (err != ERR_OK && err != ERR_EXIST) {
                return err;
            }
        }
        if (job->lookup.covers) {
            union_make_reserved_name(job->whiteout_name);
        }
        NEXT_PHASE(job);
    case RENAME_WHITEOUT:
        /* Made before anything changes, because the quota may forbid it. */
        if (job->lookup.covers) {
            err = make_whiteout(job, directory, str_of(job->whiteout_name));
            if (err != ERR_OK) {
                return err;
            }
        }
        if (is_aside) {
            union_make_reserved_name(job->temporary_name);
        }
        NEXT_PHASE(job);
    case RENAME_ASIDE:
        if (is_aside) {
            err = file_rename(&job->op, new_directory, new_name, new_directory,
                              str_of(job->temporary_name));
            if (err == ERR_PENDING) {
                return err;
            }
            if (err != ERR_OK) {
                job->temporary_name[0] = '\0';
                return rename_undo(job, err);
            }
        }
        NEXT_PHASE(job);
    case RENAME_UNCOVER:
        if (is_uncovered) {
            err = file_remove(&job->op, new_directory, new_name, false);
            if (err == ERR_PENDING) {
                return err;
            }
        }
        NEXT_PHASE(job);
    case RENAME_MOVE:
        err = file_rename(&job->op, directory, name, new_directory, new_name);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return rename_undo(job, err);
        }
        move_node(job);
        NEXT_PHASE(job);
    case RENAME_COVER:
        if (job->lookup.covers) {
            err = file_rename(&job->op, directory, str_of(job->whiteout_name), directory, name);
            if (err != ERR_OK) {
                return err;
            }
        }
        NEXT_PHASE(job);
    case RENAME_CLEAR:
        err = is_aside ? clear_directory(job, new_directory, str_of(job->temporary_name)) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_DONE:
        return ERR_OK;
    case RENAME_UNDO_ASIDE:
        err = is_aside && job->temporary_name[0]
                  ? file_rename(&job->op, new_directory, str_of(job->temporary_name), new_directory,
                                new_name)
                  : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_UNDO_UNCOVER:
        err = is_uncovered ? make_whiteout(job, new_directory, new_name) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    default: /* RENAME_UNDO_WHITEOUT */
        err = job->lookup.covers
                  ? file_remove(&job->op, directory, str_of(job->whiteout_name), false)
                  : ERR_OK;
        return err == ERR_PENDING ? err : job->failure;
    }
}
