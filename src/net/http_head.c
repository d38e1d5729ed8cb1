/* Heads of responses: what of them is shown. */
#include "net/http_internal.h"

/* Fields that say how the message comes to us, not what it is; and what only /net/request says. */
static const char *const hidden_fields[] = {"connection",        "keep-alive", "proxy-connection",
                                            "transfer-encoding", "te",         "trailer",
                                            "upgrade",           "0asm-error"};

static bool is_token(struct str text) {
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c <= 0x20 || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return text.length > 0;
}

static bool is_named(struct str name, const char *wanted) {
    return name.length == strlen(wanted) && strncasecmp(name.data, wanted, name.length) == 0;
}

static struct str trim(struct str text) {
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 && strchr(" \t\r\n", text.data[text.length - 1])) {
        text.length--;
    }
    return text;
}

static bool has_control(struct str text) {
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return true;
        }
    }
    return false;
}

/* "HTTP/1.1 200 OK": a new head begins; what came before was one of 1xx. */
static bool take_status(struct net_http *http, struct str line) {
    struct str version = str_cut(&line, ' ');
    struct str number = str_cut(&line, ' ');
    uint64_t status;
    (void)version;
    if (number.length != 3 || str_to_u64(number, &status) || status < 100) {
        net_http_fail(http, ERR_IO, "%s sent a response without a status", http->url.host.name);
        return false;
    }
    if (status == 101) {
        net_http_fail(http, ERR_IO, "%s changed the protocol, which was not asked for",
                      http->url.host.name);
        return false;
    }
    http->status = (unsigned)status;
    http->reason.length = http->shown.length = 0;
    http->is_chunked = false;
    return has_control(line) || buf_append_str(&http->reason, line) == ERR_OK;
}

static enum err show_field(struct net_http *http, struct str name, struct str value) {
    return buf_printf(&http->shown, STR_FORMAT ": " STR_FORMAT "\r\n", STR_ARGS(name),
                      STR_ARGS(value));
}

static enum err take_field(struct net_http *http, struct str line) {
    struct str value = line;
    struct str name = str_cut(&value, ':');
    value = trim(value);
    if (!value.data || !is_token(name) || has_control(value)) {
        return ERR_OK; /* left out */
    }
    if (is_named(name, "transfer-encoding")) {
        http->is_chunked = true;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(hidden_fields); i++) {
        if (is_named(name, hidden_fields[i])) {
            return ERR_OK;
        }
    }
    if (is_named(name, "content-length")) {
        uint64_t length, earlier;
        if (str_to_u64(value, &length)) {
            return ERR_OK;
        }
        struct str shown = net_http_field(http, "content-length");
        if (shown.data) { /* two that differ: nobody knows where the body ends (RFC 9112, 6.3) */
            return str_to_u64(shown, &earlier) || earlier != length ? ERR_IO : ERR_OK;
        }
    }
    return show_field(http, name, value);
}

/* Content-Length next to chunks is a lie. */
static void drop_length(struct net_http *http) {
    struct str length = net_http_field(http, "content-length");
    if (!length.data) {
        return;
    }
    char *begin = (char *)(uintptr_t)length.data;
    while (begin > (char *)http->shown.data && begin[-1] != '\n') {
        begin--;
    }
    char *end =
        memchr(begin, '\n', (size_t)((char *)http->shown.data + http->shown.length - begin));
    size_t rest = (size_t)((char *)http->shown.data + http->shown.length - (end + 1));
    memmove(begin, end + 1, rest);
    http->shown.length -= (size_t)(end + 1 - begin);
}

bool net_http_head_line(struct net_http *http, struct str line) {
    if (http->head_done) {
        return true; /* trailers */
    }
    http->answer_bytes += line.length;
    if (http->answer_bytes > NET_HTTP_HEAD_MAX) {
        net_http_fail(http, ERR_IO, "the response's head has more than %d bytes",
                      NET_HTTP_HEAD_MAX);
        return false;
    }
    struct str text = trim(line);
    if (text.length == 0) {
        if (http->status >= 200) {
            http->head_done = true;
            http->answer_bytes = 0; /* counts the body from now on */
            if (http->is_chunked) {
                drop_length(http);
            }
        }
        return true;
    }
    if (str_starts(text, STR("HTTP/"))) {
        return take_status(http, text);
    }
    bool is_folded = line.data[0] == ' ' || line.data[0] == '\t';
    enum err err = is_folded ? ERR_OK : take_field(http, text);
    if (err == ERR_IO) {
        net_http_fail(http, err, "%s sent a response with two lengths", http->url.host.name);
    } else if (err) {
        net_http_fail(http, err, "out of memory");
    }
    return err == ERR_OK;
}

unsigned net_http_status(const struct net_http *http) {
    return http->status;
}

struct str net_http_reason(const struct net_http *http) {
    return buf_str(&http->reason);
}

struct str net_http_fields(const struct net_http *http) {
    return buf_str(&http->shown);
}

struct str net_http_field(const struct net_http *http, const char *name) {
    struct str rest = buf_str(&http->shown);
    while (rest.length > 0) {
        struct str value = str_cut(&rest, '\n');
        struct str field = str_cut(&value, ':');
        if (is_named(field, name)) {
            return trim(value);
        }
    }
    return (struct str){0};
}
