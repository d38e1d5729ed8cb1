/* What a thread is called where the kernel shows it: `top -H`, `ps -L`, a profile, a core dump.
 * pthread_setname_np(3). Layer: base. */
#pragma once

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#define THREAD_NAME_MAX 16 /* with the end: what the kernel keeps */

/* Names the calling thread; a longer name is cut. Never fails. */
__attribute__((format(printf, 1, 2))) static inline void thread_set_name(const char *format, ...) {
    char name[THREAD_NAME_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    pthread_setname_np(pthread_self(), name);
}
