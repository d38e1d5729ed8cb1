/* From rows to snapshots. */
#include "store/catalog_internal.h"

#include <stdio.h>

#define SELECT_APPS                                                                                \
    "SELECT app.*, version.* FROM app"                                                             \
    " LEFT JOIN version ON version.app = app.id AND version.number = app.version"

/* Columns of version, in the schema's order. */
enum {
    V_ID,
    V_APP,
    V_OWNER,
    V_NUMBER,
    V_MODULE,
    V_MODULE_BYTES,
    V_IS_LIBRARY,
    V_LAYER,
    V_LAYER_FILES,
    V_LAYER_BYTES,
    V_CREATED,
    V_UNKNOWN_IMPORTS,
    V_SEAL,
};
_Static_assert(V_SEAL + 1 == VERSION_COLUMNS, "columns of version");
enum {
    A_ID,
    A_OWNER,
    A_KEY,
    A_NAME,
    A_VOLUME,
    A_VERSION,
    A_CONFIG,
    A_CREATED,
    A_CHANGED,
    A_GENERATION,
    A_SEAL,
};
_Static_assert(A_SEAL + 1 == APP_COLUMNS, "columns of app");
enum { L_ID, L_BELOW, L_SEAL, LAYER_COLUMNS };
enum { O_ID, O_NAME, O_NUMBER, O_ROLLBACK, O_SEAL, ORIGIN_COLUMNS };

static uint64_t column_u64(sqlite3_stmt *row, int column) {
    return (uint64_t)sqlite3_column_int64(row, column);
}

enum err catalog_db_below(sqlite3 *db, int64_t layer_id,
                          int64_t ret_below_ids[VERSION_LAYERS_MAX]) {
    cleanup_statement sqlite3_stmt *row = NULL;
    int64_t ids[VERSION_LAYERS_MAX] = {0};
    enum err err =
        layer_id ? catalog_db_prepare(db, &row, "SELECT * FROM layer WHERE id = ?", "") : ERR_OK;
    for (size_t count = 0; !err && layer_id; count++) {
        sqlite3_bind_int64(row, 1, layer_id);
        int result = sqlite3_step(row);
        if (result != SQLITE_ROW) {
            err = catalog_db_err(db, result);
            break;
        }
        err = catalog_db_check_seal(row, "layer", 0, LAYER_COLUMNS);
        layer_id = sqlite3_column_int64(row, L_BELOW);
        if (count == VERSION_LAYERS_MAX - 1) { /* the last one is the 0 */
            return ERR_IO;
        }
        ids[count] = layer_id;
        sqlite3_reset(row);
    }
    if (!err) {
        memcpy(ret_below_ids, ids, sizeof ids);
    }
    return err;
}

static enum err load_origin(sqlite3 *db, int64_t version_id, struct app_version *version) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err =
        catalog_db_prepare(db, &row, "SELECT * FROM origin WHERE id = ?", "i", version_id);
    int result = err ? SQLITE_ERROR : sqlite3_step(row);
    if (err || result == SQLITE_DONE) {
        return err;
    }
    err = catalog_db_err(db, result);
    err = err ? err : catalog_db_check_seal(row, "origin", 0, ORIGIN_COLUMNS);
    const char *name = err ? NULL : (const char *)sqlite3_column_text(row, O_NAME);
    int64_t number = sqlite3_column_int64(row, O_NUMBER);
    int64_t rollback = sqlite3_column_int64(row, O_ROLLBACK);
    if (err || number < 0 || number > UINT32_MAX || rollback < 0 || rollback > UINT32_MAX ||
        (name && app_name_check(str_of(name), NULL))) {
        return err ? err : ERR_IO;
    }
    snprintf(version->from_name, sizeof version->from_name, "%s", name ? name : "");
    version->from_number = (uint32_t)number;
    version->rollback_number = (uint32_t)rollback;
    return ERR_OK;
}

enum err catalog_db_version(sqlite3_stmt *row, int first, struct app_version *ret_version) {
    enum err err = catalog_db_check_seal(row, "version", first, VERSION_COLUMNS);
    if (err) {
        return err;
    }
    int64_t number = sqlite3_column_int64(row, first + V_NUMBER);
    const void *module = sqlite3_column_blob(row, first + V_MODULE);
    if (number < 1 || number > UINT32_MAX || !module ||
        sqlite3_column_bytes(row, first + V_MODULE) != SHA256_SIZE) {
        return ERR_IO;
    }
    struct app_version version = {
        .number = (uint32_t)number,
        .module_bytes = column_u64(row, first + V_MODULE_BYTES),
        .is_library = sqlite3_column_int(row, first + V_IS_LIBRARY) != 0,
        .layer_id = sqlite3_column_int64(row, first + V_LAYER),
        .layer_files = column_u64(row, first + V_LAYER_FILES),
        .layer_bytes = column_u64(row, first + V_LAYER_BYTES),
        .created_ns = column_u64(row, first + V_CREATED),
    };
    memcpy(version.module_sha256, module, SHA256_SIZE);
    sqlite3 *db = sqlite3_db_handle(row);
    err = catalog_db_below(db, version.layer_id, version.below_ids);
    err = err ? err : load_origin(db, sqlite3_column_int64(row, first + V_ID), &version);
    if (err) {
        return err;
    }
    if (sqlite3_column_type(row, first + V_UNKNOWN_IMPORTS) == SQLITE_TEXT) {
        const char *text = (const char *)sqlite3_column_text(row, first + V_UNKNOWN_IMPORTS);
        version.unknown_imports = text ? strdup(text) : NULL;
        if (!version.unknown_imports) {
            return ERR_NOMEM;
        }
    }
    *ret_version = version;
    return ERR_OK;
}

/* Arguments, environment and mounts, from a configuration that was checked. */
static enum err unpack_config(struct app *app) {
    const json_t *arguments = json_object_get(app->config, "args");
    json_t *environment = json_object_get(app->config, "env");
    const json_t *mounts = json_object_get(app->config, "mounts");
    app->root = json_string_value(json_object_get(app->config, "root"));
    size_t argument_count = json_array_size(arguments);
    size_t mount_count = json_array_size(mounts);
    app->arguments = calloc(argument_count + 1, sizeof *app->arguments);
    app->environment = calloc(json_object_size(environment) + 1, sizeof *app->environment);
    app->mounts = calloc(mount_count + 1, sizeof *app->mounts);
    if (!app->arguments || !app->environment || !app->mounts) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < argument_count; i++) {
        app->arguments[i] = strdup(json_string_value(json_array_get(arguments, i)));
        if (!app->arguments[i]) {
            return ERR_NOMEM;
        }
    }
    const char *name;
    json_t *value;
    size_t count = 0;
    json_object_foreach(environment, name, value) {
        if (asprintf(&app->environment[count], "%s=%s", name, json_string_value(value)) < 0) {
            app->environment[count] = NULL;
            return ERR_NOMEM;
        }
        count++;
    }
    for (size_t i = 0; i < mount_count; i++) {
        struct app_mount_parts parts;
        const char *text = json_string_value(json_array_get(mounts, i));
        enum err err = app_mount_parse(str_of(text), &parts, NULL);
        if (err) {
            return err;
        }
        struct app_mount *mount = &app->mounts[i];
        app->mount_count = i + 1;
        mount->volume = strndup(parts.volume.data, parts.volume.length);
        mount->path = strndup(parts.path.data, parts.path.length);
        mount->read_only = parts.read_only;
        if (!mount->volume || !mount->path) {
            return ERR_NOMEM;
        }
    }
    return ERR_OK;
}

static enum err fill_app(sqlite3_stmt *row, struct app *app) {
    enum err err = catalog_db_check_seal(row, "app", 0, APP_COLUMNS);
    if (err) {
        return err;
    }
    app->id = sqlite3_column_int64(row, A_ID);
    app->owner_id = sqlite3_column_int64(row, A_OWNER);
    app->volume_id = sqlite3_column_int64(row, A_VOLUME);
    app->created_ns = column_u64(row, A_CREATED);
    app->changed_ns = column_u64(row, A_CHANGED);
    app->generation = column_u64(row, A_GENERATION);
    const char *name = (const char *)sqlite3_column_text(row, A_NAME);
    const char *key = (const char *)sqlite3_column_text(row, A_KEY);
    const char *config = (const char *)sqlite3_column_text(row, A_CONFIG);
    if (!name || !key || !config) {
        return ERR_NOMEM;
    }
    if (catalog_key(str_of(name), app->key) || strcmp(key, app->key) != 0) {
        return ERR_IO;
    }
    snprintf(app->name, sizeof app->name, "%s", name);
    app->config = json_loads(config, JSON_REJECT_DUPLICATES, NULL);
    if (!app->config || app_config_check(app->config, &app->limits, NULL)) {
        return ERR_IO;
    }
    err = unpack_config(app);
    return err ? err : catalog_db_version(row, APP_COLUMNS, &app->version);
}

static enum err make_app(sqlite3_stmt *row, struct app *old, struct app **ret_app) {
    struct app *app = calloc(1, sizeof *app);
    struct app_life *life = old ? old->life : calloc(1, sizeof *life);
    if (!app || !life) {
        free(app);
        if (!old) {
            free(life);
        }
        return ERR_NOMEM;
    }
    atomic_init(&app->references, 1);
    if (old) {
        atomic_fetch_add_explicit(&life->references, 1, memory_order_relaxed);
    } else {
        atomic_init(&life->references, 1);
    }
    app->life = life;
    enum err err = fill_app(row, app);
    if (err) {
        app_unref(app);
        return err;
    }
    *ret_app = app;
    return ERR_OK;
}

static enum err fail(const struct catalog *catalog, enum err err, sqlite3_stmt *row,
                     struct buf *message) {
    if (err != ERR_IO) {
        return buf_fail(message, err, "%s/catalog.db can't be read: %s", catalog->directory,
                        err_text(err));
    }
    return buf_fail(message, err,
                    "%s/catalog.db is damaged (the row of app %lld). Nothing was changed. Put back "
                    "a copy of the state directory, or start with another one (--state DIR)",
                    catalog->directory, row ? (long long)sqlite3_column_int64(row, A_ID) : 0ll);
}

enum err catalog_db_each_app(struct catalog *catalog,
                             enum err (*each)(struct catalog *catalog, struct app *app),
                             struct buf *message) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err =
        catalog_db_prepare(catalog->db, &row, SELECT_APPS " ORDER BY app.key COLLATE BINARY", "");
    if (err) {
        return fail(catalog, err, NULL, message);
    }
    int result;
    while ((result = sqlite3_step(row)) == SQLITE_ROW) {
        struct app *app;
        err = make_app(row, NULL, &app);
        err = err ? err : each(catalog, app);
        if (err) {
            return fail(catalog, err, row, message);
        }
    }
    err = catalog_db_err(catalog->db, result);
    return err ? fail(catalog, err, NULL, message) : ERR_OK;
}

enum err catalog_db_app(struct catalog *catalog, int64_t app_id, struct app *old,
                        struct app **ret_app, struct buf *message) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err =
        catalog_db_prepare(catalog->db, &row, SELECT_APPS " WHERE app.id = ?", "i", app_id);
    if (err) {
        return err;
    }
    int result = sqlite3_step(row);
    if (result != SQLITE_ROW) {
        return result == SQLITE_DONE ? ERR_NOENT : catalog_db_err(catalog->db, result);
    }
    err = make_app(row, old, ret_app);
    return err ? fail(catalog, err, row, message) : ERR_OK;
}
