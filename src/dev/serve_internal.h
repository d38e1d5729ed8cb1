/* What a listener and its connections share. Nobody else includes this. */
#pragma once

#include "dev/serve.h"

/* Connections that a program keeps open and that have no request, of a listener at most: each is a
 * descriptor of the program. */
enum { SERVE_IDLE_MAX = 64 };

struct listener {
    struct file file;
    pthread_mutex_t lock; /* guards the following; taken after services', before requests' */
    struct list requests; /* serve_request.link */
    struct list taken;    /* serve_request.link: until the program lets go of them */
    struct list idle;     /* connection.link: they wait for their next request */
    size_t request_count, ripe_count; /* of the requests, those that /net/serve may take */
    size_t idle_count;
    bool is_closed;
    atomic_bool is_asked; /* the program has asked for a request */
    /* A visitor has left a request that nobody had taken, when progress was this. */
    bool has_vain;
    uint64_t vain_progress;
    atomic_uint_fast64_t progress; /* counts what the program does with requests */
    struct op_queue changed;       /* who accepts, or waits in /net/serve */
    struct op_queue asked;         /* who is told that somebody waits in `changed` */
};

/* The program has asked for requests, or done something for one. */
static inline void listener_note_progress(struct listener *listener) {
    atomic_fetch_add_explicit(&listener->progress, 1, memory_order_relaxed);
}

static inline struct listener *listener_of(struct file *file) {
    return CONTAINER_OF(file, struct listener, file);
}

/* A connection that a program has accepted: in memory, one request after the other. */
struct connection {
    struct file file;
    struct listener *listener; /* a reference */
    /* Guarded by the listener's lock: */
    struct list link;              /* in listener->idle */
    struct serve_request *request; /* a reference: the present one, or the last */
    bool is_free;                  /* that was answered, and another one may follow */
    bool ends;                     /* no other one follows */
};

/* A connection that begins with this request, which is taken: one reference. */
MUST_USE enum err connection_new(struct listener *listener, struct serve_request *request,
                                 struct connection **ret_connection);
/* With the lock: the next request, which is taken. Its door's loop. */
void connection_give(struct connection *connection, struct serve_request *request);
/* With the lock: the first request that waits, if there is one, is given to the connection. */
bool listener_give_first(struct listener *listener, struct connection *connection);
/* With the lock: the program has let go of a request that it had taken. */
void listener_forget(struct listener *listener, struct serve_request *request);
/* With the lock: nobody knows the connection any more. Whoever waits in it is to be woken. */
void connection_end(struct connection *connection);
