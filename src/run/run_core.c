/* Core dumps of runs: written by a worker while the run's sandbox is still there, kept with the run
 * until it is forgotten, or until there are too many of them. */
#include "run/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct core_work {
    struct op_work base;
    struct sandbox_core core;
    struct buf path;
    uint64_t bytes_max;
    int descriptor; /* -1: none */
    uint64_t bytes;
    enum err result;
};

static void write_core(struct op_work *base) {
    struct core_work *work = CONTAINER_OF(base, struct core_work, base);
    const char *path = buf_text(&work->path);
    work->descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (work->descriptor < 0) {
        work->result = err_from_errno(errno);
        return;
    }
    unlink(path); /* it goes with its descriptor */
    work->result = sandbox_core_write(&work->core, work->descriptor, work->bytes_max, &work->bytes);
}

static void release_work(struct op_work *base) {
    struct core_work *work = CONTAINER_OF(base, struct core_work, base);
    if (work->descriptor >= 0) {
        close(work->descriptor);
    }
    sandbox_core_done(&work->core);
    buf_done(&work->path);
    free(work);
}

bool run_wants_core(const struct run *run) {
    return run->wants_core;
}

static enum err begin(struct op *op, struct run *run) {
    const struct runs_options *options = &run->runs->options;
    struct core_work *work = calloc(1, sizeof(*work));
    if (!work) {
        return ERR_NOMEM;
    }
    work->base.run = write_core;
    work->base.release = release_work;
    work->descriptor = -1;
    work->bytes_max = MIN(options->core_bytes_max, options->cores_bytes_max);
    enum err err = catalog_temporary_path(run->runs->catalog, &work->path);
    if (!err) {
        err = sandbox_core(run->sandbox, str_of(run->app->name), &work->core);
    }
    if (err) {
        release_work(&work->base);
        return err;
    }
    return op_work_start(op, &work->base);
}

static void core_unref(struct run_core *core) {
    if (core && atomic_fetch_sub(&core->references, 1) == 1) {
        close(core->descriptor);
        free(core);
    }
}

/* Takes its core from a run. Called with runs->lock; the caller drops the reference. */
static struct run_core *take_core(struct runs *runs, struct run_core *core) {
    list_remove(&core->link);
    runs->cores_bytes -= core->bytes;
    pthread_mutex_lock(&core->run->lock);
    core->run->core = NULL;
    pthread_mutex_unlock(&core->run->lock);
    return core;
}

/* Gives the run its core, and drops the oldest ones that there is no room for any more. */
static void add_core(struct run *run, struct run_core *core) {
    struct runs *runs = run->runs;
    bool more;
    do {
        struct run_core *oldest = NULL;
        pthread_mutex_lock(&runs->lock);
        more = core->bytes > runs->options.cores_bytes_max - runs->cores_bytes;
        if (more) {
            oldest = take_core(runs, CONTAINER_OF(runs->cores.next, struct run_core, link));
        } else {
            runs->cores_bytes += core->bytes;
            list_append(&runs->cores, &core->link);
            pthread_mutex_lock(&run->lock);
            run->core = core;
            pthread_mutex_unlock(&run->lock);
        }
        pthread_mutex_unlock(&runs->lock);
        core_unref(oldest);
    } while (more);
}

enum err run_core_make(struct op *op, struct run *run) {
    struct core_work *work = op->state ? CONTAINER_OF(op->state, struct core_work, base) : NULL;
    if (!work) {
        return begin(op, run);
    }
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    enum err err = work->result;
    struct run_core *core = err ? NULL : calloc(1, sizeof(*core));
    if (!err && !core) {
        err = ERR_NOMEM;
    }
    if (!err) {
        atomic_init(&core->references, 1);
        core->descriptor = work->descriptor;
        work->descriptor = -1;
        core->bytes = work->bytes;
        core->run = run;
        list_init(&core->link);
        add_core(run, core);
    }
    return op_finish(op, err);
}

void run_core_drop(struct run *run) {
    if (!run->wants_core) {
        return; /* as nearly all: without the lock */
    }
    struct run_core *core = NULL;
    pthread_mutex_lock(&run->runs->lock);
    if (run->core) {
        core = take_core(run->runs, run->core);
    }
    pthread_mutex_unlock(&run->runs->lock);
    core_unref(core);
}

enum err run_core_size(struct run *run, uint64_t *ret_bytes) {
    enum err err = ERR_NOENT;
    pthread_mutex_lock(&run->lock);
    if (run->core) {
        *ret_bytes = run->core->bytes;
        err = ERR_OK;
    }
    pthread_mutex_unlock(&run->lock);
    return err;
}

enum err run_core_read(struct run *run, uint64_t offset, void *data, size_t size,
                       size_t *ret_read) {
    pthread_mutex_lock(&run->lock);
    struct run_core *core = run->core;
    if (core) {
        atomic_fetch_add(&core->references, 1);
    }
    pthread_mutex_unlock(&run->lock);
    if (!core) {
        return ERR_NOENT;
    }
    ssize_t got = 0;
    if (offset < core->bytes) {
        size = (size_t)MIN((uint64_t)size, core->bytes - offset);
        do {
            got = pread(core->descriptor, data, size, (off_t)offset);
        } while (got < 0 && errno == EINTR);
    }
    core_unref(core);
    if (got < 0) {
        return ERR_IO;
    }
    *ret_read = (size_t)got;
    return ERR_OK;
}
