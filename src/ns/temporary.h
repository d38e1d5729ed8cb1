/* Files that are written beside their targets until they are whole: their names, and removing one
 * that its maker can't remove any more.
 *
 * Such names are the server's own: walks in a namespace don't find them, its listings and archives
 * leave them out. Only who has the directory's file sees them. Layer: ns. */
#pragma once

#include "ns/dev.h"

/* A fresh name. It tells which life of the server made it, so that the next one knows it for a
 * leftover. */
#define NS_TEMPORARY_SIZE 40
void ns_temporary_name(char name[NS_TEMPORARY_SIZE]);
/* Whether a name is of that form, whoever made it. */
bool ns_is_temporary(struct str name);
/* Whether a component of the path is. */
bool ns_has_temporary(struct str path);
/* Whether it is and an earlier life made the name. */
bool ns_is_leftover(struct str name);
/* Polled. Removes what an earlier life left in a directory; `*sweep` is NULL at first. What can't
 * be removed stays. */
struct ns_sweep;
MUST_USE enum err ns_sweep_step(struct op *op, struct file *directory, struct ns_sweep **sweep);
void ns_sweep_free(struct ns_sweep *sweep); /* accepts NULL */
/* Removes a file though the op that made it ends now; on behalf of the same `who`. */
void ns_remove_later(const struct op *op, struct file *directory, struct str name);
/* Whether such removals are under way: their loops must go on until there are none, or the files
 * stay, and so do the volumes that they are in. Thread: any. */
bool ns_has_removals(void);
