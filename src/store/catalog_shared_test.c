#include "base/clock.h"
#include "store/catalog_testing.h"

static struct volume *session(struct catalog *catalog, const char *name, uint64_t ttl_ns) {
    cleanup_buf struct buf message = {0};
    struct volume *volume = NULL;
    assert_ok(catalog_session_volume(&op, catalog, str_of(name), ttl_ns, false, &volume, &message));
    return volume;
}

static void put(struct volume *volume, const char *name) {
    uint64_t inode;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, str_of(name), FILE_REGULAR, &inode));
    volume_let_go(volume, inode);
    assert_ok(volume_sync(&op, volume));
}

static bool has(struct catalog *catalog, const char *name) {
    struct volume_session known;
    return catalog_volume_session(catalog, str_of(name), &known) == ERR_OK;
}

static uint64_t ttl_of(struct catalog *catalog, const char *name) {
    struct volume_session known = {0};
    assert_int_equal(catalog_volume_session(catalog, str_of(name), &known), ERR_OK);
    return known.ttl_ns;
}

static uint64_t left_of(struct catalog *catalog, const char *name) {
    struct volume_session known = {0};
    assert_int_equal(catalog_volume_session(catalog, str_of(name), &known), ERR_OK);
    return known.left_ns;
}

static size_t databases(struct catalog *catalog) {
    size_t count = 0;
    for (int id = 1; id < 20; id++) {
        count += exists(in_state("volumes/%d.db", id));
    }
    (void)catalog;
    return count;
}

/* Its time is over now. */
static void expire(struct catalog *catalog, const char *key) {
    catalog_lock(&catalog->volumes_mutex);
    struct map_node *node = map_find(&catalog->volume_names, str_of(key));
    assert_non_null(node);
    CONTAINER_OF(node, struct volume_name, node)->ends_ns = 1;
    catalog_unlock(&catalog->volumes_mutex);
}

static void test_session_ends(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    struct volume *volume = session(catalog, "work-1", 3600 * NS_PER_S);
    put(volume, "x");
    struct volume_session known;
    assert_int_equal(catalog_volume_session(catalog, STR("work_1"), &known), ERR_OK);
    assert_int_equal(known.ttl_ns, 3600 * NS_PER_S);
    assert_true(known.left_ns <= known.ttl_ns && known.left_ns > 3500 * NS_PER_S);

    /* Not while somebody has it. */
    expire(catalog, "work_1");
    catalog_sweep(catalog);
    assert_true(has(catalog, "work_1"));
    assert_false(volume_is_removed(volume));
    volume_unref(volume);

    expire(catalog, "work_1");
    catalog_sweep(catalog);
    assert_false(has(catalog, "work_1"));
    assert_int_equal(databases(catalog), 0);

    /* The next one of that name is empty. */
    volume = session(catalog, "work_1", NS_PER_S);
    struct str name = STR("x");
    size_t walked;
    uint64_t inode;
    enum file_type type;
    assert_err(volume_walk(&op, volume, VOLUME_ROOT_INODE, &name, 1, &walked, &inode, &type),
               NOENT);
    volume_unref(volume);
    catalog_free(catalog);
}

static void test_sessions_survive_restarts(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    struct volume *volume = session(catalog, "long", 3600 * NS_PER_S);
    put(volume, "x");
    volume_unref(volume);
    volume = session(catalog, "short", NS_PER_MS);
    put(volume, "x");
    volume_unref(volume);
    catalog_free(catalog);

    catalog = open_catalog();
    struct volume_session known;
    assert_int_equal(catalog_volume_session(catalog, STR("long"), &known), ERR_OK);
    assert_int_equal(known.ttl_ns, 3600 * NS_PER_S);
    assert_true(known.left_ns <= known.ttl_ns && known.left_ns > 3000 * NS_PER_S);
    /* The other one's time is over: the keeper ends it as soon as it starts. */
    for (int i = 0; i < 3000 && has(catalog, "short"); i++) {
        usleep(10000);
    }
    assert_false(has(catalog, "short"));
    assert_true(has(catalog, "long"));
    catalog_free(catalog);
}

static void test_kept_volumes_stay(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    struct volume *kept = NULL, *same = NULL;
    assert_ok(catalog_named_volume(&op, catalog, STR("kept"), true, &kept, &message));
    put(kept, "x");
    assert_err(catalog_session_volume(&op, catalog, STR("kept"), NS_PER_MS, false, &same, &message),
               EXIST);
    assert_non_null(strstr(buf_text(&message), "'kept' was made without ttl="));
    assert_ok(catalog_session_volume(&op, catalog, STR("kept"), NS_PER_MS, true, &same, &message));
    assert_ptr_equal(kept, same);
    volume_unref(same);
    catalog_sweep(catalog);
    assert_true(has(catalog, "kept"));
    catalog_use_session(catalog, STR("kept"), kept, NS_PER_MS);
    assert_int_equal(ttl_of(catalog, "kept"), 0);
    volume_unref(kept);
    catalog_free(catalog);
}

/* A session stays one, whoever asks for it, and its ttl is the one that was set last. */
static void test_ttl_of_a_session(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    struct volume *first = session(catalog, "passing-1", 60 * NS_PER_S), *same = NULL;
    volume_unref(session(catalog, "passing-1", 3600 * NS_PER_S));
    assert_ok(catalog_named_volume(&op, catalog, STR("passing-1"), true, &same, &message));
    assert_ptr_equal(same, first);
    volume_unref(same);
    assert_int_equal(ttl_of(catalog, "passing_1"), 60 * NS_PER_S);
    catalog_use_session(catalog, STR("passing_1"), first, 3600 * NS_PER_S);
    assert_int_equal(ttl_of(catalog, "passing_1"), 3600 * NS_PER_S);
    struct volume_session known;
    assert_int_equal(catalog_volume_session(catalog, STR("passing_1"), &known), ERR_OK);
    assert_true(known.left_ns > 3500 * NS_PER_S);

    /* Who has a removed one does not change the next one of that name. */
    assert_ok(catalog_delete_volume(&op, catalog, STR("passing_1")));
    catalog_use_session(catalog, STR("passing_1"), first, NS_PER_S);
    volume_unref(session(catalog, "passing_1", 60 * NS_PER_S));
    catalog_use_session(catalog, STR("passing_1"), first, NS_PER_S);
    assert_int_equal(ttl_of(catalog, "passing_1"), 60 * NS_PER_S);
    volume_unref(first);
    catalog_free(catalog);
}

/* Having one is no use, for a run that is refused; using it is, whatever its ttl is then. */
static void test_use_of_a_session(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    volume_unref(session(catalog, "tried", 3600 * NS_PER_S));
    expire(catalog, "tried");
    struct volume *volume = session(catalog, "tried", 3600 * NS_PER_S);
    assert_int_equal(left_of(catalog, "tried"), 0);
    catalog_use_session(catalog, STR("tried"), volume, 0);
    assert_int_equal(ttl_of(catalog, "tried"), 3600 * NS_PER_S);
    assert_true(left_of(catalog, "tried") > 3500 * NS_PER_S);
    volume_unref(volume);
    /* The way of a request is a use. */
    expire(catalog, "tried");
    cleanup_buf struct buf message = {0};
    assert_ok(catalog_named_volume(&op, catalog, STR("tried"), false, &volume, &message));
    assert_true(left_of(catalog, "tried") > 3500 * NS_PER_S);
    volume_unref(volume);
    /* What was only tried goes. */
    expire(catalog, "tried");
    volume_unref(session(catalog, "tried", 3600 * NS_PER_S));
    catalog_sweep(catalog);
    assert_false(has(catalog, "tried"));
    catalog_free(catalog);
}

static void test_delete(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    struct volume *old = NULL, *new = NULL;
    assert_err(catalog_delete_volume(&op, catalog, STR("a")), NOENT);
    assert_err(catalog_delete_volume(&op, catalog, STR("../a")), NOENT);
    assert_ok(catalog_named_volume(&op, catalog, STR("a"), true, &old, &message));
    put(old, "x");
    assert_ok(catalog_delete_volume(&op, catalog, STR("a")));
    assert_true(volume_is_removed(old));
    assert_false(has(catalog, "a"));
    /* Who has it can read it, and changes nothing; the next one of that name is another. */
    struct str x = STR("x");
    size_t walked;
    uint64_t inode;
    enum file_type type;
    assert_ok(volume_walk(&op, old, VOLUME_ROOT_INODE, &x, 1, &walked, &inode, &type));
    assert_err(volume_write(&op, old, inode, "x", 1, 0, &walked), IDRM);
    assert_err(volume_set_size(&op, old, inode, 0), IDRM);
    volume_let_go(old, inode);
    assert_err(volume_create(&op, old, VOLUME_ROOT_INODE, STR("y"), FILE_REGULAR, &inode), IDRM);
    assert_err(volume_remove(&op, old, VOLUME_ROOT_INODE, x, false), IDRM);
    assert_err(volume_rename(&op, old, VOLUME_ROOT_INODE, x, VOLUME_ROOT_INODE, STR("z")), IDRM);
    assert_ok(catalog_named_volume(&op, catalog, STR("a"), true, &new, &message));
    assert_ptr_not_equal(old, new);
    assert_false(volume_is_removed(new));
    put(new, "z");
    assert_int_equal(databases(catalog), 2);
    volume_unref(old);
    for (int i = 0; i < 3000 && databases(catalog) > 1; i++) { /* a commit may still have it */
        catalog_sweep(catalog);
        usleep(1000);
    }
    assert_int_equal(databases(catalog), 1);
    volume_unref(new);
    catalog_free(catalog);
}

/* What was made by asking for it is taken back only if nobody else has asked. */
static void test_unmake(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    struct volume *volume = session(catalog, "a-1", NS_PER_S), *same;
    assert_ok(catalog_unmake_volume(&op, catalog, STR("a-1"), volume));
    assert_false(has(catalog, "a_1"));
    assert_true(volume_is_removed(volume));
    assert_err(catalog_unmake_volume(&op, catalog, STR("a-1"), volume), BUSY);
    /* It is not the one of that name any more. */
    assert_ok(catalog_named_volume(&op, catalog, STR("a-1"), true, &same, &message));
    assert_ptr_not_equal(volume, same);
    assert_err(catalog_unmake_volume(&op, catalog, STR("a-1"), volume), BUSY);
    volume_unref(volume);
    assert_true(has(catalog, "a_1"));
    /* Somebody else has asked. */
    assert_ok(catalog_named_volume(&op, catalog, STR("a-1"), false, &volume, &message));
    assert_ptr_equal(volume, same);
    volume_unref(volume);
    assert_err(catalog_unmake_volume(&op, catalog, STR("a-1"), same), BUSY);
    assert_false(volume_is_removed(same));
    put(same, "x");
    volume_unref(same);
    catalog_free(catalog);
    /* It was there before. */
    catalog = open_catalog();
    assert_ok(catalog_named_volume(&op, catalog, STR("a-1"), true, &volume, &message));
    assert_err(catalog_unmake_volume(&op, catalog, STR("a-1"), volume), BUSY);
    volume_unref(volume);
    catalog_free(catalog);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_session_ends),
        TEST(test_sessions_survive_restarts),
        TEST(test_kept_volumes_stay),
        TEST(test_ttl_of_a_session),
        TEST(test_use_of_a_session),
        TEST(test_delete),
        TEST(test_unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
