#include "base/clock.h"
#include "dev/apps_internal.h"
#include "dev/volume.h"
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

static struct file *find(struct apps *apps, const struct app *app) {
    struct file *expired[APPS_UNIONS_MAX];
    struct file *root = NULL;
    uint64_t now_ns = clock_monotonic_ns();
    pthread_mutex_lock(&apps->mutex);
    for (size_t i = 0; i < apps->union_count && !root; i++) {
        struct apps_union *known = &apps->unions[i];
        if (known->app_id == app->id && known->layer_id == app->version.layer_id) {
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
static void keep(struct apps *apps, const struct app *app, struct file **root) {
    struct file *dropped = NULL;
    bool is_there = false;
    uint64_t now_ns = clock_monotonic_ns();
    pthread_mutex_lock(&apps->mutex);
    size_t oldest = 0;
    for (size_t i = 0; i < apps->union_count && !is_there; i++) {
        struct apps_union *known = &apps->unions[i];
        oldest = known->used_ns < apps->unions[oldest].used_ns ? i : oldest;
        if (known->app_id == app->id && known->layer_id == app->version.layer_id) {
            dropped = *root;
            *root = file_ref(known->root);
            is_there = true;
        }
    }
    if (!is_there) {
        if (apps->union_count == APPS_UNIONS_MAX) {
            dropped = take_out(apps, oldest);
        }
        apps->unions[apps->union_count++] = (struct apps_union){.app_id = app->id,
                                                                .layer_id = app->version.layer_id,
                                                                .root = file_ref(*root),
                                                                .used_ns = now_ns};
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

void apps_opening_done(struct apps_opening *opening) {
    file_unref(opening->volume);
    file_unref(opening->layer);
    *opening = (struct apps_opening){0};
}

enum err apps_files_root(struct op *op, struct apps_opening *opening, struct apps *apps,
                         struct app *app, struct file **ret_root) {
    struct file *root = opening->volume ? NULL : find(apps, app);
    if (root) {
        *ret_root = root;
        return op_finish(op, ERR_OK);
    }
    struct volume *volume;
    enum err err = ERR_OK;
    if (!opening->volume) {
        err = catalog_app_volume(op, apps->catalog, app, &volume, op->message);
        if (!err) {
            err = dev_volume_root(volume, false, &opening->volume);
            volume_unref(volume);
        }
    }
    if (!err && !opening->layer && app->version.layer_id) {
        err = catalog_volume(op, apps->catalog, app->version.layer_id, true, &volume, op->message);
        if (!err) {
            err = dev_volume_root(volume, true, &opening->layer);
            volume_unref(volume);
        }
    }
    if (err) {
        return err;
    }
    if (opening->layer) {
        struct file *layers[] = {opening->volume, opening->layer};
        err = union_new(layers, ARRAY_LENGTH(layers), true, &root);
        if (err) {
            return err;
        }
    } else {
        root = file_ref(opening->volume);
    }
    keep(apps, app, &root);
    *ret_root = root;
    return ERR_OK;
}
