/* The changes of a union's tree: making and removing names. Each runs as a job, phase by phase; a
 * phase is called again until it is no longer PENDING. */
#include "ns/union_internal.h"

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
    MAKE_ASIDE,
    MAKE_RENAME,
    MAKE_UNCOVER,
    MAKE_RESULT,
    MAKE_CLEAN_ASIDE,
    MAKE_CLEAN_MARKER,
    MAKE_CLEAN,
};

static enum err make_clean(struct union_job *job, enum err failure) {
    job->failure = failure;
    job->phase = MAKE_CLEAN_ASIDE;
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
        err = is_directory ? union_make_whiteout(job, job->made, STR(UNION_OPAQUE_NAME)) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return make_clean(job, err);
        }
        if (is_directory) {
            union_make_reserved_name(job->whiteout_name);
        }
        NEXT_PHASE(job);
    case MAKE_ASIDE:
        /* A directory can't be renamed over a whiteout, which is none. */
        err = is_directory
                  ? file_rename(&job->op, directory, name, directory, str_of(job->whiteout_name))
                  : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            job->whiteout_name[0] = '\0';
            return make_clean(job, err);
        }
        NEXT_PHASE(job);
    case MAKE_RENAME:
        err = file_rename(&job->op, directory, hidden, directory, name);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return make_clean(job, err);
        }
        NEXT_PHASE(job);
    case MAKE_UNCOVER:
        err = is_directory ? file_remove(&job->op, directory, str_of(job->whiteout_name), false)
                           : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
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
    case MAKE_CLEAN_ASIDE:
        err = job->whiteout_name[0]
                  ? file_rename(&job->op, directory, str_of(job->whiteout_name), directory, name)
                  : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case MAKE_CLEAN_MARKER:
        err =
            is_directory ? file_remove(&job->op, job->made, STR(UNION_OPAQUE_NAME), false) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    default: /* MAKE_CLEAN */
        err = file_remove(&job->op, directory, hidden, is_directory);
        return err == ERR_PENDING ? err : job->failure;
    }
}

/* ---- removing ---- */

enum {
    REMOVE_LOOK,
    REMOVE_EMPTY,
    REMOVE_TOP,
    REMOVE_WHITEOUT,
    REMOVE_HIDE,
    REMOVE_COVER,
    REMOVE_CLEAR,
    REMOVE_COVER_LATE,
    REMOVE_DONE,
    REMOVE_UNDO_HIDE,
    REMOVE_UNDO_WHITEOUT,
};

static enum err remove_undo(struct union_job *job, enum err failure) {
    job->failure = failure;
    job->phase = REMOVE_UNDO_HIDE;
    return union_run_remove(job);
}

/* From REMOVE_LOOK to REMOVE_TOP: nothing that is visible changes. */
static enum err remove_prepare(struct union_job *job) {
    struct str name = union_job_name(job);
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
        if ((job->lookup.type == FILE_DIRECTORY) != job->directory_wanted) {
            return job->directory_wanted ? ERR_NOTDIR : ERR_ISDIR;
        }
        err = union_node_get(job->directory, name, &job->lookup, &job->source);
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case REMOVE_EMPTY:
        err = job->directory_wanted ? union_check_empty(job, job->source) : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    default: /* REMOVE_TOP */
        err = union_ensure_top(job, job->directory);
        if (err == ERR_OK) {
            union_make_reserved_name(job->temporary_name);
            union_make_reserved_name(job->whiteout_name);
            job->phase = REMOVE_WHITEOUT;
        }
        return err;
    }
}

enum err union_run_remove(struct union_job *job) {
    enum err err;
    if (job->phase < REMOVE_WHITEOUT) {
        err = remove_prepare(job);
        if (err != ERR_OK) {
            return err;
        }
    }
    struct file *directory = union_top(job->directory);
    struct str name = union_job_name(job);
    struct str hidden = str_of(job->temporary_name), whiteout = str_of(job->whiteout_name);
    bool is_in_top = job->lookup.found[0], is_directory = job->directory_wanted;
    switch (job->phase) {
    case REMOVE_WHITEOUT:
        /* Made before anything changes. At the quota what is removed has to make room for it. */
        err = job->lookup.covers ? union_make_whiteout(job, directory, whiteout) : ERR_NOSPC;
        if (err != ERR_OK && (err != ERR_NOSPC || !is_in_top)) {
            return err;
        }
        if (err != ERR_OK) {
            job->whiteout_name[0] = '\0';
            whiteout.length = 0;
        }
        NEXT_PHASE(job);
    case REMOVE_HIDE:
        err = ERR_OK;
        if (is_in_top && is_directory) {
            err = file_rename(&job->op, directory, name, directory, hidden);
        } else if (is_in_top && whiteout.length == 0) {
            err = file_remove(&job->op, directory, name, false);
        }
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            job->temporary_name[0] = '\0';
            return remove_undo(job, err);
        }
        NEXT_PHASE(job);
    case REMOVE_COVER:
        /* A file that is no directory is replaced by the whiteout at one stroke. */
        err =
            whiteout.length ? file_rename(&job->op, directory, whiteout, directory, name) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        if (err != ERR_OK) {
            return remove_undo(job, err);
        }
        NEXT_PHASE(job);
    case REMOVE_CLEAR:
        err = is_in_top && is_directory ? union_clear_directory(job, directory, hidden) : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    case REMOVE_COVER_LATE:
        err = job->lookup.covers && whiteout.length == 0 ? union_make_whiteout(job, directory, name)
                                                         : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
        NEXT_PHASE(job);
    case REMOVE_DONE:
        union_forget(job->directory, name);
        return ERR_OK;
    case REMOVE_UNDO_HIDE:
        err = is_in_top && is_directory && hidden.length
                  ? file_rename(&job->op, directory, hidden, directory, name)
                  : ERR_OK;
        if (err == ERR_PENDING) {
            return err;
        }
        NEXT_PHASE(job);
    default: /* REMOVE_UNDO_WHITEOUT */
        err = whiteout.length ? file_remove(&job->op, directory, whiteout, false) : ERR_OK;
        return err == ERR_PENDING ? err : job->failure;
    }
}
