/* How the body of a PUT comes into its file. Of a file that nobody sees yet, what comes in small
 * pieces is gathered: a crowd of slow clients would else keep its volume busy with writes of some
 * hundred bytes each, whose chunks every commit writes anew. */
#include "api/tree_put_internal.h"

/* Smaller pieces are gathered up to what a volume stores as one (store/volume.h), or less while
 * many do that. A larger one is written as it is if nothing was gathered before it, so that fast
 * clients copy nothing. */
#define PIECE_BYTES (2 * HTTP_GATHER_BYTES)
#define GATHERED_MAX (16 * KIB)
#define GATHERED_LITTLE (4 * KIB)
#define GATHERED_TOGETHER_MAX (64 * MIB)

uint64_t tree_put_taken_end(const struct tree_put *put) {
    return put->offset + put->gathered.length - put->gathered_at;
}

/* All of it at once, of which the kernel gives what is used: blocks that grow would leave the
 * smaller ones of a whole crowd unused. */
static enum err begin_gathering(struct tree_put *put) {
    atomic_uint_fast64_t *together = &put->request->api->gathered_bytes;
    size_t most = atomic_load_explicit(together, memory_order_relaxed) < GATHERED_TOGETHER_MAX
                      ? GATHERED_MAX
                      : GATHERED_LITTLE;
    size_t room = (size_t)MIN(most - put->offset % most, put->length - put->offset);
    enum err err = buf_reserve(&put->gathered, room);
    if (!err) {
        put->gathered_room = room;
        atomic_fetch_add_explicit(together, room, memory_order_relaxed);
    }
    return err;
}

void tree_put_end_gathering(struct tree_put *put) {
    atomic_fetch_sub_explicit(&put->request->api->gathered_bytes, put->gathered_room,
                              memory_order_relaxed);
    buf_done(&put->gathered);
    put->gathered_at = put->gathered_room = 0;
}

enum err tree_put_write_gathered(struct tree_put *put) {
    while (put->gathered_at < put->gathered.length) {
        size_t written = 0;
        enum err err =
            file_write(&put->request->op, put->opened, put->gathered.data + put->gathered_at,
                       put->gathered.length - put->gathered_at, put->offset, &written);
        if (err) {
            return err;
        }
        put->gathered_at += written;
        put->offset += written;
    }
    tree_put_end_gathering(put);
    return ERR_OK;
}

enum err tree_put_take(struct tree_put *put, const uint8_t *data, size_t length,
                       size_t *ret_taken) {
    bool is_rest = length >= put->length - tree_put_taken_end(put);
    enum err err = ERR_OK;
    *ret_taken = 0;
    if (put->gathered_room == 0 && put->beside && length < PIECE_BYTES && !is_rest) {
        err = begin_gathering(put);
    }
    if (err || put->gathered_room == 0) {
        err =
            err ? err
                : file_write(&put->request->op, put->opened, data, length, put->offset, ret_taken);
        put->offset += *ret_taken;
        return err;
    }
    if (put->gathered.length == put->gathered_room) {
        return tree_put_write_gathered(put);
    }
    *ret_taken = MIN(length, put->gathered_room - put->gathered.length);
    return buf_append(&put->gathered, data, *ret_taken);
}
