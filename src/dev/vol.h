/* /vol: the volumes that apps share, by name; in each, its services: for now files
 * (docs/tree/vol.md).
 *
 * The control door sees all and makes one by making the directory /vol/NAME. A guest sees those
 * that its app's configuration mounts, read-only where the mount is.
 *
 * Thread: any loop's. Layer: ns, store. */
#pragma once

#include "ns/dev.h"
#include "store/catalog.h"

/* A reference for the caller. `catalog` is borrowed: it outlives every file. */
MUST_USE enum err dev_vol_new(struct catalog *catalog, struct file **ret_root);
