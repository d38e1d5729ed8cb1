/* /dev: the small devices that programs expect, and ours (docs/tree/dev.md).
 *
 * One root serves all runs: whose standard streams and log are meant follows from the op.
 * Thread: any loop's. Layer: ns, run. */
#pragma once

#include "run/run.h"

/* A reference for the caller. `runs` is borrowed: it outlives every file. */
MUST_USE enum err dev_devices_new(struct runs *runs, struct file **ret_root);
/* Lines that were written to `metric`, by all runs since `root` was made. Thread: any. */
uint64_t dev_devices_metric_lines(const struct file *root);
