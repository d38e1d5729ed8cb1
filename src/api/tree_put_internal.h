/* PUT in the tree (tree_put.c): what its parts share; nobody else includes this. */
#pragma once

#include "api/archive.h"
#include "api/first_argument.h"
#include "api/tree.h"
#include "api/upload.h"
#include "ns/temporary.h"

enum stage {
    STAGE_PARENTS, /* walks to the directory, making what is missing */
    STAGE_TARGET,  /* what is there now? */
    STAGE_STAT,
    STAGE_SWEEP,  /* what a crash left in the directory goes */
    STAGE_CREATE, /* the file that is written: beside the target, or the target itself */
    STAGE_OPEN,
    STAGE_BODY,
    STAGE_SYNC,
    STAGE_RENAME,
    STAGE_COMMIT,
    STAGE_LOOK,   /* an app's arguments: is the first one a file? */
    STAGE_UPLOAD, /* ?unpack: the archive comes in */
    STAGE_UNPACK,
    STAGE_CLEAN, /* failed: removes the temporary file, then answers */
    STAGE_ANSWERED,
};

struct tree_put {
    struct request *request;
    enum stage stage;
    struct str rest;           /* of the path: what was not walked yet */
    struct ns_place directory; /* so far */
    struct ns_walk walk;
    struct ns_place child;
    unsigned collisions;
    bool creating; /* the next component is not there and is being made */
    bool is_short; /* the way ended before the last directory: what is missing is made at the end */
    bool has_come; /* the body, as a whole */
    struct file *beside_in; /* where the temporary file is; a reference */
    struct file *made;
    struct str name; /* the last component */
    bool exists;
    struct file_stat stat;   /* of the target, if it exists */
    struct file_stat missed; /* what was looked for and not found when it was renamed; all zero */
    bool as_link;            /* the name is a link, which is replaced whatever it leads to */
    bool beside;             /* written beside the target, then renamed */
    char temporary[NS_TEMPORARY_SIZE];
    bool temporary_is_there; /* or may be: it was asked for */
    struct ns_sweep *sweep;
    struct file *opened;
    uint64_t length;     /* of the body; UINT64_MAX: not said */
    uint64_t offset;     /* so much is written */
    struct buf gathered; /* what comes behind that, from `gathered_at` on; empty as a rule */
    size_t gathered_at;
    size_t gathered_room; /* of the whole; counted in api->gathered_bytes; 0: nothing is gathered */
    bool body_waits, body_ended;
    enum err failure; /* while STAGE_CLEAN is under way */
    struct upload upload;
    struct unpack *unpack;
    struct unpack_result unpacked;
    struct app *app; /* whose arguments these may be; a reference */
    struct first_argument first_argument;
};

/* ---- tree_put_body.c: how the body comes into the file ---- */

/* The end of what was taken of the body. */
uint64_t tree_put_taken_end(const struct tree_put *put);
/* Polled. Gathers or writes some of a piece. */
MUST_USE enum err tree_put_take(struct tree_put *put, const uint8_t *data, size_t length,
                                size_t *ret_taken);
/* Polled. Writes what is gathered, if anything is. */
MUST_USE enum err tree_put_write_gathered(struct tree_put *put);
/* Lets go of what is gathered. */
void tree_put_end_gathering(struct tree_put *put);

/* ---- tree_put_arguments.c: what is told of an app's arguments ---- */

/* Polled, once they are on disk. */
MUST_USE enum err tree_put_look(struct tree_put *put);
/* Whether the answer was given: if the first one leads nowhere. */
bool tree_put_tell(const struct tree_put *put);
void tree_put_end_look(struct tree_put *put);
