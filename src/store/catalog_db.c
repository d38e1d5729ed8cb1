/* catalog.db. One connection, exclusive, write-ahead log, synchronous=FULL: a change is on disk
 * when its commit returns. */
#include "base/fsio.h"
#include "base/log.h"
#include "store/catalog_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { CHECKPOINT_PAGES = 1000 };

/* The first schema. What came later is in `upgrades`: a new catalog goes through all of them. */
static const char schema[] =
    "PRAGMA application_id = 811692899;" /* "0asc" */
    "PRAGMA user_version = 1;"
    "CREATE TABLE owner (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " seal BLOB) STRICT;"
    /* kind: app, layer or named; the latter have a name and a key that is unique. */
    "CREATE TABLE volume (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " owner INTEGER NOT NULL REFERENCES owner, kind TEXT NOT NULL, key TEXT UNIQUE, name TEXT,"
    " created_ns INTEGER NOT NULL, seal BLOB) STRICT;"
    /* key: the name with '_' in place of '-'; version: the number of the current one. */
    "CREATE TABLE app (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " owner INTEGER NOT NULL REFERENCES owner, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
    " volume INTEGER NOT NULL UNIQUE REFERENCES volume, version INTEGER NOT NULL,"
    " config TEXT NOT NULL, created_ns INTEGER NOT NULL, changed_ns INTEGER NOT NULL,"
    " generation INTEGER NOT NULL, seal BLOB) STRICT;"
    "CREATE TABLE version (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " app INTEGER NOT NULL REFERENCES app, owner INTEGER NOT NULL REFERENCES owner,"
    " number INTEGER NOT NULL, module BLOB NOT NULL, module_bytes INTEGER NOT NULL,"
    " is_library INTEGER NOT NULL, layer INTEGER REFERENCES volume, layer_files INTEGER NOT NULL,"
    " layer_bytes INTEGER NOT NULL, created_ns INTEGER NOT NULL, unknown_imports TEXT, seal BLOB,"
    " UNIQUE (app, number)) STRICT;"
    "CREATE INDEX version_module ON version (module);"
    "CREATE INDEX version_layer ON version (layer) WHERE layer IS NOT NULL;"
    /* A cache that all owners share: what a module compiles to does not depend on whose it is. */
    "CREATE TABLE compiled (engine_key TEXT NOT NULL, module BLOB NOT NULL,"
    " compiled BLOB NOT NULL, PRIMARY KEY (engine_key, module)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE counter (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " value INTEGER NOT NULL, seal BLOB) STRICT;"
    "INSERT INTO owner VALUES (1, 'local', NULL);"
    "INSERT INTO counter VALUES (1, 'run_id', 1, NULL);";

/* What leads from schema 1 to 2, from 2 to 3, and so on, all in one transaction. Rows are found as
 * they were sealed before; what changes one here would have to seal it again. */
static const char *const upgrades[] = {
    /* hosts: where it may be sent, one a line; value: encrypted (catalog_secret.c). */
    "CREATE TABLE secret (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " app INTEGER NOT NULL REFERENCES app, owner INTEGER NOT NULL REFERENCES owner,"
    " key TEXT NOT NULL, hosts TEXT NOT NULL, value BLOB NOT NULL, changed_ns INTEGER NOT NULL,"
    " seal BLOB, UNIQUE (app, key)) STRICT;"
    /* A layer that lies on another one; one that has no row here lies on nothing. */
    "CREATE TABLE layer (id INTEGER PRIMARY KEY REFERENCES volume,"
    " below INTEGER NOT NULL REFERENCES volume, seal BLOB) STRICT;"
    "CREATE INDEX layer_below ON layer (below);"
    /* Where a version came from, if it was not uploaded whole: the app and version whose program
     * it has, and the version of its own app that a rollback brought back. */
    "CREATE TABLE origin (id INTEGER PRIMARY KEY REFERENCES version, name TEXT, number INTEGER,"
    " rollback INTEGER, seal BLOB) STRICT;",
    /* When a shared volume goes that was made with ttl=: at `ends_ns` (realtime) or later. */
    "CREATE TABLE session (id INTEGER PRIMARY KEY REFERENCES volume, ttl_ns INTEGER NOT NULL,"
    " ends_ns INTEGER NOT NULL, seal BLOB) STRICT;",
    /* Apps that may have alarms, which are in their volumes. */
    "CREATE TABLE alarm (id INTEGER PRIMARY KEY REFERENCES app, seal BLOB) STRICT;",
};
enum { SCHEMA_VERSION = 1 + ARRAY_LENGTH(upgrades) };

/* Tables whose rows are sealed, and the schema that they came with. */
static const struct {
    const char *name;
    int64_t since;
} sealed_tables[] = {
    {"owner", 1},  {"volume", 1}, {"app", 1},    {"version", 1}, {"counter", 1},
    {"secret", 2}, {"layer", 2},  {"origin", 2}, {"session", 3}, {"alarm", 4},
};

enum err catalog_db_err(sqlite3 *db, int result) {
    int extended = db ? sqlite3_extended_errcode(db) : result;
    switch (result & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return ERR_OK;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_FULL:
        return ERR_NOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_CONSTRAINT:
        return ERR_EXIST;
    case SQLITE_TOOBIG:
        return ERR_FBIG;
    case SQLITE_IOERR:
        if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC) {
            log_fatal("catalog.db can't be synced (%s): what is on disk is unknown",
                      sqlite3_errmsg(db));
        }
        return extended == SQLITE_IOERR_NOMEM ? ERR_NOMEM : ERR_IO;
    default:
        return ERR_IO;
    }
}

void catalog_statement_done(sqlite3_stmt **statement) {
    sqlite3_finalize(*statement);
}

static enum err prepare(sqlite3 *db, sqlite3_stmt **ret_statement, const char *sql,
                        const char *types, va_list arguments) {
    sqlite3_stmt *statement;
    int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    for (int i = 1; result == SQLITE_OK && types[i - 1]; i++) {
        if (types[i - 1] == 'i') {
            result = sqlite3_bind_int64(statement, i, va_arg(arguments, int64_t));
        } else if (types[i - 1] == 't') {
            struct str text = va_arg(arguments, struct str);
            result = sqlite3_bind_text64(statement, i, text.length ? text.data : "", text.length,
                                         SQLITE_STATIC, SQLITE_UTF8);
        } else if (types[i - 1] == 'b') {
            const void *data = va_arg(arguments, const void *);
            size_t length = va_arg(arguments, size_t);
            result = sqlite3_bind_blob64(statement, i, data, length, SQLITE_STATIC);
        } else {
            INVARIANT(types[i - 1] == 'n');
            result = sqlite3_bind_null(statement, i);
        }
    }
    if (result != SQLITE_OK) {
        enum err err = catalog_db_err(db, result);
        sqlite3_finalize(statement);
        return err;
    }
    *ret_statement = statement;
    return ERR_OK;
}

enum err catalog_db_prepare(sqlite3 *db, sqlite3_stmt **ret_statement, const char *sql,
                            const char *types, ...) {
    va_list arguments;
    va_start(arguments, types);
    enum err err = prepare(db, ret_statement, sql, types, arguments);
    va_end(arguments);
    return err;
}

enum err catalog_db_run(sqlite3 *db, const char *sql, const char *types, ...) {
    cleanup_statement sqlite3_stmt *statement = NULL;
    va_list arguments;
    va_start(arguments, types);
    enum err err = prepare(db, &statement, sql, types, arguments);
    va_end(arguments);
    return err ? err : catalog_db_err(db, sqlite3_step(statement));
}

enum err catalog_db_number(sqlite3 *db, int64_t *ret_number, const char *sql, const char *types,
                           ...) {
    cleanup_statement sqlite3_stmt *statement = NULL;
    va_list arguments;
    va_start(arguments, types);
    enum err err = prepare(db, &statement, sql, types, arguments);
    va_end(arguments);
    if (err) {
        return err;
    }
    int result = sqlite3_step(statement);
    if (result != SQLITE_ROW) {
        return result == SQLITE_DONE ? ERR_NOENT : catalog_db_err(db, result);
    }
    *ret_number = sqlite3_column_int64(statement, 0);
    return ERR_OK;
}

/* The hash of some columns of a row and of the table's name, each with its type and length. */
static enum err hash_columns(sqlite3_stmt *row, const char *table, int first, int count,
                             uint8_t ret_hash[SHA256_SIZE]) {
    cleanup_buf struct buf bytes = {0};
    enum err err = buf_append(&bytes, table, strlen(table) + 1);
    for (int i = first; i < first + count && !err; i++) {
        int type = sqlite3_column_type(row, i);
        int64_t number = type == SQLITE_INTEGER ? sqlite3_column_int64(row, i) : 0;
        bool is_number = type == SQLITE_INTEGER || type == SQLITE_NULL;
        const void *data = is_number ? &number : sqlite3_column_blob(row, i);
        uint64_t length = is_number ? sizeof number : (uint64_t)sqlite3_column_bytes(row, i);
        err = buf_append_byte(&bytes, (uint8_t)type);
        if (!err) {
            err = buf_append(&bytes, &length, sizeof length);
        }
        if (!err && length > 0) {
            err = data ? buf_append(&bytes, data, (size_t)length) : ERR_NOMEM;
        }
    }
    return err ? err : sha256_of(bytes.data, bytes.length, ret_hash);
}

enum err catalog_db_check_seal(sqlite3_stmt *row, const char *table, int first, int columns) {
    uint8_t hash[SHA256_SIZE];
    enum err err = hash_columns(row, table, first, columns - 1, hash);
    if (err) {
        return err;
    }
    int seal = first + columns - 1;
    const void *sealed = sqlite3_column_blob(row, seal);
    return sealed && sqlite3_column_bytes(row, seal) == SHA256_SIZE &&
                   memcmp(sealed, hash, SHA256_SIZE) == 0
               ? ERR_OK
               : ERR_IO;
}

enum err catalog_db_seal(sqlite3 *db, const char *table, int64_t id) {
    char sql[96];
    snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE id = ?", table);
    uint8_t hash[SHA256_SIZE];
    sqlite3_stmt *row;
    enum err err = catalog_db_prepare(db, &row, sql, "i", id);
    if (err) {
        return err;
    }
    int result = sqlite3_step(row);
    err = result == SQLITE_ROW ? hash_columns(row, table, 0, sqlite3_column_count(row) - 1, hash)
                               : catalog_db_err(db, result == SQLITE_DONE ? SQLITE_ERROR : result);
    sqlite3_finalize(row);
    if (err) {
        return err;
    }
    snprintf(sql, sizeof sql, "UPDATE %s SET seal = ? WHERE id = ?", table);
    return catalog_db_run(db, sql, "bi", (const void *)hash, sizeof hash, id);
}

enum err catalog_db_begin(sqlite3 *db) {
    return catalog_db_run(db, "BEGIN IMMEDIATE", "");
}

enum err catalog_db_commit(sqlite3 *db) {
    return catalog_db_run(db, "COMMIT", "");
}

void catalog_db_rollback(sqlite3 *db) {
    if (!sqlite3_get_autocommit(db)) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
}

/* Checkpoints as SQLite would by itself, but does not overlook a failed sync. Any other failure is
 * harmless: the log grows, and the next commit tries again. */
static int on_commit(void *argument, sqlite3 *db, const char *name, int pages) {
    (void)argument;
    if (pages >= CHECKPOINT_PAGES) {
        int result = sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        (void)catalog_db_err(db, result);
    }
    return SQLITE_OK;
}

static enum err exec(sqlite3 *db, const char *sql) {
    return catalog_db_err(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static enum err check_table(sqlite3 *db, const char *table) {
    char sql[64];
    snprintf(sql, sizeof sql, "SELECT * FROM %s", table);
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = catalog_db_prepare(db, &row, sql, "");
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW) {
        err = catalog_db_check_seal(row, table, 0, sqlite3_column_count(row));
    }
    return err ? err : catalog_db_err(db, result);
}

/* Within a transaction: from the schema `version` to the present one. */
static enum err upgrade(sqlite3 *db, int64_t version) {
    char number[64];
    snprintf(number, sizeof number, "PRAGMA user_version = %d", SCHEMA_VERSION);
    enum err err = ERR_OK;
    for (; !err && version < SCHEMA_VERSION; version++) {
        err = exec(db, upgrades[version - 1]);
    }
    return err ? err : exec(db, number);
}

/* Makes an empty catalog beside its place and moves it there whole. */
static enum err create(struct catalog *catalog, struct buf *message) {
    cleanup_buf struct buf path = {0};
    enum err err = catalog_temporary_path(catalog, &path);
    if (err) {
        return err;
    }
    sqlite3 *db = NULL;
    int result = sqlite3_open_v2(buf_text(&path), &db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                     SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOMUTEX,
                                 NULL);
    err = catalog_db_err(db, result);
    /* Without sync and journal: it is thrown away if anything fails, and synced whole at the end.
     */
    err = err ? err : exec(db, "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; BEGIN;");
    err = err ? err : exec(db, schema);
    err = err ? err : catalog_db_seal(db, "owner", 1);
    err = err ? err : catalog_db_seal(db, "counter", 1);
    err = err ? err : upgrade(db, 1);
    err = err ? err : exec(db, "COMMIT");
    result = sqlite3_close(db);
    err = err ? err : catalog_db_err(NULL, result);
    err = err ? err : catalog_file_sync(buf_text(&path));
    err = err ? err : catalog_file_move(catalog, buf_text(&path), NULL, "catalog.db");
    if (err) {
        unlink(buf_text(&path));
        return buf_fail(message, err, "%s/catalog.db can't be made: %s", catalog->directory,
                        err_text(err));
    }
    return ERR_OK;
}

static enum err fail_damaged(const struct catalog *catalog, enum err err, const char *what,
                             struct buf *message) {
    if (err != ERR_IO && err != ERR_NOENT && err != ERR_INVAL && err != ERR_RANGE) {
        return buf_fail(message, err, "%s/catalog.db can't be read: %s", catalog->directory,
                        err_text(err));
    }
    return buf_fail(message, ERR_IO,
                    "%s/catalog.db is damaged (%s). Nothing was changed. Put back a copy of the "
                    "state directory, or start with another one (--state DIR)",
                    catalog->directory, what);
}

/* What an older program made is brought to the present schema, in a transaction that
 * catalog_db_opened ends: who refuses to go on before that has changed nothing. */
static enum err begin_upgrade(struct catalog *catalog, int64_t version, struct buf *message) {
    enum err err = catalog_db_begin(catalog->db);
    for (size_t i = 0; !err && i < ARRAY_LENGTH(sealed_tables); i++) {
        if (sealed_tables[i].since <= version) {
            err = check_table(catalog->db, sealed_tables[i].name);
        }
        if (err) {
            char what[64];
            snprintf(what, sizeof what, "a row of its table %s", sealed_tables[i].name);
            return fail_damaged(catalog, err, what, message);
        }
    }
    err = err ? err : upgrade(catalog->db, version);
    return err ? fail_damaged(catalog, err, "its schema can't be made the present one", message)
               : ERR_OK;
}

enum err catalog_db_opened(struct catalog *catalog) {
    bool has_upgraded = !sqlite3_get_autocommit(catalog->db);
    return has_upgraded ? catalog_db_commit(catalog->db) : ERR_OK;
}

/* By its first bytes, before SQLite may write anything. */
static enum err check_header(struct catalog *catalog, const char *path, bool *ret_exists,
                             struct buf *message) {
    uint8_t head[16];
    int descriptor = fsio_system->openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (descriptor < 0) {
        enum err err = err_from_errno(errno);
        *ret_exists = false;
        return err == ERR_NOENT
                   ? ERR_OK
                   : buf_fail(message, err, "%s can't be opened: %s", path, err_text(err));
    }
    ssize_t got = fsio_system->read(descriptor, head, sizeof head);
    enum err err = got < 0 ? err_from_errno(errno) : ERR_OK;
    fsio_system->close(descriptor);
    if (err) {
        return buf_fail(message, err, "%s can't be read: %s", path, err_text(err));
    }
    if (got != sizeof head || memcmp(head, "SQLite format 3", 16) != 0) {
        return fail_damaged(catalog, ERR_IO, "it is not a database", message);
    }
    *ret_exists = true;
    return ERR_OK;
}

/* Everything that can be known to be wrong, without writing. */
static enum err check(struct catalog *catalog, int64_t *ret_version, struct buf *message) {
    int64_t application = 0, version = 0, owners = 0;
    enum err err = catalog_db_number(catalog->db, &application, "PRAGMA application_id", "");
    if (!err) {
        err = catalog_db_number(catalog->db, &version, "PRAGMA user_version", "");
    }
    if (err || application != 811692899) {
        return fail_damaged(catalog, err ? err : ERR_IO, "it is not a catalog", message);
    }
    if (version < 1 || version > SCHEMA_VERSION) {
        return buf_fail(message, ERR_IO,
                        "%s/catalog.db has schema %lld, this program knows schemas up to %d: start "
                        "the program that made it",
                        catalog->directory, (long long)version, SCHEMA_VERSION);
    }
    cleanup_statement sqlite3_stmt *row = NULL;
    err = catalog_db_prepare(catalog->db, &row, "PRAGMA integrity_check(1)", "");
    if (!err) {
        int result = sqlite3_step(row);
        err = result == SQLITE_ROW ? ERR_OK : catalog_db_err(catalog->db, result);
        const char *text = err ? NULL : (const char *)sqlite3_column_text(row, 0);
        if (err || !text || strcmp(text, "ok") != 0) {
            return fail_damaged(catalog, err ? err : ERR_IO, "its structure", message);
        }
    }
    if (!err) {
        err =
            catalog_db_number(catalog->db, &owners, "SELECT count(*) FROM owner WHERE id = 1", "");
    }
    if (err || owners != 1) {
        return fail_damaged(catalog, err ? err : ERR_IO, "it has no owners", message);
    }
    *ret_version = version;
    return ERR_OK;
}

enum err catalog_db_open(struct catalog *catalog, struct buf *message) {
    cleanup_buf struct buf path = {0};
    bool exists = false, any = false;
    enum err err = catalog_path(catalog, &path, "catalog.db");
    if (!err) {
        err = check_header(catalog, buf_text(&path), &exists, message);
    }
    if (!err && !exists) {
        err = catalog_files_any(catalog, &any);
        if (!err && any) {
            return buf_fail(message, ERR_IO,
                            "%s/catalog.db is missing, but there are modules or volumes. Nothing "
                            "was changed. Put it back, or start with another directory (--state "
                            "DIR)",
                            catalog->directory);
        }
        err = err ? err : create(catalog, message);
    }
    if (err) {
        return err;
    }
    int result =
        sqlite3_open_v2(buf_text(&path), &catalog->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOMUTEX, NULL);
    err = catalog_db_err(catalog->db, result);
    if (!err) {
        sqlite3 *db = catalog->db;
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
        /* Closing must not write to a database that turns out to be damaged. */
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_wal_hook(db, on_commit, NULL);
        err = exec(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cell_size_check = ON;"
                       "PRAGMA synchronous = FULL");
    }
    int64_t version = 0;
    if (!err) {
        err = check(catalog, &version, message);
        if (err) {
            return err;
        }
    }
    /* Last, because this is the first that may write. */
    cleanup_statement sqlite3_stmt *mode = NULL;
    err = err ? err : catalog_db_prepare(catalog->db, &mode, "PRAGMA journal_mode = WAL", "");
    if (!err) {
        result = sqlite3_step(mode);
        err = result == SQLITE_ROW ? ERR_OK : catalog_db_err(catalog->db, result);
        const char *text = err ? NULL : (const char *)sqlite3_column_text(mode, 0);
        err = err || (text && strcmp(text, "wal") == 0) ? err : ERR_IO;
    }
    catalog_statement_done(&mode);
    mode = NULL;
    if (err) {
        return fail_damaged(catalog, err, "it can't be opened", message);
    }
    return version < SCHEMA_VERSION ? begin_upgrade(catalog, version, message) : ERR_OK;
}

void catalog_db_close(struct catalog *catalog) {
    if (catalog->db) {
        int result = sqlite3_close(catalog->db);
        INVARIANT(result != SQLITE_BUSY);
        catalog->db = NULL;
    }
}
