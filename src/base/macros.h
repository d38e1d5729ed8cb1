/* Small helpers of the language that every file may use. */
#pragma once

#include <stddef.h>
#include <stdlib.h>

/* The result must be looked at: on every function that can fail. */
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first_argument)                                                  \
    __attribute__((format(printf, format_index, first_argument)))

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* The structure of `type` whose `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)
#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

static inline void cleanup_free_pointer(void *pointer) {
    free(*(void **)pointer);
}
/* `cleanup_free char *text = …`: freed when the scope ends; STEAL(text) hands it on. */
#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
#define STEAL(pointer)                                                                             \
    ({                                                                                             \
        __typeof__(pointer) stolen_ = pointer;                                                     \
        (pointer) = NULL;                                                                          \
        stolen_;                                                                                   \
    })
