#include "api/archive_source.h"

#include "base/fsio.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much of a diverted file one trip writes. */
#define DIVERTED_PIECE_BYTES MIB
/* What an archive may have besides its files' contents, an entry: headers, long names, padding. */
#define OVERHEAD_BYTES (16 * KIB)
/* Files of the archive's own that libarchive reads at once; more than any honest one has. */
#define SLACK_BYTES (64 * MIB)

static locale_t utf8_locale;
static pthread_once_t utf8_locale_once = PTHREAD_ONCE_INIT;

static void make_locale(void) {
    utf8_locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

locale_t source_locale(void) {
    pthread_once(&utf8_locale_once, make_locale);
    return utf8_locale;
}

const char *source_shown(struct str name, char text[SOURCE_SHOWN_SIZE]) {
    size_t length = MIN(name.length, (size_t)SOURCE_SHOWN_SIZE - 4);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name.data[i];
        text[i] = byte < 0x20 || byte == 0x7f ? '?' : (char)byte;
    }
    text[length] = 0;
    if (length < name.length) {
        while (length > 0 && ((unsigned char)text[length - 1] & 0xc0) == 0x80) {
            length--; /* no half of a character */
        }
        length -= length > 0 && ((unsigned char)text[length - 1] & 0x80) ? 1 : 0;
        memcpy(text + length, "...", 4);
    }
    return text;
}

/* --- reading (on a worker) -------------------------------------------------------------------- */

static uint64_t plain_bytes_max(const struct source *source) {
    uint64_t overhead;
    uint64_t max;
    if (__builtin_mul_overflow(source->entries_max, OVERHEAD_BYTES, &overhead) ||
        __builtin_add_overflow(overhead, source->bytes_max, &max) ||
        __builtin_add_overflow(max, SLACK_BYTES, &max)) {
        return UINT64_MAX;
    }
    return max;
}

/* A small file may unpack to an endless one, of which little becomes files. */
static enum err check_plain_bytes(struct source *source) {
    int64_t plain = archive_filter_bytes(source->archive, 0);
    if (plain > 0 && (uint64_t)plain > plain_bytes_max(source)) {
        return buf_fail(&source->message, ERR_FBIG, "the archive unpacks to too many bytes");
    }
    return ERR_OK;
}

static la_ssize_t read_block(struct archive *archive, void *argument, const void **ret_block) {
    struct source *source = argument;
    source->err = check_plain_bytes(source);
    if (source->err) {
        archive_set_error(archive, ERANGE, "too large");
        return -1;
    }
    ssize_t length;
    do {
        length = pread(source->descriptor, source->block, sizeof(source->block),
                       (off_t)source->position);
    } while (length < 0 && errno == EINTR);
    if (length < 0) {
        source->err = err_from_errno(errno);
        archive_set_error(archive, errno, "reading failed");
        return -1;
    }
    source->position += (uint64_t)length;
    *ret_block = source->block;
    return length;
}

static enum err fail_archive(struct source *source) {
    if (source->err) {
        return source->err; /* of our own reading */
    }
    if (archive_errno(source->archive) == ENOMEM) {
        return ERR_NOMEM;
    }
    const char *text = archive_error_string(source->archive);
    char shown[SOURCE_SHOWN_SIZE];
    return buf_fail(&source->message, ERR_INVAL,
                    "this can't be read as a tar, nor as one packed by gzip or zstd (%s); a single "
                    "packed file has to be unpacked first",
                    source_shown(str_of(text ? text : "it is damaged"), shown));
}

/* --- checking --------------------------------------------------------------------------------- */

static enum err refuse(struct source *source, struct str path, const char *why) {
    char shown[SOURCE_SHOWN_SIZE];
    return buf_fail(&source->message, ERR_INVAL, "%s '%s' %s",
                    source->single_path ? "the path" : "the archive's entry",
                    source_shown(path, shown), why);
}

/* Copies a path and finds its components. */
static enum err check_path(struct source *source, const char *text, char path[ARCHIVE_PATH_MAX],
                           struct str components[ARCHIVE_DEPTH_MAX], size_t *ret_count) {
    if (!text || !str_is_utf8(str_of(text))) {
        return buf_fail(&source->message, ERR_INVAL,
                        "entry %" PRIu64 " of the archive has a name that is not UTF-8",
                        source->entries);
    }
    struct str rest = str_of(text);
    if (rest.length >= ARCHIVE_PATH_MAX) {
        return refuse(source, rest, "has too long a name");
    }
    memcpy(path, rest.data, rest.length + 1);
    rest.data = path;
    if (rest.length > 0 && path[0] == '/') {
        return refuse(source, rest, "has an absolute name; make the archive with relative ones");
    }
    size_t count = 0;
    while (rest.length > 0) {
        struct str component = str_cut(&rest, '/');
        if (component.length == 0 || str_equal_text(component, ".")) {
            continue;
        }
        if (str_equal_text(component, "..")) {
            return refuse(source, str_of(path), "has '..' in its name");
        }
        if (component.length > ARCHIVE_NAME_MAX) {
            return refuse(source, str_of(path), "has too long a name");
        }
        if (count == ARCHIVE_DEPTH_MAX) {
            return refuse(source, str_of(path), "lies in too many directories");
        }
        components[count++] = component;
    }
    *ret_count = count;
    return ERR_OK;
}

static enum err check_type(struct source *source, struct archive_entry *header) {
    struct source_entry *entry = &source->entry;
    const char *target = archive_entry_hardlink_utf8(header);
    if (archive_entry_hardlink(header) || target) {
        entry->is_hard_link = true;
        entry->type = FILE_REGULAR;
        return check_path(source, target, entry->target, entry->target_components,
                          &entry->target_component_count);
    }
    switch (archive_entry_filetype(header)) {
    case AE_IFREG:
        entry->type = FILE_REGULAR;
        return ERR_OK;
    case AE_IFDIR:
        entry->type = FILE_DIRECTORY;
        return ERR_OK;
    case AE_IFLNK:
        entry->type = FILE_SYMBOLIC_LINK;
        target = archive_entry_symlink_utf8(header);
        if (!target || !target[0] || !str_is_utf8(str_of(target)) ||
            strlen(target) >= ARCHIVE_PATH_MAX) {
            return refuse(source, str_of(entry->path),
                          "is a symbolic link to nothing that could be a name");
        }
        memcpy(entry->target, target, strlen(target) + 1);
        return ERR_OK;
    default:
        return refuse(source, str_of(entry->path),
                      "is neither a file, a directory, nor a link: a device, pipe or socket can't "
                      "be stored");
    }
}

static enum err check_size(struct source *source, struct archive_entry *header) {
    struct source_entry *entry = &source->entry;
    if (entry->type != FILE_REGULAR || entry->is_hard_link) {
        return ERR_OK;
    }
    int64_t size = archive_entry_size(header);
    if (size < 0) {
        return refuse(source, str_of(entry->path), "has an impossible size");
    }
    if ((uint64_t)size > source->bytes_max - source->bytes) {
        return buf_fail(&source->message, ERR_FBIG,
                        "the archive unpacks to more than %" PRIu64 " bytes", source->bytes_max);
    }
    entry->size = (uint64_t)size;
    source->bytes += entry->size;
    return ERR_OK;
}

static void take_time(struct source_entry *entry, struct archive_entry *header) {
    int64_t seconds = archive_entry_mtime_is_set(header) ? archive_entry_mtime(header) : -1;
    long nanoseconds = archive_entry_mtime_nsec(header);
    if (seconds >= 0 && (uint64_t)seconds < UINT64_MAX / NS_PER_S && nanoseconds >= 0 &&
        nanoseconds < (long)NS_PER_S) {
        entry->has_modified = true;
        entry->modified_ns = (uint64_t)seconds * NS_PER_S + (uint64_t)nanoseconds;
    }
}

static enum err check_entry(struct source *source, struct archive_entry *header) {
    struct source_entry *entry = &source->entry;
    if (source->entries == source->entries_max) {
        return buf_fail(&source->message, ERR_FBIG, "the archive has more than %" PRIu64 " entries",
                        source->entries_max);
    }
    source->entries++;
    entry->is_hard_link = entry->is_diverted = entry->has_modified = false;
    entry->size = 0;
    enum err err = check_path(source, archive_entry_pathname_utf8(header), entry->path,
                              entry->components, &entry->component_count);
    err = err ? err : check_type(source, header);
    err = err ? err : check_size(source, header);
    if (!err && entry->component_count == 0 && entry->type != FILE_DIRECTORY) {
        err = refuse(source, str_of(entry->path), "has no name");
    }
    take_time(entry, header);
    entry->is_diverted = source->diverted_name && entry->component_count == 1 &&
                         entry->type == FILE_REGULAR && !entry->is_hard_link &&
                         str_equal_text(entry->components[0], source->diverted_name);
    if (!err && entry->is_diverted && source->diverted_descriptor < 0) {
        err = refuse(source, str_of(entry->path),
                     "is a program: leave it out, since the program is that of from=, or leave out "
                     "from=");
    }
    return err;
}

/* --- trips ------------------------------------------------------------------------------------ */

/* Of what is no archive: the content of the file itself. */
static enum err read_single(struct source *source) {
    ssize_t length;
    do {
        length = pread(source->descriptor, source->block, sizeof(source->block),
                       (off_t)source->position);
    } while (length < 0 && errno == EINTR);
    if (length < 0) {
        return err_from_errno(errno);
    }
    source->piece = source->block;
    source->piece_length = (size_t)length;
    source->piece_offset = source->position;
    source->position += (uint64_t)length;
    source->is_data_end = length == 0 || source->position >= source->entry.size;
    return ERR_OK;
}

static enum err read_piece(struct source *source) {
    if (source->single_path) {
        return read_single(source);
    }
    const void *data = NULL;
    size_t length = 0;
    int64_t offset = 0;
    int result = archive_read_data_block(source->archive, &data, &length, &offset);
    source->piece = data;
    source->piece_length = 0;
    if (result == ARCHIVE_EOF) {
        source->is_data_end = true;
        return ERR_OK;
    }
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
        return fail_archive(source);
    }
    uint64_t end;
    if (offset < 0 || __builtin_add_overflow((uint64_t)offset, length, &end) ||
        end > source->entry.size) {
        return refuse(source, str_of(source->entry.path), "has more content than it says");
    }
    source->piece_length = length;
    source->piece_offset = (uint64_t)offset;
    source->is_data_end = end == source->entry.size;
    return ERR_OK;
}

static enum err read_more(struct source *source) {
    if (!source->entry.is_diverted) {
        return read_piece(source);
    }
    uint64_t written = 0;
    enum err err = ERR_OK;
    while (!err && !source->is_data_end && written < DIVERTED_PIECE_BYTES) {
        err = read_piece(source);
        if (!err) {
            err = fsio_write_at(source->diverted_descriptor, source->piece, source->piece_length,
                                source->piece_offset);
            written += source->piece_length;
        }
    }
    source->piece_length = 0;
    return err;
}

/* Only filters that libarchive has itself: for others it would start programs. */
static enum err open_archive(struct source *source) {
    struct archive *archive = archive_read_new();
    if (!archive) {
        return ERR_NOMEM;
    }
    source->archive = archive;
    if (archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(archive) != ARCHIVE_OK ||
        archive_read_support_format_tar(archive) != ARCHIVE_OK) {
        return ERR_NOTSUP;
    }
    return archive_read_open(archive, source, NULL, read_block, NULL) == ARCHIVE_OK
               ? ERR_OK
               : fail_archive(source);
}

static enum err begin_single(struct source *source) {
    struct source_entry *entry = &source->entry;
    struct stat status;
    if (source->entries > 0) {
        source->is_end = true;
        return ERR_OK;
    }
    source->entries++;
    enum err err = check_path(source, source->single_path, entry->path, entry->components,
                              &entry->component_count);
    if (!err && entry->component_count == 0) {
        err = refuse(source, str_of(entry->path), "has no name");
    }
    if (!err && fstat(source->descriptor, &status) != 0) {
        err = err_from_errno(errno);
    }
    if (!err && (uint64_t)status.st_size > source->bytes_max) {
        err = ERR_FBIG;
    }
    if (err) {
        return err;
    }
    entry->type = FILE_REGULAR;
    entry->size = (uint64_t)status.st_size;
    source->is_data_end = entry->size == 0;
    return source->is_data_end ? ERR_OK : read_single(source);
}

static enum err read_entry(struct source *source) {
    if (source->single_path) {
        return begin_single(source);
    }
    if (!source->archive) {
        enum err err = open_archive(source);
        if (err) {
            return err;
        }
    }
    struct archive_entry *header = NULL;
    int result = archive_read_next_header(source->archive, &header);
    if (result == ARCHIVE_EOF) {
        source->is_end = true;
        return ERR_OK;
    }
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
        return fail_archive(source);
    }
    enum err err = check_plain_bytes(source);
    err = err ? err : check_entry(source, header);
    struct source_entry *entry = &source->entry;
    source->piece_length = 0;
    source->is_data_end = entry->size == 0;
    if (!err && entry->is_diverted && ftruncate(source->diverted_descriptor, (off_t)entry->size)) {
        err = err_from_errno(errno);
    }
    return err || source->is_data_end ? err : read_more(source);
}

struct trip {
    struct op_work base; /* first */
    struct source *source;
    enum err (*read)(struct source *source);
};

static void run_trip(struct op_work *work) {
    struct trip *trip = (struct trip *)work;
    locale_t before = uselocale(source_locale());
    trip->source->err = ERR_OK;
    trip->source->err = trip->read(trip->source);
    uselocale(before);
}

static void release_trip(struct op_work *work) {
    struct trip *trip = (struct trip *)work;
    source_unref(trip->source);
    free(trip);
}

static enum err travel(struct op *op, struct source *source,
                       enum err (*read)(struct source *source)) {
    struct trip *trip = op->state;
    if (!trip) {
        trip = calloc(1, sizeof(*trip));
        if (!trip) {
            return ERR_NOMEM;
        }
        trip->base.run = run_trip;
        trip->base.release = release_trip;
        trip->source = source;
        trip->read = read;
        source->references++;
        return op_work_start(op, &trip->base);
    }
    return trip->base.finished ? op_finish(op, source->err) : ERR_PENDING;
}

enum err source_next(struct op *op, struct source *source) {
    return travel(op, source, read_entry);
}

enum err source_more(struct op *op, struct source *source) {
    return travel(op, source, read_more);
}

/* --- life ------------------------------------------------------------------------------------- */

void source_unref(struct source *source) {
    if (!source || --source->references > 0) {
        return;
    }
    if (source->archive) {
        archive_read_free(source->archive);
    }
    if (source->descriptor >= 0) {
        close(source->descriptor);
    }
    if (source->diverted_descriptor >= 0) {
        close(source->diverted_descriptor);
    }
    free(source->diverted_name);
    free(source->single_path);
    buf_done(&source->message);
    free(source);
}

enum err source_new(const struct unpack_options *options, struct source **ret_source) {
    struct source *source = calloc(1, sizeof(*source));
    if (!source) {
        return ERR_NOMEM;
    }
    source->references = 1;
    source->entries_max = options->entries_max;
    source->bytes_max = options->bytes_max;
    source->diverted_descriptor = -1;
    source->descriptor = fcntl(options->descriptor, F_DUPFD_CLOEXEC, 0);
    enum err err = source->descriptor < 0 ? err_from_errno(errno) : ERR_OK;
    if (!err && options->single_path) {
        source->single_path = strdup(options->single_path);
        err = source->single_path ? ERR_OK : ERR_NOMEM;
    }
    if (!err && options->diverted_name && options->diverted_descriptor >= 0) {
        source->diverted_descriptor = fcntl(options->diverted_descriptor, F_DUPFD_CLOEXEC, 0);
        err = source->diverted_descriptor < 0 ? err_from_errno(errno) : ERR_OK;
    }
    if (!err && options->diverted_name) {
        source->diverted_name = strdup(options->diverted_name);
        err = !err && !source->diverted_name ? ERR_NOMEM : err;
    }
    if (!err && !source_locale()) {
        err = ERR_NOMEM;
    }
    if (err) {
        source_unref(source);
        return err;
    }
    *ret_source = source;
    return ERR_OK;
}
