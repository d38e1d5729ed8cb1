/* Names to addresses, by the machine's resolver (getaddrinfo) on a few threads of its own: it may
 * take many seconds, which neither a loop nor the workers that serve disks can spare.
 *
 * An app has a few lookups at once, the others of it wait, so that one app with slow names does not
 * stop the others. What was found is kept for half a minute, for that app alone. What was not found
 * is not kept.
 *
 * Thread: any loop's. Layer: loop. */
#pragma once

#include "loop/loop.h"
#include "net/address.h"

struct net_resolver;
struct net_lookup;

enum { NET_ADDRESSES_MAX = 16 };
struct net_addresses {
    struct net_address list[NET_ADDRESSES_MAX];
    size_t count;
};

/* The seam for tests: HOSTUNREACH, with a message, if there is no such name. Blocking; a resolver
 * thread's. NULL is getaddrinfo. */
typedef enum err net_resolve_function(void *context, const char *name,
                                      struct net_addresses *ret_addresses, struct buf *message);
MUST_USE enum err net_resolver_new(net_resolve_function *resolve, void *context,
                                   struct net_resolver **ret_resolver);
/* All lookups are done or cancelled. A thread that is still asking ends by itself later. Accepts
 * NULL. */
void net_resolver_free(struct net_resolver *resolver);

/* At once: an address itself, or what is still known. */
bool net_resolver_knows(struct net_resolver *resolver, int64_t app_id, const struct net_host *host,
                        struct net_addresses *ret_addresses);
/* Calls `found` once, on `loop`'s thread, later. `addresses` is valid during that call. `also` is
 * done on the thread before, for what else must not block a loop; may be NULL. */
typedef void net_found_callback(void *argument, enum err err, const struct net_addresses *addresses,
                                struct str message);
MUST_USE enum err net_lookup_start(struct net_resolver *resolver, struct loop *loop, int64_t app_id,
                                   const struct net_host *host, void (*also)(void),
                                   net_found_callback *found, void *argument,
                                   struct net_lookup **ret_lookup);
/* `found` is not called any more. Not after it was. Thread: the loop's. */
void net_lookup_cancel(struct net_lookup *lookup);
