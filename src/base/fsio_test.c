#include "base/fsio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static char directory[64]; /* of each test */

static int set_up(void **state) {
    (void)state;
    strcpy(directory, "/tmp/fsio-test-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    fsio_system = &fsio_system_host;
    enum err err = fsio_remove_tree(directory);
    return err == ERR_OK && access(directory, F_OK) < 0 ? 0 : -1;
}

/* A path in the directory; valid until the eighth call after. */
static const char *path_of(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void assert_file(const char *name, const char *content) {
    cleanup_buf struct buf read = {0};
    assert_int_equal(fsio_read_file(path_of(name), 1000, &read), ERR_OK);
    assert_string_equal(buf_text(&read), content);
}

static size_t count_entries(void) {
    DIR *stream = opendir(directory);
    assert_non_null(stream);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(stream));) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(stream);
    return count;
}

/* A system in which the call number `fail_at` fails with `fail_errno`, reads and writes are of one
 * byte, and every other one is interrupted. */
static unsigned calls, fail_at, interrupts;
static int fail_errno;
static bool small_steps;

static bool fails(void) {
    if (++calls == fail_at) {
        errno = fail_errno;
        return true;
    }
    return false;
}
static bool is_interrupted(void) {
    if (small_steps && interrupts++ % 2 == 0) {
        errno = EINTR;
        return true;
    }
    return false;
}
static int test_openat(int at, const char *path, int flags, mode_t mode) {
    return fails() ? -1 : fsio_system_host.openat(at, path, flags, mode);
}
static ssize_t test_read(int descriptor, void *data, size_t length) {
    return fails() || is_interrupted() ? -1 : read(descriptor, data, small_steps ? 1 : length);
}
static ssize_t test_write(int descriptor, const void *data, size_t length) {
    return fails() || is_interrupted() ? -1 : write(descriptor, data, small_steps ? 1 : length);
}
static ssize_t test_pwrite(int descriptor, const void *data, size_t length, off_t position) {
    return fails() || is_interrupted()
               ? -1
               : pwrite(descriptor, data, small_steps ? 1 : length, position);
}
static int test_fstat(int descriptor, struct stat *ret_stat) {
    return fails() ? -1 : fstat(descriptor, ret_stat);
}
static int test_fsync(int descriptor) {
    return fails() || is_interrupted() ? -1 : fsync(descriptor);
}
static int test_rename(const char *old_path, const char *new_path) {
    return fails() ? -1 : rename(old_path, new_path);
}
static int test_mkdir(const char *path, mode_t mode) {
    return fails() ? -1 : mkdir(path, mode);
}
static int test_unlinkat(int at, const char *path, int flags) {
    return unlinkat(at, path, flags);
}
static const struct fsio_system test_system = {
    .openat = test_openat,
    .close = close,
    .read = test_read,
    .write = test_write,
    .pwrite = test_pwrite,
    .fstat = test_fstat,
    .fsync = test_fsync,
    .rename = test_rename,
    .mkdir = test_mkdir,
    .unlinkat = test_unlinkat,
};

static void use_test_system(unsigned fail_at_call, int error, bool in_small_steps) {
    calls = interrupts = 0;
    fail_at = fail_at_call;
    fail_errno = error;
    small_steps = in_small_steps;
    fsio_system = &test_system;
}

static void test_replace_and_read(void **state) {
    (void)state;
    assert_int_equal(fsio_replace_file(path_of("a"), "first", 5), ERR_OK);
    assert_file("a", "first");
    assert_int_equal(fsio_replace_file(path_of("a"), "second", 6), ERR_OK);
    assert_file("a", "second");
    assert_int_equal(count_entries(), 1);
    struct stat stat_of_a;
    assert_int_equal(stat(path_of("a"), &stat_of_a), 0);
    assert_int_equal(stat_of_a.st_mode & 0777, 0600);
    assert_int_equal(fsio_replace_file(path_of("none/a"), "x", 1), ERR_NOENT);
}

static void test_read_limit(void **state) {
    (void)state;
    cleanup_buf struct buf content = {0};
    assert_int_equal(buf_append_str(&content, STR("before ")), ERR_OK);
    assert_int_equal(fsio_replace_file(path_of("a"), "12345", 5), ERR_OK);
    assert_int_equal(fsio_read_file(path_of("a"), 4, &content), ERR_FBIG);
    assert_string_equal(buf_text(&content), "before ");
    assert_int_equal(fsio_read_file(path_of("a"), 5, &content), ERR_OK);
    assert_string_equal(buf_text(&content), "before 12345");
    assert_int_equal(fsio_read_file(path_of("none"), 5, &content), ERR_NOENT);
    assert_int_equal(fsio_read_file(directory, 5000, &content), ERR_ISDIR);
    assert_int_equal(fsio_read_file("/dev/zero", 100000, &content), ERR_FBIG);
    assert_string_equal(buf_text(&content), "before 12345");
    assert_int_equal(fsio_read_file("/dev/null", 0, &content), ERR_OK);
    cleanup_buf struct buf status = {0};
    assert_int_equal(fsio_read_file("/proc/self/status", SIZE_MAX, &status), ERR_OK);
    assert_true(status.length > 100); /* though its size is 0 */
    assert_int_equal(status.data[status.length], 0);
}

static void test_small_steps_and_interrupts(void **state) {
    (void)state;
    use_test_system(0, 0, true);
    assert_int_equal(fsio_replace_file(path_of("a"), "in small steps", 14), ERR_OK);
    cleanup_buf struct buf content = {0};
    assert_int_equal(fsio_read_file(path_of("a"), 14, &content), ERR_OK);
    assert_string_equal(buf_text(&content), "in small steps");
    assert_int_equal(fsio_read_file(path_of("a"), 13, &content), ERR_FBIG);
}

/* Whichever call fails: the old content or the new, and nothing left behind. */
static void test_replace_fails_at_every_call(void **state) {
    (void)state;
    assert_int_equal(fsio_replace_file(path_of("a"), "old", 3), ERR_OK);
    for (unsigned at = 1;; at++) {
        use_test_system(at, ENOSPC, false);
        enum err err = fsio_replace_file(path_of("a"), "new", 3);
        bool was_reached = calls >= at;
        fsio_system = &fsio_system_host;
        assert_int_equal(err, was_reached ? ERR_NOSPC : ERR_OK);
        assert_int_equal(count_entries(), 1);
        cleanup_buf struct buf content = {0};
        assert_int_equal(fsio_read_file(path_of("a"), 100, &content), ERR_OK);
        /* open, write, fsync, rename; then it is there, and only the directory is not synced */
        assert_string_equal(buf_text(&content), at <= 4 ? "old" : "new");
        if (!was_reached) {
            assert_true(at > 5);
            break;
        }
    }
}

static void test_write_at(void **state) {
    (void)state;
    assert_int_equal(fsio_replace_file(path_of("holes"), "abcdef", 6), ERR_OK);
    int descriptor = open(path_of("holes"), O_WRONLY);
    assert_true(descriptor >= 0);
    fsio_system = &test_system;
    fail_at = 0, small_steps = true;
    assert_int_equal(fsio_write_at(descriptor, "CD", 2, 2), ERR_OK);
    assert_int_equal(fsio_write_all(descriptor, "A", 1), ERR_OK); /* its position has not moved */
    small_steps = false;
    calls = 0, fail_at = 1, fail_errno = ENOSPC;
    assert_int_equal(fsio_write_at(descriptor, "x", 1, 0), ERR_NOSPC);
    fail_at = 0;
    fsio_system = &fsio_system_host;
    assert_int_equal(fsio_write_at(descriptor, "x", 1, INT64_MAX), ERR_FBIG);
    close(descriptor);
    assert_file("holes", "AbCDef");
}

static void test_next_name(void **state) {
    (void)state;
    DIR *stream = opendir(path_of(""));
    assert_non_null(stream);
    const char *name;
    assert_int_equal(fsio_next_name(stream, &name), ERR_OK);
    assert_null(name); /* neither "." nor ".." */
    assert_int_equal(fsio_replace_file(path_of("one"), "", 0), ERR_OK);
    rewinddir(stream);
    assert_int_equal(fsio_next_name(stream, &name), ERR_OK);
    assert_string_equal(name, "one");
    assert_int_equal(fsio_next_name(stream, &name), ERR_OK);
    assert_null(name);
    closedir(stream);
}

static void test_new_file(void **state) {
    (void)state;
    struct fsio_new_file file;
    assert_int_equal(fsio_new_file(path_of("upload"), &file), ERR_OK);
    assert_int_equal(fsio_write_all(file.descriptor, "abc", 3), ERR_OK);
    assert_int_equal(access(path_of("upload"), F_OK), -1);
    assert_int_equal(fsio_new_file_publish_as(&file, path_of("other")), ERR_OK);
    fsio_new_file_discard(&file);
    assert_file("other", "abc");
    assert_int_equal(count_entries(), 1);

    assert_int_equal(fsio_new_file(path_of("upload"), &file), ERR_OK);
    assert_int_equal(count_entries(), 2);
    fsio_new_file_discard(&file);
    fsio_new_file_discard(&file);
    assert_int_equal(count_entries(), 1);
}

static void test_make_directories(void **state) {
    (void)state;
    assert_int_equal(fsio_make_directories(path_of("x//y/z/")), ERR_OK);
    assert_int_equal(fsio_make_directories(path_of("x/y/z")), ERR_OK);
    struct stat stat_of_y;
    assert_int_equal(stat(path_of("x/y"), &stat_of_y), 0);
    assert_int_equal(stat_of_y.st_mode & 07777, 0700);
    assert_int_equal(fsio_replace_file(path_of("file"), "", 0), ERR_OK);
    assert_int_equal(fsio_make_directories(path_of("file")), ERR_NOTDIR);
    assert_int_equal(fsio_make_directories(path_of("file/x")), ERR_NOTDIR);
    assert_int_equal(fsio_make_directories("/"), ERR_OK);
    assert_int_equal(fsio_make_directories(""), ERR_NOENT);
    use_test_system(1, EACCES, false);
    assert_int_equal(fsio_make_directories(path_of("x")), ERR_ACCES);
}

static void test_remove_tree(void **state) {
    (void)state;
    assert_int_equal(fsio_make_directories(path_of("kept")), ERR_OK);
    assert_int_equal(fsio_replace_file(path_of("kept/file"), "kept", 4), ERR_OK);
    assert_int_equal(fsio_make_directories(path_of("tree/a/b")), ERR_OK);
    assert_int_equal(fsio_replace_file(path_of("tree/a/file"), "", 0), ERR_OK);
    assert_int_equal(symlink("../../kept", path_of("tree/a/link")), 0);
    assert_int_equal(fsio_remove_tree(path_of("tree")), ERR_OK);
    assert_int_equal(access(path_of("tree"), F_OK), -1);
    assert_file("kept/file", "kept");
    assert_int_equal(fsio_remove_tree(path_of("tree")), ERR_OK); /* not there */
    assert_int_equal(symlink("kept", path_of("link")), 0);
    assert_int_equal(fsio_remove_tree(path_of("link")), ERR_OK);
    assert_file("kept/file", "kept");
    assert_int_equal(fsio_remove_tree(path_of("kept/file")), ERR_OK);
    assert_int_equal(fsio_remove_file(path_of("kept/file")), ERR_NOENT);
}

static void test_remove_tree_has_a_depth(void **state) {
    (void)state;
    cleanup_buf struct buf path = {0};
    assert_int_equal(buf_printf(&path, "%s/deep", directory), ERR_OK);
    for (unsigned i = 0; i < 101; i++) {
        assert_int_equal(buf_append_str(&path, STR("/d")), ERR_OK);
    }
    assert_int_equal(fsio_make_directories(buf_text(&path)), ERR_OK);
    assert_int_equal(fsio_remove_tree(path_of("deep")), ERR_LOOP);
    assert_int_equal(rmdir(buf_text(&path)), 0);
    assert_int_equal(fsio_remove_tree(path_of("deep")), ERR_OK);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_replace_and_read),
        TEST(test_read_limit),
        TEST(test_small_steps_and_interrupts),
        TEST(test_replace_fails_at_every_call),
        TEST(test_new_file),
        TEST(test_write_at),
        TEST(test_next_name),
        TEST(test_make_directories),
        TEST(test_remove_tree),
        TEST(test_remove_tree_has_a_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
