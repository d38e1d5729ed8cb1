/* Does with files what its arguments say, each a command: "put PATH TEXT", "rm PATH", "wait". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) {
        return -1;
    }
    char *names[256];
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) && count < 256) {
        if (entry->d_name[0] != '.') {
            names[count++] = strdup(entry->d_name);
        }
    }
    closedir(directory);
    qsort(names, count, sizeof *names, compare);
    for (size_t i = 0; i < count; i++) {
        puts(names[i]);
    }
    return 0;
}

static int put(const char *path, const char *text, int flags) {
    int file = open(path, O_WRONLY | O_CREAT | flags, 0666);
    if (file < 0) {
        return -1;
    }
    ssize_t written = write(file, text, strlen(text));
    close(file);
    return written == (ssize_t)strlen(text) ? 0 : -1;
}

static int get(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) {
        return -1;
    }
    char buffer[4096];
    ssize_t length;
    while ((length = read(file, buffer, sizeof buffer)) > 0) {
        fwrite(buffer, 1, (size_t)length, stdout);
    }
    close(file);
    return length < 0 ? -1 : 0;
}

/* As remove_dir_all of libraries that hold directories by descriptors. */
static int remove_at(const char *directory, const char *name) {
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    if (at < 0) {
        return -1;
    }
    int result = unlinkat(at, name, 0);
    close(at);
    return result;
}

static int run(char *command) {
    char *verb = strtok(command, " ");
    char *a = strtok(NULL, " "), *b = strtok(NULL, "");
    a = a ? a : "";
    b = b ? b : "";
    if (strcmp(verb, "ls") == 0) {
        return list(a);
    } else if (strcmp(verb, "put") == 0) {
        return put(a, b, O_TRUNC);
    } else if (strcmp(verb, "append") == 0) {
        return put(a, b, O_APPEND);
    } else if (strcmp(verb, "get") == 0) {
        return get(a);
    } else if (strcmp(verb, "mkdir") == 0) {
        return mkdir(a, 0777);
    } else if (strcmp(verb, "rmdir") == 0) {
        return rmdir(a);
    } else if (strcmp(verb, "rm") == 0) {
        return unlink(a);
    } else if (strcmp(verb, "rmat") == 0) {
        return remove_at(a, b);
    } else if (strcmp(verb, "mv") == 0) {
        return rename(a, b);
    } else if (strcmp(verb, "ln") == 0) {
        return symlink(a, b);
    } else if (strcmp(verb, "fill") == 0) { /* fill PATH BYTES */
        char *bytes = calloc(1, 65536);
        int file = open(a, O_WRONLY | O_CREAT, 0666);
        for (long left = atol(b); file >= 0 && left > 0; left -= 65536) {
            if (write(file, bytes, 65536) < 0) {
                return -1;
            }
        }
        return file < 0 ? -1 : close(file);
    } else if (strcmp(verb, "many") == 0) { /* many PREFIX COUNT */
        for (int i = 0; i < atoi(b); i++) {
            char path[256];
            snprintf(path, sizeof path, "%s%d", a, i);
            if (put(path, "", 0) < 0) {
                return -1;
            }
        }
        return 0;
    } else if (strcmp(verb, "cat") == 0) { /* standard input to standard output */
        char buffer[4096];
        size_t length;
        while ((length = fread(buffer, 1, sizeof buffer, stdin)) > 0) {
            fwrite(buffer, 1, length, stdout);
        }
        return 0;
    } else if (strcmp(verb, "wait") == 0) { /* for input that may never come */
        puts("waiting");
        fflush(stdout);
        return getchar() == EOF ? 0 : 0;
    } else if (strcmp(verb, "trap") == 0) {
        __builtin_trap();
    }
    errno = ENOSYS;
    return -1;
}

int main(int argc, char **argv) {
    int result = 0;
    for (int i = 1; i < argc; i++) {
        char shown[256];
        snprintf(shown, sizeof shown, "%s", argv[i]);
        if (run(argv[i]) < 0) {
            fprintf(stderr, "%s: %s\n", shown, strerror(errno));
            result = 1;
        }
    }
    return result;
}
