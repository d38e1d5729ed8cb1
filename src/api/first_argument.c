#include "api/first_argument.h"

static bool is_below(struct str path, struct str directory) {
    return str_starts(path, directory) &&
           (path.length == directory.length || path.data[directory.length] == '/');
}

/* Whether it leads through a directory that is mounted, or to where a mount is. */
static bool is_of_mount(const struct app *app, struct str path) {
    bool is_of = false;
    for (size_t i = 0; i < app->mount_count; i++) {
        struct str mount = str_of(app->mounts[i].path);
        is_of |= is_below(path, mount) || is_below(mount, path);
    }
    return is_of;
}

/* Whether all that runs see at `/` is what is at /apps/NAME/files. */
static bool has_root_of_its_own_files(const struct app *app) {
    return !app->root || app_is_root_mode(str_of(app->root));
}

/* An absolute path, of which can be told by its text where it leads, and that can be shown. */
static bool is_plain_path(const char *text) {
    bool is_plain = text[0] == '/' && text[1] && !strstr(text, "//") && !strstr(text, "/.") &&
                    str_is_utf8(str_of(text));
    for (const char *at = text; is_plain && *at; at++) {
        is_plain = (unsigned char)*at >= ' ' && *at != 0x7f;
    }
    return is_plain;
}

/* The first argument, or nothing if it may be meant in another way. */
static struct str path_of(const struct app *app) {
    const char *text = app->arguments ? app->arguments[0] : NULL;
    if (!text || !is_plain_path(text) || !app->version.from_name[0] ||
        !has_root_of_its_own_files(app)) {
        return (struct str){0};
    }
    struct str path = str_of(text), rest = {text + 1, strlen(text) - 1};
    bool is_elsewhere = app_is_system_name(str_cut(&rest, '/')) || is_of_mount(app, path);
    return is_elsewhere ? (struct str){0} : path;
}

enum err first_argument_look(struct request *request, const struct app *app,
                             struct first_argument *look) {
    struct str path = path_of(app);
    if (path.length == 0) {
        return ERR_OK;
    }
    enum err err = ERR_OK;
    if (look->path.length == 0) {
        err = buf_printf(&look->path, "apps/%s/files" STR_FORMAT, app->name, STR_ARGS(path));
    }
    err =
        err ? err : tree_walk(request, &look->walk, buf_str(&look->path), NS_FOLLOW, &look->found);
    if (err != ERR_PENDING) {
        look->is_missing = err == ERR_NOENT || err == ERR_NOTDIR;
        err = ERR_OK; /* else nothing is known of it; the next run says more */
    }
    return err;
}

void first_argument_done(struct first_argument *look) {
    ns_place_done(&look->found.place);
    tree_walk_done(&look->walk);
    buf_done(&look->path);
}

enum err first_argument_tell(const struct first_argument *look, const struct app *app,
                             const char *indent, struct buf *text) {
    return look->is_missing
               ? buf_printf(text,
                            "%s%s, its first argument, is no file that its runs see: upload it "
                            "there, or give another arg=\n",
                            indent, app->arguments[0])
               : ERR_OK;
}

void first_argument_tell_json(const struct first_argument *look, const struct app *app,
                              json_t *json) {
    if (json && look->is_missing) {
        json_object_set_new(json, "missing", json_string(app->arguments[0]));
    }
}
