/* The catalog: which apps there are, their versions and settings, in catalog.db, and the files
 * around it (modules by hash, compiled code, volumes).
 *
 * Reads are from memory: struct app is an immutable snapshot that is replaced as a whole by an
 * update, so a run keeps the one it started with. Updates are written to catalog.db by a worker and
 * are on disk before they are visible (polled by an op); an update that was given up half way
 * happens whole or not at all. Every row has an owner (1 = local). Every row is sealed with a hash,
 * so that damage is found and not believed.
 *
 * What a removed app leaves (its volume, layers and modules that nobody else uses) goes when the
 * last snapshot of it and the last user of the volume have gone, or at the next start.
 *
 * A failed sync of catalog.db or of a directory ends the process: what is on disk is then unknown.
 *
 * Thread: any loop's. Layer: loop. */
#pragma once

#include "base/buf.h"
#include "base/sha256.h"
#include "loop/op.h"
#include "store/app_config.h"
#include "store/volume.h"

#include <jansson.h>
#include <stdatomic.h>

struct catalog;
struct app_life; /* the catalog's: counts the snapshots of an app */

/* Layers of a version: its own and those below it, which came from other apps. */
#define VERSION_LAYERS_MAX 5

/* One version: what was uploaded, immutable. */
struct app_version {
    uint32_t number; /* 1, 2, and so on: never used again */
    uint8_t module_sha256[SHA256_SIZE];
    uint64_t module_bytes;
    bool is_library;  /* no _start: needs call= */
    int64_t layer_id; /* the volume with its files; 0 = none */
    /* The layers below that one, topmost first, ended by 0. They belong to the layer: who has it
     * has them. */
    int64_t below_ids[VERSION_LAYERS_MAX];
    uint64_t layer_files, layer_bytes; /* what was uploaded with it */
    uint64_t created_ns;               /* realtime */
    char *unknown_imports;             /* one a line, or NULL */
    /* Where it came from. */
    char from_name[APP_NAME_MAX + 1]; /* the app whose program it has; "" = it was uploaded */
    uint32_t from_number;             /* and its version */
    uint32_t rollback_number;         /* it is this older version of its own app again; 0 = none */
};

/* A snapshot of an app. Immutable; strings owned by it. */
struct app {
    atomic_uint references;
    struct app_life *life;
    int64_t id; /* never used again */
    int64_t owner_id;
    char name[APP_NAME_MAX + 1]; /* as it was created */
    char key[APP_NAME_MAX + 1];  /* its name as it is compared: '_' in place of '-' */
    struct app_version version;  /* the current one */
    int64_t volume_id;           /* its own volume */
    struct app_limits limits;
    char **arguments;   /* default arguments, without argv[0]; NULL-terminated */
    char **environment; /* "KEY=VALUE"; NULL-terminated */
    struct app_mount {
        char *volume; /* a volume's name (/vol/NAME) */
        char *path;   /* absolute, in the guest */
        bool read_only;
    } * mounts;
    size_t mount_count;
    const char *root; /* "keep", "fresh", "ro" or a volume's name; NULL: not set. In `config` */
    json_t *config;   /* as app_config_show has it; borrowed by readers */
    uint64_t created_ns, changed_ns; /* realtime */
    uint64_t generation; /* counts changes of this id: with it the ETag of the configuration */
};
struct app *app_ref(struct app *app);
void app_unref(struct app *app);

/* Opens DIR (made with mode 0700 if missing; one server at a time holds it: BUSY), checks it, reads
 * the apps, and clears away what unfinished uploads left. Blocking. A damaged catalog.db, or one
 * that does not belong to the files around it: IO with a message that says what to do; nothing is
 * overwritten or removed. */
MUST_USE enum err catalog_open(const char *state_directory, struct catalog **ret_catalog,
                               struct buf *message);
/* Waits for the changes that are under way, closes the volumes, and has everything on disk when it
 * returns. No op may be pending, and no volume of it be in use. Accepts NULL. Blocking. */
void catalog_free(struct catalog *catalog);
/* What holds for apps that set nothing themselves; here the quota of volumes matters (disk_bytes,
 * disk_inodes; 0 = none). At first the defaults of docs/limits.md. Before the first volume is
 * opened. */
void catalog_set_defaults(struct catalog *catalog, const struct app_limits *defaults);

/* A reference, or NOENT. Names that differ only in '-' and '_' are the same. */
MUST_USE enum err catalog_find(struct catalog *catalog, struct str name, struct app **ret_app);
/* The same by id. */
MUST_USE enum err catalog_find_id(struct catalog *catalog, int64_t app_id, struct app **ret_app);
/* Calls `each` for every app by name in order; it may take a reference, and must not call the
 * catalog. */
void catalog_each(struct catalog *catalog, void (*each)(void *argument, struct app *app),
                  void *argument);
size_t catalog_count(struct catalog *catalog);

/* A change of an app, prepared by the caller and applied whole: on disk or not at all. */
struct app_change {
    struct str name;
    bool create_only;           /* EXIST if it is there */
    bool update_only;           /* NOENT if it is not */
    bool has_version;           /* a new version: the following are set. A new app needs one. */
    struct app_version version; /* number, created_ns and below_ids are given by the catalog,
                                   layer_id too unless it is that of a version that exists;
                                   unknown_imports is copied */
    struct str module_temporary_path; /* from catalog_temporary_path, complete; becomes
                                         modules/SHA256.wasm. Length 0: the module of an existing
                                         version, NOENT if it is none. */
    struct str layer_temporary_path;  /* a volume database that is closed, or length 0; becomes the
                                         layer's, above the one that version.layer_id names. 2BIG:
                                         that would be more than VERSION_LAYERS_MAX. */
    const json_t *config;   /* the whole new configuration, checked and brought into canonical form
                               here; NULL = unchanged */
    uint64_t if_generation; /* with if_id: STALE unless the app is this one and at this generation;
                               0 = whatever it is at (If-Match, and for merging configurations) */
    int64_t if_id;
};
/* Polled. The temporary files belong to the catalog once it has returned ERR_PENDING: they are
 * gone afterwards in any case. */
MUST_USE enum err catalog_apply(struct op *op, struct catalog *catalog,
                                const struct app_change *change, struct app **ret_app,
                                bool *ret_created, struct buf *message);
/* Polled. Removes the app, its versions, its volume and what nobody else uses. Runs that still have
 * it keep their snapshot; its files go when they end. NOENT. */
MUST_USE enum err catalog_remove(struct op *op, struct catalog *catalog, struct str name);
/* Polled. A new name for an app: NOENT, EXIST, INVAL (not a name). */
MUST_USE enum err catalog_rename(struct op *op, struct catalog *catalog, struct str old_name,
                                 struct str new_name);
/* Polled. The module and layers of an older version become the current ones, under a new number;
 * `number` 0: of the one before the current; if that is a rollback itself, of the one before the
 * version that it brought back, so that each goes one further back. NOENT: the message says whether
 * it is the app or the version that is missing. */
MUST_USE enum err catalog_rollback(struct op *op, struct catalog *catalog, struct str name,
                                   uint32_t number, struct app **ret_app, struct buf *message);

/* Polled. Removes an older version, with what nobody else uses. A run of it that has not begun yet
 * fails. NOENT; BUSY: it is the current one. */
MUST_USE enum err catalog_remove_version(struct op *op, struct catalog *catalog,
                                         const struct app *app, uint32_t number,
                                         struct buf *message);

/* Polled. All versions of an app, newest first: the caller's, for app_versions_free. */
MUST_USE enum err catalog_versions(struct op *op, struct catalog *catalog, const struct app *app,
                                   struct app_version **ret_versions, size_t *ret_count);
/* Polled. One of them, or NOENT; at once for the current one. */
MUST_USE enum err catalog_version(struct op *op, struct catalog *catalog, const struct app *app,
                                  uint32_t number, struct app_version **ret_version);
/* Accepts NULL with 0. A single version is freed with count 1. */
void app_versions_free(struct app_version *versions, size_t count);

/* The volume of an id (a layer, or one whose id is known), opened once and shared: a reference.
 * Polled (opening is done by a worker). ROFS: it is open as read-only and `read_only` is false. A
 * volume stays open for a while when nobody uses it. */
MUST_USE enum err catalog_volume(struct op *op, struct catalog *catalog, int64_t volume_id,
                                 bool read_only, struct volume **ret_volume, struct buf *message);
/* The app's own volume with its quota, made when first used. Polled. */
MUST_USE enum err catalog_app_volume(struct op *op, struct catalog *catalog, struct app *app,
                                     struct volume **ret_volume, struct buf *message);
/* A shared volume by name (/vol/NAME), made when first used if `create`, else NOENT. Names as those
 * of apps. Polled. */
MUST_USE enum err catalog_named_volume(struct op *op, struct catalog *catalog, struct str name,
                                       bool create, struct volume **ret_volume,
                                       struct buf *message);
/* A session: a shared volume that goes, with its files, `ttl_ns` after it was last used (while
 * somebody has it, it is in use), also across restarts. Made when first used; one that is there is
 * given with the ttl that it has. One that was made without ttl is kept: EXIST, or with `or_kept`
 * it is given as it is. 0 for `ttl_ns`: as it is; made anew, it is kept. To have it is no use yet,
 * for a run that is refused in the end: catalog_use_session. Polled. */
MUST_USE enum err catalog_session_volume(struct op *op, struct catalog *catalog, struct str name,
                                         uint64_t ttl_ns, bool or_kept, struct volume **ret_volume,
                                         struct buf *message);
/* A session that is there is used now, and has another ttl from now on (0: the one that it has);
 * nothing if it is kept, or `volume` (which the caller has) is not the one of that name any more.
 */
void catalog_use_session(struct catalog *catalog, struct str name, const struct volume *volume,
                         uint64_t ttl_ns);
/* What is known of a shared volume; NOENT. */
struct volume_session {
    uint64_t ttl_ns;  /* 0: it is kept */
    uint64_t left_ns; /* until it goes, if nobody uses it until then */
};
MUST_USE enum err catalog_volume_session(struct catalog *catalog, struct str name,
                                         struct volume_session *ret_session);
/* Removes a shared volume: its name is free at once; its files go when nobody has it any more
 * (volume_is_removed tells those who have; they can read it, and change nothing). Polled. NOENT. */
MUST_USE enum err catalog_delete_volume(struct op *op, struct catalog *catalog, struct str name);
/* Takes back that a volume (which the caller has) was made by asking for it: as above, but only if
 * nobody else has asked for it since then. Polled. BUSY: somebody has, or it was there before this
 * process, or it is not the one of that name any more. */
MUST_USE enum err catalog_unmake_volume(struct op *op, struct catalog *catalog, struct str name,
                                        struct volume *volume);
/* Calls `each` for the name of every shared volume, in no order, with '_' for '-' as names are
 * compared. It must not call the catalog. */
void catalog_each_volume_name(struct catalog *catalog,
                              void (*each)(void *argument, const char *name), void *argument);

/* Polled. Notes, on disk when it returns, that the app may have alarms in its volume. NOENT: it was
 * removed. */
MUST_USE enum err catalog_note_alarms(struct op *op, struct catalog *catalog, int64_t app_id);
/* Calls `each` for every app that was noted, in the order of ids; it must not call the catalog.
 * Blocking (short). */
MUST_USE enum err catalog_each_with_alarms(struct catalog *catalog,
                                           enum err (*each)(void *argument, int64_t app_id),
                                           void *argument);

/* Paths, appended to `ret_path`. */
MUST_USE enum err catalog_module_path(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE],
                                      struct buf *ret_path);
/* Its directory is made if missing (blocking, the first time). */
MUST_USE enum err catalog_compiled_path(struct catalog *catalog, const char *engine_key,
                                        const uint8_t sha256[SHA256_SIZE], struct buf *ret_path);
/* A fresh name in DIR/tmp, which is emptied at start. */
MUST_USE enum err catalog_temporary_path(struct catalog *catalog, struct buf *ret_path);
const char *catalog_state_directory(const struct catalog *catalog);

/* The hash of the compiled code of a module for an engine: recorded when it was compiled, asked
 * before it is loaded. NOENT. Blocking (short): call on a worker. */
MUST_USE enum err catalog_compiled_hash(struct catalog *catalog, const char *engine_key,
                                        const uint8_t module_sha256[SHA256_SIZE],
                                        uint8_t ret_sha256[SHA256_SIZE]);
MUST_USE enum err catalog_set_compiled_hash(struct catalog *catalog, const char *engine_key,
                                            const uint8_t module_sha256[SHA256_SIZE],
                                            const uint8_t compiled_sha256[SHA256_SIZE]);
/* The next run id of this state directory: never used twice, also after a crash (taken from disk in
 * blocks ahead of need, by a thread of the catalog). Cheap; it waits for the disk only if a whole
 * block was used up faster than the next could be written. Thread: any. */
uint64_t catalog_next_run_id(struct catalog *catalog);
