#include "dev/tree.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "dev/devices.h"
#include "dev/env.h"
#include "dev/place.h"
#include "dev/proc.h"
#include "dev/volume.h"
#include "ns/memory.h"
#include "ns/union.h"

#include <pthread.h>

enum {
    MODE_MAX = APP_NAME_MAX,
    PLANS_MAX = 512,         /* that are kept for the next run */
    IDLE_MAX = 64,           /* namespaces of one plan that wait for their next run */
    TMP_INODES_MAX = 100000, /* of /tmp, and of the layer of root=fresh */
    INODE_BYTES = 512,       /* of memory, about, with its name */
};
/* A plan that nobody has used for so long lets go of its volumes. */
#define PLAN_AGE_MAX_NS (30 * NS_PER_S)

_Static_assert(2 + VERSION_LAYERS_MAX <= UNION_LAYERS_MAX, "memory, a volume, a version's layers");

/* What decides how a tree is built. */
struct plan_key {
    int64_t app_id;
    uint64_t version;
    char mode[MODE_MAX + 1]; /* filled up with zeros */
};

/* How the trees of one version of an app are built, in one mode of root: its volumes are open.
 * Guarded by tree->lock: references, the lists, is_cached; the rest is constant once it is built.
 */
struct plan {
    struct map_node node;
    struct plan_key key;
    uint64_t generation; /* of the app's configuration */
    unsigned references; /* of the table, and of each run's tree that is in use */
    bool is_cached;
    struct list age; /* in tree->plans_by_age, the least recently used first */
    uint64_t used_ns;

    struct file *root; /* what all runs share; NULL: each has a union of its own */
    struct file *layers[1 + VERSION_LAYERS_MAX]; /* then what is below its memory, topmost first */
    size_t layer_count;
    struct {
        char *path;
        struct file *root;
    } * mounts;
    size_t mount_count;
    struct volume **written; /* those that runs can change: committed at their end */
    size_t written_count;
    struct volume **shared; /* those that have a name */
    size_t shared_count;
    bool is_passing; /* has a volume that goes when nobody uses it: is not kept for a next run */

    struct run_tree *idle; /* by next */
    unsigned idle_count;
};

/* The tree of one run. */
struct run_tree {
    struct plan *plan; /* a reference while it is in use */
    struct ns *ns;
    struct file *root;
    struct file *tmp;
    struct file *top; /* its own layer, or NULL */
    uint64_t tmp_bytes, top_bytes;
    struct run_tree *next;
};

struct tree {
    struct catalog *catalog;
    struct file *cloud, *devices, *environment, *network, *processes;
    pthread_mutex_t lock;
    struct map plans;
    struct list plans_by_age;
};

/* ---- plans ---- */

static void run_tree_free(struct run_tree *run_tree) {
    ns_unref(run_tree->ns);
    file_unref(run_tree->root);
    file_unref(run_tree->tmp);
    file_unref(run_tree->top);
    free(run_tree);
}

/* Without the lock: the last reference of a volume may have work to do. */
static void plan_free(struct plan *plan) {
    while (plan->idle) {
        struct run_tree *run_tree = plan->idle;
        plan->idle = run_tree->next;
        run_tree_free(run_tree);
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
static MUST_USE struct plan *plan_unref(struct plan *plan) {
    return --plan->references == 0 ? plan : NULL;
}

static MUST_USE struct plan *uncache(struct tree *tree, struct plan *plan) {
    map_remove(&tree->plans, &plan->node);
    list_remove(&plan->age);
    plan->is_cached = false;
    return plan_unref(plan);
}

/* With the lock: takes the oldest plan out if there are too many, or if its time is over. */
static MUST_USE struct plan *expire_one(struct tree *tree, uint64_t now_ns) {
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

/* Whether it is a word, and not the name of a volume. */
static bool is_mode(const char *root) {
    return strcmp(root, "keep") == 0 || strcmp(root, "fresh") == 0 || strcmp(root, "ro") == 0;
}

/* Whether the files that a run was given are its topmost layer, and not written to a volume. */
static bool has_layer_of_files(const struct run *run) {
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
    if (has_layer_of_files(run)) { /* over both, whether or not it can be changed */
        mode = STR("fresh");
    }
    memcpy(key.mode, mode.data, mode.length);
    *ret_key = key;
    return ERR_OK;
}

/* ---- one run's tree ---- */

static enum err mount_all(struct tree *tree, const struct plan *plan, struct run_tree *run_tree,
                          struct buf *message) {
    const struct {
        struct str path;
        struct file *root;
    } ours[] = {
        {STR("/cloud"), tree->cloud},     {STR("/dev"), tree->devices},
        {STR("/env"), tree->environment}, {STR("/net"), tree->network},
        {STR("/proc"), tree->processes},  {STR("/tmp"), run_tree->tmp},
    };
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(ours); i++) {
        if (ours[i].root) {
            err = ns_mount(run_tree->ns, ours[i].path, ours[i].root);
        }
    }
    for (size_t i = 0; !err && i < plan->mount_count; i++) {
        err = ns_mount(run_tree->ns, str_of(plan->mounts[i].path), plan->mounts[i].root);
        if (err) {
            (void)buf_fail(message, err, "nothing can be mounted at %s: %s", plan->mounts[i].path,
                           err_text(err));
        }
    }
    return err;
}

/* Of the layer of root=fresh: it is memory, however large the app's disk may be. */
static uint64_t top_bytes_max(const struct run_limits *limits) {
    return MIN(limits->disk_bytes ? limits->disk_bytes : UINT64_MAX, limits->tmp_bytes);
}

/* What the run sees at its root. */
static enum err make_root(const struct plan *plan, const struct run *run,
                          struct run_tree *run_tree) {
    if (plan->root) {
        run_tree->root = file_ref(plan->root);
        return ERR_OK;
    }
    struct memory_options options = {
        .bytes_max = top_bytes_max(run_limits(run)),
        .inodes_max = TMP_INODES_MAX,
    };
    bool writable = true;
    if (has_layer_of_files(run)) {
        run_tree->top = file_ref(run_files(run));
        memory_set_limits(run_tree->top, &options);
        writable = str_equal_text(run_root_mode(run), "fresh");
    } else {
        enum err err = memory_new(&options, &run_tree->top);
        if (err) {
            return err;
        }
    }
    struct file *layers[1 + ARRAY_LENGTH(plan->layers)] = {run_tree->top};
    memcpy(&layers[1], plan->layers, plan->layer_count * sizeof(layers[0]));
    return union_new(layers, 1 + plan->layer_count, writable, &run_tree->root);
}

static enum err run_tree_new(struct tree *tree, struct plan *plan, const struct run *run,
                             struct run_tree **ret_tree, struct buf *message) {
    const struct run_limits *limits = run_limits(run);
    struct run_tree *run_tree = calloc(1, sizeof(*run_tree));
    if (!run_tree) {
        return ERR_NOMEM;
    }
    run_tree->plan = plan;
    run_tree->tmp_bytes = limits->tmp_bytes;
    run_tree->top_bytes = top_bytes_max(limits);
    struct memory_options tmp = {.bytes_max = limits->tmp_bytes, .inodes_max = TMP_INODES_MAX};
    enum err err = memory_new(&tmp, &run_tree->tmp);
    if (!err) {
        err = make_root(plan, run, run_tree);
    }
    if (!err) {
        err = ns_new(run_tree->root, &run_tree->ns);
    }
    if (!err) {
        err = mount_all(tree, plan, run_tree, message);
    }
    if (err) {
        run_tree_free(run_tree);
        return err;
    }
    *ret_tree = run_tree;
    return ERR_OK;
}

static bool is_untouched(struct file *memory) {
    struct memory_usage usage = memory_usage(memory);
    return usage.inodes == 0 && usage.bytes == 0;
}

static void give_back(struct tree *tree, struct run_tree *run_tree) {
    struct plan *plan = run_tree->plan;
    bool as_new =
        (!run_tree->top || memory_is_pristine(run_tree->top)) && memory_is_pristine(run_tree->tmp);
    struct plan *expired = NULL;
    pthread_mutex_lock(&tree->lock);
    bool reused = as_new && plan->is_cached && plan->idle_count < IDLE_MAX;
    if (reused) {
        run_tree->next = plan->idle;
        plan->idle = run_tree;
        plan->idle_count++;
    }
    struct plan *dead = plan_unref(plan);
    expired = expire_one(tree, clock_monotonic_coarse_ns());
    pthread_mutex_unlock(&tree->lock);
    if (!reused) {
        run_tree_free(run_tree);
    }
    if (dead) {
        plan_free(dead);
    }
    if (expired) {
        plan_free(expired);
    }
}

/* ---- building a plan: opens the volumes, one after the other ---- */

struct build {
    struct tree *tree;
    struct op child;
    struct plan *plan; /* not in the table yet */
    size_t step;       /* 0: the writable volume, then the version's layers, then the mounts */
    struct file *layers[1 + VERSION_LAYERS_MAX]; /* topmost first: the writable one */
};

static void build_drop(struct op *op) {
    struct build *build = op->state;
    op_done(&build->child);
    for (size_t i = 0; i < ARRAY_LENGTH(build->layers); i++) {
        file_unref(build->layers[i]);
    }
    if (build->plan) {
        plan_free(build->plan);
    }
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
            plan_free(plan);
        }
        return ERR_NOMEM;
    }
    plan->key = *key;
    plan->generation = app->generation;
    plan->references = 1;
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

static enum err open_by_name(struct build *build, struct run *run, struct volume **ret_volume,
                             struct buf *message) {
    struct catalog *catalog = build->tree->catalog;
    struct str name = str_of(build->plan->key.mode);
    uint64_t asked_ns = run_ttl_ns(run);
    uint64_t ttl_ns = asked_ns ? asked_ns : run_app(run)->limits.ttl_ns;
    /* What the app's configuration says is for volumes that are made by it. */
    return ttl_ns ? catalog_session_volume(&build->child, catalog, name, ttl_ns, asked_ns == 0,
                                           ret_volume, message)
                  : catalog_named_volume(&build->child, catalog, name, true, ret_volume, message);
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
    enum err err = catalog_named_volume(&build->child, build->tree->catalog, str_of(mount->volume),
                                        true, &volume, message);
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
        plan_free(replaced);
    }
    return err;
}

/* ---- the files that a run was given, into the volume at its root ---- */

struct placing {
    struct tree *tree;
    struct run_tree *run_tree; /* given back if it fails */
    struct place *place;
};

static void placing_drop(struct op *op) {
    struct placing *placing = op->state;
    place_free(placing->place);
    if (placing->run_tree) {
        give_back(placing->tree, placing->run_tree);
    }
    free(placing);
}

/* What does not fit is told before anything is written. Others may write meanwhile. */
static enum err check_room(const struct plan *plan, struct file *files, struct buf *message) {
    struct memory_usage wanted = memory_usage(files);
    struct volume_usage has = volume_usage(plan->written[0]); /* the one at the root */
    bool is_full =
        (has.bytes_max && wanted.bytes > has.bytes_max - MIN(has.bytes, has.bytes_max)) ||
        (has.inodes_max && wanted.inodes > has.inodes_max - MIN(has.inodes, has.inodes_max));
    return is_full ? buf_fail(message, ERR_NOSPC,
                              "the volume has no room for the run's files: its limit is disk=%llu "
                              "bytes and files=%llu",
                              (unsigned long long)has.bytes_max, (unsigned long long)has.inodes_max)
                   : ERR_OK;
}

/* Takes over the tree, also when it fails. */
static enum err placing_begin(struct tree *tree, struct op *op, const struct run *run,
                              struct run_tree *run_tree, struct buf *message) {
    struct placing *placing = calloc(1, sizeof(*placing));
    enum err err = placing ? check_room(run_tree->plan, run_files(run), message) : ERR_NOMEM;
    if (!err) {
        err = place_new(op, run_files(run), run_tree->root, &placing->place);
    }
    if (err) {
        free(placing);
        give_back(tree, run_tree);
        return err;
    }
    placing->tree = tree;
    placing->run_tree = run_tree;
    op_set_state(op, placing, placing_drop);
    return ERR_OK;
}

static enum err placing_step(struct op *op, struct ns **ret_ns, void **ret_tree,
                             struct buf *message) {
    struct placing *placing = op->state;
    enum err err = place_step(placing->place, message);
    if (!err) {
        struct run_tree *run_tree = STEAL(placing->run_tree);
        *ret_ns = ns_ref(run_tree->ns);
        *ret_tree = run_tree;
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

/* ---- the hooks ---- */

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
        touch(tree, plan, now_ns);
        const struct run_limits *limits = run_limits(run);
        if (ret_tree && plan->idle && !has_layer_of_files(run) &&
            plan->idle->tmp_bytes == limits->tmp_bytes &&
            plan->idle->top_bytes == top_bytes_max(limits)) {
            *ret_tree = plan->idle;
            plan->idle = plan->idle->next;
            plan->idle_count--;
        }
    } else {
        expired = expire_one(tree, now_ns);
    }
    pthread_mutex_unlock(&tree->lock);
    if (expired) {
        plan_free(expired);
    }
    return plan;
}

static void drop_plan(struct tree *tree, struct plan *plan) {
    pthread_mutex_lock(&tree->lock);
    plan = plan_unref(plan);
    pthread_mutex_unlock(&tree->lock);
    if (plan) {
        plan_free(plan);
    }
}

static enum err make_tree(void *context, struct op *op, struct run *run, struct ns **ret_ns,
                          void **ret_tree, struct buf *message) {
    struct tree *tree = context;
    struct run_tree *run_tree = NULL;
    struct plan *plan = NULL;
    enum err err;
    if (op->state && op->drop_state == placing_drop) {
        return placing_step(op, ret_ns, ret_tree, message);
    }
    if (!op->state) {
        struct plan_key key;
        err = make_key(run, &key, message);
        if (err) {
            return err;
        }
        plan = take_plan(tree, &key, run, &run_tree);
        if (!plan) {
            err = build_begin(tree, op, run, &key);
            if (err) {
                return err;
            }
        }
    }
    if (op->state) {
        struct build *build = op->state;
        err = build_step(build, run, message);
        if (err == ERR_PENDING) {
            return err;
        }
        plan = err ? NULL : STEAL(build->plan);
        err = op_finish(op, err);
        if (!err) {
            err = publish(tree, plan);
        }
        if (err) {
            if (plan) {
                plan_free(plan);
            }
            return err;
        }
    }
    if (!run_tree) {
        err = run_tree_new(tree, plan, run, &run_tree, message);
        if (err) {
            drop_plan(tree, plan);
            return err;
        }
    }
    if (run_files(run) && !has_layer_of_files(run)) {
        err = placing_begin(tree, op, run, run_tree, message);
        return err ? err : placing_step(op, ret_ns, ret_tree, message);
    }
    *ret_ns = ns_ref(run_tree->ns);
    *ret_tree = run_tree;
    return ERR_OK;
}

/* Several volumes are committed one after the other. */
struct commit {
    struct op child;
    size_t next;
};

static void commit_drop(struct op *op) {
    struct commit *commit = op->state;
    op_done(&commit->child);
    free(commit);
}

static enum err commit_tree(void *context, struct op *op, void *of_run) {
    (void)context;
    const struct plan *plan = ((struct run_tree *)of_run)->plan;
    struct commit *commit = op->state;
    if (!commit) {
        bool is_dirty = false;
        for (size_t i = 0; i < plan->written_count; i++) {
            is_dirty |= volume_is_dirty(plan->written[i]);
        }
        if (!is_dirty) {
            return ERR_OK;
        }
        commit = calloc(1, sizeof(*commit));
        if (!commit) {
            return ERR_NOMEM;
        }
        op_init_child(&commit->child, op);
        op_set_state(op, commit, commit_drop);
    }
    enum err err = ERR_OK;
    for (; !err && commit->next < plan->written_count; commit->next += err ? 0 : 1) {
        err = volume_sync(&commit->child, plan->written[commit->next]);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

static bool tree_is_kept(void *context, void *of_run) {
    (void)context;
    const struct run_tree *run_tree = of_run;
    return run_tree->top && !is_untouched(run_tree->top);
}

static uint64_t tree_bytes(void *context, void *of_run) {
    (void)context;
    const struct run_tree *run_tree = of_run;
    struct memory_usage tmp = memory_usage(run_tree->tmp);
    struct memory_usage top =
        run_tree->top ? memory_usage(run_tree->top) : (struct memory_usage){0};
    return tmp.bytes + top.bytes + (tmp.inodes + top.inodes) * INODE_BYTES;
}

static struct file *tree_root(void *context, void *of_run) {
    (void)context;
    return file_ref(((struct run_tree *)of_run)->root);
}

/* The one of a plan: for a run of root=fresh what lies below its memory. */
static enum err root_of_plan(const struct plan *plan, struct file **ret_root) {
    if (plan->root) {
        *ret_root = file_ref(plan->root);
        return ERR_OK;
    }
    return union_new(plan->layers, plan->layer_count, false, ret_root);
}

static enum err open_root(void *context, struct op *op, struct run *run, struct file **ret_root) {
    struct tree *tree = context;
    struct plan *plan = NULL;
    enum err err = ERR_OK;
    if (!op->state) {
        struct plan_key key;
        err = make_key(run, &key, NULL);
        struct volume_session session;
        bool is_volume = !err && !is_mode(key.mode);
        if (is_volume) { /* it is not made anew only to be looked at */
            err = catalog_volume_session(tree->catalog, str_of(key.mode), &session);
        }
        if (!err) {
            plan = take_plan(tree, &key, run, NULL);
            err = plan ? ERR_OK : build_begin(tree, op, run, &key);
        }
        if (err) {
            return op_finish(op, err);
        }
    }
    if (!plan) {
        struct build *build = op->state;
        err = build_step(build, run, NULL);
        if (err == ERR_PENDING) {
            return err;
        }
        plan = err ? NULL : STEAL(build->plan);
        err = op_finish(op, err);
        if (err) {
            return err;
        }
        err = publish(tree, plan);
        if (err) {
            plan_free(plan);
            return err;
        }
    }
    err = root_of_plan(plan, ret_root);
    drop_plan(tree, plan);
    return err;
}

static void tree_done(void *context, void *of_run) {
    give_back(context, of_run);
}

static void forget_app(void *context, int64_t app_id) {
    tree_forget(context, app_id);
}

struct run_hooks tree_hooks(struct tree *tree) {
    return (struct run_hooks){.context = tree,
                              .make_tree = make_tree,
                              .commit_tree = commit_tree,
                              .tree_is_kept = tree_is_kept,
                              .tree_bytes = tree_bytes,
                              .tree_root = tree_root,
                              .open_root = open_root,
                              .tree_done = tree_done,
                              .forget_app = forget_app};
}

/* ---- the whole ---- */

enum err tree_new(const struct tree_options *options, struct tree **ret_tree) {
    struct tree *tree = calloc(1, sizeof(*tree));
    if (!tree) {
        return ERR_NOMEM;
    }
    tree->catalog = options->catalog;
    struct app_limits quota = {.disk_bytes = options->disk_bytes,
                               .disk_inodes = options->disk_inodes};
    catalog_set_defaults(tree->catalog, &quota);
    pthread_mutex_init(&tree->lock, NULL);
    list_init(&tree->plans_by_age);
    *ret_tree = tree;
    return ERR_OK;
}

enum err tree_set_cloud(struct tree *tree, struct runs *runs, struct file *cloud) {
    tree->cloud = cloud ? file_ref(cloud) : NULL;
    enum err err = dev_devices_new(runs, &tree->devices);
    if (!err) {
        err = dev_env_new(runs, &tree->environment);
    }
    if (!err) {
        err = dev_proc_new(runs, &tree->processes);
    }
    return err;
}

void tree_set_net(struct tree *tree, struct file *net) {
    tree->network = file_ref(net);
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
        struct plan *last = dead ? plan_unref(dead) : NULL;
        pthread_mutex_unlock(&tree->lock);
        if (last) {
            plan_free(last);
        }
    } while (dead);
}

void tree_free(struct tree *tree) {
    if (!tree) {
        return;
    }
    tree_forget(tree, TREE_ALL);
    map_done(&tree->plans);
    file_unref(tree->cloud);
    file_unref(tree->devices);
    file_unref(tree->environment);
    file_unref(tree->network);
    file_unref(tree->processes);
    pthread_mutex_destroy(&tree->lock);
    free(tree);
}
