#include "ns/transaction.h"

enum state {
    IDLE,
    ASKING,    /* there is an exchange, its question is not complete */
    ANSWERING, /* there is one, and it is */
    ENDED,     /* the answer was read to its end */
    FAILED,    /* the exchange ended with `failure` */
};

struct transaction {
    struct file file;
    const struct transaction_service *service;
    void *context;
    void *exchange; /* in ASKING and ANSWERING */
    enum state state;
    enum err failure;
    struct buf why; /* of a failure that a poll has met, for the reads that get it */
    /* Of the answer, the last bytes that were read, then those that were given back: those are
     * from `kept_at` on. */
    struct buf kept;
    size_t kept_at;
};

/* Room beside what must be kept, so that not every read moves it all. */
enum { KEPT_SLACK = TRANSACTION_KEPT_BYTES / 2 };

static struct transaction *transaction_of(struct file *file) {
    return CONTAINER_OF(file, struct transaction, file);
}

static bool is_waiting(enum err err) {
    return err == ERR_PENDING || err == ERR_AGAIN;
}

static void exchange_ends(struct transaction *transaction, enum state state, enum err failure) {
    transaction->service->done(transaction->exchange);
    transaction->exchange = NULL;
    transaction->state = state;
    transaction->failure = failure;
}

static enum err fail(struct transaction *transaction, enum err err) {
    exchange_ends(transaction, FAILED, err);
    return err;
}

static enum err begin(struct op *op, struct transaction *transaction) {
    transaction->kept.length = transaction->kept_at = 0;
    transaction->why.length = 0;
    enum err err = transaction->service->begin(op, transaction->context, &transaction->exchange);
    transaction->state = err ? FAILED : ASKING;
    transaction->failure = err;
    return err;
}

static enum err end_question(struct op *op, struct transaction *transaction) {
    const struct transaction_service *service = transaction->service;
    transaction->state = ANSWERING;
    enum err err =
        service->question_end ? service->question_end(op, transaction->exchange) : ERR_OK;
    return err ? fail(transaction, err) : ERR_OK;
}

static bool is_streaming(const struct transaction *transaction) {
    const struct transaction_service *service = transaction->service;
    return service->is_streaming && service->is_streaming(transaction->exchange);
}

/* ---- what is kept of an answer ---- */

/* All that is kept was read when something is added. */
static void keep(struct transaction *transaction, const uint8_t *data, size_t length) {
    struct buf *kept = &transaction->kept;
    if (length >= TRANSACTION_KEPT_BYTES) {
        data += length - TRANSACTION_KEPT_BYTES;
        length = TRANSACTION_KEPT_BYTES;
        kept->length = 0;
    } else if (kept->length + length > TRANSACTION_KEPT_BYTES + KEPT_SLACK) {
        buf_consume(kept, kept->length + length - TRANSACTION_KEPT_BYTES);
    }
    if (buf_append(kept, data, length) != ERR_OK) {
        kept->length = 0; /* less can be given back then */
    }
    transaction->kept_at = kept->length;
}

static size_t take_kept(struct transaction *transaction, void *data, size_t length) {
    length = MIN(length, transaction->kept.length - transaction->kept_at);
    if (length > 0) {
        memcpy(data, transaction->kept.data + transaction->kept_at, length);
        transaction->kept_at += length;
    }
    return length;
}

/* ---- reading ---- */

static enum err read_answer(struct op *op, struct transaction *transaction, void *data,
                            size_t length, size_t *ret_read) {
    size_t read = 0;
    enum err err = transaction->service->answer(op, transaction->exchange, data, length, &read);
    if (is_waiting(err)) {
        return err;
    }
    if (err) {
        return fail(transaction, err);
    }
    if (read == 0) {
        exchange_ends(transaction, ENDED, ERR_OK);
    } else {
        keep(transaction, data, read);
    }
    *ret_read = read;
    return ERR_OK;
}

static enum err transaction_read(struct op *op, struct file *file, void *data, size_t length,
                                 uint64_t offset, size_t *ret_read) {
    (void)offset;
    struct transaction *transaction = transaction_of(file);
    size_t given = take_kept(transaction, data, length);
    if (given > 0 || length == 0) {
        *ret_read = given;
        return ERR_OK;
    }
    enum err err = ERR_OK;
    if (transaction->state == IDLE) {
        err = begin(op, transaction);
    }
    if (!err && transaction->state == ASKING && !is_streaming(transaction)) {
        err = end_question(op, transaction);
    }
    if (err) {
        return err;
    }
    switch (transaction->state) {
    case IDLE:
    case ENDED:
        *ret_read = 0;
        return ERR_OK;
    case FAILED:
        return transaction->why.length == 0
                   ? transaction->failure
                   : buf_fail(op->message, transaction->failure, "%s", buf_text(&transaction->why));
    case ASKING:
    case ANSWERING:
        break;
    }
    return read_answer(op, transaction, data, length, ret_read);
}

/* Somebody wants to write while there is an answer: is it over? OK: it is, now or before. */
static enum err await_end(struct op *op, struct transaction *transaction) {
    enum err err = ERR_OK;
    if (transaction->state == ANSWERING && transaction->kept_at == transaction->kept.length) {
        uint8_t byte;
        size_t read;
        err = read_answer(op, transaction, &byte, 1, &read);
        if (!err && read > 0) {
            if (transaction->kept.length == 0) { /* no memory to give it back */
                return fail(transaction, ERR_NOMEM);
            }
            transaction->kept_at--;
        }
    }
    if (!err && transaction->kept_at < transaction->kept.length) {
        return buf_fail(op->message, ERR_BUSY,
                        "the answer has not been read to its end; the next question begins after "
                        "it, or on another open file");
    }
    return err;
}

/* ---- writing ---- */

static enum err transaction_write(struct op *op, struct file *file, const void *data, size_t length,
                                  uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct transaction *transaction = transaction_of(file);
    const struct transaction_service *service = transaction->service;
    if (length == 0) {
        *ret_written = 0;
        return ERR_OK;
    }
    if (!service->question) {
        return ERR_NOTSUP;
    }
    enum err err = ERR_OK;
    if (transaction->state != ASKING) {
        if (transaction->state == ANSWERING || transaction->state == ENDED) {
            err = await_end(op, transaction);
        }
        if (!err) {
            err = begin(op, transaction);
        }
        if (err) {
            return err;
        }
    }
    size_t taken = 0;
    err = service->question(op, transaction->exchange, data, length, &taken);
    if (is_waiting(err)) {
        return err;
    }
    if (err) {
        return fail(transaction, err);
    }
    *ret_written = taken;
    return ERR_OK;
}

static enum err transaction_sync(struct op *op, struct file *file) {
    struct transaction *transaction = transaction_of(file);
    return transaction->state == ASKING ? end_question(op, transaction) : ERR_OK;
}

static enum err transaction_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    struct transaction *transaction = transaction_of(file);
    if (!(shutdown_flags & SHUTDOWN_WRITE)) {
        return ERR_OK;
    }
    enum err err = transaction->state == IDLE ? begin(op, transaction) : ERR_OK;
    return err ? err : transaction_sync(op, file);
}

/* ---- polling, giving back ---- */

/* Whether a read would end the question, and it matters when. */
static bool is_open_question(const struct transaction *transaction) {
    const struct transaction_service *service = transaction->service;
    if (transaction->state != ASKING) {
        return transaction->state == IDLE;
    }
    bool is_complete = service->is_complete && service->is_complete(transaction->exchange);
    return !is_complete && !is_streaming(transaction);
}

/* As a read: what fails is the failure of the reads that follow, with its sentence. */
static void ask(struct op *op, struct transaction *transaction) {
    cleanup_buf struct buf why = {0};
    struct buf *message = op->message;
    op->message = &why;
    enum err err = transaction->state == IDLE ? begin(op, transaction) : ERR_OK;
    if (!err && transaction->state == ASKING) {
        err = end_question(op, transaction);
    }
    op->message = message;
    if (err) {
        transaction->why.length = 0;
        (void)!buf_append_str(&transaction->why, buf_str(&why)); /* without memory there is none */
    }
}

static enum err poll_readable(struct op *op, struct transaction *transaction, unsigned wanted,
                              unsigned *ret_ready, uint64_t *ret_bytes) {
    *ret_bytes = transaction->kept.length - transaction->kept_at;
    *ret_ready = POLL_READABLE;
    if (*ret_bytes > 0) {
        return ERR_OK;
    }
    if (is_open_question(transaction)) {
        if (!transaction->service->poll_asks || wanted & POLL_WRITABLE_TOO) {
            *ret_ready = wanted & POLL_WRITABLE_TOO ? 0 : POLL_READABLE;
            return ERR_OK;
        }
        ask(op, transaction);
    }
    if (transaction->state == ENDED || transaction->state == FAILED) {
        *ret_ready = POLL_READABLE | POLL_HANGUP;
        return ERR_OK;
    }
    unsigned ready = 0;
    uint64_t bytes = 0;
    enum err err =
        transaction->service->poll(op, transaction->exchange, POLL_READABLE, &ready, &bytes);
    *ret_ready = ready;
    *ret_bytes = bytes;
    return err;
}

static enum err transaction_poll(struct op *op, struct file *file, unsigned wanted,
                                 unsigned *ret_ready, uint64_t *ret_bytes) {
    struct transaction *transaction = transaction_of(file);
    unsigned ready = 0;
    uint64_t bytes = 0;
    enum err err = ERR_OK;
    if (wanted & POLL_READABLE) {
        err = poll_readable(op, transaction, wanted, &ready, &bytes);
    } else if (transaction->state == ASKING) {
        err = transaction->service->poll(op, transaction->exchange, POLL_WRITABLE, &ready, &bytes);
    } else if (transaction->state == ANSWERING) {
        /* A write is answered when it is known what comes: the end, or more (then it is BUSY). */
        err = poll_readable(op, transaction, POLL_READABLE, &ready, &bytes);
        ready = ready ? POLL_WRITABLE : 0;
        bytes = 0;
    } else {
        ready = POLL_WRITABLE;
    }
    if (!err) {
        *ret_ready = ready;
        *ret_bytes = bytes;
    }
    return err;
}

static enum err transaction_unread(struct op *op, struct file *file, uint64_t distance_bytes) {
    (void)op;
    struct transaction *transaction = transaction_of(file);
    if (distance_bytes > transaction->kept_at) {
        return ERR_SPIPE;
    }
    transaction->kept_at -= (size_t)distance_bytes;
    return ERR_OK;
}

/* ---- the end ---- */

static void give_up(struct transaction *transaction) {
    if (transaction->exchange) {
        if (transaction->state == ASKING && transaction->service->hangup) {
            transaction->service->hangup(transaction->exchange);
        }
        exchange_ends(transaction, ENDED, ERR_OK);
    }
}

static void transaction_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    give_up(transaction_of(file));
}

static void transaction_release(struct file *file) {
    struct transaction *transaction = transaction_of(file);
    give_up(transaction);
    if (transaction->service->release) {
        transaction->service->release(transaction->context);
    }
    buf_done(&transaction->kept);
    buf_done(&transaction->why);
    free(transaction);
}

static const struct dev transaction_dev = {
    .name = "transaction",
    .read = transaction_read,
    .write = transaction_write,
    .sync = transaction_sync,
    .poll = transaction_poll,
    .shutdown = transaction_shutdown,
    .unread = transaction_unread,
    .closed = transaction_closed,
    .release = transaction_release,
};

enum err transaction_open(const struct transaction_service *service, void *context, uint64_t device,
                          uint64_t inode, struct file **ret_file) {
    struct transaction *transaction = calloc(1, sizeof(*transaction));
    if (!transaction) {
        if (service->release) {
            service->release(context);
        }
        return ERR_NOMEM;
    }
    file_init(&transaction->file, &transaction_dev, device, inode, FILE_CHARACTER_DEVICE,
              FILE_REWINDABLE | FILE_TIED);
    transaction->service = service;
    transaction->context = context;
    *ret_file = &transaction->file;
    return ERR_OK;
}

bool transaction_is(const struct file *file) {
    return file->dev == &transaction_dev;
}
