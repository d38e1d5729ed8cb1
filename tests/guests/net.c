/* A guest that uses /net as C programs do: open, read, write, poll. argv[1] says what. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int failed(const char *what) {
    int error = errno;
    char text[1024] = "";
    FILE *why = fopen("/proc/self/errstr", "r");
    if (why) {
        text[fread(text, 1, sizeof text - 1, why)] = 0;
        fclose(why);
    }
    printf("%s: %s: %s\n", what, strerror(error), text);
    return 1;
}

static int copy(FILE *from) {
    char piece[4096];
    size_t length;
    errno = 0;
    while ((length = fread(piece, 1, sizeof piece, from)) > 0) {
        fwrite(piece, 1, length, stdout);
    }
    return ferror(from) ? failed("read") : 0;
}

static int get(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        return failed("open");
    }
    int status = copy(file);
    fclose(file);
    return status;
}

static int post(const char *path, const char *text) {
    FILE *file = fopen(path, "r+");
    if (!file) {
        return failed("open");
    }
    fputs(text, file);
    fseek(file, 0, SEEK_CUR);
    int status = copy(file);
    fclose(file);
    return status;
}

/* Writes and does not read. */
static int drop(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file) {
        return failed("open");
    }
    fputs(text, file);
    fclose(file);
    return 0;
}

static int write_all(int descriptor, const char *data, size_t length);

/* So many bytes, and a close at once. */
static int pour(const char *path, unsigned long long count) {
    int descriptor = open(path, O_WRONLY);
    if (descriptor < 0) {
        return failed("open");
    }
    static char piece[65536];
    memset(piece, 'p', sizeof piece);
    while (count > 0) {
        size_t next = count < sizeof piece ? (size_t)count : sizeof piece;
        if (write_all(descriptor, piece, next)) {
            return 1;
        }
        count -= next;
    }
    close(descriptor);
    return 0;
}

static int write_all(int descriptor, const char *data, size_t length) {
    while (length > 0) {
        ssize_t written = write(descriptor, data, length);
        if (written < 0) {
            return failed("write");
        }
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int read_all(int descriptor) {
    char piece[16384];
    ssize_t length;
    while ((length = read(descriptor, piece, sizeof piece)) > 0) {
        fwrite(piece, 1, (size_t)length, stdout);
    }
    return length < 0 ? failed("read") : 0;
}

/* Standard input goes to `path`, what comes back to standard output. */
static int talk(const char *path, int is_shut) {
    int descriptor = open(path, O_RDWR);
    if (descriptor < 0) {
        return failed("open");
    }
    char piece[16384];
    ssize_t length;
    while ((length = read(0, piece, sizeof piece)) > 0) {
        if (write_all(descriptor, piece, (size_t)length)) {
            return 1;
        }
    }
    if (is_shut && shutdown(descriptor, SHUT_WR) != 0) {
        return failed("shutdown");
    }
    return read_all(descriptor);
}

/* A request to `url` with a body of `count` bytes. */
static int upload(const char *url, unsigned long long count) {
    int descriptor = open("/net/request", O_RDWR);
    if (descriptor < 0) {
        return failed("open");
    }
    static char piece[65536];
    int length = snprintf(piece, sizeof piece, "PUT %s HTTP/1.1\r\nContent-Length: %llu\r\n\r\n",
                          url, count);
    if (write_all(descriptor, piece, (size_t)length)) {
        return 1;
    }
    memset(piece, 'u', sizeof piece);
    while (count > 0) {
        size_t next = count < sizeof piece ? (size_t)count : sizeof piece;
        if (write_all(descriptor, piece, next)) {
            return 1;
        }
        count -= next;
    }
    return read_all(descriptor);
}

static int download(const char *path) {
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0) {
        return failed("open");
    }
    static char piece[65536];
    unsigned long long count = 0;
    ssize_t length;
    while ((length = read(descriptor, piece, sizeof piece)) > 0) {
        count += (unsigned long long)length;
    }
    if (length < 0) {
        return failed("read");
    }
    printf("%llu\n", count);
    return 0;
}

/* Several at once, by poll, without blocking. */
static int poll_all(int count, char **paths) {
    struct pollfd files[16];
    size_t bytes[16] = {0};
    int left = count;
    for (int i = 0; i < count; i++) {
        files[i] = (struct pollfd){.fd = open(paths[i], O_RDWR | O_NONBLOCK), .events = POLLIN};
        if (files[i].fd < 0) {
            return failed("open");
        }
        char byte;
        if (read(files[i].fd, &byte, 1) >= 0 || errno != EAGAIN) {
            return failed("it did not say EAGAIN");
        }
    }
    while (left > 0) {
        if (poll(files, (nfds_t)count, -1) < 0) {
            return failed("poll");
        }
        for (int i = 0; i < count; i++) {
            if (files[i].fd < 0 || !files[i].revents) {
                continue;
            }
            char piece[512];
            ssize_t length = read(files[i].fd, piece, sizeof piece);
            if (length > 0) {
                bytes[i] += (size_t)length;
            } else if (length == 0) {
                printf("%d: %zu\n", i, bytes[i]);
                close(files[i].fd);
                files[i].fd = -1;
                left--;
            } else if (errno != EAGAIN) {
                return failed("read");
            }
        }
    }
    return 0;
}

/* As an event loop does: polls for both directions, writes `text`, polls for reading alone, with a
 * descriptor that blocks. What it finds readable it then reads without blocking. */
static int loop(const char *path, const char *text) {
    struct pollfd file = {.fd = open(path, *text ? O_RDWR : O_RDONLY), .events = POLLIN | POLLOUT};
    if (file.fd < 0) {
        return failed("open");
    }
    for (; *text; text++) {
        if (poll(&file, 1, -1) != 1 || file.revents != POLLOUT) {
            printf("polled for both: %x\n", file.revents);
        }
        if (write_all(file.fd, text, 1)) {
            return 1;
        }
    }
    file.events = POLLIN;
    printf("poll: %d\n", poll(&file, 1, 100));
    fflush(stdout);
    fcntl(file.fd, F_SETFL, O_NONBLOCK);
    while (poll(&file, 1, -1) == 1) {
        char piece[512];
        ssize_t length = read(file.fd, piece, sizeof piece);
        if (length < 0) {
            return failed("read");
        }
        if (length == 0) {
            return 0;
        }
        fwrite(piece, 1, (size_t)length, stdout);
    }
    return failed("poll");
}

static int open_many(const char *path, int count) {
    int opened = 0;
    char byte;
    while (opened < count) {
        int descriptor = open(path, O_RDWR | O_NONBLOCK);
        if (descriptor < 0) {
            break;
        }
        if (read(descriptor, &byte, 1) < 0 && errno != EAGAIN) {
            break;
        }
        opened++;
    }
    printf("%d\n", opened);
    if (opened < count) {
        failed("next");
    }
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}

static int look(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) {
        return failed("stat");
    }
    printf("%s %lld\n",
           S_ISDIR(status.st_mode)    ? "directory"
           : S_ISCHR(status.st_mode)  ? "character"
           : S_ISSOCK(status.st_mode) ? "socket"
                                      : "other",
           (long long)status.st_size);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[1] : "";
    if (strcmp(what, "get") == 0) {
        return get(argv[2]);
    }
    if (strcmp(what, "post") == 0) {
        return post(argv[2], argv[3]);
    }
    if (strcmp(what, "drop") == 0) {
        return drop(argv[2], argv[3]);
    }
    if (strcmp(what, "pour") == 0) {
        return pour(argv[2], strtoull(argv[3], NULL, 10));
    }
    if (strcmp(what, "talk") == 0) {
        return talk(argv[2], 0);
    }
    if (strcmp(what, "shut") == 0) {
        return talk(argv[2], 1);
    }
    if (strcmp(what, "upload") == 0) {
        return upload(argv[2], strtoull(argv[3], NULL, 10));
    }
    if (strcmp(what, "download") == 0) {
        return download(argv[2]);
    }
    if (strcmp(what, "poll") == 0) {
        return poll_all(argc - 2, argv + 2);
    }
    if (strcmp(what, "loop") == 0) {
        return loop(argv[2], argc > 3 ? argv[3] : "");
    }
    if (strcmp(what, "many") == 0) {
        return open_many(argv[2], atoi(argv[3]));
    }
    if (strcmp(what, "look") == 0) {
        return look(argv[2]);
    }
    fprintf(stderr, "unknown: %s\n", what);
    return 2;
}
