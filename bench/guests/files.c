/* File calls, timed from inside, so that starting and answering are not counted.
 *
 *     files small COUNT    open, write 4 KiB, close, stat, open, read, close, unlink: COUNT times
 *     files large MB       writes a file of that size in pieces of 64 KiB, and reads it
 *
 * Prints nanoseconds: of one round of `small`; of writing and of reading for `large`. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char path[] = "/bench.bin";
static char data[65536];

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

static void small(int count) {
    long long start = now_ns();
    for (int i = 0; i < count; i++) {
        int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
        must(file >= 0, "open");
        must(write(file, data, 4096) == 4096, "write");
        must(close(file) == 0, "close");
        struct stat status;
        must(stat(path, &status) == 0 && status.st_size == 4096, "stat");
        file = open(path, O_RDONLY);
        must(file >= 0, "open");
        must(read(file, data, 4096) == 4096, "read");
        must(close(file) == 0, "close");
        must(unlink(path) == 0, "unlink");
    }
    printf("%lld\n", (now_ns() - start) / count);
}

static void large(int megabytes) {
    long long size = megabytes * 1000000LL;
    long long start = now_ns();
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    must(file >= 0, "open");
    for (long long done = 0; done < size;) {
        size_t piece = size - done < (long long)sizeof data ? (size_t)(size - done) : sizeof data;
        must(write(file, data, piece) == (ssize_t)piece, "write");
        done += (long long)piece;
    }
    must(close(file) == 0, "close");
    long long written = now_ns();
    file = open(path, O_RDONLY);
    must(file >= 0, "open");
    long long sum = 0;
    for (ssize_t piece; (piece = read(file, data, sizeof data)) != 0;) {
        must(piece > 0, "read");
        sum += piece;
    }
    must(sum == size, "the size");
    long long read_ns = now_ns();
    must(unlink(path) == 0, "unlink");
    printf("%lld %lld\n", written - start, read_ns - written);
}

int main(int argc, char **argv) {
    must(argc == 3, "usage: files small COUNT | files large MB");
    memset(data, 'x', sizeof data);
    if (strcmp(argv[1], "small") == 0) {
        small(atoi(argv[2]));
    } else {
        large(atoi(argv[2]));
    }
    return 0;
}
