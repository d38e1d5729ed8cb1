/* A hostile guest: reaches for what is not its own by names, links and descriptors, and says what
 * it got. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define ROOT 3
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

int raw_path_open(int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int64_t, int32_t, int32_t)
    __attribute__((__import_module__("wasi_snapshot_preview1"), __import_name__("path_open")));

/* By address and length: the path may have NULs. */
static int open_bytes(int directory, const char *path, size_t length, int follow, int flags,
                      uint64_t rights, int *ret_descriptor) {
    uint32_t descriptor = 0;
    int error = raw_path_open(directory, follow ? __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW : 0,
                              (int32_t)(intptr_t)path, (int32_t)length, flags, (int64_t)rights,
                              (int64_t)rights, 0, (int32_t)(intptr_t)&descriptor);
    if (error == 0) {
        *ret_descriptor = (int)descriptor;
    }
    return error;
}

static int open_text(const char *path, int flags, uint64_t rights, int *ret_descriptor) {
    return open_bytes(ROOT, path, strlen(path), 1, flags, rights, ret_descriptor);
}

static size_t read_some(int descriptor, char *buffer, size_t size) {
    __wasi_iovec_t vector = {(uint8_t *)buffer, size};
    size_t length = 0;
    return __wasi_fd_read((__wasi_fd_t)descriptor, &vector, 1, &length) ? 0 : length;
}

/* ---- leaving by a path ---- */

/* One path a line from standard input; each must fail, or name what is inside. Prints the path's
 * number and the errno, or "inside" if the root's own mark can be read there. */
static int escape(void) {
    char line[4096];
    int mark, number = 0;
    if (open_text("mark", __WASI_OFLAGS_CREAT, __WASI_RIGHTS_FD_WRITE, &mark) != 0) {
        return 1;
    }
    (void)!__wasi_path_create_directory(ROOT, "sub");
    (void)!__wasi_path_create_directory(ROOT, "sub/deeper");
    (void)!__wasi_path_symlink("..", ROOT, "sub/up");
    (void)!__wasi_path_symlink("../..", ROOT, "sub/up-two");
    (void)!__wasi_path_symlink("../../../../../../etc/passwd", ROOT, "sub/far");
    (void)!__wasi_path_symlink("sub/up", ROOT, "chain");
    (void)!__wasi_path_symlink("sub/../..", ROOT, "sideways");
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        int descriptor, error = open_text(line, 0, __WASI_RIGHTS_FD_READ, &descriptor);
        printf("%d: %d\n", number++, error);
        if (error == 0) {
            (void)!__wasi_fd_close((__wasi_fd_t)descriptor);
        }
    }
    /* An absolute link can't even be made. */
    printf("absolute link: %d\n", __wasi_path_symlink("/etc/passwd", ROOT, "absolute"));
    /* From a directory below, `..` does not lead above that descriptor. */
    int sub;
    if (open_text("sub", __WASI_OFLAGS_DIRECTORY, 0, &sub) == 0) {
        int descriptor;
        printf("from below: %d %d %d %d\n", open_bytes(sub, "..", 2, 1, 0, 0, &descriptor),
               open_bytes(sub, "../mark", 7, 1, 0, 0, &descriptor),
               open_bytes(sub, "up/mark", 7, 1, 0, 0, &descriptor),
               open_bytes(sub, "deeper/../../mark", 17, 1, 0, 0, &descriptor));
        printf("out of below: %d %d\n",
               __wasi_path_rename((__wasi_fd_t)sub, "../mark", (__wasi_fd_t)sub, "stolen"),
               __wasi_path_link((__wasi_fd_t)sub, 0, "../mark", (__wasi_fd_t)sub, "stolen"));
    }
    return 0;
}

static int bad_paths(void) {
    static char long_path[100000];
    int descriptor;
    memset(long_path, 'a', sizeof(long_path));
    printf("empty: %d\n", open_bytes(ROOT, "", 0, 1, 0, 0, &descriptor));
    printf("nul: %d\n", open_bytes(ROOT, "a\0b", 3, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("only nul: %d\n", open_bytes(ROOT, "\0", 1, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("not utf-8: %d\n",
           open_bytes(ROOT, "\xff\xfe", 2, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("overlong slash: %d\n",
           open_bytes(ROOT, "..\xc0\xaf..", 6, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("surrogate: %d\n",
           open_bytes(ROOT, "\xed\xa0\x80", 3, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("256: %d\n", open_bytes(ROOT, long_path, 256, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    printf("255: %d\n", open_bytes(ROOT, long_path, 255, 1, __WASI_OFLAGS_CREAT, 0, &descriptor));
    for (size_t i = 1; i < sizeof(long_path); i += 2) {
        long_path[i] = '/';
    }
    printf("4096: %d\n", open_bytes(ROOT, long_path, 4096, 1, 0, 0, &descriptor));
    printf("4097: %d\n", open_bytes(ROOT, long_path, 4097, 1, 0, 0, &descriptor));
    printf("65536: %d\n", open_bytes(ROOT, long_path, 65536, 1, 0, 0, &descriptor));
    printf("65537: %d\n", open_bytes(ROOT, long_path, 65537, 1, 0, 0, &descriptor));
    printf("2^31: %d\n", open_bytes(ROOT, long_path, 1u << 31, 1, 0, 0, &descriptor));
    printf("2^32-1: %d\n", open_bytes(ROOT, long_path, UINT32_MAX, 1, 0, 0, &descriptor));
    return 0;
}

/* ---- links and renames ---- */

static int loops(void) {
    char from[16], to[16];
    int descriptor;
    (void)!__wasi_path_symlink("self", ROOT, "self");
    (void)!__wasi_path_symlink("pong", ROOT, "ping");
    (void)!__wasi_path_symlink("ping", ROOT, "pong");
    (void)!__wasi_path_symlink("doubled/doubled/doubled", ROOT, "doubled");
    for (int i = 0; i < 100; i++) { /* a chain of a hundred */
        snprintf(from, sizeof(from), "link%d", i);
        snprintf(to, sizeof(to), "link%d", i + 1);
        (void)!__wasi_path_symlink(to, ROOT, from);
    }
    (void)!__wasi_path_create_directory(ROOT, "link100");
    static const char *const paths[] = {"self",    "self/", "self/x", "ping",   "pong/..",
                                        "doubled", "link0", "link99", "link60", "link59"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        printf("%s: %d\n", paths[i], open_text(paths[i], 0, 0, &descriptor));
    }
    return 0;
}

static int renames(void) {
    (void)!__wasi_path_create_directory(ROOT, "a");
    (void)!__wasi_path_create_directory(ROOT, "a/b");
    (void)!__wasi_path_create_directory(ROOT, "a/b/c");
    (void)!__wasi_path_create_directory(ROOT, "z");
    static const char *const pairs[][2] = {
        {"a", "a"},     {"a", "a/b"},         {"a", "a/b/c"},  {"a", "a/new"},   {"a", "a/b/c/new"},
        {".", "a/dot"}, {"a", "."},           {"a", ".."},     {"..", "a"},      {"a/b", "a"},
        {"a/b/c", "a"}, {"dev", "mine"},      {"a", "dev"},    {"tmp", "mine"},  {"proc", "mine"},
        {"a", "tmp/a"}, {"dev/null", "null"}, {"a/b/..", "q"}, {"missing", "a"}, {"a", "z"},
        {"z", "dev/z"}, {"z", "proc/z"},      {"z", "env/z"},  {"z", "cloud/z"},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) {
        printf("%s to %s: %d\n", pairs[i][0], pairs[i][1],
               __wasi_path_rename(ROOT, pairs[i][0], ROOT, pairs[i][1]));
    }
    return 0;
}

/* A directory is moved below another one while descriptors stand in both: a cycle would be an
 * island that nobody can reach. */
static int cycle(void) {
    int left, right;
    (void)!__wasi_path_create_directory(ROOT, "left");
    (void)!__wasi_path_create_directory(ROOT, "right");
    (void)!open_text("left", __WASI_OFLAGS_DIRECTORY, 0, &left);
    (void)!open_text("right", __WASI_OFLAGS_DIRECTORY, 0, &right);
    printf("left into right: %d\n", __wasi_path_rename(ROOT, "left", (__wasi_fd_t)right, "in"));
    printf("right into left: %d\n", __wasi_path_rename(ROOT, "right", (__wasi_fd_t)left, "in"));
    printf("remove: %d\n", __wasi_path_remove_directory(ROOT, "right"));
    printf("remove: %d\n", __wasi_path_remove_directory((__wasi_fd_t)right, "in"));
    /* In a directory that is gone nothing can be made. */
    printf("in removed: %d\n", __wasi_path_create_directory((__wasi_fd_t)left, "x"));
    return 0;
}

/* ---- descriptors ---- */

static int descriptors(void) {
    int count = 0, error, descriptor;
    for (;; count++) {
        error = open_text("mark", __WASI_OFLAGS_CREAT, 0, &descriptor);
        if (error) {
            break;
        }
    }
    printf("%d after %d\n", error, count);
    /* One is closed: one can be opened again. */
    (void)!__wasi_fd_close(10);
    error = open_text("mark", 0, 0, &descriptor);
    printf("again: %d %d\n", error, descriptor);
    return 0;
}

/* Closes and moves the standard streams and the root, in the order of the argument's letters. */
static int close_all(void) {
    int file, other;
    (void)!open_text("log", __WASI_OFLAGS_CREAT, __WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_READ,
                     &file);
    printf("onto itself: %d\n", __wasi_fd_renumber((__wasi_fd_t)file, (__wasi_fd_t)file));
    printf("onto nothing: %d\n", __wasi_fd_renumber((__wasi_fd_t)file, 200));
    printf("from nothing: %d\n", __wasi_fd_renumber(200, (__wasi_fd_t)file));
    printf("far: %d %d\n", __wasi_fd_renumber((__wasi_fd_t)file, UINT32_MAX),
           __wasi_fd_renumber(UINT32_MAX, 0x80000000u));
    printf("close: %d %d %d\n", __wasi_fd_close(200), __wasi_fd_close(UINT32_MAX),
           __wasi_fd_close(0x7fffffff));
    printf("stdin: %d %d\n", __wasi_fd_close(0), __wasi_fd_close(0));
    printf("root onto stdin: %d\n", __wasi_fd_renumber(ROOT, (__wasi_fd_t)file));
    printf("old root: %d\n", open_text("x", __WASI_OFLAGS_CREAT, 0, &other));
    printf("moved root: %d\n",
           open_bytes(file, "x", 1, 0, __WASI_OFLAGS_CREAT, __WASI_RIGHTS_FD_WRITE, &other));
    fflush(stdout);
    /* Standard output becomes the file, then nothing. */
    int moved = __wasi_fd_renumber((__wasi_fd_t)other, 1);
    printf("into the file\n");
    fflush(stdout);
    fprintf(stderr, "stdout: %d\n", moved);
    fprintf(stderr, "close: %d %d\n", __wasi_fd_close(1), __wasi_fd_close(1));
    (void)!__wasi_fd_close(2);
    fprintf(stderr, "never seen\n");
    return 0;
}

/* ---- others' data and the devices ---- */

/* Names to probe from standard input, one a line: prints how opening and reading ends. */
static int probe(void) {
    char line[1024];
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        int descriptor;
        static char buffer[65536];
        int error = open_text(line, 0, __WASI_RIGHTS_FD_READ, &descriptor);
        size_t length = error ? 0 : read_some(descriptor, buffer, sizeof(buffer));
        printf("%s: %d %zu %.*s\n", line, error, length, (int)length, buffer);
        if (!error) {
            (void)!__wasi_fd_close((__wasi_fd_t)descriptor);
        }
    }
    return 0;
}

/* As `probe`, but by writing: "PATH" or "PATH TEXT". */
static int write_to(void) {
    char line[1024];
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *text = strchr(line, ' ');
        if (text) {
            *text++ = 0;
        } else {
            text = "x";
        }
        int descriptor, error = open_text(line, 0, __WASI_RIGHTS_FD_WRITE, &descriptor);
        int written = -1;
        if (!error) {
            __wasi_ciovec_t vector = {(const uint8_t *)text, strlen(text)};
            size_t length = 0;
            written = __wasi_fd_write((__wasi_fd_t)descriptor, &vector, 1, &length);
            int closed = __wasi_fd_close((__wasi_fd_t)descriptor);
            written = written ? written : closed;
        }
        printf("%s: open %d write %d\n", line, error, written);
        fflush(stdout);
    }
    return 0;
}

/* Makes, removes and replaces in places that are not its own: "PATH" a line. */
static int make_in(void) {
    char line[1024];
    (void)!__wasi_path_create_directory(ROOT, "mine");
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        char name[1100];
        int descriptor;
        snprintf(name, sizeof(name), "%s/made", line);
        int file = open_text(name, __WASI_OFLAGS_CREAT, __WASI_RIGHTS_FD_WRITE, &descriptor);
        int directory = __wasi_path_create_directory(ROOT, name);
        int link = __wasi_path_symlink("x", ROOT, name);
        int removed = __wasi_path_remove_directory(ROOT, line);
        int unlinked = __wasi_path_unlink_file(ROOT, line);
        printf("%s: create %d mkdir %d symlink %d rmdir %d unlink %d\n", line, file, directory,
               link, removed, unlinked);
    }
    return 0;
}

static int exit_with(const char *number) {
    __wasi_proc_exit((__wasi_exitcode_t)strtoul(number, NULL, 0));
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(void);
    } verbs[] = {
        {"escape", escape},       {"bad-paths", bad_paths}, {"loops", loops},
        {"renames", renames},     {"cycle", cycle},         {"descriptors", descriptors},
        {"close-all", close_all}, {"probe", probe},         {"write", write_to},
        {"make-in", make_in},
    };
    const char *verb = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < COUNT(verbs); i++) {
        if (strcmp(verb, verbs[i].name) == 0) {
            return verbs[i].run();
        }
    }
    if (strcmp(verb, "exit") == 0 && argc > 2) {
        return exit_with(argv[2]);
    }
    fprintf(stderr, "hostile_names: what is '%s'?\n", verb);
    return 2;
}
