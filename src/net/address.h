/* Hosts and addresses as guests write them, and what kind of address one is.
 *
 * A host is a name of letters, digits, '-', '_' and '.', an IPv4 address of four decimal numbers,
 * or an IPv6 address in brackets. Everything else that some resolver takes for an address is
 * refused, not translated: "2130706433", "0x7f.1", "0177.0.0.1", "127.1", zone ids, percent signs,
 * letters that are not ASCII. So there is one reading of a host, ours.
 *
 * The kind of an address decides whether guests may reach it (net/policy.h). An address that has
 * another one in it (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP) is of that one's
 * kind. IPv6 outside of 2000::/3 is never public.
 *
 * Thread: any. Layer: base. Source: RFC 6890 and IANA's two special-purpose registries, RFC 4291,
 * 6052, 3056, 4380, 5214, 3986 section 3.2.2. */
#pragma once

#include "base/buf.h"

#include <sys/socket.h>

/* An IPv4-mapped IPv6 address (::ffff:0:0/96) is held as IPv4. */
struct net_address {
    uint8_t bytes[16]; /* network order; IPv4 in the first 4 */
    bool is_v6;
};

enum net_kind {
    NET_PUBLIC,
    NET_THIS, /* 0.0.0.0/8, :: */
    NET_LOOPBACK,
    NET_PRIVATE,
    NET_SHARED, /* of a carrier's NAT, RFC 6598 */
    NET_LINK_LOCAL,
    NET_METADATA, /* where clouds tell a machine its secrets */
    NET_MULTICAST,
    NET_DOCUMENTATION,
    NET_RESERVED,
};
/* For humans: "loopback". */
const char *net_kind_text(enum net_kind kind);

/* Strict: "192.0.2.1" or "2001:db8::1", without brackets, port or zone. INVAL. */
MUST_USE enum err net_address_parse(struct str text, struct net_address *ret_address);
/* AFNOSUPPORT for anything but IPv4 and IPv6. */
MUST_USE enum err net_address_of(const struct sockaddr *socket_address,
                                 struct net_address *ret_address);
/* The other way round; the length of what was written. */
socklen_t net_address_to(const struct net_address *address, uint16_t port,
                         struct sockaddr_storage *ret_socket_address);
#define NET_ADDRESS_TEXT_SIZE 46
void net_address_text(const struct net_address *address, char text[NET_ADDRESS_TEXT_SIZE]);
bool net_address_equal(const struct net_address *a, const struct net_address *b);
/* Whether both have the same first `bits`, and are of the same family. */
bool net_address_is_in(const struct net_address *address, const struct net_address *network,
                       unsigned bits);
enum net_kind net_address_kind(const struct net_address *address);

#define NET_NAME_MAX 253
struct net_host {
    char name[NET_NAME_MAX + 1]; /* in lower case; of an address its canonical text, no brackets */
    bool is_address;
    struct net_address address;
};
/* INVAL, with a message that says why. */
MUST_USE enum err net_host_parse(struct str text, struct net_host *ret_host, struct buf *message);
/* The same with an optional ":PORT", which is 0 where it is missing. */
MUST_USE enum err net_host_port_parse(struct str text, struct net_host *ret_host,
                                      uint16_t *ret_port, struct buf *message);
/* As it stands in a URL: an IPv6 address in brackets. Appended. */
MUST_USE enum err net_host_append(const struct net_host *host, struct buf *text);
