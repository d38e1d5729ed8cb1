/* What the files of /net share. Nobody else includes this. */
#pragma once

#include "dev/net.h"
#include "net/http.h"
#include "net/url.h"
#include "ns/transaction.h"

struct net_root {
    struct file file;
    struct dev_net_options options;
};
static inline struct net_root *net_root_of(struct file *file) {
    return CONTAINER_OF(file, struct net_root, file);
}

/* A run that uses the network, and what it may reach. */
struct net_user {
    struct net_party party;
    struct run *run; /* a reference */
};
/* On behalf of op->who. NXIO if that is no run. */
MUST_USE enum err net_user_init(struct net_user *user, struct op *op, const struct net_root *root);
void net_user_done(struct net_user *user);
/* Adds the fields `traceparent` of the next hop and `tracestate`, if the run is in a trace and
 * `fields` (as struct net_http_request has them) do not name one themselves. */
MUST_USE enum err net_user_trace(const struct net_user *user, struct buf *fields);
/* A line "net: ..." in its log. */
void net_user_note(const struct net_user *user, const char *format, ...) PRINTF_LIKE(2, 3);

/* What was asked for by name. Nodes: nothing happens until they are opened. */
struct net_node {
    struct file file;
    struct net_root *root; /* a reference */
    struct net_url url;    /* of http; of tcp and tls its host and port */
};
MUST_USE enum err net_node_new(struct net_root *root, const struct dev *dev, enum file_type type,
                               unsigned traits, uint64_t inode, struct net_node **ret_node);
void net_node_release(struct file *file);

extern const struct dev net_http_dev;    /* http.c */
extern const struct dev net_request_dev; /* request.c */
extern const struct dev net_stream_dev;  /* tcp.c */
