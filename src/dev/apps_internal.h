/* What the files of /apps share: apps.c has the root and finds what lies below an app, apps_text.c
 * the texts, apps_setting.c what can be written, apps_data.c the module and the log, apps_files.c
 * the app's files, apps_alarm.c its alarms, apps_call.c and apps_start.c runs of it,
 * apps_versions.c its versions, apps_secrets.c names of secrets, apps_remove.c the end of an app.
 * Layer: ns, store; private. */
#pragma once

#include "dev/apps.h"
#include "ns/transaction.h"

#include <pthread.h>

/* What a setting may hold when it is written. */
#define APPS_SETTING_BYTES_MAX (256 * KIB)
#define APPS_UNIONS_MAX 32

/* The files of an app that were used lately, so that two walks meet in the same union. */
struct apps_union {
    int64_t app_id, layer_id;
    bool is_version;   /* the layers alone, without the app's volume */
    struct file *root; /* a reference */
    uint64_t used_ns;  /* monotonic */
};

/* The root of the device, and what all its files have. */
struct apps {
    struct file file;
    struct catalog *catalog;
    struct applog_set *logs;   /* may be NULL */
    struct runs *runs;         /* may be NULL */
    struct alarms *alarms;     /* may be NULL */
    struct services *services; /* may be NULL */
    pthread_mutex_t mutex;     /* guards `unions` */
    struct apps_union unions[APPS_UNIONS_MAX];
    size_t union_count;
};

struct apps_file;

/* An entry of an app's directory, or of a version's. */
struct apps_row {
    const char *name;
    const struct dev *dev; /* NULL: `files`, which is another device's */
    enum err (*text)(const struct apps_file *file, struct buf *text); /* its content, appended */
    uint8_t type, traits;
    bool for_all; /* guests may read it of other apps, too */
};

/* A node: an app's directory (row NULL), an entry of it, or something below that. */
struct apps_file {
    struct file file;
    struct apps *apps; /* a reference */
    struct app *app;   /* a reference */
    const struct apps_row *row;
    struct app_version *version; /* below versions/N; owned */
    char *key;                   /* of env/KEY and alarm/NAME; owned */
    struct buf shown;            /* alarm/NAME: what it showed when it was walked to */
    uint64_t shown_ns;           /* and when it was set: realtime */
};

/* Files that are being opened, a layer after the other. The caller's; zero at first, ends by
 * apps_opening_done. */
struct apps_opening {
    struct file *layers[1 + VERSION_LAYERS_MAX]; /* references, those that are open so far */
    size_t count;
};

static inline struct apps_file *apps_file_of(struct file *file) {
    return CONTAINER_OF(file, struct apps_file, file);
}
static inline const struct app_version *apps_version_of(const struct apps_file *file) {
    return file->version ? file->version : &file->app->version;
}
/* apps.c, for the other files. */
void apps_release(struct file *file);
const struct apps_row *apps_find_row(const struct apps_row *rows, size_t count, struct str name);
/* A node of an app; the fields behind `row` are the caller's to fill. */
MUST_USE enum err apps_node_new(struct apps *apps, struct app *app, const struct apps_row *row,
                                uint64_t inode, struct apps_file **ret_node);
/* The number of what lies below an entry of an app's directory. */
uint64_t apps_inode_below(const struct app *app, const char *kind, struct str name);
enum err apps_directory_stat(struct op *op, struct file *file, struct file_stat *ret_stat);

/* A walk that may have to wait: for a version's row, or in files. The app is the one that it began
 * with, whatever happens to the name meanwhile. */
struct apps_walk {
    struct op child;
    struct app *app; /* a reference */
    struct apps_opening opening;
    struct file *files;          /* a reference, once they are open */
    struct app_version *version; /* owned, once it is known */
};
/* The walk in the op's state, made if there is none. */
MUST_USE enum err apps_walk_begin(struct op *op, struct app *app, struct apps_walk **ret_walk);
/* Polled. On below files that are open (walk->files): `ret_walked` counts `files` too, so that it
 * is 1 where the first of `names` is not there. */
MUST_USE enum err apps_walk_in_files(struct apps_walk *walk, const struct str *names, size_t count,
                                     size_t *ret_walked, struct file **ret_file);

/* apps_versions.c */
extern const struct dev apps_versions_dev;
/* Polled. `names` begins with the version's number. NOENT if there is none of it. */
MUST_USE enum err apps_walk_versions(struct apps_walk *walk, struct apps *apps,
                                     const struct str *names, size_t count, size_t *ret_walked,
                                     struct file **ret_file);

/* apps_text.c */
enum err apps_text_args(const struct apps_file *file, struct buf *text);
enum err apps_text_config(const struct apps_file *file, struct buf *text);
enum err apps_text_info(const struct apps_file *file, struct buf *text);
enum err apps_text_instances(const struct apps_file *file, struct buf *text);
enum err apps_text_version_info(const struct apps_file *file, struct buf *text);
enum err apps_text_variable(const struct apps_file *file, struct buf *text);
/* The value of a variable of the app; false if it has none of this name. */
bool apps_find_variable(const struct app *app, struct str key, struct str *ret_value);

/* apps_setting.c: texts, those of args, env/KEY and config can be written. */
extern const struct dev apps_text_dev;
/* Polled. Applies a change of the configuration of an app, whatever else changes it at the same
 * time: `change` makes the new one of the one that is there. NOENT: the app was removed. */
typedef enum err apps_change(const struct apps_file *file, const void *argument,
                             const json_t *config, json_t **ret_config, struct buf *message);
MUST_USE enum err apps_apply(struct op *op, const struct apps_file *file, apps_change *change,
                             const void *argument);
/* A setting that is open for writing, on behalf of op->who: applied by sync and flush. */
MUST_USE enum err apps_setting_open(struct op *op, struct file *file, unsigned open_flags,
                                    struct file **ret_file);
/* For apps_apply: takes the variable of the file (`argument` is its name) away. */
enum err apps_remove_variable(const struct apps_file *file, const void *argument,
                              const json_t *config, json_t **ret_config, struct buf *message);

/* apps_remove.c. Removing an app and its log, which goes on to its end when the op is given up:
 * start once, then poll. */
MUST_USE enum err apps_remove_start(struct op *op, struct apps *apps, const struct app *app);
MUST_USE enum err apps_remove_poll(struct op *op);

/* apps_secrets.c */
extern const struct dev apps_secrets_dev;
/* Polled. One of them, or NOENT. */
MUST_USE enum err apps_secret_walk(struct op *op, struct apps *apps, const struct app *app,
                                   struct str name, struct file **ret_file);

/* apps_alarm.c */
extern const struct dev apps_alarms_dev, apps_alarm_dev;
/* Polled. Sets the alarm that the file is to what was written to it. */
MUST_USE enum err apps_alarm_apply(struct op *op, const struct apps_file *file, struct str text);
/* The same for a guest that did not close the file. */
void apps_alarm_apply_later(const struct who *who, const struct apps_file *file, struct str text);
/* Polled. The alarm of this name, or NOENT. */
MUST_USE enum err apps_alarm_find(struct op *op, struct apps *apps, struct app *app,
                                  struct str name, struct file **ret_file);

/* apps_data.c */
extern const struct dev apps_module_dev, apps_log_dev;

/* apps_call.c and apps_start.c: transaction files */
extern const struct dev apps_call_dev, apps_start_dev;
/* What the parameters of `start` may take. */
enum { APPS_START_BYTES_MAX = 512 * 1024 };
/* Starts a run of the app, as it is now, on behalf of op->who: of a guest, as its child. `app`,
 * `parent` and `traceparent` of the request are set here. BUSY: no room, later there may be. */
MUST_USE enum err apps_run_start(struct op *op, struct apps *apps, int64_t app_id,
                                 struct run_request *request, struct run **ret_run);
/* The context of an open transaction is its node, a reference. */
void apps_transaction_release(void *context);

/* apps_files.c */
/* The app's volume over its version's layers. Polled. A reference. */
MUST_USE enum err apps_files_root(struct op *op, struct apps_opening *opening, struct apps *apps,
                                  struct app *app, struct file **ret_root);
/* What a version was uploaded with, and what lies below that: read-only. Polled as the above. */
MUST_USE enum err apps_version_root(struct op *op, struct apps_opening *opening, struct apps *apps,
                                    const struct app *app, const struct app_version *version,
                                    struct file **ret_root);
void apps_opening_done(struct apps_opening *opening);
/* Lets go of what is kept of an app's files (0 = of all). */
void apps_files_forget(struct apps *apps, int64_t app_id);
