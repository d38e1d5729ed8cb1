/* /apps/NAME/secrets: names and hosts are listed, values are written and never read. */
#include "api/handlers.h"
#include "base/clock.h"
#include "store/secret.h"

#include <inttypes.h>

struct secrets {
    struct request *request;
    struct app *app; /* a reference */
    struct str name; /* in the request's path */
    struct buf value;
    struct buf hosts;
    bool has_hosts;
};

static void end(struct request *request, bool completed) {
    (void)completed;
    struct secrets *secrets = request->state;
    if (secrets) {
        app_unref(secrets->app);
        buf_wipe(&secrets->value);
        buf_done(&secrets->hosts);
        free(secrets);
    }
}

/* NULL if the request was answered. */
static struct secrets *begin(struct request *request, const char *const *parameters) {
    struct app *app = NULL;
    if (!request_check_parameters(request, parameters) || !request_find_app(request, &app)) {
        return NULL;
    }
    struct secrets *secrets = calloc(1, sizeof *secrets);
    if (!secrets) {
        app_unref(app);
        request_fail(request, ERR_NOMEM, NULL);
        return NULL;
    }
    secrets->request = request;
    secrets->app = app;
    struct str rest = buf_str(&request->path);
    for (int i = 0; i < 4; i++) { /* "", "apps", NAME, "secrets" */
        str_cut(&rest, '/');
    }
    secrets->name = rest;
    request->state = secrets;
    return secrets;
}

static const char *const no_parameters[] = {NULL};

/* --- the list --------------------------------------------------------------------------------- */

static json_t *list_json(const struct secret_info *list, size_t count) {
    json_t *json = json_array();
    for (size_t i = 0; json && i < count; i++) {
        json_t *hosts = json_array();
        struct str rest = str_of(list[i].hosts);
        while (hosts && rest.length > 0) {
            struct str line = str_cut(&rest, '\n');
            json_array_append_new(hosts, json_stringn(line.data, line.length));
        }
        char changed[CLOCK_TEXT_SIZE];
        clock_format_utc(list[i].changed_ns, changed);
        json_array_append_new(json, json_pack("{s:s, s:o, s:s}", "name", list[i].name, "hosts",
                                              hosts, "changed", changed));
    }
    return json;
}

/* A line each: the name, and the hosts behind it. */
static enum err list_text(const struct secret_info *list, size_t count, struct buf *text) {
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < count; i++) {
        err = buf_append_str(text, str_of(list[i].name));
        struct str rest = str_of(list[i].hosts);
        while (!err && rest.length > 0) {
            struct str line = str_cut(&rest, '\n');
            err = buf_printf(text, " " STR_FORMAT, STR_ARGS(line));
        }
        err = err ? err : buf_append_byte(text, '\n');
    }
    return err;
}

static void list_step(struct request *request) {
    struct secrets *secrets = request->state;
    struct secret_info *list = NULL;
    size_t count = 0;
    enum err err = catalog_secret_list(&request->op, request->api->catalog, secrets->app, &list,
                                       &count, &request->message);
    if (err == ERR_PENDING) {
        return;
    }
    cleanup_buf struct buf text = {0};
    if (!err && request->accept == ACCEPT_JSON) {
        request_respond_json(request, 200, list_json(list, count));
    } else {
        err = err ? err : list_text(list, count, &text);
        if (err) {
            request_fail(request, err, &request->message);
        } else {
            request_respond_text(request, 200, buf_str(&text));
        }
    }
    secret_list_free(list, count);
}

static void list_start(struct request *request) {
    if (begin(request, no_parameters)) {
        list_step(request);
    }
}

const struct request_handler secrets_list_handler = {
    .start = list_start, .step = list_step, .end = end};

static void read_start(struct request *request) {
    request_fail_status(request, 403,
                        "secrets can be written, not read; GET /apps/NAME/secrets lists the names");
}

const struct request_handler secret_read_handler = {.start = read_start};

/* --- writing ---------------------------------------------------------------------------------- */

static void write_step(struct request *request) {
    struct secrets *secrets = request->state;
    if (!secrets || request->responded) {
        return;
    }
    struct str hosts = buf_str(&secrets->hosts);
    bool created = false;
    enum err err = catalog_secret_set(
        &request->op, request->api->catalog, secrets->app, secrets->name, buf_str(&secrets->value),
        secrets->has_hosts ? &hosts : NULL, &created, &request->message);
    if (err == ERR_PENDING) {
        return;
    }
    if (err) {
        request_fail(request, err, &request->message);
    } else {
        request_respond_empty(request, created ? 201 : 204);
    }
}

/* The hosts of the query: "host=" alone binds it to none. */
static enum err collect_hosts(struct secrets *secrets) {
    struct request *request = secrets->request;
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < request->query.count; i++) {
        secrets->has_hosts = true;
        struct str host = request->query.pairs[i].value;
        err =
            host.length == 0 ? ERR_OK : secret_hosts_add(&secrets->hosts, host, &request->message);
    }
    return err;
}

static void write_start(struct request *request) {
    static const char *const parameters[] = {"host", NULL};
    struct secrets *secrets = begin(request, parameters);
    if (!secrets) {
        return;
    }
    enum err err = secret_name_check(secrets->name, &request->message);
    err = err ? err : collect_hosts(secrets);
    uint64_t length = SECRET_BYTES_MAX + 1;
    if (!err && http_content_length(request->exchange, &length) && length > SECRET_BYTES_MAX + 1) {
        err = buf_fail(&request->message, ERR_FBIG, "a secret has at most %d bytes",
                       SECRET_BYTES_MAX);
    }
    /* All at once: a buffer that grows leaves copies behind. One byte more for a newline. */
    err = err ? err : buf_reserve(&secrets->value, (size_t)length);
    if (err) {
        request_fail(request, err, &request->message);
    }
}

static size_t write_body(struct request *request, const uint8_t *data, size_t length) {
    struct secrets *secrets = request->state;
    if (length > secrets->value.capacity - secrets->value.length ||
        length > SECRET_BYTES_MAX + 1 - secrets->value.length) {
        (void)buf_fail(&request->message, ERR_FBIG, "a secret has at most %d bytes",
                       SECRET_BYTES_MAX);
        request_fail(request, ERR_FBIG, &request->message);
        return length;
    }
    enum err err = buf_append(&secrets->value, data, length);
    if (err) {
        request_fail(request, err, NULL);
    }
    return length;
}

static void write_body_end(struct request *request) {
    struct secrets *secrets = request->state;
    if (!secrets || request->responded) {
        return;
    }
    struct buf *value = &secrets->value;
    if (value->length > 0 && value->data[value->length - 1] == '\n') {
        value->length--; /* as echo adds it */
    }
    write_step(request);
}

const struct request_handler secret_write_handler = {.start = write_start,
                                                     .body = write_body,
                                                     .body_end = write_body_end,
                                                     .step = write_step,
                                                     .end = end};

/* --- removing --------------------------------------------------------------------------------- */

static void remove_step(struct request *request) {
    struct secrets *secrets = request->state;
    enum err err = catalog_secret_remove(&request->op, request->api->catalog, secrets->app,
                                         secrets->name, &request->message);
    if (err == ERR_PENDING) {
        return;
    }
    if (err) {
        request_fail(request, err, &request->message);
    } else {
        request_respond_empty(request, 204);
    }
}

static void remove_start(struct request *request) {
    if (begin(request, no_parameters)) {
        remove_step(request);
    }
}

const struct request_handler secret_remove_handler = {
    .start = remove_start, .step = remove_step, .end = end};
