/* The listener, and the deadlines of its connections. */
#include "http/http_exchange.h"

#include "base/log.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* So many connections are accepted in a turn of the loop. */
#define ACCEPTS_MAX 64
/* Without descriptors for new connections, after this it is tried again. */
#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)
/* Clients whose progress one sweep looks at: 16,000 a second. The kernel has to be asked about
 * each, and what it knows of one that is slow is in no cache: 64 of them took up to 1.5 ms. */
#define LOOKED_AT_ONCE 16

/* --- Phases and deadlines --- */

static uint64_t sweep_interval_ns(const struct http_server *server) {
    uint64_t interval_ns = server->options.body_rate_timeout_ns / 8;
    return MIN(MAX(interval_ns, 10 * NS_PER_MS), 4 * NS_PER_S);
}

static void want_sweep(struct http_server *server, uint64_t deadline_ns) {
    if (!server->is_stopping &&
        (!loop_timer_is_started(&server->sweep) || deadline_ns < server->sweep.deadline_ns)) {
        loop_timer_start(server->loop, &server->sweep, deadline_ns);
    }
}

/* Of a phase whose list is in the order of time. */
static uint64_t timeout_ns(const struct http_server *server, enum http_phase phase) {
    switch (phase) {
    case HTTP_HEAD:
        return server->options.head_timeout_ns;
    case HTTP_UNWATCHED:
        return HTTP_WATCH_AFTER_NS;
    default: /* HTTP_LINGERING */
        return MIN(HTTP_LINGER_NS, server->options.head_timeout_ns);
    }
}

void http_enter(struct http_exchange *exchange, enum http_phase phase) {
    struct http_server *server = exchange->server;
    uint64_t now_ns = loop_now_ns(server->loop);
    if (exchange->phase == HTTP_WATCHED) {
        http_watch(exchange, 0, LOOP_DISCONNECTED);
    }
    if (phase == HTTP_WORKING && !(exchange->events & LOOP_READABLE)) {
        phase = HTTP_UNWATCHED;
    }
    bool was_moving = exchange->phase == HTTP_MOVING;
    list_remove(&exchange->link);
    list_append(&server->phases[phase], &exchange->link);
    exchange->phase = phase;
    exchange->since_ns = now_ns;
    /* While the body is paused, what was measured of the client goes on, without the time in which
     * it had to wait: or one that sends a byte now and then, each of which is a pause, would never
     * be too slow. */
    if (!exchange->is_body_paused) {
        exchange->measured_ns = 0;
    } else if (was_moving && phase != HTTP_MOVING) {
        exchange->left_ns = now_ns;
    } else if (!was_moving && phase == HTTP_MOVING && exchange->measured_ns != 0) {
        exchange->measured_ns += now_ns - exchange->left_ns;
        exchange->moved_ns += now_ns - exchange->left_ns;
    }
    if (phase == HTTP_MOVING) {
        if (list_is_empty(&exchange->look)) {
            list_append(&server->looks, &exchange->look);
            exchange->looked_ns = now_ns;
        }
        want_sweep(server, now_ns + sweep_interval_ns(server));
    } else if (phase == HTTP_HEAD || phase == HTTP_UNWATCHED || phase == HTTP_LINGERING) {
        want_sweep(server, now_ns + timeout_ns(server, phase));
    }
}

/* What has come of the body, and what the client's host has acknowledged of the response. */
static uint64_t moved_bytes(const struct http_exchange *exchange) {
    if (!exchange->has_responded) {
        int waiting = 0; /* in the kernel, for more */
        if (exchange->receive_bytes > 0) {
            (void)ioctl(exchange->descriptor, FIONREAD, &waiting);
        }
        return exchange->body_bytes + MIN((uint64_t)waiting, exchange->body.remaining);
    }
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(exchange->descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
        return exchange->body_bytes;
    }
    return exchange->body_bytes + info.tcpi_bytes_acked;
}

static bool is_too_slow(struct http_exchange *exchange, uint64_t now_ns) {
    const struct http_options *options = &exchange->server->options;
    uint64_t moved = moved_bytes(exchange);
    if (exchange->measured_ns == 0) {
        exchange->measured_ns = now_ns;
        exchange->moved_ns = exchange->since_ns;
        exchange->moved_bytes = moved;
        exchange->moved_start_bytes = moved;
    }
    if (moved != exchange->moved_bytes) {
        exchange->moved_bytes = moved;
        exchange->moved_ns = now_ns;
    }
    if (now_ns - exchange->moved_ns >= options->body_rate_timeout_ns) {
        return true;
    }
    uint64_t measured_ns = now_ns - exchange->measured_ns;
    if (measured_ns <= options->body_rate_timeout_ns) {
        return false;
    }
    /* In milliseconds, so that nothing overflows. */
    uint64_t needed = 0;
    return __builtin_mul_overflow(options->body_rate_minimum, measured_ns / NS_PER_MS, &needed) ||
           moved - exchange->moved_start_bytes < needed / 1000;
}

static void meet_deadline(struct http_exchange *exchange) {
    if (exchange->phase == HTTP_UNWATCHED) {
        http_enter(exchange, HTTP_WATCHED);
        http_watch(exchange, LOOP_DISCONNECTED, 0);
    } else {
        list_remove(&exchange->link); /* out of this list */
        http_cut(exchange);
    }
}

/* Those at the front of a list that is in the order of time. */
static void sweep_phase(struct http_server *server, enum http_phase phase) {
    uint64_t now_ns = loop_now_ns(server->loop);
    struct list *head = &server->phases[phase];
    while (!list_is_empty(head)) {
        struct http_exchange *exchange = CONTAINER_OF(head->next, struct http_exchange, link);
        if (now_ns - exchange->since_ns < timeout_ns(server, phase)) {
            want_sweep(server, exchange->since_ns + timeout_ns(server, phase));
            return;
        }
        meet_deadline(exchange);
    }
}

/* Those whose client has to move are looked at once an interval each, and not many at a time: to
 * ask the kernel for thousands of them at once would keep everybody else waiting for milliseconds.
 * Nothing else changes their order, so that nobody escapes by pausing. */
static void sweep_looks(struct http_server *server) {
    uint64_t now_ns = loop_now_ns(server->loop);
    uint64_t interval_ns = sweep_interval_ns(server);
    for (unsigned count = 0; !list_is_empty(&server->looks); count++) {
        struct http_exchange *exchange =
            CONTAINER_OF(server->looks.next, struct http_exchange, look);
        if (now_ns - exchange->looked_ns < interval_ns) {
            want_sweep(server, exchange->looked_ns + interval_ns);
            return;
        }
        if (count == LOOKED_AT_ONCE) {
            want_sweep(server, now_ns + NS_PER_MS);
            return;
        }
        list_remove(&exchange->look);
        list_append(&server->looks, &exchange->look);
        exchange->looked_ns = now_ns;
        if (exchange->phase == HTTP_MOVING && !exchange->is_cut && is_too_slow(exchange, now_ns)) {
            http_cut(exchange);
        }
    }
}

/* One timer for all connections: it looks at the front of lists that are in the order of time. */
static void sweep(struct loop_timer *timer) {
    struct http_server *server = CONTAINER_OF(timer, struct http_server, sweep);
    sweep_phase(server, HTTP_HEAD);
    sweep_phase(server, HTTP_UNWATCHED);
    sweep_phase(server, HTTP_LINGERING);
    sweep_looks(server);
}

/* The end of a turn. */
static void on_last(struct loop_task *task) {
    struct http_server *server = CONTAINER_OF(task, struct http_server, last);
    struct list batch;
    list_append(&server->due, &batch);
    list_remove(&server->due);
    while (!list_is_empty(&batch)) {
        struct http_exchange *exchange = CONTAINER_OF(batch.next, struct http_exchange, due);
        list_remove(&exchange->due);
        http_continue(exchange);
    }
}

/* --- Accepting --- */

bool http_count_address(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    if (server->options.connections_per_address_max == 0) {
        return true;
    }
    struct map_node *node = map_find(&server->addresses, MAP_KEY(exchange->ip));
    struct http_address *address = node ? CONTAINER_OF(node, struct http_address, node) : NULL;
    if (!address) {
        address = alloc_zeroed(sizeof *address);
        if (!address) {
            return false;
        }
        address->ip = exchange->ip;
        if (map_insert(&server->addresses, &address->node, MAP_KEY(address->ip)) != ERR_OK) {
            free(address);
            return false;
        }
    } else if (address->count >= server->options.connections_per_address_max) {
        return false;
    }
    address->count++;
    exchange->counted = address;
    return true;
}

void http_uncount_address(struct http_exchange *exchange) {
    struct http_address *address = exchange->counted;
    if (address && --address->count == 0) {
        map_remove(&exchange->server->addresses, &address->node);
        free(address);
    }
}

static void watch_listener(struct http_server *server) {
    bool is_wanted = !server->is_full && !server->is_out_of_descriptors;
    if (server->watch) {
        loop_watch_change(server->watch, is_wanted ? LOOP_READABLE : 0);
    }
}

void http_accept_again(struct http_server *server) {
    if (server->is_full) {
        server->is_full = false;
        watch_listener(server);
    }
}

static void on_accept_soon(struct loop_timer *timer) {
    struct http_server *server = CONTAINER_OF(timer, struct http_server, accept_soon);
    server->is_out_of_descriptors = false;
    watch_listener(server);
}

/* Those who wait keep the listener readable: so it is left alone for a while. */
static void pause_accepting(struct http_server *server, int error) {
    if (!server->has_warned) {
        server->has_warned = true;
        log_warning("new connections have to wait: %s", strerror(error));
    }
    server->is_out_of_descriptors = true;
    watch_listener(server);
    loop_timer_start(server->loop, &server->accept_soon,
                     loop_now_ns(server->loop) + ACCEPT_AGAIN_NS);
}

static void on_listener(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    (void)events;
    struct http_server *server = argument;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        if (http_server_connections(server) >= server->options.connections_max) {
            server->is_full = true;
            watch_listener(server);
            return;
        }
        union {
            struct sockaddr any;
            struct sockaddr_storage storage;
        } address = {0};
        socklen_t size = sizeof address;
        int descriptor =
            accept4(server->listener, &address.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            http_connection_new(server, descriptor, &address.any);
        } else if (errno == EAGAIN) { /* nobody waits */
            server->has_warned = false;
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(server, errno);
            return;
        } /* else that connection has failed already: the next one */
    }
}

/* --- The server --- */

static enum err open_listener(const char *address, uint16_t port, int *ret_descriptor,
                              uint16_t *ret_port, struct buf *message) {
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    int result = getaddrinfo(address, service, &hints, &info);
    if (result != 0) {
        return buf_fail(message, ERR_INVAL, "'%s' is no IP address to listen on", address);
    }
    int yes = 1;
    int unsent = HTTP_UNSENT_BYTES;
    int idle_s = HTTP_KEEPALIVE_IDLE_S, interval_s = HTTP_KEEPALIVE_INTERVAL_S;
    int probes = HTTP_KEEPALIVE_PROBES;
    int descriptor =
        socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    bool is_open =
        descriptor >= 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) == 0 &&
        /* Connections have these from their listener. */
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0 &&
        setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) == 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes) == 0 &&
        setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) == 0 &&
        setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s) == 0 &&
        setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) == 0 &&
        bind(descriptor, info->ai_addr, info->ai_addrlen) == 0 && listen(descriptor, 4096) == 0;
    freeaddrinfo(info);
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    if (!is_open || getsockname(descriptor, (struct sockaddr *)&bound, &size) != 0) {
        enum err err = err_from_errno(errno);
        if (descriptor >= 0) {
            close(descriptor);
        }
        return buf_fail(message, err, "can't listen on %s port %u: %s", address, (unsigned)port,
                        err_text(err));
    }
    in_port_t number = bound.ss_family == AF_INET6
                           ? ((struct sockaddr_in6 *)(void *)&bound)->sin6_port
                           : ((struct sockaddr_in *)(void *)&bound)->sin_port;
    *ret_descriptor = descriptor;
    *ret_port = ntohs(number);
    return ERR_OK;
}

static enum err start(struct http_server *server) {
    server->input = malloc(HTTP_PIECE_MAX);
    server->output = malloc(HTTP_OUTPUT_BYTES);
    if (!server->input || !server->output) {
        return ERR_NOMEM;
    }
    return loop_watch_new(server->loop, server->listener, LOOP_READABLE, on_listener, server,
                          &server->watch);
}

enum err http_server_new(struct loop *loop, const struct http_options *options,
                         const struct http_application *application,
                         struct http_server **ret_server, struct buf *message) {
    if (options->head_bytes_max < 1 * KIB || options->head_bytes_max > HTTP_HEAD_BYTES_LIMIT ||
        options->connections_max == 0 || options->head_timeout_ns == 0 ||
        options->body_rate_timeout_ns == 0) {
        return buf_fail(message, ERR_INVAL, "the limits of the HTTP server make no sense");
    }
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        return ERR_NOMEM;
    }
    server->loop = loop;
    server->application = *application;
    server->options = *options;
    server->options.address = NULL;
    list_init(&server->due);
    list_init(&server->looks);
    for (size_t i = 0; i < ARRAY_LENGTH(server->phases); i++) {
        list_init(&server->phases[i]);
    }
    loop_timer_init(&server->sweep, sweep);
    loop_timer_init(&server->accept_soon, on_accept_soon);
    loop_task_init(&server->last, on_last);
    enum err err =
        open_listener(options->address, options->port, &server->listener, &server->port, message);
    if (err) {
        free(server);
        return err;
    }
    err = start(server);
    if (err) {
        http_server_free(server);
        return buf_fail(message, err, "can't start the HTTP server: %s", err_text(err));
    }
    *ret_server = server;
    return ERR_OK;
}

uint16_t http_port(const struct http_server *server) {
    return server->port;
}

void http_server_quiesce(struct http_server *server) {
    if (server->listener >= 0) {
        loop_timer_stop(&server->accept_soon);
        loop_watch_free(STEAL(server->watch));
        close(server->listener);
        server->listener = -1;
        server->is_quiesced = true;
    }
}

uint32_t http_server_exchanges(const struct http_server *server) {
    return atomic_load_explicit(&server->exchanges, memory_order_relaxed);
}

uint32_t http_server_refused(const struct http_server *server) {
    return atomic_load_explicit(&server->refused, memory_order_relaxed);
}

uint32_t http_server_connections(const struct http_server *server) {
    return atomic_load_explicit(&server->connections, memory_order_relaxed);
}

void http_server_free(struct http_server *server) {
    if (!server) {
        return;
    }
    server->is_stopping = true;
    http_server_quiesce(server);
    for (size_t i = 0; i < ARRAY_LENGTH(server->phases); i++) {
        struct list *head = &server->phases[i];
        while (!list_is_empty(head)) {
            http_connection_free(CONTAINER_OF(head->next, struct http_exchange, link));
        }
    }
    while (!list_is_empty(&server->due)) { /* cut by a deadline, and in no phase */
        http_connection_free(CONTAINER_OF(server->due.next, struct http_exchange, due));
    }
    INVARIANT(server->connections == 0 && server->exchanges == 0);
    loop_timer_stop(&server->sweep);
    loop_task_cancel(&server->last);
    http_rooms_free(server);
    map_done(&server->addresses);
    free(server->input);
    free(server->output);
    free(server);
}
