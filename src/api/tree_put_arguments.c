/* PUT of an app's `args`, or of its `config`, which has them, too: the answer tells of a first
 * argument that names no file, as that of /create does. They are as they were written all the
 * same. */
#include "api/tree_put_internal.h"

static bool is_of_arguments(const struct request *request) {
    struct str rest = tree_path(request);
    bool is_of_app = str_equal_text(str_cut(&rest, '/'), "apps");
    str_cut(&rest, '/');
    return is_of_app && (str_equal_text(rest, "args") || str_equal_text(rest, "config"));
}

enum err tree_put_look(struct tree_put *put) {
    struct request *request = put->request;
    if (!put->app) {
        if (!is_of_arguments(request) ||
            catalog_find(request->api->catalog, request_second_component(request), &put->app) !=
                ERR_OK) {
            return ERR_OK;
        }
    }
    return first_argument_look(request, put->app, &put->first_argument);
}

bool tree_put_tell(const struct tree_put *put) {
    struct request *request = put->request;
    if (!put->first_argument.is_missing) {
        return false;
    }
    if (request->accept == ACCEPT_JSON || request->accept == ACCEPT_NDJSON) {
        json_t *json = json_object();
        first_argument_tell_json(&put->first_argument, put->app, json);
        request_respond_json(request, 200, json);
        return true;
    }
    cleanup_buf struct buf text = {0};
    enum err err = first_argument_tell(&put->first_argument, put->app, "missing  ", &text);
    if (err) {
        request_fail(request, err, NULL);
    } else {
        request_respond_text(request, 200, buf_str(&text));
    }
    return true;
}

void tree_put_end_look(struct tree_put *put) {
    first_argument_done(&put->first_argument);
    app_unref(put->app);
}
