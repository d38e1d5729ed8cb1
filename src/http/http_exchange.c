/* What the application asks of a request, and says to it. */
#include "http/http_exchange.h"

#include <arpa/inet.h>

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
    return (struct str){exchange->room->head.data, exchange->room->head.method_length};
}

struct str http_raw_path(const struct http_exchange *exchange) {
    return exchange->room->head.path;
}

struct str http_raw_query(const struct http_exchange *exchange) {
    return exchange->room->head.query;
}

struct str http_header(const struct http_exchange *exchange, const char *name) {
    return http_head_find(&exchange->room->head, str_of(name));
}

void http_headers_each(const struct http_exchange *exchange,
                       void (*each)(void *argument, struct str name, struct str value),
                       void *argument) {
    for (size_t i = 0; i < exchange->room->head.field_count; i++) {
        each(argument, http_field_name(&exchange->room->head, i),
             http_field_value(&exchange->room->head, i));
    }
}

bool http_content_length(const struct http_exchange *exchange, uint64_t *ret_length) {
    if (exchange->room->head.is_chunked) {
        return false;
    }
    *ret_length = exchange->room->head.content_length;
    return true;
}

bool http_has_body(const struct http_exchange *exchange) {
    return exchange->room->head.is_chunked || exchange->room->head.content_length > 0;
}

const char *http_client_address(const struct http_exchange *exchange) {
    if (exchange->address[0] == '\0') {
        /* Written once, when first asked for: a cache, which const does not speak of. */
        struct http_exchange *cache = (struct http_exchange *)(uintptr_t)exchange;
        bool is_v4 = IN6_IS_ADDR_V4MAPPED(&exchange->ip);
        inet_ntop(is_v4 ? AF_INET : AF_INET6,
                  is_v4 ? &exchange->ip.s6_addr[12] : &exchange->ip.s6_addr[0], cache->address,
                  sizeof cache->address);
    }
    return exchange->address;
}

bool http_client_is_loopback(const struct http_exchange *exchange) {
    return IN6_IS_ADDR_V4MAPPED(&exchange->ip) ? exchange->ip.s6_addr[12] == 127
                                               : IN6_IS_ADDR_LOOPBACK(&exchange->ip);
}

bool http_is_1_0(const struct http_exchange *exchange) {
    return exchange->room->head.is_http_1_0;
}

bool http_has_responded(const struct http_exchange *exchange) {
    return exchange->has_responded;
}

void http_body_resume(struct http_exchange *exchange) {
    if (!exchange->is_body_paused) {
        exchange->is_body_resumed = true;
        return;
    }
    http_watch(exchange, LOOP_READABLE, 0);
    if (!http_is_sending(exchange)) {
        bool may_be_silent = exchange->is_pull_waiting && !exchange->is_body_due;
        http_enter(exchange, may_be_silent ? HTTP_WORKING : HTTP_MOVING);
    }
    exchange->is_body_paused = false;
    http_due(exchange);
}

void http_gather_body(struct http_exchange *exchange) {
    exchange->gathers_body = true;
}

void http_keep_body(struct http_exchange *exchange) {
    exchange->keeps_body = true;
}

void http_expect_body(struct http_exchange *exchange) {
    if (!exchange->is_body_due) {
        exchange->is_body_due = true;
        if (exchange->is_pull_waiting && exchange->output.length == 0) {
            http_enter(exchange, http_phase_of_waiting(exchange));
        }
    }
}

void http_abort(struct http_exchange *exchange) {
    http_cut(exchange);
}
