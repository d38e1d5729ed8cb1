/* Renaming in a union: a job of many phases, of which each that fails is taken back. */
#include "ns/union_internal.h"

enum {
    RENAME_LOOK,
    RENAME_LOOK_NEW,
    RENAME_EMPTY,
    RENAME_COPY,
    RENAME_TOP,
    RENAME_OPAQUE,
    RENAME_WHITEOUT,
    RENAME_ASIDE,
    RENAME_MOVE,
    RENAME_COVER,
    RENAME_CLEAR,
    RENAME_DONE,
    RENAME_UNDO_MOVE,
    RENAME_UNDO_ASIDE,
    RENAME_UNDO_WHITEOUT,
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

static enum err rename_undo(struct union_job *job, enum err failure, unsigned phase) {
    job->failure = failure;
    job->phase = phase;
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
            err = union_check_empty(job, job->replaced);
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
    /* What rename can't replace, or can't be taken back, is put aside first. */
    bool is_aside =
        in_the_way && (is_directory || in_the_way->type == FILE_DIRECTORY || job->lookup.covers);
    switch (job->phase) {
    case RENAME_OPAQUE:
        /* A directory must not be merged with what lies below its new name. */
        if (is_directory && job->new_lookup.covers) {
            err = union_make_whiteout(job, union_top(job->source), STR(UNION_OPAQUE_NAME));
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
            err = union_make_whiteout(job, directory, str_of(job->whiteout_name));
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
                return rename_undo(job, err, RENAME_UNDO_WHITEOUT);
            }
        }
        NEXT_PHASE(job);
    case RENAME_MOVE:
        err = file_rename(&job->op, directory, name, new_directory, new_name);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return rename_undo(job, err, RENAME_UNDO_ASIDE);
        }
        NEXT_PHASE(job);
    case RENAME_COVER:
        err = job->lookup.covers
                  ? file_rename(&job->op, directory, str_of(job->whiteout_name), directory, name)
                  : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return rename_undo(job, err, RENAME_UNDO_MOVE);
        }
        move_node(job);
        NEXT_PHASE(job);
    case RENAME_CLEAR:
        err = ERR_OK;
        if (is_aside && in_the_way->type == FILE_DIRECTORY) {
            err = union_clear_directory(job, new_directory, str_of(job->temporary_name));
        } else if (is_aside) {
            err = file_remove(&job->op, new_directory, str_of(job->temporary_name), false);
        }
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_DONE:
        return ERR_OK;
    case RENAME_UNDO_MOVE:
        err = file_rename(&job->op, new_directory, new_name, directory, name);
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case RENAME_UNDO_ASIDE:
        err = is_aside ? file_rename(&job->op, new_directory, str_of(job->temporary_name),
                                     new_directory, new_name)
                       : ERR_OK;
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
