#include "cli/text.h"

#include <stdarg.h>

void cli_check(enum err err) {
    if (err) {
        fprintf(stderr, "error: %s\n", err_text(err));
        exit(1);
    }
}

int cli_error(const char *format, ...) {
    cleanup_buf struct buf text = {0};
    cleanup_buf struct buf line = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&text, format, arguments);
    va_end(arguments);
    cli_check(err);
    while (text.length > 0 && text.data[text.length - 1] == '\n') {
        text.length--;
    }
    text_escape(buf_str(&text), false, &line);
    fprintf(stderr, "error: %s\n", buf_text(&line));
    return 1;
}

/* Bytes of the character at the beginning of `text`; 0 if there is no valid one. */
static size_t character_length(struct str text) {
    for (size_t length = 1; length <= 4 && length <= text.length; length++) {
        if (str_is_utf8((struct str){text.data, length})) {
            return length;
        }
    }
    return 0;
}

static bool is_control(struct str character) {
    uint8_t first = (uint8_t)character.data[0];
    return first < 0x20 || first == 0x7f ||
           (first == 0xc2 && character.length == 2 && (uint8_t)character.data[1] < 0xa0);
}

void text_escape(struct str text, bool keep_newlines, struct buf *ret_text) {
    while (text.length > 0) {
        size_t length = character_length(text);
        struct str character = {text.data, length ? length : 1};
        bool kept = character.data[0] == '\t' || (character.data[0] == '\n' && keep_newlines) ||
                    (length > 0 && !is_control(character));
        if (kept) {
            cli_check(buf_append_str(ret_text, character));
        }
        for (size_t i = 0; !kept && i < character.length; i++) {
            cli_check(buf_printf(ret_text, "\\x%02x", (uint8_t)character.data[i]));
        }
        text.data += character.length;
        text.length -= character.length;
    }
}

void text_print(FILE *stream, struct str text) {
    cleanup_buf struct buf escaped = {0};
    text_escape(text, true, &escaped);
    fwrite(escaped.data ? escaped.data : (const uint8_t *)"", 1, escaped.length, stream);
}

void text_encode(struct str text, bool keep_slashes, struct buf *ret_text) {
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        bool kept = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c != 0 && strchr("-._~", c)) || (c == '/' && keep_slashes);
        cli_check(kept ? buf_append_byte(ret_text, (uint8_t)c)
                       : buf_printf(ret_text, "%%%02X", (uint8_t)c));
    }
}

void text_add_parameter(struct buf *target, const char *name, const char *value) {
    bool first = !target->data || !memchr(target->data, '?', target->length);
    cli_check(buf_printf(target, "%c%s", first ? '?' : '&', name));
    if (value) {
        cli_check(buf_append_byte(target, '='));
        text_encode(str_of(value), false, target);
    }
}

void text_format_bytes(uint64_t bytes, char text[TEXT_BYTES_SIZE]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < KIB) {
        snprintf(text, TEXT_BYTES_SIZE, "%u B", (unsigned)bytes);
        return;
    }
    double value = (double)bytes / (double)KIB;
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < ARRAY_LENGTH(units)) {
        value /= (double)KIB;
        unit++;
    }
    snprintf(text, TEXT_BYTES_SIZE, "%.1f %s", value, units[unit]);
}

static int base64_digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

enum err text_decode_base64(struct str text, struct buf *ret_bytes) {
    if (text.length % 4 != 0) {
        return ERR_BADMSG;
    }
    size_t before = ret_bytes->length;
    for (size_t i = 0; i < text.length; i += 4) {
        uint32_t group = 0;
        size_t padding = 0;
        for (size_t j = 0; j < 4; j++) {
            char c = text.data[i + j];
            bool is_padding = c == '=' && i + 4 == text.length && j >= 2;
            int digit = is_padding ? 0 : base64_digit(c);
            if (digit < 0 || (padding > 0 && !is_padding)) {
                ret_bytes->length = before;
                return ERR_BADMSG;
            }
            padding += is_padding;
            group = group << 6 | (uint32_t)digit;
        }
        uint8_t bytes[] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};
        cli_check(buf_append(ret_bytes, bytes, 3 - padding));
    }
    return ERR_OK;
}

struct str text_fact(struct str lines, const char *name) {
    while (lines.length > 0) {
        struct str value = str_cut(&lines, '\n');
        struct str key = str_cut(&value, ':');
        if (value.data && str_equal_text(key, name)) {
            while (value.length > 0 && value.data[0] == ' ') {
                value.data++;
                value.length--;
            }
            return value;
        }
    }
    return (struct str){0};
}
