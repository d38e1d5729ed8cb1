/* `0asm cp`: files and directories between this machine and apps, and between apps. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "cli/tar.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

const char cp_help[] =
    "One side at least is APP:/FILE; '-' is standard input or output. A file appears whole or not "
    "at all.\n\n"
    "  -r, --recursive      directories, with all that is in them\n\n"
    "  0asm cp notes.txt hello:/data/\n"
    "  0asm cp -r hello:/data backup\n"
    "  0asm cp -r site/. web:/www\n";

struct copy {
    struct client *client;
    const char *source, *target; /* as the user wrote them */
    bool recursive;
    bool into; /* the target is a directory, or has to be one */
};

/* --- streams ---------------------------------------------------------------------------------- */

static size_t read_stream(void *context, char *data, size_t size) {
    FILE *stream = context;
    size_t length = fread(data, 1, size, stream);
    if (length == 0 && ferror(stream)) {
        cli_error("reading failed: %s", strerror(errno));
        return SIZE_MAX;
    }
    return length;
}

struct download {
    const char *source;
    FILE *stream;           /* or: */
    struct tar_target *tar; /* a directory */
};

static bool write_stream(void *context, const struct client_response *response, const char *data,
                         size_t length) {
    struct download *download = context;
    if (download->tar) {
        return tar_target_write(download->tar, data, length);
    }
    if (client_response_is_directory(response)) {
        cli_error("%s is a directory; cp -r copies it", download->source);
        return false;
    }
    if (fwrite(data, 1, length, download->stream) != length) {
        cli_error("writing failed: %s", strerror(errno));
        return false;
    }
    return true;
}

static bool put(const struct copy *copy, const char *target,
                size_t (*read)(void *context, char *data, size_t size), void *context,
                uint64_t length) {
    cleanup_buf struct buf progress = {0};
    cli_check(buf_append_str(&progress, STR("copying ")));
    text_escape(str_of(copy->source), false, &progress);
    struct client_request request = {.method = "PUT",
                                     .target = target,
                                     .read = read,
                                     .read_context = context,
                                     .length = length,
                                     .progress = buf_text(&progress)};
    return client_perform(copy->client, &request, NULL);
}

static bool get(const struct copy *copy, const char *target, struct download *download) {
    struct client_request request = {.method = "GET",
                                     .target = target,
                                     .accept =
                                         download->tar ? "application/x-tar" : "application/json",
                                     .write = write_stream,
                                     .write_context = download};
    return client_perform(copy->client, &request, NULL);
}

/* --- from this machine ------------------------------------------------------------------------ */

static bool send_directory(const struct copy *copy, struct buf *target) {
    cli_check(buf_append_str(target, STR("/?unpack")));
    struct tar_source *tar = tar_source_new(copy->source);
    bool done = tar && put(copy, buf_text(target), tar_source_read, tar, CLIENT_LENGTH_UNKNOWN);
    tar_source_free(tar);
    return done;
}

static bool send_file(const struct copy *copy, struct buf *target) {
    bool is_standard = strcmp(copy->source, "-") == 0;
    FILE *stream = is_standard ? stdin : fopen(copy->source, "re");
    struct stat status;
    if (!stream || fstat(fileno(stream), &status) != 0) {
        cli_error("%s can't be read: %s", copy->source, strerror(errno));
        if (stream) {
            fclose(stream);
        }
        return false;
    }
    bool done = false;
    if (!S_ISDIR(status.st_mode)) {
        bool has_length = S_ISREG(status.st_mode) && !is_standard;
        done = put(copy, buf_text(target), read_stream, stream,
                   has_length ? (uint64_t)status.st_size : CLIENT_LENGTH_UNKNOWN);
    } else if (!copy->recursive) {
        cli_error("%s is a directory; cp -r copies it", copy->source);
    } else {
        done = send_directory(copy, target);
    }
    if (!is_standard) {
        fclose(stream);
    }
    return done;
}

/* --- to this machine -------------------------------------------------------------------------- */

static bool receive_directory(const struct copy *copy, const char *source, const char *path) {
    struct download download = {.source = copy->source, .tar = tar_target_new(path)};
    bool done = download.tar && get(copy, source, &download) && tar_target_finish(download.tar);
    tar_target_free(download.tar);
    return done;
}

/* Beside its place first, so that half a file never stands there. */
static bool receive_file(const struct copy *copy, const char *source, const char *path) {
    struct stat status;
    bool direct = stat(path, &status) == 0 && !S_ISREG(status.st_mode); /* a device, a pipe */
    cleanup_buf struct buf temporary = {0};
    uint64_t random = 0;
    random_bytes(&random, sizeof random);
    cli_check(direct ? buf_append_str(&temporary, str_of(path))
                     : buf_printf(&temporary, "%s.part-%016" PRIx64, path, random));
    FILE *stream = fopen(buf_text(&temporary), direct ? "we" : "wxe");
    if (!stream) {
        cli_error("%s can't be written: %s", path, strerror(errno));
        return false;
    }
    struct download download = {.source = copy->source, .stream = stream};
    bool done = get(copy, source, &download);
    if (fclose(stream) != 0 && done) {
        cli_error("%s can't be written: %s", path, strerror(errno));
        done = false;
    }
    if (done && !direct && rename(buf_text(&temporary), path) != 0) {
        cli_error("%s can't be written: %s", path, strerror(errno));
        done = false;
    }
    if (!done && !direct) {
        unlink(buf_text(&temporary));
    }
    return done;
}

/* --- the ways of copying ---------------------------------------------------------------------- */

static bool source_is_directory(const struct copy *copy, const char *source, bool *ret_directory) {
    enum remote_kind kind = REMOTE_FILE;
    if (copy->recursive && !remote_kind(copy->client, source, &kind)) {
        return false;
    }
    *ret_directory = kind == REMOTE_DIRECTORY;
    return true;
}

static bool receive(const struct copy *copy, const char *source, const char *path) {
    bool is_directory = false;
    if (!source_is_directory(copy, source, &is_directory)) {
        return false;
    }
    if (is_directory) {
        return receive_directory(copy, source, path);
    }
    if (strcmp(path, "-") == 0) {
        struct download download = {.source = copy->source, .stream = stdout};
        return get(copy, source, &download) && fflush(stdout) == 0;
    }
    return receive_file(copy, source, path);
}

/* From an app to an app: by way of a temporary file. */
static bool relay(const struct copy *copy, const char *source, struct buf *target) {
    bool is_directory = false;
    if (!source_is_directory(copy, source, &is_directory)) {
        return false;
    }
    FILE *stream = tmpfile();
    if (!stream) {
        cli_error("no temporary file can be made: %s", strerror(errno));
        return false;
    }
    struct download download = {.source = copy->source, .stream = stream};
    struct client_request request = {.method = "GET",
                                     .target = source,
                                     .accept =
                                         is_directory ? "application/x-tar" : "application/json",
                                     .write = write_stream,
                                     .write_context = &download};
    bool done = client_perform(copy->client, &request, NULL);
    if (done && fflush(stream) != 0) {
        cli_error("a temporary file can't be written: %s", strerror(errno));
        done = false;
    }
    if (done) {
        long length = ftell(stream);
        rewind(stream);
        if (is_directory) {
            cli_check(buf_append_str(target, STR("/?unpack")));
        }
        done = put(copy, buf_text(target), read_stream, stream, (uint64_t)length);
    }
    fclose(stream);
    return done;
}

/* The name under which it goes into a directory; none for "dir/." and "APP:/", whose content goes.
 */
static struct str name_of(const struct copy *copy) {
    const char *path = copy->source;
    if (remote_looks_like(path)) {
        path = strchr(path, ':') + 1;
    }
    struct str name = str_base_name(str_of(path));
    bool is_content = str_equal_text(name, ".") || str_equal_text(name, "..");
    return is_content ? (struct str){0} : name;
}

static bool copy_one(const struct copy *copy) {
    cleanup_buf struct buf source = {0};
    cleanup_buf struct buf target = {0};
    bool from_app = remote_looks_like(copy->source);
    bool to_app = remote_looks_like(copy->target);
    struct str name = copy->into ? name_of(copy) : (struct str){0};
    if (copy->into && strcmp(copy->source, "-") == 0) {
        cli_error("say what standard input is to be called: '%s' is a directory", copy->target);
        return false;
    }
    if (from_app && !remote_target(copy->source, false, &source)) {
        return false;
    }
    if (to_app) {
        if (!remote_target(copy->target, false, &target)) {
            return false;
        }
        if (name.length > 0) {
            cli_check(buf_append_byte(&target, '/'));
            text_encode(name, false, &target);
        }
        return from_app ? relay(copy, buf_text(&source), &target) : send_file(copy, &target);
    }
    cli_check(buf_append_str(&target, str_of(copy->target)));
    if (name.length > 0) {
        cli_check(buf_printf(&target, "/" STR_FORMAT, STR_ARGS(name)));
    }
    return receive(copy, buf_text(&source), buf_text(&target));
}

/* Whether the target is a directory now, or the way it is written says that it has to be one. */
static bool target_is_directory(const struct copy *copy, bool *ret_directory) {
    size_t length = strlen(copy->target);
    if (length > 0 && copy->target[length - 1] == '/') {
        *ret_directory = true;
        return true;
    }
    if (!remote_looks_like(copy->target)) {
        struct stat status;
        *ret_directory = stat(copy->target, &status) == 0 && S_ISDIR(status.st_mode);
        return true;
    }
    cleanup_buf struct buf target = {0};
    enum remote_kind kind;
    if (!remote_target(copy->target, false, &target) ||
        !remote_kind(copy->client, buf_text(&target), &kind)) {
        return false;
    }
    *ret_directory = kind == REMOTE_DIRECTORY;
    return true;
}

static int copy_all(struct client *client, const struct arguments *arguments, bool recursive) {
    struct copy copy = {
        .client = client, .target = arguments->list[arguments->count - 1], .recursive = recursive};
    if (!target_is_directory(&copy, &copy.into)) {
        return 1;
    }
    if (arguments->count > 2 && !copy.into) {
        return cli_error("'%s' is no directory, so only one thing can be copied there",
                         copy.target);
    }
    int status = 0;
    for (size_t i = 0; i + 1 < arguments->count; i++) {
        copy.source = arguments->list[i];
        status = copy_one(&copy) ? status : 1;
    }
    return status;
}

int cp_main(int argc, char **argv) {
    bool recursive = false;
    const struct argument_option options[] = {
        {.name = "recursive", .letter = 'r', .flag = &recursive}};
    struct arguments arguments = {.command = COMMAND_ROW(cp),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .count_min = 2,
                                  .count_max = SIZE_MAX};
    int status = arguments_parse(&arguments, argc, argv);
    for (size_t i = 0; !status && i + 1 < arguments.count; i++) {
        if (!remote_looks_like(arguments.list[i]) &&
            !remote_looks_like(arguments.list[arguments.count - 1])) {
            status = command_misused(COMMAND_ROW(cp), "neither '%s' nor '%s' is APP:/FILE",
                                     arguments.list[i], arguments.list[arguments.count - 1]);
        }
    }
    if (!status) {
        struct client *client = client_new(arguments.server);
        status = client ? copy_all(client, &arguments, recursive) : 1;
        client_free(client);
    }
    arguments_done(&arguments);
    return status;
}
