/* Heads of responses, line by line as libcurl gives them: what is shown to a guest is made of
 * whole, plain lines, and says nothing of the framing that it no longer has. */
#include "net/http_internal.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_named(struct str name, const char *wanted) {
    return name.length == strlen(wanted) && strncasecmp(name.data, wanted, name.length) == 0;
}

static void check_shown(const struct net_http *http) {
    struct str rest = net_http_fields(http);
    unsigned lengths = 0;
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        INVARIANT(rest.data && line.length > 0 && line.data[line.length - 1] == '\r');
        struct str value = {line.data, line.length - 1};
        struct str name = str_cut(&value, ':');
        INVARIANT(name.length > 0 && value.data);
        for (size_t i = 0; i + 1 < line.length; i++) {
            uint8_t c = (uint8_t)line.data[i];
            INVARIANT((c >= 0x20 || c == '\t') && c != 0x7f);
        }
        INVARIANT(!is_named(name, "transfer-encoding") && !is_named(name, "connection"));
        lengths += is_named(name, "content-length");
    }
    INVARIANT(lengths <= 1);
    INVARIANT(!http->head_done || !http->is_chunked || lengths == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct net_http http = {0};
    struct str rest = {(const char *)data, size};
    bool goes_on = true;
    while (goes_on && rest.length > 0) {
        const char *begin = rest.data;
        (void)str_cut(&rest, '\n');
        size_t length =
            rest.data ? (size_t)(rest.data - begin) : size - (size_t)(begin - (const char *)data);
        goes_on = net_http_head_line(&http, (struct str){begin, length});
        INVARIANT(goes_on || http.failure);
    }
    INVARIANT(!http.head_done || (http.status >= 200 && http.status <= 999));
    INVARIANT(http.reason.length == 0 || !memchr(http.reason.data, '\r', http.reason.length));
    check_shown(&http);
    buf_done(&http.reason);
    buf_done(&http.shown);
    buf_done(&http.message);
    return 0;
}
