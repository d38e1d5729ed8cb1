/* Binary heap, intrusive: the node lives in the object, and knows its place, so that any object can
 * be taken out. What is first is decided by a function over two objects. Room is made apart
 * (heap_reserve), so that inserting can't fail. Thread: the owner's. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct heap_node {
    size_t position; /* 0: in no heap */
};

struct heap {
    struct heap_node **nodes; /* owned; from 1 on */
    size_t count, capacity;
    /* Whether `a` comes before `b`. */
    bool (*is_before)(const struct heap_node *a, const struct heap_node *b);
};

void heap_init(struct heap *heap,
               bool (*is_before)(const struct heap_node *a, const struct heap_node *b));
/* The objects are the caller's, in or out. */
void heap_done(struct heap *heap);
/* Room for `count` objects in all. */
MUST_USE enum err heap_reserve(struct heap *heap, size_t count);
/* There must be room. O(log n), as the next two. */
void heap_insert(struct heap *heap, struct heap_node *node);
/* Harmless on a node that is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* What decides about its place has changed. */
void heap_update(struct heap *heap, struct heap_node *node);
/* NULL if it is empty. */
struct heap_node *heap_first(const struct heap *heap);
