/* What was removed and may still be in use: modules, layers and volumes that go when nobody has
 * them any more. All with db_mutex held. */
#include "store/catalog_internal.h"

void catalog_doomed_free(struct catalog_doomed *doomed) {
    if (doomed) {
        if (doomed->life) {
            app_life_unref(doomed->life);
        }
        free(doomed->modules);
        free(doomed->volumes);
        free(doomed);
    }
}

/* All layers of one version. */
static enum err add_layers(sqlite3 *db, int64_t layer, struct catalog_doomed *doomed) {
    int64_t below[VERSION_LAYERS_MAX] = {0};
    enum err err = catalog_db_below(db, layer, below);
    for (size_t i = 0; !err && layer; layer = below[i++]) {
        doomed->volumes[doomed->volume_count++] = layer;
    }
    return err;
}

static enum err collect(sqlite3 *db, const struct app *app, uint32_t number,
                        struct catalog_doomed *doomed) {
    cleanup_statement sqlite3_stmt *row = NULL;
    int64_t count = 0, wanted = number;
    enum err err =
        catalog_db_number(db, &count, "SELECT count(*) FROM version WHERE app = ?", "i", app->id);
    err = err ? err
              : catalog_db_prepare(db, &row,
                                   "SELECT module, layer FROM version WHERE app = ?"
                                   " AND (? = 0 OR number = ?)",
                                   "iii", app->id, wanted, wanted);
    if (err) {
        return err;
    }
    doomed->modules = calloc((size_t)count + 1, sizeof *doomed->modules);
    doomed->volumes = calloc((size_t)count * VERSION_LAYERS_MAX + 1, sizeof *doomed->volumes);
    if (!doomed->modules || !doomed->volumes) {
        return ERR_NOMEM;
    }
    if (number == 0) {
        doomed->volumes[doomed->volume_count++] = app->volume_id;
    }
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW &&
           doomed->module_count < (size_t)count) {
        const void *module = sqlite3_column_blob(row, 0);
        if (!module || sqlite3_column_bytes(row, 0) != SHA256_SIZE) {
            return ERR_IO;
        }
        memcpy(doomed->modules[doomed->module_count++], module, SHA256_SIZE);
        err = add_layers(db, sqlite3_column_int64(row, 1), doomed);
    }
    return err ? err : catalog_db_err(db, result);
}

enum err catalog_doomed_new(sqlite3 *db, const struct app *app, uint32_t number,
                            struct catalog_doomed **ret_doomed) {
    struct catalog_doomed *doomed = calloc(1, sizeof *doomed);
    if (!doomed) {
        return ERR_NOMEM;
    }
    list_init(&doomed->link);
    if (number == 0) {
        doomed->life = app->life;
        atomic_fetch_add_explicit(&app->life->references, 1, memory_order_relaxed);
    }
    enum err err = collect(db, app, number, doomed);
    if (err) {
        catalog_doomed_free(doomed);
        return err;
    }
    *ret_doomed = doomed;
    return ERR_OK;
}

/* Not among the layers of a version, nor below one of those. */
#define UNUSED                                                                                     \
    " NOT IN (WITH RECURSIVE used (id) AS (SELECT layer FROM version WHERE layer IS NOT NULL"      \
    " UNION SELECT below FROM layer JOIN used ON layer.id = used.id) SELECT id FROM used)"

enum err catalog_delete_unused_layers(sqlite3 *db) {
    enum err err = catalog_db_run(db, "DELETE FROM layer WHERE id" UNUSED, "");
    return err ? err
               : catalog_db_run(db, "DELETE FROM volume WHERE kind = 'layer' AND id" UNUSED, "");
}

static bool is_layer_wanted(const struct catalog *catalog, int64_t volume_id,
                            const struct catalog_doomed *but) {
    int64_t one;
    if (catalog_db_number(catalog->db, &one, "SELECT 1 FROM volume WHERE id = ?", "i", volume_id) !=
        ERR_NOENT) {
        return true;
    }
    LIST_FOR_EACH (node, &catalog->doomed) {
        const struct catalog_doomed *doomed = CONTAINER_OF(node, struct catalog_doomed, link);
        for (size_t i = 0; doomed != but && i < doomed->volume_count; i++) {
            if (doomed->volumes[i] == volume_id) {
                return true;
            }
        }
    }
    return false;
}

/* True when nothing of it is left. */
static bool sweep_one(struct catalog *catalog, struct catalog_doomed *doomed) {
    if (doomed->life &&
        atomic_load_explicit(&doomed->life->references, memory_order_acquire) != 1) {
        return false;
    }
    size_t left = 0;
    for (size_t i = 0; i < doomed->volume_count; i++) {
        int64_t id = doomed->volumes[i];
        if (!is_layer_wanted(catalog, id, doomed) &&
            catalog_volume_remove(catalog, id) == ERR_BUSY) {
            doomed->volumes[left++] = id;
        }
    }
    doomed->volume_count = left;
    for (size_t i = 0; i < doomed->module_count; i++) {
        catalog_module_drop(catalog, doomed->modules[i], doomed);
    }
    doomed->module_count = 0;
    return left == 0;
}

void catalog_sweep_doomed(struct catalog *catalog) {
    catalog_lock(&catalog->db_mutex);
    LIST_FOR_EACH_SAFE (node, &catalog->doomed) {
        struct catalog_doomed *doomed = CONTAINER_OF(node, struct catalog_doomed, link);
        if (sweep_one(catalog, doomed)) {
            list_remove(&doomed->link);
            catalog_doomed_free(doomed);
        }
    }
    catalog_unlock(&catalog->db_mutex);
}
