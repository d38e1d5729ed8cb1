/* The network as files, timed from inside.
 *
 *     fetch get PATH COUNT        reads a file of /net/http COUNT times; prints nanoseconds of one
 *     fetch down PATH             reads it once; prints the nanoseconds
 *     fetch up URL BYTES          PUTs so much over /net/request; prints the nanoseconds */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char piece[256 * 1024];

static long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void must(int is_true, const char *what) {
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

static void read_all(int file) {
    ssize_t got, total = 0;
    while ((got = read(file, piece, sizeof piece)) > 0) {
        total += got;
    }
    must(got == 0 && total > 0, "read");
    close(file);
}

static void get(const char *path) {
    int file = open(path, O_RDONLY);
    must(file >= 0, path);
    read_all(file);
}

static void put(const char *url, long long bytes) {
    int file = open("/net/request", O_RDWR);
    must(file >= 0, "/net/request");
    int length = snprintf(piece, sizeof piece, "PUT %s HTTP/1.1\r\nContent-Length: %lld\r\n\r\n",
                          url, bytes);
    must(write(file, piece, (size_t)length) == length, "write");
    while (bytes > 0) {
        size_t next = bytes < (long long)sizeof piece ? (size_t)bytes : sizeof piece;
        ssize_t written = write(file, piece, next);
        must(written > 0, "write");
        bytes -= written;
    }
    read_all(file);
}

int main(int argc, char **argv) {
    must(argc > 2, "arguments");
    int count = strcmp(argv[1], "get") == 0 ? atoi(argv[3]) : 1;
    long long start = now_ns();
    for (int i = 0; i < count; i++) {
        if (strcmp(argv[1], "up") == 0) {
            put(argv[2], atoll(argv[3]));
        } else {
            get(argv[2]);
        }
    }
    printf("%lld\n", (now_ns() - start) / count);
    return 0;
}
