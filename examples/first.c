/* The first program: says hello, with the names of its arguments. Build it with
 *     clang --target=wasm32-wasi -O2 -o first.wasm first.c */
#include <stdio.h>

int main(int argc, char **argv) {
    printf("Hello from %s!\n", argv[0]);
    for (int i = 1; i < argc; i++) {
        printf("  argument %d: %s\n", i, argv[i]);
    }
    return 0;
}
