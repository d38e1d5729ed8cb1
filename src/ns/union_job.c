/* Jobs: changes of a union on their way, and what all of them need: taking turns, directories in
 * the top layer, copying files up. */
#include "ns/union_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

enum {
    PIECE_BYTES = 64 * 1024,
    BYTES_A_TURN = 1024 * 1024, /* copied before the loop does something else */
    REMOVALS_A_TURN = 256,
    LONG_LISTING = 1000, /* names: after listing them the loop does something else */
};

/* ---- taking turns ---- */

/* Polled: the union is this job's from then on. */
static enum err take_turn(struct union_job *job) {
    struct union_fs *fs = job->fs;
    for (bool waits = false;; waits = true) {
        enum err err = ERR_OK;
        pthread_mutex_lock(&fs->mutex);
        if (!fs->busy) {
            fs->busy = job->has_turn = true;
        } else if (!fs->has_queue) {
            err = op_queue_init(&fs->queue);
            fs->has_queue = err == ERR_OK;
        }
        pthread_mutex_unlock(&fs->mutex);
        if (err != ERR_OK || job->has_turn) {
            return err;
        }
        if (waits) {
            return ERR_PENDING;
        }
        err = op_queue_wait(&fs->queue, &job->op);
        if (err != ERR_OK) {
            return err;
        }
    }
}

static void end_turn(struct union_job *job) {
    struct union_fs *fs = job->fs;
    pthread_mutex_lock(&fs->mutex);
    fs->busy = job->has_turn = false;
    bool has_queue = fs->has_queue;
    pthread_mutex_unlock(&fs->mutex);
    if (has_queue) {
        op_queue_wake_all(&fs->queue);
    }
}

/* ---- the life of a job ---- */

void union_job_free(struct union_job *job) {
    op_done(&job->op);
    union_lookup_done(&job->lookup);
    union_lookup_done(&job->new_lookup);
    union_listing_done(&job->listing);
    dir_list_done(&job->whiteouts);
    buf_done(&job->target);
    free(job->renamed_name);
    free(job->piece);
    file_unref(job->made);
    file_unref(job->cleared);
    file_unref(job->ret_file);
    struct union_node *nodes[] = {job->node, job->source, job->replaced, job->new_directory,
                                  job->directory};
    for (size_t i = 0; i < ARRAY_LENGTH(nodes); i++) {
        file_unref(nodes[i] ? &nodes[i]->file : NULL);
    }
    free(job);
}

static void job_step(struct union_job *job) {
    enum err err = job->has_turn ? ERR_OK : take_turn(job);
    if (err == ERR_OK) {
        err = job->run(job);
    }
    if (err == ERR_PENDING) {
        return;
    }
    job->result = err;
    job->is_finished = true;
    op_abandon(&job->op);
    if (job->has_turn) {
        end_turn(job);
    }
    if (!job->owner) {
        union_job_free(job);
    } else if (!job->is_starting) {
        op_wake(job->owner);
    }
}

static void wake_job(struct op *op) {
    struct union_job *job = CONTAINER_OF(op, struct union_job, op);
    if (!job->is_finished) {
        job_step(job);
    }
}

static void drop_job(struct op *op) {
    struct union_job *job = op->state;
    if (job->is_finished) {
        union_job_free(job);
    } else {
        job->owner = NULL;
    }
}

enum err union_job_new(struct op *op, struct union_node *directory, struct str name,
                       enum err (*run)(struct union_job *job), struct union_job **ret_job) {
    if (!directory->fs->writable) {
        return ERR_ROFS;
    }
    if (union_is_reserved(name) || name.length > UNION_NAME_MAX) {
        return ERR_INVAL;
    }
    struct union_job *job = calloc(1, sizeof *job);
    if (!job) {
        return ERR_NOMEM;
    }
    job->who = *op->who;
    op_init(&job->op, op->loop, &job->who, wake_job);
    job->fs = directory->fs;
    job->run = run;
    job->directory = union_node_of(file_ref(&directory->file));
    job->name_length = name.length;
    if (name.length > 0) {
        memcpy(job->name, name.data, name.length);
    }
    *ret_job = job;
    return ERR_OK;
}

enum err union_job_start(struct op *op, struct union_job *job, struct file **ret_file) {
    job->owner = op;
    op_set_state(op, job, drop_job);
    job->is_starting = true;
    job_step(job);
    job->is_starting = false;
    return union_job_poll(op, ret_file);
}

struct union_job *union_job_of(struct op *op) {
    return op->state && op->drop_state == drop_job ? op->state : NULL;
}

enum err union_job_poll(struct op *op, struct file **ret_file) {
    struct union_job *job = op->state;
    if (!job->is_finished) {
        return ERR_PENDING;
    }
    if (job->result == ERR_OK && ret_file) {
        *ret_file = STEAL(job->ret_file);
    }
    return op_finish(op, job->result);
}

/* ---- steps ---- */

void union_make_reserved_name(char name[static 40]) {
    uint64_t number;
    random_bytes(&number, sizeof number);
    snprintf(name, 40, UNION_RESERVED_PREFIX "%016llx", (unsigned long long)number);
}

enum err union_make_whiteout(struct union_job *job, struct file *directory, struct str name) {
    struct file *file = NULL;
    enum err err = file_create(&job->op, directory, name, FILE_WHITEOUT, &file);
    if (err == ERR_OK) {
        file_unref(file);
    }
    return err;
}

enum { CLEAR_FIND, CLEAR_LIST, CLEAR_NAMES, CLEAR_DIRECTORY };

enum err union_clear_directory(struct union_job *job, struct file *parent, struct str name) {
    enum err err;
    size_t walked;
    unsigned removals = 0;
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
            if (removals++ == REMOVALS_A_TURN) {
                op_wake(&job->op);
                return ERR_PENDING;
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

enum err union_check_empty(struct union_job *job, struct union_node *node) {
    enum err err = union_list(&job->op, &job->listing, node);
    if (err == ERR_OK && job->listing.count > LONG_LISTING && !job->has_rested) {
        job->has_rested = true;
        op_wake(&job->op);
        return ERR_PENDING;
    }
    return err != ERR_OK ? err : job->listing.result.count > 0 ? ERR_NOTEMPTY : ERR_OK;
}

enum err union_ensure_top(struct union_job *job, struct union_node *directory) {
    while (!union_top(directory)) {
        struct union_node *highest = directory;
        while (!union_top(highest->parent)) {
            highest = highest->parent;
        }
        struct file *above = union_top(highest->parent), *made = NULL;
        enum err err = ERR_EXIST;
        if (!job->top_exists) {
            if (atomic_load(&highest->removed)) {
                return ERR_NOENT;
            }
            err = file_create(&job->op, above, highest->name, FILE_DIRECTORY, &made);
        }
        if (err == ERR_EXIST) {
            /* Made by another user of the layer. */
            size_t walked;
            job->top_exists = true;
            err = file_walk(&job->op, above, &highest->name, 1, &walked, &made);
        }
        if (err == ERR_PENDING) {
            return err;
        }
        job->top_exists = false;
        if (err != ERR_OK) {
            return err;
        }
        if (made->type != FILE_DIRECTORY) {
            file_unref(made);
            return ERR_NOENT; /* covered or replaced by another user */
        }
        union_set_top(highest, made);
    }
    return atomic_load(&directory->removed) ? ERR_NOENT : ERR_OK;
}

static enum err add_alias(struct union_fs *fs, uint64_t top_inode, uint64_t inode) {
    struct union_alias *alias = malloc(sizeof *alias);
    if (!alias) {
        return ERR_NOMEM;
    }
    alias->top_inode = top_inode;
    alias->inode = inode;
    pthread_mutex_lock(&fs->mutex);
    /* Layers may give the number of a file that is gone to another one. */
    struct map_node *old = map_find(&fs->aliases, MAP_KEY(alias->top_inode));
    if (old) {
        map_remove(&fs->aliases, old);
        free(CONTAINER_OF(old, struct union_alias, map_node));
    }
    enum err err = map_insert(&fs->aliases, &alias->map_node, MAP_KEY(alias->top_inode));
    pthread_mutex_unlock(&fs->mutex);
    if (err != ERR_OK) {
        free(alias);
    }
    return err;
}

static bool is_zero(const uint8_t *data, size_t length) {
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

/* Copies the content in pieces; holes stay holes. */
static enum err copy_content(struct union_job *job, struct file *from) {
    if (!job->piece && !(job->piece = malloc(PIECE_BYTES))) {
        return ERR_NOMEM;
    }
    for (uint64_t turn = 0; turn < BYTES_A_TURN; turn += PIECE_BYTES) {
        if (!job->owner) {
            op_abandon(&job->op);
            return ERR_CANCELED;
        }
        enum err err = ERR_OK;
        if (job->piece_length == 0) {
            err =
                file_read(&job->op, from, job->piece, PIECE_BYTES, job->copied, &job->piece_length);
            if (err != ERR_OK || job->piece_length == 0) {
                return err;
            }
            job->piece_written = is_zero(job->piece, job->piece_length) ? job->piece_length : 0;
        }
        while (job->piece_written < job->piece_length) {
            size_t written = 0;
            err = file_write(&job->op, job->made, job->piece + job->piece_written,
                             job->piece_length - job->piece_written,
                             job->copied + job->piece_written, &written);
            if (err != ERR_OK) {
                return err;
            }
            job->piece_written += written;
        }
        job->copied += job->piece_length;
        job->piece_length = 0;
    }
    op_wake(&job->op);
    return ERR_PENDING;
}

enum {
    COPY_BEGIN,
    COPY_TARGET,
    COPY_STAT,
    COPY_MAKE,
    COPY_FIND,
    COPY_CONTENT,
    COPY_SIZE,
    COPY_TIMES,
    COPY_RENAME,
    COPY_DONE,
    COPY_CLEAN,
};

/* The next step of a copy; OK: go on. */
static enum err copy_step(struct union_job *job, struct union_node *node) {
    struct file *from = union_actual(node), *parent = union_top(node->parent);
    struct str name = str_of(job->temporary_name);
    enum err err;
    size_t walked;
    switch (job->copy_phase) {
    case COPY_BEGIN:
        if (node->file.type != FILE_REGULAR && node->file.type != FILE_SYMBOLIC_LINK) {
            return ERR_NOTSUP;
        }
        err = union_ensure_top(job, node->parent);
        if (err == ERR_OK) {
            union_make_reserved_name(job->temporary_name);
        }
        return err;
    case COPY_TARGET:
        return node->file.type == FILE_SYMBOLIC_LINK ? file_readlink(&job->op, from, &job->target)
                                                     : ERR_OK;
    case COPY_STAT:
        return file_stat(&job->op, from, &job->stat);
    case COPY_MAKE:
        if (node->file.type == FILE_SYMBOLIC_LINK) {
            return file_symlink(&job->op, parent, name, buf_str(&job->target));
        }
        return file_create(&job->op, parent, name, FILE_REGULAR, &job->made);
    case COPY_FIND:
        return job->made ? ERR_OK : file_walk(&job->op, parent, &name, 1, &walked, &job->made);
    case COPY_CONTENT:
        return job->truncate || node->file.type != FILE_REGULAR ? ERR_OK : copy_content(job, from);
    case COPY_SIZE:
        return job->truncate || node->file.type != FILE_REGULAR
                   ? ERR_OK
                   : file_set_size(&job->op, job->made, job->stat.size);
    case COPY_TIMES:
        err = file_set_times(&job->op, job->made, job->stat.accessed_ns, job->stat.modified_ns,
                             SET_ACCESSED | SET_MODIFIED);
        if (err != ERR_OK && err != ERR_NOTSUP) {
            return err;
        }
        return job->stat.links <= 1 ? add_alias(job->fs, job->made->inode, node->file.inode)
                                    : ERR_OK;
    default: /* COPY_RENAME */
        if (atomic_load(&node->removed)) {
            return ERR_NOENT;
        }
        return file_rename(&job->op, parent, name, parent, node->name);
    }
}

enum err union_copy_up(struct union_job *job, struct union_node *node) {
    if (job->copy_phase == COPY_BEGIN && union_top(node)) {
        return ERR_OK;
    }
    if (job->copy_phase == COPY_BEGIN && atomic_load(&node->removed)) {
        return ERR_NOENT;
    }
    while (job->copy_phase <= COPY_RENAME) {
        enum err err = copy_step(job, node);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err == ERR_OK) {
            job->copy_phase++;
        } else if (job->copy_phase <= COPY_MAKE) {
            return err;
        } else {
            job->failure = err;
            job->copy_phase = COPY_CLEAN;
        }
    }
    if (job->copy_phase == COPY_CLEAN) {
        enum err err =
            file_remove(&job->op, union_top(node->parent), str_of(job->temporary_name), false);
        return err == ERR_PENDING ? err : job->failure;
    }
    union_set_top(node, STEAL(job->made));
    job->copy_phase = COPY_BEGIN;
    job->temporary_name[0] = '\0';
    buf_done(&job->target);
    return ERR_OK;
}

enum err union_run_copy(struct union_job *job) {
    return union_copy_up(job, job->directory);
}
