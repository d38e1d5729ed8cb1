/* Into a directory: libarchive wants to pull, HTTP pushes. So the archive goes to a temporary file
 * first, and is unpacked when all of it is there: half an archive changes nothing. */
#include "cli/tar.h"

#include "base/fsio.h"
#include "cli/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { BLOCK_BYTES = 64 * 1024 };

struct tar_target {
    char *directory;
    FILE *archive;
};

struct tar_target *tar_target_new(const char *directory) {
    struct tar_target *target = calloc(1, sizeof *target);
    cli_check(target ? ERR_OK : ERR_NOMEM);
    target->directory = strdup(directory);
    cli_check(target->directory ? ERR_OK : ERR_NOMEM);
    target->archive = tmpfile();
    if (!target->archive) {
        cli_error("no temporary file can be made: %s", strerror(errno));
        tar_target_free(target);
        return NULL;
    }
    return target;
}

bool tar_target_write(struct tar_target *target, const char *data, size_t length) {
    if (fwrite(data, 1, length, target->archive) != length) {
        cli_error("a temporary file can't be written: %s", strerror(errno));
        return false;
    }
    return true;
}

/* Files, directories and links with nothing special in their modes; false: leave it out. */
static bool make_harmless(struct archive_entry *entry) {
    const char *name = archive_entry_pathname(entry);
    bool is_link = archive_entry_hardlink(entry) != NULL;
    unsigned type = archive_entry_filetype(entry);
    if (!name || (!is_link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)) {
        fputs("warning: left out, being neither file, directory nor link: ", stderr);
        text_print(stderr, str_of(name ? name : "?"));
        fputc('\n', stderr);
        return false;
    }
    archive_entry_set_perm(entry, archive_entry_perm(entry) & 0777);
    return true;
}

static bool unpack(struct archive *reader, struct archive *writer) {
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(reader, &entry);
        if (status == ARCHIVE_EOF) {
            return true;
        }
        if (status < ARCHIVE_WARN) {
            cli_error("the server's archive is damaged: %s", archive_error_string(reader));
            return false;
        }
        if (!make_harmless(entry)) {
            continue;
        }
        status = archive_write_header(writer, entry);
        while (status >= ARCHIVE_WARN) {
            const void *data;
            size_t length;
            la_int64_t offset;
            int read = archive_read_data_block(reader, &data, &length, &offset);
            if (read == ARCHIVE_EOF) {
                status = archive_write_finish_entry(writer);
                break;
            }
            if (read < ARCHIVE_WARN) {
                cli_error("the server's archive is damaged: %s", archive_error_string(reader));
                return false;
            }
            status = (int)archive_write_data_block(writer, data, length, offset);
        }
        if (status < ARCHIVE_WARN) {
            cli_error("%s can't be written: %s", archive_entry_pathname(entry),
                      archive_error_string(writer));
            return false;
        }
    }
}

bool tar_target_finish(struct tar_target *target) {
    if (fflush(target->archive) != 0 || fseek(target->archive, 0, SEEK_SET) != 0) {
        cli_error("a temporary file can't be written: %s", strerror(errno));
        return false;
    }
    if (mkdir(target->directory, 0777) != 0 && errno != EEXIST) {
        cli_error("%s can't be made: %s", target->directory, strerror(errno));
        return false;
    }
    /* Names are relative to here, so that libarchive's checks are about the archive's names and
     * links alone, not about those in the path that the user gave. */
    int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (before < 0 || chdir(target->directory) != 0) {
        cli_error("%s can't be entered: %s", target->directory, strerror(errno));
        if (before >= 0) {
            close(before);
        }
        return false;
    }
    struct archive *reader = archive_read_new();
    struct archive *writer = archive_write_disk_new();
    cli_check(reader && writer ? ERR_OK : ERR_NOMEM);
    bool good = archive_read_support_format_tar(reader) == ARCHIVE_OK &&
                archive_write_disk_set_options(writer, ARCHIVE_EXTRACT_TIME |
                                                           ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                                                           ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                                                           ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS |
                                                           ARCHIVE_EXTRACT_UNLINK) == ARCHIVE_OK &&
                archive_read_open_fd(reader, fileno(target->archive), BLOCK_BYTES) == ARCHIVE_OK;
    if (!good) {
        cli_error("tar: %s", archive_error_string(reader));
    }
    good = good && unpack(reader, writer);
    if (good && archive_write_close(writer) != ARCHIVE_OK) {
        cli_error("%s: %s", target->directory, archive_error_string(writer));
        good = false;
    }
    archive_write_free(writer);
    archive_read_free(reader);
    if (fchdir(before) != 0) {
        cli_error("the working directory can't be entered again: %s", strerror(errno));
        good = false;
    }
    close(before);
    return good;
}

void tar_target_free(struct tar_target *target) {
    if (!target) {
        return;
    }
    if (target->archive) {
        fclose(target->archive);
    }
    free(target->directory);
    free(target);
}
