/* A guest that does what its first argument says, for tests of runs. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int echo(void) { /* standard input to standard output */
    char buffer[4096];
    size_t length;
    while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0) {
        fwrite(buffer, 1, length, stdout);
    }
    return 0;
}

static int talk(void) { /* the same line by line */
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        fputs(line, stdout);
        fflush(stdout);
    }
    return 0;
}

static int lines(int count) { /* both streams in turn, a line each */
    for (int i = 0; i < count; i++) {
        printf("out %d\n", i);
        fflush(stdout);
        fprintf(stderr, "err %d\n", i);
    }
    return 0;
}

static int flood(unsigned long long bytes) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (bytes > 0) {
        size_t length = bytes < sizeof block ? (size_t)bytes : sizeof block;
        if (write(1, block, length) < 0) {
            return 1;
        }
        bytes -= length;
    }
    return 0;
}

static int eat(unsigned long long bytes) { /* memory, touched */
    char *data = malloc((size_t)bytes);
    if (!data) {
        fprintf(stderr, "no memory\n");
        return 3;
    }
    memset(data, 1, (size_t)bytes);
    printf("%d\n", data[bytes / 2]);
    return 0;
}

static int put(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}

static int get(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    char buffer[4096];
    size_t length;
    while ((length = fread(buffer, 1, sizeof buffer, file)) > 0) {
        fwrite(buffer, 1, length, stdout);
    }
    fclose(file);
    return 0;
}

static __attribute__((noinline)) void crash_here(void) {
    __builtin_trap();
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "args";
    const char *value = argc > 2 ? argv[2] : "0";
    if (strcmp(verb, "args") == 0) {
        for (int i = 0; i < argc; i++) {
            printf("%s\n", argv[i]);
        }
    } else if (strcmp(verb, "env") == 0) {
        for (char **entry = environ; *entry; entry++) {
            printf("%s\n", *entry);
        }
    } else if (strcmp(verb, "echo") == 0) {
        return echo();
    } else if (strcmp(verb, "talk") == 0) {
        return talk();
    } else if (strcmp(verb, "exit") == 0) {
        return atoi(value);
    } else if (strcmp(verb, "trap") == 0) {
        crash_here();
    } else if (strcmp(verb, "lines") == 0) {
        return lines(atoi(value));
    } else if (strcmp(verb, "flood") == 0) {
        return flood(strtoull(value, NULL, 10));
    } else if (strcmp(verb, "eat") == 0) {
        return eat(strtoull(value, NULL, 10));
    } else if (strcmp(verb, "spin") == 0) {
        for (volatile uint64_t i = 0;; i++) {
        }
    } else if (strcmp(verb, "wait") == 0) { /* says so, then waits for input that may never come */
        puts("waiting");
        fflush(stdout);
        int byte = getchar();
        printf("got %d\n", byte);
    } else if (strcmp(verb, "sleep") == 0) {
        puts("sleeping");
        fflush(stdout);
        usleep((useconds_t)atoi(value) * 1000);
        puts("awake");
    } else if (strcmp(verb, "put") == 0 && argc > 3) {
        return put(argv[2], argv[3]);
    } else if (strcmp(verb, "get") == 0) {
        return get(value);
    } else if (strcmp(verb, "bytes") == 0) { /* not UTF-8 */
        fwrite("\xff\xfe\x00\x01", 1, 4, stdout);
    } else {
        fprintf(stderr, "probe: what is '%s'?\n", verb);
        return 2;
    }
    return 0;
}
