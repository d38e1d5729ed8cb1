#include "dev/devices.h"

#include "base/clock.h"
#include "store/applog.h"

enum {
    ROOT_INODE = 1,
    FIRST_INODE = 2,
    PIECE_MAX = 256 * 1024, /* of one call, so that a loop is not held */
    RANDOM_MAX = 64 * 1024,
    LOG_LINE_MAX = 16 * 1024,
    LOG_LINES_MAX = 1024, /* of one call: an empty line costs as much as a long one */
};

struct devices_root {
    struct file file;
    struct runs *runs;
    atomic_uint_fast64_t metric_lines;
};

/* A node; the log's is one for each open. */
struct device_file {
    struct file file;
    struct devices_root *root; /* a reference */
    struct run *run;           /* the log's, or NULL */
    struct buf line;           /* the log's line that is not ended */
};

static struct device_file *device_of(struct file *file) {
    return CONTAINER_OF(file, struct device_file, file);
}

/* ---- reading ---- */

static enum err read_nothing(struct op *op, struct file *file, void *data, size_t length,
                             uint64_t offset, size_t *ret_read) {
    (void)op, (void)file, (void)data, (void)length, (void)offset;
    *ret_read = 0;
    return ERR_OK;
}

static enum err read_zeros(struct op *op, struct file *file, void *data, size_t length,
                           uint64_t offset, size_t *ret_read) {
    (void)op, (void)file, (void)offset;
    length = MIN(length, (size_t)PIECE_MAX);
    memset(data, 0, length);
    *ret_read = length;
    return ERR_OK;
}

static enum err read_random(struct op *op, struct file *file, void *data, size_t length,
                            uint64_t offset, size_t *ret_read) {
    (void)op, (void)file, (void)offset;
    length = MIN(length, (size_t)RANDOM_MAX);
    random_bytes(data, length);
    *ret_read = length;
    return ERR_OK;
}

/* ---- writing ---- */

static enum err write_away(struct op *op, struct file *file, const void *data, size_t length,
                           uint64_t offset, size_t *ret_written) {
    (void)op, (void)file, (void)data, (void)offset;
    *ret_written = length;
    return ERR_OK;
}

static enum err write_full(struct op *op, struct file *file, const void *data, size_t length,
                           uint64_t offset, size_t *ret_written) {
    (void)op, (void)file, (void)data, (void)offset;
    if (length > 0) {
        return ERR_NOSPC;
    }
    *ret_written = 0;
    return ERR_OK;
}

static enum err write_metric(struct op *op, struct file *file, const void *data, size_t length,
                             uint64_t offset, size_t *ret_written) {
    (void)op, (void)offset;
    length = MIN(length, (size_t)PIECE_MAX);
    uint64_t lines = 0;
    for (size_t i = 0; i < length; i++) {
        lines += ((const char *)data)[i] == '\n';
    }
    atomic_fetch_add_explicit(&device_of(file)->root->metric_lines, lines, memory_order_relaxed);
    *ret_written = length;
    return ERR_OK;
}

static void log_line_ends(struct device_file *device) {
    struct applog *log = run_applog(device->run);
    if (log && device->line.length > 0) {
        applog_append(log, clock_realtime_ns(), run_id(device->run), "log", buf_str(&device->line));
    }
    device->line.length = 0;
}

static enum err write_log(struct op *op, struct file *file, const void *data, size_t length,
                          uint64_t offset, size_t *ret_written) {
    (void)op, (void)offset;
    struct device_file *device = device_of(file);
    if (!device->run) {
        return ERR_BADF; /* it was not opened */
    }
    length = MIN(length, (size_t)PIECE_MAX);
    const char *bytes = data;
    size_t done = 0;
    for (unsigned lines = 0; done < length && lines < LOG_LINES_MAX; lines++) {
        size_t room = LOG_LINE_MAX - device->line.length;
        size_t piece = MIN(length - done, room);
        const char *newline = memchr(bytes + done, '\n', piece);
        size_t text = newline ? (size_t)(newline - (bytes + done)) : piece;
        enum err err = buf_append(&device->line, bytes + done, text);
        if (err) {
            return err;
        }
        done += text + (newline ? 1 : 0);
        if (newline || text == room) {
            log_line_ends(device);
        }
    }
    *ret_written = done;
    return ERR_OK;
}

/* ---- the nodes ---- */

static enum err log_open(struct op *op, struct file *file, unsigned open_flags,
                         struct file **ret_file);

static void log_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    struct device_file *device = device_of(file);
    if (device->run) {
        log_line_ends(device);
    }
}

static void device_release(struct file *file) {
    struct device_file *device = device_of(file);
    run_unref(device->run);
    buf_done(&device->line);
    file_unref(&device->root->file);
    free(device);
}

static const struct dev null_dev = {
    .name = "null", .read = read_nothing, .write = write_away, .release = device_release};
static const struct dev zero_dev = {
    .name = "zero", .read = read_zeros, .write = write_away, .release = device_release};
static const struct dev full_dev = {
    .name = "full", .read = read_zeros, .write = write_full, .release = device_release};
static const struct dev random_dev = {
    .name = "random", .read = read_random, .write = write_away, .release = device_release};
static const struct dev metric_dev = {
    .name = "metric", .read = read_nothing, .write = write_metric, .release = device_release};
static const struct dev log_dev = {
    .name = "log",
    .open = log_open,
    .read = read_nothing,
    .write = write_log,
    .closed = log_closed,
    .release = device_release,
};

/* What there is. A row without a table is one of the run's standard streams. */
static const struct row {
    const char *name;
    const struct dev *dev;
    unsigned descriptor;
} rows[] = {
    {"null", &null_dev, 0},     {"zero", &zero_dev, 0},      {"full", &full_dev, 0},
    {"random", &random_dev, 0}, {"urandom", &random_dev, 0}, {"stdin", NULL, 0},
    {"stdout", NULL, 1},        {"stderr", NULL, 2},         {"log", &log_dev, 0},
    {"metric", &metric_dev, 0},
};

static enum err device_new(struct devices_root *root, const struct row *row, struct run *run,
                           struct file **ret_file) {
    struct device_file *device = calloc(1, sizeof(*device));
    if (!device) {
        return ERR_NOMEM;
    }
    /* Seeking is allowed where it is on other systems, and means nothing. */
    file_init(&device->file, row->dev, root->file.device, FIRST_INODE + (uint64_t)(row - rows),
              FILE_CHARACTER_DEVICE, FILE_SEEKABLE);
    file_ref(&root->file);
    device->root = root;
    device->run = run ? run_ref(run) : NULL;
    *ret_file = &device->file;
    return ERR_OK;
}

static enum err find_run(struct op *op, struct devices_root *root, struct run **ret_run) {
    if (op->who->run_id == 0 || runs_find(root->runs, op->who->run_id, ret_run) != ERR_OK) {
        return ERR_NXIO; /* the control door has no standard streams */
    }
    return ERR_OK;
}

static enum err log_open(struct op *op, struct file *file, unsigned open_flags,
                         struct file **ret_file) {
    (void)open_flags;
    struct devices_root *root = device_of(file)->root;
    struct run *run;
    enum err err = find_run(op, root, &run);
    if (err) {
        return err;
    }
    err = device_new(root, &rows[file->inode - FIRST_INODE], run, ret_file);
    run_unref(run);
    return err;
}

static enum err devices_walk(struct op *op, struct file *directory, const struct str *names,
                             size_t count, size_t *ret_walked, struct file **ret_file) {
    (void)count;
    struct devices_root *root = CONTAINER_OF(directory, struct devices_root, file);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (!str_equal_text(names[0], rows[i].name)) {
            continue;
        }
        enum err err;
        if (rows[i].dev) {
            err = device_new(root, &rows[i], NULL, ret_file);
        } else {
            struct run *run;
            err = find_run(op, root, &run);
            if (!err) {
                struct file *stream = run_stream_file(run, rows[i].descriptor);
                run_unref(run);
                if (!stream) {
                    return ERR_NOMEM;
                }
                *ret_file = stream;
            }
        }
        if (!err) {
            *ret_walked = 1;
        }
        return err;
    }
    return ERR_NOENT;
}

static enum err devices_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct run *run = NULL;
    (void)!find_run(op, CONTAINER_OF(directory, struct devices_root, file), &run);
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(rows); i++) {
        uint64_t inode = FIRST_INODE + i;
        uint8_t type = FILE_CHARACTER_DEVICE;
        if (!rows[i].dev) {
            if (!run) {
                continue;
            }
            struct file *stream = run_stream_file(run, rows[i].descriptor);
            if (!stream) {
                err = ERR_NOMEM;
                break;
            }
            inode = stream->inode;
            type = stream->type;
            file_unref(stream);
        }
        err = dir_list_add(ret_list, str_of(rows[i].name), inode, type);
    }
    run_unref(run);
    return err;
}

static void devices_release(struct file *file) {
    free(CONTAINER_OF(file, struct devices_root, file));
}

static const struct dev devices_dev = {
    .name = "devices",
    .walk = devices_walk,
    .readdir = devices_readdir,
    .release = devices_release,
};

enum err dev_devices_new(struct runs *runs, struct file **ret_root) {
    struct devices_root *root = calloc(1, sizeof(*root));
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &devices_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY,
              FILE_READ_ONLY);
    root->runs = runs;
    *ret_root = &root->file;
    return ERR_OK;
}

uint64_t dev_devices_metric_lines(const struct file *root) {
    return atomic_load(&CONTAINER_OF(root, const struct devices_root, file)->metric_lines);
}
