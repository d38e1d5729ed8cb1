#include "api/proc.h"

#include "api/handlers.h"
#include "dev/proc.h"

#include <inttypes.h>

static bool has_tag(const struct run *run, struct str wanted) {
    const char *const *tags;
    size_t count = run_tags(run, &tags);
    for (size_t i = 0; i < count; i++) {
        if (str_equal_text(wanted, tags[i])) {
            return true;
        }
    }
    return false;
}

bool proc_is_selected(const struct request *request, const struct run *run) {
    const struct query *query = &request->query;
    for (size_t i = 0; i < query->count; i++) {
        if (str_equal_text(query->pairs[i].name, "tag") && !has_tag(run, query->pairs[i].value)) {
            return false;
        }
    }
    return true;
}

static bool is_selection(const struct request *request) {
    struct str path = buf_str(&request->path);
    return request_has_parameter(request, "tag") &&
           (str_equal_text(path, "/proc") || str_equal_text(path, "/proc/"));
}

bool proc_check_selection(struct request *request) {
    if (!is_selection(request)) {
        return true;
    }
    const struct query *query = &request->query;
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < query->count; i++) {
        if (str_equal_text(query->pairs[i].name, "tag")) {
            err = run_tag_check(query->pairs[i].value, &request->message);
        }
    }
    if (err) {
        request_fail(request, err, &request->message);
    }
    return !err;
}

void proc_select(const struct request *request, struct dir_list *list) {
    if (!is_selection(request)) {
        return;
    }
    size_t left = 0;
    for (size_t i = 0; i < list->count; i++) {
        uint64_t id = 0;
        struct run *run = NULL;
        bool is_run =
            !str_to_u64(dir_list_name(list, i), &id) && !runs_find(request->api->runs, id, &run);
        if (is_run && proc_is_selected(request, run)) {
            list->entries[left++] = list->entries[i];
        }
        run_unref(run);
    }
    list->count = left;
}

static void end_start(struct request *request) {
    static const char *const parameters[] = {"tag", NULL};
    if (!request_check_parameters(request, parameters)) {
        return;
    }
    if (!request_has_parameter(request, "tag")) {
        request_fail_status(request, 400,
                            "say which runs: DELETE /proc?tag=KEY:VALUE ends all that have the "
                            "tag, DELETE /proc/ID one");
        return;
    }
    if (!proc_check_selection(request)) {
        return;
    }
    struct run **list = NULL;
    size_t count = 0;
    enum err err = runs_list(request->api->runs, &list, &count);
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    uint64_t ended = 0;
    for (size_t i = 0; i < count; i++) {
        if (dev_proc_may_see(&request->who, list[i]) && proc_is_selected(request, list[i]) &&
            run_status(list[i]).state != RUN_ENDED) {
            run_kill(list[i], RUN_REASON_KILLED);
            ended++;
        }
        run_unref(list[i]);
    }
    free(list);
    if (request->accept == ACCEPT_JSON || request->accept == ACCEPT_NDJSON) {
        request_respond_json(request, 200, json_pack("{s:I}", "ended", (json_int_t)ended));
        return;
    }
    cleanup_buf struct buf line = {0};
    err = buf_printf(&line, "%" PRIu64 " ended%s\n", ended,
                     ended ? ""
                           : ": no run with this tag is under way; GET /proc?tag=KEY:VALUE "
                             "lists those that are, or ended lately");
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request_respond_text(request, 200, buf_str(&line));
}

const struct request_handler proc_end_handler = {.start = end_start};
