/* Transaction files: write the question, then read the answer. `call`, `start`, `/net/request`,
 * `/net/serve`, `db/query` are such files; this is the one state machine of all of them.
 *
 *     IDLE ── write ──▶ ASKING ── first read, poll, sync, shutdown(WRITE) ──▶ ANSWERING ──▶ ENDED
 *      └─ read, poll, shutdown: an empty question ──────────────────────────────┘             │
 *                         ◀─────────────────────────── write: the next question ──────────────┘
 *
 * They are used through buffered libraries of all languages (C's stdio with 1,024 bytes, Python's
 * io with 8,192, Go's os.File with none), which decides the rules:
 *
 * - Where one write ends carries no meaning. The first read ends the question, also one that gets
 *   AGAIN; so do sync and shutdown(WRITE). Opening never waits, and nothing happens before the
 *   first write, read or poll for reading.
 * - A read gives what is there; 0 bytes are the end of the answer, for as often as it is read.
 *   A failure comes in place of the end (or of the first byte), and again until a new question.
 * - After the end the next write begins a new question. If the answer has not been read to its end,
 *   such a write waits until it is clear whether more comes: if so it is refused (BUSY), since two
 *   writers would mix, or else the guest would take the old answer's rest for the new one.
 * - Polling for reading alone ends the question as a read that gets AGAIN does, and is ready when
 *   there is something of the answer, its end or a failure: "readable" is followed by a read, which
 *   must not wait then. Polling for writing, or for both, ends none: who still wants to write has
 *   not asked yet; of both only writing is ready then. Where a read of half a question would spoil
 *   it (`poll_asks`), polling for reading is ready at once, and ends nothing.
 *   Polling for writing is, during an answer, ready at its end.
 * - seek(SET, 0) and seek(CUR, 0) succeed and do nothing (Python's open(p, 'r+') asks for the
 *   position); seek(CUR, -k) gives back the last k bytes to be read again, up to
 *   TRANSACTION_KEPT_BYTES: so libraries return what they have read ahead. Else SPIPE, as pread and
 *   pwrite. O_CREAT, O_TRUNC and O_APPEND are accepted and mean nothing.
 * - It is a character device of size 0 that has SEEK and TELL, so that it is no terminal.
 *
 * In between stands a service: what is asked and answered. It takes the question and gives the
 * answer in pieces, so that both are bounded, whatever their length. Sentences for humans about a
 * failure go to op->message (buf_fail); a guest finds the last one in /proc/self/errstr.
 *
 * Closing gives the exchange up: what has not been answered is cancelled. (A service that takes a
 * question without wanting to be read, like the response of /net/serve, has `hangup`.)
 *
 * Thread: of one op at a time. Layer: ns. Source: the project's own rules. */
#pragma once

#include "ns/dev.h"

/* What can be given back by seek(CUR, -k). */
#define TRANSACTION_KEPT_BYTES (64 * 1024)

/* An exchange is one question with its answer; the pointer is whatever `begin` made.
 *
 * Errors: AGAIN is only for an op that is nonblocking and would have to wait; "come again later"
 * must be another one (BUSY), or a guest would wait for a file that is ready. */
struct transaction_service {
    const char *name; /* for humans */
    /* Polling for reading alone begins and ends a question, whatever of it is written. */
    bool poll_asks;
    /* Whether nothing can be added to the question that is being asked: then polling for reading
     * waits for the answer, and has nothing to end. NULL: never known. */
    bool (*is_complete)(const void *exchange);
    /* A question begins, on behalf of op->who. Must not wait. `context` is that of the open file
     * (transaction_open), so that questions on one descriptor can follow from each other. A failure
     * is that of the write or read, and of all further reads until the next write. */
    enum err (*begin)(struct op *op, void *context, void **ret_exchange);
    /* A piece of the question; polled. `*ret_taken` is not 0 on OK (length is not). A failure ends
     * the exchange. NULL: the service takes no question (NOTSUP). */
    enum err (*question)(struct op *op, void *exchange, const void *data, size_t length,
                         size_t *ret_taken);
    /* The question is complete, or empty. Must not wait: what has to, waits in `answer`. Once at
     * most. May be NULL. */
    enum err (*question_end)(struct op *op, void *exchange);
    /* A piece of the answer; polled. 0 bytes with OK: its end. A failure ends the exchange. */
    enum err (*answer)(struct op *op, void *exchange, void *data, size_t length, size_t *ret_read);
    /* As dev->poll, for `question` (POLL_WRITABLE) or for `answer` (POLL_READABLE; at the end of
     * the answer or a failure POLL_READABLE | POLL_HANGUP with 0 bytes). `wanted` is one of both.
     */
    enum err (*poll)(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                     uint64_t *ret_bytes);
    /* Whether a read leaves the question open now: both directions stream (an HTTP request whose
     * Content-Length is not reached yet). Asked at each read, write and poll before the question
     * has ended; while it is true, reads go to `answer`. NULL: never. */
    bool (*is_streaming)(const void *exchange);
    /* The file is closed, or its guest has ended, while the question is not complete; `done`
     * follows. May be NULL. */
    void (*hangup)(void *exchange);
    /* The exchange is over: its answer was read to the end, it failed, or it is given up (then the
     * service cancels what is under way). Comes exactly once for each that was begun, after which
     * no pointer to it is used. Must not wait. An op that a polled function left PENDING is
     * finished or abandoned before. */
    void (*done)(void *exchange);
    /* The file is gone: frees the context. May be NULL. */
    void (*release)(void *context);
};

/* A fresh open file: what dev->open returns (the node that was opened has type
 * FILE_CHARACTER_DEVICE and trait FILE_REWINDABLE). Takes over `context`, also on failure. */
MUST_USE enum err transaction_open(const struct transaction_service *service, void *context,
                                   uint64_t device, uint64_t inode, struct file **ret_file);

/* For doors that are not a guest's: whether it is a file of transaction_open. */
bool transaction_is(const struct file *file);
