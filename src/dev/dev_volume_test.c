/* Volumes as files; what a volume does is tested beside store/volume.c. */
#include "dev/volume.h"
#include "store/volume_testing.h"

static struct file *make(struct file *directory, const char *name, enum file_type type) {
    struct file *file = NULL;
    assert_ok(file_create(&op, directory, str_of(name), type, &file));
    return file;
}

static void test_files_have_identity_and_traits(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    struct file *root, *other_root, *file, *found;
    assert_int_equal(dev_volume_root(volume, false, &root), ERR_OK);
    assert_int_equal(dev_volume_root(volume, true, &other_root), ERR_OK);
    volume_unref(volume); /* the files keep it */
    assert_int_equal(root->device, other_root->device);
    assert_int_equal(root->inode, VOLUME_ROOT_INODE);
    assert_int_equal(root->type, FILE_DIRECTORY);
    file = make(root, "f", FILE_REGULAR);
    assert_int_equal(file->traits, FILE_SEEKABLE);
    assert_int_equal(file->type, FILE_REGULAR);
    struct str name = STR("f");
    size_t walked;
    assert_ok(file_walk(&op, other_root, &name, 1, &walked, &found));
    assert_int_equal(found->inode, file->inode);
    assert_int_equal(found->traits, FILE_SEEKABLE | FILE_READ_ONLY);
    struct file_stat stat;
    assert_ok(file_stat(&op, found, &stat));
    assert_int_equal(stat.device, root->device);
    file_unref(found);
    file_unref(file);
    file_unref(other_root);
    file_unref(root);
}

static void test_a_read_only_root_refuses_changes(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    struct file *root, *view, *file, *found, *opened;
    assert_int_equal(dev_volume_root(volume, false, &root), ERR_OK);
    assert_int_equal(dev_volume_root(volume, true, &view), ERR_OK);
    file = make(root, "f", FILE_REGULAR);
    struct str name = STR("f");
    size_t size;
    assert_ok(file_walk(&op, view, &name, 1, &size, &found));
    assert_err(file_create(&op, view, STR("g"), FILE_REGULAR, &opened), ROFS);
    assert_err(file_symlink(&op, view, STR("g"), STR("f")), ROFS);
    assert_err(file_link(&op, found, view, STR("g")), ROFS);
    assert_err(file_remove(&op, view, STR("f"), false), ROFS);
    assert_err(file_rename(&op, view, STR("f"), view, STR("g")), ROFS);
    assert_err(file_rename(&op, root, STR("f"), view, STR("g")), ROFS);
    assert_err(file_write(&op, found, "x", 1, 0, &size), ROFS);
    assert_err(file_set_size(&op, found, 0), ROFS);
    assert_err(file_set_times(&op, found, 1, 1, SET_MODIFIED), ROFS);
    assert_err(file_open(&op, found, OPEN_READ | OPEN_WRITE, &opened), ROFS);
    assert_ok(file_open(&op, found, OPEN_READ, &opened));
    file_unref(opened);
    assert_ok(file_sync(&op, found));
    file_unref(found);
    file_unref(file);
    file_unref(view);
    file_unref(root);
    volume_unref(volume);
}

static void test_opening_looks_at_the_type(void **state) {
    (void)state;
    struct volume *volume = open_volume();
    struct file *root, *file, *directory, *opened;
    assert_int_equal(dev_volume_root(volume, false, &root), ERR_OK);
    file = make(root, "f", FILE_REGULAR);
    directory = make(root, "d", FILE_DIRECTORY);
    size_t size;
    assert_ok(file_write(&op, file, "text", 4, 0, &size));
    assert_err(file_open(&op, directory, OPEN_WRITE, &opened), ISDIR);
    assert_err(file_open(&op, file, OPEN_TRUNCATE, &opened), INVAL);
    assert_ok(file_open(&op, file, OPEN_WRITE | OPEN_TRUNCATE, &opened));
    struct file_stat stat;
    assert_ok(file_stat(&op, opened, &stat));
    assert_int_equal(stat.size, 0);
    file_unref(opened);
    /* The file lives while it is open, and then no more. */
    assert_ok(file_remove(&op, root, STR("f"), false));
    assert_ok(file_write(&op, file, "text", 4, 0, &size));
    assert_int_equal(volume_usage(volume).bytes, 4);
    file_unref(file);
    assert_int_equal(volume_usage(volume).bytes, 0);
    file_unref(directory);
    file_unref(root);
    volume_unref(volume);
}

static void test_names_do_not_cross_volumes(void **state) {
    (void)state;
    struct volume *volume = open_volume(), *other;
    char path[320];
    (void)snprintf(path, sizeof(path), "%s/other.db", directory_path);
    struct volume_options options = {.path = path, .create = true};
    assert_int_equal(volume_open(&options, &other, NULL), ERR_OK);
    struct file *root, *other_root;
    assert_int_equal(dev_volume_root(volume, false, &root), ERR_OK);
    assert_int_equal(dev_volume_root(other, false, &other_root), ERR_OK);
    assert_int_not_equal(root->device, other_root->device);
    struct file *file = make(root, "f", FILE_REGULAR);
    assert_err(file_link(&op, file, other_root, STR("f")), XDEV);
    assert_err(file_rename(&op, root, STR("f"), other_root, STR("f")), XDEV);
    file_unref(file);
    file_unref(root);
    file_unref(other_root);
    volume_unref(volume);
    volume_unref(other);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_files_have_identity_and_traits),
        TEST(test_a_read_only_root_refuses_changes),
        TEST(test_opening_looks_at_the_type),
        TEST(test_names_do_not_cross_volumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
