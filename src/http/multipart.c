#include "http/multipart.h"

#include <strings.h>

/* ---- headers: NAME=VALUE behind semicolons ---- */

/* RFC 9110 section 5.6.2 */
static bool is_token_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte && strchr("!#$%&'*+-.^_`|~", byte));
}

static struct str skip(struct str text, size_t count) {
    return (struct str){text.data + count, text.length - count};
}

static struct str take_token(struct str *text) {
    size_t length = 0;
    while (length < text->length && is_token_byte(text->data[length])) {
        length++;
    }
    struct str token = {text->data, length};
    *text = skip(*text, length);
    return token;
}

static bool is_word(struct str text, const char *word) {
    return text.length == strlen(word) && strncasecmp(text.data, word, text.length) == 0;
}

/* A quoted string, appended to `value` without its quotes. Only quotes and backslashes are escaped:
 * what browsers send of a path has bare ones. */
static enum err take_quoted(struct str *text, struct buf *value) {
    enum err err = ERR_OK;
    size_t at = 1;
    for (; !err && at < text->length && text->data[at] != '"'; at++) {
        bool is_escape = text->data[at] == '\\' && at + 1 < text->length &&
                         (text->data[at + 1] == '"' || text->data[at + 1] == '\\');
        at += is_escape;
        err = buf_append_byte(value, (uint8_t)text->data[at]);
    }
    if (err) {
        return err;
    }
    if (at >= text->length) {
        return ERR_INVAL; /* it has no end */
    }
    *text = skip(*text, at + 1);
    return ERR_OK;
}

/* The next parameter of a header's value. `*ret_name` is empty at the end. */
static enum err take_parameter(struct str *text, struct str *ret_name, struct buf *value) {
    *text = str_trim(*text);
    *ret_name = (struct str){0};
    value->length = 0;
    while (text->length > 0 && text->data[0] == ';') {
        *text = str_trim(skip(*text, 1));
    }
    if (text->length == 0) {
        return ERR_OK;
    }
    struct str name = take_token(text);
    if (name.length == 0 || text->length == 0 || text->data[0] != '=') {
        return ERR_INVAL;
    }
    *text = skip(*text, 1);
    enum err err = ERR_OK;
    if (text->length > 0 && text->data[0] == '"') {
        err = take_quoted(text, value);
    } else {
        struct str token = take_token(text);
        err = token.length ? buf_append_str(value, token) : ERR_INVAL;
    }
    *text = str_trim(*text);
    if (!err && text->length > 0 && text->data[0] != ';') {
        err = ERR_INVAL;
    }
    *ret_name = name;
    return err;
}

/* ---- the Content-Type of the whole ---- */

/* RFC 2046 section 5.1.1 */
static bool is_boundary(struct str text) {
    if (text.length == 0 || text.length > MULTIPART_BOUNDARY_MAX ||
        text.data[text.length - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.data[i];
        bool is_good = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || (byte && strchr("'()+_,-./:=? ", byte));
        if (!is_good) {
            return false;
        }
    }
    return true;
}

bool multipart_is_form(struct str content_type) {
    struct str rest = content_type;
    return content_type.length > 0 && is_word(str_trim(str_cut(&rest, ';')), "multipart/form-data");
}

enum err multipart_init(struct multipart *multipart, struct str content_type, struct buf *message) {
    *multipart = (struct multipart){.state = MULTIPART_PREAMBLE};
    if (!multipart_is_form(content_type)) {
        return buf_fail(message, ERR_INVAL, "the body is no multipart/form-data");
    }
    struct str rest = content_type;
    (void)str_cut(&rest, ';');
    cleanup_buf struct buf value = {0};
    bool has_boundary = false;
    enum err err = ERR_OK;
    for (bool is_end = !rest.data; !err && !is_end;) {
        struct str name;
        err = take_parameter(&rest, &name, &value);
        is_end = name.length == 0;
        if (err || !is_word(name, "boundary")) {
            continue;
        }
        if (has_boundary || !is_boundary(buf_str(&value))) {
            err = ERR_INVAL;
            break;
        }
        has_boundary = true;
        memcpy(multipart->delimiter, "\r\n--", 4);
        memcpy(multipart->delimiter + 4, value.data, value.length);
        multipart->delimiter_length = 4 + value.length;
    }
    if (err == ERR_NOMEM) {
        return err;
    }
    if (err || !has_boundary) {
        return buf_fail(message, ERR_INVAL,
                        "the Content-Type of a form names its boundary: multipart/form-data; "
                        "boundary=... (1 to %d letters, digits and some signs); let curl -F write "
                        "it",
                        MULTIPART_BOUNDARY_MAX);
    }
    multipart->matched = 2; /* the first boundary needs no line before it */
    return ERR_OK;
}

void multipart_done(struct multipart *multipart) {
    buf_done(&multipart->line);
    buf_done(&multipart->name);
}

/* ---- a part's head ---- */

/* Browsers and curl write these three in names, and nothing else, with a percent sign (WHATWG's
 * form submission). The two line ends are then refused as control characters. */
static void decode_name(struct buf *name) {
    size_t length = 0;
    for (size_t i = 0; i < name->length; i++) {
        struct str rest = {(const char *)name->data + i, name->length - i};
        uint8_t byte = name->data[i];
        if (rest.length >= 3 && byte == '%') {
            struct str code = {rest.data + 1, 2};
            byte = is_word(code, "22")   ? '"'
                   : is_word(code, "0d") ? '\r'
                   : is_word(code, "0a") ? '\n'
                                         : byte;
            i += byte != '%' ? 2 : 0;
        }
        name->data[length++] = byte;
    }
    name->length = length;
    if (name->data) {
        name->data[length] = 0;
    }
}

static bool has_control(struct str text) {
    for (size_t i = 0; i < text.length; i++) {
        if ((uint8_t)text.data[i] < 0x20 || text.data[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static enum err take_disposition(struct multipart *multipart, struct str value,
                                 struct buf *message) {
    struct str rest = value;
    if (!is_word(str_trim(str_cut(&rest, ';')), "form-data")) {
        return buf_fail(message, ERR_INVAL, "a part of the form is no form-data");
    }
    cleanup_buf struct buf text = {0};
    enum err err = ERR_OK;
    for (bool is_end = !rest.data; !err && !is_end;) {
        struct str name;
        err = take_parameter(&rest, &name, &text);
        is_end = name.length == 0;
        if (!err && is_word(name, "name")) {
            if (multipart->is_named) {
                err = ERR_INVAL;
                break;
            }
            multipart->is_named = true;
            decode_name(&text);
            multipart->name.length = 0;
            err = buf_append_str(&multipart->name, buf_str(&text));
        }
    }
    if (err == ERR_INVAL) {
        return buf_fail(message, err, "a part of the form has no valid Content-Disposition");
    }
    if (err) {
        return err;
    }
    if (has_control(buf_str(&multipart->name)) || !str_is_utf8(buf_str(&multipart->name))) {
        return buf_fail(message, ERR_INVAL,
                        "the name of a field is not UTF-8 text without control characters");
    }
    return ERR_OK;
}

static enum err take_header(struct multipart *multipart, struct buf *message) {
    struct str value = buf_str(&multipart->line);
    struct str name = take_token(&value);
    if (name.length == 0 || value.length == 0 || value.data[0] != ':') {
        return buf_fail(message, ERR_INVAL, "a line in the head of a part is no header");
    }
    value = str_trim(skip(value, 1));
    if (is_word(name, "content-disposition")) {
        return take_disposition(multipart, value, message);
    }
    /* RFC 7578 section 4.7: nobody should send one; another one would be another content. */
    if (is_word(name, "content-transfer-encoding") && !is_word(value, "binary") &&
        !is_word(value, "8bit") && !is_word(value, "7bit")) {
        return buf_fail(message, ERR_INVAL,
                        "a part of the form is encoded as '" STR_FORMAT "'; send it as it is",
                        STR_ARGS(value));
    }
    return ERR_OK;
}

/* Reads the head; `*ret_is_end` when its empty line was read. */
static enum err read_head(struct multipart *multipart, struct str *input, bool *ret_is_end,
                          struct buf *message) {
    *ret_is_end = false;
    while (input->length > 0) {
        uint8_t byte = (uint8_t)input->data[0];
        *input = skip(*input, 1);
        struct buf *line = &multipart->line;
        if (++multipart->head_length > MULTIPART_HEAD_MAX) {
            return buf_fail(message, ERR_INVAL, "the head of a part has more than %d bytes",
                            MULTIPART_HEAD_MAX);
        }
        bool after_cr = line->length > 0 && line->data[line->length - 1] == '\r';
        if (after_cr != (byte == '\n') ||
            (byte < 0x20 && byte != '\t' && byte != '\r' && byte != '\n') || byte == 0x7f) {
            return buf_fail(message, ERR_INVAL,
                            "the head of a part has a control character, or a line that does not "
                            "end with CR LF");
        }
        if (byte != '\n') {
            enum err err = buf_append_byte(line, byte);
            if (err) {
                return err;
            }
            continue;
        }
        line->data[--line->length] = 0;
        if (line->length == 0) {
            *ret_is_end = true;
            return multipart->is_named
                       ? ERR_OK
                       : buf_fail(message, ERR_INVAL, "a part of the form has no name");
        }
        enum err err = take_header(multipart, message);
        line->length = 0;
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

/* ---- boundaries ---- */

enum { LINE_BEGIN, LINE_PADDING, LINE_CR, LINE_DASH };

/* Behind a boundary: "--" ends the form, else there may be blanks (RFC 2046: transport padding) and
 * the line ends. False while there is more to read. */
static enum err read_boundary_line(struct multipart *multipart, struct str *input, bool *ret_is_end,
                                   struct buf *message) {
    *ret_is_end = false;
    while (input->length > 0) {
        char byte = input->data[0];
        *input = skip(*input, 1);
        uint8_t line = multipart->line_state;
        if (line == LINE_BEGIN && byte == '-') {
            multipart->line_state = LINE_DASH;
        } else if (line == LINE_DASH && byte == '-') {
            multipart->state = MULTIPART_ENDED;
            *ret_is_end = true;
            return ERR_OK;
        } else if (line <= LINE_PADDING && (byte == ' ' || byte == '\t')) {
            multipart->line_state = LINE_PADDING;
        } else if (line <= LINE_PADDING && byte == '\r') {
            multipart->line_state = LINE_CR;
        } else if (line == LINE_CR && byte == '\n') {
            multipart->state = MULTIPART_HEAD;
            multipart->head_length = 0;
            multipart->is_named = false;
            *ret_is_end = true;
            return ERR_OK;
        } else {
            return buf_fail(message, ERR_INVAL,
                            "something follows a boundary of the form on its line");
        }
    }
    return ERR_OK;
}

static size_t common_length(const char *a, const char *b, size_t length) {
    size_t same = 0;
    while (same < length && a[same] == b[same]) {
        same++;
    }
    return same;
}

/* The length of what is content for sure at the beginning of `input`: up to where the delimiter
 * stands or may begin. */
static size_t content_length(const struct multipart *multipart, struct str input) {
    size_t at = 0;
    while (at < input.length) {
        const char *found = memchr(input.data + at, '\r', input.length - at);
        if (!found) {
            return input.length;
        }
        at = (size_t)(found - input.data);
        size_t length = MIN(input.length - at, multipart->delimiter_length);
        if (common_length(found, multipart->delimiter, length) == length) {
            return at;
        }
        at++;
    }
    return input.length;
}

/* Reads content: a piece of it into `*ret_data` (empty: there is none), or the delimiter. Its first
 * byte is nowhere else in it, so that what did not become one is content as a whole. */
static bool read_content(struct multipart *multipart, struct str *input, struct str *ret_data) {
    *ret_data = (struct str){0};
    while (input->length > 0) {
        if (multipart->matched == 0) {
            size_t length = content_length(multipart, *input);
            if (length > 0) {
                *ret_data = (struct str){input->data, length};
                *input = skip(*input, length);
                return false;
            }
        }
        size_t wanted = MIN(input->length, multipart->delimiter_length - multipart->matched);
        size_t same = common_length(input->data, multipart->delimiter + multipart->matched, wanted);
        *input = skip(*input, same);
        multipart->matched += same;
        if (multipart->matched == multipart->delimiter_length) {
            multipart->matched = 0;
            return true;
        }
        if (same < wanted) {
            *ret_data = (struct str){multipart->delimiter, multipart->matched};
            multipart->matched = 0;
            return false;
        }
    }
    return false;
}

/* ---- events ---- */

enum err multipart_next(struct multipart *multipart, struct str *input,
                        enum multipart_event *ret_event, struct str *ret_data,
                        struct buf *message) {
    *ret_data = (struct str){0};
    while (input->length > 0) {
        bool is_end = false;
        enum err err = ERR_OK;
        switch (multipart->state) {
        case MULTIPART_PREAMBLE:
            is_end = read_content(multipart, input, ret_data);
            *ret_data = (struct str){0};
            multipart->state = is_end ? MULTIPART_BOUNDARY_LINE : MULTIPART_PREAMBLE;
            multipart->line_state = LINE_BEGIN;
            break;
        case MULTIPART_BOUNDARY_LINE:
            err = read_boundary_line(multipart, input, &is_end, message);
            if (err) {
                return err;
            }
            if (is_end && multipart->is_closing) {
                multipart->is_closing = false;
                *ret_event = MULTIPART_PART_END;
                return ERR_OK;
            }
            break;
        case MULTIPART_HEAD:
            err = read_head(multipart, input, &is_end, message);
            if (err) {
                return err;
            }
            if (is_end) {
                multipart->state = MULTIPART_CONTENT;
                *ret_event = MULTIPART_PART;
                return ERR_OK;
            }
            break;
        case MULTIPART_CONTENT:
            is_end = read_content(multipart, input, ret_data);
            if (ret_data->length > 0) {
                *ret_event = MULTIPART_DATA;
                return ERR_OK;
            }
            if (is_end) {
                multipart->is_closing = true;
                multipart->state = MULTIPART_BOUNDARY_LINE;
                multipart->line_state = LINE_BEGIN;
            }
            break;
        case MULTIPART_ENDED:
            *input = skip(*input, input->length);
            break;
        }
    }
    *ret_event = multipart->state == MULTIPART_ENDED ? MULTIPART_END : MULTIPART_MORE;
    return ERR_OK;
}
