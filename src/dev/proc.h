/* /proc: the tree of runs, those that run and those that ended lately (docs/tree/proc.md).
 *
 * One root serves the control door, which sees the runs of its owner, and guests, which see
 * themselves (also as `self`) and the runs that they started. To anybody else a run does not exist.
 *
 * Thread: any loop's. Layer: ns, run. */
#pragma once

#include "run/run.h"

#include <jansson.h>

/* A reference for the caller. `runs` is borrowed: it outlives every file. */
MUST_USE enum err dev_proc_new(struct runs *runs, struct file **ret_root);

/* What /proc/ID/status and usage hold, appended: lines "key: value". */
MUST_USE enum err dev_proc_status_text(struct run *run, struct buf *text);
MUST_USE enum err dev_proc_usage_text(struct run *run, struct buf *text);
/* What it has changed, appended: lines "changed /PATH" and "removed /PATH"; "more" if there is more
 * than is known. */
MUST_USE enum err dev_proc_changed_text(struct run *run, struct buf *text);
/* The same as an object, for the caller to decref; NULL without memory. */
json_t *dev_proc_status_json(struct run *run);
/* One line that says how a run ended: "exit 0\n", "cpu 137\n". What /proc/ID/wait gives. */
MUST_USE enum err dev_proc_end_text(struct run *run, struct buf *text);
/* Does what a verb of /proc/ID/ctl says; INVAL if there is none of that name. */
MUST_USE enum err dev_proc_control(struct run *run, struct str verb);
bool dev_proc_is_verb(struct str verb);
/* NOENT, and why a run has no core dump, or else no trace. */
MUST_USE enum err dev_proc_fail_missing(struct run *run, bool is_core, struct buf *message);
/* Whether a run exists for `who`. */
bool dev_proc_may_see(const struct who *who, const struct run *run);
