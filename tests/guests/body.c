/* Large bodies, by /run and as a web page: `body` reads its standard input and prints the length
 * and the Adler-32 of it; `body N`, or with N as the query, writes N bytes of a pattern. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define PATTERN_BYTES 65521
#define ADLER_MODULUS 65521
/* What may be added up before the sums must be reduced. */
#define ADLER_PIECE 4096

static unsigned char data[PATTERN_BYTES];

static void write_pattern(uint64_t left) {
    for (uint32_t i = 0; i < PATTERN_BYTES; i++) {
        data[i] = (unsigned char)(i * 7 + (i >> 8));
    }
    while (left > 0) {
        size_t length = left < PATTERN_BYTES ? (size_t)left : PATTERN_BYTES;
        if (fwrite(data, 1, length, stdout) != length) {
            exit(1);
        }
        left -= length;
    }
}

static void sum_input(void) {
    uint64_t count = 0;
    uint32_t low = 1;
    uint32_t high = 0;
    size_t length;
    while ((length = fread(data, 1, ADLER_PIECE, stdin)) > 0) {
        for (size_t i = 0; i < length; i++) {
            low += data[i];
            high += low;
        }
        low %= ADLER_MODULUS;
        high %= ADLER_MODULUS;
        count += length;
    }
    printf("%llu %08x\n", (unsigned long long)count, high << 16 | low);
}

int main(int argc, char **argv) {
    const char *number = argc > 1 ? argv[1] : getenv("QUERY_STRING");
    if (getenv("GATEWAY_INTERFACE")) {
        printf("Content-Type: application/octet-stream\n\n");
    }
    if (number && *number) {
        write_pattern(strtoull(number, NULL, 10));
    } else {
        sum_input();
    }
    return 0;
}
