/* Calls other apps in the ways that a C program has. The first argument says which. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *path_of(const char *app, const char *file) {
    static char path[300];
    snprintf(path, sizeof path, "/cloud/apps/%s/%s", app, file);
    return path;
}

static void why(const char *what) {
    int error = errno;
    char text[2048] = "\n";
    FILE *file = fopen("/proc/self/errstr", "r");
    if (file) {
        fread(text, 1, sizeof text - 1, file);
        fclose(file);
    }
    printf("%s: %s: %s", what, strerror(error), text);
}

/* ask APP QUESTION...: each question on the same descriptor, its answer to the end. */
static int ask(char **arguments) {
    FILE *call = fopen(path_of(arguments[0], "call"), "r+");
    if (!call) {
        why("open");
        return 1;
    }
    for (char **question = arguments + 1; *question; question++) {
        char line[100];
        if (fprintf(call, "%s", *question) < 0 || (errno = 0, 0)) {
            why("write");
        }
        while (fgets(line, sizeof line, call)) {
            printf("[%s]", line);
        }
        if (ferror(call)) {
            why("read");
        }
        printf(".\n");
        clearerr(call);
    }
    fclose(call);
    return 0;
}

/* lines APP QUESTION...: one line of an answer each, without looking for its end. */
static int lines(char **arguments) {
    FILE *call = fopen(path_of(arguments[0], "call"), "r+");
    for (char **question = arguments + 1; call && *question; question++) {
        char line[100] = "";
        if (fprintf(call, "%s\n", *question) < 0 || !fgets(line, sizeof line, call)) {
            why("asking");
        }
        printf("%s", line);
        fseek(call, 0, SEEK_CUR); /* as C demands between reading and writing */
    }
    return 0;
}

/* pipe APP: standard input to the call, the answer to standard output; the exit status tells. */
static int pipe_through(char **arguments) {
    int call = open(path_of(arguments[0], "call"), O_RDWR);
    static char data[65536];
    ssize_t length;
    while ((length = read(0, data, sizeof data)) > 0) {
        for (ssize_t done = 0; done < length;) {
            ssize_t written = write(call, data + done, (size_t)(length - done));
            if (written < 0) {
                why("write");
                return 1;
            }
            done += written;
        }
    }
    while ((length = read(call, data, sizeof data)) > 0) {
        fwrite(data, 1, (size_t)length, stdout);
    }
    if (length < 0) {
        fflush(stdout);
        fprintf(stderr, "%s\n", strerror(errno));
        return 1;
    }
    return 0;
}

/* Starts a run, one parameter an argument; its id. */
static long start(const char *app, char **parameters) {
    FILE *file = fopen(path_of(app, "start"), "r+");
    long id = 0;
    for (char **parameter = parameters; *parameter; parameter++) {
        fprintf(file, "%s\n", *parameter);
    }
    if (fscanf(file, "%ld", &id) != 1) {
        why("start");
    }
    fclose(file);
    return id;
}

static FILE *of_run(long id, const char *name, const char *mode) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", id, name);
    FILE *file = fopen(path, mode);
    if (!file) {
        why(path);
        exit(1);
    }
    return file;
}

static void show(long id, const char *name) {
    char line[200];
    FILE *file = of_run(id, name, "r");
    while (fgets(line, sizeof line, file)) {
        printf("%s: %s", name, line);
    }
    if (ferror(file)) {
        why(name);
    }
    fclose(file);
}

/* start APP INPUT PARAMETER...: feeds it and shows what it says. "-" kills it instead. */
static int start_and_watch(char **arguments) {
    long id = start(arguments[0], arguments + 2);
    if (!id) {
        return 1;
    }
    if (strcmp(arguments[1], "-") == 0) {
        FILE *control = of_run(id, "ctl", "w");
        fprintf(control, "kill\n");
        fclose(control);
    } else {
        char path[64];
        FILE *input = of_run(id, "stdin", "w");
        fprintf(input, "%s", arguments[1]);
        fclose(input);
        snprintf(path, sizeof path, "/proc/%ld/stdin", id);
        if (unlink(path) != 0) {
            why("unlink");
        }
    }
    show(id, "wait");
    show(id, "stdout");
    show(id, "stderr");
    return 0;
}

/* Until it has ended; whether it did so by itself. */
static int await(long id) {
    char line[200] = "";
    FILE *file = of_run(id, "wait", "r");
    fgets(line, sizeof line, file);
    fclose(file);
    return strcmp(line, "exit 0\n") == 0;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* flood APP COUNT PARAMETER...: so many one after the other, each to be kept a little shorter than
 * the one before; how many were well, and, for people, what one took in each tenth. */
static int flood(char **arguments) {
    long count = atol(arguments[1]), well = 0;
    char keep[64], *parameters[20] = {keep};
    for (int i = 0; i < 18 && arguments[2 + i]; i++) {
        parameters[1 + i] = arguments[2 + i];
    }
    double began = now();
    for (long i = 0; i < count; i++) {
        snprintf(keep, sizeof keep, "keep=%ldms", 3600000 - i);
        long id = start(arguments[0], parameters);
        if (!id) {
            return 1;
        }
        well += await(id);
        if (count >= 10 && (i + 1) % (count / 10) == 0) {
            fprintf(stderr, "%.1f us\n", (now() - began) * 1e6 / (double)(count / 10));
            began = now();
        }
    }
    printf("%ld of %ld\n", well, count);
    return 0;
}

/* leave APP PARAMETER...: starts it, says its id and ends, or (leave! APP) never ends. */
static int leave(char **arguments, int forever) {
    printf("%ld\n", start(arguments[0], arguments + 1));
    fflush(stdout);
    while (forever) {
        poll(NULL, 0, 1000);
    }
    return 0;
}

/* deep APP: calls the app that is named, with the same arguments, one level deeper. */
static int deep(char **arguments, const char *program) {
    const char *level = getenv("LEVEL");
    char parameter[5][64];
    char *parameters[6] = {0};
    snprintf(parameter[0], sizeof parameter[0], "arg=deep");
    snprintf(parameter[1], sizeof parameter[1], "arg=%s", arguments[0]);
    snprintf(parameter[2], sizeof parameter[2], "env=LEVEL=%d", (level ? atoi(level) : 0) + 1);
    for (int i = 0; i < 3; i++) {
        parameters[i] = parameter[i];
    }
    printf("%s at %s\n", program, level ? level : "0");
    fflush(stdout);
    long id = start(arguments[0], parameters);
    if (!id) {
        return 0;
    }
    show(id, "stdout");
    return 0;
}

/* What it is to a program that asks. */
static int what(char **arguments) {
    struct stat status;
    int call = open(path_of(arguments[0], "call"), O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
    char byte;
    if (call < 0 || fstat(call, &status) != 0) {
        why("open");
        return 1;
    }
    printf("character device: %d, size: %lld, terminal: %d\n", S_ISCHR(status.st_mode) != 0,
           (long long)status.st_size, isatty(call));
    printf("seek to 0: %lld, tell: %lld\n", (long long)lseek(call, 0, SEEK_SET),
           (long long)lseek(call, 0, SEEK_CUR));
    long long end = lseek(call, 0, SEEK_END);
    printf("seek to the end: %lld %s\n", end, strerror(errno));
    ssize_t read_at = pread(call, &byte, 1, 0), written_at = pwrite(call, &byte, 1, 0);
    printf("pread %zd, pwrite %zd: %s\n", read_at, written_at, strerror(errno));
    write(call, "abc", 3);
    char text[8] = "";
    printf("read %zd: %s\n", read(call, text, 2), text);
    printf("back: %lld\n", (long long)lseek(call, -2, SEEK_CUR));
    read_at = read(call, text, 3); /* a short read, perhaps */
    read_at += read_at < 3 ? read(call, text + read_at, 3 - (size_t)read_at) : 0;
    printf("again %zd: %s\n", read_at, text);
    return 0;
}

/* poll APP...: calls all at once and waits for whichever answers, without blocking. */
static int poll_all(char **arguments) {
    struct pollfd polled[16];
    int count = 0, open_count = 0;
    for (; arguments[count]; count++) {
        polled[count].fd = open(path_of(arguments[count], "call"), O_RDWR | O_NONBLOCK);
        polled[count].events = POLLIN;
        dprintf(polled[count].fd, "to %d\n", count);
        open_count++;
        if (count % 2 == 0) {
            continue; /* polling ends the question, too */
        }
        char byte;
        ssize_t got = read(polled[count].fd, &byte, 1);
        if (got != -1 || errno != EAGAIN) {
            printf("read at once: %zd %s\n", got, strerror(errno));
        }
    }
    if (poll(polled, (nfds_t)count, 0) < 0) {
        why("poll");
    }
    while (open_count > 0) {
        if (poll(polled, (nfds_t)count, 60000) <= 0) {
            why("poll");
            return 1;
        }
        for (int i = 0; i < count; i++) {
            char text[100];
            ssize_t length, got = 0;
            if (!polled[i].revents) {
                continue;
            }
            while ((length = read(polled[i].fd, text, sizeof text)) > 0) {
                got += length;
                printf("%.*s", (int)length, text);
            }
            if (!got && length < 0 && errno == EAGAIN) {
                printf("nothing to read of %s\n", arguments[i]);
            }
            if (length == 0 || errno != EAGAIN) {
                printf("end of %s%s\n", arguments[i], length < 0 ? ", failed" : "");
                close(polled[i].fd);
                polled[i].fd = -1;
                polled[i].events = 0;
                open_count--;
            }
        }
    }
    return 0;
}

/* timeout APP: nothing comes before the time is over. */
static int time_out(char **arguments) {
    struct pollfd polled = {.fd = open(path_of(arguments[0], "call"), O_RDWR | O_NONBLOCK),
                            .events = POLLIN};
    char byte;
    ssize_t got = read(polled.fd, &byte, 1);
    printf("%zd %s\n", got, strerror(errno));
    printf("poll: %d\n", poll(&polled, 1, 50));
    got = read(polled.fd, &byte, 1);
    printf("%zd %s\n", got, strerror(errno));
    return 0;
}

/* patient APP: asks by polling, on a descriptor that blocks; first for both directions. */
static int patient(char **arguments) {
    struct pollfd polled = {.fd = open(path_of(arguments[0], "call"), O_RDWR),
                            .events = POLLIN | POLLOUT};
    for (const char *text = "who "; text; text = *text == 'w' ? "are you\n" : NULL) {
        if (poll(&polled, 1, -1) != 1 || polled.revents != POLLOUT) {
            printf("polled for both: %x\n", polled.revents);
        }
        dprintf(polled.fd, "%s", text);
    }
    polled.events = POLLIN;
    printf("poll: %d\n", poll(&polled, 1, 50));
    return 0;
}

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    char **rest = arguments + 2;
    if (count < 3)
        return 2;
    if (strcmp(how, "patient") == 0)
        return patient(rest);
    if (strcmp(how, "ask") == 0)
        return ask(rest);
    if (strcmp(how, "lines") == 0)
        return lines(rest);
    if (strcmp(how, "pipe") == 0)
        return pipe_through(rest);
    if (strcmp(how, "start") == 0)
        return start_and_watch(rest);
    if (strcmp(how, "flood") == 0)
        return flood(rest);
    if (strcmp(how, "leave") == 0)
        return leave(rest, 0);
    if (strcmp(how, "leave!") == 0)
        return leave(rest, 1);
    if (strcmp(how, "deep") == 0)
        return deep(rest, arguments[0]);
    if (strcmp(how, "what") == 0)
        return what(rest);
    if (strcmp(how, "poll") == 0)
        return poll_all(rest);
    if (strcmp(how, "timeout") == 0)
        return time_out(rest);
    return 2;
}
