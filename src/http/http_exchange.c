/* What the application calls: the request's parts, and the response. */
#include "http/http_exchange.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

/* --- The request --- */

void http_exchange_set_user(struct http_exchange *exchange, void *user) {
    exchange->user = user;
}

void *http_exchange_user(const struct http_exchange *exchange) {
    return exchange->user;
}

struct loop *http_exchange_loop(const struct http_exchange *exchange) {
    return exchange->server->loop;
}

struct str http_method(const struct http_exchange *exchange) {
    return (struct str){exchange->head.data, exchange->head.method_length};
}

struct str http_raw_path(const struct http_exchange *exchange) {
    return exchange->head.path;
}

struct str http_raw_query(const struct http_exchange *exchange) {
    return exchange->head.query;
}

struct str http_header(const struct http_exchange *exchange, const char *name) {
    return http_head_find(&exchange->head, str_of(name));
}

void http_headers_each(const struct http_exchange *exchange,
                       void (*each)(void *argument, struct str name, struct str value),
                       void *argument) {
    for (size_t i = 0; i < exchange->head.field_count; i++) {
        each(argument, http_field_name(&exchange->head, i), http_field_value(&exchange->head, i));
    }
}

bool http_content_length(const struct http_exchange *exchange, uint64_t *ret_length) {
    if (exchange->head.is_chunked) {
        return false;
    }
    *ret_length = exchange->head.content_length;
    return true;
}

bool http_has_body(const struct http_exchange *exchange) {
    return exchange->head.is_chunked || exchange->head.content_length > 0;
}

static const struct sockaddr *client_address(const struct http_exchange *exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info ? info->client_addr : NULL;
}

/* IPv4, also where it comes through an IPv6 socket (RFC 4291 section 2.5.5.2). */
static bool ipv4_of(const struct sockaddr *address, struct in_addr *ret_ipv4) {
    if (address->sa_family == AF_INET) {
        *ret_ipv4 = ((const struct sockaddr_in *)(const void *)address)->sin_addr;
        return true;
    }
    const struct in6_addr *ipv6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(ipv6)) {
        memcpy(ret_ipv4, &ipv6->s6_addr[12], sizeof *ret_ipv4);
        return true;
    }
    return false;
}

const char *http_client_address(const struct http_exchange *exchange) {
    if (exchange->address[0] == '\0') {
        /* Written once, when first asked for: a cache, which const does not speak of. */
        struct http_exchange *cache = (struct http_exchange *)(uintptr_t)exchange;
        const struct sockaddr *address = client_address(exchange);
        struct in_addr ipv4;
        if (address && ipv4_of(address, &ipv4)) {
            inet_ntop(AF_INET, &ipv4, cache->address, sizeof cache->address);
        } else if (address && address->sa_family == AF_INET6) {
            inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr,
                      cache->address, sizeof cache->address);
        }
    }
    return exchange->address;
}

bool http_client_is_loopback(const struct http_exchange *exchange) {
    const struct sockaddr *address = client_address(exchange);
    struct in_addr ipv4;
    if (!address) {
        return false;
    }
    if (ipv4_of(address, &ipv4)) {
        return ntohl(ipv4.s_addr) >> 24 == 127;
    }
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

bool http_is_1_0(const struct http_exchange *exchange) {
    return exchange->head.is_http_1_0;
}

size_t http_head_room(const struct http_exchange *exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t pool = exchange->server->options.head_bytes_max + HTTP_POOL_EXTRA;
    size_t used = HTTP_HEAD_RESERVE + 64 * exchange->head.field_count;
    used += info ? info->header_size : pool;
    return used < pool ? pool - used : 0;
}

void http_body_resume(struct http_exchange *exchange) {
    if (exchange->is_body_paused) {
        http_wake(exchange);
    } else {
        exchange->is_body_resumed = true;
    }
}

/* --- The response --- */

/* Stands for CR LF in `fields`; in no name or value. */
#define LINE_END '\1'

static uint8_t *append(uint8_t *at, const char *text, size_t length) {
    memcpy(at, text, length);
    return at + length;
}

/* One more line of the head, behind the field that each response has. */
static enum err append_field(struct buf *fields, const char *name, const char *value) {
    static const struct str first = {"nosniff", 7};
    size_t name_length = strlen(name);
    size_t value_length = strlen(value);
    enum err err = buf_reserve(fields, first.length + 2 + name_length + 2 + value_length);
    if (err) {
        return err;
    }
    uint8_t *at = fields->data + fields->length;
    if (fields->length == 0) {
        at = append(at, first.data, first.length);
    }
    *at++ = LINE_END;
    *at++ = LINE_END;
    at = append(at, name, name_length);
    *at++ = ':';
    *at++ = ' ';
    at = append(at, value, value_length);
    *at = '\0';
    fields->length = (size_t)(at - fields->data);
    return ERR_OK;
}

/* Fields that libmicrohttpd makes or acts on are not the application's. */
static bool is_reserved(const char *name) {
    static const char *const names[] = {"Content-Length", "Transfer-Encoding", "Connection",
                                        "Date"};
    if (!strchr("CcTtDd", name[0])) {
        return false; /* most: this is asked ten times a request */
    }
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum err http_add_header(struct http_exchange *exchange, const char *name, const char *value) {
    if (exchange->has_responded || !http_is_field(name, value) || is_reserved(name)) {
        return ERR_INVAL;
    }
    if (value[0] == '\0') {
        return ERR_OK; /* libmicrohttpd can't send it */
    }
    return append_field(&exchange->fields, name, value);
}

/* All fields but those that libmicrohttpd acts on are one field to it, whose value has line ends.
 * Each of them would cost three allocations, and with ten they were a tenth of a short answer. It
 * refuses line ends in what it is given, so they are put into its copy. */
static bool add_fields(struct http_exchange *exchange, struct MHD_Response *response) {
    /* What guests and users wrote is never to be taken for something else. */
    static const char name[] = "X-Content-Type-Options";
    const char *value = exchange->fields.length > 0 ? buf_text(&exchange->fields) : "nosniff";
    if (MHD_add_response_header(response, name, value) != MHD_YES) {
        return false;
    }
    char *copy = (char *)(uintptr_t)MHD_get_response_header(response, name);
    while ((copy = strchr(copy, LINE_END))) {
        *copy++ = '\r';
        *copy++ = '\n';
    }
    return true;
}

static bool add_headers(struct http_exchange *exchange, struct MHD_Response *response,
                        const char *content_type) {
    if (content_type && (!http_is_field("Content-Type", content_type) ||
                         append_field(&exchange->fields, "Content-Type", content_type) != ERR_OK)) {
        return false;
    }
    if (!add_fields(exchange, response)) {
        return false;
    }
    /* After a chunked request nothing is read from the connection: see http_gate.h. */
    if (exchange->server->is_quiesced || exchange->head.is_chunked) {
        return MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    }
    return true;
}

/* Takes the response; NULL for lack of memory. */
static void respond(struct http_exchange *exchange, int status, const char *content_type,
                    struct MHD_Response *response) {
    INVARIANT(!exchange->has_responded && status >= 200 && status <= 599);
    if (exchange->is_aborted || !response || !add_headers(exchange, response, content_type)) {
        if (response) {
            MHD_destroy_response(response);
        }
        http_cut(exchange);
        return;
    }
    exchange->has_responded = true;
    exchange->response = response;
    exchange->status = status;
    if (exchange->is_suspended) {
        http_wake(exchange);
    } else {
        exchange->server->is_dirty = true; /* it may be waiting unsuspended */
    }
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length) {
    /* The interface takes no const, but with MUST_COPY it only reads. */
    respond(
        exchange, status, content_type,
        MHD_create_response_from_buffer(length, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY));
}

void http_respond_stream(struct http_exchange *exchange, int status, const char *content_type,
                         uint64_t length, http_pull *pull, void *argument) {
    exchange->pull = pull;
    exchange->pull_argument = argument;
    exchange->pull_length = length;
    uint64_t size = length == HTTP_LENGTH_UNKNOWN ? MHD_SIZE_UNKNOWN : length;
    /* Chunks are made in the connection's memory; the response's own buffer is zeroed when it is
     * made, so it is no larger than it is used. */
    bool is_chunked = length == HTTP_LENGTH_UNKNOWN && !exchange->head.is_http_1_0;
    size_t block = is_chunked ? 1 : (size_t)MAX(MIN(length, HTTP_PULL_BYTES), 1);
    struct MHD_Response *response =
        MHD_create_response_from_callback(size, block, http_on_read, exchange, NULL);
    /* libmicrohttpd ends the head that HEAD asks for with a last chunk, which the client would take
     * for the beginning of the next response. It does not where the connection ends the body. */
    if (response && is_chunked && str_equal_text(http_method(exchange), "HEAD") &&
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END) !=
            MHD_YES) {
        MHD_destroy_response(response);
        response = NULL;
    }
    respond(exchange, status, content_type, response);
}

enum err http_add_trailer(struct http_exchange *exchange, const char *name, const char *value) {
    if (!exchange->queued || exchange->pull_length != HTTP_LENGTH_UNKNOWN || value[0] == '\0' ||
        !http_is_field(name, value)) {
        return ERR_INVAL;
    }
    return MHD_add_response_footer(exchange->queued, name, value) == MHD_YES ? ERR_OK : ERR_NOMEM;
}

void http_pull_resume(struct http_exchange *exchange) {
    exchange->is_pull_resumed = true;
    if (!exchange->is_pull_waiting) {
        return; /* `pull` is called anyway */
    }
    exchange->is_pull_waiting = false;
    if (exchange->is_suspended) {
        http_wake(exchange);
    } else {
        exchange->server->is_dirty = true;
    }
}

void http_abort(struct http_exchange *exchange) {
    http_cut(exchange);
}

bool http_has_responded(const struct http_exchange *exchange) {
    return exchange->has_responded;
}
