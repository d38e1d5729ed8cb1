/* Reading and writing through lists of buffers. */
#include "wasi/wasi_test_fixture.h"

static void test_write_and_read(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, fd, "hello, world");
    must_read(f, fd, 100, ""); /* it stands at the end */
    OK(f, fd_seek, fd, 7, WHENCE_SET, AT_RESULT);
    must_read(f, fd, 3, "wor");
    must_read(f, fd, 100, "ld");
    assert_int_equal(f->wasi.bytes_written, 12);
    assert_int_equal(f->wasi.bytes_read, 5);
}

static void test_many_buffers(void **state) {
    struct fixture *f = *state;
    put(f, AT_DATA, "abcdefgh", 8);
    put_iovec(f, 0, AT_DATA, 3);
    put_iovec(f, 1, 0xffffffff, 0); /* empty ones may point anywhere */
    put_iovec(f, 2, AT_DATA + 3, 1);
    put_iovec(f, 3, AT_DATA + 4, 4);
    put_iovec(f, 4, 0, 0);
    OK(f, fd_write, FD_STDOUT, AT_IOVECS, 5, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 8);
    assert_memory_equal(f->out->output.data, "abcdefgh", 8);
    assert_int_equal(f->out->writes, 1); /* gathered: a line is not torn */

    test_file_feed(f->in, "12345678");
    memset(f->memory + AT_DATA, 'x', 100);
    put_iovec(f, 0, AT_DATA, 1);
    put_iovec(f, 1, AT_DATA + 10, 2);
    put_iovec(f, 2, AT_DATA + 20, 20);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 3, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 8);
    assert_memory_equal(f->memory + AT_DATA, "1xxxxxxxxx23xxxxxxxx45678x", 26);
    assert_int_equal(f->in->reads, 1);
}

static void test_no_buffers(void **state) {
    struct fixture *f = *state;
    layout_put_u32(f->memory + AT_RESULT, 77);
    OK(f, fd_write, FD_STDOUT, 0xfffffff0, 0, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 0);
    put_iovec(f, 0, 0xffffffff, 0);
    layout_put_u32(f->memory + AT_RESULT, 77);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 1, AT_RESULT); /* does not wait for input */
    assert_int_equal(get_u32(f, AT_RESULT), 0);
}

static void test_large_buffers_in_turns(void **state) {
    (void)state;
    struct wasi_limits limits = wasi_limits_default;
    limits.piece_bytes = 10000;
    struct fixture *f = fixture_new(&limits, GUEST_BYTES);
    for (unsigned i = 0; i < 100000; i++)
        f->memory[AT_DATA + i] = (uint8_t)(i * 7 + i / 256);
    put_iovec(f, 0, AT_DATA, 5);
    put_iovec(f, 1, AT_DATA + 5, 60000);
    put_iovec(f, 2, AT_DATA + 60005, 39995);
    uint64_t arguments[] = {FD_STDOUT, AT_IOVECS, 3, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("fd_write"), arguments), ERR_PENDING);
    assert_true(f->out->output.length <= 20000);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), 100000);
    assert_int_equal(f->out->output.length, 100000);
    assert_memory_equal(f->out->output.data, f->memory + AT_DATA, 100000);

    assert_int_equal(buf_append(&f->in->input, f->out->output.data, 100000), ERR_OK);
    memset(f->memory + AT_DATA, 0, 100001);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 3, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 100000);
    assert_memory_equal(f->out->output.data, f->memory + AT_DATA, 100000);
    fixture_free(f);
}

static void test_read_waits_and_is_short(void **state) {
    struct fixture *f = *state;
    put_iovec(f, 0, AT_DATA, 4);
    put_iovec(f, 1, AT_DATA + 4, 40000);
    uint64_t arguments[] = {FD_STDIN, AT_IOVECS, 2, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("fd_read"), arguments), ERR_PENDING);
    assert_int_equal(fixture_go_on(f), ERR_PENDING);
    test_file_feed(f->in, "abcdef");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), 6);
    assert_memory_equal(f->memory + AT_DATA, "abcdef", 6);
    /* A buffer that was just filled is no reason to wait for more. */
    char text[8193];
    memset(text, 'y', 8192);
    text[8192] = 0;
    test_file_feed(f->in, text);
    put_iovec(f, 0, AT_DATA, 8192);
    put_iovec(f, 1, AT_DATA + 8192, 10);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 2, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 8192);
    f->in->input_ended = true;
    must_read(f, FD_STDIN, 10, "");
}

static void test_short_read_keeps_the_rest(void **state) {
    struct fixture *f = *state;
    test_file_feed(f->in, "a message");
    must_read(f, FD_STDIN, 2, "a ");
    must_read(f, FD_STDIN, 32, "message");
    /* It ends at the first buffer that was not filled. */
    test_file_feed(f->in, "abcdef");
    f->in->read_max = 2;
    put_iovec(f, 0, AT_DATA, 3);
    put_iovec(f, 1, AT_DATA + 3, 3);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 2, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 2);
}

static void test_write_waits_then_is_short(void **state) {
    struct fixture *f = *state;
    f->out->room = 0;
    put_iovec(f, 0, AT_DATA, put(f, AT_DATA, "0123456789", 10));
    uint64_t arguments[] = {FD_STDOUT, AT_IOVECS, 1, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("fd_write"), arguments), ERR_PENDING);
    f->out->room = 4;
    test_file_wake(f->out);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), 4);
    assert_memory_equal(f->out->output.data, "0123", 4);
}

static void test_nonblocking(void **state) {
    struct fixture *f = *state;
    OK(f, fd_fdstat_set_flags, FD_STDIN, FD_FLAG_NONBLOCK);
    assert_int_equal(try_read(f, FD_STDIN, 10), ERR_AGAIN);
    test_file_feed(f->in, "now");
    must_read(f, FD_STDIN, 10, "now");
    OK(f, fd_fdstat_set_flags, FD_STDOUT, FD_FLAG_NONBLOCK);
    f->out->room = 2;
    assert_int_equal(try_write(f, FD_STDOUT, "abc"), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), 2);
    assert_int_equal(try_write(f, FD_STDOUT, "c"), ERR_AGAIN);
    OK(f, fd_fdstat_set_flags, FD_STDOUT, 0);
    assert_int_equal(try_write(f, FD_STDOUT, "c"), ERR_PENDING);
}

static void test_errors_of_the_device(void **state) {
    struct fixture *f = *state;
    f->out->next_error = ERR_PIPE;
    assert_int_equal(try_write(f, FD_STDOUT, "abc"), ERR_PIPE);
    f->in->next_error = ERR_IO;
    assert_int_equal(try_read(f, FD_STDIN, 1), ERR_IO);
}

static void test_position_and_offset(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, fd, "0123456789");
    put_iovec(f, 0, AT_DATA, put(f, AT_DATA, "XY", 2));
    OK(f, fd_pwrite, fd, AT_IOVECS, 1, 3, AT_RESULT);
    put_iovec(f, 0, AT_DATA, 100);
    OK(f, fd_pread, fd, AT_IOVECS, 1, 2, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 8);
    assert_memory_equal(f->memory + AT_DATA, "2XY56789", 8);
    OK(f, fd_tell, fd, AT_RESULT);
    assert_int_equal(get_u64(f, AT_RESULT), 10);
    OK(f, fd_pread, fd, AT_IOVECS, 1, INT64_MAX, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 0);
    EXPECT(ERR_INVAL, f, fd_pread, fd, AT_IOVECS, 1, (uint64_t)INT64_MAX + 1, AT_RESULT);
    EXPECT(ERR_INVAL, f, fd_pwrite, fd, AT_IOVECS, 1, UINT64_MAX, AT_RESULT);
    EXPECT(ERR_FBIG, f, fd_pwrite, fd, AT_IOVECS, 1, INT64_MAX - 1, AT_RESULT);
    OK(f, fd_seek, fd, INT64_MAX, WHENCE_SET, AT_RESULT);
    assert_int_equal(try_write(f, fd, "x"), ERR_FBIG);
    must_read(f, fd, 10, "");
    EXPECT(ERR_SPIPE, f, fd_pread, FD_STDIN, AT_IOVECS, 1, 0, AT_RESULT);
    EXPECT(ERR_SPIPE, f, fd_pwrite, FD_STDOUT, AT_IOVECS, 1, 0, AT_RESULT);
}

static void test_append(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, FD_FLAG_APPEND);
    must_write(f, fd, "ab");
    OK(f, fd_seek, fd, 0, WHENCE_SET, AT_RESULT);
    must_write(f, fd, "cd");
    OK(f, fd_seek, fd, 0, WHENCE_CUR, AT_RESULT);
    assert_int_equal(get_u64(f, AT_RESULT), 4);
    OK(f, fd_seek, fd, 0, WHENCE_SET, AT_RESULT);
    must_read(f, fd, 100, "abcd");
    OK(f, fd_fdstat_set_flags, fd, 0);
    OK(f, fd_seek, fd, 1, WHENCE_SET, AT_RESULT);
    must_write(f, fd, "X");
    assert_int_equal(size_of(f, "file"), 4);
}

static void test_sync_flags(void **state) {
    struct fixture *f = *state;
    OK(f, fd_fdstat_set_flags, FD_STDOUT, FD_FLAG_DSYNC);
    must_write(f, FD_STDOUT, "abc");
    assert_int_equal(f->out->syncs, 1);
    OK(f, fd_sync, FD_STDOUT);
    OK(f, fd_datasync, FD_STDOUT);
    assert_int_equal(f->out->syncs, 3);
}

static void test_rights(void **state) {
    struct fixture *f = *state;
    assert_int_equal(try_read(f, FD_STDOUT, 1), ERR_BADF);
    assert_int_equal(try_write(f, FD_STDIN, "x"), ERR_BADF);
    assert_int_equal(try_write(f, 99, "x"), ERR_BADF);
    assert_int_equal(try_write(f, 0xffffffff, "x"), ERR_BADF);
    assert_int_equal(try_read(f, FD_ROOT, 1), ERR_ISDIR);
    assert_int_equal(try_write(f, FD_ROOT, "x"), ERR_ISDIR);
    EXPECT(ERR_ISDIR, f, fd_pread, FD_ROOT, AT_IOVECS, 1, 0, AT_RESULT);
}

static void test_hostile_lists(void **state) {
    struct fixture *f = *state;
    const uint32_t counts[] = {1025, 10000, 1u << 29, (1u << 29) + 1, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LENGTH(counts); i++) {
        EXPECT(ERR_NOMEM, f, fd_write, FD_STDOUT, AT_IOVECS, counts[i], AT_RESULT);
        EXPECT(ERR_NOMEM, f, fd_read, FD_STDIN, AT_IOVECS, counts[i], AT_RESULT);
    }
    /* The list at the end of the memory, and one past. */
    layout_put_u32(f->memory + GUEST_BYTES - 8, AT_DATA);
    layout_put_u32(f->memory + GUEST_BYTES - 4, 1);
    OK(f, fd_write, FD_STDOUT, GUEST_BYTES - 8, 1, AT_RESULT);
    EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, GUEST_BYTES - 7, 1, AT_RESULT);
    EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, GUEST_BYTES - 8, 2, AT_RESULT);
    EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, 0xfffffff8, 2, AT_RESULT);
    /* Buffers at the end, past it, and round the address space. */
    put_iovec(f, 0, GUEST_BYTES - 1, 1);
    OK(f, fd_write, FD_STDOUT, AT_IOVECS, 1, AT_RESULT);
    const uint32_t bad[][2] = {{GUEST_BYTES - 1, 2}, {GUEST_BYTES, 1}, {UINT32_MAX, 1},
                               {1, UINT32_MAX},      {0, UINT32_MAX},  {UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        put_iovec(f, 0, AT_DATA, 4);
        put_iovec(f, 1, bad[i][0], bad[i][1]);
        unsigned writes = f->out->writes;
        EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, AT_IOVECS, 2, AT_RESULT);
        assert_int_equal(f->out->writes, writes); /* all or nothing */
        EXPECT(ERR_FAULT, f, fd_read, FD_STDIN, AT_IOVECS, 2, AT_RESULT);
    }
    /* The result's place is checked before anything is read. */
    test_file_feed(f->in, "keep");
    put_iovec(f, 0, AT_DATA, 4);
    EXPECT(ERR_FAULT, f, fd_read, FD_STDIN, AT_IOVECS, 1, GUEST_BYTES - 3);
    must_read(f, FD_STDIN, 10, "keep");
    /* Misaligned everything. */
    layout_put_u32(f->memory + AT_IOVECS + 1, AT_DATA + 1);
    layout_put_u32(f->memory + AT_IOVECS + 5, 3);
    OK(f, fd_write, FD_STDOUT, AT_IOVECS + 1, 1, AT_RESULT + 1);
    assert_int_equal(get_u32(f, AT_RESULT + 1), 3);
}

static void test_sum_beyond_u32(void **state) {
    struct fixture *f = *state;
    struct wasi_limits limits = wasi_limits_default;
    limits.iovecs = 1u << 16;
    f->wasi.limits = limits;
    /* 20,000 times the same 250,000 bytes: each is in the memory, the sum is over 2^32. */
    for (uint32_t i = 0; i < 20000; i++) {
        layout_put_u32(f->memory + i * 8, 0);
        layout_put_u32(f->memory + i * 8 + 4, 250000);
    }
    EXPECT(ERR_INVAL, f, fd_write, FD_STDOUT, 0, 20000, GUEST_BYTES - 4);
    EXPECT(ERR_INVAL, f, fd_read, FD_STDIN, 0, 20000, GUEST_BYTES - 4);
}

static void test_overlapping_buffers(void **state) {
    struct fixture *f = *state;
    /* The input goes over the list itself and over the result: the list was copied. */
    put_iovec(f, 0, AT_IOVECS, 16);
    put_iovec(f, 1, AT_DATA, 8);
    char text[25];
    memset(text, 0xee, 24);
    text[24] = 0;
    test_file_feed(f->in, text);
    OK(f, fd_read, FD_STDIN, AT_IOVECS, 2, AT_IOVECS + 4);
    assert_int_equal(get_u32(f, AT_IOVECS + 4), 24);
    assert_memory_equal(f->memory + AT_DATA, text, 8);
}

static void test_memory_grows_between_steps(void **state) {
    struct fixture *f = *state;
    put_iovec(f, 0, AT_DATA, 5);
    uint64_t arguments[] = {FD_STDIN, AT_IOVECS, 1, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("fd_read"), arguments), ERR_PENDING);
    uint8_t *grown = malloc(2 * GUEST_BYTES);
    memcpy(grown, f->memory, GUEST_BYTES);
    free(f->memory);
    f->memory = grown;
    f->memory_bytes = 2 * GUEST_BYTES;
    test_file_feed(f->in, "moved");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_memory_equal(f->memory + AT_DATA, "moved", 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_write_and_read),
        FIXTURE_TEST(test_many_buffers),
        FIXTURE_TEST(test_no_buffers),
        cmocka_unit_test(test_large_buffers_in_turns),
        FIXTURE_TEST(test_read_waits_and_is_short),
        FIXTURE_TEST(test_short_read_keeps_the_rest),
        FIXTURE_TEST(test_write_waits_then_is_short),
        FIXTURE_TEST(test_nonblocking),
        FIXTURE_TEST(test_errors_of_the_device),
        FIXTURE_TEST(test_position_and_offset),
        FIXTURE_TEST(test_append),
        FIXTURE_TEST(test_sync_flags),
        FIXTURE_TEST(test_rights),
        FIXTURE_TEST(test_hostile_lists),
        FIXTURE_TEST(test_sum_beyond_u32),
        FIXTURE_TEST(test_overlapping_buffers),
        FIXTURE_TEST(test_memory_grows_between_steps),
        SLOW_TEST(test_write_and_read),
        SLOW_TEST(test_position_and_offset),
        SLOW_TEST(test_append),
        SLOW_TEST(test_sync_flags),
        SLOW_TEST(test_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
