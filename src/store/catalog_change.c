/* Changes of apps. A worker does one from beginning to end, also when its op was given up: files
 * first, then the rows in one transaction, then the new snapshot. */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "store/catalog_internal.h"

#include <stdio.h>
#include <unistd.h>

struct change_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    /* Does it, in a transaction and with db_mutex held. */
    enum err (*change)(struct change_work *work);

    char name[APP_NAME_MAX + 1], key[APP_NAME_MAX + 1];
    char new_name[APP_NAME_MAX + 1], new_key[APP_NAME_MAX + 1]; /* rename */
    uint32_t number;                                            /* of a version */
    int64_t owner_id;
    bool create_only, update_only, has_version;
    struct app_version version; /* unknown_imports is owned */
    struct buf module_path, layer_path;
    char *config; /* owned by jansson's allocator, which is malloc; NULL: unchanged */
    uint64_t if_generation;
    int64_t if_id;

    /* While it is done: */
    struct app *old;               /* a reference; NULL: there is none */
    struct app *new;               /* to be published */
    struct catalog_doomed *doomed; /* to be put in the list */
    bool module_moved;
    int64_t layer_moved; /* an id, or 0 */

    /* Results: */
    enum err result;
    struct app *app; /* a reference */
    bool created;
    struct buf message;
};

static void work_free(struct change_work *work) {
    if (work) {
        free(work->version.unknown_imports);
        buf_done(&work->module_path);
        buf_done(&work->layer_path);
        free(work->config);
        app_unref(work->app);
        buf_done(&work->message);
        free(work);
    }
}

static void release_work(struct op_work *base) {
    work_free((struct change_work *)base);
}

/* What was moved for a change that did not come to its commit. */
static void undo_files(struct change_work *work) {
    if (work->layer_moved && catalog_volume_unlink(work->catalog, work->layer_moved)) {
        log_debug("a leftover layer stays until the next start");
    }
    if (work->module_moved) {
        catalog_module_drop(work->catalog, work->version.module_sha256, NULL);
    }
}

static enum err do_change(struct change_work *work) {
    struct catalog *catalog = work->catalog;
    enum err err = ERR_OK;
    /* What is long goes before the lock. */
    if (work->module_path.length) {
        err = catalog_file_sync(buf_text(&work->module_path));
    }
    if (!err && work->layer_path.length) {
        err = catalog_file_sync(buf_text(&work->layer_path));
    }
    if (err) {
        return buf_fail(&work->message, err, "the upload can't be synced: %s", err_text(err));
    }
    catalog_lock(&catalog->db_mutex);
    err = catalog_find(catalog, str_of(work->name), &work->old);
    err = err == ERR_NOENT ? ERR_OK : err;
    err = err ? err : catalog_reserve_app(catalog);
    err = err ? err : catalog_db_begin(catalog->db);
    err = err ? err : work->change(work);
    err = err ? err : catalog_db_commit(catalog->db);
    if (err) {
        catalog_db_rollback(catalog->db);
        undo_files(work);
        app_unref(work->new);
        catalog_doomed_free(work->doomed);
    } else {
        if (work->doomed) {
            list_append(&catalog->doomed, &work->doomed->link);
        }
        work->app = work->new ? app_ref(work->new) : NULL;
        if (work->old != work->new) {
            catalog_publish(catalog, work->old, work->new);
        } else {
            app_unref(work->new);
        }
    }
    work->new = NULL;
    catalog_unlock(&catalog->db_mutex);
    bool removed = work->doomed && !err;
    app_unref(work->old);
    work->old = NULL;
    work->doomed = NULL;
    if (removed) {
        catalog_sweep_doomed(catalog);
    }
    if (err && work->message.length == 0) {
        return buf_fail(&work->message, err, "the change of '%s' can't be written: %s", work->name,
                        err_text(err));
    }
    return err;
}

static void run_work(struct op_work *base) {
    struct change_work *work = (struct change_work *)base;
    work->result = do_change(work);
    /* Those that were moved are not there any more. */
    if (work->module_path.length) {
        unlink(buf_text(&work->module_path));
    }
    if (work->layer_path.length) {
        unlink(buf_text(&work->layer_path));
    }
    catalog_work_end(work->catalog);
}

/* Drives a work that was prepared; takes it. */
static enum err start(struct op *op, struct change_work *work) {
    work->base.run = run_work;
    work->base.release = release_work;
    struct catalog *catalog = work->catalog;
    catalog_work_begin(catalog);
    enum err err = op_work_start(op, &work->base);
    if (err != ERR_PENDING) {
        catalog_work_end(catalog);
    }
    return err;
}

static enum err finish(struct op *op, struct app **ret_app, bool *ret_created,
                       struct buf *message) {
    struct change_work *work = op->state;
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    enum err err = work->result;
    if (err) {
        err = buf_fail(message, err, "%s", buf_text(&work->message));
    } else {
        if (ret_created) {
            *ret_created = work->created;
        }
        if (ret_app) {
            *ret_app = STEAL(work->app);
        }
    }
    return op_finish(op, err);
}

static struct change_work *work_new(struct catalog *catalog, struct op *op, struct str name,
                                    enum err (*change)(struct change_work *work)) {
    struct change_work *work = calloc(1, sizeof *work);
    if (work) {
        work->catalog = catalog;
        work->change = change;
        work->owner_id = op->who && op->who->owner_id ? op->who->owner_id : 1;
        INVARIANT(name.length <= APP_NAME_MAX && !catalog_key(name, work->key));
        memcpy(work->name, name.data, name.length);
    }
    return work;
}

/* Statements */

static enum err insert_volume(struct change_work *work, const char *kind, int64_t *ret_id) {
    sqlite3 *db = work->catalog->db;
    enum err err =
        catalog_db_run(db, "INSERT INTO volume (owner, kind, created_ns) VALUES (?, ?, ?)", "iti",
                       work->owner_id, str_of(kind), (int64_t)clock_realtime_ns());
    int64_t id = sqlite3_last_insert_rowid(db);
    err = err ? err : catalog_db_seal(db, "volume", id);
    /* A change that failed may have left files with this id, which nobody has seen. */
    err = err ? err : catalog_volume_unlink(work->catalog, id);
    if (!err) {
        *ret_id = id;
    }
    return err;
}

static enum err insert_version(struct change_work *work, int64_t app_id,
                               const struct app_version *version) {
    sqlite3 *db = work->catalog->db;
    const char *imports = version->unknown_imports;
    cleanup_statement sqlite3_stmt *statement = NULL;
    enum err err = catalog_db_prepare(
        db, &statement,
        "INSERT INTO version (app, owner, number, module, module_bytes, is_library, layer_files,"
        " layer_bytes, created_ns, layer, unknown_imports)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, 0), nullif(?, ''))",
        "iiibiiiiiit", app_id, work->old ? work->old->owner_id : work->owner_id,
        (int64_t)version->number, (const void *)version->module_sha256, (size_t)SHA256_SIZE,
        (int64_t)version->module_bytes, (int64_t)version->is_library, (int64_t)version->layer_files,
        (int64_t)version->layer_bytes, (int64_t)clock_realtime_ns(), version->layer_id,
        str_of(imports));
    err = err ? err : catalog_db_err(db, sqlite3_step(statement));
    int64_t id = sqlite3_last_insert_rowid(db);
    err = err ? err : catalog_db_seal(db, "version", id);
    if (err || (!version->from_name[0] && !version->rollback_number)) {
        return err;
    }
    err = catalog_db_run(db,
                         "INSERT INTO origin (id, name, number, rollback)"
                         " VALUES (?, nullif(?, ''), nullif(?, 0), nullif(?, 0))",
                         "itii", id, str_of(version->from_name), (int64_t)version->from_number,
                         (int64_t)version->rollback_number);
    return err ? err : catalog_db_seal(db, "origin", id);
}

/* A new layer in place of the version's, which then lies below it. */
static enum err insert_layer(struct change_work *work, struct app_version *version) {
    sqlite3 *db = work->catalog->db;
    int64_t below = version->layer_id;
    size_t count = below != 0;
    enum err err = catalog_db_below(db, below, version->below_ids);
    for (size_t i = 0; i < VERSION_LAYERS_MAX && version->below_ids[i]; i++) {
        count++;
    }
    if (!err && count >= VERSION_LAYERS_MAX) {
        return buf_fail(&work->message, ERR_2BIG,
                        "this version would lie on the files of %zu others, %d are the most: make "
                        "one that has them all",
                        count, VERSION_LAYERS_MAX - 1);
    }
    err = err ? err : insert_volume(work, "layer", &version->layer_id);
    if (!err && below) {
        err = catalog_db_run(db, "INSERT INTO layer (id, below) VALUES (?, ?)", "ii",
                             version->layer_id, below);
        err = err ? err : catalog_db_seal(db, "layer", version->layer_id);
    }
    return err;
}

/* Brings the files of a new version to their places; `version` gets its layer. */
static enum err place_files(struct change_work *work, struct app_version *version) {
    struct catalog *catalog = work->catalog;
    enum err err = ERR_OK;
    char name[96];
    if (work->module_path.length) {
        char text[SHA256_TEXT_SIZE];
        sha256_to_text(version->module_sha256, text);
        snprintf(name, sizeof name, "%s.wasm", text);
        work->module_moved = true;
        err = catalog_file_move(catalog, buf_text(&work->module_path), "modules", name);
    } else {
        int64_t one;
        err = catalog_db_number(catalog->db, &one, "SELECT 1 FROM version WHERE module = ? LIMIT 1",
                                "b", (const void *)version->module_sha256, (size_t)SHA256_SIZE);
        if (err == ERR_NOENT) {
            return buf_fail(&work->message, err, "the module of this version is not there");
        }
    }
    if (err) {
        return err;
    }
    if (version->layer_id) {
        int64_t one;
        err = catalog_db_number(catalog->db, &one, "SELECT 1 FROM version WHERE layer = ? LIMIT 1",
                                "i", version->layer_id);
        if (err == ERR_NOENT) {
            return buf_fail(&work->message, err, "the layer of this version is not there");
        }
    }
    if (!err && work->layer_path.length) {
        err = insert_layer(work, version);
        if (!err) {
            snprintf(name, sizeof name, "%lld.db", (long long)version->layer_id);
            work->layer_moved = version->layer_id;
            err = catalog_file_move(catalog, buf_text(&work->layer_path), "volumes", name);
        }
    }
    return err;
}

/* Writes that the app has changed, and reads its new snapshot. */
static enum err update_app(struct change_work *work, uint32_t version_number) {
    sqlite3 *db = work->catalog->db;
    int64_t id = work->old->id;
    enum err err = catalog_db_run(db,
                                  "UPDATE app SET version = ?, config = coalesce(nullif(?, ''),"
                                  " config), changed_ns = ?, generation = generation + 1"
                                  " WHERE id = ?",
                                  "itii", (int64_t)version_number, str_of(work->config),
                                  (int64_t)clock_realtime_ns(), id);
    err = err ? err : catalog_db_seal(db, "app", id);
    return err ? err : catalog_db_app(work->catalog, id, work->old, &work->new, &work->message);
}

static enum err next_number(const struct change_work *work, uint32_t *ret_number) {
    if (work->old && work->old->version.number == UINT32_MAX) {
        return ERR_RANGE;
    }
    *ret_number = work->old ? work->old->version.number + 1 : 1;
    return ERR_OK;
}

static enum err change_create(struct change_work *work) {
    sqlite3 *db = work->catalog->db;
    int64_t volume = 0, now = (int64_t)clock_realtime_ns();
    enum err err = insert_volume(work, "app", &volume);
    err = err ? err
              : catalog_db_run(db,
                               "INSERT INTO app (owner, key, name, volume, version, config,"
                               " created_ns, changed_ns, generation)"
                               " VALUES (?, ?, ?, ?, 1, ?, ?, ?, 1)",
                               "ittitii", work->owner_id, str_of(work->key), str_of(work->name),
                               volume, str_of(work->config ? work->config : "{}"), now, now);
    int64_t id = sqlite3_last_insert_rowid(db);
    err = err ? err : catalog_db_seal(db, "app", id);
    err = err ? err : place_files(work, &work->version);
    err = err ? err : insert_version(work, id, &work->version);
    work->created = true;
    return err ? err : catalog_db_app(work->catalog, id, NULL, &work->new, &work->message);
}

static enum err change_apply(struct change_work *work) {
    const struct app *old = work->old;
    if (old && work->create_only) {
        return buf_fail(&work->message, ERR_EXIST, "there is an app named '%s' already", old->name);
    }
    if (work->if_generation &&
        (!old || old->generation != work->if_generation || old->id != work->if_id)) {
        return buf_fail(&work->message, ERR_STALE,
                        "'%s' has changed in the meantime; read it again", work->name);
    }
    if (!old && (work->update_only || !work->has_version)) {
        return buf_fail(&work->message, ERR_NOENT, "no app named '%s'; GET /apps lists them",
                        work->name);
    }
    enum err err = next_number(work, &work->version.number);
    if (err || !old) {
        return err ? err : change_create(work);
    }
    if (!work->has_version) {
        return update_app(work, old->version.number);
    }
    err = place_files(work, &work->version);
    err = err ? err : insert_version(work, old->id, &work->version);
    return err ? err : update_app(work, work->version.number);
}

enum err catalog_apply(struct op *op, struct catalog *catalog, const struct app_change *change,
                       struct app **ret_app, bool *ret_created, struct buf *message) {
    if (op->state) {
        return finish(op, ret_app, ret_created, message);
    }
    enum err err = app_name_check(change->name, message);
    if (err) {
        return err;
    }
    json_t *config = NULL;
    if (change->config) {
        err = app_config_show(change->config, &config, message);
        if (err) {
            return err;
        }
    }
    struct change_work *work = work_new(catalog, op, change->name, change_apply);
    if (work) {
        work->create_only = change->create_only;
        work->update_only = change->update_only;
        work->has_version = change->has_version;
        work->if_generation = change->if_generation;
        work->if_id = change->if_id;
        work->config = config ? json_dumps(config, JSON_COMPACT) : NULL;
        err = config && !work->config ? ERR_NOMEM : ERR_OK;
    }
    json_decref(config);
    if (work && !err && change->has_version) {
        const char *imports = change->version.unknown_imports;
        work->version = change->version;
        work->version.unknown_imports = imports ? strdup(imports) : NULL;
        err = imports && !work->version.unknown_imports ? ERR_NOMEM : ERR_OK;
        err = err ? err : buf_append_str(&work->module_path, change->module_temporary_path);
        err = err ? err : buf_append_str(&work->layer_path, change->layer_temporary_path);
    }
    if (!work || err) {
        work_free(work);
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    return start(op, work);
}

static enum err fail_no_version(struct change_work *work) {
    return buf_fail(&work->message, ERR_NOENT,
                    "'%s' has no version %u; GET /apps/%s/versions lists them", work->old->name,
                    work->number, work->old->name);
}

static enum err change_rollback(struct change_work *work) {
    struct app_version version = {0};
    uint32_t number = 0;
    if (!work->old) {
        return buf_fail(&work->message, ERR_NOENT, "no app named '%s'; GET /apps lists them",
                        work->name);
    }
    cleanup_statement sqlite3_stmt *row = NULL;
    /* What is online: of a rollback the version that it brought back. */
    const struct app_version *online = &work->old->version;
    int64_t current = online->rollback_number ? online->rollback_number : online->number;
    enum err err = catalog_db_prepare(work->catalog->db, &row,
                                      "SELECT * FROM version WHERE app = ? AND"
                                      " (number = ? OR (? = 0 AND number < ?))"
                                      " ORDER BY number DESC LIMIT 1",
                                      "iiii", work->old->id, (int64_t)work->number,
                                      (int64_t)work->number, current);
    if (err) {
        return err;
    }
    int result = sqlite3_step(row);
    if (result == SQLITE_DONE && work->number == 0) {
        return buf_fail(&work->message, ERR_NOENT,
                        "'%s' has no version before %lld; GET /apps/%s/versions lists them",
                        work->old->name, (long long)current, work->old->name);
    }
    if (result == SQLITE_DONE) {
        return fail_no_version(work);
    }
    err = catalog_db_err(work->catalog->db, result);
    err = err ? err : catalog_db_version(row, 0, &version);
    err = err ? err : next_number(work, &number);
    if (!err) {
        version.rollback_number =
            version.rollback_number ? version.rollback_number : version.number;
        version.number = number;
        err = insert_version(work, work->old->id, &version);
    }
    free(version.unknown_imports);
    return err ? err : update_app(work, number);
}

enum err catalog_rollback(struct op *op, struct catalog *catalog, struct str name, uint32_t number,
                          struct app **ret_app, struct buf *message) {
    if (op->state) {
        return finish(op, ret_app, NULL, message);
    }
    enum err err = app_name_check(name, message);
    if (err) {
        return err;
    }
    struct change_work *work = work_new(catalog, op, name, change_rollback);
    if (!work) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    work->number = number;
    return start(op, work);
}

static enum err change_rename(struct change_work *work) {
    struct app *old = work->old;
    sqlite3 *db = work->catalog->db;
    if (!old) {
        return ERR_NOENT;
    }
    int64_t other = 0;
    enum err err = catalog_db_number(db, &other, "SELECT id FROM app WHERE key = ?", "t",
                                     str_of(work->new_key));
    if (err != ERR_NOENT && (err || other != old->id)) {
        return err ? err : ERR_EXIST;
    }
    err = catalog_db_run(db,
                         "UPDATE app SET key = ?, name = ?, changed_ns = ?,"
                         " generation = generation + 1 WHERE id = ?",
                         "ttii", str_of(work->new_key), str_of(work->new_name),
                         (int64_t)clock_realtime_ns(), old->id);
    err = err ? err : catalog_db_seal(db, "app", old->id);
    return err ? err : catalog_db_app(work->catalog, old->id, old, &work->new, &work->message);
}

enum err catalog_rename(struct op *op, struct catalog *catalog, struct str old_name,
                        struct str new_name) {
    if (op->state) {
        return finish(op, NULL, NULL, NULL);
    }
    if (app_name_check(old_name, NULL)) {
        return ERR_NOENT;
    }
    enum err err = app_name_check(new_name, NULL);
    if (err) {
        return err;
    }
    struct change_work *work = work_new(catalog, op, old_name, change_rename);
    if (!work) {
        return ERR_NOMEM;
    }
    INVARIANT(!catalog_key(new_name, work->new_key));
    memcpy(work->new_name, new_name.data, new_name.length);
    return start(op, work);
}

static enum err change_remove(struct change_work *work) {
    sqlite3 *db = work->catalog->db;
    const struct app *old = work->old;
    if (!old) {
        return ERR_NOENT;
    }
    enum err err = catalog_doomed_new(db, old, 0, &work->doomed);
    err = err ? err
              : catalog_db_run(db,
                               "DELETE FROM origin WHERE id IN"
                               " (SELECT id FROM version WHERE app = ?)",
                               "i", old->id);
    err = err ? err : catalog_db_run(db, "DELETE FROM version WHERE app = ?", "i", old->id);
    err = err ? err : catalog_db_run(db, "DELETE FROM secret WHERE app = ?", "i", old->id);
    err = err ? err : catalog_db_run(db, "DELETE FROM alarm WHERE id = ?", "i", old->id);
    err = err ? err : catalog_db_run(db, "DELETE FROM app WHERE id = ?", "i", old->id);
    err = err ? err : catalog_db_run(db, "DELETE FROM volume WHERE id = ?", "i", old->volume_id);
    return err ? err : catalog_delete_unused_layers(db);
}

enum err catalog_remove(struct op *op, struct catalog *catalog, struct str name) {
    if (op->state) {
        return finish(op, NULL, NULL, NULL);
    }
    if (app_name_check(name, NULL)) {
        return ERR_NOENT;
    }
    struct change_work *work = work_new(catalog, op, name, change_remove);
    return work ? start(op, work) : ERR_NOMEM;
}

static enum err change_remove_version(struct change_work *work) {
    sqlite3 *db = work->catalog->db;
    struct app *old = work->old;
    if (!old || old->id != work->if_id) {
        return buf_fail(&work->message, ERR_NOENT, "no app named '%s'; GET /apps lists them",
                        work->name);
    }
    if (work->number == old->version.number) {
        return buf_fail(&work->message, ERR_BUSY,
                        "version %u of '%s' is the current one: roll back to another one first, or "
                        "remove the app",
                        work->number, old->name);
    }
    int64_t id = 0;
    enum err err = catalog_db_number(db, &id, "SELECT id FROM version WHERE app = ? AND number = ?",
                                     "ii", old->id, (int64_t)work->number);
    if (err == ERR_NOENT) {
        return fail_no_version(work);
    }
    err = err ? err : catalog_doomed_new(db, old, work->number, &work->doomed);
    err = err ? err : catalog_db_run(db, "DELETE FROM origin WHERE id = ?", "i", id);
    err = err ? err : catalog_db_run(db, "DELETE FROM version WHERE id = ?", "i", id);
    err = err ? err : catalog_delete_unused_layers(db);
    work->new = app_ref(old); /* it is as it was */
    return err;
}

enum err catalog_remove_version(struct op *op, struct catalog *catalog, const struct app *app,
                                uint32_t number, struct buf *message) {
    if (op->state) {
        return finish(op, NULL, NULL, message);
    }
    struct change_work *work = work_new(catalog, op, str_of(app->name), change_remove_version);
    if (!work) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    work->number = number;
    work->if_id = app->id;
    return start(op, work);
}
