/* A client that asks for the same at a steady rate on one connection, whatever else the machine
 * does:
 *
 *     steady PORT PATH SECONDS RATE
 *
 * Each POST is timed from when it was due, so that an answer that is late makes those behind it
 * late, too. Prints the 50th and the 99th percentile in microseconds. It does next to nothing
 * itself, and takes the processor from whoever has it where the kernel lets it: a client that waits
 * for the processor measures that. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000L
#define NS_PER_US 1000L

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void wait_until(int64_t due_ns) {
    struct timespec due = {.tv_sec = due_ns / NS_PER_S, .tv_nsec = due_ns % NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) {
    }
}

static _Noreturn void fail(const char *why) {
    fprintf(stderr, "steady: %s\n", why);
    exit(1);
}

static int connect_to(uint16_t port) {
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        fail("can't connect");
    }
    return descriptor;
}

/* Whether this is all of a response: its head says how long it is, or its last chunk has come. */
static bool is_whole(const char *text, size_t length) {
    const char *end = strstr(text, "\r\n\r\n");
    if (!end) {
        return false;
    }
    const char *body = end + 4, *field = strcasestr(text, "\r\ncontent-length:");
    size_t received = length - (size_t)(body - text);
    if (field && field < end) {
        return received >= strtoul(field + strlen("\r\ncontent-length:"), NULL, 10);
    }
    return strstr(body, "0\r\n") && length >= 4 && !strcmp(text + length - 4, "\r\n\r\n");
}

static void ask(int descriptor, const char *request, size_t request_length) {
    char answer[8192];
    size_t length = 0;
    if (write(descriptor, request, request_length) != (ssize_t)request_length) {
        fail("can't send");
    }
    do {
        ssize_t count = read(descriptor, answer + length, sizeof(answer) - 1 - length);
        if (count <= 0) {
            fail("the connection has ended, or an answer is too long");
        }
        length += (size_t)count;
        answer[length] = 0;
    } while (!is_whole(answer, length));
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0) {
        fail("an answer was an error");
    }
}

static int compare(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fail("usage: steady PORT PATH SECONDS RATE");
    }
    long seconds = atol(argv[3]), rate = atol(argv[4]);
    if (seconds <= 0 || rate <= 0) {
        fail("SECONDS and RATE are at least 1");
    }
    size_t count = (size_t)(seconds * rate);
    int64_t *times_ns = calloc(count, sizeof(*times_ns));
    char request[1024];
    int length =
        snprintf(request, sizeof(request),
                 "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", argv[2]);
    if (!times_ns || length >= (int)sizeof(request)) {
        fail("too much");
    }
    int descriptor = connect_to((uint16_t)atoi(argv[1]));
    if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}) != 0) {
        fprintf(stderr, "steady: no real-time priority here: what it waits for the processor is "
                        "in its times\n");
    }
    int64_t due_ns = now_ns();
    for (size_t i = 0; i < count; i++, due_ns += NS_PER_S / rate) {
        wait_until(due_ns);
        ask(descriptor, request, (size_t)length);
        times_ns[i] = now_ns() - due_ns;
    }
    qsort(times_ns, count, sizeof(*times_ns), compare);
    printf("%.1f %.1f\n", (double)times_ns[count / 2] / NS_PER_US,
           (double)times_ns[count * 99 / 100] / NS_PER_US);
    return 0;
}
