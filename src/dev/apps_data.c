/* The bytes of modules, read by workers, and logs. */
#include "dev/apps_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PIECE_MAX = 256 * 1024 };

static struct file_stat stat_of(const struct file *file, uint64_t size, uint64_t version,
                                uint64_t time_ns) {
    return (struct file_stat){.device = file->device,
                              .inode = file->inode,
                              .type = file->type,
                              .links = 1,
                              .size = size,
                              .accessed_ns = time_ns,
                              .modified_ns = time_ns,
                              .changed_ns = time_ns,
                              .version = version};
}

/* ---- module ---- */

/* One read: the file is opened anew each time, which costs less than keeping it open. It can't go
 * away: the node has a snapshot of the app. */
struct module_read {
    struct op_work base; /* first */
    struct buf path;
    uint64_t offset;
    size_t length;
    enum err result;
    size_t read;
    uint8_t data[];
};

static void run_module_read(struct op_work *work) {
    struct module_read *read = (struct module_read *)work;
    int descriptor = open(buf_text(&read->path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) {
        read->result = errno == ENOENT ? ERR_STALE : err_from_errno(errno);
        return;
    }
    ssize_t result;
    do {
        result = pread(descriptor, read->data, read->length, (off_t)read->offset);
    } while (result < 0 && errno == EINTR);
    read->result = result < 0 ? err_from_errno(errno) : ERR_OK;
    read->read = result < 0 ? 0 : (size_t)result;
    close(descriptor);
}

static void release_module_read(struct op_work *work) {
    struct module_read *read = (struct module_read *)work;
    buf_done(&read->path);
    free(read);
}

static enum err module_read(struct op *op, struct file *file, void *data, size_t length,
                            uint64_t offset, size_t *ret_read) {
    struct module_read *read = op->state;
    if (!read) {
        struct apps_file *node = apps_file_of(file);
        const struct app_version *version = apps_version_of(node);
        if (offset >= version->module_bytes || length == 0) {
            *ret_read = 0;
            return op_finish(op, ERR_OK);
        }
        length = MIN(MIN(length, version->module_bytes - offset), PIECE_MAX);
        read = calloc(1, sizeof(*read) + length);
        if (!read) {
            return ERR_NOMEM;
        }
        read->base.run = run_module_read;
        read->base.release = release_module_read;
        read->offset = offset;
        read->length = length;
        enum err err =
            catalog_module_path(node->apps->catalog, version->module_sha256, &read->path);
        if (err) {
            release_module_read(&read->base);
            return err;
        }
        return op_work_start(op, &read->base);
    }
    if (!read->base.finished) {
        return ERR_PENDING;
    }
    enum err err = read->result;
    if (!err) {
        *ret_read = MIN(read->read, length);
        memcpy(data, read->data, *ret_read);
    }
    return op_finish(op, err);
}

static enum err module_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    const struct app_version *version = apps_version_of(apps_file_of(file));
    *ret_stat = stat_of(file, version->module_bytes, version->number, version->created_ns);
    return ERR_OK;
}

const struct dev apps_module_dev = {
    .name = "apps",
    .read = module_read,
    .stat = module_stat,
    .release = apps_release,
};

/* ---- log ---- */

/* A log that was opened. Offsets are those of the log. Where its beginning has been removed, a line
 * that says so comes first, and offsets count from there. */
struct open_log {
    struct file file;
    struct applog *log; /* a reference, or NULL: empty */
    struct buf cut;     /* that line */
    uint64_t first;     /* the offset in the log of what follows it */
    uint64_t time_ns;
};

static struct open_log *log_of(struct file *file) {
    return CONTAINER_OF(file, struct open_log, file);
}

static enum err begin_log(const struct apps_file *node, struct open_log *log) {
    if (!node->apps->logs) {
        return ERR_OK;
    }
    enum err err = applog_get(node->apps->logs, node->app->id, &log->log);
    if (err) {
        return err;
    }
    log->first = applog_first_offset(log->log);
    return log->first ? applog_format_cut(&log->cut, 0, log->first) : ERR_OK;
}

static uint64_t log_size(const struct open_log *log) {
    uint64_t end = log->log ? applog_end_offset(log->log) : 0;
    return log->cut.length + (end > log->first ? end - log->first : 0);
}

static void end_log(struct open_log *log) {
    buf_done(&log->cut);
    applog_unref(log->log);
}

static enum err log_read(struct op *op, struct file *file, void *data, size_t length,
                         uint64_t offset, size_t *ret_read) {
    struct open_log *log = log_of(file);
    if (offset < log->cut.length) {
        size_t here = MIN(length, log->cut.length - (size_t)offset);
        memcpy(data, log->cut.data + offset, here);
        *ret_read = here;
        return op_finish(op, ERR_OK);
    }
    uint64_t position = log->first + (offset - log->cut.length);
    /* Also where the offset is absurdly large: nothing is behind the end. */
    if (length == 0 || offset >= log_size(log)) {
        *ret_read = 0;
        return op_finish(op, ERR_OK);
    }
    uint64_t at;
    size_t read;
    enum err err = applog_read(op, log->log, position, data, length, &read, &at);
    if (err) {
        return err;
    }
    if (read > 0 && at != position) {
        return ERR_STALE; /* removed meanwhile: who opens it anew is told so */
    }
    *ret_read = read;
    return ERR_OK;
}

static enum err open_log_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct open_log *log = log_of(file);
    *ret_stat = stat_of(file, log_size(log), 0, log->time_ns);
    return ERR_OK;
}

static void open_log_release(struct file *file) {
    struct open_log *log = log_of(file);
    end_log(log);
    free(log);
}

static const struct dev open_log_dev = {
    .name = "apps",
    .read = log_read,
    .stat = open_log_stat,
    .release = open_log_release,
};

static enum err log_open(struct op *op, struct file *file, unsigned open_flags,
                         struct file **ret_file) {
    (void)op, (void)open_flags;
    struct apps_file *node = apps_file_of(file);
    struct open_log *log = calloc(1, sizeof(*log));
    if (!log) {
        return ERR_NOMEM;
    }
    file_init(&log->file, &open_log_dev, file->device, file->inode, file->type, file->traits);
    log->time_ns = node->app->changed_ns;
    enum err err = begin_log(node, log);
    if (err) {
        open_log_release(&log->file);
        return err;
    }
    *ret_file = &log->file;
    return ERR_OK;
}

static enum err log_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct open_log log = {0};
    enum err err = begin_log(apps_file_of(file), &log);
    if (!err) {
        *ret_stat = stat_of(file, log_size(&log), 0, apps_file_of(file)->app->changed_ns);
    }
    end_log(&log);
    return err;
}

const struct dev apps_log_dev = {
    .name = "apps",
    .open = log_open,
    .stat = log_stat,
    .release = apps_release,
};
