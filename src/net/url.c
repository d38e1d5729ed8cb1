#include "net/url.h"

void net_url_done(struct net_url *url) {
    buf_done(&url->target);
}

static uint16_t scheme_port(bool is_tls) {
    return is_tls ? 443 : 80;
}

static enum err check_characters(struct str text, struct buf *message) {
    if (text.length > NET_URL_MAX) {
        return buf_fail(message, ERR_INVAL, "the URL has more than %d bytes", NET_URL_MAX);
    }
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '\\') {
            return buf_fail(message, ERR_INVAL,
                            "the URL has a character that must be percent-encoded (byte 0x%02x)",
                            c);
        }
    }
    return ERR_OK;
}

static bool starts_without_case(struct str text, const char *prefix) {
    size_t length = strlen(prefix);
    return text.length >= length && strncasecmp(text.data, prefix, length) == 0;
}

/* Takes "http:" or "https:" off; false if there is none of them. */
static bool take_scheme(struct str *text, bool *ret_is_tls) {
    static const char *const schemes[] = {"http:", "https:"};
    for (size_t i = 0; i < ARRAY_LENGTH(schemes); i++) {
        size_t length = strlen(schemes[i]);
        if (starts_without_case(*text, schemes[i])) {
            text->data += length;
            text->length -= length;
            *ret_is_tls = i == 1;
            return true;
        }
    }
    return false;
}

static size_t find_any(struct str text, const char *characters) {
    size_t at = 0;
    while (at < text.length && !strchr(characters, text.data[at])) {
        at++;
    }
    return at;
}

static enum err parse_authority(struct str authority, struct net_url *url, struct buf *message) {
    if (memchr(authority.data, '@', authority.length)) {
        return buf_fail(message, ERR_INVAL,
                        "a URL with user information (before an '@') is not accepted; say it in an "
                        "Authorization field");
    }
    uint16_t port = 0;
    enum err err = net_host_port_parse(authority, &url->host, &port, message);
    url->port = port ? port : scheme_port(url->is_tls);
    return err;
}

/* What follows the scheme's colon. */
static enum err parse_rest(struct str rest, bool is_tls, struct net_url *ret_url,
                           struct buf *message) {
    if (!str_starts(rest, STR("//"))) {
        return buf_fail(message, ERR_INVAL, "a URL is http://HOST/PATH or https://HOST/PATH");
    }
    rest.data += 2;
    rest.length -= 2;
    cleanup_net_url struct net_url url = {.is_tls = is_tls};
    size_t end = find_any(rest, "/?#");
    enum err err = parse_authority((struct str){rest.data, end}, &url, message);
    if (err) {
        return err;
    }
    struct str target = {rest.data + end, rest.length - end};
    if (memchr(target.data, '#', target.length)) {
        return buf_fail(message, ERR_INVAL, "a URL with a fragment ('#') can't be requested");
    }
    if (target.length == 0 || target.data[0] == '?') {
        err = buf_append_byte(&url.target, '/');
    }
    if (!err) {
        err = buf_append_str(&url.target, target);
    }
    if (!err) {
        *ret_url = url;
        url.target = (struct buf){0};
    }
    return err;
}

enum err net_url_parse(struct str text, struct net_url *ret_url, struct buf *message) {
    enum err err = check_characters(text, message);
    if (err) {
        return err;
    }
    bool is_tls;
    if (!take_scheme(&text, &is_tls)) {
        return buf_fail(message, ERR_INVAL, "a URL begins with http:// or https://");
    }
    return parse_rest(text, is_tls, ret_url, message);
}

/* ---- references ---- */

/* RFC 3986 section 5.2.4, on the path alone. */
static enum err append_without_dots(struct str path, struct buf *target) {
    size_t root = target->length;
    while (path.length > 0) {
        struct str rest = {path.data + 1, path.length - 1}; /* behind the slash */
        struct str segment = str_cut(&rest, '/');
        bool is_last = !rest.data;
        bool is_dot = str_equal_text(segment, ".");
        bool is_dot_dot = str_equal_text(segment, "..");
        if (is_dot_dot) {
            while (target->length > root && target->data[--target->length] != '/') {
            }
        }
        enum err err = ERR_OK;
        if ((!is_dot && !is_dot_dot) || is_last) {
            err = buf_append_byte(target, '/');
        }
        if (!err && !is_dot && !is_dot_dot) {
            err = buf_append_str(target, segment);
        }
        if (err) {
            return err;
        }
        path = is_last ? (struct str){0} : (struct str){rest.data - 1, rest.length + 1};
    }
    return target->length > root ? ERR_OK : buf_append_byte(target, '/');
}

static enum err resolve_path(const struct net_url *base, struct str reference, struct buf *target) {
    struct str query = reference;
    struct str path = str_cut(&query, '?');
    struct str base_query = buf_str(&base->target);
    struct str base_path = str_cut(&base_query, '?');
    cleanup_buf struct buf merged = {0};
    enum err err = ERR_OK;
    if (path.length == 0) {
        err = buf_append_str(target, base_path);
        if (!query.data) {
            query = base_query;
        }
    } else {
        if (path.data[0] != '/') {
            const char *slash = memrchr(base_path.data, '/', base_path.length);
            size_t keep = slash ? (size_t)(slash + 1 - base_path.data) : 0;
            err = buf_append(&merged, base_path.data, keep);
        }
        if (!err) {
            err = buf_append_str(&merged, path);
        }
        if (!err) {
            err = append_without_dots(buf_str(&merged), target);
        }
    }
    if (!err && query.data) {
        err = buf_append_byte(target, '?');
        if (!err) {
            err = buf_append_str(target, query);
        }
    }
    return err;
}

enum err net_url_resolve(const struct net_url *base, struct str location, struct net_url *ret_url,
                         struct buf *message) {
    struct str reference = str_cut(&location, '#');
    enum err err = check_characters(reference, message);
    if (err) {
        return err;
    }
    bool is_tls;
    struct str rest = reference;
    if (take_scheme(&rest, &is_tls)) {
        return parse_rest(rest, is_tls, ret_url, message);
    }
    if (str_starts(reference, STR("//"))) {
        return parse_rest(reference, base->is_tls, ret_url, message);
    }
    size_t colon = find_any(reference, ":/?");
    if (colon < reference.length && reference.data[colon] == ':') {
        return buf_fail(message, ERR_INVAL, "it leads to something other than http and https");
    }
    cleanup_net_url struct net_url url = {
        .is_tls = base->is_tls, .host = base->host, .port = base->port};
    err = resolve_path(base, reference, &url.target);
    if (!err && url.target.length > NET_URL_MAX) {
        err = buf_fail(message, ERR_INVAL, "the URL has more than %d bytes", NET_URL_MAX);
    }
    if (!err) {
        *ret_url = url;
        url.target = (struct buf){0};
    }
    return err;
}

/* ---- as text ---- */

enum err net_url_append_authority(const struct net_url *url, struct buf *text) {
    enum err err = net_host_append(&url->host, text);
    if (!err && url->port != scheme_port(url->is_tls)) {
        err = buf_printf(text, ":%u", url->port);
    }
    return err;
}

enum err net_url_append_origin(const struct net_url *url, struct buf *text) {
    enum err err = buf_append_str(text, url->is_tls ? STR("https://") : STR("http://"));
    return err ? err : net_url_append_authority(url, text);
}

enum err net_url_encode(struct str name, bool is_query, struct buf *text) {
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = (uint8_t)name.data[i];
        if (c < 0x20 || c == 0x7f) {
            return ERR_INVAL;
        }
        bool is_escape = c == '%' && name.length - i > 2 &&
                         str_hexadecimal(name.data[i + 1]) >= 0 &&
                         str_hexadecimal(name.data[i + 2]) >= 0;
        bool is_plain = c < 0x7f && !strchr(" \"#%<>\\^`{|}", c) && (c != '?' || is_query);
        enum err err =
            is_plain || is_escape ? buf_append_byte(text, c) : buf_printf(text, "%%%02X", c);
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}
