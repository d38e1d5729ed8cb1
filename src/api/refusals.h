/* Modules that the compiler refused, by hash: who sends one again gets the answer at once, and
 * costs no other compilation its turn. A limit may have struck because the machine was busy, so an
 * entry counts for ten minutes only; the oldest make room for new ones.
 *
 * Thread: any; guards itself. Layer: base. */
#pragma once

#include "base/buf.h"
#include "base/sha256.h"

#include <pthread.h>

#define REFUSALS_MAX 256

struct refusals {
    pthread_mutex_t mutex; /* guards all of it */
    struct refusal {
        uint8_t module_sha256[SHA256_SIZE];
        enum err err;      /* OK = free */
        uint64_t until_ns; /* monotonic */
        struct buf message;
    } entries[REFUSALS_MAX];
    size_t next; /* the oldest */
};

void refusals_init(struct refusals *refusals);
void refusals_done(struct refusals *refusals);
/* What was answered the last time; OK if nothing is known. */
enum err refusals_find(struct refusals *refusals, const uint8_t module_sha256[SHA256_SIZE],
                       struct buf *message);
/* Remembers NOEXEC and 2BIG, nothing else. */
void refusals_add(struct refusals *refusals, const uint8_t module_sha256[SHA256_SIZE], enum err err,
                  const struct buf *message);
