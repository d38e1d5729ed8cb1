#include "ns/transaction.h"

#include "ns/pending_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>

/* A service that answers the question in capitals; a question of "fail" fails after its first two
 * bytes. It makes its user wait when `slow`, until `test_go_on`. */
struct shout {
    struct buf text;
    size_t answered;
    bool is_complete;
};
static struct op_queue shout_queue;
static long shouts, contexts, hangups; /* that exist; that were */
static bool slow, streaming;
static enum err refusal;
static size_t room; /* of the question, for a while; SIZE_MAX: no bound */

static enum err shout_begin(struct op *op, void *context, void **ret_exchange) {
    assert_ptr_equal(context, &contexts);
    if (refusal) {
        return buf_fail(op->message, refusal, "refused");
    }
    struct shout *shout = calloc(1, sizeof(*shout));
    assert_non_null(shout);
    shouts++;
    *ret_exchange = shout;
    return ERR_OK;
}

static enum err wait_or(struct op *op, bool ready) {
    if (ready) {
        return op_finish(op, ERR_OK);
    }
    if (op->nonblocking) {
        return ERR_AGAIN;
    }
    assert_int_equal(op_queue_wait(&shout_queue, op), ERR_OK);
    return ERR_PENDING;
}

static enum err shout_question(struct op *op, void *exchange, const void *data, size_t length,
                               size_t *ret_taken) {
    struct shout *shout = exchange;
    assert_false(shout->is_complete);
    enum err err = wait_or(op, room > 0);
    if (err) {
        return err;
    }
    *ret_taken = MIN(length, room);
    room -= room == SIZE_MAX ? 0 : *ret_taken;
    return buf_append(&shout->text, data, *ret_taken);
}

static enum err shout_question_end(struct op *op, void *exchange) {
    (void)op;
    struct shout *shout = exchange;
    assert_false(shout->is_complete);
    shout->is_complete = true;
    return str_equal_text(buf_str(&shout->text), "bad") ? ERR_INVAL : ERR_OK;
}

static bool fails(const struct shout *shout) {
    return str_starts(buf_str(&shout->text), STR("fail"));
}

static enum err shout_answer(struct op *op, void *exchange, void *data, size_t length,
                             size_t *ret_read) {
    struct shout *shout = exchange;
    assert_true(shout->is_complete || streaming);
    bool nothing = shout->answered == shout->text.length && !shout->is_complete;
    enum err err = wait_or(op, !slow && !nothing);
    if (err) {
        return err;
    }
    if (fails(shout) && shout->answered == 2) {
        return buf_fail(op->message, ERR_IO, "it failed");
    }
    size_t piece = MIN(length, shout->text.length - shout->answered);
    piece = fails(shout) ? MIN(piece, 2 - shout->answered) : piece;
    for (size_t i = 0; i < piece; i++) {
        ((uint8_t *)data)[i] = (uint8_t)toupper(shout->text.data[shout->answered++]);
    }
    *ret_read = piece;
    return ERR_OK;
}

static enum err shout_poll(struct op *op, void *exchange, unsigned wanted, unsigned *ret_ready,
                           uint64_t *ret_bytes) {
    struct shout *shout = exchange;
    enum err err = wait_or(op, wanted & POLL_READABLE ? !slow : room > 0);
    if (err == ERR_PENDING) {
        return err;
    }
    *ret_ready = err ? 0 : wanted;
    *ret_bytes = 0;
    if (!err && wanted & POLL_READABLE) {
        *ret_bytes = shout->text.length - shout->answered;
        *ret_ready |= *ret_bytes ? 0 : POLL_HANGUP;
    }
    return ERR_OK;
}

static bool shout_is_streaming(const void *exchange) {
    return streaming && !((const struct shout *)exchange)->is_complete;
}

static void shout_hangup(void *exchange) {
    assert_false(((struct shout *)exchange)->is_complete);
    hangups++;
}

static void shout_done(void *exchange) {
    struct shout *shout = exchange;
    buf_done(&shout->text);
    free(shout);
    shouts--;
}

static void shout_release(void *context) {
    assert_ptr_equal(context, &contexts);
    contexts--;
}

static bool shout_is_complete(const void *exchange) {
    return str_starts(buf_str(&((const struct shout *)exchange)->text), STR("whole"));
}

static struct transaction_service shout_service = {
    .name = "shout",
    .begin = shout_begin,
    .question = shout_question,
    .question_end = shout_question_end,
    .answer = shout_answer,
    .poll = shout_poll,
    .is_streaming = shout_is_streaming,
    .is_complete = shout_is_complete,
    .hangup = shout_hangup,
    .done = shout_done,
    .release = shout_release,
};

static struct file *file;
static struct buf message;

static int setup(void **state) {
    (void)state;
    test_begin();
    assert_int_equal(op_queue_init(&shout_queue), ERR_OK);
    slow = streaming = shout_service.poll_asks = false;
    refusal = ERR_OK;
    room = SIZE_MAX;
    hangups = 0;
    contexts = 1;
    assert_int_equal(transaction_open(&shout_service, &contexts, 3, 4, &file), ERR_OK);
    test_op.message = &message;
    return 0;
}
static int teardown(void **state) {
    (void)state;
    if (file) {
        file_closed(file, OPEN_READ | OPEN_WRITE);
        file_unref(STEAL(file));
    }
    buf_done(&message);
    test_end();
    op_queue_done(&shout_queue);
    assert_int_equal(shouts, 0);
    assert_int_equal(contexts, 0);
    return 0;
}

static enum err write_text(const char *text) {
    struct str rest = str_of(text);
    while (rest.length > 0) {
        size_t written = 0;
        enum err err = file_write(&test_op, file, rest.data, rest.length, 0, &written);
        if (err) {
            return err;
        }
        assert_in_range(written, 1, rest.length);
        rest = (struct str){rest.data + written, rest.length - written};
    }
    return ERR_OK;
}

static void expect_read(size_t size, const char *text) {
    char data[4096];
    size_t read = 99;
    assert_in_range(size, 1, sizeof(data));
    assert_int_equal(file_read(&test_op, file, data, size, 0, &read), ERR_OK);
    assert_int_equal(read, strlen(text));
    assert_memory_equal(data, text, read);
}

static enum err read_error(void) {
    char data[16];
    size_t read;
    return file_read(&test_op, file, data, sizeof(data), 0, &read);
}

static void test_question_and_answer(void **state) {
    (void)state;
    assert_int_equal(shouts, 0); /* opening does nothing */
    assert_int_equal(write_text("hel"), ERR_OK);
    assert_int_equal(write_text("lo"), ERR_OK);
    expect_read(3, "HEL");
    expect_read(100, "LO");
    assert_int_equal(shouts, 1);
    expect_read(100, "");
    assert_int_equal(shouts, 0);
    expect_read(100, ""); /* as often as one likes: no new question */
    assert_int_equal(shouts, 0);
    assert_int_equal(write_text("again"), ERR_OK);
    expect_read(100, "AGAIN");
    /* Without having seen the end, which is there. */
    assert_int_equal(write_text("third"), ERR_OK);
    expect_read(100, "THIRD");
    assert_int_equal(shouts, 1);
}

static void test_what_it_is(void **state) {
    (void)state;
    struct file_stat stat;
    assert_int_equal(file_stat(&test_op, file, &stat), ERR_OK);
    assert_int_equal(stat.type, FILE_CHARACTER_DEVICE);
    assert_int_equal(stat.size, 0);
    assert_int_equal(stat.device, 3);
    assert_int_equal(stat.inode, 4);
    assert_true(file->traits & FILE_REWINDABLE);
    assert_false(file->traits & (FILE_SEEKABLE | FILE_TERMINAL | FILE_READ_ONLY));
    assert_true(transaction_is(file));
}

static void test_an_empty_question(void **state) {
    (void)state;
    size_t written = 99;
    assert_int_equal(file_write(&test_op, file, "", 0, 0, &written), ERR_OK);
    assert_int_equal(written, 0);
    assert_int_equal(file_sync(&test_op, file), ERR_OK);
    assert_int_equal(shouts, 0); /* neither asks anything */
    expect_read(10, "");
    expect_read(10, "");
    assert_int_equal(write_text("a"), ERR_OK);
    expect_read(10, "A");
}

static void test_sync_and_shutdown_end_the_question(void **state) {
    (void)state;
    assert_int_equal(write_text("one"), ERR_OK);
    assert_int_equal(file_sync(&test_op, file), ERR_OK);
    assert_int_equal(file_sync(&test_op, file), ERR_OK);
    assert_int_equal(write_text("more"), ERR_BUSY); /* the answer is to be read first */
    assert_non_null(strstr(buf_text(&message), "read to its end"));
    expect_read(10, "O"); /* with which it was found out */
    expect_read(10, "NE");
    expect_read(10, "");
    assert_int_equal(write_text("two"), ERR_OK);
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_READ), ERR_OK);
    assert_int_equal(write_text("3"), ERR_OK);
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_WRITE), ERR_OK);
    expect_read(10, "TWO3");
    assert_int_equal(write_text("bad"), ERR_OK);
    assert_int_equal(file_sync(&test_op, file), ERR_INVAL);
    assert_int_equal(read_error(), ERR_INVAL);
}

static void test_shutdown_asks_nothing(void **state) {
    (void)state;
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_WRITE), ERR_OK);
    assert_int_equal(shouts, 1);
    expect_read(10, "");
}

static void test_failures(void **state) {
    (void)state;
    assert_int_equal(write_text("failure"), ERR_OK);
    expect_read(10, "FA"); /* what there was comes first */
    assert_int_equal(read_error(), ERR_IO);
    assert_string_equal(buf_text(&message), "it failed");
    assert_int_equal(shouts, 0);
    assert_int_equal(read_error(), ERR_IO);
    assert_int_equal(write_text("fine"), ERR_OK);
    expect_read(10, "FINE");
    assert_int_equal(write_text("failure"), ERR_OK);
    expect_read(10, "FA");
    assert_int_equal(write_text("next"), ERR_IO); /* it would be lost otherwise */
    assert_int_equal(write_text("next"), ERR_OK);
    expect_read(10, "NEXT");
}

static void test_refusals_last_until_the_next_question(void **state) {
    (void)state;
    refusal = ERR_LOOP;
    assert_int_equal(write_text("x"), ERR_LOOP);
    assert_int_equal(read_error(), ERR_LOOP); /* a library reads though its write has failed */
    assert_string_equal(buf_text(&message), "refused");
    refusal = ERR_OK;
    assert_int_equal(read_error(), ERR_LOOP);
    assert_int_equal(write_text("x"), ERR_OK);
    expect_read(10, "X");
    expect_read(10, "");
    refusal = ERR_BUSY;
    assert_int_equal(write_text("x"), ERR_BUSY);
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_WRITE), ERR_OK);
    assert_int_equal(read_error(), ERR_BUSY);
}

static void test_a_read_that_gets_again_ends_the_question(void **state) {
    (void)state;
    assert_int_equal(write_text("go"), ERR_OK);
    slow = test_op.nonblocking = true;
    assert_int_equal(read_error(), ERR_AGAIN);
    assert_int_equal(write_text("more"), ERR_AGAIN); /* the answer may yet have bytes */
    slow = false;
    assert_int_equal(write_text("more"), ERR_BUSY);
    expect_read(10, "G");
    expect_read(10, "O");
    assert_int_equal(write_text("more"), ERR_OK);
    expect_read(10, "MORE");
}

static void test_waiting(void **state) {
    (void)state;
    size_t done = 0;
    char data[10];
    room = 2;
    assert_int_equal(file_write(&test_op, file, "abcd", 4, 0, &done), ERR_OK);
    assert_int_equal(done, 2);
    assert_int_equal(file_write(&test_op, file, "cd", 2, 0, &done), ERR_PENDING);
    room = SIZE_MAX;
    op_queue_wake_all(&shout_queue);
    assert_int_equal(AWAIT(file_write(&test_op, file, "cd", 2, 0, &done)), ERR_OK);
    slow = true;
    assert_int_equal(file_read(&test_op, file, data, sizeof(data), 0, &done), ERR_PENDING);
    slow = false;
    op_queue_wake_all(&shout_queue);
    assert_int_equal(AWAIT(file_read(&test_op, file, data, sizeof(data), 0, &done)), ERR_OK);
    assert_int_equal(done, 4);
    /* A write waits for the end of the answer. */
    slow = true;
    assert_int_equal(file_write(&test_op, file, "e", 1, 0, &done), ERR_PENDING);
    slow = false;
    op_queue_wake_all(&shout_queue);
    assert_int_equal(AWAIT(file_write(&test_op, file, "e", 1, 0, &done)), ERR_OK);
    expect_read(10, "E");
}

static unsigned poll_now(unsigned wanted, uint64_t *ret_bytes) {
    unsigned ready = 99;
    test_op.nonblocking = true;
    assert_int_equal(file_poll(&test_op, file, wanted, &ready, ret_bytes), ERR_OK);
    test_op.nonblocking = false;
    return ready;
}

static void test_poll(void **state) {
    (void)state;
    uint64_t bytes;
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE);
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), POLL_WRITABLE);
    assert_int_equal(write_text("abc"), ERR_OK);
    room = 0;
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), 0);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE); /* a read gets AGAIN */
    assert_int_equal(poll_now(POLL_READABLE | POLL_WRITABLE_TOO, &bytes), 0);
    slow = test_op.nonblocking = true;
    assert_int_equal(read_error(), ERR_AGAIN);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), 0);
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), 0);
    unsigned ready;
    assert_int_equal(file_poll(&test_op, file, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    slow = false;
    op_queue_wake_all(&shout_queue);
    assert_int_equal(AWAIT(file_poll(&test_op, file, POLL_READABLE, &ready, &bytes)), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(bytes, 3);
    expect_read(10, "ABC");
    assert_int_equal(file_unread(&test_op, file, 2), ERR_OK);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE);
    assert_int_equal(bytes, 2);
    expect_read(10, "BC");
    expect_read(10, "");
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE | POLL_HANGUP);
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), POLL_WRITABLE);
}

static void test_poll_asks(void **state) {
    (void)state;
    uint64_t bytes;
    shout_service.poll_asks = slow = true;
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), POLL_WRITABLE);
    assert_int_equal(poll_now(POLL_READABLE | POLL_WRITABLE_TOO, &bytes), 0);
    assert_int_equal(shouts, 0); /* nothing was asked */
    assert_int_equal(write_text("a"), ERR_OK);
    assert_int_equal(poll_now(POLL_READABLE | POLL_WRITABLE_TOO, &bytes), 0);
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), POLL_WRITABLE);
    assert_int_equal(write_text("b"), ERR_OK);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), 0); /* ends the question */
    test_op.nonblocking = true;
    assert_int_equal(write_text("c"), ERR_AGAIN);
    test_op.nonblocking = false;
    unsigned ready;
    assert_int_equal(file_poll(&test_op, file, POLL_READABLE, &ready, &bytes), ERR_PENDING);
    slow = false;
    op_queue_wake_all(&shout_queue);
    assert_int_equal(AWAIT(file_poll(&test_op, file, POLL_READABLE, &ready, &bytes)), ERR_OK);
    assert_int_equal(ready, POLL_READABLE);
    assert_int_equal(poll_now(POLL_READABLE | POLL_WRITABLE_TOO, &bytes), POLL_READABLE);
    expect_read(10, "AB");
    expect_read(10, "");
    /* The end stays the end: no poll asks again. */
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE | POLL_HANGUP);
    assert_int_equal(shouts, 0);
}

static void test_poll_asks_nothing_in_particular(void **state) {
    (void)state;
    uint64_t bytes;
    shout_service.poll_asks = true;
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE | POLL_HANGUP);
    assert_int_equal(shouts, 1);
    expect_read(10, "");
    assert_int_equal(shouts, 0);
}

/* What polling has met is what the reads are told. */
static void test_poll_meets_failures(void **state) {
    (void)state;
    uint64_t bytes;
    shout_service.poll_asks = true;
    refusal = ERR_LOOP;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE | POLL_HANGUP);
        assert_int_equal(message.length, 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read_error(), ERR_LOOP);
        assert_string_equal(buf_text(&message), "refused");
        buf_done(&message);
    }
    refusal = ERR_OK;
    assert_int_equal(write_text("bad"), ERR_OK);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE | POLL_HANGUP);
    assert_int_equal(shouts, 0);
    assert_int_equal(read_error(), ERR_INVAL);
    assert_int_equal(message.length, 0); /* nothing of the failure before */
}

static void test_poll_of_a_complete_question(void **state) {
    (void)state;
    uint64_t bytes;
    assert_int_equal(write_text("whol"), ERR_OK);
    slow = true;
    assert_int_equal(poll_now(POLL_READABLE, &bytes), POLL_READABLE);
    assert_int_equal(write_text("e"), ERR_OK);
    assert_int_equal(poll_now(POLL_READABLE, &bytes), 0);
    slow = false;
    assert_int_equal(poll_now(POLL_READABLE | POLL_WRITABLE_TOO, &bytes), POLL_READABLE);
    assert_int_equal(write_text(" "), ERR_OK); /* it has ended nothing */
    expect_read(10, "WHOLE ");
}

static void test_giving_back(void **state) {
    (void)state;
    assert_int_equal(file_unread(&test_op, file, 1), ERR_SPIPE);
    assert_int_equal(file_unread(&test_op, file, 0), ERR_OK);
    assert_int_equal(write_text("abcdef"), ERR_OK);
    expect_read(4, "ABCD");
    assert_int_equal(file_unread(&test_op, file, 5), ERR_SPIPE);
    assert_int_equal(file_unread(&test_op, file, 3), ERR_OK);
    assert_int_equal(write_text("x"), ERR_BUSY);
    expect_read(2, "BC");
    expect_read(10, "D"); /* first what was given back */
    expect_read(10, "EF");
    expect_read(10, "");
    assert_int_equal(file_unread(&test_op, file, 1), ERR_OK);
    assert_int_equal(write_text("x"), ERR_BUSY);
    expect_read(10, "F");
    expect_read(10, "");
    assert_int_equal(write_text("x"), ERR_OK);
    assert_int_equal(file_unread(&test_op, file, 1), ERR_SPIPE); /* of another answer */
    expect_read(10, "X");
}

static uint8_t byte_at(size_t position) {
    return (uint8_t)(position * 31 / 7);
}

/* Whatever is read in whatever pieces, 64 KiB can be given back. */
static void test_what_is_kept(void **state) {
    (void)state;
    static uint8_t data[200000];
    size_t pieces[] = {1000, 7, 70000, 65535, 1, 40000, 23457};
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = byte_at(i);
    }
    size_t done = 0, total = 0;
    assert_int_equal(file_write(&test_op, file, data, sizeof(data), 0, &done), ERR_OK);
    assert_int_equal(done, sizeof(data));
    for (size_t i = 0; i < ARRAY_LENGTH(pieces); i++) {
        assert_int_equal(file_read(&test_op, file, data, pieces[i], 0, &done), ERR_OK);
        assert_int_equal(done, pieces[i]);
        total += done;
        size_t back = MIN(total, (size_t)TRANSACTION_KEPT_BYTES);
        assert_int_equal(file_unread(&test_op, file, back), ERR_OK);
        assert_int_equal(file_read(&test_op, file, data, sizeof(data), 0, &done), ERR_OK);
        assert_int_equal(done, back);
        for (size_t k = 0; k < back; k++) {
            assert_int_equal(data[k], toupper(byte_at(total - back + k)));
        }
    }
    assert_int_equal(total, sizeof(data));
}

static void test_streaming(void **state) {
    (void)state;
    streaming = true;
    assert_int_equal(write_text("ab"), ERR_OK);
    expect_read(10, "AB"); /* and the question goes on */
    assert_int_equal(write_text("cd"), ERR_OK);
    expect_read(1, "C");
    assert_int_equal(write_text("ef"), ERR_OK);
    expect_read(10, "DEF");
    uint64_t bytes;
    assert_int_equal(poll_now(POLL_WRITABLE, &bytes), POLL_WRITABLE);
    assert_int_equal(file_shutdown(&test_op, file, SHUTDOWN_WRITE), ERR_OK);
    expect_read(10, "");
    assert_int_equal(shouts, 0);
}

static void test_closing_gives_up(void **state) {
    (void)state;
    assert_int_equal(write_text("ab"), ERR_OK);
    file_closed(file, OPEN_READ | OPEN_WRITE);
    assert_int_equal(shouts, 0);
    assert_int_equal(hangups, 1);
    file_unref(file);
    contexts = 1;
    assert_int_equal(transaction_open(&shout_service, &contexts, 3, 4, &file), ERR_OK);
    assert_int_equal(write_text("ab"), ERR_OK);
    expect_read(1, "A");
    file_unref(STEAL(file)); /* without having been closed */
    assert_int_equal(hangups, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_question_and_answer),
        TEST(test_what_it_is),
        TEST(test_an_empty_question),
        TEST(test_sync_and_shutdown_end_the_question),
        TEST(test_shutdown_asks_nothing),
        TEST(test_failures),
        TEST(test_refusals_last_until_the_next_question),
        TEST(test_a_read_that_gets_again_ends_the_question),
        TEST(test_waiting),
        TEST(test_poll),
        TEST(test_poll_asks),
        TEST(test_poll_asks_nothing_in_particular),
        TEST(test_poll_meets_failures),
        TEST(test_poll_of_a_complete_question),
        TEST(test_giving_back),
        TEST(test_what_is_kept),
        TEST(test_streaming),
        TEST(test_closing_gives_up),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
