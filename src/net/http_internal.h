/* What the files http*.c share. */
#pragma once

#include "net/http.h"
#include "net/net_internal.h"
#include "ns/dev.h"

/* Bytes on their way: appended at the end, taken from the front. */
struct fifo {
    struct buf buf;
    size_t at; /* what is before was taken */
};
static inline size_t fifo_length(const struct fifo *fifo) {
    return fifo->buf.length - fifo->at;
}
MUST_USE enum err fifo_append(struct fifo *fifo, const void *data, size_t length);
size_t fifo_take(struct fifo *fifo, void *data, size_t length);

struct net_http {
    struct net *net;
    struct net_loop *home;
    const struct net_party *party;
    struct net_url url;
    struct buf method, fields;
    uint64_t body_bytes;

    struct net_lookup *lookup; /* while its callback is to come */
    struct net_app *app;       /* while it is under way */
    struct net_easy easy;
    struct curl_slist *field_list, *resolve_list;
    char curl_error[CURL_ERROR_SIZE];

    struct op_queue changed;
    struct loop_timer silence; /* expires when the peer is waited for too long */
    bool is_done;              /* nothing moves any more */
    enum err failure;
    struct buf message;

    /* the request's body */
    struct fifo body;
    bool is_kept;    /* small: stays in `body`, to be sent again on another connection */
    size_t sent;     /* of one that is kept */
    bool body_ended; /* all of it is in `body` */
    uint64_t body_written;
    bool send_paused;

    /* the response */
    unsigned status;
    struct buf reason, head, shown; /* `head`: as it comes; `shown`: net_http_fields */
    bool head_done, is_chunked;
    struct fifo answer;
    uint64_t answer_bytes;
    bool recv_paused;
};

/* http_head.c */
/* One line of a head, as libcurl gives it. False: it must not go on; http->failure is set. */
bool net_http_head_line(struct net_http *http, struct str line);
/* http_transfer.c: makes the easy handle. */
MUST_USE enum err net_http_set_up(struct net_http *http, const struct net_addresses *addresses);
/* http.c */
void net_http_changed(struct net_http *http); /* wakes who waits */
/* From now on the peer has its time. */
void net_http_expect_peer(struct net_http *http);
void net_http_done(struct net_easy *easy, CURLcode result);
void net_http_fail(struct net_http *http, enum err err, const char *format, ...) PRINTF_LIKE(3, 4);
