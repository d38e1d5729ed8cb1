/* hello.c as a program that is kept: the request is read to its end, then answered. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    const char *answer = "Content-Type: text/plain\n\nHello from a sandbox!\n";
    for (;;) {
        char request[4096];
        int file = open("/net/serve", O_RDWR);
        while (read(file, request, sizeof request) > 0) {
        }
        if (file < 0 || write(file, answer, strlen(answer)) < 0) {
            return 1;
        }
        close(file);
    }
}
