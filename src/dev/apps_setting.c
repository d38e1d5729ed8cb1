/* The texts of an app: read as a snapshot, written as a whole. */
#include "dev/apps_internal.h"
#include "dev/text_file.h"

enum { TRIES_MAX = 32 };

/* ---- changing the configuration ---- */

struct apply {
    struct op child;
    struct app *app; /* what the change was made from; a reference */
    json_t *config;  /* what it made; a reference */
    struct buf message;
    unsigned tries;
};

static void drop_apply(struct op *op) {
    struct apply *apply = op->state;
    op_done(&apply->child);
    app_unref(apply->app);
    json_decref(apply->config);
    buf_done(&apply->message);
    free(apply);
}

static enum err apply_once(struct apply *apply, const struct apps_file *file, apps_change *change,
                           const void *argument) {
    struct catalog *catalog = file->apps->catalog;
    if (!apply->config) {
        enum err err = catalog_find_id(catalog, file->app->id, &apply->app);
        if (err) {
            return buf_fail(&apply->message, err, "the app '%s' was removed meanwhile",
                            file->app->name);
        }
        err = change(file, argument, apply->app->config, &apply->config, &apply->message);
        if (err) {
            return err;
        }
    }
    const struct app_change app_change = {.name = str_of(apply->app->name),
                                          .update_only = true,
                                          .config = apply->config,
                                          .if_generation = apply->app->generation,
                                          .if_id = apply->app->id};
    struct app *changed = NULL;
    bool created;
    enum err err =
        catalog_apply(&apply->child, catalog, &app_change, &changed, &created, &apply->message);
    app_unref(changed);
    if (err != ERR_PENDING) {
        app_unref(STEAL(apply->app));
        json_decref(STEAL(apply->config));
    }
    return err;
}

enum err apps_apply(struct op *op, const struct apps_file *file, apps_change *change,
                    const void *argument) {
    struct apply *apply = op->state;
    if (!apply) {
        apply = calloc(1, sizeof(*apply));
        if (!apply) {
            return ERR_NOMEM;
        }
        op_init_child(&apply->child, op);
        op_set_state(op, apply, drop_apply);
    }
    enum err err;
    do { /* NOENT and STALE: another change, or a new name, was faster */
        err = apply_once(apply, file, change, argument);
    } while (err == ERR_STALE && ++apply->tries < TRIES_MAX);
    if (err == ERR_PENDING) {
        return err;
    }
    if (err && apply->message.length > 0 && op->message) {
        (void)buf_fail(op->message, err, "%s", buf_text(&apply->message));
    }
    return op_finish(op, err);
}

/* ---- what a written text means ---- */

static struct str without_newline(struct str text) {
    if (text.length > 0 && text.data[text.length - 1] == '\n') {
        text.length--;
    }
    return text;
}

static enum err merge_one(const json_t *config, const char *key, json_t *value, json_t **ret_config,
                          struct buf *message) {
    json_t *changes = value ? json_pack("{s:o}", key, value) : NULL;
    enum err err = changes ? app_config_merge(config, changes, ret_config, message) : ERR_NOMEM;
    json_decref(changes);
    return err;
}

static enum err change_args(const struct apps_file *file, const void *argument,
                            const json_t *config, json_t **ret_config, struct buf *message) {
    (void)file;
    struct str rest = without_newline(*(const struct str *)argument);
    json_t *array = json_array();
    enum err err = array ? ERR_OK : ERR_NOMEM;
    while (!err && rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        bool is_last = !rest.data;
        if (memchr(line.data, 0, line.length) || !str_is_utf8(line)) {
            err = buf_fail(message, ERR_INVAL, "an argument is UTF-8 text without NUL");
        } else if (json_array_size(array) >= APP_ARGUMENTS_MAX) {
            err = buf_fail(message, ERR_2BIG, "more than %d arguments", APP_ARGUMENTS_MAX);
        } else if (json_array_append_new(array, json_stringn(line.data, line.length)) != 0) {
            err = ERR_NOMEM;
        }
        if (!err && !is_last && rest.length == 0) { /* the last one is empty */
            err = json_array_append_new(array, json_string("")) == 0 ? ERR_OK : ERR_NOMEM;
        }
    }
    if (err) {
        json_decref(array);
        return err;
    }
    return merge_one(config, "args", array, ret_config, message);
}

static enum err change_config(const struct apps_file *file, const void *argument,
                              const json_t *config, json_t **ret_config, struct buf *message) {
    (void)file, (void)config;
    const struct str *text = argument;
    json_error_t error;
    json_t *parsed =
        json_loadb(text->data ? text->data : "", text->length, JSON_REJECT_DUPLICATES, &error);
    if (!parsed) {
        return buf_fail(message, ERR_INVAL, "line %d of the configuration is not JSON: %s",
                        error.line, error.text);
    }
    enum err err = app_config_check_volumes(parsed, message);
    err = err ? err : app_config_check_session(parsed, message);
    err = err ? err : app_config_show(parsed, ret_config, message);
    json_decref(parsed);
    return err;
}

/* The environment of a configuration, a copy. */
static json_t *copy_environment(const json_t *config) {
    json_t *environment = json_object_get(config, "env");
    return environment ? json_copy(environment) : json_object();
}

static enum err change_variable(const struct apps_file *file, const void *argument,
                                const json_t *config, json_t **ret_config, struct buf *message) {
    struct str text = without_newline(*(const struct str *)argument);
    if ((text.length > 0 && memchr(text.data, 0, text.length)) || !str_is_utf8(text)) {
        return buf_fail(message, ERR_INVAL, "the value of '%s' is not UTF-8 text without NUL",
                        file->key);
    }
    json_t *environment = copy_environment(config);
    json_t *value = json_stringn(text.data ? text.data : "", text.length);
    if (!environment || !value || json_object_set(environment, file->key, value) != 0) {
        json_decref(environment);
        json_decref(value);
        return ERR_NOMEM;
    }
    json_decref(value);
    return merge_one(config, "env", environment, ret_config, message);
}

enum err apps_remove_variable(const struct apps_file *file, const void *argument,
                              const json_t *config, json_t **ret_config, struct buf *message) {
    (void)file;
    json_t *environment = copy_environment(config);
    if (environment && json_object_del(environment, argument) != 0) {
        json_decref(environment);
        return ERR_NOENT;
    }
    return merge_one(config, "env", environment, ret_config, message);
}

static const struct {
    enum err (*text)(const struct apps_file *file, struct buf *text);
    apps_change *change;
} changes[] = {
    {apps_text_args, change_args},
    {apps_text_config, change_config},
    {apps_text_variable, change_variable},
};

static apps_change *change_of(const struct apps_file *file) {
    for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
        if (changes[i].text == file->row->text) {
            return changes[i].change;
        }
    }
    return NULL;
}

/* ---- a setting that is open for writing ---- */

struct setting {
    struct file file;
    struct apps_file *node; /* a reference */
    struct who who;         /* who has opened it */
    struct buf text;
    bool is_dirty;   /* it was written, and is not applied */
    bool has_failed; /* that it could not be applied was told */
};

static struct setting *setting_of(struct file *file) {
    return CONTAINER_OF(file, struct setting, file);
}

static enum err setting_read(struct op *op, struct file *file, void *data, size_t length,
                             uint64_t offset, size_t *ret_read) {
    (void)op;
    const struct buf *text = &setting_of(file)->text;
    size_t here = offset < text->length ? MIN(length, text->length - (size_t)offset) : 0;
    if (here > 0) {
        memcpy(data, text->data + offset, here);
    }
    *ret_read = here;
    return ERR_OK;
}

static enum err resize(struct setting *setting, uint64_t size) {
    if (size > APPS_SETTING_BYTES_MAX) {
        return ERR_FBIG;
    }
    struct buf *text = &setting->text;
    if (size > text->length) {
        enum err err = buf_reserve(text, (size_t)size - text->length);
        if (err) {
            return err;
        }
        memset(text->data + text->length, 0, (size_t)size - text->length);
    }
    text->length = (size_t)size;
    if (text->data) {
        text->data[text->length] = 0;
    }
    return ERR_OK;
}

static enum err setting_write(struct op *op, struct file *file, const void *data, size_t length,
                              uint64_t offset, size_t *ret_written) {
    (void)op;
    struct setting *setting = setting_of(file);
    offset = offset == OFFSET_APPEND ? setting->text.length : offset;
    if (offset > APPS_SETTING_BYTES_MAX || length > APPS_SETTING_BYTES_MAX - offset) {
        return buf_fail(op->message, ERR_FBIG, "a setting has at most %llu bytes",
                        (unsigned long long)APPS_SETTING_BYTES_MAX);
    }
    if (length > 0) {
        if (offset + length > setting->text.length) {
            enum err err = resize(setting, offset + length);
            if (err) {
                return err;
            }
        }
        memcpy(setting->text.data + offset, data, length);
    }
    setting->is_dirty = true;
    setting->has_failed = false;
    *ret_written = length;
    return ERR_OK;
}

static enum err setting_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    (void)op;
    enum err err = resize(setting_of(file), size_bytes);
    setting_of(file)->is_dirty |= !err;
    return err;
}

static enum err setting_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    const struct setting *setting = setting_of(file);
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .size = setting->text.length,
                                   .accessed_ns = setting->node->app->changed_ns,
                                   .modified_ns = setting->node->app->changed_ns,
                                   .changed_ns = setting->node->app->changed_ns};
    return ERR_OK;
}

static bool is_alarm(const struct setting *setting) {
    return setting->node->row->dev == &apps_alarm_dev;
}

static enum err setting_sync(struct op *op, struct file *file) {
    struct setting *setting = setting_of(file);
    if (!setting->is_dirty) {
        return op_finish(op, ERR_OK);
    }
    struct str text = buf_str(&setting->text);
    enum err err = is_alarm(setting)
                       ? apps_alarm_apply(op, setting->node, text)
                       : apps_apply(op, setting->node, change_of(setting->node), &text);
    if (err != ERR_PENDING) {
        setting->is_dirty = err != ERR_OK;
        setting->has_failed = err != ERR_OK;
    }
    return err;
}

/* A guest that ends by itself need not have closed its files: C's exit flushes, and leaves that to
 * us. */
static void setting_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    const struct setting *setting = setting_of(file);
    if (is_alarm(setting) && setting->is_dirty && !setting->has_failed && setting->who.run_id) {
        apps_alarm_apply_later(&setting->who, setting->node, buf_str(&setting->text));
    }
}

static void setting_release(struct file *file) {
    struct setting *setting = setting_of(file);
    file_unref(&setting->node->file);
    buf_done(&setting->text);
    free(setting);
}

static const struct dev setting_dev = {
    .name = "apps",
    .read = setting_read,
    .write = setting_write,
    .set_size = setting_set_size,
    .stat = setting_stat,
    .sync = setting_sync,
    .flush = setting_sync,
    .closed = setting_closed,
    .release = setting_release,
};

enum err apps_setting_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    struct setting *setting = calloc(1, sizeof(*setting));
    if (!setting) {
        return ERR_NOMEM;
    }
    file_init(&setting->file, &setting_dev, file->device, file->inode, file->type, file->traits);
    file_ref(file);
    setting->node = apps_file_of(file);
    setting->who = *op->who;
    setting->is_dirty = open_flags & OPEN_TRUNCATE;
    enum err err =
        setting->is_dirty ? ERR_OK : setting->node->row->text(setting->node, &setting->text);
    if (err) {
        setting_release(&setting->file);
        return err;
    }
    *ret_file = &setting->file;
    return ERR_OK;
}

/* ---- texts ---- */

static enum err text_open(struct op *op, struct file *file, unsigned open_flags,
                          struct file **ret_file) {
    struct apps_file *node = apps_file_of(file);
    if (open_flags & OPEN_WRITE) {
        return op->who->may_control ? apps_setting_open(op, file, open_flags, ret_file) : ERR_ACCES;
    }
    struct buf text = {0};
    enum err err = node->row->text(node, &text);
    if (err) {
        buf_done(&text);
        return err;
    }
    return text_file_new(file->device, file->inode, &text, node->app->changed_ns, ret_file);
}

static enum err text_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct apps_file *node = apps_file_of(file);
    cleanup_buf struct buf text = {0};
    enum err err = node->row->text(node, &text);
    if (err) {
        return err;
    }
    uint64_t time_ns = node->version ? node->version->created_ns : node->app->changed_ns;
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .size = text.length,
                                   .accessed_ns = time_ns,
                                   .modified_ns = time_ns,
                                   .changed_ns = time_ns,
                                   .version = node->version ? 1 : node->app->generation};
    return ERR_OK;
}

const struct dev apps_text_dev = {
    .name = "apps",
    .open = text_open,
    .stat = text_stat,
    .release = apps_release,
};
