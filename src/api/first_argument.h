/* Whether a version has the file that its app's first argument names: what is made by from= has the
 * program of another app, an interpreter as a rule, whose first argument says what it runs. Where
 * that is missing every run of it fails, which is better known at once.
 *
 * Thread: the request's loop. Layer: ns, store. */
#pragma once

#include "api/tree.h"

/* Lives in the caller's state, zero at first. */
struct first_argument {
    struct tree_walk walk;
    struct ns_walk_result found;
    struct buf path; /* in the tree, "apps/NAME/files/main.py" */
    bool is_missing; /* the result */
};
/* Polled, with request->op. It is missing only if that is certain: an absolute path that leads to
 * the app's files (no place of the server's own, no mount, no volume by name at the root), of an
 * app whose version was made by from=, and neither the version nor the app's volume has it. */
MUST_USE enum err first_argument_look(struct request *request, const struct app *app,
                                      struct first_argument *look);
/* At any moment; harmless on one that is zero. */
void first_argument_done(struct first_argument *look);
/* What there is to say of it, a line that begins with `indent`; nothing if it is not missing. */
MUST_USE enum err first_argument_tell(const struct first_argument *look, const struct app *app,
                                      const char *indent, struct buf *text);
/* The same in an answer's JSON, as `missing`. Accepts NULL for the object. */
void first_argument_tell_json(const struct first_argument *look, const struct app *app,
                              json_t *json);
