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
    bool keeps_alive;
};

/* Connection (RFC 9110 section 7.6.1) is a list of which we know two. */
static void take_connection(struct http_head *head, struct framing *framing, struct str list) {
    while (list.data) {
        struct str option = str_trim(str_cut(&list, ','));
        if (is_name(option, STR("close"))) {
            head->closes = true;
        } else if (is_name(option, STR("keep-alive"))) {
            framing->keeps_alive = true;
        }
    }
}

/* Most fields are none of these; their lengths tell them apart already. */
static struct http_refusal check_field(struct http_head *head, struct framing *framing,
                                       struct str name, struct str raw, struct str value) {
    switch (name.length) {
    case 4:
        if (is_name(name, STR("host"))) {
            framing->host_count++;
            framing->host = value;
            if (span(value.data, value.data + value.length, IN_HOST) != value.length) {
                return refuse(400, "Host: has a character that no host has");
            }
        }
        break;
    case 6:
        if (is_name(name, STR("expect"))) {
            head->expects_continue = is_name(value, STR("100-continue"));
        }
        break;
    case 10:
        if (is_name(name, STR("connection"))) {
            take_connection(head, framing, value);
        }
        break;
    case 14:
        if (is_name(name, STR("content-length"))) {
            framing->length_count++;
            if (str_to_u64(value, &head->content_length) != ERR_OK ||
                head->content_length > INT64_MAX) {
                return refuse(400, "Content-Length: is not a number of bytes");
            }
            head->has_content_length = true;
        }
        break;
    case 17:
        if (is_name(name, STR("transfer-encoding"))) {
            framing->encoding_count++;
            /* White space behind it is no error, but others have been seen to miss it. */
            if (!is_name(value, STR("chunked")) ||
                raw.data + raw.length != value.data + value.length) {
                return refuse(400, "Transfer-Encoding: only `chunked` is known");
            }
            head->is_chunked = true;
        }
        break;
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

/* The line without its end. */
static struct http_refusal check_request_line(const char *data, const char *end,
                                              struct http_head *head) {
    static const size_t version_length = 9; /* with the space before it */
    head->method_length = span(data, end, IN_TOKEN);
    const char *target = data + head->method_length + 1;
    const char *version = end - version_length;
    if (head->method_length == 0 || end - data < (ptrdiff_t)(head->method_length + 1) ||
        target > version || target[-1] != ' ' || memcmp(version, " HTTP/", 6) != 0) {
        return refuse(400, "the request line must be: METHOD /path HTTP/1.1");
    }
    if (span(target, version, IN_TARGET) != (size_t)(version - target)) {
        return refuse(400, "the request target has a space, a control character or a '#'");
    }
    const char *mark = memchr(target, '?', (size_t)(version - target));
    head->path = (struct str){target, (size_t)((mark ? mark : version) - target)};
    head->query = (struct str){version, 0};
    if (mark) {
        head->query = (struct str){mark + 1, (size_t)(version - mark - 1)};
    }
    if (memcmp(version + 6, "1.0", 3) == 0) {
        head->is_http_1_0 = true;
    } else if (memcmp(version + 6, "1.1", 3) != 0) {
        return refuse(505, "only HTTP/1.0 and HTTP/1.1 are known");
    }
    head->is_head = head->method_length == 4 && memcmp(data, "HEAD", 4) == 0;
    return passed;
}

static bool is_line_end(const char *at, const char *end) {
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n';
}

/* Takes one field and moves *at behind its line. */
static struct http_refusal take_field(struct http_head *head, struct framing *framing,
                                      const char **at, const char *end) {
    struct str name = {*at, span(*at, end, IN_TOKEN)};
    const char *colon = name.data + name.length;
    if (name.length == 0 || colon == end || *colon != ':') {
        return refuse(400, "a field's name must be a token, right before its colon");
    }
    struct str raw = {colon + 1, span(colon + 1, end, IN_VALUE)};
    const char *raw_end = raw.data + raw.length;
    if (!is_line_end(raw_end, end)) {
        return raw_end == end || *raw_end == '\r' || *raw_end == '\n'
                   ? refuse(400, "a line must end with CR LF")
                   : refuse(400, "a field's value has a control character");
    }
    if (head->field_count == HTTP_FIELDS_MAX) {
        return refuse(431, "more than 100 header fields");
    }
    struct str value = str_trim(raw);
    head->fields[head->field_count++] = (struct http_field){
        .name = (uint16_t)(name.data - head->data),
        .name_length = (uint16_t)name.length,
        .value = (uint16_t)(value.data - head->data),
        .value_length = (uint16_t)value.length,
    };
    *at = raw_end + 2;
    return check_field(head, framing, name, raw, value);
}

struct http_refusal http_gate_check(const char *data, size_t length, struct http_head *ret_head) {
    struct http_head *head = ret_head;
    const char *end = data + length;
    /* All but the fields, which are valid up to the count. */
    memset(head, 0, offsetof(struct http_head, fields));
    head->data = data;
    const char *feed = length <= HTTP_HEAD_BYTES_LIMIT ? memchr(data, '\n', length) : NULL;
    if (!feed || feed == data || feed[-1] != '\r') {
        return refuse(400, "a line must end with CR LF");
    }
    struct http_refusal refusal = check_request_line(data, feed - 1, head);
    struct framing framing = {0};
    const char *at = feed + 1;
    while (!refusal.status && !is_line_end(at, end)) {
        refusal = take_field(head, &framing, &at, end);
    }
    if (refusal.status) {
        return refusal;
    }
    if (end - at != 2) {
        return refuse(400, "the head must end with an empty line");
    }
    refusal = check_framing(head, &framing);
    if (!refusal.status) {
        refusal = check_target(head, framing.host);
    }
    if (head->is_http_1_0) {
        head->expects_continue = false;
        head->closes = head->closes || !framing.keeps_alive;
    }
    return refusal;
}

struct http_refusal http_gate_scan(struct http_scan *scan, const char *data, size_t length,
                                   size_t bytes_max, size_t *ret_length) {
    *ret_length = 0;
    bytes_max = MIN(bytes_max, HTTP_HEAD_BYTES_LIMIT);
    if (length > 0 && !http_is_token_byte((uint8_t)data[0])) { /* TLS, for example */
        return refuse(400, "the request line must be: METHOD /path HTTP/1.1");
    }
    for (;;) {
        const char *feed = memchr(data + scan->at, '\n', length - scan->at);
        scan->at = feed ? (size_t)(feed + 1 - data) : length;
        if (scan->at > bytes_max) {
            return scan->line == 0 ? refuse(414, "the request target is too long")
                                   : refuse(431, "the request's head is too large");
        }
        if (!feed) {
            return passed;
        }
        if (feed[-1] != '\r') { /* there is a byte before it: the first is of a token */
            return refuse(400, "a line must end with CR LF");
        }
        if ((size_t)(feed - 1 - data) == scan->line) {
            *ret_length = scan->at;
            return passed;
        }
        scan->line = scan->at;
    }
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

bool http_is_token_byte(uint8_t byte) {
    return classes[byte] & IN_TOKEN;
}

bool http_is_value_byte(uint8_t byte) {
    return classes[byte] & IN_VALUE;
}
