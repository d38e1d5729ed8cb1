/* What a run has changed, as JSON. Layer: run. */
#pragma once

#include "run/run.h"

/* `"changed":["/a","/dir/"]`, and where there is something to say `,"removed":["/b"]` and
 * `,"changed_more":true`, appended: members of an object. */
MUST_USE enum err run_changes_json(struct run *run, struct buf *text);
