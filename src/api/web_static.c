/* The files below /www of an app, as its runs see them: served without starting anything. */
#include "api/web_internal.h"
#include "dev/root.h"

/* What means no more than that there is no such page: names that no file has, links that lead out
 * of /www. */
static enum err as_missing(enum err err) {
    switch (err) {
    case ERR_NOTDIR:
    case ERR_ISDIR:
    case ERR_PERM:
    case ERR_LOOP:
    case ERR_NAMETOOLONG:
    case ERR_ILSEQ:
    case ERR_INVAL:
        return ERR_NOENT;
    default:
        return err;
    }
}

/* A name that begins with a dot is no page: it is what tools keep beside the pages (.git, .env).
 * But
 * /.well-known/ is meant to be seen (RFC 8615). */
static bool is_hidden(struct str path) {
    for (bool is_first = true; path.length > 0;) {
        struct str name = str_cut(&path, '/');
        bool is_well_known = is_first && str_equal_text(name, ".well-known");
        if (name.length > 0 && name.data[0] == '.' && !is_well_known) {
            return true;
        }
        is_first &= name.length == 0;
    }
    return false;
}

/* Looks for /www where it usually is, or is not: most apps that answer themselves have none, and
 * shall pay little for the question. AGAIN: it can't be told so simply. */
static enum err look_for_directory(struct web *web, struct file **ret_directory) {
    struct request *request = web->request;
    struct file *file = NULL;
    enum err err =
        dev_root_peek_file(&request->op, request->api->root, web->app, STR("www"), &file);
    if (err) {
        return err;
    }
    if (file->type == FILE_DIRECTORY) {
        *ret_directory = file;
        return ERR_OK;
    }
    err = file->type == FILE_SYMBOLIC_LINK ? ERR_AGAIN : ERR_NOENT;
    file_unref(file);
    return err;
}

/* Waits for the volume, and follows links. */
static enum err walk_to_directory(struct web *web, struct file **ret_directory) {
    struct web_static *pages = &web->pages;
    if (pages->path.length == 0) {
        enum err err = buf_printf(&pages->path, "apps/%s/files/www", web->app->name);
        if (err) {
            return err;
        }
    }
    struct ns_walk_result found = {0};
    enum err err =
        tree_walk(web->request, &pages->tree_walk, buf_str(&pages->path), NS_FOLLOW, &found);
    if (err) {
        return err;
    }
    pages->path.length = 0;
    if (found.place.file->type == FILE_DIRECTORY) {
        *ret_directory = file_ref(found.place.file);
    } else {
        err = ERR_NOENT;
    }
    ns_place_done(&found.place);
    return err;
}

/* Finds /www of the app, its volume over its version's files. */
static enum err find_directory(struct web *web) {
    struct web_static *pages = &web->pages;
    struct file *directory = NULL;
    enum err err = pages->is_walked_to ? ERR_AGAIN : look_for_directory(web, &directory);
    if (err == ERR_AGAIN) {
        pages->is_walked_to = true;
        err = walk_to_directory(web, &directory);
    }
    if (err) {
        return err;
    }
    err = ns_new(directory, &pages->pages);
    file_unref(directory);
    if (!err) {
        struct str path = web->path_info;
        while (path.length > 0 && path.data[0] == '/') {
            path.data++;
            path.length--;
        }
        err = buf_append_str(&pages->path, path);
    }
    return err;
}

static enum err walk(struct web *web) {
    struct web_static *pages = &web->pages;
    struct ns_place root = ns_root(pages->pages);
    enum err err = ERR_OK;
    if (pages->path.length == 0) {
        pages->found.place = root;
        return ERR_OK;
    }
    err = ns_walk(&web->request->op, &pages->walk, pages->pages, &root, buf_str(&pages->path),
                  NS_FOLLOW, &pages->found);
    ns_place_done(&root);
    return err;
}

/* A page of a directory has to be asked for with a slash at the end, or its relative links would
 * lead elsewhere. */
static enum err send_to_directory(struct web *web) {
    return web_send_to(web, 301, web->path_info);
}

static void answer(struct web *web) {
    struct web_static *pages = &web->pages;
    pages->stage = STATIC_ANSWERED;
    if (web_add_headers(web)) {
        web_fail(web, 503, "the server is out of memory");
        return;
    }
    const char *type = tree_content_type(str_base_name(buf_str(&pages->path)));
    file_answer(&pages->answer, web->request, pages->opened, &pages->stat, type, true);
}

/* A directory was found: its index.html is wanted. */
static enum err look_for_index(struct web *web) {
    struct web_static *pages = &web->pages;
    struct buf *path = &pages->path;
    if (pages->is_index) {
        return ERR_NOENT; /* index.html is a directory itself */
    }
    bool has_slash = path->length == 0 || path->data[path->length - 1] == '/';
    ns_walk_done(&pages->walk);
    ns_place_done(&pages->found.place);
    pages->found = (struct ns_walk_result){0};
    pages->is_index = true;
    return buf_printf(path, "%sindex.html", has_slash ? "" : "/");
}

static enum err step_once(struct web *web) {
    struct web_static *pages = &web->pages;
    struct request *request = web->request;
    enum err err = ERR_OK;
    switch (pages->stage) {
    case STATIC_DIRECTORY:
        if (is_hidden(web->path_info)) {
            return ERR_NOENT;
        }
        err = find_directory(web);
        pages->stage = err ? pages->stage : STATIC_PATH;
        return err;
    case STATIC_PATH:
    case STATIC_INDEX:
        err = walk(web);
        pages->stage = err ? pages->stage : STATIC_STAT;
        return err;
    case STATIC_STAT:
        err = file_stat(&request->op, pages->found.place.file, &pages->stat);
        if (err) {
            return err;
        }
        if (pages->stat.type == FILE_DIRECTORY) {
            pages->stage = STATIC_INDEX;
            return look_for_index(web);
        }
        pages->stage = STATIC_OPEN;
        return pages->stat.type == FILE_REGULAR ? ERR_OK : ERR_NOENT;
    case STATIC_OPEN: {
        struct str path = web->path_info;
        bool has_slash = path.length > 0 && path.data[path.length - 1] == '/';
        if (pages->is_index && !has_slash) {
            pages->stage = STATIC_ANSWERED;
            return send_to_directory(web);
        }
        err = file_open(&request->op, pages->found.place.file, OPEN_READ, &pages->opened);
        pages->stage = err ? pages->stage : STATIC_STAT_OPENED;
        return err;
    }
    case STATIC_STAT_OPENED: /* it may have changed meanwhile */
        err = file_stat(&request->op, pages->opened, &pages->stat);
        if (!err) {
            answer(web);
        }
        return err;
    case STATIC_ANSWERED:
        break;
    }
    return ERR_OK;
}

enum err web_static_step(struct web *web) {
    struct web_static *pages = &web->pages;
    if (pages->stage == STATIC_ANSWERED) {
        file_answer_step(&pages->answer);
        return ERR_OK;
    }
    enum err err = ERR_OK;
    while (!err && pages->stage != STATIC_ANSWERED) {
        err = step_once(web);
    }
    return as_missing(err);
}

void web_static_done(struct web *web) {
    struct web_static *pages = &web->pages;
    if (pages->answer.is_cut) {
        enum err failure = pages->answer.failure;
        web_log(web, "an answer was cut: %s",
                failure ? err_text(failure) : "its file has become shorter meanwhile");
    }
    if (pages->opened) {
        file_closed(pages->opened, OPEN_READ);
        file_unref(pages->opened);
    }
    ns_walk_done(&pages->walk);
    ns_place_done(&pages->found.place);
    tree_walk_done(&pages->tree_walk);
    ns_unref(pages->pages);
    buf_done(&pages->path);
    *pages = (struct web_static){0};
}
