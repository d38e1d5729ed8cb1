/* What guests may reach. Pure: no lookups, no sockets.
 *
 * Three things decide, each at its time:
 * - net= of the app, and of the run (which can only narrow), by host and port, before anything is
 *   looked up, for each hop of a redirect anew;
 * - the kind of each address that is about to be connected to: public ones are open to all, others
 *   need a rule of `0asm serve --allow-private`, by the host as it was asked for or by address.
 * The address that is checked is the one that the socket is then connected to, so that a name that
 * changes its addresses, or has several, gains nothing.
 *
 * A rule without a port does not open the server's own door on an address of the machine itself:
 * that needs the port to be named.
 *
 * Thread: constant after it was made. Layer: base. Source: DESIGN, "Network policy". */
#pragma once

#include "net/address.h"

struct net_policy;

/* Rules as given to --allow-private: "HOST", "ADDRESS", "ADDRESS/BITS", "[ADDRESS6]/BITS", each
 * with an optional ":PORT". INVAL with a message. */
MUST_USE enum err net_policy_new(const char *const *rules, size_t count,
                                 struct net_policy **ret_policy, struct buf *message);
void net_policy_free(struct net_policy *policy); /* accepts NULL */
/* The port that this server listens on. Before the first check. */
void net_policy_set_own_port(struct net_policy *policy, uint16_t port);

/* OK, or PERM with a message. `host` is what was asked for, `address` what it is to be. */
MUST_USE enum err net_policy_check(const struct net_policy *policy, const struct net_host *host,
                                   uint16_t port, const struct net_address *address,
                                   struct buf *message);

/* Whether net= lets a host and port through. `lines` is its value, one entry a line: nothing or
 * "public" allows all, "none" nothing; else HOST, *.DOMAIN, ADDRESS or [ADDRESS6], each with an
 * optional :PORT. "*.example.org" does not stand for example.org itself. */
bool net_hosts_allow(struct str lines, const struct net_host *host, uint16_t port);
