/* The server's own log: one line a message on standard error. Libraries below api log at debug
 * only. Thread: any; a line is written whole. */
#pragma once

#include "base/macros.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* What is printed: this level and the more severe ones. INFO at first. */
void log_set_level(enum log_level level);
void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* A condition that can't be false unless the program itself is wrong, or an error after which going
 * on would lose data (a failed fsync): says so and ends the process. */
_Noreturn void log_fatal(const char *format, ...) PRINTF_LIKE(1, 2);
#define INVARIANT(condition)                                                                       \
    ((condition)                                                                                   \
         ? (void)0                                                                                 \
         : log_fatal("%s:%d: invariant does not hold: %s", __FILE__, __LINE__, #condition))
