/* Who may use the control door.
 *
 * On a loopback address no token is needed, but a request must be meant for us: its Host is a
 * loopback name (or one given by --domain; names below these are apps' own: the web door), its
 * Origin, if any, is ours, a browser does not say that another site sent it, and it did not come
 * through a proxy. With --trust-proxy ADDRESS whatever comes from that address is let in with a
 * token, also where the proxy does not say that it is one. On any other address a token is needed.
 * A Host may have the dot of a complete name, "localhost.". Where no token is needed there has to
 * be one, also in HTTP/1.0, which may do without (RFC 9112 section 3.2): of what is sent for a
 * proxy's own host name nothing else tells. A token is 256 random bits; only its SHA-256 is kept
 * (state directory, `tokens`), compared in constant time.
 *
 * Thread: read-only after access_init. Layer: http. */
#pragma once

#include "http/http.h"

#include <stdatomic.h>

#define ACCESS_TOKENS_MAX 64
struct access {
    bool token_required; /* the listening address is not loopback */
    uint8_t token_hashes[ACCESS_TOKENS_MAX][32];
    size_t token_count;
    const char *const *trusted_proxies; /* addresses as text */
    size_t trusted_proxy_count;
    const char *domain; /* the server's own host name besides loopback ones, or NULL */
};

enum access_verdict {
    ACCESS_GRANTED,
    ACCESS_FOREIGN_HOST,   /* 421 */
    ACCESS_HOST_MISSING,   /* 400 */
    ACCESS_FOREIGN_ORIGIN, /* 403 */
    ACCESS_PROXIED,        /* 403 */
    ACCESS_TOKEN_MISSING,  /* 401 */
    ACCESS_TOKEN_WRONG,    /* 401 */
};
/* What access depends on, apart from connections so that it is tested as a pure function. */
struct access_request {
    bool is_of_app; /* the Host is an app's: NAME.localhost or NAME.DOMAIN, which only its web door
                       has; it was found by access_host_app */
    struct str host, origin, fetch_site, authorization; /* data NULL: header not sent */
    bool has_forwarding_header;                         /* Forwarded, X-Forwarded-*, Via */
    const char *client_address;
};
enum access_verdict access_check(const struct access *access, const struct access_request *request);
enum access_verdict access_check_exchange(const struct access *access,
                                          const struct http_exchange *exchange, bool is_of_app);
/* What stands before ".localhost" or ".DOMAIN" in a Host, which names an app's own web door. False
 * if it is none of those. */
bool access_host_app(const struct access *access, struct str host, struct str *ret_label);
/* The host of "host:port" or "[v6]:port" (RFC 9110 section 7.2). */
struct str access_host_without_port(struct str authority);
/* Whether the value of an Authorization header has a token of the server, which no guest may see.
 */
bool access_is_own_token(const struct access *access, struct str authorization);
/* Whether the client is a proxy that was named by --trust-proxy. */
bool access_is_trusted_proxy(const struct access *access, const char *client_address);
/* The sentence for the client, saying what to do. Static. */
const char *access_explain(enum access_verdict verdict);
int access_http_status(enum access_verdict verdict);

/* Adds a token (its text, e.g. from $ZASM_TOKEN): INVAL if shorter than 16 characters. */
MUST_USE enum err access_add_token(struct access *access, struct str token);
/* Reads STATE/tokens: one hexadecimal SHA-256 a line, then a space and a comment. A missing file is
 * no error. */
MUST_USE enum err access_load(struct access *access, const char *state_directory,
                              struct buf *message);
/* Makes a token, appends its hash to STATE/tokens, and gives its text (43 characters of base64url,
 * after "zasm_"). Used by `0asm token`. */
MUST_USE enum err access_new_token(const char *state_directory, const char *comment,
                                   struct buf *ret_token, struct buf *message);
