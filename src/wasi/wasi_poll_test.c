/* poll_oneoff. */
#include "wasi/wasi_test_fixture.h"

static void put_clock(struct fixture *f, uint32_t index, uint64_t userdata, uint32_t id,
                      uint64_t timeout, uint16_t flags) {
    uint8_t *bytes = f->memory + AT_STRUCT + index * SUBSCRIPTION_SIZE;
    memset(bytes, 0xcc, SUBSCRIPTION_SIZE); /* padding is the guest's garbage */
    layout_put_u64(bytes + SUBSCRIPTION_USERDATA, userdata);
    bytes[SUBSCRIPTION_TAG] = EVENTTYPE_CLOCK;
    layout_put_u32(bytes + SUBSCRIPTION_CLOCK_ID, id);
    layout_put_u64(bytes + SUBSCRIPTION_CLOCK_TIMEOUT, timeout);
    layout_put_u16(bytes + SUBSCRIPTION_CLOCK_FLAGS, flags);
}
static void put_fd(struct fixture *f, uint32_t index, uint64_t userdata, uint8_t tag, uint32_t fd) {
    uint8_t *bytes = f->memory + AT_STRUCT + index * SUBSCRIPTION_SIZE;
    memset(bytes, 0xcc, SUBSCRIPTION_SIZE);
    layout_put_u64(bytes + SUBSCRIPTION_USERDATA, userdata);
    bytes[SUBSCRIPTION_TAG] = tag;
    layout_put_u32(bytes + SUBSCRIPTION_FD, fd);
}
static enum err poll(struct fixture *f, uint32_t count) {
    layout_put_u32(f->memory + AT_RESULT, 0xffff);
    memset(f->memory + AT_EVENTS, 0xff, 20 * EVENT_SIZE);
    return CALL(f, poll_oneoff, AT_STRUCT, AT_EVENTS, count, AT_RESULT);
}
static void expect_event(struct fixture *f, uint32_t index, uint64_t userdata, enum err err,
                         uint8_t type, uint64_t bytes, uint16_t flags) {
    const uint8_t *event = f->memory + AT_EVENTS + index * EVENT_SIZE;
    uint8_t expected[EVENT_SIZE] = {0};
    layout_put_u64(expected + EVENT_USERDATA, userdata);
    layout_put_u16(expected + EVENT_ERROR, (uint16_t)err);
    expected[EVENT_TYPE] = type;
    layout_put_u64(expected + EVENT_NBYTES, bytes);
    layout_put_u16(expected + EVENT_FLAGS, flags);
    assert_memory_equal(event, expected, EVENT_SIZE);
}
static void expect_count(struct fixture *f, uint32_t count) {
    assert_int_equal(get_u32(f, AT_RESULT), count);
    assert_int_equal(f->memory[AT_EVENTS + count * EVENT_SIZE], 0xff);
}

static void test_clocks(void **state) {
    struct fixture *f = *state;
    put_clock(f, 0, 42, CLOCKID_MONOTONIC, 0, 0);
    assert_int_equal(poll(f, 1), ERR_OK);
    expect_count(f, 1);
    expect_event(f, 0, 42, ERR_OK, EVENTTYPE_CLOCK, 0, 0);
    /* Only those that have come. */
    put_clock(f, 0, 1, CLOCKID_MONOTONIC, NS_PER_S * 3600, 0);
    put_clock(f, 1, 2, CLOCKID_REALTIME, 0, 0);
    put_clock(f, 2, 3, CLOCKID_REALTIME, 1000, SUBCLOCKFLAG_ABSTIME); /* 1970 */
    put_clock(f, 3, 4, CLOCKID_MONOTONIC, 0, SUBCLOCKFLAG_ABSTIME);
    put_clock(f, 4, 5, CLOCKID_REALTIME, UINT64_MAX, SUBCLOCKFLAG_ABSTIME);
    put_clock(f, 5, 6, CLOCKID_MONOTONIC, UINT64_MAX, 0);
    assert_int_equal(poll(f, 6), ERR_OK);
    expect_count(f, 3);
    expect_event(f, 0, 2, ERR_OK, EVENTTYPE_CLOCK, 0, 0);
    expect_event(f, 1, 3, ERR_OK, EVENTTYPE_CLOCK, 0, 0);
    expect_event(f, 2, 4, ERR_OK, EVENTTYPE_CLOCK, 0, 0);
}

static void test_clocks_wait(void **state) {
    struct fixture *f = *state;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t short_ns = 2 * NS_PER_MS;
        bool absolute = i & 1;
        uint32_t id = i & 2 ? CLOCKID_REALTIME : CLOCKID_MONOTONIC;
        uint64_t now = id == CLOCKID_REALTIME ? clock_realtime_ns() : clock_monotonic_ns();
        uint64_t before = clock_monotonic_ns();
        put_clock(f, 0, 7, CLOCKID_MONOTONIC, 3600 * NS_PER_S, 0);
        put_clock(f, 1, 8, id, absolute ? now + short_ns : short_ns, absolute);
        uint64_t arguments[] = {AT_STRUCT, AT_EVENTS, 2, AT_RESULT};
        enum err err = fixture_begin(f, function_named("poll_oneoff"), arguments);
        assert_int_equal(err, ERR_PENDING);
        while (!f->is_woken)
            loop_turn(f->loop);
        assert_int_equal(fixture_go_on(f), ERR_OK);
        assert_int_equal(get_u32(f, AT_RESULT), 1);
        assert_int_equal(get_u64(f, AT_EVENTS + EVENT_USERDATA), 8);
        if (id == CLOCKID_MONOTONIC)
            assert_true(clock_monotonic_ns() - before >= short_ns); /* never early */
    }
}

static void test_endless_timeouts_wait(void **state) {
    struct fixture *f = *state;
    const uint64_t timeouts[] = {UINT64_MAX, UINT64_MAX - 1, (uint64_t)1 << 63};
    for (size_t i = 0; i < 2 * ARRAY_LENGTH(timeouts); i++) {
        put_clock(f, 0, 1, CLOCKID_MONOTONIC, timeouts[i / 2], i % 2);
        put_fd(f, 1, 2, EVENTTYPE_FD_READ, FD_STDIN);
        assert_int_equal(poll(f, 2), ERR_PENDING);
        test_file_feed(f->in, "x");
        assert_int_equal(fixture_go_on(f), ERR_OK);
        expect_count(f, 1);
        expect_event(f, 0, 2, ERR_OK, EVENTTYPE_FD_READ, 1, 0);
        must_read(f, FD_STDIN, 10, "x");
    }
}

static void test_descriptors(void **state) {
    struct fixture *f = *state;
    put_fd(f, 0, 1, EVENTTYPE_FD_READ, FD_STDIN);
    put_clock(f, 1, 2, CLOCKID_MONOTONIC, 3600 * NS_PER_S, 0);
    put_fd(f, 2, 3, EVENTTYPE_FD_WRITE, FD_STDOUT);
    f->out->room = 0;
    assert_int_equal(poll(f, 3), ERR_PENDING);
    f->out->room = 5;
    test_file_wake(f->out);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    expect_count(f, 1);
    expect_event(f, 0, 3, ERR_OK, EVENTTYPE_FD_WRITE, 5, 0);
    test_file_feed(f->in, "abc");
    assert_int_equal(poll(f, 3), ERR_OK);
    expect_count(f, 2);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_FD_READ, 3, 0);
    /* The end. */
    must_read(f, FD_STDIN, 10, "abc");
    f->in->input_ended = true;
    assert_int_equal(poll(f, 1), ERR_OK);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_FD_READ, 0, EVENTRWFLAG_HANGUP);
}

static void test_ready_suppresses_clock(void **state) {
    struct fixture *f = *state;
    put_clock(f, 0, 1, CLOCKID_REALTIME, 0, 0);
    put_fd(f, 1, 2, EVENTTYPE_FD_WRITE, FD_STDOUT);
    f->out->room = 9;
    assert_int_equal(poll(f, 2), ERR_OK);
    expect_count(f, 1);
    expect_event(f, 0, 2, ERR_OK, EVENTTYPE_FD_WRITE, 9, 0);
    f->out->room = 0;
    assert_int_equal(poll(f, 2), ERR_OK);
    expect_count(f, 1);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_CLOCK, 0, 0);
}

static void test_same_descriptor_twice(void **state) {
    struct fixture *f = *state;
    put_fd(f, 0, 1, EVENTTYPE_FD_READ, FD_STDIN);
    put_fd(f, 1, 2, EVENTTYPE_FD_READ, FD_STDIN);
    assert_int_equal(poll(f, 2), ERR_PENDING);
    test_file_feed(f->in, "ab");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    expect_count(f, 2);
    expect_event(f, 1, 2, ERR_OK, EVENTTYPE_FD_READ, 2, 0);
}

static void test_trouble_is_in_the_event(void **state) {
    struct fixture *f = *state;
    put_fd(f, 0, 1, EVENTTYPE_FD_READ, 99);
    put_fd(f, 1, 2, EVENTTYPE_FD_READ, FD_STDOUT); /* not open for reading */
    put_fd(f, 2, 3, EVENTTYPE_FD_READ, FD_ROOT);
    put_clock(f, 3, 4, 77, 0, 0);
    put_clock(f, 4, 5, CLOCKID_PROCESS_CPUTIME, 0, 0);
    put_clock(f, 5, 6, CLOCKID_MONOTONIC, 0, 2);
    put_fd(f, 6, 7, EVENTTYPE_FD_READ, FD_STDIN);
    put_clock(f, 7, 8, CLOCKID_MONOTONIC, 0, 0);
    assert_int_equal(poll(f, 8), ERR_OK);
    expect_count(f, 6);
    expect_event(f, 0, 1, ERR_BADF, EVENTTYPE_FD_READ, 0, 0);
    expect_event(f, 1, 2, ERR_BADF, EVENTTYPE_FD_READ, 0, 0);
    expect_event(f, 2, 3, ERR_BADF, EVENTTYPE_FD_READ, 0, 0);
    expect_event(f, 3, 4, ERR_INVAL, EVENTTYPE_CLOCK, 0, 0);
    expect_event(f, 4, 5, ERR_NOTSUP, EVENTTYPE_CLOCK, 0, 0);
    expect_event(f, 5, 6, ERR_INVAL, EVENTTYPE_CLOCK, 0, 0);
    f->in->next_error = ERR_IO;
    put_fd(f, 0, 7, EVENTTYPE_FD_READ, FD_STDIN);
    assert_int_equal(poll(f, 1), ERR_OK);
    expect_event(f, 0, 7, ERR_IO, EVENTTYPE_FD_READ, 0, 0);
}

static void test_files(void **state) {
    struct fixture *f = *state;
    uint32_t fd = must_open(f, "file", OFLAG_CREAT, RIGHTS_BOTH, 0);
    must_write(f, fd, "0123456789");
    put_fd(f, 0, 1, EVENTTYPE_FD_READ, fd);
    put_fd(f, 1, 2, EVENTTYPE_FD_WRITE, fd);
    put_clock(f, 2, 3, CLOCKID_MONOTONIC, 0, 0);
    assert_int_equal(poll(f, 3), ERR_OK);
    expect_count(f, 2);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_FD_READ, 0, EVENTRWFLAG_HANGUP);
    OK(f, fd_seek, fd, 4, WHENCE_SET, AT_RESULT);
    assert_int_equal(poll(f, 3), ERR_OK);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_FD_READ, 6, 0);
    expect_event(f, 1, 2, ERR_OK, EVENTTYPE_FD_WRITE, 0, 0);
}

/* A device that has an offset may still have nothing to read. */
static void test_device_with_offset(void **state) {
    struct fixture *f = *state;
    struct test_file *file = test_file_new(&test_file_dev, FILE_CHARACTER_DEVICE, FILE_SEEKABLE);
    uint32_t fd = must_add(f, file, OPEN_READ | OPEN_WRITE);
    put_fd(f, 0, 1, EVENTTYPE_FD_READ, fd);
    assert_int_equal(poll(f, 1), ERR_PENDING);
    test_file_feed(file, "abc");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    expect_event(f, 0, 1, ERR_OK, EVENTTYPE_FD_READ, 3, 0);
}

static void test_hostile(void **state) {
    struct fixture *f = *state;
    put_clock(f, 0, 1, CLOCKID_MONOTONIC, 0, 0);
    assert_int_equal(poll(f, 0), ERR_INVAL);
    const uint32_t counts[] = {
        4097,       10000,
        1000000,    1u << 31,
        UINT32_MAX, (uint32_t)((((uint64_t)1 << 32) + SUBSCRIPTION_SIZE) / SUBSCRIPTION_SIZE)};
    for (size_t i = 0; i < ARRAY_LENGTH(counts); i++)
        assert_int_equal(poll(f, counts[i]), ERR_NOMEM);
    EXPECT(ERR_FAULT, f, poll_oneoff, GUEST_BYTES - 47, AT_EVENTS, 1, AT_RESULT);
    EXPECT(ERR_FAULT, f, poll_oneoff, AT_STRUCT, GUEST_BYTES - 31, 1, AT_RESULT);
    EXPECT(ERR_FAULT, f, poll_oneoff, AT_STRUCT, AT_EVENTS, 1, GUEST_BYTES - 3);
    EXPECT(ERR_FAULT, f, poll_oneoff, 0xffffffe0, AT_EVENTS, 4096, AT_RESULT);
    memcpy(f->memory + GUEST_BYTES - 48, f->memory + AT_STRUCT, 48);
    OK(f, poll_oneoff, GUEST_BYTES - 48, GUEST_BYTES - 32, 1, AT_RESULT);
    put_fd(f, 0, 1, 3, FD_STDIN);
    assert_int_equal(poll(f, 1), ERR_INVAL);
    /* As many as are allowed; events over the subscriptions. */
    for (uint32_t i = 0; i < 1000; i++)
        put_clock(f, i, i, CLOCKID_MONOTONIC, 0, 0);
    OK(f, poll_oneoff, AT_STRUCT, AT_STRUCT, 1000, AT_RESULT);
    assert_int_equal(get_u32(f, AT_RESULT), 1000);
    assert_int_equal(get_u64(f, AT_STRUCT + 999 * EVENT_SIZE), 999);
}

static void test_killed_while_it_waits(void **state) {
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 10; i++)
        put_fd(f, i, i, EVENTTYPE_FD_READ, FD_STDIN);
    put_clock(f, 10, 0, CLOCKID_MONOTONIC, NS_PER_S, 0);
    assert_int_equal(poll(f, 11), ERR_PENDING);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_clocks),
        FIXTURE_TEST(test_clocks_wait),
        FIXTURE_TEST(test_endless_timeouts_wait),
        FIXTURE_TEST(test_descriptors),
        FIXTURE_TEST(test_ready_suppresses_clock),
        FIXTURE_TEST(test_same_descriptor_twice),
        FIXTURE_TEST(test_trouble_is_in_the_event),
        FIXTURE_TEST(test_files),
        FIXTURE_TEST(test_device_with_offset),
        FIXTURE_TEST(test_hostile),
        FIXTURE_TEST(test_killed_while_it_waits),
        SLOW_TEST(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
