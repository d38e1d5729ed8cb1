/* The SQLite database of a volume: opening, checking, statements. The only file that knows of
 * pragmas and result codes. */
#include "store/volume_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* SQLite's page cache, a volume: interior pages of the trees; content is cached by us. */
#define PAGE_CACHE_KIB "1024"

static const char *const statement_sql[] = {
#define STATEMENT_SQL(name, sql) [STATEMENT_##name] = sql,
    VOLUME_STATEMENTS(STATEMENT_SQL)
#undef STATEMENT_SQL
};

static pthread_once_t configured = PTHREAD_ONCE_INIT;

/* Without statistics SQLite's allocations take no global lock. Fails, harmlessly, if somebody has
 * used SQLite before. */
static void configure(void) {
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

/* A failed sync leaves unknown what is on disk, and the kernel may report it only once. */
static enum err error_of(const struct volume *volume, int result) {
    if (result == SQLITE_IOERR_FSYNC || result == SQLITE_IOERR_DIR_FSYNC) {
        log_fatal("%s: can't sync to disk: %s", volume->path, sqlite3_errmsg(volume->database));
    }
    switch (result & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW:
        return ERR_OK;
    case SQLITE_FULL:
        return ERR_NOSPC;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_BUSY:
        return ERR_BUSY;
    default:
        log_debug("%s: %s (%d)", volume->path, sqlite3_errmsg(volume->database), result);
        return ERR_IO;
    }
}

sqlite3_stmt *volume_statement(struct volume *volume, enum volume_statement index) {
    sqlite3_stmt **statement = &volume->statements[index];
    if (!*statement) {
        (void)sqlite3_prepare_v3(volume->database, statement_sql[index], -1,
                                 SQLITE_PREPARE_PERSISTENT, statement, NULL);
    }
    return *statement;
}

void volume_bind(sqlite3_stmt *statement, int index, uint64_t value) {
    if (statement) {
        (void)sqlite3_bind_int64(statement, index, (sqlite3_int64)value);
    }
}

void volume_bind_bytes(sqlite3_stmt *statement, int index, const void *data, size_t length) {
    if (statement) {
        (void)sqlite3_bind_blob64(statement, index, data, length, SQLITE_STATIC);
    }
}

enum err volume_step(struct volume *volume, sqlite3_stmt *statement, bool *ret_row) {
    /* A statement that could not be prepared: the connection still knows why. */
    int result = statement ? sqlite3_step(statement) : sqlite3_extended_errcode(volume->database);
    if (!statement && result == SQLITE_OK) {
        return ERR_IO;
    }
    enum err err = error_of(volume, result);
    if (err == ERR_OK) {
        *ret_row = result == SQLITE_ROW;
    }
    return err;
}

void volume_reset(sqlite3_stmt *statement) {
    if (statement) {
        (void)sqlite3_reset(statement);
    }
}

enum err volume_run(struct volume *volume, sqlite3_stmt *statement) {
    bool row;
    enum err err = volume_step(volume, statement, &row);
    volume_reset(statement);
    return err;
}

void volume_rollback(struct volume *volume) {
    if (volume->database && !sqlite3_get_autocommit(volume->database)) {
        sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ROLLBACK);
        if (statement) {
            (void)sqlite3_step(statement);
        }
        volume_reset(statement);
    }
}

static enum err execute(struct volume *volume, const char *sql) {
    return error_of(volume, sqlite3_exec(volume->database, sql, NULL, NULL, NULL));
}

/* The first column of the first row as a number. */
static enum err query_number(struct volume *volume, const char *sql, int64_t *ret_number) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(volume->database, sql, -1, &statement, NULL);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
    }
    enum err err = error_of(volume, result);
    if (err == ERR_OK && result != SQLITE_ROW) {
        err = ERR_IO;
    }
    if (err == ERR_OK) {
        *ret_number = sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return err;
}

static int wal_grew(void *argument, sqlite3 *database, const char *name, int frames) {
    (void)database;
    (void)name;
    ((struct volume *)argument)->wal_frames = frames;
    return SQLITE_OK;
}

static void harden(sqlite3 *database) {
    (void)sqlite3_extended_result_codes(database, 1);
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    (void)sqlite3_limit(database, SQLITE_LIMIT_LENGTH, (int)MIB);
    (void)sqlite3_limit(database, SQLITE_LIMIT_ATTACHED, 0);
}

/* The path as a URI: all but the plainest characters are escaped. */
static enum err append_uri(struct buf *uri, const char *path) {
    enum err err = buf_printf(uri, "file:");
    for (const char *c = path; err == ERR_OK && *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("/._-", *c);
        err = plain ? buf_append_byte(uri, (uint8_t)*c) : buf_printf(uri, "%%%02x", (uint8_t)*c);
    }
    return err;
}

/* Whether the database was left with a write-ahead log that is not moved into it yet. */
static bool has_wal(const struct volume *volume) {
    cleanup_buf struct buf path = {0};
    return buf_printf(&path, "%s-wal", volume->path) != ERR_OK ||
           access(buf_text(&path), F_OK) == 0;
}

static enum err open_connection(struct volume *volume, bool create, struct buf *message) {
    cleanup_buf struct buf uri = {0};
    enum err err = append_uri(&uri, volume->path);
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_READWRITE |
                (create ? SQLITE_OPEN_CREATE : 0);
    /* A layer is never changed: no locks, no log, nothing written beside it. Unless a crash left
     * a log, which has to be read. */
    bool immutable = volume->read_only && !has_wal(volume);
    if (err == ERR_OK && immutable) {
        flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_READONLY;
        err = buf_printf(&uri, "?immutable=1");
    }
    if (err != ERR_OK) {
        return err;
    }
    pthread_once(&configured, configure);
    int result = sqlite3_open_v2(buf_text(&uri), &volume->database, flags, NULL);
    if (result != SQLITE_OK) {
        err = error_of(volume, result);
        return buf_fail(message, err, "can't open %s: %s", volume->path,
                        sqlite3_errmsg(volume->database));
    }
    harden(volume->database);
    err = execute(volume, "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
                          "PRAGMA cell_size_check = ON; PRAGMA secure_delete = OFF;"
                          "PRAGMA cache_size = -" PAGE_CACHE_KIB);
    if (err == ERR_OK && !immutable) {
        char sql[256];
        (void)snprintf(sql, sizeof(sql),
                       "PRAGMA page_size = %d; PRAGMA locking_mode = EXCLUSIVE;"
                       "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                       "PRAGMA journal_size_limit = 33554432",
                       VOLUME_PAGE_BYTES);
        err = execute(volume, sql);
        volume->is_durable = true;
        (void)sqlite3_wal_hook(volume->database, wal_grew, volume);
    }
    if (err == ERR_BUSY) {
        return buf_fail(message, err, "%s is in use by another process", volume->path);
    }
    if (err != ERR_OK) {
        return buf_fail(message, err, "%s is damaged or can't be read: %s", volume->path,
                        sqlite3_errmsg(volume->database));
    }
    return ERR_OK;
}

static const struct {
    const char *name, *sql;
} schema[] = {
#define SCHEMA_ROW(name, sql) {name, sql},
    VOLUME_SCHEMA(SCHEMA_ROW)
#undef SCHEMA_ROW
};

enum err volume_database_make_tables(struct volume *volume) {
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < ARRAY_LENGTH(schema); i++) {
        err = execute(volume, schema[i].sql);
    }
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d",
                   VOLUME_APPLICATION_ID, VOLUME_USER_VERSION);
    return err == ERR_OK ? execute(volume, sql) : err;
}

enum err volume_database_make_alarm_table(struct volume *volume) {
    return execute(volume, VOLUME_ALARM_TABLE);
}

static enum err fail_table(const struct volume *volume, const char *name, struct buf *message) {
    return buf_fail(message, ERR_IO, "%s is damaged: its table %s is not as it should be",
                    volume->path, name);
}

static enum err check_table(struct volume *volume, sqlite3_stmt *statement, const char *name,
                            const char *expected, bool *ret_is_there, struct buf *message) {
    (void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    bool row = false;
    enum err err = volume_step(volume, statement, &row);
    const char *sql = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (err == ERR_OK && row && (!sql || strcmp(sql, expected) != 0)) {
        err = fail_table(volume, name, message);
    }
    volume_reset(statement);
    *ret_is_there = row;
    return err;
}

/* Our tables must be exactly what we would make: statements rely on it. */
static enum err check_tables(struct volume *volume, struct buf *message) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(
        volume->database, "SELECT sql FROM sqlite_schema WHERE name = ?1", -1, &statement, NULL);
    enum err err = error_of(volume, result);
    for (size_t i = 0; err == ERR_OK && i < ARRAY_LENGTH(schema); i++) {
        bool is_there;
        err = check_table(volume, statement, schema[i].name, schema[i].sql, &is_there, message);
        if (err == ERR_OK && !is_there) {
            err = fail_table(volume, schema[i].name, message);
        }
    }
    if (err == ERR_OK) {
        err = check_table(volume, statement, "zasm_alarm", VOLUME_ALARM_TABLE,
                          &volume->has_alarm_table, message);
    }
    (void)sqlite3_finalize(statement);
    return err;
}

static enum err read_volume(struct volume *volume) {
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_VOLUME_GET);
    bool row;
    enum err err = volume_step(volume, statement, &row);
    if (err == ERR_OK && row) {
        volume->next_number = volume_column(statement, 0);
        atomic_store(&volume->used_bytes, volume_column(statement, 1));
        atomic_store(&volume->used_inodes, volume_column(statement, 2));
    }
    volume_reset(statement);
    if (err == ERR_OK &&
        (!row || volume->next_number <= VOLUME_ROOT_INODE ||
         volume->next_number > VOLUME_NUMBER_MAX || atomic_load(&volume->used_bytes) > INT64_MAX ||
         atomic_load(&volume->used_inodes) > INT64_MAX)) {
        err = ERR_IO;
    }
    struct volume_inode *root;
    if (err == ERR_OK) {
        err = volume_directory_get(volume, VOLUME_ROOT_INODE, &root);
    }
    return err == ERR_NOMEM ? err : err != ERR_OK ? ERR_IO : ERR_OK;
}

/* Files that were removed while somebody held them, when the process ended. */
static enum err clear_orphans(struct volume *volume) {
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ORPHAN_SUM);
    bool row;
    enum err err = volume_step(volume, statement, &row);
    uint64_t inodes = 0, bytes = 0;
    if (err == ERR_OK) {
        inodes = volume_column(statement, 0);
        double total = sqlite3_column_double(statement, 1);
        bytes = total >= 0 && total < 0x1p62 ? (uint64_t)total : 0;
    }
    volume_reset(statement);
    if (err != ERR_OK || inodes == 0) {
        return err;
    }
    volume_uncharge(volume, bytes, inodes);
    static const enum volume_statement steps[] = {STATEMENT_BEGIN, STATEMENT_ORPHAN_GARBAGE,
                                                  STATEMENT_ORPHAN_DELETE};
    for (size_t i = 0; err == ERR_OK && i < ARRAY_LENGTH(steps); i++) {
        err = volume_run(volume, volume_statement(volume, steps[i]));
    }
    if (err == ERR_OK) {
        statement = volume_statement(volume, STATEMENT_VOLUME_PUT);
        volume_bind(statement, 1, volume->next_number);
        volume_bind(statement, 2, atomic_load(&volume->used_bytes));
        volume_bind(statement, 3, atomic_load(&volume->used_inodes));
        err = volume_run(volume, statement);
    }
    return err == ERR_OK ? volume_run(volume, volume_statement(volume, STATEMENT_COMMIT)) : err;
}

static enum err check(struct volume *volume, struct buf *message) {
    int64_t application = 0, version = 0, tables = 0;
    enum err err = query_number(volume, "PRAGMA application_id", &application);
    if (err == ERR_OK) {
        err = query_number(volume, "PRAGMA user_version", &version);
    }
    if (err == ERR_OK) {
        err = query_number(volume, "SELECT count(*) FROM sqlite_schema", &tables);
    }
    /* A process that ended before its first commit leaves an empty database. */
    if (err == ERR_OK && tables == 0 && application == 0 && version == 0) {
        return ERR_OK;
    }
    if (err == ERR_OK && application != VOLUME_APPLICATION_ID) {
        return buf_fail(message, ERR_IO, "%s is no volume", volume->path);
    }
    if (err == ERR_OK && version != VOLUME_USER_VERSION) {
        return buf_fail(message, ERR_IO,
                        "%s has format %lld, this program knows %d: it was made by another version",
                        volume->path, (long long)version, VOLUME_USER_VERSION);
    }
    if (err == ERR_OK) {
        err = check_tables(volume, message);
        if (err == ERR_IO) {
            return err;
        }
    }
    volume->has_tables = err == ERR_OK;
    if (err == ERR_OK) {
        err = read_volume(volume);
    }
    if (err == ERR_OK && !volume->read_only) {
        err = clear_orphans(volume);
    }
    if (err == ERR_OK && !volume->read_only) {
        err = volume_step(volume, volume_statement(volume, STATEMENT_GARBAGE_GET),
                          &volume->has_garbage);
        volume_reset(volume->statements[STATEMENT_GARBAGE_GET]);
    }
    if (err != ERR_OK) {
        return buf_fail(message, err == ERR_NOMEM || err == ERR_NOSPC ? err : ERR_IO,
                        "%s is damaged: restore it from a backup, or remove it to begin empty (%s)",
                        volume->path, err_text(err));
    }
    return ERR_OK;
}

static void close_connection(struct volume *volume) {
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(volume->statements[i]);
        volume->statements[i] = NULL;
    }
    (void)sqlite3_close(volume->database);
    volume->database = NULL;
    volume->has_tables = false;
    volume->has_alarm_table = false;
}

enum err volume_database_open(struct volume *volume, bool create, struct buf *message) {
    enum err err = open_connection(volume, create, message);
    if (err == ERR_OK) {
        err = check(volume, message);
    }
    if (err != ERR_OK) {
        close_connection(volume);
    }
    return err;
}

enum err volume_database_set_durable(struct volume *volume, bool durable) {
    if (volume->is_durable == durable) {
        return ERR_OK;
    }
    enum err err =
        execute(volume, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    volume->is_durable = err == ERR_OK ? durable : volume->is_durable;
    return err;
}

/* The log keeps its size, since appending to a file that has its blocks is faster; before closing
 * it is emptied. */
enum err volume_database_checkpoint(struct volume *volume, bool closing) {
    int mode = closing ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE;
    int result = sqlite3_wal_checkpoint_v2(volume->database, NULL, mode, NULL, NULL);
    enum err err = error_of(volume, result);
    if (err == ERR_OK) {
        volume->wal_frames = 0;
    }
    return err;
}

void volume_database_close(struct volume *volume) {
    if (!volume->database) {
        return;
    }
    if (!volume->read_only) {
        /* On its own, since closing hides a failed sync. */
        (void)volume_database_checkpoint(volume, true);
    }
    close_connection(volume);
}
