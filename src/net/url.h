/* URLs of http and https, strictly: what is read here is what libcurl is told, in parts, so that no
 * second parser has an opinion of its own.
 *
 * No user information, no fragment, no characters but visible ASCII, no backslash; a host as
 * net/address.h has it. Thread: any. Layer: base. Source: RFC 3986, RFC 9110 section 4.2. */
#pragma once

#include "net/address.h"

enum { NET_URL_MAX = 16 * 1024 };

struct net_url {
    bool is_tls;
    struct net_host host;
    uint16_t port;     /* the scheme's where none was given */
    struct buf target; /* "/path?query", owned */
};
void net_url_done(struct net_url *url);
#define cleanup_net_url __attribute__((cleanup(net_url_done)))

/* "http://HOST[:PORT][/PATH][?QUERY]". INVAL with a message. */
MUST_USE enum err net_url_parse(struct str text, struct net_url *ret_url, struct buf *message);
/* What a Location field means, seen from `base`; its fragment is dropped. INVAL with a message. */
MUST_USE enum err net_url_resolve(const struct net_url *base, struct str location,
                                  struct net_url *ret_url, struct buf *message);
/* "http://HOST[:PORT]", without the scheme's own port. Appended. */
MUST_USE enum err net_url_append_origin(const struct net_url *url, struct buf *text);
/* "HOST[:PORT]" likewise: what stands in a Host field. Appended. */
MUST_USE enum err net_url_append_authority(const struct net_url *url, struct buf *text);

/* A name of the tree as it stands in a URL: what can't be there is percent-encoded. A "%XX" stays
 * as it is, another '%' becomes "%25". With `is_query` a '?' stays one. INVAL for control
 * characters. Appended. */
MUST_USE enum err net_url_encode(struct str name, bool is_query, struct buf *text);
