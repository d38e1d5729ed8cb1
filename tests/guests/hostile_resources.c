/* A hostile guest: takes all that it can get of one resource, and says what stopped it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#define ROOT 3
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* All that can be asked for; a directory can't be opened for writing. */
static __wasi_rights_t rights_for(__wasi_oflags_t flags) {
    __wasi_rights_t all = 0x1fffffff;
    return flags & __WASI_OFLAGS_DIRECTORY ? all & ~__WASI_RIGHTS_FD_WRITE : all;
}

static int open_at(int directory, const char *path, __wasi_oflags_t flags, int *ret_descriptor) {
    __wasi_fd_t descriptor = 0;
    __wasi_errno_t error = __wasi_path_open(directory, 0, path, flags, rights_for(flags),
                                            rights_for(flags), 0, &descriptor);
    if (error == 0) {
        *ret_descriptor = (int)descriptor;
    }
    return error;
}

static int write_some(int descriptor, const void *data, size_t length, size_t *ret_written) {
    __wasi_ciovec_t buffer = {data, length};
    return __wasi_fd_write((__wasi_fd_t)descriptor, &buffer, 1, ret_written);
}

/* ---- processor ---- */

static int spin(void) {
    for (volatile uint64_t i = 0;; i++) {
    }
}

static int fill(void) { /* one instruction that takes long, again and again */
    size_t bytes = 128u << 20;
    char *data = malloc(bytes);
    for (int i = 0;; i++) {
        memset(data, i, bytes);
        __asm__ volatile("" ::"r"(data) : "memory"); /* so that it is not left out */
    }
}

static int call_in_a_loop(void) { /* host calls that never wait */
    for (;;) {
        __wasi_timestamp_t now;
        (void)!__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &now);
    }
}

static int yield_in_a_loop(void) {
    for (;;) {
        (void)!__wasi_sched_yield();
    }
}

static int randomise(void) { /* 64 MiB of randomness a call */
    size_t bytes = 64u << 20;
    uint8_t *data = malloc(bytes);
    for (;;) {
        (void)!__wasi_random_get(data, bytes);
    }
}

/* ---- stack ---- */

static __attribute__((noinline)) int recurse_to(int depth, volatile char *above) {
    volatile char here[16];
    here[0] = above[0];
    return depth == 0 ? 0 : recurse_to(depth - 1, here) + here[0] + 1;
}

static int recurse(void) {
    volatile char here[16] = {0};
    return recurse_to(1 << 30, here);
}

/* ---- memory ---- */

static int grow(int touch) {
    size_t pages = 0;
    for (;;) {
        size_t before = __builtin_wasm_memory_grow(0, 1);
        if (before == SIZE_MAX) {
            break;
        }
        if (touch) {
            memset((void *)(before * 65536), 1, 65536);
        }
        pages = before + 1;
    }
    printf("%zu pages\n", pages);
    return 0;
}

static int grow_at_once(void) {
    printf("%d %d\n", __builtin_wasm_memory_grow(0, 65536) == SIZE_MAX,
           __builtin_wasm_memory_grow(0, SIZE_MAX) == SIZE_MAX);
    return 0;
}

/* ---- output ---- */

static int flood_both(void) {
    static char block[65536];
    memset(block, 'x', sizeof(block));
    for (;;) {
        size_t written;
        (void)!write_some(1, block, sizeof(block), &written);
        (void)!write_some(2, block, sizeof(block), &written);
    }
}

static int flood_lines(void) {
    for (;;) {
        size_t written;
        (void)!write_some(2, "\n", 1, &written);
    }
}

static int flood_log(void) {
    int log;
    int error = open_at(ROOT, "dev/log", 0, &log);
    if (error) {
        printf("open: %d\n", error);
        return 1;
    }
    for (;;) {
        size_t written;
        error = write_some(log, "x\n", 2, &written);
        if (error) {
            printf("write: %d\n", error);
            return 0;
        }
    }
}

/* ---- waiting ---- */

static int sleep_until(__wasi_clockid_t clock, __wasi_timestamp_t timeout,
                       __wasi_subclockflags_t flags) {
    __wasi_subscription_t subscription = {0};
    subscription.u.tag = __WASI_EVENTTYPE_CLOCK;
    subscription.u.u.clock.id = clock;
    subscription.u.u.clock.timeout = timeout;
    subscription.u.u.clock.flags = flags;
    __wasi_event_t event;
    size_t count = 0;
    int error = __wasi_poll_oneoff(&subscription, &event, 1, &count);
    printf("woke: %d %zu %d\n", error, count, event.error);
    return 0;
}

static int poll_many(size_t count) {
    __wasi_subscription_t *subscriptions = calloc(count, sizeof(*subscriptions));
    __wasi_event_t *events = calloc(count, sizeof(*events));
    if (!subscriptions || !events) {
        printf("no memory\n");
        return 1;
    }
    for (size_t i = 0; i < count; i++) { /* standard output, which is always ready */
        subscriptions[i].userdata = i;
        subscriptions[i].u.tag = __WASI_EVENTTYPE_FD_WRITE;
        subscriptions[i].u.u.fd_write.file_descriptor = 1;
    }
    size_t ready = 0;
    int error = __wasi_poll_oneoff(subscriptions, events, count, &ready);
    printf("%d %zu\n", error, ready);
    return 0;
}

/* ---- files ---- */

static int fill_file(const char *path) {
    static char block[65536];
    memset(block, 'x', sizeof(block));
    int file;
    int error = open_at(ROOT, path, __WASI_OFLAGS_CREAT, &file);
    if (error) {
        printf("open: %d\n", error);
        return 1;
    }
    uint64_t total = 0;
    for (;;) {
        size_t written = 0;
        error = write_some(file, block, sizeof(block), &written);
        if (error) {
            break;
        }
        total += written;
    }
    printf("%d after %llu KiB\n", error, (unsigned long long)(total / 1024));
    return 0;
}

static int make_files(const char *directory) {
    char name[256];
    for (int i = 0;; i++) {
        snprintf(name, sizeof(name), "%s/%d", directory, i);
        int file;
        int error = open_at(ROOT, name, __WASI_OFLAGS_CREAT, &file);
        if (error) {
            printf("%d after %d\n", error, i);
            return 0;
        }
        (void)!__wasi_fd_close((__wasi_fd_t)file);
    }
}

static int make_links(const char *kind) {
    int file;
    char name[32];
    int error = open_at(ROOT, "target", __WASI_OFLAGS_CREAT, &file);
    for (int i = 0; !error; i++) {
        snprintf(name, sizeof(name), "%s%d", kind, i);
        error = kind[0] == 'h' ? __wasi_path_link(ROOT, 0, "target", ROOT, name)
                               : __wasi_path_symlink("target", ROOT, name);
        if (error) {
            printf("%d after %d\n", error, i);
            return 0;
        }
    }
    printf("open: %d\n", error);
    return 1;
}

/* Directories in directories, by descriptors: no path says how deep. */
static int nest(int levels) {
    int directory = ROOT;
    for (int i = 0; i < levels; i++) {
        int error = __wasi_path_create_directory((__wasi_fd_t)directory, "d");
        int next = -1;
        if (!error) {
            error = open_at(directory, "d", __WASI_OFLAGS_DIRECTORY, &next);
        }
        if (error) {
            printf("%d after %d\n", error, i);
            return 0;
        }
        if (directory != ROOT) {
            (void)!__wasi_fd_close((__wasi_fd_t)directory);
        }
        directory = next;
    }
    printf("%d levels\n", levels);
    return 0;
}

/* Reads a directory of `entries` with a buffer of `size` bytes and counts what comes. */
static int list(const char *path, int entries, size_t size) {
    char name[64];
    int error = __wasi_path_create_directory(ROOT, path);
    for (int i = 0; i < entries && !error; i++) {
        int file;
        snprintf(name, sizeof(name), "%s/%06d", path, i);
        error = open_at(ROOT, name, __WASI_OFLAGS_CREAT, &file);
        if (!error) {
            (void)!__wasi_fd_close((__wasi_fd_t)file);
        }
    }
    int directory;
    if (!error) {
        error = open_at(ROOT, path, __WASI_OFLAGS_DIRECTORY, &directory);
    }
    if (error) {
        printf("made: %d\n", error);
        return 1;
    }
    uint8_t *buffer = malloc(size + 1);
    uint64_t cookie = 0;
    int found = 0, calls = 0;
    for (;;) {
        size_t used = 0;
        error = __wasi_fd_readdir((__wasi_fd_t)directory, buffer, size, cookie, &used);
        calls++;
        if (error) {
            printf("readdir: %d\n", error);
            return 1;
        }
        size_t at = 0;
        while (used - at >= sizeof(__wasi_dirent_t)) {
            __wasi_dirent_t entry;
            memcpy(&entry, buffer + at, sizeof(entry));
            cookie = entry.d_next;
            at += sizeof(entry) + entry.d_namlen;
            found++;
            if (at > used) {
                break;
            }
        }
        if (used < size || (found == 0 && calls > 3)) {
            break;
        }
    }
    printf("%d entries\n", found);
    return 0;
}

/* Opens a directory of `entries` again and again, a snapshot each. */
static int list_and_hold(int entries) {
    if (list("many", entries, 4096) != 0) {
        return 1;
    }
    for (int i = 0;; i++) {
        int directory;
        uint8_t buffer[64];
        size_t used;
        int error = open_at(ROOT, "many", __WASI_OFLAGS_DIRECTORY, &directory);
        if (!error) {
            error = __wasi_fd_readdir((__wasi_fd_t)directory, buffer, sizeof(buffer), 0, &used);
        }
        if (error) {
            printf("%d\n", error);
            return 0;
        }
    }
}

static int sizes(const char *path) {
    static const uint64_t values[] = {
        0, 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX, UINT64_C(1) << 40, UINT64_C(1) << 53};
    int file;
    int error = open_at(ROOT, path, __WASI_OFLAGS_CREAT, &file);
    printf("open %d\n", error);
    __wasi_fd_t fd = (__wasi_fd_t)file;
    for (size_t i = 0; i < COUNT(values); i++) {
        uint64_t value = values[i];
        __wasi_filesize_t position = 0;
        size_t written = 0;
        __wasi_ciovec_t buffer = {(const uint8_t *)"x", 1};
        int size = __wasi_fd_filestat_set_size(fd, value);
        int seek = __wasi_fd_seek(fd, (__wasi_filedelta_t)value, __WASI_WHENCE_SET, &position);
        int write = __wasi_fd_write(fd, &buffer, 1, &written);
        int at = __wasi_fd_pwrite(fd, &buffer, 1, value, &written);
        int allocate = __wasi_fd_allocate(fd, value, value);
        int advise = __wasi_fd_advise(fd, value, value, __WASI_ADVICE_WILLNEED);
        printf("%llx: size %d seek %d write %d pwrite %d allocate %d advise %d\n",
               (unsigned long long)value, size, seek, write, at, allocate, advise);
    }
    return 0;
}

static int times(void) {
    static const uint64_t values[] = {0, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    int file;
    int error = open_at(ROOT, "times", __WASI_OFLAGS_CREAT, &file);
    printf("open %d\n", error);
    for (size_t i = 0; i < COUNT(values); i++) {
        __wasi_fstflags_t flags = __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_MTIM;
        int by_fd = __wasi_fd_filestat_set_times((__wasi_fd_t)file, values[i], values[i], flags);
        int by_path = __wasi_path_filestat_set_times(ROOT, 0, "times", values[i], values[i], flags);
        __wasi_filestat_t stat;
        int got = __wasi_fd_filestat_get((__wasi_fd_t)file, &stat);
        printf("%llx: %d %d %d %d\n", (unsigned long long)values[i], by_fd, by_path, got,
               stat.mtim == values[i]);
    }
    printf("all flags: %d\n", __wasi_fd_filestat_set_times((__wasi_fd_t)file, 1, 1, 0xffff));
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    const char *path = argc > 2 ? argv[2] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(verb, "spin") == 0) {
        return spin();
    } else if (strcmp(verb, "fill") == 0) {
        return fill();
    } else if (strcmp(verb, "call") == 0) {
        return call_in_a_loop();
    } else if (strcmp(verb, "yield") == 0) {
        return yield_in_a_loop();
    } else if (strcmp(verb, "randomise") == 0) {
        return randomise();
    } else if (strcmp(verb, "recurse") == 0) {
        return recurse();
    } else if (strcmp(verb, "grow") == 0) {
        return grow(0);
    } else if (strcmp(verb, "touch") == 0) {
        return grow(1);
    } else if (strcmp(verb, "grow-at-once") == 0) {
        return grow_at_once();
    } else if (strcmp(verb, "flood-both") == 0) {
        return flood_both();
    } else if (strcmp(verb, "flood-lines") == 0) {
        return flood_lines();
    } else if (strcmp(verb, "flood-log") == 0) {
        return flood_log();
    } else if (strcmp(verb, "sleep-relative") == 0) {
        return sleep_until(__WASI_CLOCKID_MONOTONIC, UINT64_MAX, 0);
    } else if (strcmp(verb, "sleep-absolute") == 0) {
        return sleep_until(__WASI_CLOCKID_REALTIME, UINT64_MAX,
                           __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME);
    } else if (strcmp(verb, "sleep-cpu") == 0) {
        return sleep_until(__WASI_CLOCKID_PROCESS_CPUTIME_ID, UINT64_MAX, 0);
    } else if (strcmp(verb, "poll") == 0) {
        return poll_many((size_t)number);
    } else if (strcmp(verb, "fill-file") == 0) {
        return fill_file(path);
    } else if (strcmp(verb, "make-files") == 0) {
        return make_files(path);
    } else if (strcmp(verb, "make-links") == 0) {
        return make_links(path);
    } else if (strcmp(verb, "nest") == 0) {
        return nest(number);
    } else if (strcmp(verb, "list") == 0 && argc > 3) {
        return list("listed", number, (size_t)atoi(argv[3]));
    } else if (strcmp(verb, "list-and-hold") == 0) {
        return list_and_hold(number);
    } else if (strcmp(verb, "sizes") == 0) {
        return sizes(path);
    } else if (strcmp(verb, "times") == 0) {
        return times();
    }
    fprintf(stderr, "hostile_resources: what is '%s'?\n", verb);
    return 2;
}
