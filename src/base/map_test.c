#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct thing {
    struct map_node node;
    uint64_t number;
    bool seen;
};

enum { COUNT = 1000 };

static void test_empty(void **state) {
    (void)state;
    struct map map = {0};
    assert_null(map_find(&map, STR("a")));
    assert_null(map_next(&map, NULL));
    map_done(&map);
}

static void insert_find_remove(struct map map) {
    static struct thing things[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        things[i] = (struct thing){.number = i};
        assert_int_equal(map_insert(&map, &things[i].node, MAP_KEY(things[i].number)), ERR_OK);
        struct thing again = {.number = i};
        assert_int_equal(map_insert(&map, &again.node, MAP_KEY(again.number)), ERR_EXIST);
    }
    assert_int_equal(map.count, COUNT);
    assert_true(map.bucket_count >= COUNT);
    for (uint64_t i = 0; i < COUNT; i += 2) {
        map_remove(&map, &things[i].node);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        struct map_node *node = map_find(&map, MAP_KEY(i));
        assert_ptr_equal(node, i % 2 ? &things[i].node : NULL);
    }
    assert_int_equal(map.count, COUNT / 2);
    map_done(&map);
    assert_int_equal(map.count, 0);
}

static void test_insert_find_remove(void **state) {
    (void)state;
    insert_find_remove((struct map){0});
}

static void test_sequence(void **state) {
    (void)state;
    insert_find_remove((struct map){.is_sequence = true});
}

static void test_walk_meets_each_once(void **state) {
    (void)state;
    static struct thing things[COUNT];
    struct map map = {0};
    for (uint64_t i = 0; i < COUNT; i++) {
        things[i] = (struct thing){.number = i};
        assert_int_equal(map_insert(&map, &things[i].node, MAP_KEY(things[i].number)), ERR_OK);
    }
    size_t count = 0;
    for (struct map_node *node = map_next(&map, NULL), *next; node; node = next) {
        next = map_next(&map, node);
        struct thing *thing = CONTAINER_OF(node, struct thing, node);
        assert_false(thing->seen);
        thing->seen = true;
        map_remove(&map, node);
        count++;
    }
    assert_int_equal(count, COUNT);
    assert_null(map_next(&map, NULL));
    map_done(&map);
}

/* In pieces of a few, which are removed, while others come and go: all are met, and nearly all
 * once.
 */
static void walk_in_pieces(struct map map, bool grows) {
    enum { PIECE = 7 };
    static struct thing things[2 * COUNT], more[4 * COUNT];
    for (uint64_t i = 0; i < ARRAY_LENGTH(things); i++) {
        things[i] = (struct thing){.number = i};
        assert_int_equal(map_insert(&map, &things[i].node, MAP_KEY(things[i].number)), ERR_OK);
    }
    struct map_place place = {0};
    struct map_node *node;
    size_t met = 0, added = 0, gone = 0;
    do {
        node = map_resume(&map, &place);
        for (size_t count = 0; node && count < PIECE; met++) {
            struct thing *thing = CONTAINER_OF(node, struct thing, node);
            node = map_next(&map, node);
            bool stays = thing->number >= ARRAY_LENGTH(things) || thing->number % 2;
            thing->seen = true;
            if (!stays) {
                map_remove(&map, &thing->node);
                gone++;
                count++;
            }
        }
        if (node) {
            map_pause(&map, node, &place);
        }
        for (size_t i = 0; grows && i < 20 && added < ARRAY_LENGTH(more); i++) {
            more[added].number = ARRAY_LENGTH(things) + added;
            assert_int_equal(map_insert(&map, &more[added].node, MAP_KEY(more[added].number)),
                             ERR_OK);
            added++;
        }
    } while (node);
    for (size_t i = 0; i < ARRAY_LENGTH(things); i++) {
        assert_true(things[i].seen);
    }
    assert_int_equal(gone, COUNT);
    /* Few are met again when nothing grows, and each doubling costs a walk at most. */
    assert_true(met <= (grows ? 3 * (ARRAY_LENGTH(things) + added) : 2 * ARRAY_LENGTH(things)));
    map_done(&map);
}

static void test_walk_in_pieces(void **state) {
    (void)state;
    struct map map = {0};
    assert_null(map_resume(&map, &(struct map_place){0}));
    for (unsigned way = 0; way < 4; way++) {
        walk_in_pieces((struct map){.is_sequence = way % 2}, way / 2);
    }
}

static void test_text_keys(void **state) {
    (void)state;
    struct map map = {0};
    struct map_node a, b, empty, zero;
    assert_int_equal(map_insert(&map, &a, STR("a")), ERR_OK);
    assert_int_equal(map_insert(&map, &b, STR("ab")), ERR_OK);
    assert_int_equal(map_insert(&map, &empty, (struct str){0}), ERR_OK);
    assert_int_equal(map_insert(&map, &zero, STR("\0")), ERR_OK);
    assert_ptr_equal(map_find(&map, STR("a")), &a);
    assert_ptr_equal(map_find(&map, STR("ab")), &b);
    assert_ptr_equal(map_find(&map, STR("")), &empty);
    assert_ptr_equal(map_find(&map, STR("\0")), &zero);
    assert_null(map_find(&map, STR("abc")));
    map_done(&map);
}

static void test_hash_depends_on_every_byte(void **state) {
    (void)state;
    uint8_t data[40] = {0};
    for (size_t length = 0; length <= sizeof data; length++) {
        uint64_t hash = map_hash(data, length);
        assert_true(hash == map_hash(data, length));
        assert_true(length == sizeof data || hash != map_hash(data, length + 1));
        for (size_t i = 0; i < length; i++) {
            data[i] = 1;
            assert_true(map_hash(data, length) != hash);
            data[i] = 0;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_insert_find_remove),
        cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_walk_meets_each_once),
        cmocka_unit_test(test_walk_in_pieces),
        cmocka_unit_test(test_text_keys),
        cmocka_unit_test(test_hash_depends_on_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
