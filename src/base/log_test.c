#include "base/log.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Standard error goes into a pipe meanwhile. */
static int saved, reader;

static void begin_capture(void) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    reader = ends[0];
}

static size_t end_capture(char *text, size_t size) {
    assert_true(dup2(saved, STDERR_FILENO) >= 0); /* closes the only writing end */
    close(saved);
    size_t length = 0;
    ssize_t got;
    while ((got = read(reader, text + length, size - 1 - length)) > 0) {
        length += (size_t)got;
    }
    text[length] = 0;
    close(reader);
    return length;
}

static void test_one_line_a_message(void **state) {
    (void)state;
    char text[8192];
    begin_capture();
    errno = ENOENT;
    log_info("hello %d\n\x1b[31m\x7f\ttab", 5);
    int saved_errno = errno;
    end_capture(text, sizeof text);
    assert_int_equal(saved_errno, ENOENT);
    assert_true(strlen(text) > CLOCK_TEXT_SIZE);
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24, " info hello 5\\x0a\\x1b[31m\\x7f\ttab\n");
}

static void test_levels(void **state) {
    (void)state;
    char text[8192];
    begin_capture();
    log_debug("not shown at first");
    log_set_level(LOG_DEBUG);
    log_debug("one");
    log_set_level(LOG_ERROR);
    log_warning("not shown");
    log_error("two");
    log_set_level(LOG_INFO);
    end_capture(text, sizeof text);
    assert_null(strstr(text, "not shown"));
    assert_non_null(strstr(text, " debug one\n"));
    assert_non_null(strstr(text, " error two\n"));
}

static void test_a_long_message_is_cut(void **state) {
    (void)state;
    static char message[5000];
    char text[8192];
    memset(message, 1, sizeof message - 1); /* each becomes four characters */
    begin_capture();
    log_info("%s", message);
    size_t length = end_capture(text, sizeof text);
    assert_int_equal(text[length - 1], '\n');
    assert_true(length > 4000 && length < 4300);
    assert_ptr_equal(strchr(text, '\n'), text + length - 1);
}

static void test_fatal_aborts(void **state) {
    (void)state;
    char text[8192];
    begin_capture();
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL); /* not the test runner's */
        INVARIANT(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    pid_t waited = waitpid(pid, &status, 0);
    end_capture(text, sizeof text);
    assert_int_equal(waited, pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "fatal"));
    assert_non_null(strstr(text, "1 + 1 == 3"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_a_message),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_a_long_message_is_cut),
        cmocka_unit_test(test_fatal_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
