/* Requests of /net/request, in pieces of all sizes: what is read does not depend on the pieces, and
 * nothing that is kept could be read otherwise by a server. The first byte is the pieces' size. And
 * URLs, and what a Location leads to. */
#include "net/request.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    enum err err;
    struct net_request request;
    struct buf body;
};

static struct outcome read_all(const uint8_t *data, size_t size, size_t piece) {
    struct outcome outcome = {0};
    struct net_request *request = &outcome.request;
    struct buf message = {0};
    size_t at = 0;
    while (!outcome.err && at < size && request->phase != NET_REQUEST_END) {
        size_t length = MIN(piece, size - at), taken = 0;
        if (request->phase == NET_REQUEST_HEAD) {
            outcome.err = net_request_head(request, data + at, length, &taken, &message);
        } else {
            outcome.err = net_request_framing(request, data + at, length, &taken, &message);
            size_t bytes = outcome.err ? 0 : net_request_body(request, length - taken);
            if (bytes > 0) {
                INVARIANT(buf_append(&outcome.body, data + at + taken, bytes) == ERR_OK);
                net_request_took(request, bytes);
                taken += bytes;
            }
        }
        INVARIANT(outcome.err || (taken > 0 && taken <= length));
        at += taken;
    }
    INVARIANT(!outcome.err || message.length > 0);
    buf_done(&message);
    return outcome;
}

static void check_head(const struct net_request *request) {
    struct str rest = buf_str(&request->fields);
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str value = line;
        struct str name = str_cut(&value, ':');
        INVARIANT(name.length > 0 && value.data);
        for (size_t i = 0; i < line.length; i++) {
            uint8_t c = (uint8_t)line.data[i];
            INVARIANT((c >= 0x20 || c == '\t') && c != 0x7f);
        }
    }
    const struct net_url *url = &request->url;
    INVARIANT(url->port > 0 && url->target.length > 0 && url->target.data[0] == '/');
    struct buf text = {0};
    struct net_url again = {0};
    INVARIANT(net_url_append_origin(url, &text) == ERR_OK);
    INVARIANT(buf_append_str(&text, buf_str(&url->target)) == ERR_OK);
    INVARIANT(text.length > NET_URL_MAX || net_url_parse(buf_str(&text), &again, NULL) == ERR_OK);
    INVARIANT(text.length > NET_URL_MAX || strcmp(again.host.name, url->host.name) == 0);
    net_url_done(&again);
    buf_done(&text);
}

static void check_url(struct str text) {
    struct net_url base = {0}, url = {0};
    INVARIANT(net_url_parse(STR("https://example.org/a/b?c"), &base, NULL) == ERR_OK);
    if (net_url_resolve(&base, text, &url, NULL) == ERR_OK) {
        INVARIANT(url.target.length > 0 && url.target.data[0] == '/');
        INVARIANT(!memchr(url.target.data, '#', url.target.length));
    }
    net_url_done(&url);
    net_url_done(&base);
}

static void outcome_done(struct outcome *outcome) {
    net_request_done(&outcome->request);
    buf_done(&outcome->body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    size_t piece = 1 + data[0] % 64u;
    struct outcome a = read_all(data + 1, size - 1, piece);
    struct outcome b = read_all(data + 1, size - 1, SIZE_MAX);
    INVARIANT(a.err == b.err && a.request.phase == b.request.phase);
    if (!a.err && a.request.phase != NET_REQUEST_HEAD) {
        check_head(&a.request);
        INVARIANT(str_equal(buf_str(&a.request.fields), buf_str(&b.request.fields)));
        INVARIANT(str_equal(buf_str(&a.body), buf_str(&b.body)));
    }
    outcome_done(&a);
    outcome_done(&b);
    check_url((struct str){(const char *)data + 1, size - 1});
    return 0;
}
