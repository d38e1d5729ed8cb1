/* What a program that is kept is told of a request: the target and the fields that go on to it. */
#include "api/web_internal.h"

#include <strings.h>

static bool is_named(struct str name, const char *other) {
    return name.length == strlen(other) && strncasecmp(name.data, other, name.length) == 0;
}

/* --- what is between the client and us ---------------------------------------------------- */

struct options {
    struct str name;
    bool is_found;
};

static bool is_same(struct str name, struct str other) {
    return name.length == other.length && strncasecmp(name.data, other.data, name.length) == 0;
}

static void look_in_connection(void *argument, struct str name, struct str value) {
    struct options *options = argument;
    while (is_named(name, "Connection") && value.length > 0 && !options->is_found) {
        options->is_found = is_same(str_trim(str_cut(&value, ',')), options->name);
    }
}

bool web_is_of_connection(const struct web *web, struct str name) {
    const struct http_exchange *exchange = web->request->exchange;
    struct options options = {.name = name};
    if (http_header(exchange, "Connection").data && !is_named(name, "Host")) {
        http_headers_each(exchange, look_in_connection, &options);
    }
    return options.is_found;
}

/* --- the target and the fields ------------------------------------------------------------ */

enum err web_forward_target(const struct web *web, struct buf *target) {
    size_t before = target->length;
    enum err err = query_encode(web->path_info, true, target);
    if (!err && target->length == before) {
        err = buf_append_byte(target, '/');
    }
    if (!err && web->raw_query.length > 0) {
        err = buf_printf(target, "?" STR_FORMAT, STR_ARGS(web->raw_query));
    }
    return err;
}

static enum err add(struct buf *fields, const char *name, struct str value) {
    enum err err = buf_append_str(fields, str_of(name));
    if (!err) {
        err = buf_append_str(fields, value);
    }
    return err ? err : buf_append_str(fields, STR("\r\n"));
}

struct forward {
    const struct web *web;
    struct buf *fields;
    bool from_proxy; /* whose word counts */
    struct str forwarded_for;
    enum err err;
};

static bool is_kept_back(const struct forward *forward, struct str name, struct str value) {
    static const char *const names[] = {"Host",
                                        "Content-Length",
                                        "Expect",
                                        "Proxy",
                                        "Forwarded",
                                        "X-Forwarded-For",
                                        "X-Forwarded-Prefix"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (is_named(name, names[i])) {
            return true;
        }
    }
    bool is_forwarded = name.length > 12 && strncasecmp(name.data, "X-Forwarded-", 12) == 0;
    return cgi_is_kept_back(name) || web_is_of_connection(forward->web, name) ||
           (is_forwarded && !forward->from_proxy) ||
           (is_named(name, "Authorization") &&
            access_is_own_token(&forward->web->request->api->access, value));
}

static void forward_field(void *argument, struct str name, struct str value) {
    struct forward *forward = argument;
    if (is_named(name, "X-Forwarded-For") && forward->from_proxy) {
        forward->forwarded_for = value;
    }
    if (forward->err || is_kept_back(forward, name, value)) {
        return;
    }
    struct buf *fields = forward->fields;
    enum err err = buf_reserve(fields, name.length + value.length + 4);
    if (!err) {
        err = buf_append_str(fields, name);
    }
    if (!err) {
        err = add(fields, ": ", value);
    }
    forward->err = err;
}

enum err web_forward_fields(const struct web *web, struct buf *fields) {
    const struct http_exchange *exchange = web->request->exchange;
    const char *client = http_client_address(exchange);
    struct str host = http_header(exchange, "Host");
    struct forward forward = {
        .web = web,
        .fields = fields,
        .from_proxy = access_is_trusted_proxy(&web->request->api->access, client),
    };
    enum err err = add(fields, "Host: ", host.length > 0 ? host : STR("localhost"));
    if (!err) {
        http_headers_each(exchange, forward_field, &forward);
        err = forward.err;
    }
    if (!err) {
        err = buf_printf(fields, "X-Forwarded-For: " STR_FORMAT "%s%s\r\n",
                         STR_ARGS(forward.forwarded_for), forward.forwarded_for.length ? ", " : "",
                         client);
    }
    if (!err && web->script_name.length > 0) {
        err = add(fields, "X-Forwarded-Prefix: ", web->script_name);
    }
    return err;
}
