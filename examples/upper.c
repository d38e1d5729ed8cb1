/* The first app of the pipeline: its input in capitals. */
#include <ctype.h>
#include <stdio.h>

int main(void) {
    for (int byte; (byte = getchar()) != EOF;) {
        putchar(toupper(byte));
    }
    return 0;
}
