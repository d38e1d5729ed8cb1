/* fd_readdir. */
#include "wasi/wasi_test_fixture.h"

struct entry {
    uint64_t next, inode;
    uint32_t type;
    char name[256];
};

/* Reads one buffer of `size` bytes from `cookie` on; fills in the whole entries in it. Returns how
 * many; `*ret_end`: the buffer was not filled. */
static size_t read_entries(struct fixture *f, uint32_t fd, uint64_t cookie, uint32_t size,
                           struct entry *entries, size_t capacity, bool *ret_end) {
    memset(f->memory + AT_DATA, 0xff, size);
    OK(f, fd_readdir, fd, AT_DATA, size, cookie, AT_RESULT);
    uint32_t used = get_u32(f, AT_RESULT), at = 0;
    assert_true(used <= size);
    *ret_end = used < size;
    size_t count = 0;
    while (at + DIRENT_SIZE <= used && count < capacity) {
        const uint8_t *bytes = f->memory + AT_DATA + at;
        uint32_t length = layout_get_u32(bytes + DIRENT_NAMLEN);
        assert_true(length <= 255);
        if (at + DIRENT_SIZE + length > used)
            break;
        struct entry *entry = &entries[count++];
        entry->next = layout_get_u64(bytes + DIRENT_NEXT);
        entry->inode = layout_get_u64(bytes + DIRENT_INO);
        entry->type = layout_get_u32(bytes + DIRENT_TYPE); /* with the padding: zero */
        memcpy(entry->name, bytes + DIRENT_SIZE, length);
        entry->name[length] = 0;
        at += DIRENT_SIZE + length;
    }
    return count;
}

static void test_empty_and_one(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    uint32_t fd = must_open(f, "dir", OFLAG_DIRECTORY, 0, 0);
    struct entry entries[4];
    bool end;
    assert_int_equal(read_entries(f, fd, 0, 256, entries, 4, &end), 2);
    assert_true(end);
    assert_string_equal(entries[0].name, ".");
    assert_string_equal(entries[1].name, "..");
    assert_int_equal(entries[0].type, FILE_DIRECTORY);
    OK(f, fd_filestat_get, fd, AT_STRUCT);
    assert_int_equal(entries[0].inode, get_u64(f, AT_STRUCT + FILESTAT_INO));
    assert_int_not_equal(entries[1].inode, 0);
    /* From cookie 0 on the directory is seen as it is now. */
    must_make_file(f, "dir/file", "x");
    assert_int_equal(read_entries(f, fd, 0, 256, entries, 4, &end), 3);
    assert_string_equal(entries[2].name, "file");
    assert_int_equal(entries[2].type, FILE_REGULAR);
    OK(f, path_filestat_get, FD_ROOT, 0, PATH(f, "dir/file"), AT_STRUCT);
    assert_int_equal(entries[2].inode, get_u64(f, AT_STRUCT + FILESTAT_INO));
    uint64_t cookie = entries[1].next;
    assert_int_equal(read_entries(f, fd, cookie, 256, entries, 4, &end), 1);
    assert_true(end);
    assert_string_equal(entries[0].name, "file");
    /* At the end, and beyond. */
    assert_int_equal(read_entries(f, fd, entries[0].next, 256, entries, 4, &end), 0);
    assert_int_equal(read_entries(f, fd, UINT64_MAX, 256, entries, 4, &end), 0);
    assert_true(end);
}

static void count_in_buffers_of(struct fixture *f, uint32_t fd, uint32_t size, size_t expected) {
    static struct entry entries[128];
    size_t total = 0;
    uint64_t cookie = 0;
    bool end = false;
    while (!end) {
        size_t count = read_entries(f, fd, cookie, size, entries, 128, &end);
        assert_true(count > 0 || end);
        total += count;
        if (count > 0)
            cookie = entries[count - 1].next;
    }
    assert_int_equal(total, expected);
}

static void test_many(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    char path[64];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(path, sizeof(path), "dir/file.%u", i);
        must_make_file(f, path, "");
    }
    uint32_t fd = must_open(f, "dir", OFLAG_DIRECTORY, 0, 0);
    count_in_buffers_of(f, fd, 64, 102);
    count_in_buffers_of(f, fd, 128, 102); /* Rust begins with this */
    count_in_buffers_of(f, fd, 256, 102);
    count_in_buffers_of(f, fd, 100000, 102);
    /* The snapshot does not change under the reader. */
    static struct entry entries[200];
    bool end;
    size_t first = read_entries(f, fd, 0, 1000, entries, 200, &end);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(path, sizeof(path), "dir/file.%u", i);
        OK(f, path_unlink_file, FD_ROOT, PATH(f, path));
    }
    size_t rest = read_entries(f, fd, entries[first - 1].next, 100000, entries, 200, &end);
    assert_int_equal(first + rest, 102);
}

/* A snapshot of a long directory ends the run's turn, each time. */
static void test_long(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    char path[64];
    for (unsigned i = 0; i < 1200; i++) {
        snprintf(path, sizeof(path), "dir/file.%u", i);
        must_make_file(f, path, "");
    }
    uint32_t fd = must_open(f, "dir", OFLAG_DIRECTORY, 0, 0);
    for (int again = 0; again < 2; again++) {
        count_in_buffers_of(f, fd, 4096, 1202);
    }
}

static void test_buffer_is_filled(void **state) {
    struct fixture *f = *state;
    must_make_directory(f, "dir");
    must_make_file(f, "dir/a-longer-name", "");
    uint32_t fd = must_open(f, "dir", OFLAG_DIRECTORY, 0, 0);
    /* Every size is filled to its end with the beginning of the same bytes; less means the end. */
    const uint32_t whole = 3 * DIRENT_SIZE + 1 + 2 + 13;
    OK(f, fd_readdir, fd, AT_DATA, 1000, 0, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), whole);
    uint8_t bytes[200];
    memcpy(bytes, f->memory + AT_DATA, whole);
    for (uint32_t size = 0; size <= whole; size++) {
        memset(f->memory + AT_DATA, 0xaa, 200);
        OK(f, fd_readdir, fd, AT_DATA, size, 0, AT_RESULT);
        assert_int_equal(get_u32(f, AT_RESULT), size);
        assert_memory_equal(f->memory + AT_DATA, bytes, size);
        assert_int_equal(f->memory[AT_DATA + size], 0xaa);
    }
    OK(f, fd_readdir, fd, GUEST_BYTES - 10, 10, 0, AT_RESULT);
    EXPECT(ERR_FAULT, f, fd_readdir, fd, GUEST_BYTES - 10, 11, 0, AT_RESULT);
    EXPECT(ERR_FAULT, f, fd_readdir, fd, AT_DATA, 10, 0, GUEST_BYTES - 3);
    EXPECT(ERR_FAULT, f, fd_readdir, fd, 1, UINT32_MAX, 0, AT_RESULT);
}

static void test_mounts_and_links_are_listed(void **state) {
    struct fixture *f = *state;
    must_make_link(f, "x", "link");
    struct entry entries[8];
    bool end;
    size_t count = read_entries(f, FD_ROOT, 0, 1000, entries, 8, &end);
    assert_int_equal(count, 4);
    unsigned seen = 0;
    for (size_t i = 2; i < count; i++) {
        seen |= strcmp(entries[i].name, "other") == 0 && entries[i].type == FILE_DIRECTORY ? 1u : 0;
        seen |=
            strcmp(entries[i].name, "link") == 0 && entries[i].type == FILE_SYMBOLIC_LINK ? 2u : 0;
    }
    assert_int_equal(seen, 3);
}

static void test_errors(void **state) {
    struct fixture *f = *state;
    must_make_file(f, "file", "");
    EXPECT(ERR_NOTDIR, f, fd_readdir, must_open(f, "file", 0, RIGHTS_READ, 0), AT_DATA, 100, 0,
           AT_RESULT);
    EXPECT(ERR_NOTDIR, f, fd_readdir, FD_STDIN, AT_DATA, 100, 0, AT_RESULT);
    EXPECT(ERR_BADF, f, fd_readdir, 99, AT_DATA, 100, 0, AT_RESULT);
}

static void test_snapshots_are_limited(void **state) {
    (void)state;
    struct wasi_limits limits = wasi_limits_default;
    limits.listing_bytes = 10000;
    struct fixture *f = fixture_new(&limits, GUEST_BYTES);
    char path[64];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(path, sizeof(path), "file.%u", i);
        must_make_file(f, path, "");
    }
    uint32_t fds[20];
    unsigned refused = 0;
    for (unsigned i = 0; i < ARRAY_LENGTH(fds); i++) {
        fds[i] = must_open(f, ".", OFLAG_DIRECTORY, 0, 0);
        enum err err = CALL(f, fd_readdir, fds[i], AT_DATA, 100, 0, AT_RESULT);
        assert_true(err == ERR_OK || err == ERR_NOMEM);
        refused += err == ERR_NOMEM;
    }
    assert_true(refused > 0 && refused < ARRAY_LENGTH(fds));
    /* Closing gives back; reading again replaces. */
    OK(f, fd_readdir, fds[0], AT_DATA, 100, 0, AT_RESULT);
    OK(f, fd_close, fds[0]);
    OK(f, fd_readdir, fds[ARRAY_LENGTH(fds) - 1], AT_DATA, 100, 0, AT_RESULT);
    fixture_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_empty_and_one),
        FIXTURE_TEST(test_many),
        FIXTURE_TEST(test_long),
        FIXTURE_TEST(test_buffer_is_filled),
        FIXTURE_TEST(test_mounts_and_links_are_listed),
        FIXTURE_TEST(test_errors),
        cmocka_unit_test(test_snapshots_are_limited),
        SLOW_TEST(test_empty_and_one),
        SLOW_TEST(test_many),
        SLOW_TEST(test_buffer_is_filled),
        SLOW_TEST(test_mounts_and_links_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
