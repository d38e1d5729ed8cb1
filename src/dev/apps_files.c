#include "base/clock.h"
#include "dev/apps_internal.h"
#include "dev/volume.h"
#include "ns/memory.h"
#include "ns/union.h"

/* A union that nobody has asked for so long lets go of its volumes. */
#define AGE_MAX_NS (30 * NS_PER_S)

static void release_all(struct file **roots, size_t count) {
    for (size_t i = 0; i < count; i++) {
        file_unref(roots[i]);
    }
}

/* With the mutex. Takes one out; the caller lets go of it without the mutex. */
static struct file *take_out(struct apps *apps, size_t index) {
    struct file *root = apps->unions[index].root;
    apps->unions[index] = apps->unions[--apps->union_count];
    return root;
}

/* With the mutex: takes out those that are too old. */
static size_t expire(struct apps *apps, uint64_t now_ns, struct file **ret_roots) {
    size_t count = 0;
    for (size_t i = apps->union_count; i-- > 0;) {
        if (now_ns - MIN(apps->unions[i].used_ns, now_ns) > AGE_MAX_NS) {
            ret_roots[count++] = take_out(apps, i);
        }
    }
    return count;
}

static bool is_same(const struct apps_union *a, const struct apps_union *b) {
    return a->app_id == b->app_id && a->layer_id == b->layer_id && a->is_version == b->is_version;
}

static struct file *find(struct apps *apps, const struct apps_union *wanted) {
    struct file *expired[APPS_UNIONS_MAX];
    struct file *root = NULL;
    uint64_t now_ns = clock_monotonic_coarse_ns();
    pthread_mutex_lock(&apps->mutex);
    for (size_t i = 0; i < apps->union_count && !root; i++) {
        struct apps_union *known = &apps->unions[i];
        if (is_same(known, wanted)) {
            known->used_ns = now_ns;
            root = file_ref(known->root);
        }
    }
    size_t count = expire(apps, now_ns, expired);
    pthread_mutex_unlock(&apps->mutex);
    release_all(expired, count);
    return root;
}

/* Keeps a new union, or takes the one that somebody else has made meanwhile. */
static void keep(struct apps *apps, const struct apps_union *wanted, struct file **root) {
    struct file *dropped = NULL;
    bool is_there = false;
    pthread_mutex_lock(&apps->mutex);
    size_t oldest = 0;
    for (size_t i = 0; i < apps->union_count && !is_there; i++) {
        struct apps_union *known = &apps->unions[i];
        oldest = known->used_ns < apps->unions[oldest].used_ns ? i : oldest;
        if (is_same(known, wanted)) {
            dropped = *root;
            *root = file_ref(known->root);
            is_there = true;
        }
    }
    if (!is_there) {
        if (apps->union_count == APPS_UNIONS_MAX) {
            dropped = take_out(apps, oldest);
        }
        struct apps_union *added = &apps->unions[apps->union_count++];
        *added = *wanted;
        added->root = file_ref(*root);
        added->used_ns = clock_monotonic_coarse_ns();
    }
    pthread_mutex_unlock(&apps->mutex);
    file_unref(dropped);
}

void apps_files_forget(struct apps *apps, int64_t app_id) {
    struct file *roots[APPS_UNIONS_MAX];
    size_t count = 0;
    pthread_mutex_lock(&apps->mutex);
    for (size_t i = apps->union_count; i-- > 0;) {
        if (app_id == 0 || apps->unions[i].app_id == app_id) {
            roots[count++] = take_out(apps, i);
        }
    }
    pthread_mutex_unlock(&apps->mutex);
    release_all(roots, count);
}

enum err dev_apps_peek_file(struct op *op, struct file *file, const struct app *app,
                            struct str name, struct file **ret_file) {
    const struct apps_union wanted = {.app_id = app->id, .layer_id = app->version.layer_id};
    struct file *root = find(CONTAINER_OF(file, struct apps, file), &wanted);
    if (!root) {
        return ERR_AGAIN;
    }
    size_t walked;
    enum err err = file_walk(op, root, &name, 1, &walked, ret_file);
    if (err == ERR_PENDING) {
        op_abandon(op);
        err = ERR_AGAIN;
    }
    file_unref(root);
    return err;
}

void apps_opening_done(struct apps_opening *opening) {
    release_all(opening->layers, opening->count);
    *opening = (struct apps_opening){0};
}

/* Takes over the volume. */
static enum err add_layer(struct apps_opening *opening, struct volume *volume, bool read_only) {
    enum err err = dev_volume_root(volume, read_only, &opening->layers[opening->count]);
    opening->count += err ? 0 : 1;
    volume_unref(volume);
    return err;
}

/* The layers of a version, each under those that are open already; `volumes` of these are none. */
static enum err open_layers(struct op *op, struct apps_opening *opening, struct apps *apps,
                            const struct app_version *version, size_t volumes) {
    for (;;) {
        size_t index = opening->count - volumes;
        int64_t id = index == 0 ? version->layer_id : version->below_ids[index - 1];
        if (!id) {
            return ERR_OK;
        }
        struct volume *volume;
        enum err err = catalog_volume(op, apps->catalog, id, true, &volume, op->message);
        err = err ? err : add_layer(opening, volume, true);
        if (err || index + 1 == VERSION_LAYERS_MAX) {
            return err;
        }
    }
}

enum err apps_files_root(struct op *op, struct apps_opening *opening, struct apps *apps,
                         struct app *app, struct file **ret_root) {
    const struct apps_union wanted = {.app_id = app->id, .layer_id = app->version.layer_id};
    struct file *root = opening->count > 0 ? NULL : find(apps, &wanted);
    if (root) {
        *ret_root = root;
        return op_finish(op, ERR_OK);
    }
    enum err err = ERR_OK;
    if (opening->count == 0) {
        struct volume *volume;
        err = catalog_app_volume(op, apps->catalog, app, &volume, op->message);
        err = err ? err : add_layer(opening, volume, false);
    }
    err = err ? err : open_layers(op, opening, apps, &app->version, 1);
    if (err) {
        return err;
    }
    if (opening->count > 1) {
        err = union_new(opening->layers, opening->count, true, &root);
        if (err) {
            return err;
        }
    } else {
        root = file_ref(opening->layers[0]);
    }
    keep(apps, &wanted, &root);
    *ret_root = root;
    return ERR_OK;
}

enum err apps_version_root(struct op *op, struct apps_opening *opening, struct apps *apps,
                           const struct app *app, const struct app_version *version,
                           struct file **ret_root) {
    const struct apps_union wanted = {
        .app_id = app->id, .layer_id = version->layer_id, .is_version = true};
    struct file *root = opening->count > 0 ? NULL : find(apps, &wanted);
    if (root) {
        *ret_root = root;
        return op_finish(op, ERR_OK);
    }
    enum err err = open_layers(op, opening, apps, version, 0);
    if (!err && opening->count == 0) { /* it has no files */
        const struct memory_options nothing = {0};
        err = memory_new(&nothing, &opening->layers[0]);
        opening->count = err ? 0 : 1;
    }
    err = err ? err : union_new(opening->layers, opening->count, false, &root);
    if (err) {
        return err;
    }
    keep(apps, &wanted, &root);
    *ret_root = root;
    return ERR_OK;
}
