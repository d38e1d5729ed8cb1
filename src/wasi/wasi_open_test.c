/* path_open. */
#include "wasi/wasi_test_fixture.h"

static enum err open_following(struct fixture *f, const char *path, unsigned oflags,
                               uint64_t rights) {
    return CALL(f, path_open, FD_ROOT, LOOKUPFLAG_SYMLINK_FOLLOW, PATH(f, path), oflags, rights, 0,
                0, AT_RESULT);
}

static void test_create(void **state) {
    struct fixture *f = *state;
    assert_int_equal(try_open(f, FD_ROOT, "file", 0, 0, 0), ERR_NOENT);
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, 0, 0);
    assert_int_equal(fd, FD_ROOT + 1);
    must_close(f, fd);
    must_close(f, must_open(f, "file", OFLAG_CREAT, 0, 0));
    assert_int_equal(try_open(f, FD_ROOT, "file", OFLAG_CREAT | OFLAG_EXCL, 0, 0), ERR_EXIST);
    must_close(f, must_open(f, "new", OFLAG_CREAT | OFLAG_EXCL, 0, 0));
    must_close(f, must_open(f, "new", OFLAG_EXCL, 0, 0)); /* means nothing alone */
    assert_int_equal(try_open(f, FD_ROOT, "none/x", OFLAG_CREAT, 0, 0), ERR_NOENT);
    assert_int_equal(try_open(f, FD_ROOT, "file/x", OFLAG_CREAT, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, FD_ROOT, "slash/", OFLAG_CREAT, 0, 0), ERR_ISDIR);
    assert_int_equal(try_open(f, FD_ROOT, "file/", OFLAG_CREAT, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, FD_ROOT, ".", OFLAG_CREAT, 0, 0), ERR_ISDIR);
    assert_int_equal(try_open(f, FD_ROOT, ".", OFLAG_CREAT | OFLAG_EXCL, 0, 0), ERR_EXIST);
    assert_int_equal(try_open(f, FD_ROOT, "other", OFLAG_CREAT | OFLAG_EXCL, 0, 0), ERR_EXIST);
    assert_int_equal(try_open(f, FD_ROOT, "file", OFLAG_CREAT | OFLAG_DIRECTORY, 0, 0), ERR_INVAL);
    must_close(f, must_open(f, "other/file", OFLAG_CREAT, 0, 0));
    must_close(f, must_open(f, "other/file", 0, 0, 0));
}

static void test_directories(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    must_make_file(f, "file", "x");
    must_close(f, must_open(f, "dir", 0, 0, 0));
    must_close(f, must_open(f, "dir", OFLAG_DIRECTORY, 0, 0));
    must_close(f, must_open(f, "dir/", 0, FD_RIGHT_READ, 0));
    must_close(f, must_open(f, "dir///", OFLAG_DIRECTORY, FD_RIGHT_READ, 0));
    must_close(f, must_open(f, ".", OFLAG_DIRECTORY, 0, FD_FLAG_NONBLOCK));
    assert_int_equal(try_open(f, FD_ROOT, "dir", 0, FD_RIGHT_WRITE, 0), ERR_ISDIR);
    assert_int_equal(try_open(f, FD_ROOT, "dir", OFLAG_DIRECTORY, RIGHTS_BOTH, 0), ERR_ISDIR);
    assert_int_equal(try_open(f, FD_ROOT, "dir", OFLAG_TRUNC, 0, 0), ERR_ISDIR);
    assert_int_equal(try_open(f, FD_ROOT, "file", OFLAG_DIRECTORY, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, FD_ROOT, "file/", 0, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, FD_ROOT, "file///", 0, 0, 0), ERR_NOTDIR);
    /* The rights that the preopen has can all be asked for again; seeking is none of them. */
    OK(f, fd_fdstat_get, FD_ROOT, AT_STRUCT);
    uint64_t rights = get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE);
    uint32_t fd = must_open(f, ".", OFLAG_DIRECTORY, rights, 0);
    OK(f, fd_fdstat_get, fd, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE), rights);
    fd = must_open(f, "dir", OFLAG_DIRECTORY, FD_RIGHT_SEEK, 0);
    OK(f, fd_fdstat_get, fd, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE), 0);
}

static void test_truncate(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "content");
    /* To truncate is to write: whoever does not ask to write can't. */
    assert_int_equal(try_open(f, FD_ROOT, "file", OFLAG_TRUNC, FD_RIGHT_READ, 0), ERR_NOTCAPABLE);
    assert_int_equal(
        try_open(f, FD_ROOT, "file", OFLAG_TRUNC, FD_RIGHT_READ | FD_RIGHT_FILESTAT_SET_SIZE, 0),
        ERR_NOTCAPABLE);
    assert_int_equal(size_of(f, "file"), 7);
    must_close(f, must_open(f, "file", OFLAG_TRUNC, FD_RIGHT_WRITE, 0));
    assert_int_equal(size_of(f, "file"), 0);
    must_make_file(f, "file", "content");
    uint32_t fd = must_open(f, "file", OFLAG_CREAT | OFLAG_TRUNC, RIGHTS_BOTH, 0);
    must_read(f, fd, 100, "");
    /* A new file needs no truncation, so no right for it. */
    must_close(f, must_open(f, "new", OFLAG_CREAT | OFLAG_TRUNC, FD_RIGHT_READ, 0));
}

static void test_access(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "content");
    uint32_t fd = must_open(f, "file", 0, FD_RIGHT_READ, 0);
    must_read(f, fd, 100, "content");
    assert_int_equal(try_write(f, fd, "x"), ERR_BADF);
    fd = must_open(f, "file", 0, FD_RIGHT_WRITE, 0);
    must_write(f, fd, "C");
    assert_int_equal(try_read(f, fd, 1), ERR_BADF);
    fd = must_open(f, "file", 0, 0, 0);
    assert_int_equal(try_read(f, fd, 1), ERR_BADF);
    /* Two descriptors, one file, two positions. */
    uint32_t one = must_open(f, "file", 0, RIGHTS_BOTH, 0);
    uint32_t two = must_open(f, "file", 0, RIGHTS_BOTH, 0);
    must_write(f, one, "XY");
    must_read(f, two, 3, "XYn");
    /* Removed while it is open. */
    OK(f, path_unlink_file, FD_ROOT, PATH(f, "file"));
    must_read(f, two, 100, "tent");
    assert_int_equal(try_open(f, FD_ROOT, "file", 0, 0, 0), ERR_NOENT);
}

static void test_links(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    must_make_file(f, "file", "content");
    must_make_link(f, "file", "to_file");
    must_make_link(f, "dir", "to_dir");
    must_make_link(f, "nothing", "dangling");
    must_make_link(f, "loop", "loop");
    must_make_link(f, "dir/", "to_dir_slash");
    must_make_link(f, "file/", "to_file_slash");
    must_make_link(f, "../file", "out");
    must_make_link(f, "dir/../file", "round");
    const struct {
        const char *path;
        bool follow;
        unsigned oflags;
        enum err err;
    } rows[] = {
        {"to_file", false, 0, ERR_LOOP},
        {"to_file", false, OFLAG_DIRECTORY, ERR_NOTDIR},
        {"to_file", true, 0, ERR_OK},
        {"to_file", true, OFLAG_DIRECTORY, ERR_NOTDIR},
        {"to_file/", false, 0, ERR_NOTDIR},
        {"to_dir", false, 0, ERR_LOOP},
        {"to_dir", false, OFLAG_DIRECTORY, ERR_NOTDIR},
        {"to_dir", true, OFLAG_DIRECTORY, ERR_OK},
        {"to_dir/", false, 0, ERR_OK},
        {"to_dir//", false, OFLAG_DIRECTORY, ERR_OK},
        {"to_dir/.", false, 0, ERR_OK},
        {"to_dir/..", false, 0, ERR_OK},
        {"to_dir/../..", false, 0, ERR_PERM},
        {"to_file/..", false, 0, ERR_NOTDIR},
        {"to_file/.", false, 0, ERR_NOTDIR},
        {"dangling", false, 0, ERR_LOOP},
        {"dangling", false, OFLAG_DIRECTORY, ERR_NOTDIR},
        {"dangling", true, 0, ERR_NOENT},
        {"dangling", true, OFLAG_CREAT | OFLAG_EXCL, ERR_EXIST},
        {"dangling", false, OFLAG_CREAT, ERR_LOOP},
        {"loop", false, 0, ERR_LOOP},
        {"loop", true, 0, ERR_LOOP},
        {"loop", true, OFLAG_CREAT, ERR_LOOP},
        {"to_dir_slash", true, 0, ERR_OK},
        {"to_file_slash", true, 0, ERR_NOTDIR},
        {"out", true, 0, ERR_PERM},
        {"out", true, OFLAG_CREAT, ERR_PERM},
        {"round", true, 0, ERR_OK},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        enum err err = rows[i].follow ? open_following(f, rows[i].path, rows[i].oflags, 0)
                                      : try_open(f, FD_ROOT, rows[i].path, rows[i].oflags, 0, 0);
        if (err != rows[i].err)
            print_error("row %zu: %s\n", i, rows[i].path);
        assert_int_equal(err, rows[i].err);
        if (!err)
            must_close(f, get_u32(f, AT_RESULT));
    }
    /* Through a dangling link the file is made where the link leads to, inside. */
    assert_int_equal(open_following(f, "dangling", OFLAG_CREAT, 0), ERR_OK);
    assert_int_equal(size_of(f, "nothing"), 0);
    must_make_link(f, "../../escaped", "dir/dangling_out");
    assert_int_equal(open_following(f, "dir/dangling_out", OFLAG_CREAT, 0), ERR_PERM);
}

static void test_paths(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    must_make_directory(f, "dir/nested");
    must_make_file(f, "dir/nested/file", "x");
    must_close(f, must_open(f, "dir/.//nested/../../dir/nested/../nested///./file", 0, 0, 0));
    const struct {
        const char *path;
        enum err err;
    } rows[] = {
        {"/dir/nested/file", ERR_PERM},
        {"dir/nested/../../../dir/nested/file", ERR_PERM},
        {"..", ERR_PERM},
        {"../x", ERR_PERM},
        {"other/..", ERR_OK},
        {"other/../..", ERR_PERM},
        {"", ERR_NOENT},
        {"\xff", ERR_ILSEQ},
        {"a\xc0\xaf", ERR_ILSEQ},
        {"dir/nested/file/", ERR_NOTDIR},
        {"dir/nested/none", ERR_NOENT},
        {"none/../dir", ERR_NOENT},
        {"dir/nested/file/../file", ERR_NOTDIR},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        assert_int_equal(try_open(f, FD_ROOT, rows[i].path, 0, 0, 0), rows[i].err);
    EXPECT(ERR_INVAL, f, path_open, FD_ROOT, 0, AT_PATH, put(f, AT_PATH, "dir\0", 4), 0, 0, 0, 0,
           AT_RESULT);
    /* `..` stays within the descriptor's directory, also where more lies above it. */
    uint32_t nested = must_open(f, "dir/nested", OFLAG_DIRECTORY, 0, 0);
    assert_int_equal(try_open(f, nested, "..", 0, 0, 0), ERR_PERM);
    assert_int_equal(try_open(f, nested, "../nested/file", 0, 0, 0), ERR_PERM);
    assert_int_equal(try_open(f, nested, "file", 0, 0, 0), ERR_OK);
    assert_int_equal(try_open(f, get_u32(f, AT_RESULT), "x", 0, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, FD_STDIN, "x", 0, 0, 0), ERR_NOTDIR);
    assert_int_equal(try_open(f, 99, "x", 0, 0, 0), ERR_BADF);
    /* Long ones. */
    memset(f->memory + AT_DATA, 'a', 120000);
    EXPECT(ERR_NAMETOOLONG, f, path_open, FD_ROOT, 0, AT_DATA, 256, 0, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_NAMETOOLONG, f, path_open, FD_ROOT, 0, AT_DATA, 64 * KIB, 0, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_NOMEM, f, path_open, FD_ROOT, 0, AT_DATA, 110000, 0, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_FAULT, f, path_open, FD_ROOT, 0, GUEST_BYTES - 1, 2, 0, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_NOMEM, f, path_open, FD_ROOT, 0, AT_DATA, UINT32_MAX, 0, 0, 0, 0, AT_RESULT);
}

static void test_flags(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "x");
    EXPECT(ERR_INVAL, f, path_open, FD_ROOT, 2, PATH(f, "file"), 0, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_INVAL, f, path_open, FD_ROOT, 0, PATH(f, "file"), 16, 0, 0, 0, AT_RESULT);
    EXPECT(ERR_INVAL, f, path_open, FD_ROOT, 0, PATH(f, "file"), 0, 0, 0, 32, AT_RESULT);
    EXPECT(ERR_FAULT, f, path_open, FD_ROOT, 0, PATH(f, "new"), OFLAG_CREAT, 0, 0, 0,
           GUEST_BYTES - 3);
    assert_int_equal(try_open(f, FD_ROOT, "new", 0, 0, 0), ERR_NOENT); /* before any effect */
    /* More rights than exist are no mistake. */
    uint32_t fd = must_open(f, "file", 0, UINT64_MAX, FD_FLAG_APPEND | FD_FLAG_SYNC);
    OK(f, fd_fdstat_get, fd, AT_STRUCT);
    assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS),
                     FD_FLAG_APPEND | FD_FLAG_SYNC);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_create), FIXTURE_TEST(test_directories), FIXTURE_TEST(test_truncate),
        FIXTURE_TEST(test_access), FIXTURE_TEST(test_links),       FIXTURE_TEST(test_paths),
        FIXTURE_TEST(test_flags),  SLOW_TEST(test_create),         SLOW_TEST(test_directories),
        SLOW_TEST(test_truncate),  SLOW_TEST(test_access),         SLOW_TEST(test_links),
        SLOW_TEST(test_paths),     SLOW_TEST(test_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
