/* A program that is kept, for tests of /net/serve: one request after the other, by open, read,
 * write, close. What it does is in the path. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char head[65536];
static size_t head_length; /* with the empty line */
static size_t gathered;    /* what was read with it */

/* False: this file has no more. */
static int read_head(int file) {
    gathered = 0;
    for (;;) {
        ssize_t length = read(file, head + gathered, sizeof head - 1 - gathered);
        if (length <= 0) {
            return 0;
        }
        gathered += (size_t)length;
        head[gathered] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end) {
            head_length = (size_t)(end + 4 - head);
            return 1;
        }
    }
}

/* errno of the first write that fails, or 0. */
static int write_all(int file, const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t written = write(file, at, length);
        if (written <= 0) {
            return errno;
        }
        at += written;
        length -= (size_t)written;
    }
    return 0;
}

static int write_text(int file, const char *text) {
    return write_all(file, text, strlen(text));
}

static void note(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    fputs(text, file);
    fclose(file);
}

static void wait_for(const char *path) {
    while (access(path, F_OK) != 0) {
        usleep(1000);
    }
}

static void wait_for_go(void) {
    wait_for("/go");
}

static void echo(int file) {
    write_text(file, "Content-Type: application/octet-stream\n\n");
    write_all(file, head + head_length, gathered - head_length);
    static char piece[65536];
    ssize_t length;
    while ((length = read(file, piece, sizeof piece)) > 0) {
        write_all(file, piece, (size_t)length);
    }
}

/* How many bytes the body has, and a sum of them. */
static void sum(int file) {
    unsigned long long count = 0, total = 0;
    static char piece[65536];
    ssize_t length = (ssize_t)(gathered - head_length);
    memcpy(piece, head + head_length, (size_t)length);
    do {
        count += (unsigned long long)length;
        for (ssize_t i = 0; i < length; i++) {
            total += (unsigned char)piece[i];
        }
        length = read(file, piece, sizeof piece);
    } while (length > 0);
    char text[100];
    snprintf(text, sizeof text, "%llu %llu %s\n", count, total,
             length < 0 ? strerror(errno) : "end");
    write_text(file, text);
    note("/summed", text);
}

static void flood(int file, size_t size) {
    static char piece[65536];
    write_text(file, "Content-Type: application/octet-stream\n\n");
    while (size > 0) {
        size_t length = size < sizeof piece ? size : sizeof piece;
        int failure = write_all(file, piece, length);
        if (failure) {
            note("/gone", strerror(failure));
            return;
        }
        size -= length;
    }
}

/* "LENGTH-MORE": an answer that is longer than its Content-Length. */
static void too_long(int file, const char *query) {
    char *rest;
    size_t length = strtoul(query, &rest, 10);
    size_t all = length + strtoul(rest + 1, NULL, 10);
    char *answer = malloc(all + 100);
    int size = sprintf(answer, "Content-Type: a/b\nContent-Length: %zu\n\n", length);
    memset(answer + size, 'x', all);
    write_all(file, answer, (size_t)size + all);
    free(answer);
}

static void events(int file, const char *version) {
    write_text(file, "Content-Type: text/event-stream\n\ndata: first\n\n");
    int failure = 0;
    while (access("/go", F_OK) != 0 && !failure) {
        failure = write_text(file, ":\n");
        usleep(10000);
    }
    if (failure) {
        note("/gone", strerror(failure));
        return;
    }
    char text[100];
    snprintf(text, sizeof text, "data: second %s\n\n", version);
    write_text(file, text);
}

static void answer(int file, char *path, const char *query, const char *version) {
    static int count;
    char text[100];
    if (strcmp(path, "/head") == 0) {
        write_all(file, head, gathered);
    } else if (strcmp(path, "/echo") == 0) {
        echo(file);
    } else if (strcmp(path, "/sum") == 0) {
        sum(file);
    } else if (strcmp(path, "/flood") == 0) {
        flood(file, strtoull(query, NULL, 10));
    } else if (strcmp(path, "/events") == 0) {
        events(file, version);
    } else if (strcmp(path, "/count") == 0) {
        snprintf(text, sizeof text, "%d\n", ++count);
        write_text(file, text);
    } else if (strcmp(path, "/wait") == 0) {
        wait_for_go();
        write_text(file, "waited\n");
    } else if (strcmp(path, "/wait_for") == 0) {
        wait_for(query);
        write_text(file, "waited\n");
    } else if (strcmp(path, "/hang") == 0) {
        note("/begun", "");
        for (volatile int i = 0;; i++) {
        }
    } else if (strcmp(path, "/late") == 0) { /* of a visitor that has gone meanwhile */
        note("/begun", "");
        wait_for_go();
        int failure = 0;
        for (int i = 0; i < 100 && !failure; i++) {
            failure = write_text(file, "a line of the answer\n");
        }
        note("/late", failure ? strerror(failure) : "fine");
    } else if (strcmp(path, "/nothing") == 0) {
        return;
    } else if (strcmp(path, "/die") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        exit(7);
    } else if (strcmp(path, "/half") == 0) { /* and leaves without having closed it */
        write_text(file, "Content-Type: text/plain\n\nhalf");
        wait_for_go();
        exit(0);
    } else if (strcmp(path, "/too_long") == 0) { /* more than its Content-Length, later */
        write_text(file, "Content-Type: text/plain\nContent-Length: 5\n\n12345");
        wait_for_go();
        write_text(file, "more");
        write_text(file, "and more");
        note("/late", "written");
    } else if (strcmp(path, "/too_short") == 0) {
        write_text(file, "Content-Type: text/plain\nContent-Length: 9\n\n12345");
        wait_for_go();
    } else if (strcmp(path, "/long") == 0) {
        too_long(file, query);
    } else if (strcmp(path, "/raw") == 0) { /* the body is the answer, as it is */
        write_all(file, head + head_length, gathered - head_length);
    } else if (strcmp(path, "/shutdown") == 0) {
        write_text(file, "all of it\n");
        int failed = shutdown(file, SHUT_WR);
        note("/shut", failed ? strerror(errno) : write_text(file, "more") == EPIPE ? "pipe" : "no");
        wait_for_go();
    } else if (strcmp(path, "/both") == 0) { /* the answer begins before the body is read */
        write_text(file, "Content-Type: text/plain\n\n");
        for (int i = 0; i < 1000; i++) {
            write_text(file, "0123456789abcdef");
        }
        sum(file);
    } else {
        snprintf(text, sizeof text, "%s\n", version);
        write_text(file, text);
    }
}

int main(int argc, char **argv) {
    const char *version = argc > 1 ? argv[1] : "hello from C";
    if (strcmp(version, "fail") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        return 3;
    }
    for (;;) {
        int file = open("/net/serve", O_RDWR);
        if (file < 0) {
            perror("/net/serve");
            return 9;
        }
        if (read_head(file)) {
            static char line[65536];
            memcpy(line, head, head_length);
            strtok(line, " ");
            char *target = strtok(NULL, " ");
            char *query = strchr(target, '?');
            if (query) {
                *query++ = '\0';
            }
            answer(file, target, query ? query : "", version);
        }
        close(file);
    }
}
