/* A crowd of slow clients on loopback, from one thread: connections that do nothing, readers that
 * take a response a little at a time, uploads that give their body a little at a time.
 *
 *     crowd PORT IDLE READERS READ-PATH UPLOADS UPLOAD-PATH
 *
 * Says "ready OPEN" when all have connected and sent their heads, moves BYTES_A_SECOND on each
 * reader and upload until its standard input ends, then says "closed N" (that the server has closed
 * or refused meanwhile) and "moved READ SENT" (bytes), and goes.
 *
 * They are strangers to each other: at each moment a few of them move, and each begins at another
 * place, so that they don't come to the end of a block, or of what the kernel holds for them, all
 * at the same time. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A little above what the server wants of a body, 1 KiB a second. */
#define BYTES_A_SECOND 2048
#define TURNS_A_SECOND 4
#define SLICES 1000 /* of a turn: a quarter of a millisecond each */
#define FIRST_BYTES_MAX 16384
#define RECEIVE_BUFFER 4096
#define UPLOAD_BYTES (1 << 20)

enum kind { IDLE, READER, UPLOAD };
struct client {
    int descriptor;
    enum kind kind;
    bool closed;
    uint64_t bytes;
};

static void fail(const char *what) {
    fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_client(uint16_t port) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        fail("socket");
    }
    /* Small, as behind a slow line: else the kernel would take the whole response at once. */
    int size = RECEIVE_BUFFER;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        fail("connect");
    }
    return descriptor;
}

static void send_head(const struct client *client, uint16_t port, const char *path, size_t number) {
    char head[512];
    int length;
    if (client->kind == READER) {
        length = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", path,
                          port);
    } else {
        length = snprintf(head, sizeof head,
                          "PUT %s%zu HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Length: %d\r\n\r\n",
                          path, number, port, UPLOAD_BYTES);
    }
    if (length < 0 || (size_t)length >= sizeof head ||
        write(client->descriptor, head, (size_t)length) != length) {
        fail("a head");
    }
}

/* A little of a response or of a body; notices a connection that has ended. */
static void move(struct client *client) {
    static char piece[FIRST_BYTES_MAX];
    const size_t length =
        client->bytes ? BYTES_A_SECOND / TURNS_A_SECOND : (size_t)rand() % FIRST_BYTES_MAX + 1;
    ssize_t moved;
    if (client->kind == READER) {
        moved = recv(client->descriptor, piece, length, MSG_DONTWAIT);
    } else if (client->kind == UPLOAD) {
        moved = send(client->descriptor, piece, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        moved = recv(client->descriptor, piece, 1, MSG_DONTWAIT | MSG_PEEK);
    }
    if (moved > 0 && client->kind != IDLE) {
        client->bytes += (uint64_t)moved;
    } else if (moved == 0 || (moved < 0 && errno != EAGAIN)) {
        client->closed = true;
    }
}

static bool input_has_ended(void) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char byte;
    return poll(&input, 1, 0) > 0 && read(0, &byte, 1) <= 0;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: crowd PORT IDLE READERS READ-PATH UPLOADS UPLOAD-PATH\n");
        return 2;
    }
    uint16_t port = (uint16_t)atoi(argv[1]);
    const size_t counts[] = {(size_t)atoi(argv[2]), (size_t)atoi(argv[3]), (size_t)atoi(argv[5])};
    size_t count = counts[IDLE] + counts[READER] + counts[UPLOAD];
    struct rlimit files = {count + 64, count + 64};
    struct rlimit before;
    if (getrlimit(RLIMIT_NOFILE, &before) != 0 ||
        (before.rlim_cur < files.rlim_cur && setrlimit(RLIMIT_NOFILE, &files) != 0)) {
        fail("so many descriptors");
    }
    struct client *clients = calloc(count + 1, sizeof *clients);
    if (!clients) {
        fail("memory");
    }
    size_t next = 0;
    for (int kind = IDLE; kind <= UPLOAD; kind++) {
        for (size_t i = 0; i < counts[kind]; i++, next++) {
            clients[next] =
                (struct client){.kind = (enum kind)kind, .descriptor = open_client(port)};
            if (kind != IDLE) {
                send_head(&clients[next], port, argv[kind == READER ? 4 : 6], i);
            }
        }
    }
    printf("ready %zu\n", count);
    fflush(stdout);
    /* Each turn moves a slice of the clients. What has to do nothing is left alone. */
    struct timespec next_slice;
    clock_gettime(CLOCK_MONOTONIC, &next_slice);
    for (size_t slice = 0; !input_has_ended(); slice = (slice + 1) % SLICES) {
        for (size_t i = counts[IDLE] + slice; i < count; i += SLICES) {
            if (!clients[i].closed) {
                move(&clients[i]);
            }
        }
        next_slice.tv_nsec += 1000000000L / TURNS_A_SECOND / SLICES;
        next_slice.tv_sec += next_slice.tv_nsec / 1000000000L;
        next_slice.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next_slice, NULL);
    }
    for (size_t i = 0; i < counts[IDLE]; i++) {
        move(&clients[i]);
    }
    size_t closed = 0;
    uint64_t bytes[3] = {0};
    for (size_t i = 0; i < count; i++) {
        closed += clients[i].closed;
        bytes[clients[i].kind] += clients[i].bytes;
        close(clients[i].descriptor);
    }
    printf("closed %zu\nmoved %llu %llu\n", closed, (unsigned long long)bytes[READER],
           (unsigned long long)bytes[UPLOAD]);
    free(clients);
    return 0;
}
