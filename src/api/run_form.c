#include "api/run_form.h"

#include "http/multipart.h"
#include "ns/memory.h"

#include <inttypes.h>

enum part { PART_OPTION, PART_FILE, PART_INPUT };

struct field { /* where it is in `text` */
    size_t name, name_length, value, value_length;
};

struct run_form {
    struct request *request;
    const char *const *parameters;
    struct multipart multipart;
    enum part part; /* the one that is being read */
    unsigned part_count;
    struct buf text; /* names and values, each followed by a NUL */
    struct field *fields;
    size_t field_count, field_capacity;
    struct file *files, *inputs; /* roots of memory, or NULL */
    struct file *input;          /* the only file of `inputs` */
    struct file *written;        /* what the part is written to */
    uint64_t offset;             /* in that */
    uint64_t body_bytes;
    uint64_t held_bytes; /* counted in api->forms_bytes */
};

bool run_form_is_wanted(const struct request *request) {
    return http_has_body(request->exchange) &&
           multipart_is_form(http_header(request->exchange, "Content-Type"));
}

struct run_form *run_form_new(struct request *request, const char *const *parameters) {
    struct run_form *form = calloc(1, sizeof *form);
    if (!form) {
        request_fail(request, ERR_NOMEM, NULL);
        return NULL;
    }
    form->request = request;
    form->parameters = parameters;
    enum err err = multipart_init(&form->multipart, http_header(request->exchange, "Content-Type"),
                                  &request->message);
    if (err) {
        request_fail(request, err, &request->message);
        run_form_free(form);
        return NULL;
    }
    return form;
}

/* ---- limits ---- */

/* An option that came in the query or as a field. */
static struct str option(const struct run_form *form, const char *name) {
    const struct query_pair *pair = query_find(&form->request->query, name);
    if (pair) {
        return pair->value;
    }
    const char *text = buf_text(&form->text);
    for (size_t i = 0; i < form->field_count; i++) {
        const struct field *field = &form->fields[i];
        if (str_equal_text((struct str){text + field->name, field->name_length}, name)) {
            return (struct str){text + field->value, field->value_length};
        }
    }
    return (struct str){0};
}

/* What files may take: as much as a layer of root=fresh, by what is known so far of the app. When
 * the run starts it is looked at again. */
static uint64_t bytes_max(const struct run_form *form, const char **ret_limit) {
    const struct api *api = form->request->api;
    const struct run_limits *defaults = &runs_get_options(api->runs)->defaults;
    uint64_t tmp = defaults->tmp_bytes, disk = defaults->disk_bytes;
    struct app *app = NULL;
    struct str name = option(form, "name");
    if (name.data && catalog_find(api->catalog, name, &app) == ERR_OK) {
        tmp = app->limits.tmp_bytes ? app->limits.tmp_bytes : tmp;
        disk = app->limits.disk_bytes ? app->limits.disk_bytes : disk;
        app_unref(app);
    }
    *ret_limit = disk && disk < tmp ? "disk" : "tmp";
    return disk && disk < tmp ? disk : tmp;
}

static bool fail_full(struct run_form *form) {
    const char *limit;
    uint64_t most = bytes_max(form, &limit);
    request_fail_status(form->request, 413,
                        "the %s of the form is larger than the limit %s of %" PRIu64 " bytes; %s",
                        form->part == PART_INPUT ? "standard input" : "files' content", limit, most,
                        form->part == PART_INPUT ? "send it as the body"
                                                 : "PUT large files to /vol/NAME/files, and run "
                                                   "with root=NAME");
    return false;
}

/* ---- parts ---- */

/* Where a root of memory is needed: with the limit that holds now. */
static bool need_memory(struct run_form *form, struct file **root) {
    const char *limit;
    struct memory_options options = {.bytes_max = bytes_max(form, &limit),
                                     .inodes_max = RUN_FORM_PARTS_MAX * 2};
    if (*root) {
        memory_set_limits(*root, &options);
        return true;
    }
    enum err err = memory_new(&options, root);
    if (err) {
        request_fail(form->request, err, NULL);
    }
    return !err;
}

const char *run_form_path_fault(struct str path) {
    if (path.length > RUN_FORM_PATH_MAX) {
        return "is longer than 4096 bytes";
    }
    struct str rest = {path.data + 1, path.length - 1};
    for (size_t depth = 0; rest.data; depth++) {
        struct str name = str_cut(&rest, '/');
        if (name.length == 0) {
            return rest.data ? "has an empty component" : "ends in a slash, but it is for a file";
        }
        if (str_equal_text(name, ".") || str_equal_text(name, "..")) {
            return "has a component '.' or '..'";
        }
        if (name.length > 255 || depth == RUN_FORM_DEPTH_MAX) {
            return "is too deep (64 components), or has a name of more than 255 bytes";
        }
        if (depth == 0 && app_is_system_name(name)) {
            return "is in a directory of the system, where no run would see it";
        }
    }
    return NULL;
}

/* Memory never waits. */
static enum err make_file(struct run_form *form, struct str path) {
    struct op *op = &form->request->op;
    struct file *directory = file_ref(form->files);
    struct str rest = {path.data + 1, path.length - 1};
    enum err err = ERR_OK;
    while (!err && rest.data) {
        struct str name = str_cut(&rest, '/');
        struct file *found = NULL;
        size_t walked = 0;
        err = file_walk(op, directory, &name, 1, &walked, &found);
        bool is_last = !rest.data;
        if (!err && (is_last || found->type != FILE_DIRECTORY)) {
            err = ERR_EXIST;
        } else if (err == ERR_NOENT) {
            err = file_create(op, directory, name, is_last ? FILE_REGULAR : FILE_DIRECTORY, &found);
        }
        if (err) {
            file_unref(found);
            break;
        }
        file_unref(directory);
        directory = found;
    }
    if (err) {
        file_unref(directory);
        return err;
    }
    form->written = directory;
    return ERR_OK;
}

static bool begin_file(struct run_form *form, struct str path) {
    const char *fault = run_form_path_fault(path);
    if (fault) {
        request_fail_status(form->request, 400, "the file '" STR_FORMAT "' of the form %s",
                            STR_ARGS(path), fault);
        return false;
    }
    if (!need_memory(form, &form->files)) {
        return false;
    }
    enum err err = make_file(form, path);
    if (err == ERR_EXIST) {
        request_fail_status(form->request, 400,
                            "'" STR_FORMAT "' is given twice in the form, or is in what is a file",
                            STR_ARGS(path));
    } else if (err) {
        request_fail(form->request, err, NULL);
    }
    return !err;
}

static bool begin_input(struct run_form *form) {
    if (form->inputs) {
        request_fail_status(form->request, 400, "'stdin' is given twice in the form");
        return false;
    }
    if (!need_memory(form, &form->inputs)) {
        return false;
    }
    enum err err =
        file_create(&form->request->op, form->inputs, STR("stdin"), FILE_REGULAR, &form->input);
    if (err) {
        request_fail(form->request, err, NULL);
        return false;
    }
    form->written = file_ref(form->input);
    return true;
}

static bool is_among(struct str name, const char *const *words) {
    while (*words && !str_equal_text(name, *words)) {
        words++;
    }
    return *words;
}

static bool begin_option(struct run_form *form, struct str name) {
    static const char *const repeated[] = {"arg", "env", "tag", NULL};
    if (!is_among(name, form->parameters)) {
        if (name.length > 0) {
            request_fail_unknown_parameter(form->request, name, form->parameters);
        } else {
            request_fail_status(form->request, 400, "a field of the form has an empty name");
        }
        return false;
    }
    char word[64];
    snprintf(word, sizeof word, STR_FORMAT, STR_ARGS(name));
    if (!is_among(name, repeated) && option(form, word).data) {
        request_fail_status(form->request, 400, "'%s' is given twice", word);
        return false;
    }
    if (form->field_count == form->field_capacity) {
        size_t capacity = form->field_capacity ? form->field_capacity * 2 : 16;
        struct field *fields = reallocarray(form->fields, capacity, sizeof *fields);
        if (!fields) {
            request_fail(form->request, ERR_NOMEM, NULL);
            return false;
        }
        form->fields = fields;
        form->field_capacity = capacity;
    }
    struct field field = {.name = form->text.length, .name_length = name.length};
    enum err err = buf_append_str(&form->text, name);
    err = err ? err : buf_append_byte(&form->text, 0);
    if (err) {
        request_fail(form->request, err, NULL);
        return false;
    }
    field.value = form->text.length;
    form->fields[form->field_count++] = field;
    return true;
}

static bool begin_part(struct run_form *form) {
    struct str name = buf_str(&form->multipart.name);
    if (++form->part_count > RUN_FORM_PARTS_MAX) {
        request_fail_status(form->request, 413, "the form has more than %d parts",
                            RUN_FORM_PARTS_MAX);
        return false;
    }
    form->offset = 0;
    if (name.length > 0 && name.data[0] == '/') {
        form->part = PART_FILE;
        return begin_file(form, name);
    }
    form->part = str_equal_text(name, "stdin") ? PART_INPUT : PART_OPTION;
    return form->part == PART_INPUT ? begin_input(form) : begin_option(form, name);
}

static bool add_to_option(struct run_form *form, struct str data) {
    if (data.length >
        RUN_FORM_OPTIONS_BYTES_MAX - MIN(form->text.length, (size_t)RUN_FORM_OPTIONS_BYTES_MAX)) {
        request_fail_status(form->request, 413,
                            "the options in the form have more than %d bytes; a file has a name "
                            "that begins with a slash",
                            RUN_FORM_OPTIONS_BYTES_MAX);
        return false;
    }
    enum err err = buf_append_str(&form->text, data);
    if (err) {
        request_fail(form->request, err, NULL);
    }
    return !err;
}

static bool add_to_file(struct run_form *form, struct str data) {
    struct api *api = form->request->api;
    form->held_bytes += data.length;
    uint64_t held = atomic_fetch_add(&api->forms_bytes, data.length) + data.length;
    if (held > RUN_FORMS_BYTES_MAX) {
        request_fail_status(form->request, 503,
                            "the forms that come in at this moment are too large together; try "
                            "again later");
        return false;
    }
    while (data.length > 0) {
        size_t written = 0;
        enum err err = file_write(&form->request->op, form->written, data.data, data.length,
                                  form->offset, &written);
        if (err == ERR_NOSPC) {
            return fail_full(form);
        }
        if (err) {
            request_fail(form->request, err, NULL);
            return false;
        }
        form->offset += written;
        data.data += written;
        data.length -= written;
    }
    return true;
}

static bool end_part(struct run_form *form) {
    file_unref(STEAL(form->written));
    if (form->part != PART_OPTION) {
        return true;
    }
    struct field *field = &form->fields[form->field_count - 1];
    field->value_length = form->text.length - field->value;
    struct str value = {buf_text(&form->text) + field->value, field->value_length};
    if (!str_is_utf8(value) || (value.length && memchr(value.data, 0, value.length))) {
        request_fail_status(form->request, 400,
                            "'" STR_FORMAT "' in the form is not UTF-8 text without NUL",
                            (int)field->name_length, buf_text(&form->text) + field->name);
        return false;
    }
    enum err err = buf_append_byte(&form->text, 0);
    if (err) {
        request_fail(form->request, err, NULL);
    }
    return !err;
}

bool run_form_body(struct run_form *form, const uint8_t *data, size_t length) {
    struct request *request = form->request;
    if (length > request->api->limits.upload_bytes_max - form->body_bytes) {
        request_fail_status(request, 413,
                            "the form is larger than the limit upload of %" PRIu64 " bytes",
                            request->api->limits.upload_bytes_max);
        return false;
    }
    form->body_bytes += length;
    struct str input = {(const char *)data, length};
    for (;;) {
        enum multipart_event event;
        struct str piece;
        enum err err = multipart_next(&form->multipart, &input, &event, &piece, &request->message);
        if (err) {
            request_fail(request, err, &request->message);
            return false;
        }
        bool is_good = true;
        switch (event) {
        case MULTIPART_MORE:
        case MULTIPART_END:
            return true;
        case MULTIPART_PART:
            is_good = begin_part(form);
            break;
        case MULTIPART_DATA:
            is_good =
                form->part == PART_OPTION ? add_to_option(form, piece) : add_to_file(form, piece);
            break;
        case MULTIPART_PART_END:
            is_good = end_part(form);
            break;
        }
        if (!is_good) {
            return false;
        }
    }
}

/* ---- the end ---- */

/* The query with the fields behind it. */
static enum err merge(struct run_form *form) {
    struct query *query = &form->request->query;
    struct query_pair *pairs = calloc(query->count + form->field_count + 1, sizeof *pairs);
    if (!pairs) {
        return ERR_NOMEM;
    }
    if (query->count > 0) {
        memcpy(pairs, query->pairs, query->count * sizeof *pairs);
    }
    const char *text = buf_text(&form->text);
    for (size_t i = 0; i < form->field_count; i++) {
        const struct field *field = &form->fields[i];
        pairs[query->count + i] =
            (struct query_pair){.name = {text + field->name, field->name_length},
                                .value = {text + field->value, field->value_length},
                                .has_value = true};
    }
    free(query->pairs);
    query->pairs = pairs;
    query->count += form->field_count;
    return ERR_OK;
}

/* Whether a path, or something below it, is among the files. */
static bool has_path(struct run_form *form, struct str path) {
    struct file *at = file_ref(form->files);
    struct str rest = {path.data + 1, path.length - 1};
    enum err err = ERR_OK;
    while (!err && rest.data) {
        struct str name = str_cut(&rest, '/');
        struct file *found = NULL;
        size_t walked = 0;
        err = file_walk(&form->request->op, at, &name, 1, &walked, &found);
        if (!err) {
            file_unref(at);
            at = found;
        }
    }
    file_unref(at);
    return !err;
}

/* A file below a mounted volume would be hidden. */
static bool check_mounts(struct run_form *form) {
    struct app *app = NULL;
    struct str name = request_parameter(form->request, "name");
    if (!form->files || !name.data ||
        catalog_find(form->request->api->catalog, name, &app) != ERR_OK) {
        return true; /* that there is no such app is said later */
    }
    bool is_good = true;
    for (size_t i = 0; i < app->mount_count && is_good; i++) {
        is_good = !has_path(form, str_of(app->mounts[i].path));
        if (!is_good) {
            request_fail_status(form->request, 400,
                                "a file of the form is at or below %s, where the volume '%s' is "
                                "mounted; PUT it to /vol/%s/files",
                                app->mounts[i].path, app->mounts[i].volume, app->mounts[i].volume);
        }
    }
    app_unref(app);
    return is_good;
}

bool run_form_end(struct run_form *form) {
    struct request *request = form->request;
    if (form->multipart.state != MULTIPART_ENDED) {
        request_fail_status(request, 400,
                            form->multipart.state == MULTIPART_PREAMBLE
                                ? "the body has nothing of a form with the boundary that its "
                                  "Content-Type names"
                                : "the form ends before its last boundary");
        return false;
    }
    enum err err = merge(form);
    if (err) {
        request_fail(request, err, NULL);
        return false;
    }
    return check_mounts(form);
}

struct file *run_form_files(const struct run_form *form) {
    return form->files;
}

struct file *run_form_input(const struct run_form *form) {
    return form->input;
}

void run_form_release(struct run_form *form) {
    file_unref(STEAL(form->written));
    file_unref(STEAL(form->files));
    file_unref(STEAL(form->input));
    file_unref(STEAL(form->inputs));
    atomic_fetch_sub(&form->request->api->forms_bytes, form->held_bytes);
    form->held_bytes = 0;
}

void run_form_free(struct run_form *form) {
    if (!form) {
        return;
    }
    run_form_release(form);
    multipart_done(&form->multipart);
    buf_done(&form->text);
    free(form->fields);
    free(form);
}
