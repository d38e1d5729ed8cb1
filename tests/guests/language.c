/* What C programs do with a C library: each check prints "ok NAME", or "bad NAME" with errno. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int failures;

static void check(const char *name, bool good) {
    if (good) {
        printf("ok %s\n", name);
    } else {
        printf("bad %s: %s\n", name, strerror(errno));
        failures++;
    }
}

static void check_errno(const char *name, int result, int expected) {
    check(name, result == -1 && errno == expected);
}

static void check_stdio(void) {
    FILE *file = fopen("/stdio", "w+");
    check("fopen w+", file != NULL);
    if (!file) {
        return;
    }
    check("fprintf", fprintf(file, "%s %d %.3f\n", "word", -7, 2.5) == 14);
    check("fseek", fseek(file, 0, SEEK_SET) == 0);
    char word[8];
    int number = 0;
    double fraction = 0;
    check("fscanf", fscanf(file, "%7s %d %lf", word, &number, &fraction) == 3 && number == -7);
    check("ungetc", ungetc('x', file) == 'x' && fgetc(file) == 'x');
    check("ftell", ftell(file) == 13);
    check("end of file", fgetc(file) == '\n' && fgetc(file) == EOF && feof(file));
    check("fclose", fclose(file) == 0);

    file = fopen("/stdio", "a");
    check("append", file && fputs("more", file) >= 0 && fclose(file) == 0);
    file = fopen("/stdio", "r+");
    check("r+", file && fputs("WORD", file) >= 0 && fclose(file) == 0);
    char text[64] = "";
    file = fopen("/stdio", "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    check("read back", length == 18 && strcmp(text, "WORD -7 2.500\nmore") == 0);
    if (file) {
        fclose(file);
    }
    check("opening what is not there", !fopen("/nothing", "r") && errno == ENOENT);
    check("wx refuses what is there", !fopen("/stdio", "wx") && errno == EEXIST);
}

static void check_files(void) {
    int descriptor = open("/file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    check("open", descriptor >= 3);
    check("pwrite", pwrite(descriptor, "0123456789", 10, 5) == 10);
    char bytes[32];
    check("pread", pread(descriptor, bytes, sizeof bytes, 3) == 12 && bytes[0] == 0);
    check("lseek end", lseek(descriptor, 0, SEEK_END) == 15);
    check("ftruncate", ftruncate(descriptor, 7) == 0);
    struct stat status;
    check("fstat", fstat(descriptor, &status) == 0 && status.st_size == 7 &&
                       S_ISREG(status.st_mode) && status.st_nlink == 1);
    check("fsync", fsync(descriptor) == 0);
    check("link",
          link("/file", "/second") == 0 && stat("/second", &status) == 0 && status.st_nlink == 2);
    check("unlink", unlink("/file") == 0);
    check("an open file outlives its name",
          lseek(descriptor, 0, SEEK_SET) == 0 && read(descriptor, bytes, sizeof bytes) == 7);
    check("close", close(descriptor) == 0);
    check("rename", rename("/second", "/third") == 0 && access("/second", F_OK) == -1 &&
                        access("/third", R_OK) == 0);
    check("symlink", symlink("third", "/sign") == 0);
    check("readlink",
          readlink("/sign", bytes, sizeof bytes) == 5 && memcmp(bytes, "third", 5) == 0);
    check("lstat", lstat("/sign", &status) == 0 && S_ISLNK(status.st_mode));
    check("through the link", stat("/sign", &status) == 0 && status.st_size == 7);
    struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1100000000, .tv_nsec = 5}};
    check("utimensat", utimensat(AT_FDCWD, "/third", times, 0) == 0 &&
                           stat("/third", &status) == 0 && status.st_mtim.tv_sec == 1100000000 &&
                           status.st_mtim.tv_nsec == 5);
    check("relative names", open("third", O_RDONLY) >= 0 && chdir("/") == 0);
}

static void check_directories(void) {
    check("mkdir", mkdir("/dir", 0755) == 0 && mkdir("/dir/inner", 0755) == 0);
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "/dir/%d", i);
        FILE *file = fopen(name, "w");
        if (!file || fclose(file) != 0) {
            check(name, false);
            return;
        }
    }
    DIR *directory = opendir("/dir");
    int files = 0, directories = 0;
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        files += entry->d_type == DT_REG;
        directories += entry->d_type == DT_DIR;
    }
    check("readdir", directory && files == 100 && directories == 3);
    if (directory) {
        rewinddir(directory);
        check("rewinddir", readdir(directory) != NULL);
        check("closedir", closedir(directory) == 0);
    }
    check_errno("rmdir of a full one", rmdir("/dir"), ENOTEMPTY);
    check_errno("unlink of a directory", unlink("/dir/inner"), EISDIR);
    check("rmdir", rmdir("/dir/inner") == 0);
}

static void check_errors(void) {
    check_errno("mkdir of what is there", mkdir("/dir", 0755), EEXIST);
    check_errno("a file as a directory", open("/third/x", O_RDONLY), ENOTDIR);
    check_errno("read of a closed descriptor", (int)read(99, NULL, 0), EBADF);
    check_errno("a write to what is open for reading", (int)write(open("/third", O_RDONLY), "x", 1),
                EBADF);
    check_errno("seek of a stream", (int)lseek(1, 0, SEEK_CUR), ESPIPE);
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[0] = '/';
    name[sizeof name - 1] = 0;
    check_errno("a name that is too long", open(name, O_RDONLY), ENAMETOOLONG);
    check_errno("a write to /env", open("/env/x", O_WRONLY | O_CREAT, 0644), EROFS);
}

static void check_waiting(void) {
    struct pollfd waiting = {.fd = 0, .events = POLLIN};
    check("poll of standard input", poll(&waiting, 1, 10000) == 1 && waiting.revents & POLLIN);
    char line[64] = "";
    check("fgets", fgets(line, sizeof line, stdin) && strcmp(line, "a line\n") == 0);
    check("poll with a timeout alone", poll(NULL, 0, 1) == 0);
    struct timespec before, after, pause = {.tv_nsec = 2000000};
    clock_gettime(CLOCK_MONOTONIC, &before);
    check("nanosleep", nanosleep(&pause, NULL) == 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long took = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    check("it took its time", took >= pause.tv_nsec);
    check("time", time(NULL) > 1700000000);
}

static void check_process(void) {
    const char *value = getenv("LANGUAGE_TEST");
    check("getenv", value && strcmp(value, "a=b") == 0);
    unsigned char random[64] = {0}, zero[64] = {0};
    check("getentropy",
          getentropy(random, sizeof random) == 0 && memcmp(random, zero, sizeof zero) != 0);
    check("a terminal", isatty(1) == 1 && isatty(0) == 0);
    char *memory = malloc(8 << 20);
    check("malloc", memory != NULL);
    if (memory) {
        memset(memory, 1, 8 << 20);
    }
    free(memory);
}

int main(void) {
    check_stdio();
    check_files();
    check_directories();
    check_errors();
    check_waiting();
    check_process();
    return failures > 0;
}
