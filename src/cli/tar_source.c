/* A directory as a stream: a walk that gives one entry after the other to libarchive, whose output
 * gathers in a buffer and is handed out from there. */
#include "cli/tar.h"
#include "cli/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024 };

struct tar_source {
    FTS *walk;
    size_t prefix_length; /* of the directory's own path, with a slash */
    struct archive *archive;
    struct buf ready; /* made, and not yet taken */
    size_t taken;
    int descriptor;     /* of the file that is being read, or -1 */
    uint64_t remaining; /* bytes of it */
    char *path;         /* its name, for messages */
    bool ended;
    uint8_t piece[PIECE_BYTES];
};

static la_ssize_t on_archive_write(struct archive *archive, void *context, const void *data,
                                   size_t length) {
    (void)archive;
    struct tar_source *source = context;
    cli_check(buf_append(&source->ready, data, length));
    return (la_ssize_t)length;
}

static int compare_names(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

struct tar_source *tar_source_new(const char *directory) {
    struct tar_source *source = calloc(1, sizeof *source);
    cli_check(source ? ERR_OK : ERR_NOMEM);
    source->descriptor = -1;
    source->prefix_length = strlen(directory);
    source->prefix_length +=
        source->prefix_length == 0 || directory[source->prefix_length - 1] != '/';
    char *paths[] = {(char *)directory, NULL};
    source->walk = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, compare_names);
    if (!source->walk) {
        cli_error("%s can't be read: %s", directory, strerror(errno));
        tar_source_free(source);
        return NULL;
    }
    /* GNU's format takes names as bytes, whatever the locale is, and sizes without limit. */
    source->archive = archive_write_new();
    cli_check(source->archive ? ERR_OK : ERR_NOMEM);
    if (archive_write_set_format_gnutar(source->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(source->archive, 0) != ARCHIVE_OK ||
        archive_write_open(source->archive, source, NULL, on_archive_write, NULL) != ARCHIVE_OK) {
        cli_error("tar: %s", archive_error_string(source->archive));
        tar_source_free(source);
        return NULL;
    }
    return source;
}

/* Opens a regular file; it may have become something else since the walk saw it. */
static bool open_file(struct tar_source *source, const FTSENT *found) {
    source->descriptor = open(found->fts_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (source->descriptor < 0) {
        cli_error("%s can't be read: %s", found->fts_path, strerror(errno));
        return false;
    }
    source->remaining = (uint64_t)found->fts_statp->st_size;
    free(source->path);
    source->path = strdup(found->fts_path);
    return true;
}

static bool add_entry(struct tar_source *source, const FTSENT *found) {
    const char *name = found->fts_path + MIN(source->prefix_length, strlen(found->fts_path));
    if (!name[0]) {
        return true; /* the directory itself */
    }
    struct archive_entry *entry = archive_entry_new();
    cli_check(entry ? ERR_OK : ERR_NOMEM);
    const struct stat *status = found->fts_statp;
    archive_entry_copy_pathname(entry, name);
    archive_entry_set_mode(entry, status->st_mode);
    archive_entry_set_mtime(entry, status->st_mtim.tv_sec, status->st_mtim.tv_nsec);
    archive_entry_set_size(entry, S_ISREG(status->st_mode) ? status->st_size : 0);
    bool good = true;
    if (S_ISLNK(status->st_mode)) {
        char target[4096];
        ssize_t length = readlink(found->fts_accpath, target, sizeof target - 1);
        good = length >= 0;
        target[good ? length : 0] = 0;
        archive_entry_copy_symlink(entry, target);
    }
    if (!good) {
        cli_error("%s can't be read: %s", found->fts_path, strerror(errno));
    } else if (S_ISREG(status->st_mode)) {
        good = open_file(source, found);
    }
    if (good && archive_write_header(source->archive, entry) != ARCHIVE_OK) {
        cli_error("%s: %s", found->fts_path, archive_error_string(source->archive));
        good = false;
    }
    archive_entry_free(entry);
    return good;
}

/* The next thing that the walk finds. */
static bool add_next(struct tar_source *source) {
    errno = 0;
    FTSENT *found = fts_read(source->walk);
    if (!found) {
        if (errno) {
            cli_error("the directory can't be read: %s", strerror(errno));
            return false;
        }
        source->ended = true;
        return archive_write_close(source->archive) == ARCHIVE_OK;
    }
    switch (found->fts_info) {
    case FTS_D:
    case FTS_F:
    case FTS_SL:
    case FTS_SLNONE:
        return add_entry(source, found);
    case FTS_DP:
        return true;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        cli_error("%s can't be read: %s", found->fts_path, strerror(found->fts_errno));
        return false;
    default:
        fputs("warning: left out, being neither file, directory nor symbolic link: ", stderr);
        text_print(stderr, str_of(found->fts_path));
        fputc('\n', stderr);
        return true;
    }
}

static bool add_content(struct tar_source *source) {
    size_t wanted = (size_t)MIN(source->remaining, (uint64_t)PIECE_BYTES);
    ssize_t length = wanted ? read(source->descriptor, source->piece, wanted) : 0;
    if (wanted > 0 && length <= 0) {
        const char *path = source->path ? source->path : "a file";
        if (length < 0 && errno == EINTR) {
            return true;
        }
        cli_error("%s %s", path, length < 0 ? strerror(errno) : "changed while it was read");
        return false;
    }
    if (length > 0 &&
        archive_write_data(source->archive, source->piece, (size_t)length) != length) {
        cli_error("tar: %s", archive_error_string(source->archive));
        return false;
    }
    source->remaining -= (uint64_t)length;
    if (source->remaining == 0) {
        close(source->descriptor);
        source->descriptor = -1;
    }
    return true;
}

size_t tar_source_read(void *context, char *data, size_t size) {
    struct tar_source *source = context;
    if (source->taken == source->ready.length) {
        source->ready.length = 0;
        source->taken = 0;
    }
    while (source->ready.length == 0 && !source->ended) {
        bool good = source->descriptor >= 0 ? add_content(source) : add_next(source);
        if (!good) {
            return SIZE_MAX;
        }
    }
    size_t length = MIN(size, source->ready.length - source->taken);
    if (length > 0) {
        memcpy(data, source->ready.data + source->taken, length);
        source->taken += length;
    }
    return length;
}

void tar_source_free(struct tar_source *source) {
    if (!source) {
        return;
    }
    if (source->walk) {
        fts_close(source->walk);
    }
    if (source->archive) {
        archive_write_free(source->archive);
    }
    if (source->descriptor >= 0) {
        close(source->descriptor);
    }
    free(source->path);
    buf_done(&source->ready);
    free(source);
}
