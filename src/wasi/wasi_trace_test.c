/* What traced calls look like, whatever the guest passes. */
#include "wasi/wasi_test_fixture.h"
#include "wasi/wasi_trace.h"

static struct wasi_trace trace;

static void trace_from_here(struct fixture *f, uint64_t room_bytes) {
    wasi_trace_done(&trace);
    trace = (struct wasi_trace){.began_ns = clock_monotonic_ns(), .room_bytes = room_bytes};
    f->wasi.trace = &trace;
}

/* The lines since the last look with their times as "T", which are digits and a point. */
static const char *lines(void) {
    static char text[4096];
    size_t length = 0;
    for (size_t i = 0; i < trace.text.length;) {
        const char *rest = (const char *)trace.text.data + i;
        bool starts = i == 0 || rest[-1] == '\n' || rest[-1] == '<';
        size_t digits = starts ? strspn(rest, "0123456789.") : 0;
        assert_true(length + 2 < sizeof(text));
        text[length++] = digits ? 'T' : *rest;
        i += digits ? digits : 1;
    }
    text[length] = 0;
    trace.text.length = 0;
    return text;
}

#define EXPECT_LINES(expected) assert_string_equal(lines(), expected)

static void test_table(void **state) {
    struct fixture *f = *state;
    trace_from_here(f, MIB);
    for (size_t i = 0; i < WASI_FUNCTION_COUNT; i++) {
        /* With zeros and with all bits set, each call has one line that begins with its name. */
        for (int ones = 0; ones < 2; ones++) {
            uint64_t arguments[WASI_ARGUMENTS_MAX];
            memset(arguments, ones ? 0xff : 0, sizeof(arguments));
            for (size_t j = 0; wasi_functions[i].parameters[j]; j++) {
                if (wasi_functions[i].parameters[j] == 'i') {
                    arguments[j] = (uint32_t)arguments[j];
                }
            }
            wasi_trace_begin(&f->wasi, &wasi_functions[i], arguments);
            wasi_trace_end(&f->wasi, &wasi_functions[i], arguments, ones ? ERR_FAULT : ERR_OK);
            char start[64];
            snprintf(start, sizeof(start), "T %s(", wasi_functions[i].name);
            const char *line = lines();
            assert_ptr_equal(strstr(line, start), line);
            assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
            assert_non_null(strstr(line, ones ? ") = fault <T>\n" : ") = "));
        }
    }
}

static void test_files(void **state) {
    struct fixture *f = *state;
    trace_from_here(f, MIB);
    uint32_t fd = must_open(f, "new", OFLAG_CREAT | OFLAG_EXCL, RIGHTS_BOTH, FD_FLAG_APPEND);
    EXPECT_LINES("T path_open(3, 0, \"new\", creat|excl, read|write, "
                 "read|seek|tell|write|0x3fffff99, append) = 4 <T>\n");
    must_write(f, fd, "one\ntwo\n");
    EXPECT_LINES("T fd_write(4, \"one\\ntwo\\n\"[8]) = 8 <T>\n");
    put_iovec(f, 0, AT_DATA, 4);
    put_iovec(f, 1, AT_DATA + 100, 1000);
    OK(f, fd_pread, fd, AT_IOVECS, 2, 0, AT_RESULT);
    EXPECT_LINES("T fd_pread(4, [1004 in 2], 0) = 8 \"one\\ntwo\\n\" <T>\n");
    OK(f, fd_seek, fd, (uint64_t)-3, WHENCE_END, AT_RESULT);
    EXPECT_LINES("T fd_seek(4, -3, end) = 5 <T>\n");
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_non_null(strstr(lines(), "T fd_filestat_get(4) = {regular_file, 8 bytes, inode "));
    OK(f, fd_prestat_get, FD_ROOT, AT_STRUCT);
    EXPECT_LINES("T fd_prestat_get(3) = {dir, name of 1} <T>\n");
    must_make_link(f, "new", "link");
    OK(f, path_readlink, FD_ROOT, PATH(f, "link"), AT_DATA, 100, AT_RESULT);
    EXPECT_LINES("T path_symlink(\"new\", 3, \"link\") = ok <T>\n"
                 "T path_readlink(3, \"link\", [100]) = 3 \"new\" <T>\n");
    EXPECT(ERR_BADF, f, fd_close, 99);
    EXPECT_LINES("T fd_close(99) = badf <T>\n");
    EXPECT(ERR_EXIT, f, proc_exit, 3);
    EXPECT_LINES("T proc_exit(3) = exit <T>\n");
}

static void test_poll(void **state) {
    struct fixture *f = *state;
    trace_from_here(f, MIB);
    test_file_feed(f->in, "12345");
    uint8_t *clock = f->memory + AT_STRUCT, *input = clock + SUBSCRIPTION_SIZE;
    clock[SUBSCRIPTION_CLOCK_ID] = CLOCKID_MONOTONIC;
    layout_put_u64(clock + SUBSCRIPTION_CLOCK_TIMEOUT, 1500 * NS_PER_MS);
    input[SUBSCRIPTION_TAG] = EVENTTYPE_FD_READ;
    OK(f, poll_oneoff, AT_STRUCT, AT_EVENTS, 2, AT_RESULT);
    EXPECT_LINES("T poll_oneoff([clock monotonic +1.500000, fd_read 0]) = 1 [fd_read 5] <T>\n");
}

static void test_hostile(void **state) {
    struct fixture *f = *state;
    trace_from_here(f, MIB);
    EXPECT(ERR_NOENT, f, path_unlink_file, FD_ROOT, PATH(f, "a\x1b[31m\"\\\xc2\x9b\xc3\xa9"));
    EXPECT_LINES("T path_unlink_file(3, \"a\\x1b[31m\\\"\\\\\\xc2\\x9b\xc3\xa9\") = noent <T>\n");
    EXPECT(ERR_ILSEQ, f, path_unlink_file, FD_ROOT, PATH(f, "\xff\xc3\xa9"));
    EXPECT_LINES("T path_unlink_file(3, \"\\xff\\xc3\\xa9\") = ilseq <T>\n");
    EXPECT(ERR_FAULT, f, path_unlink_file, FD_ROOT, UINT32_MAX, 2);
    EXPECT_LINES("T path_unlink_file(3, 0xffffffff?) = fault <T>\n");
    EXPECT(ERR_NOMEM, f, fd_write, FD_STDOUT, AT_IOVECS, UINT32_MAX, AT_RESULT);
    EXPECT_LINES("T fd_write(1, 0x8000?[in 4294967295]) = nomem <T>\n");
    put_iovec(f, 0, UINT32_MAX, UINT32_MAX);
    EXPECT(ERR_FAULT, f, fd_write, FD_STDOUT, AT_IOVECS, 1, AT_RESULT);
    EXPECT_LINES("T fd_write(1, \"\"...[4294967295]) = fault <T>\n");
    /* A long name is cut, not in the middle of a character. */
    char name[301];
    for (size_t i = 0; i < 300; i += 3) {
        memcpy(name + i, "\xe2\x82\xac", 3);
    }
    name[300] = 0;
    EXPECT(ERR_NAMETOOLONG, f, path_unlink_file, FD_ROOT, PATH(f, name));
    const char *line = lines();
    assert_non_null(strstr(line, "\xe2\x82\xac\"...) = nametoolong <T>\n"));
    assert_true(str_is_utf8(str_of(line)) && strlen(line) < 200);
    EXPECT(ERR_FAULT, f, clock_time_get, CLOCKID_REALTIME, 7, UINT32_MAX);
    EXPECT_LINES("T clock_time_get(realtime, 7) = fault <T>\n");
}

static void test_end(void **state) {
    struct fixture *f = *state;
    trace_from_here(f, 200);
    unsigned calls = 0;
    while (trace.untold == 0) {
        OK(f, sched_yield);
        calls++;
    }
    OK(f, sched_yield);
    assert_int_equal(trace.untold, 2);
    const char *text = lines();
    assert_non_null(strstr(text, "sched_yield() = ok <T>\n--- the trace is full: "));
    assert_in_range(calls, 3, 10);
    wasi_trace_close(&trace, "exit 0");
    EXPECT_LINES("--- 2 calls are not shown\nT +++ exit 0 +++\n");

    /* A call that waits is there from its beginning. */
    trace_from_here(f, MIB);
    assert_int_equal(try_read(f, FD_STDIN, 10), ERR_PENDING);
    EXPECT_LINES("T fd_read(0, [10])");
    test_file_feed(f->in, "x");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    EXPECT_LINES(" = 1 \"x\" <T>\n");
    assert_int_equal(try_read(f, FD_STDIN, 10), ERR_PENDING);
    wasi_trace_close(&trace, "killed 137");
    EXPECT_LINES("T fd_read(0, [10]) <unfinished>\nT +++ killed 137 +++\n");
    wasi_trace_done(&trace);
    f->wasi.trace = NULL;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_table),   FIXTURE_TEST(test_files), FIXTURE_TEST(test_poll),
        FIXTURE_TEST(test_hostile), FIXTURE_TEST(test_end),   SLOW_TEST(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
