/* /env: the environment of the run that looks, a read-only file a variable (docs/tree/env.md).
 *
 * One root serves all runs: whose variables are meant follows from the op. The control door sees an
 * empty directory. Thread: any loop's. Layer: ns, run. */
#pragma once

#include "run/run.h"

/* A reference for the caller. `runs` is borrowed: it outlives every file. */
MUST_USE enum err dev_env_new(struct runs *runs, struct file **ret_root);
