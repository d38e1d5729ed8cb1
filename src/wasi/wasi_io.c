/* Reading and writing: a list of buffers in guest memory on one side, a file on the other.
 *
 * - A call waits for a peer only while it has moved nothing; then it takes what is there at once
 *   and ends short, as read(2) and writev(2) do.
 * - A read ends at the first buffer that it could not fill.
 * - Small buffers are gathered, so that a thousand buffers of a byte are one call of the device.
 * - After every piece_bytes others have their turn; the progress is in the call's state.
 *
 * A device that answers PENDING is called again with the same arguments, so what a call of it moves
 * depends on the state only, never on how far this step has come. */
#include "wasi/wasi_internal.h"

#define INLINE_IOVECS 16
#define GATHER_BYTES 8192u

struct iovec_range {
    uint32_t address;
    uint32_t length_bytes;
};

enum transfer_phase { MOVING, SYNCING, FINDING_END };

struct transfer_state {
    enum transfer_phase phase;
    uint32_t count;
    uint32_t index;  /* the buffer that is being filled */
    uint32_t within; /* bytes of it that are done */
    uint32_t total_bytes;
    uint32_t done_bytes;
    struct iovec_range *ranges; /* `in_place`, or allocated */
    struct iovec_range in_place[INLINE_IOVECS];
};

static void transfer_state_drop(void *pointer) {
    struct transfer_state *state = pointer;
    if (state->ranges != state->in_place)
        free(state->ranges);
}

/* Copies the list in, once, and checks all that it names. */
static enum err transfer_begin(struct wasi *wasi, const struct wasi_transfer *transfer,
                               struct transfer_state **ret_state) {
    uint32_t count = transfer->iovecs_count;
    if (count > wasi->limits.iovecs)
        return ERR_NOMEM;
    uint8_t *list;
    enum err err =
        guest_slice(wasi->guest, transfer->iovecs_address, (uint64_t)count * IOVEC_SIZE, &list);
    if (!err)
        err = guest_check(wasi->guest, transfer->result_address, 4);
    if (!err && transfer->has_flags)
        err = guest_check(wasi->guest, transfer->flags_address, 2);
    if (err)
        return err;
    struct transfer_state *state = wasi_call_state(wasi, sizeof(*state), transfer_state_drop);
    state->ranges = state->in_place;
    if (count > INLINE_IOVECS) {
        struct iovec_range *ranges = calloc(count, sizeof(*ranges));
        if (!ranges)
            return ERR_NOMEM;
        state->ranges = ranges;
    }
    state->count = count;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *iovec = list + (size_t)i * IOVEC_SIZE;
        struct iovec_range range = {layout_get_u32(iovec + IOVEC_BUF),
                                    layout_get_u32(iovec + IOVEC_BUF_LEN)};
        err = guest_check(wasi->guest, range.address, range.length_bytes);
        if (err)
            return err;
        total += range.length_bytes;
        state->ranges[i] = range;
    }
    if (total > UINT32_MAX)
        return ERR_INVAL;
    state->total_bytes = (uint32_t)total;
    *ret_state = state;
    return ERR_OK;
}

/* What one call of the device moves: a part of one buffer, or several small ones together. */
struct piece {
    uint8_t *data;
    uint32_t length_bytes;
    bool gathered;
};

static void skip_done_buffers(struct transfer_state *state) {
    while (state->index < state->count &&
           state->within == state->ranges[state->index].length_bytes) {
        state->index++;
        state->within = 0;
    }
}

/* Copies between the buffers from the current one on and `gather`, as many as fit and at most
 * `limit_bytes`; returns how many. */
static uint32_t gather_or_scatter(struct wasi *wasi, const struct transfer_state *state,
                                  uint8_t *gather, uint32_t limit_bytes, bool scatter) {
    uint32_t copied = 0, within = state->within;
    for (uint32_t i = state->index; i < state->count && copied < limit_bytes; i++, within = 0) {
        const struct iovec_range *range = &state->ranges[i];
        uint32_t length = MIN(range->length_bytes - within, limit_bytes - copied);
        uint8_t *data;
        /* Checked at the beginning, and memories never shrink. */
        if (guest_slice(wasi->guest, range->address + within, length, &data))
            break;
        if (scatter)
            memcpy(data, gather + copied, length);
        else
            memcpy(gather + copied, data, length);
        copied += length;
    }
    return copied;
}

static enum err next_piece(struct wasi *wasi, struct transfer_state *state, bool is_write,
                           uint8_t gather[GATHER_BYTES], struct piece *ret_piece) {
    skip_done_buffers(state);
    INVARIANT(state->index < state->count);
    const struct iovec_range *range = &state->ranges[state->index];
    uint32_t here = range->length_bytes - state->within;
    if (here < GATHER_BYTES && here < state->total_bytes - state->done_bytes) {
        uint32_t length = MIN(state->total_bytes - state->done_bytes, GATHER_BYTES);
        if (is_write)
            length = gather_or_scatter(wasi, state, gather, length, false);
        *ret_piece = (struct piece){gather, length, true};
        return length > 0 ? ERR_OK : ERR_FAULT;
    }
    uint32_t length = MIN(here, wasi->limits.piece_bytes);
    ret_piece->length_bytes = length;
    ret_piece->gathered = false;
    return guest_slice(wasi->guest, range->address + state->within, length, &ret_piece->data);
}

static void advance(struct transfer_state *state, uint32_t moved) {
    state->done_bytes += moved;
    while (moved > 0) {
        uint32_t here = MIN(state->ranges[state->index].length_bytes - state->within, moved);
        state->within += here;
        moved -= here;
        skip_done_buffers(state);
    }
}

/* Moves one piece. `*ret_end`: no more after this one; `*ret_short`: the device took less of it. */
static enum err move_piece(struct wasi *wasi, const struct wasi_transfer *transfer, struct fd *fd,
                           struct transfer_state *state, uint32_t *ret_moved, bool *ret_end,
                           bool *ret_short) {
    struct file *file = fd->place.file;
    bool seekable = file->traits & FILE_SEEKABLE;
    uint64_t offset = 0;
    if (transfer->has_offset)
        offset = transfer->offset + state->done_bytes;
    else if (seekable)
        offset = fd->position;

    uint8_t gather[GATHER_BYTES];
    struct piece piece;
    enum err err = next_piece(wasi, state, transfer->is_write, gather, &piece);
    if (err)
        return err;
    if (seekable && offset > WASI_OFFSET_MAX - piece.length_bytes) {
        if (transfer->is_write)
            return ERR_FBIG;
        if (offset >= WASI_OFFSET_MAX) {
            *ret_moved = 0;
            *ret_end = true;
            return ERR_OK;
        }
        piece.length_bytes = (uint32_t)(WASI_OFFSET_MAX - offset);
    }
    if (seekable && transfer->is_write && !transfer->has_offset && fd->flags & FD_FLAG_APPEND)
        offset = OFFSET_APPEND;

    wasi->op.nonblocking =
        fd->flags & FD_FLAG_NONBLOCK || (state->done_bytes > 0 && !transfer->wait_for_all);
    size_t moved = 0;
    err = transfer->is_write
              ? file_write(&wasi->op, file, piece.data, piece.length_bytes, offset, &moved)
              : file_read(&wasi->op, file, piece.data, piece.length_bytes, offset, &moved);
    if (err)
        return err;
    INVARIANT(moved <= piece.length_bytes);
    if (!transfer->is_write && piece.gathered)
        gather_or_scatter(wasi, state, gather, (uint32_t)moved, true);
    if (seekable && !transfer->has_offset && offset != OFFSET_APPEND)
        fd->position = offset + moved;
    *ret_moved = (uint32_t)moved;
    *ret_short = moved < piece.length_bytes;
    *ret_end = moved == 0 ||
               (!transfer->is_write && !transfer->wait_for_all && moved < piece.length_bytes);
    return ERR_OK;
}

static enum err move_all(struct wasi *wasi, const struct wasi_transfer *transfer, struct fd *fd,
                         struct transfer_state *state) {
    uint32_t step_bytes = 0;
    bool is_short = false;
    while (state->done_bytes < state->total_bytes) {
        if (step_bytes >= wasi->limits.piece_bytes || is_short)
            return wasi_call_yield(wasi);
        uint32_t moved = 0;
        bool end = false;
        enum err err = move_piece(wasi, transfer, fd, state, &moved, &end, &is_short);
        if (err == ERR_PENDING)
            return err;
        if (err)
            return state->done_bytes > 0 ? ERR_OK : err; /* it comes back at the next call */
        advance(state, moved);
        step_bytes += moved;
        if (transfer->is_write)
            wasi->bytes_written += moved;
        else
            wasi->bytes_read += moved;
        if (end)
            break;
    }
    return ERR_OK;
}

enum err wasi_transfer(struct wasi *wasi, const struct wasi_transfer *transfer) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, transfer->descriptor, &fd);
    if (err)
        return err;
    struct file *file = fd->place.file;
    struct transfer_state *state = wasi->call_state;
    if (!state) {
        if (fd_is_directory(fd))
            return ERR_ISDIR;
        if (!(fd->open_flags & (transfer->is_write ? OPEN_WRITE : OPEN_READ)))
            return ERR_BADF;
        if (transfer->has_offset) {
            if (!(file->traits & FILE_SEEKABLE))
                return ERR_SPIPE;
            if (transfer->offset > WASI_OFFSET_MAX)
                return ERR_INVAL;
        }
        err = transfer_begin(wasi, transfer, &state);
        if (err)
            return err;
    }
    if (state->phase == MOVING) {
        err = move_all(wasi, transfer, fd, state);
        if (err)
            return err;
        wasi->op.nonblocking = false;
        state->phase = SYNCING;
    }
    bool wrote = transfer->is_write && state->done_bytes > 0;
    if (state->phase == SYNCING) {
        if (wrote && fd->flags & (FD_FLAG_SYNC | FD_FLAG_DSYNC)) {
            err = file_sync(&wasi->op, file);
            if (err)
                return err;
        }
        state->phase = FINDING_END;
    }
    /* After appending, a descriptor stands at the end. */
    if (wrote && !transfer->has_offset && fd->flags & FD_FLAG_APPEND &&
        file->traits & FILE_SEEKABLE) {
        struct file_stat stat;
        err = file_stat(&wasi->op, file, &stat);
        if (err == ERR_PENDING)
            return err;
        if (!err)
            fd->position = MIN(stat.size, WASI_OFFSET_MAX);
    }
    err = guest_write_u32(wasi->guest, transfer->result_address, state->done_bytes);
    if (!err && transfer->has_flags) {
        uint8_t flags[2] = {0};
        err = guest_write(wasi->guest, transfer->flags_address, flags, sizeof(flags));
    }
    return err;
}

/* fd_read(fd, iovs, iovs_len, nread) */
enum err wasi_fd_read(struct wasi *wasi, const uint64_t *arguments) {
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .result_address = argument_u32(arguments, 3),
                               });
}

/* fd_write(fd, iovs, iovs_len, nwritten) */
enum err wasi_fd_write(struct wasi *wasi, const uint64_t *arguments) {
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .is_write = true,
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .result_address = argument_u32(arguments, 3),
                               });
}

/* fd_pread(fd, iovs, iovs_len, offset, nread) */
enum err wasi_fd_pread(struct wasi *wasi, const uint64_t *arguments) {
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .has_offset = true,
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .offset = arguments[3],
                                   .result_address = argument_u32(arguments, 4),
                               });
}

/* fd_pwrite(fd, iovs, iovs_len, offset, nwritten) */
enum err wasi_fd_pwrite(struct wasi *wasi, const uint64_t *arguments) {
    return wasi_transfer(wasi, &(struct wasi_transfer){
                                   .is_write = true,
                                   .has_offset = true,
                                   .descriptor = argument_u32(arguments, 0),
                                   .iovecs_address = argument_u32(arguments, 1),
                                   .iovecs_count = argument_u32(arguments, 2),
                                   .offset = arguments[3],
                                   .result_address = argument_u32(arguments, 4),
                               });
}
