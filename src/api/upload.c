#include "api/upload.h"

#include "base/fsio.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A worker gets pieces of at least this size, the client waits when twice as much is unwritten.
 * While all uploads together have so much in memory the pieces are small: a crowd of slow ones
 * would else take a quarter of a megabyte each. */
#define PIECE_BYTES (256 * KIB)
#define PIECE_LITTLE (16 * KIB)
#define TOGETHER_MAX (64 * MIB)

struct write_work {
    struct op_work base;
    int descriptor; /* a duplicate: the upload may be given up meanwhile */
    struct buf data;
    atomic_uint_fast64_t
        *together; /* api->gathered_bytes, in which the room of `data` is counted */
    enum err result;
};

static void count_less(atomic_uint_fast64_t *together, size_t bytes) {
    atomic_fetch_sub_explicit(together, bytes, memory_order_relaxed);
}

static size_t piece_bytes(const struct upload *upload) {
    uint64_t together =
        atomic_load_explicit(&upload->request->api->gathered_bytes, memory_order_relaxed);
    return together < TOGETHER_MAX ? PIECE_BYTES : PIECE_LITTLE;
}

static void write_run(struct op_work *base) {
    struct write_work *work = CONTAINER_OF(base, struct write_work, base);
    work->result = fsio_write_all(work->descriptor, work->data.data, work->data.length);
}

static void write_release(struct op_work *base) {
    struct write_work *work = CONTAINER_OF(base, struct write_work, base);
    close(work->descriptor);
    count_less(work->together, work->data.capacity);
    buf_done(&work->data);
    free(work);
}

/* Polled. Hands what has gathered to a worker. */
static enum err write_gathered(struct upload *upload) {
    struct write_work *work = upload->op.state;
    if (!work) {
        work = calloc(1, sizeof *work);
        if (!work) {
            return ERR_NOMEM;
        }
        work->descriptor = fcntl(upload->descriptor, F_DUPFD_CLOEXEC, 3);
        if (work->descriptor < 0) {
            free(work);
            return ERR_NFILE;
        }
        work->base.run = write_run;
        work->base.release = write_release;
        work->together = &upload->request->api->gathered_bytes;
        work->data = upload->filling;
        upload->filling = (struct buf){0};
        return op_work_start(&upload->op, &work->base);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    return op_finish(&upload->op, work->result);
}

static void tell_done(struct upload *upload) {
    if (!upload->done_told) {
        upload->done_told = true;
        upload->done(upload->request, upload->failed);
    }
}

static void progress(struct upload *upload) {
    while (!upload->failed) {
        bool writing = upload->op.state != NULL;
        bool enough = upload->filling.length >= piece_bytes(upload) ||
                      (upload->ended && upload->filling.length > 0);
        if (!writing && !enough) {
            break;
        }
        enum err err = write_gathered(upload);
        if (err == ERR_PENDING) {
            return;
        }
        upload->failed = err;
    }
    if (upload->body_paused) {
        upload->body_paused = false;
        http_body_resume(upload->request->exchange);
    }
    if (upload->failed || upload->ended) {
        tell_done(upload);
    }
}

static void woken(struct op *op) {
    progress(CONTAINER_OF(op, struct upload, op));
}

enum err upload_init(struct upload *upload, struct request *request, uint64_t length_max,
                     void (*done)(struct request *request, enum err err)) {
    *upload = (struct upload){
        .request = request, .descriptor = -1, .length_max = length_max, .done = done};
    enum err err = catalog_temporary_path(request->api->catalog, &upload->path);
    if (err) {
        return err;
    }
    upload->descriptor = open(buf_text(&upload->path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (upload->descriptor < 0) {
        err = err_from_errno(errno);
        buf_done(&upload->path);
        return err;
    }
    op_init(&upload->op, request->loop, &request->who, woken);
    http_gather_body(request->exchange);
    return ERR_OK;
}

/* The room of a piece is taken at once, of which the kernel gives what is used: blocks that grow
 * would leave the smaller ones of a whole crowd unused. */
static enum err gather(struct upload *upload, const uint8_t *data, size_t length) {
    struct buf *filling = &upload->filling;
    size_t room = filling->capacity;
    enum err err = buf_reserve(filling, room > 0 ? length : MAX(length, piece_bytes(upload)));
    if (!err) {
        err = buf_append(filling, data, length);
    }
    atomic_fetch_add_explicit(&upload->request->api->gathered_bytes, filling->capacity - room,
                              memory_order_relaxed);
    return err;
}

size_t upload_body(struct upload *upload, const uint8_t *data, size_t length) {
    if (upload->failed) {
        return length;
    }
    if (length > upload->length_max - upload->length) {
        upload->failed = ERR_FBIG;
        tell_done(upload);
        return length;
    }
    /* While nothing is written nobody would wake it. */
    bool is_writing = upload->op.state != NULL;
    if (is_writing && upload->filling.length >= 2 * piece_bytes(upload)) {
        upload->body_paused = true;
        return 0;
    }
    upload->failed = gather(upload, data, length);
    upload->length += length;
    progress(upload);
    return length;
}

void upload_end(struct upload *upload) {
    upload->ended = true;
    progress(upload);
}

void upload_done(struct upload *upload) {
    if (!upload->request) {
        return;
    }
    op_done(&upload->op);
    if (upload->descriptor >= 0) {
        close(upload->descriptor);
    }
    if (upload->path.length > 0) {
        unlink(buf_text(&upload->path));
    }
    buf_done(&upload->path);
    count_less(&upload->request->api->gathered_bytes, upload->filling.capacity);
    buf_done(&upload->filling);
    *upload = (struct upload){.descriptor = -1};
}
