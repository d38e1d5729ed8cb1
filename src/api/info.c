/* GET / and GET /healthz. */
#include "api/handlers.h"

static enum err list_routes(struct str host, struct buf *text) {
    enum err err = buf_append_str(
        text,
        STR("0asm: everything is a file. GET reads, PUT writes, DELETE removes, MOVE renames, "
            "POST does.\n\n"));
    for (size_t i = 0; !err && i < route_count; i++) {
        err = buf_printf(text, "  %-28s %s\n", routes[i].usage, routes[i].help);
    }
    if (!err) {
        err = buf_printf(text,
                         "\nTwo lines to begin with:\n"
                         "  curl -X POST --data-binary @first.wasm "
                         "'http://" STR_FORMAT "/create?name=first_app'\n"
                         "  curl -X POST 'http://" STR_FORMAT "/run?name=first_app'\n",
                         STR_ARGS(host), STR_ARGS(host));
    }
    return err;
}

static void index_start(struct request *request) {
    if (request->accept == ACCEPT_JSON) {
        json_t *list = json_array();
        for (size_t i = 0; list && i < route_count; i++) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "method",
                                                  routes[i].method, "path", routes[i].path, "usage",
                                                  routes[i].usage, "help", routes[i].help));
        }
        request_respond_json(request, 200, list);
        return;
    }
    cleanup_buf struct buf text = {0};
    enum err err = list_routes(http_header(request->exchange, "Host"), &text);
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request_respond_text(request, 200, buf_str(&text));
}

const struct request_handler index_handler = {.start = index_start};

static void health_start(struct request *request) {
    if (atomic_load(&request->api->ready)) {
        request_respond_text(request, 200, STR("ok\n"));
    } else {
        request_fail_status(request, 503, "the server takes no new work");
    }
}

const struct request_handler health_handler = {.start = health_start};
