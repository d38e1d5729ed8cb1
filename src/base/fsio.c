#include "base/fsio.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 * 1024, DEPTH_MAX = 100 };

static int host_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}

const struct fsio_system fsio_system_host = {
    .openat = host_openat,
    .close = close,
    .read = read,
    .write = write,
    .pwrite = pwrite,
    .fstat = fstat,
    .fsync = fsync,
    .rename = rename,
    .mkdir = mkdir,
    .unlinkat = unlinkat,
};
const struct fsio_system *fsio_system = &fsio_system_host;

static enum err open_path(int directory, const char *path, int flags, int *ret_descriptor) {
    int descriptor;
    do {
        descriptor = fsio_system->openat(directory, path, flags | O_CLOEXEC, 0600);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) {
        return err_from_errno(errno);
    }
    *ret_descriptor = descriptor;
    return ERR_OK;
}

static enum err sync_descriptor(int descriptor) {
    int result;
    do {
        result = fsio_system->fsync(descriptor);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? err_from_errno(errno) : ERR_OK;
}

enum err fsio_read_descriptor(int descriptor, size_t max_bytes, struct buf *ret_content) {
    const size_t before = ret_content->length;
    struct stat stat;
    enum err err = ERR_OK;
    /* The size is a hint only: files of /proc say 0, and others may grow meanwhile. */
    if (fsio_system->fstat(descriptor, &stat) == 0 && stat.st_size > 0) {
        if ((uint64_t)stat.st_size > max_bytes && S_ISREG(stat.st_mode)) {
            return ERR_FBIG;
        }
        err = buf_reserve(ret_content, MIN((size_t)stat.st_size, max_bytes) + 1);
    }
    while (!err) {
        err = buf_reserve(ret_content, 1);
        if (err) {
            break;
        }
        /* One byte more than allowed tells a file that ends at the limit from a longer one. */
        size_t allowed = max_bytes - (ret_content->length - before);
        size_t room = ret_content->capacity - ret_content->length;
        size_t wanted = allowed < room ? allowed + 1 : room;
        ssize_t got =
            fsio_system->read(descriptor, ret_content->data + ret_content->length, wanted);
        if (got == 0) {
            ret_content->data[ret_content->length] = 0;
            return ERR_OK;
        }
        if (got < 0) {
            err = errno == EINTR ? ERR_OK : err_from_errno(errno);
        } else if ((size_t)got > allowed) {
            err = ERR_FBIG;
        } else {
            ret_content->length += (size_t)got;
        }
    }
    ret_content->length = before;
    if (ret_content->data) {
        ret_content->data[before] = 0;
    }
    return err;
}

enum err fsio_read_file(const char *path, size_t max_bytes, struct buf *ret_content) {
    int descriptor;
    enum err err = open_path(AT_FDCWD, path, O_RDONLY, &descriptor);
    if (err) {
        return err;
    }
    err = fsio_read_descriptor(descriptor, max_bytes, ret_content);
    fsio_system->close(descriptor);
    return err;
}

/* A position of -1 is the descriptor's own. */
static enum err write_whole(int descriptor, const uint8_t *data, size_t length, off_t position) {
    while (length > 0) {
        ssize_t written = position < 0 ? fsio_system->write(descriptor, data, length)
                                       : fsio_system->pwrite(descriptor, data, length, position);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return err_from_errno(errno);
        }
        if (written == 0) {
            return ERR_IO; /* would go on forever */
        }
        data += written;
        length -= (size_t)written;
        position += position < 0 ? 0 : written;
    }
    return ERR_OK;
}

enum err fsio_write_all(int descriptor, const void *data, size_t length) {
    return write_whole(descriptor, data, length, -1);
}

enum err fsio_write_at(int descriptor, const void *data, size_t length, uint64_t position) {
    return position > INT64_MAX - length ? ERR_FBIG
                                         : write_whole(descriptor, data, length, (off_t)position);
}

/* The directory that a path is in: "a" is in ".", "/a" in "/". */
static enum err append_parent(struct buf *parent, const char *path) {
    const char *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/') {
        end--;
    }
    while (end > path && end[-1] != '/') {
        end--;
    }
    while (end > path + 1 && end[-1] == '/') {
        end--;
    }
    return end == path ? buf_append(parent, ".", 1)
                       : buf_append(parent, path, (size_t)(end - path));
}

static enum err sync_parent(const char *path) {
    cleanup_buf struct buf parent = {0};
    enum err err = append_parent(&parent, path);
    return err ? err : fsio_sync_directory(buf_text(&parent));
}

enum err fsio_new_file(const char *path, struct fsio_new_file *ret_file) {
    struct fsio_new_file file = {.descriptor = -1};
    uint64_t random;
    random_bytes(&random, sizeof random);
    enum err err = buf_append_str(&file.path, str_of(path));
    if (!err) {
        err = append_parent(&file.temporary, path);
    }
    if (!err) {
        err = buf_printf(&file.temporary, "/.tmp-%016llx", (unsigned long long)random);
    }
    if (!err) {
        err = open_path(AT_FDCWD, buf_text(&file.temporary), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
                        &file.descriptor);
    }
    if (err) {
        buf_done(&file.path);
        buf_done(&file.temporary);
        return err;
    }
    *ret_file = file;
    return ERR_OK;
}

/* Lets go of everything but the file itself. */
static void forget(struct fsio_new_file *file) {
    if (file->descriptor >= 0) {
        fsio_system->close(file->descriptor);
    }
    buf_done(&file->path);
    buf_done(&file->temporary);
    file->descriptor = -1;
}

void fsio_new_file_discard(struct fsio_new_file *file) {
    if (file->descriptor >= 0) {
        fsio_system->unlinkat(AT_FDCWD, buf_text(&file->temporary), 0);
    }
    forget(file);
}

enum err fsio_new_file_publish_as(struct fsio_new_file *file, const char *path) {
    enum err err = sync_descriptor(file->descriptor);
    if (!err && fsio_system->rename(buf_text(&file->temporary), path) < 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        fsio_new_file_discard(file);
        return err;
    }
    err = sync_parent(path);
    forget(file);
    return err;
}

enum err fsio_new_file_publish(struct fsio_new_file *file) {
    return fsio_new_file_publish_as(file, buf_text(&file->path));
}

enum err fsio_replace_file(const char *path, const void *data, size_t length) {
    struct fsio_new_file file;
    enum err err = fsio_new_file(path, &file);
    if (err) {
        return err;
    }
    err = fsio_write_all(file.descriptor, data, length);
    if (err) {
        fsio_new_file_discard(&file);
        return err;
    }
    return fsio_new_file_publish(&file);
}

enum err fsio_sync_directory(const char *path) {
    int descriptor;
    enum err err = open_path(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, &descriptor);
    if (err) {
        return err;
    }
    err = sync_descriptor(descriptor);
    fsio_system->close(descriptor);
    return err;
}

static enum err make_directory(const char *path) {
    if (fsio_system->mkdir(path, 0700) == 0) {
        return sync_parent(path);
    }
    if (errno != EEXIST) {
        return err_from_errno(errno);
    }
    int descriptor;
    enum err err = open_path(AT_FDCWD, path, O_PATH | O_DIRECTORY, &descriptor);
    if (err) {
        return err;
    }
    fsio_system->close(descriptor);
    return ERR_OK;
}

enum err fsio_make_directories(const char *path) {
    cleanup_buf struct buf copy = {0};
    enum err err = buf_append_str(&copy, str_of(path));
    if (err) {
        return err;
    }
    if (copy.length == 0) {
        return ERR_NOENT;
    }
    char *text = (char *)copy.data;
    for (size_t i = 1; i <= copy.length; i++) {
        bool is_end = text[i] == '/' || i == copy.length;
        if (!is_end || text[i - 1] == '/') {
            continue;
        }
        char saved = text[i];
        text[i] = 0;
        err = make_directory(text);
        text[i] = saved;
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

enum err fsio_remove_file(const char *path) {
    return fsio_system->unlinkat(AT_FDCWD, path, 0) < 0 ? err_from_errno(errno) : ERR_OK;
}

enum err fsio_next_name(DIR *directory, const char **ret_name) {
    const struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(directory);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    *ret_name = entry ? entry->d_name : NULL;
    return entry ? ERR_OK : err_from_errno(errno);
}

static enum err remove_at(int directory, const char *name, unsigned depth);

static enum err remove_entries(int directory, unsigned depth) {
    int copy = dup(directory); /* closedir closes it */
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream) {
        enum err err = err_from_errno(errno);
        if (copy >= 0) {
            close(copy);
        }
        return err;
    }
    const char *name = NULL;
    enum err err = fsio_next_name(stream, &name);
    while (!err && name) {
        err = remove_at(directory, name, depth + 1);
        err = err ? err : fsio_next_name(stream, &name);
    }
    closedir(stream);
    return err;
}

static enum err remove_at(int directory, const char *name, unsigned depth) {
    if (depth > DEPTH_MAX) {
        return ERR_LOOP;
    }
    if (fsio_system->unlinkat(directory, name, 0) == 0 || errno == ENOENT) {
        return ERR_OK;
    }
    if (errno != EISDIR && errno != EPERM) { /* POSIX's unlink has EPERM for directories */
        return err_from_errno(errno);
    }
    int descriptor;
    enum err err = open_path(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, &descriptor);
    if (err) {
        return err;
    }
    err = remove_entries(descriptor, depth);
    fsio_system->close(descriptor);
    if (!err && fsio_system->unlinkat(directory, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        err = err_from_errno(errno);
    }
    return err;
}

enum err fsio_remove_tree(const char *path) {
    return remove_at(AT_FDCWD, path, 0);
}
