#include "ns/fdtab.h"

#include "ns/pending_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int alive, closed;
static unsigned closed_flags;

static void count_closed(struct file *file, unsigned open_flags) {
    (void)file;
    closed++;
    closed_flags = open_flags;
}
static void count_release(struct file *file) {
    alive--;
    free(file);
}
static const struct dev counting = {
    .name = "counting", .closed = count_closed, .release = count_release};

static struct fd new_fd(uint64_t inode) {
    struct file *file = malloc(sizeof *file);
    assert_non_null(file);
    file_init(file, &counting, 1, inode, FILE_CHARACTER_DEVICE, 0);
    alive++;
    return (struct fd){.place = {file, NULL}, .open_flags = OPEN_READ};
}
static enum err add(struct fdtab *table, uint64_t inode, uint32_t *ret_number) {
    struct fd fd = new_fd(inode);
    enum err err = fdtab_add(table, &fd, ret_number);
    if (err != ERR_OK) {
        ns_place_done(&fd.place); /* still the caller's */
    }
    return err;
}

static int setup(void **state) {
    (void)state;
    alive = closed = 0;
    return 0;
}

static void test_lowest_free_number(void **state) {
    (void)state;
    struct fdtab table;
    uint32_t number = 99;
    fdtab_init(&table, 100);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(add(&table, i + 1, &number), ERR_OK);
        assert_int_equal(number, i);
    }
    assert_int_equal(fdtab_close(&table, 7), ERR_OK);
    assert_int_equal(fdtab_close(&table, 3), ERR_OK);
    assert_int_equal(closed, 2);
    assert_int_equal(closed_flags, OPEN_READ);
    assert_int_equal(alive, 18);
    assert_int_equal(fdtab_close(&table, 3), ERR_BADF);
    assert_null(fdtab_get(&table, 3));
    assert_null(fdtab_get(&table, 20));
    assert_null(fdtab_get(&table, UINT32_MAX));
    assert_int_equal(add(&table, 50, &number), ERR_OK);
    assert_int_equal(number, 3);
    assert_int_equal(add(&table, 51, &number), ERR_OK);
    assert_int_equal(number, 7);
    assert_int_equal(fdtab_get(&table, 7)->place.file->inode, 51);
    fdtab_done(&table);
    assert_int_equal(alive, 0);
    assert_int_equal(closed, 22);
}

static void test_limit(void **state) {
    (void)state;
    for (uint32_t limit = 0; limit < 40; limit++) {
        struct fdtab table;
        uint32_t number;
        fdtab_init(&table, limit);
        for (uint32_t i = 0; i < limit; i++) {
            assert_int_equal(add(&table, 1, &number), ERR_OK);
        }
        number = 77;
        assert_int_equal(add(&table, 1, &number), ERR_NFILE);
        assert_int_equal(number, 77);
        if (limit > 0) {
            assert_int_equal(fdtab_close(&table, limit / 2), ERR_OK);
            assert_int_equal(add(&table, 1, &number), ERR_OK);
            assert_int_equal(number, limit / 2);
        }
        fdtab_done(&table);
        assert_int_equal(alive, 0);
    }
}

static void test_renumber(void **state) {
    (void)state;
    struct fdtab table;
    uint32_t number;
    fdtab_init(&table, 10);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(add(&table, i + 1, &number), ERR_OK);
    }
    assert_int_equal(fdtab_renumber(&table, 1, 1), ERR_OK);
    assert_int_equal(closed, 0);
    assert_int_equal(fdtab_renumber(&table, 3, 1), ERR_OK);
    assert_int_equal(closed, 1);
    assert_int_equal(fdtab_get(&table, 1)->place.file->inode, 4);
    assert_null(fdtab_get(&table, 3));
    assert_int_equal(fdtab_renumber(&table, 3, 1), ERR_BADF);
    assert_int_equal(fdtab_renumber(&table, 1, 3), ERR_BADF);
    assert_int_equal(fdtab_renumber(&table, 9, 9), ERR_BADF);
    assert_int_equal(fdtab_renumber(&table, UINT32_MAX, 0), ERR_BADF);
    assert_int_equal(table.count, 3);
    fdtab_done(&table);
    assert_int_equal(alive, 0);
}

static void test_listing_goes_with_its_descriptor(void **state) {
    (void)state;
    struct fdtab table;
    uint32_t number;
    fdtab_init(&table, 10);
    struct fd fd = new_fd(1);
    fd.listing = calloc(1, sizeof *fd.listing);
    assert_non_null(fd.listing);
    assert_int_equal(dir_list_add(fd.listing, STR("x"), 1, FILE_REGULAR), ERR_OK);
    assert_int_equal(fdtab_add(&table, &fd, &number), ERR_OK);
    assert_int_equal(fdtab_close(&table, number), ERR_OK); /* the leak checker sees the rest */
    fdtab_done(&table);
    assert_int_equal(alive, 0);
}

/* What a device has not. */
static void test_defaults(void **state) {
    (void)state;
    test_begin();
    struct file *directory = malloc(sizeof *directory), *file = malloc(sizeof *file), *got = NULL;
    assert_true(directory && file);
    alive += 2;
    file_init(directory, &counting, 5, 6, FILE_DIRECTORY, 0);
    file_init(file, &counting, 5, 7, FILE_REGULAR, FILE_READ_ONLY);
    struct str name = STR("x");
    size_t count = 9;
    unsigned ready = 0;
    uint64_t bytes = 9;
    struct file_stat stat;
    struct dir_list list = {0};
    struct buf target = {0};
    assert_int_equal(file_walk(&test_op, directory, &name, 1, &count, &got), ERR_NOENT);
    assert_int_equal(file_walk(&test_op, file, &name, 1, &count, &got), ERR_NOTDIR);
    assert_int_equal(file_open(&test_op, file, OPEN_WRITE, &got), ERR_ROFS);
    assert_int_equal(file_open(&test_op, file, OPEN_TRUNCATE, &got), ERR_ROFS);
    assert_int_equal(file_open(&test_op, directory, OPEN_WRITE, &got), ERR_ISDIR);
    assert_int_equal(file_open(&test_op, file, OPEN_READ, &got), ERR_OK);
    assert_ptr_equal(got, file);
    file_unref(got);
    assert_int_equal(file_create(&test_op, directory, name, FILE_REGULAR, &got), ERR_ROFS);
    assert_int_equal(file_create(&test_op, file, name, FILE_REGULAR, &got), ERR_NOTDIR);
    assert_int_equal(file_symlink(&test_op, directory, name, name), ERR_ROFS);
    assert_int_equal(file_link(&test_op, file, directory, name), ERR_ROFS);
    assert_int_equal(file_link(&test_op, directory, directory, name), ERR_PERM);
    assert_int_equal(file_readlink(&test_op, file, &target), ERR_INVAL);
    assert_int_equal(file_remove(&test_op, directory, name, false), ERR_ROFS);
    assert_int_equal(file_rename(&test_op, directory, name, directory, name), ERR_ROFS);
    assert_int_equal(file_read(&test_op, file, &bytes, 1, 0, &count), ERR_NOTSUP);
    assert_int_equal(file_read(&test_op, directory, &bytes, 1, 0, &count), ERR_ISDIR);
    assert_int_equal(file_write(&test_op, file, &bytes, 1, 0, &count), ERR_ROFS);
    assert_int_equal(count, 9);
    assert_int_equal(file_readdir(&test_op, directory, &list), ERR_OK);
    assert_int_equal(file_readdir(&test_op, file, &list), ERR_NOTDIR);
    assert_int_equal(file_set_size(&test_op, file, 0), ERR_ROFS);
    assert_int_equal(file_set_times(&test_op, file, 0, 0, 0), ERR_NOTSUP);
    assert_int_equal(file_sync(&test_op, file), ERR_OK);
    assert_int_equal(file_poll(&test_op, file, POLL_READABLE, &ready, &bytes), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(file_accept(&test_op, file, &got), ERR_NOTSOCK);
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_READ), ERR_NOTSOCK);
    assert_int_equal(file_unread(&test_op, file, 1), ERR_SPIPE);
    assert_int_equal(file_stat(&test_op, file, &stat), ERR_OK);
    assert_int_equal(stat.device, 5);
    assert_int_equal(stat.inode, 7);
    assert_int_equal(stat.links, 1);
    file_unref(directory);
    file_unref(file);
    file_unref(NULL);
    assert_int_equal(alive, 0);
    test_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lowest_free_number, setup),
        cmocka_unit_test_setup(test_limit, setup),
        cmocka_unit_test_setup(test_renumber, setup),
        cmocka_unit_test_setup(test_listing_goes_with_its_descriptor, setup),
        cmocka_unit_test_setup(test_defaults, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
