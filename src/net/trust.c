#include "net/trust.h"

#include "base/log.h"

#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static const char *const usual_files[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Alpine, Arch */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora, Red Hat */
    "/etc/ssl/ca-bundle.pem",                            /* openSUSE */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* newer Red Hat */
    "/etc/ssl/cert.pem",                                 /* BSDs, Alpine */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *chosen_file;
static X509_STORE *store; /* constant after `once` */
static SSL_CTX *client_context;
static atomic_bool is_loaded;

void net_trust_set_file(const char *path) {
    chosen_file = path && path[0] ? path : NULL;
}

static const char *find_file(void) {
    if (chosen_file) {
        return chosen_file;
    }
    const char *from_environment = getenv("SSL_CERT_FILE");
    if (from_environment && from_environment[0]) {
        return from_environment;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(usual_files); i++) {
        if (access(usual_files[i], R_OK) == 0) {
            return usual_files[i];
        }
    }
    return NULL;
}

static void load(void) {
    const char *file = find_file();
    X509_STORE *made = file ? X509_STORE_new() : NULL;
    if (made && X509_STORE_load_file(made, file) != 1) {
        log_warning("%s has no certificates of authorities: https and tls can't be used", file);
        X509_STORE_free(made);
        made = NULL;
    }
    if (made) {
        X509_STORE_set_flags(made, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    }
    store = made;
    client_context = made ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (client_context) {
        SSL_CTX_set_min_proto_version(client_context, TLS1_2_VERSION);
        SSL_CTX_set1_cert_store(client_context, store);
        SSL_CTX_set_verify(client_context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_session_cache_mode(client_context, SSL_SESS_CACHE_OFF);
    }
    atomic_store(&is_loaded, true);
}

void net_trust_load(void) {
    pthread_once(&once, load);
}

bool net_trust_is_loaded(void) {
    return atomic_load(&is_loaded);
}

static enum err fail(struct buf *message) {
    return buf_fail(message, ERR_NOENT,
                    "the server knows no certificate authorities; start it with --ca-file");
}

enum err net_trust_context(SSL_CTX **ret_context, struct buf *message) {
    net_trust_load();
    if (!client_context) {
        return fail(message);
    }
    *ret_context = client_context;
    return ERR_OK;
}

enum err net_trust_use(SSL_CTX *context, struct buf *message) {
    net_trust_load();
    if (!store) {
        return fail(message);
    }
    SSL_CTX_set1_cert_store(context, store);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return ERR_OK;
}
