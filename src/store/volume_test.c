#include "store/volume_testing.h"

#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>

static uint64_t create_in(struct volume *volume, uint64_t directory, const char *name,
                          enum file_type type) {
    uint64_t inode = 0;
    assert_ok(volume_create(&op, volume, directory, str_of(name), type, &inode));
    volume_let_go(volume, inode);
    return inode;
}

static uint64_t create(struct volume *volume, const char *name) {
    return create_in(volume, VOLUME_ROOT_INODE, name, FILE_REGULAR);
}

static void write_text(struct volume *volume, uint64_t inode, const char *text, uint64_t offset) {
    size_t written = 0;
    assert_ok(volume_write(&op, volume, inode, text, strlen(text), offset, &written));
    assert_int_equal(written, strlen(text));
}

static void assert_text(struct volume *volume, uint64_t inode, const char *text) {
    char data[100] = "";
    size_t got = 0;
    assert_ok(volume_read(&op, volume, inode, data, sizeof(data) - 1, 0, &got));
    data[got] = '\0';
    assert_string_equal(data, text);
}

static struct file_stat stat_of(struct volume *volume, uint64_t inode) {
    struct file_stat stat = {0};
    assert_ok(volume_stat(&op, volume, inode, &stat));
    return stat;
}

static enum err remove_file(struct volume *volume, const char *name) {
    return DO(volume_remove(&op, volume, VOLUME_ROOT_INODE, str_of(name), false));
}

static void test_nothing_is_on_disk_before_the_first_change(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    assert_int_equal(find(volume, "x"), 0);
    assert_false(volume_is_dirty(volume));
    assert_ok(volume_sync(&op, volume));
    volume_unref(volume);
    assert_int_equal(access(volume_path, F_OK), -1);

    struct volume_options options = {.path = volume_path};
    cleanup_buf struct buf message = {0};
    assert_int_equal(volume_open(&options, &volume, &message), ERR_NOENT);
    assert_true(message.length > 0);
}

static void test_a_change_is_on_disk_within_a_second_without_a_sync(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    write_text(volume, create(volume, "x"), "text", 0);
    assert_true(volume_is_dirty(volume));
    uint64_t begin = clock_monotonic_ns();
    while (volume_is_dirty(volume) && clock_monotonic_ns() - begin < 60 * NS_PER_S) {
        (void)usleep(1000); /* the event itself can't be waited for without asking for a commit */
    }
    assert_false(volume_is_dirty(volume));
    volume_unref(volume);
}

static void test_files_are_found_again(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    uint64_t directory = create_in(volume, VOLUME_ROOT_INODE, "d", FILE_DIRECTORY);
    uint64_t file = create_in(volume, directory, "f", FILE_REGULAR);
    write_text(volume, file, "hello", 0);
    assert_ok(volume_symlink(&op, volume, directory, STR("s"), STR("../d/f")));
    (void)create_in(volume, directory, "w", FILE_WHITEOUT);
    assert_ok(volume_set_times(&op, volume, file, UINT64_MAX, 7, SET_ACCESSED | SET_MODIFIED));
    struct file_stat before = stat_of(volume, file);
    volume_unref(volume);

    volume = open_volume();
    assert_int_equal(find(volume, "d/f"), file);
    assert_text(volume, file, "hello");
    struct file_stat after = stat_of(volume, file);
    after.device = before.device;
    assert_memory_equal(&after, &before, sizeof(before));
    assert_int_equal(after.accessed_ns, UINT64_MAX);
    cleanup_buf struct buf target = {0};
    assert_ok(volume_readlink(&op, volume, find(volume, "d/s"), &target));
    assert_true(str_equal_text(buf_str(&target), "../d/f"));
    assert_err(volume_readlink(&op, volume, file, &target), INVAL);
    assert_int_equal(stat_of(volume, find(volume, "d/w")).type, FILE_WHITEOUT);
    volume_unref(volume);
}

static void test_a_walk_stops_where_the_contract_says(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    uint64_t directory = create_in(volume, VOLUME_ROOT_INODE, "d", FILE_DIRECTORY);
    uint64_t file = create_in(volume, directory, "f", FILE_REGULAR);
    struct str names[] = {STR("d"), STR("f"), STR("below")};
    size_t walked = 0;
    uint64_t inode = 0;
    enum file_type type;
    assert_ok(volume_walk(&op, volume, VOLUME_ROOT_INODE, names, 3, &walked, &inode, &type));
    assert_int_equal(walked, 2); /* a file has nothing below */
    assert_int_equal(inode, file);
    volume_let_go(volume, inode);
    names[1] = STR("missing");
    assert_ok(volume_walk(&op, volume, VOLUME_ROOT_INODE, names, 3, &walked, &inode, &type));
    assert_int_equal(walked, 1);
    assert_int_equal(inode, directory);
    volume_let_go(volume, inode);
    assert_err(volume_walk(&op, volume, directory, names, 1, &walked, &inode, &type), NOENT);
    assert_err(volume_walk(&op, volume, file, names, 1, &walked, &inode, &type), NOTDIR);
    volume_unref(volume);
}

static void test_a_removed_file_lives_while_it_is_held(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    uint64_t file;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("f"), FILE_REGULAR, &file));
    write_text(volume, file, "still here", 0);
    assert_int_equal(remove_file(volume, "f"), ERR_OK);
    assert_int_equal(find(volume, "f"), 0);
    assert_ok(volume_sync(&op, volume));
    assert_text(volume, file, "still here");
    assert_int_equal(stat_of(volume, file).links, 0);
    assert_err(volume_link(&op, volume, file, VOLUME_ROOT_INODE, STR("g")), NOENT);
    assert_int_equal(volume_usage(volume).inodes, 1);
    assert_int_equal(volume_usage(volume).bytes, 10);
    volume_let_go(volume, file);
    struct file_stat stat;
    assert_err(volume_stat(&op, volume, file, &stat), NOENT);
    assert_int_equal(volume_usage(volume).inodes, 0);
    assert_int_equal(volume_usage(volume).bytes, 0);
    volume_unref(volume);
}

static void test_orphans_are_cleared_when_a_volume_is_opened(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    uint64_t file;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("f"), FILE_REGULAR, &file));
    write_text(volume, file, "still here", 0);
    assert_int_equal(remove_file(volume, "f"), ERR_OK);
    volume_unref(volume); /* as a process that ends while it is held: it stays in the database */
    volume = open_volume();
    struct file_stat stat;
    assert_err(volume_stat(&op, volume, file, &stat), NOENT);
    struct volume_usage usage = volume_usage(volume);
    assert_int_equal(usage.inodes, 0);
    assert_int_equal(usage.bytes, 0);
    volume_unref(volume);
    check_accounts(&usage);
}

static struct file_expected expected_of(struct volume *volume, uint64_t inode) {
    return (struct file_expected){.inode = inode, .version = stat_of(volume, inode).version};
}

static void test_what_has_changed_meanwhile_is_left(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    const uint64_t root = VOLUME_ROOT_INODE;
    const struct file_expected nothing = {0};
    uint64_t old = create(volume, "f");
    struct file_expected seen = expected_of(volume, old);
    (void)create(volume, "new");
    (void)create(volume, "other");
    assert_err(volume_rename_expected(&op, volume, root, STR("new"), root, STR("f"), &nothing),
               STALE);
    assert_ok(volume_rename_expected(&op, volume, root, STR("new"), root, STR("f"), &seen));
    assert_err(volume_rename_expected(&op, volume, root, STR("other"), root, STR("f"), &seen),
               STALE);
    assert_err(volume_remove_expected(&op, volume, root, STR("f"), false, &seen), STALE);
    assert_err(volume_rename_expected(&op, volume, root, STR("other"), root, STR("gone"), &seen),
               STALE);
    assert_ok(
        volume_rename_expected(&op, volume, root, STR("other"), root, STR("there"), &nothing));

    uint64_t inode = create(volume, "written");
    seen = expected_of(volume, inode);
    size_t written = 0;
    assert_ok(volume_write(&op, volume, inode, "x", 1, 0, &written));
    assert_err(volume_remove_expected(&op, volume, root, STR("written"), false, &seen), STALE);
    seen = expected_of(volume, inode);
    assert_ok(volume_remove_expected(&op, volume, root, STR("written"), false, &seen));

    (void)create_in(volume, root, "hidden", FILE_WHITEOUT);
    assert_ok(
        volume_rename_expected(&op, volume, root, STR("there"), root, STR("hidden"), &nothing));
    volume_unref(volume);
}

static void test_rename_refuses_what_posix_refuses(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    const uint64_t root = VOLUME_ROOT_INODE;
    uint64_t a = create_in(volume, root, "a", FILE_DIRECTORY);
    uint64_t b = create_in(volume, a, "b", FILE_DIRECTORY);
    uint64_t file = create(volume, "f");
    assert_err(volume_rename(&op, volume, root, STR("a"), b, STR("x")), INVAL);
    assert_err(volume_rename(&op, volume, root, STR("a"), a, STR("x")), INVAL);
    assert_err(volume_rename(&op, volume, root, STR("f"), root, STR("a")), ISDIR);
    assert_err(volume_rename(&op, volume, root, STR("a"), root, STR("f")), NOTDIR);
    assert_err(volume_rename(&op, volume, root, STR("none"), root, STR("x")), NOENT);
    assert_ok(volume_rename(&op, volume, root, STR("a"), root, STR("a")));
    uint64_t full = create_in(volume, root, "full", FILE_DIRECTORY);
    (void)create_in(volume, full, "x", FILE_REGULAR);
    assert_err(volume_rename(&op, volume, root, STR("a"), root, STR("full")), NOTEMPTY);
    assert_err(volume_remove(&op, volume, root, STR("full"), true), NOTEMPTY);
    assert_err(volume_remove(&op, volume, root, STR("full"), false), ISDIR);
    assert_err(volume_remove(&op, volume, root, STR("f"), true), NOTDIR);

    /* A directory that has moved is checked by where it is now. */
    assert_ok(volume_rename(&op, volume, a, STR("b"), root, STR("b")));
    assert_ok(volume_rename(&op, volume, root, STR("a"), b, STR("a")));
    assert_err(volume_rename(&op, volume, root, STR("b"), a, STR("b")), INVAL);
    assert_ok(volume_link(&op, volume, file, root, STR("g")));
    assert_ok(volume_rename(&op, volume, root, STR("f"), root, STR("g")));
    assert_int_equal(find(volume, "f"), file); /* two names of one file: both stay */
    assert_int_equal(stat_of(volume, file).links, 2);
    assert_err(volume_link(&op, volume, a, root, STR("h")), PERM);

    /* Nothing can be made in a directory that was removed. */
    volume_hold(volume, root);
    volume_let_go(volume, root);
    uint64_t held;
    assert_ok(volume_create(&op, volume, root, STR("gone"), FILE_DIRECTORY, &held));
    assert_ok(volume_remove(&op, volume, root, STR("gone"), true));
    uint64_t inode;
    assert_err(volume_create(&op, volume, held, STR("x"), FILE_REGULAR, &inode), NOENT);
    volume_let_go(volume, held);
    volume_unref(volume);
}

static void test_names_are_bounded(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    char name[257];
    memset(name, 'n', sizeof(name));
    uint64_t inode;
    assert_err(volume_create(&op, volume, VOLUME_ROOT_INODE, (struct str){name, 256}, FILE_REGULAR,
                             &inode),
               NAMETOOLONG);
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, (struct str){name, 255}, FILE_REGULAR,
                            &inode));
    volume_let_go(volume, inode);
    char target[4097];
    memset(target, 't', sizeof(target));
    assert_err(volume_symlink(&op, volume, VOLUME_ROOT_INODE, STR("s"), (struct str){target, 4097}),
               NAMETOOLONG);
    volume_unref(volume);
}

static void test_sparse_files_take_what_was_written(void **state) {
    (void)state;
    const uint64_t far = 1000 * GIB;
    struct volume *volume = open_volume();
    uint64_t file = create(volume, "f");
    write_text(volume, file, "end", far);
    assert_int_equal(stat_of(volume, file).size, far + 3);
    /* The chunk is filled from its beginning. */
    assert_int_equal(volume_usage(volume).bytes, far % 16384 + 3);
    volume_unref(volume);
    volume = open_volume();
    char data[8] = "xxxxxxx";
    size_t got = 0;
    assert_ok(volume_read(&op, volume, file, data, 8, far - 4, &got));
    assert_int_equal(got, 7);
    assert_memory_equal(data, "\0\0\0\0end", 7);
    assert_ok(volume_read(&op, volume, file, data, 8, far + 3, &got));
    assert_int_equal(got, 0);

    assert_err(volume_write(&op, volume, file, "x", 1, 1024 * GIB, &got), FBIG);
    assert_err(volume_write(&op, volume, file, "x", 1, UINT64_MAX - 1, &got), FBIG);
    assert_err(volume_set_size(&op, volume, file, 1024 * GIB + 1), FBIG);
    assert_err(volume_set_size(&op, volume, file, UINT64_MAX), FBIG);
    assert_ok(volume_set_size(&op, volume, file, 1024 * GIB));
    assert_ok(volume_write(&op, volume, file, "xyz", 3, 1024 * GIB - 2, &got));
    assert_int_equal(got, 2); /* as much as fits */
    /* What is cut off does not come back. */
    assert_ok(volume_set_size(&op, volume, file, far + 1));
    assert_ok(volume_set_size(&op, volume, file, far + 3));
    assert_ok(volume_read(&op, volume, file, data, 8, far, &got));
    assert_memory_equal(data, "e\0\0", 3);
    assert_ok(volume_set_size(&op, volume, file, 0));
    assert_int_equal(volume_usage(volume).bytes, 0);
    volume_unref(volume);
}

static void test_a_large_file_shrinks_piece_by_piece(void **state) {
    (void)state;
    static uint8_t data[MIB];
    memset(data, 'x', sizeof(data));
    struct volume *volume = open_volume();
    uint64_t file = create(volume, "f");
    size_t done = 0;
    for (uint64_t offset = 0; offset < 96 * MIB; offset += MIB) {
        assert_ok(volume_write(&op, volume, file, data, MIB, offset, &done));
    }
    assert_ok(volume_sync(&op, volume));
    uint64_t kept = 70000;
    assert_int_equal(volume_set_size(&op, volume, file, kept), ERR_PENDING);
    assert_true(stat_of(volume, file).size > kept);
    assert_ok(volume_set_size(&op, volume, file, kept));
    assert_int_equal(stat_of(volume, file).size, kept);
    assert_int_equal(volume_usage(volume).bytes, kept);
    assert_int_equal(remove_file(volume, "f"), ERR_OK);
    struct volume_usage usage = volume_usage(volume);
    volume_unref(volume);
    check_accounts(&usage);
}

static void test_quotas_refuse_before_the_write(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(100000, 3);
    uint64_t file = create(volume, "f");
    static char data[60000];
    size_t written = 0;
    assert_ok(volume_write(&op, volume, file, data, sizeof(data), 0, &written));
    assert_ok(volume_write(&op, volume, file, data, sizeof(data), OFFSET_APPEND, &written));
    assert_true(written < sizeof(data)); /* what fits */
    assert_true(volume_usage(volume).bytes <= 100000);
    assert_err(volume_write(&op, volume, file, data, 20000, OFFSET_APPEND, &written), NOSPC);
    assert_ok(volume_write(&op, volume, file, data, 20000, 0, &written)); /* no more than before */
    (void)create(volume, "g");
    (void)create(volume, "h");
    uint64_t inode;
    assert_err(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("i"), FILE_REGULAR, &inode),
               NOSPC);
    assert_err(volume_symlink(&op, volume, VOLUME_ROOT_INODE, STR("i"), STR("t")), NOSPC);
    assert_err(volume_link(&op, volume, file, VOLUME_ROOT_INODE, STR("i")), NOSPC);
    assert_int_equal(remove_file(volume, "g"), ERR_OK);
    assert_ok(volume_link(&op, volume, file, VOLUME_ROOT_INODE, STR("i")));
    assert_int_equal(remove_file(volume, "f"), ERR_OK);
    assert_int_equal(remove_file(volume, "i"), ERR_OK);
    assert_int_equal(volume_usage(volume).bytes, 0);
    assert_int_equal(volume_usage(volume).inodes, 1);
    volume_unref(volume);
}

static void test_a_read_only_volume_is_never_changed(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    write_text(volume, create(volume, "f"), "text", 0);
    volume_unref(volume);
    struct stat before, after;
    assert_int_equal(stat(volume_path, &before), 0);
    struct volume_options options = {.path = volume_path, .read_only = true};
    assert_int_equal(volume_open(&options, &volume, NULL), ERR_OK);
    uint64_t file = find(volume, "f"), inode;
    assert_text(volume, file, "text");
    size_t written;
    assert_err(volume_write(&op, volume, file, "x", 1, 0, &written), ROFS);
    assert_err(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("g"), FILE_REGULAR, &inode), ROFS);
    assert_err(volume_remove(&op, volume, VOLUME_ROOT_INODE, STR("f"), false), ROFS);
    assert_err(volume_set_size(&op, volume, file, 0), ROFS);
    assert_ok(volume_sync(&op, volume));
    volume_unref(volume);
    assert_int_equal(stat(volume_path, &after), 0);
    assert_memory_equal(&after.st_mtim, &before.st_mtim, sizeof(after.st_mtim));
}

static void test_a_huge_directory_is_listed_whole(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    enum { COUNT = 6000 };
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        (void)create(volume, name);
        if (i == COUNT / 2) {
            assert_ok(volume_sync(&op, volume)); /* half in the database, half in memory */
        }
    }
    struct dir_list list = {0};
    assert_int_equal(volume_readdir(&op, volume, VOLUME_ROOT_INODE, &list), ERR_PENDING);
    /* A commit between two pieces moves names: none may be lost, none come twice. */
    struct op other;
    op_init(&other, loop, &who, on_wake);
    assert_ok(volume_sync(&other, volume));
    op_done(&other);
    assert_ok(volume_readdir(&op, volume, VOLUME_ROOT_INODE, &list));
    assert_int_equal(list.count, COUNT);
    static bool seen[COUNT];
    for (size_t i = 0; i < list.count; i++) {
        uint64_t number;
        assert_int_equal(str_to_u64(dir_list_name(&list, i), &number), ERR_OK);
        assert_true(number < COUNT && !seen[number]);
        seen[number] = true;
    }
    dir_list_done(&list);
    volume_unref(volume);
}

static void test_versions_change_with_the_content(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    uint64_t file = create(volume, "f");
    uint64_t version = stat_of(volume, file).version;
    for (int i = 0; i < 1000; i++) {
        write_text(volume, file, "x", 0);
        uint64_t next = stat_of(volume, file).version;
        assert_true(next > version);
        version = next;
    }
    volume_unref(volume);
}

static void test_an_abandoned_sync_leaves_nothing_behind(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    for (int i = 0; i < 100; i++) {
        write_text(volume, i ? find(volume, "f") : create(volume, "f"), "text", 0);
        enum err err = volume_sync(&op, volume);
        assert_true(err == ERR_PENDING || err == ERR_OK);
        op_abandon(&op);
    }
    assert_ok(volume_sync(&op, volume));
    volume_unref(volume);
}

/* Two loops on one volume: each appends to a file of both and counts in its own. */
enum { WRITERS = 2, APPENDS = 3000 };
struct writer {
    pthread_t thread;
    unsigned index;
    struct volume *volume;
    uint64_t common, own;
};

static void *write_much(void *argument) {
    struct writer *writer = argument;
    struct loop *own_loop;
    struct op own_op;
    enum err err = loop_new(writer->index, &own_loop);
    INVARIANT(err == ERR_OK);
    op_init(&own_op, own_loop, &who, on_wake);
    for (int i = 0; i < APPENDS; i++) {
        char text[16];
        size_t written;
        (void)snprintf(text, sizeof(text), "%u:%05d;", writer->index, i);
        while ((err = volume_write(&own_op, writer->volume, writer->common, text, 8, OFFSET_APPEND,
                                   &written)) == ERR_PENDING) {
            loop_run(own_loop);
        }
        INVARIANT(err == ERR_OK && written == 8);
        while (i % 50 == 0 && (err = volume_sync(&own_op, writer->volume)) == ERR_PENDING) {
            loop_run(own_loop);
        }
        INVARIANT(err == ERR_OK);
    }
    op_done(&own_op);
    loop_free(own_loop);
    return NULL;
}

static void test_two_loops_share_a_volume(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    struct writer writers[WRITERS];
    uint64_t common = create(volume, "common");
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.index = i, .volume = volume, .common = common};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_much, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
    }
    volume_unref(volume);
    volume = open_volume();
    static char data[WRITERS * APPENDS * 8 + 1];
    size_t got = 0;
    assert_ok(volume_read(&op, volume, common, data, sizeof(data), 0, &got));
    assert_int_equal(got, sizeof(data) - 1);
    int next[WRITERS] = {0}; /* each writer's lines are whole and in order */
    for (size_t at = 0; at < got; at += 8) {
        unsigned index = (unsigned)(data[at] - '0');
        assert_true(index < WRITERS);
        assert_int_equal(strtol(data + at + 2, NULL, 10), next[index]++);
    }
    volume_unref(volume);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_is_on_disk_before_the_first_change),
        TEST(test_a_change_is_on_disk_within_a_second_without_a_sync),
        TEST(test_files_are_found_again),
        TEST(test_a_walk_stops_where_the_contract_says),
        TEST(test_a_removed_file_lives_while_it_is_held),
        TEST(test_orphans_are_cleared_when_a_volume_is_opened),
        TEST(test_what_has_changed_meanwhile_is_left),
        TEST(test_rename_refuses_what_posix_refuses),
        TEST(test_names_are_bounded),
        TEST(test_sparse_files_take_what_was_written),
        TEST(test_a_large_file_shrinks_piece_by_piece),
        TEST(test_quotas_refuse_before_the_write),
        TEST(test_a_read_only_volume_is_never_changed),
        TEST(test_a_huge_directory_is_listed_whole),
        TEST(test_versions_change_with_the_content),
        TEST(test_an_abandoned_sync_leaves_nothing_behind),
        TEST(test_two_loops_share_a_volume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
