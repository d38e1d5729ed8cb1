/* GET and HEAD of the tree: a file's content (whole or a range), a directory's names, or all of it
 * as a tar. */
#include "api/archive.h"
#include "api/file_answer.h"
#include "api/handlers.h"
#include "api/json_text.h"
#include "api/proc.h"
#include "api/tree.h"

enum stage {
    STAGE_WALK,
    STAGE_STAT,
    STAGE_OPEN,
    STAGE_STAT_OPENED,
    STAGE_LIST,
    STAGE_ANSWERED,
};

struct tree_get {
    struct request *request;
    enum stage stage;
    struct tree_walk walk;
    struct ns_walk_result found;
    struct file_stat stat;
    struct file *opened;
    struct dir_list list;
    struct pack *pack;
    struct file_answer file_answer;
    bool waiting; /* the pull waits for the op */
};

/* --- sending ---------------------------------------------------------------------------------- */

static enum http_pull_result pull_pack(void *argument, void *buffer, size_t size,
                                       size_t *ret_length) {
    struct tree_get *get = argument;
    get->waiting = false;
    size_t length = 0;
    enum err err = pack_read(&get->request->op, get->pack, buffer, size, &length);
    if (err == ERR_PENDING) {
        get->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (err) {
        return HTTP_PULL_ABORT;
    }
    *ret_length = length;
    return length > 0 ? HTTP_PULL_DATA : HTTP_PULL_END;
}

/* --- answers ---------------------------------------------------------------------------------- */

static const char *type_of(struct str path) {
    struct str name = str_base_name(path);
    bool is_of_run = str_starts(path, STR("proc/")) && memmem(path.data, path.length, "/root/", 6);
    if (is_of_run || memmem(path.data, path.length, "/files/", 7)) {
        return tree_content_type(name);
    }
    bool is_wasm = str_equal_text(name, "module") || str_equal_text(name, "core");
    return is_wasm                          ? "application/wasm"
           : str_equal_text(name, "config") ? "application/json"
                                            : "text/plain; charset=utf-8";
}

static void answer_file(struct tree_get *get) {
    struct request *request = get->request;
    get->stage = STAGE_ANSWERED;
    enum err err = http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    file_answer(&get->file_answer, request, get->opened, &get->stat, type_of(tree_path(request)),
                false);
}

static bool is_self_or_parent(const struct dir_list *list, size_t index) {
    struct str name = dir_list_name(list, index);
    return str_equal_text(name, ".") || str_equal_text(name, "..");
}

static enum err list_as_text(const struct dir_list *list, struct buf *text) {
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < list->count; i++) {
        if (is_self_or_parent(list, i)) {
            continue;
        }
        err = buf_printf(text, STR_FORMAT "%s\n", STR_ARGS(dir_list_name(list, i)),
                         list->entries[i].type == FILE_DIRECTORY ? "/" : "");
    }
    return err;
}

static const char *type_text(uint8_t type) {
    switch (type) {
    case FILE_DIRECTORY:
        return "directory";
    case FILE_REGULAR:
        return "file";
    case FILE_SYMBOLIC_LINK:
        return "link";
    default:
        return "device";
    }
}

/* Without jansson's objects, which cost ten times as much: a directory may be long. */
static enum err list_as_json(const struct dir_list *list, struct buf *text) {
    enum err err = buf_append_byte(text, '[');
    const char *separator = "";
    for (size_t i = 0; !err && i < list->count; i++) {
        if (is_self_or_parent(list, i)) {
            continue;
        }
        err = buf_printf(text, "%s{\"name\":\"", separator);
        err = err ? err : json_text_escape(dir_list_name(list, i), text);
        err = err ? err : buf_printf(text, "\",\"type\":\"%s\"}", type_text(list->entries[i].type));
        separator = ",";
    }
    return err ? err : buf_append_str(text, STR("]\n"));
}

static int compare_names(const void *a, const void *b, void *list) {
    const struct dir_entry *first = a, *second = b;
    const uint8_t *names = ((const struct dir_list *)list)->names.data;
    size_t shorter = MIN(first->name_length, second->name_length);
    int order = memcmp(names + first->name_offset, names + second->name_offset, shorter);
    return order ? order : (int)first->name_length - (int)second->name_length;
}

static void answer_list(struct tree_get *get) {
    struct request *request = get->request;
    get->stage = STAGE_ANSWERED;
    proc_select(request, &get->list);
    if (get->list.count > 1) {
        qsort_r(get->list.entries, get->list.count, sizeof *get->list.entries, compare_names,
                &get->list);
    }
    bool is_json = request->accept == ACCEPT_JSON;
    cleanup_buf struct buf text = {0};
    enum err err = is_json ? list_as_json(&get->list, &text) : list_as_text(&get->list, &text);
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    if (!is_json) {
        request_respond_text(request, 200, buf_str(&text));
        return;
    }
    err = http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
    (void)err; /* it is JSON, which no browser runs */
    request->responded = true;
    http_respond(request->exchange, 200, "application/json", text.data, text.length);
}

/* --- steps ------------------------------------------------------------------------------------ */

static enum err step_once(struct tree_get *get) {
    struct request *request = get->request;
    struct file_stat opened_stat;
    enum err err = ERR_OK;
    switch (get->stage) {
    case STAGE_WALK:
        err = tree_walk(request, &get->walk, tree_path(request), NS_FOLLOW, &get->found);
        if (!err) {
            get->stage = STAGE_STAT;
        }
        return err;
    case STAGE_STAT:
        err = file_stat(&request->op, get->found.place.file, &get->stat);
        if (err) {
            return err;
        }
        if (get->stat.type != FILE_DIRECTORY) {
            get->stage = STAGE_OPEN;
            return ERR_OK;
        }
        if (request->accept != ACCEPT_TAR) {
            get->stage = STAGE_LIST;
            return ERR_OK;
        }
        err = pack_new(get->found.place.file, &get->pack);
        if (!err) {
            err = http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
        }
        if (!err) {
            get->stage = STAGE_ANSWERED;
            request->responded = true;
            http_respond_stream(request->exchange, 200, "application/x-tar", HTTP_LENGTH_UNKNOWN,
                                pull_pack, get);
        }
        return err;
    case STAGE_OPEN:
        if (get->found.place.file->traits & FILE_REWINDABLE) {
            get->stage = STAGE_ANSWERED; /* reading asks, which GET must not */
            request->allow = "POST";
            request_fail_status(request, 405, "POST a question to " STR_FORMAT,
                                STR_ARGS(buf_str(&request->path)));
            return ERR_OK;
        }
        err = file_open(&request->op, get->found.place.file, OPEN_READ, &get->opened);
        if (!err) {
            get->stage = STAGE_STAT_OPENED;
        }
        return err;
    case STAGE_STAT_OPENED:
        err = file_stat(&request->op, get->opened, &opened_stat);
        if (!err) {
            /* What is told of a run is written when it is opened: it may be longer by then. */
            get->stat.size = opened_stat.size;
            answer_file(get);
        }
        return err;
    case STAGE_LIST:
        err = ns_readdir(&request->op, request->api->tree, &get->found.place, &get->list);
        if (!err) {
            answer_list(get);
        }
        return err;
    case STAGE_ANSWERED:
        break;
    }
    return ERR_OK;
}

static void step(struct request *request) {
    struct tree_get *get = request->state;
    if (get->stage == STAGE_ANSWERED) {
        file_answer_step(&get->file_answer);
        if (get->waiting) {
            get->waiting = false;
            http_pull_resume(request->exchange);
        }
        return;
    }
    enum err err = ERR_OK;
    while (!err && get->stage != STAGE_ANSWERED) {
        err = step_once(get);
    }
    if (err && err != ERR_PENDING) {
        get->stage = STAGE_ANSWERED;
        tree_fail(request, err);
    }
}

static void start(struct request *request) {
    if (!proc_check_selection(request)) {
        return;
    }
    struct tree_get *get = calloc(1, sizeof *get);
    if (!get) {
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    request->state = get;
    get->request = request;
    step(request);
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct tree_get *get = request->state;
    if (!get) {
        return;
    }
    if (get->opened) {
        file_closed(get->opened, OPEN_READ);
        file_unref(get->opened);
    }
    ns_place_done(&get->found.place);
    tree_walk_done(&get->walk);
    dir_list_done(&get->list);
    pack_free(get->pack);
    free(get);
}

const struct request_handler tree_get_handler = {.start = start, .step = step, .end = end};
