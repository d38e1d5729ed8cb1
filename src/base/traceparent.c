#include "base/traceparent.h"

#include "base/clock.h"

enum { VERSION_AT = 0, TRACE_AT = 3, PARENT_AT = 36, FLAGS_AT = 53, LENGTH = 55 };

/* Lower case only. */
static bool parse_hexadecimal(const char *text, size_t count, uint8_t *ret_bytes) {
    for (size_t i = 0; i < 2 * count; i++) {
        if (text[i] >= 'A' && text[i] <= 'F') {
            return false;
        }
        int digit = str_hexadecimal(text[i]);
        if (digit < 0) {
            return false;
        }
        ret_bytes[i / 2] = (uint8_t)(i % 2 ? ret_bytes[i / 2] << 4 | digit : digit);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (bytes[i]) {
            return false;
        }
    }
    return true;
}

enum err traceparent_parse(struct str text, struct traceparent *ret_traceparent) {
    struct traceparent parsed;
    uint8_t version;
    if (text.length < LENGTH || text.data[TRACE_AT - 1] != '-' || text.data[PARENT_AT - 1] != '-' ||
        text.data[FLAGS_AT - 1] != '-' ||
        !parse_hexadecimal(text.data + VERSION_AT, sizeof(version), &version) ||
        !parse_hexadecimal(text.data + TRACE_AT, sizeof(parsed.trace_id), parsed.trace_id) ||
        !parse_hexadecimal(text.data + PARENT_AT, sizeof(parsed.parent_id), parsed.parent_id) ||
        !parse_hexadecimal(text.data + FLAGS_AT, sizeof(parsed.flags), &parsed.flags)) {
        return ERR_INVAL;
    }
    bool is_longer = text.length > LENGTH;
    if (version == 0xff || (is_longer && (version == 0 || text.data[LENGTH] != '-')) ||
        is_zero(parsed.trace_id, sizeof(parsed.trace_id)) ||
        is_zero(parsed.parent_id, sizeof(parsed.parent_id))) {
        return ERR_INVAL;
    }
    *ret_traceparent = parsed;
    return ERR_OK;
}

static char *print_hexadecimal(char *text, const uint8_t *bytes, size_t length) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        *text++ = digits[bytes[i] >> 4];
        *text++ = digits[bytes[i] & 15];
    }
    return text;
}

void traceparent_format(const struct traceparent *traceparent, char text[TRACEPARENT_TEXT_SIZE]) {
    *text++ = '0';
    *text++ = '0';
    *text++ = '-';
    text = print_hexadecimal(text, traceparent->trace_id, sizeof(traceparent->trace_id));
    *text++ = '-';
    text = print_hexadecimal(text, traceparent->parent_id, sizeof(traceparent->parent_id));
    *text++ = '-';
    text = print_hexadecimal(text, &traceparent->flags, sizeof(traceparent->flags));
    *text = 0;
}

/* Not of zeros alone, which would be no id. */
static void draw(uint8_t *id, size_t length) {
    do {
        random_bytes(id, length);
    } while (is_zero(id, length));
}

struct traceparent traceparent_child(const struct traceparent *parent) {
    struct traceparent child = *parent;
    draw(child.parent_id, sizeof(child.parent_id));
    return child;
}

struct traceparent traceparent_new(void) {
    struct traceparent first = {.flags = 1};
    draw(first.trace_id, sizeof(first.trace_id));
    draw(first.parent_id, sizeof(first.parent_id));
    return first;
}

enum { KEY_MAX = 256, VALUE_MAX = 256 };

static bool is_key(struct str key) {
    for (size_t i = 0; i < key.length; i++) {
        char byte = key.data[i];
        bool is_plain = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
        if (!is_plain && !(byte && strchr("_-*/@", byte))) {
            return false;
        }
    }
    return key.length > 0 && key.length <= KEY_MAX;
}

static bool is_value(struct str value) {
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < ' ' || value.data[i] > '~' || value.data[i] == '=') {
            return false;
        }
    }
    return value.length <= VALUE_MAX;
}

enum err tracestate_parse(struct str text, struct buf *ret_tracestate) {
    cleanup_buf struct buf list = {0};
    size_t count = 0;
    bool is_full = false;
    enum err err = ERR_OK;
    while (!err && text.length > 0) {
        struct str member = str_trim(str_cut(&text, ','));
        struct str value = member;
        struct str key = str_cut(&value, '=');
        if (member.length == 0) {
            continue; /* allowed */
        }
        if (key.length == member.length || !is_key(key) || !is_value(value) ||
            ++count > TRACESTATE_MEMBERS_MAX) {
            return ERR_INVAL;
        }
        size_t comma = list.length > 0;
        is_full |= list.length + comma + member.length > TRACESTATE_MAX;
        if (!is_full) {
            err = buf_printf(&list, "%s" STR_FORMAT, comma ? "," : "", STR_ARGS(member));
        }
    }
    return err ? err : buf_append_str(ret_tracestate, buf_str(&list));
}
