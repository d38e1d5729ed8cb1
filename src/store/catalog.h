/* The catalog: which apps there are, their versions and settings, in catalog.db, and the files
 * around it (modules by hash, compiled code, volumes).
 *
 * Reads are from memory: struct app is an immutable snapshot that is replaced as a whole by an
 * update, so a run keeps the one it started with. Updates are written to catalog.db by a worker and
 * are on disk before they are visible (polled by an op). Every row has an owner (1 = local).
 *
 * Thread: any loop's. Layer: loop. */
#pragma once

#include "base/buf.h"
#include "loop/op.h"
#include "store/volume.h"

#include <jansson.h>

struct catalog;

#define SHA256_SIZE 32
#define APP_NAME_MAX 63

/* Settings of an app. A set field overrides the server's default; a run may only tighten. 0 = not
 * set. */
struct app_limits {
    uint64_t memory_bytes, cpu_ns, wall_ns, output_bytes, disk_bytes, disk_inodes, tmp_bytes;
    uint64_t open_files, max_runs, queue;
};

/* One version: what was uploaded, immutable. */
struct app_version {
    uint32_t number; /* 1, 2, … never used again */
    uint8_t module_sha256[SHA256_SIZE];
    uint64_t module_bytes;
    bool is_library;  /* no _start: needs call= */
    int64_t layer_id; /* the volume with its files; 0 = none */
    uint64_t layer_files, layer_bytes;
    uint64_t created_ns;   /* realtime */
    char *unknown_imports; /* one a line, or NULL */
};

/* A snapshot of an app. Immutable; strings owned by it. */
struct app {
    atomic_uint references;
    int64_t id; /* never used again */
    int64_t owner_id;
    char name[APP_NAME_MAX + 1]; /* as it was created */
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
    json_t *config; /* all of the configuration as it is shown; borrowed by readers */
    uint64_t created_ns, changed_ns;
    uint64_t generation; /* counts changes: the ETag of its configuration */
};
struct app *app_ref(struct app *app);
void app_unref(struct app *app);

/* INVAL unless it is 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit. */
MUST_USE enum err app_name_check(struct str name, struct buf *message);

/* Opens DIR (made with mode 0700 if missing; one server at a time holds it: BUSY), checks it, reads
 * the apps, and clears away what unfinished uploads left. Blocking. A damaged catalog.db: IO with a
 * message that says what to do; nothing is overwritten. */
MUST_USE enum err catalog_open(const char *state_directory, struct catalog **ret_catalog,
                               struct buf *message);
/* Everything is on disk when it returns. */
void catalog_free(struct catalog *catalog);

/* A reference, or NOENT. Names that differ only in '-' and '_' are the same. */
MUST_USE enum err catalog_find(struct catalog *catalog, struct str name, struct app **ret_app);
/* Calls `each` for every app by name in order; it may take a reference. */
void catalog_each(struct catalog *catalog, void (*each)(void *argument, struct app *app),
                  void *argument);
size_t catalog_count(struct catalog *catalog);

/* A change of an app, prepared by the caller and applied whole: on disk or not at all. */
struct app_change {
    struct str name;
    bool create_only; /* EXIST if it is there */
    bool update_only; /* NOENT if it is not */
    bool has_version; /* a new version: the following are set */
    struct app_version
        version; /* number and created_ns are given by the catalog; unknown_imports is copied */
    struct str module_temporary_path; /* from catalog_temporary_path, complete and synced; becomes
                                         modules/SHA256.wasm (dropped if that is there) */
    struct str layer_temporary_path;  /* a volume database, or length 0; becomes the layer's */
    const json_t *config;             /* whole new configuration object, checked by the caller of
                                         app_config_check; NULL = unchanged */
};
/* Polled. */
MUST_USE enum err catalog_apply(struct op *op, struct catalog *catalog,
                                const struct app_change *change, struct app **ret_app,
                                bool *ret_created, struct buf *message);
/* Polled. Removes the app, its versions, its volume and what nobody else uses. Runs that still have
 * it keep their snapshot; its files go when they end. */
MUST_USE enum err catalog_remove(struct op *op, struct catalog *catalog, struct str name);
/* Polled. A new name for an app: NOENT, EXIST. */
MUST_USE enum err catalog_rename(struct op *op, struct catalog *catalog, struct str old_name,
                                 struct str new_name);
/* Polled. Makes an older version the current one, as a new version (rollback). */
MUST_USE enum err catalog_versions(struct op *op, struct catalog *catalog, const struct app *app,
                                   struct app_version **ret_versions, size_t *ret_count);

/* Parses and checks a configuration object; the message names the key that is wrong and what it may
 * be. Fills what the snapshot needs. Keys: web serve memory wall cpu output disk files tmp
 * open_files max_runs queue instances args env mounts net. Values as on /create. */
MUST_USE enum err app_config_check(const json_t *config, struct app_limits *ret_limits,
                                   struct buf *message);

/* The volume of an id, opened once and shared: a reference. Polled (opening is done by a worker).
 */
MUST_USE enum err catalog_volume(struct op *op, struct catalog *catalog, int64_t volume_id,
                                 bool read_only, struct volume **ret_volume, struct buf *message);
/* The app's own volume with its quota, made when first used. Polled. */
MUST_USE enum err catalog_app_volume(struct op *op, struct catalog *catalog, struct app *app,
                                     struct volume **ret_volume, struct buf *message);
/* A shared volume by name (/vol/NAME), made when first used if `create`. Polled. */
MUST_USE enum err catalog_named_volume(struct op *op, struct catalog *catalog, struct str name,
                                       bool create, struct volume **ret_volume,
                                       struct buf *message);

/* Paths, appended to `ret_path`. */
MUST_USE enum err catalog_module_path(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE],
                                      struct buf *ret_path);
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
 * blocks). Cheap. Thread: any. */
uint64_t catalog_next_run_id(struct catalog *catalog);
