#include "base/block.h"

#include "base/log.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

/* The sanitizers shall see each block come and go. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KEEPS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KEEPS 0
#endif
#endif
#ifndef KEEPS
#define KEEPS 1
#endif

enum { STEP_BYTES = 64, CLASSES = BLOCK_BYTES_MAX / STEP_BYTES };

struct spare {
    struct spare *next;
};
struct spares {
    size_t bytes;  /* of all that is kept */
    bool is_known; /* the thread's end frees it */
    struct spare *first[CLASSES];
};

static _Thread_local struct spares spares;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_spares(void *argument) {
    struct spares *ended = argument;
    for (size_t i = 0; i < CLASSES; i++) {
        while (ended->first[i]) {
            struct spare *spare = ended->first[i];
            ended->first[i] = spare->next;
            free(spare);
        }
    }
    ended->bytes = BLOCKS_KEPT_BYTES; /* what is freed from here on is not kept */
}

static void make_key(void) {
    INVARIANT(pthread_key_create(&key, free_spares) == 0);
}

static size_t class_of(size_t bytes) {
    INVARIANT(bytes > 0 && bytes <= BLOCK_BYTES_MAX);
    return (bytes - 1) / STEP_BYTES;
}

void *block_new_raw(size_t bytes) {
    size_t class = class_of(bytes);
    struct spare *spare = spares.first[class];
    if (!spare) {
        return malloc(KEEPS ? (class + 1) * STEP_BYTES : bytes);
    }
    spares.first[class] = spare->next;
    spares.bytes -= (class + 1) * STEP_BYTES;
    return spare;
}

void *block_new(size_t bytes) {
    void *block = block_new_raw(bytes);
    return block ? memset(block, 0, bytes) : NULL;
}

void block_free(void *block, size_t bytes) {
    size_t class = class_of(bytes);
    size_t kept = (class + 1) * STEP_BYTES;
    if (!block || !KEEPS || spares.bytes + kept > BLOCKS_KEPT_BYTES) {
        free(block);
        return;
    }
    if (!spares.is_known) {
        spares.is_known = true;
        pthread_once(&once, make_key);
        pthread_setspecific(key, &spares); /* without memory for it they leak with the thread */
    }
    struct spare *spare = block;
    spare->next = spares.first[class];
    spares.first[class] = spare;
    spares.bytes += kept;
}
