/* Small helpers of the language that every file may use. */
#pragma once

#include <stddef.h>
#include <stdint.h>
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

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* As calloc, for small objects that come and go: glibc's calloc does not take from the thread's
 * cache, to which they are freed. */
static inline void *alloc_zeroed(size_t bytes) {
    void *memory = malloc(bytes);
    return memory ? __builtin_memset(memory, 0, bytes) : NULL;
}

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
