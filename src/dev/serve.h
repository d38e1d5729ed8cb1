/* The listening socket of a program that is kept (serve=listen): descriptor 4 of its run, and the
 * queue of the requests that wait for it. The program takes them by accept, as connections, or by
 * `/net/serve` (dev/serve_file.c), one by one; each goes to whoever asks first.
 *
 * Connections are in memory (dev/serve_connection.c). One that was answered and that the program
 * goes on to read has the next request, before all others.
 *
 * Thread: guards itself. Layer: ns. */
#pragma once

#include "dev/serve_request.h"

/* A listener: one reference, the caller's. */
MUST_USE enum err serve_listener_new(struct file **ret_listener);
/* A request waits to be taken, or is, by a connection that waits for it. AGAIN: `waiting_max` wait
 * already; one that another listener has refused finds a place nevertheless, by the order in which
 * they came. PIPE: it is closed. Any thread. */
MUST_USE enum err serve_listener_put(struct file *listener, struct serve_request *request,
                                     size_t waiting_max);
/* /net/serve may take it: its body is complete or long. It has this length, if that is known now
 * (`has_length`). Any thread. */
void serve_ripen(struct serve_request *request, bool has_length, uint64_t length);
/* Nobody takes it from now on, who has not before. Any thread. */
void serve_withdraw(struct serve_request *request);
/* The door has all of the answer to a request that was taken by a connection: it may be the next
 * one's, or ends. Any thread. */
void serve_answered(struct serve_request *request, bool may_go_on);
/* Polled: the next request, a reference; who takes it lets go of it by serve_request_close. */
MUST_USE enum err serve_listener_take(struct op *op, struct file *listener,
                                      struct serve_request **ret_request);
/* What could be taken by anybody who asked, and all that waits. Any thread. */
struct serve_waiting {
    size_t ripe, all;
};
struct serve_waiting serve_listener_waiting(struct file *listener);
/* Whether the program has ever asked for one, by accept, poll or /net/serve. Any thread. */
bool serve_listener_is_asked(struct file *listener);
/* For people, of one that never did. */
#define SERVE_NOT_ASKED                                                                            \
    "the program has not accepted a connection on fd 4; with serve=listen it has to accept "       \
    "there, "                                                                                      \
    "or read /net/serve, and go on running (with serve=cgi each request starts it)"
/* Whether the program waits for a request, by accept, poll or /net/serve. Any thread. */
bool serve_listener_is_awaited(struct file *listener);
/* Whether it is the program's turn: a request is there for it, or was in vain, that it has not
 * begun to answer, and it waits neither for requests nor for what a visitor has to send or to take.
 * `*ret_progress` has changed whenever it has asked for a request, read or written something of
 * one, or closed one. Any thread. */
bool serve_listener_owes(struct file *listener, uint64_t *ret_progress);
/* The op is woken when the program begins to wait for a request. To be called before that is looked
 * at. */
MUST_USE enum err serve_listener_watch(struct op *op, struct file *listener);
/* Refuses the first of those that wait, for another listener to take. Any thread. */
void serve_listener_give_back(struct file *listener);
/* The program has read or written something of a request. */
void serve_note_progress(struct serve_request *request);
/* The program lets go of a request that it has taken by /net/serve; then serve_request_close. */
void serve_forget(struct serve_request *request);
/* Refuses those that wait, and takes no others. Any thread. */
void serve_listener_close(struct file *listener);

/* An open `/net/serve` of the program that has this listener (dev/serve_file.c). Its node is a
 * character device that is FILE_REWINDABLE. */
MUST_USE enum err serve_file_open(struct file *listener, uint64_t device, uint64_t inode,
                                  struct file **ret_file);
