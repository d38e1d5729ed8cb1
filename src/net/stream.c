#include "net/stream_internal.h"

#include "base/clock.h"
#include "net/trust.h"
#include "ns/dev.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CONNECT_NS (30 * NS_PER_S) /* to any of its addresses */
#define ATTEMPT_NS (4 * NS_PER_S)  /* to one, while there are others */
#define LINGER_NS (5 * NS_PER_S)   /* what was written gets so long after a close */
#define LINGER_LOOK_NS (20 * NS_PER_MS)

static void changed(struct net_stream *stream) {
    op_queue_wake_all(&stream->changed);
}

static void close_socket(struct net_stream *stream) {
    loop_watch_free(STEAL(stream->watch));
    stream->interest = 0;
    if (stream->descriptor >= 0) {
        close(stream->descriptor);
        stream->descriptor = -1;
    }
}

static void destroy(struct net_stream *stream) {
    list_remove(&stream->link);
    loop_timer_stop(&stream->timer);
    if (stream->lookup) {
        net_lookup_cancel(stream->lookup);
    }
    close_socket(stream);
    stream_tls_free(stream);
    op_queue_done(&stream->changed);
    net_leave(stream->net, stream->party.app_id);
    net_party_done(&stream->party);
    buf_done(&stream->message);
    free(stream);
}

void stream_fail(struct net_stream *stream, enum err err, const char *format, ...) {
    if (stream->state == STREAM_DEAD) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    stream->message.length = 0;
    (void)!buf_vprintf(&stream->message, format, arguments); /* without memory there is none */
    va_end(arguments);
    stream->state = STREAM_DEAD;
    stream->failure = err;
    loop_timer_stop(&stream->timer);
    close_socket(stream);
    changed(stream);
}

/* ---- the socket ---- */

void stream_watch(struct net_stream *stream, unsigned events) {
    stream->interest |= events;
    if (stream->watch) {
        loop_watch_change(stream->watch, stream->interest);
    }
}

static enum err error_of_socket(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? ERR_AGAIN
                                                                     : err_from_errno(errno);
}

enum err stream_send(struct net_stream *stream, const void *data, size_t length, size_t *ret_sent) {
    ssize_t sent = send(stream->descriptor, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        return error_of_socket();
    }
    *ret_sent = (size_t)sent;
    return ERR_OK;
}

enum err stream_receive(struct net_stream *stream, void *data, size_t length,
                        size_t *ret_received) {
    ssize_t received = recv(stream->descriptor, data, length, MSG_DONTWAIT);
    if (received < 0) {
        return error_of_socket();
    }
    *ret_received = (size_t)received;
    return ERR_OK;
}

/* ---- connecting ---- */

static void connect_next(struct net_stream *stream, enum err last);

static void set_open(struct net_stream *stream) {
    stream->state = STREAM_OPEN;
    loop_timer_stop(&stream->timer);
    if (stream->write_shut) {
        stream->write_shut = false;
        net_stream_shutdown(stream, SHUTDOWN_WRITE);
    }
    changed(stream);
}

static void step_handshake(struct net_stream *stream) {
    cleanup_buf struct buf why = {0};
    enum err err = stream_tls_handshake(stream, &why);
    if (!err) {
        set_open(stream);
    } else if (err != ERR_AGAIN) {
        stream_fail(stream, err, "%s", why.length ? buf_text(&why) : err_text(err));
    }
}

static void connected(struct net_stream *stream) {
    int on = 1;
    setsockopt(stream->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(stream->descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (!stream->is_tls) {
        set_open(stream);
        return;
    }
    loop_timer_start(stream->home->loop, &stream->timer, stream->deadline_ns);
    stream->state = STREAM_HANDSHAKE;
    cleanup_buf struct buf why = {0};
    enum err err = stream_tls_new(stream, &why);
    if (err) {
        stream_fail(stream, err, "%s", why.length ? buf_text(&why) : err_text(err));
        return;
    }
    step_handshake(stream);
}

static void check_connected(struct net_stream *stream) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(stream->descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
        error = errno;
    }
    if (error) {
        close_socket(stream);
        connect_next(stream, err_from_errno(error));
    } else {
        connected(stream);
    }
}

/* ---- after it was closed ----
 *
 * A socket that is closed while something unread is in it (the tickets of TLS, say) is reset, and
 * what the peer has not got yet is lost. So what comes is read away until all has arrived. */

static bool has_arrived(const struct net_stream *stream) {
    int left = 0;
    return stream->waiting_at == stream->waiting_length &&
           (ioctl(stream->descriptor, SIOCOUTQ, &left) != 0 || left == 0);
}

/* Reads away what is there. False: the peer has closed, or is gone. */
static bool read_away(struct net_stream *stream) {
    uint8_t piece[4096];
    size_t length = 1;
    enum err err = ERR_OK;
    for (unsigned i = 0; i < 16 && !err && length > 0; i++) {
        err = stream_receive(stream, piece, sizeof piece, &length);
    }
    return err ? err == ERR_AGAIN : length > 0;
}

static void linger(struct net_stream *stream) {
    uint64_t now_ns = loop_now_ns(stream->home->loop);
    bool is_over = now_ns >= stream->deadline_ns;
    bool is_there = read_away(stream);
    enum err err = stream->is_tls ? stream_tls_flush(stream) : ERR_OK;
    if (!err && !stream->is_shut) {
        stream->is_shut = true;
        shutdown(stream->descriptor, SHUT_WR);
    }
    /* A peer that has closed its side may read on: the machine sends what it has been given. */
    is_over |= err ? err != ERR_AGAIN : !is_there || has_arrived(stream);
    if (is_over) {
        destroy(stream);
        return;
    }
    if (!err) {
        stream_watch(stream, LOOP_READABLE);
    }
    loop_timer_start(stream->home->loop, &stream->timer,
                     MIN(now_ns + LINGER_LOOK_NS, stream->deadline_ns));
}

static void on_events(struct loop_watch *watch, unsigned events, void *argument) {
    struct net_stream *stream = argument;
    stream->interest &= ~events;
    loop_watch_change(watch, stream->interest);
    switch (stream->state) {
    case STREAM_LOOKUP:
    case STREAM_DEAD:
        break;
    case STREAM_CONNECTING:
        check_connected(stream);
        break;
    case STREAM_HANDSHAKE:
        step_handshake(stream);
        break;
    case STREAM_OPEN: {
        if (stream->is_closed) {
            linger(stream);
            return;
        }
        enum err err = stream->is_tls ? stream_tls_flush(stream) : ERR_OK;
        if (err && err != ERR_AGAIN) {
            stream_fail(stream, err, "%s: %s", stream->host.name, err_text(err));
        }
        changed(stream);
        break;
    }
    }
}

static void on_timer(struct loop_timer *timer) {
    struct net_stream *stream = CONTAINER_OF(timer, struct net_stream, timer);
    if (stream->is_closed) {
        linger(stream);
    } else if (stream->state == STREAM_CONNECTING && stream->next < stream->addresses.count) {
        close_socket(stream);
        connect_next(stream, ERR_TIMEDOUT);
    } else {
        stream_fail(stream, ERR_TIMEDOUT, "no connection to %s port %u in %llu s",
                    stream->host.name, stream->port, (unsigned long long)(CONNECT_NS / NS_PER_S));
    }
}

static enum err begin_connect(struct net_stream *stream, const struct net_address *address) {
    cleanup_buf struct buf why = {0};
    enum err err = net_check_address(stream->net, &stream->party, &stream->host, stream->port,
                                     address, true, &why);
    if (err) {
        return err;
    }
    struct sockaddr_storage target;
    socklen_t length = net_address_to(address, stream->port, &target);
    stream->descriptor =
        socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    if (stream->descriptor < 0) {
        return err_from_errno(errno);
    }
    if (connect(stream->descriptor, (const struct sockaddr *)&target, length) != 0 &&
        errno != EINPROGRESS) {
        return err_from_errno(errno);
    }
    stream->interest = LOOP_WRITABLE;
    return loop_watch_new(stream->home->loop, stream->descriptor, stream->interest, on_events,
                          stream, &stream->watch);
}

/* Tries the addresses one after the other. */
static void connect_next(struct net_stream *stream, enum err last) {
    stream->state = STREAM_CONNECTING;
    while (stream->next < stream->addresses.count) {
        last = begin_connect(stream, &stream->addresses.list[stream->next++]);
        if (!last) {
            uint64_t deadline_ns = stream->deadline_ns;
            if (stream->next < stream->addresses.count) {
                deadline_ns = MIN(deadline_ns, clock_monotonic_ns() + ATTEMPT_NS);
            }
            loop_timer_start(stream->home->loop, &stream->timer, deadline_ns);
            return;
        }
        close_socket(stream);
    }
    stream_fail(stream, last, "no connection to %s port %u: %s", stream->host.name, stream->port,
                err_text(last));
}

static void on_found(void *argument, enum err err, const struct net_addresses *addresses,
                     struct str message) {
    struct net_stream *stream = argument;
    stream->lookup = NULL;
    if (err) {
        stream_fail(stream, err, STR_FORMAT, STR_ARGS(message));
        return;
    }
    cleanup_buf struct buf why = {0};
    stream->addresses = *addresses;
    err = net_check_addresses(stream->net, &stream->party, &stream->host, stream->port,
                              &stream->addresses, &why);
    if (err) {
        stream_fail(stream, err, "%s", buf_text(&why));
        return;
    }
    connect_next(stream, ERR_HOSTUNREACH);
}

static enum err look_up(struct net_stream *stream) {
    struct net_addresses addresses;
    bool needs_trust = stream->is_tls && !net_trust_is_loaded();
    struct net_resolver *resolver = stream->net->resolver;
    if (!needs_trust &&
        net_resolver_knows(resolver, stream->party.app_id, &stream->host, &addresses)) {
        on_found(stream, ERR_OK, &addresses, (struct str){0});
        return ERR_OK;
    }
    loop_timer_start(stream->home->loop, &stream->timer, stream->deadline_ns);
    return net_lookup_start(resolver, stream->home->loop, stream->party.app_id, &stream->host,
                            needs_trust ? net_trust_load : NULL, on_found, stream, &stream->lookup);
}

enum err net_stream_open(struct net *net, struct loop *loop, struct net_party *party,
                         const struct net_host *host, uint16_t port, bool is_tls,
                         struct net_stream **ret_stream, struct buf *message) {
    enum err err = net_check_host(party, host, port, message);
    if (!err) {
        err = net_enter(net, party->app_id, message);
    }
    struct net_stream *stream = err ? NULL : calloc(1, sizeof *stream);
    if (!stream) {
        if (!err) {
            net_leave(net, party->app_id);
        }
        net_party_done(party);
        return err ? err : ERR_NOMEM;
    }
    stream->net = net;
    stream->home = net_loop_of(net, loop);
    stream->party = *party;
    stream->host = *host;
    stream->port = port;
    stream->is_tls = is_tls;
    stream->descriptor = -1;
    stream->deadline_ns = clock_monotonic_ns() + CONNECT_NS;
    list_init(&stream->link);
    loop_timer_init(&stream->timer, on_timer);
    err = op_queue_init(&stream->changed);
    if (!err) {
        err = look_up(stream);
    }
    if (err) {
        destroy(stream);
        return err;
    }
    *ret_stream = stream;
    return ERR_OK;
}

/* ---- its end ---- */

void net_stream_close(struct net_stream *stream) {
    if (!stream) {
        return;
    }
    stream->party.note = NULL;
    if (stream->state == STREAM_OPEN && stream->is_tls && !stream->write_shut) {
        stream_tls_end(stream);
    }
    if (stream->state == STREAM_OPEN) {
        (void)read_away(stream);
    }
    if (stream->state == STREAM_OPEN && !has_arrived(stream)) {
        stream->is_closed = true;
        stream->deadline_ns = loop_now_ns(stream->home->loop) + LINGER_NS;
        list_append(&stream->home->lingering, &stream->link);
        linger(stream);
        return;
    }
    destroy(stream);
}

void net_streams_end(struct net_loop *home) {
    LIST_FOR_EACH_SAFE (node, &home->lingering) {
        destroy(CONTAINER_OF(node, struct net_stream, link));
    }
}

void net_stream_shutdown(struct net_stream *stream, unsigned shutdown_flags) {
    stream->read_shut |= (shutdown_flags & SHUTDOWN_READ) != 0;
    if (shutdown_flags & SHUTDOWN_WRITE && !stream->write_shut) {
        stream->write_shut = true;
        if (stream->state == STREAM_OPEN && stream->is_tls) {
            stream_tls_end(stream);
        } else if (stream->state == STREAM_OPEN) {
            shutdown(stream->descriptor, SHUT_WR);
        }
    }
    changed(stream);
}

/* ---- reading and writing ---- */

static enum err fail_op(struct op *op, const struct net_stream *stream) {
    return buf_fail(op->message, stream->failure, STR_FORMAT, STR_ARGS(buf_str(&stream->message)));
}

/* Until the stream changes, or `events` come. */
static enum err wait(struct op *op, struct net_stream *stream, unsigned events) {
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    enum err err = op_queue_wait(&stream->changed, op);
    if (err) {
        return err;
    }
    if (stream->state == STREAM_OPEN) {
        stream_watch(stream, events);
    }
    return ERR_PENDING;
}

/* What a call on the socket has given. */
static enum err conclude(struct op *op, struct net_stream *stream, enum err err, unsigned events,
                         const struct buf *why) {
    if (err == ERR_AGAIN) {
        return wait(op, stream, events);
    }
    if (err) {
        stream_fail(stream, err, "%s: %s", stream->host.name,
                    why->length ? buf_text(why) : err_text(err));
        return fail_op(op, stream);
    }
    return ERR_OK;
}

enum err net_stream_read(struct op *op, struct net_stream *stream, void *data, size_t length,
                         size_t *ret_read) {
    if (stream->read_shut || length == 0) {
        *ret_read = 0;
        return ERR_OK;
    }
    if (stream->state != STREAM_OPEN) {
        return stream->state == STREAM_DEAD ? fail_op(op, stream) : wait(op, stream, 0);
    }
    cleanup_buf struct buf why = {0};
    enum err err = stream->is_tls ? stream_tls_read(stream, data, length, ret_read, &why)
                                  : stream_receive(stream, data, length, ret_read);
    return conclude(op, stream, err, LOOP_READABLE, &why);
}

enum err net_stream_write(struct op *op, struct net_stream *stream, const void *data, size_t length,
                          size_t *ret_written) {
    if (stream->state == STREAM_DEAD) {
        return fail_op(op, stream);
    }
    if (stream->write_shut) {
        return ERR_PIPE;
    }
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    if (stream->state != STREAM_OPEN) {
        return wait(op, stream, 0);
    }
    cleanup_buf struct buf why = {0};
    enum err err = stream->is_tls ? stream_tls_write(stream, data, length, ret_written)
                                  : stream_send(stream, data, length, ret_written);
    return conclude(op, stream, err, LOOP_WRITABLE, &why);
}

/* Of an open stream: whether a read would give something, and how much. */
static bool is_readable(struct net_stream *stream, const struct pollfd *state, size_t *ret_bytes) {
    if (stream->is_tls) {
        return stream_tls_peek(stream, ret_bytes) == ERR_OK;
    }
    int available = 0;
    (void)ioctl(stream->descriptor, FIONREAD, &available);
    *ret_bytes = (size_t)available;
    return state->revents & (POLLIN | POLLHUP | POLLERR);
}

static unsigned ready_now(struct net_stream *stream, unsigned wanted, uint64_t *ret_bytes) {
    if (stream->state == STREAM_DEAD) {
        return wanted | POLL_HANGUP;
    }
    unsigned ready = 0;
    if (wanted & POLL_READABLE && stream->read_shut) {
        ready |= POLL_READABLE | POLL_HANGUP;
    }
    if (stream->state != STREAM_OPEN) {
        return ready;
    }
    struct pollfd state = {.fd = stream->descriptor, .events = POLLIN | POLLOUT};
    (void)poll(&state, 1, 0);
    size_t bytes = 0;
    if (wanted & POLL_READABLE && is_readable(stream, &state, &bytes)) {
        ready |= bytes > 0 ? (unsigned)POLL_READABLE : POLL_READABLE | POLL_HANGUP;
        *ret_bytes = bytes;
    }
    bool is_flushed = stream->waiting_at == stream->waiting_length;
    if (wanted & POLL_WRITABLE &&
        (stream->write_shut || (is_flushed && state.revents & (POLLOUT | POLLHUP | POLLERR)))) {
        ready |= POLL_WRITABLE;
    }
    return ready;
}

enum err net_stream_poll(struct op *op, struct net_stream *stream, unsigned wanted,
                         unsigned *ret_ready, uint64_t *ret_bytes) {
    uint64_t bytes = 0;
    unsigned ready = ready_now(stream, wanted, &bytes);
    if (!ready && !op->nonblocking) {
        return wait(op, stream,
                    (wanted & POLL_READABLE ? (unsigned)LOOP_READABLE : 0) |
                        (wanted & POLL_WRITABLE ? (unsigned)LOOP_WRITABLE : 0));
    }
    *ret_ready = ready;
    *ret_bytes = bytes;
    return ERR_OK;
}
