/* What tree.c and tree_plan.c share; nobody else includes this. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "dev/tree.h"

#include <pthread.h>

enum { MODE_MAX = APP_NAME_MAX };

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
    bool is_first;   /* only one run has had it, or has it: the one that it was built for */
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
    uint64_t tmp_bytes, top_bytes, inodes;
    bool is_shared; /* others may hold its root, and write there when its run is long over */
    struct run_tree *next;
};

struct tree {
    struct catalog *catalog;
    struct file *cloud, *devices, *environment, *network, *processes;
    pthread_mutex_t lock;
    struct map plans;
    struct list plans_by_age;
};

/* ---- tree_plan.c ---- */

/* How many files /tmp and the layer of root=fresh may have, each. */
uint64_t tree_inodes_max(const struct run_limits *limits);

/* A plan for a run, a reference: one that is there or a new one. Polled. If one is idle,
 * `*ret_idle` gets a tree of it; NULL: not wanted. */
MUST_USE enum err tree_plan_get(struct tree *tree, struct op *op, struct run *run,
                                struct run_tree **ret_idle, struct plan **ret_plan,
                                struct buf *message);
void tree_plan_drop(struct tree *tree, struct plan *plan);
/* The sessions that the run sees are used now. `begins`: it does, so the one at its root has the
 * ttl that it or its app says. */
void tree_plan_use(struct tree *tree, const struct run *run, const struct plan *plan, bool begins);
/* The run that a plan was built for does not begin: takes back the volume that was made for its
 * root, if it was and nobody else has been there. Polled. */
MUST_USE enum err tree_plan_undo(struct tree *tree, struct op *op, struct plan *plan);
/* With the lock: returns the plan if it has to be freed, without the lock. */
MUST_USE struct plan *tree_plan_unref(struct plan *plan);
/* With the lock: takes the oldest plan out if there are too many, or if its time is over. */
MUST_USE struct plan *tree_plan_expire(struct tree *tree, uint64_t now_ns);
/* Without the lock: the last reference of a volume may have work to do. */
void tree_plan_free(struct plan *plan);
void tree_run_free(struct run_tree *run_tree);
/* Whether the files that a run was given are its topmost layer, and not written to a volume. */
bool tree_has_layer_of_files(const struct run *run);
/* Of the layer of root=fresh: it is memory, however large the app's disk may be. */
uint64_t tree_top_bytes_max(const struct run_limits *limits);
