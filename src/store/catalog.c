#include "store/catalog.h"

#include "base/clock.h"
#include "base/fsio.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/catalog_internal.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

void catalog_lock(pthread_mutex_t *mutex) {
    INVARIANT(pthread_mutex_lock(mutex) == 0);
}

void catalog_unlock(pthread_mutex_t *mutex) {
    INVARIANT(pthread_mutex_unlock(mutex) == 0);
}

/* Snapshots */

struct app *app_ref(struct app *app) {
    atomic_fetch_add_explicit(&app->references, 1, memory_order_relaxed);
    return app;
}

void app_life_unref(struct app_life *life) {
    if (life && atomic_fetch_sub_explicit(&life->references, 1, memory_order_acq_rel) == 1) {
        free(life);
    }
}

static void free_texts(char **texts) {
    for (char **text = texts; text && *text; text++) {
        free(*text);
    }
    free(texts);
}

void app_unref(struct app *app) {
    if (!app || atomic_fetch_sub_explicit(&app->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    free_texts(app->arguments);
    free_texts(app->environment);
    for (size_t i = 0; i < app->mount_count; i++) {
        free(app->mounts[i].volume);
        free(app->mounts[i].path);
    }
    free(app->mounts);
    free(app->version.unknown_imports);
    json_decref(app->config);
    app_life_unref(app->life);
    free(app);
}

/* The map of apps */

enum err catalog_key(struct str name, char key[APP_NAME_MAX + 1]) {
    enum err err = app_name_check(name, NULL);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < name.length; i++) {
        key[i] = name.data[i] == '-' ? '_' : name.data[i];
    }
    key[name.length] = 0;
    return ERR_OK;
}

/* The place of a key: that of the first app whose key is not less. */
static size_t place_of_key(const struct catalog *catalog, const char *key) {
    size_t low = 0, high = catalog->app_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(catalog->by_key[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t place_of_id(const struct catalog *catalog, int64_t id) {
    size_t low = 0, high = catalog->app_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (catalog->by_id[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum err catalog_find(struct catalog *catalog, struct str name, struct app **ret_app) {
    char key[APP_NAME_MAX + 1];
    if (catalog_key(name, key)) {
        return ERR_NOENT;
    }
    pthread_rwlock_rdlock(&catalog->apps_lock);
    size_t place = place_of_key(catalog, key);
    bool found = place < catalog->app_count && strcmp(catalog->by_key[place]->key, key) == 0;
    if (found) {
        *ret_app = app_ref(catalog->by_key[place]);
    }
    pthread_rwlock_unlock(&catalog->apps_lock);
    return found ? ERR_OK : ERR_NOENT;
}

enum err catalog_find_id(struct catalog *catalog, int64_t app_id, struct app **ret_app) {
    pthread_rwlock_rdlock(&catalog->apps_lock);
    size_t place = place_of_id(catalog, app_id);
    bool found = place < catalog->app_count && catalog->by_id[place]->id == app_id;
    if (found) {
        *ret_app = app_ref(catalog->by_id[place]);
    }
    pthread_rwlock_unlock(&catalog->apps_lock);
    return found ? ERR_OK : ERR_NOENT;
}

void catalog_each(struct catalog *catalog, void (*each)(void *argument, struct app *app),
                  void *argument) {
    pthread_rwlock_rdlock(&catalog->apps_lock);
    for (size_t i = 0; i < catalog->app_count; i++) {
        each(argument, catalog->by_key[i]);
    }
    pthread_rwlock_unlock(&catalog->apps_lock);
}

size_t catalog_count(struct catalog *catalog) {
    pthread_rwlock_rdlock(&catalog->apps_lock);
    size_t count = catalog->app_count;
    pthread_rwlock_unlock(&catalog->apps_lock);
    return count;
}

enum err catalog_reserve_app(struct catalog *catalog) {
    enum err err = ERR_OK;
    pthread_rwlock_wrlock(&catalog->apps_lock);
    if (catalog->app_count == catalog->app_capacity) {
        size_t capacity = catalog->app_capacity ? catalog->app_capacity * 2 : 64;
        struct app **by_key = realloc(catalog->by_key, capacity * sizeof(struct app *));
        catalog->by_key = by_key ? by_key : catalog->by_key;
        struct app **by_id = realloc(catalog->by_id, capacity * sizeof(struct app *));
        catalog->by_id = by_id ? by_id : catalog->by_id;
        err = by_key && by_id ? ERR_OK : ERR_NOMEM;
        catalog->app_capacity = err ? catalog->app_capacity : capacity;
    }
    pthread_rwlock_unlock(&catalog->apps_lock);
    return err;
}

static void put(struct app **array, size_t count, size_t place, struct app *app) {
    memmove(array + place + 1, array + place, (count - place) * sizeof *array);
    array[place] = app;
}

static void take(struct app **array, size_t count, size_t place, const struct app *app) {
    INVARIANT(place < count && array[place] == app);
    memmove(array + place, array + place + 1, (count - place - 1) * sizeof *array);
}

void catalog_publish(struct catalog *catalog, struct app *old, struct app *new) {
    pthread_rwlock_wrlock(&catalog->apps_lock);
    if (old) {
        take(catalog->by_key, catalog->app_count, place_of_key(catalog, old->key), old);
        take(catalog->by_id, catalog->app_count, place_of_id(catalog, old->id), old);
        catalog->app_count--;
    }
    if (new) {
        INVARIANT(catalog->app_count < catalog->app_capacity);
        put(catalog->by_key, catalog->app_count, place_of_key(catalog, new->key), new);
        put(catalog->by_id, catalog->app_count, place_of_id(catalog, new->id), new);
        catalog->app_count++;
    }
    pthread_rwlock_unlock(&catalog->apps_lock);
    app_unref(old);
}

/* The keeper: a thread that reserves ids ahead and clears away what is not used any more. */

void catalog_work_begin(struct catalog *catalog) {
    catalog_lock(&catalog->keeper_mutex);
    catalog->works++;
    catalog_unlock(&catalog->keeper_mutex);
}

void catalog_work_end(struct catalog *catalog) {
    catalog_lock(&catalog->keeper_mutex);
    catalog->works--;
    pthread_cond_broadcast(&catalog->works_done);
    catalog_unlock(&catalog->keeper_mutex);
}

void catalog_keeper_wake(struct catalog *catalog) {
    catalog_lock(&catalog->keeper_mutex);
    catalog->keeper_reserve = true;
    pthread_cond_signal(&catalog->keeper_wanted);
    catalog_unlock(&catalog->keeper_mutex);
}

void catalog_sweep(struct catalog *catalog) {
    catalog_sessions_sweep(catalog, false);
    catalog_sweep_doomed(catalog);
    catalog_volumes_sweep(catalog, clock_monotonic_ns());
}

/* Enough ids ahead that nobody waits for the disk. */
static void reserve_ids(struct catalog *catalog) {
    for (;;) {
        uint64_t next = atomic_load(&catalog->next_run_id);
        uint64_t limit = atomic_load(&catalog->run_id_limit);
        if (limit > next && limit - next > 50000) {
            return;
        }
        if (catalog_ids_reserve(catalog)) {
            log_debug("no ids of runs can be reserved; trying again");
            return; /* a second later, again */
        }
    }
}

static void *run_keeper(void *argument) {
    struct catalog *catalog = argument;
    thread_set_name("catalog");
    catalog_lock(&catalog->keeper_mutex);
    while (!catalog->keeper_stop) {
        catalog->keeper_reserve = false;
        catalog_unlock(&catalog->keeper_mutex);
        reserve_ids(catalog);
        catalog_sweep(catalog);
        catalog_lock(&catalog->keeper_mutex);
        if (!catalog->keeper_stop && !catalog->keeper_reserve) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec++;
            pthread_cond_timedwait(&catalog->keeper_wanted, &catalog->keeper_mutex, &until);
        }
    }
    catalog_unlock(&catalog->keeper_mutex);
    return NULL;
}

static enum err start_keeper(struct catalog *catalog) {
    int result = pthread_create(&catalog->keeper, NULL, run_keeper, catalog);
    catalog->keeper_started = result == 0;
    return err_from_errno(result);
}

static void stop_keeper(struct catalog *catalog) {
    catalog_lock(&catalog->keeper_mutex);
    while (catalog->works > 0) {
        pthread_cond_wait(&catalog->works_done, &catalog->keeper_mutex);
    }
    catalog->keeper_stop = true;
    pthread_cond_signal(&catalog->keeper_wanted);
    catalog_unlock(&catalog->keeper_mutex);
    if (catalog->keeper_started) {
        pthread_join(catalog->keeper, NULL);
    }
}

/* Opening and closing */

static enum err init_locks(struct catalog *catalog) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_rwlock_init(&catalog->apps_lock, NULL);
    pthread_mutex_init(&catalog->db_mutex, NULL);
    pthread_mutex_init(&catalog->run_id_mutex, NULL);
    pthread_cond_init(&catalog->run_id_reserved, NULL);
    pthread_mutex_init(&catalog->volumes_mutex, NULL);
    pthread_mutex_init(&catalog->keeper_mutex, NULL);
    pthread_cond_init(&catalog->keeper_wanted, &monotonic);
    pthread_cond_init(&catalog->works_done, NULL);
    pthread_condattr_destroy(&monotonic);
    list_init(&catalog->doomed);
    return op_queue_init(&catalog->volumes_changed);
}

static enum err add_loaded(struct catalog *catalog, struct app *app) {
    enum err err = catalog_reserve_app(catalog);
    if (err) {
        app_unref(app);
        return err;
    }
    catalog_publish(catalog, NULL, app);
    return ERR_OK;
}

static enum err open_all(struct catalog *catalog, struct buf *message) {
    enum err err = catalog_files_lock(catalog, message);
    err = err ? err : catalog_files_make(catalog, message);
    err = err ? err : catalog_db_open(catalog, message);
    err = err ? err : catalog_db_each_app(catalog, add_loaded, message);
    err = err ? err : catalog_volumes_load(catalog, message);
    if (!err) {
        err = catalog_ids_load(catalog);
        if (err) {
            return buf_fail(message, err,
                            "%s/catalog.db is damaged (the counter of runs). Nothing was changed. "
                            "Put back a copy of the state directory, or start with another one "
                            "(--state DIR)",
                            catalog->directory);
        }
    }
    /* Only now, when all rows have been found good, may files be removed and rows written. */
    err = err ? err : catalog_files_clear(catalog, message);
    if (!err) {
        sqlite3_db_config(catalog->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        err = catalog_db_opened(catalog);
        err = err ? err : catalog_ids_reserve(catalog);
        err = err ? err : start_keeper(catalog);
        if (err) {
            return buf_fail(message, err, "%s/catalog.db can't be written: %s", catalog->directory,
                            err_text(err));
        }
    }
    return err;
}

enum err catalog_open(const char *state_directory, struct catalog **ret_catalog,
                      struct buf *message) {
    struct catalog *catalog = calloc(1, sizeof *catalog);
    char *directory = strdup(state_directory);
    if (!catalog || !directory) {
        free(catalog);
        free(directory);
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    catalog->directory = directory;
    catalog->lock_descriptor = -1;
    catalog->defaults = (struct app_limits){.disk_bytes = GIB, .disk_inodes = 100000};
    enum err err = init_locks(catalog);
    err = err ? err : open_all(catalog, message);
    if (err) {
        catalog_free(catalog);
        return err;
    }
    *ret_catalog = catalog;
    return ERR_OK;
}

void catalog_free(struct catalog *catalog) {
    if (!catalog) {
        return;
    }
    stop_keeper(catalog);
    if (catalog->keeper_started) { /* it was opened whole */
        catalog_sessions_sweep(catalog, true);
    }
    catalog_volumes_done(catalog);
    if (catalog->keeper_started) {
        catalog_sweep_doomed(catalog);
        catalog_ids_give_back(catalog);
    }
    LIST_FOR_EACH_SAFE (node, &catalog->doomed) {
        catalog_doomed_free(CONTAINER_OF(node, struct catalog_doomed, link));
    }
    for (size_t i = 0; i < catalog->app_count; i++) {
        app_unref(catalog->by_key[i]);
    }
    free(catalog->by_key);
    free(catalog->by_id);
    catalog_db_close(catalog);
    op_queue_done(&catalog->volumes_changed);
    pthread_rwlock_destroy(&catalog->apps_lock);
    pthread_mutex_destroy(&catalog->db_mutex);
    pthread_mutex_destroy(&catalog->run_id_mutex);
    pthread_cond_destroy(&catalog->run_id_reserved);
    pthread_mutex_destroy(&catalog->volumes_mutex);
    pthread_mutex_destroy(&catalog->keeper_mutex);
    pthread_cond_destroy(&catalog->keeper_wanted);
    pthread_cond_destroy(&catalog->works_done);
    if (catalog->lock_descriptor >= 0) {
        close(catalog->lock_descriptor);
    }
    free(catalog->directory);
    free(catalog);
}

void catalog_set_defaults(struct catalog *catalog, const struct app_limits *defaults) {
    catalog->defaults = *defaults;
}

const char *catalog_state_directory(const struct catalog *catalog) {
    return catalog->directory;
}
