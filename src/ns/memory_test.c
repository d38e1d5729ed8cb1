#include "ns/memory.h"

#include "ns/pending_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

static struct file *root;

static void begin(uint64_t bytes_max, uint64_t inodes_max) {
    file_unref(root);
    struct memory_options options = {bytes_max, inodes_max};
    assert_int_equal(memory_new(&options, &root), ERR_OK);
}
static int setup(void **state) {
    (void)state;
    test_begin();
    root = NULL;
    begin(0, 0);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    file_unref(root);
    test_end();
    return 0;
}

static enum err make(struct file *directory, const char *name, enum file_type type,
                     struct file **ret_file) {
    struct file *file = NULL;
    enum err err = file_create(&test_op, directory, str_of(name), type, &file);
    if (ret_file && err == ERR_OK) {
        *ret_file = file;
    } else {
        file_unref(file);
    }
    return err;
}
static struct file *made(struct file *directory, const char *name, enum file_type type) {
    struct file *file = NULL;
    assert_int_equal(make(directory, name, type, &file), ERR_OK);
    return file;
}
static enum err find(struct file *directory, const char *name, struct file **ret_file) {
    struct str names = str_of(name);
    size_t walked;
    return file_walk(&test_op, directory, &names, 1, &walked, ret_file);
}
static bool exists(struct file *directory, const char *name) {
    struct file *file = NULL;
    bool found = find(directory, name, &file) == ERR_OK;
    file_unref(file);
    return found;
}
static enum err move(struct file *from, const char *old_name, struct file *to,
                     const char *new_name) {
    return file_rename(&test_op, from, str_of(old_name), to, str_of(new_name));
}
static struct file_stat stat_of(struct file *file) {
    struct file_stat stat;
    assert_int_equal(file_stat(&test_op, file, &stat), ERR_OK);
    return stat;
}

static void test_walk(void **state) {
    (void)state;
    struct file *a = made(root, "a", FILE_DIRECTORY), *b = made(a, "b", FILE_DIRECTORY);
    struct file *file = made(b, "file", FILE_REGULAR), *found = NULL;
    const struct str names[] = {STR("a"), STR("b"), STR("file"), STR("more")};
    size_t walked = 0;
    assert_int_equal(file_walk(&test_op, root, names, 3, &walked, &found), ERR_OK);
    assert_int_equal(walked, 3);
    assert_ptr_equal(found, file);
    file_unref(found);
    assert_int_equal(file_walk(&test_op, root, names, 4, &walked, &found), ERR_OK);
    assert_int_equal(walked, 3); /* stops after what is no directory */
    file_unref(found);
    const struct str missing[] = {STR("a"), STR("x"), STR("y")};
    assert_int_equal(file_walk(&test_op, root, missing, 3, &walked, &found), ERR_OK);
    assert_int_equal(walked, 1); /* and before what is not there */
    file_unref(found);
    walked = 9;
    assert_int_equal(file_walk(&test_op, root, missing + 1, 1, &walked, &found), ERR_NOENT);
    assert_int_equal(walked, 9);
    file_unref(a);
    file_unref(b);
    file_unref(file);
}

/* A file against a plain array, at offsets around the edges of chunks. */
static void test_content(void **state) {
    (void)state;
    static uint8_t model[200000], data[200000];
    size_t size = 0;
    uint32_t random = 1;
    memset(model, 0, sizeof model);
    struct file *file = made(root, "f", FILE_REGULAR);
    for (int round = 0; round < 5000; round++) {
        random = random * 1664525 + 1013904223;
        static const size_t edges[] = {0, 255, 256, 16383, 16384, 16385, 32768, 100000};
        size_t offset = edges[random >> 29] + (random >> 20) % 5;
        size_t length = 1 + (random >> 8) % (random & 1 ? 10 : 40000), done = 0;
        if (round % 7 == 0) {
            assert_int_equal(file_set_size(&test_op, file, offset), ERR_OK);
            if (offset < size) {
                memset(model + offset, 0, size - offset);
            }
            size = offset;
        } else if (round % 3 == 0) {
            memset(data, 0xee, sizeof data);
            assert_int_equal(file_read(&test_op, file, data, length, offset, &done), ERR_OK);
            assert_int_equal(done, offset >= size ? 0 : MIN(length, size - offset));
            assert_memory_equal(data, model + offset, done);
        } else {
            memset(data, round, length);
            bool append = round % 5 == 0 && size + length < sizeof model;
            offset = append ? size : offset;
            assert_int_equal(
                file_write(&test_op, file, data, length, append ? OFFSET_APPEND : offset, &done),
                ERR_OK);
            assert_int_equal(done, length);
            memcpy(model + offset, data, length);
            size = MAX(size, offset + length);
        }
        assert_int_equal(stat_of(file).size, size);
    }
    assert_int_equal(file_set_size(&test_op, file, 0), ERR_OK);
    assert_int_equal(memory_usage(root).bytes, 0);
    file_unref(file);
}

static void test_sparse_and_huge(void **state) {
    (void)state;
    begin(1 << 20, 0);
    struct file *file = made(root, "f", FILE_REGULAR);
    size_t done = 0;
    char data[3] = "xx";
    uint64_t last = MEMORY_FILE_BYTES_MAX - 2;
    assert_int_equal(file_write(&test_op, file, "abc", 3, last, &done), ERR_OK);
    assert_int_equal(done, 2);
    assert_int_equal(file_write(&test_op, file, "c", 1, last + 2, &done), ERR_FBIG);
    assert_int_equal(file_write(&test_op, file, "c", 1, (uint64_t)1 << 63, &done), ERR_FBIG);
    assert_int_equal(file_write(&test_op, file, "c", 1, UINT64_MAX - 1, &done), ERR_FBIG);
    assert_int_equal(file_write(&test_op, file, "c", 1, OFFSET_APPEND, &done), ERR_FBIG);
    assert_int_equal(file_set_size(&test_op, file, (uint64_t)1 << 63), ERR_FBIG);
    assert_int_equal(file_set_size(&test_op, file, MEMORY_FILE_BYTES_MAX + 1), ERR_FBIG);
    assert_int_equal(stat_of(file).size, MEMORY_FILE_BYTES_MAX);
    assert_int_equal(file_read(&test_op, file, data, 3, last, &done), ERR_OK);
    assert_int_equal(done, 2);
    assert_memory_equal(data, "ab", 2);
    assert_int_equal(file_read(&test_op, file, data, 3, (uint64_t)1 << 40, &done), ERR_OK);
    assert_memory_equal(data, "\0\0\0", 3);
    assert_int_equal(file_read(&test_op, file, data, 3, UINT64_MAX, &done), ERR_OK);
    assert_int_equal(done, 0);
    assert_true(memory_usage(root).bytes <= 16384);
    assert_int_equal(file_set_size(&test_op, file, 1), ERR_OK);
    assert_int_equal(memory_usage(root).bytes, 0);
    file_unref(file);
}

static void test_limits(void **state) {
    (void)state;
    begin(100000, 5);
    struct file *file = made(root, "f", FILE_REGULAR);
    static char data[200000];
    size_t done = 0, total = 0;
    while (file_write(&test_op, file, data, sizeof data, total, &done) == ERR_OK) {
        assert_true(done > 0);
        total += done;
    }
    assert_in_range(total, 100000 - 16384, 100000);
    assert_int_equal(file_write(&test_op, file, data, 1, total, &done), ERR_NOSPC);
    /* Writing where nothing is allocated and failing must not take memory either. */
    for (uint64_t i = 1; i < 1000; i++) {
        assert_int_equal(file_write(&test_op, file, data, 1, i << 30, &done), ERR_NOSPC);
    }
    assert_int_equal(file_write(&test_op, file, data, 1, 0, &done), ERR_OK); /* is there */
    assert_int_equal(file_symlink(&test_op, root, STR("s"), (struct str){data, 4096}),
                     total > 100000 - 4096 ? ERR_NOSPC : ERR_OK);
    file_unref(file);
    assert_int_equal(file_remove(&test_op, root, STR("f"), false), ERR_OK);
    begin(0, 5);
    file = made(root, "0", FILE_REGULAR);
    assert_int_equal(make(root, "1", FILE_DIRECTORY, NULL), ERR_OK);
    assert_int_equal(file_symlink(&test_op, root, STR("2"), STR("x")), ERR_OK);
    assert_int_equal(make(root, "3", FILE_WHITEOUT, NULL), ERR_OK);
    assert_int_equal(file_link(&test_op, file, root, STR("4")), ERR_OK); /* counts, too */
    assert_int_equal(make(root, "5", FILE_REGULAR, NULL), ERR_NOSPC);
    assert_int_equal(file_link(&test_op, file, root, STR("5")), ERR_NOSPC);
    assert_int_equal(file_remove(&test_op, root, STR("0"), false), ERR_OK);
    assert_int_equal(make(root, "5", FILE_REGULAR, NULL), ERR_OK);
    assert_int_equal(file_remove(&test_op, root, STR("4"), false), ERR_OK);
    assert_int_equal(make(root, "6", FILE_REGULAR, NULL), ERR_NOSPC); /* it is still open */
    file_unref(file);
    assert_int_equal(make(root, "6", FILE_REGULAR, NULL), ERR_OK);
    assert_int_equal(memory_usage(root).inodes, 5);
}

static void test_rename(void **state) {
    (void)state;
    struct file *a = made(root, "a", FILE_DIRECTORY), *b = made(a, "b", FILE_DIRECTORY);
    struct file *full = made(root, "full", FILE_DIRECTORY);
    struct file *x = made(full, "x", FILE_REGULAR), *found;
    file_unref(made(root, "y", FILE_REGULAR));
    file_unref(made(root, "empty", FILE_DIRECTORY));
    assert_int_equal(move(root, "a", b, "c"), ERR_INVAL);
    assert_int_equal(move(root, "a", a, "c"), ERR_INVAL);
    assert_int_equal(move(root, "a", root, "a"), ERR_OK);
    assert_int_equal(move(root, "a", root, "y"), ERR_NOTDIR);
    assert_int_equal(move(root, "y", root, "a"), ERR_ISDIR);
    assert_int_equal(move(root, "a", root, "full"), ERR_NOTEMPTY);
    assert_int_equal(move(root, "none", root, "y"), ERR_NOENT);
    assert_int_equal(move(root, "a", root, "empty"), ERR_OK);
    assert_int_equal(find(root, "empty", &found), ERR_OK);
    assert_ptr_equal(found, a);
    file_unref(found);
    assert_int_equal(move(root, "y", full, "x"), ERR_OK);
    assert_false(exists(root, "y"));
    assert_int_equal(stat_of(x).links, 0);
    assert_int_equal(find(full, "x", &found), ERR_OK);
    /* Two names of one file: both stay. */
    assert_int_equal(file_link(&test_op, found, root, STR("z")), ERR_OK);
    assert_int_equal(move(root, "z", full, "x"), ERR_OK);
    assert_true(exists(root, "z") && exists(full, "x"));
    assert_int_equal(stat_of(found).links, 2);
    file_unref(found);
    /* A directory that was moved knows where it is. */
    assert_int_equal(move(root, "empty", full, "a"), ERR_OK);
    assert_int_equal(move(root, "full", b, "f"), ERR_INVAL);
    assert_int_equal(move(full, "a", root, "a"), ERR_OK);
    assert_int_equal(move(root, "full", b, "f"), ERR_OK);
    file_unref(a);
    file_unref(b);
    file_unref(full);
    file_unref(x);
}

static void test_removed(void **state) {
    (void)state;
    struct file *d = made(root, "d", FILE_DIRECTORY), *f = made(d, "f", FILE_REGULAR), *got = NULL;
    size_t done;
    assert_int_equal(file_remove(&test_op, root, STR("d"), true), ERR_NOTEMPTY);
    assert_int_equal(file_remove(&test_op, root, STR("d"), false), ERR_ISDIR);
    assert_int_equal(file_remove(&test_op, d, STR("f"), true), ERR_NOTDIR);
    assert_int_equal(file_remove(&test_op, d, STR("f"), false), ERR_OK);
    assert_int_equal(file_remove(&test_op, d, STR("f"), false), ERR_NOENT);
    assert_int_equal(file_remove(&test_op, root, STR("d"), true), ERR_OK);
    /* Who holds them goes on; nothing can be put into the directory. */
    assert_int_equal(file_write(&test_op, f, "x", 1, 0, &done), ERR_OK);
    assert_int_equal(file_link(&test_op, f, root, STR("again")), ERR_NOENT);
    assert_int_equal(file_create(&test_op, d, STR("n"), FILE_REGULAR, &got), ERR_NOENT);
    assert_int_equal(file_symlink(&test_op, d, STR("n"), STR("x")), ERR_NOENT);
    file_unref(made(root, "other", FILE_REGULAR));
    assert_int_equal(move(root, "other", d, "n"), ERR_NOENT);
    assert_int_equal(memory_usage(root).inodes, 3);
    file_unref(d);
    file_unref(f);
    assert_int_equal(memory_usage(root).inodes, 1);
    assert_int_equal(memory_usage(root).bytes, 0);
}

static void test_root_goes_first(void **state) {
    (void)state;
    struct file *d = made(root, "d", FILE_DIRECTORY), *f = made(d, "f", FILE_REGULAR), *got = NULL;
    struct file *deep = file_ref(d);
    for (int depth = 0; depth < 50000; depth++) {
        struct file *next = made(deep, "n", FILE_DIRECTORY);
        file_unref(deep);
        deep = next;
    }
    size_t done;
    char byte;
    assert_int_equal(file_write(&test_op, f, "x", 1, 0, &done), ERR_OK);
    file_unref(STEAL(root)); /* 50,000 directories deep, without recursion */
    assert_int_equal(file_read(&test_op, f, &byte, 1, 0, &done), ERR_OK);
    assert_int_equal(byte, 'x');
    assert_false(exists(d, "f"));
    assert_int_equal(file_create(&test_op, deep, STR("n"), FILE_REGULAR, &got), ERR_NOENT);
    file_unref(deep);
    file_unref(d);
    file_unref(f);
}

static void test_what_has_changed_meanwhile_is_left(void **state) {
    (void)state;
    const struct file_expected nothing = {0};
    struct file *f = made(root, "f", FILE_REGULAR);
    struct file *other = made(root, "other", FILE_REGULAR);
    struct file_stat stat = stat_of(f);
    struct file_expected seen = {.inode = stat.inode, .version = stat.version};
    size_t done;
    assert_int_equal(file_write(&test_op, f, "x", 1, 0, &done), ERR_OK);
    assert_int_equal(file_remove_expected(&test_op, root, STR("f"), false, &seen), ERR_STALE);
    assert_int_equal(file_rename_expected(&test_op, root, STR("other"), root, STR("f"), &seen),
                     ERR_STALE);
    assert_int_equal(file_rename_expected(&test_op, root, STR("other"), root, STR("f"), &nothing),
                     ERR_STALE);
    assert_int_equal(file_rename_expected(&test_op, root, STR("other"), root, STR("gone"), &seen),
                     ERR_STALE);
    seen.version = stat_of(f).version;
    assert_int_equal(file_rename_expected(&test_op, root, STR("other"), root, STR("f"), &seen),
                     ERR_OK);
    assert_int_equal(file_rename_expected(&test_op, root, STR("f"), root, STR("gone"), &nothing),
                     ERR_OK);
    stat = stat_of(other);
    seen = (struct file_expected){.inode = stat.inode, .version = stat.version};
    assert_int_equal(file_remove_expected(&test_op, root, STR("gone"), false, &seen), ERR_OK);
    file_unref(other);
    file_unref(f);
}

static void test_times_and_versions(void **state) {
    (void)state;
    struct file *f = made(root, "f", FILE_REGULAR);
    struct file_stat before = stat_of(f), after;
    assert_true(before.modified_ns > 0 && before.version > 0);
    assert_int_equal(file_set_times(&test_op, f, 5, 6, SET_ACCESSED), ERR_OK);
    after = stat_of(f);
    assert_int_equal(after.accessed_ns, 5);
    assert_int_equal(after.modified_ns, before.modified_ns);
    assert_int_equal(file_set_times(&test_op, f, 7, UINT64_MAX, SET_MODIFIED), ERR_OK);
    after = stat_of(f);
    assert_int_equal(after.accessed_ns, 5);
    assert_true(after.modified_ns == UINT64_MAX);
    assert_int_equal(after.version, before.version);
    size_t done;
    assert_int_equal(file_write(&test_op, f, "x", 1, 0, &done), ERR_OK);
    assert_int_not_equal(stat_of(f).version, before.version);
    before = stat_of(f);
    struct file *opened;
    assert_int_equal(file_open(&test_op, f, OPEN_WRITE | OPEN_TRUNCATE, &opened), ERR_OK);
    assert_int_equal(stat_of(f).size, 0);
    assert_int_not_equal(stat_of(f).version, before.version);
    file_unref(opened);
    file_unref(f);
}

static void test_many_names(void **state) {
    (void)state;
    char name[16];
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(make(root, name, FILE_REGULAR, NULL), ERR_OK);
    }
    struct dir_list list = {0};
    assert_int_equal(file_readdir(&test_op, root, &list), ERR_OK);
    assert_int_equal(list.count, 20000);
    assert_true(str_equal_text(dir_list_name(&list, 19999), "n19999"));
    dir_list_done(&list);
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(file_remove(&test_op, root, str_of(name), false), ERR_OK);
    }
    assert_int_equal(memory_usage(root).inodes, 0);
}

/* Four threads in one directory: what is there in the end is what was made and not removed. */
enum { THREADS = 4, ROUNDS = 3000 };
static void *work(void *argument) {
    struct op op;
    op_init(&op, NULL, &test_who, test_wake);
    uint32_t random = (uint32_t)(uintptr_t)argument;
    long balance = 0;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        char name[2] = {(char)('a' + (random >> 28)), 0},
             other[2] = {(char)('a' + (random >> 24) % 16), 0};
        struct file *file = NULL;
        size_t done;
        switch ((random >> 20) % 4) {
        case 0:
            balance += file_create(&op, root, str_of(name), FILE_REGULAR, &file) == ERR_OK;
            break;
        case 1:
            balance -= file_remove(&op, root, str_of(name), false) == ERR_OK;
            break;
        case 2:
            if (find(root, name, &file) == ERR_OK) {
                (void)!file_write(&op, file, name, 1, random >> 16, &done);
            }
            break;
        default:
            if (find(root, name, &file) == ERR_OK) {
                balance += file_link(&op, file, root, str_of(other)) == ERR_OK;
            }
        }
        file_unref(file);
    }
    return (void *)balance;
}
static void test_threads(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    long balance = 0;
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        balance += (long)result;
    }
    struct dir_list list = {0};
    assert_int_equal(file_readdir(&test_op, root, &list), ERR_OK);
    assert_int_equal(list.count, balance);
    assert_int_equal(memory_usage(root).inodes, balance);
    dir_list_done(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_walk),
        TEST(test_content),
        TEST(test_sparse_and_huge),
        TEST(test_limits),
        TEST(test_rename),
        TEST(test_removed),
        TEST(test_root_goes_first),
        TEST(test_what_has_changed_meanwhile_is_left),
        TEST(test_times_and_versions),
        TEST(test_many_names),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
