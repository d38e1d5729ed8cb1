/* The certificate authorities that TLS connections are verified against: those of the machine, or
 * of one file. Read once, when they are first needed, and shared by all.
 *
 * Thread: any. Layer: base. */
#pragma once

#include "base/buf.h"

#include <openssl/ssl.h>

/* Where to read from; NULL or "": what $SSL_CERT_FILE names, or where systems keep them. Before the
 * first net_trust_load. The text is borrowed for good. */
void net_trust_set_file(const char *path);
/* Reads them if that was not done yet. Blocking, tens of milliseconds. */
void net_trust_load(void);
bool net_trust_is_loaded(void);
/* Has a context of a client verify its peer. NOENT, with a message, if there are no authorities.
 * Loads them where that was not done. */
MUST_USE enum err net_trust_use(SSL_CTX *context, struct buf *message);
/* A context of clients that verifies, made once and shared: borrowed. The same errors. */
MUST_USE enum err net_trust_context(SSL_CTX **ret_context, struct buf *message);
