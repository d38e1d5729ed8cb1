#include "cli/remote.h"

#include "cli/text.h"

enum { APP_NAME_MAX = 63 };

bool remote_is_app_name(struct str text) {
    bool good = text.length >= 1 && text.length <= APP_NAME_MAX;
    for (size_t i = 0; good && i < text.length; i++) {
        char c = text.data[i];
        bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        good = alphanumeric || (i > 0 && (c == '_' || c == '-'));
    }
    return good;
}

bool remote_check_app_name(const char *text) {
    if (remote_is_app_name(str_of(text))) {
        return true;
    }
    cli_error("'%s' can't be the name of an app: names are 1 to 63 of a-z 0-9 _ - and begin with "
              "a letter or digit",
              text);
    return false;
}

bool remote_is_run_id(const char *text) {
    uint64_t id = 0;
    return str_to_u64(str_of(text), &id) == ERR_OK && text[0] != '0';
}

bool remote_looks_like(const char *text) {
    struct str rest = str_of(text);
    struct str name = str_cut(&rest, ':');
    return remote_is_app_name(name) && rest.length > 0 && rest.data[0] == '/';
}

void remote_app_target(const char *name, const char *rest, struct buf *ret_target) {
    cli_check(buf_append_str(ret_target, STR("/apps/")));
    text_encode(str_of(name), false, ret_target);
    cli_check(buf_append_str(ret_target, str_of(rest)));
}

bool remote_target(const char *text, bool may_be_name, struct buf *ret_target) {
    struct str rest = str_of(text);
    bool is_name = may_be_name && remote_is_app_name(rest);
    if (!is_name && !remote_looks_like(text)) {
        cli_error("'%s' is no path on an app; write APP:/file", text);
        return false;
    }
    struct str name = str_cut(&rest, ':');
    cli_check(buf_printf(ret_target, "/apps/" STR_FORMAT "/files", STR_ARGS(name)));
    while (rest.length > 0) {
        struct str component = str_cut(&rest, '/');
        if (str_equal_text(component, "..")) {
            cli_error("'%s': '..' can't be used in a path on an app", text);
            return false;
        }
        if (component.length > 0 && !str_equal_text(component, ".")) {
            cli_check(buf_append_byte(ret_target, '/'));
            text_encode(component, false, ret_target);
        }
    }
    return true;
}

bool remote_kind(struct client *client, const char *target, enum remote_kind *ret_kind) {
    struct client_request request = {
        .method = "HEAD", .target = target, .accept = "application/json", .quiet = true};
    struct client_response response;
    bool done = client_perform(client, &request, &response);
    if (!done && response.status == 404) {
        *ret_kind = REMOTE_MISSING;
        return true;
    }
    if (!done) {
        /* A HEAD has no text: the same as GET says what is wrong. */
        if (response.status >= 400) {
            cleanup_buf struct buf ignored = {0};
            request = (struct client_request){.method = "GET",
                                              .target = target,
                                              .accept = "application/json",
                                              .gather = &ignored};
            done = client_perform(client, &request, &response);
        }
        if (!done) {
            return false;
        }
    }
    *ret_kind = client_response_is_directory(&response) ? REMOTE_DIRECTORY : REMOTE_FILE;
    return true;
}

json_t *remote_list(struct client *client, const char *target) {
    cleanup_buf struct buf text = {0};
    if (!client_get(client, target, "application/json", &text)) {
        return NULL;
    }
    json_t *list = json_loadb(buf_text(&text), text.length, 0, NULL);
    if (!json_is_array(list)) {
        cli_error("the server's answer is damaged: no list of names");
        json_decref(list);
        return NULL;
    }
    return list;
}
