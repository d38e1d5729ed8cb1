/* Reads its standard input and prints how many bytes it had; with a number as its argument, or as
 * the query of a web page, writes so many bytes instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static char data[65536];
    memset(data, 'x', sizeof data);
    const char *number = argc > 1 ? argv[1] : getenv("QUERY_STRING");
    if (getenv("GATEWAY_INTERFACE")) {
        printf("Content-Type: application/octet-stream\n\n");
        fflush(stdout);
    }
    if (number && *number) {
        for (unsigned long long left = strtoull(number, NULL, 10); left > 0;) {
            size_t length = left < sizeof data ? (size_t)left : sizeof data;
            ssize_t written = write(1, data, length);
            if (written < 0) {
                return 1;
            }
            left -= (unsigned long long)written;
        }
        return 0;
    }
    unsigned long long count = 0;
    for (ssize_t length; (length = read(0, data, sizeof data)) > 0;) {
        count += (unsigned long long)length;
    }
    printf("%llu\n", count);
    return 0;
}
