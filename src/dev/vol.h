/* /vol: the volumes that apps share, by name; in each, its services, for now files, and its status
 * (docs/tree/vol.md).
 *
 * The control door sees all, makes one by making the directory /vol/NAME, and removes one with all
 * that is in it by removing that. A guest sees those
 * that its app's configuration mounts, read-only where the mount is.
 *
 * Thread: any loop's. Layer: ns, store. */
#pragma once

#include "ns/dev.h"
#include "store/catalog.h"

struct tree;
/* A reference for the caller. `catalog` is borrowed: it outlives every file; so is `tree` (which
 * may be NULL), told when a volume is removed. */
MUST_USE enum err dev_vol_new(struct catalog *catalog, struct tree *tree, struct file **ret_root);
