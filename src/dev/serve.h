/* The listening socket of a program that is kept (serve=listen): descriptor 4 of its run, and the
 * queue of the requests that wait for it. The program takes them by accept, as connections, or by
 * `/net/serve` (dev/serve_file.c), one by one; each goes to whoever asks first.
 *
 * A connection is made when one is asked for: accept claims a request, and the request's door,
 * which alone speaks HTTP, answers with one end of a connection. It may also bring connections that
 * nobody has asked for.
 *
 * Thread: the listener guards itself. A connection belongs to the loop of the run that accepted it,
 * where its last reference goes. Layer: ns. */
#pragma once

#include "dev/serve_request.h"

/* A listener: one reference, the caller's. */
MUST_USE enum err serve_listener_new(struct file **ret_listener);
/* A request waits to be taken. AGAIN: `waiting_max` wait already. PIPE: it is closed. Any thread.
 */
MUST_USE enum err serve_listener_put(struct file *listener, struct serve_request *request,
                                     size_t waiting_max);
/* /net/serve may take it: its body is complete or long. Any thread. */
void serve_request_ripen(struct serve_request *request);
/* Nobody takes it from now on, who has not before. Any thread. */
void serve_listener_withdraw(struct serve_request *request);
/* Polled: the next request, a reference; who takes it lets go of it by serve_request_close. */
MUST_USE enum err serve_listener_take(struct op *op, struct file *listener,
                                      struct serve_request **ret_request);
/* Hands a connection to whoever accepts; takes over `descriptor`, a non-blocking stream socket, if
 * it returns OK. `request`: the one that was claimed for it, or NULL. AGAIN: `waiting_max` of them
 * wait already. PIPE: it is closed. Any thread. */
MUST_USE enum err serve_listener_connect(struct file *listener, struct serve_request *request,
                                         int descriptor, size_t waiting_max);
/* What could be taken by anybody who asked, and all that waits. Any thread. */
struct serve_waiting {
    size_t ripe, all;
};
struct serve_waiting serve_listener_waiting(struct file *listener);
/* Refuses those that wait, and takes no others. Any thread. */
void serve_listener_close(struct file *listener);

/* An open `/net/serve` of the program that has this listener (dev/serve_file.c). Its node is a
 * character device that is FILE_REWINDABLE. */
MUST_USE enum err serve_file_open(struct file *listener, uint64_t device, uint64_t inode,
                                  struct file **ret_file);
