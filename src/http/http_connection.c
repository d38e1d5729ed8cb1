/* What libmicrohttpd calls: a request from its first line to its end. */
#include "http/http_exchange.h"

#include "base/log.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/* --- The request --- */

/* Called with the request line, before libmicrohttpd takes the target apart. It would copy and
 * decode each pair of the query into the connection's memory, and when that is full it loses the
 * rest of the head and spins: so the query's first byte is hidden until that is over. */
void *http_on_request_line(void *context, const char *target, struct MHD_Connection *connection) {
    (void)context;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_exchange *exchange = info ? info->socket_context : NULL;
    if (!exchange || !target) {
        return exchange;
    }
    exchange->target = (char *)(uintptr_t)target; /* its read buffer, which is no const object */
    exchange->target_length = strlen(target);
    char *mark = memchr(exchange->target, '?', exchange->target_length);
    exchange->query_at = mark ? (size_t)(mark - exchange->target) : exchange->target_length;
    if (mark) {
        exchange->query_first = mark[1];
        mark[1] = '\0';
    }
    return exchange;
}

size_t http_on_unescape(void *context, struct MHD_Connection *connection, char *text) {
    (void)context;
    (void)connection;
    return strlen(text); /* decoding is the application's: %2F in a name is no slash */
}

static enum MHD_Result answer_refusal(struct MHD_Connection *connection,
                                      struct http_refusal refusal) {
    cleanup_buf struct buf text = {0};
    if (buf_printf(&text, "error: %s\n", refusal.reason) != ERR_OK) {
        return MHD_NO;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text.length, text.data, MHD_RESPMEM_MUST_COPY);
    if (!response) {
        return MHD_NO;
    }
    enum MHD_Result result = MHD_NO;
    if (MHD_add_response_header(response, "Content-Type", "text/plain; charset=utf-8") == MHD_YES &&
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        MHD_add_response_header(response, "Connection", "close") == MHD_YES) {
        /* In the first call: whatever follows the head is discarded. */
        result = MHD_queue_response(connection, (unsigned)refusal.status, response);
    }
    MHD_destroy_response(response);
    return result;
}

static struct http_refusal check_head(struct http_exchange *exchange,
                                      struct MHD_Connection *connection, const char *method) {
    static const struct http_refusal malformed = {400, "the request line is malformed"};
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (!exchange->target || !info || exchange->target <= method) {
        return malformed;
    }
    if (exchange->query_at < exchange->target_length) {
        exchange->target[exchange->query_at + 1] = exchange->query_first;
    }
    if ((size_t)(exchange->target - method) != strlen(method) + 1) {
        return malformed; /* more than one space */
    }
    struct http_refusal refusal =
        http_gate_check(method, info->header_size, exchange->target_length, exchange->query_at,
                        exchange->server->options.head_bytes_max, &exchange->head);
    if (refusal.status) {
        return refusal;
    }
    int seen = MHD_get_connection_values(connection, MHD_HEADER_KIND, NULL, NULL);
    if (seen < 0 || (size_t)seen != exchange->head.field_count) {
        return (struct http_refusal){400, "the head has a NUL"};
    }
    return refusal;
}

/* One thread writes it: no more than a load and a store. */
static void add_to(_Atomic uint32_t *count, uint32_t difference) {
    uint32_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + difference, memory_order_relaxed);
}

static void begin(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    exchange->has_begun = true;
    add_to(&server->exchanges, 1);
    server->application.begin(server->application.context, exchange);
}

/* libmicrohttpd sends the head of a stream, each chunk and the end in packets of their own. Held
 * back until the stream waits or ends, what a short program prints costs one packet instead of
 * three. */
static void cork(struct http_exchange *exchange, bool is_corked) {
    if (exchange->is_corked != is_corked) {
        int value = is_corked;
        setsockopt(exchange->descriptor, IPPROTO_TCP, TCP_CORK, &value, sizeof value);
        exchange->is_corked = is_corked;
    }
}

/* Hands the response to libmicrohttpd. */
static enum MHD_Result queue(struct http_exchange *exchange) {
    struct MHD_Response *response = exchange->response;
    exchange->response = NULL;
    exchange->queued = response;
    exchange->polled_count = 0;
    http_enter(exchange, HTTP_MOVING);
    cork(exchange, exchange->pull != NULL);
    enum MHD_Result result =
        MHD_queue_response(exchange->connection, (unsigned)exchange->status, response);
    MHD_destroy_response(response); /* the connection has its own reference */
    return result;
}

/* Asked in vain: whether it is time to suspend. The first turns go by without, see http_exchange.h.
 */
static bool is_patience_over(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    if (exchange->polled_count == 0 || exchange->polled_turn != server->turn) {
        exchange->polled_turn = server->turn;
        exchange->polled_count++;
    }
    if (exchange->polled_count > HTTP_TURNS_BEFORE_SUSPEND) {
        exchange->polled_count = 0;
        return true;
    }
    server->is_dirty = true;
    return false;
}

static enum MHD_Result on_head(struct http_exchange *exchange, struct MHD_Connection *connection,
                               const char *method) {
    if (exchange->is_aborted) {
        return MHD_NO; /* too late */
    }
    struct http_refusal refusal = check_head(exchange, connection, method);
    if (refusal.status) {
        http_enter(exchange, HTTP_MOVING);
        return answer_refusal(connection, refusal);
    }
    exchange->has_head = true;
    const struct http_head *head = &exchange->head;
    if (!head->is_chunked && head->content_length == 0) {
        return MHD_YES; /* the last call comes at once */
    }
    http_enter(exchange, HTTP_MOVING);
    begin(exchange);
    if (exchange->is_aborted) {
        return MHD_NO;
    }
    /* An answer before the body: at once if the client waits for our word to send it, or if there
     * is too much to read and drop. */
    if (exchange->has_responded &&
        (head->expects_continue || head->content_length > HTTP_DRAIN_BYTES_MAX)) {
        return queue(exchange);
    }
    return MHD_YES;
}

static enum MHD_Result on_body(struct http_exchange *exchange, const char *data, size_t *length) {
    struct http_server *server = exchange->server;
    if (exchange->is_aborted) {
        return MHD_NO;
    }
    if (!exchange->has_responded) {
        exchange->is_body_resumed = false;
        size_t taken = server->application.body(server->application.context, exchange,
                                                (const uint8_t *)data, *length);
        INVARIANT(taken <= *length);
        exchange->body_bytes += taken;
        *length -= taken;
        if (exchange->is_aborted) {
            return MHD_NO;
        }
    }
    if (exchange->has_responded) {
        exchange->body_bytes += *length;
        exchange->dropped_bytes += *length;
        *length = 0;
        return exchange->dropped_bytes <= HTTP_DRAIN_BYTES_MAX ? MHD_YES : MHD_NO;
    }
    if (*length > 0) {
        /* Not suspended, libmicrohttpd would not come back with the rest. */
        exchange->is_body_paused = true;
        exchange->paused_ns = loop_now_ns(server->loop);
        http_suspend(exchange);
        if (exchange->is_body_resumed) {
            http_body_resume(exchange);
        }
    }
    return MHD_YES;
}

static enum MHD_Result on_body_end(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    if (!exchange->has_body_ended) {
        exchange->has_body_ended = true;
        if (!exchange->has_begun) {
            begin(exchange);
        }
        if (!exchange->has_responded && !exchange->is_aborted) {
            server->application.body_end(server->application.context, exchange);
        }
    }
    if (exchange->is_aborted) {
        return MHD_NO;
    }
    if (exchange->has_responded) {
        return queue(exchange);
    }
    if (is_patience_over(exchange)) {
        http_suspend(exchange);
    } else if (exchange->phase != HTTP_WORKING) {
        http_enter(exchange, HTTP_WORKING);
    }
    return MHD_YES;
}

enum MHD_Result http_on_access(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **connection_context) {
    (void)context;
    (void)url; /* decoded and cut by libmicrohttpd; the gate has the target itself */
    (void)version;
    struct http_exchange *exchange = *connection_context;
    if (!exchange) {
        return MHD_NO;
    }
    if (!exchange->has_head) {
        return on_head(exchange, connection, method);
    }
    if (*upload_data_size > 0) {
        return on_body(exchange, upload_data, upload_data_size);
    }
    return on_body_end(exchange);
}

/* --- The response --- */

ssize_t http_on_read(void *argument, uint64_t position, char *buffer, size_t size) {
    struct http_exchange *exchange = argument;
    if (exchange->is_aborted) {
        http_reset_at_close(exchange);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (exchange->is_pull_waiting) { /* polled; http_pull_resume has not been called */
        if (is_patience_over(exchange)) {
            http_suspend(exchange);
        }
        return 0;
    }
    size_t length = 0;
    exchange->is_pull_resumed = false;
    enum http_pull_result result = exchange->pull(exchange->pull_argument, buffer, size, &length);
    if (exchange->is_aborted) {
        result = HTTP_PULL_ABORT;
    }
    switch (result) {
    case HTTP_PULL_DATA:
        INVARIANT(length > 0 && length <= size);
        exchange->polled_count = 0;
        if (exchange->phase != HTTP_MOVING) {
            http_enter(exchange, HTTP_MOVING);
        }
        return (ssize_t)length;
    case HTTP_PULL_WAIT:
        if (exchange->is_pull_resumed) {
            exchange->server->is_dirty = true;
            return 0; /* to be asked again at once */
        }
        exchange->is_pull_waiting = true;
        cork(exchange, false);
        if (is_patience_over(exchange)) {
            http_suspend(exchange);
        } else if (exchange->phase != HTTP_WORKING) {
            http_enter(exchange, HTTP_WORKING);
        }
        return 0;
    case HTTP_PULL_END:
        if (exchange->pull_length == HTTP_LENGTH_UNKNOWN || position == exchange->pull_length) {
            http_enter(exchange, HTTP_MOVING);
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        break; /* less than the head has promised */
    case HTTP_PULL_ABORT:
        break;
    }
    exchange->is_aborted = true;
    http_reset_at_close(exchange);
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* --- The end --- */

static void clear_request(struct http_exchange *exchange) {
    if (exchange->response) {
        MHD_destroy_response(exchange->response);
    }
    if (exchange->fields.capacity > 4 * KIB) {
        buf_done(&exchange->fields);
    }
    exchange->fields.length = 0;
    exchange->body_bytes = 0;
    memset(&exchange->user, 0,
           offsetof(struct http_exchange, head) - offsetof(struct http_exchange, user));
}

/* libmicrohttpd 0.9.75 forgets a connection that its content reader has closed: it is in none of
 * the lists that MHD_run looks at, and its socket stays open. Connections with a timeout of their
 * own are all looked at, so it gets one. */
static void make_sure_of_the_end(struct http_exchange *exchange) {
    MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
    exchange->server->is_dirty = true;
}

void http_on_completed(void *context, struct MHD_Connection *connection, void **connection_context,
                       enum MHD_RequestTerminationCode code) {
    struct http_server *server = context;
    (void)connection;
    struct http_exchange *exchange = *connection_context;
    *connection_context = NULL;
    if (!exchange) {
        return;
    }
    /* The socket may be closed next. */
    loop_watch_free(exchange->watch);
    exchange->watch = NULL;
    if (exchange->has_begun) {
        bool is_completed = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && exchange->queued &&
                            !exchange->is_aborted;
        exchange->has_begun = false;
        exchange->is_aborted = true; /* nothing is done any more */
        add_to(&server->exchanges, -1u);
        server->application.end(server->application.context, exchange, is_completed);
    }
    cork(exchange, false);
    bool is_ok = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    bool ends_with_body = exchange->queued && exchange->pull && exchange->head.is_http_1_0 &&
                          exchange->pull_length == HTTP_LENGTH_UNKNOWN;
    if (!is_ok || ends_with_body) {
        make_sure_of_the_end(exchange);
    }
    clear_request(exchange);
    http_enter(exchange, is_ok ? HTTP_HEAD : HTTP_CLOSING);
}

void http_on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                        enum MHD_ConnectionNotificationCode code) {
    struct http_server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        add_to(&server->connections, 1);
        struct http_exchange *exchange = calloc(1, sizeof *exchange);
        *socket_context = exchange;
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        int descriptor = info ? info->connect_fd : -1;
        if (!exchange) {
            shutdown(descriptor, SHUT_RDWR);
            return;
        }
        list_init(&exchange->link);
        exchange->server = server;
        exchange->connection = connection;
        exchange->descriptor = descriptor;
        http_enter(exchange, HTTP_HEAD);
    } else {
        add_to(&server->connections, -1u);
        struct http_exchange *exchange = *socket_context;
        *socket_context = NULL;
        if (exchange) {
            INVARIANT(!exchange->has_begun);
            loop_watch_free(exchange->watch);
            list_remove(&exchange->link);
            buf_done(&exchange->fields);
            free(exchange);
        }
    }
}
