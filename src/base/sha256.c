#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

enum { CHUNK_BYTES = 64 * 1024 };

enum err sha256_init(struct sha256 *sha256) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context) {
        return ERR_NOMEM;
    }
    if (EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(context);
        return ERR_NOMEM;
    }
    sha256->context = context;
    return ERR_OK;
}

enum err sha256_update(struct sha256 *sha256, const void *data, size_t length) {
    if (length == 0) {
        return ERR_OK;
    }
    return EVP_DigestUpdate(sha256->context, data, length) == 1 ? ERR_OK : ERR_IO;
}

enum err sha256_final(struct sha256 *sha256, uint8_t ret_hash[SHA256_SIZE]) {
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool ended = EVP_DigestFinal_ex(sha256->context, hash, &size) == 1 && size == SHA256_SIZE;
    sha256_done(sha256);
    if (!ended) {
        return ERR_IO;
    }
    memcpy(ret_hash, hash, SHA256_SIZE);
    return ERR_OK;
}

void sha256_done(struct sha256 *sha256) {
    EVP_MD_CTX_free(sha256->context);
    sha256->context = NULL;
}

enum err sha256_of(const void *data, size_t length, uint8_t ret_hash[SHA256_SIZE]) {
    struct sha256 sha256;
    enum err err = sha256_init(&sha256);
    if (err) {
        return err;
    }
    err = sha256_update(&sha256, data, length);
    if (err) {
        sha256_done(&sha256);
        return err;
    }
    return sha256_final(&sha256, ret_hash);
}

static enum err update_from_descriptor(struct sha256 *sha256, int descriptor, uint8_t *chunk) {
    for (off_t offset = 0;;) {
        ssize_t got = pread(descriptor, chunk, CHUNK_BYTES, offset);
        if (got == 0) {
            return ERR_OK;
        }
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return err_from_errno(errno);
        }
        enum err err = sha256_update(sha256, chunk, (size_t)got);
        if (err) {
            return err;
        }
        offset += got;
    }
}

enum err sha256_of_descriptor(int descriptor, uint8_t ret_hash[SHA256_SIZE]) {
    cleanup_free uint8_t *chunk = malloc(CHUNK_BYTES);
    if (!chunk) {
        return ERR_NOMEM;
    }
    struct sha256 sha256;
    enum err err = sha256_init(&sha256);
    if (err) {
        return err;
    }
    err = update_from_descriptor(&sha256, descriptor, chunk);
    if (err) {
        sha256_done(&sha256);
        return err;
    }
    return sha256_final(&sha256, ret_hash);
}

enum err sha256_of_file(const char *path, uint8_t ret_hash[SHA256_SIZE]) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) {
        return err_from_errno(errno);
    }
    enum err err = sha256_of_descriptor(descriptor, ret_hash);
    close(descriptor);
    return err;
}

void sha256_to_text(const uint8_t hash[SHA256_SIZE], char text[SHA256_TEXT_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    text[SHA256_TEXT_SIZE - 1] = 0;
}

enum err sha256_from_text(struct str text, uint8_t ret_hash[SHA256_SIZE]) {
    uint8_t hash[SHA256_SIZE];
    if (text.length != 2 * SHA256_SIZE) {
        return ERR_INVAL;
    }
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        int high = str_hexadecimal(text.data[2 * i]);
        int low = str_hexadecimal(text.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return ERR_INVAL;
        }
        hash[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret_hash, hash, SHA256_SIZE);
    return ERR_OK;
}
