/* Secrets of apps: written, never read back by whoever wrote them, nor by a guest. What uses them
 * (the network, outside of the guest) asks for one by name and says where it goes: a secret goes to
 * the hosts that it was bound to, and nowhere else.
 *
 * They are rows of catalog.db, sealed like the others, and encrypted (AES-256-GCM) with a key that
 * is in the state directory, `secrets.key`, mode 0600, made with the first secret. A value is bound
 * to its app, its name and its hosts: nothing of these can be exchanged without being found. So a
 * copy of catalog.db alone tells nothing; a copy of the whole state directory does.
 *
 * Values are wiped from the memory of these functions after use; the caller wipes its own
 * (buf_wipe). They are in no message, log or listing.
 *
 * Thread: any loop's. Layer: loop. */
#pragma once

#include "store/catalog.h"

enum {
    SECRET_NAME_MAX = 127,
    SECRET_BYTES_MAX = 64 * 1024,
    SECRET_HOSTS_MAX = 32, /* of one */
    SECRETS_MAX = 256,     /* of one app */
};

/* INVAL unless it is 1 to 127 of A-Z a-z 0-9 _ - . and begins with none of the last two. */
MUST_USE enum err secret_name_check(struct str name, struct buf *message);
/* Adds a host to which a secret may go, "HOST[:PORT]", to a list of lines; without a port it is any
 * port of that host. INVAL: not a host (a pattern like *.example.org is none); 2BIG: too many. */
MUST_USE enum err secret_hosts_add(struct buf *hosts, struct str host, struct buf *message);
/* Whether such a list has this host (compared without case) and port. */
bool secret_hosts_have(struct str hosts, struct str host, uint16_t port);

/* Polled. Writes a secret. `hosts` is a list of lines, or NULL: those that it has stay (a new one
 * has none, and can't be used until it has). INVAL, FBIG (the value), 2BIG (too many of them);
 * NOENT: the app was removed. */
MUST_USE enum err catalog_secret_set(struct op *op, struct catalog *catalog, const struct app *app,
                                     struct str name, struct str value, const struct str *hosts,
                                     bool *ret_created, struct buf *message);
/* Polled. NOENT if there is none. */
MUST_USE enum err catalog_secret_remove(struct op *op, struct catalog *catalog,
                                        const struct app *app, struct str name,
                                        struct buf *message);

struct secret_info {
    char *name;
    char *hosts; /* one a line */
    uint64_t changed_ns;
};
/* Polled. All secrets of an app by name: the caller's, for secret_list_free. */
MUST_USE enum err catalog_secret_list(struct op *op, struct catalog *catalog, const struct app *app,
                                      struct secret_info **ret_list, size_t *ret_count,
                                      struct buf *message);
void secret_list_free(struct secret_info *list, size_t count); /* accepts NULL with 0 */

/* Polled, for what sends it: the value of a secret that goes to `host` (a name or an address
 * without brackets) and `port` is appended to `ret_value`, which the caller wipes when it was sent.
 * NOENT: no such secret; ACCES: not bound to this host and port; IO: the row is damaged, or the key
 * is not the one that it was written with. The message never has the value. */
MUST_USE enum err catalog_secret(struct op *op, struct catalog *catalog, const struct app *app,
                                 struct str name, struct str host, uint16_t port,
                                 struct buf *ret_value, struct buf *message);
