/* What the tests of src/wasi share beyond the guest: calls that must succeed, with cmocka. */
#pragma once

#include "wasi/wasi_test_guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static inline int fixture_setup(void **state) {
    *state = fixture_new(&wasi_limits_default, GUEST_BYTES);
    return 0;
}
static inline int fixture_teardown(void **state) {
    fixture_free(*state);
    return 0;
}
static inline int fixture_setup_slow(void **state) {
    *state = fixture_make(&wasi_limits_default, GUEST_BYTES, true);
    return 0;
}
#define FIXTURE_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
/* The same test where every operation of a file system waits once. */
#define SLOW_TEST(test)                                                                            \
    { #test " (slow)", test, fixture_setup_slow, fixture_teardown, NULL }

#define CALL(f, name, ...)                                                                         \
    fixture_call(f, function_named(#name), (const uint64_t[]){__VA_ARGS__ __VA_OPT__(, ) 0})
#define EXPECT(error, f, name, ...) assert_int_equal(CALL(f, name, __VA_ARGS__), error)
#define OK(f, name, ...) EXPECT(ERR_OK, f, name, __VA_ARGS__)

static inline uint32_t get_u32(struct fixture *f, uint32_t address) {
    return layout_get_u32(f->memory + address);
}
static inline uint64_t get_u64(struct fixture *f, uint32_t address) {
    return layout_get_u64(f->memory + address);
}
static inline uint32_t put(struct fixture *f, uint32_t address, const void *data, size_t length) {
    INVARIANT(address + length <= f->memory_bytes);
    if (length > 0)
        memcpy(f->memory + address, data, length);
    return (uint32_t)length;
}
static inline void put_iovec(struct fixture *f, uint32_t index, uint32_t address, uint32_t length) {
    layout_put_u32(f->memory + AT_IOVECS + index * 8, address);
    layout_put_u32(f->memory + AT_IOVECS + index * 8 + 4, length);
}
#define PATH(f, text) AT_PATH, put(f, AT_PATH, text, strlen(text))
#define PATH_2(f, text) AT_PATH_2, put(f, AT_PATH_2, text, strlen(text))

#define RIGHTS_READ FD_RIGHT_READ
#define RIGHTS_WRITE FD_RIGHT_WRITE
#define RIGHTS_BOTH (FD_RIGHT_READ | FD_RIGHT_WRITE)

/* path_open from `descriptor` without following links. */
static inline enum err try_open(struct fixture *f, uint32_t descriptor, const char *path,
                                unsigned oflags, uint64_t rights, unsigned fd_flags) {
    return CALL(f, path_open, descriptor, 0, PATH(f, path), oflags, rights, FD_RIGHTS_ALL, fd_flags,
                AT_RESULT);
}
static inline uint32_t must_open(struct fixture *f, const char *path, unsigned oflags,
                                 uint64_t rights, unsigned fd_flags) {
    assert_int_equal(try_open(f, FD_ROOT, path, oflags, rights, fd_flags), ERR_OK);
    return get_u32(f, AT_RESULT);
}
static inline void must_close(struct fixture *f, uint32_t descriptor) {
    OK(f, fd_close, descriptor);
}
static inline uint32_t must_add(struct fixture *f, struct test_file *test_file,
                                unsigned open_flags) {
    uint32_t number = 0;
    while (fdtab_get(&f->wasi.descriptors, number))
        number++;
    assert_int_equal(wasi_add_stream(&f->wasi, &test_file->file, open_flags), ERR_OK);
    return number;
}
/* Writes `text` by one fd_write; the error, and the count at AT_RESULT. */
static inline enum err try_write(struct fixture *f, uint32_t descriptor, const char *text) {
    put_iovec(f, 0, AT_DATA, put(f, AT_DATA, text, strlen(text)));
    return CALL(f, fd_write, descriptor, AT_IOVECS, 1, AT_RESULT);
}
static inline void must_write(struct fixture *f, uint32_t descriptor, const char *text) {
    assert_int_equal(try_write(f, descriptor, text), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), strlen(text));
}
/* Reads up to `length` bytes to AT_DATA by one fd_read. */
static inline enum err try_read(struct fixture *f, uint32_t descriptor, uint32_t length) {
    put_iovec(f, 0, AT_DATA, length);
    return CALL(f, fd_read, descriptor, AT_IOVECS, 1, AT_RESULT);
}
static inline void must_read(struct fixture *f, uint32_t descriptor, uint32_t length,
                             const char *expected) {
    assert_int_equal(try_read(f, descriptor, length), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), strlen(expected));
    assert_memory_equal(f->memory + AT_DATA, expected, strlen(expected));
}
static inline void must_make_file(struct fixture *f, const char *path, const char *content) {
    uint32_t fd = must_open(f, path, OFLAG_CREAT | OFLAG_TRUNC, RIGHTS_BOTH, 0);
    must_write(f, fd, content);
    must_close(f, fd);
}
static inline void must_make_directory(struct fixture *f, const char *path) {
    OK(f, path_create_directory, FD_ROOT, PATH(f, path));
}
static inline void must_make_link(struct fixture *f, const char *target, const char *path) {
    OK(f, path_symlink, PATH(f, target), FD_ROOT, PATH_2(f, path));
}
static inline uint64_t size_of(struct fixture *f, const char *path) {
    OK(f, path_filestat_get, FD_ROOT, 0, PATH(f, path), AT_STRUCT);
    return get_u64(f, AT_STRUCT + FILESTAT_FILE_SIZE);
}
