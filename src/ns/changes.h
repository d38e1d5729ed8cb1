/* What happened to the names of a tree: a bounded set of paths, each with whether something is
 * there now that was made or opened for writing, or is there no more.
 *
 * A path is absolute ("/a/b"). What was made and removed again leaves nothing. Beyond the bounds
 * changes are not noted; the set says that there are more.
 *
 * A set is made by the first change. Thread: the owner's. Layer: base. */
#pragma once

#include "base/buf.h"

enum {
    CHANGES_MAX = 1000,             /* paths */
    CHANGES_BYTES_MAX = 256 * 1024, /* of them together */
};

enum change_flags {
    CHANGE_IS_NEW = 1 << 0,    /* nothing was there before */
    CHANGE_DIRECTORY = 1 << 1, /* it is one */
    CHANGE_WHOLE = 1 << 2,     /* a directory that came with all that is in it */
    CHANGE_REMOVED = 1 << 3,
};

struct changes;

/* What was changed is at `path` now; `flags`: all but CHANGE_REMOVED. `*set` is NULL at first. */
void changes_made(struct changes **set, struct str path, unsigned flags);
void changes_removed(struct changes **set, struct str path);
/* `flags`: CHANGE_DIRECTORY. */
void changes_renamed(struct changes **set, struct str from, struct str to, unsigned flags);
/* There was a change that can't be noted. */
void changes_lost(struct changes **set);
void changes_free(struct changes *set); /* accepts NULL */

/* All of the following accept NULL, which is a set without changes. */
size_t changes_count(const struct changes *set);
bool changes_has_more(const struct changes *set);
size_t changes_bytes(const struct changes *set); /* of memory, about */
/* Puts them in the order of their paths, for the calls below; nothing is noted any more then. */
void changes_sort(struct changes *set);
/* By place in that order. Borrowed. */
struct str changes_path(const struct changes *set, size_t index, unsigned *ret_flags);
/* Whether a path is among those that are there, above one of them, or in a directory that came as a
 * whole. */
bool changes_select(const struct changes *set, struct str path);
