/* Content and attributes of files. */
#include "store/volume_internal.h"

#include "base/clock.h"

#include <stdlib.h>

/* What one call moves at most: the others on the loop shall not wait for long. */
#define TRANSFER_BYTES_MAX MIB
/* Rows that one call of set_size looks at. */
#define SHRINK_ROWS 4096

static uint64_t chunks_of(uint64_t size_bytes) {
    return (size_bytes + VOLUME_CHUNK_BYTES - 1) / VOLUME_CHUNK_BYTES;
}

static enum err regular_get(struct volume *volume, uint64_t number,
                            struct volume_inode **ret_inode) {
    struct volume_inode *inode;
    enum err err = volume_inode_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err;
    }
    if (inode->type != FILE_REGULAR) {
        return inode->type == FILE_DIRECTORY ? ERR_ISDIR : ERR_INVAL;
    }
    *ret_inode = inode;
    return ERR_OK;
}

static void touch_content(struct volume *volume, struct volume_inode *inode) {
    uint64_t now = clock_realtime_ns();
    inode->modified_ns = inode->changed_ns = now;
    /* By the clock, so that after a crash that took back a version it does not come again with
     * other content. */
    inode->version = MAX(inode->version + 1, now);
    volume_inode_touch(volume, inode);
}

/* Whether the database may have a chunk that is not in memory. */
static bool may_be_stored(const struct volume_inode *inode, uint64_t index) {
    return inode->data_stored && index < inode->cut && index < chunks_of(inode->size);
}

/* Points at the stored content of a chunk until the statement is reset; no bytes for a hole. */
static enum err chunk_select(struct volume *volume, const struct volume_inode *inode,
                             uint64_t index, sqlite3_stmt **ret_statement,
                             struct str *ret_content) {
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_GET);
    volume_bind(statement, 1, volume_chunk_key(inode->data, index));
    bool row;
    enum err err = volume_step(volume, statement, &row);
    struct str content = {0};
    if (err == ERR_OK && row) {
        content.data = sqlite3_column_blob(statement, 0);
        content.length = (size_t)sqlite3_column_bytes(statement, 0);
        if (!content.data && content.length > 0) {
            err = ERR_NOMEM;
        } else if (content.length > VOLUME_CHUNK_BYTES) {
            err = ERR_IO;
        }
    }
    if (err != ERR_OK) {
        volume_reset(statement);
        return err;
    }
    *ret_statement = statement;
    *ret_content = content;
    return ERR_OK;
}

/* The chunk in memory, loaded if `load` and it is stored; without content for a hole. Room for
 * `capacity` bytes. */
static enum err chunk_get(struct volume *volume, struct volume_inode *inode, uint64_t index,
                          bool load, size_t capacity, struct volume_chunk **ret_chunk) {
    struct volume_chunk *chunk = volume_chunk_find(volume, inode, index);
    if (chunk) {
        enum err err = volume_chunk_reserve(volume, chunk, capacity);
        if (err == ERR_OK) {
            volume_chunk_used(volume, chunk);
            *ret_chunk = chunk;
        }
        return err;
    }
    sqlite3_stmt *statement = NULL;
    struct str content = {0};
    if (load && may_be_stored(inode, index)) {
        enum err err = chunk_select(volume, inode, index, &statement, &content);
        if (err != ERR_OK) {
            return err;
        }
    }
    enum err err = volume_chunk_new(volume, inode, index, MAX(capacity, content.length), &chunk);
    if (err == ERR_OK && content.length > 0) {
        memcpy(chunk->data, content.data, content.length);
        chunk->length = (uint32_t)content.length;
    }
    volume_reset(statement);
    if (err == ERR_OK) {
        *ret_chunk = chunk;
    }
    return err;
}

/* Reading */

/* Copies `length` bytes from `start` of a content that is zero behind its end. */
static void copy_content(uint8_t *to, struct str content, size_t start, size_t length) {
    size_t there = content.length > start ? MIN(content.length - start, length) : 0;
    if (there > 0) {
        memcpy(to, content.data + start, there);
    }
    memset(to + there, 0, length - there);
}

static enum err read_chunk(struct volume *volume, struct volume_inode *inode, uint64_t index,
                           uint8_t *to, size_t start, size_t length) {
    struct volume_chunk *chunk = volume_chunk_find(volume, inode, index);
    if (!chunk && !may_be_stored(inode, index)) {
        memset(to, 0, length);
        return ERR_OK;
    }
    if (!chunk && length == VOLUME_CHUNK_BYTES) {
        /* A whole chunk goes past the cache: it would be used once. */
        sqlite3_stmt *statement;
        struct str content;
        enum err err = chunk_select(volume, inode, index, &statement, &content);
        if (err == ERR_OK) {
            copy_content(to, content, start, length);
            volume_reset(statement);
        }
        return err;
    }
    if (!chunk) {
        enum err err = chunk_get(volume, inode, index, true, 0, &chunk);
        if (err != ERR_OK) {
            return err;
        }
    }
    volume_chunk_used(volume, chunk);
    copy_content(to, (struct str){(const char *)chunk->data, chunk->length}, start, length);
    return ERR_OK;
}

static enum err read_range(struct volume *volume, uint64_t number, uint8_t *data, size_t length,
                           uint64_t offset, size_t *ret_read) {
    struct volume_inode *inode;
    enum err err = regular_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err;
    }
    if (offset >= inode->size) {
        *ret_read = 0;
        return ERR_OK;
    }
    length = (size_t)MIN(MIN((uint64_t)length, TRANSFER_BYTES_MAX), inode->size - offset);
    for (size_t done = 0; done < length;) {
        uint64_t place = offset + done;
        size_t start = (size_t)(place % VOLUME_CHUNK_BYTES);
        size_t piece = MIN(VOLUME_CHUNK_BYTES - start, length - done);
        err = read_chunk(volume, inode, place / VOLUME_CHUNK_BYTES, data + done, start, piece);
        if (err != ERR_OK) {
            return err;
        }
        done += piece;
    }
    *ret_read = length;
    return ERR_OK;
}

enum err volume_read(struct op *op, struct volume *volume, uint64_t inode, void *data,
                     size_t length, uint64_t offset, size_t *ret_read) {
    enum err err = volume_enter(op, volume, 0);
    if (err != ERR_OK) {
        return err;
    }
    err = read_range(volume, inode, data, length, offset, ret_read);
    return volume_leave(op, volume, err);
}

/* Writing */

/* How much of a chunk is in use, without loading it. */
static enum err chunk_length(struct volume *volume, const struct volume_inode *inode,
                             uint64_t index, size_t *ret_length) {
    const struct volume_chunk *chunk = volume_chunk_find(volume, inode, index);
    if (chunk) {
        *ret_length = chunk->length;
        return ERR_OK;
    }
    *ret_length = 0;
    if (!may_be_stored(inode, index)) {
        return ERR_OK;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_LENGTH);
    volume_bind(statement, 1, volume_chunk_key(inode->data, index));
    bool row;
    enum err err = volume_step(volume, statement, &row);
    uint64_t length = err == ERR_OK && row ? volume_column(statement, 0) : 0;
    volume_reset(statement);
    if (err == ERR_OK && length > VOLUME_CHUNK_BYTES) {
        err = ERR_IO;
    }
    *ret_length = (size_t)length;
    return err;
}

static enum err write_chunk(struct volume *volume, struct volume_inode *inode, uint64_t index,
                            const uint8_t *from, size_t start, size_t length) {
    size_t before, end = start + length;
    enum err err = chunk_length(volume, inode, index, &before);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t growth = end > before ? end - before : 0;
    err = volume_charge(volume, growth, 0);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_chunk *chunk;
    bool covers = start == 0 && length >= before;
    err = chunk_get(volume, inode, index, !covers, end, &chunk);
    if (err != ERR_OK) {
        volume_uncharge(volume, growth, 0);
        return err;
    }
    if (start > chunk->length) {
        memset(chunk->data + chunk->length, 0, start - chunk->length);
    }
    memcpy(chunk->data + start, from, length);
    chunk->length = MAX(chunk->length, (uint32_t)end);
    inode->bytes += growth;
    volume_chunk_touch(volume, chunk);
    return ERR_OK;
}

static enum err write_range(struct volume *volume, uint64_t number, const uint8_t *data,
                            size_t length, uint64_t offset, size_t *ret_written) {
    struct volume_inode *inode;
    enum err err = regular_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err;
    }
    if (offset == OFFSET_APPEND) {
        offset = inode->size;
    }
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    if (offset >= VOLUME_FILE_BYTES_MAX) {
        return ERR_FBIG;
    }
    length = (size_t)MIN(MIN((uint64_t)length, TRANSFER_BYTES_MAX), VOLUME_FILE_BYTES_MAX - offset);
    size_t done = 0;
    while (done < length) {
        uint64_t place = offset + done;
        size_t start = (size_t)(place % VOLUME_CHUNK_BYTES);
        size_t piece = MIN(VOLUME_CHUNK_BYTES - start, length - done);
        err = write_chunk(volume, inode, place / VOLUME_CHUNK_BYTES, data + done, start, piece);
        if (err != ERR_OK) {
            break;
        }
        done += piece;
        inode->size = MAX(inode->size, place + piece);
    }
    if (done == 0) {
        return err;
    }
    touch_content(volume, inode);
    *ret_written = done;
    return ERR_OK;
}

enum err volume_write(struct op *op, struct volume *volume, uint64_t inode, const void *data,
                      size_t length, uint64_t offset, size_t *ret_written) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err != ERR_OK) {
        return err;
    }
    err = write_range(volume, inode, data, length, offset, ret_written);
    return volume_leave(op, volume, err);
}

/* Size */

static void drop_chunks(struct volume *volume, struct volume_inode *inode, uint64_t from_index) {
    LIST_FOR_EACH_SAFE (link, &inode->chunks) {
        struct volume_chunk *chunk = CONTAINER_OF(link, struct volume_chunk, sibling);
        if (chunk->index >= from_index) {
            volume_chunk_free(volume, chunk);
        }
    }
}

/* The file begins anew with other data, and the old is left to the next commit: as fast for a huge
 * file as for a small one. */
static enum err empty(struct volume *volume, struct volume_inode *inode) {
    if (inode->data_stored) {
        if (volume->next_number >= VOLUME_NUMBER_MAX) {
            return ERR_NOSPC;
        }
        struct volume_garbage *garbage = malloc(sizeof(*garbage));
        if (!garbage) {
            return ERR_NOMEM;
        }
        garbage->data = inode->data;
        garbage->size = inode->cut == VOLUME_NO_CUT ? inode->size : VOLUME_FILE_BYTES_MAX;
        list_append(&volume->garbage, &garbage->link);
        inode->data = volume->next_number++;
        inode->data_stored = false;
    }
    drop_chunks(volume, inode, 0);
    volume_uncharge(volume, inode->bytes, 0);
    inode->bytes = 0;
    inode->size = 0;
    inode->cut = VOLUME_NO_CUT;
    touch_content(volume, inode);
    return ERR_OK;
}

/* What the stored chunks from `floor` on that memory does not have hold together. Looks at so many
 * rows from the end only: `*floor` is raised to the last one seen. */
static enum err measure_tail(struct volume *volume, const struct volume_inode *inode,
                             uint64_t *floor, uint64_t *ret_bytes) {
    *ret_bytes = 0;
    uint64_t end = MIN(inode->cut, chunks_of(inode->size));
    if (!inode->data_stored || end <= *floor) {
        return ERR_OK;
    }
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_CHUNK_TAIL);
    volume_bind(statement, 1, volume_chunk_key(inode->data, *floor));
    volume_bind(statement, 2, volume_chunk_key(inode->data, end) - 1);
    volume_bind(statement, 3, SHRINK_ROWS);
    uint64_t bytes = 0, index = 0, rows = 0;
    enum err err;
    bool row;
    while ((err = volume_step(volume, statement, &row)) == ERR_OK && row) {
        rows++;
        index = volume_column(statement, 0) - volume_chunk_key(inode->data, 0);
        if (!volume_chunk_find(volume, inode, index)) {
            bytes += MIN(volume_column(statement, 1), (uint64_t)VOLUME_CHUNK_BYTES);
        }
    }
    volume_reset(statement);
    if (err == ERR_OK) {
        *ret_bytes = bytes;
        *floor = rows == SHRINK_ROWS ? index : *floor;
    }
    return err;
}

/* Cuts off what is behind `size_bytes`, or, of a large file, a part of it: then `*ret_more`. */
static enum err shrink(struct volume *volume, struct volume_inode *inode, uint64_t size_bytes,
                       bool *ret_more) {
    uint64_t floor = chunks_of(size_bytes), wanted = floor, freed;
    enum err err = measure_tail(volume, inode, &floor, &freed);
    struct volume_chunk *last = NULL;
    uint32_t last_length = (uint32_t)(size_bytes % VOLUME_CHUNK_BYTES);
    if (err == ERR_OK && floor == wanted && last_length > 0) {
        /* What is cut off the last chunk must read as zero when the file grows again. */
        err = chunk_get(volume, inode, floor - 1, true, 0, &last);
    }
    if (err != ERR_OK) {
        return err;
    }
    LIST_FOR_EACH (link, &inode->chunks) {
        const struct volume_chunk *chunk = CONTAINER_OF(link, struct volume_chunk, sibling);
        freed += chunk->index >= floor ? chunk->length : 0;
    }
    drop_chunks(volume, inode, floor);
    if (last && last->length > last_length) {
        freed += last->length - last_length;
        last->length = last_length;
        volume_chunk_touch(volume, last);
    }
    inode->cut = MIN(inode->cut, floor);
    inode->size = floor == wanted ? size_bytes : floor * VOLUME_CHUNK_BYTES;
    freed = MIN(freed, inode->bytes);
    inode->bytes -= freed;
    volume_uncharge(volume, freed, 0);
    touch_content(volume, inode);
    *ret_more = floor != wanted;
    return ERR_OK;
}

enum err volume_set_size(struct op *op, struct volume *volume, uint64_t number,
                         uint64_t size_bytes) {
    if (size_bytes > VOLUME_FILE_BYTES_MAX) {
        return op_finish(op, ERR_FBIG);
    }
    enum err err =
        volume_enter(op, volume, VOLUME_CHANGE | (size_bytes == 0 ? VOLUME_SHRINKS : 0u));
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = regular_get(volume, number, &inode);
    bool more = false;
    if (err == ERR_OK && size_bytes == 0) {
        err = empty(volume, inode);
    } else if (err == ERR_OK && size_bytes < inode->size) {
        err = shrink(volume, inode, size_bytes, &more);
    } else if (err == ERR_OK) {
        inode->size = size_bytes;
        touch_content(volume, inode);
    }
    if (err == ERR_OK && more) {
        op_wake(op);
        err = ERR_PENDING;
    }
    return volume_leave(op, volume, err);
}

/* Attributes */

enum err volume_stat(struct op *op, struct volume *volume, uint64_t number,
                     struct file_stat *ret_stat) {
    enum err err = volume_enter(op, volume, 0);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = volume_inode_get(volume, number, &inode);
    if (err == ERR_OK) {
        *ret_stat = (struct file_stat){
            .device = volume->device,
            .inode = inode->number,
            .type = inode->type,
            .links = inode->links,
            .size = inode->size,
            .accessed_ns = inode->accessed_ns,
            .modified_ns = inode->modified_ns,
            .changed_ns = inode->changed_ns,
            .version = inode->version,
        };
    }
    return volume_leave(op, volume, err);
}

enum err volume_set_times(struct op *op, struct volume *volume, uint64_t number,
                          uint64_t accessed_ns, uint64_t modified_ns, unsigned flags) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = volume_inode_get(volume, number, &inode);
    if (err == ERR_OK) {
        inode->accessed_ns = flags & SET_ACCESSED ? accessed_ns : inode->accessed_ns;
        inode->modified_ns = flags & SET_MODIFIED ? modified_ns : inode->modified_ns;
        inode->changed_ns = clock_realtime_ns();
        volume_inode_touch(volume, inode);
    }
    return volume_leave(op, volume, err);
}
