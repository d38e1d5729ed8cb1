/* Descriptors and the attributes of open files. */
#include "wasi/wasi_test_fixture.h"

static uint64_t rights_of(struct fixture *f, uint32_t descriptor) {
    OK(f, fd_fdstat_get, descriptor, AT_STRUCT);
    return get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE);
}

static void test_fdstat(void **state) {
    struct fixture *f = *state;
    memset(f->memory + AT_STRUCT, 0xff, FDSTAT_SIZE + 1);
    OK(f, fd_fdstat_get, FD_ROOT, AT_STRUCT);
    assert_int_equal(f->memory[AT_STRUCT + FDSTAT_FILETYPE], FILE_DIRECTORY);
    assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS), 0);
    /* wasi-libc masks by the inheriting rights: all of them. */
    assert_int_equal(get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_INHERITING), FD_RIGHTS_ALL);
    /* Padding is zero; nothing is written beyond. */
    assert_int_equal(f->memory[AT_STRUCT + 1], 0);
    assert_int_equal(get_u32(f, AT_STRUCT + 4), 0);
    assert_int_equal(f->memory[AT_STRUCT + FDSTAT_SIZE], 0xff);
    uint64_t rights = get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_BASE);
    assert_int_equal(rights & (FD_RIGHT_READ | FD_RIGHT_WRITE | FD_RIGHT_SEEK | FD_RIGHT_TELL |
                               FD_RIGHT_FILESTAT_SET_SIZE | FD_RIGHT_PATH_FILESTAT_SET_SIZE),
                     0);
    assert_true(rights & FD_RIGHT_PATH_OPEN && rights & FD_RIGHT_READDIR);
    EXPECT(ERR_BADF, f, fd_fdstat_get, 4, AT_STRUCT);
    EXPECT(ERR_BADF, f, fd_fdstat_get, UINT32_MAX, AT_STRUCT);
    EXPECT(ERR_FAULT, f, fd_fdstat_get, FD_ROOT, GUEST_BYTES - FDSTAT_SIZE + 1);
    OK(f, fd_fdstat_get, FD_ROOT, GUEST_BYTES - FDSTAT_SIZE);
}

/* What isatty() looks at. */
static void test_terminals(void **state) {
    struct fixture *f = *state;
    const uint64_t place = FD_RIGHT_SEEK | FD_RIGHT_TELL;
    OK(f, fd_fdstat_get, FD_STDOUT, AT_STRUCT);
    assert_int_equal(f->memory[AT_STRUCT], FILE_CHARACTER_DEVICE);
    assert_int_equal(rights_of(f, FD_STDOUT) & place, 0);
    assert_true(rights_of(f, FD_STDOUT) & FD_RIGHT_WRITE);
    assert_false(rights_of(f, FD_STDOUT) & FD_RIGHT_READ);
    assert_true(rights_of(f, FD_STDIN) & FD_RIGHT_READ);
    struct test_file *device = test_file_new(&test_file_dev, FILE_CHARACTER_DEVICE, 0);
    uint32_t fd = must_add(f, device, OPEN_READ | OPEN_WRITE);
    assert_int_equal(rights_of(f, fd) & place, place);
    /* Also when a guest asked for less: a device is no terminal because of that. */
    assert_int_equal(wasi_add_fd(&f->wasi, (struct ns_place){.file = file_ref(&device->file)},
                                 OPEN_READ, FD_RIGHT_READ, 0, 0, &fd),
                     ERR_OK);
    assert_int_equal(rights_of(f, fd), FD_RIGHT_READ | place);
    struct test_file *socket = test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0);
    fd = must_add(f, socket, OPEN_READ | OPEN_WRITE);
    assert_int_equal(rights_of(f, fd) & place, 0);
    assert_true(rights_of(f, fd) & FD_RIGHT_SOCK_ACCEPT);
}

static void test_rights_of_files(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, UINT64_MAX, 0);
    uint64_t rights = rights_of(f, fd);
    assert_true(rights & FD_RIGHT_SEEK && rights & FD_RIGHT_WRITE);
    assert_int_equal(rights & ~(uint64_t)FD_RIGHTS_ALL, 0);
    assert_int_equal(rights & FD_RIGHT_PATH_OPEN, 0);
    assert_int_equal(get_u64(f, AT_STRUCT + FDSTAT_RIGHTS_INHERITING), 0);
    fd = must_open(f, "file", 0, FD_RIGHT_READ | FD_RIGHT_FILESTAT_SET_SIZE, 0);
    assert_int_equal(rights_of(f, fd), FD_RIGHT_READ | FD_RIGHT_FILESTAT_SET_SIZE);
    EXPECT(ERR_NOTSUP, f, fd_fdstat_set_rights, fd, 0, 0);
    EXPECT(ERR_BADF, f, fd_fdstat_set_rights, 99, 0, 0);
}

/* A guest can't hide a connection behind another number. */
static void test_connections_tie_a_guest(void **state) {
    struct fixture *f = *state;
    must_open(f, "plain", OFLAG_CREAT, UINT64_MAX, 0);
    assert_true(wasi_may_move(&f->wasi));
    struct test_file *socket = test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, FILE_TIED);
    uint32_t fd = must_add(f, socket, OPEN_READ | OPEN_WRITE);
    assert_false(wasi_may_move(&f->wasi));
    OK(f, fd_renumber, fd, FD_STDOUT);
    assert_false(wasi_may_move(&f->wasi));
    OK(f, fd_close, FD_STDOUT);
    assert_true(wasi_may_move(&f->wasi));
}

static void test_set_flags(void **state) {
    struct fixture *f = *state;
    OK(f, fd_fdstat_set_flags, FD_STDIN, FDFLAGS_ALL);
    OK(f, fd_fdstat_get, FD_STDIN, AT_STRUCT);
    assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS), FDFLAGS_ALL);
    EXPECT(ERR_INVAL, f, fd_fdstat_set_flags, FD_STDIN, 32);
    EXPECT(ERR_INVAL, f, fd_fdstat_set_flags, FD_STDIN, 0x10000);
    EXPECT(ERR_BADF, f, fd_fdstat_set_flags, 99, 0);
}

static void test_preopen(void **state) {
    struct fixture *f = *state;
    memset(f->memory + AT_STRUCT, 0xff, PRESTAT_SIZE);
    OK(f, fd_prestat_get, FD_ROOT, AT_STRUCT);
    assert_int_equal(get_u32(f, AT_STRUCT), PRESTAT_TAG_DIR);
    assert_int_equal(get_u32(f, AT_STRUCT + PRESTAT_DIR_NAME_LEN), 1);
    EXPECT(ERR_BADF, f, fd_prestat_get, FD_STDIN, AT_STRUCT);
    EXPECT(ERR_BADF, f, fd_prestat_get, 4, AT_STRUCT);
    EXPECT(ERR_NAMETOOLONG, f, fd_prestat_dir_name, FD_ROOT, AT_DATA, 0);
    OK(f, fd_prestat_dir_name, FD_ROOT, AT_DATA, 1);
    assert_int_equal(f->memory[AT_DATA], '/');
    OK(f, fd_prestat_dir_name, FD_ROOT, AT_DATA, 100);
    assert_int_equal(f->memory[AT_DATA + 1], 0);
    EXPECT(ERR_BADF, f, fd_prestat_dir_name, 4, AT_DATA, 100);
    EXPECT(ERR_FAULT, f, fd_prestat_dir_name, FD_ROOT, GUEST_BYTES, 1);
    /* A directory that is opened later is none. */
    uint32_t fd = must_open(f, ".", OFLAG_DIRECTORY, 0, 0);
    EXPECT(ERR_BADF, f, fd_prestat_get, fd, AT_STRUCT);
    OK(f, fd_close, FD_ROOT);
    EXPECT(ERR_BADF, f, fd_prestat_get, FD_ROOT, AT_STRUCT);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
}

static void test_seek(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, fd, "0123456789");
    const struct {
        int64_t distance;
        uint32_t whence;
        enum err err;
        uint64_t position;
    } rows[] = {
        {0, WHENCE_SET, ERR_OK, 0},
        {1000, WHENCE_CUR, ERR_OK, 1000},
        {-2000, WHENCE_CUR, ERR_INVAL, 1000},
        {-1000, WHENCE_CUR, ERR_OK, 0},
        {-1, WHENCE_CUR, ERR_INVAL, 0},
        {-10, WHENCE_END, ERR_OK, 0},
        {0, WHENCE_END, ERR_OK, 10},
        {-11, WHENCE_END, ERR_INVAL, 10},
        {-1, WHENCE_SET, ERR_INVAL, 10},
        {INT64_MIN, WHENCE_CUR, ERR_INVAL, 10},
        {INT64_MAX, WHENCE_CUR, ERR_INVAL, 10},
        {INT64_MAX, WHENCE_END, ERR_INVAL, 10},
        {INT64_MAX, WHENCE_SET, ERR_OK, INT64_MAX},
        {1, WHENCE_CUR, ERR_INVAL, INT64_MAX},
        {0, 3, ERR_INVAL, INT64_MAX},
        {0, UINT32_MAX, ERR_INVAL, INT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        EXPECT(rows[i].err, f, fd_seek, fd, (uint64_t)rows[i].distance, rows[i].whence, AT_RESULT);
        if (!rows[i].err)
            assert_int_equal(get_u64(f, AT_RESULT), rows[i].position);
        OK(f, fd_tell, fd, AT_RESULT_2);
        assert_int_equal(get_u64(f, AT_RESULT_2), rows[i].position);
    }
    EXPECT(ERR_FAULT, f, fd_seek, fd, 0, WHENCE_SET, GUEST_BYTES - 7);
    OK(f, fd_tell, fd, AT_RESULT_2);
    assert_int_equal(get_u64(f, AT_RESULT_2), INT64_MAX); /* did not move */
    EXPECT(ERR_ISDIR, f, fd_seek, FD_ROOT, 0, WHENCE_CUR, AT_RESULT);
    EXPECT(ERR_ISDIR, f, fd_tell, FD_ROOT, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, FD_STDOUT, 0, WHENCE_CUR, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, FD_STDIN, 0, WHENCE_SET, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_tell, FD_STDIN, AT_RESULT);
    EXPECT(ERR_BADF, f, fd_seek, 99, 0, WHENCE_SET, AT_RESULT);
}

static void test_seek_in_transactions(void **state) {
    struct fixture *f = *state;
    struct test_file *file = test_file_new(&test_file_dev, FILE_CHARACTER_DEVICE, FILE_REWINDABLE);
    uint32_t fd = must_add(f, file, OPEN_READ | OPEN_WRITE);
    OK(f, fd_seek, fd, 0, WHENCE_SET, AT_RESULT);
    OK(f, fd_seek, fd, 0, WHENCE_CUR, AT_RESULT);
    OK(f, fd_tell, fd, AT_RESULT);
    OK(f, fd_seek, fd, (uint64_t)-60, WHENCE_CUR, AT_RESULT);
    assert_int_equal(file->unread_bytes, 60);
    EXPECT(ERR_SPIPE, f, fd_seek, fd, (uint64_t)-101, WHENCE_CUR, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, fd, (uint64_t)INT64_MIN, WHENCE_CUR, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, fd, 1, WHENCE_CUR, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, fd, 1, WHENCE_SET, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_seek, fd, 0, WHENCE_END, AT_RESULT);
}

static void test_renumber(void **state) {
    struct fixture *f = *state;
    uint32_t one = must_open(f, "one", OFLAG_CREAT, RIGHTS_BOTH, FD_FLAG_APPEND);
    uint32_t two = must_open(f, "two", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, one, "one");
    OK(f, fd_renumber, one, two);
    EXPECT(ERR_BADF, f, fd_close, one);
    OK(f, fd_fdstat_get, two, AT_STRUCT);
    assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS), FD_FLAG_APPEND);
    OK(f, fd_tell, two, AT_RESULT);
    assert_int_equal(get_u64(f, AT_RESULT), 3);
    EXPECT(ERR_BADF, f, fd_renumber, two, one); /* the target must be open */
    EXPECT(ERR_BADF, f, fd_renumber, two, UINT32_MAX);
    EXPECT(ERR_BADF, f, fd_renumber, one, two);
    OK(f, fd_renumber, two, two);
    EXPECT(ERR_BADF, f, fd_renumber, one, one);
    OK(f, fd_tell, two, AT_RESULT);
    /* Over a standard stream, and over the preopen. */
    OK(f, fd_renumber, two, FD_STDOUT);
    assert_int_equal(f->out->closes, 1);
    must_write(f, FD_STDOUT, "more");
    assert_int_equal(size_of(f, "one"), 7);
    uint32_t directory = must_open(f, ".", OFLAG_DIRECTORY, 0, 0);
    OK(f, fd_renumber, directory, FD_ROOT);
    OK(f, fd_filestat_get, FD_ROOT, AT_STRUCT);
    EXPECT(ERR_BADF, f, fd_prestat_get, FD_ROOT, AT_STRUCT);
    OK(f, fd_renumber, FD_STDIN, FD_ROOT);
    EXPECT(ERR_NOTDIR, f, path_open, FD_ROOT, 0, PATH(f, "x"), 0, 0, 0, 0, AT_RESULT);
}

static void test_close(void **state) {
    struct fixture *f = *state;
    OK(f, fd_close, FD_STDIN);
    assert_int_equal(f->in->closes, 1);
    EXPECT(ERR_BADF, f, fd_close, FD_STDIN);
    assert_int_equal(try_read(f, FD_STDIN, 1), ERR_BADF);
    EXPECT(ERR_BADF, f, fd_close, UINT32_MAX);
    /* The lowest free number is used again. */
    assert_int_equal(must_open(f, "file", OFLAG_CREAT, 0, 0), FD_STDIN);
}

/* A device that applies what was written when it is closed. */
static void test_close_flushes(void **state) {
    struct fixture *f = *state;
    OK(f, fd_close, FD_STDIN);
    assert_int_equal(f->in->flushes, 0); /* it was not open for writing */
    f->out->flush_waits = true;
    const uint64_t arguments[] = {FD_STDOUT};
    assert_int_equal(fixture_begin(f, function_named("fd_close"), arguments), ERR_PENDING);
    assert_int_equal(fixture_go_on(f), ERR_PENDING);
    assert_int_equal(f->out->closes, 0);
    f->out->flush_waits = false;
    op_queue_wake_all(&f->out->queue);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(f->out->flushes, 1);
    assert_int_equal(f->out->closes, 1);
    /* A failure is told, and it is closed all the same. */
    f->err->flush_error = ERR_NOSPC;
    EXPECT(ERR_NOSPC, f, fd_close, FD_STDERR);
    assert_int_equal(f->err->closes, 1);
    EXPECT(ERR_BADF, f, fd_close, FD_STDERR);
}

static void test_table_is_full(void **state) {
    struct fixture *f = *state;
    uint32_t opened = 4;
    while (try_open(f, FD_ROOT, ".", 0, 0, 0) == ERR_OK)
        opened++;
    assert_int_equal(opened, wasi_limits_default.open_files);
    assert_int_equal(try_open(f, FD_ROOT, "new", OFLAG_CREAT, 0, 0), ERR_NFILE);
    OK(f, fd_close, 100);
    /* Nothing was created by the attempt. */
    assert_int_equal(try_open(f, FD_ROOT, "new", 0, 0, 0), ERR_NOENT);
    assert_int_equal(must_open(f, ".", 0, 0, 0), 100);
}

static void test_filestat(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, fd, "12345");
    memset(f->memory + AT_STRUCT, 0xff, 2 * FILESTAT_SIZE);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_FILETYPE], FILE_REGULAR);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_FILE_SIZE), 5);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_NLINK), 1);
    assert_int_not_equal(get_u64(f, AT_STRUCT + FILESTAT_DEV), 0);
    assert_int_not_equal(get_u64(f, AT_STRUCT + FILESTAT_INO), 0);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_FILETYPE) >> 8, 0); /* padding */
    assert_int_equal(f->memory[AT_STRUCT + FILESTAT_SIZE], 0xff);
    uint8_t by_fd[FILESTAT_SIZE];
    memcpy(by_fd, f->memory + AT_STRUCT, FILESTAT_SIZE);
    OK(f, path_filestat_get, FD_ROOT, 0, PATH(f, "file"), AT_STRUCT);
    assert_memory_equal(by_fd, f->memory + AT_STRUCT, FILESTAT_SIZE);
    OK(f, fd_filestat_get, FD_STDIN, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_FILE_SIZE), 0);
    EXPECT(ERR_FAULT, f, fd_filestat_get, fd, GUEST_BYTES - FILESTAT_SIZE + 1);
    OK(f, fd_filestat_get, fd, GUEST_BYTES - FILESTAT_SIZE);
}

static void test_set_size(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    OK(f, fd_filestat_set_size, fd, 100);
    assert_int_equal(size_of(f, "file"), 100);
    OK(f, fd_filestat_set_size, fd, 0);
    EXPECT(ERR_FBIG, f, fd_filestat_set_size, fd, (uint64_t)1 << 63);
    EXPECT(ERR_FBIG, f, fd_filestat_set_size, fd, UINT64_MAX);
    assert_int_not_equal(CALL(f, fd_filestat_set_size, fd, INT64_MAX), ERR_OK);
    uint32_t read_only = must_open(f, "file", 0, FD_RIGHT_READ | FD_RIGHT_FILESTAT_SET_SIZE, 0);
    EXPECT(ERR_BADF, f, fd_filestat_set_size, read_only, 1);
    EXPECT(ERR_ISDIR, f, fd_filestat_set_size, FD_ROOT, 0);
    EXPECT(ERR_INVAL, f, fd_filestat_set_size, FD_STDOUT, 0);
    EXPECT(ERR_BADF, f, fd_filestat_set_size, 99, 0);
    assert_int_equal(size_of(f, "file"), 0);
}

static void test_set_times(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    OK(f, fd_filestat_set_times, fd, 111, 222, FSTFLAG_ATIM | FSTFLAG_MTIM);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_ATIM), 111);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 222);
    OK(f, fd_filestat_set_times, fd, 333, 444, FSTFLAG_MTIM);
    OK(f, fd_filestat_set_times, fd, 555, 666, 0);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_ATIM), 111);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_MTIM), 444);
    OK(f, fd_filestat_set_times, fd, 1, 2, FSTFLAG_ATIM_NOW | FSTFLAG_MTIM_NOW);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_true(get_u64(f, AT_STRUCT + FILESTAT_ATIM) > 1600000000 * NS_PER_S);
    assert_int_equal(get_u64(f, AT_STRUCT + FILESTAT_ATIM), get_u64(f, AT_STRUCT + FILESTAT_MTIM));
    const uint32_t bad[] = {FSTFLAG_ATIM | FSTFLAG_ATIM_NOW, FSTFLAG_MTIM | FSTFLAG_MTIM_NOW,
                            FSTFLAGS_ALL, 16, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
        EXPECT(ERR_INVAL, f, fd_filestat_set_times, fd, 100, 200, bad[i]);
    EXPECT(ERR_INVAL, f, fd_filestat_set_times, fd, UINT64_MAX, 0, FSTFLAG_ATIM);
    EXPECT(ERR_INVAL, f, fd_filestat_set_times, fd, 0, (uint64_t)1 << 63, FSTFLAG_MTIM);
    OK(f, fd_filestat_set_times, fd, INT64_MAX, UINT64_MAX, FSTFLAG_ATIM);
}

static void test_advise_and_allocate(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    OK(f, fd_advise, fd, 10, 50, 0);
    OK(f, fd_advise, fd, 0, 0, ADVICE_MAX);
    EXPECT(ERR_INVAL, f, fd_advise, fd, 0, 0, ADVICE_MAX + 1);
    EXPECT(ERR_INVAL, f, fd_advise, fd, UINT64_MAX, 2, 0);
    EXPECT(ERR_INVAL, f, fd_advise, fd, INT64_MAX, 1, 0);
    EXPECT(ERR_ISDIR, f, fd_advise, FD_ROOT, 0, 0, 0);
    EXPECT(ERR_SPIPE, f, fd_advise, FD_STDIN, 0, 0, 0);
    EXPECT(ERR_BADF, f, fd_advise, 99, 0, 0, 0);
    EXPECT(ERR_NOTSUP, f, fd_allocate, fd, 100, 100);
    EXPECT(ERR_INVAL, f, fd_allocate, fd, 100, 0);
    EXPECT(ERR_FBIG, f, fd_allocate, fd, INT64_MAX, 1);
    EXPECT(ERR_ISDIR, f, fd_allocate, FD_ROOT, 0, 1);
    EXPECT(ERR_BADF, f, fd_allocate, FD_STDIN, 0, 1);
    EXPECT(ERR_BADF, f, fd_allocate, 99, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_fdstat),
        FIXTURE_TEST(test_terminals),
        FIXTURE_TEST(test_rights_of_files),
        FIXTURE_TEST(test_connections_tie_a_guest),
        FIXTURE_TEST(test_set_flags),
        FIXTURE_TEST(test_preopen),
        FIXTURE_TEST(test_seek),
        FIXTURE_TEST(test_seek_in_transactions),
        FIXTURE_TEST(test_renumber),
        FIXTURE_TEST(test_close),
        FIXTURE_TEST(test_close_flushes),
        FIXTURE_TEST(test_table_is_full),
        FIXTURE_TEST(test_filestat),
        FIXTURE_TEST(test_set_size),
        FIXTURE_TEST(test_set_times),
        FIXTURE_TEST(test_advise_and_allocate),
        SLOW_TEST(test_rights_of_files),
        SLOW_TEST(test_preopen),
        SLOW_TEST(test_seek),
        SLOW_TEST(test_renumber),
        SLOW_TEST(test_table_is_full),
        SLOW_TEST(test_filestat),
        SLOW_TEST(test_set_size),
        SLOW_TEST(test_set_times),
        SLOW_TEST(test_advise_and_allocate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
