#include "http/http_gate.h"

#include <strings.h>

enum {
    IN_TOKEN = 1,  /* RFC 9110 section 5.6.2: tchar */
    IN_VALUE = 2,  /* RFC 9110 section 5.5: field-vchar, SP, HTAB, obs-text */
    IN_TARGET = 4, /* RFC 3986: no space, no control, no fragment; bytes of UTF-8 are tolerated */
    IN_HOST = 8,   /* RFC 3986 section 3.2.2 and a port */
};

/* The classes of a byte in words: V value, T target, K token, H host. */
enum {
    V = IN_VALUE,
    VK = IN_VALUE | IN_TOKEN,
    VT = IN_VALUE | IN_TARGET,
    VTK = IN_VALUE | IN_TARGET | IN_TOKEN,
    VTH = IN_VALUE | IN_TARGET | IN_HOST,
    VTKH = IN_VALUE | IN_TARGET | IN_TOKEN | IN_HOST,
};

/* clang-format off */
static const uint8_t classes[256] = {
    ['\t'] = V, [' '] = V, ['#'] = VK, [0x80 ... 0xff] = VT,
    ['0' ... '9'] = VTKH, ['A' ... 'Z'] = VTKH, ['a' ... 'z'] = VTKH,
    ['%'] = VTKH, ['-'] = VTKH, ['.'] = VTKH, ['_'] = VTKH, ['~'] = VTKH,
    ['!'] = VTK, ['$'] = VTK, ['&'] = VTK, ['\''] = VTK, ['*'] = VTK, ['+'] = VTK, ['^'] = VTK,
    ['`'] = VTK, ['|'] = VTK,
    [':'] = VTH, ['['] = VTH, [']'] = VTH,
    ['"'] = VT, ['('] = VT, [')'] = VT, [','] = VT, ['/'] = VT, [';'] = VT, ['<'] = VT,
    ['='] = VT, ['>'] = VT, ['?'] = VT, ['@'] = VT, ['\\'] = VT, ['{'] = VT, ['}'] = VT,
};
/* clang-format on */

/* How many bytes from `at` on are of the class. */
static size_t span(const char *at, const char *end, uint8_t class) {
    const char *here = at;
    while (here < end && (classes[(uint8_t)*here] & class)) {
        here++;
    }
    return (size_t)(here - at);
}

static bool is_name(struct str name, struct str literal) {
    return name.length == literal.length &&
           strncasecmp(name.data, literal.data, literal.length) == 0;
}

static struct http_refusal refuse(int status, const char *reason) {
    return (struct http_refusal){status, reason};
}
static const struct http_refusal passed = {0};

/* What has been seen of the fields that decide about framing. */
struct framing {
    struct str host;
    size_t host_count, length_count, encoding_count;
};

static struct http_refusal check_field(struct http_head *head, struct framing *framing,
                                       struct str name, struct str raw, struct str value) {
    if (is_name(name, STR("host"))) {
        framing->host_count++;
        framing->host = value;
        if (span(value.data, value.data + value.length, IN_HOST) != value.length) {
            return refuse(400, "Host: has a character that no host has");
        }
    } else if (is_name(name, STR("content-length"))) {
        framing->length_count++;
        if (str_to_u64(value, &head->content_length) != ERR_OK ||
            head->content_length > INT64_MAX) {
            return refuse(400, "Content-Length: is not a number of bytes");
        }
        head->has_content_length = true;
    } else if (is_name(name, STR("transfer-encoding"))) {
        framing->encoding_count++;
        /* libmicrohttpd compares with the white space at the end: so it must have none. */
        if (!is_name(value, STR("chunked")) || raw.data + raw.length != value.data + value.length) {
            return refuse(400, "Transfer-Encoding: only `chunked` is known");
        }
        head->is_chunked = true;
    } else if (is_name(name, STR("expect"))) {
        head->expects_continue = is_name(value, STR("100-continue"));
    }
    return passed;
}

static struct http_refusal check_framing(struct http_head *head, const struct framing *framing) {
    if (framing->length_count > 1) {
        return refuse(400, "more than one Content-Length");
    }
    if (framing->encoding_count > 1) {
        return refuse(400, "more than one Transfer-Encoding");
    }
    if (head->is_chunked && head->has_content_length) {
        return refuse(400, "Content-Length together with Transfer-Encoding");
    }
    if (head->is_chunked && head->is_http_1_0) {
        return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (framing->host_count > 1) {
        return refuse(400, "more than one Host");
    }
    if (framing->host_count == 0 && !head->is_http_1_0) {
        return refuse(400, "Host: is missing");
    }
    return passed;
}

/* The origin-form (RFC 9112 section 3.2.1), or the absolute-form with the authority of the Host. */
static struct http_refusal check_target(struct http_head *head, struct str host) {
    struct str path = head->path;
    if (path.length > 0 && path.data[0] == '/') {
        return passed;
    }
    static const struct str scheme = {"http://", 7};
    if (path.length < scheme.length || strncasecmp(path.data, scheme.data, scheme.length) != 0) {
        return refuse(400, "the request target must be a path, beginning with '/'");
    }
    struct str authority = {path.data + scheme.length, path.length - scheme.length};
    const char *slash = memchr(authority.data, '/', authority.length);
    if (!slash) {
        return refuse(400, "the request target has no path");
    }
    authority.length = (size_t)(slash - authority.data);
    if (!is_name(authority, host)) {
        return refuse(400, "the request target is of another host than Host: says");
    }
    head->path = (struct str){slash, (size_t)(path.data + path.length - slash)};
    return passed;
}

static struct http_refusal check_request_line(const char *data, const char *end,
                                              size_t target_length, size_t query_at,
                                              struct http_head *head, const char **ret_after) {
    head->method_length = span(data, end, IN_TOKEN);
    const char *target = data + head->method_length + 1;
    if (head->method_length == 0 || target >= end || target[-1] != '\0') {
        return refuse(400, "the request line must be: METHOD /path HTTP/1.1");
    }
    if (target_length > (size_t)(end - target) || query_at > target_length) {
        return refuse(400, "the request line must be: METHOD /path HTTP/1.1");
    }
    head->path = (struct str){target, query_at};
    head->query = (struct str){target + target_length, 0};
    if (query_at < target_length) {
        head->query = (struct str){target + query_at + 1, target_length - query_at - 1};
    }
    if (span(head->path.data, head->path.data + head->path.length, IN_TARGET) !=
            head->path.length ||
        span(head->query.data, head->query.data + head->query.length, IN_TARGET) !=
            head->query.length) {
        return refuse(400, "the request target has a space, a control character or a '#'");
    }
    const char *version = target + target_length + 1;
    if (version > end || end - version < 10 || version[-1] != '\0' ||
        memcmp(version, "HTTP/", 5) != 0) {
        return refuse(400, "the request line must be: METHOD /path HTTP/1.1");
    }
    if (version[8] != '\0' || version[9] != '\0') {
        return refuse(400, "a line must end with CR LF");
    }
    if (memcmp(version + 5, "1.0", 3) == 0) {
        head->is_http_1_0 = true;
    } else if (memcmp(version + 5, "1.1", 3) != 0) {
        return refuse(505, "only HTTP/1.0 and HTTP/1.1 are known");
    }
    *ret_after = version + 10;
    return passed;
}

struct http_refusal http_gate_check(const char *data, size_t length, size_t target_length,
                                    size_t query_at, size_t bytes_max, struct http_head *ret_head) {
    if (target_length > bytes_max) {
        return refuse(414, "the request target is too long");
    }
    if (length > MIN(bytes_max, HTTP_HEAD_BYTES_LIMIT)) {
        return refuse(431, "the request's head is too large");
    }
    struct http_head *head = ret_head;
    const char *end = data + length;
    /* All but the fields, which are valid up to the count. */
    memset(head, 0, offsetof(struct http_head, fields));
    head->data = data;
    const char *at = NULL;
    struct http_refusal refusal = check_request_line(data, end, target_length, query_at, head, &at);
    if (refusal.status) {
        return refusal;
    }
    struct framing framing = {0};
    while (at < end && *at != '\0') {
        size_t name_length = span(at, end, IN_TOKEN);
        const char *raw = at + name_length + 1;
        if (name_length == 0 || raw > end || raw[-1] != '\0') {
            return refuse(400, "a field's name must be a token, right before its colon");
        }
        size_t raw_length = span(raw, end, IN_VALUE);
        if (end - raw - (ptrdiff_t)raw_length < 2 || raw[raw_length] != '\0') {
            return refuse(400, "a field's value has a control character");
        }
        if (raw[raw_length + 1] != '\0') {
            return refuse(400, "a line must end with CR LF, and a value has no NUL");
        }
        if (head->field_count == HTTP_FIELDS_MAX) {
            return refuse(431, "more than 100 header fields");
        }
        struct str value = {raw, raw_length};
        while (value.length > 0 && (*value.data == ' ' || *value.data == '\t')) {
            value.data++;
            value.length--;
        }
        while (value.length > 0 &&
               (value.data[value.length - 1] == ' ' || value.data[value.length - 1] == '\t')) {
            value.length--;
        }
        head->fields[head->field_count++] = (struct http_field){
            .name = (uint16_t)(at - data),
            .name_length = (uint16_t)name_length,
            .value = (uint16_t)(value.data - data),
            .value_length = (uint16_t)value.length,
        };
        refusal = check_field(head, &framing, (struct str){at, name_length},
                              (struct str){raw, raw_length}, value);
        if (refusal.status) {
            return refusal;
        }
        at = raw + raw_length + 2;
    }
    if (end - at != 2 || at[0] != '\0' || at[1] != '\0') {
        return refuse(400, "the head must end with an empty line");
    }
    refusal = check_framing(head, &framing);
    if (!refusal.status) {
        refusal = check_target(head, framing.host);
    }
    if (head->is_http_1_0) {
        head->expects_continue = false;
    }
    return refusal;
}

struct str http_head_find(const struct http_head *head, struct str name) {
    for (size_t i = 0; i < head->field_count; i++) {
        if (is_name(http_field_name(head, i), name)) {
            return http_field_value(head, i);
        }
    }
    return (struct str){0};
}

bool http_is_field(const char *name, const char *value) {
    const char *name_end = name + strlen(name);
    const char *value_end = value + strlen(value);
    return name != name_end && span(name, name_end, IN_TOKEN) == (size_t)(name_end - name) &&
           span(value, value_end, IN_VALUE) == (size_t)(value_end - value);
}
