/* The network of guests: what its parts share. One object a server.
 *
 * Whatever goes out does so for a party: a run of an app, with the hosts that both may reach. Free
 * connections of http are kept for the next requests of the same app on the same loop, never for
 * another app. Every connection that is allowed or refused is noted for the party (its run's log).
 *
 * Thread: any loop's, unless it is said. Layer: loop. */
#pragma once

#include "loop/op.h"
#include "net/policy.h"
#include "net/resolver.h"

struct net;

struct net_options {
    const char *const *allow_private; /* rules, as net_policy_new has them */
    size_t allow_private_count;
    const char *ca_file;           /* NULL or "": the machine's authorities; borrowed for good */
    uint64_t connections_per_app;  /* exchanges and streams that an app may have open */
    uint64_t connections_max;      /* of all apps */
    uint64_t timeout_ns;           /* how long to wait for a peer to connect, to answer, to go on */
    uint64_t bytes_max;            /* of one http body, in each direction */
    net_resolve_function *resolve; /* NULL: the machine's */
    void *resolve_context;
};
/* INVAL with a message if a rule is none. */
MUST_USE enum err net_new(const struct net_options *options, struct loop *const *loops,
                          size_t loop_count, struct net **ret_net, struct buf *message);
/* Where this server listens (net/policy.h). Before the first exchange. */
void net_set_own_port(struct net *net, uint16_t port);
/* All exchanges and streams are gone; the loops stand still. Accepts NULL. */
void net_free(struct net *net);

/* On whose behalf something goes out. Lives as long as what it was given to. */
struct net_party {
    int64_t app_id;
    struct buf app_hosts; /* net=, as net_hosts_allow has it; owned */
    struct buf run_hosts; /* lists likewise, with an empty line between; all must allow; owned */
    /* A line for the run's log; may be NULL. */
    void (*note)(void *context, struct str line);
    void *context;
};
void net_party_done(struct net_party *party);
