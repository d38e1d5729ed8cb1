/* What the files of src/net share. Nobody else includes this. */
#pragma once

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "net/multi.h"
#include "net/net.h"

#include <pthread.h>

/* An app on a loop. Thread: the loop's. */
struct net_app {
    struct map_node node; /* in net_loop.apps */
    int64_t app_id;
    struct net_loop *home;
    struct net_multi *multi;
    unsigned users;   /* exchanges */
    struct list idle; /* in net_loop.idle while there are none, the longest first */
    uint64_t idle_since_ns;
};

struct net_loop {
    struct net *net;
    struct loop *loop;
    struct map apps;
    struct list idle;
    size_t idle_count;
    struct loop_timer timer; /* lets go of what is idle for long */
    struct list lingering;   /* struct net_stream.link: closed, but not all is sent */
};

struct net {
    struct net_options options;
    struct net_policy *policy;
    struct net_resolver *resolver;
    struct net_loop *loops;
    size_t loop_count;
    pthread_mutex_t lock; /* guards the following */
    struct map uses;      /* how many exchanges and streams an app has, struct use by id */
    uint64_t use_count;   /* of all */
};

struct net_loop *net_loop_of(struct net *net, const struct loop *loop);

/* A place among the app's connections; BUSY with a message. */
MUST_USE enum err net_enter(struct net *net, int64_t app_id, struct buf *message);
void net_leave(struct net *net, int64_t app_id);

/* The app's connections on a loop: to be given back. */
MUST_USE enum err net_app_get(struct net_loop *home, int64_t app_id, struct net_app **ret_app);
void net_app_put(struct net_app *app);

/* net= of the party: PERM, with a message, noted. Before anything else is done for a host. */
MUST_USE enum err net_check_host(const struct net_party *party, const struct net_host *host,
                                 uint16_t port, struct buf *message);
/* The policy of the server on an address that is about to be connected to: PERM with a message. If
 * `is_noted`, what is allowed is noted; what is refused is in any case. */
MUST_USE enum err net_check_address(struct net *net, const struct net_party *party,
                                    const struct net_host *host, uint16_t port,
                                    const struct net_address *address, bool is_noted,
                                    struct buf *message);
/* Takes out of a list what must not be connected to. PERM, with the first one's message, if nothing
 * is left. */
MUST_USE enum err net_check_addresses(struct net *net, const struct net_party *party,
                                      const struct net_host *host, uint16_t port,
                                      struct net_addresses *addresses, struct buf *message);
/* Closes the streams that linger; stream.c. */
void net_streams_end(struct net_loop *home);
void net_note(const struct net_party *party, const char *format, ...) PRINTF_LIKE(2, 3);
