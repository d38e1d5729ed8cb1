/* The tree that a run sees: what its version brought, its writable layer, and the mounts around it
 * (docs/tree/). Implements the hooks of run/run.h.
 *
 *   /        the app's volume over the version's layers; root=fresh: memory over both;
 *            root=ro: both, read-only; root=VOLUME: that volume over the layers, made when first
 *            used, for a time (ttl=) or for good
 *   /tmp     in memory, the run's own
 *   /dev /env /net /proc /cloud    shared by all runs: what they show depends on who asks
 *   and the volumes that the app's configuration mounts
 *
 * Whole namespaces are used again: that of a run that has ended goes to the next one of the same
 * app, if nothing of its own (/tmp, and the layer of root=fresh) was ever written. So most runs pay
 * for a tree no more than taking it off a list. What they may share with others they share anyway:
 * the volumes. One that has a volume with a ttl is not used again: what waits would use it.
 *
 * Thread: any. Layer: ns, store, run. */
#pragma once

#include "run/run.h"

struct tree;

struct tree_options {
    struct catalog *catalog;          /* borrowed */
    uint64_t disk_bytes, disk_inodes; /* quota of volumes whose app sets none; 0 = none */
};
MUST_USE enum err tree_new(const struct tree_options *options, struct tree **ret_tree);
/* All its runs are gone. Accepts NULL. */
void tree_free(struct tree *tree);
/* For runs_new. */
struct run_hooks tree_hooks(struct tree *tree);
/* What /cloud, /env, /dev and /proc show, once: before the first run. `cloud` may be NULL; a
 * reference is taken. `runs` is borrowed. NOMEM: no run can start. */
enum err tree_set_cloud(struct tree *tree, struct runs *runs, struct file *cloud);
/* What /net shows, once: before the first run. A reference is taken. Without it there is no /net.
 */
void tree_set_net(struct tree *tree, struct file *net);
/* Lets go of the namespaces that wait for their next run: of an app that was removed, of all, or of
 * those that have a volume that was removed. */
enum { TREE_ALL = 0, TREE_OUTDATED = -1 };
void tree_forget(struct tree *tree, int64_t app_id);
