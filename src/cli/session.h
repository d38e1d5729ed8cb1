/* A run whose standard streams are ours: what `0asm run` does once it knows what to ask for.
 *
 * Standard input that is empty, or short and a file, goes along with the request, which stays
 * attached: the answer is the program's output. Otherwise a dialogue: the run is started detached,
 * its output is followed by a request that the run is bound to (when we are gone, however we went,
 * the server ends it), and standard input is forwarded piece by piece as it comes.
 *
 * Thread: the only one. Layer: base. */
#pragma once

#include "cli/client.h"

struct session_options {
    const char *app; /* for messages */
    bool trace;      /* the run records its host calls: they are printed when it has ended */
    const struct client_file *files; /* for the run, borrowed */
    size_t file_count;
    struct str target; /* "/run?name=..." with all options; borrowed */
};
/* The exit status of a run that the server refused to start. */
enum { SESSION_NOT_STARTED = 126 };
/* Returns the exit status for our process: the program's; SESSION_NOT_STARTED; 1 if there is no
 * server or we lost sight of the run (told on standard error); 128 and the number of the signal
 * that ended us. */
int session_run(struct client *client, const struct session_options *options);
