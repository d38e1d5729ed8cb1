/* What the files of the HTTP server share: the server, and the connection with its exchange.
 *
 * A connection of HTTP/1.1 has one exchange at a time, so both are one structure, made when the
 * connection is accepted and used for its requests one after the other: a request allocates
 * nothing here. http_server.c has the listener, the loop and the deadlines; http_connection.c what
 * libmicrohttpd calls; http_exchange.c what the application calls.
 *
 * How libmicrohttpd 0.9.75 is driven (its sources, src/microhttpd/connection.c and daemon.c):
 * - The access handler is called when the head is complete, for pieces of the body, and when the
 *   body has ended. A response may be queued in the first call (the body is then discarded and
 *   the connection closed) and in the last. Without a body the last call follows the first at once.
 * - A handler that neither answers nor suspends in the last call is called again with each
 *   MHD_run. So a request that is answered within the loop's next turns is not suspended at all:
 *   that would cost three system calls (out of the epoll set, a read in vain, into it again).
 *   Content readers that return 0 are called again likewise.
 * - Closing from outside: shutdown() of the socket, which its epoll reports; a suspended
 *   connection is resumed and its handler or reader says no.
 *
 * Memory: a connection has a pool of `head_bytes_max` + HTTP_POOL_EXTRA bytes for its request's
 * head, its buffers and its response's head. libmicrohttpd zeroes all of it between two requests,
 * so the pool is resident from a connection's second request on, and a large one costs time: 40
 * KiB and about 0.5 microseconds a request with the default. A connection that has sent no
 * complete request yet has touched only the pages it needed.
 *
 * Thread: the loop's. Private to http. */
#pragma once

#include "http/http.h"
#include "http/http_gate.h"

#include <microhttpd.h>
#include <stdatomic.h>

/* For libmicrohttpd's records of the fields (64 bytes each) and the head of the response. */
#define HTTP_POOL_EXTRA (100 * 64 + 1856u)
/* Of it, for the status line, our own fields, and what libmicrohttpd keeps of the request. */
#define HTTP_HEAD_RESERVE 1024u
/* What is read and dropped of a body whose answer is known before its end. */
#define HTTP_DRAIN_BYTES_MAX (16 * MIB)
/* The buffer for a response's body of a known length. */
#define HTTP_PULL_BYTES (32 * KIB)
/* What the kernel takes of a response beyond what is on its way. Else it takes some hundred KiB for
 * each client that is slow, and a few thousand of them all the memory that the host has for TCP. */
#define HTTP_UNSENT_BYTES (128 * KIB)
/* For so many turns of the loop a request waits for its answer before it is suspended. */
#define HTTP_TURNS_BEFORE_SUSPEND 3
/* A suspended client's socket is watched from then on: most exchanges are over before. */
#define HTTP_WATCH_AFTER_NS (20 * NS_PER_MS)

/* Whom a connection waits for; says which deadline it has and which list of the server it is in. */
enum http_phase {
    HTTP_HEAD,    /* the client: for the complete head. The list is in the order of time */
    HTTP_MOVING,  /* the client: to send its body or to take the response */
    HTTP_WAITING, /* the application; suspended. The list is in the order of time */
    HTTP_WATCHED, /* as before, and the socket is watched for the client's end */
    HTTP_WORKING, /* the application, not suspended (yet) */
    HTTP_CLOSING, /* nobody */
    HTTP_PHASES,
};

struct http_server {
    struct loop *loop;
    struct http_application application;
    struct http_options options; /* the address is not kept */
    struct MHD_Daemon *daemon;
    int listener; /* closed by libmicrohttpd, after quiescing by us; -1 = closed */
    uint16_t port;
    struct list link;         /* in the thread's list of servers */
    struct loop_watch *watch; /* of libmicrohttpd's epoll descriptor */
    struct loop_timer sweep;  /* for the deadlines of all connections */
    struct loop_task again;   /* keeps the loop from waiting */
    struct list phases[HTTP_PHASES];
    uint64_t turn;
    bool is_dirty; /* libmicrohttpd has something to do at once */
    bool is_quiesced;
    bool is_stopping;
    /* Written on the loop's thread, read by any. */
    _Atomic uint32_t exchanges;
    _Atomic uint32_t connections;
};

struct http_exchange {
    struct list link; /* in its server's list of the phase */
    struct http_server *server;
    struct MHD_Connection *connection;
    struct loop_watch *watch; /* of the socket; only in HTTP_WATCHED */
    int descriptor;
    enum http_phase phase;
    uint64_t since_ns;          /* that it is in the phase */
    uint64_t moved_ns;          /* the last progress that a sweep has seen, in HTTP_MOVING */
    uint64_t moved_bytes;       /* how far it was then */
    uint64_t moved_start_bytes; /* and at the first sweep of the phase */
    uint64_t measured_ns;       /* the time of that sweep; 0 = none yet */
    uint64_t paused_ns;         /* since when the body is paused, if is_body_paused */
    uint64_t body_bytes;        /* taken or dropped */
    char address[48];           /* of the client; empty until asked for */
    struct buf fields;          /* of the response's head, see add_fields; empty = none yet */

    /* From here on of one request; cleared between two. */
    void *user;
    struct MHD_Response *response; /* until it is queued */
    struct MHD_Response *queued;   /* borrowed from the connection */
    http_pull *pull;
    void *pull_argument;
    uint64_t pull_length;   /* HTTP_LENGTH_UNKNOWN, or what the response's head says */
    uint64_t dropped_bytes; /* of the body, after the response was given */
    uint64_t polled_turn;   /* when libmicrohttpd last asked in vain */
    unsigned polled_count;  /* in how many turns it has */
    int status;
    char *target; /* in libmicrohttpd's memory */
    size_t target_length;
    size_t query_at;
    char query_first; /* hidden from libmicrohttpd while it parses */
    bool has_head;    /* the gate has seen it */
    bool has_begun;   /* `begin` was called and `end` was not */
    bool has_body_ended;
    bool has_responded;
    bool is_suspended;
    bool is_body_paused;  /* suspended, and the application has not taken all */
    bool is_body_resumed; /* http_body_resume came before the pause */
    bool is_pull_waiting; /* HTTP_PULL_WAIT was the last answer */
    bool is_pull_resumed; /* http_pull_resume came since `pull` was called */
    bool is_corked;       /* the head and the first chunks of a stream leave in one packet */
    bool is_aborted;
    struct http_head head; /* last: its fields are not cleared */
};

/* http_connection.c: libmicrohttpd's callbacks; `context` is the server. */
void *http_on_request_line(void *context, const char *target, struct MHD_Connection *connection);
enum MHD_Result http_on_access(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **connection_context);
void http_on_completed(void *context, struct MHD_Connection *connection, void **connection_context,
                       enum MHD_RequestTerminationCode code);
void http_on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                        enum MHD_ConnectionNotificationCode code);
size_t http_on_unescape(void *context, struct MHD_Connection *connection, char *text);
ssize_t http_on_read(void *argument, uint64_t position, char *buffer, size_t size);

/* http_server.c */
/* Puts the exchange into the list of the phase and sees to the deadline. */
void http_enter(struct http_exchange *exchange, enum http_phase phase);
/* Suspends it in libmicrohttpd, or wakes it; the phase is HTTP_WAITING, or HTTP_WORKING. */
void http_suspend(struct http_exchange *exchange);
void http_wake(struct http_exchange *exchange);
/* Cuts the connection: `end` follows. */
void http_cut(struct http_exchange *exchange);
/* Cuts it so that the client sees an error and no regular end, where the end of the connection is
 * the end of the body. */
void http_reset_at_close(struct http_exchange *exchange);
