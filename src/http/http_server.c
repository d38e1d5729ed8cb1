/* The listener, libmicrohttpd inside the loop, and the deadlines of the connections. */
#include "http/http_exchange.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- Running libmicrohttpd --- */

/* Several servers may share a loop, which has one place for who is called before it waits. */
struct turn_end {
    struct list link;
    struct loop *loop;
    struct list servers; /* touched on the loop's thread only */
};
static pthread_mutex_t turn_ends_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list's links */
static struct list turn_ends = {&turn_ends, &turn_ends};

/* Whether libmicrohttpd wants to be called again at once. It knows no other times: the deadlines
 * are ours. */
static bool wants_run(struct http_server *server) {
    unsigned long long timeout_ms;
    return server->is_dirty ||
           (MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES && timeout_ms == 0);
}

static void run_daemon(struct http_server *server) {
    server->is_dirty = false;
    if (MHD_run(server->daemon) != MHD_YES) {
        log_fatal("libmicrohttpd does not run");
    }
    server->is_dirty = wants_run(server);
}

/* Twice: a response that was given while the request waited unsuspended is made ready by the first
 * run and written by the second. What is left then is for the next turn. */
static void end_turn(struct http_server *server) {
    server->turn++;
    for (int i = 0; i < 2 && server->is_dirty; i++) {
        run_daemon(server);
    }
    if (server->is_dirty) {
        loop_ready(server->loop, &server->again);
    }
}

static void before_wait(void *argument) {
    struct turn_end *turn_end = argument;
    LIST_FOR_EACH (node, &turn_end->servers) {
        end_turn(CONTAINER_OF(node, struct http_server, link));
    }
}

static void on_again(struct loop_task *task) {
    (void)task; /* that it was ready has kept the loop from waiting */
}

static void on_events(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    (void)events;
    run_daemon(argument);
}

static enum err join_turns(struct http_server *server) {
    pthread_mutex_lock(&turn_ends_lock);
    struct turn_end *found = NULL;
    LIST_FOR_EACH (node, &turn_ends) {
        struct turn_end *turn_end = CONTAINER_OF(node, struct turn_end, link);
        if (turn_end->loop == server->loop) {
            found = turn_end;
            break;
        }
    }
    if (!found) {
        found = calloc(1, sizeof *found);
        if (found) {
            found->loop = server->loop;
            list_init(&found->servers);
            list_append(&turn_ends, &found->link);
            loop_set_before_wait(server->loop, before_wait, found);
        }
    }
    if (found) {
        list_append(&found->servers, &server->link);
    }
    pthread_mutex_unlock(&turn_ends_lock);
    return found ? ERR_OK : ERR_NOMEM;
}

static void leave_turns(struct http_server *server) {
    pthread_mutex_lock(&turn_ends_lock);
    struct list *neighbour = server->link.next;
    list_remove(&server->link);
    if (neighbour != &server->link && list_is_empty(neighbour)) { /* it was the head */
        struct turn_end *turn_end = CONTAINER_OF(neighbour, struct turn_end, servers);
        loop_set_before_wait(server->loop, NULL, NULL);
        list_remove(&turn_end->link);
        free(turn_end);
    }
    pthread_mutex_unlock(&turn_ends_lock);
}

/* --- Phases and deadlines --- */

static uint64_t sweep_interval_ns(const struct http_server *server) {
    uint64_t interval_ns = server->options.body_rate_timeout_ns / 4;
    return MIN(MAX(interval_ns, 10 * NS_PER_MS), NS_PER_S);
}

static void want_sweep(struct http_server *server, uint64_t deadline_ns) {
    if (!server->is_stopping &&
        (!loop_timer_is_started(&server->sweep) || deadline_ns < server->sweep.deadline_ns)) {
        loop_timer_start(server->loop, &server->sweep, deadline_ns);
    }
}

void http_enter(struct http_exchange *exchange, enum http_phase phase) {
    struct http_server *server = exchange->server;
    uint64_t now_ns = loop_now_ns(server->loop);
    list_remove(&exchange->link);
    list_append(&server->phases[phase], &exchange->link);
    exchange->phase = phase;
    exchange->since_ns = now_ns;
    if (!exchange->is_body_paused) {
        exchange->measured_ns = 0;
    }
    if (phase == HTTP_HEAD) {
        want_sweep(server, now_ns + server->options.head_timeout_ns);
    } else if (phase == HTTP_MOVING) {
        want_sweep(server, now_ns + sweep_interval_ns(server));
    } else if (phase == HTTP_WAITING) {
        want_sweep(server, now_ns + HTTP_WATCH_AFTER_NS);
    }
}

void http_suspend(struct http_exchange *exchange) {
    MHD_suspend_connection(exchange->connection);
    exchange->is_suspended = true;
    http_enter(exchange, HTTP_WAITING);
}

void http_wake(struct http_exchange *exchange) {
    INVARIANT(exchange->is_suspended);
    loop_watch_free(exchange->watch);
    exchange->watch = NULL;
    exchange->is_suspended = false;
    MHD_resume_connection(exchange->connection);
    exchange->server->is_dirty = true;
    http_enter(exchange, exchange->has_body_ended ? HTTP_WORKING : HTTP_MOVING);
    if (exchange->is_body_paused) {
        /* What was measured of the client goes on, without the time in which it had to wait: or one
         * that sends a byte now and then, each of which is a pause, would never be too slow. */
        exchange->is_body_paused = false;
        if (exchange->measured_ns != 0) {
            uint64_t paused_ns = exchange->since_ns - exchange->paused_ns;
            exchange->measured_ns += paused_ns;
            exchange->moved_ns += paused_ns;
        }
    }
}

void http_reset_at_close(struct http_exchange *exchange) {
    if (exchange->queued && exchange->head.is_http_1_0 &&
        exchange->pull_length == HTTP_LENGTH_UNKNOWN) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(exchange->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
}

void http_cut(struct http_exchange *exchange) {
    if (exchange->is_aborted) {
        return;
    }
    exchange->is_aborted = true;
    http_reset_at_close(exchange);
    if (exchange->is_suspended) {
        http_wake(exchange);
    } else {
        shutdown(exchange->descriptor, SHUT_RDWR);
        exchange->server->is_dirty = true;
    }
    http_enter(exchange, HTTP_CLOSING);
}

/* The client has closed its side. It may be reading still (`nc -N`), but nothing tells that from a
 * client that has gone, and libmicrohttpd would close the connection at its next read anyway. */
static void on_client_gone(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    (void)events;
    http_cut(argument);
}

static void watch_client(struct http_exchange *exchange) {
    /* Without memory for it the client's end is noticed when something is sent. */
    if (loop_watch_new(exchange->server->loop, exchange->descriptor, LOOP_DISCONNECTED,
                       on_client_gone, exchange, &exchange->watch) != ERR_OK) {
        exchange->watch = NULL;
    }
    http_enter(exchange, HTTP_WATCHED);
}

/* What has come of the body, or what the client's host has acknowledged of the response. */
static uint64_t moved_bytes(const struct http_exchange *exchange) {
    if (!exchange->queued) {
        return exchange->body_bytes;
    }
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(exchange->descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) {
        return 0;
    }
    return info.tcpi_bytes_acked;
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

/* Whether a client that owes us the rest of a body has gone. libmicrohttpd misses it where the end
 * comes together with the last data: it reads those and waits for an event that was there already.
 * Asked of those only of which nothing came since the last sweep. */
static bool has_left(const struct http_exchange *exchange, uint64_t now_ns) {
    if (exchange->queued || exchange->has_body_ended || exchange->moved_ns == now_ns) {
        return false;
    }
    struct pollfd poll_of = {.fd = exchange->descriptor, .events = POLLRDHUP};
    int unread = 0;
    return poll(&poll_of, 1, 0) == 1 && ioctl(exchange->descriptor, FIONREAD, &unread) == 0 &&
           unread == 0;
}

static struct http_exchange *first_of(const struct http_server *server, enum http_phase phase) {
    const struct list *head = &server->phases[phase];
    return list_is_empty(head) ? NULL : CONTAINER_OF(head->next, struct http_exchange, link);
}

/* One timer for all connections: it looks at the front of the lists that are in the order of time,
 * and at each connection whose client has to move. */
static void sweep(struct loop_timer *timer) {
    struct http_server *server = CONTAINER_OF(timer, struct http_server, sweep);
    uint64_t now_ns = loop_now_ns(server->loop);
    struct http_exchange *exchange;
    while ((exchange = first_of(server, HTTP_HEAD)) &&
           now_ns - exchange->since_ns >= server->options.head_timeout_ns) {
        http_cut(exchange);
    }
    while ((exchange = first_of(server, HTTP_WAITING)) &&
           now_ns - exchange->since_ns >= HTTP_WATCH_AFTER_NS) {
        watch_client(exchange);
    }
    LIST_FOR_EACH_SAFE (node, &server->phases[HTTP_MOVING]) {
        exchange = CONTAINER_OF(node, struct http_exchange, link);
        if (is_too_slow(exchange, now_ns) || has_left(exchange, now_ns)) {
            http_cut(exchange);
        }
    }
    if ((exchange = first_of(server, HTTP_HEAD))) {
        want_sweep(server, exchange->since_ns + server->options.head_timeout_ns);
    }
    if ((exchange = first_of(server, HTTP_WAITING))) {
        want_sweep(server, exchange->since_ns + HTTP_WATCH_AFTER_NS);
    }
    if (first_of(server, HTTP_MOVING)) {
        want_sweep(server, now_ns + sweep_interval_ns(server));
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
    int unsent = HTTP_UNSENT_BYTES; /* connections have it from their listener */
    int descriptor =
        socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    bool is_open =
        descriptor >= 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) == 0 &&
        setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) == 0 &&
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

static enum err start_daemon(struct http_server *server) {
    const struct http_options *options = &server->options;
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO, server->port, NULL, NULL,
        http_on_access, server, MHD_OPTION_LISTEN_SOCKET, server->listener,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections_max,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)options->connections_per_address_max,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        options->head_bytes_max + HTTP_POOL_EXTRA, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed,
        server, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, server,
        MHD_OPTION_URI_LOG_CALLBACK, http_on_request_line, server, MHD_OPTION_UNESCAPE_CALLBACK,
        http_on_unescape, server, MHD_OPTION_END);
    if (!server->daemon) {
        return ERR_NOMEM; /* it has closed the listener */
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || info->epoll_fd < 0) {
        return ERR_NOTSUP;
    }
    return loop_watch_new(server->loop, info->epoll_fd, LOOP_READABLE, on_events, server,
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
    /* The gate reads the head where this version leaves it. */
    if (strncmp(MHD_get_version(), "0.9.", 4) != 0) {
        return buf_fail(message, ERR_NOTSUP, "libmicrohttpd %s is not known, only 0.9",
                        MHD_get_version());
    }
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        return ERR_NOMEM;
    }
    server->loop = loop;
    server->application = *application;
    server->options = *options;
    server->options.address = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(server->phases); i++) {
        list_init(&server->phases[i]);
    }
    list_init(&server->link);
    loop_timer_init(&server->sweep, sweep);
    loop_task_init(&server->again, on_again);
    enum err err =
        open_listener(options->address, options->port, &server->listener, &server->port, message);
    if (err) {
        free(server);
        return err;
    }
    err = start_daemon(server);
    if (!err) {
        err = join_turns(server);
    }
    if (err) {
        http_server_free(server);
        return buf_fail(message, err, "can't start the HTTP server: %s", err_text(err));
    }
    server->is_dirty = true; /* its first run adds the listener to its epoll set */
    *ret_server = server;
    return ERR_OK;
}

uint16_t http_port(const struct http_server *server) {
    return server->port;
}

void http_server_quiesce(struct http_server *server) {
    if (server->is_quiesced) {
        return;
    }
    server->is_quiesced = true;
    int listener = MHD_quiesce_daemon(server->daemon);
    if (listener >= 0) {
        close(listener);
    }
}

uint32_t http_server_exchanges(const struct http_server *server) {
    return atomic_load_explicit(&server->exchanges, memory_order_relaxed);
}

uint32_t http_server_connections(const struct http_server *server) {
    return atomic_load_explicit(&server->connections, memory_order_relaxed);
}

void http_server_free(struct http_server *server) {
    if (!server) {
        return;
    }
    server->is_stopping = true;
    loop_timer_stop(&server->sweep);
    loop_task_cancel(&server->again);
    loop_watch_free(server->watch);
    for (size_t i = 0; i < ARRAY_LENGTH(server->phases); i++) {
        LIST_FOR_EACH_SAFE (node, &server->phases[i]) {
            struct http_exchange *exchange = CONTAINER_OF(node, struct http_exchange, link);
            exchange->is_aborted = true;
            if (exchange->is_suspended) { /* libmicrohttpd stops with none suspended only */
                http_wake(exchange);
            }
        }
    }
    if (server->daemon) {
        MHD_stop_daemon(server->daemon); /* ends and frees all exchanges */
    }
    INVARIANT(server->connections == 0 && server->exchanges == 0);
    leave_turns(server);
    free(server);
}
