/* /net/request: any HTTP request as text, and its response.
 *
 * Both stream: a body goes on while the response is read. What fails on the way is a response too,
 * made here, with a field that says why (0asm-Error): 400 the request can't be read, 403 it may not
 * be made, 502 and 504 it did not succeed, 503 too many at once. Redirects are not followed.
 *
 * A field "NAME: @SECRET", or "Authorization: SCHEME @SECRET", is sent with the app's secret of
 * that name in its place; "@@" is an "@". It goes over https to the hosts that it is bound to; over
 * http only to those that it is bound to with their port. The guest never has its value. */
#include "dev/net_internal.h"

#include "net/request.h"
#include "store/secret.h"

struct request_exchange {
    struct net_root *root;
    struct net_user user;
    struct net_request request;
    struct net_http *http;
    struct buf out; /* the response's head, or all of one that is made here */
    size_t out_at;
    bool head_done, is_made_here;
    const char *too_long; /* more was written than belongs to the request, too late for a response
                             that says so: an error of reading. Static */
    /* secrets: fields that are ready, and how far they have been looked at */
    struct buf fields;
    size_t fields_at;
    bool is_bound_to_port;
};

static enum err request_begin(struct op *op, void *context, void **ret_exchange) {
    const struct net_node *node = context;
    struct request_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return ERR_NOMEM;
    }
    x->root = node->root;
    enum err err = net_user_init(&x->user, op, node->root);
    if (err) {
        free(x);
        return err;
    }
    *ret_exchange = x;
    return ERR_OK;
}

/* ---- responses that are made here ---- */

static const struct made {
    enum err err;
    unsigned status;
    const char *reason;
} made[] = {
    {ERR_INVAL, 400, "Bad Request"},        {ERR_PERM, 403, "Forbidden"},
    {ERR_BUSY, 503, "Service Unavailable"}, {ERR_NOMEM, 503, "Service Unavailable"},
    {ERR_TIMEDOUT, 504, "Gateway Timeout"}, {ERR_IO, 502, "Bad Gateway"},
};

/* Answers the request with a failure, which is in /proc/self/errstr, too, like those of other
 * files. The question's rest goes nowhere from now on. */
static enum err answer_failure(struct request_exchange *x, enum err failure, struct str why) {
    const struct made *row = &made[ARRAY_LENGTH(made) - 1];
    for (size_t i = 0; i < ARRAY_LENGTH(made); i++) {
        if (made[i].err == failure) {
            row = &made[i];
            break;
        }
    }
    cleanup_buf struct buf text = {0};
    enum err err = buf_append_str(&text, why.length ? why : str_of(err_text(failure)));
    if (err) {
        return err;
    }
    for (size_t i = 0; i < text.length; i++) {
        bool is_plain = text.data[i] >= 0x20 && text.data[i] != 0x7f;
        text.data[i] = is_plain ? text.data[i] : '?';
    }
    run_set_errstr(x->user.run, buf_str(&text));
    bool is_head = str_equal_text(buf_str(&x->request.method), "HEAD");
    net_http_free(STEAL(x->http));
    x->is_made_here = true;
    x->out.length = x->out_at = 0;
    err = buf_printf(&x->out,
                     "HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n0asm-Error: %s\r\n\r\n",
                     row->status, row->reason, text.length + strlen("error: \n"), buf_text(&text));
    return err || is_head ? err : buf_printf(&x->out, "error: %s\n", buf_text(&text));
}

/* ---- secrets ---- */

/* The name of a secret in a field; length 0 if there is none. `*ret_before`: what comes before. */
static struct str secret_of(struct str name, struct str value, struct str *ret_before) {
    struct str before = {value.data, 0}, secret = value;
    bool is_authorization = name.length == strlen("authorization") &&
                            strncasecmp(name.data, "authorization", name.length) == 0;
    const char *space = value.length ? memchr(value.data, ' ', value.length) : NULL;
    if (is_authorization && space) {
        before.length = (size_t)(space + 1 - value.data);
        secret.data += before.length;
        secret.length -= before.length;
    }
    if (secret.length < 2 || secret.data[0] != '@' || secret.data[1] == '@') {
        return (struct str){0};
    }
    *ret_before = before;
    return (struct str){secret.data + 1, secret.length - 1};
}

/* Over http a secret goes where it was bound to with the port: nothing of any port may answer. */
static enum err check_plain(struct op *op, struct request_exchange *x, struct str secret) {
    const struct net_url *url = &x->request.url;
    if (url->is_tls || x->is_bound_to_port) {
        return ERR_OK;
    }
    cleanup_wiped_buf struct buf value = {0};
    enum err err = catalog_secret(op, x->root->options.catalog, run_app(x->user.run), secret,
                                  str_of(url->host.name), 0, &value, op->message);
    if (err == ERR_OK) {
        return buf_fail(op->message, ERR_PERM,
                        "the secret '" STR_FORMAT "' is not sent without TLS: use https, or bind "
                        "it to %s:%u alone",
                        STR_ARGS(secret), url->host.name, url->port);
    }
    if (err != ERR_ACCES) {
        return err;
    }
    buf_done(op->message); /* that it is bound to no port of the host; the port is asked for next */
    x->is_bound_to_port = true;
    return ERR_OK;
}

static enum err append_value(struct buf *fields, struct str name, struct str before,
                             struct str value) {
    enum err err = buf_reserve(fields, name.length + before.length + value.length + 3);
    if (!err) {
        err = buf_append_str(fields, name);
    }
    if (!err) {
        err = buf_append_str(fields, STR(": "));
    }
    if (!err) {
        err = buf_append_str(fields, before);
    }
    if (!err) {
        err = buf_append_str(fields, value);
    }
    return err ? err : buf_append_byte(fields, '\n');
}

static enum err put_secret(struct op *op, struct request_exchange *x, struct str name,
                           struct str before, struct str secret) {
    const struct net_url *url = &x->request.url;
    enum err err = check_plain(op, x, secret);
    if (err) {
        return err;
    }
    cleanup_wiped_buf struct buf value = {0};
    err = catalog_secret(op, x->root->options.catalog, run_app(x->user.run), secret,
                         str_of(url->host.name), url->port, &value, op->message);
    if (err) {
        return err;
    }
    x->is_bound_to_port = false; /* the next one is another */
    while (value.length > 0 && strchr("\r\n", value.data[value.length - 1])) {
        value.length--; /* a file's last newline */
    }
    for (size_t i = 0; i < value.length; i++) {
        if (value.data[i] < 0x20 || value.data[i] == 0x7f) {
            return buf_fail(op->message, ERR_INVAL,
                            "the secret '" STR_FORMAT "' has a character that no field can have",
                            STR_ARGS(secret));
        }
    }
    return append_value(&x->fields, name, before, buf_str(&value));
}

/* Makes x->fields of what was written. Polled: keeps its place. */
static enum err put_secrets(struct op *op, struct request_exchange *x) {
    struct str all = buf_str(&x->request.fields);
    while (x->fields_at < all.length) {
        struct str rest = {all.data + x->fields_at, all.length - x->fields_at};
        struct str line = str_cut(&rest, '\n');
        struct str value = line, before;
        struct str name = str_cut(&value, ':');
        value.data++; /* the space */
        value.length--;
        struct str secret = secret_of(name, value, &before);
        enum err err;
        if (secret.length > 0) {
            err = put_secret(op, x, name, before, secret);
        } else {
            bool is_doubled = str_starts(value, STR("@@"));
            value.data += is_doubled;
            value.length -= is_doubled;
            err = append_value(&x->fields, name, (struct str){0}, value);
        }
        if (err) {
            return err;
        }
        x->fields_at += line.length + 1;
    }
    return ERR_OK;
}

/* ---- going on ---- */

/* After the head was read: has the request under way. OK too if it has failed for good: then there
 * is a response that says so. */
static enum err advance(struct op *op, struct request_exchange *x) {
    if (x->http || x->is_made_here || x->request.phase == NET_REQUEST_HEAD) {
        return ERR_OK;
    }
    cleanup_buf struct buf why = {0};
    struct buf *message = op->message;
    op->message = &why; /* it goes into the response */
    enum err err = put_secrets(op, x);
    op->message = message;
    if (err == ERR_PENDING) {
        return err;
    }
    if (!err) {
        err = net_user_trace(&x->user, &x->fields);
    }
    if (!err) {
        struct net_http_request request = {
            .url = &x->request.url,
            .method = buf_str(&x->request.method),
            .fields = buf_str(&x->fields),
            .body_bytes = x->request.body_bytes,
        };
        err = net_http_start(x->root->options.net, op->loop, &x->user.party, &request, &x->http,
                             &why);
        buf_wipe(&x->fields);
        buf_wipe(&x->request.fields);
    } else if (err == ERR_NOENT || err == ERR_ACCES) {
        err = ERR_PERM;
    }
    return err ? answer_failure(x, err, buf_str(&why)) : ERR_OK;
}

static enum err read_head(struct request_exchange *x, const void *data, size_t length,
                          size_t *ret_taken) {
    cleanup_buf struct buf why = {0};
    enum err err = net_request_head(&x->request, data, length, ret_taken, &why);
    if (err == ERR_INVAL) {
        *ret_taken = length;
        err = answer_failure(x, err, buf_str(&why));
    }
    return err;
}

static enum err read_body(struct op *op, struct request_exchange *x, const uint8_t *data,
                          size_t length, size_t *ret_taken) {
    cleanup_buf struct buf why = {0};
    size_t taken = 0;
    enum err err = net_request_framing(&x->request, data, length, &taken, &why);
    size_t bytes = err ? 0 : net_request_body(&x->request, length - taken);
    if (!err && taken == 0 && bytes > 0) {
        struct buf *message = op->message;
        op->message = &why;
        err = net_http_write(op, x->http, data, bytes, &taken);
        op->message = message;
        if (!err) {
            net_request_took(&x->request, taken);
        }
    }
    if (!err && x->request.phase == NET_REQUEST_END) {
        net_http_write_end(x->http);
    }
    if (err == ERR_INVAL) {
        taken = length;
        err = answer_failure(x, err, buf_str(&why));
    }
    if (!err) {
        *ret_taken = taken;
    }
    return err;
}

/* More is written when the request is complete: it was meant to be another one, which perhaps has
 * been sent already. */
static enum err refuse_more(struct request_exchange *x) {
    const char *why = x->request.has_length ? "the request's body is longer than its Content-Length"
                      : x->request.body_bytes == NET_BODY_CHUNKED
                          ? "the request goes on after its last chunk"
                          : "the request has a body, and neither a Content-Length nor "
                            "Transfer-Encoding: chunked";
    if (!x->head_done) {
        return answer_failure(x, ERR_INVAL, str_of(why));
    }
    net_http_free(STEAL(x->http));
    x->too_long = why;
    return ERR_OK;
}

static enum err request_question(struct op *op, void *exchange, const void *data, size_t length,
                                 size_t *ret_taken) {
    struct request_exchange *x = exchange;
    if (x->request.phase == NET_REQUEST_END && !x->is_made_here && !x->too_long) {
        enum err err = refuse_more(x);
        if (err) {
            return err;
        }
    }
    if (x->too_long) {
        *ret_taken = length;
        return ERR_OK;
    }
    enum err err = advance(op, x);
    if (err) {
        return err;
    }
    if (x->is_made_here) {
        *ret_taken = length;
        return ERR_OK;
    }
    switch (x->request.phase) {
    case NET_REQUEST_HEAD:
        return read_head(x, data, length, ret_taken);
    case NET_REQUEST_BODY:
        return read_body(op, x, data, length, ret_taken);
    case NET_REQUEST_END: /* refused above */
        break;
    }
    return ERR_INVAL;
}

static bool request_is_streaming(const void *exchange) {
    const struct request_exchange *x = exchange;
    return x->request.phase == NET_REQUEST_BODY && !x->is_made_here;
}

static bool request_is_complete(const void *exchange) {
    const struct request_exchange *x = exchange;
    return x->request.phase == NET_REQUEST_END || x->is_made_here;
}

static enum err request_question_end(struct op *op, void *exchange) {
    (void)op;
    struct request_exchange *x = exchange;
    if (x->is_made_here || x->request.phase == NET_REQUEST_END) {
        return ERR_OK;
    }
    return answer_failure(x, ERR_INVAL,
                          x->request.phase == NET_REQUEST_HEAD
                              ? STR("the request ends before its head does: METHOD URL HTTP/1.1, "
                                    "fields, an empty line")
                              : STR("the request ends before its body does"));
}

static enum err make_head(struct request_exchange *x) {
    enum err err = buf_printf(&x->out, "HTTP/1.1 %u " STR_FORMAT "\r\n", net_http_status(x->http),
                              STR_ARGS(net_http_reason(x->http)));
    if (!err) {
        err = buf_append_str(&x->out, net_http_fields(x->http));
    }
    return err ? err : buf_append_str(&x->out, STR("Connection: close\r\n\r\n"));
}

/* Until there is something to read, or the end. */
static enum err await_head(struct op *op, struct request_exchange *x) {
    enum err err = advance(op, x);
    if (err || x->is_made_here || x->head_done) {
        return err;
    }
    cleanup_buf struct buf why = {0};
    struct buf *message = op->message;
    op->message = &why;
    err = net_http_wait_head(op, x->http);
    op->message = message;
    if (err == ERR_PENDING || err == ERR_AGAIN) {
        return err;
    }
    x->head_done = true;
    return err ? answer_failure(x, err, buf_str(&why)) : make_head(x);
}

static enum err request_answer(struct op *op, void *exchange, void *data, size_t length,
                               size_t *ret_read) {
    struct request_exchange *x = exchange;
    if (x->too_long) {
        return buf_fail(op->message, ERR_INVAL, "%s", x->too_long);
    }
    enum err err = await_head(op, x);
    if (err) {
        return err;
    }
    size_t here = MIN(length, x->out.length - x->out_at);
    if (here > 0) {
        memcpy(data, x->out.data + x->out_at, here);
        x->out_at += here;
        *ret_read = here;
        return ERR_OK;
    }
    if (x->is_made_here) {
        *ret_read = 0;
        return ERR_OK;
    }
    return net_http_read(op, x->http, data, length, ret_read);
}

static enum err request_poll(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                             uint64_t *ret_bytes) {
    struct request_exchange *x = exchange;
    *ret_bytes = 0;
    if (x->too_long) { /* both are answered at once */
        *ret_ready =
            (wanted & POLL_WRITABLE) ? (unsigned)POLL_WRITABLE : POLL_READABLE | POLL_HANGUP;
        return ERR_OK;
    }
    if (wanted & POLL_WRITABLE) {
        enum err err = advance(op, x);
        *ret_ready = POLL_WRITABLE;
        return err || !x->http ? err : net_http_poll(op, x->http, wanted, ret_ready, ret_bytes);
    }
    enum err err = await_head(op, x);
    if (err == ERR_AGAIN) {
        *ret_ready = 0;
        return ERR_OK;
    }
    if (err) {
        return err;
    }
    *ret_bytes = x->out.length - x->out_at;
    if (*ret_bytes > 0 || x->is_made_here) {
        *ret_ready = *ret_bytes > 0 ? (unsigned)POLL_READABLE : POLL_READABLE | POLL_HANGUP;
        return ERR_OK;
    }
    return net_http_poll(op, x->http, wanted, ret_ready, ret_bytes);
}

static void request_done(void *exchange) {
    struct request_exchange *x = exchange;
    net_http_free(x->http);
    net_user_done(&x->user);
    net_request_done(&x->request);
    buf_done(&x->out);
    buf_wipe(&x->fields);
    free(x);
}

static void request_release(void *context) {
    struct net_node *node = context;
    file_unref(&node->file);
}

static const struct transaction_service request_service = {
    .name = "request",
    .is_complete = request_is_complete,
    .begin = request_begin,
    .question = request_question,
    .question_end = request_question_end,
    .answer = request_answer,
    .poll = request_poll,
    .is_streaming = request_is_streaming,
    .done = request_done,
    .release = request_release,
};

static enum err node_open(struct op *op, struct file *file, unsigned open_flags,
                          struct file **ret_file) {
    (void)op, (void)open_flags;
    struct net_node *node = CONTAINER_OF(file_ref(file), struct net_node, file);
    return transaction_open(&request_service, node, file->device, file->inode, ret_file);
}

const struct dev net_request_dev = {
    .name = "request",
    .open = node_open,
    .release = net_node_release,
};
