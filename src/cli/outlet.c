#include "cli/outlet.h"

#include "cli/text.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

struct outlet_piece {
    struct outlet_piece *next;
    int descriptor;
    size_t length, written;
    uint8_t data[];
};

void outlet_init(struct outlet *output) {
    *output = (struct outlet){.last = &output->first};
}

static void drop_first(struct outlet *output) {
    struct outlet_piece *piece = output->first;
    output->bytes -= piece->length - piece->written;
    output->first = piece->next;
    if (!output->first) {
        output->last = &output->first;
    }
    free(piece);
}

void outlet_done(struct outlet *output) {
    while (output->first) {
        drop_first(output);
    }
}

/* A pipe that polls as writable takes this much without making us wait (POSIX, PIPE_BUF). */
static enum err write_some(struct outlet_piece *piece) {
    size_t length = MIN(piece->length - piece->written, (size_t)PIPE_BUF);
    ssize_t written = write(piece->descriptor, piece->data + piece->written, length);
    if (written >= 0) {
        piece->written += (size_t)written;
        return ERR_OK;
    }
    if (errno == EINTR || errno == EAGAIN) {
        return ERR_INTR;
    }
    if (piece->descriptor == STDERR_FILENO) {
        piece->written = piece->length; /* nobody is there to be told */
        return ERR_OK;
    }
    return err_from_errno(errno);
}

enum err outlet_flush(struct outlet *output, bool wait) {
    while (output->first) {
        struct outlet_piece *piece = output->first;
        struct pollfd ready = {.fd = piece->descriptor, .events = POLLOUT};
        int found = poll(&ready, 1, wait ? -1 : 0);
        if (found < 0) {
            return wait ? err_from_errno(errno) : ERR_OK;
        }
        if (found == 0) {
            return ERR_OK;
        }
        size_t before = piece->written;
        enum err err = write_some(piece);
        output->bytes -= piece->written - before;
        if (err == ERR_INTR && !wait) {
            return ERR_OK;
        }
        if (err) {
            return err;
        }
        if (piece->written == piece->length) {
            drop_first(output);
        }
    }
    return ERR_OK;
}

enum err outlet_add(struct outlet *output, int descriptor, struct str data) {
    if (data.length == 0) {
        return ERR_OK;
    }
    struct outlet_piece *piece = malloc(sizeof *piece + data.length);
    cli_check(piece ? ERR_OK : ERR_NOMEM);
    *piece = (struct outlet_piece){.descriptor = descriptor, .length = data.length};
    memcpy(piece->data, data.data, data.length);
    *output->last = piece;
    output->last = &piece->next;
    output->bytes += data.length;
    return outlet_flush(output, output->bytes > OUTPUT_QUEUE_BYTES_MAX);
}

bool outlet_poll(const struct outlet *output, struct pollfd *ret_poll) {
    if (!output->first) {
        return false;
    }
    *ret_poll = (struct pollfd){.fd = output->first->descriptor, .events = POLLOUT};
    return true;
}
