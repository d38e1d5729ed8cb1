#include "store/applog_internal.h"
#include "store/catalog_testing.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const struct applog_limits no_limits = {0};
enum { TIME_S = 1795446449 };
static const uint64_t time_ns = TIME_S * NS_PER_S + 123 * NS_PER_MS;
#define HEAD "2026-11-23T15:07:29.123Z "

static struct applog_set *open_set(const struct applog_limits *limits) {
    struct applog_set *set = NULL;
    assert_int_equal(applog_set_new(in_state("logs"), limits, &set), ERR_OK);
    return set;
}

static struct applog *open_log(struct applog_set *set, int64_t app_id) {
    struct applog *log = NULL;
    assert_int_equal(applog_get(set, app_id, &log), ERR_OK);
    return log;
}

static void append(struct applog *log, const char *text) {
    applog_append(log, time_ns, 7, "out", str_of(text));
}

/* All from an offset on. */
static void read_all(struct applog *log, uint64_t offset, struct buf *text) {
    char data[1000];
    size_t got = 0;
    do {
        uint64_t at = 0;
        assert_ok(applog_read(&op, log, offset, data, sizeof data, &got, &at));
        assert_true(at >= offset);
        assert_int_equal(buf_append(text, data, got), ERR_OK);
        offset = at + got;
    } while (got > 0);
    assert_int_equal(offset, applog_end_offset(log));
}

static void assert_log(struct applog *log, uint64_t offset, const char *expected) {
    cleanup_buf struct buf text = {0};
    read_all(log, offset, &text);
    assert_string_equal(buf_text(&text), expected);
}

static void test_lines(void **state) {
    (void)state;
    static const struct {
        struct str line;
        const char *expected;
    } lines[] = {
        {STR("hello"), "hello"},
        {STR(""), ""},
        {STR("a\tb"), "a\tb"},
        {STR("\033[31mred\r"), "\\x1b[31mred\\x0d"},
        {STR("a\0b\x7f"), "a\\x00b\\x7f"},
        {STR("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"), "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {STR("\xff\xc3"), "\\xff\\xc3"},
        {STR("\xc2\x9b"
             "31m"),
         "\\xc2\\x9b31m"},                          /* a control character of 2 bytes */
        {STR("\xed\xa0\x80"), "\\xed\\xa0\\x80"},   /* a surrogate */
        {STR("\xc0\xaf"), "\\xc0\\xaf"},            /* an overlong form */
        {STR("C:\\new \\x41"), "C:\\new \\x5cx41"}, /* would read as an escape */
        {STR("one\ntwo"), "one\\x0atwo"},           /* can't forge a line */
    };
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        cleanup_buf struct buf text = {0};
        cleanup_buf struct buf expected = {0};
        assert_int_equal(applog_format(&text, time_ns, 18446744073709551615u, "err", lines[i].line),
                         ERR_OK);
        assert_int_equal(
            buf_printf(&expected, HEAD "18446744073709551615 err %s\n", lines[i].expected), ERR_OK);
        assert_string_equal(buf_text(&text), buf_text(&expected));
    }
}

static void test_append_and_read(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1), *other = open_log(set, 2), *same = open_log(set, 1);
    assert_ptr_equal(log, same);
    assert_log(log, 0, "");
    append(log, "one");
    append(log, "two");
    append(other, "three");
    static const char both[] = HEAD "7 out one\n" HEAD "7 out two\n";
    assert_log(log, 0, both);
    assert_log(log, 5, both + 5);
    assert_ok(applog_flush(&op, log));
    assert_ok(applog_flush(&op, log)); /* nothing to do */
    assert_log(log, 0, both);
    append(log, "four"); /* some in the file, some in memory */
    assert_log(log, 10, HEAD "7 out one\n" HEAD "7 out two\n" HEAD "7 out four\n" + 10);
    assert_log(other, 0, HEAD "7 out three\n");
    char data[10];
    size_t got;
    uint64_t at;
    assert_err(applog_read(&op, log, applog_end_offset(log) + 1, data, sizeof data, &got, &at),
               RANGE);
    assert_int_equal(applog_first_offset(log), 0);
    applog_unref(log);
    applog_unref(same);
    applog_unref(other);
    applog_set_free(set);
    /* The end has written all; offsets go on. */
    set = open_set(&no_limits);
    log = open_log(set, 1);
    uint64_t end = applog_end_offset(log);
    assert_int_equal(end, 3 * strlen(HEAD "7 out one\n") + 1);
    append(log, "five");
    assert_log(log, end, HEAD "7 out five\n");
    applog_unref(log);
    applog_set_free(set);
}

static void test_long_lines(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1);
    /* A character of three bytes lies across the cut. */
    size_t length = 2 * APPLOG_LINE_MAX + 10;
    char *line = malloc(length + 1);
    memset(line, 'x', length);
    line[length] = 0;
    memcpy(line + APPLOG_LINE_MAX - 1, "\xe2\x82\xac", 3);
    append(log, line);
    cleanup_buf struct buf text = {0};
    read_all(log, 0, &text);
    struct str rest = buf_str(&text);
    size_t sizes[] = {APPLOG_LINE_MAX - 1, APPLOG_LINE_MAX, 11};
    size_t head = strlen(HEAD "7 out ");
    for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        struct str piece = str_cut(&rest, '\n');
        assert_int_equal(piece.length, head + sizes[i]);
        assert_memory_equal(piece.data, HEAD "7 out ", head);
        assert_true(str_is_utf8(piece));
    }
    assert_int_equal(rest.length, 0);
    free(line);
    applog_unref(log);
    applog_set_free(set);
}

static void on_follow(struct op *woken) {
    loop_stop(woken->loop);
}

static void *append_later(void *argument) {
    for (int i = 0; i < 100; i++) {
        append(argument, "x");
    }
    return NULL;
}

/* A reader that waits is woken for each line that another thread appends. */
static void test_follow(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1);
    struct op follower;
    op_init(&follower, loop, &who, on_follow);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, append_later, log), 0);
    uint64_t offset = 0, wanted = 100 * strlen(HEAD "7 out x\n");
    while (offset < wanted) {
        char data[64];
        size_t got = 0;
        uint64_t at = 0;
        enum err err = applog_read(&follower, log, offset, data, sizeof data, &got, &at);
        if (!err && got == 0) {
            assert_int_equal(op_queue_wait(applog_appended(log), &follower), ERR_OK);
            err = applog_read(&follower, log, offset, data, sizeof data, &got, &at);
            err = !err && got == 0 ? ERR_PENDING : err;
        }
        if (err == ERR_PENDING) {
            loop_run(loop);
            continue;
        }
        assert_int_equal(err, ERR_OK);
        assert_int_equal(at, offset);
        offset += got;
    }
    assert_int_equal(offset, wanted);
    pthread_join(thread, NULL);
    op_done(&follower);
    applog_unref(log);
    applog_set_free(set);
}

/* Segments come and go; offsets stay what they are. */
static void test_rotation(void **state) {
    (void)state;
    const struct applog_limits limits = {.bytes_max = 64 * 1024};
    struct applog_set *set = open_set(&limits);
    struct applog *log = open_log(set, 1);
    cleanup_buf struct buf all = {0};
    for (int i = 0; i < 5000; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "line %d", i);
        append(log, line);
        assert_int_equal(buf_printf(&all, HEAD "7 out line %d\n", i), ERR_OK);
        if (i % 200 == 0) {
            assert_ok(applog_flush(&op, log));
        }
    }
    assert_ok(applog_flush(&op, log));
    for (int round = 0; round < 2; round++) {
        uint64_t first = applog_first_offset(log), end = applog_end_offset(log);
        assert_int_equal(end, all.length);
        assert_true(first > 0);
        assert_true(end - first <= limits.bytes_max);
        assert_true(end - first > limits.bytes_max / 2);
        assert_int_equal(all.data[first - 1], '\n');
        cleanup_buf struct buf text = {0};
        read_all(log, first, &text);
        assert_string_equal(buf_text(&text), (char *)all.data + first);
        /* From before the beginning: told where it begins. */
        char data[10];
        size_t got = 0;
        uint64_t at = 0;
        assert_ok(applog_read(&op, log, 3, data, sizeof data, &got, &at));
        assert_int_equal(at, first);
        assert_memory_equal(data, all.data + first, got);
        cleanup_buf struct buf cut = {0};
        assert_int_equal(applog_format_cut(&cut, 3, at), ERR_OK);
        assert_non_null(strstr(buf_text(&cut), " 0 sys "));
        assert_non_null(strstr(buf_text(&cut), "from offset 3 on"));
        /* Again after a restart. */
        applog_unref(log);
        applog_set_free(set);
        set = open_set(&limits);
        log = open_log(set, 1);
    }
    applog_unref(log);
    applog_set_free(set);
}

static void test_age(void **state) {
    (void)state;
    const struct applog_limits limits = {.age_max_ns = 3600 * NS_PER_S};
    struct applog_set *set = open_set(&limits);
    struct applog *log = open_log(set, 1);
    append(log, "old");
    assert_ok(applog_flush(&op, log));
    uint64_t end = applog_end_offset(log);
    applog_trim_all(set, clock_realtime_ns() + 1800 * NS_PER_S);
    assert_int_equal(applog_first_offset(log), 0);
    applog_trim_all(set, clock_realtime_ns() + 7200 * NS_PER_S);
    assert_int_equal(applog_first_offset(log), end);
    assert_int_equal(applog_end_offset(log), end);
    append(log, "new");
    assert_log(log, 0, HEAD "7 out new\n");
    applog_unref(log);
    applog_set_free(set);
    set = open_set(&limits);
    log = open_log(set, 1);
    assert_int_equal(applog_first_offset(log), end);
    assert_log(log, 0, HEAD "7 out new\n");
    applog_unref(log);
    applog_set_free(set);
}

/* What a crash leaves: a half line, zeros, nothing but a half line. */
static void test_recovery(void **state) {
    (void)state;
    static const char whole[] = HEAD "7 out one\n";
    static const struct str tails[] = {STR("2026-11-23T15:0"), STR("\0\0\0\0\0\0\0\0"), STR("")};
    for (size_t i = 0; i < ARRAY_LENGTH(tails); i++) {
        struct applog_set *set = open_set(&no_limits);
        struct applog *log = open_log(set, (int64_t)i + 1);
        append(log, "one");
        applog_unref(log);
        applog_set_free(set);
        cleanup_buf struct buf content = {0};
        const char *path = in_state("logs/%zu/00000000000000000000.log", i + 1);
        assert_int_equal(fsio_read_file(path, 1000, &content), ERR_OK);
        assert_int_equal(buf_append_str(&content, tails[i]), ERR_OK);
        assert_int_equal(fsio_replace_file(path, content.data, content.length), ERR_OK);
        set = open_set(&no_limits);
        log = open_log(set, (int64_t)i + 1);
        assert_int_equal(applog_end_offset(log), sizeof whole - 1);
        append(log, "two");
        assert_ok(applog_flush(&op, log));
        assert_log(log, 0, HEAD "7 out one\n" HEAD "7 out two\n");
        applog_unref(log);
        applog_set_free(set);
    }
    /* A long half line and nothing else; a file that is not ours. */
    char *big = calloc(1, 20000);
    memset(big, 'x', 20000);
    assert_int_equal(fsio_make_directories(in_state("logs/9")), ERR_OK);
    assert_int_equal(fsio_replace_file(in_state("logs/9/00000000000000000500.log"), big, 20000),
                     ERR_OK);
    write_file(in_state("logs/9/notes"), "x");
    free(big);
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 9);
    assert_int_equal(applog_first_offset(log), 500);
    assert_int_equal(applog_end_offset(log), 500);
    applog_unref(log);
    applog_set_free(set);
}

/* A server that is killed while it logs: what was flushed is there, in whole lines. */
static void test_killed(void **state) {
    (void)state;
    uint64_t *flushed =
        mmap(NULL, sizeof *flushed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(flushed, MAP_FAILED);
    uint64_t before = 0;
    for (int round = 0; round < 20; round++) {
        *flushed = before;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            setenv("CMOCKA_TEST_ABORT", "1", 1);
            begin_loop();
            struct applog_set *set = open_set(&no_limits);
            struct applog *log = open_log(set, 1);
            for (int i = 0;; i++) {
                append(log, "a line of the log");
                if (i % 50 == 49) {
                    assert_ok(applog_flush(&op, log));
                    *(volatile uint64_t *)flushed = applog_end_offset(log);
                }
                if (i == 500 + round * 37) {
                    raise(SIGKILL);
                }
            }
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct applog_set *set = open_set(&no_limits);
        struct applog *log = open_log(set, 1);
        uint64_t end = applog_end_offset(log);
        assert_true(end >= *flushed && end > before);
        assert_int_equal(end % strlen(HEAD "7 out a line of the log\n"), 0);
        before = end;
        applog_unref(log);
        applog_set_free(set);
    }
    munmap(flushed, sizeof *flushed);
}

static atomic_bool disk_is_full;

static ssize_t full_write(int descriptor, const void *data, size_t length) {
    if (atomic_load(&disk_is_full)) {
        if (length > 10 && write(descriptor, data, 10) != 10) { /* some of it is there */
            return -1;
        }
        errno = ENOSPC;
        return -1;
    }
    return write(descriptor, data, length);
}

/* While nothing can be written lines are dropped at some time, and a line says how many. */
static void test_dropped(void **state) {
    (void)state;
    struct fsio_system full = fsio_system_host;
    full.write = full_write;
    fsio_system = &full;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1);
    append(log, "before");
    assert_ok(applog_flush(&op, log));
    atomic_store(&disk_is_full, true);
    append(log, "during");
    assert_err(applog_flush(&op, log), NOSPC);
    enum { LINES = 50000 };
    for (int i = 0; i < LINES; i++) {
        append(log, "much output, more than there is room for");
    }
    uint64_t end = applog_end_offset(log);
    assert_true(end < 2 * APPLOG_BUFFER_MAX + 1000);
    atomic_store(&disk_is_full, false);
    /* The last attempt may have begun before: then it fails. */
    enum err err;
    while ((err = DO(applog_flush(&op, log)))) {
        assert_int_equal(err, ERR_NOSPC);
    }
    append(log, "after");
    assert_ok(applog_flush(&op, log));
    cleanup_buf struct buf text = {0};
    read_all(log, 0, &text);
    struct str rest = buf_str(&text);
    int written = 0;
    unsigned long long dropped = 0, said = 0;
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        const char *drop = memmem(line.data, line.length, " 0 sys ", 7);
        if (drop) {
            dropped += strtoull(drop + 7, NULL, 10);
            said++;
        } else {
            written += memmem(line.data, line.length, "7 out much", 10) != NULL;
        }
    }
    assert_true(said >= 1 && dropped > 0);
    assert_int_equal(written + (int)dropped, LINES);
    assert_non_null(memmem(text.data, text.length, "out before\n", 11));
    assert_non_null(memmem(text.data, text.length, "out during\n", 11));
    assert_non_null(memmem(text.data, text.length, "out after\n", 10));
    applog_unref(log);
    applog_set_free(set);
    fsio_system = &fsio_system_host;
}

static void test_remove(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1);
    append(log, "one");
    assert_ok(applog_flush(&op, log));
    append(log, "two");
    assert_true(exists(in_state("logs/1")));
    applog_remove(set, 1);
    assert_false(exists(in_state("logs/1")));
    append(log, "three"); /* of a run that has not ended */
    assert_ok(applog_flush(&op, log));
    assert_log(log, 0, "");
    assert_false(exists(in_state("logs/1")));
    applog_unref(log);
    applog_remove(set, 1);
    applog_remove(set, 99);
    applog_set_free(set);
    assert_false(exists(in_state("logs/1")));
}

static void test_idle(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1), *used = open_log(set, 2);
    append(log, "one");
    assert_ok(applog_flush(&op, log));
    applog_unref(log);
    applog_forget_idle(set, clock_monotonic_ns());
    assert_int_equal(set->logs.count, 2);
    /* Who writes may still have it for a moment, though all is written. */
    uint64_t end_ns = clock_monotonic_ns() + 20 * NS_PER_S;
    do {
        assert_true(clock_monotonic_ns() < end_ns);
        applog_forget_idle(set, clock_monotonic_ns() + 60 * NS_PER_S);
    } while (set->logs.count != 1);
    log = open_log(set, 1);
    assert_log(log, 0, HEAD "7 out one\n");
    applog_unref(log);
    applog_unref(used);
    applog_set_free(set);
}

static void *append_many(void *argument) {
    for (int i = 0; i < 2000; i++) {
        append(argument, "a line");
    }
    return NULL;
}

/* Lines of several threads, in rotation, with reads between: nothing is lost or torn. */
static void test_threads(void **state) {
    (void)state;
    struct applog_set *set = open_set(&no_limits);
    struct applog *log = open_log(set, 1);
    log->files.segment_max = 16 * 1024;
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_LENGTH(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, log), 0);
    }
    size_t line = strlen(HEAD "7 out a line\n");
    uint64_t offset = 0;
    while (offset < line * 6000) {
        char data[1000];
        size_t got = 0;
        uint64_t at = 0;
        assert_ok(applog_read(&op, log, offset, data, sizeof data, &got, &at));
        assert_int_equal(at, offset);
        for (size_t i = 0; i < got; i++) {
            assert_int_equal(data[i], (HEAD "7 out a line\n")[(offset + i) % line]);
        }
        offset += got;
        if (got == 0) {
            assert_ok(applog_flush(&op, log));
        }
    }
    for (size_t i = 0; i < ARRAY_LENGTH(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(applog_end_offset(log), line * 6000);
    applog_unref(log);
    applog_set_free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_lines),      TEST(test_append_and_read),
        TEST(test_long_lines), TEST(test_follow),
        TEST(test_rotation),   TEST(test_age),
        TEST(test_recovery),   TEST(test_killed),
        TEST(test_dropped),    TEST(test_remove),
        TEST(test_idle),       TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
