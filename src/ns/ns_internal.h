/* What ns.c and ns_walk.c share. Layer: ns, private. */
#pragma once

#include "ns/ns.h"

/* A node of the tree of mount points: something is mounted here, or below. */
struct ns_mount {
    struct ns_mount *first_child, *next_sibling;
    struct file *root;    /* what is mounted here, a reference; NULL: only on the way to one */
    struct file *missing; /* on the way: shown where the device has no such directory */
    struct str name;      /* allocated with the node */
};

/* The child with this name, or NULL; `mount` may be NULL. */
const struct ns_mount *ns_mount_child(const struct ns_mount *mount, struct str name);
/* The place that a walk by one name into `child` gives: `found` is what the parent's device has
 * there (its reference is taken over) or NULL. */
struct ns_place ns_mount_enter(const struct ns_mount *child, struct file *found);
