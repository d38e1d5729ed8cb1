/* The three forms in which the output of a run is answered: as it is, as events (NDJSON), as one
 * JSON result. All of them read the run's record of output piece by piece.
 *
 * Thread: the loop of the exchange. Layer: run, http. */
#pragma once

#include "api/api.h"

struct run_answer;

/* Answers `request` with the output of `run` from `from` on, until the run has ended. `attached`:
 * the run waits for this reader when it is too far behind. Uses request->op. The answer takes a
 * reference to the run. Call run_answer_free in the handler's `end`, and run_answer_step in its
 * `step`. A JSON result begins only when the run has ended. */
MUST_USE enum err run_answer_start(struct request *request, struct run *run, uint64_t from,
                                   bool attached, enum request_accept form,
                                   struct run_answer **ret_answer);
void run_answer_step(struct run_answer *answer);
void run_answer_free(struct run_answer *answer); /* accepts NULL */
