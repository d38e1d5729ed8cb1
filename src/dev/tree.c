#include "dev/tree_internal.h"

#include "base/clock.h"
#include "dev/devices.h"
#include "dev/env.h"
#include "dev/place.h"
#include "dev/proc.h"
#include "ns/memory.h"
#include "ns/temporary.h"
#include "ns/union.h"

enum {
    IDLE_MAX = 64,     /* namespaces of one plan that wait for their next run */
    INODE_BYTES = 512, /* of memory, about, with its name */
};

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

/* What the run sees at its root. */
static enum err make_root(const struct plan *plan, const struct run *run,
                          struct run_tree *run_tree) {
    if (plan->root) {
        run_tree->root = file_ref(plan->root);
        return ERR_OK;
    }
    struct memory_options options = {
        .bytes_max = tree_top_bytes_max(run_limits(run)),
        .inodes_max = tree_inodes_max(run_limits(run)),
    };
    bool writable = true;
    if (tree_has_layer_of_files(run)) {
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
    run_tree->top_bytes = tree_top_bytes_max(limits);
    run_tree->inodes = tree_inodes_max(limits);
    struct memory_options tmp = {.bytes_max = limits->tmp_bytes, .inodes_max = run_tree->inodes};
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
        tree_run_free(run_tree);
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
    bool reused = as_new && !run_tree->is_shared && plan->is_cached && plan->idle_count < IDLE_MAX;
    if (reused) {
        run_tree->next = plan->idle;
        plan->idle = run_tree;
        plan->idle_count++;
    }
    struct plan *dead = tree_plan_unref(plan);
    expired = tree_plan_expire(tree, clock_monotonic_coarse_ns());
    pthread_mutex_unlock(&tree->lock);
    if (!reused) {
        tree_run_free(run_tree);
    }
    if (dead) {
        tree_plan_free(dead);
    }
    if (expired) {
        tree_plan_free(expired);
    }
}

/* ---- the files that a run was given, into the volume at its root ---- */

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

struct placing {
    struct op child; /* of the sweep */
    struct ns_sweep *sweep;
    bool is_sweeping;
    struct place *place; /* NULL: what there is room for was not looked at yet */
};

static void drop_placing(struct op *op) {
    struct placing *placing = op->state;
    op_done(&placing->child);
    ns_sweep_free(placing->sweep);
    place_free(placing->place);
    free(placing);
}

static enum err begin_placing(struct op *op, const struct plan *plan, struct placing **ret) {
    struct placing *placing = calloc(1, sizeof *placing);
    if (!placing) {
        return ERR_NOMEM;
    }
    op_init_child(&placing->child, op);
    placing->is_sweeping = volume_begin_sweep(plan->written[0]);
    op_set_state(op, placing, drop_placing);
    *ret = placing;
    return ERR_OK;
}

static enum err placing_step(struct placing *placing, struct op *op, struct run *run,
                             const struct run_tree *run_tree, struct buf *message) {
    if (placing->is_sweeping) {
        enum err err = ns_sweep_step(&placing->child, run_tree->root, &placing->sweep);
        if (err == ERR_PENDING) {
            return err;
        }
        placing->is_sweeping = false; /* what can't be swept keeps nothing from being written */
    }
    if (!placing->place) {
        enum err err = check_room(run_tree->plan, run_files(run), message);
        err = err ? err : place_new(op, run_files(run), run_tree->root, &placing->place);
        if (err) {
            return err;
        }
    }
    return place_step(placing->place, message);
}

static enum err place_files(void *context, struct op *op, struct run *run, void *of_run,
                            struct buf *message) {
    (void)context;
    const struct run_tree *run_tree = of_run;
    if (tree_has_layer_of_files(run)) {
        return ERR_OK; /* they are there */
    }
    struct placing *placing = op->state;
    enum err err = placing ? ERR_OK : begin_placing(op, run_tree->plan, &placing);
    err = err ? err : placing_step(placing, op, run, run_tree, message);
    return err == ERR_PENDING ? err : op_finish(op, err);
}

/* ---- the hooks ---- */

static enum err make_tree(void *context, struct op *op, struct run *run, struct ns **ret_ns,
                          void **ret_tree, struct buf *message) {
    struct tree *tree = context;
    struct run_tree *run_tree = NULL;
    struct plan *plan;
    enum err err = tree_plan_get(tree, op, run, &run_tree, &plan, message);
    if (err) {
        return err;
    }
    if (!run_tree) {
        err = run_tree_new(tree, plan, run, &run_tree, message);
        if (err) {
            tree_plan_drop(tree, plan);
            return err;
        }
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

static void begin_tree(void *context, const struct run *run, void *of_run) {
    tree_plan_use(context, run, ((struct run_tree *)of_run)->plan, true);
}

static enum err undo_tree(void *context, struct op *op, void *of_run) {
    return tree_plan_undo(context, op, ((struct run_tree *)of_run)->plan);
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
    struct run_tree *run_tree = of_run;
    run_tree->is_shared = run_tree->top != NULL;
    return file_ref(run_tree->root);
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
    struct str mode = run_root_mode(run);
    struct volume_session session;
    struct plan *plan;
    /* A volume is not made anew only to be looked at. */
    if (!op->state && !app_is_root_mode(mode) &&
        catalog_volume_session(tree->catalog, mode, &session) != ERR_OK) {
        return ERR_NOENT;
    }
    enum err err = tree_plan_get(tree, op, run, NULL, &plan, NULL);
    if (err) {
        return err;
    }
    tree_plan_use(tree, run, plan, false);
    err = root_of_plan(plan, ret_root);
    tree_plan_drop(tree, plan);
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
                              .place_files = place_files,
                              .begin_tree = begin_tree,
                              .commit_tree = commit_tree,
                              .undo_tree = undo_tree,
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
