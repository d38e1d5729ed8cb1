#include "api/access.h"

#include "base/clock.h"
#include "base/fsio.h"
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_PREFIX "zasm_"
#define TOKEN_LENGTH_MIN 16
#define TOKENS_FILE_BYTES_MAX (64 * KIB)

static bool equal_ignoring_case(struct str text, const char *other) {
    return text.length == strlen(other) && strncasecmp(text.data, other, text.length) == 0;
}

static bool ends_ignoring_case(struct str text, const char *ending) {
    size_t length = strlen(ending);
    return text.length > length &&
           strncasecmp(text.data + text.length - length, ending, length) == 0;
}

struct str access_host_without_port(struct str authority) {
    if (authority.length > 0 && authority.data[0] == '[') {
        const char *close = memchr(authority.data, ']', authority.length);
        return close ? (struct str){authority.data, (size_t)(close - authority.data) + 1}
                     : authority;
    }
    return str_cut(&authority, ':');
}

/* "localhost." is the same host: a name that is complete may say so (RFC 1034 section 3.1). */
static struct str host_of(struct str authority) {
    struct str host = access_host_without_port(authority);
    if (host.length > 1 && host.data[host.length - 1] == '.') {
        host.length--;
    }
    return host;
}

bool access_host_app(const struct access *access, struct str host, struct str *ret_label) {
    host = host_of(host);
    size_t ending = 0;
    if (ends_ignoring_case(host, ".localhost")) {
        ending = strlen(".localhost");
    } else if (access->domain && ends_ignoring_case(host, access->domain)) {
        ending = strlen(access->domain) + 1;
    }
    if (ending == 0 || host.data[host.length - ending] != '.') {
        return false;
    }
    *ret_label = (struct str){host.data, host.length - ending};
    return true;
}

static bool is_own_host(const struct access *access, struct str authority) {
    struct str host = host_of(authority);
    if (equal_ignoring_case(host, "localhost") || equal_ignoring_case(host, "[::1]")) {
        return true;
    }
    /* 127.0.0.0/8 as four numbers; nothing that only begins like it ("127.0.0.1.example.org"). */
    if (host.length >= 9 && host.length <= 15 && strncmp(host.data, "127.", 4) == 0) {
        size_t dots = 0;
        size_t others = 0;
        for (size_t i = 0; i < host.length; i++) {
            dots += host.data[i] == '.';
            others += host.data[i] != '.' && (host.data[i] < '0' || host.data[i] > '9');
        }
        return dots == 3 && others == 0;
    }
    return access->domain && equal_ignoring_case(host, access->domain);
}

static bool token_is_known(const struct access *access, struct str token) {
    uint8_t hash[SHA256_SIZE];
    if (sha256_of(token.data, token.length, hash)) {
        return false;
    }
    /* All hashes are compared whole, so that the time says nothing about them. */
    unsigned found = 0;
    for (size_t i = 0; i < access->token_count; i++) {
        unsigned difference = 0;
        for (size_t j = 0; j < sizeof hash; j++) {
            difference |= (unsigned)(hash[j] ^ access->token_hashes[i][j]);
        }
        found |= difference == 0;
    }
    return found;
}

static enum access_verdict check_token(const struct access *access, struct str authorization) {
    struct str scheme = str_cut(&authorization, ' ');
    if (!scheme.data || !equal_ignoring_case(scheme, "Bearer") || authorization.length == 0) {
        return ACCESS_TOKEN_MISSING;
    }
    return token_is_known(access, authorization) ? ACCESS_GRANTED : ACCESS_TOKEN_WRONG;
}

bool access_is_own_token(const struct access *access, struct str authorization) {
    return check_token(access, authorization) == ACCESS_GRANTED;
}

bool access_is_trusted_proxy(const struct access *access, const char *client_address) {
    bool is_trusted = false;
    for (size_t i = 0; i < access->trusted_proxy_count; i++) {
        is_trusted |= strcmp(access->trusted_proxies[i], client_address) == 0;
    }
    return is_trusted;
}

enum access_verdict access_check(const struct access *access,
                                 const struct access_request *request) {
    bool from_proxy = access_is_trusted_proxy(access, request->client_address);
    if (request->has_forwarding_header && !from_proxy) {
        return ACCESS_PROXIED;
    }
    /* Not every proxy says that it is one: whatever comes from its address needs a token. */
    bool token_required = access->token_required || from_proxy;
    if (token_required) {
        enum access_verdict verdict = check_token(access, request->authorization);
        if (verdict != ACCESS_GRANTED) {
            return verdict;
        }
    } else if (request->host.length == 0) {
        return ACCESS_HOST_MISSING; /* a proxy that speaks HTTP/1.0 may leave out whose it was */
    } else if (!request->is_of_app && !is_own_host(access, request->host)) {
        /* A name that somebody pointed at loopback (DNS rebinding). */
        return ACCESS_FOREIGN_HOST;
    }
    if (request->fetch_site.data && !str_equal_text(request->fetch_site, "same-origin") &&
        !str_equal_text(request->fetch_site, "none")) {
        return ACCESS_FOREIGN_ORIGIN;
    }
    if (request->origin.data) {
        struct str rest = request->origin;
        struct str scheme = str_cut(&rest, ':');
        bool is_http = str_equal_text(scheme, "http") || str_equal_text(scheme, "https");
        bool same = is_http && request->host.length > 0 && str_starts(rest, STR("//")) &&
                    rest.length - 2 == request->host.length &&
                    strncasecmp(rest.data + 2, request->host.data, request->host.length) == 0;
        if (!same) {
            return ACCESS_FOREIGN_ORIGIN;
        }
    }
    return ACCESS_GRANTED;
}

static void note_forwarding(void *argument, struct str name, struct str value) {
    (void)value;
    bool *found = argument;
    *found |= equal_ignoring_case(name, "Forwarded") || equal_ignoring_case(name, "Via") ||
              (name.length > 12 && strncasecmp(name.data, "X-Forwarded-", 12) == 0);
}

enum access_verdict access_check_exchange(const struct access *access,
                                          const struct http_exchange *exchange, bool is_of_app) {
    struct access_request request = {
        .is_of_app = is_of_app,
        .host = http_header(exchange, "Host"),
        .origin = http_header(exchange, "Origin"),
        .fetch_site = http_header(exchange, "Sec-Fetch-Site"),
        .authorization = http_header(exchange, "Authorization"),
        .client_address = http_client_address(exchange),
    };
    http_headers_each(exchange, note_forwarding, &request.has_forwarding_header);
    return access_check(access, &request);
}

const char *access_explain(enum access_verdict verdict) {
    switch (verdict) {
    case ACCESS_GRANTED:
        return "granted";
    case ACCESS_FOREIGN_HOST:
        return "the Host header names another server; use 127.0.0.1 or localhost, or start the "
               "server with --domain";
    case ACCESS_HOST_MISSING:
        return "the request has no Host, by which this server knows that it is meant; HTTP/1.0 may "
               "leave it out, but send 'Host: localhost' here";
    case ACCESS_FOREIGN_ORIGIN:
        return "a page of another site may not use this server";
    case ACCESS_PROXIED:
        return "the request came through a proxy; start the server with --trust-proxy ADDRESS to "
               "allow it";
    case ACCESS_TOKEN_MISSING:
        return "a token is needed: send 'Authorization: Bearer TOKEN' ('0asm token' makes one)";
    case ACCESS_TOKEN_WRONG:
        return "the token is not valid";
    }
    return "refused";
}

int access_http_status(enum access_verdict verdict) {
    switch (verdict) {
    case ACCESS_GRANTED:
        return 200;
    case ACCESS_FOREIGN_HOST:
        return 421;
    case ACCESS_HOST_MISSING:
        return 400;
    case ACCESS_TOKEN_MISSING:
    case ACCESS_TOKEN_WRONG:
        return 401;
    case ACCESS_FOREIGN_ORIGIN:
    case ACCESS_PROXIED:
        break;
    }
    return 403;
}

enum err access_add_token(struct access *access, struct str token) {
    if (token.length < TOKEN_LENGTH_MIN) {
        return ERR_INVAL;
    }
    if (access->token_count == ACCESS_TOKENS_MAX) {
        return ERR_NOBUFS;
    }
    enum err err = sha256_of(token.data, token.length, access->token_hashes[access->token_count]);
    if (!err) {
        access->token_count++;
    }
    return err;
}

enum err access_load(struct access *access, const char *state_directory, struct buf *message) {
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf text = {0};
    enum err err = buf_printf(&path, "%s/tokens", state_directory);
    if (!err) {
        err = fsio_read_file(buf_text(&path), TOKENS_FILE_BYTES_MAX, &text);
    }
    if (err == ERR_NOENT) {
        return ERR_OK;
    }
    if (err) {
        return buf_fail(message, err, "%s can't be read: %s", buf_text(&path), err_text(err));
    }
    struct str rest = buf_str(&text);
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str hash = str_cut(&line, ' ');
        if (hash.length == 0) {
            continue;
        }
        if (access->token_count == ACCESS_TOKENS_MAX ||
            sha256_from_text(hash, access->token_hashes[access->token_count])) {
            return buf_fail(message, ERR_INVAL,
                            "%s: '" STR_FORMAT "' is no SHA-256, or there are more than %d tokens",
                            buf_text(&path), STR_ARGS(hash), ACCESS_TOKENS_MAX);
        }
        access->token_count++;
    }
    return ERR_OK;
}

enum err access_new_token(const char *state_directory, const char *comment, struct buf *ret_token,
                          struct buf *message) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t secret[33] = {0}; /* 32 random bytes, padded to whole groups of three */
    random_bytes(secret, 32);
    char token[sizeof TOKEN_PREFIX + 44] = TOKEN_PREFIX;
    size_t length = strlen(token);
    for (size_t i = 0; i < sizeof secret; i += 3) {
        uint32_t group = (uint32_t)secret[i] << 16 | (uint32_t)secret[i + 1] << 8 | secret[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) {
            token[length++] = digits[group >> shift & 63];
        }
    }
    token[--length] = 0; /* the 44th character would only be padding */

    uint8_t hash[SHA256_SIZE];
    char hexadecimal[SHA256_TEXT_SIZE];
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf line = {0};
    enum err err = sha256_of(token, length, hash);
    if (err) {
        return err;
    }
    sha256_to_text(hash, hexadecimal);
    err = buf_printf(&path, "%s/tokens", state_directory);
    if (!err) {
        err = buf_printf(&line, "%s %s\n", hexadecimal, comment);
    }
    if (err) {
        return err;
    }
    if (mkdir(state_directory, 0700) != 0 && errno != EEXIST) {
        err = err_from_errno(errno);
        return buf_fail(message, err, "%s can't be made: %s", state_directory, err_text(err));
    }
    int descriptor = open(buf_text(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ssize_t written = descriptor < 0 ? -1 : write(descriptor, line.data, line.length);
    bool done = written == (ssize_t)line.length && fsync(descriptor) == 0;
    err = done ? ERR_OK : err_from_errno(errno);
    if (descriptor >= 0) {
        close(descriptor);
    }
    if (err) {
        return buf_fail(message, err, "%s can't be written: %s", buf_text(&path), err_text(err));
    }
    return buf_append(ret_token, token, length);
}
