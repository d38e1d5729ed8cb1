#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A message is cut at TEXT_SIZE; a byte becomes at most four ("\xNN"). */
enum { TEXT_SIZE = 1024, LINE_SIZE = 64 + 4 * TEXT_SIZE };

static atomic_int level_shown = LOG_INFO;

void log_set_level(enum log_level level) {
    atomic_store_explicit(&level_shown, (int)level, memory_order_relaxed);
}

/* Writes one line in one write(2), so that lines of several threads do not mix. What a guest or
 * a client put into the text must not look like a line of its own or drive a terminal. */
static void write_line(const char *level, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static void write_line(const char *level, const char *format, va_list arguments) {
    static const char digits[] = "0123456789abcdef";
    char text[TEXT_SIZE];
    char line[LINE_SIZE];
    int saved_errno = errno;

    clock_format_utc(clock_realtime_ns(), line);
    size_t length = CLOCK_TEXT_SIZE - 1;
    line[length++] = ' ';
    size_t level_length = strlen(level);
    memcpy(line + length, level, level_length);
    length += level_length;
    line[length++] = ' ';

    if (vsnprintf(text, sizeof text, format, arguments) < 0) {
        text[0] = 0;
    }
    for (size_t i = 0; text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        if ((byte >= 0x20 && byte != 0x7f) || byte == '\t') {
            line[length++] = (char)byte;
        } else {
            line[length++] = '\\';
            line[length++] = 'x';
            line[length++] = digits[byte >> 4];
            line[length++] = digits[byte & 15];
        }
    }
    line[length++] = '\n';
    for (size_t at = 0; at < length;) {
        ssize_t written = write(STDERR_FILENO, line + at, length - at);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            break; /* nowhere to say it */
        }
        at += (size_t)written;
    }
    errno = saved_errno;
}

void log_line(enum log_level level, const char *format, ...) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if ((int)level > atomic_load_explicit(&level_shown, memory_order_relaxed)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    write_line(names[level], format, arguments);
    va_end(arguments);
}

void log_fatal(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line("fatal", format, arguments);
    va_end(arguments);
    abort();
}
