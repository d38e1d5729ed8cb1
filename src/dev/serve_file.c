/* An open /net/serve: the next request that waits for its program, read as HTTP/1.1 text, and the
 * response, written.
 *
 *     OPEN ── read, write, poll ──▶ (a request comes) ── close ──▶ answered
 *
 * It is used through the same buffered libraries as a transaction file (ns/transaction.h), and
 * looks and seeks like one, but both directions are independent: a read ends nothing, and the end
 * of what is read is not that of the exchange. What ends the response is closing it, or
 * shutdown(WRITE). Closing is told from a program that ends in between by dev->flush, which only
 * the former has. */
#include "dev/serve.h"

/* What can be given back by seek(CUR, -k), and room so that not every read moves it. */
enum { KEPT_BYTES = 64 * 1024, KEPT_SLACK = KEPT_BYTES / 2 };

struct serve_file {
    struct file file;
    struct file *listener;         /* a reference */
    struct serve_request *request; /* NULL: none has come yet */
    struct buf kept;               /* that was read last; from `kept_at` on given back */
    size_t kept_at;
};

static struct serve_file *serve_file_of(struct file *file) {
    return CONTAINER_OF(file, struct serve_file, file);
}

/* Polled: has a request. */
static enum err await_request(struct op *op, struct serve_file *open) {
    return open->request ? ERR_OK : serve_listener_take(op, open->listener, &open->request);
}

static void keep(struct serve_file *open, const void *data, size_t length) {
    struct buf *kept = &open->kept;
    const uint8_t *bytes = data;
    if (length > KEPT_BYTES) {
        bytes += length - KEPT_BYTES;
        length = KEPT_BYTES;
    }
    if (kept->length + length > KEPT_BYTES + KEPT_SLACK) {
        buf_consume(kept, kept->length + length - KEPT_BYTES);
    }
    if (buf_append(kept, bytes, length) != ERR_OK) {
        kept->length = 0; /* less can be given back then */
    }
    open->kept_at = kept->length;
}

static enum err serve_file_read(struct op *op, struct file *file, void *data, size_t length,
                                uint64_t offset, size_t *ret_read) {
    (void)offset;
    struct serve_file *open = serve_file_of(file);
    size_t given_back = MIN(length, open->kept.length - open->kept_at);
    if (given_back > 0 || length == 0) {
        if (given_back > 0) {
            memcpy(data, open->kept.data + open->kept_at, given_back);
            open->kept_at += given_back;
        }
        *ret_read = given_back;
        return ERR_OK;
    }
    size_t read = 0;
    enum err err = await_request(op, open);
    if (!err) {
        err = serve_request_read(op, open->request, data, length, &read);
    }
    if (!err) {
        keep(open, data, read);
        *ret_read = read;
    }
    return err;
}

static enum err serve_file_write(struct op *op, struct file *file, const void *data, size_t length,
                                 uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct serve_file *open = serve_file_of(file);
    enum err err = await_request(op, open);
    return err ? err : serve_request_write(op, open->request, data, length, ret_written);
}

/* Whoever polls is given the request, so that one that comes wakes one of several in vain. */
static enum err serve_file_poll(struct op *op, struct file *file, unsigned wanted,
                                unsigned *ret_ready, uint64_t *ret_bytes) {
    struct serve_file *open = serve_file_of(file);
    if ((wanted & POLL_READABLE) && open->kept_at < open->kept.length) {
        *ret_ready = POLL_READABLE;
        *ret_bytes = open->kept.length - open->kept_at;
        return ERR_OK;
    }
    enum err err = await_request(op, open);
    if (err == ERR_AGAIN) {
        *ret_ready = 0;
        *ret_bytes = 0;
        return ERR_OK;
    }
    return err ? err : serve_request_poll(op, open->request, wanted, ret_ready, ret_bytes);
}

static enum err serve_file_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    (void)op;
    struct serve_file *open = serve_file_of(file);
    if ((shutdown_flags & SHUTDOWN_WRITE) && open->request) {
        serve_request_end(open->request);
    }
    return ERR_OK;
}

static enum err serve_file_unread(struct op *op, struct file *file, uint64_t distance_bytes) {
    (void)op;
    struct serve_file *open = serve_file_of(file);
    if (distance_bytes > open->kept_at) {
        return ERR_SPIPE;
    }
    open->kept_at -= (size_t)distance_bytes;
    return ERR_OK;
}

static enum err serve_file_flush(struct op *op, struct file *file) {
    return serve_file_shutdown(op, file, SHUTDOWN_WRITE);
}

static void let_go(struct serve_file *open) {
    struct serve_request *request = STEAL(open->request);
    if (request) {
        serve_forget(request);
        serve_request_close(request);
        serve_request_unref(request);
    }
}

static void serve_file_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    let_go(serve_file_of(file));
}

static void serve_file_release(struct file *file) {
    struct serve_file *open = serve_file_of(file);
    let_go(open);
    file_unref(open->listener);
    buf_done(&open->kept);
    free(open);
}

static const struct dev serve_file_dev = {
    .name = "serve",
    .read = serve_file_read,
    .write = serve_file_write,
    .poll = serve_file_poll,
    .shutdown = serve_file_shutdown,
    .unread = serve_file_unread,
    .flush = serve_file_flush,
    .closed = serve_file_closed,
    .release = serve_file_release,
};

enum err serve_file_open(struct file *listener, uint64_t device, uint64_t inode,
                         struct file **ret_file) {
    struct serve_file *open = calloc(1, sizeof *open);
    if (!open) {
        return ERR_NOMEM;
    }
    file_init(&open->file, &serve_file_dev, device, inode, FILE_CHARACTER_DEVICE, FILE_REWINDABLE);
    open->listener = file_ref(listener);
    *ret_file = &open->file;
    return ERR_OK;
}
