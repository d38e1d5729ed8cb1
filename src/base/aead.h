/* Authenticated encryption: AES-256-GCM (NIST SP 800-38D) by libcrypto.
 *
 * What is sealed begins with a random nonce of 96 bits and ends with the tag: a key is good for
 * 2^32 of them, far more than are ever written here. `associated` is not stored, but has to be the
 * same when it is opened: it binds what is sealed to its place. Thread: any. */
#pragma once

#include "base/buf.h"

#define AEAD_KEY_SIZE 32
#define AEAD_EXTRA 28 /* bytes that are added: the nonce and the tag */

/* Appends to `ret_sealed`. */
MUST_USE enum err aead_seal(const uint8_t key[AEAD_KEY_SIZE], struct str associated,
                            struct str plain, struct buf *ret_sealed);
/* Appends to `ret_plain`, which is the caller's to wipe. IO: altered, or sealed by another key or
 * for another place; then nothing is appended. */
MUST_USE enum err aead_open(const uint8_t key[AEAD_KEY_SIZE], struct str associated,
                            struct str sealed, struct buf *ret_plain);
