#include "ns/memory.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "ns/memory_data.h"

#include <pthread.h>

enum {
    TRANSFER_MAX = 1 << 20, /* bytes that one call copies under the lock */
    SYMLINK_MAX = 4096,     /* bytes of a link's target */
};

struct memory;

/* A file. Its references are those of its users and one for each of its names. */
struct node {
    struct file file;
    struct memory *memory;
    /* guarded by memory->mutex: */
    uint32_t links;      /* names; 0: removed (the root counts as one) */
    struct node *parent; /* of a directory that has a name; borrowed */
    uint64_t accessed_ns, modified_ns, changed_ns, version;
    union {
        struct memory_data data;
        struct buf target; /* of a symbolic link */
        struct {
            struct map names;    /* struct entry */
            struct list entries; /* the same in the order they came */
        } directory;
    };
};

struct entry {
    struct map_node map_node;
    struct list link;
    struct node *node; /* a reference */
    char name[];
};

/* A file system; freed with its last node. */
struct memory {
    pthread_mutex_t mutex; /* guards everything below and in the nodes */
    uint64_t bytes, bytes_max, inodes, inodes_max, last_inode;
    uint64_t nodes; /* that exist, the root too */
    bool is_used;   /* something was made or changed once */
    struct node root;
};

static struct node *node_of(struct file *file) {
    return CONTAINER_OF(file, struct node, file);
}

static struct memory *lock(struct node *node) {
    pthread_mutex_lock(&node->memory->mutex);
    return node->memory;
}

static void unlock(struct memory *memory) {
    pthread_mutex_unlock(&memory->mutex);
}

static struct memory_budget budget_of(struct memory *memory) {
    return (struct memory_budget){&memory->bytes, memory->bytes_max};
}

static bool inode_is_left(const struct memory *memory) {
    return !memory->inodes_max || memory->inodes < memory->inodes_max;
}

static const struct dev memory_dev;

static void node_init(struct memory *memory, struct node *node, enum file_type type,
                      uint64_t device) {
    file_init(&node->file, &memory_dev, device, ++memory->last_inode, type,
              type == FILE_REGULAR ? FILE_SEEKABLE : 0);
    node->memory = memory;
    node->links = 0;
    node->parent = NULL;
    node->accessed_ns = node->modified_ns = node->changed_ns = clock_realtime_ns();
    node->version = 1;
    if (type == FILE_DIRECTORY) {
        node->directory.names = (struct map){0};
        list_init(&node->directory.entries);
    } else if (type == FILE_SYMBOLIC_LINK) {
        node->target = (struct buf){0};
    } else {
        node->data = (struct memory_data){0};
    }
    memory->nodes++;
}

static void touch(struct node *node) {
    node->modified_ns = node->changed_ns = clock_realtime_ns();
    node->version++;
}

/* Locked. A node without a name, with one reference, that is counted as an inode. */
static enum err node_new(struct memory *memory, enum file_type type, struct node **ret_node) {
    if (!inode_is_left(memory)) {
        return ERR_NOSPC;
    }
    struct node *node = malloc(sizeof *node);
    if (!node) {
        return ERR_NOMEM;
    }
    node_init(memory, node, type, memory->root.file.device);
    memory->inodes++;
    *ret_node = node;
    return ERR_OK;
}

/* Locked. */
static struct entry *find(const struct node *directory, struct str name) {
    struct map_node *found = map_find(&directory->directory.names, name);
    return found ? CONTAINER_OF(found, struct entry, map_node) : NULL;
}

/* Locked. Gives `node` a name, which takes a reference of its own. */
static enum err add_name(struct node *directory, struct str name, struct node *node) {
    struct entry *entry = malloc(sizeof *entry + name.length);
    if (!entry) {
        return ERR_NOMEM;
    }
    memcpy(entry->name, name.data, name.length);
    entry->node = node;
    enum err err = map_insert(&directory->directory.names, &entry->map_node,
                              (struct str){entry->name, name.length});
    if (err != ERR_OK) {
        free(entry);
        return err;
    }
    list_append(&directory->directory.entries, &entry->link);
    file_ref(&node->file);
    node->links++;
    if (node->file.type == FILE_DIRECTORY) {
        node->parent = directory;
    }
    touch(directory);
    return ERR_OK;
}

/* Locked. The node has lost a name; its reference is the caller's to drop after unlocking. */
static void lose_name(struct node *node) {
    if (--node->links > 0) {
        node->memory->inodes--; /* each name beyond the first counts as one */
    } else {
        node->parent = NULL;
    }
    node->changed_ns = clock_realtime_ns();
}

/* Locked. Returns the node, whose reference by this name is the caller's to drop after unlocking.
 */
static struct node *remove_entry(struct node *directory, struct entry *entry) {
    struct node *node = entry->node;
    map_remove(&directory->directory.names, &entry->map_node);
    list_remove(&entry->link);
    free(entry);
    touch(directory);
    return node;
}

/* Locked. */
static bool is_empty(const struct node *directory) {
    return list_is_empty(&directory->directory.entries);
}

/* Takes all names out of the tree below `root`, without recursion: trees may be as deep as there
 * are inodes. */
static void tear_down(struct node *root) {
    struct list todo; /* entries taken out, whose references are still to be dropped */
    list_init(&todo);
    struct node *directory = root;
    for (;;) {
        struct memory *memory = lock(directory);
        while (!list_is_empty(&directory->directory.entries)) {
            struct entry *entry =
                CONTAINER_OF(directory->directory.entries.next, struct entry, link);
            list_remove(&entry->link);
            list_append(&todo, &entry->link);
            lose_name(entry->node);
        }
        map_done(&directory->directory.names);
        unlock(memory);
        if (directory != root) {
            file_unref(&directory->file);
        }
        directory = NULL;
        while (!directory && !list_is_empty(&todo)) {
            struct entry *entry = CONTAINER_OF(todo.next, struct entry, link);
            struct node *node = entry->node;
            list_remove(&entry->link);
            free(entry);
            if (node->file.type == FILE_DIRECTORY) {
                directory = node;
            } else {
                file_unref(&node->file);
            }
        }
        if (!directory) {
            return;
        }
    }
}

static void memory_release(struct file *file) {
    struct node *node = node_of(file);
    struct memory *memory = node->memory;
    uint64_t bytes = 0;
    if (node == &memory->root) {
        tear_down(node);
    } else if (file->type == FILE_DIRECTORY) {
        map_done(&node->directory.names);
    } else if (file->type == FILE_SYMBOLIC_LINK) {
        bytes = node->target.length;
        buf_done(&node->target);
    } else {
        uint64_t freed = UINT64_MAX; /* counts down */
        memory_data_set_size(&node->data, (struct memory_budget){&freed, 0}, 0);
        bytes = UINT64_MAX - freed;
    }
    lock(node);
    memory->bytes -= bytes;
    memory->inodes -= node != &memory->root;
    bool is_last = --memory->nodes == 0;
    unlock(memory);
    if (node != &memory->root) {
        free(node);
    }
    if (is_last) {
        pthread_mutex_destroy(&memory->mutex);
        free(memory);
    }
}

static enum err memory_walk(struct op *op, struct file *file, const struct str *names, size_t count,
                            size_t *ret_walked, struct file **ret_file) {
    (void)op;
    struct node *directory = node_of(file), *found = NULL;
    struct memory *memory = lock(directory);
    size_t walked = 0;
    while (walked < count) {
        struct entry *entry = find(directory, names[walked]);
        if (!entry) {
            break;
        }
        found = entry->node;
        walked++;
        if (found->file.type != FILE_DIRECTORY) {
            break;
        }
        directory = found;
    }
    if (found) {
        *ret_file = file_ref(&found->file);
        *ret_walked = walked;
    }
    unlock(memory);
    return found ? ERR_OK : ERR_NOENT;
}

static enum err memory_open(struct op *op, struct file *file, unsigned open_flags,
                            struct file **ret_file) {
    (void)op;
    if (open_flags & OPEN_TRUNCATE && file->type == FILE_REGULAR) {
        struct node *node = node_of(file);
        struct memory *memory = lock(node);
        memory_data_set_size(&node->data, budget_of(memory), 0);
        touch(node);
        unlock(memory);
    }
    *ret_file = file_ref(file);
    return ERR_OK;
}

/* Locked. Whether `name` can be made in the directory. */
static enum err may_add(const struct node *directory, struct str name) {
    if (directory->links == 0) {
        return ERR_NOENT;
    }
    return find(directory, name) ? ERR_EXIST : ERR_OK;
}

/* Makes a node and its name; `target` of a symbolic link. */
static enum err make(struct node *directory, struct str name, enum file_type type,
                     struct str target, struct file **ret_file) {
    struct node *node = NULL;
    struct memory *memory = lock(directory);
    memory->is_used = true;
    enum err err = may_add(directory, name);
    if (err == ERR_OK) {
        err = node_new(memory, type, &node);
    }
    if (err == ERR_OK && type == FILE_SYMBOLIC_LINK) {
        if (memory->bytes_max && (memory->bytes >= memory->bytes_max ||
                                  target.length > memory->bytes_max - memory->bytes)) {
            err = ERR_NOSPC;
        } else {
            err = buf_append_str(&node->target, target);
        }
        memory->bytes += node->target.length;
    }
    if (err == ERR_OK) {
        err = add_name(directory, name, node);
    }
    unlock(memory);
    if (err == ERR_OK && ret_file) {
        *ret_file = &node->file;
    } else if (node) {
        file_unref(&node->file);
    }
    return err;
}

static enum err memory_create(struct op *op, struct file *directory, struct str name,
                              enum file_type type, struct file **ret_file) {
    (void)op;
    if (type != FILE_REGULAR && type != FILE_DIRECTORY && type != FILE_WHITEOUT) {
        return ERR_INVAL;
    }
    return make(node_of(directory), name, type, (struct str){0}, ret_file);
}

static enum err memory_symlink(struct op *op, struct file *directory, struct str name,
                               struct str target) {
    (void)op;
    if (target.length > SYMLINK_MAX) {
        return ERR_NAMETOOLONG;
    }
    return make(node_of(directory), name, FILE_SYMBOLIC_LINK, target, NULL);
}

static enum err memory_link(struct op *op, struct file *file, struct file *directory_file,
                            struct str name) {
    (void)op;
    struct node *node = node_of(file), *directory = node_of(directory_file);
    struct memory *memory = lock(directory);
    enum err err = may_add(directory, name);
    if (err == ERR_OK && node->links == 0) {
        err = ERR_NOENT;
    }
    if (err == ERR_OK && node->links == UINT32_MAX) {
        err = ERR_MLINK;
    }
    if (err == ERR_OK && !inode_is_left(memory)) {
        err = ERR_NOSPC;
    }
    if (err == ERR_OK) {
        err = add_name(directory, name, node);
    }
    if (err == ERR_OK) {
        memory->inodes++;
        node->changed_ns = directory->changed_ns;
    }
    unlock(memory);
    return err;
}

static enum err memory_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    (void)op;
    return buf_append_str(ret_target, buf_str(&node_of(file)->target)); /* it never changes */
}

/* Locked. Whether what is there, if anything, is what the caller has seen. */
static bool is_expected(const struct entry *entry, const struct file_expected *expected) {
    return !expected || (entry ? entry->node->file.inode == expected->inode &&
                                     entry->node->version == expected->version
                               : expected->inode == 0);
}

static enum err memory_remove_expected(struct op *op, struct file *file, struct str name,
                                       bool directory_wanted,
                                       const struct file_expected *expected) {
    (void)op;
    struct node *directory = node_of(file), *removed = NULL;
    struct memory *memory = lock(directory);
    struct entry *entry = find(directory, name);
    enum err err = ERR_OK;
    if (!entry) {
        err = ERR_NOENT;
    } else if (directory_wanted && entry->node->file.type != FILE_DIRECTORY) {
        err = ERR_NOTDIR;
    } else if (!directory_wanted && entry->node->file.type == FILE_DIRECTORY) {
        err = ERR_ISDIR;
    } else if (directory_wanted && !is_empty(entry->node)) {
        err = ERR_NOTEMPTY;
    } else if (!is_expected(entry, expected)) {
        err = ERR_STALE;
    } else {
        removed = remove_entry(directory, entry);
        lose_name(removed);
    }
    unlock(memory);
    if (removed) {
        file_unref(&removed->file);
    }
    return err;
}

static enum err memory_remove(struct op *op, struct file *file, struct str name,
                              bool directory_wanted) {
    return memory_remove_expected(op, file, name, directory_wanted, NULL);
}

/* Locked. Whether `source` may be renamed to what is there now, if anything. */
static enum err may_replace(const struct node *source, const struct node *new_directory,
                            const struct entry *target) {
    bool is_directory = source->file.type == FILE_DIRECTORY;
    for (const struct node *above = new_directory; above && is_directory; above = above->parent) {
        if (above == source) {
            return ERR_INVAL;
        }
    }
    if (new_directory->links == 0) {
        return ERR_NOENT;
    }
    if (!target || target->node == source) {
        return ERR_OK;
    }
    if (target->node->file.type == FILE_DIRECTORY) {
        return !is_directory ? ERR_ISDIR : is_empty(target->node) ? ERR_OK : ERR_NOTEMPTY;
    }
    return is_directory ? ERR_NOTDIR : ERR_OK;
}

static enum err memory_rename_expected(struct op *op, struct file *old_file, struct str old_name,
                                       struct file *new_file, struct str new_name,
                                       const struct file_expected *expected) {
    (void)op;
    struct node *old_directory = node_of(old_file), *new_directory = node_of(new_file);
    struct node *replaced = NULL, *source = NULL;
    struct memory *memory = lock(old_directory);
    struct entry *entry = find(old_directory, old_name);
    struct entry *target = find(new_directory, new_name);
    enum err err = entry ? may_replace(entry->node, new_directory, target) : ERR_NOENT;
    if (err == ERR_OK && !is_expected(target, expected)) {
        err = ERR_STALE;
    }
    if (err != ERR_OK || (target && target->node == entry->node)) {
        unlock(memory); /* two names of one file: POSIX leaves both */
        return err;
    }
    if (target) {
        /* The new name is there already: it changes its node, so that nothing can fail. */
        replaced = target->node;
        lose_name(replaced);
        source = target->node = entry->node;
        if (source->file.type == FILE_DIRECTORY) {
            source->parent = new_directory;
        }
        touch(new_directory);
        remove_entry(old_directory, entry); /* its reference is the other entry's now */
    } else {
        err = add_name(new_directory, new_name, entry->node);
        if (err == ERR_OK) {
            replaced = source = remove_entry(old_directory, entry); /* only a reference too many */
            source->links--;
        }
    }
    if (source) {
        source->changed_ns = new_directory->changed_ns;
    }
    unlock(memory);
    if (replaced) {
        file_unref(&replaced->file);
    }
    return err;
}

static enum err memory_rename(struct op *op, struct file *old_file, struct str old_name,
                              struct file *new_file, struct str new_name) {
    return memory_rename_expected(op, old_file, old_name, new_file, new_name, NULL);
}

static enum err memory_read(struct op *op, struct file *file, void *data, size_t length,
                            uint64_t offset, size_t *ret_read) {
    (void)op;
    if (file->type != FILE_REGULAR) {
        return ERR_INVAL;
    }
    struct node *node = node_of(file);
    struct memory *memory = lock(node);
    *ret_read = memory_data_read(&node->data, data, MIN(length, TRANSFER_MAX), offset);
    unlock(memory);
    return ERR_OK;
}

static enum err memory_write(struct op *op, struct file *file, const void *data, size_t length,
                             uint64_t offset, size_t *ret_written) {
    (void)op;
    if (file->type != FILE_REGULAR) {
        return ERR_INVAL;
    }
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    struct node *node = node_of(file);
    struct memory *memory = lock(node);
    enum err err = ERR_FBIG;
    if (offset == OFFSET_APPEND) {
        offset = node->data.size;
    }
    if (offset < MEMORY_FILE_BYTES_MAX) {
        length = (size_t)MIN(MIN(length, TRANSFER_MAX), MEMORY_FILE_BYTES_MAX - offset);
        err = memory_data_write(&node->data, budget_of(memory), data, length, offset, ret_written);
    }
    if (err == ERR_OK) {
        touch(node);
    }
    unlock(memory);
    return err;
}

static enum err memory_readdir(struct op *op, struct file *file, struct dir_list *ret_list) {
    (void)op;
    struct node *directory = node_of(file);
    enum err err = ERR_OK;
    struct memory *memory = lock(directory);
    LIST_FOR_EACH (link, &directory->directory.entries) {
        const struct entry *entry = CONTAINER_OF(link, struct entry, link);
        err = dir_list_add(ret_list, entry->map_node.key, entry->node->file.inode,
                           entry->node->file.type);
        if (err != ERR_OK) {
            break;
        }
    }
    unlock(memory);
    return err;
}

static enum err memory_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct node *node = node_of(file);
    struct memory *memory = lock(node);
    *ret_stat = (struct file_stat){
        .device = file->device,
        .inode = file->inode,
        .type = file->type,
        .links = node->links,
        .size = file->type == FILE_REGULAR         ? node->data.size
                : file->type == FILE_SYMBOLIC_LINK ? node->target.length
                                                   : 0,
        .accessed_ns = node->accessed_ns,
        .modified_ns = node->modified_ns,
        .changed_ns = node->changed_ns,
        .version = node->version,
    };
    unlock(memory);
    return ERR_OK;
}

static enum err memory_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    (void)op;
    if (file->type != FILE_REGULAR) {
        return ERR_INVAL;
    }
    if (size_bytes > MEMORY_FILE_BYTES_MAX) {
        return ERR_FBIG;
    }
    struct node *node = node_of(file);
    struct memory *memory = lock(node);
    memory_data_set_size(&node->data, budget_of(memory), size_bytes);
    touch(node);
    unlock(memory);
    return ERR_OK;
}

static enum err memory_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                 uint64_t modified_ns, unsigned set_times_flags) {
    (void)op;
    struct node *node = node_of(file);
    struct memory *memory = lock(node);
    memory->is_used = true;
    if (set_times_flags & SET_ACCESSED) {
        node->accessed_ns = accessed_ns;
    }
    if (set_times_flags & SET_MODIFIED) {
        node->modified_ns = modified_ns;
    }
    node->changed_ns = clock_realtime_ns();
    unlock(memory);
    return ERR_OK;
}

static const struct dev memory_dev = {
    .name = "memory",
    .walk = memory_walk,
    .open = memory_open,
    .create = memory_create,
    .symlink = memory_symlink,
    .link = memory_link,
    .readlink = memory_readlink,
    .remove = memory_remove,
    .rename = memory_rename,
    .remove_expected = memory_remove_expected,
    .rename_expected = memory_rename_expected,
    .read = memory_read,
    .write = memory_write,
    .readdir = memory_readdir,
    .stat = memory_stat,
    .set_size = memory_set_size,
    .set_times = memory_set_times,
    .release = memory_release,
};

enum err memory_new(const struct memory_options *options, struct file **ret_root) {
    struct memory *memory = malloc(sizeof *memory);
    if (!memory) {
        return ERR_NOMEM;
    }
    memory->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    memory->bytes = memory->inodes = memory->last_inode = memory->nodes = 0;
    memory->is_used = false;
    memory->bytes_max = options->bytes_max;
    memory->inodes_max = options->inodes_max;
    node_init(memory, &memory->root, FILE_DIRECTORY, dev_next_number());
    memory->root.links = 1;
    *ret_root = &memory->root.file;
    return ERR_OK;
}

struct memory_usage memory_usage(struct file *root) {
    struct memory *memory = lock(node_of(root));
    struct memory_usage usage = {memory->bytes, memory->inodes};
    unlock(memory);
    return usage;
}

bool memory_is_pristine(struct file *root) {
    struct memory *memory = lock(node_of(root));
    bool is_pristine = !memory->is_used;
    unlock(memory);
    return is_pristine;
}

void memory_set_limits(struct file *root, const struct memory_options *options) {
    struct memory *memory = lock(node_of(root));
    memory->bytes_max = options->bytes_max;
    memory->inodes_max = options->inodes_max;
    unlock(memory);
}
