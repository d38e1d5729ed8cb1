#include "run/internal.h"
#include "store/catalog_testing.h"

#include "base/clock.h"

static const uint64_t start_ns = 1795446449 * NS_PER_S;
enum { RUN = 7, LINE = 1023 };

static struct applog_set *set;
static struct applog *the_log;
static struct lines lines;

static int open_log(void **state) {
    static const struct applog_limits no_limits = {0};
    set_up(state);
    assert_int_equal(applog_set_new(in_state("logs"), &no_limits, &set), ERR_OK);
    assert_int_equal(applog_get(set, 1, &the_log), ERR_OK);
    lines = (struct lines){0};
    return 0;
}

static int close_log(void **state) {
    lines_done(&lines);
    applog_unref(the_log);
    applog_set_free(set);
    return tear_down(state);
}

/* So many lines of LINE bytes and a newline, in one write. The log is written after each, or it
 * would leave out some because the disk is slow. */
static void write_lines(unsigned count, uint64_t time_ns) {
    cleanup_buf struct buf data = {0};
    assert_int_equal(buf_reserve(&data, LINE + 1), ERR_OK);
    memset(data.data, 'x', LINE);
    data.data[LINE] = '\n';
    for (unsigned i = 0; i < count; i++) {
        lines_append(&lines, the_log, RUN, RUN_STDOUT, data.data, LINE + 1, time_ns);
        if (i % 256 == 0) {
            assert_ok(applog_flush(&op, the_log));
        }
    }
    assert_ok(applog_flush(&op, the_log));
}

/* How many lines of the log have a text; `ret_last`: the last of them. */
static unsigned count_lines(const char *text, struct buf *ret_last) {
    cleanup_buf struct buf log = {0};
    static char data[65536];
    uint64_t offset = 0;
    size_t got;
    do {
        uint64_t at;
        assert_ok(applog_read(&op, the_log, offset, data, sizeof(data), &got, &at));
        assert_int_equal(buf_append(&log, data, got), ERR_OK);
        offset = at + got;
    } while (got > 0);
    unsigned count = 0;
    for (struct str rest = buf_str(&log); rest.length > 0;) {
        struct str line = str_cut(&rest, '\n');
        if (memmem(line.data, line.length, text, strlen(text))) {
            count++;
            ret_last->length = 0;
            assert_int_equal(buf_append_str(ret_last, line), ERR_OK);
        }
    }
    return count;
}

static void assert_lines(unsigned logged, unsigned notes, const char *last_note) {
    cleanup_buf struct buf last = {0};
    assert_int_equal(count_lines(" 7 out xxx", &last), logged);
    assert_int_equal(count_lines("are left out here", &last), notes);
    if (last_note) {
        assert_non_null(strstr(buf_text(&last), last_note));
    }
}

enum { BURST = LOG_BURST_BYTES / (LINE + 48) };

static void test_a_little_is_logged_whole(void **state) {
    (void)state;
    write_lines(BURST, start_ns);
    lines_flush(&lines, the_log, RUN, start_ns);
    assert_lines(BURST, 0, NULL);
}

static void test_more_at_once_is_left_out(void **state) {
    (void)state;
    write_lines(BURST + 1000, start_ns);
    assert_lines(BURST, 0, NULL);
    lines_flush(&lines, the_log, RUN, start_ns);
    assert_lines(BURST, 1,
                 " 7 sys 1000 lines of 1023000 bytes are left out here: a run may log 8 ");
    lines_flush(&lines, the_log, RUN, start_ns);
    assert_lines(BURST, 1, NULL);
}

static void test_it_comes_back(void **state) {
    (void)state;
    write_lines(BURST + 1, start_ns);
    write_lines(1, start_ns + NS_PER_S / 2); /* not yet: a second's room is waited for */
    assert_lines(BURST, 0, NULL);
    write_lines(1, start_ns + 2 * NS_PER_S);
    assert_lines(BURST + 1, 1, " 2 lines of 2046 bytes ");
    /* And the standard error of the run shares it. */
    uint64_t later_ns = start_ns + 3600 * NS_PER_S;
    write_lines(BURST, later_ns);
    char more[LINE] = {0};
    more[LINE - 1] = '\n';
    lines_append(&lines, the_log, RUN, RUN_STDERR, more, LINE, later_ns);
    lines_flush(&lines, the_log, RUN, later_ns);
    assert_lines(2 * BURST + 1, 2, " 1 lines of 1022 bytes ");
}

static void test_at_the_rate_nothing_is_left_out(void **state) {
    (void)state;
    const unsigned piece = LOG_BYTES_A_SECOND / (LINE + 48) / 10;
    for (unsigned i = 0; i < 200; i++) { /* 20 seconds of it: more than the burst */
        write_lines(piece, start_ns + i * (NS_PER_S / 10));
    }
    lines_flush(&lines, the_log, RUN, start_ns + 20 * NS_PER_S);
    assert_lines(200 * piece, 0, NULL);
}

static void test_a_clock_that_jumps(void **state) {
    (void)state;
    write_lines(BURST + 1, start_ns);
    write_lines(1, start_ns - 3600 * NS_PER_S); /* back: nothing comes back */
    assert_lines(BURST, 0, NULL);
    write_lines(1, UINT64_MAX);
    assert_lines(BURST + 1, 1, " 2 lines ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_little_is_logged_whole, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_more_at_once_is_left_out, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_it_comes_back, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_at_the_rate_nothing_is_left_out, open_log, close_log),
        cmocka_unit_test_setup_teardown(test_a_clock_that_jumps, open_log, close_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
