#include "cli/lines.h"

#include "cli/text.h"

#define LINE_BYTES_MAX MIB

static bool take_line(struct str line, bool (*take)(void *context, json_t *event), void *context) {
    json_t *event = json_loadb(line.data, line.length, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(event)) {
        json_decref(event);
        cli_error("the server's answer is damaged: a line is no event");
        return false;
    }
    bool goes_on = take(context, event);
    json_decref(event);
    return goes_on;
}

bool event_lines_add(struct event_lines *lines, const char *data, size_t length,
                     bool (*take)(void *context, json_t *event), void *context) {
    cli_check(buf_append(&lines->partial, data, length));
    size_t used = 0;
    bool goes_on = true;
    while (goes_on && used < lines->partial.length) {
        const char *start = (const char *)lines->partial.data + used;
        const char *newline = memchr(start, '\n', lines->partial.length - used);
        if (!newline) {
            break;
        }
        size_t line_length = (size_t)(newline - start);
        goes_on = take_line((struct str){start, line_length}, take, context);
        used += line_length + 1;
    }
    if (used > 0) {
        buf_consume(&lines->partial, used);
    }
    if (goes_on && lines->partial.length > LINE_BYTES_MAX) {
        cli_error("the server's answer is damaged: a line is too long");
        return false;
    }
    return goes_on;
}

void event_lines_done(struct event_lines *lines) {
    buf_done(&lines->partial);
}
