/* What a CGI program prints: however it is cut into pieces, it means the same, and what is passed
 * on is what a header field may be. The first byte is the size of the pieces,
 * its highest two bits whether it may begin with a status line, and whether it is a server's. */
#include "api/cgi_response.h"
#include "api/web_fields.h"

#include "base/log.h"
#include "http/http_gate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(struct cgi_response *response, const uint8_t *data, size_t size, size_t piece) {
    size_t at = 0;
    while (at < size && response->state == CGI_HEAD) {
        size_t length = MIN(piece, size - at);
        INVARIANT(cgi_response_take(response, data + at, length) == ERR_OK);
        at += length;
    }
    cgi_response_end(response);
    INVARIANT(response->state != CGI_HEAD);
    INVARIANT(buf_append(&response->gathered, data + at, size - at) == ERR_OK);
}

/* Any value as a cookie: it stays a field, and reaches no further when it is confined again. */
static void check_cookie(const char *value, struct str prefix) {
    struct buf once = {0};
    struct buf twice = {0};
    if (web_cookie_confine(str_of(value), prefix, &once) == ERR_OK) {
        INVARIANT(http_is_field("Set-Cookie", buf_text(&once)));
        INVARIANT(web_cookie_confine(buf_str(&once), prefix, &twice) == ERR_OK);
        INVARIANT(str_equal(buf_str(&once), buf_str(&twice)));
    }
    buf_done(&once);
    buf_done(&twice);
}

static void check(const struct cgi_response *response, const uint8_t *data, size_t size) {
    struct str body = cgi_response_body(response);
    if (response->state == CGI_BROKEN) {
        INVARIANT(response->broken);
        return;
    }
    INVARIANT(body.length <= size);
    INVARIANT(body.length == 0 || memcmp(body.data, data + size - body.length, body.length) == 0);
    INVARIANT(!response->is_http || response->state == CGI_DOCUMENT);
    if (response->state == CGI_TEXT) {
        INVARIANT(body.length == size);
        return;
    }
    INVARIANT(response->status >= 200 && response->status <= 599);
    const char *type = cgi_response_type(response);
    const char *location = cgi_response_location(response);
    INVARIANT(!type || http_is_field("Content-Type", type));
    INVARIANT(!location || http_is_field("Location", location));
    INVARIANT(!response->is_local_redirect || location[0] == '/');
    const char *name, *value;
    for (size_t i = 0; cgi_response_field(response, &i, &name, &value);) {
        INVARIANT(http_is_field(name, value) && value[0]);
        check_cookie(value, STR(""));
        check_cookie(value, STR("/web/a"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct cgi_response whole = {.takes_status_line = data[0] & 0x80, .is_http = data[0] & 0x40};
    struct cgi_response pieces = {.takes_status_line = data[0] & 0x80, .is_http = data[0] & 0x40};
    parse(&whole, data + 1, size - 1, SIZE_MAX);
    parse(&pieces, data + 1, size - 1, MAX((size_t)data[0] & 0x3f, (size_t)1));
    INVARIANT(whole.state == pieces.state && whole.status == pieces.status &&
              whole.body_at == pieces.body_at && whole.field_count == pieces.field_count);
    check(&whole, data + 1, size - 1);
    check(&pieces, data + 1, size - 1);
    cgi_response_done(&whole);
    cgi_response_done(&pieces);
    return 0;
}
