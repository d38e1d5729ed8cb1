#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct object {
    struct heap_node node;
    unsigned key;
};

enum { COUNT = 1000 };

static struct object *object_of(const struct heap_node *node) {
    return CONTAINER_OF((struct heap_node *)node, struct object, node);
}

static bool is_before(const struct heap_node *a, const struct heap_node *b) {
    return object_of(a)->key < object_of(b)->key;
}

static unsigned next_random(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 16;
}

/* Takes all out: each is the least of what is left. */
static void check_drain(struct heap *heap, const struct object *objects) {
    unsigned last = 0;
    size_t taken = 0, expected = 0;
    for (size_t i = 0; i < COUNT; i++) {
        expected += objects[i].node.position != 0;
    }
    assert_int_equal(heap->count, expected);
    for (struct heap_node *first; (first = heap_first(heap)); taken++) {
        assert_true(object_of(first)->key >= last);
        last = object_of(first)->key;
        heap_remove(heap, first);
        assert_int_equal(first->position, 0);
    }
    assert_int_equal(taken, expected);
}

static void test_order(void **state) {
    (void)state;
    static struct object objects[COUNT];
    uint32_t random = 1;
    struct heap heap;
    heap_init(&heap, is_before);
    assert_null(heap_first(&heap));
    for (unsigned keys = 1; keys < 5000; keys = keys * 7 + 1) { /* also with many that are equal */
        for (size_t i = 0; i < COUNT; i++) {
            objects[i].key = next_random(&random) % keys;
            assert_int_equal(heap_reserve(&heap, heap.count + 1), ERR_OK);
            heap_insert(&heap, &objects[i].node);
        }
        for (size_t i = 0; i < COUNT; i++) {
            struct object *object = &objects[next_random(&random) % COUNT];
            if (i % 2 == 0) {
                heap_remove(&heap, &object->node);
                heap_remove(&heap, &object->node); /* harmless */
            } else if (object->node.position) {
                object->key = next_random(&random) % keys;
                heap_update(&heap, &object->node);
            }
        }
        check_drain(&heap, objects);
    }
    heap_done(&heap);
    assert_null(heap_first(&heap));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
