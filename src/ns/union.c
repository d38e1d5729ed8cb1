#include "ns/union_internal.h"

static const struct dev union_dev;

struct file *union_actual(struct union_node *node) {
    struct file *file = union_top(node);
    for (size_t layer = 1; !file && layer < node->fs->layer_count; layer++) {
        file = node->lower[layer];
    }
    return file;
}

bool union_has_lower(const struct union_node *node) {
    for (size_t layer = 1; layer < node->fs->layer_count; layer++) {
        if (node->lower[layer]) {
            return true;
        }
    }
    return false;
}

bool union_is_reserved(struct str name) {
    return str_starts(name, STR(UNION_RESERVED_PREFIX));
}

static uint64_t inode_of(size_t layer, uint64_t inode) {
    return inode * UNION_LAYERS_MAX + layer;
}

/* Locked. */
static uint64_t inode_locked(const struct union_fs *fs, size_t layer, uint64_t inode) {
    if (layer == 0 && fs->aliases.count > 0) {
        struct map_node *found = map_find(&fs->aliases, MAP_KEY(inode));
        if (found) {
            return CONTAINER_OF(found, struct union_alias, map_node)->inode;
        }
    }
    return inode_of(layer, inode);
}

uint64_t union_inode(struct union_fs *fs, size_t layer, uint64_t inode) {
    pthread_mutex_lock(&fs->mutex);
    uint64_t result = inode_locked(fs, layer, inode);
    pthread_mutex_unlock(&fs->mutex);
    return result;
}

static void fs_free(struct union_fs *fs) {
    struct map_node *next;
    for (struct map_node *node = map_next(&fs->aliases, NULL); node; node = next) {
        next = map_next(&fs->aliases, node);
        free(CONTAINER_OF(node, struct union_alias, map_node));
    }
    map_done(&fs->aliases);
    if (fs->has_queue) {
        op_queue_done(&fs->queue);
    }
    pthread_mutex_destroy(&fs->mutex);
    free(fs);
}

/* Without recursion: the tree may be deep, and a node holds its parent. */
static void union_release(struct file *file) {
    struct union_node *node = union_node_of(file);
    struct union_fs *fs = node->fs;
    while (node) {
        pthread_mutex_lock(&fs->mutex);
        list_remove(&node->link);
        pthread_mutex_unlock(&fs->mutex);
        struct union_node *parent = node->parent;
        file_unref(union_top(node));
        for (size_t layer = 1; layer < fs->layer_count; layer++) {
            file_unref(node->lower[layer]);
        }
        free(node->renamed_name);
        if (node != fs->root) {
            free(node);
        }
        if (atomic_fetch_sub_explicit(&fs->nodes, 1, memory_order_acq_rel) == 1) {
            fs_free(fs); /* the root was the last: nothing is above it */
            return;
        }
        bool is_last = parent && atomic_fetch_sub_explicit(&parent->file.references, 1,
                                                           memory_order_acq_rel) == 1;
        node = is_last ? parent : NULL;
    }
}

static void node_init(struct union_fs *fs, struct union_node *node, enum file_type type,
                      uint64_t inode, unsigned traits) {
    traits &= ~(unsigned)FILE_READ_ONLY;
    file_init(&node->file, &union_dev, fs->device, inode, type,
              fs->writable ? traits : traits | FILE_READ_ONLY);
    node->fs = fs;
    atomic_init(&node->top, NULL);
    node->parent = NULL;
    node->name = (struct str){0};
    node->renamed_name = NULL;
    list_init(&node->link);
    list_init(&node->children);
    atomic_init(&node->removed, false);
    for (size_t layer = 0; layer < fs->layer_count; layer++) {
        node->lower[layer] = NULL;
    }
    atomic_fetch_add_explicit(&fs->nodes, 1, memory_order_relaxed);
}

/* A reference to a node that may be on its way out. */
static bool try_ref(struct union_node *node) {
    unsigned references = atomic_load_explicit(&node->file.references, memory_order_relaxed);
    while (references > 0) {
        if (atomic_compare_exchange_weak_explicit(&node->file.references, &references,
                                                  references + 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

/* Locked. The living node of a name, or NULL. */
static struct union_node *find_child(const struct union_node *directory, struct str name) {
    LIST_FOR_EACH (link, &directory->children) {
        struct union_node *child = CONTAINER_OF(link, struct union_node, link);
        if (str_equal(child->name, name)) {
            return child;
        }
    }
    return NULL;
}

/* Locked. */
static void detach(struct union_node *node) {
    list_remove(&node->link);
    atomic_store(&node->removed, true);
}

/* Locked. Whether a living node is what was found just now. */
static bool is_same(struct union_node *node, const struct union_lookup *lookup, uint64_t inode) {
    const struct file *top = union_top(node), *found = lookup->found[0];
    return node->file.type == lookup->type && node->file.inode == inode &&
           (!top || (found && found->inode == top->inode));
}

void union_set_top(struct union_node *node, struct file *top) {
    struct file *none = NULL;
    if (!atomic_compare_exchange_strong(&node->top, &none, top)) {
        file_unref(top);
    }
}

enum err union_node_get(struct union_node *directory, struct str name,
                        const struct union_lookup *lookup, struct union_node **ret_node) {
    struct union_fs *fs = directory->fs;
    size_t lowest = 0;
    for (size_t layer = 0; layer < fs->layer_count; layer++) {
        lowest = lookup->found[layer] ? layer : lowest;
    }
    const struct file *found = lookup->found[lowest];
    pthread_mutex_lock(&fs->mutex);
    uint64_t inode = inode_locked(fs, lowest, found->inode);
    struct union_node *node = find_child(directory, name);
    if (node) {
        if (is_same(node, lookup, inode) && try_ref(node)) {
            if (lookup->found[0] && !union_top(node)) {
                union_set_top(node, file_ref(lookup->found[0]));
            }
            pthread_mutex_unlock(&fs->mutex);
            *ret_node = node;
            return ERR_OK;
        }
        detach(node);
    }
    node = malloc(sizeof *node + fs->layer_count * sizeof node->lower[0] + name.length);
    if (node) {
        node_init(fs, node, lookup->type, inode, found->traits);
        char *copy = (char *)&node->lower[fs->layer_count];
        memcpy(copy, name.data, name.length);
        node->name = (struct str){copy, name.length};
        file_ref(&directory->file);
        node->parent = directory;
        list_append(&directory->children, &node->link);
        for (size_t layer = 1; layer < fs->layer_count; layer++) {
            node->lower[layer] = lookup->found[layer] ? file_ref(lookup->found[layer]) : NULL;
        }
        if (lookup->found[0]) {
            atomic_store(&node->top, file_ref(lookup->found[0]));
        }
    }
    pthread_mutex_unlock(&fs->mutex);
    *ret_node = node ? node : *ret_node;
    return node ? ERR_OK : ERR_NOMEM;
}

void union_forget(struct union_node *directory, struct str name) {
    pthread_mutex_lock(&directory->fs->mutex);
    struct union_node *node = find_child(directory, name);
    if (node) {
        detach(node);
    }
    pthread_mutex_unlock(&directory->fs->mutex);
}

enum err union_new(struct file *const *layers, size_t layer_count, bool writable,
                   struct file **ret_root) {
    if (layer_count < 1 || layer_count > UNION_LAYERS_MAX) {
        return ERR_INVAL;
    }
    struct union_fs *fs = malloc(sizeof *fs + sizeof *fs->root + layer_count * sizeof(void *));
    if (!fs) {
        return ERR_NOMEM;
    }
    fs->mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    fs->aliases = (struct map){0};
    fs->busy = fs->has_queue = false;
    fs->device = dev_next_number();
    fs->layer_count = layer_count;
    fs->writable = writable;
    atomic_init(&fs->nodes, 0);
    fs->root = (struct union_node *)(fs + 1);
    size_t lowest = layer_count - 1;
    node_init(fs, fs->root, FILE_DIRECTORY, inode_of(lowest, layers[lowest]->inode), 0);
    atomic_store(&fs->root->top, file_ref(layers[0]));
    for (size_t layer = 1; layer < layer_count; layer++) {
        fs->root->lower[layer] = file_ref(layers[layer]);
    }
    *ret_root = &fs->root->file;
    return ERR_OK;
}

struct walk_state {
    struct op child;
    struct union_lookup lookup;
    struct union_node *at; /* a reference */
    size_t walked;
};

static void drop_walk(struct op *op) {
    struct walk_state *state = op->state;
    op_done(&state->child);
    union_lookup_done(&state->lookup);
    file_unref(state->at ? &state->at->file : NULL);
    free(state);
}

static enum err union_walk(struct op *op, struct file *directory, const struct str *names,
                           size_t count, size_t *ret_walked, struct file **ret_file) {
    struct walk_state *state = op->state;
    if (!state) {
        state = malloc(sizeof *state);
        if (!state) {
            return ERR_NOMEM;
        }
        op_init_child(&state->child, op);
        state->lookup = (struct union_lookup){0};
        state->at = union_node_of(file_ref(directory));
        state->walked = 0;
        op_set_state(op, state, drop_walk);
    }
    while (state->walked < count && state->at->file.type == FILE_DIRECTORY) {
        struct str name = names[state->walked];
        enum err err = union_look_up(&state->child, &state->lookup, state->at, name, false);
        if (err == ERR_PENDING) {
            return err;
        }
        struct union_node *node = NULL;
        bool is_there = err == ERR_OK && state->lookup.type != FILE_UNKNOWN;
        if (is_there) {
            err = union_node_get(state->at, name, &state->lookup, &node);
        }
        if (err != ERR_OK) {
            return op_finish(op, err);
        }
        union_lookup_done(&state->lookup);
        if (!is_there) {
            break;
        }
        file_unref(&state->at->file);
        state->at = node;
        state->walked++;
    }
    if (state->walked == 0) {
        return op_finish(op, ERR_NOENT);
    }
    *ret_walked = state->walked;
    *ret_file = &STEAL(state->at)->file;
    return op_finish(op, ERR_OK);
}

struct list_state {
    struct op child;
    struct union_listing listing;
};

static void drop_list(struct op *op) {
    struct list_state *state = op->state;
    op_done(&state->child);
    union_listing_done(&state->listing);
    free(state);
}

static enum err union_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct list_state *state = op->state;
    if (!state) {
        state = calloc(1, sizeof *state);
        if (!state) {
            return ERR_NOMEM;
        }
        op_init_child(&state->child, op);
        op_set_state(op, state, drop_list);
    }
    enum err err = union_list(&state->child, &state->listing, union_node_of(directory));
    if (err == ERR_PENDING) {
        return err;
    }
    const struct dir_list *result = &state->listing.result;
    for (size_t i = 0; i < result->count && err == ERR_OK; i++) {
        err = dir_list_add(ret_list, dir_list_name(result, i), result->entries[i].inode,
                           result->entries[i].type);
    }
    return op_finish(op, err);
}

/* An operation that only looks at a file: by a child op when it is in a lower layer, because a
 * copy-up may change which file answers while the operation is on its way. The top one stays. */
struct pin {
    struct op child;
    struct file *file; /* lives as long as the node */
};

static void drop_pin(struct op *op) {
    struct pin *pin = op->state;
    op_done(&pin->child);
    free(pin);
}

static bool is_pinned(const struct op *op) {
    return op->state && op->drop_state == drop_pin;
}

static enum err pin(struct op *op, struct file *file, struct op **ret_op, struct file **ret_file) {
    struct union_node *node = union_node_of(file);
    struct file *actual = union_actual(node);
    struct pin *state = op->state;
    if (!is_pinned(op)) {
        if (actual == union_top(node)) {
            *ret_op = op;
            *ret_file = actual;
            return ERR_OK;
        }
        state = malloc(sizeof *state);
        if (!state) {
            return ERR_NOMEM;
        }
        op_init_child(&state->child, op);
        state->file = actual;
        op_set_state(op, state, drop_pin);
    }
    *ret_op = &state->child;
    *ret_file = state->file;
    return ERR_OK;
}

static enum err unpin(struct op *op, enum err err) {
    return err != ERR_PENDING && is_pinned(op) ? op_finish(op, err) : err;
}

static enum err union_read(struct op *op, struct file *file, void *data, size_t length,
                           uint64_t offset, size_t *ret_read) {
    struct op *use;
    struct file *actual;
    enum err err = pin(op, file, &use, &actual);
    return err != ERR_OK ? err : unpin(op, file_read(use, actual, data, length, offset, ret_read));
}

static enum err union_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    struct op *use;
    struct file *actual;
    enum err err = pin(op, file, &use, &actual);
    return err != ERR_OK ? err : unpin(op, file_readlink(use, actual, ret_target));
}

static enum err union_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    struct op *use;
    struct file *actual;
    enum err err = pin(op, file, &use, &actual);
    if (err != ERR_OK) {
        return err;
    }
    struct file_stat stat;
    err = file_stat(use, actual, &stat);
    if (err == ERR_OK) {
        /* Versions of different layers have nothing to do with each other. */
        bool is_top = actual == union_top(union_node_of(file));
        stat.version = stat.version ? stat.version * 2 + is_top : 0;
        stat.device = file->device;
        stat.inode = file->inode;
        stat.type = file->type;
        *ret_stat = stat;
    }
    return unpin(op, err);
}

static enum err union_write(struct op *op, struct file *file, const void *data, size_t length,
                            uint64_t offset, size_t *ret_written) {
    struct file *top = union_top(union_node_of(file));
    if (!top) {
        return ERR_ROFS; /* not opened for writing */
    }
    return file_write(op, top, data, length, offset, ret_written);
}

/* Makes sure that there is a file in the top layer. */
static enum err copy_up(struct op *op, struct file *file, bool truncate) {
    struct union_node *node = union_node_of(file);
    if (union_job_of(op)) {
        return union_job_poll(op, NULL);
    }
    if (!node->fs->writable) {
        return ERR_ROFS;
    }
    if (union_top(node)) {
        return ERR_OK;
    }
    struct union_job *job;
    enum err err = union_job_new(op, node, (struct str){0}, union_run_copy, &job);
    if (err != ERR_OK) {
        return err;
    }
    job->truncate = truncate;
    return union_job_start(op, job, NULL);
}

static enum err union_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    if (open_flags & OPEN_WRITE) {
        enum err err = copy_up(op, file, open_flags & OPEN_TRUNCATE);
        if (err != ERR_OK) {
            return err;
        }
        struct file *opened = NULL;
        err = file_open(op, union_top(union_node_of(file)), open_flags, &opened);
        if (err != ERR_OK) {
            return err;
        }
        file_unref(opened);
    }
    *ret_file = file_ref(file);
    return ERR_OK;
}

static enum err union_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    enum err err = copy_up(op, file, size_bytes == 0);
    return err != ERR_OK ? err : file_set_size(op, union_top(union_node_of(file)), size_bytes);
}

static enum err union_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                uint64_t modified_ns, unsigned set_times_flags) {
    enum err err = copy_up(op, file, false);
    return err != ERR_OK ? err
                         : file_set_times(op, union_top(union_node_of(file)), accessed_ns,
                                          modified_ns, set_times_flags);
}

static enum err union_sync(struct op *op, struct file *file) {
    struct union_node *node = union_node_of(file);
    if (!node->fs->writable) {
        return ERR_OK;
    }
    struct file *top = union_top(file->type == FILE_DIRECTORY ? node->fs->root : node);
    return top ? file_sync(op, top) : ERR_OK;
}

static enum err make(struct op *op, struct file *directory, struct str name, enum file_type type,
                     struct str target, struct file *linked, struct file **ret_file) {
    if (union_job_of(op)) {
        return union_job_poll(op, ret_file);
    }
    struct union_job *job;
    enum err err = union_job_new(op, union_node_of(directory), name, union_run_make, &job);
    if (err != ERR_OK) {
        return err;
    }
    job->type = type;
    job->node = linked ? union_node_of(file_ref(linked)) : NULL;
    err = buf_append_str(&job->target, target);
    if (err != ERR_OK) {
        union_job_free(job);
        return err;
    }
    return union_job_start(op, job, ret_file);
}

static enum err union_create(struct op *op, struct file *directory, struct str name,
                             enum file_type type, struct file **ret_file) {
    if (type != FILE_REGULAR && type != FILE_DIRECTORY) {
        return ERR_INVAL;
    }
    return make(op, directory, name, type, (struct str){0}, NULL, ret_file);
}

static enum err union_symlink(struct op *op, struct file *directory, struct str name,
                              struct str target) {
    return make(op, directory, name, FILE_SYMBOLIC_LINK, target, NULL, NULL);
}

static enum err union_link(struct op *op, struct file *file, struct file *directory,
                           struct str name) {
    return make(op, directory, name, file->type, (struct str){0}, file, NULL);
}

static enum err union_remove(struct op *op, struct file *directory, struct str name,
                             bool directory_wanted) {
    if (union_job_of(op)) {
        return union_job_poll(op, NULL);
    }
    struct union_job *job;
    enum err err = union_job_new(op, union_node_of(directory), name, union_run_remove, &job);
    if (err != ERR_OK) {
        return err == ERR_INVAL ? ERR_NOENT : err; /* nobody has seen a reserved name */
    }
    job->directory_wanted = directory_wanted;
    return union_job_start(op, job, NULL);
}

static enum err union_rename(struct op *op, struct file *old_directory, struct str old_name,
                             struct file *new_directory, struct str new_name) {
    if (union_job_of(op)) {
        return union_job_poll(op, NULL);
    }
    if (union_is_reserved(new_name)) {
        return ERR_INVAL;
    }
    struct union_job *job;
    enum err err =
        union_job_new(op, union_node_of(old_directory), old_name, union_run_rename, &job);
    if (err != ERR_OK) {
        return err == ERR_INVAL ? ERR_NOENT : err;
    }
    job->new_directory = union_node_of(file_ref(new_directory));
    job->new_name_length = MIN(new_name.length, UNION_NAME_MAX);
    memcpy(job->new_name, new_name.data, job->new_name_length);
    return union_job_start(op, job, NULL);
}

static const struct dev union_dev = {
    .name = "union",
    .walk = union_walk,
    .open = union_open,
    .create = union_create,
    .symlink = union_symlink,
    .link = union_link,
    .readlink = union_readlink,
    .remove = union_remove,
    .rename = union_rename,
    .read = union_read,
    .write = union_write,
    .readdir = union_readdir,
    .stat = union_stat,
    .set_size = union_set_size,
    .set_times = union_set_times,
    .sync = union_sync,
    .release = union_release,
};
