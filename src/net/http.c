#include "net/http_internal.h"

#include "base/clock.h"
#include "net/trust.h"

/* ---- bytes on their way ---- */

enum err fifo_append(struct fifo *fifo, const void *data, size_t length) {
    if (fifo->at > 0 && fifo->buf.length + length > fifo->buf.capacity) {
        buf_consume(&fifo->buf, fifo->at);
        fifo->at = 0;
    }
    return buf_append(&fifo->buf, data, length);
}

size_t fifo_take(struct fifo *fifo, void *data, size_t length) {
    length = MIN(length, fifo_length(fifo));
    if (length > 0) {
        memcpy(data, fifo->buf.data + fifo->at, length);
        fifo->at += length;
    }
    if (fifo->at == fifo->buf.length) {
        fifo->at = fifo->buf.length = 0;
    }
    return length;
}

/* ---- its end ---- */

void net_http_changed(struct net_http *http) {
    op_queue_wake_all(&http->changed);
}

/* The first failure is the one that is told. */
void net_http_fail(struct net_http *http, enum err err, const char *format, ...) {
    if (http->failure) {
        return;
    }
    http->failure = err;
    va_list arguments;
    va_start(arguments, format);
    http->message.length = 0;
    (void)!buf_vprintf(&http->message, format, arguments); /* without memory there is none */
    va_end(arguments);
}

/* Not from inside of libcurl. */
static void stop(struct net_http *http) {
    http->is_done = true;
    loop_timer_stop(&http->silence);
    if (http->lookup) {
        net_lookup_cancel(STEAL(http->lookup));
    }
    net_easy_free(&http->easy);
    if (http->app) {
        net_app_put(STEAL(http->app));
    }
    net_http_changed(http);
}

void net_http_expect_peer(struct net_http *http) {
    loop_timer_start(http->home->loop, &http->silence,
                     loop_now_ns(http->home->loop) + http->net->options.timeout_ns);
}

static void on_silence(struct loop_timer *timer) {
    struct net_http *http = CONTAINER_OF(timer, struct net_http, silence);
    if (http->recv_paused || http->send_paused) {
        net_http_expect_peer(http); /* it is us who let the peer wait */
        return;
    }
    net_http_fail(http, ERR_TIMEDOUT, "%s was silent for %llu s", http->url.host.name,
                  (unsigned long long)(http->net->options.timeout_ns / NS_PER_S));
    stop(http);
}

static void tell_failure(struct net_http *http, CURLcode result) {
    const char *why = http->curl_error[0] ? http->curl_error : curl_easy_strerror(result);
    switch (result) {
    case CURLE_OK:
        if (!http->head_done) {
            net_http_fail(http, ERR_IO, "%s closed the connection without a response",
                          http->url.host.name);
        }
        break;
    case CURLE_OPERATION_TIMEDOUT:
        net_http_fail(http, ERR_TIMEDOUT, "no connection to %s: %s", http->url.host.name, why);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        net_http_fail(http, ERR_HOSTUNREACH, "the name %s has no address", http->url.host.name);
        break;
    default:
        net_http_fail(http, ERR_IO, "%s port %u: %s", http->url.host.name, http->url.port, why);
        break;
    }
}

void net_http_done(struct net_easy *easy, CURLcode result) {
    struct net_http *http = CONTAINER_OF(easy, struct net_http, easy);
    tell_failure(http, result);
    stop(http);
}

/* Not from inside of libcurl. May end the transfer. */
static void set_pauses(struct net_http *http) {
    if (!http->is_done && http->easy.multi) {
        int bits =
            (http->recv_paused ? CURLPAUSE_RECV : 0) | (http->send_paused ? CURLPAUSE_SEND : 0);
        CURLcode result = curl_easy_pause(http->easy.curl, bits);
        if (result != CURLE_OK && http->failure) {
            stop(http); /* what was kept back could not be taken */
        }
    }
}

/* ---- beginning ---- */

static enum err connect_to(struct net_http *http, struct net_addresses addresses,
                           struct buf *message) {
    enum err err = net_check_addresses(http->net, http->party, &http->url.host, http->url.port,
                                       &addresses, message);
    if (!err) {
        err = net_app_get(http->home, http->party->app_id, &http->app);
    }
    if (!err) {
        err = net_http_set_up(http, &addresses);
    }
    if (!err) {
        err = net_multi_add(http->app->multi, &http->easy);
    }
    return err;
}

static void on_found(void *argument, enum err err, const struct net_addresses *addresses,
                     struct str message) {
    struct net_http *http = argument;
    http->lookup = NULL;
    cleanup_buf struct buf why = {0};
    if (err) {
        (void)buf_fail(&why, err, STR_FORMAT, STR_ARGS(message));
    } else {
        err = connect_to(http, *addresses, &why);
    }
    if (err) {
        net_http_fail(http, err, "%s", why.length ? buf_text(&why) : err_text(err));
        stop(http);
    }
}

static enum err look_up(struct net_http *http, struct buf *message) {
    struct net_addresses addresses;
    bool needs_trust = http->url.is_tls && !net_trust_is_loaded();
    if (!needs_trust &&
        net_resolver_knows(http->net->resolver, http->party->app_id, &http->url.host, &addresses)) {
        return connect_to(http, addresses, message);
    }
    return net_lookup_start(http->net->resolver, http->home->loop, http->party->app_id,
                            &http->url.host, needs_trust ? net_trust_load : NULL, on_found, http,
                            &http->lookup);
}

/* ---- from outside ---- */

static enum err copy_request(struct net_http *http, const struct net_http_request *request) {
    const struct net_url *url = request->url;
    http->url = (struct net_url){.is_tls = url->is_tls, .host = url->host, .port = url->port};
    http->body_bytes = request->body_bytes;
    http->body_ended = request->body_bytes == NET_BODY_NONE || request->body_bytes == 0;
    http->is_kept = request->body_bytes <= NET_HTTP_BUFFER;
    enum err err = buf_append_str(&http->url.target, buf_str(&url->target));
    if (!err) {
        err = buf_append_str(&http->method, request->method);
    }
    if (!err) {
        err = buf_append_str(&http->fields, request->fields);
    }
    return err ? err : op_queue_init(&http->changed);
}

enum err net_http_start(struct net *net, struct loop *loop, const struct net_party *party,
                        const struct net_http_request *request, struct net_http **ret_http,
                        struct buf *message) {
    const struct net_url *url = request->url;
    enum err err = net_check_host(party, &url->host, url->port, message);
    if (!err) {
        err = net_enter(net, party->app_id, message);
    }
    if (err) {
        return err;
    }
    struct net_http *http = calloc(1, sizeof *http);
    if (!http) {
        net_leave(net, party->app_id);
        return ERR_NOMEM;
    }
    http->net = net;
    http->home = net_loop_of(net, loop);
    http->party = party;
    loop_timer_init(&http->silence, on_silence);
    err = copy_request(http, request);
    if (!err) {
        net_http_expect_peer(http);
        err = look_up(http, message);
    }
    if (err) {
        net_http_free(http);
        return err;
    }
    *ret_http = http;
    return ERR_OK;
}

/* Fields may hold secrets. */
static void free_list(struct curl_slist *list) {
    for (struct curl_slist *line = list; line; line = line->next) {
        explicit_bzero(line->data, strlen(line->data));
    }
    curl_slist_free_all(list);
}

void net_http_free(struct net_http *http) {
    if (!http) {
        return;
    }
    if (http->changed.mutex) {
        stop(http);
        op_queue_done(&http->changed);
    }
    net_leave(http->net, http->party->app_id);
    free_list(http->field_list);
    curl_slist_free_all(http->resolve_list);
    net_url_done(&http->url);
    buf_done(&http->method);
    buf_wipe(&http->fields);
    buf_done(&http->message);
    buf_done(&http->body.buf);
    buf_done(&http->reason);
    buf_done(&http->head);
    buf_done(&http->shown);
    buf_done(&http->answer.buf);
    free(http);
}

/* Nothing is there yet. */
static enum err wait(struct op *op, struct net_http *http) {
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    enum err err = op_queue_wait(&http->changed, op);
    return err ? err : ERR_PENDING;
}

static enum err fail_op(struct op *op, const struct net_http *http) {
    return buf_fail(op->message, http->failure, STR_FORMAT, STR_ARGS(buf_str(&http->message)));
}

static size_t body_room(const struct net_http *http) {
    return NET_HTTP_BUFFER - MIN(fifo_length(&http->body), (size_t)NET_HTTP_BUFFER);
}

enum err net_http_write(struct op *op, struct net_http *http, const void *data, size_t length,
                        size_t *ret_written) {
    if (http->is_done) {
        *ret_written = length;
        return ERR_OK;
    }
    uint64_t bytes_max = http->net->options.bytes_max;
    uint64_t most = http->body_bytes == NET_BODY_NONE ? 0 : MIN(http->body_bytes, bytes_max);
    if (http->body_ended || length > most - http->body_written) {
        return buf_fail(op->message, ERR_INVAL, "the request's body has more than %llu bytes",
                        (unsigned long long)most);
    }
    size_t room = body_room(http);
    if (room == 0) {
        return wait(op, http);
    }
    length = MIN(length, room);
    enum err err = fifo_append(&http->body, data, length);
    if (err) {
        return err;
    }
    http->body_written += length;
    if (http->body_written == http->body_bytes) {
        http->body_ended = true;
    }
    if (http->send_paused) {
        http->send_paused = false;
        set_pauses(http);
    }
    *ret_written = length;
    return ERR_OK;
}

void net_http_write_end(struct net_http *http) {
    if (http->is_done || http->body_ended) {
        return;
    }
    if (http->body_bytes != NET_BODY_CHUNKED) {
        net_http_fail(http, ERR_IO, "the request's body ended after %llu of %llu bytes",
                      (unsigned long long)http->body_written, (unsigned long long)http->body_bytes);
        stop(http);
        return;
    }
    http->body_ended = true;
    if (http->send_paused) {
        http->send_paused = false;
        set_pauses(http);
    }
}

enum err net_http_wait_head(struct op *op, struct net_http *http) {
    if (http->head_done) {
        return ERR_OK;
    }
    return http->is_done ? fail_op(op, http) : wait(op, http);
}

enum err net_http_read(struct op *op, struct net_http *http, void *data, size_t length,
                       size_t *ret_read) {
    size_t taken = fifo_take(&http->answer, data, length);
    if (http->recv_paused && fifo_length(&http->answer) <= NET_HTTP_BUFFER / 2) {
        http->recv_paused = false;
        net_http_expect_peer(http);
        set_pauses(http);
    }
    if (taken == 0 && length > 0 && !http->is_done) {
        /* What libcurl had kept back may have come just now. */
        taken = fifo_take(&http->answer, data, length);
        if (taken == 0) {
            return wait(op, http);
        }
    }
    if (taken == 0 && http->failure) {
        return fail_op(op, http);
    }
    *ret_read = taken;
    return ERR_OK;
}

enum err net_http_poll(struct op *op, struct net_http *http, unsigned wanted, unsigned *ret_ready,
                       uint64_t *ret_bytes) {
    unsigned ready = 0;
    uint64_t bytes = 0;
    if (wanted & POLL_READABLE) {
        bytes = fifo_length(&http->answer);
        ready = bytes > 0       ? (unsigned)POLL_READABLE
                : http->is_done ? POLL_READABLE | POLL_HANGUP
                                : 0;
    }
    if (wanted & POLL_WRITABLE && (http->is_done || http->body_ended || body_room(http) > 0)) {
        ready |= POLL_WRITABLE;
    }
    if (!ready && !op->nonblocking) {
        enum err err = op_queue_wait(&http->changed, op);
        return err ? err : ERR_PENDING;
    }
    *ret_ready = ready;
    *ret_bytes = bytes;
    return ERR_OK;
}

struct str net_http_message(const struct net_http *http) {
    return buf_str(&http->message);
}
