/* A request of an app's web door on its way to a program that is kept, and what the program
 * answers. Shared by two sides that may be on different loops: the door, which has the client, and
 * the program, which has taken the request by `/net/serve` or by a connection.
 *
 *     WAITING ── taken ──▶ TAKEN ── closed ──▶ (answered, or cut)
 *        └────── the program ended ──▶ REFUSED: nobody has seen it
 *
 * Both bodies are bounded: the request's by SERVE_BODY_BYTES, the answer by SERVE_ANSWER_BYTES, and
 * while the request's body still comes in by SERVE_EARLY_BYTES: then it is sent all the same.
 *
 * A visitor that leaves ends nothing: what is written then is dropped, and fails with PIPE where
 * base/unheard.h says so.
 *
 * Thread: guards itself; polled functions: the loop of their op. Layer: ns. */
#pragma once

#include "base/fifo.h"
#include "base/list.h"
#include "base/unheard.h"
#include "ns/dev.h"

#include <pthread.h>

enum {
    SERVE_BODY_BYTES = 64 * 1024,
    SERVE_ANSWER_BYTES = 256 * 1024,
    SERVE_EARLY_BYTES = 1024 * 1024,
};

enum serve_state { SERVE_WAITING, SERVE_TAKEN, SERVE_REFUSED };

struct instance;

struct serve_request {
    atomic_uint references;
    pthread_mutex_t lock;
    struct op_queue of_door, of_program; /* who waits for a change that the other side makes */

    /* Guarded by the lock of the listener where it waits; the door reads `state` at any time. */
    struct list link;      /* among those that wait, or are taken */
    struct file *listener; /* a reference; NULL before it was put there */
    atomic_int state;      /* enum serve_state */
    uint64_t arrived;      /* in this order they wait; 0: it never did */
    bool is_ripe;          /* /net/serve may take it: its body is complete, or long */
    bool has_body, has_length;
    uint64_t length;         /* of the body, if has_length */
    struct file *connection; /* by which it was taken, while that is there; or NULL */
    bool by_connection;      /* it was taken like this */
    bool is_given;           /* to a connection that had another request before */

    /* Constant since it was taken, when its end was added: */
    struct buf head;
    size_t head_length; /* without its end */

    /* Guarded by `lock`: */
    size_t head_read;
    struct fifo body, answer;
    struct fifo chunks;              /* of the body, as a connection has it without a length */
    bool is_chunked, has_last_chunk; /* it has it so; and all of it is there */
    bool body_ended, body_lost;      /* it is complete; it never will be */
    bool answer_ended, answer_cut;   /* likewise */
    bool answer_begun;               /* something was written */
    bool door_left;                  /* nobody hears the answer */
    struct unheard unheard;          /* of it: what the door was not there for */
    struct instance *instance;       /* its hold on it (dev/service.h); or NULL */
    struct applog_set *logs;         /* borrowed: what is written now is logged; or NULL */
    int64_t log_app_id;
    uint64_t log_run_id;
};

/* All zero but for one reference, the door's; who makes the head leaves SERVE_HEAD_END_BYTES of its
 * capacity free for its end, and sets head_length, has_body, has_length, length. */
#define SERVE_HEAD_END_BYTES 64
MUST_USE enum err serve_request_new(struct serve_request **ret_request);
struct serve_request *serve_request_ref(struct serve_request *request);
void serve_request_unref(struct serve_request *request); /* accepts NULL */

/* --- the door's side: nothing here waits --- */

static inline enum serve_state serve_request_state(const struct serve_request *request) {
    return (enum serve_state)atomic_load(&request->state);
}
/* The op is woken at the next change. To be called before what may have changed is looked at. */
MUST_USE enum err serve_request_watch(struct op *op, struct serve_request *request);
/* More of the body: how much was taken; 0 if there is no room. */
size_t serve_request_body(struct serve_request *request, const void *data, size_t length);
void serve_request_body_end(struct serve_request *request);
/* A piece of the answer, up to the end of a line if `is_line`. AGAIN: there is none now. OK with 0
 * bytes: its end. IO: it was cut. */
MUST_USE enum err serve_request_answer(struct serve_request *request, void *data, size_t length,
                                       bool is_line, size_t *ret_read);
/* The door has all of the answer's promised length. True: the program has written more already.
 * Else a line goes into the app's log when it first does so; `logs` is there as long as programs
 * run. */
#define SERVE_TOO_LONG "an answer was longer than its Content-Length: the rest was dropped"
MUST_USE bool serve_request_complete(struct serve_request *request, struct applog_set *logs,
                                     int64_t app_id, uint64_t run_id);
/* The program has closed the file: nothing more comes. */
bool serve_request_is_answered(struct serve_request *request);
/* The body still comes, and there is no more room in the answer: unless it is read, the program may
 * never go on to take the body. */
bool serve_request_is_full(struct serve_request *request);
/* Its hold on the instance becomes the caller's (NULL if it has none any more). */
struct instance *serve_request_take_instance(struct serve_request *request);
/* The client is gone, or was answered; after serve_withdraw. */
void serve_request_leave(struct serve_request *request);

/* --- the program's side: polled --- */

/* 0 bytes with OK at the body's end; CONNRESET if the client has left before it. */
MUST_USE enum err serve_request_read(struct op *op, struct serve_request *request, void *data,
                                     size_t length, size_t *ret_read);
/* The same, of one that does not wait: AGAIN. */
MUST_USE enum err serve_request_read_now(struct serve_request *request, void *data, size_t length,
                                         size_t *ret_read);
/* PIPE: nobody hears it. */
MUST_USE enum err serve_request_write(struct op *op, struct serve_request *request,
                                      const void *data, size_t length, size_t *ret_written);
/* As dev->poll. HANGUP for who wants to write: nobody hears it. */
MUST_USE enum err serve_request_poll(struct op *op, struct serve_request *request, unsigned wanted,
                                     unsigned *ret_ready, uint64_t *ret_bytes);
/* What is ready now. */
unsigned serve_request_ready(struct serve_request *request, unsigned wanted, uint64_t *ret_bytes);
/* The program has read all of it. */
bool serve_request_is_read(struct serve_request *request);
/* Nobody hears the answer. */
bool serve_request_is_left(struct serve_request *request);
/* It was given to a connection, and nothing was read of it or answered. */
bool serve_request_is_untouched(struct serve_request *request);
/* Who is to do something, of a request that was taken. */
enum serve_turn {
    SERVE_TURN_NONE,    /* it is being answered, or was; or its body is still to come */
    SERVE_TURN_PROGRAM, /* it has not been answered, and there is more to read or nothing */
    SERVE_TURN_VISITOR, /* the program waits for more of its body, or for room in the answer */
};
enum serve_turn serve_request_turn(struct serve_request *request);
/* The answer is complete. */
void serve_request_end(struct serve_request *request);
/* The program lets go of it: cut, unless it was complete. */
void serve_request_close(struct serve_request *request);
