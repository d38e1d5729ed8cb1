/* The first program: says hello, with its arguments, and counts the lines of its standard input.
 * Build it with
 *     clang --target=wasm32-wasi -O2 -o first.wasm first.c */
#include <stdio.h>

int main(int argc, char **argv) {
    printf("Hello from %s!\n", argv[0]);
    for (int i = 1; i < argc; i++) {
        printf("  argument %d: %s\n", i, argv[i]);
    }
    int lines = 0;
    for (int byte; (byte = getchar()) != EOF;) {
        lines += byte == '\n';
    }
    if (lines > 0) {
        printf("  lines of input: %d\n", lines);
    }
    return 0;
}
