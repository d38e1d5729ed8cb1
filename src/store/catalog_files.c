/* The state directory: paths, the lock, and what is left over from crashes. */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "store/catalog_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

/* Files of a database, after its name. */
static const char *const database_suffixes[] = {"", "-wal", "-shm", "-journal"};

enum err catalog_path(const struct catalog *catalog, struct buf *ret_path, const char *format,
                      ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t before = ret_path->length;
    enum err err = buf_printf(ret_path, "%s/", catalog->directory);
    err = err ? err : buf_vprintf(ret_path, format, arguments);
    va_end(arguments);
    if (!err && ret_path->length - before >= CATALOG_PATH_MAX) {
        err = ERR_NAMETOOLONG;
    }
    if (err && ret_path->data) {
        ret_path->length = before;
        ret_path->data[before] = 0;
    }
    return err;
}

enum err catalog_module_path(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE],
                             struct buf *ret_path) {
    char text[SHA256_TEXT_SIZE];
    sha256_to_text(sha256, text);
    return catalog_path(catalog, ret_path, "modules/%s.wasm", text);
}

/* Engine keys are ours, but they name a directory. */
static bool is_engine_key(const char *key) {
    size_t length = strlen(key);
    return length >= 1 && length <= 200 && key[0] != '.' && !strchr(key, '/');
}

enum err catalog_compiled_path(struct catalog *catalog, const char *engine_key,
                               const uint8_t sha256[SHA256_SIZE], struct buf *ret_path) {
    if (!is_engine_key(engine_key)) {
        return ERR_INVAL;
    }
    cleanup_buf struct buf directory = {0};
    enum err err = catalog_path(catalog, &directory, "compiled/%s", engine_key);
    if (!err && access(buf_text(&directory), F_OK) != 0) {
        err = fsio_make_directories(buf_text(&directory));
    }
    char text[SHA256_TEXT_SIZE];
    sha256_to_text(sha256, text);
    return err ? err : catalog_path(catalog, ret_path, "compiled/%s/%s.cwasm", engine_key, text);
}

enum err catalog_temporary_path(struct catalog *catalog, struct buf *ret_path) {
    uint64_t random;
    random_bytes(&random, sizeof random);
    uint64_t count = atomic_fetch_add_explicit(&catalog->temporary_count, 1, memory_order_relaxed);
    return catalog_path(catalog, ret_path, "tmp/%llu-%016llx", (unsigned long long)count,
                        (unsigned long long)random);
}

/* A server that was killed may have been about to start a compiler: until that child has executed
 * its program, or found its parent gone, it holds the lock, too. So it is tried for a while. */
static bool lock_patiently(int descriptor) {
    enum { TRIES = 100, PAUSE_US = 10000 };
    for (int i = 0; flock(descriptor, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EWOULDBLOCK || i == TRIES) {
            return false;
        }
        usleep(PAUSE_US);
    }
    return true;
}

enum err catalog_files_lock(struct catalog *catalog, struct buf *message) {
    enum err err = fsio_make_directories(catalog->directory);
    if (err) {
        return buf_fail(message, err, "the state directory %s can't be made: %s",
                        catalog->directory, err_text(err));
    }
    cleanup_buf struct buf path = {0};
    err = catalog_path(catalog, &path, "lock");
    if (err) {
        return err;
    }
    int descriptor =
        fsio_system->openat(AT_FDCWD, buf_text(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        err = err_from_errno(errno);
        return buf_fail(message, err, "%s can't be opened: %s", buf_text(&path), err_text(err));
    }
    if (!lock_patiently(descriptor)) {
        err = errno == EWOULDBLOCK ? ERR_BUSY : err_from_errno(errno);
        fsio_system->close(descriptor);
        return err == ERR_BUSY
                   ? buf_fail(message, err,
                              "the state directory %s is in use by another server; stop that one, "
                              "or start this one with another directory (--state DIR)",
                              catalog->directory)
                   : buf_fail(message, err, "%s can't be locked: %s", buf_text(&path),
                              err_text(err));
    }
    catalog->lock_descriptor = descriptor;
    return ERR_OK;
}

enum err catalog_files_make(struct catalog *catalog, struct buf *message) {
    static const char *const folders[] = {"tmp", "modules", "compiled", "volumes", "logs"};
    for (size_t i = 0; i < ARRAY_LENGTH(folders); i++) {
        cleanup_buf struct buf path = {0};
        enum err err = catalog_path(catalog, &path, "%s", folders[i]);
        err = err ? err : fsio_make_directories(buf_text(&path));
        if (err) {
            return buf_fail(message, err, "%s can't be made: %s", buf_text(&path), err_text(err));
        }
    }
    return ERR_OK;
}

/* Calls `each` for every name in a folder until it fails; the folder may be missing. */
static enum err each_name(const struct catalog *catalog, const char *folder,
                          enum err (*each)(void *argument, const char *folder, const char *name),
                          void *argument) {
    cleanup_buf struct buf path = {0};
    enum err err = catalog_path(catalog, &path, "%s", folder);
    if (err) {
        return err;
    }
    DIR *stream = opendir(buf_text(&path));
    if (!stream) {
        return errno == ENOENT ? ERR_OK : err_from_errno(errno);
    }
    const char *name = NULL;
    err = fsio_next_name(stream, &name);
    while (!err && name) {
        err = each(argument, folder, name);
        err = err ? err : fsio_next_name(stream, &name);
    }
    closedir(stream);
    return err;
}

static enum err found_one(void *argument, const char *folder, const char *name) {
    (void)folder;
    bool *found = argument;
    *found = *found || name[0] != '.';
    return ERR_OK;
}

enum err catalog_files_any(struct catalog *catalog, bool *ret_any) {
    bool any = false;
    enum err err = each_name(catalog, "modules", found_one, &any);
    err = err ? err : each_name(catalog, "volumes", found_one, &any);
    if (!err) {
        *ret_any = any;
    }
    return err;
}

/* Clearing at start. */
struct clear {
    struct catalog *catalog;
    sqlite3_stmt *find_module, *find_volume, *find_app;
    int64_t last_volume, last_app; /* the highest ids that were ever given */
    int64_t newer;                 /* a file's id that is higher than it can be; 0 = none */
    bool checking;                 /* nothing is removed yet */
};

static enum err has_row(sqlite3_stmt *find, bool *ret_has) {
    int result = sqlite3_step(find);
    enum err err = catalog_db_err(sqlite3_db_handle(find), result);
    sqlite3_reset(find);
    if (!err) {
        *ret_has = result == SQLITE_ROW;
    }
    return err;
}

static enum err remove_name(const struct catalog *catalog, const char *folder, const char *name) {
    cleanup_buf struct buf path = {0};
    enum err err = catalog_path(catalog, &path, "%s/%s", folder, name);
    log_debug("removing the leftover %s", buf_text(&path));
    return err ? err : fsio_remove_file(buf_text(&path));
}

/* "HASH.SUFFIX" in modules and compiled: its hash. */
static bool parse_hash_name(const char *name, uint8_t hash[SHA256_SIZE]) {
    const char *dot = strchr(name, '.');
    return dot && !sha256_from_text((struct str){name, (size_t)(dot - name)}, hash);
}

static enum err clear_module(void *argument, const char *folder, const char *name) {
    struct clear *clear = argument;
    uint8_t hash[SHA256_SIZE];
    bool has = false;
    if (strncmp(name, ".tmp-", 5) != 0) {
        if (!parse_hash_name(name, hash)) {
            return ERR_OK; /* not ours */
        }
        sqlite3_bind_blob(clear->find_module, 1, hash, sizeof hash, SQLITE_STATIC);
        enum err err = has_row(clear->find_module, &has);
        if (err || has) {
            return err;
        }
    }
    return remove_name(clear->catalog, folder, name);
}

static enum err clear_engine(void *argument, const char *folder, const char *name) {
    struct clear *clear = argument;
    cleanup_buf struct buf path = {0};
    enum err err = buf_printf(&path, "%s/%s", folder, name);
    if (!err) {
        err = each_name(clear->catalog, buf_text(&path), clear_module, clear);
    }
    return err == ERR_NOTDIR ? ERR_OK : err;
}

/* "ID.db" and what SQLite puts beside it. */
static bool parse_volume_name(const char *name, int64_t *ret_id) {
    const char *dot = strstr(name, ".db");
    uint64_t id;
    if (!dot || str_to_u64((struct str){name, (size_t)(dot - name)}, &id) || id > INT64_MAX) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(database_suffixes); i++) {
        if (strcmp(dot + 3, database_suffixes[i]) == 0) {
            *ret_id = (int64_t)id;
            return true;
        }
    }
    return false;
}

static enum err clear_volume(void *argument, const char *folder, const char *name) {
    struct clear *clear = argument;
    int64_t id = 0;
    bool has = false;
    if (!parse_volume_name(name, &id)) {
        return ERR_OK;
    }
    if (clear->checking) {
        /* A change that did not come to its commit has used two ids at most. */
        if (id > clear->last_volume + 2) {
            clear->newer = id;
        }
        return ERR_OK;
    }
    sqlite3_bind_int64(clear->find_volume, 1, id);
    enum err err = has_row(clear->find_volume, &has);
    return err || has ? err : remove_name(clear->catalog, folder, name);
}

/* The log of an app that was removed. */
static enum err clear_log(void *argument, const char *folder, const char *name) {
    const struct clear *clear = argument;
    uint64_t id;
    bool has = false;
    if (str_to_u64(str_of(name), &id) || id > (uint64_t)clear->last_app) {
        return ERR_OK; /* not ours */
    }
    sqlite3_bind_int64(clear->find_app, 1, (int64_t)id);
    enum err err = has_row(clear->find_app, &has);
    cleanup_buf struct buf path = {0};
    err = err || has ? err : catalog_path(clear->catalog, &path, "%s/%s", folder, name);
    return err || has ? err : fsio_remove_tree(buf_text(&path));
}

/* What unfinished uploads left. */
static enum err clear_temporary(void *argument, const char *folder, const char *name) {
    const struct clear *clear = argument;
    cleanup_buf struct buf path = {0};
    enum err err = catalog_path(clear->catalog, &path, "%s/%s", folder, name);
    return err ? err : fsio_remove_tree(buf_text(&path));
}

enum err catalog_files_clear(struct catalog *catalog, struct buf *message) {
    struct clear clear = {.catalog = catalog, .checking = true};
    sqlite3 *db = catalog->db;
    enum err err = catalog_db_number(db, &clear.last_volume,
                                     "SELECT seq FROM sqlite_sequence WHERE name = 'volume'", "");
    err = err == ERR_NOENT ? ERR_OK : err;
    if (!err) {
        err = catalog_db_number(db, &clear.last_app,
                                "SELECT seq FROM sqlite_sequence WHERE name = 'app'", "");
        err = err == ERR_NOENT ? ERR_OK : err;
    }
    err = err ? err : each_name(catalog, "volumes", clear_volume, &clear);
    if (!err && clear.newer) {
        return buf_fail(
            message, ERR_IO,
            "%s/catalog.db knows volumes up to %lld only, but there is volumes/%lld.db: "
            "it is older than the files around it. Nothing was changed. Put back all "
            "of the state directory as it was at one time",
            catalog->directory, (long long)clear.last_volume, (long long)clear.newer);
    }
    clear.checking = false;
    err = err ? err
              : catalog_db_prepare(db, &clear.find_module,
                                   "SELECT 1 FROM version WHERE module = ? LIMIT 1", "");
    err = err ? err
              : catalog_db_prepare(db, &clear.find_volume, "SELECT 1 FROM volume WHERE id = ?", "");
    err = err ? err : each_name(catalog, "volumes", clear_volume, &clear);
    err = err ? err : each_name(catalog, "modules", clear_module, &clear);
    err = err ? err : each_name(catalog, "compiled", clear_engine, &clear);
    err = err ? err : each_name(catalog, "tmp", clear_temporary, &clear);
    err = err ? err : catalog_db_prepare(db, &clear.find_app, "SELECT 1 FROM app WHERE id = ?", "");
    err = err ? err : each_name(catalog, "logs", clear_log, &clear);
    sqlite3_finalize(clear.find_module);
    sqlite3_finalize(clear.find_volume);
    sqlite3_finalize(clear.find_app);
    return err ? buf_fail(message, err, "leftovers in %s can't be cleared away: %s",
                          catalog->directory, err_text(err))
               : ERR_OK;
}

enum err catalog_file_sync(const char *path) {
    int descriptor = fsio_system->openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (descriptor < 0) {
        return err_from_errno(errno);
    }
    enum err err = fsio_system->fsync(descriptor) < 0 ? err_from_errno(errno) : ERR_OK;
    fsio_system->close(descriptor);
    return err;
}

enum err catalog_file_move(const struct catalog *catalog, const char *path, const char *folder,
                           const char *name) {
    cleanup_buf struct buf directory = {0};
    cleanup_buf struct buf target = {0};
    enum err err = folder ? catalog_path(catalog, &directory, "%s", folder)
                          : buf_append_str(&directory, str_of(catalog->directory));
    err = err ? err : buf_printf(&target, "%s/%s", buf_text(&directory), name);
    if (err) {
        return err;
    }
    if (fsio_system->rename(path, buf_text(&target)) < 0) {
        return err_from_errno(errno);
    }
    err = fsio_sync_directory(buf_text(&directory));
    if (err == ERR_IO) {
        log_fatal("%s can't be synced: what is on disk is unknown", buf_text(&directory));
    }
    return err;
}

enum err catalog_volume_unlink(struct catalog *catalog, int64_t volume_id) {
    enum err result = ERR_OK;
    /* The log first: a database without its log is old, a log without its database is harmful. */
    for (size_t i = ARRAY_LENGTH(database_suffixes); i-- > 0;) {
        cleanup_buf struct buf path = {0};
        enum err err = catalog_path(catalog, &path, "volumes/%lld.db%s", (long long)volume_id,
                                    database_suffixes[i]);
        err = err ? err : fsio_remove_file(buf_text(&path));
        result = err && err != ERR_NOENT ? err : result;
    }
    return result;
}

static bool is_doomed_elsewhere(const struct catalog *catalog, const uint8_t *sha256,
                                const struct catalog_doomed *but) {
    LIST_FOR_EACH (node, &catalog->doomed) {
        const struct catalog_doomed *doomed = CONTAINER_OF(node, struct catalog_doomed, link);
        for (size_t i = 0; doomed != but && i < doomed->module_count; i++) {
            if (memcmp(doomed->modules[i], sha256, SHA256_SIZE) == 0) {
                return true;
            }
        }
    }
    return false;
}

void catalog_module_drop(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE],
                         const struct catalog_doomed *but) {
    sqlite3 *db = catalog->db;
    const void *blob = sha256;
    int64_t one;
    enum err err = catalog_db_number(db, &one, "SELECT 1 FROM version WHERE module = ? LIMIT 1",
                                     "b", blob, (size_t)SHA256_SIZE);
    if (err != ERR_NOENT || is_doomed_elsewhere(catalog, sha256, but)) {
        return; /* what is left over goes at the next start */
    }
    cleanup_statement sqlite3_stmt *row = NULL;
    err = catalog_db_prepare(db, &row, "SELECT engine_key FROM compiled WHERE module = ?", "b",
                             blob, (size_t)SHA256_SIZE);
    while (!err && sqlite3_step(row) == SQLITE_ROW) {
        cleanup_buf struct buf path = {0};
        const char *key = (const char *)sqlite3_column_text(row, 0);
        if (key && !catalog_compiled_path(catalog, key, sha256, &path)) {
            (void)!fsio_remove_file(buf_text(&path));
        }
    }
    cleanup_buf struct buf path = {0};
    if (!catalog_module_path(catalog, sha256, &path)) {
        (void)!fsio_remove_file(buf_text(&path));
    }
    err = err ? err
              : catalog_db_run(db, "DELETE FROM compiled WHERE module = ?", "b", blob,
                               (size_t)SHA256_SIZE);
    (void)err;
}
