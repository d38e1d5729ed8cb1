#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* FIPS 180-4's examples. */
static const char of_nothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char of_abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char of_a_million_a[] =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void assert_hash(const uint8_t hash[SHA256_SIZE], const char *expected) {
    char text[SHA256_TEXT_SIZE];
    sha256_to_text(hash, text);
    assert_string_equal(text, expected);
}

static void test_one_shot(void **state) {
    (void)state;
    uint8_t hash[SHA256_SIZE];
    assert_int_equal(sha256_of("abc", 3, hash), ERR_OK);
    assert_hash(hash, of_abc);
    assert_int_equal(sha256_of(NULL, 0, hash), ERR_OK);
    assert_hash(hash, of_nothing);
}

static void test_in_pieces(void **state) {
    (void)state;
    char piece[1000];
    memset(piece, 'a', sizeof piece);
    struct sha256 sha256;
    uint8_t hash[SHA256_SIZE];
    assert_int_equal(sha256_init(&sha256), ERR_OK);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(sha256_update(&sha256, piece, sizeof piece), ERR_OK);
    }
    assert_int_equal(sha256_final(&sha256, hash), ERR_OK);
    assert_hash(hash, of_a_million_a);
    sha256_done(&sha256);

    assert_int_equal(sha256_init(&sha256), ERR_OK);
    sha256_done(&sha256); /* given up */
}

static void test_file(void **state) {
    (void)state;
    int descriptor = memfd_create("test", MFD_CLOEXEC);
    assert_true(descriptor >= 0);
    static char data[1000000];
    memset(data, 'a', sizeof data);
    assert_int_equal(write(descriptor, data, sizeof data), sizeof data);
    uint8_t hash[SHA256_SIZE];
    assert_int_equal(sha256_of_descriptor(descriptor, hash), ERR_OK); /* not from the position */
    assert_hash(hash, of_a_million_a);
    close(descriptor);
    memset(hash, 7, sizeof hash);
    assert_int_equal(sha256_of_file("/dev/null/none", hash), ERR_NOTDIR);
    assert_int_equal(sha256_of_file("/proc/self/exe", hash), ERR_LOOP);
    assert_int_equal(sha256_of_descriptor(-1, hash), ERR_BADF);
    assert_int_equal(hash[0], 7);
}

static void test_text(void **state) {
    (void)state;
    uint8_t hash[SHA256_SIZE];
    assert_int_equal(sha256_from_text(str_of(of_abc), hash), ERR_OK);
    assert_hash(hash, of_abc);
    char text[SHA256_TEXT_SIZE];
    memcpy(text, of_abc, sizeof text);
    for (size_t i = 0; text[i]; i++) {
        text[i] = (char)(text[i] >= 'a' ? text[i] - 32 : text[i]);
    }
    assert_int_equal(sha256_from_text(str_of(text), hash), ERR_OK);
    assert_hash(hash, of_abc);
    assert_int_equal(sha256_from_text((struct str){of_abc, 63}, hash), ERR_INVAL);
    text[63] = 'g';
    assert_int_equal(sha256_from_text(str_of(text), hash), ERR_INVAL);
    text[63] = '/';
    assert_int_equal(sha256_from_text(str_of(text), hash), ERR_INVAL);
    assert_hash(hash, of_abc); /* untouched */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_in_pieces),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
