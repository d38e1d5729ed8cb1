/* Sockets. */
#include "wasi/wasi_test_fixture.h"

static uint32_t add_socket(struct fixture *f, struct test_file **ret_socket) {
    *ret_socket = test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0);
    return must_add(f, *ret_socket, OPEN_READ | OPEN_WRITE);
}

static void test_accept(void **state) {
    struct fixture *f = *state;
    struct test_file *listener;
    uint32_t fd = add_socket(f, &listener);
    uint64_t arguments[] = {fd, FD_FLAG_NONBLOCK, AT_RESULT};
    assert_int_equal(fixture_begin(f, function_named("sock_accept"), arguments), ERR_PENDING);
    assert_int_equal(fixture_go_on(f), ERR_PENDING);
    listener->has_connection = true;
    test_file_wake(listener);
    assert_int_equal(fixture_go_on(f), ERR_OK);
    uint32_t connection = get_u32(f, AT_RESULT);
    assert_int_equal(connection, fd + 1);
    OK(f, fd_fdstat_get, connection, AT_STRUCT);
    assert_int_equal(f->memory[AT_STRUCT + FDSTAT_FILETYPE], FILE_SOCKET_STREAM);
    assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS), FD_FLAG_NONBLOCK);
    assert_int_equal(try_read(f, connection, 10), ERR_AGAIN);
    must_write(f, connection, "answer");

    OK(f, fd_fdstat_set_flags, fd, FD_FLAG_NONBLOCK);
    EXPECT(ERR_AGAIN, f, sock_accept, fd, 0, AT_RESULT);
    EXPECT(ERR_INVAL, f, sock_accept, fd, 32, AT_RESULT);
    /* Nothing is taken that can't be delivered. */
    listener->has_connection = true;
    EXPECT(ERR_FAULT, f, sock_accept, fd, 0, GUEST_BYTES - 3);
    while (try_open(f, FD_ROOT, ".", 0, 0, 0) == ERR_OK)
        ;
    EXPECT(ERR_NFILE, f, sock_accept, fd, 0, AT_RESULT);
    assert_true(listener->has_connection);
    EXPECT(ERR_NOTSOCK, f, sock_accept, FD_STDIN, 0, AT_RESULT);
    EXPECT(ERR_BADF, f, sock_accept, FD_ROOT, 0, AT_RESULT);
    EXPECT(ERR_BADF, f, sock_accept, 9999, 0, AT_RESULT);
}

/* Go asks for the flags of the listening socket that it was given, and needs it to be non-blocking;
 * Rust and C do not ask, and wait in accept. */
static void test_listener_is_what_is_expected(void **state) {
    struct fixture *f = *state;
    for (int sets_flags = 0; sets_flags < 2; sets_flags++) {
        struct test_file *listener = test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0);
        uint32_t fd = f->wasi.descriptors.count;
        assert_int_equal(wasi_add_listener(&f->wasi, &listener->file), ERR_OK);
        uint64_t arguments[] = {fd, 0, AT_RESULT};
        assert_int_equal(fixture_begin(f, function_named("sock_accept"), arguments), ERR_PENDING);
        listener->has_connection = true;
        test_file_wake(listener);
        assert_int_equal(fixture_go_on(f), ERR_OK);
        listener->has_connection = false;
        if (sets_flags) {
            OK(f, fd_fdstat_set_flags, fd, 0); /* its word counts */
        }
        OK(f, fd_fdstat_get, fd, AT_STRUCT);
        assert_int_equal(layout_get_u16(f->memory + AT_STRUCT + FDSTAT_FLAGS),
                         sets_flags ? 0 : FD_FLAG_NONBLOCK);
        if (!sets_flags) {
            EXPECT(ERR_AGAIN, f, sock_accept, fd, 0, AT_RESULT);
        }
    }
}

static void test_receive_and_send(void **state) {
    struct fixture *f = *state;
    struct test_file *socket;
    uint32_t fd = add_socket(f, &socket);
    test_file_feed(socket, "question");
    put_iovec(f, 0, AT_DATA, 100);
    layout_put_u16(f->memory + AT_RESULT_2, 0xffff);
    OK(f, sock_recv, fd, AT_IOVECS, 1, 0, AT_RESULT, AT_RESULT_2);
    assert_int_equal(get_u32(f, AT_RESULT), 8);
    assert_int_equal(layout_get_u16(f->memory + AT_RESULT_2), 0);
    put_iovec(f, 0, AT_DATA, put(f, AT_DATA, "answer", 6));
    OK(f, sock_send, fd, AT_IOVECS, 1, 0, AT_RESULT);
    assert_memory_equal(socket->output.data, "answer", 6);
    EXPECT(ERR_INVAL, f, sock_send, fd, AT_IOVECS, 1, 1, AT_RESULT);
    EXPECT(ERR_INVAL, f, sock_recv, fd, AT_IOVECS, 1, 4, AT_RESULT, AT_RESULT_2);
    EXPECT(ERR_NOTSUP, f, sock_recv, fd, AT_IOVECS, 1, RIFLAG_RECV_PEEK, AT_RESULT, AT_RESULT_2);
    test_file_feed(socket, "kept");
    EXPECT(ERR_FAULT, f, sock_recv, fd, AT_IOVECS, 1, 0, AT_RESULT, GUEST_BYTES - 1);
    must_read(f, fd, 10, "kept");
    EXPECT(ERR_NOTSOCK, f, sock_recv, FD_STDIN, AT_IOVECS, 1, 0, AT_RESULT, AT_RESULT_2);
    EXPECT(ERR_NOTSOCK, f, sock_send, FD_STDOUT, AT_IOVECS, 1, 0, AT_RESULT);
}

static void test_wait_for_all(void **state) {
    struct fixture *f = *state;
    struct test_file *socket;
    uint32_t fd = add_socket(f, &socket);
    put_iovec(f, 0, AT_DATA, 2);
    put_iovec(f, 1, AT_DATA + 2, 4);
    uint64_t arguments[] = {fd, AT_IOVECS, 2, RIFLAG_RECV_WAITALL, AT_RESULT, AT_RESULT_2};
    assert_int_equal(fixture_begin(f, function_named("sock_recv"), arguments), ERR_PENDING);
    test_file_feed(socket, "abc");
    assert_int_equal(fixture_go_on(f), ERR_PENDING);
    test_file_feed(socket, "defgh");
    assert_int_equal(fixture_go_on(f), ERR_OK);
    assert_int_equal(get_u32(f, AT_RESULT), 6);
    assert_memory_equal(f->memory + AT_DATA, "abcdef", 6);
    /* Or for the end. */
    socket->input_ended = true;
    OK(f, sock_recv, fd, AT_IOVECS, 2, RIFLAG_RECV_WAITALL, AT_RESULT, AT_RESULT_2);
    assert_int_equal(get_u32(f, AT_RESULT), 2);
}

static void test_shutdown(void **state) {
    struct fixture *f = *state;
    struct test_file *socket;
    uint32_t fd = add_socket(f, &socket);
    OK(f, sock_shutdown, fd, SDFLAG_WR);
    assert_int_equal(socket->shutdown_flags, SHUTDOWN_WRITE);
    OK(f, sock_shutdown, fd, SDFLAG_RD | SDFLAG_WR);
    assert_int_equal(socket->shutdown_flags, SHUTDOWN_READ | SHUTDOWN_WRITE);
    EXPECT(ERR_INVAL, f, sock_shutdown, fd, 0);
    EXPECT(ERR_INVAL, f, sock_shutdown, fd, 4);
    EXPECT(ERR_NOTSOCK, f, sock_shutdown, FD_STDOUT, SDFLAG_RD);
    EXPECT(ERR_BADF, f, sock_shutdown, FD_ROOT, SDFLAG_RD);
    EXPECT(ERR_BADF, f, sock_shutdown, 99, SDFLAG_RD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(test_accept),           FIXTURE_TEST(test_listener_is_what_is_expected),
        FIXTURE_TEST(test_receive_and_send), FIXTURE_TEST(test_wait_for_all),
        FIXTURE_TEST(test_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
