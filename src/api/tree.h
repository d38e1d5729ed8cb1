/* The tree door: what the verbs of HTTP do with files of any device. Shared by tree_get.c,
 * tree_put.c and tree_change.c.
 *
 * Thread: the loop of the exchange. Layer: ns, http. */
#pragma once

#include "api/api.h"

/* The path of a request in the tree, relative to its root: without the first slash. Trailing
 * slashes stay. */
struct str tree_path(const struct request *request);

/* Removes what RFC 3986 section 5.2.4 calls dot segments, and empty ones, from an absolute path; a
 * slash at the end stays. Above the root there is nothing but the root. */
void tree_path_normalize(struct buf *path);

/* A walk in the tree. Below `files` of an app or a volume and `root` of a run lie names and
 * symbolic links that guests made: there it goes on in a namespace of its own, which nothing leads
 * out of. Lives in the caller's state, zero at first. */
struct tree_walk {
    struct ns_walk walk;
    struct ns *files; /* the namespace of the files, once they are reached; a reference */
};
/* Polled, as ns_walk from the root of the tree. */
MUST_USE enum err tree_walk(struct request *request, struct tree_walk *walk, struct str path,
                            unsigned ns_walk_flags, struct ns_walk_result *ret_result);
/* Ends it at any moment, and what its result borrowed. Harmless on one that is zero. */
void tree_walk_done(struct tree_walk *walk);

/* Which files below a directory no run of the app sees, by the first name of their paths: of
 * "/apps/NAME/files" those in places of the server's own, of a directory there all. A volume may be
 * mounted anywhere. */
bool (*tree_hidden_in(struct str path))(struct str first_name);

/* The entity tag of a file (RFC 9110 section 8.8.3) with its quotes, or nothing if its content has
 * no known version. */
#define TREE_ETAG_SIZE 64
void tree_etag(const struct file_stat *stat, char etag[TREE_ETAG_SIZE]);
/* Whether a list of entity tags has this one; "*" matches everything. A weak one is none of ours
 * where they have to be strong, as in If-Match (RFC 9110 section 8.8.3.2). */
bool tree_etag_matches(struct str list, const char *etag, bool has_to_be_strong);
/* 412: the file is not as the request's preconditions say. */
void tree_fail_precondition(struct request *request);
/* Checks If-Match and If-None-Match of a changing request; answers 412 and returns false if they do
 * not hold. `stat` is NULL if there is nothing yet. */
bool tree_preconditions_hold(struct request *request, const struct file_stat *stat);
/* What a change may find at its name, as it was when the preconditions were checked: for
 * file_rename_expected and file_remove_expected, which tell with STALE that they have to be checked
 * anew. NULL if there are none, else `room`. */
const struct file_expected *tree_expected(const struct request *request,
                                          const struct file_stat *stat, struct file_expected *room);

/* By the ending of a name; "application/octet-stream" if it is not known. Static. */
const char *tree_content_type(struct str name);

/* Whether the path is in the root of a run that has ended, where nothing is changed any more: then
 * that is answered. */
bool tree_is_past(struct request *request);

/* Whether no run of an app would see what is put at the path, in "/apps/NAME/files" at a place of
 * the server's own: then that is answered (409). What lies there already can be read and removed.
 */
bool tree_is_unseen(struct request *request, const struct buf *path);

/* Answers a failure with the path in its text: "no such file or directory: /apps/x". */
void tree_fail(struct request *request, enum err err);
/* The same for another path that the request names. */
void tree_fail_at(struct request *request, const struct buf *at, enum err err);

/* --- what is written beside its target before it is whole, under names of ns/temporary.h --- */

/* Whether the directory of the request's path may have leftovers of an earlier life: true once for
 * each (now and then more often). */
bool tree_sweep_is_due(struct request *request);
