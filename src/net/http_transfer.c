/* What libcurl is told of a transfer, and what it calls. */
#include "net/http_internal.h"

#include "net/trust.h"

#include <unistd.h>

enum {
    CONNECT_TIMEOUT_MS = 30 * 1000,
    PIECE_BYTES = 64 * 1024, /* that libcurl reads and sends at once */
};

/* ---- what libcurl calls ---- */

static curl_socket_t on_open_socket(void *context, curlsocktype purpose,
                                    struct curl_sockaddr *address) {
    (void)purpose;
    struct net_http *http = context;
    struct net_address target;
    cleanup_buf struct buf why = {0};
    enum err err = net_address_of(&address->addr, &target);
    if (!err) {
        err = net_check_address(http->net, http->party, &http->url.host, http->url.port, &target,
                                true, &why);
    }
    if (err) {
        net_http_fail(http, ERR_PERM, "%s", why.length ? buf_text(&why) : err_text(err));
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                  address->protocol);
}

static CURLcode on_tls_context(CURL *curl, void *context, void *argument) {
    (void)curl;
    struct net_http *http = argument;
    cleanup_buf struct buf why = {0};
    if (net_trust_use(context, &why)) {
        net_http_fail(http, ERR_IO, "%s", buf_text(&why));
        return CURLE_SSL_CACERT_BADFILE;
    }
    return CURLE_OK;
}

static void note_reuse(struct net_http *http) {
    long made = 1;
    char *address = NULL;
    curl_easy_getinfo(http->easy.curl, CURLINFO_NUM_CONNECTS, &made);
    curl_easy_getinfo(http->easy.curl, CURLINFO_PRIMARY_IP, &address);
    if (made == 0 && http->status == 0) {
        net_note(http->party, "net: allowed %s (%s) port %u, on a kept connection",
                 http->url.host.name, address ? address : "", http->url.port);
    }
}

static size_t on_head(char *data, size_t size, size_t count, void *context) {
    struct net_http *http = context;
    note_reuse(http);
    net_http_expect_peer(http);
    bool was_done = http->head_done;
    if (!net_http_head_line(http, (struct str){data, size * count})) {
        return 0;
    }
    if (http->head_done && !was_done) {
        net_http_changed(http);
    }
    return size * count;
}

static size_t on_write(char *data, size_t size, size_t count, void *context) {
    struct net_http *http = context;
    size_t length = size * count;
    net_http_expect_peer(http);
    if (fifo_length(&http->answer) + length > NET_HTTP_BUFFER) {
        http->recv_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    http->answer_bytes += length;
    if (http->answer_bytes > http->net->options.bytes_max) {
        net_http_fail(http, ERR_FBIG, "the response has more than %llu bytes (--net-bytes)",
                      (unsigned long long)http->net->options.bytes_max);
        return 0;
    }
    if (fifo_append(&http->answer, data, length)) {
        net_http_fail(http, ERR_NOMEM, "out of memory");
        return 0;
    }
    net_http_changed(http);
    return length;
}

static size_t on_read(char *data, size_t size, size_t count, void *context) {
    struct net_http *http = context;
    size_t length = size * count;
    net_http_expect_peer(http);
    if (http->is_kept) {
        length = MIN(length, http->body.buf.length - http->sent);
        if (length > 0) {
            memcpy(data, http->body.buf.data + http->sent, length);
            http->sent += length;
        }
    } else {
        length = fifo_take(&http->body, data, length);
    }
    if (length > 0) {
        net_http_changed(http);
        return length;
    }
    if (http->body_ended) {
        return 0;
    }
    http->send_paused = true;
    return CURL_READFUNC_PAUSE;
}

/* A kept connection was closed by the peer before it took the request: it is sent again. */
static int on_seek(void *context, curl_off_t offset, int origin) {
    struct net_http *http = context;
    if (!http->is_kept || origin != SEEK_SET || offset < 0 ||
        (uint64_t)offset > http->body.buf.length) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    http->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- setting it up ---- */

static enum err add_line(struct curl_slist **list, const char *line) {
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (!longer) {
        return ERR_NOMEM;
    }
    *list = longer;
    return ERR_OK;
}

static enum err add_fields(struct net_http *http) {
    static const char *const absent[] = {"Accept:", "User-Agent:", "Expect:", "Content-Type:"};
    struct str rest = buf_str(&http->fields);
    bool has_field[ARRAY_LENGTH(absent)] = {false};
    enum err err = ERR_OK;
    while (!err && rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str value = line;
        struct str name = str_cut(&value, ':');
        cleanup_wiped_buf struct buf text = {0};
        err = buf_reserve(&text, line.length + 2);
        if (!err) {
            /* libcurl takes "NAME:" for "leave it out", and "NAME;" for an empty one. */
            bool is_empty = value.length == 0 || str_equal_text(value, " ");
            err = buf_append_str(&text, is_empty ? name : line);
            if (!err && is_empty) {
                err = buf_append_byte(&text, ';');
            }
        }
        if (!err) {
            err = add_line(&http->field_list, buf_text(&text));
        }
        for (size_t i = 0; i < ARRAY_LENGTH(absent); i++) {
            has_field[i] |= name.length == strlen(absent[i]) - 1 &&
                            strncasecmp(name.data, absent[i], name.length) == 0;
        }
    }
    for (size_t i = 0; !err && i < ARRAY_LENGTH(absent); i++) {
        if (!has_field[i]) {
            err = add_line(&http->field_list, absent[i]); /* libcurl has none of its own then */
        }
    }
    return err;
}

/* Tells libcurl the addresses, so that it looks nothing up. */
static enum err add_addresses(struct net_http *http, const struct net_addresses *addresses) {
    if (http->url.host.is_address) {
        return ERR_OK;
    }
    cleanup_buf struct buf line = {0};
    enum err err = buf_printf(&line, "+%s:%u:", http->url.host.name, http->url.port);
    for (size_t i = 0; !err && i < addresses->count; i++) {
        char text[NET_ADDRESS_TEXT_SIZE];
        net_address_text(&addresses->list[i], text);
        err =
            buf_printf(&line, addresses->list[i].is_v6 ? "%s[%s]" : "%s%s", i > 0 ? "," : "", text);
    }
    return err ? err : add_line(&http->resolve_list, buf_text(&line));
}

static void set_body(struct net_http *http) {
    CURL *curl = http->easy.curl;
    bool is_head = str_equal_text(buf_str(&http->method), "HEAD");
    if (is_head) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (http->body_bytes != NET_BODY_NONE) {
        curl_off_t length =
            http->body_bytes == NET_BODY_CHUNKED ? -1 : (curl_off_t)http->body_bytes;
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, length);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, http);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, http);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)PIECE_BYTES);
        if (!http->is_kept) {
            curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L); /* it could not be sent again */
        }
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, buf_text(&http->method));
}

enum err net_http_set_up(struct net_http *http, const struct net_addresses *addresses) {
    cleanup_buf struct buf origin = {0};
    enum err err = net_easy_new(net_http_done, &http->easy);
    if (!err) {
        err = add_fields(http);
    }
    if (!err) {
        err = add_addresses(http, addresses);
    }
    if (!err) {
        err = net_url_append_origin(&http->url, &origin);
    }
    if (!err) {
        err = buf_append_byte(&origin, '/');
    }
    if (err) {
        return err;
    }
    CURL *curl = http->easy.curl;
    curl_easy_setopt(curl, CURLOPT_URL, buf_text(&origin));
    curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, buf_text(&http->url.target));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, http->field_list);
    curl_easy_setopt(curl, CURLOPT_RESOLVE, http->resolve_list);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, http);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long)PIECE_BYTES);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->curl_error);
    curl_easy_setopt(
        curl, CURLOPT_CONNECTTIMEOUT_MS,
        (long)MIN(http->net->options.timeout_ns / NS_PER_MS, (uint64_t)CONNECT_TIMEOUT_MS));
    /* The authorities come from net_trust, not read from a file for each connection. */
    curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, http);
    set_body(http);
    return ERR_OK;
}
