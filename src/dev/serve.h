/* The listening socket of a program that is kept (serve=listen): descriptor 4 of its run. What it
 * accepts are connections of its own app's web door, each a socket pair of which the program has
 * one end.
 *
 * Thread: the listener guards itself. A connection belongs to the loop of the run that accepted it,
 * where its last reference goes. Layer: ns. */
#pragma once

#include "ns/dev.h"

/* A listener: one reference, the caller's. */
MUST_USE enum err serve_listener_new(struct file **ret_listener);
/* Hands a connection to whoever accepts; takes over `descriptor`, a non-blocking stream socket, if
 * it returns OK. AGAIN: `waiting_max` of them wait already. PIPE: it is closed. Any thread. */
MUST_USE enum err serve_listener_connect(struct file *listener, int descriptor, size_t waiting_max);
/* Connections that nobody has accepted yet. Any thread. */
size_t serve_listener_waiting(struct file *listener);
/* Closes those that wait, and takes no others. Any thread. */
void serve_listener_close(struct file *listener);
