#include "net/request.h"

void net_request_done(struct net_request *request) {
    buf_wipe(&request->head);
    buf_done(&request->method);
    net_url_done(&request->url);
    buf_wipe(&request->fields);
    buf_done(&request->line);
}

static enum err fail(struct buf *message, const char *why) {
    return buf_fail(message, ERR_INVAL, "%s", why);
}

/* ---- the head ---- */

static bool is_token(struct str text) {
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = (uint8_t)text.data[i];
        if (c <= 0x20 || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return text.length > 0;
}

static bool is_same(struct str text, const char *word) {
    return text.length == strlen(word) && strncasecmp(text.data, word, text.length) == 0;
}

/* What is gathered while the fields are read. */
struct reading {
    struct net_request *request;
    struct buf *message;
    bool is_http_1_0;
    bool has_host, has_length, is_chunked;
    uint64_t length;
    unsigned count;
};

static enum err read_request_line(struct reading *reading, struct str line) {
    struct net_request *request = reading->request;
    struct str rest = line;
    struct str method = str_cut(&rest, ' ');
    struct str target = str_cut(&rest, ' ');
    if (!is_token(method) || method.length > 32 || !rest.data) {
        return fail(reading->message, "the first line is not METHOD URL HTTP/1.1");
    }
    reading->is_http_1_0 = str_equal_text(rest, "HTTP/1.0");
    if (!reading->is_http_1_0 && !str_equal_text(rest, "HTTP/1.1")) {
        return fail(reading->message, "the first line does not end in HTTP/1.1");
    }
    if (is_same(method, "CONNECT")) {
        return fail(reading->message, "CONNECT is not done here; open /net/tcp/HOST:PORT");
    }
    if (target.length > 0 && (target.data[0] == '/' || target.data[0] == '*')) {
        return fail(reading->message, "the first line needs a whole URL: http://HOST/PATH");
    }
    enum err err = net_url_parse(target, &request->url, reading->message);
    return err ? err : buf_append_str(&request->method, method);
}

static enum err read_host(struct reading *reading, struct str value) {
    const struct net_url *url = &reading->request->url;
    struct net_host host;
    uint16_t port;
    enum err err = net_host_port_parse(value, &host, &port, NULL);
    uint16_t scheme_port = url->is_tls ? 443 : 80;
    if (err || reading->has_host || strcmp(host.name, url->host.name) != 0 ||
        (port ? port : scheme_port) != url->port) {
        return fail(reading->message, "Host is not the host of the URL, or is given twice");
    }
    reading->has_host = true;
    return ERR_OK;
}

static enum err read_length(struct reading *reading, struct str value) {
    if (reading->has_length || value.length > 18 || str_to_u64(value, &reading->length)) {
        return fail(reading->message, "Content-Length is no number, or is given twice");
    }
    reading->has_length = true;
    return ERR_OK;
}

static enum err read_encoding(struct reading *reading, struct str value) {
    if (reading->is_chunked || !is_same(value, "chunked") || reading->is_http_1_0) {
        return fail(reading->message, "Transfer-Encoding can be 'chunked', once, in HTTP/1.1");
    }
    reading->is_chunked = true;
    return ERR_OK;
}

static bool is_left_out(struct str name) {
    static const char *const names[] = {
        "connection",       "keep-alive",         "te", "trailer", "expect",
        "proxy-connection", "proxy-authorization"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (is_same(name, names[i])) {
            return true;
        }
    }
    return false;
}

static enum err keep_field(struct net_request *request, struct str name, struct str value) {
    enum err err = buf_append_str(&request->fields, name);
    if (!err) {
        err = buf_append_str(&request->fields, STR(": "));
    }
    if (!err) {
        err = buf_append_str(&request->fields, value);
    }
    return err ? err : buf_append_byte(&request->fields, '\n');
}

static enum err read_field(struct reading *reading, struct str line) {
    struct str value = line;
    struct str name = str_cut(&value, ':');
    if (!value.data || !is_token(name)) {
        return fail(reading->message, "a line of the head is not NAME: VALUE");
    }
    if (++reading->count > NET_REQUEST_FIELDS_MAX) {
        return buf_fail(reading->message, ERR_INVAL, "the head has more than %d fields",
                        NET_REQUEST_FIELDS_MAX);
    }
    value = str_trim(value);
    for (size_t i = 0; i < value.length; i++) {
        uint8_t c = (uint8_t)value.data[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return fail(reading->message, "a field's value has a control character");
        }
    }
    if (is_same(name, "host")) {
        return read_host(reading, value);
    }
    if (is_same(name, "content-length")) {
        return read_length(reading, value);
    }
    if (is_same(name, "transfer-encoding")) {
        return read_encoding(reading, value);
    }
    if (is_same(name, "upgrade")) {
        return fail(reading->message, "a change of the protocol is not done here; open /net/tcp");
    }
    return is_left_out(name) ? ERR_OK : keep_field(reading->request, name, value);
}

static bool has_body_by_nature(struct str method) {
    return str_equal_text(method, "POST") || str_equal_text(method, "PUT") ||
           str_equal_text(method, "PATCH");
}

static enum err decide_body(struct reading *reading) {
    struct net_request *request = reading->request;
    if (reading->has_length && reading->is_chunked) {
        return fail(reading->message, "Content-Length and Transfer-Encoding can't be both there");
    }
    struct str method = buf_str(&request->method);
    request->body_bytes = reading->is_chunked          ? NET_BODY_CHUNKED
                          : reading->has_length        ? reading->length
                          : has_body_by_nature(method) ? 0
                                                       : NET_BODY_NONE;
    bool has_body = reading->is_chunked || reading->length > 0;
    if (has_body && str_equal_text(method, "HEAD")) {
        return fail(reading->message, "a HEAD request has no body");
    }
    request->left = reading->length;
    request->has_length = reading->has_length;
    request->phase = has_body ? NET_REQUEST_BODY : NET_REQUEST_END;
    return ERR_OK;
}

/* The next line without its end; false at the end, and where a CR stands alone. */
static bool next_line(struct str *rest, struct str *ret_line, bool *ret_bad) {
    if (rest->length == 0) {
        return false;
    }
    struct str line = str_cut(rest, '\n');
    if (line.length > 0 && line.data[line.length - 1] == '\r') {
        line.length--;
    }
    *ret_bad = line.length > 0 &&
               (memchr(line.data, '\r', line.length) || memchr(line.data, 0, line.length));
    *ret_line = line;
    return true;
}

static enum err read_head(struct net_request *request, struct buf *message) {
    struct reading reading = {.request = request, .message = message};
    struct str rest = buf_str(&request->head), line;
    bool is_bad = false, is_first = true;
    enum err err = ERR_OK;
    while (!err && next_line(&rest, &line, &is_bad)) {
        if (is_bad) {
            err = fail(message, "the head has a CR that no LF follows, or a NUL");
        } else if (is_first) {
            err = read_request_line(&reading, line);
        } else if (line.length > 0) {
            err = read_field(&reading, line);
        }
        is_first = false;
    }
    return err ? err : decide_body(&reading);
}

enum err net_request_head(struct net_request *request, const void *data, size_t length,
                          size_t *ret_taken, struct buf *message) {
    const char *bytes = data;
    size_t taken = 0;
    bool is_complete = false;
    while (taken < length && !is_complete) {
        const char *newline = memchr(bytes + taken, '\n', length - taken);
        size_t end = newline ? (size_t)(newline + 1 - bytes) : length;
        enum err err = request->head.length + (end - taken) > NET_REQUEST_HEAD_MAX
                           ? buf_fail(message, ERR_INVAL, "the head has more than %d bytes",
                                      NET_REQUEST_HEAD_MAX)
                           : buf_append(&request->head, bytes + taken, end - taken);
        if (err) {
            return err;
        }
        taken = end;
        struct str head = buf_str(&request->head);
        is_complete = newline && (head.length == 1 || head.data[head.length - 2] == '\n' ||
                                  (head.data[head.length - 2] == '\r' &&
                                   (head.length == 2 || head.data[head.length - 3] == '\n')));
    }
    *ret_taken = taken;
    if (!is_complete) {
        return ERR_OK;
    }
    enum err err = read_head(request, message);
    buf_wipe(&request->head);
    return err;
}

/* ---- the body ---- */

static enum err read_chunk_size(struct net_request *request, struct str line, struct buf *message) {
    struct str size = str_cut(&line, ';'); /* extensions mean nothing */
    size = str_trim(size);
    uint64_t value = 0;
    for (size_t i = 0; i < size.length; i++) {
        int digit = str_hexadecimal(size.data[i]);
        if (digit < 0 || size.length > 15) {
            return fail(message, "a chunk's size is no hexadecimal number");
        }
        value = value << 4 | (unsigned)digit;
    }
    if (size.length == 0) {
        return fail(message, "a chunk has no size");
    }
    request->left = value;
    request->chunk = value > 0 ? CHUNK_DATA : CHUNK_TRAILER;
    return ERR_OK;
}

static enum err read_framing_line(struct net_request *request, struct str line,
                                  struct buf *message) {
    switch (request->chunk) {
    case CHUNK_SIZE:
        return read_chunk_size(request, line, message);
    case CHUNK_DATA_END:
        request->chunk = CHUNK_SIZE;
        return line.length == 0 ? ERR_OK : fail(message, "a chunk is longer than its size");
    case CHUNK_TRAILER:
        if (line.length == 0) {
            request->phase = NET_REQUEST_END;
        }
        return ERR_OK;
    case CHUNK_DATA:
        break;
    }
    return ERR_OK;
}

enum err net_request_framing(struct net_request *request, const void *data, size_t length,
                             size_t *ret_taken, struct buf *message) {
    const char *bytes = data;
    size_t taken = 0;
    bool is_chunked = request->body_bytes == NET_BODY_CHUNKED;
    while (is_chunked && request->phase == NET_REQUEST_BODY && request->chunk != CHUNK_DATA &&
           taken < length) {
        const char *newline = memchr(bytes + taken, '\n', length - taken);
        size_t end = newline ? (size_t)(newline + 1 - bytes) : length;
        enum err err = buf_append(&request->line, bytes + taken, end - taken);
        if (err) {
            return err;
        }
        if (request->chunk == CHUNK_TRAILER) {
            request->trailer_bytes += end - taken;
        }
        taken = end;
        if (request->line.length > NET_REQUEST_LINE_MAX ||
            request->trailer_bytes > NET_REQUEST_TRAILER_MAX) {
            return fail(message, "a line between chunks is too long");
        }
        struct str rest = buf_str(&request->line), line;
        bool is_bad = false;
        if (newline && next_line(&rest, &line, &is_bad)) {
            err = is_bad ? fail(message, "a line between chunks has a CR that no LF follows")
                         : read_framing_line(request, line, message);
            request->line.length = 0;
            if (err) {
                return err;
            }
        }
    }
    *ret_taken = taken;
    return ERR_OK;
}

size_t net_request_body(const struct net_request *request, size_t length) {
    bool is_data = request->phase == NET_REQUEST_BODY &&
                   (request->body_bytes != NET_BODY_CHUNKED || request->chunk == CHUNK_DATA);
    return is_data ? (size_t)MIN(request->left, (uint64_t)length) : 0;
}

void net_request_took(struct net_request *request, size_t length) {
    request->left -= length;
    if (request->left > 0) {
        return;
    }
    if (request->body_bytes == NET_BODY_CHUNKED) {
        request->chunk = CHUNK_DATA_END;
    } else {
        request->phase = NET_REQUEST_END;
    }
}
