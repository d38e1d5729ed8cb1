/* A union of layers: one tree out of several, the topmost writable, the others never changed.
 *
 * A name is looked for from the top down. The first layer that has it decides; directories of the
 * same name are merged. What is removed but still in a layer below is covered by a whiteout
 * (FILE_WHITEOUT) in the top layer; a directory that is made where a whiteout was is opaque: it
 * holds a whiteout named UNION_OPAQUE_NAME, and what lies below it stays hidden. Names that begin
 * with UNION_RESERVED_PREFIX are the union's own in every layer: they can't be seen, and making
 * them is INVAL.
 *
 * A file of a lower layer is copied to the top at its first open for writing (also set_size,
 * set_times, link, rename), in bounded pieces, under a reserved name that is renamed at the end.
 * Those who hold the file see the copy from then on. To rename a directory of which a lower layer
 * has a part is XDEV (as in overlayfs): mv(1) and its like then copy.
 *
 * Inodes are unique in the union and stay the same when a file or directory is copied up, for as
 * long as the union lives. One exception: a name of a file that has several in a lower layer gets
 * an inode of its own when it is copied, as the copy is a file of its own.
 *
 * Changes go on to their end when the op that began them is abandoned, and are done one after the
 * other in each union. Other users of the top layer may change it at the same time, also by
 * another union.
 *
 * The layers' files must be their own open files (dev->open returns the same file).
 *
 * Thread: guards itself; polled through child ops. Layer: ns. */
#pragma once

#include "ns/dev.h"

#define UNION_LAYERS_MAX 8
#define UNION_RESERVED_PREFIX ".\x01"
#define UNION_OPAQUE_NAME UNION_RESERVED_PREFIX "opaque"

/* `layers`: the roots, topmost first, 1 to UNION_LAYERS_MAX; a reference of each is taken.
 * `writable`: layers[0] may be changed; else every change is ROFS. `*ret_root`: a reference for the
 * caller; the union lives as long as one of its files. One allocation. NOMEM. */
MUST_USE enum err union_new(struct file *const *layers, size_t layer_count, bool writable,
                            struct file **ret_root);
