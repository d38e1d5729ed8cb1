/* /apps/NAME/versions: what each version is, its module and its files. */
#include "dev/apps_internal.h"

#include <inttypes.h>

static const struct dev version_dev;

static const struct apps_row version_rows[] = {
    {"files", NULL, NULL, FILE_DIRECTORY, 0, false},
    {"info", &apps_text_dev, apps_text_version_info, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY,
     false},
    {"module", &apps_module_dev, NULL, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY, false},
};
static const struct apps_row version_row = {"version", &version_dev, NULL, FILE_DIRECTORY,
                                            0,         false};

static uint64_t inode_of_version(const struct app *app, uint32_t number, const char *kind) {
    return apps_inode_below(app, kind, (struct str){(const char *)&number, sizeof(number)});
}

static enum err copy_version(const struct app_version *version, struct app_version **ret_copy) {
    struct app_version *copy = malloc(sizeof(*copy));
    if (!copy) {
        return ERR_NOMEM;
    }
    *copy = *version;
    copy->unknown_imports = NULL;
    if (version->unknown_imports) {
        copy->unknown_imports = strdup(version->unknown_imports);
        if (!copy->unknown_imports) {
            free(copy);
            return ERR_NOMEM;
        }
    }
    *ret_copy = copy;
    return ERR_OK;
}

static enum err version_new(struct apps *apps, struct app *app, const struct app_version *version,
                            const struct apps_row *row, struct file **ret_file) {
    struct apps_file *node;
    enum err err =
        apps_node_new(apps, app, row, inode_of_version(app, version->number, row->name), &node);
    if (!err) {
        err = copy_version(version, &node->version);
        if (err) {
            file_unref(&node->file);
        }
    }
    if (!err) {
        *ret_file = &node->file;
    }
    return err;
}

/* Below a version's directory: walk->version is known. */
static enum err walk_version(struct apps_walk *walk, struct apps *apps, const struct str *names,
                             size_t count, size_t *ret_walked, struct file **ret_file) {
    const struct apps_row *row =
        count > 0 ? apps_find_row(version_rows, ARRAY_LENGTH(version_rows), names[0]) : NULL;
    if (row && !row->dev) {
        enum err err = walk->files ? ERR_OK
                                   : apps_version_root(&walk->child, &walk->opening, apps,
                                                       walk->app, walk->version, &walk->files);
        return err ? err : apps_walk_in_files(walk, names + 1, count - 1, ret_walked, ret_file);
    }
    enum err err = version_new(apps, walk->app, walk->version, row ? row : &version_row, ret_file);
    if (!err) {
        *ret_walked = row ? 1 : 0;
    }
    return err;
}

/* A version's number has one spelling. */
static uint32_t parse_number(struct str name) {
    uint64_t number = 0;
    if (str_to_u64(name, &number) != ERR_OK || name.data[0] == '0' || number > UINT32_MAX) {
        return 0;
    }
    return (uint32_t)number;
}

enum err apps_walk_versions(struct apps_walk *walk, struct apps *apps, const struct str *names,
                            size_t count, size_t *ret_walked, struct file **ret_file) {
    enum err err = ERR_OK;
    if (!walk->version) {
        err = catalog_version(&walk->child, apps->catalog, walk->app, parse_number(names[0]),
                              &walk->version);
        if (err == ERR_NOENT) {
            err = buf_fail(walk->child.message, err,
                           "'%s' has no version '%.*s'; GET /apps/%s/versions lists them",
                           walk->app->name, (int)MIN(names[0].length, (size_t)32), names[0].data,
                           walk->app->name);
        }
    }
    size_t walked;
    err = err ? err : walk_version(walk, apps, names + 1, count - 1, &walked, ret_file);
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return err;
}

static enum err versions_walk(struct op *op, struct file *directory, const struct str *names,
                              size_t count, size_t *ret_walked, struct file **ret_file) {
    struct apps_file *node = apps_file_of(directory);
    struct apps_walk *walk;
    enum err err = apps_walk_begin(op, node->app, &walk);
    if (!err) {
        err = apps_walk_versions(walk, node->apps, names, count, ret_walked, ret_file);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

static enum err versions_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct apps_file *node = apps_file_of(directory);
    struct app_version *versions = NULL;
    size_t count = 0;
    enum err err = catalog_versions(op, node->apps->catalog, node->app, &versions, &count);
    if (err) {
        return err;
    }
    for (size_t i = 0; !err && i < count; i++) {
        char name[16];
        int length = snprintf(name, sizeof(name), "%" PRIu32, versions[i].number);
        err = dir_list_add(ret_list, (struct str){name, (size_t)length},
                           inode_of_version(node->app, versions[i].number, version_row.name),
                           FILE_DIRECTORY);
    }
    app_versions_free(versions, count);
    return err;
}

static enum err versions_remove(struct op *op, struct file *directory, struct str name,
                                bool directory_wanted) {
    const struct apps_file *node = apps_file_of(directory);
    if (!op->who->may_control) {
        return op_finish(op, ERR_ACCES);
    }
    if (!directory_wanted) {
        return op_finish(op, ERR_ISDIR);
    }
    enum err err =
        catalog_remove_version(op, node->apps->catalog, node->app, parse_number(name), op->message);
    if (!err) {
        apps_files_forget(node->apps, node->app->id);
    }
    return err;
}

const struct dev apps_versions_dev = {
    .name = "apps",
    .walk = versions_walk,
    .remove = versions_remove,
    .readdir = versions_readdir,
    .stat = apps_directory_stat,
    .release = apps_release,
};

static enum err version_walk(struct op *op, struct file *directory, const struct str *names,
                             size_t count, size_t *ret_walked, struct file **ret_file) {
    struct apps_file *node = apps_file_of(directory);
    struct apps_walk *walk;
    enum err err = apps_walk_begin(op, node->app, &walk);
    if (!err && !walk->version) {
        err = copy_version(node->version, &walk->version);
    }
    size_t walked = 0;
    struct file *file = NULL;
    err = err ? err : walk_version(walk, node->apps, names, count, &walked, &file);
    if (err == ERR_PENDING) {
        return err;
    }
    if (!err && walked == 0) {
        file_unref(file);
        err = ERR_NOENT;
    }
    if (!err) {
        *ret_walked = walked;
        *ret_file = file;
    }
    return op_finish(op, err);
}

static enum err version_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    (void)op;
    const struct apps_file *node = apps_file_of(directory);
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(version_rows); i++) {
        err = dir_list_add(ret_list, str_of(version_rows[i].name),
                           inode_of_version(node->app, node->version->number, version_rows[i].name),
                           version_rows[i].type);
    }
    return err;
}

static const struct dev version_dev = {
    .name = "apps",
    .walk = version_walk,
    .readdir = version_readdir,
    .stat = apps_directory_stat,
    .release = apps_release,
};
