/* TLS of streams, over two buffers in memory: OpenSSL touches no socket, so that a write is taken
 * or not, and never to be repeated with the same bytes. */
#include "net/stream_internal.h"

#include "net/trust.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { RECORD_BYTES = 16 * 1024, PIECE_BYTES = 16 * 1024 + 512 };

static enum err fail_tls(struct net_stream *stream, struct buf *message) {
    long verdict = SSL_get_verify_result(stream->ssl);
    unsigned long code = ERR_peek_last_error();
    const char *why = verdict != X509_V_OK ? X509_verify_cert_error_string(verdict)
                      : code               ? ERR_reason_error_string(code)
                                           : NULL;
    ERR_clear_error();
    return buf_fail(message, ERR_IO, "TLS with %s failed: %s", stream->host.name,
                    why ? why : "unknown error");
}

static bool set_name(struct net_stream *stream) {
    if (stream->host.is_address) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(stream->ssl), stream->host.name) == 1;
    }
    return SSL_set_tlsext_host_name(stream->ssl, stream->host.name) == 1 &&
           SSL_set1_host(stream->ssl, stream->host.name) == 1;
}

enum err stream_tls_new(struct net_stream *stream, struct buf *message) {
    SSL_CTX *context;
    enum err err = net_trust_context(&context, message);
    if (err) {
        return ERR_IO;
    }
    stream->waiting = malloc(PIECE_BYTES);
    stream->ssl = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (!stream->waiting || !stream->ssl || !in || !out) {
        BIO_free(in);
        BIO_free(out);
        return ERR_NOMEM;
    }
    SSL_set_bio(stream->ssl, in, out);
    stream->from_peer = in;
    stream->to_peer = out;
    SSL_set_connect_state(stream->ssl);
    SSL_set_hostflags(stream->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return set_name(stream) ? ERR_OK : fail_tls(stream, message);
}

void stream_tls_free(struct net_stream *stream) {
    SSL_free(stream->ssl);
    free(stream->waiting);
}

enum err stream_tls_flush(struct net_stream *stream) {
    for (;;) {
        while (stream->waiting_at < stream->waiting_length) {
            size_t sent;
            enum err err = stream_send(stream, stream->waiting + stream->waiting_at,
                                       stream->waiting_length - stream->waiting_at, &sent);
            if (err == ERR_AGAIN) {
                stream_watch(stream, LOOP_WRITABLE);
            }
            if (err) {
                return err;
            }
            stream->waiting_at += sent;
        }
        stream->waiting_at = stream->waiting_length = 0;
        int length = BIO_read(stream->to_peer, stream->waiting, PIECE_BYTES);
        if (length <= 0) {
            return ERR_OK;
        }
        stream->waiting_length = (size_t)length;
    }
}

/* Takes what the peer has sent. AGAIN: nothing; CONNRESET: its side is closed. */
static enum err pull(struct net_stream *stream) {
    uint8_t piece[4096];
    size_t length;
    enum err err = stream_receive(stream, piece, sizeof piece, &length);
    if (err) {
        return err;
    }
    if (length == 0) {
        return ERR_CONNRESET;
    }
    return BIO_write(stream->from_peer, piece, (int)length) == (int)length ? ERR_OK : ERR_NOMEM;
}

enum err stream_tls_handshake(struct net_stream *stream, struct buf *message) {
    for (;;) {
        ERR_clear_error();
        int result = SSL_do_handshake(stream->ssl);
        int what = SSL_get_error(stream->ssl, result);
        enum err err = stream_tls_flush(stream);
        if (err && err != ERR_AGAIN) {
            return err;
        }
        if (result == 1) {
            return ERR_OK;
        }
        if (what != SSL_ERROR_WANT_READ) {
            return fail_tls(stream, message);
        }
        err = pull(stream);
        if (err == ERR_AGAIN) {
            stream_watch(stream, LOOP_READABLE);
        }
        if (err) {
            return err;
        }
    }
}

enum err stream_tls_read(struct net_stream *stream, void *data, size_t length, size_t *ret_read,
                         struct buf *message) {
    for (;;) {
        ERR_clear_error();
        size_t got = 0;
        int result = SSL_read_ex(stream->ssl, data, length, &got);
        int what = SSL_get_error(stream->ssl, result);
        enum err err = stream_tls_flush(stream); /* an answer to a change of keys */
        if (err && err != ERR_AGAIN) {
            return err;
        }
        if (result == 1) {
            *ret_read = got;
            return ERR_OK;
        }
        if (what == SSL_ERROR_ZERO_RETURN) {
            *ret_read = 0;
            return ERR_OK;
        }
        if (what != SSL_ERROR_WANT_READ) {
            return fail_tls(stream, message);
        }
        err = pull(stream);
        if (err == ERR_CONNRESET) {
            return buf_fail(message, ERR_CONNRESET,
                            "%s closed the connection without the end that TLS has: what came may "
                            "have been cut",
                            stream->host.name);
        }
        if (err) {
            return err;
        }
    }
}

enum err stream_tls_write(struct net_stream *stream, const void *data, size_t length,
                          size_t *ret_written) {
    enum err err = stream_tls_flush(stream);
    if (err) {
        return err;
    }
    ERR_clear_error();
    size_t taken = 0;
    if (SSL_write_ex(stream->ssl, data, MIN(length, (size_t)RECORD_BYTES), &taken) != 1) {
        return fail_tls(stream, NULL);
    }
    err = stream_tls_flush(stream);
    if (err && err != ERR_AGAIN) {
        return err;
    }
    *ret_written = taken;
    return ERR_OK;
}

void stream_tls_end(struct net_stream *stream) {
    ERR_clear_error();
    (void)SSL_shutdown(stream->ssl);
    ERR_clear_error();
    (void)!stream_tls_flush(stream); /* watched if it waits; an error shows at the next read */
}

enum err stream_tls_peek(struct net_stream *stream, size_t *ret_bytes) {
    for (;;) {
        uint8_t byte;
        size_t got = 0;
        ERR_clear_error();
        int result = SSL_peek_ex(stream->ssl, &byte, sizeof byte, &got);
        int what = SSL_get_error(stream->ssl, result);
        if (result == 1) {
            *ret_bytes = (size_t)SSL_pending(stream->ssl);
            return ERR_OK;
        }
        enum err err = what == SSL_ERROR_WANT_READ ? pull(stream) : ERR_IO;
        if (err == ERR_AGAIN) {
            return err;
        }
        if (err) {
            *ret_bytes = 0; /* a read tells which */
            return ERR_OK;
        }
    }
}
