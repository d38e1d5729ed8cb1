/* The root of the whole tree, as the control door has it and guests see it at /cloud: apps, proc,
 * and vol, the volumes that apps share (docs/tree/).
 *
 * One root serves everybody: what is seen, and what may be changed, follows from the op's `who`.
 * Thread: any loop's. Layer: ns, store, run. */
#pragma once

#include "run/alarms.h"
#include "run/run.h"

struct tree;
struct services;
struct dev_root_options {
    /* All borrowed: they outlive every file of the tree. */
    struct catalog *catalog;
    struct runs *runs;
    struct applog_set *logs;
    struct alarms *alarms;     /* NULL: none can be set */
    struct services *services; /* may be NULL */
    struct tree *tree;         /* told of volumes that are removed; may be NULL */
};
/* What is at the root of an app's files under this name, where that can be told at once: its volume
 * is open, was used lately, and nobody is in it. AGAIN: else, walk. NOENT. A reference. */
MUST_USE enum err dev_root_peek_file(struct op *op, struct file *root, const struct app *app,
                                     struct str name, struct file **ret_file);
/* A reference for the caller. NOMEM. */
MUST_USE enum err dev_root_new(const struct dev_root_options *options, struct file **ret_root);
