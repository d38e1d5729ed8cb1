/* What the files of the union share: union.c has nodes and the device's table, union_lookup.c finds
 * and lists names, union_job.c runs changes and copies up, union_change.c has the changes.
 * Layer: ns, private. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "ns/union.h"

#include <pthread.h>

#define UNION_NAME_MAX 255

/* A union; freed with its last node. */
struct union_fs {
    pthread_mutex_t mutex; /* guards what is below, and in nodes what is said there */
    struct map aliases;    /* struct union_alias by the inode in the top layer */
    bool busy;             /* a change is under way */
    bool has_queue;        /* `queue` has been made: somebody had to wait */
    struct op_queue queue; /* changes that wait for `busy` to go */
    /* constant: */
    uint64_t device;
    size_t layer_count;
    bool writable;
    struct union_node *root; /* allocated with the union */
    atomic_size_t nodes;     /* that exist */
};

/* A copied file keeps the inode that it had. */
struct union_alias {
    struct map_node map_node;
    uint64_t top_inode, inode;
};

/* A name somewhere in the union, as long as anybody holds it. All who hold it share it, so that a
 * copy-up is seen by all. */
struct union_node {
    struct file file;
    struct union_fs *fs;
    _Atomic(struct file *) top; /* in layer 0: a reference; set once */
    /* guarded by the mutex; `parent` and `name` change in jobs only, which may read them without */
    struct union_node *parent; /* a reference; NULL: the root */
    struct str name;
    char *renamed_name;   /* owns `name` after a rename; else it lies behind the node */
    struct list link;     /* among the parent's children; empty: removed or replaced */
    struct list children; /* of a directory: nodes that are alive */
    atomic_bool removed;  /* the name leads here no more */
    /* constant: */
    struct file *lower[]; /* by layer (0 is not used): references; of a directory all that are
                             merged, of anything else at most one */
};

static inline struct union_node *union_node_of(struct file *file) {
    return CONTAINER_OF(file, struct union_node, file);
}
static inline struct file *union_top(struct union_node *node) {
    return atomic_load_explicit(&node->top, memory_order_acquire);
}
static inline struct file *union_layer(struct union_node *node, size_t layer) {
    return layer == 0 ? union_top(node) : node->lower[layer];
}
/* What answers for the node: its topmost file. Not NULL. */
struct file *union_actual(struct union_node *node);
/* Whether a lower layer has a part in it. */
bool union_has_lower(const struct union_node *node);
bool union_is_reserved(struct str name);
/* The union's inode for one of a layer. */
uint64_t union_inode(struct union_fs *fs, size_t layer, uint64_t inode);

/* A name looked up in all layers. Zero it first; `_done` at the end. */
struct union_lookup {
    size_t layer;     /* the next one to look in */
    bool marker_seen; /* in that one, the name is an opaque directory */
    bool settled;     /* nothing further down is visible */
    bool settled_below;
    uint8_t type;     /* of what is visible; FILE_UNKNOWN: nothing is */
    struct file *top; /* what layer 0 has, a whiteout too; a reference or NULL */
    struct file *found[UNION_LAYERS_MAX]; /* references: what makes it up */
    bool covers;                          /* a layer below the top shows the name (if asked for) */
};
/* Polled by `op`, which is the caller's own (a child, or a job's). Finding nothing is OK, with
 * FILE_UNKNOWN. `below`: also sets `covers`. */
MUST_USE enum err union_look_up(struct op *op, struct union_lookup *lookup,
                                struct union_node *directory, struct str name, bool below);
void union_lookup_done(struct union_lookup *lookup);
/* The node for what was found, a reference: the one that is alive, or a new one. */
MUST_USE enum err union_node_get(struct union_node *directory, struct str name,
                                 const struct union_lookup *lookup, struct union_node **ret_node);
/* The name leads to nothing, or to something else, from now on. */
void union_forget(struct union_node *directory, struct str name);
/* Takes over the reference: the node has a file in the top layer now. */
void union_set_top(struct union_node *node, struct file *top);

/* A directory listed over all its layers. Zero it first; `_done` at the end. */
struct union_item;
struct union_listing {
    size_t layer; /* the next one to list */
    struct dir_list lists[UNION_LAYERS_MAX];
    struct union_item *items; /* all entries, sorted by name, then by layer */
    size_t count, at;         /* `at`: the first one of the name being merged */
    size_t last;              /* the lowest one that is known to be part of that directory */
    bool gathered;
    struct dir_list result;
};
/* Polled as above; the result is in `listing->result`, sorted by name if there is more than one
 * layer. */
MUST_USE enum err union_list(struct op *op, struct union_listing *listing,
                             struct union_node *directory);
void union_listing_done(struct union_listing *listing);

/* A change of the union: has an op of its own and goes on when the op that began it is abandoned,
 * so that nothing is left half done. One at a time in each union. Thread: the op's loop. */
struct union_job {
    struct op op;
    struct op *owner; /* NULL after it was abandoned */
    struct who who;   /* a copy: the owner's may go first */
    struct union_fs *fs;
    enum err (*run)(struct union_job *job); /* polled by `op` */
    bool has_turn, is_starting, is_finished;
    enum err result;
    struct file *ret_file; /* what was made; a reference */

    /* arguments: references and copies */
    struct union_node *directory, *new_directory, *node;
    char name[UNION_NAME_MAX], new_name[UNION_NAME_MAX];
    size_t name_length, new_name_length;
    enum file_type type; /* of what is made */
    struct buf target;   /* of a symbolic link that is made or copied */
    bool truncate;       /* nothing of the content need be copied */
    bool directory_wanted;

    /* progress */
    unsigned phase, copy_phase, clear_phase;
    bool top_exists; /* a directory that is to be made in the top layer is there */
    struct union_lookup lookup, new_lookup;
    struct union_listing listing;
    bool has_rested;                            /* after a long listing */
    struct union_node *source, *replaced;       /* of a rename or remove; references */
    char *renamed_name;                         /* for the node's name after a rename */
    char temporary_name[40], whiteout_name[40]; /* reserved names in use; empty: none */
    struct file *made;                          /* under the temporary name; a reference */
    struct file *cleared;                       /* a directory that is being emptied; a reference */
    struct dir_list whiteouts;
    size_t whiteout_at;
    struct file_stat stat; /* of the file that is copied */
    uint8_t *piece;        /* what is being copied */
    size_t piece_length, piece_written;
    uint64_t copied;
    enum err failure; /* while cleaning up: what is returned at the end */
};
static inline struct str union_job_name(const struct union_job *job) {
    return (struct str){job->name, job->name_length};
}
static inline struct str union_job_new_name(const struct union_job *job) {
    return (struct str){job->new_name, job->new_name_length};
}
/* Begins a job for `op`: sets its directory and name (which is checked), the caller sets the rest.
 * ROFS if the union isn't writable. */
MUST_USE enum err union_job_new(struct op *op, struct union_node *directory, struct str name,
                                enum err (*run)(struct union_job *job), struct union_job **ret_job);
void union_job_free(struct union_job *job);
/* Hands the job over to `op` and runs it. */
enum err union_job_start(struct op *op, struct union_job *job, struct file **ret_file);
/* The job that `op` waits for, or NULL. */
struct union_job *union_job_of(struct op *op);
/* Its result, or PENDING; ends the job. `ret_file` may be NULL. */
MUST_USE enum err union_job_poll(struct op *op, struct file **ret_file);

/* Steps of jobs, polled. */
/* Makes the directory, and those above it, in the top layer. */
MUST_USE enum err union_ensure_top(struct union_job *job, struct union_node *directory);
/* Copies a file that is no directory to the top layer. */
MUST_USE enum err union_copy_up(struct union_job *job, struct union_node *node);
/* Makes a whiteout; `directory` is one of the top layer. */
MUST_USE enum err union_make_whiteout(struct union_job *job, struct file *directory,
                                      struct str name);
/* Removes the directory `name` from one of the top layer, with the whiteouts in it. What another
 * user has put there meanwhile stays, out of sight. */
MUST_USE enum err union_clear_directory(struct union_job *job, struct file *parent,
                                        struct str name);
/* NOTEMPTY if the directory that `node` is has visible names. */
MUST_USE enum err union_check_empty(struct union_job *job, struct union_node *node);
void union_make_reserved_name(char name[static 40]);

/* Ends a phase of a job and goes on with the next `case`. */
#define NEXT_PHASE(job)                                                                            \
    (job)->phase++;                                                                                \
    __attribute__((fallthrough))

/* The changes: what `run` of a job is. */
enum err union_run_copy(struct union_job *job);
enum err union_run_make(struct union_job *job);
enum err union_run_remove(struct union_job *job);
enum err union_run_rename(struct union_job *job);
