/* What the files of the catalog share; nobody else includes this but their tests.
 *
 *   catalog.c          opening and closing, the map of apps, snapshots, the keeper thread
 *   catalog_db.c       catalog.db: schema, seals, statements, errors
 *   catalog_row.c      from its rows to snapshots
 *   catalog_files.c    the state directory: paths, lock, what is left over
 *   catalog_change.c   changes of apps
 *   catalog_doomed.c   what was removed and may still be in use
 *   catalog_query.c    versions, hashes of compiled code
 *   catalog_alarm.c    which apps have alarms
 *   catalog_secret.c   secrets (secret.h)
 *   catalog_volume.c   open volumes
 *   catalog_shared.c   shared volumes: their names, and those that go when their time is over
 *   catalog_id.c       ids of runs
 *
 * Locks, taken in this order: db_mutex, then one of the others. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "store/catalog.h"

#include <pthread.h>
#include <sqlite3.h>

struct app_life {
    atomic_uint references; /* snapshots, and the catalog while it waits for them to go */
};

/* An app, a version of one, or a shared volume was removed: what may go when nobody has it any
 * more.
 */
struct catalog_doomed {
    struct list link;
    struct app_life *life; /* a reference: nothing goes while somebody has a snapshot of the app;
                              NULL for a version and a volume */
    uint8_t (*modules)[SHA256_SIZE];
    size_t module_count;
    int64_t *volumes;
    size_t volume_count;
};

struct catalog {
    char *directory;
    int lock_descriptor;
    struct app_limits defaults;
    atomic_uint_fast64_t temporary_count;

    pthread_rwlock_t apps_lock; /* guards the two arrays */
    struct app **by_key;        /* sorted; the references of the catalog */
    struct app **by_id;         /* sorted; borrows */
    size_t app_count, app_capacity;

    pthread_mutex_t db_mutex; /* guards db, doomed, and the files that rows speak of */
    sqlite3 *db;
    struct list doomed;

    atomic_uint_fast64_t next_run_id, run_id_limit; /* the limit is on disk */
    pthread_mutex_t run_id_mutex;                   /* guards the wait for a new limit */
    pthread_cond_t run_id_reserved;

    pthread_mutex_t volumes_mutex; /* guards the following */
    struct map volumes;            /* struct volume_entry by id */
    struct map volume_names;       /* struct volume_name by key */
    size_t session_count;          /* of the names */
    struct op_queue volumes_changed;

    pthread_mutex_t keeper_mutex; /* guards the following */
    pthread_cond_t keeper_wanted;
    bool keeper_stop, keeper_reserve;
    bool keeper_started;
    pthread_t keeper;
    size_t works; /* changes that workers have */
    pthread_cond_t works_done;
};

/* Between these a worker has the catalog: catalog_free waits. */
void catalog_work_begin(struct catalog *catalog);
void catalog_work_end(struct catalog *catalog);

/* Locks that can't fail unless the program is wrong. */
void catalog_lock(pthread_mutex_t *mutex);
void catalog_unlock(pthread_mutex_t *mutex);

/* The name as it is compared; `key` has room for APP_NAME_MAX and a NUL. INVAL: not a name. */
MUST_USE enum err catalog_key(struct str name, char key[APP_NAME_MAX + 1]);

/* Replaces `old` (NULL: none) by `new` (NULL: none), whose reference is taken; makes room before,
 * so that it can't fail after the commit. */
MUST_USE enum err catalog_reserve_app(struct catalog *catalog);
void catalog_publish(struct catalog *catalog, struct app *old, struct app *new);

/* catalog_db.c: all with db_mutex held (or before anybody else has the catalog). */

/* The columns of app and of version in the statements that make snapshots. */
enum { APP_COLUMNS = 11, VERSION_COLUMNS = 13 };

MUST_USE enum err catalog_db_open(struct catalog *catalog, struct buf *message);
/* All of it was found good: what catalog_db_open has changed of an older catalog stays. */
MUST_USE enum err catalog_db_opened(struct catalog *catalog);
void catalog_db_close(struct catalog *catalog);
/* The error for a result of SQLite's. A failed sync ends the process. */
enum err catalog_db_err(sqlite3 *db, int result);
/* A statement with parameters bound in order by `types`: i int64_t, t struct str (as text), b
 * pointer and size_t (blob), n nothing (NULL). Text and blobs must outlive it. */
MUST_USE enum err catalog_db_prepare(sqlite3 *db, sqlite3_stmt **ret_statement, const char *sql,
                                     const char *types, ...);
/* Runs one that gives no rows. */
MUST_USE enum err catalog_db_run(sqlite3 *db, const char *sql, const char *types, ...);
/* The first column of the first row as a number; NOENT if there is no row. */
MUST_USE enum err catalog_db_number(sqlite3 *db, int64_t *ret_number, const char *sql,
                                    const char *types, ...);
void catalog_statement_done(sqlite3_stmt **statement);
#define cleanup_statement __attribute__((cleanup(catalog_statement_done)))
/* Seals a row that was written: the last column of the tables that have seals is a hash of the
 * others. */
MUST_USE enum err catalog_db_seal(sqlite3 *db, const char *table, int64_t id);
/* Whether the columns from `first` on, the last of them being the seal, are unaltered: else IO. */
MUST_USE enum err catalog_db_check_seal(sqlite3_stmt *row, const char *table, int first,
                                        int columns);
/* Begins, commits; rollback is harmless when nothing has begun. */
MUST_USE enum err catalog_db_begin(sqlite3 *db);
MUST_USE enum err catalog_db_commit(sqlite3 *db);
void catalog_db_rollback(sqlite3 *db);

/* Snapshots of all apps, in order of their keys; `each` takes the reference. */
MUST_USE enum err catalog_db_each_app(struct catalog *catalog,
                                      enum err (*each)(struct catalog *catalog, struct app *app),
                                      struct buf *message);
/* The snapshot of one app, with the life of `old` if that is not NULL. NOENT. */
MUST_USE enum err catalog_db_app(struct catalog *catalog, int64_t app_id, struct app *old,
                                 struct app **ret_app, struct buf *message);
/* The version in the columns from `first` on, with what other tables say of it. Owned:
 * unknown_imports. */
MUST_USE enum err catalog_db_version(sqlite3_stmt *row, int first, struct app_version *ret_version);
/* The layers below a layer, ended by 0. */
MUST_USE enum err catalog_db_below(sqlite3 *db, int64_t layer_id,
                                   int64_t ret_below_ids[VERSION_LAYERS_MAX]);

/* catalog_files.c */

enum { CATALOG_PATH_MAX = 4096 };
MUST_USE enum err catalog_path(const struct catalog *catalog, struct buf *ret_path,
                               const char *format, ...) PRINTF_LIKE(3, 4);
/* Makes the directory and locks it. */
MUST_USE enum err catalog_files_lock(struct catalog *catalog, struct buf *message);
/* Makes the directories inside. */
MUST_USE enum err catalog_files_make(struct catalog *catalog, struct buf *message);
/* Whether there are modules or volumes. */
MUST_USE enum err catalog_files_any(struct catalog *catalog, bool *ret_any);
/* Checks that the files don't speak of a newer catalog, and clears what no row speaks of. */
MUST_USE enum err catalog_files_clear(struct catalog *catalog, struct buf *message);
/* Syncs a file that somebody else has written. */
MUST_USE enum err catalog_file_sync(const char *path);
/* Renames and syncs the directories; a failed sync ends the process. */
MUST_USE enum err catalog_file_move(const struct catalog *catalog, const char *path,
                                    const char *folder, const char *name);
/* Removes a volume's files, those that there are. */
MUST_USE enum err catalog_volume_unlink(struct catalog *catalog, int64_t volume_id);
/* Removes a module and what was compiled from it, unless a row or a doomed app other than `but`
 * has it. db_mutex. */
void catalog_module_drop(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE],
                         const struct catalog_doomed *but);

/* catalog_volume.c */

/* What is asked for when a volume is opened. */
struct catalog_wanted {
    int64_t id;
    bool create, read_only;
    uint64_t bytes_max, inodes_max;
    uint64_t generation; /* of the app that has the quota; 0 = there is none */
    const char *key; /* of a shared volume: STALE if `id` is not the one of that name any more */
    bool is_trial;   /* of a session: it is not used yet */
};
/* Polled. */
MUST_USE enum err catalog_get_volume(struct op *op, struct catalog *catalog,
                                     const struct catalog_wanted *wanted,
                                     struct volume **ret_volume, struct buf *message);
/* volumes_mutex: whether somebody has it, or is about to. */
bool catalog_volume_in_use(struct catalog *catalog, int64_t volume_id);
/* volumes_mutex: tells those who have it. */
void catalog_volume_mark_removed(struct catalog *catalog, int64_t volume_id, bool is_removed);

MUST_USE enum err catalog_volumes_load(struct catalog *catalog, struct buf *message);
void catalog_volumes_done(struct catalog *catalog);
/* Closes volumes that were idle for long, or that are too many. */
void catalog_volumes_sweep(struct catalog *catalog, uint64_t now_ns);
/* Closes a volume and removes its files: BUSY if somebody has it. */
MUST_USE enum err catalog_volume_remove(struct catalog *catalog, int64_t volume_id);

/* catalog_shared.c */

/* A shared volume. Guarded by volumes_mutex. */
struct volume_name {
    struct map_node node; /* by key */
    char key[APP_NAME_MAX + 1];
    int64_t id;
    uint8_t wishes; /* how often it was asked for since it was made; from 2 on it is not counted */
    /* Of a session: */
    uint64_t ttl_ns;                 /* 0: it is kept */
    uint64_t saved_ttl_ns, saved_ns; /* what is on disk: ttl, and `ends_ns` of then */
    uint64_t ends_ns;                /* monotonic: when it goes */
};
/* volumes_mutex. Takes no key twice. */
MUST_USE enum err catalog_name_add(struct catalog *catalog, const char *key, int64_t id,
                                   uint64_t ttl_ns);
/* volumes_mutex. The volume is used now, unless it is on trial: STALE if it has lost its name. OK
 * for those that have no name. */
MUST_USE enum err catalog_name_use(struct catalog *catalog, const struct catalog_wanted *wanted);
/* After all names were added. */
MUST_USE enum err catalog_sessions_load(struct catalog *catalog);
/* Ends sessions whose time is over, and writes down when the others end: of all exactly
 * (`is_last`), or of those whose end on disk has come too near. */
void catalog_sessions_sweep(struct catalog *catalog, bool is_last);
void catalog_names_done(struct catalog *catalog);

/* catalog_id.c */

MUST_USE enum err catalog_ids_load(struct catalog *catalog);
/* Reserves the next block. Blocking. */
MUST_USE enum err catalog_ids_reserve(struct catalog *catalog);
/* Gives back what is left of the block, when nobody takes ids any more. Blocking. */
void catalog_ids_give_back(struct catalog *catalog);

/* catalog_doomed.c */

/* What an app, or one version of it, has: its rows are still there. db_mutex. */
MUST_USE enum err catalog_doomed_new(sqlite3 *db, const struct app *app, uint32_t number,
                                     struct catalog_doomed **ret_doomed);
void catalog_doomed_free(struct catalog_doomed *doomed);
/* Deletes the rows of layers that no version has any more. db_mutex. */
MUST_USE enum err catalog_delete_unused_layers(sqlite3 *db);
/* Removes what nobody has any more. db_mutex must not be held. Blocking. */
void catalog_sweep_doomed(struct catalog *catalog);

/* All that the keeper does once a second. */
void catalog_sweep(struct catalog *catalog);
/* Has the keeper reserve ids now. */
void catalog_keeper_wake(struct catalog *catalog);
void app_life_unref(struct app_life *life);
