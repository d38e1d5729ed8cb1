/* The accessor of guest memory, and every function with pointers at the edges of it. */
#include "wasi/wasi_test_fixture.h"

static void test_accessor(void **state) {
    struct fixture *f = *state;
    uint8_t *data;
    const struct {
        uint32_t address;
        uint64_t length;
        enum err err;
    } rows[] = {
        {0, GUEST_BYTES, ERR_OK},           {0, GUEST_BYTES + 1, ERR_FAULT},
        {1, GUEST_BYTES, ERR_FAULT},        {GUEST_BYTES - 1, 1, ERR_OK},
        {GUEST_BYTES - 1, 2, ERR_FAULT},    {GUEST_BYTES, 1, ERR_FAULT},
        {GUEST_BYTES, 0, ERR_OK},           {UINT32_MAX, 0, ERR_OK},
        {UINT32_MAX, 1, ERR_FAULT},         {UINT32_MAX, UINT32_MAX, ERR_FAULT},
        {1, UINT64_MAX, ERR_FAULT},         {UINT32_MAX, UINT64_MAX, ERR_FAULT},
        {16, (uint64_t)1 << 32, ERR_FAULT},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        assert_int_equal(guest_check(&f->guest, rows[i].address, rows[i].length), rows[i].err);
        enum err err = guest_slice(&f->guest, rows[i].address, rows[i].length, &data);
        assert_int_equal(err, rows[i].err);
        if (!err && rows[i].length > 0)
            assert_ptr_equal(data, f->memory + rows[i].address);
    }
    assert_int_equal(guest_check(NULL, 0, 0), ERR_OK);
    assert_int_equal(guest_check(NULL, 0, 1), ERR_FAULT);
    uint64_t value = 0;
    assert_int_equal(guest_write_u64(&f->guest, 3, 0x0102030405060708), ERR_OK);
    assert_int_equal(f->memory[3], 8);
    assert_int_equal(guest_read(&f->guest, 3, &value, sizeof(value)), ERR_OK);
    assert_int_equal(layout_get_u64((uint8_t *)&value), 0x0102030405060708);
    assert_int_equal(guest_write_u32(&f->guest, GUEST_BYTES - 3, 1), ERR_FAULT);
}

static void test_no_memory(void **state) {
    (void)state;
    struct fixture *f = fixture_new(&wasi_limits_default, 0);
    EXPECT(ERR_FAULT, f, args_sizes_get, 0, 4);
    EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, 0, 1, 0);
    EXPECT(ERR_FAULT, f, clock_time_get, 0, 0, 0);
    OK(f, random_get, 0, 0);
    EXPECT(ERR_OK, f, fd_close, FD_STDIN);
    EXPECT(ERR_EXIT, f, proc_exit, 0);
    fixture_free(f);
}

/* Descriptors of each kind, at fixed numbers. */
static void open_some(struct fixture *f) {
    must_make_file(f, "file", "content");
    must_make_directory(f, "dir");
    must_make_link(f, "file", "link");
    must_open(f, "file", 0, RIGHTS_BOTH, FD_FLAG_NONBLOCK);
    must_open(f, "dir", OFLAG_DIRECTORY, 0, 0);
    must_add(f, test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0), OPEN_READ | OPEN_WRITE);
    for (uint32_t fd = 0; fd < 3; fd++)
        OK(f, fd_fdstat_set_flags, fd, FD_FLAG_NONBLOCK);
    OK(f, fd_fdstat_set_flags, 6, FD_FLAG_NONBLOCK);
}

static struct fixture *fixture_with_some(void) {
    struct fixture *f = fixture_new(&wasi_limits_default, GUEST_BYTES);
    open_some(f);
    f->in->input_ended = true;
    /* Small structures that mean something wherever the guest points. */
    for (uint32_t at = 0; at + 8 <= GUEST_BYTES; at += 8) {
        layout_put_u32(f->memory + at, GUEST_BYTES - 64);
        layout_put_u32(f->memory + at + 4, 60);
    }
    memcpy(f->memory + 256, "link", 4);
    return f;
}

/* One function: each argument at every edge, with the next ones sensible or at an edge too. */
static void try_edges(const struct wasi_function *function, uint32_t fd) {
    static const uint64_t edges[] = {
        0,
        1,
        2,
        3,
        4,
        6,
        8,
        1024,
        1025,
        GUEST_BYTES - 48,
        GUEST_BYTES - 8,
        GUEST_BYTES - 4,
        GUEST_BYTES - 1,
        GUEST_BYTES,
        GUEST_BYTES + 1,
        INT32_MAX,
        (uint64_t)INT32_MAX + 1,
        UINT32_MAX - 7,
        UINT32_MAX - 1,
        UINT32_MAX,
        (uint64_t)UINT32_MAX + 1,
        INT64_MAX,
        (uint64_t)INT64_MAX + 1,
        UINT64_MAX,
    };
    struct fixture *f = fixture_with_some();
    size_t count = strlen(function->parameters);
    for (size_t i = 0; i < count * ARRAY_LENGTH(edges) * 3; i++) {
        size_t argument = i / 3 / ARRAY_LENGTH(edges), edge = i / 3 % ARRAY_LENGTH(edges),
               other = i % 3;
        uint64_t arguments[WASI_ARGUMENTS_MAX];
        for (size_t j = 0; j < count; j++)
            arguments[j] = 256;
        arguments[0] = fd;
        arguments[argument] = edges[edge];
        if (other > 0)
            arguments[(argument + other) % count] =
                edges[(edge * 7 + other * 3) % ARRAY_LENGTH(edges)];
        enum err err = fixture_call(f, function, arguments);
        assert_true(err <= ERR_NOTCAPABLE || err == ERR_EXIT || err == ERR_PENDING);
        if (err == ERR_PENDING || !fdtab_get(&f->wasi.descriptors, fd)) {
            fixture_free(f);
            f = fixture_with_some();
        }
    }
    fixture_free(f);
}

/* Nothing beyond the memory is touched (the sanitizer looks), nothing ends the process, every call
 * comes to an end or waits. */
static void test_edges(void **state) {
    (void)state;
    for (size_t i = 0; i < WASI_FUNCTION_COUNT; i++) {
        for (uint32_t fd = 0; fd < 7; fd++)
            try_edges(&wasi_functions[i], fd);
    }
}

/* The same with real descriptors and structures, pointers moved over the end byte by byte. */
static void test_end_of_memory(void **state) {
    struct fixture *f = *state;
    open_some(f);
    const struct {
        const char *name;
        uint64_t arguments[WASI_ARGUMENTS_MAX];
        size_t pointer; /* which argument is moved */
        uint32_t bytes; /* what is behind it */
    } rows[] = {
        {"args_sizes_get", {0, AT_RESULT}, 0, 4},
        {"args_sizes_get", {AT_RESULT, 0}, 1, 4},
        {"args_get", {0, AT_DATA}, 0, 12},
        {"args_get", {AT_STRUCT, 0}, 1, 19},
        {"environ_get", {0, AT_DATA}, 0, 4},
        {"environ_get", {AT_STRUCT, 0}, 1, 6},
        {"environ_sizes_get", {0, AT_RESULT}, 0, 4},
        {"clock_res_get", {0, 0}, 1, 8},
        {"clock_time_get", {0, 0, 0}, 2, 8},
        {"fd_fdstat_get", {4, 0}, 1, 24},
        {"fd_filestat_get", {4, 0}, 1, 64},
        {"fd_prestat_get", {3, 0}, 1, 8},
        {"fd_prestat_dir_name", {3, 0, 1}, 1, 1},
        {"fd_seek", {4, 0, 0, 0}, 3, 8},
        {"fd_tell", {4, 0}, 1, 8},
        {"fd_read", {4, AT_IOVECS, 1, 0}, 3, 4},
        {"fd_write", {1, AT_IOVECS, 1, 0}, 3, 4},
        {"fd_read", {4, 0, 3, AT_RESULT}, 1, 24},
        {"fd_write", {1, 0, 3, AT_RESULT}, 1, 24},
        {"fd_pread", {4, AT_IOVECS, 1, 0, 0}, 4, 4},
        {"fd_pwrite", {4, AT_IOVECS, 1, 0, 0}, 4, 4},
        {"fd_readdir", {3, 0, 40, 0, AT_RESULT}, 1, 40},
        {"fd_readdir", {3, AT_DATA, 40, 0, 0}, 4, 4},
        {"path_filestat_get", {3, 0, AT_PATH, 4, 0}, 4, 64},
        {"path_filestat_get", {3, 0, 0, 4, AT_STRUCT}, 2, 4},
        {"path_open", {3, 0, AT_PATH, 4, 0, 0, 0, 0, 0}, 8, 4},
        {"path_readlink", {3, AT_PATH_2, 4, 0, 10, AT_RESULT}, 3, 10},
        {"path_readlink", {3, AT_PATH_2, 4, AT_DATA, 10, 0}, 5, 4},
        {"random_get", {0, 33}, 0, 33},
        {"poll_oneoff", {0, AT_EVENTS, 1, AT_RESULT}, 0, 48},
        {"poll_oneoff", {AT_STRUCT, 0, 1, AT_RESULT}, 1, 32},
        {"poll_oneoff", {AT_STRUCT, AT_EVENTS, 1, 0}, 3, 4},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        const struct wasi_function *function = function_named(rows[i].name);
        for (uint32_t over = 0; over <= rows[i].bytes; over++) {
            memset(f->memory, 0, GUEST_BYTES);
            put(f, AT_PATH, "file", 4);
            put(f, AT_PATH_2, "link", 4);
            put_iovec(f, 0, AT_DATA, 4);
            if (rows[i].pointer == 2)
                put(f, GUEST_BYTES - 4, "file", 4);
            uint64_t arguments[WASI_ARGUMENTS_MAX];
            memcpy(arguments, rows[i].arguments, sizeof(arguments));
            arguments[rows[i].pointer] = GUEST_BYTES - rows[i].bytes + over;
            enum err err = fixture_call(f, function, arguments);
            if (err != (over ? ERR_FAULT : ERR_OK))
                print_error("%s, argument %zu, %u over\n", rows[i].name, rows[i].pointer, over);
            assert_int_equal(err, over ? ERR_FAULT : ERR_OK);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_accessor),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_edges),
        FIXTURE_TEST(test_end_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
