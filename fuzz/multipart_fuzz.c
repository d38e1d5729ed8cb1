/* Forms: what is read of one is the same however it is cut into pieces. The first byte says how
 * long the pieces are, the boundary is "b". */
#include "http/multipart.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char content_type[] = "multipart/form-data; boundary=b";

static void add(struct buf *story, char mark, struct str text) {
    enum err err = buf_append_byte(story, (uint8_t)mark);
    err = err ? err : buf_append_str(story, text);
    INVARIANT(err == ERR_OK);
}

/* The events with what they say; pieces of one content are joined. */
static enum err read_form(struct str body, size_t piece, struct buf *story) {
    struct multipart multipart;
    INVARIANT(multipart_init(&multipart, STR(content_type), NULL) == ERR_OK);
    enum err err = ERR_OK;
    while (!err && body.length > 0) {
        struct str input = {body.data, MIN(piece, body.length)};
        body.data += input.length;
        body.length -= input.length;
        enum multipart_event event = MULTIPART_PART;
        while (!err && event != MULTIPART_MORE && event != MULTIPART_END) {
            struct str text;
            err = multipart_next(&multipart, &input, &event, &text, NULL);
            if (err) {
                break;
            }
            INVARIANT((event == MULTIPART_DATA) == (text.length > 0));
            if (event == MULTIPART_PART) {
                struct str name = buf_str(&multipart.name);
                INVARIANT(str_is_utf8(name) &&
                          !memchr(buf_text(&multipart.name), '\n', name.length));
                add(story, 'P', name);
                add(story, '=', (struct str){0});
            } else if (event == MULTIPART_DATA) {
                INVARIANT(buf_append_str(story, text) == ERR_OK);
            } else if (event == MULTIPART_PART_END) {
                add(story, ';', (struct str){0});
            }
        }
        INVARIANT(err || input.length == 0);
    }
    add(story, multipart.state == MULTIPART_ENDED ? '.' : '?', (struct str){0});
    multipart_done(&multipart);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct str body = {(const char *)data + 1, size - 1};
    struct buf whole = {0};
    struct buf pieces = {0};
    enum err err = read_form(body, SIZE_MAX, &whole);
    INVARIANT(read_form(body, (size_t)data[0] + 1, &pieces) == err);
    INVARIANT(str_equal(buf_str(&whole), buf_str(&pieces)));
    buf_done(&whole);
    buf_done(&pieces);

    struct multipart multipart;
    enum err ignored = multipart_init(&multipart, (struct str){(const char *)data, size}, NULL);
    (void)ignored;
    multipart_done(&multipart);
    return 0;
}
