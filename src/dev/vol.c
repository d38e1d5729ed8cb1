#include "dev/vol.h"

#include "base/clock.h"
#include "base/map.h"
#include "dev/text_file.h"
#include "dev/tree.h"
#include "dev/volume.h"

#include <inttypes.h>

enum { ROOT_INODE = 1 };

struct vol_root {
    struct file file;
    struct catalog *catalog;
    struct tree *tree; /* or NULL */
};

/* A volume: a directory with what it has. */
struct vol_directory {
    struct file file;
    struct vol_root *root;
    struct volume *volume; /* a reference */
    struct file *files;    /* the root of its files, a reference */
    char name[APP_NAME_MAX + 1];
};

static struct vol_root *root_of(struct file *file) {
    return CONTAINER_OF(file, struct vol_root, file);
}
static struct vol_directory *directory_of(struct file *file) {
    return CONTAINER_OF(file, struct vol_directory, file);
}

/* ---- a volume's directory ---- */

/* What is known of it: lines "key: value". */
static enum err status_text(const struct vol_directory *directory, struct buf *text) {
    struct volume_usage usage = volume_usage(directory->volume);
    struct volume_session session = {0};
    enum err err =
        buf_printf(text,
                   "name: %s\nbytes: %" PRIu64 "\nfiles: %" PRIu64 "\nlimit_bytes: %" PRIu64
                   "\nlimit_files: %" PRIu64 "\n",
                   directory->name, usage.bytes, usage.inodes, usage.bytes_max, usage.inodes_max);
    if (err ||
        catalog_volume_session(directory->root->catalog, str_of(directory->name), &session) ||
        session.ttl_ns == 0) {
        return err ? err : buf_append_str(text, STR("ttl: none\n"));
    }
    char ends[CLOCK_TEXT_SIZE];
    clock_format_utc(clock_realtime_ns() + session.left_ns, ends);
    return buf_printf(text, "ttl: %" PRIu64 "ms\nends: %s\n", session.ttl_ns / NS_PER_MS, ends);
}

static enum err status_new(const struct vol_directory *directory, struct file **ret_file) {
    struct buf text = {0};
    enum err err = status_text(directory, &text);
    if (err) {
        buf_done(&text);
        return err;
    }
    return text_file_new(directory->file.device, directory->file.inode ^ 1, &text,
                         clock_realtime_ns(), ret_file);
}

static enum err directory_walk(struct op *op, struct file *directory, const struct str *names,
                               size_t count, size_t *ret_walked, struct file **ret_file) {
    if (str_equal_text(names[0], "status")) {
        enum err status = status_new(directory_of(directory), ret_file);
        *ret_walked = status ? *ret_walked : 1;
        return status;
    }
    if (!str_equal_text(names[0], "files")) {
        return ERR_NOENT;
    }
    struct file *files = directory_of(directory)->files;
    size_t walked = 0;
    enum err err =
        count > 1 ? file_walk(op, files, names + 1, count - 1, &walked, ret_file) : ERR_NOENT;
    if (err == ERR_NOENT) {
        walked = 0;
        *ret_file = file_ref(files);
        err = ERR_OK;
    }
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return err;
}

static enum err directory_readdir(struct op *op, struct file *directory,
                                  struct dir_list *ret_list) {
    (void)op;
    struct file *files = directory_of(directory)->files;
    enum err err = dir_list_add(ret_list, STR("files"), files->inode, FILE_DIRECTORY);
    return err ? err : dir_list_add(ret_list, STR("status"), directory->inode ^ 1, FILE_REGULAR);
}

static enum err directory_sync(struct op *op, struct file *directory) {
    return file_sync(op, directory_of(directory)->files);
}

static void directory_release(struct file *file) {
    file_unref(directory_of(file)->files);
    volume_unref(directory_of(file)->volume);
    free(directory_of(file));
}

static const struct dev directory_dev = {
    .name = "vol",
    .walk = directory_walk,
    .readdir = directory_readdir,
    .sync = directory_sync,
    .release = directory_release,
};

/* An even number, so that the one for its status is another. */
static uint64_t inode_of(struct str name) {
    return (map_hash(name.data, name.length) | 2) & ~UINT64_C(1);
}

static enum err directory_new(struct vol_root *root, struct str name, struct volume *volume,
                              bool read_only, struct file **ret_file) {
    struct vol_directory *directory = calloc(1, sizeof(*directory));
    if (!directory) {
        return ERR_NOMEM;
    }
    enum err err = dev_volume_root(volume, read_only, &directory->files);
    if (err) {
        free(directory);
        return err;
    }
    file_init(&directory->file, &directory_dev, root->file.device, inode_of(name), FILE_DIRECTORY,
              0);
    directory->root = root;
    directory->volume = volume_ref(volume);
    memcpy(directory->name, name.data, MIN(name.length, sizeof(directory->name) - 1));
    *ret_file = &directory->file;
    return ERR_OK;
}

/* ---- the root ---- */

/* As the catalog compares names: '-' is '_'. */
static bool is_same_name(struct str a, struct str b) {
    if (a.length != b.length) {
        return false;
    }
    for (size_t i = 0; i < a.length; i++) {
        char of_a = a.data[i] == '-' ? '_' : a.data[i];
        char of_b = b.data[i] == '-' ? '_' : b.data[i];
        if (of_a != of_b) {
            return false;
        }
    }
    return true;
}

/* What `who` may do with a volume; NOENT if it is none of its business. */
static enum err check_access(const struct who *who, struct catalog *catalog, struct str name,
                             bool *ret_read_only) {
    if (who->may_control) {
        *ret_read_only = false;
        return ERR_OK;
    }
    struct app *app;
    enum err err = catalog_find_id(catalog, who->app_id, &app);
    if (err) {
        return ERR_NOENT;
    }
    err = ERR_NOENT;
    bool read_only = true;
    for (size_t i = 0; i < app->mount_count; i++) {
        if (is_same_name(str_of(app->mounts[i].volume), name)) {
            read_only = read_only && app->mounts[i].read_only;
            err = ERR_OK;
        }
    }
    app_unref(app);
    *ret_read_only = read_only;
    return err;
}

/* A walk on its way: opens the volume, then goes on in its files. */
struct vol_walk {
    struct op child;
    struct file *directory; /* a reference, once the volume is open */
};

static void drop_walk(struct op *op) {
    struct vol_walk *walk = op->state;
    op_done(&walk->child);
    file_unref(walk->directory);
    free(walk);
}

static enum err walk_step(struct vol_walk *walk, struct vol_root *root, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    if (!walk->directory) {
        bool read_only;
        enum err err = check_access(walk->child.who, root->catalog, names[0], &read_only);
        struct volume *volume = NULL;
        if (!err) {
            err = catalog_named_volume(&walk->child, root->catalog, names[0], false, &volume, NULL);
        }
        if (err) {
            return err == ERR_INVAL ? ERR_NOENT : err;
        }
        err = directory_new(root, names[0], volume, read_only, &walk->directory);
        volume_unref(volume);
        if (err) {
            return err;
        }
    }
    size_t walked = 0;
    struct file *file = NULL;
    enum err err = count > 1 ? directory_walk(&walk->child, walk->directory, names + 1, count - 1,
                                              &walked, &file)
                             : ERR_NOENT;
    if (err == ERR_NOENT) {
        walked = 0;
        file = file_ref(walk->directory);
        err = ERR_OK;
    }
    if (!err) {
        *ret_walked = 1 + walked;
        *ret_file = file;
    }
    return err;
}

static enum err root_walk(struct op *op, struct file *directory, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    struct vol_walk *walk = op->state;
    if (!walk) {
        walk = calloc(1, sizeof(*walk));
        if (!walk) {
            return ERR_NOMEM;
        }
        op_init_child(&walk->child, op);
        op_set_state(op, walk, drop_walk);
    }
    enum err err = walk_step(walk, root_of(directory), names, count, ret_walked, ret_file);
    return err == ERR_PENDING ? err : op_finish(op, err);
}

static enum err root_create(struct op *op, struct file *directory, struct str name,
                            enum file_type type, struct file **ret_file) {
    if (!op->who->may_control) {
        return op_finish(op, ERR_ACCES);
    }
    if (type != FILE_DIRECTORY) {
        return op_finish(op, ERR_ISDIR);
    }
    struct vol_root *root = root_of(directory);
    struct volume *volume;
    enum err err = catalog_named_volume(op, root->catalog, name, true, &volume, op->message);
    if (err == ERR_PENDING) {
        return err;
    }
    if (!err) {
        err = directory_new(root, name, volume, false, ret_file);
        volume_unref(volume);
    }
    return op_finish(op, err);
}

/* Its files go when nobody has them any more. */
static enum err root_remove(struct op *op, struct file *directory, struct str name,
                            bool directory_wanted) {
    if (!op->who->may_control) {
        return op_finish(op, ERR_ACCES);
    }
    if (!directory_wanted) {
        return op_finish(op, ERR_ISDIR);
    }
    struct vol_root *root = root_of(directory);
    enum err err = catalog_delete_volume(op, root->catalog, name);
    if (!err && root->tree) {
        tree_forget(root->tree, TREE_OUTDATED);
    }
    return err;
}

struct list_context {
    struct dir_list *list;
    struct catalog *catalog;
    enum err err;
};

static void list_name(void *argument, const char *name) {
    struct list_context *context = argument;
    if (!context->err) {
        context->err =
            dir_list_add(context->list, str_of(name), inode_of(str_of(name)), FILE_DIRECTORY);
    }
}

static enum err root_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct vol_root *root = root_of(directory);
    struct list_context context = {.list = ret_list, .catalog = root->catalog};
    if (op->who->may_control) {
        catalog_each_volume_name(root->catalog, list_name, &context);
        return context.err;
    }
    struct app *app;
    if (catalog_find_id(root->catalog, op->who->app_id, &app) != ERR_OK) {
        return ERR_OK;
    }
    for (size_t i = 0; i < app->mount_count; i++) {
        bool listed = false;
        for (size_t j = 0; j < i && !listed; j++) {
            listed = is_same_name(str_of(app->mounts[i].volume), str_of(app->mounts[j].volume));
        }
        if (!listed) {
            list_name(&context, app->mounts[i].volume);
        }
    }
    app_unref(app);
    return context.err;
}

static void root_release(struct file *file) {
    free(root_of(file));
}

static const struct dev root_dev = {
    .name = "vol",
    .walk = root_walk,
    .create = root_create,
    .remove = root_remove,
    .readdir = root_readdir,
    .release = root_release,
};

enum err dev_vol_new(struct catalog *catalog, struct tree *tree, struct file **ret_root) {
    struct vol_root *root = calloc(1, sizeof(*root));
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &root_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, 0);
    root->catalog = catalog;
    root->tree = tree;
    *ret_root = &root->file;
    return ERR_OK;
}
