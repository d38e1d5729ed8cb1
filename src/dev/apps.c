#include "base/map.h"
#include "dev/apps_internal.h"

#include <inttypes.h>

enum { ROOT_INODE = 1, ROWS_INODE = 64 };

static const struct dev app_dev, environment_dev;

/* ---- what an app's directory holds ---- */

static const struct apps_row app_rows[] = {
    {"alarm", &apps_alarms_dev, NULL, FILE_DIRECTORY, 0, false},
    {"args", &apps_text_dev, apps_text_args, FILE_REGULAR, FILE_SEEKABLE, false},
    {"call", &apps_call_dev, NULL, FILE_CHARACTER_DEVICE, FILE_REWINDABLE, true},
    {"config", &apps_text_dev, apps_text_config, FILE_REGULAR, FILE_SEEKABLE, false},
    {"env", &environment_dev, NULL, FILE_DIRECTORY, 0, false},
    {"files", NULL, NULL, FILE_DIRECTORY, 0, false},
    {"info", &apps_text_dev, apps_text_info, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY, true},
    {"instances", &apps_text_dev, apps_text_instances, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY,
     false},
    {"log", &apps_log_dev, NULL, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY, false},
    {"module", &apps_module_dev, NULL, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY, false},
    {"secrets", &apps_secrets_dev, NULL, FILE_DIRECTORY, 0, false},
    {"start", &apps_start_dev, NULL, FILE_CHARACTER_DEVICE, FILE_REWINDABLE, true},
    {"versions", &apps_versions_dev, NULL, FILE_DIRECTORY, 0, false},
};
static const struct apps_row variable_row = {"env",        &apps_text_dev, apps_text_variable,
                                             FILE_REGULAR, FILE_SEEKABLE,  false};
const struct apps_row *apps_find_row(const struct apps_row *rows, size_t count, struct str name) {
    for (size_t i = 0; i < count; i++) {
        if (str_equal_text(name, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* ---- who may do what ---- */

static bool may_see(const struct who *who, const struct app *app) {
    return app->owner_id == who->owner_id;
}
static enum err may_read(const struct who *who, const struct app *app, const struct apps_row *row) {
    if (who->may_control || row->for_all) {
        return ERR_OK;
    }
    /* `files`, `alarm`, and the log with what other runs have printed: a run with a root of its own
     * may be anybody's code. */
    bool is_of_others = !row->dev || row->dev == &apps_alarms_dev || row->dev == &apps_log_dev;
    bool is_kept_from = is_of_others && who->has_own_root;
    return who->app_id == app->id && !is_kept_from ? ERR_OK : ERR_ACCES;
}

/* ---- nodes ---- */

/* Entries of an app's directory have numbers of their own; what lies below has hashed ones, with
 * the highest bit set. */
static uint64_t inode_of_row(const struct app *app, const struct apps_row *row) {
    return (uint64_t)app->id * ROWS_INODE + (row ? 1 + (uint64_t)(row - app_rows) : 0);
}
uint64_t apps_inode_below(const struct app *app, const char *kind, struct str name) {
    struct {
        int64_t app_id;
        uint64_t kind, name;
    } key = {app->id, map_hash(kind, strlen(kind)), map_hash(name.data, name.length)};
    return map_hash(&key, sizeof(key)) | UINT64_C(1) << 63;
}
enum err apps_node_new(struct apps *apps, struct app *app, const struct apps_row *row,
                       uint64_t inode, struct apps_file **ret_node) {
    struct apps_file *node = calloc(1, sizeof(*node));
    if (!node) {
        return ERR_NOMEM;
    }
    file_init(&node->file, row ? row->dev : &app_dev, apps->file.device, inode,
              row ? row->type : FILE_DIRECTORY, row ? row->traits : 0);
    file_ref(&apps->file);
    node->apps = apps;
    node->app = app_ref(app);
    node->row = row;
    *ret_node = node;
    return ERR_OK;
}

void apps_release(struct file *file) {
    struct apps_file *node = apps_file_of(file);
    app_versions_free(node->version, 1);
    free(node->key);
    buf_done(&node->shown);
    app_unref(node->app);
    file_unref(&node->apps->file);
    free(node);
}

static enum err variable_new(struct apps *apps, struct app *app, struct str key,
                             struct file **ret_file) {
    struct apps_file *node;
    enum err err =
        apps_node_new(apps, app, &variable_row, apps_inode_below(app, "env", key), &node);
    if (err) {
        return err;
    }
    node->key = strndup(key.data, key.length);
    if (!node->key) {
        file_unref(&node->file);
        return ERR_NOMEM;
    }
    *ret_file = &node->file;
    return ERR_OK;
}

/* ---- walking ---- */

static void drop_walk(struct op *op) {
    struct apps_walk *walk = op->state;
    op_done(&walk->child);
    apps_opening_done(&walk->opening);
    file_unref(walk->files);
    app_versions_free(walk->version, 1);
    app_unref(walk->app);
    free(walk);
}

enum err apps_walk_begin(struct op *op, struct app *app, struct apps_walk **ret_walk) {
    if (!op->state) {
        struct apps_walk *walk = calloc(1, sizeof(*walk));
        if (!walk) {
            return ERR_NOMEM;
        }
        op_init_child(&walk->child, op);
        walk->app = app_ref(app);
        op_set_state(op, walk, drop_walk);
    }
    *ret_walk = op->state;
    return ERR_OK;
}

enum err apps_walk_in_files(struct apps_walk *walk, const struct str *names, size_t count,
                            size_t *ret_walked, struct file **ret_file) {
    size_t walked = 0;
    struct file *file = NULL;
    enum err err =
        count > 0 ? file_walk(&walk->child, walk->files, names, count, &walked, &file) : ERR_NOENT;
    if (err == ERR_NOENT) {
        file = file_ref(walk->files);
        walked = 0;
        err = ERR_OK;
    }
    if (!err) {
        *ret_walked = 1 + walked;
        *ret_file = file;
    }
    return err;
}

/* `names` is what lies below files. */
static enum err walk_files(struct apps_walk *walk, struct apps *apps, const struct str *names,
                           size_t count, size_t *ret_walked, struct file **ret_file) {
    if (!walk->files) {
        enum err err = apps_files_root(&walk->child, &walk->opening, apps, walk->app, &walk->files);
        if (err) {
            return err;
        }
    }
    return apps_walk_in_files(walk, names, count, ret_walked, ret_file);
}

static enum err row_new(struct apps *apps, struct app *app, const struct apps_row *row,
                        struct file **ret_file) {
    struct apps_file *node;
    enum err err = apps_node_new(apps, app, row, inode_of_row(app, row), &node);
    if (!err) {
        *ret_file = &node->file;
    }
    return err;
}

/* On below an app's directory. */
static enum err walk_app(struct op *op, struct apps *apps, struct app *app, const struct str *names,
                         size_t count, size_t *ret_walked, struct file **ret_file) {
    const struct apps_row *row = apps_find_row(app_rows, ARRAY_LENGTH(app_rows), names[0]);
    enum err err = row ? may_read(op->who, app, row) : ERR_NOENT;
    if (err) {
        return op_finish(op, err);
    }
    size_t walked = 0;
    struct apps_walk *walk;
    bool is_secret = row->dev == &apps_secrets_dev && count > 1;
    if (!row->dev || is_secret || (row->dev == &apps_versions_dev && count > 1)) {
        err = apps_walk_begin(op, app, &walk);
        if (!err && !row->dev) {
            err = walk_files(walk, apps, names + 1, count - 1, ret_walked, ret_file);
            return err == ERR_PENDING ? err : op_finish(op, err);
        }
        if (!err && is_secret) {
            err = apps_secret_walk(&walk->child, apps, app, names[1], ret_file);
            walked = 1;
        } else if (!err) {
            err = apps_walk_versions(walk, apps, names + 1, count - 1, &walked, ret_file);
        }
        if (err == ERR_PENDING) {
            return err;
        }
    } else if (row->dev == &apps_alarms_dev && count > 1) {
        err = apps_alarm_find(op, apps, app, names[1], ret_file);
        if (err == ERR_PENDING) {
            return err;
        }
        walked = 1;
    } else if (row->dev == &environment_dev && count > 1) {
        struct str value;
        err = apps_find_variable(app, names[1], &value)
                  ? variable_new(apps, app, names[1], ret_file)
                  : ERR_NOENT;
        walked = 1;
    } else {
        err = ERR_NOENT; /* nothing lies below */
    }
    if (err == ERR_NOENT) {
        walked = 0;
        err = row_new(apps, app, row, ret_file);
    }
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return op_finish(op, err);
}

/* ---- an app's directory ---- */

static enum err app_walk(struct op *op, struct file *directory, const struct str *names,
                         size_t count, size_t *ret_walked, struct file **ret_file) {
    struct apps_file *node = apps_file_of(directory);
    return walk_app(op, node->apps, node->app, names, count, ret_walked, ret_file);
}

static enum err app_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct app *app = apps_file_of(directory)->app;
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(app_rows); i++) {
        if (may_read(op->who, app, &app_rows[i]) == ERR_OK) {
            err = dir_list_add(ret_list, str_of(app_rows[i].name), inode_of_row(app, &app_rows[i]),
                               app_rows[i].type);
        }
    }
    return err;
}

enum err apps_directory_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    const struct apps_file *node = apps_file_of(file);
    uint64_t time_ns = node->version ? node->version->created_ns : node->app->changed_ns;
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .accessed_ns = time_ns,
                                   .modified_ns = time_ns,
                                   .changed_ns = time_ns};
    return ERR_OK;
}

static const struct dev app_dev = {
    .name = "apps",
    .walk = app_walk,
    .readdir = app_readdir,
    .stat = apps_directory_stat,
    .release = apps_release,
};

/* ---- env ---- */

static enum err environment_walk(struct op *op, struct file *directory, const struct str *names,
                                 size_t count, size_t *ret_walked, struct file **ret_file) {
    (void)op, (void)count;
    struct apps_file *node = apps_file_of(directory);
    struct str value;
    if (!apps_find_variable(node->app, names[0], &value)) {
        return ERR_NOENT;
    }
    enum err err = variable_new(node->apps, node->app, names[0], ret_file);
    if (!err) {
        *ret_walked = 1;
    }
    return err;
}

/* The variable comes to be when what is written to the file is synced. */
static enum err environment_create(struct op *op, struct file *directory, struct str name,
                                   enum file_type type, struct file **ret_file) {
    struct apps_file *node = apps_file_of(directory);
    struct str value;
    if (!op->who->may_control) {
        return ERR_ACCES;
    }
    if (type != FILE_REGULAR || memchr(name.data, '=', name.length)) {
        return buf_fail(op->message, ERR_INVAL,
                        "env/ holds variables, a file each; a name has no "
                        "'='");
    }
    if (apps_find_variable(node->app, name, &value)) {
        return ERR_EXIST;
    }
    return variable_new(node->apps, node->app, name, ret_file);
}

static enum err environment_remove(struct op *op, struct file *directory, struct str name,
                                   bool directory_wanted) {
    if (!op->who->may_control) {
        return ERR_ACCES;
    }
    if (directory_wanted) {
        return ERR_NOTDIR;
    }
    char key[256];
    if (name.length >= sizeof(key)) {
        return ERR_NOENT;
    }
    memcpy(key, name.data, name.length);
    key[name.length] = 0;
    return apps_apply(op, apps_file_of(directory), apps_remove_variable, key);
}

static enum err environment_readdir(struct op *op, struct file *directory,
                                    struct dir_list *ret_list) {
    (void)op;
    const struct app *app = apps_file_of(directory)->app;
    enum err err = ERR_OK;
    for (char **variable = app->environment; !err && variable && *variable; variable++) {
        struct str value = str_of(*variable);
        struct str key = str_cut(&value, '=');
        bool is_file_name = key.length > 0 && key.length <= 255 &&
                            !memchr(key.data, '/', key.length) && !str_equal_text(key, ".") &&
                            !str_equal_text(key, "..");
        if (is_file_name) {
            err = dir_list_add(ret_list, key, apps_inode_below(app, "env", key), FILE_REGULAR);
        }
    }
    return err;
}

static const struct dev environment_dev = {
    .name = "apps",
    .walk = environment_walk,
    .create = environment_create,
    .remove = environment_remove,
    .readdir = environment_readdir,
    .stat = apps_directory_stat,
    .release = apps_release,
};

/* ---- the root ---- */

static struct apps *apps_of(struct file *file) {
    return CONTAINER_OF(file, struct apps, file);
}

static enum err find_app(const struct who *who, struct apps *apps, struct str name,
                         struct app **ret_app) {
    struct app *app;
    bool is_self = who->app_id != 0 && str_equal_text(name, "self");
    enum err err = is_self ? catalog_find_id(apps->catalog, who->app_id, &app)
                           : catalog_find(apps->catalog, name, &app);
    if (err) {
        return ERR_NOENT;
    }
    if (!may_see(who, app)) {
        app_unref(app);
        return ERR_NOENT;
    }
    *ret_app = app;
    return ERR_OK;
}

static enum err root_walk(struct op *op, struct file *directory, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    struct apps *apps = apps_of(directory);
    struct app *app;
    if (op->state) {
        app = app_ref(((struct apps_walk *)op->state)->app);
    } else {
        enum err err = find_app(op->who, apps, names[0], &app);
        bool is_asked =
            count > 1 && (str_equal_text(names[1], "call") || str_equal_text(names[1], "start"));
        if (err && is_asked) {
            return buf_fail(op->message, err, "no app named '" STR_FORMAT "'%s", STR_ARGS(names[0]),
                            op->who->may_control ? "; GET /apps lists them" : "");
        }
        if (err) {
            return err;
        }
    }
    size_t walked = 0;
    enum err err =
        count > 1 ? walk_app(op, apps, app, names + 1, count - 1, &walked, ret_file) : ERR_NOENT;
    if (err == ERR_NOENT) {
        walked = 0;
        err = row_new(apps, app, NULL, ret_file);
    }
    app_unref(app);
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return err;
}

struct list_context {
    const struct who *who;
    struct dir_list *list;
    enum err err;
};

static void list_app(void *argument, struct app *app) {
    struct list_context *context = argument;
    if (!context->err && may_see(context->who, app)) {
        context->err =
            dir_list_add(context->list, str_of(app->name), inode_of_row(app, NULL), FILE_DIRECTORY);
    }
}

static enum err root_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct apps *apps = apps_of(directory);
    struct list_context context = {.who = op->who, .list = ret_list};
    catalog_each(apps->catalog, list_app, &context);
    struct app *app;
    if (!context.err && op->who->app_id && find_app(op->who, apps, STR("self"), &app) == ERR_OK) {
        context.err = dir_list_add(ret_list, STR("self"), inode_of_row(app, NULL), FILE_DIRECTORY);
        app_unref(app);
    }
    return context.err;
}

/* Files can't make an app: it needs a program. */
static enum err root_create(struct op *op, struct file *directory, struct str name,
                            enum file_type type, struct file **ret_file) {
    (void)type, (void)ret_file;
    struct app *app;
    if (find_app(op->who, apps_of(directory), name, &app) == ERR_OK) {
        app_unref(app);
        return ERR_EXIST;
    }
    return buf_fail(op->message, ERR_ROFS,
                    "no app has this name; POST /create?name=NAME with a program makes one");
}

static enum err root_rename(struct op *op, struct file *old_directory, struct str old_name,
                            struct file *new_directory, struct str new_name) {
    if (!op->who->may_control) {
        return op_finish(op, ERR_ACCES);
    }
    if (old_directory != new_directory) {
        return op_finish(op, ERR_XDEV);
    }
    return catalog_rename(op, apps_of(old_directory)->catalog, old_name, new_name);
}

static enum err root_remove(struct op *op, struct file *directory, struct str name,
                            bool directory_wanted) {
    if (!op->who->may_control) {
        return op_finish(op, ERR_ACCES);
    }
    if (!op->state) {
        struct apps *apps = apps_of(directory);
        struct app *app;
        enum err err = find_app(op->who, apps, name, &app);
        if (err) {
            return err;
        }
        err = directory_wanted ? apps_remove_start(op, apps, app) : ERR_ISDIR;
        app_unref(app);
        if (err) {
            return err;
        }
    }
    return apps_remove_poll(op);
}

static void root_release(struct file *file) {
    struct apps *apps = apps_of(file);
    apps_files_forget(apps, 0);
    pthread_mutex_destroy(&apps->mutex);
    free(apps);
}

static const struct dev root_dev = {
    .name = "apps",
    .walk = root_walk,
    .create = root_create,
    .remove = root_remove,
    .rename = root_rename,
    .readdir = root_readdir,
    .release = root_release,
};

enum err dev_apps_new(struct catalog *catalog, struct applog_set *logs, struct runs *runs,
                      struct alarms *alarms, struct services *services, struct file **ret_root) {
    struct apps *apps = calloc(1, sizeof(*apps));
    if (!apps) {
        return ERR_NOMEM;
    }
    int result = pthread_mutex_init(&apps->mutex, NULL);
    if (result) {
        free(apps);
        return err_from_errno(result);
    }
    file_init(&apps->file, &root_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, 0);
    apps->catalog = catalog;
    apps->logs = logs;
    apps->runs = runs;
    apps->alarms = alarms;
    apps->services = services;
    *ret_root = &apps->file;
    return ERR_OK;
}
