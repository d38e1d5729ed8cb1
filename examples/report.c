/* The third app of the pipeline: sends its input through `upper` and `count`, by their files, and
 * makes a report of the answer. */
#include <stdio.h>

/* Why the last call into the system failed, in words. */
static void print_why(const char *what) {
    char text[1100] = "no reason\n";
    FILE *file = fopen("/proc/self/errstr", "r");
    if (file) {
        fgets(text, sizeof text, file);
        fclose(file);
    }
    fprintf(stderr, "%s: %s", what, text);
}

/* All of `from` to `to`. */
static int copy(FILE *from, FILE *to) {
    char data[4096];
    size_t length;
    while ((length = fread(data, 1, sizeof data, from)) > 0) {
        fwrite(data, 1, length, to);
    }
    return ferror(from) || ferror(to) ? -1 : 0;
}

int main(void) {
    FILE *upper = fopen("/cloud/apps/upper/call", "r+");
    FILE *count = fopen("/cloud/apps/count/call", "r+");
    if (!upper || !count) {
        print_why("the apps upper and count are needed");
        return 1;
    }
    if (copy(stdin, upper) != 0 || copy(upper, count) != 0) {
        print_why("upper");
        return 1;
    }
    char line[100];
    int lines = 0;
    while (fgets(line, sizeof line, count)) {
        printf("%2d. %s", ++lines, line);
    }
    if (ferror(count)) {
        print_why("count");
        return 1;
    }
    printf("%d different lines\n", lines);
    return 0;
}
