/* Intrusive doubly linked list: the links live in the listed objects. A head is a node that points
 * to itself. Thread: the owner's. */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

struct list {
    struct list *next;
    struct list *previous;
};

static inline void list_init(struct list *list) {
    list->next = list->previous = list;
}
static inline bool list_is_empty(const struct list *list) {
    return list->next == list;
}
static inline void list_insert_before(struct list *place, struct list *node) {
    node->previous = place->previous;
    node->next = place;
    place->previous->next = node;
    place->previous = node;
}
static inline void list_append(struct list *head, struct list *node) {
    list_insert_before(head, node);
}
static inline void list_prepend(struct list *head, struct list *node) {
    list_insert_before(head->next, node);
}
/* Takes a node out and leaves it empty; harmless on a node that is in no list. */
static inline void list_remove(struct list *node) {
    node->previous->next = node->next;
    node->next->previous = node->previous;
    list_init(node);
}
#define LIST_FOR_EACH(node, head)                                                                  \
    for (struct list *node = (head)->next; node != (head); node = node->next)
/* As above; the body may remove `node`. */
#define LIST_FOR_EACH_SAFE(node, head)                                                             \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);              \
         node = node##_next, node##_next = node->next)
