/* The three forms in which the output of a run is answered: as it is, as events (NDJSON), as one
 * JSON result. All of them read the run's record of output piece by piece.
 *
 * Thread: the loop of the exchange. Layer: run, http. */
#pragma once

#include "api/api.h"

struct run_answer;

struct run_answer_options {
    struct run *run;  /* a reference is taken */
    uint64_t from;    /* offset in the sequence of all bytes of both streams */
    unsigned streams; /* RUN_STDOUT | RUN_STDERR */
    bool attached;    /* the run waits for this reader when it is too far behind; one that
                         can't be started is answered as a failed request */
    bool follow;      /* until the run has ended; else only what is there now. Not for JSON. */
    bool input_comes; /* until run_answer_input_ended, see there */
    enum request_accept form;
};
/* Answers `request` with the output of a run. Uses request->op. Call run_answer_free in the
 * handler's `end`, and run_answer_step in its `step`. A JSON result begins only when the run has
 * ended. NOMEM: nothing was answered. */
MUST_USE enum err run_answer_start(struct request *request,
                                   const struct run_answer_options *options,
                                   struct run_answer **ret_answer);
void run_answer_step(struct run_answer *answer);
/* With `input_comes`, the rest of the request's body is the run's input: the answer begins when
 * there is output, the run does not wait for its reader (who may send all before it reads any), and
 * the answer does not end: until this is called. Text and events only. */
void run_answer_input_ended(struct run_answer *answer);
void run_answer_free(struct run_answer *answer); /* accepts NULL */
