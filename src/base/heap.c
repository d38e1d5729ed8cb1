#include "base/heap.h"

#include "base/log.h"

enum { CAPACITY_MIN = 64 };

void heap_init(struct heap *heap,
               bool (*is_before)(const struct heap_node *a, const struct heap_node *b)) {
    *heap = (struct heap){.is_before = is_before};
}

void heap_done(struct heap *heap) {
    free(heap->nodes);
    *heap = (struct heap){.is_before = heap->is_before};
}

enum err heap_reserve(struct heap *heap, size_t count) {
    if (count < heap->capacity) {
        return ERR_OK;
    }
    size_t capacity = MAX(MAX(heap->capacity * 2, count + 1), (size_t)CAPACITY_MIN);
    struct heap_node **nodes = reallocarray(heap->nodes, capacity, sizeof *nodes);
    if (!nodes) {
        return ERR_NOMEM;
    }
    heap->nodes = nodes;
    heap->capacity = capacity;
    return ERR_OK;
}

static void put(struct heap *heap, size_t position, struct heap_node *node) {
    heap->nodes[position] = node;
    node->position = position;
}

/* Moves a node that has a free place at `position` to where it belongs. */
static void settle(struct heap *heap, size_t position, struct heap_node *node) {
    while (position > 1 && heap->is_before(node, heap->nodes[position / 2])) {
        put(heap, position, heap->nodes[position / 2]);
        position /= 2;
    }
    for (size_t child; (child = position * 2) <= heap->count; position = child) {
        if (child < heap->count && heap->is_before(heap->nodes[child + 1], heap->nodes[child])) {
            child++;
        }
        if (!heap->is_before(heap->nodes[child], node)) {
            break;
        }
        put(heap, position, heap->nodes[child]);
    }
    put(heap, position, node);
}

void heap_insert(struct heap *heap, struct heap_node *node) {
    INVARIANT(!node->position && heap->count + 1 < heap->capacity);
    heap->count++;
    settle(heap, heap->count, node);
}

void heap_remove(struct heap *heap, struct heap_node *node) {
    size_t position = node->position;
    if (!position) {
        return;
    }
    struct heap_node *last = heap->nodes[heap->count--];
    if (last != node) {
        settle(heap, position, last);
    }
    node->position = 0;
}

void heap_update(struct heap *heap, struct heap_node *node) {
    settle(heap, node->position, node);
}

struct heap_node *heap_first(const struct heap *heap) {
    return heap->count ? heap->nodes[1] : NULL;
}
