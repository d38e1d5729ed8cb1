#include "ns/changes.h"

#include "base/map.h"

struct change {
    struct map_node node; /* by path */
    unsigned flags;
    size_t length;
    char path[];
};

struct changes {
    struct map map;
    struct change **sorted; /* once it is sorted */
    size_t bytes;           /* of the paths */
    bool has_more;
};

static struct change *find(const struct changes *set, struct str path) {
    struct map_node *node = map_find(&set->map, path);
    return node ? CONTAINER_OF(node, struct change, node) : NULL;
}

static void drop(struct changes *set, struct change *change) {
    map_remove(&set->map, &change->node);
    set->bytes -= change->length;
    free(change);
}

/* The set, made if it is missing; NULL without memory, or if it is sorted. */
static struct changes *need(struct changes **set) {
    if (!*set) {
        *set = calloc(1, sizeof **set);
    }
    return *set && !(*set)->sorted ? *set : NULL;
}

static void put(struct changes *set, struct str path, unsigned flags) {
    struct change *change = NULL;
    if (set->map.count < CHANGES_MAX && path.length <= CHANGES_BYTES_MAX - set->bytes) {
        change = malloc(sizeof *change + path.length);
    }
    if (change) {
        change->flags = flags;
        change->length = path.length;
        memcpy(change->path, path.data, path.length);
        if (map_insert(&set->map, &change->node, (struct str){change->path, path.length})) {
            free(STEAL(change));
        }
    }
    if (!change) {
        set->has_more = true;
        return;
    }
    set->bytes += path.length;
}

void changes_made(struct changes **place, struct str path, unsigned flags) {
    struct changes *set = need(place);
    if (!set) {
        return;
    }
    struct change *change = find(set, path);
    if (!change) {
        put(set, path, flags);
    } else if (change->flags & CHANGE_REMOVED) {
        change->flags = flags & ~(unsigned)CHANGE_IS_NEW; /* it was there once */
    } else {
        change->flags |= flags & (CHANGE_DIRECTORY | CHANGE_WHOLE);
    }
}

void changes_removed(struct changes **place, struct str path) {
    struct changes *set = need(place);
    if (!set) {
        return;
    }
    struct change *change = find(set, path);
    if (!change) {
        put(set, path, CHANGE_REMOVED);
    } else if (change->flags & CHANGE_IS_NEW) {
        drop(set, change);
    } else {
        change->flags = CHANGE_REMOVED;
    }
}

static bool is_below(struct str path, struct str directory) {
    return path.length > directory.length && path.data[directory.length] == '/' &&
           memcmp(path.data, directory.data, directory.length) == 0;
}

/* What is known of the paths below `from` goes along to `to`. */
static void move_below(struct changes *set, struct str from, struct str to) {
    struct change **found = calloc(set->map.count + 1, sizeof(struct change *));
    if (!found) {
        set->has_more = true;
        return;
    }
    size_t count = 0;
    for (struct map_node *node = map_next(&set->map, NULL); node;
         node = map_next(&set->map, node)) {
        if (is_below(node->key, from)) {
            found[count++] = CONTAINER_OF(node, struct change, node);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct change *change = found[i];
        cleanup_buf struct buf path = {0};
        struct str rest = {change->path + from.length, change->length - from.length};
        unsigned flags = change->flags;
        enum err err = buf_append_str(&path, to);
        err = err ? err : buf_append_str(&path, rest);
        drop(set, change);
        if (err) {
            set->has_more = true;
        } else if (!(flags & CHANGE_REMOVED)) {
            struct change *there = find(set, buf_str(&path));
            if (there) {
                drop(set, there);
            }
            put(set, buf_str(&path), flags);
        }
    }
    free(found);
}

void changes_renamed(struct changes **place, struct str from, struct str to, unsigned flags) {
    struct changes *set = need(place);
    if (!set || str_equal(from, to)) {
        return;
    }
    const struct change *known = find(set, from);
    bool was_made_here = known && known->flags & CHANGE_IS_NEW && !(known->flags & CHANGE_WHOLE);
    bool is_whole = flags & CHANGE_DIRECTORY && !was_made_here;
    changes_removed(place, from);
    changes_made(place, to, flags | (is_whole ? CHANGE_WHOLE : 0u));
    if (flags & CHANGE_DIRECTORY) {
        move_below(set, from, to);
    }
}

void changes_lost(struct changes **place) {
    struct changes *set = need(place);
    if (set) {
        set->has_more = true;
    }
}

void changes_free(struct changes *set) {
    if (!set) {
        return;
    }
    struct map_node *node;
    while ((node = map_next(&set->map, NULL))) {
        drop(set, CONTAINER_OF(node, struct change, node));
    }
    map_done(&set->map);
    free(set->sorted);
    free(set);
}

size_t changes_count(const struct changes *set) {
    return set && set->sorted ? set->map.count : 0;
}

bool changes_has_more(const struct changes *set) {
    return set && set->has_more;
}

size_t changes_bytes(const struct changes *set) {
    return set ? sizeof *set + set->bytes + set->map.count * (sizeof(struct change) + 16) : 0;
}

static int compare(const void *a, const void *b) {
    const struct change *one = *(struct change *const *)a, *other = *(struct change *const *)b;
    int order = memcmp(one->path, other->path, MIN(one->length, other->length));
    return order ? order : (one->length > other->length) - (one->length < other->length);
}

void changes_sort(struct changes *set) {
    if (!set || set->sorted) {
        return;
    }
    set->sorted = calloc(set->map.count + 1, sizeof(struct change *));
    if (!set->sorted) {
        set->has_more = true; /* none of them can be told */
        return;
    }
    size_t count = 0;
    for (struct map_node *node = map_next(&set->map, NULL); node;
         node = map_next(&set->map, node)) {
        set->sorted[count++] = CONTAINER_OF(node, struct change, node);
    }
    qsort(set->sorted, count, sizeof(struct change *), compare);
}

struct str changes_path(const struct changes *set, size_t index, unsigned *ret_flags) {
    const struct change *change = set->sorted[index];
    *ret_flags = change->flags;
    return (struct str){change->path, change->length};
}

/* The first one that is not before `path`. */
static size_t lower_bound(const struct changes *set, struct str path) {
    size_t low = 0, high = set->map.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct change *change = set->sorted[middle];
        int order = memcmp(change->path, path.data, MIN(change->length, path.length));
        if (order < 0 || (order == 0 && change->length < path.length)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool is_there(const struct change *change) {
    return change && !(change->flags & CHANGE_REMOVED);
}

bool changes_select(const struct changes *set, struct str path) {
    if (!set || !set->sorted) {
        return false;
    }
    if (is_there(find(set, path))) {
        return true;
    }
    for (size_t length = path.length; length > 1; length--) {
        struct str above = {path.data, length - 1};
        const struct change *change = path.data[length - 1] == '/' ? find(set, above) : NULL;
        if (is_there(change) && change->flags & CHANGE_WHOLE) {
            return true;
        }
    }
    /* What lies below it begins with it and a slash; in between may be names such as "a-b". */
    for (size_t i = lower_bound(set, path); i < set->map.count; i++) {
        const struct change *change = set->sorted[i];
        struct str found = {change->path, change->length};
        if (!str_starts(found, path)) {
            break;
        }
        if (is_below(found, path) && is_there(change)) {
            return true;
        }
    }
    return false;
}
