/* SHA-256 (FIPS 180-4) by libcrypto. Thread: a hash is its owner's; the functions any. */
#pragma once

#include "base/buf.h"

#define SHA256_SIZE 32
#define SHA256_TEXT_SIZE 65 /* hexadecimal digits and a NUL */

/* A hash on its way: sha256_init, any number of sha256_update, then sha256_final or sha256_done. */
struct sha256 {
    void *context; /* libcrypto's */
};
MUST_USE enum err sha256_init(struct sha256 *sha256);
MUST_USE enum err sha256_update(struct sha256 *sha256, const void *data, size_t length);
/* Ends it, also when it fails. */
MUST_USE enum err sha256_final(struct sha256 *sha256, uint8_t ret_hash[SHA256_SIZE]);
/* Gives it up; harmless after sha256_final. */
void sha256_done(struct sha256 *sha256);

MUST_USE enum err sha256_of(const void *data, size_t length, uint8_t ret_hash[SHA256_SIZE]);
/* The hash of an open file's content from its beginning; its position does not move. Blocking. */
MUST_USE enum err sha256_of_descriptor(int descriptor, uint8_t ret_hash[SHA256_SIZE]);
/* The hash of a file; a symbolic link is not followed (LOOP). Blocking. */
MUST_USE enum err sha256_of_file(const char *path, uint8_t ret_hash[SHA256_SIZE]);

/* As 64 lower-case digits and a NUL. */
void sha256_to_text(const uint8_t hash[SHA256_SIZE], char text[SHA256_TEXT_SIZE]);
/* From exactly 64 hexadecimal digits of either case; INVAL otherwise. */
MUST_USE enum err sha256_from_text(struct str text, uint8_t ret_hash[SHA256_SIZE]);
