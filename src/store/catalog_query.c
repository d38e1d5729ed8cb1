/* What is asked of catalog.db itself: versions, and hashes of compiled code. */
#include "store/catalog_internal.h"

void app_versions_free(struct app_version *versions, size_t count) {
    for (size_t i = 0; i < count && versions; i++) {
        free(versions[i].unknown_imports);
    }
    free(versions);
}

struct versions_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    int64_t app_id;
    int64_t number; /* 0 = all */
    enum err result;
    struct app_version *versions;
    size_t count;
};

static enum err load_versions(struct versions_work *work) {
    sqlite3 *db = work->catalog->db;
    cleanup_statement sqlite3_stmt *row = NULL;
    int64_t count = 0;
    enum err err = catalog_db_number(
        db, &count, "SELECT count(*) FROM version WHERE app = ? AND (? = 0 OR number = ?)", "iii",
        work->app_id, work->number, work->number);
    err = err ? err
              : catalog_db_prepare(db, &row,
                                   "SELECT * FROM version WHERE app = ? AND (? = 0 OR number = ?)"
                                   " ORDER BY number DESC",
                                   "iii", work->app_id, work->number, work->number);
    if (err) {
        return err;
    }
    work->versions = calloc((size_t)count + 1, sizeof *work->versions);
    if (!work->versions) {
        return ERR_NOMEM;
    }
    int result;
    while ((result = sqlite3_step(row)) == SQLITE_ROW && work->count < (size_t)count) {
        err = catalog_db_version(row, 0, &work->versions[work->count]);
        if (err) {
            return err;
        }
        work->count++;
    }
    err = catalog_db_err(db, result);
    return err || work->count > 0 ? err : ERR_NOENT;
}

static void run_versions(struct op_work *base) {
    struct versions_work *work = (struct versions_work *)base;
    catalog_lock(&work->catalog->db_mutex);
    work->result = load_versions(work);
    catalog_unlock(&work->catalog->db_mutex);
    catalog_work_end(work->catalog);
}

static void release_versions(struct op_work *base) {
    struct versions_work *work = (struct versions_work *)base;
    app_versions_free(work->versions, work->count);
    free(work);
}

static enum err poll_versions(struct op *op, struct catalog *catalog, int64_t app_id,
                              int64_t number, struct app_version **ret_versions,
                              size_t *ret_count) {
    struct versions_work *work = op->state;
    if (!work) {
        work = calloc(1, sizeof *work);
        if (!work) {
            return ERR_NOMEM;
        }
        work->base.run = run_versions;
        work->base.release = release_versions;
        work->catalog = catalog;
        work->app_id = app_id;
        work->number = number;
        catalog_work_begin(catalog);
        enum err err = op_work_start(op, &work->base);
        if (err != ERR_PENDING) {
            catalog_work_end(catalog);
        }
        return err;
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    enum err err = work->result;
    if (!err) {
        if (ret_count) {
            *ret_count = work->count;
        }
        *ret_versions = STEAL(work->versions);
        work->count = 0;
    }
    return op_finish(op, err);
}

enum err catalog_versions(struct op *op, struct catalog *catalog, const struct app *app,
                          struct app_version **ret_versions, size_t *ret_count) {
    return poll_versions(op, catalog, app->id, 0, ret_versions, ret_count);
}

enum err catalog_version(struct op *op, struct catalog *catalog, const struct app *app,
                         uint32_t number, struct app_version **ret_version) {
    if (number == 0) {
        return ERR_NOENT;
    }
    if (number != app->version.number) {
        return poll_versions(op, catalog, app->id, number, ret_version, NULL);
    }
    struct app_version *version = malloc(sizeof *version);
    const char *imports = app->version.unknown_imports;
    char *copy = imports ? strdup(imports) : NULL;
    if (!version || (imports && !copy)) {
        free(version);
        free(copy);
        return ERR_NOMEM;
    }
    *version = app->version;
    version->unknown_imports = copy;
    *ret_version = version;
    return ERR_OK;
}

enum err catalog_compiled_hash(struct catalog *catalog, const char *engine_key,
                               const uint8_t module_sha256[SHA256_SIZE],
                               uint8_t ret_sha256[SHA256_SIZE]) {
    catalog_lock(&catalog->db_mutex);
    sqlite3_stmt *row = NULL;
    enum err err = catalog_db_prepare(
        catalog->db, &row, "SELECT compiled FROM compiled WHERE engine_key = ? AND module = ?",
        "tb", str_of(engine_key), (const void *)module_sha256, (size_t)SHA256_SIZE);
    if (!err) {
        int result = sqlite3_step(row);
        err = result == SQLITE_DONE ? ERR_NOENT : catalog_db_err(catalog->db, result);
    }
    const void *hash = err ? NULL : sqlite3_column_blob(row, 0);
    if (hash && sqlite3_column_bytes(row, 0) == SHA256_SIZE) {
        memcpy(ret_sha256, hash, SHA256_SIZE);
    } else if (!err) {
        err = ERR_NOENT; /* compiled again then */
    }
    sqlite3_finalize(row);
    catalog_unlock(&catalog->db_mutex);
    return err;
}

enum err catalog_set_compiled_hash(struct catalog *catalog, const char *engine_key,
                                   const uint8_t module_sha256[SHA256_SIZE],
                                   const uint8_t compiled_sha256[SHA256_SIZE]) {
    catalog_lock(&catalog->db_mutex);
    enum err err =
        catalog_db_run(catalog->db, "INSERT OR REPLACE INTO compiled VALUES (?, ?, ?)", "tbb",
                       str_of(engine_key), (const void *)module_sha256, (size_t)SHA256_SIZE,
                       (const void *)compiled_sha256, (size_t)SHA256_SIZE);
    catalog_unlock(&catalog->db_mutex);
    return err;
}
