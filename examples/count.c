/* The second app of the pipeline: each different line of its input once, with how often it came. */
#include <stdio.h>
#include <string.h>

#define LINES_MAX 1000

static struct {
    char text[80];
    int times;
} lines[LINES_MAX];

int main(void) {
    char line[80];
    int count = 0;
    while (fgets(line, sizeof line, stdin)) {
        int i = 0;
        while (i < count && strcmp(lines[i].text, line) != 0) {
            i++;
        }
        if (i == LINES_MAX) {
            fprintf(stderr, "more than %d different lines\n", LINES_MAX);
            return 1;
        }
        if (i == count) {
            strcpy(lines[count++].text, line);
        }
        lines[i].times++;
    }
    for (int i = 0; i < count; i++) {
        printf("%d %s", lines[i].times, lines[i].text);
    }
    return 0;
}
