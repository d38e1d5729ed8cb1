/* Random paths and changes on a namespace, against a model.
 *
 * The namespace: a union of a memory layer over a prepared lower one at `/`, memory at `/m` and at
 * `/x/y/z` (`x` and `y` are on no device); by the first byte of the input each layer waits at every
 * step, or none does. The model is one tree of objects that know their parents, and resolves `..`
 * by them. Every operation must give the same error in both, every file keep its inode and share it
 * with nobody, and at the end both trees must be the same. */
#include "ns/memory.h"
#include "ns/ns.h"
#include "ns/pending_test.h"
#include "ns/union.h"

enum {
    FILE_MAX = 80000,
    OBJECTS_MAX = 4096,
    HELD_MAX = 4,
    OPERATIONS_MAX = 200,
    PATH_SIZE = 8192,
};

/* ---- the model ---- */

enum device { ROOT, M, Z, NOWHERE };

struct object {
    enum file_type type;
    enum device device;
    bool in_lower;         /* a directory that a lower layer has a part of */
    bool mounted;          /* a mount point, or on the way to one */
    struct object *parent; /* of a directory */
    bool removed;          /* a directory without a name */
    struct entry *entries; /* of a directory */
    char *content;         /* of a file, or a link's target */
    size_t size;
    uint64_t shown_device, shown_inode; /* what the namespace said; 0 = not asked yet */
};
struct entry {
    struct entry *next;
    struct object *object;
    size_t name_length;
    char name[256];
};

static struct object *objects[OBJECTS_MAX];
static size_t object_count;
static struct object *model_root;

static struct object *object_new(enum file_type type, enum device device) {
    if (object_count == OBJECTS_MAX) {
        return NULL;
    }
    struct object *object = calloc(1, sizeof *object);
    INVARIANT(object);
    object->type = type;
    object->device = device;
    objects[object_count++] = object;
    return object;
}
static struct entry **find(struct object *directory, struct str name) {
    struct entry **at = &directory->entries;
    while (*at && !str_equal((struct str){(*at)->name, (*at)->name_length}, name)) {
        at = &(*at)->next;
    }
    return at;
}
static void put(struct object *directory, struct str name, struct object *object) {
    struct entry *entry = calloc(1, sizeof *entry);
    INVARIANT(entry && name.length <= 255);
    memcpy(entry->name, name.data, name.length);
    entry->name_length = name.length;
    entry->object = object;
    entry->next = directory->entries;
    directory->entries = entry;
    if (object->type == FILE_DIRECTORY) {
        object->parent = directory;
    }
}
static void take(struct entry **at) {
    struct entry *entry = *at;
    *at = entry->next;
    free(entry);
}
static void set_content(struct object *object, struct str content) {
    free(object->content);
    object->content = malloc(content.length + 1);
    INVARIANT(object->content);
    memcpy(object->content, content.data, content.length);
    object->size = content.length;
}

struct found {
    struct object *object; /* without NS_PARENT */
    struct object *parent; /* with it; `name` in it, `object` what is there */
    char name[256];
    size_t name_length;
    bool directory_wanted;
};

static enum err check_syntax(struct str path) {
    if (path.length == 0) {
        return ERR_NOENT;
    }
    if (path.length > 4096) {
        return ERR_NAMETOOLONG;
    }
    if (!str_is_utf8(path)) {
        return ERR_ILSEQ;
    }
    if (memchr(path.data, 0, path.length)) {
        return ERR_INVAL;
    }
    if (path.data[0] == '/') {
        return ERR_PERM;
    }
    for (struct str rest = path; rest.data;) {
        if (str_cut(&rest, '/').length > 255) {
            return ERR_NAMETOOLONG;
        }
    }
    return ERR_OK;
}

static enum err resolve(struct object *start, struct str path, unsigned flags,
                        struct found *ret_found) {
    static char text[PATH_SIZE], next[PATH_SIZE];
    bool parent_wanted = flags & NS_PARENT;
    if (parent_wanted && path.length > 0) {
        size_t slashes = 0;
        while (slashes < path.length && path.data[slashes] == '/') {
            slashes++;
        }
        if (slashes == path.length) {
            return ERR_INVAL;
        }
    }
    enum err err = check_syntax(path);
    if (err != ERR_OK) {
        return err;
    }
    memcpy(text, path.data, path.length);
    size_t length = path.length;
    struct object *at = start;
    *ret_found = (struct found){0};
    for (int links = 0;;) {
        size_t begin = 0;
        while (begin < length && text[begin] == '/') {
            begin++;
        }
        size_t end = begin;
        while (end < length && text[end] != '/') {
            end++;
        }
        size_t rest = end;
        while (rest < length && text[rest] == '/') {
            rest++;
        }
        bool last = rest == length;
        bool slash = end < length;
        struct str name = {text + begin, end - begin};
        if (at->type != FILE_DIRECTORY) {
            return ERR_NOTDIR;
        }
        bool dot = str_equal(name, STR(".")), dots = str_equal(name, STR(".."));
        if (dot || dots) {
            if (last && parent_wanted) {
                return ERR_INVAL;
            }
            if (dots && at == start) {
                return ERR_PERM;
            }
            at = dots ? at->parent : at;
            if (last) {
                ret_found->object = at;
                ret_found->directory_wanted = true;
                return ERR_OK;
            }
        } else {
            ret_found->directory_wanted |= last && slash;
            struct entry *entry = *find(at, name);
            bool follow =
                !last || flags & NS_FOLLOW || (!parent_wanted && ret_found->directory_wanted);
            if (last && parent_wanted &&
                !(entry && entry->object->type == FILE_SYMBOLIC_LINK && flags & NS_FOLLOW)) {
                ret_found->parent = at;
                ret_found->object = entry ? entry->object : NULL;
                memcpy(ret_found->name, name.data, name.length);
                ret_found->name_length = name.length;
                return ERR_OK;
            }
            if (!entry) {
                return ERR_NOENT;
            }
            struct object *object = entry->object;
            if (object->type == FILE_SYMBOLIC_LINK && follow) {
                if (++links > 40) {
                    return ERR_LOOP;
                }
                struct str target = {object->content, object->size};
                err = check_syntax(target);
                if (err != ERR_OK) {
                    return err;
                }
                INVARIANT(target.length + length - end <= PATH_SIZE);
                memcpy(next, target.data, target.length);
                memcpy(next + target.length, text + end, length - end);
                length = target.length + length - end;
                memcpy(text, next, length);
                continue;
            }
            if ((!last || ret_found->directory_wanted) && object->type != FILE_DIRECTORY) {
                return ERR_NOTDIR;
            }
            at = object;
            if (last) {
                ret_found->object = at;
                return ERR_OK;
            }
        }
        length -= end;
        memmove(text, text + end, length);
    }
}

/* ---- the input ---- */

static const uint8_t *input;
static size_t input_left;

static uint8_t next_byte(void) {
    if (input_left == 0) {
        return 0;
    }
    input_left--;
    return *input++;
}

static size_t make_path(char *path) {
    static const char *const names[] = {"a", "b",  "c",  "low", "f",  "m",    "x",         "y",
                                        "z", "..", "..", ".",   "ln", "deep", "a\xc3\xa9", "in"};
    size_t length = 0;
    uint8_t form = next_byte();
    if (form >= 250) { /* anything */
        size_t wanted = next_byte();
        for (; length < wanted && input_left > 0; length++) {
            path[length] = (char)next_byte();
        }
        return length;
    }
    if (form >= 245) {
        path[length++] = '/';
    }
    for (unsigned i = 0; i <= form % 5u; i++) {
        uint8_t byte = next_byte();
        const char *name = names[byte % ARRAY_LENGTH(names)];
        memcpy(path + length, name, strlen(name));
        length += strlen(name);
        bool last = i == form % 5u;
        if (!last || byte >= 224) {
            path[length++] = '/';
        }
        if (byte >= 240) {
            path[length++] = '/';
        }
    }
    return length;
}

/* ---- both together ---- */

static struct ns *ns;
static struct held {
    struct ns_place place;
    struct object *object;
} held[HELD_MAX];
static size_t held_count;
static struct str path; /* of the operation at hand, for messages */

static void check_err(const char *what, enum err got, enum err expected) {
    if (got != expected) {
        log_fatal("%s '%.*s': %s, the model says %s", what, (int)path.length, path.data,
                  err_name(got), err_name(expected));
    }
}

/* The file must be the object: its type, and always the same inode, which no other has. */
static void check_identity(struct file *file, struct object *object) {
    INVARIANT(file->type == object->type);
    INVARIANT(file->inode != 0 && file->device != 0);
    if (object->shown_inode == 0) {
        for (size_t i = 0; i < object_count; i++) {
            INVARIANT(objects[i]->shown_inode != file->inode ||
                      objects[i]->shown_device != file->device);
        }
        object->shown_inode = file->inode;
        object->shown_device = file->device;
    }
    INVARIANT(object->shown_inode == file->inode && object->shown_device == file->device);
    struct file_stat stat;
    INVARIANT(AWAIT(file_stat(&test_op, file, &stat)) == ERR_OK);
    INVARIANT(stat.inode == file->inode && stat.device == file->device);
    INVARIANT(stat.type == file->type);
    INVARIANT(object->type == FILE_DIRECTORY || stat.size == object->size);
}

static void check_content(struct file *file, const struct object *object) {
    static char content[FILE_MAX + 1];
    size_t done = 0;
    for (;;) {
        size_t read = 0;
        INVARIANT(AWAIT(file_read(&test_op, file, content + done, sizeof content - done, done,
                                  &read)) == ERR_OK);
        if (read == 0) {
            break;
        }
        done += read;
    }
    INVARIANT(done == object->size);
    INVARIANT(done == 0 || memcmp(content, object->content, done) == 0);
}

struct walked {
    struct ns_walk walk;
    struct ns_walk_result result;
    struct found found;
    enum err err;
};
/* Walks in both; false if both fail the same way. */
static bool walk_both(const struct held *from, struct str where, unsigned flags,
                      struct walked *ret_walked) {
    *ret_walked = (struct walked){0};
    path = where;
    enum err err = AWAIT(
        ns_walk(&test_op, &ret_walked->walk, ns, &from->place, where, flags, &ret_walked->result));
    enum err expected = resolve(from->object, where, flags, &ret_walked->found);
    check_err("walk", err, expected);
    ret_walked->err = err;
    if (err != ERR_OK) {
        return false;
    }
    const struct found *found = &ret_walked->found;
    INVARIANT(ret_walked->result.directory_wanted == found->directory_wanted);
    if (flags & NS_PARENT) {
        check_identity(ret_walked->result.place.file, found->parent);
        INVARIANT(
            str_equal(ret_walked->result.name, (struct str){found->name, found->name_length}));
        bool mounted = found->object && found->object->mounted;
        INVARIANT(ret_walked->result.is_mount_point == mounted);
    } else {
        check_identity(ret_walked->result.place.file, found->object);
    }
    return true;
}
static void walked_done(struct walked *walked) {
    if (walked->err == ERR_OK) {
        ns_place_done(&walked->result.place);
    }
    ns_walk_done(&walked->walk);
}
static struct str found_name(const struct walked *walked) {
    return (struct str){walked->found.name, walked->found.name_length};
}

/* Whether the name may be made or removed in the directory at all. */
static enum err may_change(const struct object *directory) {
    return directory->device == NOWHERE ? ERR_ROFS : directory->removed ? ERR_NOENT : ERR_OK;
}
static bool is_reserved(const struct walked *at) {
    return at->found.parent->device == ROOT &&
           str_starts(found_name(at), STR(UNION_RESERVED_PREFIX));
}
static enum err may_make(const struct walked *at) {
    return is_reserved(at) ? ERR_INVAL : may_change(at->found.parent);
}

static void do_make(const struct held *from, struct str where, enum file_type type,
                    struct str target) {
    struct walked at;
    if (!walk_both(from, where, NS_PARENT, &at)) {
        walked_done(&at);
        return;
    }
    if (at.result.is_mount_point) {
        walked_done(&at);
        return;
    }
    struct object *parent = at.found.parent;
    enum err expected = may_make(&at), err;
    if (expected == ERR_OK && at.found.object) {
        expected = ERR_EXIST;
    }
    struct file *file = NULL;
    if (type == FILE_SYMBOLIC_LINK) {
        err = AWAIT(file_symlink(&test_op, at.result.place.file, at.result.name, target));
    } else {
        err = AWAIT(file_create(&test_op, at.result.place.file, at.result.name, type, &file));
    }
    check_err("make", err, expected);
    if (err == ERR_OK) {
        struct object *object = object_new(type, parent->device);
        INVARIANT(object);
        if (type != FILE_DIRECTORY) {
            set_content(object, target);
        }
        put(parent, found_name(&at), object);
        if (file) {
            check_identity(file, object);
            file_unref(file);
        }
    }
    walked_done(&at);
}

static void do_remove(const struct held *from, struct str where, bool directory_wanted) {
    struct walked at;
    if (walk_both(from, where, NS_PARENT, &at) && !at.result.is_mount_point) {
        const struct object *object = at.found.object;
        enum err expected = may_change(at.found.parent);
        if (expected == ERR_OK) {
            expected = !object                                               ? ERR_NOENT
                       : directory_wanted && object->type != FILE_DIRECTORY  ? ERR_NOTDIR
                       : !directory_wanted && object->type == FILE_DIRECTORY ? ERR_ISDIR
                       : object->entries                                     ? ERR_NOTEMPTY
                                                                             : ERR_OK;
        }
        enum err err =
            AWAIT(file_remove(&test_op, at.result.place.file, at.result.name, directory_wanted));
        check_err("remove", err, expected);
        if (err == ERR_OK) {
            at.found.object->removed = true;
            take(find(at.found.parent, found_name(&at)));
        }
    }
    walked_done(&at);
}

static enum err expected_rename(const struct walked *old, const struct walked *new) {
    const struct object *source = old->found.object, *target = new->found.object;
    const struct object *new_parent = new->found.parent;
    if (old->found.parent->device != new_parent->device) {
        return ERR_XDEV;
    }
    if (new_parent->device == NOWHERE) {
        return ERR_ROFS;
    }
    if (is_reserved(new)) {
        return ERR_INVAL;
    }
    if (!source || new_parent->removed) {
        return ERR_NOENT;
    }
    if (source == target) {
        return ERR_OK;
    }
    bool is_directory = source->type == FILE_DIRECTORY;
    for (const struct object *above = new_parent; above && is_directory; above = above->parent) {
        if (above == source) {
            return ERR_INVAL;
        }
    }
    if (target && is_directory && target->type != FILE_DIRECTORY) {
        return ERR_NOTDIR;
    }
    if (target && !is_directory && target->type == FILE_DIRECTORY) {
        return ERR_ISDIR;
    }
    if (is_directory && source->in_lower) {
        return ERR_XDEV;
    }
    return target && target->entries ? ERR_NOTEMPTY : ERR_OK;
}

static void do_rename(const struct held *from, struct str old_path, struct str new_path) {
    struct walked old, new;
    if (walk_both(from, old_path, NS_PARENT, &old)) {
        if (walk_both(from, new_path, NS_PARENT, &new) && !old.result.is_mount_point &&
            !new.result.is_mount_point) {
            enum err expected = expected_rename(&old, &new);
            enum err err = AWAIT(file_rename(&test_op, old.result.place.file, old.result.name,
                                             new.result.place.file, new.result.name));
            check_err("rename", err, expected);
            if (err == ERR_OK && old.found.object != new.found.object) {
                struct object *source = old.found.object;
                if (new.found.object) {
                    new.found.object->removed = true;
                    take(find(new.found.parent, found_name(&new)));
                }
                take(find(old.found.parent, found_name(&old)));
                put(new.found.parent, found_name(&new), source);
            }
        }
        walked_done(&new);
    }
    walked_done(&old);
}

static void do_link(const struct held *from, struct str old_path, struct str new_path,
                    unsigned flags) {
    struct walked old, new;
    if (walk_both(from, old_path, flags, &old)) {
        if (walk_both(from, new_path, NS_PARENT, &new) && !new.result.is_mount_point) {
            const struct object *parent = new.found.parent;
            struct object *source = old.found.object;
            enum err expected = source->type == FILE_DIRECTORY     ? ERR_PERM
                                : source->device != parent->device ? ERR_XDEV
                                                                   : may_make(&new);
            if (expected == ERR_OK && new.found.object) {
                expected = ERR_EXIST;
            }
            enum err err = AWAIT(
                file_link(&test_op, old.result.place.file, new.result.place.file, new.result.name));
            check_err("link", err, expected);
            if (err == ERR_OK) {
                put(new.found.parent, found_name(&new), source);
            }
        }
        walked_done(&new);
    }
    walked_done(&old);
}

static void do_write(const struct held *from, struct str where) {
    struct walked at;
    unsigned open_flags = OPEN_READ | OPEN_WRITE | (next_byte() % 4 == 0 ? OPEN_TRUNCATE : 0);
    if (walk_both(from, where, NS_FOLLOW, &at)) {
        struct object *object = at.found.object;
        struct file *file = NULL;
        enum err err = AWAIT(file_open(&test_op, at.result.place.file, open_flags, &file));
        check_err("open", err, object->type == FILE_DIRECTORY ? ERR_ISDIR : ERR_OK);
        if (err == ERR_OK) {
            size_t offset = next_byte() * 300u, length = next_byte(), written = 0;
            char piece[256];
            memset(piece, next_byte(), sizeof piece);
            size_t size = open_flags & OPEN_TRUNCATE ? 0 : object->size;
            object->size = size;
            if (length % 8 == 7) {
                length = 0;
                size = offset;
                INVARIANT(AWAIT(file_set_size(&test_op, file, offset)) == ERR_OK);
            } else {
                INVARIANT(AWAIT(file_write(&test_op, file, piece, length, offset, &written)) ==
                          ERR_OK);
                INVARIANT(written == length);
                size = length ? MAX(size, offset + length) : size;
            }
            char *content = calloc(1, size + 1);
            INVARIANT(content);
            if (object->content) {
                memcpy(content, object->content, MIN(size, object->size));
            }
            if (length > 0) {
                memcpy(content + offset, piece, length);
            }
            free(object->content);
            object->content = content;
            object->size = size;
            check_content(file, object);
            /* Whoever found it before sees the same. */
            check_content(at.result.place.file, object);
            file_unref(file);
        }
    }
    walked_done(&at);
}

static void do_hold(const struct held *from, struct str where) {
    struct walked at;
    if (walk_both(from, where, NS_FOLLOW, &at) && at.found.object->type == FILE_DIRECTORY) {
        if (held_count == HELD_MAX) {
            held_count--;
            ns_place_done(&held[held_count].place);
        }
        held[held_count++] = (struct held){at.result.place, at.found.object};
        at.err = ERR_INVAL; /* the place is kept */
    }
    walked_done(&at);
}

static void check_directory(const struct ns_place *place, struct object *directory) {
    struct dir_list list = {0};
    INVARIANT(AWAIT(ns_readdir(&test_op, ns, place, &list)) == ERR_OK);
    size_t expected = 2;
    for (const struct entry *entry = directory->entries; entry; entry = entry->next) {
        expected++;
    }
    INVARIANT(list.count == expected);
    for (size_t i = 2; i < list.count; i++) {
        const struct entry *entry = *find(directory, dir_list_name(&list, i));
        INVARIANT(entry && entry->object->type == list.entries[i].type);
        INVARIANT(!entry->object->shown_inode ||
                  entry->object->shown_inode == list.entries[i].inode);
    }
    dir_list_done(&list);
}

static void check_tree(const struct ns_place *place, struct object *directory, unsigned depth) {
    check_directory(place, directory);
    for (const struct entry *entry = directory->entries; entry && depth < 100;
         entry = entry->next) {
        struct ns_place child;
        INVARIANT(AWAIT(ns_step(&test_op, ns, place, (struct str){entry->name, entry->name_length},
                                &child)) == ERR_OK);
        check_identity(child.file, entry->object);
        if (entry->object->type == FILE_DIRECTORY) {
            check_tree(&child, entry->object, depth + 1);
        } else if (entry->object->type == FILE_REGULAR) {
            check_content(child.file, entry->object);
        } else {
            struct buf target = {0};
            INVARIANT(AWAIT(file_readlink(&test_op, child.file, &target)) == ERR_OK);
            INVARIANT(str_equal(buf_str(&target),
                                (struct str){entry->object->content, entry->object->size}));
            buf_done(&target);
        }
        ns_place_done(&child);
    }
}

/* ---- the beginning and the end ---- */

static struct file *new_memory(bool waits) {
    struct file *root;
    INVARIANT(memory_new(&(struct memory_options){0}, &root) == ERR_OK);
    return waits ? pending_wrap(root) : root;
}

/* What the lower layer holds, in both. */
static void fill(struct file *directory, struct object *model, unsigned depth) {
    static const char *const names[] = {"low", "a", "deep"};
    for (size_t i = 0; i < ARRAY_LENGTH(names) && depth < 3; i++) {
        struct file *made;
        INVARIANT(AWAIT(file_create(&test_op, directory, str_of(names[i]), FILE_DIRECTORY,
                                    &made)) == ERR_OK);
        struct object *object = object_new(FILE_DIRECTORY, ROOT);
        object->in_lower = true;
        put(model, str_of(names[i]), object);
        fill(made, object, depth + 1 + (unsigned)i);
        file_unref(made);
    }
    struct file *made;
    size_t written;
    struct object *object = object_new(FILE_REGULAR, ROOT);
    INVARIANT(AWAIT(file_create(&test_op, directory, STR("f"), FILE_REGULAR, &made)) == ERR_OK);
    INVARIANT(AWAIT(file_write(&test_op, made, "lower", 5, 0, &written)) == ERR_OK);
    file_unref(made);
    set_content(object, STR("lower"));
    put(model, STR("f"), object);
    object = object_new(FILE_SYMBOLIC_LINK, ROOT);
    INVARIANT(AWAIT(file_symlink(&test_op, directory, STR("ln"), STR("a/../f"))) == ERR_OK);
    set_content(object, STR("a/../f"));
    put(model, STR("ln"), object);
}

static struct object *model_mount(struct object *parent, struct str name, enum device device) {
    struct object *object = object_new(FILE_DIRECTORY, device);
    object->mounted = true;
    put(parent, name, object);
    return object;
}

static void operate(void) {
    static char first[PATH_SIZE], second[PATH_SIZE];
    uint8_t what = next_byte();
    const struct held *from = &held[what / 16 % held_count];
    struct str one = {first, make_path(first)};
    switch (what % 16) {
    case 0:
    case 1:
        do_make(from, one, FILE_DIRECTORY, (struct str){0});
        break;
    case 2:
    case 3:
        do_make(from, one, FILE_REGULAR, (struct str){"", 0});
        break;
    case 4:
    case 5:
        do_make(from, one, FILE_SYMBOLIC_LINK, (struct str){second, make_path(second)});
        break;
    case 6:
        do_remove(from, one, false);
        break;
    case 7:
        do_remove(from, one, true);
        break;
    case 8:
    case 9:
    case 10:
        do_rename(from, one, (struct str){second, make_path(second)});
        break;
    case 11:
        do_link(from, one, (struct str){second, make_path(second)}, 0);
        break;
    case 12:
        do_write(from, one);
        break;
    case 13:
        do_hold(from, one);
        break;
    case 14: {
        struct walked at;
        bool found = walk_both(from, one, NS_PARENT | NS_FOLLOW, &at);
        (void)found;
        walked_done(&at);
        break;
    }
    default: {
        struct walked at;
        if (walk_both(from, one, what & 16 ? NS_FOLLOW : 0, &at) &&
            at.found.object->type == FILE_DIRECTORY) {
            check_directory(&at.result.place, at.found.object);
        }
        walked_done(&at);
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input = data;
    input_left = size;
    uint8_t options = next_byte();
    test_begin();
    object_count = 0;
    model_root = object_new(FILE_DIRECTORY, ROOT);
    model_root->in_lower = true;
    struct file *lower = new_memory(options & 1), *upper = new_memory(options & 2);
    struct file *m = new_memory(options & 4), *z = new_memory(options & 8), *root;
    fill(lower, model_root, 0);
    struct file *layers[] = {upper, lower};
    INVARIANT(union_new(layers, 2, true, &root) == ERR_OK);
    INVARIANT(ns_new(root, &ns) == ERR_OK);
    INVARIANT(ns_mount(ns, STR("/m"), m) == ERR_OK);
    INVARIANT(ns_mount(ns, STR("/x/y/z"), z) == ERR_OK);
    model_mount(model_root, STR("m"), M);
    struct object *x = model_mount(model_root, STR("x"), NOWHERE);
    model_mount(model_mount(x, STR("y"), NOWHERE), STR("z"), Z);
    held[0] = (struct held){ns_root(ns), model_root};
    held_count = 1;

    for (int i = 0; i < OPERATIONS_MAX && input_left > 0; i++) {
        operate();
    }
    check_tree(&held[0].place, model_root, 0);

    while (held_count > 0) {
        ns_place_done(&held[--held_count].place);
    }
    ns_unref(ns);
    file_unref(root);
    file_unref(lower);
    file_unref(upper);
    file_unref(m);
    file_unref(z);
    test_end();
    INVARIANT(pending_files == 0);
    for (size_t i = 0; i < object_count; i++) {
        while (objects[i]->entries) {
            take(&objects[i]->entries);
        }
        free(objects[i]->content);
        free(objects[i]);
    }
    return 0;
}
