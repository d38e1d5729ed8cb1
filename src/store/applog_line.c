/* From what a guest wrote to lines. */
#include "base/clock.h"
#include "store/applog_internal.h"

#include <stdio.h>

enum { ESCAPE_LENGTH = 4 };

/* The length of the UTF-8 character at the beginning, 0 if it is none (RFC 3629). */
static size_t character_length(const uint8_t *data, size_t length) {
    uint8_t lead = data[0];
    size_t wanted = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (wanted == 1) {
        return 1;
    }
    if (lead > 0xf4 || wanted == 0 || wanted > length) {
        return 0;
    }
    return str_is_utf8((struct str){(const char *)data, wanted}) ? wanted : 0;
}

static bool is_plain(uint8_t byte) {
    return (byte >= 0x20 && byte < 0x7f && byte != '\\') || byte == '\t';
}

/* A backslash is itself unless it would read as one of our escapes. */
static bool is_plain_backslash(const uint8_t *data, size_t length) {
    return data[0] == '\\' && !(length >= 2 && data[1] == 'x');
}

/* Of a byte that is no text. */
static size_t put_escape(uint8_t *out, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    const char escape[ESCAPE_LENGTH] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    memcpy(out, escape, sizeof escape);
    return sizeof escape;
}

/* Returns the length of what was put to `out`, which has room for `length` escapes. */
static size_t put_text(uint8_t *out, const uint8_t *data, size_t length) {
    size_t at = 0;
    size_t put = 0;
    while (at < length) {
        size_t plain = at;
        while (plain < length && is_plain(data[plain])) {
            plain++;
        }
        size_t taken = plain - at;
        if (taken == 0) {
            size_t character = character_length(data + at, length - at);
            /* U+0080 to U+009F are control characters too. */
            bool is_control = character == 2 && data[at] == 0xc2 && data[at + 1] < 0xa0;
            if ((character > 1 && !is_control) || is_plain_backslash(data + at, length - at)) {
                taken = character;
            }
        }
        if (taken > 0) {
            memcpy(out + put, data + at, taken);
            put += taken;
            at += taken;
        } else {
            put += put_escape(out + put, data[at]);
            at++;
        }
    }
    return put;
}

size_t applog_piece_length(struct str line) {
    if (line.length <= APPLOG_LINE_MAX) {
        return line.length;
    }
    const uint8_t *data = (const uint8_t *)line.data;
    size_t cut = APPLOG_LINE_MAX;
    for (size_t back = 0; back < 4; back++) {
        if ((data[cut - back] & 0xc0) != 0x80) {
            return cut - back;
        }
    }
    return cut; /* no UTF-8 anyway */
}

/* "2026-11-23T15:07:29.123Z 17 out " */
static size_t format_head(char head[96], uint64_t realtime_ns, uint64_t run_id,
                          const char *stream) {
    /* The calendar is asked once a second. */
    static _Thread_local uint64_t cached_second = UINT64_MAX;
    static _Thread_local char cached[CLOCK_TEXT_SIZE];
    uint64_t second = realtime_ns / NS_PER_S;
    if (second != cached_second) {
        clock_format_utc(second * NS_PER_S, cached);
        cached_second = second;
    }
    unsigned ms = (unsigned)(realtime_ns % NS_PER_S / NS_PER_MS);
    memcpy(head, cached, CLOCK_TEXT_SIZE - 1);
    head[20] = (char)('0' + ms / 100);
    head[21] = (char)('0' + ms / 10 % 10);
    head[22] = (char)('0' + ms % 10);
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + run_id % 10);
        run_id /= 10;
    } while (run_id);
    size_t length = CLOCK_TEXT_SIZE - 1;
    head[length++] = ' ';
    while (count > 0) {
        head[length++] = digits[--count];
    }
    head[length++] = ' ';
    for (const char *c = stream; *c && length < 94; c++) {
        head[length++] = *c;
    }
    head[length++] = ' ';
    return length;
}

enum err applog_format(struct buf *text, uint64_t realtime_ns, uint64_t run_id, const char *stream,
                       struct str line) {
    char head[96];
    size_t head_length = format_head(head, realtime_ns, run_id, stream);
    enum err err = buf_reserve(text, head_length + ESCAPE_LENGTH * line.length + 1);
    if (err) {
        return err;
    }
    uint8_t *out = text->data + text->length;
    memcpy(out, head, head_length);
    size_t put = head_length + put_text(out + head_length, (const uint8_t *)line.data, line.length);
    out[put++] = '\n';
    text->length += put;
    text->data[text->length] = 0;
    return ERR_OK;
}

enum err applog_format_cut(struct buf *text, uint64_t offset, uint64_t first_offset) {
    char line[96];
    snprintf(line, sizeof line, "%llu bytes from offset %llu on were removed by the log's limits",
             (unsigned long long)(first_offset - offset), (unsigned long long)offset);
    return applog_format(text, clock_realtime_ns(), 0, "sys", str_of(line));
}
