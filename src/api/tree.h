/* The tree door: what the verbs of HTTP do with files of any device. Shared by tree_get.c,
 * tree_put.c and tree_change.c.
 *
 * Thread: the loop of the exchange. Layer: ns, http. */
#pragma once

#include "api/api.h"

/* The path of a request in the tree, relative to its root: without the first slash. Trailing
 * slashes stay. */
struct str tree_path(const struct request *request);

/* Starts anew what lies at a path: `walk` is zero. Polled. */
MUST_USE enum err tree_walk(struct request *request, struct ns_walk *walk, struct str path,
                            unsigned ns_walk_flags, struct ns_walk_result *ret_result);

/* The entity tag of a file (RFC 9110 section 8.8.3) with its quotes, or nothing if its content has
 * no known version. */
#define TREE_ETAG_SIZE 64
void tree_etag(const struct file_stat *stat, char etag[TREE_ETAG_SIZE]);
/* Whether a list of entity tags, as in If-Match, has this one; "*" matches everything. */
bool tree_etag_matches(struct str list, const char *etag);
/* Checks If-Match and If-None-Match of a changing request; answers 412 and returns false if they do
 * not hold. `stat` is NULL if there is nothing yet. */
bool tree_preconditions_hold(struct request *request, const struct file_stat *stat);

/* By the ending of a name; "application/octet-stream" if it is not known. Static. */
const char *tree_content_type(struct str name);
/* The last component of a path, without trailing slashes. */
struct str tree_base_name(struct str path);

/* Answers a failure with the path in its text: "no such file or directory: /apps/x". */
void tree_fail(struct request *request, enum err err);
