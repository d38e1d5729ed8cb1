/* /apps: the apps, their settings, files, logs and versions (docs/tree/apps.md).
 *
 * The control door sees and changes those of its owner. A guest sees them listed and what each is
 * (info); of its own app, which is also called `self`, it reads everything, and has the files as
 * at its root.
 *
 * A directory or file is what it was when it was walked to: a snapshot of the app. What is opened
 * for writing (args, env/KEY, config) is gathered and applied whole by sync; what was not synced is
 * dropped.
 *
 * Thread: any loop's. Layer: ns, store, run. */
#pragma once

#include "dev/service.h"
#include "ns/dev.h"
#include "run/alarms.h"
#include "run/run.h"
#include "store/applog.h"
#include "store/catalog.h"

/* As dev_root_peek_file, of the root of this device. */
MUST_USE enum err dev_apps_peek_file(struct op *op, struct file *apps, const struct app *app,
                                     struct str name, struct file **ret_file);
/* A reference for the caller. What is handed in is borrowed: it outlives every file. `logs` may be
 * NULL: then logs are empty; `runs` too: it is told of apps that are removed; and `alarms`: then
 * none can be set; and `services`. */
MUST_USE enum err dev_apps_new(struct catalog *catalog, struct applog_set *logs, struct runs *runs,
                               struct alarms *alarms, struct services *services,
                               struct file **ret_root);
