/* A connection from its first byte to its last: reading, and what follows on what. */
#include "http/http_exchange.h"

#include "base/log.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- Rooms --- */

static struct http_room *room_new(size_t capacity) {
    struct http_room *room = malloc(sizeof *room + capacity);
    if (room) {
        room->fields = (struct buf){0};
        room->capacity = (uint32_t)capacity;
        room->head.field_count = 0;
    }
    return room;
}

static void room_free(struct http_room *room) {
    buf_done(&room->fields);
    free(room);
}

static struct http_room *take_room(struct http_server *server) {
    struct http_room *room = server->rooms;
    if (!room) {
        return room_new(HTTP_ROOM_BYTES);
    }
    server->rooms = room->next;
    server->room_count--;
    return room;
}

static void give_room(struct http_server *server, struct http_room *room) {
    if (!room) {
        return;
    }
    if (room->capacity != HTTP_ROOM_BYTES || server->room_count >= HTTP_ROOMS_KEPT) {
        room_free(room);
        return;
    }
    if (room->fields.capacity > HTTP_FIELDS_KEPT) {
        buf_done(&room->fields);
    }
    room->fields.length = 0;
    room->next = server->rooms;
    server->rooms = room;
    server->room_count++;
}

void http_rooms_free(struct http_server *server) {
    struct http_room *next;
    for (struct http_room *room = server->rooms; room; room = next) {
        next = room->next;
        room_free(room);
    }
}

/* --- Input that waits --- */

static size_t waiting_bytes(const struct http_exchange *exchange) {
    return exchange->input_end - exchange->input_at;
}

static void forget_input(struct http_exchange *exchange) {
    if (exchange->input != exchange->room) {
        give_room(exchange->server, exchange->input);
    }
    exchange->input = NULL;
    exchange->input_at = exchange->input_end = 0;
}

/* Keeps what has come and can't be taken now. There is no other input then. */
static void keep_input(struct http_exchange *exchange, const uint8_t *data, size_t length) {
    struct http_room *room = exchange->input;
    if (room && room != exchange->room) {
        exchange->input_end = 0;
    }
    if (room && room->capacity - exchange->input_end < length) {
        forget_input(exchange);
        room = NULL;
    }
    if (!room) {
        room = length <= HTTP_ROOM_BYTES ? take_room(exchange->server) : room_new(length);
    }
    if (!room) {
        http_cut(exchange);
        return;
    }
    exchange->input = room;
    exchange->input_at = exchange->input_end;
    memcpy(room->data + exchange->input_end, data, length);
    exchange->input_end += (uint32_t)length;
}

/* Makes place for more of a head. */
static bool make_place(struct http_exchange *exchange) {
    struct http_room *room = exchange->input;
    if (!room) {
        exchange->input = take_room(exchange->server);
        return exchange->input != NULL;
    }
    if (exchange->input_end < room->capacity) {
        return true;
    }
    size_t length = waiting_bytes(exchange);
    struct http_room *larger = room;
    if (exchange->input_at == 0) {
        /* The gate has seen all of it and wants more: so it is less than a head may have. */
        larger = room_new(2 * (size_t)room->capacity);
        if (!larger) {
            return false;
        }
    }
    memmove(larger->data, room->data + exchange->input_at, length);
    if (larger != room) {
        give_room(exchange->server, room);
    }
    exchange->input = larger;
    exchange->input_at = 0;
    exchange->input_end = (uint32_t)length;
    return true;
}

/* --- The body --- */

static void end_exchange(struct http_exchange *exchange, bool is_completed) {
    struct http_server *server = exchange->server;
    if (exchange->has_begun) {
        exchange->has_begun = false;
        http_add_to(&server->exchanges, -1u);
        server->application.end(server->application.context, exchange, is_completed);
    }
}

/* Whether the application gets the body; otherwise it is dropped. */
static bool gives_body(const struct http_exchange *exchange) {
    return !exchange->has_responded || (exchange->keeps_body && exchange->has_begun);
}

static bool reads_head(const struct http_exchange *exchange) {
    return !exchange->room;
}

static bool wants_input(const struct http_exchange *exchange) {
    return !exchange->is_cut &&
           (reads_head(exchange) ||
            (!exchange->has_body_ended && !exchange->is_body_paused && !exchange->is_reading_over));
}

static void pause_body(struct http_exchange *exchange) {
    exchange->is_body_paused = true;
    exchange->read_bytes = HTTP_PIECE_MIN;
    if (!http_is_sending(exchange)) { /* else the client has something to do all the same */
        http_enter(exchange, HTTP_WORKING);
    }
    if (exchange->is_body_resumed) {
        http_body_resume(exchange);
    }
}

/* Gives or drops a piece of the body; returns how much of it is done with. */
static size_t take_piece(struct http_exchange *exchange, const uint8_t *data, size_t length) {
    const struct http_application *application = &exchange->server->application;
    size_t taken = 0;
    if (gives_body(exchange)) {
        exchange->is_body_resumed = false;
        taken = application->body(application->context, exchange, data, length);
        INVARIANT(taken <= length);
        exchange->body_bytes += taken;
    }
    if (!gives_body(exchange)) {
        exchange->dropped_bytes += length - taken;
        exchange->body_bytes += length - taken;
        taken = length;
        exchange->is_reading_over = exchange->dropped_bytes > HTTP_DRAIN_BYTES_MAX;
    } else if (taken < length && !exchange->is_cut) {
        pause_body(exchange);
    }
    return taken;
}

/* How much there must be for the socket to be readable. The kernel looks at what it has, so nothing
 * that has come before is overlooked; and it is readable, too, when no more has room. */
static void set_receive_bytes(struct http_exchange *exchange, uint32_t bytes) {
    if (bytes != exchange->receive_bytes) {
        int low = (int)bytes; /* 0 means 1 to the kernel */
        if (setsockopt(exchange->descriptor, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0) {
            exchange->receive_bytes = bytes;
        }
    }
}

static void end_body(struct http_exchange *exchange) {
    const struct http_application *application = &exchange->server->application;
    exchange->has_body_ended = true;
    set_receive_bytes(exchange, 0);
    if (gives_body(exchange)) {
        application->body_end(application->context, exchange);
    }
    if (exchange->has_responded) {
        http_due(exchange);
    } else if (!exchange->is_cut) {
        http_enter(exchange, HTTP_WORKING);
    }
}

static void break_off(struct http_exchange *exchange) {
    exchange->is_reading_over = true;
    if (exchange->has_responded && gives_body(exchange)) { /* it waits for more of it */
        http_cut(exchange);
    } else if (exchange->has_responded) { /* so it can't be said */
        exchange->closes = true;
        http_due(exchange);
    } else {
        end_exchange(exchange, false);
        http_refuse(exchange, (struct http_refusal){400, "the body's chunks are malformed"});
    }
}

/* Takes of the body what is wanted now; returns how much that was. */
static size_t take_body(struct http_exchange *exchange, const uint8_t *data, size_t length) {
    size_t at = 0;
    while (at < length && wants_input(exchange)) {
        size_t piece = 0;
        at += http_body_next(&exchange->body, data + at, length - at, &piece);
        if (http_body_is_broken(&exchange->body)) {
            break_off(exchange);
            return length;
        }
        if (piece > 0) {
            size_t taken = take_piece(exchange, data + at, piece);
            http_body_took(&exchange->body, taken);
            at += taken;
        }
        if (http_body_is_over(&exchange->body) && !exchange->is_cut) {
            end_body(exchange);
        }
    }
    if (exchange->is_reading_over) {
        http_due(exchange);
    }
    return at;
}

static void read_body(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    size_t size = exchange->read_bytes;
    if (!exchange->body.is_chunked) { /* what is behind the body waits in the kernel */
        size = (size_t)MIN(size, exchange->body.remaining);
    }
    ssize_t length = recv(exchange->descriptor, server->input, size, 0);
    if (length <= 0) {
        if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            http_cut(exchange);
        }
        return;
    }
    size_t taken = take_body(exchange, server->input, (size_t)length);
    if (taken < (size_t)length && !exchange->is_cut && !exchange->is_reading_over) {
        keep_input(exchange, server->input + taken, (size_t)length - taken);
    } else if ((size_t)length == size && exchange->read_bytes < HTTP_PIECE_MAX) {
        exchange->read_bytes *= 2;
    }
    bool is_all_for_now = (size_t)length < size && exchange->gathers_body;
    if (!exchange->body.is_chunked && (is_all_for_now || exchange->receive_bytes > 0)) {
        uint64_t to_come = exchange->body.remaining - waiting_bytes(exchange);
        set_receive_bytes(exchange, (uint32_t)MIN(to_come, HTTP_GATHER_BYTES));
    }
}

/* --- The head --- */

static void start(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    const struct http_head *head = &exchange->room->head;
    http_body_init(&exchange->body, head);
    exchange->read_bytes = HTTP_PIECE_MIN;
    exchange->pull_bytes = HTTP_PIECE_MAX;
    exchange->closes = head->closes;
    exchange->has_begun = true;
    http_add_to(&server->exchanges, 1);
    bool has_body = !http_body_is_over(&exchange->body);
    if (has_body) {
        http_enter(exchange, HTTP_MOVING);
    }
    server->application.begin(server->application.context, exchange);
    if (exchange->is_cut) {
        return;
    }
    if (!has_body) {
        end_body(exchange);
    } else if (head->expects_continue && !exchange->has_responded && waiting_bytes(exchange) == 0) {
        http_send_continue(exchange);
    }
}

/* Takes what waits, if it is wanted: a head, or of the body. */
static void take_input(struct http_exchange *exchange);

/* Empty lines before a request are skipped (RFC 9112 section 2.2). */
static void skip_empty_lines(struct http_exchange *exchange) {
    const uint8_t *data = exchange->input->data;
    while (waiting_bytes(exchange) >= 2 && data[exchange->input_at] == '\r' &&
           data[exchange->input_at + 1] == '\n') {
        exchange->input_at += 2;
    }
}

static void take_head(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    struct http_room *room = exchange->input;
    if (exchange->scan.at == 0) {
        skip_empty_lines(exchange);
    }
    const char *data = (const char *)room->data + exchange->input_at;
    size_t length = waiting_bytes(exchange);
    if (length == 0) {
        forget_input(exchange);
        return;
    }
    if (length == 1 && data[0] == '\r') { /* of an empty line, perhaps */
        return;
    }
    size_t head_length = 0;
    struct http_refusal refusal =
        http_gate_scan(&exchange->scan, data, length, server->options.head_bytes_max, &head_length);
    if (!refusal.status && head_length == 0) {
        if (!exchange->has_head_begun) { /* from here on it has its time */
            exchange->has_head_begun = true;
            http_enter(exchange, HTTP_HEAD);
        }
        return;
    }
    exchange->room = room;
    room->head.data = NULL;
    if (!refusal.status) {
        refusal = http_gate_check(data, head_length, &room->head);
    }
    if (refusal.status) {
        http_refuse(exchange, refusal);
        return;
    }
    exchange->input_at += (uint32_t)head_length;
    start(exchange);
    if (waiting_bytes(exchange) > 0) {
        take_input(exchange);
    }
}

static void take_input(struct http_exchange *exchange) {
    if (!wants_input(exchange)) {
        return;
    }
    if (reads_head(exchange)) {
        take_head(exchange);
        return;
    }
    const uint8_t *data = exchange->input->data + exchange->input_at;
    exchange->input_at += (uint32_t)take_body(exchange, data, waiting_bytes(exchange));
}

static void read_head(struct http_exchange *exchange) {
    if (!make_place(exchange)) {
        http_cut(exchange);
        return;
    }
    struct http_room *room = exchange->input;
    ssize_t length = recv(exchange->descriptor, room->data + exchange->input_end,
                          room->capacity - exchange->input_end, 0);
    if (length > 0) {
        exchange->input_end += (uint32_t)length;
        take_head(exchange);
        return;
    }
    if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
        http_cut(exchange);
    } else if (waiting_bytes(exchange) == 0) {
        forget_input(exchange);
    }
}

/* --- Events --- */

void http_watch(struct http_exchange *exchange, unsigned add, unsigned remove) {
    unsigned events = (exchange->events | add) & ~remove;
    if (events != exchange->events) {
        exchange->events = events;
        loop_watch_change(exchange->watch, events);
    }
}

static void drop_input(struct http_exchange *exchange) {
    ssize_t length = recv(exchange->descriptor, exchange->server->input, HTTP_PIECE_MAX, 0);
    if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR)) {
        http_cut(exchange);
    }
}

static void on_readable(struct http_exchange *exchange) {
    if (exchange->phase == HTTP_LINGERING) {
        drop_input(exchange);
    } else if (!wants_input(exchange)) {
        /* The next request, or the client's end. */
        http_watch(exchange, 0, LOOP_READABLE);
        if (exchange->phase == HTTP_WORKING) {
            http_enter(exchange, HTTP_UNWATCHED);
        }
    } else if (waiting_bytes(exchange) > 0 && !reads_head(exchange)) {
        http_due(exchange); /* what has come before comes first */
    } else if (reads_head(exchange)) {
        read_head(exchange);
    } else {
        read_body(exchange);
    }
}

static void on_events(struct loop_watch *watch, unsigned events, void *argument) {
    (void)watch;
    struct http_exchange *exchange = argument;
    if (exchange->is_cut) {
        return;
    }
    if (events & (LOOP_DISCONNECTED | LOOP_FAILED)) {
        /* The client has reset the connection, or closed its side. Then it may be reading still
         * (`nc -N`), but nothing tells that from a client that has gone. */
        http_cut(exchange);
        return;
    }
    if (events & LOOP_WRITABLE) {
        http_flush(exchange);
    }
    if ((events & LOOP_READABLE) && !exchange->is_cut) {
        on_readable(exchange);
    }
}

void http_due(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    if (list_is_empty(&exchange->due)) {
        list_append(&server->due, &exchange->due);
        loop_ready_last(server->loop, &server->last);
    }
}

void http_cut(struct http_exchange *exchange) {
    exchange->is_cut = true;
    http_due(exchange);
}

/* --- From one request to the next --- */

static void clear_request(struct http_exchange *exchange) {
    list_remove(&exchange->look);
    if (exchange->room != exchange->input) {
        give_room(exchange->server, exchange->room);
    } else if (exchange->room) {
        exchange->room->fields.length = 0;
    }
    memset(&exchange->user, 0,
           sizeof *exchange - offsetof(struct http_exchange, user)); /* `room`, too */
}

static void next_request(struct http_exchange *exchange) {
    clear_request(exchange);
    if (waiting_bytes(exchange) == 0) {
        forget_input(exchange);
    } else {
        http_due(exchange); /* one request a turn: others are served between two */
    }
    http_watch(exchange, LOOP_READABLE, LOOP_WRITABLE);
    http_enter(exchange, HTTP_HEAD);
}

/* The last response is out. */
static void close_or_linger(struct http_exchange *exchange) {
    bool is_all_read = exchange->has_body_ended && waiting_bytes(exchange) == 0 &&
                       (exchange->events & LOOP_READABLE);
    if (is_all_read) {
        http_connection_free(exchange);
        return;
    }
    clear_request(exchange);
    forget_input(exchange);
    shutdown(exchange->descriptor, SHUT_WR);
    http_watch(exchange, LOOP_READABLE, LOOP_WRITABLE);
    http_enter(exchange, HTTP_LINGERING);
}

void http_continue(struct http_exchange *exchange) {
    if (!exchange->is_cut && exchange->pull && !exchange->is_response_made &&
        !exchange->is_pull_waiting && !http_is_sending(exchange)) {
        http_pull_next(exchange);
    }
    if (exchange->is_cut) {
        http_connection_free(exchange);
        return;
    }
    if (exchange->is_sent) {
        end_exchange(exchange, !exchange->is_refused);
        if (exchange->closes || exchange->is_reading_over) {
            close_or_linger(exchange);
            return;
        }
        if (exchange->has_body_ended) {
            next_request(exchange);
            return;
        }
        if (exchange->is_body_paused) {
            http_body_resume(exchange); /* to drop the rest */
        }
        if (exchange->phase != HTTP_MOVING) {
            http_enter(exchange, HTTP_MOVING);
        }
    }
    if (waiting_bytes(exchange) > 0) {
        take_input(exchange);
    }
}

/* --- The connection --- */

void http_connection_new(struct http_server *server, int descriptor,
                         const struct sockaddr *address) {
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange) {
        close(descriptor);
        return;
    }
    list_init(&exchange->link);
    list_init(&exchange->due);
    list_init(&exchange->look);
    exchange->server = server;
    exchange->descriptor = descriptor;
    if (address->sa_family == AF_INET6) {
        exchange->ip = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    } else if (address->sa_family == AF_INET) {
        exchange->ip.s6_addr[10] = exchange->ip.s6_addr[11] = 0xff;
        memcpy(&exchange->ip.s6_addr[12],
               &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    }
    exchange->events = LOOP_READABLE;
    if (!http_count_address(exchange) ||
        loop_watch_new(server->loop, descriptor, exchange->events, on_events, exchange,
                       &exchange->watch) != ERR_OK) {
        http_uncount_address(exchange);
        close(descriptor);
        free(exchange);
        return;
    }
    http_add_to(&server->connections, 1);
    http_enter(exchange, HTTP_HEAD);
}

void http_connection_free(struct http_exchange *exchange) {
    struct http_server *server = exchange->server;
    exchange->is_cut = true; /* whatever `end` calls */
    if (exchange->has_responded && !exchange->is_sent && http_is_1_0_stream(exchange)) {
        /* The end of the connection is the end of the body: so it must be an error. */
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(exchange->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    end_exchange(exchange, exchange->is_sent && !exchange->is_refused);
    clear_request(exchange);
    forget_input(exchange);
    buf_done(&exchange->output);
    loop_watch_free(exchange->watch);
    close(exchange->descriptor);
    http_uncount_address(exchange);
    list_remove(&exchange->due);
    list_remove(&exchange->look);
    list_remove(&exchange->link);
    free(exchange);
    http_add_to(&server->connections, -1u);
    http_accept_again(server);
}
