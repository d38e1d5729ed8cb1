/* Names in all layers: looking one up, listing a directory. */
#include "ns/union_internal.h"

/* Takes over the reference of `file`, which `layer` has under the name. */
static void add_layer(struct union_lookup *lookup, size_t layer, struct file *file, bool opaque) {
    bool is_whiteout = file->type == FILE_WHITEOUT, is_directory = file->type == FILE_DIRECTORY;
    if (layer == 0) {
        lookup->top = file_ref(file);
    } else if (!lookup->settled_below) {
        lookup->covers = !is_whiteout;
        lookup->settled_below = true;
    }
    bool is_visible =
        !lookup->settled && !is_whiteout && (lookup->type == FILE_UNKNOWN || is_directory);
    if (!is_directory || opaque) {
        lookup->settled = true;
    }
    if (is_visible) {
        lookup->found[layer] = file;
        lookup->type = file->type;
    } else {
        file_unref(file);
    }
}

enum err union_look_up(struct op *op, struct union_lookup *lookup, struct union_node *directory,
                       struct str name, bool below) {
    const struct union_fs *fs = directory->fs;
    if (union_is_reserved(name) || atomic_load(&directory->removed)) {
        return ERR_OK;
    }
    const struct str names[2] = {name, STR(UNION_OPAQUE_NAME)};
    while (lookup->layer < fs->layer_count &&
           !(lookup->settled && (!below || lookup->settled_below))) {
        struct file *in = union_layer(directory, lookup->layer);
        if (!in) {
            lookup->layer++;
            continue;
        }
        /* The name and, if it is a directory, whether it is opaque, in one walk. */
        bool is_lowest = lookup->layer + 1 == fs->layer_count;
        size_t count = is_lowest || lookup->marker_seen ? 1 : 2, walked = 0;
        struct file *file = NULL;
        enum err err = file_walk(op, in, names, count, &walked, &file);
        if (err != ERR_OK && err != ERR_NOENT) {
            return err;
        }
        if (err == ERR_OK && walked == 2) {
            file_unref(file); /* the marker; now what it marks */
            lookup->marker_seen = true;
            continue;
        }
        if (err == ERR_OK) {
            add_layer(lookup, lookup->layer, file, lookup->marker_seen);
        }
        lookup->marker_seen = false;
        lookup->layer++;
    }
    return ERR_OK;
}

void union_lookup_done(struct union_lookup *lookup) {
    file_unref(lookup->top);
    for (size_t layer = 0; layer < UNION_LAYERS_MAX; layer++) {
        file_unref(lookup->found[layer]);
    }
    *lookup = (struct union_lookup){0};
}

struct union_item {
    struct str name; /* in the layer's list */
    uint64_t inode;  /* the layer's */
    uint8_t type, layer;
};

static int compare_items(const void *left, const void *right) {
    const struct union_item *a = left, *b = right;
    int order = memcmp(a->name.data, b->name.data, MIN(a->name.length, b->name.length));
    if (order == 0 && a->name.length != b->name.length) {
        order = a->name.length < b->name.length ? -1 : 1;
    }
    return order ? order : (int)a->layer - (int)b->layer;
}

static enum err gather(struct union_listing *listing) {
    size_t layers = 0;
    for (size_t layer = 0; layer < UNION_LAYERS_MAX; layer++) {
        listing->count += listing->lists[layer].count;
        layers += listing->lists[layer].count > 0;
    }
    listing->items = reallocarray(NULL, listing->count + 1, sizeof *listing->items);
    if (!listing->items) {
        return ERR_NOMEM;
    }
    size_t at = 0;
    for (size_t layer = 0; layer < UNION_LAYERS_MAX; layer++) {
        const struct dir_list *list = &listing->lists[layer];
        for (size_t i = 0; i < list->count; i++) {
            listing->items[at++] = (struct union_item){
                .name = dir_list_name(list, i),
                .inode = list->entries[i].inode,
                .type = list->entries[i].type,
                .layer = (uint8_t)layer,
            };
        }
    }
    if (layers > 1) {
        qsort(listing->items, listing->count, sizeof *listing->items, compare_items);
    }
    listing->gathered = true;
    return ERR_OK;
}

/* Whether a directory in a layer of `directory` is opaque. */
static enum err is_opaque(struct op *op, struct union_node *directory,
                          const struct union_item *item, bool *ret_opaque) {
    struct str names[2] = {item->name, STR(UNION_OPAQUE_NAME)};
    size_t walked = 0;
    struct file *file = NULL;
    enum err err = file_walk(op, union_layer(directory, item->layer), names, 2, &walked, &file);
    if (err == ERR_OK) {
        file_unref(file);
    } else if (err != ERR_NOENT) {
        return err;
    }
    *ret_opaque = walked == 2;
    return ERR_OK;
}

enum err union_list(struct op *op, struct union_listing *listing, struct union_node *directory) {
    struct union_fs *fs = directory->fs;
    if (atomic_load(&directory->removed)) {
        return ERR_OK;
    }
    for (; listing->layer < fs->layer_count; listing->layer++) {
        struct file *in = union_layer(directory, listing->layer);
        enum err err = in ? file_readdir(op, in, &listing->lists[listing->layer]) : ERR_OK;
        if (err != ERR_OK) {
            return err;
        }
    }
    if (!listing->gathered) {
        enum err err = gather(listing);
        if (err != ERR_OK) {
            return err;
        }
    }
    while (listing->at < listing->count) {
        const struct union_item *first = &listing->items[listing->at];
        const struct union_item *end = listing->items + listing->count;
        /* A directory goes on in the layers below, until something that is none, or an opaque one.
         */
        listing->last = MAX(listing->last, listing->at);
        while (first->type == FILE_DIRECTORY) {
            const struct union_item *last = &listing->items[listing->last], *next = last + 1;
            if (next == end || next->type != FILE_DIRECTORY ||
                !str_equal(next->name, first->name)) {
                break;
            }
            bool opaque = false;
            enum err err = is_opaque(op, directory, last, &opaque);
            if (err != ERR_OK) {
                return err;
            }
            if (opaque) {
                break;
            }
            listing->last++;
        }
        if (first->type != FILE_WHITEOUT && !union_is_reserved(first->name)) {
            const struct union_item *last = &listing->items[listing->last];
            enum err err = dir_list_add(&listing->result, first->name,
                                        union_inode(fs, last->layer, last->inode), first->type);
            if (err != ERR_OK) {
                return err;
            }
        }
        size_t next = listing->at + 1;
        while (next < listing->count && str_equal(listing->items[next].name, first->name)) {
            next++;
        }
        listing->at = next;
    }
    return ERR_OK;
}

void union_listing_done(struct union_listing *listing) {
    for (size_t layer = 0; layer < UNION_LAYERS_MAX; layer++) {
        dir_list_done(&listing->lists[layer]);
    }
    dir_list_done(&listing->result);
    free(listing->items);
    *listing = (struct union_listing){0};
}
