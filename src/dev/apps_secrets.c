/* /apps/NAME/secrets in the tree: names that can be listed. What they hold is read by nobody; it is
 * written by HTTP (api/secrets.c). */
#include "base/map.h"
#include "dev/apps_internal.h"
#include "store/secret.h"

static uint64_t inode_of(const struct app *app, struct str name) {
    struct {
        int64_t app_id;
        uint64_t name;
    } key = {app->id, map_hash(name.data, name.length)};
    return map_hash(&key, sizeof(key)) | UINT64_C(1) << 63;
}

static enum err secret_open(struct op *op, struct file *file, unsigned open_flags,
                            struct file **ret_file) {
    (void)file, (void)ret_file;
    return buf_fail(op->message, ERR_ACCES,
                    open_flags & OPEN_WRITE ? "secrets are written from outside only"
                                            : "secrets can be written, not read");
}

static void secret_release(struct file *file) {
    free(file);
}

static const struct dev secret_dev = {
    .name = "apps",
    .open = secret_open,
    .release = secret_release,
};

enum err apps_secret_walk(struct op *op, struct apps *apps, const struct app *app, struct str name,
                          struct file **ret_file) {
    struct secret_info *secrets = NULL;
    size_t count = 0;
    enum err err = catalog_secret_list(op, apps->catalog, app, &secrets, &count, op->message);
    if (err) {
        return err;
    }
    err = ERR_NOENT;
    for (size_t i = 0; i < count && err == ERR_NOENT; i++) {
        if (!str_equal_text(name, secrets[i].name)) {
            continue;
        }
        struct file *file = malloc(sizeof(*file));
        err = file ? ERR_OK : ERR_NOMEM;
        if (file) {
            /* Of this type, because there is nothing that an archive could store. */
            file_init(file, &secret_dev, apps->file.device, inode_of(app, name),
                      FILE_CHARACTER_DEVICE, 0);
            *ret_file = file;
        }
    }
    secret_list_free(secrets, count);
    return err;
}

static enum err secrets_walk(struct op *op, struct file *directory, const struct str *names,
                             size_t count, size_t *ret_walked, struct file **ret_file) {
    (void)count;
    const struct apps_file *node = apps_file_of(directory);
    enum err err = apps_secret_walk(op, node->apps, node->app, names[0], ret_file);
    if (!err) {
        *ret_walked = 1;
    }
    return err;
}

static enum err secrets_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    const struct apps_file *node = apps_file_of(directory);
    struct secret_info *secrets = NULL;
    size_t count = 0;
    enum err err =
        catalog_secret_list(op, node->apps->catalog, node->app, &secrets, &count, op->message);
    if (err) {
        return err;
    }
    for (size_t i = 0; !err && i < count; i++) {
        struct str name = str_of(secrets[i].name);
        err = dir_list_add(ret_list, name, inode_of(node->app, name), FILE_CHARACTER_DEVICE);
    }
    secret_list_free(secrets, count);
    return err;
}

/* They may never: it is no file system that happens to be read-only. */
static enum err fail_write(struct op *op) {
    return buf_fail(op->message, ERR_ACCES, "secrets are written from outside only");
}

static enum err secrets_create(struct op *op, struct file *directory, struct str name,
                               enum file_type type, struct file **ret_file) {
    (void)directory, (void)name, (void)type, (void)ret_file;
    return fail_write(op);
}

static enum err secrets_remove(struct op *op, struct file *directory, struct str name,
                               bool directory_wanted) {
    (void)directory, (void)name, (void)directory_wanted;
    return fail_write(op);
}

static enum err secrets_rename(struct op *op, struct file *old_directory, struct str old_name,
                               struct file *new_directory, struct str new_name) {
    (void)old_directory, (void)old_name, (void)new_directory, (void)new_name;
    return fail_write(op);
}

const struct dev apps_secrets_dev = {
    .name = "apps",
    .walk = secrets_walk,
    .create = secrets_create,
    .remove = secrets_remove,
    .rename = secrets_rename,
    .readdir = secrets_readdir,
    .release = apps_release,
};
