/* Open volumes. There is one connection to each database: a volume that is being opened or closed
 * is waited for. */
#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "store/catalog_internal.h"

enum { IDLE_MAX = 64 };                            /* idle volumes that stay open */
static const uint64_t idle_max_ns = 60 * NS_PER_S; /* and for how long */

enum entry_state { OPENING, OPEN, CLOSING };

struct volume_entry {
    struct map_node node; /* by id */
    int64_t id;
    enum entry_state state;
    struct volume *volume; /* OPEN: a reference */
    bool read_only;
    bool is_removed;           /* its name went while it was being opened */
    uint64_t quota_generation; /* of the app whose quota was set */
    uint64_t idle_since_ns;    /* monotonic; 0: it was in use at the last sweep */
};

struct open_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    struct catalog_wanted wanted;
    enum err result;
    struct volume *volume; /* a reference */
    struct buf message;
};

static struct volume_entry *find_entry(struct catalog *catalog, int64_t id) {
    struct map_node *node = map_find(&catalog->volumes, MAP_KEY(id));
    return node ? CONTAINER_OF(node, struct volume_entry, node) : NULL;
}

/* volumes_mutex */
static enum err add_entry(struct catalog *catalog, const struct catalog_wanted *wanted) {
    struct volume_entry *entry = calloc(1, sizeof *entry);
    if (!entry) {
        return ERR_NOMEM;
    }
    entry->id = wanted->id;
    entry->read_only = wanted->read_only;
    entry->quota_generation = wanted->generation;
    enum err err = map_insert(&catalog->volumes, &entry->node, MAP_KEY(entry->id));
    if (err) {
        free(entry);
    }
    return err;
}

static void forget_entry(struct catalog *catalog, int64_t id) {
    catalog_lock(&catalog->volumes_mutex);
    struct volume_entry *entry = find_entry(catalog, id);
    map_remove(&catalog->volumes, &entry->node);
    free(entry);
    catalog_unlock(&catalog->volumes_mutex);
    op_queue_wake_all(&catalog->volumes_changed);
}

static enum err open_database(struct open_work *work) {
    const struct catalog_wanted *wanted = &work->wanted;
    cleanup_buf struct buf path = {0};
    enum err err = catalog_path(work->catalog, &path, "volumes/%lld.db", (long long)wanted->id);
    const struct volume_options options = {
        .path = buf_text(&path),
        .create = wanted->create,
        .read_only = wanted->read_only,
        .bytes_max = wanted->bytes_max,
        .inodes_max = wanted->inodes_max,
    };
    return err ? err : volume_open(&options, &work->volume, &work->message);
}

static void run_open(struct op_work *base) {
    struct open_work *work = (struct open_work *)base;
    struct catalog *catalog = work->catalog;
    work->result = open_database(work);
    if (work->result) {
        forget_entry(catalog, work->wanted.id);
    } else {
        catalog_lock(&catalog->volumes_mutex);
        struct volume_entry *entry = find_entry(catalog, work->wanted.id);
        entry->state = OPEN;
        entry->volume = volume_ref(work->volume);
        if (entry->is_removed) {
            volume_set_removed(entry->volume);
        }
        catalog_unlock(&catalog->volumes_mutex);
        op_queue_wake_all(&catalog->volumes_changed);
    }
    catalog_work_end(catalog);
}

static void release_open(struct op_work *base) {
    struct open_work *work = (struct open_work *)base;
    if (work->volume) {
        volume_unref(work->volume);
    }
    buf_done(&work->message);
    free(work);
}

static enum err start_open(struct op *op, struct catalog *catalog,
                           const struct catalog_wanted *wanted) {
    struct open_work *work = calloc(1, sizeof *work);
    if (!work) {
        forget_entry(catalog, wanted->id);
        return ERR_NOMEM;
    }
    work->base.run = run_open;
    work->base.release = release_open;
    work->catalog = catalog;
    work->wanted = *wanted;
    catalog_work_begin(catalog);
    enum err err = op_work_start(op, &work->base);
    if (err != ERR_PENDING) {
        forget_entry(catalog, wanted->id);
        catalog_work_end(catalog);
    }
    return err;
}

/* volumes_mutex. AGAIN: it is being opened or closed; NOENT: it is not open. */
static enum err take_open(struct catalog *catalog, const struct catalog_wanted *wanted,
                          struct volume **ret_volume) {
    struct volume_entry *entry = find_entry(catalog, wanted->id);
    if (!entry) {
        return ERR_NOENT;
    }
    if (entry->state != OPEN) {
        return ERR_AGAIN;
    }
    if (entry->read_only && !wanted->read_only) {
        return ERR_ROFS;
    }
    /* Runs keep the snapshot that they began with: an older one does not bring its quota back. */
    if (wanted->generation > entry->quota_generation) {
        entry->quota_generation = wanted->generation;
        volume_set_quota(entry->volume, wanted->bytes_max, wanted->inodes_max);
    }
    entry->idle_since_ns = 0;
    *ret_volume = volume_ref(entry->volume);
    return ERR_OK;
}

enum err catalog_get_volume(struct op *op, struct catalog *catalog,
                            const struct catalog_wanted *wanted, struct volume **ret_volume,
                            struct buf *message) {
    struct open_work *work = op->state;
    if (work) {
        if (!work->base.finished) {
            return ERR_PENDING;
        }
        enum err err = work->result;
        if (err) {
            err = buf_fail(message, err, "%s",
                           work->message.length ? buf_text(&work->message) : err_text(err));
        } else {
            *ret_volume = STEAL(work->volume);
        }
        return op_finish(op, err);
    }
    for (bool waiting = false;; waiting = true) {
        catalog_lock(&catalog->volumes_mutex);
        enum err err = catalog_name_use(catalog, wanted);
        if (!err) {
            err = take_open(catalog, wanted, ret_volume);
        }
        bool missing = err == ERR_NOENT;
        if (missing) {
            err = add_entry(catalog, wanted);
        }
        catalog_unlock(&catalog->volumes_mutex);
        if (missing && !err) {
            err = start_open(op, catalog, wanted);
            return err == ERR_PENDING ? err : op_finish(op, err);
        }
        if (err != ERR_AGAIN) {
            return op_finish(op, err);
        }
        if (waiting) {
            return ERR_PENDING;
        }
        err = op_queue_wait(&catalog->volumes_changed, op);
        if (err) {
            return err;
        }
    }
}

enum err catalog_volume(struct op *op, struct catalog *catalog, int64_t volume_id, bool read_only,
                        struct volume **ret_volume, struct buf *message) {
    const struct catalog_wanted wanted = {.id = volume_id, .read_only = read_only};
    if (volume_id <= 0) {
        return buf_fail(message, ERR_NOENT, "there is no such volume");
    }
    return catalog_get_volume(op, catalog, &wanted, ret_volume, message);
}

enum err catalog_app_volume(struct op *op, struct catalog *catalog, struct app *app,
                            struct volume **ret_volume, struct buf *message) {
    const struct app_limits *own = &app->limits;
    const struct app_limits *defaults = &catalog->defaults;
    const struct catalog_wanted wanted = {
        .id = app->volume_id,
        .create = true,
        .bytes_max = own->disk_bytes ? own->disk_bytes : defaults->disk_bytes,
        .inodes_max = own->disk_inodes ? own->disk_inodes : defaults->disk_inodes,
        .generation = app->generation,
    };
    return catalog_get_volume(op, catalog, &wanted, ret_volume, message);
}

/* Opening and closing of the catalog */

enum err catalog_volumes_load(struct catalog *catalog, struct buf *message) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = catalog_db_prepare(catalog->db, &row, "SELECT * FROM volume", "");
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW) {
        err = catalog_db_check_seal(row, "volume", 0, 7);
        const char *key = (const char *)sqlite3_column_text(row, 3);
        if (!err && key) {
            err = strlen(key) > APP_NAME_MAX
                      ? ERR_IO
                      : catalog_name_add(catalog, key, sqlite3_column_int64(row, 0), 0);
        }
    }
    err = err ? err : catalog_db_err(catalog->db, result);
    err = err ? err : catalog_sessions_load(catalog);
    return err ? buf_fail(
                     message, err,
                     "%s/catalog.db is damaged (the row of a volume): %s. Nothing was changed. "
                     "Put back a copy of the state directory, or start with another one "
                     "(--state DIR)",
                     catalog->directory, err_text(err))
               : ERR_OK;
}

void catalog_volumes_done(struct catalog *catalog) {
    struct map_node *node;
    while ((node = map_next(&catalog->volumes, NULL))) {
        struct volume_entry *entry = CONTAINER_OF(node, struct volume_entry, node);
        map_remove(&catalog->volumes, node);
        INVARIANT(entry->state == OPEN);
        volume_unref(entry->volume);
        free(entry);
    }
    catalog_names_done(catalog);
    map_done(&catalog->volumes);
}

/* Closes an entry that is CLOSING, without the mutex, because that may take long. */
static void close_entry(struct catalog *catalog, int64_t id, struct volume *volume) {
    volume_unref(volume);
    forget_entry(catalog, id);
}

/* volumes_mutex. Finds the volume that was idle longest; counts the idle ones. */
static struct volume_entry *find_idle(struct catalog *catalog, uint64_t now_ns, size_t *ret_count) {
    struct volume_entry *longest = NULL;
    size_t count = 0;
    for (struct map_node *node = map_next(&catalog->volumes, NULL); node;
         node = map_next(&catalog->volumes, node)) {
        struct volume_entry *entry = CONTAINER_OF(node, struct volume_entry, node);
        if (entry->state != OPEN || volume_is_shared(entry->volume)) {
            entry->idle_since_ns = 0;
            continue;
        }
        count++;
        entry->idle_since_ns = entry->idle_since_ns ? entry->idle_since_ns : now_ns;
        if (!longest || entry->idle_since_ns < longest->idle_since_ns) {
            longest = entry;
        }
    }
    *ret_count = count;
    return longest;
}

void catalog_volumes_sweep(struct catalog *catalog, uint64_t now_ns) {
    for (;;) {
        size_t count;
        catalog_lock(&catalog->volumes_mutex);
        struct volume_entry *entry = find_idle(catalog, now_ns, &count);
        bool close = entry && (count > IDLE_MAX || now_ns - entry->idle_since_ns >= idle_max_ns);
        int64_t id = close ? entry->id : 0;
        struct volume *volume = close ? STEAL(entry->volume) : NULL;
        if (close) {
            entry->state = CLOSING;
        }
        catalog_unlock(&catalog->volumes_mutex);
        if (!close) {
            return;
        }
        close_entry(catalog, id, volume);
    }
}

bool catalog_volume_in_use(struct catalog *catalog, int64_t volume_id) {
    struct volume_entry *entry = find_entry(catalog, volume_id);
    return entry && (entry->state != OPEN || volume_is_shared(entry->volume));
}

void catalog_volume_mark_removed(struct catalog *catalog, int64_t volume_id, bool is_removed) {
    struct volume_entry *entry = find_entry(catalog, volume_id);
    if (entry) {
        entry->is_removed = is_removed;
    }
    if (entry && entry->state == OPEN && is_removed) {
        volume_set_removed(entry->volume);
    }
}

enum err catalog_volume_remove(struct catalog *catalog, int64_t volume_id) {
    struct volume *volume = NULL;
    catalog_lock(&catalog->volumes_mutex);
    struct volume_entry *entry = find_entry(catalog, volume_id);
    bool busy = entry && (entry->state != OPEN || volume_is_shared(entry->volume));
    if (entry && !busy) {
        entry->state = CLOSING;
        volume = STEAL(entry->volume);
    }
    catalog_unlock(&catalog->volumes_mutex);
    if (busy) {
        return ERR_BUSY;
    }
    if (volume) {
        close_entry(catalog, volume_id, volume);
    }
    return catalog_volume_unlink(catalog, volume_id);
}
