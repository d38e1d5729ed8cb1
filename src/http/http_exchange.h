/* What the files of the HTTP server share: the server, and the connection with its exchange.
 *
 * A connection of HTTP/1.1 has one exchange at a time, so both are one structure, made when the
 * connection is accepted and used for its requests one after the other. http_server.c has the
 * listener and the deadlines, http_connection.c reading and the order of things, http_body.c the
 * framing of bodies, http_response.c writing, http_exchange.c what the application asks of a
 * request.
 *
 * A request costs one recv, one send, and its share of epoll_wait: the watch of a socket is changed
 * only where it must be, so readability that nobody wants is taken off when it comes, not before.
 *
 * The application may call us from its callbacks and from anywhere else. So nothing of an exchange
 * goes on from within such a call, and no connection is freed: it is put in the server's list of
 * those that are due, and the end of the turn does what is to be done (http_continue).
 *
 * Memory: what a connection needs for a request, its head, what came behind it and the fields of
 * the response's head, is in a room, which it takes from the server when something comes and gives
 * back after the request. One that is idle has none. Bodies are read and responses made in memory
 * of the server; only what the application or the kernel does not take is kept for the connection.
 *
 * Thread: the loop's. Private to http. */
#pragma once

#include "base/map.h"
#include "http/http.h"
#include "http/http_body.h"

#include <netinet/in.h>
#include <stdatomic.h>

/* Of a room at first, for a head and what is behind it: larger ones for larger heads. */
#define HTTP_ROOM_BYTES (3 * KIB)
/* So many free rooms a server keeps, and their fields, if they are not larger than this. */
#define HTTP_ROOMS_KEPT 256u
#define HTTP_FIELDS_KEPT (4 * KIB)
/* Of a response: what the application's fields and the type may have, and the trailers. */
#define HTTP_HEAD_ROOM (40 * KIB)
#define HTTP_TRAILER_ROOM (16 * KIB)
/* A body is read, and a stream sent, in pieces between these: smaller where they aren't taken. */
#define HTTP_PIECE_MIN (16 * KIB)
#define HTTP_PIECE_MAX (64 * KIB)
/* In `server->output`: a head before this, data behind it, and behind those the trailers. */
#define HTTP_OUTPUT_DATA (HTTP_HEAD_ROOM + 1 * KIB)
#define HTTP_OUTPUT_BYTES (HTTP_OUTPUT_DATA + HTTP_PIECE_MAX + HTTP_TRAILER_ROOM + 64)
/* What is read and dropped of a body whose answer is known before its end. */
#define HTTP_DRAIN_BYTES_MAX (16 * MIB)
/* What the kernel takes of a response beyond what is on its way. Else it takes some hundred KiB for
 * each client that is slow, and a few thousand of them all the memory that the host has for TCP. */
#define HTTP_UNSENT_BYTES (128 * KIB)
/* A client that is silent is asked whether it is still there: its machine, or the way to it, may
 * have gone without a word. */
#define HTTP_KEEPALIVE_IDLE_S 60
#define HTTP_KEEPALIVE_INTERVAL_S 15
#define HTTP_KEEPALIVE_PROBES 4
/* A client that said something, or left, while the application works: after this it is looked at
 * which of both. Most exchanges are over before. */
#define HTTP_WATCH_AFTER_NS (20 * NS_PER_MS)
/* What still comes after an answer that ends the connection is read for so long, because closing
 * with something unread may take the answer from the client. */
#define HTTP_LINGER_NS (2 * NS_PER_S)

/* Whom a connection waits for; says which deadline it has and which list of the server it is in. */
enum http_phase {
    HTTP_HEAD,      /* the client: for the complete head. In the order of time */
    HTTP_MOVING,    /* the client: to send its body or to take the response */
    HTTP_WORKING,   /* the application; the socket's readability is watched */
    HTTP_UNWATCHED, /* the application, and readability is not watched. In the order of time */
    HTTP_WATCHED,   /* as before, and the client's end is watched */
    HTTP_LINGERING, /* the client: to close. In the order of time */
    HTTP_PHASES,
};

/* What a connection needs while something of a request is there. */
struct http_room {
    struct http_room *next; /* of the free ones */
    struct buf fields;      /* of the response's head as they are sent; then the trailers */
    uint32_t capacity;
    struct http_head head;
    uint8_t data[];
};

struct http_address { /* of clients, counted where there is a limit */
    struct map_node node;
    struct in6_addr ip; /* the key */
    uint32_t count;
};

struct http_server {
    struct loop *loop;
    struct http_application application;
    struct http_options options; /* the address is not kept */
    int listener;                /* -1 = closed */
    uint16_t port;
    struct loop_watch *watch;      /* of the listener */
    struct loop_timer accept_soon; /* the host had no descriptors */
    struct loop_timer sweep;       /* for the deadlines of all connections */
    struct loop_task last;         /* at the end of a turn: those that are due */
    struct list due;
    struct list phases[HTTP_PHASES];
    struct list looks;       /* whose progress is looked at from time to time */
    struct map addresses;    /* struct http_address */
    struct http_room *rooms; /* free ones of HTTP_ROOM_BYTES */
    unsigned room_count;
    uint8_t *input;  /* HTTP_PIECE_MAX; used within a call */
    uint8_t *output; /* HTTP_OUTPUT_BYTES; likewise */
    char common[96]; /* fields of each response, with the date */
    uint64_t common_until_ns;
    bool is_full;               /* the listener is not watched */
    bool is_out_of_descriptors; /* likewise, until accept_soon */
    bool has_warned;            /* of that */
    bool is_pulling;            /* `output` is in use */
    bool is_quiesced;
    bool is_stopping;
    /* Written on the loop's thread, read by any. */
    _Atomic uint32_t exchanges;
    _Atomic uint32_t connections;
    _Atomic uint32_t refused;
};

struct http_exchange {
    struct list link; /* in its server's list of the phase */
    struct list due;  /* in its server's list of those */
    struct list look; /* in its server's `looks`, from HTTP_MOVING on, to the end of the exchange */
    uint64_t looked_ns; /* when a sweep did so last, or when it joined the list: its order */
    struct http_server *server;
    struct loop_watch *watch;
    struct http_address *counted; /* NULL without a limit */
    struct http_room *input;      /* what has come and was not taken is in it; NULL: nothing */
    uint32_t input_at, input_end;
    struct buf output; /* what the kernel has not taken; empty most of the time */
    size_t output_at;
    int descriptor;
    unsigned events;        /* that are watched */
    uint32_t receive_bytes; /* from so many on it is readable (SO_RCVLOWAT); 0: any */
    enum http_phase phase;
    uint64_t since_ns;          /* that it is in the phase */
    uint64_t moved_ns;          /* the last progress that a sweep has seen, in HTTP_MOVING */
    uint64_t moved_bytes;       /* how far it was then */
    uint64_t moved_start_bytes; /* and at the first sweep of the phase */
    uint64_t measured_ns;       /* the time of that sweep; 0 = none yet */
    uint64_t left_ns;           /* when it last left HTTP_MOVING because the body is paused */
    bool is_cut;                /* nothing is done any more but its end */
    struct in6_addr ip;         /* the client's; v4 mapped (RFC 4291 section 2.5.5.2) */
    char address[48];           /* as text; empty until asked for */

    /* From here on of one request; cleared between two. */
    void *user;
    struct http_room *room; /* that has the head; NULL: there is none yet */
    struct http_scan scan;
    struct http_body body;
    http_pull *pull;
    void *pull_argument;
    uint64_t pull_remaining; /* of a stream with a length; HTTP_LENGTH_UNKNOWN without */
    uint64_t body_bytes;     /* taken or dropped */
    uint64_t dropped_bytes;  /* of the body, after the response was given */
    uint32_t read_bytes;     /* at most, the next time */
    uint32_t pull_bytes;     /* likewise */
    int status;
    bool has_head_begun;
    bool has_begun; /* `begin` was called and `end` was not */
    bool has_body_ended;
    bool has_responded;
    bool is_response_head_sent;
    bool is_response_made; /* all of it is sent or in `output` */
    bool is_sent;
    bool is_refused;
    bool is_reading_over; /* no more of the body is wanted */
    bool is_body_paused;  /* the application has not taken all */
    bool is_body_resumed; /* http_body_resume came before the pause */
    bool gathers_body;    /* see http_gather_body */
    bool keeps_body;      /* it is the application's also after the response was given */
    bool is_body_due;     /* the client has to send it even while the stream waits */
    bool is_pulling;      /* within `pull` */
    bool is_pull_waiting; /* HTTP_PULL_WAIT was the last answer */
    bool is_pull_resumed; /* http_pull_resume came since `pull` was called */
    bool closes;          /* the connection, after the response */
};

/* http_connection.c */
/* Takes the descriptor of an accepted connection. Closed where memory fails. */
void http_connection_new(struct http_server *server, int descriptor,
                         const struct sockaddr *address);
/* Ends and frees it, with `end` if an exchange is under way. */
void http_connection_free(struct http_exchange *exchange);
/* Does what is to be done; called for those that are due. May free it. */
void http_continue(struct http_exchange *exchange);
/* Has http_continue called at the end of the turn. */
void http_due(struct http_exchange *exchange);
/* Ends it without more: `end` follows at the end of the turn. */
void http_cut(struct http_exchange *exchange);
/* Changes what is watched: adds and removes events. */
void http_watch(struct http_exchange *exchange, unsigned add, unsigned remove);
void http_rooms_free(struct http_server *server);
static inline bool http_is_1_0_stream(const struct http_exchange *exchange) {
    return exchange->pull && exchange->pull_remaining == HTTP_LENGTH_UNKNOWN &&
           exchange->room->head.is_http_1_0;
}

/* Whether the client, or the kernel, has to take something of the response before it goes on. */
static inline bool http_is_sending(const struct http_exchange *exchange) {
    return (exchange->events & LOOP_WRITABLE) != 0;
}

/* Where an exchange is whose stream waits for the application. */
static inline enum http_phase http_phase_of_waiting(const struct http_exchange *exchange) {
    bool waits_for_body =
        exchange->is_body_due && !exchange->has_body_ended && !exchange->is_body_paused;
    return waits_for_body ? HTTP_MOVING : HTTP_WORKING;
}

/* http_response.c */
/* Sends the next piece of a stream, or notes that it waits. */
void http_pull_next(struct http_exchange *exchange);
/* Sends what the kernel has not taken before. */
void http_flush(struct http_exchange *exchange);
void http_send_continue(struct http_exchange *exchange);
/* Answers instead of the application, and ends the connection. */
void http_refuse(struct http_exchange *exchange, struct http_refusal refusal);

/* http_server.c */
/* Puts the exchange into the list of the phase and sees to the deadline. */
void http_enter(struct http_exchange *exchange, enum http_phase phase);
/* Counts a connection of this address; false if that is too many. */
bool http_count_address(struct http_exchange *exchange);
void http_uncount_address(struct http_exchange *exchange);
/* A connection has gone: others may come. */
void http_accept_again(struct http_server *server);
static inline void http_add_to(_Atomic uint32_t *count, uint32_t difference) {
    /* One thread writes it: no more than a load and a store. */
    uint32_t before = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, before + difference, memory_order_relaxed);
}
