#include "api/json_text.h"

enum err json_text_escape(struct str text, struct buf *ret_json) {
    static const char hexadecimal[] = "0123456789abcdef";
    /* The longest escape has six bytes; one reservation makes the loop free of failures. */
    enum err err = buf_reserve(ret_json, text.length * 6);
    if (err) {
        return err;
    }
    uint8_t *out = ret_json->data + ret_json->length;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        char short_form = 0;
        switch (byte) {
        case '"':
        case '\\':
            short_form = (char)byte;
            break;
        case '\n':
            short_form = 'n';
            break;
        case '\r':
            short_form = 'r';
            break;
        case '\t':
            short_form = 't';
            break;
        default:
            break;
        }
        if (short_form) {
            *out++ = '\\';
            *out++ = (uint8_t)short_form;
        } else if (byte < 0x20 || byte == 0x7f) {
            memcpy(out, "\\u00", 4);
            out[4] = (uint8_t)hexadecimal[byte >> 4];
            out[5] = (uint8_t)hexadecimal[byte & 15];
            out += 6;
        } else {
            *out++ = byte;
        }
    }
    ret_json->length = (size_t)(out - ret_json->data);
    if (ret_json->data) {
        *out = 0;
    }
    return ERR_OK;
}

enum err json_text_base64(struct str bytes, struct buf *ret_text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum err err = buf_reserve(ret_text, (bytes.length + 2) / 3 * 4);
    if (err) {
        return err;
    }
    uint8_t *out = ret_text->data + ret_text->length;
    for (size_t i = 0; i < bytes.length; i += 3) {
        size_t count = MIN(bytes.length - i, 3);
        uint32_t group = (uint32_t)(uint8_t)bytes.data[i] << 16;
        group |= count > 1 ? (uint32_t)(uint8_t)bytes.data[i + 1] << 8 : 0;
        group |= count > 2 ? (uint32_t)(uint8_t)bytes.data[i + 2] : 0;
        *out++ = (uint8_t)digits[group >> 18 & 63];
        *out++ = (uint8_t)digits[group >> 12 & 63];
        *out++ = count > 1 ? (uint8_t)digits[group >> 6 & 63] : '=';
        *out++ = count > 2 ? (uint8_t)digits[group & 63] : '=';
    }
    ret_text->length = (size_t)(out - ret_text->data);
    if (ret_text->data) {
        *out = 0;
    }
    return ERR_OK;
}

size_t json_text_whole_length(struct str bytes) {
    size_t length = bytes.length;
    /* Back to the last byte that begins a sequence, four at most. */
    for (size_t back = 1; back <= 4 && back <= length; back++) {
        uint8_t byte = (uint8_t)bytes.data[length - back];
        if ((byte & 0xc0) == 0x80) {
            continue;
        }
        size_t needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return needed > back ? length - back : length;
    }
    return length;
}
