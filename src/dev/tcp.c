/* /net/tcp/HOST:PORT and /net/tls/HOST:PORT: a connection for each open. */
#include "dev/net_internal.h"

#include "net/stream.h"

struct tcp_file {
    struct file file;
    struct net_user user;      /* its party went to the stream */
    struct net_stream *stream; /* NULL after it was closed */
};

static struct tcp_file *tcp_of(struct file *file) {
    return CONTAINER_OF(file, struct tcp_file, file);
}

static enum err tcp_read(struct op *op, struct file *file, void *data, size_t length,
                         uint64_t offset, size_t *ret_read) {
    (void)offset;
    return net_stream_read(op, tcp_of(file)->stream, data, length, ret_read);
}

static enum err tcp_write(struct op *op, struct file *file, const void *data, size_t length,
                          uint64_t offset, size_t *ret_written) {
    (void)offset;
    return net_stream_write(op, tcp_of(file)->stream, data, length, ret_written);
}

static enum err tcp_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                         uint64_t *ret_bytes) {
    return net_stream_poll(op, tcp_of(file)->stream, wanted, ret_ready, ret_bytes);
}

static enum err tcp_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    (void)op;
    net_stream_shutdown(tcp_of(file)->stream, shutdown_flags);
    return ERR_OK;
}

static void tcp_release(struct file *file) {
    struct tcp_file *tcp = tcp_of(file);
    net_stream_close(tcp->stream);
    net_user_done(&tcp->user);
    free(tcp);
}

static const struct dev tcp_dev = {
    .name = "tcp",
    .read = tcp_read,
    .write = tcp_write,
    .poll = tcp_poll,
    .shutdown = tcp_shutdown,
    .release = tcp_release,
};

static enum err node_open(struct op *op, struct file *file, unsigned open_flags,
                          struct file **ret_file) {
    (void)open_flags;
    struct net_node *node = CONTAINER_OF(file, struct net_node, file);
    struct tcp_file *tcp = calloc(1, sizeof *tcp);
    if (!tcp) {
        return ERR_NOMEM;
    }
    enum err err = net_user_init(&tcp->user, op, node->root);
    if (!err) {
        err = net_stream_open(node->root->options.net, op->loop, &tcp->user.party, &node->url.host,
                              node->url.port, node->url.is_tls, &tcp->stream, op->message);
        tcp->user.party = (struct net_party){0};
        if (err) {
            net_user_done(&tcp->user);
        }
    }
    if (err) {
        free(tcp);
        return err;
    }
    file_init(&tcp->file, &tcp_dev, file->device, file->inode, FILE_SOCKET_STREAM, FILE_TIED);
    *ret_file = &tcp->file;
    return ERR_OK;
}

const struct dev net_stream_dev = {
    .name = "tcp",
    .open = node_open,
    .release = net_node_release,
};
