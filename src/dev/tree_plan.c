/* How trees are built: what the runs of one version of an app share in one mode of root. */
#include "dev/tree_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "dev/volume.h"
#include "ns/memory.h"
#include "ns/union.h"

enum {
    PLANS_MAX = 512, /* that are kept for the next run */
    INODES_MAX = 100000,
};
/* A plan that nobody has used for so long lets go of its volumes. */
#define PLAN_AGE_MAX_NS (30 * NS_PER_S)

_Static_assert(2 + VERSION_LAYERS_MAX <= UNION_LAYERS_MAX, "memory, a volume, a version's layers");

/* ---- plans ---- */

void tree_run_free(struct run_tree *run_tree) {
    ns_unref(run_tree->ns);
    file_unref(run_tree->root);
    file_unref(run_tree->tmp);
    file_unref(run_tree->top);
    free(run_tree);
}

/* Without the lock: the last reference of a volume may have work to do. */
void tree_plan_free(struct plan *plan) {
    while (plan->idle) {
        struct run_tree *run_tree = plan->idle;
        plan->idle = run_tree->next;
        tree_run_free(run_tree);
    }
    for (size_t i = 0; i < plan->mount_count; i++) {
        free(plan->mounts[i].path);
        file_unref(plan->mounts[i].root);
    }
    free(plan->mounts);
    file_unref(plan->root);
    for (size_t i = 0; i < plan->layer_count; i++) {
        file_unref(plan->layers[i]);
    }
    for (size_t i = 0; i < plan->written_count; i++) {
        volume_unref(plan->written[i]);
    }
    free(plan->written);
    for (size_t i = 0; i < plan->shared_count; i++) {
        volume_unref(plan->shared[i]);
    }
    free(plan->shared);
    free(plan);
}

/* With the lock. Returns the plan if it has to be freed, without the lock. */
struct plan *tree_plan_unref(struct plan *plan) {
    return --plan->references == 0 ? plan : NULL;
}

static MUST_USE struct plan *uncache(struct tree *tree, struct plan *plan) {
    map_remove(&tree->plans, &plan->node);
    list_remove(&plan->age);
    plan->is_cached = false;
    return tree_plan_unref(plan);
}

/* With the lock: takes the oldest plan out if there are too many, or if its time is over. */
struct plan *tree_plan_expire(struct tree *tree, uint64_t now_ns) {
    if (list_is_empty(&tree->plans_by_age)) {
        return NULL;
    }
    struct plan *oldest = CONTAINER_OF(tree->plans_by_age.next, struct plan, age);
    bool is_old = now_ns - MIN(oldest->used_ns, now_ns) > PLAN_AGE_MAX_NS;
    return is_old || tree->plans.count > PLANS_MAX ? uncache(tree, oldest) : NULL;
}

static void touch(struct tree *tree, struct plan *plan, uint64_t now_ns) {
    plan->used_ns = now_ns;
    list_remove(&plan->age);
    list_append(&tree->plans_by_age, &plan->age);
}

/* A volume of it was removed: the next one of that name is another. */
static bool is_outdated(const struct plan *plan) {
    bool is_removed = false;
    for (size_t i = 0; i < plan->shared_count; i++) {
        is_removed |= volume_is_removed(plan->shared[i]);
    }
    return is_removed;
}

static struct plan *find_plan(struct tree *tree, const struct plan_key *key) {
    struct map_node *node = map_find(&tree->plans, MAP_KEY(*key));
    return node ? CONTAINER_OF(node, struct plan, node) : NULL;
}

/* Of the layer of root=fresh: it is memory, however large the app's disk may be. */
uint64_t tree_top_bytes_max(const struct run_limits *limits) {
    return MIN(limits->disk_bytes ? limits->disk_bytes : UINT64_MAX, limits->tmp_bytes);
}

uint64_t tree_inodes_max(const struct run_limits *limits) {
    return limits->files ? MIN(limits->files, (uint64_t)INODES_MAX) : INODES_MAX;
}

/* Whether the files that a run was given are its topmost layer, and not written to a volume. */
bool tree_has_layer_of_files(const struct run *run) {
    struct str mode = run_root_mode(run);
    return run_files(run) && (str_equal_text(mode, "fresh") || str_equal_text(mode, "ro"));
}

static enum err make_key(const struct run *run, struct plan_key *ret_key, struct buf *message) {
    struct str mode = run_root_mode(run);
    if (mode.length > MODE_MAX) {
        return buf_fail(message, ERR_INVAL, "root= is keep, fresh, ro, or the name of a volume");
    }
    struct plan_key key; /* compared as bytes, so padding counts */
    memset(&key, 0, sizeof(key));
    key.app_id = run_app(run)->id;
    key.version = run_version(run)->number;
    if (tree_has_layer_of_files(run)) { /* over both, whether or not it can be changed */
        mode = STR("fresh");
    }
    memcpy(key.mode, mode.data, mode.length);
    *ret_key = key;
    return ERR_OK;
}

/* ---- building a plan: opens the volumes, one after the other ---- */

struct build {
    struct tree *tree;
    struct op child;
    struct plan *plan;  /* not in the table yet */
    size_t step;        /* 0: the writable volume, then the version's layers, then the mounts */
    enum err failure;   /* it has failed, and takes back what it has made */
    struct buf message; /* what there is to say of that */
    struct file *layers[1 + VERSION_LAYERS_MAX]; /* topmost first: the writable one */
};

static void build_drop(struct op *op) {
    struct build *build = op->state;
    op_done(&build->child);
    for (size_t i = 0; i < ARRAY_LENGTH(build->layers); i++) {
        file_unref(build->layers[i]);
    }
    if (build->plan) {
        tree_plan_free(build->plan);
    }
    buf_done(&build->message);
    free(build);
}

static enum err build_begin(struct tree *tree, struct op *op, const struct run *run,
                            const struct plan_key *key) {
    const struct app *app = run_app(run);
    struct build *build = calloc(1, sizeof(*build));
    struct plan *plan = calloc(1, sizeof(*plan));
    if (build && plan) {
        plan->mounts = calloc(app->mount_count + 1, sizeof(plan->mounts[0]));
        plan->written = calloc(app->mount_count + 1, sizeof(struct volume *));
        plan->shared = calloc(app->mount_count + 1, sizeof(struct volume *));
    }
    if (!build || !plan || !plan->mounts || !plan->written || !plan->shared) {
        free(build);
        if (plan) {
            tree_plan_free(plan);
        }
        return ERR_NOMEM;
    }
    plan->key = *key;
    plan->generation = app->generation;
    plan->references = 1;
    plan->is_first = true;
    list_init(&plan->age);
    build->tree = tree;
    build->plan = plan;
    op_init_child(&build->child, op);
    op_set_state(op, build, build_drop);
    return ERR_OK;
}

/* Takes over the volume: its root goes to `*ret_root`, and if runs can write to it, it is noted for
 * the commit. */
static enum err take_volume(struct plan *plan, struct volume *volume, bool read_only,
                            struct file **ret_root) {
    enum err err = dev_volume_root(volume, read_only, ret_root);
    if (!err && !read_only) {
        plan->written[plan->written_count++] = volume;
    } else {
        volume_unref(volume);
    }
    return err;
}

/* Notes a volume that has a name. */
static void note_shared(struct build *build, struct str name, struct volume *volume) {
    struct plan *plan = build->plan;
    struct volume_session session = {0};
    enum err err = catalog_volume_session(build->tree->catalog, name, &session);
    plan->is_passing |= err || session.ttl_ns; /* gone, or it will be */
    plan->shared[plan->shared_count++] = volume_ref(volume);
}

static uint64_t wanted_ttl_ns(const struct run *run) {
    uint64_t asked_ns = run_ttl_ns(run);
    return asked_ns ? asked_ns : run_app(run)->limits.ttl_ns;
}

static enum err open_by_name(struct build *build, struct run *run, struct volume **ret_volume,
                             struct buf *message) {
    struct catalog *catalog = build->tree->catalog;
    struct str name = str_of(build->plan->key.mode);
    /* What the app's configuration says is for volumes that are made by it. */
    bool or_kept = run_ttl_ns(run) == 0;
    return catalog_session_volume(&build->child, catalog, name, wanted_ttl_ns(run), or_kept,
                                  ret_volume, message);
}

static enum err open_writable(struct build *build, struct run *run, struct buf *message) {
    const char *mode = build->plan->key.mode;
    bool is_fresh = strcmp(mode, "fresh") == 0;
    bool read_only = is_fresh || strcmp(mode, "ro") == 0;
    struct volume *volume;
    enum err err;
    if (read_only || strcmp(mode, "keep") == 0) {
        err = catalog_app_volume(&build->child, build->tree->catalog, (struct app *)run_app(run),
                                 &volume, message);
    } else {
        err = open_by_name(build, run, &volume, message);
        if (!err) {
            note_shared(build, str_of(mode), volume);
        }
    }
    return err ? err : take_volume(build->plan, volume, read_only, &build->layers[0]);
}

/* The id of the version's layer that comes as number `index`; 0: it has fewer. */
static int64_t layer_id(const struct app_version *version, size_t index) {
    return index == 0 ? version->layer_id : version->below_ids[index - 1];
}

static enum err open_layer(struct build *build, int64_t id, struct buf *message) {
    if (!id) {
        return ERR_OK;
    }
    struct volume *volume;
    enum err err = catalog_volume(&build->child, build->tree->catalog, id, true, &volume, message);
    return err ? err : take_volume(build->plan, volume, true, &build->layers[build->step]);
}

static enum err open_mount(struct build *build, const struct app_mount *mount,
                           struct buf *message) {
    struct plan *plan = build->plan;
    struct volume *volume;
    enum err err = catalog_session_volume(&build->child, build->tree->catalog,
                                          str_of(mount->volume), 0, true, &volume, message);
    if (err) {
        return err;
    }
    note_shared(build, str_of(mount->volume), volume);
    struct file *root;
    err = take_volume(plan, volume, mount->read_only, &root);
    if (err) {
        return err;
    }
    char *path = strdup(mount->path);
    if (!path) {
        file_unref(root);
        return ERR_NOMEM;
    }
    plan->mounts[plan->mount_count].path = path;
    plan->mounts[plan->mount_count++].root = root;
    return ERR_OK;
}

/* All volumes are open: what do runs see? */
static enum err build_root(struct build *build) {
    struct plan *plan = build->plan;
    size_t count = 1;
    while (count < ARRAY_LENGTH(build->layers) && build->layers[count]) {
        count++;
    }
    if (strcmp(plan->key.mode, "fresh") == 0) {
        memcpy(plan->layers, build->layers, sizeof(build->layers));
        plan->layer_count = count;
        memset(build->layers, 0, sizeof(build->layers));
        return ERR_OK;
    }
    if (count == 1) {
        plan->root = STEAL(build->layers[0]);
        return ERR_OK;
    }
    bool writable = strcmp(plan->key.mode, "ro") != 0;
    return union_new(build->layers, count, writable, &plan->root);
}

static enum err build_step(struct build *build, struct run *run, struct buf *message) {
    const struct app *app = run_app(run);
    enum err err = ERR_OK;
    const size_t before_mounts = ARRAY_LENGTH(build->layers);
    for (; !err && build->step < before_mounts + app->mount_count; build->step += err ? 0 : 1) {
        if (build->step == 0) {
            err = open_writable(build, run, message);
        } else if (build->step < before_mounts) {
            err = open_layer(build, layer_id(run_version(run), build->step - 1), message);
        } else {
            err = open_mount(build, &app->mounts[build->step - before_mounts], message);
        }
    }
    return err ? err : build_root(build);
}

/* Puts the plan in the table, in place of one of an older configuration. A reference for the
 * caller. */
static enum err publish(struct tree *tree, struct plan *plan) {
    struct plan *replaced = NULL;
    pthread_mutex_lock(&tree->lock);
    if (plan->is_passing || is_outdated(plan)) {
        pthread_mutex_unlock(&tree->lock);
        return ERR_OK; /* this run's alone */
    }
    struct plan *old = find_plan(tree, &plan->key);
    if (old) {
        replaced = uncache(tree, old);
    }
    enum err err = map_insert(&tree->plans, &plan->node, MAP_KEY(plan->key));
    if (!err) {
        plan->is_cached = true;
        plan->references++;
        touch(tree, plan, clock_monotonic_coarse_ns());
    }
    pthread_mutex_unlock(&tree->lock);
    if (replaced) {
        tree_plan_free(replaced);
    }
    return err;
}

/* ---- for tree.c ---- */

/* A plan that is there (a reference) and, if one is idle, a tree of it (unless `ret_tree` is NULL).
 */
static struct plan *take_plan(struct tree *tree, const struct plan_key *key, const struct run *run,
                              struct run_tree **ret_tree) {
    struct plan *expired = NULL;
    uint64_t now_ns = clock_monotonic_coarse_ns();
    pthread_mutex_lock(&tree->lock);
    struct plan *plan = run_ttl_ns(run) ? NULL : find_plan(tree, key);
    if (plan && (plan->generation != run_app(run)->generation || is_outdated(plan))) {
        plan = NULL;
    }
    if (plan) {
        plan->references++;
        plan->is_first = false;
        touch(tree, plan, now_ns);
        const struct run_limits *limits = run_limits(run);
        if (ret_tree && plan->idle && !tree_has_layer_of_files(run) &&
            plan->idle->tmp_bytes == limits->tmp_bytes &&
            plan->idle->inodes == tree_inodes_max(limits) &&
            plan->idle->top_bytes == tree_top_bytes_max(limits)) {
            *ret_tree = plan->idle;
            plan->idle = plan->idle->next;
            plan->idle_count--;
        }
    } else {
        expired = tree_plan_expire(tree, now_ns);
    }
    pthread_mutex_unlock(&tree->lock);
    if (expired) {
        tree_plan_free(expired);
    }
    return plan;
}

void tree_plan_drop(struct tree *tree, struct plan *plan) {
    pthread_mutex_lock(&tree->lock);
    plan = tree_plan_unref(plan);
    pthread_mutex_unlock(&tree->lock);
    if (plan) {
        tree_plan_free(plan);
    }
}

/* The volume by name that is a plan's root, NULL if that is another one. */
static struct volume *root_by_name(const struct plan *plan) {
    return app_is_root_mode(str_of(plan->key.mode)) || plan->shared_count == 0 ? NULL
                                                                               : plan->shared[0];
}

void tree_plan_use(struct tree *tree, const struct run *run, const struct plan *plan, bool begins) {
    if (!plan->is_passing) {
        return;
    }
    const struct app *app = run_app(run); /* a plan with sessions is of this run alone */
    const struct volume *root = root_by_name(plan);
    size_t next = 0; /* they were noted in this order */
    if (root) {
        uint64_t ttl_ns = begins ? wanted_ttl_ns(run) : 0;
        catalog_use_session(tree->catalog, str_of(plan->key.mode), root, ttl_ns);
        next = 1;
    }
    for (size_t i = 0; i < app->mount_count; i++, next++) {
        INVARIANT(next < plan->shared_count);
        catalog_use_session(tree->catalog, str_of(app->mounts[i].volume), plan->shared[next], 0);
    }
}

enum err tree_plan_undo(struct tree *tree, struct op *op, struct plan *plan) {
    struct volume *volume = root_by_name(plan);
    if (!volume) {
        return ERR_OK;
    }
    if (!op->state) {
        pthread_mutex_lock(&tree->lock);
        bool is_first = plan->is_first;
        if (is_first && plan->is_cached) { /* from here on nobody else gets it */
            (void)!uncache(tree, plan);    /* the run has it, too */
        }
        pthread_mutex_unlock(&tree->lock);
        if (!is_first) {
            return ERR_OK;
        }
    }
    return catalog_unmake_volume(op, tree->catalog, str_of(plan->key.mode), volume);
}

/* Builds, or takes back what was built. */
static enum err build_or_undo(struct build *build, struct run *run, struct buf *message) {
    if (!build->failure) {
        enum err err = build_step(build, run, &build->message);
        if (!err || err == ERR_PENDING) {
            return err;
        }
        build->failure = err;
    }
    if (tree_plan_undo(build->tree, &build->child, build->plan) == ERR_PENDING) {
        return ERR_PENDING;
    }
    return build->message.length
               ? buf_fail(message, build->failure, "%s", buf_text(&build->message))
               : build->failure;
}

enum err tree_plan_get(struct tree *tree, struct op *op, struct run *run,
                       struct run_tree **ret_idle, struct plan **ret_plan, struct buf *message) {
    if (!op->state) {
        struct plan_key key;
        enum err err = make_key(run, &key, message);
        struct plan *plan = err ? NULL : take_plan(tree, &key, run, ret_idle);
        if (plan) {
            *ret_plan = plan;
            return ERR_OK;
        }
        err = err ? err : build_begin(tree, op, run, &key);
        if (err) {
            return op_finish(op, err);
        }
    }
    struct build *build = op->state;
    enum err err = build_or_undo(build, run, message);
    if (err == ERR_PENDING) {
        return err;
    }
    struct plan *plan = err ? NULL : STEAL(build->plan);
    err = op_finish(op, err);
    if (err) {
        return err;
    }
    err = publish(tree, plan);
    if (err) {
        tree_plan_free(plan);
        return err;
    }
    *ret_plan = plan;
    return ERR_OK;
}

static bool is_forgotten(const struct plan *plan, int64_t app_id) {
    return app_id == TREE_OUTDATED ? is_outdated(plan)
                                   : app_id == TREE_ALL || plan->key.app_id == app_id;
}

void tree_forget(struct tree *tree, int64_t app_id) {
    struct plan *dead = NULL;
    do {
        dead = NULL;
        pthread_mutex_lock(&tree->lock);
        LIST_FOR_EACH (node, &tree->plans_by_age) {
            struct plan *plan = CONTAINER_OF(node, struct plan, age);
            if (is_forgotten(plan, app_id)) {
                plan->references++;
                (void)!uncache(tree, plan);
                dead = plan;
                break;
            }
        }
        struct plan *last = dead ? tree_plan_unref(dead) : NULL;
        pthread_mutex_unlock(&tree->lock);
        if (last) {
            tree_plan_free(last);
        }
    } while (dead);
}
