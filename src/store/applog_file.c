/* The segments of a log. */
#include "base/fsio.h"
#include "store/applog_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { NAME_DIGITS = 20, SEGMENTS_MAX = 100000 };

static enum err segment_path(const struct applog_files *files, uint64_t first, struct buf *path) {
    return buf_printf(path, "%s/%020llu.log", files->directory, (unsigned long long)first);
}

uint64_t applog_files_first(const struct applog_files *files) {
    return files->count ? files->segments[0].first : 0;
}

uint64_t applog_files_end(const struct applog_files *files) {
    if (!files->count) {
        return 0;
    }
    const struct applog_segment *last = &files->segments[files->count - 1];
    return last->first + last->length;
}

static enum err add_segment(struct applog_files *files, uint64_t first, uint64_t length) {
    if (files->count == files->capacity) {
        size_t capacity = files->capacity ? files->capacity * 2 : 8;
        struct applog_segment *segments =
            realloc(files->segments, capacity * sizeof *files->segments);
        if (!segments) {
            return ERR_NOMEM;
        }
        files->segments = segments;
        files->capacity = capacity;
    }
    files->segments[files->count++] = (struct applog_segment){first, length};
    return ERR_OK;
}

static int compare_segments(const void *a, const void *b) {
    const struct applog_segment *left = a, *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

static enum err find_segments(struct applog_files *files) {
    DIR *stream = opendir(files->directory);
    if (!stream) {
        return errno == ENOENT ? ERR_OK : err_from_errno(errno);
    }
    const char *name = NULL;
    enum err err = fsio_next_name(stream, &name);
    while (!err && name) {
        uint64_t first;
        struct stat stat;
        if (strlen(name) == NAME_DIGITS + 4 && strcmp(name + NAME_DIGITS, ".log") == 0 &&
            !str_to_u64((struct str){name, NAME_DIGITS}, &first) &&
            fstatat(dirfd(stream), name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(stat.st_mode)) {
            err = files->count < SEGMENTS_MAX ? add_segment(files, first, (uint64_t)stat.st_size)
                                              : ERR_NFILE;
        }
        err = err ? err : fsio_next_name(stream, &name);
    }
    closedir(stream);
    return err;
}

/* The length of a file up to its last newline. */
static enum err whole_lines(int descriptor, uint64_t length, uint64_t *ret_length) {
    char chunk[4096];
    while (length > 0) {
        size_t size = (size_t)MIN(length, sizeof chunk);
        ssize_t got = pread(descriptor, chunk, size, (off_t)(length - size));
        if (got != (ssize_t)size) {
            return got < 0 ? err_from_errno(errno) : ERR_IO;
        }
        const char *newline = memrchr(chunk, '\n', size);
        if (newline) {
            *ret_length = length - size + (size_t)(newline - chunk) + 1;
            return ERR_OK;
        }
        length -= size;
    }
    *ret_length = 0;
    return ERR_OK;
}

static enum err open_last(struct applog_files *files) {
    if (files->descriptor >= 0) {
        return ERR_OK;
    }
    cleanup_buf struct buf path = {0};
    enum err err = segment_path(files, files->segments[files->count - 1].first, &path);
    if (err) {
        return err;
    }
    /* Not O_APPEND: what a failed write has left is written over. */
    files->descriptor = fsio_system->openat(AT_FDCWD, buf_text(&path),
                                            O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return files->descriptor < 0 ? err_from_errno(errno) : ERR_OK;
}

static void close_last(struct applog_files *files) {
    if (files->descriptor >= 0) {
        fsio_system->close(files->descriptor);
        files->descriptor = -1;
    }
}

enum err applog_files_open(struct applog_files *files) {
    enum err err = find_segments(files);
    if (err || files->count == 0) {
        return err;
    }
    qsort(files->segments, files->count, sizeof *files->segments, compare_segments);
    for (size_t i = 0; i + 1 < files->count; i++) {
        struct applog_segment *segment = &files->segments[i];
        segment->length = MIN(segment->length, segment[1].first - segment->first);
    }
    struct applog_segment *last = &files->segments[files->count - 1];
    if (last->length > UINT64_MAX - last->first) {
        return ERR_IO;
    }
    err = open_last(files);
    uint64_t length = 0;
    err = err ? err : whole_lines(files->descriptor, last->length, &length);
    if (!err && length < last->length) {
        err = ftruncate(files->descriptor, (off_t)length) < 0 ? err_from_errno(errno) : ERR_OK;
        last->length = length;
    }
    close_last(files);
    return err;
}

void applog_files_done(struct applog_files *files) {
    close_last(files);
    free(files->segments);
    free(files->directory);
}

static enum err begin_segment(struct applog_files *files) {
    if (files->count == 0 && fsio_system->mkdir(files->directory, 0700) < 0 && errno != EEXIST) {
        return err_from_errno(errno);
    }
    enum err err = add_segment(files, applog_files_end(files), 0);
    if (err) {
        return err;
    }
    close_last(files);
    err = open_last(files);
    if (err) {
        files->count--;
    }
    return err;
}

enum err applog_files_write(struct applog_files *files, struct str lines) {
    enum err err = ERR_OK;
    if (files->count == 0 ||
        (files->segments[files->count - 1].length > 0 &&
         files->segments[files->count - 1].length + lines.length > files->segment_max)) {
        err = begin_segment(files);
    }
    err = err ? err : open_last(files);
    if (err) {
        return err;
    }
    struct applog_segment *last = &files->segments[files->count - 1];
    if (lseek(files->descriptor, (off_t)last->length, SEEK_SET) < 0) {
        return err_from_errno(errno);
    }
    err = fsio_write_all(files->descriptor, lines.data, lines.length);
    if (err) {
        /* So that a half line is not seen after a restart either. */
        (void)!ftruncate(files->descriptor, (off_t)last->length);
        return err;
    }
    last->length += lines.length;
    return ERR_OK;
}

static void remove_oldest(struct applog_files *files) {
    cleanup_buf struct buf path = {0};
    if (!segment_path(files, files->segments[0].first, &path)) {
        (void)!fsio_remove_file(buf_text(&path));
    }
    memmove(files->segments, files->segments + 1, (files->count - 1) * sizeof *files->segments);
    files->count--;
}

static bool is_too_old(const struct applog_files *files, uint64_t age_max_ns, uint64_t now_ns) {
    cleanup_buf struct buf path = {0};
    struct stat status;
    if (!age_max_ns || segment_path(files, files->segments[0].first, &path) ||
        stat(buf_text(&path), &status) < 0) {
        return false;
    }
    uint64_t changed_ns =
        (uint64_t)status.st_mtim.tv_sec * NS_PER_S + (uint64_t)status.st_mtim.tv_nsec;
    return now_ns > changed_ns && now_ns - changed_ns > age_max_ns;
}

void applog_files_trim(struct applog_files *files, const struct applog_limits *limits,
                       uint64_t now_ns) {
    while (files->count > 0) {
        uint64_t bytes = applog_files_end(files) - applog_files_first(files);
        bool too_many = limits->bytes_max && bytes > limits->bytes_max && files->count > 1;
        bool too_old =
            files->segments[0].length > 0 && is_too_old(files, limits->age_max_ns, now_ns);
        if (!too_many && !too_old) {
            return;
        }
        /* The last one's name keeps the offset, so there is always one. */
        if (files->count == 1 && begin_segment(files)) {
            return;
        }
        remove_oldest(files);
    }
}

enum err applog_files_read(struct applog_files *files, uint64_t offset, void *data, size_t length,
                           size_t *ret_read, uint64_t *ret_offset) {
    for (size_t i = 0; i < files->count; i++) {
        const struct applog_segment *segment = &files->segments[i];
        if (segment->first + segment->length <= offset || segment->length == 0) {
            continue;
        }
        uint64_t from = MAX(offset, segment->first);
        size_t size = (size_t)MIN((uint64_t)length, segment->first + segment->length - from);
        cleanup_buf struct buf path = {0};
        enum err err = segment_path(files, segment->first, &path);
        int descriptor = err ? -1
                             : fsio_system->openat(AT_FDCWD, buf_text(&path),
                                                   O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
        if (descriptor < 0) {
            return err ? err : err_from_errno(errno);
        }
        ssize_t got = pread(descriptor, data, size, (off_t)(from - segment->first));
        err = got < 0 ? err_from_errno(errno) : got == 0 ? ERR_IO : ERR_OK;
        fsio_system->close(descriptor);
        if (!err) {
            *ret_read = (size_t)got;
            *ret_offset = from;
        }
        return err;
    }
    *ret_read = 0;
    *ret_offset = MAX(offset, applog_files_end(files));
    return ERR_OK;
}
