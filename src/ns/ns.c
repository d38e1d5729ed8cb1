#include "ns/ns_internal.h"
#include "ns/temporary.h"

enum {
    MOUNT_DEPTH_MAX = 8,
    ARENA_SIZE = 1536,  /* bytes for nodes of the usual tree; more are allocated one by one */
    SWEPT_AT_ONCE = 64, /* leftovers that one listing removes */
};

struct ns {
    atomic_uint references;
    uint64_t device;     /* of missing directories */
    uint64_t last_inode; /* given to a missing directory */
    struct ns_mount root;
    size_t arena_used;
    _Alignas(max_align_t) uint8_t arena[ARENA_SIZE];
};

/* A directory that no device has, on the way to a mount point. Empty but for the mounts. */
static void missing_release(struct file *file) {
    free(file);
}
static const struct dev missing_dev = {.name = "mounts", .release = missing_release};

static struct ns_mount *mount_new(struct ns *ns, struct str name) {
    size_t size = sizeof(struct ns_mount) + name.length;
    size = (size + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
    struct ns_mount *mount;
    if (size <= ARENA_SIZE - ns->arena_used) {
        mount = (void *)(ns->arena + ns->arena_used);
        ns->arena_used += size;
    } else {
        mount = malloc(size);
        if (!mount) {
            return NULL;
        }
    }
    char *copy = (char *)(mount + 1);
    memcpy(copy, name.data, name.length);
    *mount = (struct ns_mount){.name = {copy, name.length}};
    return mount;
}

static bool in_arena(const struct ns *ns, const struct ns_mount *mount) {
    uintptr_t at = (uintptr_t)mount;
    return at >= (uintptr_t)ns->arena && at < (uintptr_t)ns->arena + ARENA_SIZE;
}

/* Recursion is bounded by MOUNT_DEPTH_MAX. */
static void mount_free_children(struct ns *ns, struct ns_mount *mount) {
    struct ns_mount *next;
    for (struct ns_mount *child = mount->first_child; child; child = next) {
        next = child->next_sibling;
        mount_free_children(ns, child);
        file_unref(child->root);
        file_unref(child->missing);
        if (!in_arena(ns, child)) {
            free(child);
        }
    }
}

enum err ns_new(struct file *root, struct ns **ret_ns) {
    struct ns *ns = malloc(sizeof *ns);
    if (!ns) {
        return ERR_NOMEM;
    }
    atomic_init(&ns->references, 1);
    ns->device = 0;
    ns->last_inode = 0;
    ns->root = (struct ns_mount){.root = file_ref(root)};
    ns->arena_used = 0;
    *ret_ns = ns;
    return ERR_OK;
}

struct ns *ns_ref(struct ns *ns) {
    atomic_fetch_add_explicit(&ns->references, 1, memory_order_relaxed);
    return ns;
}

void ns_unref(struct ns *ns) {
    if (ns && atomic_fetch_sub_explicit(&ns->references, 1, memory_order_acq_rel) == 1) {
        mount_free_children(ns, &ns->root);
        file_unref(ns->root.root);
        free(ns);
    }
}

const struct ns_mount *ns_mount_child(const struct ns_mount *mount, struct str name) {
    for (const struct ns_mount *child = mount ? mount->first_child : NULL; child;
         child = child->next_sibling) {
        if (str_equal(child->name, name)) {
            return child;
        }
    }
    return NULL;
}

struct ns_place ns_mount_enter(const struct ns_mount *child, struct file *found) {
    if (child->root || !found || found->type != FILE_DIRECTORY) {
        file_unref(found);
        found = file_ref(child->root ? child->root : child->missing);
    }
    return (struct ns_place){found, child->first_child ? child : NULL};
}

static bool is_name(struct str name) {
    return name.length > 0 && name.length <= 255 && !str_equal(name, STR(".")) &&
           !str_equal(name, STR("..")) && !memchr(name.data, 0, name.length) && str_is_utf8(name);
}

/* `is_last`: something will be mounted there at once. */
static enum err mount_add_child(struct ns *ns, struct ns_mount *mount, struct str name,
                                bool is_last, struct ns_mount **ret_child) {
    struct ns_mount *child = mount_new(ns, name);
    struct file *missing = is_last ? NULL : malloc(sizeof *missing);
    if (!child || (!missing && !is_last)) {
        if (child && !in_arena(ns, child)) {
            free(child);
        }
        free(missing);
        return ERR_NOMEM;
    }
    if (missing) {
        ns->device = ns->device ? ns->device : dev_next_number();
        file_init(missing, &missing_dev, ns->device, ++ns->last_inode, FILE_DIRECTORY,
                  FILE_READ_ONLY);
    }
    child->missing = missing;
    /* At the end, so that a listing has them in the order of mounting. */
    struct ns_mount **last = &mount->first_child;
    while (*last) {
        last = &(*last)->next_sibling;
    }
    *last = child;
    *ret_child = child;
    return ERR_OK;
}

enum err ns_mount(struct ns *ns, struct str path, struct file *root) {
    if (path.length < 2 || path.data[0] != '/') {
        return ERR_INVAL;
    }
    struct ns_mount *mount = &ns->root;
    struct str rest = {path.data + 1, path.length - 1};
    for (int depth = 0; rest.data; depth++) {
        struct str name = str_cut(&rest, '/');
        if (depth == MOUNT_DEPTH_MAX || !is_name(name)) {
            return ERR_INVAL;
        }
        struct ns_mount *child = (struct ns_mount *)ns_mount_child(mount, name);
        if (!child) {
            enum err err = mount_add_child(ns, mount, name, !rest.data, &child);
            if (err != ERR_OK) {
                return err;
            }
        }
        mount = child;
    }
    if (mount->root) {
        return ERR_EXIST;
    }
    mount->root = file_ref(root);
    return ERR_OK;
}

struct ns_place ns_root(struct ns *ns) {
    return (struct ns_place){file_ref(ns->root.root), ns->root.first_child ? &ns->root : NULL};
}

void ns_place_done(struct ns_place *place) {
    file_unref(place->file);
    *place = (struct ns_place){0};
}

enum err ns_step(struct op *op, struct ns *ns, const struct ns_place *parent, struct str name,
                 struct ns_place *ret_child) {
    (void)ns;
    const struct ns_mount *child = ns_mount_child(parent->mount, name);
    if (child && child->root) {
        *ret_child = ns_mount_enter(child, NULL);
        return ERR_OK;
    }
    size_t walked;
    struct file *file = NULL;
    enum err err = file_walk(op, parent->file, &name, 1, &walked, &file);
    if (err == ERR_OK && file->type == FILE_WHITEOUT) {
        file_unref(file);
        file = NULL;
        err = ERR_NOENT;
    }
    if (child && (err == ERR_OK || err == ERR_NOENT)) {
        *ret_child = ns_mount_enter(child, file);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        *ret_child = (struct ns_place){file, NULL};
    }
    return err;
}

/* A name that nobody sees, so nobody else could remove it. */
static void pass_temporary(struct op *op, const struct ns_place *place, struct str name,
                           size_t *swept) {
    if (ns_is_leftover(name) && *swept < SWEPT_AT_ONCE) {
        ++*swept;
        ns_remove_later(op, place->file, name);
    }
}

enum err ns_readdir(struct op *op, struct ns *ns, const struct ns_place *place,
                    struct dir_list *ret_list) {
    (void)ns;
    struct dir_list device = {0};
    enum err err = file_readdir(op, place->file, &device);
    if (err != ERR_OK) {
        dir_list_done(&device);
        return err;
    }
    struct dir_list list = {0};
    err = dir_list_add(&list, STR("."), place->file->inode, FILE_DIRECTORY);
    if (err == ERR_OK) {
        err = dir_list_add(&list, STR(".."), place->file->inode, FILE_DIRECTORY);
    }
    for (const struct ns_mount *child = place->mount ? place->mount->first_child : NULL;
         child && err == ERR_OK; child = child->next_sibling) {
        const struct file *shown = child->root ? child->root : child->missing;
        for (size_t i = 0; i < device.count && !child->root; i++) {
            if (device.entries[i].type == FILE_DIRECTORY &&
                str_equal(dir_list_name(&device, i), child->name)) {
                shown = NULL;
            }
        }
        if (shown) {
            err = dir_list_add(&list, child->name, shown->inode, shown->type);
        }
    }
    size_t swept = 0;
    for (size_t i = 0; i < device.count && err == ERR_OK; i++) {
        struct str name = dir_list_name(&device, i);
        if (ns_is_temporary(name)) {
            pass_temporary(op, place, name, &swept);
            continue;
        }
        const struct ns_mount *child = ns_mount_child(place->mount, name);
        if (device.entries[i].type == FILE_WHITEOUT ||
            (child && (child->root || device.entries[i].type != FILE_DIRECTORY))) {
            continue;
        }
        err = dir_list_add(&list, name, device.entries[i].inode, device.entries[i].type);
    }
    dir_list_done(&device);
    if (err == ERR_OK) {
        dir_list_done(ret_list);
        *ret_list = list;
    } else {
        dir_list_done(&list);
    }
    return err;
}
