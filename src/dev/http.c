/* /net/http/HOST/PATH and /net/https/HOST/PATH: reading is a GET, a POST of what was written
 * before.
 *
 * What is written waits here, up to BUFFERED_MAX: then its length is known, and it can follow a
 * redirect to a GET. More is sent in chunks as it comes. Redirects of a GET are followed, hop by
 * hop, each checked; never from https to http. The answer is the response's body; a response that
 * is no success is an error. */
#include "dev/net_internal.h"

enum { BUFFERED_MAX = 1024 * 1024, REDIRECTS_MAX = 10 };

struct http_exchange {
    struct net_root *root;
    struct net_user user;
    struct net_url url; /* of this hop */
    bool has_question, is_chunked;
    struct buf question; /* not handed on yet, from `question_at` on */
    size_t question_at;
    bool question_ended;
    struct net_http *http;
    unsigned redirects;
    enum err failure; /* of a redirect */
    struct buf why;
};

/* What is not told apart is IO: its sentence says more. */
static enum err of_files(enum err err) {
    bool is_told = err == ERR_OK || err == ERR_PENDING || err == ERR_AGAIN || err == ERR_PERM ||
                   err == ERR_HOSTUNREACH || err == ERR_BUSY || err == ERR_NOMEM;
    return is_told ? err : ERR_IO;
}

static enum err http_begin(struct op *op, void *context, void **ret_exchange) {
    const struct net_node *node = context;
    struct http_exchange *x = calloc(1, sizeof *x);
    if (!x) {
        return ERR_NOMEM;
    }
    x->root = node->root;
    enum err err = net_user_init(&x->user, op, node->root);
    if (err) {
        free(x);
        return err;
    }
    x->url = (struct net_url){
        .is_tls = node->url.is_tls, .host = node->url.host, .port = node->url.port};
    err = buf_append_str(&x->url.target, buf_str(&node->url.target));
    if (err) {
        net_user_done(&x->user);
        free(x);
        return err;
    }
    *ret_exchange = x;
    return ERR_OK;
}

static enum err start(struct op *op, struct http_exchange *x, struct buf *message) {
    bool is_post = x->has_question;
    cleanup_buf struct buf fields = {0};
    enum err err = buf_append_str(&fields, STR("Accept: */*\nUser-Agent: 0asm\n"));
    if (!err && is_post) {
        err = buf_append_str(&fields, STR("Content-Type: application/octet-stream\n"));
    }
    if (!err) {
        err = net_user_trace(&x->user, &fields);
    }
    struct net_http_request request = {
        .url = &x->url,
        .method = is_post ? STR("POST") : STR("GET"),
        .fields = buf_str(&fields),
        .body_bytes = !is_post        ? NET_BODY_NONE
                      : x->is_chunked ? NET_BODY_CHUNKED
                                      : x->question.length,
    };
    return err ? err
               : net_http_start(x->root->options.net, op->loop, &x->user.party, &request, &x->http,
                                message);
}

/* Hands on what waits. */
static enum err drain(struct op *op, struct http_exchange *x) {
    while (x->http && x->question_at < x->question.length) {
        size_t written;
        enum err err = net_http_write(op, x->http, x->question.data + x->question_at,
                                      x->question.length - x->question_at, &written);
        if (err) {
            return err;
        }
        x->question_at += written;
    }
    if (x->http && x->question_ended) {
        net_http_write_end(x->http);
    }
    return ERR_OK;
}

static enum err http_question(struct op *op, void *exchange, const void *data, size_t length,
                              size_t *ret_taken) {
    struct http_exchange *x = exchange;
    x->has_question = true;
    if (!x->http && x->question.length + length <= BUFFERED_MAX) {
        enum err err = buf_append(&x->question, data, length);
        if (!err) {
            *ret_taken = length;
        }
        return err;
    }
    enum err err = ERR_OK;
    if (!x->http) {
        x->is_chunked = true;
        err = start(op, x, op->message);
    }
    if (!err) {
        err = drain(op, x);
    }
    return err ? err : net_http_write(op, x->http, data, length, ret_taken);
}

static enum err http_question_end(struct op *op, void *exchange) {
    struct http_exchange *x = exchange;
    x->question_ended = true;
    return x->http ? ERR_OK : of_files(start(op, x, op->message));
}

static bool is_redirect(unsigned status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* After a redirect: which URL it was that failed, as nobody has asked for it. */
static enum err name_hop(struct buf *message, const struct http_exchange *x, enum err err) {
    cleanup_buf struct buf origin = {0};
    if (x->redirects == 0 || !message || err == ERR_PENDING || err == ERR_AGAIN ||
        net_url_append_origin(&x->url, &origin)) {
        return err;
    }
    return buf_fail(message, err, "redirected to %s%.200s: %s", buf_text(&origin),
                    buf_text(&x->url.target), message->length ? buf_text(message) : err_text(err));
}

static enum err follow(struct op *op, struct http_exchange *x, struct str location) {
    cleanup_net_url struct net_url next = {0};
    cleanup_buf struct buf why = {0};
    unsigned status = net_http_status(x->http);
    enum err err = ERR_OK;
    if (++x->redirects > REDIRECTS_MAX) {
        err = buf_fail(&why, ERR_IO, "more than %d redirects", REDIRECTS_MAX);
    } else if (x->has_question && (status == 307 || status == 308)) {
        err =
            buf_fail(&why, ERR_IO,
                     "a POST is redirected (%u), and is not sent twice; use /net/request", status);
    } else if (net_url_resolve(&x->url, location, &next, &why)) {
        err = buf_fail(&why, ERR_IO, "a redirect is not followed: %s", buf_text(&why));
    } else if (x->url.is_tls && !next.is_tls) {
        err = buf_fail(&why, ERR_IO, "a redirect from https to http is not followed");
    }
    if (!err) {
        net_http_free(STEAL(x->http));
        struct buf target = x->url.target;
        x->url = next;
        next.target = target;
        x->has_question = false;
        x->question.length = x->question_at = 0;
        err = start(op, x, &why);
        err = err ? name_hop(&why, x, err) : ERR_OK;
    }
    if (err) {
        x->failure = err;
        (void)buf_fail(&x->why, err, "%s", why.length ? buf_text(&why) : err_text(err));
    }
    return err;
}

/* The response's status as an error. */
static enum err check_status(struct op *op, struct http_exchange *x) {
    unsigned status = net_http_status(x->http);
    if (status >= 200 && status < 300) {
        return ERR_OK;
    }
    enum err err = status == 404 || status == 410   ? ERR_NOENT
                   : status == 401 || status == 403 ? ERR_ACCES
                                                    : ERR_IO;
    return buf_fail(op->message, err, "%s answered %u " STR_FORMAT, x->url.host.name, status,
                    STR_ARGS(net_http_reason(x->http)));
}

/* Goes on until the body of the last hop can be read. Fails again when it is called again. */
static enum err advance(struct op *op, struct http_exchange *x) {
    for (;;) {
        if (x->failure) {
            return buf_fail(op->message, x->failure, "%s", buf_text(&x->why));
        }
        enum err err = drain(op, x);
        if (!err) {
            err = net_http_wait_head(op, x->http);
        }
        if (err) {
            return name_hop(op->message, x, err);
        }
        struct str location = net_http_field(x->http, "location");
        if (!is_redirect(net_http_status(x->http)) || !location.data) {
            err = check_status(op, x);
            return err ? name_hop(op->message, x, err) : ERR_OK;
        }
        (void)!follow(op, x, location); /* told above */
    }
}

static enum err http_answer(struct op *op, void *exchange, void *data, size_t length,
                            size_t *ret_read) {
    struct http_exchange *x = exchange;
    enum err err = advance(op, x);
    if (!err) {
        err = net_http_read(op, x->http, data, length, ret_read);
        return err == ERR_PENDING || err == ERR_AGAIN || !err ? err : ERR_IO;
    }
    return err == ERR_NOENT || err == ERR_ACCES ? err : of_files(err);
}

static enum err http_poll(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                          uint64_t *ret_bytes) {
    struct http_exchange *x = exchange;
    *ret_bytes = 0;
    if (wanted & POLL_WRITABLE) {
        *ret_ready = POLL_WRITABLE;
        return x->http ? net_http_poll(op, x->http, wanted, ret_ready, ret_bytes) : ERR_OK;
    }
    enum err err = advance(op, x);
    if (!err) {
        return net_http_poll(op, x->http, wanted, ret_ready, ret_bytes);
    }
    if (err == ERR_PENDING) {
        return err;
    }
    *ret_ready = err == ERR_AGAIN ? 0 : POLL_READABLE | POLL_HANGUP;
    return ERR_OK;
}

/* Nothing was sent: what was written could be a part of it only. */
static void http_hangup(void *exchange) {
    struct http_exchange *x = exchange;
    if (x->has_question) {
        net_user_note(&x->user,
                      "net: a POST to %s was not made: its file was closed before its answer was "
                      "read",
                      x->url.host.name);
    }
}

static void http_done(void *exchange) {
    struct http_exchange *x = exchange;
    net_http_free(x->http);
    net_user_done(&x->user);
    net_url_done(&x->url);
    buf_done(&x->question);
    buf_done(&x->why);
    free(x);
}

static void http_release(void *context) {
    struct net_node *node = context;
    file_unref(&node->file);
}

static const struct transaction_service http_service = {
    .name = "http",
    .poll_asks = true,
    .begin = http_begin,
    .question = http_question,
    .question_end = http_question_end,
    .answer = http_answer,
    .poll = http_poll,
    .hangup = http_hangup,
    .done = http_done,
    .release = http_release,
};

static enum err node_open(struct op *op, struct file *file, unsigned open_flags,
                          struct file **ret_file) {
    (void)op, (void)open_flags;
    struct net_node *node = CONTAINER_OF(file_ref(file), struct net_node, file);
    return transaction_open(&http_service, node, file->device, file->inode, ret_file);
}

const struct dev net_http_dev = {
    .name = "http",
    .not_directory = "a URL's path has at most 30 names, and no '..' before its '?'",
    .open = node_open,
    .release = net_node_release,
};
