/* From what a guest wrote to lines. */
#include "base/clock.h"
#include "store/applog_internal.h"

#include <stdio.h>

/* The length of the UTF-8 character at the beginning, 0 if it is none (RFC 3629). */
static size_t character_length(const uint8_t *data, size_t length) {
    uint8_t lead = data[0];
    size_t wanted = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
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

static enum err append_escape(struct buf *text, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    const char escape[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    return buf_append(text, escape, sizeof escape);
}

static enum err append_text(struct buf *text, const uint8_t *data, size_t length) {
    enum err err = ERR_OK;
    size_t at = 0;
    while (at < length && !err) {
        size_t plain = at;
        while (plain < length && is_plain(data[plain])) {
            plain++;
        }
        if (plain > at) {
            err = buf_append(text, data + at, plain - at);
            at = plain;
            continue;
        }
        size_t character = character_length(data + at, length - at);
        /* U+0080 to U+009F are control characters too. */
        bool is_control = character == 2 && data[at] == 0xc2 && data[at + 1] < 0xa0;
        if ((character > 1 && !is_control) || is_plain_backslash(data + at, length - at)) {
            err = buf_append(text, data + at, character);
            at += character;
        } else {
            err = append_escape(text, data[at]);
            at++;
        }
    }
    return err;
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
    const size_t before = text->length;
    enum err err = buf_append(text, head, head_length);
    err = err ? err : append_text(text, (const uint8_t *)line.data, line.length);
    err = err ? err : buf_append_byte(text, '\n');
    if (err && text->data) {
        text->length = before;
        text->data[before] = 0;
    }
    return err;
}

enum err applog_format_cut(struct buf *text, uint64_t offset, uint64_t first_offset) {
    char line[96];
    snprintf(line, sizeof line, "%llu bytes from offset %llu on were removed by the log's limits",
             (unsigned long long)(first_offset - offset), (unsigned long long)offset);
    return applog_format(text, clock_realtime_ns(), 0, "sys", str_of(line));
}
