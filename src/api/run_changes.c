/* GET /proc/ID/changed: what a run has changed, as text, as JSON, or the files as a tar. */
#include "api/run_changes.h"

#include "api/archive.h"
#include "api/handlers.h"
#include "api/json_text.h"
#include "api/tree.h"
#include "dev/proc.h"

#include <inttypes.h>

/* Those that are there, or those that are removed: `[...]`. */
static enum err list_json(const struct changes *changes, bool removed, struct buf *text) {
    const char *separator = "";
    enum err err = buf_append_byte(text, '[');
    for (size_t i = 0; !err && i < changes_count(changes); i++) {
        unsigned flags;
        struct str path = changes_path(changes, i, &flags);
        if (!(flags & CHANGE_REMOVED) != !removed) {
            continue;
        }
        err = buf_printf(text, "%s\"", separator);
        err = err ? err : json_text_escape(path, text);
        err = err ? err : buf_append_str(text, flags & CHANGE_DIRECTORY ? STR("/\"") : STR("\""));
        separator = ",";
    }
    return err ? err : buf_append_byte(text, ']');
}

enum err run_changes_json(struct run *run, struct buf *text) {
    const struct changes *changes = run_changes(run);
    enum err err = buf_append_str(text, STR("\"changed\":"));
    err = err ? err : list_json(changes, false, text);
    bool has_removed = false;
    for (size_t i = 0; i < changes_count(changes); i++) {
        unsigned flags;
        (void)changes_path(changes, i, &flags);
        has_removed |= flags & CHANGE_REMOVED;
    }
    if (!err && has_removed) {
        err = buf_append_str(text, STR(",\"removed\":"));
        err = err ? err : list_json(changes, true, text);
    }
    if (!err && changes_has_more(changes)) {
        err = buf_append_str(text, STR(",\"changed_more\":true"));
    }
    return err;
}

/* --- GET -------------------------------------------------------------------------------------- */

struct changed {
    struct run *run;
    struct pack *pack;
    bool waiting; /* the pull waits for the op */
};

static bool is_wanted(const void *argument, struct str path) {
    cleanup_buf struct buf absolute = {0};
    enum err err = buf_append_byte(&absolute, '/');
    err = err ? err : buf_append_str(&absolute, path);
    return !err && changes_select(argument, buf_str(&absolute));
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct request *request = argument;
    struct changed *changed = request->state;
    changed->waiting = false;
    size_t length = 0;
    enum err err = pack_read(&request->op, changed->pack, buffer, size, &length);
    if (err == ERR_PENDING) {
        changed->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (err) {
        return HTTP_PULL_ABORT;
    }
    *ret_length = length;
    return length > 0 ? HTTP_PULL_DATA : HTTP_PULL_END;
}

static void answer_tar(struct request *request) {
    struct changed *changed = request->state;
    struct file *root = NULL;
    enum err err = run_open_root(&request->op, changed->run, &root);
    if (err == ERR_PENDING) {
        return;
    }
    err = err ? err : pack_new(root, &changed->pack);
    file_unref(root);
    err = err ? err : http_add_header(request->exchange, "Content-Security-Policy", "sandbox");
    if (err) {
        tree_fail(request, err);
        return;
    }
    pack_select(changed->pack, is_wanted, run_changes(changed->run));
    request->responded = true;
    http_respond_stream(request->exchange, 200, "application/x-tar", HTTP_LENGTH_UNKNOWN, pull,
                        request);
}

static void answer_list(struct request *request) {
    struct changed *changed = request->state;
    cleanup_buf struct buf text = {0};
    bool is_json = request->accept == ACCEPT_JSON || request->accept == ACCEPT_NDJSON;
    enum err err = is_json ? buf_append_byte(&text, '{') : ERR_OK;
    if (!err) {
        err = is_json ? run_changes_json(changed->run, &text)
                      : dev_proc_changed_text(changed->run, &text);
    }
    err = !err && is_json ? buf_append_str(&text, STR("}\n")) : err;
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    if (!is_json) {
        request_respond_text(request, 200, buf_str(&text));
        return;
    }
    request->responded = true;
    http_respond(request->exchange, 200, "application/json", text.data, text.length);
}

static void start(struct request *request) {
    struct str rest = tree_path(request);
    (void)str_cut(&rest, '/');
    struct str id_text = str_cut(&rest, '/');
    uint64_t id = 0;
    struct run *run = NULL;
    bool is_id = str_to_u64(id_text, &id) == ERR_OK && id_text.data[0] != '0';
    if (!is_id || runs_find(request->api->runs, id, &run) ||
        !dev_proc_may_see(&request->who, run)) {
        run_unref(run);
        tree_fail(request, ERR_NOENT);
        return;
    }
    struct changed *changed = calloc(1, sizeof *changed);
    if (!changed) {
        run_unref(run);
        request_fail(request, ERR_NOMEM, NULL);
        return;
    }
    changed->run = run;
    request->state = changed;
    if (request->accept == ACCEPT_TAR) {
        answer_tar(request);
    } else {
        answer_list(request);
    }
}

static void step(struct request *request) {
    struct changed *changed = request->state;
    if (!request->responded) {
        answer_tar(request);
    } else if (changed->waiting) {
        changed->waiting = false;
        http_pull_resume(request->exchange);
    }
}

static void end(struct request *request, bool completed) {
    (void)completed;
    struct changed *changed = request->state;
    if (!changed) {
        return;
    }
    pack_free(changed->pack);
    run_unref(changed->run);
    free(changed);
}

const struct request_handler changed_handler = {.start = start, .step = step, .end = end};
