/* The query parameters of /run as a struct run_request. Layer: run. */
#pragma once

#include "api/api.h"
#include "run/run_parameters.h"

struct run_options {
    struct run_request request;        /* borrows from here and from the request's query */
    struct app *app;                   /* a reference */
    struct app_version *older_version; /* found by run_options_find_version; owned */
    struct run_parameters parameters;
};

/* On failure the request has been answered. `*ret_options` must be given to run_options_done in
 * any case. */
MUST_USE enum err run_options_parse(struct request *request, struct run_options *ret_options);
/* Polled, with request->op: finds the version that was asked for. On failure the request has been
 * answered. At once if none was. */
MUST_USE enum err run_options_find_version(struct request *request, struct run_options *options);
void run_options_done(struct run_options *options);
