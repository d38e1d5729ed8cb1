/* /apps/NAME/alarm: the app's alarms, a file each (run/alarms.h). */
#include "base/map.h"
#include "dev/apps_internal.h"
#include "dev/text_file.h"
#include "store/volume_alarm.h"

/* An operation on the alarms of an app: opens its volume first. */
struct alarm_op {
    struct op child;
    struct app *app;       /* a reference: the app that it began with */
    struct volume *volume; /* a reference, once it is open */
};

static void drop(struct op *op) {
    struct alarm_op *state = op->state;
    op_done(&state->child);
    volume_unref(state->volume);
    app_unref(state->app);
    free(state);
}

static enum err open_volume(struct op *op, struct apps *apps, struct app *app,
                            struct alarm_op **ret_state) {
    struct alarm_op *state = op->state;
    if (!state) {
        state = calloc(1, sizeof(*state));
        if (!state) {
            return ERR_NOMEM;
        }
        op_init_child(&state->child, op);
        state->app = app_ref(app);
        op_set_state(op, state, drop);
    }
    *ret_state = state;
    return state->volume ? ERR_OK
                         : catalog_app_volume(&state->child, apps->catalog, state->app,
                                              &state->volume, op->message);
}

/* ---- an alarm ---- */

static enum err text_of(const struct apps_file *file, struct buf *text) {
    return file->shown.length > 0 ? buf_append_str(text, buf_str(&file->shown)) : ERR_OK;
}

enum err apps_alarm_apply(struct op *op, const struct apps_file *file, struct str text) {
    struct alarms *alarms = file->apps->alarms;
    return alarms ? alarms_set(op, alarms, file->app, str_of(file->key), text)
                  : op_finish(op, ERR_NOTSUP);
}

void apps_alarm_apply_later(const struct who *who, const struct apps_file *file, struct str text) {
    if (file->apps->alarms) {
        alarms_set_later(file->apps->alarms, who, file->app, str_of(file->key), text);
    }
}

static enum err alarm_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    if (open_flags & OPEN_WRITE) {
        return apps_setting_open(op, file, open_flags, ret_file);
    }
    struct apps_file *node = apps_file_of(file);
    struct buf text = {0};
    enum err err = text_of(node, &text);
    if (err) {
        return err;
    }
    return text_file_new(file->device, file->inode, &text, node->shown_ns, ret_file);
}

/* It is what it was when it was walked to. */
static enum err alarm_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    const struct apps_file *node = apps_file_of(file);
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .size = node->shown.length,
                                   .accessed_ns = node->shown_ns,
                                   .modified_ns = node->shown_ns,
                                   .changed_ns = node->shown_ns,
                                   .version = map_hash(node->shown.data, node->shown.length) | 1};
    return ERR_OK;
}

const struct dev apps_alarm_dev = {
    .name = "alarm",
    .open = alarm_open,
    .stat = alarm_stat,
    .release = apps_release,
};
static const struct apps_row alarm_row = {.name = "alarm",
                                          .dev = &apps_alarm_dev,
                                          .text = text_of,
                                          .type = FILE_REGULAR,
                                          .traits = FILE_SEEKABLE};

/* ---- the directory ---- */

struct search {
    struct str name;
    struct alarms *alarms;
    struct apps_file *node; /* gets what the alarm shows; NULL: only whether it is there */
    bool found;
    enum err err;
};

static enum alarm_visit search_visit(void *argument, struct alarm *alarm) {
    struct search *search = argument;
    if (str_equal_text(search->name, alarm->name)) {
        uint64_t id = search->alarms ? alarms_run_id(search->alarms, alarm->serial) : 0;
        search->found = true;
        search->node->shown_ns = alarm->set_ns;
        search->err = alarm_show(alarm, id, &search->node->shown);
    }
    return ALARM_SEEN;
}

static enum err alarm_node_new(struct apps *apps, struct app *app, struct str name,
                               struct apps_file **ret_node) {
    struct apps_file *node;
    enum err err =
        apps_node_new(apps, app, &alarm_row, apps_inode_below(app, alarm_row.name, name), &node);
    if (err) {
        return err;
    }
    node->key = strndup(name.data, name.length);
    if (!node->key) {
        file_unref(&node->file);
        return ERR_NOMEM;
    }
    *ret_node = node;
    return ERR_OK;
}

enum err apps_alarm_find(struct op *op, struct apps *apps, struct app *app, struct str name,
                         struct file **ret_file) {
    struct alarm_op *state;
    enum err err = open_volume(op, apps, app, &state);
    if (err) {
        return err == ERR_PENDING ? err : op_finish(op, err);
    }
    struct search search = {.name = name, .alarms = apps->alarms};
    err = alarm_node_new(apps, state->app, name, &search.node);
    if (err) {
        return op_finish(op, err);
    }
    err = volume_alarms_visit(&state->child, state->volume, search_visit, &search);
    if (!err) {
        err = search.found ? search.err : ERR_NOENT;
    }
    if (err) {
        file_unref(&search.node->file);
        return err == ERR_PENDING ? err : op_finish(op, err);
    }
    *ret_file = &search.node->file;
    return op_finish(op, ERR_OK);
}

static enum err directory_walk(struct op *op, struct file *directory, const struct str *names,
                               size_t count, size_t *ret_walked, struct file **ret_file) {
    (void)count;
    struct apps_file *node = apps_file_of(directory);
    enum err err = apps_alarm_find(op, node->apps, node->app, names[0], ret_file);
    if (!err) {
        *ret_walked = 1;
    }
    return err;
}

static bool may_change(const struct who *who, const struct app *app) {
    return who->may_control || (who->app_id == app->id && !who->has_own_root);
}

/* It comes to be when what is written to it is synced, or its guest closes it. */
static enum err directory_create(struct op *op, struct file *directory, struct str name,
                                 enum file_type type, struct file **ret_file) {
    struct apps_file *node = apps_file_of(directory);
    if (!may_change(op->who, node->app)) {
        return op_finish(op, ERR_ACCES);
    }
    enum err err = type == FILE_REGULAR
                       ? alarm_name_check(name, op->message)
                       : buf_fail(op->message, ERR_INVAL, "alarm/ holds alarms, a file each");
    struct apps_file *alarm;
    err = err ? err : alarm_node_new(node->apps, node->app, name, &alarm);
    if (!err) {
        *ret_file = &alarm->file;
    }
    return op_finish(op, err);
}

static enum err directory_remove(struct op *op, struct file *directory, struct str name,
                                 bool directory_wanted) {
    struct apps_file *node = apps_file_of(directory);
    if (!may_change(op->who, node->app) || directory_wanted) {
        return op_finish(op, directory_wanted ? ERR_NOTDIR : ERR_ACCES);
    }
    struct alarm_op *state;
    enum err err = open_volume(op, node->apps, node->app, &state);
    err = err ? err : volume_alarm_remove(&state->child, state->volume, name);
    if (err == ERR_PENDING) {
        return err;
    }
    if (!err && node->apps->alarms) {
        alarms_look(node->apps->alarms, node->app->id);
    }
    return op_finish(op, err);
}

struct listing {
    struct app *app;
    struct dir_list *list;
    enum err err;
};

static enum alarm_visit list_visit(void *argument, struct alarm *alarm) {
    struct listing *listing = argument;
    if (!listing->err) {
        struct str name = str_of(alarm->name);
        listing->err =
            dir_list_add(listing->list, name, apps_inode_below(listing->app, alarm_row.name, name),
                         FILE_REGULAR);
    }
    return ALARM_SEEN;
}

static enum err directory_readdir(struct op *op, struct file *directory,
                                  struct dir_list *ret_list) {
    struct apps_file *node = apps_file_of(directory);
    struct alarm_op *state;
    enum err err = open_volume(op, node->apps, node->app, &state);
    struct listing listing = {.app = node->app, .list = ret_list};
    err = err ? err : volume_alarms_visit(&state->child, state->volume, list_visit, &listing);
    if (err == ERR_PENDING) {
        return err;
    }
    /* A volume that was put in place by hand: its alarms are known from now on. */
    if (!err && ret_list->count > 0 && node->apps->alarms) {
        alarms_look(node->apps->alarms, node->app->id);
    }
    return op_finish(op, err ? err : listing.err);
}

static enum err directory_sync(struct op *op, struct file *directory) {
    struct apps_file *node = apps_file_of(directory);
    struct alarm_op *state;
    enum err err = open_volume(op, node->apps, node->app, &state);
    err = err ? err : volume_sync(&state->child, state->volume);
    return err == ERR_PENDING ? err : op_finish(op, err);
}

const struct dev apps_alarms_dev = {
    .name = "alarm",
    .walk = directory_walk,
    .create = directory_create,
    .remove = directory_remove,
    .readdir = directory_readdir,
    .stat = apps_directory_stat,
    .sync = directory_sync,
    .release = apps_release,
};
