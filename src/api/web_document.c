/* What a program answers, whether it was started for the request (web_cgi.c) or is kept
 * (web_serve.c). The head is gathered first. From then on the answer streams, or, if the program
 * has ended it by then and it is short, goes out in one piece. */
#include "api/web_fields.h"
#include "api/web_internal.h"

/* The body of an answer is gathered up to this size, as long as the program does not wait. */
#define WHOLE_BYTES_MAX (32 * KIB)
#define PIECE_BYTES (8 * KIB)
/* Of an answer that may not go out yet. */
#define HELD_BYTES_MAX (64 * KIB)

void web_document_fail(struct web *web, const char *why) {
    web_log(web, "bad %s: %s", web->document.name, why);
    web_fail(web, 502, "the program of this page gave no valid answer");
}

/* A field of the program's head, as far as it may reach. */
static enum err add_field(struct web *web, const char *name, const char *value) {
    struct http_exchange *exchange = web->request->exchange;
    cleanup_buf struct buf cookie = {0};
    enum err err = ERR_OK;
    switch (web_field_judge(str_of(name), web->script_name)) {
    case WEB_FIELD_PASSES:
        return http_add_header(exchange, name, value);
    case WEB_FIELD_COOKIE:
        err = web_cookie_confine(str_of(value), web->script_name, &cookie);
        if (err == ERR_INVAL) {
            return ERR_OK;
        }
        return err ? err : http_add_header(exchange, name, buf_text(&cookie));
    case WEB_FIELD_DROPPED:
        break;
    }
    return ERR_OK;
}

/* The head as the program gave it. What cgi_response allows has room in a response. */
static enum err add_head(struct web *web, const char **ret_type) {
    const struct cgi_response *response = &web->document.response;
    struct http_exchange *exchange = web->request->exchange;
    *ret_type = "text/plain; charset=utf-8";
    enum err err = web_add_headers(web);
    if (response->state == CGI_TEXT || err) {
        return err;
    }
    const char *name, *value;
    for (size_t i = 0; !err && cgi_response_field(response, &i, &name, &value);) {
        err = add_field(web, name, value);
    }
    const char *location = cgi_response_location(response);
    if (!err && location) {
        err = http_add_header(exchange, "Location", location);
    }
    const char *type = cgi_response_type(response);
    if (type) {
        *ret_type = type;
    } else if (location || response->status == 204 || response->status == 304) {
        *ret_type = NULL;
    }
    return err;
}

static bool has_no_body(int status) {
    return status == 204 || status == 304;
}

static int status_of(const struct cgi_response *response) {
    return response->state == CGI_TEXT ? 200 : response->status;
}

/* A part of it is under way: it must not look like a whole one. */
static enum http_pull_result cut(struct web *web, const char *why, const char *more) {
    web_log(web, "an answer was cut: %s%s%s", why, more ? ": " : "", more ? more : "");
    return HTTP_PULL_ABORT;
}

static void reach_length(struct web *web) {
    struct web_document *document = &web->document;
    document->length_reached(web,
                             cgi_response_body(&document->response).length > document->body_sent);
}

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct web *web = argument;
    struct web_document *document = &web->document;
    document->waits = false;
    if (document->body_remaining == 0) {
        return HTTP_PULL_END;
    }
    size = (size_t)MIN((uint64_t)size, document->body_remaining);
    struct str body = cgi_response_body(&document->response);
    size_t length = MIN(size, body.length - document->body_sent);
    if (length > 0) {
        memcpy(buffer, body.data + document->body_sent, length);
        document->body_sent += length;
    } else {
        enum err err = document->read(web, buffer, size, &length);
        if (err == ERR_PENDING) {
            document->waits = true;
            return HTTP_PULL_WAIT;
        }
        if (err) {
            return cut(web, document->why[0] ? document->why[0] : err_text(err), document->why[1]);
        }
    }
    if (length == 0 && document->body_remaining != UINT64_MAX) {
        return cut(web, "its body is shorter than its Content-Length", NULL);
    }
    if (length == 0) {
        return HTTP_PULL_END;
    }
    if (document->body_remaining != UINT64_MAX) {
        document->body_remaining -= length;
        if (document->body_remaining == 0) {
            reach_length(web);
        }
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

/* The rest follows as the program writes it, or the client wants the head alone. */
static void respond_stream(struct web *web) {
    struct web_document *document = &web->document;
    const char *type;
    if (add_head(web, &type)) {
        web_document_fail(web, "its head does not fit");
        return;
    }
    web->request->responded = true;
    document->is_pulled = true;
    document->body_remaining = UINT64_MAX;
    uint64_t length = HTTP_LENGTH_UNKNOWN;
    if (document->response.state == CGI_DOCUMENT && document->response.has_length) {
        document->body_remaining = length = document->response.length;
    }
    if (length == 0 && !str_equal_text(web->method, "HEAD")) {
        reach_length(web);
    }
    if (document->talks && !web->body_ended) {
        web->request->keeps_body = true;
        http_keep_body(web->request->exchange);
        http_expect_body(web->request->exchange);
    }
    http_respond_stream(web->request->exchange, status_of(&document->response), type, length, pull,
                        web);
}

/* All of the answer is there. */
static void respond_whole(struct web *web) {
    const struct cgi_response *response = &web->document.response;
    struct str body = cgi_response_body(response);
    int status = status_of(response);
    bool is_head = str_equal_text(web->method, "HEAD");
    if (response->state == CGI_DOCUMENT && response->has_length && !has_no_body(status)) {
        if (is_head) { /* it need not have printed what it would */
            respond_stream(web);
            return;
        }
        if (body.length < response->length) {
            web_document_fail(web, "its body is shorter than its Content-Length");
            return;
        }
        if (body.length > response->length) {
            web_log(web, SERVE_TOO_LONG);
        }
        body.length = (size_t)response->length;
    }
    const char *type;
    if (add_head(web, &type)) {
        web_document_fail(web, "its head does not fit");
        return;
    }
    web->request->responded = true;
    if (has_no_body(status)) {
        body.length = 0;
    }
    http_respond(web->request->exchange, status, type, body.data, body.length);
}

void web_document_finish(struct web *web) {
    struct cgi_response *response = &web->document.response;
    cgi_response_end(response);
    if (response->state == CGI_BROKEN) {
        web_document_fail(web, response->broken);
    } else if (response->state == CGI_DOCUMENT && response->is_local_redirect &&
               web_redirect(web, cgi_response_location(response))) {
        return; /* begun anew */
    } else {
        respond_whole(web);
    }
}

static enum err take_output(struct cgi_response *response, const uint8_t *data, size_t length) {
    return response->state == CGI_HEAD ? cgi_response_take(response, data, length)
                                       : buf_append(&response->gathered, data, length);
}

bool web_document_is_full(const struct web_document *document) {
    return document->is_held && document->response.state != CGI_HEAD &&
           cgi_response_body(&document->response).length > HELD_BYTES_MAX;
}

void web_document_step(struct web *web) {
    struct web_document *document = &web->document;
    struct cgi_response *response = &document->response;
    while (!web->request->responded) {
        if (web_document_is_full(document)) {
            return;
        }
        uint8_t piece[PIECE_BYTES];
        size_t length = 0;
        enum err err = document->read(web, piece, sizeof piece, &length);
        if ((err && err != ERR_PENDING) || (!err && length == 0)) {
            document->ended(web, err);
            return;
        }
        if (!err && take_output(response, piece, length)) {
            web_fail(web, 503, "the server is out of memory");
        } else if (response->state == CGI_BROKEN) {
            web_document_fail(web, response->broken);
        } else if (response->state == CGI_DOCUMENT && response->is_local_redirect &&
                   !document->is_held) {
            if (!web_redirect(web, cgi_response_location(response))) {
                respond_stream(web);
            }
            return;
        } else if (response->state != CGI_HEAD && !document->is_held &&
                   (err == ERR_PENDING || cgi_response_body(response).length > WHOLE_BYTES_MAX)) {
            if (has_no_body(status_of(response))) {
                respond_whole(web);
            } else {
                respond_stream(web);
            }
        } else if (err == ERR_PENDING) {
            return;
        }
    }
}

void web_document_woken(struct web *web) {
    struct web_document *document = &web->document;
    if (document->waits) {
        document->waits = false;
        http_pull_resume(web->request->exchange);
    }
}

void web_document_done(struct web_document *document) {
    cgi_response_done(&document->response);
    *document = (struct web_document){0};
}
