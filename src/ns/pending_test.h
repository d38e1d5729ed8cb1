/* For tests only: a device that wraps another one (which never waits) and is PENDING at the first
 * call of every operation, and a way to drive operations. It checks that what is called again after
 * PENDING is the same operation. */
#pragma once

#include "base/log.h"
#include "ns/dev.h"

struct pending_file {
    struct file file;
    struct file *inner; /* a reference */
};

static long pending_files; /* that exist */
static bool pending_off;   /* answer at once */
static long pending_fail;  /* this many operations from now, one that changes something fails with
                              IO; 0: none does */

static inline const struct dev *pending_dev_table(void);

static inline struct file *pending_wrap(struct file *inner) {
    struct pending_file *file = malloc(sizeof *file);
    INVARIANT(file);
    file_init(&file->file, pending_dev_table(), inner->device, inner->inode, inner->type,
              inner->traits);
    file->inner = inner;
    pending_files++;
    return &file->file;
}
static inline struct file *pending_inner(struct file *file) {
    return CONTAINER_OF(file, struct pending_file, file)->inner;
}
static inline void pending_release(struct file *file) {
    file_unref(pending_inner(file));
    free(CONTAINER_OF(file, struct pending_file, file));
    pending_files--;
}

struct pending_call {
    const void *function;
    const struct file *file;
    uint64_t arguments; /* a sum over what is to be the same in both calls */
};
static inline void pending_drop(struct op *op) {
    free(op->state);
}
static inline uint64_t pending_sum(struct str text) {
    uint64_t sum = text.length;
    for (size_t i = 0; i < text.length; i++) {
        sum = sum * 131 + (uint8_t)text.data[i];
    }
    return sum;
}
/* True if the caller has to return PENDING. */
static inline bool pending_first(struct op *op, const void *function, const struct file *file,
                                 uint64_t arguments) {
    struct pending_call *call = op->state;
    if (!call && pending_off) {
        return false;
    }
    if (!call) {
        call = malloc(sizeof *call);
        INVARIANT(call);
        *call = (struct pending_call){function, file, arguments};
        op_set_state(op, call, pending_drop);
        op_wake(op);
        return true;
    }
    INVARIANT(op->drop_state == pending_drop);
    INVARIANT(call->function == function && call->file == file && call->arguments == arguments);
    op_finish(op, ERR_OK);
    return false;
}
#define PENDING_FIRST(function, file, arguments)                                                   \
    if (pending_first(op, (const void *)(function), file, arguments)) {                            \
        return ERR_PENDING;                                                                        \
    }

static inline bool pending_fails(void) {
    return pending_fail > 0 && --pending_fail == 0;
}
#define PENDING_FIRST_CHANGE(function, file, arguments)                                            \
    PENDING_FIRST(function, file, arguments)                                                       \
    if (pending_fails()) {                                                                         \
        return ERR_IO;                                                                             \
    }

static inline enum err pending_walk(struct op *op, struct file *directory, const struct str *names,
                                    size_t count, size_t *ret_walked, struct file **ret_file) {
    uint64_t sum = count;
    for (size_t i = 0; i < count; i++) {
        sum = sum * 31 + pending_sum(names[i]);
    }
    PENDING_FIRST(pending_walk, directory, sum);
    enum err err = file_walk(op, pending_inner(directory), names, count, ret_walked, ret_file);
    if (err == ERR_OK) {
        *ret_file = pending_wrap(*ret_file);
    }
    return err;
}
static inline enum err pending_open(struct op *op, struct file *file, unsigned open_flags,
                                    struct file **ret_file) {
    PENDING_FIRST(pending_open, file, open_flags);
    struct file *opened = NULL;
    enum err err = file_open(op, pending_inner(file), open_flags, &opened);
    if (err == ERR_OK) {
        file_unref(opened);
        *ret_file = file_ref(file);
    }
    return err;
}
static inline enum err pending_create(struct op *op, struct file *directory, struct str name,
                                      enum file_type type, struct file **ret_file) {
    PENDING_FIRST_CHANGE(pending_create, directory, pending_sum(name) + type);
    enum err err = file_create(op, pending_inner(directory), name, type, ret_file);
    if (err == ERR_OK) {
        *ret_file = pending_wrap(*ret_file);
    }
    return err;
}
static inline enum err pending_symlink(struct op *op, struct file *directory, struct str name,
                                       struct str target) {
    PENDING_FIRST_CHANGE(pending_symlink, directory, pending_sum(name) + pending_sum(target));
    return file_symlink(op, pending_inner(directory), name, target);
}
static inline enum err pending_link(struct op *op, struct file *file, struct file *directory,
                                    struct str name) {
    PENDING_FIRST_CHANGE(pending_link, file, pending_sum(name));
    return file_link(op, pending_inner(file), pending_inner(directory), name);
}
static inline enum err pending_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    PENDING_FIRST(pending_readlink, file, 0);
    return file_readlink(op, pending_inner(file), ret_target);
}
static inline enum err pending_remove(struct op *op, struct file *directory, struct str name,
                                      bool directory_wanted) {
    PENDING_FIRST_CHANGE(pending_remove, directory, pending_sum(name) + directory_wanted);
    return file_remove(op, pending_inner(directory), name, directory_wanted);
}
static inline enum err pending_rename(struct op *op, struct file *old_directory,
                                      struct str old_name, struct file *new_directory,
                                      struct str new_name) {
    PENDING_FIRST_CHANGE(pending_rename, old_directory,
                         pending_sum(old_name) * 3 + pending_sum(new_name));
    return file_rename(op, pending_inner(old_directory), old_name, pending_inner(new_directory),
                       new_name);
}
static inline enum err pending_read(struct op *op, struct file *file, void *data, size_t length,
                                    uint64_t offset, size_t *ret_read) {
    PENDING_FIRST(pending_read, file, length * 3 + offset);
    return file_read(op, pending_inner(file), data, length, offset, ret_read);
}
static inline enum err pending_write(struct op *op, struct file *file, const void *data,
                                     size_t length, uint64_t offset, size_t *ret_written) {
    PENDING_FIRST_CHANGE(pending_write, file, length * 3 + offset);
    return file_write(op, pending_inner(file), data, length, offset, ret_written);
}
static inline enum err pending_readdir(struct op *op, struct file *directory,
                                       struct dir_list *ret_list) {
    PENDING_FIRST(pending_readdir, directory, 0);
    return file_readdir(op, pending_inner(directory), ret_list);
}
static inline enum err pending_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    PENDING_FIRST(pending_stat, file, 0);
    return file_stat(op, pending_inner(file), ret_stat);
}
static inline enum err pending_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    PENDING_FIRST_CHANGE(pending_set_size, file, size_bytes);
    return file_set_size(op, pending_inner(file), size_bytes);
}
static inline enum err pending_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                         uint64_t modified_ns, unsigned set_times_flags) {
    PENDING_FIRST_CHANGE(pending_set_times, file, accessed_ns + modified_ns + set_times_flags);
    return file_set_times(op, pending_inner(file), accessed_ns, modified_ns, set_times_flags);
}
static inline enum err pending_sync(struct op *op, struct file *file) {
    PENDING_FIRST(pending_sync, file, 0);
    return file_sync(op, pending_inner(file));
}

static const struct dev pending_dev = {
    .name = "pending",
    .walk = pending_walk,
    .open = pending_open,
    .create = pending_create,
    .symlink = pending_symlink,
    .link = pending_link,
    .readlink = pending_readlink,
    .remove = pending_remove,
    .rename = pending_rename,
    .read = pending_read,
    .write = pending_write,
    .readdir = pending_readdir,
    .stat = pending_stat,
    .set_size = pending_set_size,
    .set_times = pending_set_times,
    .sync = pending_sync,
    .release = pending_release,
};
static inline const struct dev *pending_dev_table(void) {
    return &pending_dev;
}

/* The loop and the op of a test, and how to wait: AWAIT(file_stat(&test_op, …)). */
static struct loop *test_loop;
static struct op test_op;
static _Thread_local bool test_woken;
static const struct who test_who = {.owner_id = 1};

static inline void test_wake(struct op *op) {
    (void)op;
    test_woken = true;
}
static inline void test_begin(void) {
    INVARIANT(loop_new(0, &test_loop) == ERR_OK);
    op_init(&test_op, test_loop, &test_who, test_wake);
}
static inline void test_end(void) {
    op_done(&test_op);
    while (loop_turn(test_loop)) {
    }
    loop_free(test_loop);
}
static inline void test_wait(void) {
    for (int turns = 0; !test_woken; turns++) {
        INVARIANT(turns < 100000);
        loop_turn(test_loop);
    }
    test_woken = false;
}
#define AWAIT(call)                                                                                \
    ({                                                                                             \
        enum err err_;                                                                             \
        while ((err_ = (call)) == ERR_PENDING) {                                                   \
            test_wait();                                                                           \
        }                                                                                          \
        err_;                                                                                      \
    })
