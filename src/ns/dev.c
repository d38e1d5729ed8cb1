#include "ns/dev.h"

enum err dir_list_add(struct dir_list *list, struct str name, uint64_t inode, uint8_t type) {
    if (name.length > UINT16_MAX || list->names.length > UINT32_MAX - name.length) {
        return ERR_OVERFLOW;
    }
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        struct dir_entry *entries = reallocarray(list->entries, capacity, sizeof *entries);
        if (!entries) {
            return ERR_NOMEM;
        }
        list->entries = entries;
        list->capacity = capacity;
    }
    size_t offset = list->names.length;
    enum err err = buf_append_str(&list->names, name);
    if (err != ERR_OK) {
        return err;
    }
    list->entries[list->count++] = (struct dir_entry){
        .inode = inode,
        .type = type,
        .name_length = (uint16_t)name.length,
        .name_offset = (uint32_t)offset,
    };
    return ERR_OK;
}

void dir_list_done(struct dir_list *list) {
    free(list->entries);
    buf_done(&list->names);
    *list = (struct dir_list){0};
}

void file_init(struct file *file, const struct dev *dev, uint64_t device, uint64_t inode,
               enum file_type type, unsigned traits) {
    file->dev = dev;
    atomic_init(&file->references, 1);
    file->device = device;
    file->inode = inode;
    file->type = (uint8_t)type;
    file->traits = (uint8_t)traits;
}

struct file *file_ref(struct file *file) {
    atomic_fetch_add_explicit(&file->references, 1, memory_order_relaxed);
    return file;
}

void file_unref(struct file *file) {
    if (file && atomic_fetch_sub_explicit(&file->references, 1, memory_order_acq_rel) == 1) {
        file->dev->release(file);
    }
}

uint64_t dev_next_number(void) {
    static atomic_uint_fast64_t last;
    return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

static bool is_directory(const struct file *file) {
    return file->type == FILE_DIRECTORY;
}

enum err file_walk(struct op *op, struct file *directory, const struct str *names, size_t count,
                   size_t *ret_walked, struct file **ret_file) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (!directory->dev->walk) {
        return ERR_NOENT;
    }
    return directory->dev->walk(op, directory, names, count, ret_walked, ret_file);
}

enum err file_open(struct op *op, struct file *file, unsigned open_flags, struct file **ret_file) {
    if (open_flags & (OPEN_WRITE | OPEN_TRUNCATE)) {
        if (is_directory(file)) {
            return ERR_ISDIR;
        }
        if (file->traits & FILE_READ_ONLY) {
            return ERR_ROFS;
        }
        if (!(open_flags & OPEN_WRITE)) {
            return ERR_INVAL;
        }
    }
    if (!file->dev->open) {
        *ret_file = file_ref(file);
        return ERR_OK;
    }
    return file->dev->open(op, file, open_flags, ret_file);
}

enum err file_create(struct op *op, struct file *directory, struct str name, enum file_type type,
                     struct file **ret_file) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (!directory->dev->create) {
        return ERR_ROFS;
    }
    return directory->dev->create(op, directory, name, type, ret_file);
}

enum err file_symlink(struct op *op, struct file *directory, struct str name, struct str target) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (!directory->dev->symlink) {
        return ERR_ROFS;
    }
    return directory->dev->symlink(op, directory, name, target);
}

enum err file_link(struct op *op, struct file *file, struct file *directory, struct str name) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (is_directory(file)) {
        return ERR_PERM;
    }
    if (file->device != directory->device || file->dev != directory->dev) {
        return ERR_XDEV;
    }
    if (!directory->dev->link) {
        return ERR_ROFS;
    }
    return directory->dev->link(op, file, directory, name);
}

enum err file_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    if (file->type != FILE_SYMBOLIC_LINK || !file->dev->readlink) {
        return ERR_INVAL;
    }
    return file->dev->readlink(op, file, ret_target);
}

enum err file_remove(struct op *op, struct file *directory, struct str name,
                     bool directory_wanted) {
    return file_remove_expected(op, directory, name, directory_wanted, NULL);
}

enum err file_remove_expected(struct op *op, struct file *directory, struct str name,
                              bool directory_wanted, const struct file_expected *expected) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (!directory->dev->remove) {
        return ERR_ROFS;
    }
    if (expected && directory->dev->remove_expected) {
        return directory->dev->remove_expected(op, directory, name, directory_wanted, expected);
    }
    return directory->dev->remove(op, directory, name, directory_wanted);
}

enum err file_rename(struct op *op, struct file *old_directory, struct str old_name,
                     struct file *new_directory, struct str new_name) {
    return file_rename_expected(op, old_directory, old_name, new_directory, new_name, NULL);
}

enum err file_rename_expected(struct op *op, struct file *old_directory, struct str old_name,
                              struct file *new_directory, struct str new_name,
                              const struct file_expected *expected) {
    if (!is_directory(old_directory) || !is_directory(new_directory)) {
        return ERR_NOTDIR;
    }
    if (old_directory->device != new_directory->device ||
        old_directory->dev != new_directory->dev) {
        return ERR_XDEV;
    }
    if (!old_directory->dev->rename) {
        return ERR_ROFS;
    }
    if (expected && old_directory->dev->rename_expected) {
        return old_directory->dev->rename_expected(op, old_directory, old_name, new_directory,
                                                   new_name, expected);
    }
    return old_directory->dev->rename(op, old_directory, old_name, new_directory, new_name);
}

enum err file_read(struct op *op, struct file *file, void *data, size_t length, uint64_t offset,
                   size_t *ret_read) {
    if (is_directory(file)) {
        return ERR_ISDIR;
    }
    if (!file->dev->read) {
        return ERR_NOTSUP;
    }
    return file->dev->read(op, file, data, length, offset, ret_read);
}

enum err file_write(struct op *op, struct file *file, const void *data, size_t length,
                    uint64_t offset, size_t *ret_written) {
    if (is_directory(file)) {
        return ERR_ISDIR;
    }
    if (file->traits & FILE_READ_ONLY) {
        return ERR_ROFS;
    }
    if (!file->dev->write) {
        return ERR_NOTSUP;
    }
    return file->dev->write(op, file, data, length, offset, ret_written);
}

enum err file_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    if (!is_directory(directory)) {
        return ERR_NOTDIR;
    }
    if (!directory->dev->readdir) {
        return ERR_OK;
    }
    return directory->dev->readdir(op, directory, ret_list);
}

enum err file_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    if (!file->dev->stat) {
        *ret_stat = (struct file_stat){
            .device = file->device,
            .inode = file->inode,
            .type = file->type,
            .links = 1,
        };
        return ERR_OK;
    }
    return file->dev->stat(op, file, ret_stat);
}

enum err file_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    if (is_directory(file)) {
        return ERR_ISDIR;
    }
    if (file->traits & FILE_READ_ONLY) {
        return ERR_ROFS;
    }
    if (!file->dev->set_size) {
        return ERR_NOTSUP;
    }
    return file->dev->set_size(op, file, size_bytes);
}

enum err file_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                        uint64_t modified_ns, unsigned set_times_flags) {
    if (!file->dev->set_times) {
        return ERR_NOTSUP;
    }
    return file->dev->set_times(op, file, accessed_ns, modified_ns, set_times_flags);
}

enum err file_sync(struct op *op, struct file *file) {
    return file->dev->sync ? file->dev->sync(op, file) : ERR_OK;
}

enum err file_flush(struct op *op, struct file *file) {
    return file->dev->flush ? file->dev->flush(op, file) : ERR_OK;
}

enum err file_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                   uint64_t *ret_bytes) {
    if (!file->dev->poll) {
        *ret_ready = wanted & (POLL_READABLE | POLL_WRITABLE);
        *ret_bytes = 0;
        return ERR_OK;
    }
    return file->dev->poll(op, file, wanted, ret_ready, ret_bytes);
}

enum err file_accept(struct op *op, struct file *listener, struct file **ret_connection) {
    if (!listener->dev->accept) {
        return ERR_NOTSOCK;
    }
    return listener->dev->accept(op, listener, ret_connection);
}

enum err file_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    if (!file->dev->shutdown) {
        return ERR_NOTSOCK;
    }
    return file->dev->shutdown(op, file, shutdown_flags);
}

enum err file_unread(struct op *op, struct file *file, uint64_t distance_bytes) {
    if (!file->dev->unread) {
        return ERR_SPIPE;
    }
    return file->dev->unread(op, file, distance_bytes);
}

void file_closed(struct file *file, unsigned open_flags) {
    if (file->dev->closed) {
        file->dev->closed(file, open_flags);
    }
}
