/* A namespace: a tree of mounted devices, and walking paths in it.
 *
 * Paths are resolved here, component by component, and nowhere else: `..`, symbolic links, mount
 * points. A walk takes as many names at once as it can, so that a path inside a volume is one call.
 *
 * Rules (notes in docs/tree/, tests in ns_walk_test.c):
 * - A path is relative to a directory and never leaves it: a `..` above it, also by a symbolic
 * link, is PERM; an absolute path or a link with an absolute target is PERM.
 * - Empty: NOENT. More than 4,096 bytes or a component of more than 255: NAMETOOLONG. Not UTF-8:
 *   ILSEQ. A NUL: INVAL (ILSEQ where it is not UTF-8 either). More than 40 links: LOOP.
 * - A trailing slash means "must be a directory" and follows a last symbolic link; but in devices
 *   whose names are not those of files (`takes_slash`) it belongs to the name.
 * - `x/..` and `x/.` need x to be a directory.
 * - A name of ns/temporary.h is NOENT, whatever is there, also where it is to be made.
 *
 * A namespace is built when a run starts and not changed afterwards. Thread: the builder's; then
 * read-only. Layer: loop. */
#pragma once

#include "ns/dev.h"

struct ns;
struct ns_mount; /* a place in the tree of mount points */

/* A directory as seen through a namespace: the file and, where mounts lie at or below it, the place
 * in the tree of mount points. */
struct ns_place {
    struct file *file;            /* a reference */
    const struct ns_mount *mount; /* borrowed from the namespace; NULL: no mount point below */
};
void ns_place_done(struct ns_place *place);

/* `root` is what `/` shows (takes a reference of its own). */
MUST_USE enum err ns_new(struct file *root, struct ns **ret_ns);
/* References, because open directories and operations outlive what made the namespace. */
struct ns *ns_ref(struct ns *ns);
void ns_unref(struct ns *ns);
/* Shows `root` (its own reference is taken) at `path`, an absolute path of at most 8 components.
 * Missing directories on the way are shown though no device has them. EXIST: something is mounted
 * there. */
MUST_USE enum err ns_mount(struct ns *ns, struct str path, struct file *root);
/* The root as a place, a reference for the caller. */
struct ns_place ns_root(struct ns *ns);

enum ns_walk_flags {
    NS_FOLLOW = 1 << 0, /* follow a symbolic link at the last component */
    NS_PARENT = 1 << 1, /* stop before the last component: for create, remove, rename. With
                           NS_FOLLOW: a link at the last component is followed even where it
                           dangles, and the result is the directory and the name that it leads to
                           (open with O_CREAT) */
};

/* A walk on its way. Lives in the caller's state; zero it before the first call. */
struct ns_walk {
    void *state; /* ns's; NULL when no walk is under way */
};
struct ns_walk_result {
    struct ns_place place; /* what was found; with NS_PARENT the directory that holds `name` */
    struct str name;       /* NS_PARENT: the last component; borrowed from the walk's state, valid
                              until ns_walk_done */
    bool directory_wanted; /* the path ended in a slash (or in . or ..) */
    bool is_mount_point;   /* NS_PARENT: something is mounted at `name`, or below it: it can be
                              neither removed, renamed, nor replaced (BUSY), and to create it
                              is EXIST */
};
/* Polled. With NS_PARENT a path that is or ends in `.`, `..` or is `/`-only is INVAL for PARENT
 * (rmdir of "."), and the last component need not exist. The path is copied at the first call. */
MUST_USE enum err ns_walk(struct op *op, struct ns_walk *walk, struct ns *ns,
                          const struct ns_place *start, struct str path, unsigned ns_walk_flags,
                          struct ns_walk_result *ret_result);
/* Ends a walk at any moment; frees what the result borrowed (not result->place). Harmless on one
 * that is zero. */
void ns_walk_done(struct ns_walk *walk);
/* One more step from a parent found with NS_PARENT: the child `name` of `parent` with its mount,
 * without following links. Polled. NOENT. */
MUST_USE enum err ns_step(struct op *op, struct ns *ns, const struct ns_place *parent,
                          struct str name, struct ns_place *ret_child);

/* The entries of a place: first `.` and `..` (whose inode is the directory's own, as a place does
 * not know its parent), then the device's, with the mount points in it. Whiteouts are left out, and
 * names of ns/temporary.h; those of an earlier life are removed (ns_remove_later). Polled. */
MUST_USE enum err ns_readdir(struct op *op, struct ns *ns, const struct ns_place *place,
                             struct dir_list *ret_list);
