/* A request body on its way into a temporary file: taken piece by piece, written by a worker, never
 * held whole. Thread: the request's loop. Layer: store, http. */
#pragma once

#include "api/api.h"

struct upload {
    struct request *request;
    struct buf path;    /* of the temporary file; empty after upload_keep */
    int descriptor;     /* -1 = none */
    struct buf filling; /* pieces that came since the worker began with the last ones */
    uint64_t length;    /* bytes taken */
    uint64_t length_max;
    struct op op;    /* of the writing; wakes the upload */
    enum err failed; /* the first failure of writing */
    bool body_paused;
    bool ended; /* all of the body was taken */
    bool done_told;
    void (*done)(struct request *request, enum err err); /* all of it is written, or it failed */
};

/* `done` is called once, after upload_end and the last write, on the loop; or earlier when it fails
 * (FBIG: larger than `length_max`; then what still comes is dropped). */
MUST_USE enum err upload_init(struct upload *upload, struct request *request, uint64_t length_max,
                              void (*done)(struct request *request, enum err err));
/* For the handler's `body` and `body_end`. */
size_t upload_body(struct upload *upload, const uint8_t *data, size_t length);
void upload_end(struct upload *upload);
/* Removes the file unless somebody has taken it (path emptied), closes it. Harmless on zero. */
void upload_done(struct upload *upload);
