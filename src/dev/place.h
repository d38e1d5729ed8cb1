/* Writes the files of one tree over those of another: what a run was given as files, into the
 * volume at its root.
 *
 * First each is written whole, under a hidden name (ns/temporary.h), and it is looked whether its
 * place can be had; then directories that are missing are made and all get their names. Until then
 * whoever gives it up, or a failure, leaves nothing. Several may place files
 * in one tree at a time, in the same directories too. Only what others put in the way in this last
 * moment (a directory where a file goes, a file where a directory goes), take away, or fill up, can
 * leave half of it: that is not taken back, as names may have replaced others by then, or have been
 * replaced. Symbolic links on the way are followed inside the tree; one at the
 * end is replaced.
 *
 * Thread: the op's loop. Layer: ns. */
#pragma once

#include "ns/ns.h"

struct place;

/* `from`: a directory of a device that never waits (ns/memory.h), at most 128 levels deep. Acts for
 * `op`'s who, and wakes it. References are taken. NOMEM. */
MUST_USE enum err place_new(struct op *op, struct file *from, struct file *to,
                            struct place **ret_place);
/* Polled. On failure the message names the path. */
MUST_USE enum err place_step(struct place *place, struct buf *message);
void place_free(struct place *place); /* accepts NULL */
