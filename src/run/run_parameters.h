/* The parameters of a run as text: those of POST /run, which come from a query, and of
 * /apps/NAME/start, which come a line each. Thread: the caller's. Layer: run. */
#pragma once

#include "run/run.h"

/* All zero before the first is added. Texts are borrowed. */
struct run_parameters {
    struct run_request request; /* without what is a list */
    uint32_t version_number;    /* 0: the current one */
    struct run_parameters_list {
        struct str *texts; /* owned */
        size_t count, capacity;
    } arguments, environment, tags, net;
    uint32_t seen; /* of those that count once: bits by row */
};

/* NOENT, without a message, if there is none of this name; INVAL if it can't have this value, or
 * may be given once and was; 2BIG: more of them than a run may have. */
MUST_USE enum err run_parameters_add(struct run_parameters *parameters, struct str name,
                                     struct str value, struct buf *message);
/* The request that they make; it borrows from them. `app` and `version` are the caller's. */
void run_parameters_request(const struct run_parameters *parameters,
                            struct run_request *ret_request);
void run_parameters_done(struct run_parameters *parameters);
/* The names that there are, by number, for a message; NULL behind the last one. */
const char *run_parameters_name(size_t index);
