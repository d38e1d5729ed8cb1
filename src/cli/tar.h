/* Directories as tar streams, by libarchive: out of a directory of this machine, piece by piece as
 * they are sent, and into one as they come. Thread: the only one. Layer: base. */
#pragma once

#include "base/buf.h"

struct tar_source;
/* A tar of what is in a directory (names relative to it): files, directories, symbolic links;
 * other things are left out with a warning. Says what is wrong and returns NULL. */
struct tar_source *tar_source_new(const char *directory);
/* As client_request.read: `context` is the source. */
size_t tar_source_read(void *context, char *data, size_t size);
void tar_source_free(struct tar_source *source); /* accepts NULL */

struct tar_target;
/* Unpacks into a directory, which is made if it is missing. The archive is not trusted: nothing is
 * written outside of the directory, neither by names nor through symbolic links; owners, devices
 * and set-id bits are not taken over. NULL after saying what is wrong. */
struct tar_target *tar_target_new(const char *directory);
/* The next bytes of the archive. False after saying what is wrong. */
MUST_USE bool tar_target_write(struct tar_target *target, const char *data, size_t length);
/* All has come: unpacks what is left. */
MUST_USE bool tar_target_finish(struct tar_target *target);
void tar_target_free(struct tar_target *target); /* accepts NULL */
