/* Paths on an app, "APP:/file", and what the server has there. Layer: base. */
#pragma once

#include "cli/client.h"

#include <jansson.h>

/* Whether it is written like one: a name, then ":/". Everything else is a path of this machine. */
bool remote_looks_like(const char *text);
/* Appends the request target, "/apps/APP/files/file", percent-encoded. "APP" alone is "APP:/" where
 * `may_be_name`. Empty and "." components are left out; ".." is refused, since it could lead out of
 * the app's files. Says what is wrong and returns false. */
MUST_USE bool remote_target(const char *text, bool may_be_name, struct buf *ret_target);
/* Whether it is only 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit: the name of an app.
 */
bool remote_is_app_name(struct str text);
/* Says that it is none and returns false otherwise. */
MUST_USE bool remote_check_app_name(const char *text);
/* Appends "/apps/NAME" and `rest`. */
void remote_app_target(const char *name, const char *rest, struct buf *ret_target);
/* An id as the server writes it: digits. */
bool remote_is_run_id(const char *text);

enum remote_kind { REMOTE_MISSING, REMOTE_FILE, REMOTE_DIRECTORY };
/* Asks what is there. Says what went wrong and returns false. */
MUST_USE bool remote_kind(struct client *client, const char *target, enum remote_kind *ret_kind);

/* The names in a directory, as the server lists them: an array of {"name", "type"}, a new
 * reference. NULL after saying what went wrong. */
json_t *remote_list(struct client *client, const char *target);
