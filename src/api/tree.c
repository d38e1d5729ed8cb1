#include "api/tree.h"

#include "dev/proc.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

struct str tree_path(const struct request *request) {
    struct str path = buf_str(&request->path);
    return (struct str){path.data + 1, path.length - 1};
}

/* Most have nothing to remove: no "//", and no "/." that could be a dot segment. */
static bool may_have_segments_to_remove(struct str path) {
    for (size_t i = 0; i + 1 < path.length; i++) {
        if (path.data[i] == '/' && (path.data[i + 1] == '/' || path.data[i + 1] == '.')) {
            return true;
        }
    }
    return path.length == 0 || path.data[0] != '/';
}

void tree_path_normalize(struct buf *path) {
    if (!may_have_segments_to_remove(buf_str(path))) {
        return;
    }
    char *text = (char *)path->data;
    size_t at = 0, length = 0; /* read up to, written up to; without a slash at the end */
    bool is_directory = false;
    while (at < path->length) {
        size_t begin = ++at; /* behind the slash */
        while (at < path->length && text[at] != '/') {
            at++;
        }
        struct str name = {text + begin, at - begin};
        is_directory = true;
        if (str_equal_text(name, "..")) {
            while (length > 0 && text[--length] != '/') {
            }
        } else if (name.length > 0 && !str_equal_text(name, ".")) {
            memmove(text + length, text + begin - 1, name.length + 1);
            length += name.length + 1;
            is_directory = false;
        }
    }
    if (is_directory || length == 0) {
        text[length++] = '/';
    }
    path->length = length;
    text[length] = '\0';
}

/* Splits "apps/NAME/files/REST" (or vol, apps/NAME/versions/N/files/REST, proc/ID/root/REST) before
 * REST. False if the path is
 * none of those, or REST is empty. The path has no dots that mean directories (api.c). */
static bool split_behind_files(struct str path, struct str *ret_files, struct str *ret_rest) {
    struct str rest = path;
    struct str device = str_cut(&rest, '/');
    str_cut(&rest, '/');
    struct str entry = str_cut(&rest, '/');
    if (str_equal_text(device, "apps") && str_equal_text(entry, "versions")) {
        str_cut(&rest, '/');
        entry = str_cut(&rest, '/');
    }
    const char *files = str_equal_text(device, "apps") || str_equal_text(device, "vol") ? "files"
                        : str_equal_text(device, "proc")                                ? "root"
                                                                                        : NULL;
    if (!files || !str_equal_text(entry, files) || rest.length == 0) {
        return false;
    }
    *ret_files = (struct str){path.data, (size_t)(entry.data + entry.length - path.data)};
    *ret_rest = rest;
    return true;
}

static enum err walk_in(struct request *request, struct ns_walk *walk, struct ns *ns,
                        struct str path, unsigned flags, struct ns_walk_result *ret_result) {
    struct ns_place root = ns_root(ns);
    enum err err = ns_walk(&request->op, walk, ns, &root, path, flags, ret_result);
    ns_place_done(&root);
    return err;
}

enum err tree_walk(struct request *request, struct tree_walk *walk, struct str path,
                   unsigned ns_walk_flags, struct ns_walk_result *ret_result) {
    struct str files, rest;
    if (!split_behind_files(path, &files, &rest)) {
        return walk_in(request, &walk->walk, request->api->tree, path, ns_walk_flags, ret_result);
    }
    if (!walk->files) {
        struct ns_walk_result found = {0};
        enum err err = walk_in(request, &walk->walk, request->api->tree, files, 0, &found);
        if (err) {
            return err;
        }
        ns_walk_done(&walk->walk);
        err = found.place.file->type == FILE_DIRECTORY ? ns_new(found.place.file, &walk->files)
                                                       : ERR_NOTDIR;
        ns_place_done(&found.place);
        if (err) {
            return err;
        }
    }
    return walk_in(request, &walk->walk, walk->files, rest, ns_walk_flags, ret_result);
}

void tree_walk_done(struct tree_walk *walk) {
    ns_walk_done(&walk->walk);
    ns_unref(STEAL(walk->files));
}

static bool is_any_name(struct str first_name) {
    (void)first_name;
    return true;
}

bool (*tree_hidden_in(struct str path))(struct str first_name) {
    struct str rest = path;
    str_cut(&rest, '/');
    struct str top = str_cut(&rest, '/');
    str_cut(&rest, '/');
    struct str files = str_cut(&rest, '/');
    if (!str_equal_text(top, "apps") || !str_equal_text(files, "files")) {
        return NULL;
    }
    struct str first = str_cut(&rest, '/');
    return first.length == 0 ? app_is_system_name : app_is_system_name(first) ? is_any_name : NULL;
}

bool tree_is_unseen(struct request *request, const struct buf *path) {
    struct str rest = buf_str(path);
    str_cut(&rest, '/');
    struct str top = str_cut(&rest, '/');
    struct str name = str_cut(&rest, '/');
    struct app *app = NULL;
    if (!str_equal_text(top, "apps") || !str_equal_text(str_cut(&rest, '/'), "files") ||
        !app_is_system_name(str_cut(&rest, '/')) ||
        catalog_find(request->api->catalog, name, &app) != ERR_OK) {
        return false;
    }
    app_unref(app);
    request_fail_status(request, 409,
                        "%s: no program would see it, because the server has its own files there "
                        "(" APP_SYSTEM_NAMES "); take another place",
                        buf_text(path));
    return true;
}

void tree_etag(const struct file_stat *stat, char etag[TREE_ETAG_SIZE]) {
    etag[0] = 0;
    if (stat->version != 0) {
        snprintf(etag, TREE_ETAG_SIZE, "\"%" PRIx64 "-%" PRIx64 "\"", stat->inode, stat->version);
    }
}

bool tree_etag_matches(struct str list, const char *etag, bool has_to_be_strong) {
    while (list.length > 0) {
        struct str item = str_cut(&list, ',');
        while (item.length > 0 && (item.data[0] == ' ' || item.data[0] == '\t')) {
            item.data++;
            item.length--;
        }
        while (item.length > 0 && item.data[item.length - 1] == ' ') {
            item.length--;
        }
        if (!has_to_be_strong && str_starts(item, STR("W/"))) {
            item.data += 2;
            item.length -= 2;
        }
        if (str_equal_text(item, "*") || (etag[0] && str_equal_text(item, etag))) {
            return true;
        }
    }
    return false;
}

void tree_fail_precondition(struct request *request) {
    request_fail_status(request, 412, "%s has changed meanwhile, or is not there as expected",
                        buf_text(&request->path));
}

bool tree_preconditions_hold(struct request *request, const struct file_stat *stat) {
    char etag[TREE_ETAG_SIZE] = "";
    if (stat) {
        tree_etag(stat, etag);
    }
    struct str match = http_header(request->exchange, "If-Match");
    struct str none_match = http_header(request->exchange, "If-None-Match");
    bool holds = !match.data || (stat && tree_etag_matches(match, etag, true));
    if (none_match.data && stat && tree_etag_matches(none_match, etag, false)) {
        holds = false;
    }
    if (!holds) {
        tree_fail_precondition(request);
    }
    return holds;
}

const struct file_expected *tree_expected(const struct request *request,
                                          const struct file_stat *stat,
                                          struct file_expected *room) {
    if (!http_header(request->exchange, "If-Match").data &&
        !http_header(request->exchange, "If-None-Match").data) {
        return NULL;
    }
    *room = stat ? (struct file_expected){.inode = stat->inode, .version = stat->version}
                 : (struct file_expected){0};
    return room;
}

const char *tree_content_type(struct str name) {
    static const struct {
        const char *ending, *type;
    } rows[] = {
        {".txt", "text/plain; charset=utf-8"},
        {".md", "text/plain; charset=utf-8"},
        {".html", "text/html; charset=utf-8"},
        {".htm", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".map", "application/json"},
        {".webmanifest", "application/manifest+json"},
        {".json", "application/json"},
        {".csv", "text/csv; charset=utf-8"},
        {".xml", "application/xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},
        {".gif", "image/gif"},
        {".svg", "image/svg+xml"},
        {".webp", "image/webp"},
        {".avif", "image/avif"},
        {".ico", "image/x-icon"},
        {".woff", "font/woff"},
        {".woff2", "font/woff2"},
        {".ttf", "font/ttf"},
        {".otf", "font/otf"},
        {".mp3", "audio/mpeg"},
        {".ogg", "audio/ogg"},
        {".wav", "audio/wav"},
        {".mp4", "video/mp4"},
        {".webm", "video/webm"},
        {".pdf", "application/pdf"},
        {".wasm", "application/wasm"},
        {".tar", "application/x-tar"},
        {".gz", "application/gzip"},
        {".zip", "application/zip"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        size_t length = strlen(rows[i].ending);
        if (name.length > length &&
            strncasecmp(name.data + name.length - length, rows[i].ending, length) == 0) {
            return rows[i].type;
        }
    }
    return "application/octet-stream";
}

static bool has_run(const struct request *request, struct str id_text) {
    uint64_t id = 0;
    struct run *run = NULL;
    if (str_to_u64(id_text, &id) || id_text.data[0] == '0' ||
        runs_find(request->api->runs, id, &run)) {
        return false;
    }
    run_unref(run);
    return true;
}

bool tree_is_past(struct request *request) {
    struct str rest = buf_str(&request->path);
    str_cut(&rest, '/');
    bool is_of_run = str_equal_text(str_cut(&rest, '/'), "proc");
    struct str id_text = str_cut(&rest, '/');
    uint64_t id = 0;
    struct run *run = NULL;
    if (!is_of_run || !str_equal_text(str_cut(&rest, '/'), "root") || str_to_u64(id_text, &id) ||
        runs_find(request->api->runs, id, &run)) {
        return false;
    }
    bool is_past = dev_proc_may_see(&request->who, run) && run_status(run).state == RUN_ENDED;
    run_unref(run);
    if (is_past) {
        request_fail(request,
                     buf_fail(&request->message, ERR_ROFS,
                              "run " STR_FORMAT " has ended: what it wrote is for reading; change "
                              "the files of an app or a volume instead",
                              STR_ARGS(id_text)),
                     &request->message);
    }
    return is_past;
}

/* What can be done at the path, where that is no file of the tree but a row of its own in routes.c,
 * and the app is there. NULL: nothing. */
static const char *method_of_no_file(struct str path) {
    struct str rest = path;
    str_cut(&rest, '/');
    bool is_of_app = str_equal_text(str_cut(&rest, '/'), "apps") && str_cut(&rest, '/').length > 0;
    return is_of_app && str_equal_text(rest, "rollback") ? "POST" : NULL;
}

void tree_fail(struct request *request, enum err err) {
    tree_fail_at(request, &request->path, err);
}

void tree_fail_at(struct request *request, const struct buf *at, enum err err) {
    if (request->message.length == 0) {
        struct str path = buf_str(at);
        struct str rest = {path.data + 1, path.length - 1};
        struct str first = str_cut(&rest, '/');
        struct str second = str_cut(&rest, '/');
        struct app *app = NULL;
        if (err == ERR_NOENT && str_equal_text(first, "apps") &&
            catalog_find(request->api->catalog, second, &app) == ERR_NOENT) {
            err = buf_fail(&request->message, err,
                           "no app named '" STR_FORMAT "'; GET /apps lists them", STR_ARGS(second));
        } else if (err == ERR_NOENT && str_equal_text(first, "proc") && !has_run(request, second)) {
            err = buf_fail(&request->message, err,
                           "no run " STR_FORMAT "; GET /proc lists those that run or ended lately",
                           STR_ARGS(second));
        } else if (at == &request->path && method_of_no_file(path)) {
            request->allow = method_of_no_file(path);
            err = buf_fail(&request->message, ERR_NOTSUP,
                           STR_FORMAT " can't be done here; this path has: %s",
                           STR_ARGS(http_method(request->exchange)), request->allow);
        } else {
            err = buf_fail(&request->message, err, "%s: %s", buf_text(at), err_text(err));
        }
        app_unref(app);
    }
    request_fail(request, err, &request->message);
}
