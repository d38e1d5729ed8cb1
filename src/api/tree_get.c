/* GET and HEAD of the tree: a file's content (whole or a range), a directory's names, or all of it
 * as a tar. */
#include "api/archive.h"
#include "api/handlers.h"
#include "api/json_text.h"
#include "api/proc.h"
#include "api/tree.h"

#include <inttypes.h>
#include <stdio.h>

enum stage { STAGE_WALK, STAGE_STAT, STAGE_OPEN, STAGE_LIST, STAGE_ANSWERED };

struct tree_get {
    struct request *request;
    enum stage stage;
    struct tree_walk walk;
    struct ns_walk_result found;
    struct file_stat stat;
    struct file *opened;
    struct dir_list list;
    struct pack *pack;
    uint64_t offset, remaining; /* of what is still to be sent; remaining UINT64_MAX: to the end */
    bool waiting;               /* the pull waits for the op */
};

/* --- sending ---------------------------------------------------------------------------------- */

static enum http_pull_result pull_file(void *argument, void *buffer, size_t size,
                                       size_t *ret_length) {
    struct tree_get *get = argument;
    get->waiting = false;
    if (get->remaining == 0) {
        return HTTP_PULL_END;
    }
    size_t length = 0;
    enum err err = file_read(&get->request->op, get->opened, buffer, MIN(size, get->remaining),
                             get->offset, &length);
    if (err == ERR_PENDING) {
        get->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (err) {
        return HTTP_PULL_ABORT;
    }
    if (length == 0) {
        /* A length that was promised and can't be kept shows as a cut connection. */
        return get->remaining == UINT64_MAX ? HTTP_PULL_END : HTTP_PULL_ABORT;
    }
    get->offset += length;
    if (get->remaining != UINT64_MAX) {
        get->remaining -= length;
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

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

/* --- ranges (RFC 9110 section 14) ------------------------------------------------------------- */

enum range { RANGE_NONE, RANGE_ONE, RANGE_UNSATISFIABLE };

/* One range of bytes; several, or another unit, are ignored, which RFC 9110 allows. */
static enum range parse_range(struct str header, uint64_t size, uint64_t *ret_first,
                              uint64_t *ret_length) {
    if (!str_starts(header, STR("bytes=")) || memchr(header.data, ',', header.length)) {
        return RANGE_NONE;
    }
    struct str last_text = {header.data + 6, header.length - 6};
    if (!memchr(last_text.data, '-', last_text.length)) {
        return RANGE_NONE;
    }
    struct str first_text = str_cut(&last_text, '-');
    uint64_t first = 0, last = 0;
    if (first_text.length == 0) { /* the last bytes */
        if (str_to_u64(last_text, &last)) {
            return RANGE_NONE;
        }
        if (last == 0 || size == 0) {
            return RANGE_UNSATISFIABLE;
        }
        *ret_length = MIN(last, size);
        *ret_first = size - *ret_length;
        return RANGE_ONE;
    }
    if (str_to_u64(first_text, &first)) {
        return RANGE_NONE;
    }
    last = size ? size - 1 : 0;
    uint64_t asked = 0;
    if (last_text.length > 0) {
        if (str_to_u64(last_text, &asked) || asked < first) {
            return RANGE_NONE;
        }
        last = MIN(asked, last);
    }
    if (first >= size) {
        return RANGE_UNSATISFIABLE;
    }
    *ret_first = first;
    *ret_length = last - first + 1;
    return RANGE_ONE;
}

/* --- answers ---------------------------------------------------------------------------------- */

static enum err add_file_headers(struct tree_get *get, const char *etag) {
    struct http_exchange *exchange = get->request->exchange;
    enum err err = http_add_header(exchange, "Content-Security-Policy", "sandbox");
    if (!err && etag[0]) {
        err = http_add_header(exchange, "ETag", etag);
    }
    return err;
}

static void answer_file(struct tree_get *get) {
    struct request *request = get->request;
    struct http_exchange *exchange = request->exchange;
    char etag[TREE_ETAG_SIZE];
    tree_etag(&get->stat, etag);
    get->stage = STAGE_ANSWERED;
    enum err err = add_file_headers(get, etag);
    struct str none_match = http_header(exchange, "If-None-Match");
    if (!err && none_match.data && etag[0] && tree_etag_matches(none_match, etag)) {
        request_respond_empty(request, 304);
        return;
    }
    bool has_size = get->stat.type == FILE_REGULAR && (get->opened->traits & FILE_SEEKABLE);
    uint64_t size = has_size ? get->stat.size : HTTP_LENGTH_UNKNOWN;
    int status = 200;
    get->remaining = has_size ? size : UINT64_MAX;
    struct str range = http_header(exchange, "Range");
    struct str if_range = http_header(exchange, "If-Range");
    bool range_wanted =
        range.data && has_size && (!if_range.data || (etag[0] && str_equal_text(if_range, etag)));
    char text[80];
    if (!err && has_size) {
        err = http_add_header(exchange, "Accept-Ranges", "bytes");
    }
    if (!err && range_wanted) {
        switch (parse_range(range, size, &get->offset, &get->remaining)) {
        case RANGE_NONE:
            break;
        case RANGE_ONE:
            status = 206;
            snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, get->offset,
                     get->offset + get->remaining - 1, size);
            size = get->remaining;
            err = http_add_header(exchange, "Content-Range", text);
            break;
        case RANGE_UNSATISFIABLE:
            snprintf(text, sizeof text, "bytes */%" PRIu64, size);
            err = http_add_header(exchange, "Content-Range", text);
            if (!err) {
                request_fail_status(request, 416, "the file has %" PRIu64 " bytes", size);
                return;
            }
            break;
        }
    }
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    struct str path = tree_path(request);
    bool is_stored = memmem(path.data, path.length, "/files/", 7) != NULL;
    const char *type =
        is_stored ? tree_content_type(str_base_name(path)) : "text/plain; charset=utf-8";
    struct str name = str_base_name(path);
    if (!is_stored && str_equal_text(name, "module")) {
        type = "application/wasm";
    } else if (!is_stored && str_equal_text(name, "config")) {
        type = "application/json";
    }
    request->responded = true;
    http_respond_stream(exchange, status, type, size, pull_file, get);
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
            (void)!http_add_header(request->exchange, "Allow", "POST");
            request_fail_status(request, 405, "POST a question to " STR_FORMAT,
                                STR_ARGS(buf_str(&request->path)));
            return ERR_OK;
        }
        err = file_open(&request->op, get->found.place.file, OPEN_READ, &get->opened);
        if (!err) {
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
