/* /net: the network as files (docs/tree/net.md).
 *
 *   http/HOST[:PORT]/PATH?QUERY   dev/http.c     open and read: a GET; write first: a POST
 *   https/...                                    the same, verified
 *   request                       dev/request.c  any request and its response
 *   serve                         dev/serve.h    a request of the app's web door (serve=listen)
 *   tcp/HOST:PORT                 dev/tcp.c      a connection
 *   tls/HOST:PORT                                the same, verified
 *
 * Looking makes no traffic: any host and path is there. What may be reached is decided when a file
 * is used (net/policy.h), for the run that uses it, and every verdict is in that run's log.
 *
 * Thread: any loop's. Layer: net, ns, store, run. */
#pragma once

#include "net/net.h"
#include "run/run.h"

struct dev_net_options {
    /* All borrowed: they outlive every file. */
    struct net *net;
    struct runs *runs;
    struct catalog *catalog;
};
/* A reference for the caller. */
MUST_USE enum err dev_net_new(const struct dev_net_options *options, struct file **ret_root);
