#include "api/cgi_response.h"

#include <strings.h>

enum { FIELDS_AT_FIRST = 4 };

static bool is_token(uint8_t byte) {
    bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
    bool is_digit = byte >= '0' && byte <= '9';
    return is_letter || is_digit || (byte && strchr("!#$%&'*+-.^_`|~", byte));
}

/* RFC 9110 section 5.5: no control character but the tabulator. */
static bool is_value(uint8_t byte) {
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static bool is_name(struct str name, const char *other) {
    return name.length == strlen(other) && strncasecmp(name.data, other, name.length) == 0;
}

static void set_broken(struct cgi_response *response, const char *why) {
    response->state = CGI_BROKEN;
    response->broken = why;
}

/* "HTTP/1.1 2": a status line is meant, which may be malformed further on. */
static bool is_meant_as_status_line(const struct cgi_response *response) {
    struct str line = buf_str(&response->gathered);
    if (response->place != CGI_IN_STATUS_LINE) {
        return false;
    }
    struct str version = str_cut(&line, ' ');
    for (size_t i = strlen("HTTP/"); i < version.length; i++) {
        bool is_digit = version.data[i] >= '0' && version.data[i] <= '9';
        if (!is_digit && version.data[i] != '.') {
            return false;
        }
    }
    while (line.length > 0 && line.data[0] == ' ') {
        line.data++;
        line.length--;
    }
    return line.length > 0 && line.data[0] >= '0' && line.data[0] <= '9';
}

/* It is not of a head's form: broken if it has begun as one. */
static void set_no_head(struct cgi_response *response, const char *why) {
    if (response->has_cgi_field || is_meant_as_status_line(response)) {
        set_broken(response, why);
    } else if (response->is_http) {
        set_broken(response, "it is no HTTP/1.1");
    } else {
        response->state = CGI_TEXT;
        response->body_at = 0;
    }
}

/* --- fields ------------------------------------------------------------------------------- */

static struct str name_of(const struct cgi_response *response, const struct cgi_field *field) {
    return (struct str){(const char *)response->gathered.data + field->name, field->name_length};
}

static struct str value_of(const struct cgi_response *response, const struct cgi_field *field) {
    return (struct str){(const char *)response->gathered.data + field->value, field->value_length};
}

/* "404" or "404 Not Found". */
static bool parse_status(struct str value, int *ret_status) {
    struct str number = str_cut(&value, ' ');
    uint64_t status = 0;
    if (number.length != 3 || str_to_u64(number, &status) || status < 200 || status > 599) {
        return false;
    }
    *ret_status = (int)status;
    return true;
}

static void take_length(struct cgi_response *response, struct str value) {
    uint64_t length = 0;
    bool is_first = !response->has_length && !response->length_is_bad;
    bool is_bad = str_to_u64(value, &length) || length > INT64_MAX;
    if (!is_first && (is_bad || response->length_is_bad || length != response->length)) {
        response->lengths_differ = true;
    }
    if (is_bad || response->lengths_differ) {
        response->length_is_bad = true;
    } else {
        response->has_length = true;
        response->length = length;
    }
}

/* Those that belong to the connection (RFC 9110 section 7.6.1, RFC 9112), or to us, and the
 * extensions of CGI that are meant for servers (RFC 3875 section 6.3.5). */
bool cgi_is_kept_back(struct str name) {
    static const char *const names[] = {
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Authentication-Info",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Date",
        "X-Content-Type-Options",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (is_name(name, names[i])) {
            return true;
        }
    }
    return name.length > 6 && strncasecmp(name.data, "X-CGI-", 6) == 0;
}

/* Whether `word` is in a list of words with commas between them. */
static bool has_word(struct str list, const char *word) {
    while (list.length > 0) {
        struct str one = str_trim(str_cut(&list, ','));
        if (is_name(one, word)) {
            return true;
        }
    }
    return false;
}

/* How a server sends it. */
static void interpret_framing(struct cgi_response *response, struct str name, struct str value) {
    if (is_name(name, "Connection")) {
        response->closes |= has_word(value, "close");
    } else if (is_name(name, "Transfer-Encoding")) {
        if (response->is_chunked || !is_name(value, "chunked")) {
            set_broken(response, "its Transfer-Encoding is not chunked, once");
        }
        response->is_chunked = true;
    } else if (response->length_is_bad) {
        set_broken(response, "its Content-Length is no number, or there are two");
    }
}

/* What the field means to us; whether it is passed on. */
static bool interpret(struct cgi_response *response, struct str name, struct str value) {
    if (is_name(name, "Status") && !response->is_http) {
        if (response->has_status || !parse_status(value, &response->status)) {
            set_broken(response, "Status is not a number from 200 to 599, given once");
        }
        response->has_cgi_field = response->has_status = true;
        return false;
    }
    if (is_name(name, "Location")) {
        if (response->has_location || value.length == 0) {
            set_broken(response, "Location is empty, or given twice");
        }
        response->has_cgi_field = response->has_location = true;
        return false;
    }
    if (is_name(name, "Content-Type")) {
        if (response->has_type || value.length == 0) {
            set_broken(response, "Content-Type is empty, or given twice");
        }
        response->has_cgi_field = response->has_type = true;
        return false;
    }
    if (is_name(name, "Content-Length")) {
        take_length(response, value);
        if (response->is_http) {
            interpret_framing(response, name, value);
        }
        return false;
    }
    if (response->is_http) {
        interpret_framing(response, name, value);
    } else if (is_name(name, "Transfer-Encoding")) {
        response->has_transfer_encoding = true;
    }
    return value.length > 0 && !cgi_is_kept_back(name);
}

/* Most heads have one field, or there is none. */
static bool has_room_for_field(struct cgi_response *response) {
    size_t count = response->field_count;
    if (count > 0 && (count < FIELDS_AT_FIRST || (count & (count - 1)) != 0)) {
        return true; /* there is some for each power of two */
    }
    size_t capacity = MAX(2 * count, (size_t)FIELDS_AT_FIRST);
    struct cgi_field *fields = realloc(response->fields, capacity * sizeof *fields);
    response->fields = fields ? fields : response->fields;
    return fields != NULL;
}

/* A line is complete; the value ends before `end`. */
static void take_field(struct cgi_response *response, size_t end) {
    if (response->field_count == CGI_FIELDS_MAX) {
        set_no_head(response, "its head has more than 64 fields");
        return;
    }
    if (response->is_http && !response->has_status_line) {
        set_no_head(response, NULL);
        return;
    }
    const char *text = (const char *)response->gathered.data;
    size_t value_at = response->value_at;
    while (value_at < end && (text[value_at] == ' ' || text[value_at] == '\t')) {
        value_at++;
    }
    while (end > value_at && (text[end - 1] == ' ' || text[end - 1] == '\t')) {
        end--;
    }
    if (!has_room_for_field(response)) {
        set_broken(response, "the server is out of memory");
        return;
    }
    struct cgi_field *field = &response->fields[response->field_count++];
    *field = (struct cgi_field){
        .name = (uint16_t)response->name_at,
        .name_length = (uint16_t)(response->value_at - 1 - response->name_at),
        .value = (uint16_t)value_at,
        .value_length = (uint16_t)(end - value_at),
    };
    field->is_passed = interpret(response, name_of(response, field), value_of(response, field));
}

static const char *text_at(const struct cgi_response *response, size_t at) {
    return at ? (const char *)response->gathered.data + at : NULL;
}

const char *cgi_response_type(const struct cgi_response *response) {
    return text_at(response, response->type_at);
}

const char *cgi_response_location(const struct cgi_response *response) {
    return text_at(response, response->location_at);
}

/* --- the head ----------------------------------------------------------------------------- */

/* RFC 3875 section 6.2: what follows from which fields there are. */
static void conclude(struct cgi_response *response) {
    if (!response->has_status) {
        response->status = response->has_location ? 302 : 200;
    }
    const char *location = cgi_response_location(response);
    bool is_path = location && location[0] == '/' && location[1] != '/' && location[1] != '\\';
    response->is_local_redirect =
        is_path && response->field_count == 1 && !response->has_status_line;
    response->has_length =
        response->has_length && !response->length_is_bad && !response->is_chunked;
}

/* What comes before the response itself (RFC 9110 section 15.2) says nothing to us. */
static void pass_over(struct cgi_response *response, size_t end) {
    buf_consume(&response->gathered, end);
    response->scanned = response->field_count = 0;
    response->has_cgi_field = response->has_status = response->has_status_line = false;
    response->has_location = response->has_type = response->has_length = false;
    response->is_chunked = response->closes = response->is_interim = false;
    response->place = CGI_AT_LINE;
}

/* The empty line has come: names and values become C strings. */
static void end_head(struct cgi_response *response, size_t body_at) {
    if (!response->has_cgi_field) {
        set_no_head(response, NULL);
        return;
    }
    if (response->lengths_differ) { /* only now: what has no head is text, whatever it says */
        set_broken(response, "its Content-Length is given twice, and differs");
        return;
    }
    if (response->has_transfer_encoding) {
        set_broken(response,
                   "it has a Transfer-Encoding; the body is what is written, until close");
        return;
    }
    if (response->is_interim) {
        pass_over(response, body_at);
        return;
    }
    char *text = (char *)response->gathered.data;
    for (size_t i = 0; i < response->field_count; i++) {
        const struct cgi_field *field = &response->fields[i];
        text[field->name + field->name_length] = '\0';
        text[field->value + field->value_length] = '\0';
        if (is_name(name_of(response, field), "Location")) {
            response->location_at = field->value;
        } else if (is_name(name_of(response, field), "Content-Type")) {
            response->type_at = field->value;
        }
    }
    response->state = CGI_DOCUMENT;
    response->body_at = body_at;
    conclude(response);
}

/* "HTTP/1.1 404 Not Found", of which `end` is the end. */
static void take_status_line(struct cgi_response *response, size_t end) {
    struct str line = {(const char *)response->gathered.data, end};
    if (line.length > 0 && line.data[line.length - 1] == '\r') {
        line.length--;
    }
    bool is_valid = str_starts(line, STR("HTTP/1.0 ")) || str_starts(line, STR("HTTP/1.1 "));
    str_cut(&line, ' ');
    for (size_t i = 0; i < line.length; i++) {
        is_valid &= is_value((uint8_t)line.data[i]);
    }
    bool is_1_0 = end > 7 && response->gathered.data[7] == '0';
    response->is_interim = response->is_http && is_valid && str_starts(line, STR("1")) &&
                           !str_starts(line, STR("101"));
    if (!is_valid || (!response->is_interim && !parse_status(line, &response->status))) {
        set_no_head(response,
                    "its status line is malformed: HTTP/1.1 and a status from 200 to 599");
        return;
    }
    response->closes = is_1_0;
    response->has_cgi_field = response->has_status = response->has_status_line = true;
    response->place = CGI_AT_LINE;
}

static bool is_status_line(const struct cgi_response *response, size_t at) {
    return (response->takes_status_line || response->is_http) && at == 4 &&
           memcmp(response->gathered.data, "HTTP/", 5) == 0;
}

static void scan_byte(struct cgi_response *response, size_t at) {
    uint8_t byte = response->gathered.data[at];
    switch (response->place) {
    case CGI_AT_LINE:
        if (byte == '\n') {
            end_head(response, at + 1);
        } else if (byte == '\r') {
            response->place = CGI_AT_LINE_CR;
        } else if (is_token(byte)) {
            response->name_at = at;
            response->place = CGI_IN_NAME;
        } else {
            set_no_head(response, "a line of its head is not NAME: VALUE");
        }
        break;
    case CGI_AT_LINE_CR:
        if (byte == '\n') {
            end_head(response, at + 1);
        } else {
            set_no_head(response, "a line of its head is not NAME: VALUE");
        }
        break;
    case CGI_IN_NAME:
        if (byte == ':') {
            response->value_at = at + 1;
            response->place = CGI_IN_VALUE;
        } else if (byte == '/' && is_status_line(response, at)) {
            response->place = CGI_IN_STATUS_LINE;
        } else if (!is_token(byte)) {
            set_no_head(response, "a line of its head is not NAME: VALUE");
        }
        break;
    case CGI_IN_STATUS_LINE:
        if (byte == '\n') {
            take_status_line(response, at);
        }
        break;
    case CGI_AT_VALUE_CR:
    case CGI_IN_VALUE:
        if (byte == '\n') {
            take_field(response, response->place == CGI_AT_VALUE_CR ? at - 1 : at);
            response->place = CGI_AT_LINE;
        } else if (response->place == CGI_AT_VALUE_CR || (byte != '\r' && !is_value(byte))) {
            set_no_head(response, "a value in its head has a control character");
        } else if (byte == '\r') {
            response->place = CGI_AT_VALUE_CR;
        }
        break;
    }
}

enum err cgi_response_take(struct cgi_response *response, const void *data, size_t length) {
    enum err err = buf_append(&response->gathered, data, length);
    if (err) {
        return err;
    }
    while (response->state == CGI_HEAD && response->scanned < response->gathered.length) {
        if (response->scanned == CGI_HEAD_BYTES_MAX) {
            set_no_head(response, "its head is larger than 16 KiB");
            break;
        }
        scan_byte(response, response->scanned++);
    }
    return ERR_OK;
}

void cgi_response_end(struct cgi_response *response) {
    if (response->state == CGI_HEAD) {
        set_no_head(response, "its output ends before the empty line that ends its head");
    }
}

bool cgi_response_field(const struct cgi_response *response, size_t *index, const char **ret_name,
                        const char **ret_value) {
    while (*index < response->field_count) {
        const struct cgi_field *field = &response->fields[(*index)++];
        if (field->is_passed) {
            *ret_name = name_of(response, field).data;
            *ret_value = value_of(response, field).data;
            return true;
        }
    }
    return false;
}

struct str cgi_response_body(const struct cgi_response *response) {
    struct str all = buf_str(&response->gathered);
    return (struct str){all.data ? all.data + response->body_at : NULL,
                        all.length - response->body_at};
}

void cgi_response_done(struct cgi_response *response) {
    buf_done(&response->gathered);
    free(STEAL(response->fields));
}
