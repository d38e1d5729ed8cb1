#include "api/web_fields.h"

#include <strings.h>

static bool is_name(struct str name, const char *other) {
    return name.length == strlen(other) && strncasecmp(name.data, other, name.length) == 0;
}

static bool is_among(struct str name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (is_name(name, names[i])) {
            return true;
        }
    }
    return false;
}

/* What the server says of runs, and of what it could not fetch (/net/request). */
static const char *const own_names[] = {
    "Run-Id", "Run-Exit", "Run-Reason", "Run-Cpu-Us", "Run-Peak-Bytes", "Log-End", "0asm-Error",
};

/* What a browser heeds, or keeps, for all of an origin, whatever the path of the page was.
 * Access-Control-* is not among them: it concerns the one answer that it comes with. */
static const char *const origin_names[] = {
    "Clear-Site-Data",
    "Strict-Transport-Security",
    "Alt-Svc",
    "Service-Worker-Allowed",
    "Public-Key-Pins",
    "Public-Key-Pins-Report-Only",
    "Expect-CT",
    "Report-To",
    "Reporting-Endpoints",
    "NEL",
    "Origin-Agent-Cluster",
    "Accept-CH",
    "Critical-CH",
    "Set-Login",
    "Sec-Session-Registration",
    "Secure-Session-Registration",
    "Use-As-Dictionary",
    "Set-Cookie2",
};

enum web_field web_field_judge(struct str name, struct str prefix) {
    if (is_among(name, own_names, ARRAY_LENGTH(own_names)) ||
        (prefix.length > 0 && is_among(name, origin_names, ARRAY_LENGTH(origin_names)))) {
        return WEB_FIELD_DROPPED;
    }
    return is_name(name, "Set-Cookie") ? WEB_FIELD_COOKIE : WEB_FIELD_PASSES;
}

/* Whether a cookie's path is that of the app's pages, or below it. */
static bool is_within(struct str path, struct str prefix) {
    return str_starts(path, prefix) &&
           (path.length == prefix.length || path.data[prefix.length] == '/');
}

/* The browser would ask for Path=/. */
static bool needs_root(struct str cookie) {
    static const char name[] = "__Host-";
    return cookie.length >= strlen(name) && strncasecmp(cookie.data, name, strlen(name)) == 0;
}

enum err web_cookie_confine(struct str cookie, struct str prefix, struct buf *ret_cookie) {
    struct str rest = cookie, path = {0};
    struct str first = str_trim(str_cut(&rest, ';'));
    if (first.length == 0 || (prefix.length > 0 && needs_root(first))) {
        return ERR_INVAL;
    }
    enum err err = buf_append_str(ret_cookie, first);
    while (!err && rest.length > 0) {
        struct str attribute = str_trim(str_cut(&rest, ';'));
        struct str value = attribute;
        struct str name = str_trim(str_cut(&value, '='));
        if (prefix.length > 0 && is_name(name, "Path")) {
            path = str_trim(value); /* the last one counts */
        } else if (attribute.length > 0 && !is_name(name, "Domain")) {
            err = buf_printf(ret_cookie, "; " STR_FORMAT, STR_ARGS(attribute));
        }
    }
    if (!err && prefix.length > 0) {
        path = is_within(path, prefix) ? path : prefix;
        err = buf_printf(ret_cookie, "; Path=" STR_FORMAT, STR_ARGS(path));
    }
    return err;
}
