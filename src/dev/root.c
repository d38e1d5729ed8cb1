#include "dev/root.h"

#include "dev/apps.h"
#include "dev/proc.h"
#include "dev/vol.h"

enum { ROOT_INODE = 1, ENTRIES = 3 };

struct root {
    struct file file;
    struct {
        const char *name;
        struct file *file; /* a reference */
    } entries[ENTRIES];
};

static struct root *root_of(struct file *file) {
    return CONTAINER_OF(file, struct root, file);
}

static enum err root_walk(struct op *op, struct file *directory, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    struct root *root = root_of(directory);
    struct file *entry = NULL;
    for (size_t i = 0; i < ENTRIES && !entry; i++) {
        if (str_equal_text(names[0], root->entries[i].name)) {
            entry = root->entries[i].file;
        }
    }
    if (!entry) {
        return ERR_NOENT;
    }
    size_t walked = 0;
    enum err err =
        count > 1 ? file_walk(op, entry, names + 1, count - 1, &walked, ret_file) : ERR_NOENT;
    if (err == ERR_NOENT) {
        walked = 0;
        *ret_file = file_ref(entry);
        err = ERR_OK;
    }
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return err;
}

static enum err root_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    (void)op;
    struct root *root = root_of(directory);
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ENTRIES; i++) {
        err = dir_list_add(ret_list, str_of(root->entries[i].name), root->entries[i].file->inode,
                           FILE_DIRECTORY);
    }
    return err;
}

static void root_release(struct file *file) {
    struct root *root = root_of(file);
    for (size_t i = 0; i < ENTRIES; i++) {
        file_unref(root->entries[i].file);
    }
    free(root);
}

static const struct dev root_dev = {
    .name = "root",
    .walk = root_walk,
    .readdir = root_readdir,
    .release = root_release,
};

enum err dev_root_peek_file(struct op *op, struct file *root, const struct app *app,
                            struct str name, struct file **ret_file) {
    return dev_apps_peek_file(op, root_of(root)->entries[0].file, app, name, ret_file);
}

enum err dev_root_new(const struct dev_root_options *options, struct file **ret_root) {
    struct root *root = calloc(1, sizeof(*root));
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &root_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, 0);
    root->entries[0].name = "apps";
    root->entries[1].name = "proc";
    root->entries[2].name = "vol";
    enum err err = dev_apps_new(options->catalog, options->logs, options->runs, options->alarms,
                                options->services, &root->entries[0].file);
    if (!err) {
        err = dev_proc_new(options->runs, &root->entries[1].file);
    }
    if (!err) {
        err = dev_vol_new(options->catalog, options->tree, &root->entries[2].file);
    }
    if (err) {
        file_unref(&root->file);
        return err;
    }
    *ret_root = &root->file;
    return ERR_OK;
}
