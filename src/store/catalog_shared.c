/* Shared volumes: their names, and sessions: those that go when nobody has used them for so long.
 *
 * When a session ends is kept on the monotonic clock. On disk is a time of the realtime clock, a
 * part of the ttl later, so that it needs to be written only now and then while the volume is used;
 * an orderly end writes it exactly. */
#include "base/clock.h"
#include "base/log.h"
#include "store/catalog_internal.h"

enum {
    WISHES_MAX = 2,
    BATCH = 64,  /* sessions that one transaction ends or writes down */
    SLACK = 8,   /* on disk a session ends a part of its ttl later: 1 / SLACK */
    COLUMNS = 4, /* of the table session */
};

static struct volume_name *find(struct catalog *catalog, const char *key) {
    struct map_node *node = map_find(&catalog->volume_names, str_of(key));
    return node ? CONTAINER_OF(node, struct volume_name, node) : NULL;
}

static void use(struct volume_name *name, uint64_t now_ns) {
    name->ends_ns = now_ns > UINT64_MAX - name->ttl_ns ? UINT64_MAX : now_ns + name->ttl_ns;
}

enum err catalog_name_add(struct catalog *catalog, const char *key, int64_t id, uint64_t ttl_ns) {
    struct volume_name *name = calloc(1, sizeof *name);
    if (!name) {
        return ERR_NOMEM;
    }
    memcpy(name->key, key, strlen(key));
    name->id = id;
    name->ttl_ns = ttl_ns;
    name->wishes = WISHES_MAX;
    use(name, clock_monotonic_ns());
    enum err err = map_insert(&catalog->volume_names, &name->node, str_of(name->key));
    if (err) {
        free(name);
    }
    return err == ERR_EXIST ? ERR_OK : err;
}

enum err catalog_name_use(struct catalog *catalog, const struct catalog_wanted *wanted) {
    if (!wanted->key) {
        return ERR_OK;
    }
    struct volume_name *name = find(catalog, wanted->key);
    if (!name || name->id != wanted->id) {
        return ERR_STALE;
    }
    if (name->ttl_ns && !wanted->is_trial) {
        use(name, clock_monotonic_ns());
    }
    return ERR_OK;
}

void catalog_names_done(struct catalog *catalog) {
    struct map_node *node;
    while ((node = map_next(&catalog->volume_names, NULL))) {
        map_remove(&catalog->volume_names, node);
        free(CONTAINER_OF(node, struct volume_name, node));
    }
    map_done(&catalog->volume_names);
}

/* Making one */

struct name_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    char name[APP_NAME_MAX + 1], key[APP_NAME_MAX + 1];
    int64_t owner_id;
    uint64_t ttl_ns;       /* 0: it is kept */
    struct volume *unmade; /* a reference: the volume that is to be unmade; or NULL */
    enum err result;
};

/* db_mutex, in a transaction. */
static enum err write_session(sqlite3 *db, int64_t id, uint64_t ttl_ns, uint64_t left_ns) {
    uint64_t now_ns = clock_realtime_ns();
    uint64_t ends_ns =
        left_ns > INT64_MAX - MIN(now_ns, (uint64_t)INT64_MAX) ? INT64_MAX : now_ns + left_ns;
    enum err err =
        catalog_db_run(db, "INSERT OR REPLACE INTO session (id, ttl_ns, ends_ns) VALUES (?, ?, ?)",
                       "iii", id, (int64_t)ttl_ns, (int64_t)ends_ns);
    return err ? err : catalog_db_seal(db, "session", id);
}

/* `*ret_is_new`: it was made here. */
static enum err write_name(struct name_work *work, int64_t *ret_id, bool *ret_is_new) {
    sqlite3 *db = work->catalog->db;
    enum err err = catalog_db_number(db, ret_id, "SELECT id FROM volume WHERE key = ?", "t",
                                     str_of(work->key));
    if (err != ERR_NOENT) {
        return err;
    }
    err = catalog_db_begin(db);
    err = err ? err
              : catalog_db_run(db,
                               "INSERT INTO volume (owner, kind, key, name, created_ns)"
                               " VALUES (?, 'named', ?, ?, ?)",
                               "itti", work->owner_id, str_of(work->key), str_of(work->name),
                               (int64_t)clock_realtime_ns());
    int64_t id = sqlite3_last_insert_rowid(db);
    err = err ? err : catalog_db_seal(db, "volume", id);
    if (!err && work->ttl_ns) {
        err = write_session(db, id, work->ttl_ns, work->ttl_ns);
    }
    err = err ? err : catalog_volume_unlink(work->catalog, id);
    err = err ? err : catalog_db_commit(db);
    if (err) {
        catalog_db_rollback(db);
        return err;
    }
    *ret_id = id;
    *ret_is_new = true;
    return ERR_OK;
}

static void run_name(struct op_work *base) {
    struct name_work *work = (struct name_work *)base;
    struct catalog *catalog = work->catalog;
    int64_t id = 0;
    bool is_new = false;
    catalog_lock(&catalog->db_mutex);
    enum err err = write_name(work, &id, &is_new);
    if (!err && is_new) {
        catalog_lock(&catalog->volumes_mutex);
        err = catalog_name_add(catalog, work->key, id, work->ttl_ns);
        if (!err) {
            find(catalog, work->key)->wishes = 0;
        }
        catalog->session_count += !err && work->ttl_ns;
        catalog_unlock(&catalog->volumes_mutex);
    }
    catalog_unlock(&catalog->db_mutex);
    work->result = err;
    catalog_work_end(catalog);
}

static void release_name(struct op_work *base) {
    struct name_work *work = (struct name_work *)base;
    if (work->unmade) {
        volume_unref(work->unmade);
    }
    free(work);
}

static enum err start_work(struct op *op, struct catalog *catalog, struct str name, const char *key,
                           uint64_t ttl_ns, struct volume *unmade,
                           void (*run)(struct op_work *work)) {
    struct name_work *work = calloc(1, sizeof *work);
    if (!work) {
        return ERR_NOMEM;
    }
    work->base.run = run;
    work->base.release = release_name;
    work->catalog = catalog;
    work->owner_id = op->who && op->who->owner_id ? op->who->owner_id : 1;
    work->ttl_ns = ttl_ns;
    work->unmade = unmade ? volume_ref(unmade) : NULL;
    memcpy(work->name, name.data, name.length);
    memcpy(work->key, key, strlen(key));
    catalog_work_begin(catalog);
    enum err err = op_work_start(op, &work->base);
    if (err != ERR_PENDING) {
        catalog_work_end(catalog);
    }
    return err;
}

/* How a shared volume is asked for. */
struct wish {
    struct str name;
    bool create, or_kept, is_trial;
    uint64_t ttl_ns; /* 0: as it is; made anew, it is kept */
};

/* The id of what is wished for: NOENT if there is none. */
static enum err look_up(struct catalog *catalog, const char *key, const struct wish *wish,
                        int64_t *ret_id, struct buf *message) {
    catalog_lock(&catalog->volumes_mutex);
    struct volume_name *name = find(catalog, key);
    bool is_kept = name && wish->ttl_ns && !name->ttl_ns;
    if (name && name->wishes < WISHES_MAX) {
        name->wishes++;
    }
    int64_t id = name ? name->id : 0;
    catalog_unlock(&catalog->volumes_mutex);
    if (is_kept && !wish->or_kept) {
        return buf_fail(message, ERR_EXIST,
                        "the volume '" STR_FORMAT "' was made without ttl= and is kept: leave ttl= "
                        "out, or take another name",
                        STR_ARGS(wish->name));
    }
    *ret_id = id;
    return id ? ERR_OK : ERR_NOENT;
}

static enum err get_shared(struct op *op, struct catalog *catalog, const struct wish *wish,
                           struct volume **ret_volume, struct buf *message) {
    char key[APP_NAME_MAX + 1];
    enum err err = app_name_check(wish->name, message);
    if (err) {
        return err;
    }
    (void)!catalog_key(wish->name, key);
    struct catalog_wanted wanted = {
        .create = true, /* its row is there, its file is made when first used */
        .bytes_max = catalog->defaults.disk_bytes,
        .inodes_max = catalog->defaults.disk_inodes,
        .key = key,
        .is_trial = wish->is_trial,
    };
    struct op_work *pending = op->state;
    if (pending && pending->run != run_name) { /* it is being opened */
        return catalog_get_volume(op, catalog, &wanted, ret_volume, message);
    }
    if (pending) {
        if (!pending->finished) {
            return ERR_PENDING;
        }
        err = op_finish(op, ((struct name_work *)pending)->result);
        if (err) {
            return buf_fail(message, err, "the volume '" STR_FORMAT "' can't be made: %s",
                            STR_ARGS(wish->name), err_text(err));
        }
    }
    do {
        err = look_up(catalog, key, wish, &wanted.id, message);
        if (err == ERR_NOENT && !wish->create) {
            return buf_fail(message, ERR_NOENT, "there is no volume named '" STR_FORMAT "'",
                            STR_ARGS(wish->name));
        }
        if (err == ERR_NOENT) {
            err = app_volume_name_check(wish->name, message);
            return err ? err
                       : start_work(op, catalog, wish->name, key, wish->ttl_ns, NULL, run_name);
        }
        err = err ? err : catalog_get_volume(op, catalog, &wanted, ret_volume, message);
    } while (err == ERR_STALE); /* removed meanwhile */
    return err;
}

enum err catalog_named_volume(struct op *op, struct catalog *catalog, struct str name, bool create,
                              struct volume **ret_volume, struct buf *message) {
    const struct wish wish = {.name = name, .create = create};
    return get_shared(op, catalog, &wish, ret_volume, message);
}

enum err catalog_session_volume(struct op *op, struct catalog *catalog, struct str name,
                                uint64_t ttl_ns, bool or_kept, struct volume **ret_volume,
                                struct buf *message) {
    const struct wish wish = {
        .name = name, .create = true, .or_kept = or_kept, .is_trial = true, .ttl_ns = ttl_ns};
    return get_shared(op, catalog, &wish, ret_volume, message);
}

void catalog_use_session(struct catalog *catalog, struct str name, const struct volume *volume,
                         uint64_t ttl_ns) {
    char key[APP_NAME_MAX + 1];
    if (catalog_key(name, key)) {
        return;
    }
    catalog_lock(&catalog->volumes_mutex);
    struct volume_name *found = find(catalog, key);
    if (found && found->ttl_ns && !volume_is_removed(volume)) {
        found->ttl_ns = ttl_ns ? ttl_ns : found->ttl_ns;
        use(found, clock_monotonic_ns());
    }
    catalog_unlock(&catalog->volumes_mutex);
}

void catalog_each_volume_name(struct catalog *catalog,
                              void (*each)(void *argument, const char *name), void *argument) {
    catalog_lock(&catalog->volumes_mutex);
    for (struct map_node *node = map_next(&catalog->volume_names, NULL); node;
         node = map_next(&catalog->volume_names, node)) {
        each(argument, CONTAINER_OF(node, struct volume_name, node)->key);
    }
    catalog_unlock(&catalog->volumes_mutex);
}

enum err catalog_volume_session(struct catalog *catalog, struct str name,
                                struct volume_session *ret_session) {
    char key[APP_NAME_MAX + 1];
    if (catalog_key(name, key)) {
        return ERR_NOENT;
    }
    catalog_lock(&catalog->volumes_mutex);
    struct volume_name *found = find(catalog, key);
    if (found) {
        uint64_t now_ns = clock_monotonic_ns();
        *ret_session = (struct volume_session){
            .ttl_ns = found->ttl_ns,
            .left_ns = found->ttl_ns ? found->ends_ns - MIN(now_ns, found->ends_ns) : 0,
        };
    }
    catalog_unlock(&catalog->volumes_mutex);
    return found ? ERR_OK : ERR_NOENT;
}

/* Ending and writing down */

struct batch {
    struct volume_name *ended[BATCH]; /* taken out of the table */
    struct volume_name *saved[BATCH]; /* to be written down: they stay while db_mutex is held */
    uint64_t saved_ns[BATCH];         /* monotonic: what is written as the end */
    size_t ended_count, saved_count;
};

/* volumes_mutex */
static void take_name(struct catalog *catalog, struct batch *batch, struct volume_name *name) {
    map_remove(&catalog->volume_names, &name->node);
    catalog->session_count -= name->ttl_ns != 0;
    catalog_volume_mark_removed(catalog, name->id, true);
    batch->ended[batch->ended_count++] = name;
}

/* volumes_mutex. What there is to do, as much as goes into a batch. */
static void collect(struct catalog *catalog, uint64_t now_ns, bool is_last, struct batch *batch) {
    struct map_node *next = map_next(&catalog->volume_names, NULL);
    while (next && batch->ended_count < BATCH && batch->saved_count < BATCH) {
        struct volume_name *name = CONTAINER_OF(next, struct volume_name, node);
        next = map_next(&catalog->volume_names, next);
        if (!name->ttl_ns) {
            continue;
        }
        if (catalog_volume_in_use(catalog, name->id)) {
            use(name, now_ns);
        } else if (now_ns >= name->ends_ns) {
            take_name(catalog, batch, name);
            continue;
        }
        bool is_due = name->ends_ns > name->saved_ns || name->ttl_ns != name->saved_ttl_ns;
        if (is_due || (is_last && name->ends_ns != name->saved_ns)) {
            uint64_t slack_ns = is_last ? 0 : name->ttl_ns / SLACK;
            batch->saved_ns[batch->saved_count] = name->ends_ns + slack_ns;
            batch->saved[batch->saved_count++] = name;
        }
    }
}

static enum err write_batch(sqlite3 *db, const struct batch *batch, uint64_t now_ns) {
    enum err err = catalog_db_begin(db);
    for (size_t i = 0; !err && i < batch->ended_count; i++) {
        int64_t id = batch->ended[i]->id;
        err = catalog_db_run(db, "DELETE FROM session WHERE id = ?", "i", id);
        err = err ? err : catalog_db_run(db, "DELETE FROM volume WHERE id = ?", "i", id);
    }
    for (size_t i = 0; !err && i < batch->saved_count; i++) {
        const struct volume_name *name = batch->saved[i];
        err = write_session(db, name->id, name->ttl_ns,
                            batch->saved_ns[i] - MIN(now_ns, batch->saved_ns[i]));
    }
    err = err ? err : catalog_db_commit(db);
    if (err) {
        catalog_db_rollback(db);
    }
    return err;
}

/* volumes_mutex. What could not be removed from disk has its name again. */
static void put_back(struct catalog *catalog, struct volume_name *name) {
    if (map_insert(&catalog->volume_names, &name->node, str_of(name->key)) != ERR_OK) {
        log_warning("no memory for the name of the volume %s: it is back at the next start",
                    name->key);
        free(name);
        return;
    }
    catalog->session_count += name->ttl_ns != 0;
    catalog_volume_mark_removed(catalog, name->id, false);
}

/* db_mutex. Does what the batch says; its names are freed or back in the table. */
static enum err apply(struct catalog *catalog, struct batch *batch, uint64_t now_ns) {
    struct catalog_doomed *doomed = calloc(1, sizeof *doomed);
    int64_t *ids = calloc(BATCH, sizeof *ids);
    enum err err = doomed && ids ? write_batch(catalog->db, batch, now_ns) : ERR_NOMEM;
    catalog_lock(&catalog->volumes_mutex);
    for (size_t i = 0; i < batch->ended_count; i++) {
        if (err) {
            put_back(catalog, batch->ended[i]);
        } else {
            ids[i] = batch->ended[i]->id;
            free(batch->ended[i]);
        }
    }
    for (size_t i = 0; !err && i < batch->saved_count; i++) {
        batch->saved[i]->saved_ns = batch->saved_ns[i];
        batch->saved[i]->saved_ttl_ns = batch->saved[i]->ttl_ns;
    }
    catalog_unlock(&catalog->volumes_mutex);
    if (err || batch->ended_count == 0) {
        free(doomed);
        free(ids);
        return err;
    }
    list_init(&doomed->link);
    doomed->volumes = ids;
    doomed->volume_count = batch->ended_count;
    list_append(&catalog->doomed, &doomed->link);
    return ERR_OK;
}

void catalog_sessions_sweep(struct catalog *catalog, bool is_last) {
    bool is_more = true;
    while (is_more) {
        struct batch batch = {.ended_count = 0};
        uint64_t now_ns = clock_monotonic_ns();
        catalog_lock(&catalog->volumes_mutex);
        bool has_sessions = catalog->session_count > 0;
        catalog_unlock(&catalog->volumes_mutex);
        if (!has_sessions) {
            return;
        }
        catalog_lock(&catalog->db_mutex);
        catalog_lock(&catalog->volumes_mutex);
        collect(catalog, now_ns, is_last, &batch);
        catalog_unlock(&catalog->volumes_mutex);
        enum err err = ERR_OK;
        if (batch.ended_count > 0 || batch.saved_count > 0) {
            err = apply(catalog, &batch, now_ns);
        }
        catalog_unlock(&catalog->db_mutex);
        if (err) {
            log_debug("sessions can't be written down: %s; trying again", err_text(err));
        }
        is_more = !err && (batch.ended_count == BATCH || batch.saved_count == BATCH);
    }
}

static void run_delete(struct op_work *base) {
    struct name_work *work = (struct name_work *)base;
    struct catalog *catalog = work->catalog;
    struct batch batch = {.ended_count = 0};
    catalog_lock(&catalog->db_mutex);
    catalog_lock(&catalog->volumes_mutex);
    struct volume_name *name = find(catalog, work->key);
    if (name) {
        take_name(catalog, &batch, name);
    }
    catalog_unlock(&catalog->volumes_mutex);
    work->result = name ? apply(catalog, &batch, clock_monotonic_ns()) : ERR_NOENT;
    catalog_unlock(&catalog->db_mutex);
    catalog_sweep_doomed(catalog);
    catalog_work_end(catalog);
}

enum err catalog_delete_volume(struct op *op, struct catalog *catalog, struct str name) {
    struct name_work *work = op->state;
    if (work) {
        return work->base.finished ? op_finish(op, work->result) : ERR_PENDING;
    }
    char key[APP_NAME_MAX + 1];
    if (catalog_key(name, key)) {
        return ERR_NOENT;
    }
    return start_work(op, catalog, name, key, 0, NULL, run_delete);
}

/* volumes_mutex. Whether the volume still has its name, and only one has asked for it. */
static bool may_unmake(struct catalog *catalog, const struct name_work *work) {
    const struct volume_name *name = find(catalog, work->key);
    return name && !volume_is_removed(work->unmade) && name->wishes < WISHES_MAX;
}

static void run_unmake(struct op_work *base) {
    struct name_work *work = (struct name_work *)base;
    struct catalog *catalog = work->catalog;
    struct batch batch = {.ended_count = 0};
    catalog_lock(&catalog->db_mutex);
    catalog_lock(&catalog->volumes_mutex);
    if (may_unmake(catalog, work)) {
        take_name(catalog, &batch, find(catalog, work->key));
    }
    catalog_unlock(&catalog->volumes_mutex);
    work->result = batch.ended_count ? apply(catalog, &batch, clock_monotonic_ns()) : ERR_BUSY;
    catalog_unlock(&catalog->db_mutex);
    catalog_work_end(catalog);
}

enum err catalog_unmake_volume(struct op *op, struct catalog *catalog, struct str name,
                               struct volume *volume) {
    struct name_work *work = op->state;
    if (work) {
        return work->base.finished ? op_finish(op, work->result) : ERR_PENDING;
    }
    char key[APP_NAME_MAX + 1];
    if (catalog_key(name, key)) {
        return ERR_BUSY;
    }
    return start_work(op, catalog, name, key, 0, volume, run_unmake);
}

/* A session that is not on the monotonic clock yet. */
static enum err load_session(struct catalog *catalog, sqlite3_stmt *row) {
    uint64_t ttl_ns = (uint64_t)sqlite3_column_int64(row, 1);
    uint64_t ends_ns = (uint64_t)sqlite3_column_int64(row, 2);
    const char *key = (const char *)sqlite3_column_text(row, COLUMNS);
    struct volume_name *name = key ? find(catalog, key) : NULL;
    if (!name) {
        return ERR_IO; /* without its volume */
    }
    /* If the realtime clock was set back, it has its whole time again. */
    uint64_t now_ns = clock_realtime_ns();
    uint64_t left_ns = MIN(ends_ns - MIN(now_ns, ends_ns), ttl_ns);
    name->ttl_ns = name->saved_ttl_ns = ttl_ns;
    name->ends_ns = name->saved_ns = clock_monotonic_ns() + left_ns;
    catalog->session_count++;
    return ERR_OK;
}

enum err catalog_sessions_load(struct catalog *catalog) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = catalog_db_prepare(
        catalog->db, &row, "SELECT session.*, volume.key FROM session LEFT JOIN volume USING (id)",
        "");
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW) {
        err = catalog_db_check_seal(row, "session", 0, COLUMNS);
        err = err ? err : load_session(catalog, row);
    }
    return err ? err : catalog_db_err(catalog->db, result);
}
