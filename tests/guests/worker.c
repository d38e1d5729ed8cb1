/* What is called: by arguments or by the lines of its input it does what it is told to. */
#include <ctype.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void obey(char *line) {
    if (strncmp(line, "exit ", 5) == 0) {
        fprintf(stderr, "first words\nleaving with %d\n", atoi(line + 5));
        exit(atoi(line + 5));
    } else if (strncmp(line, "panic", 5) == 0) {
        fputs("earlier words\npanic: no soup\n\ngoroutine 1 [running]:\nmain.main()\n"
              "\t/main.go:7 +0x2\n\n",
              stderr);
        exit(2);
    } else if (strncmp(line, "rust panic", 10) == 0) {
        fputs("\nthread 'main' (1) panicked at src/main.rs:3:5:\nno soup\n"
              "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
              stderr);
        exit(101);
    } else if (strncmp(line, "trap", 4) == 0) {
        __builtin_trap();
    } else if (strncmp(line, "spin", 4) == 0) {
        for (volatile uint64_t i = 0;; i++) {
        }
    } else if (strncmp(line, "wait", 4) == 0) {
        for (;;) {
            poll(NULL, 0, 100000);
        }
    } else if (strncmp(line, "take ", 5) == 0) {
        size_t bytes = (size_t)atoi(line + 5) << 20;
        char *memory = malloc(bytes);
        if (!memory) {
            printf("no memory\n");
            exit(3);
        }
        memset(memory, 1, bytes);
        volatile char *used = memory;
        printf("took %d\n", (int)(bytes >> 20) * used[bytes / 2]);
    } else if (strncmp(line, "say ", 4) == 0) {
        for (int i = atoi(line + 4); i > 0; i--) {
            printf("%d bottles\n", i);
        }
    } else if (strncmp(line, "environment", 11) == 0) {
        const char *trace = getenv("TRACEPARENT");
        printf("%s\n", trace ? trace : "none");
    } else if (strncmp(line, "state", 5) == 0) {
        const char *state = getenv("TRACESTATE");
        printf("%s\n", state ? state : "none");
    } else if (strncmp(line, "blame ", 6) == 0) {
        fprintf(stderr, "%s", line + 6);
    } else {
        for (char *at = line; *at; at++) {
            putchar(toupper((unsigned char)*at));
        }
    }
}

int main(int count, char **arguments) {
    static char line[1 << 16];
    for (int i = 1; i < count; i++) {
        snprintf(line, sizeof line, "%s\n", arguments[i]);
        obey(line);
    }
    while (fgets(line, sizeof line, stdin)) {
        obey(line);
    }
}
