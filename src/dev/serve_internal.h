/* What a listener and its connections share. Nobody else includes this. */
#pragma once

#include "base/list.h"
#include "ns/dev.h"

/* A connection that a program has accepted, or can: one end of a socket pair. */
struct connection {
    struct file file;
    struct list link; /* in its listener's list until it is accepted */
    int descriptor;
    struct loop_watch *watch; /* of the descriptor, once an operation had to wait */
    unsigned watched;
    struct op_queue changed; /* who waits for the descriptor */
};

/* One reference. Takes over `descriptor`, a non-blocking stream socket, if it returns OK. */
MUST_USE enum err connection_new(int descriptor, struct connection **ret_connection);
