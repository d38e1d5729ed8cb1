#include "dev/volume.h"

#include <stdlib.h>

static const struct dev volume_device_table;

struct volume_file {
    struct file file;
    struct volume *volume; /* a reference; the inode is held */
};

static struct volume_file *of(struct file *file) {
    return CONTAINER_OF(file, struct volume_file, file);
}

static struct volume *volume_of(struct file *file) {
    return of(file)->volume;
}

static bool is_read_only(const struct file *file) {
    return file->traits & FILE_READ_ONLY;
}

/* A file for an inode that is held, which it takes over; it lets go of it when this fails. */
static enum err file_make(struct volume *volume, bool read_only, uint64_t inode,
                          enum file_type type, struct file **ret_file) {
    struct volume_file *made = malloc(sizeof(*made));
    if (!made) {
        volume_let_go(volume, inode);
        return ERR_NOMEM;
    }
    unsigned traits = type == FILE_REGULAR ? FILE_SEEKABLE : 0u;
    file_init(&made->file, &volume_device_table, volume_device(volume), inode, type,
              traits | (read_only ? FILE_READ_ONLY : 0u));
    made->volume = volume_ref(volume);
    *ret_file = &made->file;
    return ERR_OK;
}

enum err dev_volume_root(struct volume *volume, bool read_only, struct file **ret_root) {
    volume_hold(volume, VOLUME_ROOT_INODE);
    return file_make(volume, read_only || volume_is_read_only(volume), VOLUME_ROOT_INODE,
                     FILE_DIRECTORY, ret_root);
}

static enum err volume_file_walk(struct op *op, struct file *directory, const struct str *names,
                                 size_t count, size_t *ret_walked, struct file **ret_file) {
    size_t walked;
    uint64_t inode;
    enum file_type type;
    enum err err = volume_walk(op, volume_of(directory), directory->inode, names, count, &walked,
                               &inode, &type);
    if (err == ERR_OK) {
        err = file_make(volume_of(directory), is_read_only(directory), inode, type, ret_file);
    }
    if (err == ERR_OK) {
        *ret_walked = walked;
    }
    return err;
}

static enum err volume_file_open(struct op *op, struct file *file, unsigned open_flags,
                                 struct file **ret_file) {
    if (open_flags & OPEN_WRITE) {
        if (file->type == FILE_DIRECTORY) {
            return op_finish(op, ERR_ISDIR);
        }
        if (is_read_only(file)) {
            return op_finish(op, ERR_ROFS);
        }
    }
    if (file->type == FILE_SYMBOLIC_LINK) {
        return op_finish(op, ERR_LOOP);
    }
    if (file->type == FILE_WHITEOUT) {
        return op_finish(op, ERR_NOENT);
    }
    if (open_flags & OPEN_TRUNCATE) {
        if (!(open_flags & OPEN_WRITE)) {
            return op_finish(op, ERR_INVAL);
        }
        enum err err = volume_set_size(op, volume_of(file), file->inode, 0);
        if (err != ERR_OK) {
            return err;
        }
    }
    *ret_file = file_ref(file);
    return op_finish(op, ERR_OK);
}

static enum err volume_file_create(struct op *op, struct file *directory, struct str name,
                                   enum file_type type, struct file **ret_file) {
    if (is_read_only(directory)) {
        return op_finish(op, ERR_ROFS);
    }
    uint64_t inode;
    enum err err = volume_create(op, volume_of(directory), directory->inode, name, type, &inode);
    return err == ERR_OK ? file_make(volume_of(directory), false, inode, type, ret_file) : err;
}

static enum err volume_file_symlink(struct op *op, struct file *directory, struct str name,
                                    struct str target) {
    if (is_read_only(directory)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_symlink(op, volume_of(directory), directory->inode, name, target);
}

static bool is_same_volume(struct file *a, struct file *b) {
    return a->dev == &volume_device_table && b->dev == &volume_device_table &&
           volume_of(a) == volume_of(b);
}

static enum err volume_file_link(struct op *op, struct file *file, struct file *directory,
                                 struct str name) {
    if (!is_same_volume(file, directory)) {
        return op_finish(op, ERR_XDEV);
    }
    if (is_read_only(file) || is_read_only(directory)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_link(op, volume_of(file), file->inode, directory->inode, name);
}

static enum err volume_file_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    return volume_readlink(op, volume_of(file), file->inode, ret_target);
}

static enum err volume_file_remove_expected(struct op *op, struct file *directory, struct str name,
                                            bool directory_wanted,
                                            const struct file_expected *expected) {
    if (is_read_only(directory)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_remove_expected(op, volume_of(directory), directory->inode, name,
                                  directory_wanted, expected);
}

static enum err volume_file_remove(struct op *op, struct file *directory, struct str name,
                                   bool directory_wanted) {
    return volume_file_remove_expected(op, directory, name, directory_wanted, NULL);
}

static enum err volume_file_rename_expected(struct op *op, struct file *old_directory,
                                            struct str old_name, struct file *new_directory,
                                            struct str new_name,
                                            const struct file_expected *expected) {
    if (!is_same_volume(old_directory, new_directory)) {
        return op_finish(op, ERR_XDEV);
    }
    if (is_read_only(old_directory) || is_read_only(new_directory)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_rename_expected(op, volume_of(old_directory), old_directory->inode, old_name,
                                  new_directory->inode, new_name, expected);
}

static enum err volume_file_rename(struct op *op, struct file *old_directory, struct str old_name,
                                   struct file *new_directory, struct str new_name) {
    return volume_file_rename_expected(op, old_directory, old_name, new_directory, new_name, NULL);
}

static enum err volume_file_read(struct op *op, struct file *file, void *data, size_t length,
                                 uint64_t offset, size_t *ret_read) {
    return volume_read(op, volume_of(file), file->inode, data, length, offset, ret_read);
}

static enum err volume_file_write(struct op *op, struct file *file, const void *data, size_t length,
                                  uint64_t offset, size_t *ret_written) {
    if (is_read_only(file)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_write(op, volume_of(file), file->inode, data, length, offset, ret_written);
}

static enum err volume_file_readdir(struct op *op, struct file *directory,
                                    struct dir_list *ret_list) {
    return volume_readdir(op, volume_of(directory), directory->inode, ret_list);
}

static enum err volume_file_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    return volume_stat(op, volume_of(file), file->inode, ret_stat);
}

static enum err volume_file_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    if (is_read_only(file)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_set_size(op, volume_of(file), file->inode, size_bytes);
}

static enum err volume_file_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                      uint64_t modified_ns, unsigned set_times_flags) {
    if (is_read_only(file)) {
        return op_finish(op, ERR_ROFS);
    }
    return volume_set_times(op, volume_of(file), file->inode, accessed_ns, modified_ns,
                            set_times_flags);
}

static enum err volume_file_sync(struct op *op, struct file *file) {
    return volume_sync(op, volume_of(file));
}

static void volume_file_release(struct file *file) {
    struct volume_file *released = of(file);
    volume_let_go(released->volume, file->inode);
    volume_unref(released->volume);
    free(released);
}

static const struct dev volume_device_table = {
    .name = "volume",
    .walk = volume_file_walk,
    .open = volume_file_open,
    .create = volume_file_create,
    .symlink = volume_file_symlink,
    .link = volume_file_link,
    .readlink = volume_file_readlink,
    .remove = volume_file_remove,
    .rename = volume_file_rename,
    .remove_expected = volume_file_remove_expected,
    .rename_expected = volume_file_rename_expected,
    .read = volume_file_read,
    .write = volume_file_write,
    .readdir = volume_file_readdir,
    .stat = volume_file_stat,
    .set_size = volume_file_set_size,
    .set_times = volume_file_set_times,
    .sync = volume_file_sync,
    .release = volume_file_release,
};
