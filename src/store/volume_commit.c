/* Writing what is dirty to the database, and the work that comes after it. */
#include "store/volume_internal.h"

#include "base/clock.h"

#include <stdlib.h>

/* Content with at most this many chunks is removed at once, more of it as garbage. */
#define GARBAGE_CHUNKS_MIN 256
/* Chunks of garbage that a worker removes in one turn. */
#define REAP_CHUNKS 1024
/* The write-ahead log is moved into the database when it has this many pages (16 MiB). */
#define WAL_FRAMES_MAX 4096

static enum err write_discard(struct volume *volume, uint64_t data, uint64_t size_bytes) {
    uint64_t chunks = (size_bytes + VOLUME_CHUNK_BYTES - 1) / VOLUME_CHUNK_BYTES;
    if (chunks > GARBAGE_CHUNKS_MIN) {
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_GARBAGE_PUT);
        volume_bind(statement, 1, data);
        return volume_run(volume, statement);
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_DELETE);
    volume_bind(statement, 1, volume_chunk_key(data, 0));
    volume_bind(statement, 2, volume_chunk_key(data + 1, 0) - 1);
    return volume_run(volume, statement);
}

static enum err write_inode(struct volume *volume, const struct volume_inode *inode) {
    if (inode->gone) {
        if (!inode->stored) {
            return ERR_OK;
        }
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_INODE_DELETE);
        volume_bind(statement, 1, inode->number);
        enum err err = volume_run(volume, statement);
        if (err == ERR_OK && inode->data_stored) {
            /* All of it may be stored though the file was made shorter since: not its size, but
             * the most that there can be. */
            uint64_t size = inode->cut == VOLUME_NO_CUT ? inode->size : VOLUME_FILE_BYTES_MAX;
            err = write_discard(volume, inode->data, size);
        }
        return err;
    }
    if (inode->data_stored && inode->cut != VOLUME_NO_CUT) {
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_DELETE);
        volume_bind(statement, 1, volume_chunk_key(inode->data, inode->cut));
        volume_bind(statement, 2, volume_chunk_key(inode->data + 1, 0) - 1);
        enum err err = volume_run(volume, statement);
        if (err != ERR_OK) {
            return err;
        }
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_INODE_PUT);
    const uint64_t values[] = {
        inode->number,      inode->type,       inode->links,   inode->size,
        inode->bytes,       inode->data,       inode->parent,  inode->accessed_ns,
        inode->modified_ns, inode->changed_ns, inode->version,
    };
    for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
        volume_bind(statement, (int)i + 1, values[i]);
    }
    volume_bind_bytes(statement, ARRAY_LENGTH(values) + 1, inode->target, inode->target_length);
    return volume_run(volume, statement);
}

static enum err write_entry(struct volume *volume, const struct volume_entry *entry) {
    sqlite3_stmt *statement =
        volume_statement(volume, entry->inode ? STATEMENT_ENTRY_PUT : STATEMENT_ENTRY_DELETE);
    volume_bind(statement, 1, entry->directory);
    volume_bind_bytes(statement, 2, entry->name, entry->name_length);
    if (entry->inode) {
        volume_bind(statement, 3, entry->inode);
        volume_bind(statement, 4, entry->type);
    }
    return volume_run(volume, statement);
}

static enum err write_all(struct volume *volume) {
    enum err err = volume_run(volume, volume_statement(volume, STATEMENT_BEGIN));
    if (err == ERR_OK && !volume->has_tables) {
        err = volume_database_make_tables(volume);
    }
    LIST_FOR_EACH (link, &volume->garbage) {
        struct volume_garbage *garbage = CONTAINER_OF(link, struct volume_garbage, link);
        err = err == ERR_OK ? write_discard(volume, garbage->data, garbage->size) : err;
    }
    /* Inodes come before chunks: they remove the chunks that were cut off. */
    LIST_FOR_EACH (link, &volume->dirty_inodes) {
        err = err == ERR_OK ? write_inode(volume, CONTAINER_OF(link, struct volume_inode, link))
                            : err;
    }
    LIST_FOR_EACH (link, &volume->dirty_chunks) {
        struct volume_chunk *chunk = CONTAINER_OF(link, struct volume_chunk, link);
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_PUT);
        volume_bind(statement, 1, volume_chunk_key(chunk->inode->data, chunk->index));
        volume_bind_bytes(statement, 2, chunk->data, chunk->length);
        err = err == ERR_OK ? volume_run(volume, statement) : err;
    }
    LIST_FOR_EACH (link, &volume->dirty_entries) {
        err = err == ERR_OK ? write_entry(volume, CONTAINER_OF(link, struct volume_entry, link))
                            : err;
    }
    if (err == ERR_OK) {
        err = volume_alarms_write(volume);
    }
    if (err == ERR_OK) {
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_VOLUME_PUT);
        volume_bind(statement, 1, volume->next_number);
        volume_bind(statement, 2, atomic_load(&volume->used_bytes));
        volume_bind(statement, 3, atomic_load(&volume->used_inodes));
        err = volume_run(volume, statement);
    }
    return err == ERR_OK ? volume_run(volume, volume_statement(volume, STATEMENT_COMMIT)) : err;
}

/* All is written: what was dirty is a mere cache now. First what takes long, of which no more than
 * fits is kept: whoever comes meanwhile wants the mutex only to see that the volume is busy. */
static void settle_content(struct volume *volume) {
    while (!list_is_empty(&volume->garbage)) {
        struct list *link = volume->garbage.next;
        list_remove(link);
        free(CONTAINER_OF(link, struct volume_garbage, link));
        volume->has_garbage = true;
    }
    while (!list_is_empty(&volume->dirty_chunks)) {
        struct list *link = volume->dirty_chunks.next;
        struct volume_chunk *chunk = CONTAINER_OF(link, struct volume_chunk, link);
        list_remove(link);
        list_append(&volume->idle_chunks, link);
        chunk->dirty = false;
        chunk->inode->data_stored = true;
    }
    while (!list_is_empty(&volume->dirty_entries)) {
        struct list *link = volume->dirty_entries.next;
        struct volume_entry *entry = CONTAINER_OF(link, struct volume_entry, link);
        list_remove(link);
        list_remove(&entry->sibling);
        list_append(&volume->idle_entries, link);
        volume->idle_entry_count++;
        entry->dirty = false;
    }
    volume_cache_trim_content(volume);
}

/* Then the rest, with the mutex held. */
static void settle(struct volume *volume, bool durable) {
    volume->dirty_bytes = 0;
    while (!list_is_empty(&volume->dirty_inodes)) {
        struct list *link = volume->dirty_inodes.next;
        struct volume_inode *inode = CONTAINER_OF(link, struct volume_inode, link);
        list_remove(link);
        inode->dirty = false;
        inode->stored = true;
        inode->cut = VOLUME_NO_CUT;
        if (inode->gone) {
            volume->has_garbage = true;
            volume_inode_free(volume, inode);
        } else if (list_is_empty(&inode->release_link)) {
            volume_inode_settle(volume, inode);
        }
    }
    volume_alarms_settle(volume);
    volume->has_tables = true;
    volume->created = false;
    volume->commits++;
    atomic_store(&volume->dirty, !durable);
}

enum err volume_commit(struct volume *volume, bool durable) {
    if (!atomic_load(&volume->dirty)) {
        return ERR_OK;
    }
    enum err err = volume->database ? ERR_OK : volume_database_open(volume, true, NULL);
    if (err == ERR_OK && volume->has_tables && volume->created) {
        volume_database_close(volume); /* somebody has put a volume there meanwhile */
        err = ERR_EXIST;
    }
    if (err == ERR_OK) {
        err = volume_database_set_durable(volume, durable);
    }
    if (err == ERR_OK) {
        err = write_all(volume); /* at least one row, so there is something to sync */
    }
    if (err != ERR_OK) {
        volume_rollback(volume);
        volume->commit_error = err;
        return err;
    }
    settle_content(volume);
    pthread_mutex_lock(&volume->mutex);
    settle(volume, durable);
    volume->commit_error = ERR_OK;
    volume_cache_trim(volume);
    pthread_mutex_unlock(&volume->mutex);
    return ERR_OK;
}

/* Removes some chunks of garbage in a transaction of its own. Failing, it is left for later. */
static enum err reap(struct volume *volume) {
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_GARBAGE_GET);
    bool row;
    enum err err = volume_step(volume, statement, &row);
    uint64_t data = err == ERR_OK && row ? volume_column(statement, 0) : 0;
    volume_reset(statement);
    if (err != ERR_OK || !row) {
        volume->has_garbage = false;
        return err;
    }
    err = volume_run(volume, volume_statement(volume, STATEMENT_BEGIN));
    if (err == ERR_OK && data >= VOLUME_ROOT_INODE && data <= VOLUME_NUMBER_MAX) {
        statement = volume_statement(volume, STATEMENT_CHUNK_REAP);
        volume_bind(statement, 1, volume_chunk_key(data, 0));
        volume_bind(statement, 2, volume_chunk_key(data + 1, 0) - 1);
        volume_bind(statement, 3, REAP_CHUNKS);
        err = volume_run(volume, statement);
    }
    if (err == ERR_OK && sqlite3_changes(volume->database) < REAP_CHUNKS) {
        statement = volume_statement(volume, STATEMENT_GARBAGE_DELETE);
        volume_bind(statement, 1, data);
        err = volume_run(volume, statement);
    }
    if (err == ERR_OK) {
        err = volume_run(volume, volume_statement(volume, STATEMENT_COMMIT));
    }
    if (err != ERR_OK) {
        volume->has_garbage = false; /* until the next commit that makes some, or opening */
        volume_rollback(volume);
    }
    return err;
}

/* The commit that somebody waits for, or that is due, is durable; one that only makes room need not
 * be. Waiters are told. */
static enum err commit_for_waiters(struct volume *volume) {
    pthread_mutex_lock(&volume->mutex);
    volume->busy = true;
    bool durable = !list_is_empty(&volume->waiters) ||
                   clock_monotonic_ns() - volume->dirty_since_ns >= VOLUME_COMMIT_DELAY_NS;
    pthread_mutex_unlock(&volume->mutex);
    enum err err = volume_commit(volume, durable);
    pthread_mutex_lock(&volume->mutex);
    /* Nothing can have changed since `busy` was set, so whoever came meanwhile is served too. */
    if (err == ERR_OK && !durable && !list_is_empty(&volume->waiters)) {
        pthread_mutex_unlock(&volume->mutex);
        err = volume_commit(volume, true);
        pthread_mutex_lock(&volume->mutex);
    }
    bool waited = !list_is_empty(&volume->waiters);
    while (!list_is_empty(&volume->waiters)) {
        struct volume_waiter *waiter =
            CONTAINER_OF(volume->waiters.next, struct volume_waiter, link);
        list_remove(&waiter->link);
        waiter->done = true;
        waiter->err = err;
    }
    pthread_mutex_unlock(&volume->mutex);
    if (waited) {
        op_queue_wake_all(&volume->synced);
    }
    return err;
}

bool volume_work(struct volume *volume) {
    enum err err = commit_for_waiters(volume);
    if (err == ERR_OK && volume->has_garbage) {
        err = reap(volume);
    }
    if (err == ERR_OK && volume->wal_frames > WAL_FRAMES_MAX) {
        err = volume_database_checkpoint(volume, false);
    }

    pthread_mutex_lock(&volume->mutex);
    LIST_FOR_EACH_SAFE (link, &volume->released) {
        list_remove(link);
        volume_inode_settle(volume, CONTAINER_OF(link, struct volume_inode, release_link));
    }
    volume->busy = false;
    bool more = err == ERR_OK && volume->has_garbage;
    pthread_mutex_unlock(&volume->mutex);
    op_queue_wake_all(&volume->idle);
    return more;
}
