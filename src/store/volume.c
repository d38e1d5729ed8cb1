/* A volume as a whole: opening and closing, its strand, its quota. */
#include "store/volume_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* An empty tree in memory. It is dirty only in so far as the first commit has to write it. */
static enum err make_root(struct volume *volume) {
    struct volume_inode *root;
    enum err err = volume_inode_new(volume, VOLUME_ROOT_INODE, FILE_DIRECTORY, &root);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t now = clock_realtime_ns();
    root->links = 1;
    root->parent = VOLUME_ROOT_INODE;
    root->accessed_ns = root->modified_ns = root->changed_ns = root->version = now;
    volume->created = true;
    volume->next_number = VOLUME_ROOT_INODE + 1;
    atomic_store(&volume->used_inodes, 1);
    return ERR_OK;
}

static void volume_destroy(struct volume *volume) {
    volume_cache_done(volume);
    volume_alarms_free(volume);
    volume_database_close(volume);
    op_queue_done(&volume->idle);
    op_queue_done(&volume->synced);
    pthread_mutex_destroy(&volume->mutex);
    free(volume->path);
    free(volume);
}

static enum err volume_new(const struct volume_options *options, struct volume **ret_volume) {
    struct volume *volume = calloc(1, sizeof(*volume));
    if (!volume) {
        return ERR_NOMEM;
    }
    volume->path = strdup(options->path);
    enum err err = volume->path ? op_queue_init(&volume->idle) : ERR_NOMEM;
    if (err == ERR_OK) {
        err = op_queue_init(&volume->synced);
        if (err != ERR_OK) {
            op_queue_done(&volume->idle);
        }
    }
    if (err != ERR_OK) {
        free(volume->path);
        free(volume);
        return err;
    }
    atomic_init(&volume->references, 1);
    pthread_mutex_init(&volume->mutex, NULL);
    volume->device = dev_next_number();
    volume->read_only = options->read_only;
    volume_set_quota(volume, options->bytes_max, options->inodes_max);
    table_init(&volume->inodes);
    table_init(&volume->entries);
    table_init(&volume->chunks);
    struct list *const lists[] = {
        &volume->dirty_inodes, &volume->dirty_entries, &volume->dirty_chunks, &volume->garbage,
        &volume->idle_inodes,  &volume->idle_entries,  &volume->idle_chunks,  &volume->released,
        &volume->waiters,      &volume->pool_link,
    };
    for (size_t i = 0; i < ARRAY_LENGTH(lists); i++) {
        list_init(lists[i]);
    }
    *ret_volume = volume;
    return ERR_OK;
}

enum err volume_open(const struct volume_options *options, struct volume **ret_volume,
                     struct buf *message) {
    struct volume *volume;
    enum err err = volume_new(options, &volume);
    if (err != ERR_OK) {
        return err;
    }
    if (access(options->path, F_OK) == 0) {
        err = volume_database_open(volume, false, message);
        if (err == ERR_OK && volume->has_garbage) {
            volume_pool_submit_later(volume);
        }
    } else if (errno != ENOENT || !options->create) {
        err = err_from_errno(errno);
        (void)buf_fail(message, err, "can't open %s: %s", options->path, err_text(err));
    }
    if (err == ERR_OK && !volume->has_tables) {
        err = make_root(volume);
    }
    struct volume_inode *root;
    if (err == ERR_OK) {
        err = volume_inode_get(volume, VOLUME_ROOT_INODE, &root);
    }
    if (err == ERR_OK) {
        volume_inode_hold(volume, root); /* stays in memory */
    } else {
        volume_destroy(volume);
        return err;
    }
    *ret_volume = volume;
    return ERR_OK;
}

struct volume *volume_ref(struct volume *volume) {
    atomic_fetch_add_explicit(&volume->references, 1, memory_order_relaxed);
    return volume;
}

bool volume_is_shared(const struct volume *volume) {
    return atomic_load_explicit(&volume->references, memory_order_acquire) != 1;
}

void volume_set_removed(struct volume *volume) {
    atomic_store_explicit(&volume->is_removed, true, memory_order_release);
}

bool volume_is_removed(const struct volume *volume) {
    return atomic_load_explicit(&volume->is_removed, memory_order_acquire);
}

bool volume_begin_sweep(struct volume *volume) {
    return !volume->read_only &&
           !atomic_exchange_explicit(&volume->is_swept, true, memory_order_relaxed);
}

void volume_unref(struct volume *volume) {
    if (!volume || atomic_fetch_sub_explicit(&volume->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    volume_pool_cancel(volume);
    enum err err = volume_commit(volume, true);
    if (err != ERR_OK) {
        /* Nobody is left who could be told. */
        log_error("%s: what was changed last is lost: %s", volume->path, err_text(err));
    }
    volume_destroy(volume);
}

void volume_set_quota(struct volume *volume, uint64_t bytes_max, uint64_t inodes_max) {
    atomic_store(&volume->bytes_max, bytes_max);
    atomic_store(&volume->inodes_max, inodes_max);
}

/* On disk the root is counted, too; it is nobody's file. */
static uint64_t without_root(uint64_t inodes) {
    return inodes - MIN(inodes, (uint64_t)1);
}

struct volume_usage volume_usage(struct volume *volume) {
    return (struct volume_usage){
        .bytes = atomic_load(&volume->used_bytes),
        .inodes = without_root(atomic_load(&volume->used_inodes)),
        .bytes_max = atomic_load(&volume->bytes_max),
        .inodes_max = atomic_load(&volume->inodes_max),
    };
}

uint64_t volume_device(const struct volume *volume) {
    return volume->device;
}

bool volume_is_read_only(const struct volume *volume) {
    return volume->read_only;
}

static bool fits(uint64_t used, uint64_t more, atomic_uint_fast64_t *max, uint64_t now_max) {
    uint64_t limit = atomic_load_explicit(max, memory_order_relaxed), sum;
    return !__builtin_add_overflow(used, more, &sum) && sum <= INT64_MAX &&
           (more == 0 || ((limit == 0 || sum <= limit) && (now_max == 0 || sum <= now_max)));
}

static void subtract(atomic_uint_fast64_t *used, uint64_t less) {
    /* Never below zero, whatever a database that was tampered with says. */
    uint64_t now = atomic_load_explicit(used, memory_order_relaxed);
    atomic_store_explicit(used, now - MIN(now, less), memory_order_relaxed);
}

enum err volume_charge(struct volume *volume, uint64_t bytes, uint64_t inodes) {
    uint64_t used_bytes = atomic_load_explicit(&volume->used_bytes, memory_order_relaxed);
    uint64_t used_inodes = atomic_load_explicit(&volume->used_inodes, memory_order_relaxed);
    if (!fits(used_bytes, bytes, &volume->bytes_max, volume->now_bytes_max) ||
        !fits(without_root(used_inodes), inodes, &volume->inodes_max, volume->now_inodes_max)) {
        return ERR_NOSPC;
    }
    /* Only the owner changes them; others only read. */
    atomic_fetch_add_explicit(&volume->used_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&volume->used_inodes, inodes, memory_order_relaxed);
    return ERR_OK;
}

void volume_uncharge(struct volume *volume, uint64_t bytes, uint64_t inodes) {
    subtract(&volume->used_bytes, bytes);
    subtract(&volume->used_inodes, inodes);
}

/* The strand */

enum err volume_enter(struct op *op, struct volume *volume, unsigned volume_enter_flags) {
    if ((volume_enter_flags & VOLUME_CHANGE) && volume->read_only) {
        return op_finish(op, ERR_ROFS);
    }
    if ((volume_enter_flags & VOLUME_CHANGE) && volume_is_removed(volume)) {
        return op_finish(op, ERR_IDRM); /* it would be lost, and nobody would know */
    }
    pthread_mutex_lock(&volume->mutex);
    bool wait = volume->busy;
    if (!wait && (volume_enter_flags & VOLUME_CHANGE)) {
        size_t limit = volume_dirty_limit();
        /* Removing must be possible on a full disk, within reason. */
        limit *= (volume_enter_flags & VOLUME_SHRINKS) ? 2 : 1;
        if (volume->dirty_bytes >= limit) {
            if (volume->commit_error != ERR_OK) {
                enum err err = volume->commit_error;
                pthread_mutex_unlock(&volume->mutex);
                return op_finish(op, err);
            }
            wait = true;
            volume_pool_submit(volume);
        }
    }
    if (!wait) {
        volume->now_bytes_max = op->who->disk_bytes_max;
        volume->now_inodes_max = op->who->disk_files_max;
        return ERR_OK;
    }
    /* The worker wakes us after it has ended `busy`, for which it needs the mutex: no wake is
     * lost. */
    enum err err = op_queue_wait(&volume->idle, op);
    pthread_mutex_unlock(&volume->mutex);
    return err == ERR_OK ? ERR_PENDING : op_finish(op, err);
}

enum err volume_leave(struct op *op, struct volume *volume, enum err result) {
    volume_cache_trim(volume);
    pthread_mutex_unlock(&volume->mutex);
    return result == ERR_PENDING ? result : op_finish(op, result);
}

void volume_mark_dirty(struct volume *volume) {
    if (!atomic_load_explicit(&volume->dirty, memory_order_relaxed)) {
        atomic_store(&volume->dirty, true);
        volume->dirty_since_ns = clock_monotonic_ns();
        volume_pool_submit_later(volume);
    }
}

bool volume_is_dirty(struct volume *volume) {
    return atomic_load(&volume->dirty);
}

static void drop_waiter(struct op *op) {
    struct volume_waiter *waiter = op->state;
    pthread_mutex_lock(&waiter->volume->mutex);
    list_remove(&waiter->link);
    pthread_mutex_unlock(&waiter->volume->mutex);
    free(waiter);
}

enum err volume_sync(struct op *op, struct volume *volume) {
    struct volume_waiter *waiter = op->state;
    if (!waiter) {
        pthread_mutex_lock(&volume->mutex);
        bool dirty = atomic_load_explicit(&volume->dirty, memory_order_relaxed);
        pthread_mutex_unlock(&volume->mutex);
        if (!dirty) {
            return op_finish(op, ERR_OK);
        }
        waiter = calloc(1, sizeof(*waiter));
        if (!waiter) {
            return op_finish(op, ERR_NOMEM);
        }
        list_init(&waiter->link);
        waiter->volume = volume;
        op_set_state(op, waiter, drop_waiter);
        pthread_mutex_lock(&volume->mutex);
        if (atomic_load_explicit(&volume->dirty, memory_order_relaxed)) {
            list_append(&volume->waiters, &waiter->link);
            volume_pool_submit(volume);
        } else {
            waiter->done = true;
        }
        pthread_mutex_unlock(&volume->mutex);
    }
    pthread_mutex_lock(&volume->mutex);
    bool done = waiter->done;
    /* The worker marks us with the mutex held and wakes afterwards: no wake is lost. */
    enum err err = done ? waiter->err : op_queue_wait(&volume->synced, op);
    pthread_mutex_unlock(&volume->mutex);
    return done || err != ERR_OK ? op_finish(op, err) : ERR_PENDING;
}

/* Holds */

void volume_hold(struct volume *volume, uint64_t inode_number) {
    pthread_mutex_lock(&volume->mutex);
    struct volume_inode *inode = volume_inode_find(volume, inode_number);
    INVARIANT(inode && inode->holds > 0);
    inode->holds++;
    pthread_mutex_unlock(&volume->mutex);
}

void volume_let_go(struct volume *volume, uint64_t inode_number) {
    pthread_mutex_lock(&volume->mutex);
    struct volume_inode *inode = volume_inode_find(volume, inode_number);
    INVARIANT(inode && inode->holds > 0);
    if (--inode->holds == 0) {
        if (volume->busy) {
            list_append(&volume->released, &inode->release_link);
        } else {
            volume_inode_settle(volume, inode);
        }
    }
    pthread_mutex_unlock(&volume->mutex);
}
