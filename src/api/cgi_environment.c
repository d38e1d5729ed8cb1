/* What a CGI program is told of its request (RFC 3875 section 4.1). */
#include "api/web_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

struct build {
    const struct web *web;
    struct cgi_environment *environment;
    enum err err;
};

static bool is_name(struct str name, const char *other) {
    return name.length == strlen(other) && strncasecmp(name.data, other, name.length) == 0;
}

/* --- variables -------------------------------------------------------------------------------- */

static enum err grow(struct cgi_environment *environment, size_t wanted) {
    size_t capacity = environment->capacity;
    while (capacity < wanted) {
        capacity *= 2;
    }
    bool is_usual = environment->text == environment->usual;
    char *text = realloc(is_usual ? NULL : environment->text, capacity);
    if (!text) {
        return ERR_NOMEM;
    }
    if (is_usual) {
        memcpy(text, environment->usual, environment->length);
    }
    environment->text = text;
    environment->capacity = capacity;
    return ERR_OK;
}

static void append(struct build *build, struct str text) {
    struct cgi_environment *environment = build->environment;
    size_t wanted = environment->length + text.length;
    if (!build->err && wanted > environment->capacity) {
        build->err = grow(environment, wanted);
    }
    if (!build->err && text.length > 0) {
        memcpy(environment->text + environment->length, text.data, text.length);
        environment->length = wanted;
    }
}

static void end_variable(struct build *build) {
    struct cgi_environment *environment = build->environment;
    append(build, (struct str){"", 1});
    if (!build->err && environment->count == CGI_VARIABLES_MAX) {
        build->err = ERR_2BIG;
    }
    environment->count += build->err ? 0 : 1;
}

static void add(struct build *build, struct str prefix, struct str value) {
    append(build, prefix);
    append(build, value);
    end_variable(build);
}

static void add_number(struct build *build, struct str prefix, uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    add(build, prefix, str_of(text));
}

/* --- the client's headers --------------------------------------------------------------------- */

/* Not handed on: what concerns the connection; what has a variable of its own; Proxy, which
 * programs would take for the setting HTTP_PROXY ("httpoxy"). */
static bool is_kept_back(const struct build *build, struct str name, struct str value) {
    static const char *const names[] = {
        "Content-Length",    "Content-Type",     "Proxy",
        "Connection",        "Keep-Alive",       "TE",
        "Trailer",           "Upgrade",          "Expect",
        "Transfer-Encoding", "Proxy-Connection", "Proxy-Authorization",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (is_name(name, names[i])) {
            return true;
        }
    }
    if (web_is_of_connection(build->web, name)) {
        return true;
    }
    return is_name(name, "Authorization") &&
           access_is_own_token(&build->web->request->api->access, value);
}

/* "User-Agent" becomes "USER_AGENT". With other characters than letters, digits and hyphens it
 * would be another name's variable ("X_Real-Ip"), or none: false. */
static bool is_plain(struct str name) {
    for (size_t i = 0; i < name.length; i++) {
        char byte = name.data[i];
        bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        if (!is_letter && !(byte >= '0' && byte <= '9') && byte != '-') {
            return false;
        }
    }
    return true;
}

/* Fields of one name become one variable. */
struct join {
    struct build *build;
    struct str name;
    const char *first; /* where the value of the first one lies */
};

static void find_first(void *argument, struct str name, struct str value) {
    struct join *join = argument;
    bool is_same = name.length == join->name.length &&
                   strncasecmp(name.data, join->name.data, name.length) == 0;
    join->first = !join->first && is_same ? value.data : join->first;
}

static void append_others(void *argument, struct str name, struct str value) {
    struct join *join = argument;
    if (value.data != join->first && name.length == join->name.length &&
        strncasecmp(name.data, join->name.data, name.length) == 0) {
        append(join->build, is_name(name, "Cookie") ? STR("; ") : STR(", "));
        append(join->build, value);
    }
}

/* RFC 3875 section 4.1.18. */
static void add_header(void *argument, struct str name, struct str value) {
    struct build *build = argument;
    const struct http_exchange *exchange = build->web->request->exchange;
    if (!is_plain(name) || is_kept_back(build, name, value)) {
        return;
    }
    struct join join = {.build = build, .name = name};
    http_headers_each(exchange, find_first, &join);
    if (join.first != value.data) {
        return; /* it was joined to the first one */
    }
    append(build, STR("HTTP_"));
    struct cgi_environment *environment = build->environment;
    size_t at = environment->length;
    append(build, name);
    for (; !build->err && at < environment->length; at++) {
        char byte = environment->text[at];
        environment->text[at] = byte == '-'                  ? '_'
                                : byte >= 'a' && byte <= 'z' ? (char)(byte - 'a' + 'A')
                                                             : byte;
    }
    append(build, STR("="));
    append(build, value);
    http_headers_each(exchange, append_others, &join);
    end_variable(build);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void add_server(struct build *build) {
    struct request *request = build->web->request;
    const struct http_exchange *exchange = request->exchange;
    struct str authority = http_header(exchange, "Host");
    struct str name = access_host_without_port(authority);
    struct str port = {0};
    if (name.length < authority.length) {
        port = (struct str){authority.data + name.length, authority.length - name.length};
        (void)str_cut(&port, ':');
    }
    bool is_tls = str_equal_text(http_header(exchange, "X-Forwarded-Proto"), "https") &&
                  access_is_trusted_proxy(&request->api->access, http_client_address(exchange));
    add(build, STR("SERVER_NAME="), name.length > 0 ? name : STR("localhost"));
    add(build, STR("SERVER_PORT="), port.length > 0 ? port : is_tls ? STR("443") : STR("80"));
    add(build, STR("SERVER_PROTOCOL="), http_is_1_0(exchange) ? STR("HTTP/1.0") : STR("HTTP/1.1"));
    add(build, STR("SERVER_SOFTWARE="), STR("0asm"));
    if (is_tls) {
        add(build, STR("HTTPS="), STR("on"));
    }
}

static void add_request(struct build *build, uint64_t length) {
    const struct web *web = build->web;
    const struct http_exchange *exchange = web->request->exchange;
    add(build, STR("GATEWAY_INTERFACE="), STR("CGI/1.1"));
    add(build, STR("REQUEST_METHOD="), web->method);
    add(build, STR("SCRIPT_NAME="), web->script_name);
    add(build, STR("PATH_INFO="), web->path_info);
    add(build, STR("QUERY_STRING="), web->raw_query);
    append(build, STR("REQUEST_URI="));
    append(build, web->raw_path);
    if (web->raw_query.length > 0) {
        append(build, STR("?"));
        append(build, web->raw_query);
    }
    end_variable(build);
    add(build, STR("REMOTE_ADDR="), str_of(http_client_address(exchange)));
    if (web->has_body) {
        add_number(build, STR("CONTENT_LENGTH="), length);
        struct str type = http_header(exchange, "Content-Type");
        if (type.length > 0) {
            add(build, STR("CONTENT_TYPE="), type);
        }
    }
}

enum err cgi_environment_build(const struct web *web, uint64_t length,
                               struct cgi_environment *ret_environment) {
    struct cgi_environment *environment = ret_environment;
    environment->text = environment->usual;
    environment->capacity = sizeof environment->usual;
    environment->length = 0;
    environment->count = 0;
    struct build build = {.web = web, .environment = environment};
    add_request(&build, length);
    add_server(&build);
    http_headers_each(web->request->exchange, add_header, &build);
    if (build.err) {
        cgi_environment_done(environment);
    }
    return build.err;
}

void cgi_environment_done(struct cgi_environment *environment) {
    if (environment->text != environment->usual) {
        free(environment->text);
    }
}
