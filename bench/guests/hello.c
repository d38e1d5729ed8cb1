/* What the requests of `make bench` run: one line by printf. */
#include <stdio.h>

int main(void) {
    printf("Hello, world!\n");
    return 0;
}
