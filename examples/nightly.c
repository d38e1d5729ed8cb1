/* A report that writes itself every night. Run by hand it sets its alarm; run by the alarm it
 * counts the lines of /visits.txt and adds a line to /report.txt. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int fail(const char *path) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
}

static int set_alarm(const char *when) {
    const char *path = "/cloud/apps/self/alarm/nightly";
    FILE *file = fopen(path, "w");
    if (!file) {
        return fail(path);
    }
    fprintf(file, "%s\nvisits\n", when);
    if (fclose(file) != 0) { /* here it is said what is wrong with the line */
        return fail(path);
    }
    printf("comes: %s\n", when);
    return 0;
}

static int report(void) {
    char what[64] = "";
    if (fgets(what, sizeof what, stdin)) { /* the rest of the alarm's file is its input */
        what[strcspn(what, "\n")] = 0;
    }
    unsigned long lines = 0;
    FILE *file = fopen("/visits.txt", "r");
    for (int byte; file && (byte = getc(file)) != EOF;) {
        lines += byte == '\n';
    }
    if (file) {
        fclose(file);
    }
    file = fopen("/report.txt", "a");
    if (!file) {
        return fail("/report.txt");
    }
    time_t now = time(NULL);
    char date[16];
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    fprintf(file, "%s %s: %lu\n", date, what, lines);
    return fclose(file) == 0 ? 0 : fail("/report.txt");
}

int main(int argc, char **argv) {
    return getenv("ALARM") ? report() : set_alarm(argc > 1 ? argv[1] : "0 3 * * *");
}
