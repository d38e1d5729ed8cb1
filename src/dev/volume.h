/* Volumes as files: the device that shows a volume's inodes (store/volume.h) in the tree. Does
 * nothing but hand on; what a file means is said in ns/dev.h and store/volume.h.
 *
 * Thread: any loop's. Layer: ns, store. */
#pragma once

#include "ns/dev.h"
#include "store/volume.h"

/* The root directory of a volume, a reference for the caller; it keeps the volume. `read_only`: all
 * changes through it are refused with ROFS, whatever others may do. */
MUST_USE enum err dev_volume_root(struct volume *volume, bool read_only, struct file **ret_root);
