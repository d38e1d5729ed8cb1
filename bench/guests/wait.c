/* Waits for standard input that never comes: what a waiting guest costs. */
#include <unistd.h>

int main(void) {
    char byte;
    return read(0, &byte, 1) < 0;
}
