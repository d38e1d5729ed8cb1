/* `0asm create`: uploads a module, an archive or a directory. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/lines.h"
#include "cli/remote.h"
#include "cli/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE_NAME "app.wasm"

const char create_help[] =
    "FILE is a WebAssembly module (or its text form), or a tar with app.wasm and files of the "
    "program;\n'-' is standard input. DIR is sent as such a tar.\n\n"
    "  --from APP[@VERSION] the program of another app: FILE is a script or a tar of files, or "
    "left "
    "out\n"
    "  --file /PATH         where that script goes; /FILE if not given\n"
    "  --arg A              a default argument; may be repeated\n"
    "  --env KEY=VALUE      a default environment variable; may be repeated\n"
    "  --mount VOLUME:/PATH[:ro]\n"
    "                       a volume that several apps share; may be repeated\n"
    "  --net HOST[:PORT]    what it may reach: a host (may be repeated), 'public' or 'none'\n"
    "  --memory SIZE  --cpu TIME  --wall TIME  --output SIZE  --disk SIZE  --files N\n"
    "  --tmp SIZE  --open-files N  --max-runs N  --queue N  --queue-wait TIME\n"
    "  --instances N\n"
    "                       limits (docs/limits.md)\n"
    "  --root keep|fresh|ro|VOLUME  --ttl TIME\n"
    "                       where its runs' files go; how long a volume outlives its last use\n"
    "  --web off|private|public  --serve cgi|listen\n"
    "                       its web door\n"
    "  --new                refuse if there is an app of this name already\n\n"
    "An option that is not given stays as it was at an update.\n\n"
    "  0asm create hello hello.wasm\n"
    "  0asm create site build/ --env MODE=production --memory 64MiB\n"
    "  0asm create report main.py --from python --arg /main.py\n";

struct upload {
    struct event_lines lines;
    json_t *done; /* the last event, or NULL */
    bool failed;  /* the server said so, and it was told */
    int descriptor;
    struct tar_source *tar;
    const char *path;
};

static size_t read_file(void *context, char *data, size_t size) {
    struct upload *upload = context;
    for (;;) {
        ssize_t length = read(upload->descriptor, data, size);
        if (length >= 0) {
            return (size_t)length;
        }
        if (errno != EINTR) {
            cli_error("%s can't be read: %s", upload->path, strerror(errno));
            return SIZE_MAX;
        }
    }
}

/* --- progress and the answer ------------------------------------------------------------------ */

static bool on_event(void *context, json_t *event) {
    struct upload *upload = context;
    const char *kind = json_string_value(json_object_get(event, "event"));
    if (!kind) {
        return true;
    }
    if (strcmp(kind, "compiling") == 0) {
        client_show_progress("compiling %" JSON_INTEGER_FORMAT " s",
                             json_integer_value(json_object_get(event, "seconds")));
    } else if (strcmp(kind, "received") == 0) {
        client_show_progress("uploaded, checking");
    } else if (strcmp(kind, "error") == 0) {
        client_show_progress("%s", "");
        const char *detail = json_string_value(json_object_get(event, "detail"));
        cli_error("%s", detail ? detail : "the server refused the upload");
        upload->failed = true;
    } else if (strcmp(kind, "done") == 0) {
        json_decref(upload->done);
        upload->done = json_incref(event);
    }
    return true;
}

static bool on_events(void *context, const struct client_response *response, const char *data,
                      size_t length) {
    (void)response;
    struct upload *upload = context;
    return event_lines_add(&upload->lines, data, length, on_event, upload);
}

static void print_lines(const char *title, json_t *value) {
    struct str rest = str_of(json_string_value(value));
    if (rest.length > 0) {
        printf("  %s\n", title);
    }
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        fputs("    ", stdout);
        text_print(stdout, line);
        putchar('\n');
    }
}

static void print_done(const char *name, json_t *done) {
    char size[TEXT_BYTES_SIZE];
    text_format_bytes((uint64_t)json_integer_value(json_object_get(done, "bytes")), size);
    bool is_library = json_is_true(json_object_get(done, "library"));
    printf("%s: version %" JSON_INTEGER_FORMAT " is online (%s, compiled in %" JSON_INTEGER_FORMAT
           " ms)\n",
           name, json_integer_value(json_object_get(done, "version")), size,
           json_integer_value(json_object_get(done, "compile_ms")));
    print_lines("calling these imported functions ends a run, they are not known here:",
                json_object_get(done, "unknown_imports"));
    print_lines("no program sees this and what else is where the server has its own files:",
                json_object_get(done, "first_hidden"));
    print_lines("its first argument is no file that its runs see:",
                json_object_get(done, "missing"));
    if (is_library) {
        print_lines("it has no _start; its functions:", json_object_get(done, "exports"));
        printf("\nrun it:   0asm run %s --call FUNCTION -- ARGUMENTS\n", name);
    } else {
        printf("\nrun it:   0asm run %s\n", name);
    }
    printf("its log:  0asm log %s\n", name);
}

/* --- the upload ------------------------------------------------------------------------------- */

static bool open_directory(struct upload *upload, bool is_from) {
    if (is_from) {
        upload->tar = tar_source_new(upload->path);
        return upload->tar != NULL;
    }
    cleanup_buf struct buf module = {0};
    cli_check(buf_printf(&module, "%s/" MODULE_NAME, upload->path));
    struct stat status;
    if (stat(buf_text(&module), &status) != 0 || !S_ISREG(status.st_mode)) {
        cli_error("%s has no " MODULE_NAME ": name the module so, beside the files that it needs",
                  upload->path);
        return false;
    }
    upload->tar = tar_source_new(upload->path);
    return upload->tar != NULL;
}

/* Opens what is sent and says how in `request`. */
static bool open_upload(struct upload *upload, bool is_from, struct client_request *request) {
    struct stat status;
    if (!upload->path) { /* the program of another app, and no files */
        request->data = "";
        return true;
    }
    bool is_standard = strcmp(upload->path, "-") == 0;
    upload->descriptor = is_standard ? STDIN_FILENO : open(upload->path, O_RDONLY | O_CLOEXEC);
    if (upload->descriptor < 0 || fstat(upload->descriptor, &status) != 0) {
        cli_error("%s can't be read: %s", upload->path, strerror(errno));
        return false;
    }
    request->read = read_file;
    request->read_context = upload;
    request->length = CLIENT_LENGTH_UNKNOWN;
    if (S_ISDIR(status.st_mode)) {
        if (!open_directory(upload, is_from)) {
            return false;
        }
        request->read = tar_source_read;
        request->read_context = upload->tar;
    } else if (S_ISREG(status.st_mode) && !is_standard) {
        request->length = (uint64_t)status.st_size;
    }
    return true;
}

static void upload_done(struct upload *upload) {
    if (upload->descriptor > STDERR_FILENO) {
        close(upload->descriptor);
    }
    tar_source_free(upload->tar);
    event_lines_done(&upload->lines);
    json_decref(upload->done);
}

static int upload_program(struct client *client, const char *name, const char *path, bool is_from,
                          const struct buf *target) {
    struct upload upload = {.path = path, .descriptor = -1};
    bool at_terminal = isatty(STDERR_FILENO);
    cleanup_buf struct buf text = {0};
    cleanup_buf struct buf progress = {0};
    cli_check(buf_printf(&progress, "uploading %s", name));
    struct client_request request = {
        .method = "POST",
        .target = buf_text(target),
        .progress = buf_text(&progress),
    };
    if (at_terminal) {
        request.accept = "application/x-ndjson";
        request.write = on_events;
        request.write_context = &upload;
    } else {
        request.gather = &text;
    }
    bool done = open_upload(&upload, is_from, &request) && client_perform(client, &request, NULL) &&
                !upload.failed;
    if (done && at_terminal) {
        client_show_progress("%s", "");
        if (upload.done) {
            print_done(name, upload.done);
        } else {
            cli_error("the server did not say how it went; '0asm show %s' tells", name);
            done = false;
        }
    } else if (done) {
        text_print(stdout, buf_str(&text));
    }
    upload_done(&upload);
    return done ? 0 : 1;
}

/* Whether a file is one that goes to the app as it is: no directory, no archive by its name. */
static bool is_plain_file(const char *path) {
    static const char *const endings[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"};
    struct stat status;
    if (strcmp(path, "-") == 0 || stat(path, &status) != 0 || !S_ISREG(status.st_mode)) {
        return false;
    }
    size_t length = strlen(path);
    for (size_t i = 0; i < ARRAY_LENGTH(endings); i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && strcmp(path + length - ending, endings[i]) == 0) {
            return false;
        }
    }
    return true;
}

/* from= and, for a single file, file=. */
static void add_source(struct buf *target, const char *from, const char *file, const char *path) {
    text_add_parameter(target, "from", from);
    if (file) {
        text_add_parameter(target, "file", file);
    } else if (path && is_plain_file(path)) {
        cleanup_buf struct buf place = {0};
        struct str name = str_base_name(str_of(path));
        cli_check(buf_printf(&place, "/" STR_FORMAT, STR_ARGS(name)));
        text_add_parameter(target, "file", buf_text(&place));
    }
}

int create_main(int argc, char **argv) {
    cleanup_buf struct buf target = {0};
    bool is_new = false;
    const char *from = NULL, *file = NULL;
    const struct argument_option options[] = {
        {.name = "arg", .parameter = "arg"},
        {.name = "env", .parameter = "env"},
        {.name = "mount", .parameter = "mount"},
        {.name = "net", .parameter = "net"},
        {.name = "memory", .parameter = "memory"},
        {.name = "cpu", .parameter = "cpu"},
        {.name = "wall", .parameter = "wall"},
        {.name = "output", .parameter = "output"},
        {.name = "disk", .parameter = "disk"},
        {.name = "files", .parameter = "files"},
        {.name = "tmp", .parameter = "tmp"},
        {.name = "open-files", .parameter = "open_files"},
        {.name = "max-runs", .parameter = "max_runs"},
        {.name = "queue", .parameter = "queue"},
        {.name = "queue-wait", .parameter = "queue_wait"},
        {.name = "instances", .parameter = "instances"},
        {.name = "root", .parameter = "root"},
        {.name = "ttl", .parameter = "ttl"},
        {.name = "web", .parameter = "web"},
        {.name = "serve", .parameter = "serve"},
        {.name = "new", .flag = &is_new},
        {.name = "from", .text = &from},
        {.name = "file", .text = &file},
    };
    cli_check(buf_append_str(&target, STR("/create")));
    struct arguments arguments = {.command = COMMAND_ROW(create),
                                  .options = options,
                                  .option_count = ARRAY_LENGTH(options),
                                  .target = &target,
                                  .count_min = 1,
                                  .count_max = 2};
    int status = arguments_parse(&arguments, argc, argv);
    struct client *client = NULL;
    if (!status && !from && (file || arguments.count == 1)) {
        status = command_misused(arguments.command,
                                 file ? "--file needs --from APP" : "FILE is missing");
    }
    if (!status) {
        const char *name = arguments.list[0];
        const char *path = arguments.count == 2 ? arguments.list[1] : NULL;
        status = 1;
        if (remote_check_app_name(name)) {
            text_add_parameter(&target, "name", name);
            if (is_new) {
                text_add_parameter(&target, "new", NULL);
            }
            if (from) {
                add_source(&target, from, file, path);
            }
            client = client_new(arguments.server);
        }
        if (client) {
            status = upload_program(client, name, path, from != NULL, &target);
        }
    }
    client_free(client);
    arguments_done(&arguments);
    return status;
}
