#include "base/aead.h"

#include "base/clock.h"

#include <limits.h>
#include <openssl/evp.h>

enum { NONCE_SIZE = 12, TAG_SIZE = 16 };
_Static_assert(NONCE_SIZE + TAG_SIZE == AEAD_EXTRA, "what is added");

static void cipher_done(EVP_CIPHER_CTX **context) {
    EVP_CIPHER_CTX_free(*context);
}

enum err aead_seal(const uint8_t key[AEAD_KEY_SIZE], struct str associated, struct str plain,
                   struct buf *ret_sealed) {
    if (plain.length > INT_MAX - AEAD_EXTRA || associated.length > INT_MAX) {
        return ERR_FBIG;
    }
    __attribute__((cleanup(cipher_done))) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    enum err err = context ? buf_reserve(ret_sealed, plain.length + AEAD_EXTRA) : ERR_NOMEM;
    if (err) {
        return err;
    }
    uint8_t *nonce = ret_sealed->data + ret_sealed->length;
    uint8_t *content = nonce + NONCE_SIZE, *tag = content + plain.length;
    random_bytes(nonce, NONCE_SIZE);
    int length = 0;
    bool done = EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
                (associated.length == 0 ||
                 EVP_EncryptUpdate(context, NULL, &length, (const uint8_t *)associated.data,
                                   (int)associated.length) == 1) &&
                (plain.length == 0 ||
                 EVP_EncryptUpdate(context, content, &length, (const uint8_t *)plain.data,
                                   (int)plain.length) == 1) &&
                EVP_EncryptFinal_ex(context, tag, &length) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, tag) == 1;
    if (done) {
        ret_sealed->length += plain.length + AEAD_EXTRA;
    }
    ret_sealed->data[ret_sealed->length] = 0;
    return done ? ERR_OK : ERR_IO;
}

enum err aead_open(const uint8_t key[AEAD_KEY_SIZE], struct str associated, struct str sealed,
                   struct buf *ret_plain) {
    if (sealed.length < AEAD_EXTRA || sealed.length > INT_MAX || associated.length > INT_MAX) {
        return ERR_IO;
    }
    size_t plain_length = sealed.length - AEAD_EXTRA;
    __attribute__((cleanup(cipher_done))) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    enum err err = context ? buf_reserve(ret_plain, plain_length) : ERR_NOMEM;
    if (err) {
        return err;
    }
    const uint8_t *nonce = (const uint8_t *)sealed.data;
    const uint8_t *content = nonce + NONCE_SIZE;
    uint8_t tag[TAG_SIZE];
    memcpy(tag, content + plain_length, sizeof tag);
    uint8_t *plain = ret_plain->data ? ret_plain->data + ret_plain->length : tag;
    int length = 0;
    bool done = EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
                (associated.length == 0 ||
                 EVP_DecryptUpdate(context, NULL, &length, (const uint8_t *)associated.data,
                                   (int)associated.length) == 1) &&
                (plain_length == 0 ||
                 EVP_DecryptUpdate(context, plain, &length, content, (int)plain_length) == 1) &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) == 1 &&
                EVP_DecryptFinal_ex(context, plain + plain_length, &length) == 1;
    if (done) {
        ret_plain->length += plain_length;
    } else if (plain_length > 0) {
        explicit_bzero(plain, plain_length); /* what is not authentic is nobody's */
    }
    if (ret_plain->data) {
        ret_plain->data[ret_plain->length] = 0;
    }
    return done ? ERR_OK : ERR_IO;
}
