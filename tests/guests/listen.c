/* A small server for tests of serve=listen, one connection after the other: accept in C. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void send_all(int connection, const char *text) {
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t written = write(connection, text, length);
        if (written <= 0) {
            return;
        }
        text += written;
        length -= (size_t)written;
    }
}

static void wait_for_go(void) {
    while (access("/go", F_OK) != 0) {
        usleep(1000);
    }
}

static void answer(int connection, const char *path, const char *version) {
    static int count;
    char text[256];
    if (strcmp(path, "/die") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        exit(7);
    }
    if (strcmp(path, "/events") == 0) {
        send_all(connection, "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                             "data: first\n\n");
        wait_for_go();
        snprintf(text, sizeof text, "data: second %s\n\n", version);
        send_all(connection, text);
        return;
    }
    if (strcmp(path, "/wait") == 0) {
        wait_for_go();
    }
    snprintf(text, sizeof text, "%s\n", version);
    if (strcmp(path, "/count") == 0) {
        snprintf(text, sizeof text, "%d\n", ++count);
    }
    char head[128];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", strlen(text));
    send_all(connection, head);
    send_all(connection, text);
}

int main(int argc, char **argv) {
    const char *version = argc > 1 ? argv[1] : "hello from C";
    if (strcmp(version, "fail") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        return 3;
    }
    if (strcmp(version, "deaf") == 0) {
        for (;;) {
            sleep(1);
        }
    }
    for (;;) {
        int connection = accept(4, NULL, NULL);
        if (connection < 0) {
            return 9;
        }
        char request[4096];
        ssize_t length = read(connection, request, sizeof request - 1);
        if (length > 0) {
            request[length] = '\0';
            strtok(request, " ");
            const char *path = strtok(NULL, " ");
            answer(connection, path ? path : "", version);
        }
        close(connection);
    }
}
