/* A CGI program for tests of the web door: what it does is in its PATH_INFO. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void head(const char *type) {
    printf("Content-Type: %s\r\n\r\n", type);
}

/* Until the test has made the file. */
static void wait_for(const char *path) {
    while (access(path, F_OK) != 0) {
        usleep(1000);
    }
}

static void make(const char *path) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (descriptor >= 0) {
        close(descriptor);
    }
}

static void copy_input(void) {
    char data[65536];
    size_t length;
    while ((length = fread(data, 1, sizeof data, stdin)) > 0) {
        fwrite(data, 1, length, stdout);
    }
}

static void show_environment(int argc) {
    head("text/plain");
    printf("argc=%d\n", argc);
    for (char **next = environ; *next; next++) {
        printf("%s\n", *next);
    }
}

static void count_input(void) {
    unsigned long count = 0;
    char data[65536];
    size_t length;
    while ((length = fread(data, 1, sizeof data, stdin)) > 0) {
        count += length;
    }
    head("text/plain");
    printf("%lu\n", count);
}

/* So many bytes. */
static void flood(unsigned long count) {
    static char data[65536];
    memset(data, 'x', sizeof data);
    head("application/octet-stream");
    while (count > 0) {
        size_t length = count < sizeof data ? count : sizeof data;
        fwrite(data, 1, length, stdout);
        count -= length;
    }
}

static void events(void) {
    head("text/event-stream");
    printf("data: first\n\n");
    fflush(stdout);
    wait_for("/go");
    printf("data: second\n\n");
    fflush(stdout);
    make("/done");
}

/* Events without an end. `heed`: until one can't be written, and exits with 1 if that was because
 * nobody reads. `ignore`, `flood`: for ever, the latter without a pause. */
static int ticks(const char *how) {
    head("text/event-stream");
    for (;;) {
        printf("data: tick\n\n");
        if (fflush(stdout) != 0 && strcmp(how, "heed") == 0) {
            return errno == EPIPE ? 1 : 2;
        }
        if (strcmp(how, "flood") != 0) {
            usleep(10000);
        }
    }
}

/* Its work first, and then a page that tells of it. */
static int work(void) {
    make("/waits");
    wait_for("/go");
    head("text/plain");
    printf("done\n");
    if (fflush(stdout) != 0) {
        return 1;
    }
    make("/done");
    return 0;
}

/* More than its Content-Length, later. */
static void too_long(void) {
    printf("Content-Type: text/plain\nContent-Length: 5\n\n12345");
    fflush(stdout);
    wait_for("/go");
    for (int i = 0; i < 3; i++) {
        printf("more");
        fflush(stdout);
    }
    make("/done");
}

static void stop_in_the_middle(void) {
    head("text/plain");
    printf("half\n");
    fflush(stdout);
    wait_for("/go");
    __builtin_trap();
}

/* `WHERE-HOW`: writes as much of a response as WHERE says, waits, and ends as HOW says. */
static void stop(const char *query) {
    static const struct {
        const char *where, *text;
    } parts[] = {
        {"nothing", ""},
        {"line", "Content-Type: text/pl"},
        {"head", "Content-Type: text/plain\nX-Half: yes\n"},
        {"body", "Content-Type: text/plain\n\nhalf\n"},
        {"length", "Content-Type: text/plain\nContent-Length: 100\n\nhalf\n"},
    };
    size_t length = strcspn(query, "-");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strlen(parts[i].where) == length && strncmp(parts[i].where, query, length) == 0) {
            fputs(parts[i].text, stdout);
            fflush(stdout);
        }
    }
    make("/waits");
    wait_for("/go");
    if (strcmp(query + length, "-trap") == 0) {
        __builtin_trap();
    } else if (strcmp(query + length, "-spin") == 0) {
        for (;;) {
        }
    } else if (strcmp(query + length, "-sleep") == 0) {
        for (;;) {
            usleep(1000000);
        }
    }
}

int main(int argc, char **argv) {
    const char *path = variable("PATH_INFO");
    (void)argv;
    if (strcmp(path, "/env") == 0) {
        show_environment(argc);
    } else if (strcmp(path, "/raw") == 0) { /* the request's body is the response, head and all */
        copy_input();
    } else if (strcmp(path, "/echo") == 0) {
        head("text/plain");
        copy_input();
    } else if (strcmp(path, "/count") == 0) {
        count_input();
    } else if (strcmp(path, "/early") == 0) { /* its input is not read */
        head("text/plain");
        printf("early\n");
    } else if (strcmp(path, "/flood") == 0) {
        flood(strtoul(variable("QUERY_STRING"), NULL, 10));
    } else if (strcmp(path, "/flood_trap") == 0) {
        flood(strtoul(variable("QUERY_STRING"), NULL, 10));
        fflush(stdout);
        __builtin_trap();
    } else if (strcmp(path, "/location") == 0) { /* and its input is not read */
        printf("Location: /web/site/env\n\n");
    } else if (strcmp(path, "/too_long") == 0) {
        too_long();
    } else if (strcmp(path, "/truncate") == 0) {
        head("text/plain");
        printf("%d\n", truncate("/www/large", (off_t)atol(variable("QUERY_STRING"))));
    } else if (strcmp(path, "/events") == 0) {
        events();
    } else if (strcmp(path, "/ticks") == 0) {
        return ticks(variable("QUERY_STRING"));
    } else if (strcmp(path, "/work") == 0) {
        return work();
    } else if (strcmp(path, "/half") == 0) {
        stop_in_the_middle();
    } else if (strcmp(path, "/trap") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
        head("text/plain"); /* never written: else it might be on its way already */
        __builtin_trap();
    } else if (strcmp(path, "/exit") == 0) {
        fprintf(stderr, "a secret of the inside\n");
        return atoi(variable("QUERY_STRING"));
    } else if (strcmp(path, "/stop") == 0) {
        stop(variable("QUERY_STRING"));
    } else if (strcmp(path, "/spin") == 0) {
        for (;;) {
        }
    } else if (strcmp(path, "/wait") == 0) {
        make("/waits");
        wait_for("/go");
        head("text/plain");
        printf("waited\n");
    } else if (strcmp(path, "/tty") == 0) {
        head("text/plain");
        printf("%d\n", isatty(1));
    } else {
        head("text/plain");
        printf("program: %s\n", path);
    }
    return 0;
}
