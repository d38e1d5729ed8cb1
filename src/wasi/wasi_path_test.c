/* What is done by path, but opening. */
#include "ns/temporary.h"
#include "wasi/wasi_test_fixture.h"

static enum err make_directory(struct fixture *f, const char *path) {
    return CALL(f, path_create_directory, FD_ROOT, PATH(f, path));
}
static enum err unlink_file(struct fixture *f, const char *path) {
    return CALL(f, path_unlink_file, FD_ROOT, PATH(f, path));
}
static enum err remove_directory(struct fixture *f, const char *path) {
    return CALL(f, path_remove_directory, FD_ROOT, PATH(f, path));
}
static enum err rename_path(struct fixture *f, const char *from, const char *to) {
    return CALL(f, path_rename, FD_ROOT, PATH(f, from), FD_ROOT, PATH_2(f, to));
}
static enum err link_path(struct fixture *f, const char *from, const char *to) {
    return CALL(f, path_link, FD_ROOT, 0, PATH(f, from), FD_ROOT, PATH_2(f, to));
}
static enum err symlink_path(struct fixture *f, const char *target, const char *path) {
    return CALL(f, path_symlink, PATH(f, target), FD_ROOT, PATH_2(f, path));
}
static enum err stat_path(struct fixture *f, const char *path, bool follow) {
    return CALL(f, path_filestat_get, FD_ROOT, follow, PATH(f, path), AT_STRUCT);
}
static bool exists(struct fixture *f, const char *path) {
    return stat_path(f, path, false) == ERR_OK;
}
#define IS(error, call) assert_int_equal(call, error)

static void test_directories(void **state) {
    struct fixture *f = *state;
    IS(ERR_OK, make_directory(f, "a"));
    IS(ERR_EXIST, make_directory(f, "a"));
    IS(ERR_OK, make_directory(f, "a/b/"));
    IS(ERR_NOENT, make_directory(f, "none/b"));
    must_make_file(f, "file", "x");
    IS(ERR_NOTDIR, make_directory(f, "file/b"));
    IS(ERR_EXIST, make_directory(f, "file"));
    IS(ERR_EXIST, make_directory(f, "other"));
    IS(ERR_OK, make_directory(f, "other/a"));
    /* What can only be there already. */
    IS(ERR_EXIST, make_directory(f, "."));
    IS(ERR_EXIST, make_directory(f, "a/.."));
    IS(ERR_EXIST, make_directory(f, "a/./"));
    IS(ERR_PERM, make_directory(f, ".."));
    IS(ERR_NOENT, make_directory(f, "none/."));
    IS(ERR_PERM, make_directory(f, "/a"));

    IS(ERR_NOTEMPTY, remove_directory(f, "a"));
    IS(ERR_OK, remove_directory(f, "a/b/"));
    IS(ERR_OK, remove_directory(f, "a"));
    IS(ERR_NOENT, remove_directory(f, "a"));
    IS(ERR_NOTDIR, remove_directory(f, "file"));
    IS(ERR_NOTDIR, remove_directory(f, "file/"));
    IS(ERR_INVAL, remove_directory(f, "."));
    IS(ERR_BUSY, remove_directory(f, "other"));
    IS(ERR_BUSY, remove_directory(f, "other/"));
    /* A directory that is gone while it is open. */
    IS(ERR_OK, make_directory(f, "gone"));
    uint32_t fd = must_open(f, "gone", OFLAG_DIRECTORY, 0, 0);
    IS(ERR_OK, remove_directory(f, "gone"));
    assert_int_not_equal(try_open(f, fd, "x", OFLAG_CREAT, 0, 0), ERR_OK);
    IS(ERR_OK, make_directory(f, "gone"));
}

static void wake_nobody(struct op *op) {
    (void)op;
}

/* Makes a file as the server does, whose names no guest can use. */
static void make_hidden(struct fixture *f, const char *directory, const char *name) {
    struct op op;
    op_init(&op, f->loop, &f->who, wake_nobody);
    struct str names[] = {str_of(directory)};
    struct file *found = NULL, *made = NULL;
    size_t walked = 0;
    enum err err;
    while ((err = file_walk(&op, f->root, names, 1, &walked, &found)) == ERR_PENDING)
        loop_turn(f->loop);
    IS(ERR_OK, err);
    while ((err = file_create(&op, found, str_of(name), FILE_REGULAR, &made)) == ERR_PENDING)
        loop_turn(f->loop);
    IS(ERR_OK, err);
    file_unref(made);
    file_unref(found);
    op_done(&op);
}

/* What a crash of the server left in a directory keeps it from nobody; what comes just now does. */
static void test_a_directory_with_leftovers(void **state) {
    struct fixture *f = *state;
    IS(ERR_OK, make_directory(f, "a"));
    make_hidden(f, "a", ".zasm-put-00000000-0000000000000000");
    make_hidden(f, "a", ".zasm-put-00000000-0000000000000001");
    must_make_file(f, "a/file", "x");
    IS(ERR_NOTEMPTY, remove_directory(f, "a"));
    IS(ERR_OK, unlink_file(f, "a/file"));
    IS(ERR_OK, remove_directory(f, "a"));
    assert_false(exists(f, "a"));

    char present[NS_TEMPORARY_SIZE];
    ns_temporary_name(present);
    IS(ERR_OK, make_directory(f, "a"));
    make_hidden(f, "a", ".zasm-put-00000000-0000000000000000");
    make_hidden(f, "a", present);
    IS(ERR_NOTEMPTY, remove_directory(f, "a"));
    assert_true(exists(f, "a"));
    IS(ERR_OK, make_directory(f, "b"));
    make_hidden(f, "b", ".zasm-put-00000000-0000000000000000");
    IS(ERR_OK, remove_directory(f, "b/"));
}

static void test_unlink(void **state) {
    struct fixture *f = *state;
    IS(ERR_OK, make_directory(f, "dir"));
    must_make_file(f, "file", "x");
    IS(ERR_ISDIR, unlink_file(f, "dir"));
    IS(ERR_ISDIR, unlink_file(f, "dir/"));
    IS(ERR_NOTDIR, unlink_file(f, "file/"));
    IS(ERR_NOENT, unlink_file(f, "none"));
    IS(ERR_NOENT, unlink_file(f, "none/"));
    IS(ERR_ISDIR, unlink_file(f, "."));
    IS(ERR_BUSY, unlink_file(f, "other"));
    /* The link goes, not what it leads to. */
    IS(ERR_OK, symlink_path(f, "file", "link"));
    IS(ERR_OK, symlink_path(f, "dir", "to_dir"));
    IS(ERR_NOTDIR, unlink_file(f, "link/"));
    IS(ERR_NOTDIR, unlink_file(f, "to_dir/"));
    IS(ERR_NOTDIR, remove_directory(f, "to_dir"));
    IS(ERR_OK, unlink_file(f, "link"));
    IS(ERR_OK, unlink_file(f, "to_dir"));
    IS(ERR_OK, unlink_file(f, "file"));
    assert_true(exists(f, "dir"));
}

static void test_rename(void **state) {
    struct fixture *f = *state;
    IS(ERR_OK, make_directory(f, "source"));
    IS(ERR_OK, rename_path(f, "source", "target"));
    assert_false(exists(f, "source"));
    IS(ERR_OK, make_directory(f, "source"));
    IS(ERR_OK, rename_path(f, "source", "target")); /* onto an empty one */
    IS(ERR_OK, make_directory(f, "source"));
    must_make_file(f, "target/file", "x");
    IS(ERR_NOTEMPTY, rename_path(f, "source", "target"));
    IS(ERR_NOTDIR, rename_path(f, "source", "target/file"));
    IS(ERR_ISDIR, rename_path(f, "target/file", "source"));
    IS(ERR_NOENT, rename_path(f, "none", "x"));
    IS(ERR_INVAL, rename_path(f, "target", "target/inside"));
    must_make_file(f, "one", "1");
    must_make_file(f, "two", "22");
    IS(ERR_OK, rename_path(f, "one", "two"));
    assert_int_equal(size_of(f, "two"), 1);
    IS(ERR_OK, rename_path(f, "two", "two"));
    /* Slashes: only directories may have one. */
    IS(ERR_NOTDIR, rename_path(f, "two", "three/"));
    IS(ERR_NOTDIR, rename_path(f, "two/", "three"));
    IS(ERR_NOENT, rename_path(f, "none/", "three"));
    IS(ERR_OK, rename_path(f, "source/", "s1"));
    IS(ERR_OK, rename_path(f, "s1", "s2/"));
    IS(ERR_OK, rename_path(f, "s2/", "s3///"));
    /* Dots and mounts. */
    IS(ERR_BUSY, rename_path(f, ".", "x"));
    IS(ERR_BUSY, rename_path(f, "s3", "."));
    IS(ERR_BUSY, rename_path(f, "other", "x"));
    IS(ERR_BUSY, rename_path(f, "s3", "other"));
    IS(ERR_XDEV, rename_path(f, "two", "other/two"));
    /* While another descriptor stands in it. */
    uint32_t fd = must_open(f, "s3", OFLAG_DIRECTORY, 0, 0);
    IS(ERR_OK, rename_path(f, "s3", "target/moved"));
    assert_int_equal(try_open(f, fd, "new", OFLAG_CREAT, 0, 0), ERR_OK);
    assert_true(exists(f, "target/moved/new"));
    assert_int_equal(try_open(f, fd, "../file", 0, 0, 0), ERR_PERM);
}

static void test_link(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "x");
    IS(ERR_OK, make_directory(f, "dir"));
    IS(ERR_OK, link_path(f, "file", "link"));
    IS(ERR_OK, stat_path(f, "file", false));
    uint8_t stat[FILESTAT_SIZE];
    memcpy(stat, f->memory + AT_STRUCT, FILESTAT_SIZE);
    assert_int_equal(layout_get_u64(stat + FILESTAT_NLINK), 2);
    IS(ERR_OK, stat_path(f, "link", false));
    assert_memory_equal(stat, f->memory + AT_STRUCT, FILESTAT_SIZE);
    IS(ERR_EXIST, link_path(f, "file", "link"));
    IS(ERR_EXIST, link_path(f, "file", "file"));
    IS(ERR_EXIST, link_path(f, "file", "dir"));
    IS(ERR_EXIST, link_path(f, "file", "."));
    IS(ERR_EXIST, link_path(f, "file", "other"));
    IS(ERR_PERM, link_path(f, "dir", "d2"));
    IS(ERR_NOENT, link_path(f, "file", "l2/"));
    IS(ERR_EXIST, link_path(f, "file", "dir/"));
    IS(ERR_NOTDIR, link_path(f, "file/", "l2"));
    IS(ERR_XDEV, link_path(f, "file", "other/l2"));
    IS(ERR_NOENT, link_path(f, "none", "l2"));
    /* Symbolic links can be linked themselves. */
    IS(ERR_OK, symlink_path(f, "nothing", "sym"));
    IS(ERR_OK, link_path(f, "sym", "sym2"));
    IS(ERR_OK, stat_path(f, "sym2", false));
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_FILETYPE], FILE_SYMBOLIC_LINK);
    IS(ERR_EXIST, link_path(f, "file", "sym"));
    EXPECT(ERR_NOENT, f, path_link, FD_ROOT, LOOKUPFLAG_SYMLINK_FOLLOW, PATH(f, "sym"), FD_ROOT,
           PATH_2(f, "l2"));
    EXPECT(ERR_INVAL, f, path_link, FD_ROOT, 2, PATH(f, "file"), FD_ROOT, PATH_2(f, "l2"));
}

/* A directory of a device that never changes. */
static void test_read_only(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "x");
    must_make_file(f, "other/file", "y");
    must_make_file(f, "other/file2", "y");
    f->other->traits |= FILE_READ_ONLY;
    /* Told before XDEV: it must not look as if copying would help. */
    IS(ERR_ROFS, rename_path(f, "file", "other/x"));
    IS(ERR_ROFS, rename_path(f, "other/file", "other/x"));
    IS(ERR_PERM, rename_path(f, "other/file", "x"));
    IS(ERR_ROFS, link_path(f, "file", "other/x"));
    uint32_t fd = must_open(f, "other/file", 0, RIGHTS_BOTH, 0);
    struct file *file = fdtab_get(&f->wasi.descriptors, fd)->place.file;
    file->traits |= FILE_READ_ONLY;
    IS(ERR_PERM, link_path(f, "other/file", "x"));
    assert_int_equal(try_open(f, FD_ROOT, "other/file", 0, FD_RIGHT_WRITE, 0), ERR_ROFS);
    assert_int_equal(try_open(f, FD_ROOT, "other/file", OFLAG_TRUNC, RIGHTS_BOTH, 0), ERR_ROFS);
    assert_int_equal(try_open(f, FD_ROOT, "other/file", OFLAG_TRUNC, 0, 0), ERR_ROFS);
    EXPECT(ERR_ROFS, f, fd_filestat_set_times, fd, 1, 1, FSTFLAG_MTIM);
    EXPECT(ERR_ROFS, f, path_filestat_set_times, FD_ROOT, 0, PATH(f, "other/file"), 1, 1,
           FSTFLAG_MTIM);
    /* Go asks for more rights than reading needs. */
    fd = must_open(f, "other/file", 0, FD_RIGHTS_ALL & ~(uint64_t)FD_RIGHT_WRITE, 0);
    must_read(f, fd, 10, "y");
    OK(f, fd_fdstat_get, fd, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE) &
                         (FD_RIGHT_WRITE | FD_RIGHT_FILESTAT_SET_SIZE),
                     0);
}

static void test_symlink_and_readlink(void **state) {
    struct fixture *f = *state;
    IS(ERR_OK, symlink_path(f, "target", "link"));
    memset(f->memory + AT_DATA, 0, 10);
    OK(f, path_readlink, FD_ROOT, PATH(f, "link"), AT_DATA, 10, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 6);
    assert_memory_equal(f->memory + AT_DATA, "target\0\0\0\0", 10);
    memset(f->memory + AT_DATA, 0, 10);
    OK(f, path_readlink, FD_ROOT, PATH(f, "link"), AT_DATA, 4, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 4);
    assert_memory_equal(f->memory + AT_DATA, "targ\0", 5);
    OK(f, path_readlink, FD_ROOT, PATH(f, "link"), 0xffffffff, 0, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 0);
    EXPECT(ERR_FAULT, f, path_readlink, FD_ROOT, PATH(f, "link"), GUEST_BYTES - 5, 6, AT_RESULT);
    must_make_file(f, "file", "x");
    EXPECT(ERR_INVAL, f, path_readlink, FD_ROOT, PATH(f, "file"), AT_DATA, 10, AT_RESULT);
    EXPECT(ERR_NOENT, f, path_readlink, FD_ROOT, PATH(f, "none"), AT_DATA, 10, AT_RESULT);

    IS(ERR_EXIST, symlink_path(f, "x", "link"));
    IS(ERR_EXIST, symlink_path(f, "x", "file"));
    IS(ERR_NOENT, symlink_path(f, "x", "new/"));
    IS(ERR_NOTDIR, symlink_path(f, "x", "file/"));
    IS(ERR_OK, make_directory(f, "dir"));
    IS(ERR_EXIST, symlink_path(f, "x", "dir"));
    IS(ERR_EXIST, symlink_path(f, "x", "dir/"));
    IS(ERR_EXIST, symlink_path(f, "x", "other"));
    IS(ERR_EXIST, symlink_path(f, "x", "."));
    /* Targets that no walk could follow are not made. */
    IS(ERR_PERM, symlink_path(f, "/", "new"));
    IS(ERR_PERM, symlink_path(f, "/file", "new"));
    IS(ERR_NOENT, symlink_path(f, "", "new"));
    IS(ERR_ILSEQ, symlink_path(f, "\xff", "new"));
    memset(f->memory + AT_DATA, 'a', 100000);
    EXPECT(ERR_NAMETOOLONG, f, path_symlink, AT_DATA, 4097, FD_ROOT, PATH_2(f, "new"));
    EXPECT(ERR_NOMEM, f, path_symlink, AT_DATA, 100000, FD_ROOT, PATH_2(f, "new"));
    EXPECT(ERR_INVAL, f, path_symlink, AT_DATA + 99999, 2, FD_ROOT, PATH_2(f, "new"));
    EXPECT(ERR_FAULT, f, path_symlink, GUEST_BYTES - 1, 2, FD_ROOT, PATH_2(f, "new"));
    assert_false(exists(f, "new"));
}

static void test_filestat(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "abc");
    IS(ERR_OK, symlink_path(f, "file", "link"));
    IS(ERR_OK, make_directory(f, "dir"));
    IS(ERR_OK, symlink_path(f, "dir", "to_dir"));
    IS(ERR_OK, stat_path(f, "link", false));
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_FILETYPE], FILE_SYMBOLIC_LINK);
    IS(ERR_OK, stat_path(f, "link", true));
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_FILETYPE], FILE_REGULAR);
    IS(ERR_OK, stat_path(f, "to_dir/", false));
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_FILETYPE], FILE_DIRECTORY);
    IS(ERR_NOTDIR, stat_path(f, "link/", true));
    IS(ERR_OK, stat_path(f, ".", false));
    EXPECT(ERR_INVAL, f, path_filestat_get, FD_ROOT, 2, PATH(f, "file"), AT_STRUCT);
    EXPECT(ERR_FAULT, f, path_filestat_get, FD_ROOT, 0, PATH(f, "file"), GUEST_BYTES - 63);

    OK(f, path_filestat_set_times, FD_ROOT, 0, PATH(f, "link"), 5, 6, FSTFLAG_MTIM);
    IS(ERR_OK, stat_path(f, "link", false));
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 6);
    IS(ERR_OK, stat_path(f, "file", false));
    assert_int_not_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 6);
    OK(f, path_filestat_set_times, FD_ROOT, LOOKUPFLAG_SYMLINK_FOLLOW, PATH(f, "link"), 5, 7,
       FSTFLAG_MTIM | FSTFLAG_ATIM);
    IS(ERR_OK, stat_path(f, "file", false));
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 7);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_ATIM), 5);
    EXPECT(ERR_INVAL, f, path_filestat_set_times, FD_ROOT, 0, PATH(f, "file"), 1, 1,
           FSTFLAG_MTIM | FSTFLAG_MTIM_NOW);
    EXPECT(ERR_INVAL, f, path_filestat_set_times, FD_ROOT, 0, PATH(f, "file"), 1, UINT64_MAX,
           FSTFLAG_MTIM);
    IS(ERR_OK, stat_path(f, "file", false));
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 7);
}

static void test_both_paths_overlap(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "ab", "x");
    uint32_t length = put(f, AT_PATH, "ab", 2);
    OK(f, path_rename, FD_ROOT, AT_PATH, length, FD_ROOT, AT_PATH + 1, 1);
    assert_true(exists(f, "b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_directories),
        FIXTURE_TEST(test_a_directory_with_leftovers),
        FIXTURE_TEST(test_unlink),
        FIXTURE_TEST(test_rename),
        FIXTURE_TEST(test_link),
        FIXTURE_TEST(test_read_only),
        FIXTURE_TEST(test_symlink_and_readlink),
        FIXTURE_TEST(test_filestat),
        FIXTURE_TEST(test_both_paths_overlap),
        SLOW_TEST(test_directories),
        SLOW_TEST(test_a_directory_with_leftovers),
        SLOW_TEST(test_unlink),
        SLOW_TEST(test_rename),
        SLOW_TEST(test_link),
        SLOW_TEST(test_symlink_and_readlink),
        SLOW_TEST(test_filestat),
        SLOW_TEST(test_both_paths_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
