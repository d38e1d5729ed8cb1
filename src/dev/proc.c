#include "dev/proc.h"

#include "dev/text_file.h"
#include "ns/union.h"

#include <inttypes.h>

/* Inodes: the root's, then a range for each run. */
enum { ROOT_INODE = 1, INODES_PER_RUN = 32, CONTROL_MAX = 4096 };

struct proc_root {
    struct file file;
    struct runs *runs;
};

/* A node of a run: its directory (row NULL), or a file in it. One that was opened has a place of
 * its own in what it reads. */
struct proc_file {
    struct file file;
    struct proc_root *root; /* a reference */
    struct run *run;        /* a reference */
    const struct row *row;
    struct run_reader reader;
};

static enum err text_args(struct run *run, struct buf *text);
static enum err text_env(struct run *run, struct buf *text);
static enum err text_errstr(struct run *run, struct buf *text);

/* ---- what a run's directory holds ---- */

static const struct dev snapshot_dev, stream_dev, trace_dev, core_dev, wait_dev, input_dev,
    control_dev, directory_dev;

static const struct row {
    const char *name;
    const struct dev *dev;                           /* NULL: `root` */
    enum err (*text)(struct run *run, struct buf *); /* of a snapshot */
    unsigned streams;                                /* of what follows the output */
    uint8_t type;
    uint8_t traits;
} rows[] = {
    {"status", &snapshot_dev, dev_proc_status_text, 0, FILE_REGULAR,
     FILE_SEEKABLE | FILE_READ_ONLY},
    {"args", &snapshot_dev, text_args, 0, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY},
    {"env", &snapshot_dev, text_env, 0, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY},
    {"usage", &snapshot_dev, dev_proc_usage_text, 0, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY},
    {"changed", &snapshot_dev, dev_proc_changed_text, 0, FILE_REGULAR,
     FILE_SEEKABLE | FILE_READ_ONLY},
    {"stdin", &input_dev, NULL, 0, FILE_CHARACTER_DEVICE, 0},
    {"stdout", &stream_dev, NULL, RUN_STDOUT, FILE_CHARACTER_DEVICE, FILE_READ_ONLY},
    {"stderr", &stream_dev, NULL, RUN_STDERR, FILE_CHARACTER_DEVICE, FILE_READ_ONLY},
    {"log", &stream_dev, NULL, RUN_STDOUT | RUN_STDERR, FILE_CHARACTER_DEVICE,
     FILE_SEEKABLE | FILE_READ_ONLY},
    {"trace", &trace_dev, NULL, 0, FILE_CHARACTER_DEVICE, FILE_SEEKABLE | FILE_READ_ONLY},
    {"core", &core_dev, NULL, 0, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY},
    {"wait", &wait_dev, NULL, 0, FILE_CHARACTER_DEVICE, FILE_SEEKABLE | FILE_READ_ONLY},
    {"ctl", &control_dev, NULL, 0, FILE_CHARACTER_DEVICE, 0},
    {"root", NULL, NULL, 0, FILE_DIRECTORY, 0},
    {"errstr", &snapshot_dev, text_errstr, 0, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY},
};

static struct proc_file *proc_of(struct file *file) {
    return CONTAINER_OF(file, struct proc_file, file);
}

static uint64_t inode_of(const struct run *run, const struct row *row) {
    return run_id(run) * INODES_PER_RUN + (row ? 1 + (uint64_t)(row - rows) : 0);
}

static enum err lines_of(const struct wasi_strings *strings, struct buf *text) {
    const char *next = (const char *)strings->bytes.data;
    enum err err = ERR_OK;
    for (uint32_t i = 0; !err && i < strings->count; i++) {
        struct str string = str_of(next);
        err = buf_append_str(text, string);
        if (!err) {
            err = buf_append_byte(text, '\n');
        }
        next += string.length + 1;
    }
    return err;
}

static enum err text_args(struct run *run, struct buf *text) {
    return lines_of(run_arguments(run), text);
}

static enum err text_env(struct run *run, struct buf *text) {
    return lines_of(run_environment(run), text);
}

/* One line, or nothing. */
static enum err text_errstr(struct run *run, struct buf *text) {
    run_errstr(run, text);
    return text->length > 0 ? buf_append_byte(text, '\n') : ERR_OK;
}

static enum err proc_new(struct proc_root *root, struct run *run, const struct row *row,
                         struct file **ret_file) {
    struct proc_file *proc = calloc(1, sizeof(*proc));
    if (!proc) {
        return ERR_NOMEM;
    }
    file_init(&proc->file, row ? row->dev : &directory_dev, root->file.device, inode_of(run, row),
              row ? row->type : FILE_DIRECTORY, row ? row->traits : 0);
    file_ref(&root->file);
    proc->root = root;
    proc->run = run_ref(run);
    proc->row = row;
    *ret_file = &proc->file;
    return ERR_OK;
}

static void proc_release(struct file *file) {
    struct proc_file *proc = proc_of(file);
    run_unref(proc->run);
    file_unref(&proc->root->file);
    free(proc);
}

/* ---- snapshots: status, args, env, usage ---- */

static enum err snapshot_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct proc_file *proc = proc_of(file);
    struct buf cleanup_buf text = {0};
    enum err err = proc->row->text(proc->run, &text);
    if (err) {
        return err;
    }
    uint64_t created_ns = run_status(proc->run).created_ns;
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .size = text.length,
                                   .accessed_ns = created_ns,
                                   .modified_ns = created_ns,
                                   .changed_ns = created_ns};
    return ERR_OK;
}

static enum err snapshot_open(struct op *op, struct file *file, unsigned open_flags,
                              struct file **ret_file) {
    (void)op, (void)open_flags;
    struct proc_file *proc = proc_of(file);
    struct buf text = {0};
    enum err err = proc->row->text(proc->run, &text);
    if (err) {
        buf_done(&text);
        return err;
    }
    return text_file_new(file->device, file->inode, &text, run_status(proc->run).created_ns,
                         ret_file);
}

static const struct dev snapshot_dev = {
    .name = "proc", .open = snapshot_open, .stat = snapshot_stat, .release = proc_release};

/* ---- what follows the output: stdout, stderr, log ---- */

static enum err fresh_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    (void)op, (void)open_flags;
    struct proc_file *proc = proc_of(file);
    return proc_new(proc->root, proc->run, proc->row, ret_file);
}

static enum err stream_read(struct op *op, struct file *file, void *data, size_t length,
                            uint64_t offset, size_t *ret_read) {
    struct proc_file *proc = proc_of(file);
    if (length == 0) {
        *ret_read = 0;
        return ERR_OK;
    }
    if (file->traits & FILE_SEEKABLE) {
        proc->reader.offset = offset;
    }
    unsigned stream;
    uint64_t time_ns;
    return run_output_read(op, proc->run, &proc->reader, proc->row->streams, data, length, ret_read,
                           &stream, &time_ns);
}

static enum err stream_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                            uint64_t *ret_bytes) {
    struct proc_file *proc = proc_of(file);
    unsigned ready;
    enum err err = run_output_poll(op, proc->run, &proc->reader, proc->row->streams, &ready);
    if (!err) {
        *ret_ready = wanted & POLL_READABLE ? ready : 0;
        *ret_bytes = 0;
    }
    return err;
}

static const struct dev stream_dev = {.name = "proc",
                                      .open = fresh_open,
                                      .read = stream_read,
                                      .poll = stream_poll,
                                      .release = proc_release};

/* ---- trace ---- */

static enum err trace_read(struct op *op, struct file *file, void *data, size_t length,
                           uint64_t offset, size_t *ret_read) {
    if (length == 0) {
        *ret_read = 0;
        return ERR_OK;
    }
    return run_trace_read(op, proc_of(file)->run, offset, data, length, ret_read);
}

static const struct dev trace_dev = {.name = "proc", .read = trace_read, .release = proc_release};

/* ---- core ---- */

static enum err core_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct proc_file *proc = proc_of(file);
    uint64_t bytes;
    enum err err = run_core_size(proc->run, &bytes);
    if (err) {
        return err;
    }
    uint64_t ended_ns = run_status(proc->run).ended_ns;
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .size = bytes,
                                   .accessed_ns = ended_ns,
                                   .modified_ns = ended_ns,
                                   .changed_ns = ended_ns};
    return ERR_OK;
}

static enum err core_read(struct op *op, struct file *file, void *data, size_t length,
                          uint64_t offset, size_t *ret_read) {
    (void)op;
    return run_core_read(proc_of(file)->run, offset, data, length, ret_read);
}

static const struct dev core_dev = {
    .name = "proc", .read = core_read, .stat = core_stat, .release = proc_release};

/* ---- wait ---- */

static enum err wait_read(struct op *op, struct file *file, void *data, size_t length,
                          uint64_t offset, size_t *ret_read) {
    struct proc_file *proc = proc_of(file);
    enum err err = run_wait(op, proc->run);
    if (err) {
        return err;
    }
    struct buf cleanup_buf text = {0};
    err = dev_proc_end_text(proc->run, &text);
    if (!err) {
        size_t here = offset < text.length ? MIN(length, text.length - (size_t)offset) : 0;
        memcpy(data, text.data + (here ? offset : 0), here);
        *ret_read = here;
    }
    return err;
}

static enum err wait_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                          uint64_t *ret_bytes) {
    enum err err = run_wait(op, proc_of(file)->run);
    if (err && err != ERR_AGAIN) {
        return err;
    }
    *ret_ready = err ? 0 : wanted & POLL_READABLE;
    *ret_bytes = 0;
    return ERR_OK;
}

static const struct dev wait_dev = {
    .name = "proc", .read = wait_read, .poll = wait_poll, .release = proc_release};

/* ---- stdin ---- */

static enum err input_write(struct op *op, struct file *file, const void *data, size_t length,
                            uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct run *run = proc_of(file)->run;
    enum err err = run_stdin_write(op, run, data, length, ret_written);
    if (err != ERR_PIPE) {
        return err;
    }
    unsigned long long id = run_id(run);
    if (run_has_stdin(run)) {
        return buf_fail(op->message, err,
                        "run %llu takes no more input: it has ended, or its standard input was "
                        "closed",
                        id);
    }
    return buf_fail(op->message, err,
                    "run %llu has no standard input: to write to it, start it with stdin=open", id);
}

static enum err input_poll(struct op *op, struct file *file, unsigned wanted, unsigned *ret_ready,
                           uint64_t *ret_bytes) {
    unsigned ready;
    enum err err = run_stdin_poll(op, proc_of(file)->run, &ready);
    if (!err) {
        *ret_ready = ready & (wanted | POLL_HANGUP);
        *ret_bytes = 0;
    }
    return err;
}

static enum err input_shutdown(struct op *op, struct file *file, unsigned shutdown_flags) {
    (void)op;
    if (shutdown_flags & SHUTDOWN_WRITE) {
        run_stdin_close(proc_of(file)->run);
    }
    return ERR_OK;
}

static const struct dev input_dev = {.name = "proc",
                                     .write = input_write,
                                     .poll = input_poll,
                                     .shutdown = input_shutdown,
                                     .release = proc_release};

/* ---- ctl ---- */

static enum err control_read(struct op *op, struct file *file, void *data, size_t length,
                             uint64_t offset, size_t *ret_read) {
    (void)op, (void)file, (void)data, (void)length, (void)offset;
    *ret_read = 0;
    return ERR_OK;
}

/* A verb a line. Where one is unknown, nothing of this write is done. */
static enum err control_write(struct op *op, struct file *file, const void *data, size_t length,
                              uint64_t offset, size_t *ret_written) {
    (void)offset;
    if (length > CONTROL_MAX) {
        return ERR_INVAL;
    }
    struct run *run = proc_of(file)->run;
    for (int pass = 0; pass < 2; pass++) {
        struct str rest = {data, length};
        while (rest.data) {
            struct str verb = str_cut(&rest, '\n');
            while (verb.length > 0 &&
                   (verb.data[verb.length - 1] == '\r' || verb.data[verb.length - 1] == ' ')) {
                verb.length--;
            }
            if (verb.length == 0) {
                continue;
            }
            if (pass == 0 && !dev_proc_is_verb(verb)) {
                return buf_fail(op->message, ERR_INVAL,
                                "'%.*s' can't be done to a run; there are pause, resume and kill",
                                (int)MIN(verb.length, (size_t)32), verb.data);
            }
            if (pass == 1) {
                (void)!dev_proc_control(run, verb);
            }
        }
    }
    *ret_written = length;
    return ERR_OK;
}

static const struct dev control_dev = {
    .name = "proc", .read = control_read, .write = control_write, .release = proc_release};

/* ---- a run's directory ---- */

/* Whether `who` may look at the files of the run at its `/`. Those of another app's run are none of
 * a guest's business, even if it started that run. */
static bool may_see_root(const struct who *who, const struct run *run) {
    return who->may_control || who->app_id == run_who(run)->app_id;
}

/* A walk into the root of a run that has ended and given its tree back: that is opened first. */
struct root_walk {
    struct op child;
    struct file *root; /* a reference, once it is open */
};

static void drop_root_walk(struct op *op) {
    struct root_walk *walk = op->state;
    op_done(&walk->child);
    file_unref(walk->root);
    free(walk);
}

/* In `root`, or that itself where `count` is 0 or nothing is found. */
static enum err walk_below(struct op *op, struct file *root, const struct str *names, size_t count,
                           size_t *ret_walked, struct file **ret_file) {
    size_t walked = 0;
    struct file *found = NULL;
    enum err err = count > 0 ? file_walk(op, root, names, count, &walked, &found) : ERR_NOENT;
    if (err && err != ERR_NOENT) {
        return err;
    }
    *ret_walked = 1 + (err ? 0 : walked);
    *ret_file = err ? file_ref(root) : found;
    return ERR_OK;
}

/* What the run has left is looked at, and stays as it is. Takes over `root`. */
static enum err view_new(struct file *root, struct file **ret_view) {
    enum err err = union_new(&root, 1, false, ret_view);
    file_unref(root);
    return err;
}

/* On into the run's own tree: another device, so what is found there is counted on top. */
static enum err walk_root(struct op *op, struct run *run, const struct str *names, size_t count,
                          size_t *ret_walked, struct file **ret_file) {
    struct file *root = NULL;
    struct root_walk *walk = op->state && op->drop_state == drop_root_walk ? op->state : NULL;
    enum err err = !may_see_root(op->who, run) ? ERR_NOENT : walk ? ERR_OK : run_root(run, &root);
    /* A walk that began before the end goes on as it began. */
    bool is_past = !op->state && run_status(run).state == RUN_ENDED;
    if (!err && !walk && !is_past) {
        err = walk_below(op, root, names, count, ret_walked, ret_file);
        file_unref(root);
        return err;
    }
    /* Who was told that it shall not get at a volume gets at it by no run either. */
    if (!walk && err && (err != ERR_NOENT || !op->who->may_control)) {
        return op_finish(op, err);
    }
    if (!walk) {
        walk = calloc(1, sizeof(*walk));
        if (!walk) {
            file_unref(root);
            return ERR_NOMEM;
        }
        op_init_child(&walk->child, op);
        op_set_state(op, walk, drop_root_walk);
    }
    err = walk->root || root ? ERR_OK : run_open_root(&walk->child, run, &root);
    if (!err && !walk->root) {
        err = view_new(root, &walk->root);
    }
    if (!err) {
        err = walk_below(&walk->child, walk->root, names, count, ret_walked, ret_file);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

/* What looks into a program is for its owner, not for programs, and there only if it was asked for.
 * How another app is set up is not for a run with a root of its own, which may be anybody's code.
 */
static bool has_row(const struct who *who, struct run *run, const struct row *row) {
    uint64_t bytes;
    bool is_setting = row->text == text_args || row->text == text_env;
    if (is_setting && who->has_own_root && who->app_id != run_app(run)->id) {
        return false;
    }
    if (row->dev == &core_dev) {
        return who->may_control && run_core_size(run, &bytes) == ERR_OK;
    }
    return row->dev != &trace_dev || (who->may_control && run_has_trace(run));
}

static enum err walk_run(struct op *op, struct proc_root *root, struct run *run,
                         const struct str *names, size_t count, size_t *ret_walked,
                         struct file **ret_file) {
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (!str_equal_text(names[0], rows[i].name)) {
            continue;
        }
        if (!has_row(op->who, run, &rows[i])) {
            return op->who->may_control
                       ? dev_proc_fail_missing(run, rows[i].dev == &core_dev, op->message)
                       : ERR_NOENT;
        }
        if (!rows[i].dev) {
            return walk_root(op, run, names + 1, count - 1, ret_walked, ret_file);
        }
        enum err err = proc_new(root, run, &rows[i], ret_file);
        if (!err) {
            *ret_walked = 1;
        }
        return err;
    }
    return ERR_NOENT;
}

static enum err directory_walk(struct op *op, struct file *directory, const struct str *names,
                               size_t count, size_t *ret_walked, struct file **ret_file) {
    struct proc_file *proc = proc_of(directory);
    return walk_run(op, proc->root, proc->run, names, count, ret_walked, ret_file);
}

static enum err directory_readdir(struct op *op, struct file *directory,
                                  struct dir_list *ret_list) {
    struct run *run = proc_of(directory)->run;
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(rows); i++) {
        uint64_t inode = inode_of(run, &rows[i]);
        if (!has_row(op->who, run, &rows[i])) {
            continue;
        }
        if (!rows[i].dev) {
            struct file *found = NULL;
            if (!may_see_root(op->who, run) ||
                (run_root(run, &found) != ERR_OK && !op->who->may_control)) {
                continue;
            }
            inode = found ? found->inode : inode;
            file_unref(found);
        }
        err = dir_list_add(ret_list, str_of(rows[i].name), inode, rows[i].type);
    }
    return err;
}

/* Removing its name closes standard input. */
static enum err directory_remove(struct op *op, struct file *directory, struct str name,
                                 bool directory_wanted) {
    (void)op;
    if (!str_equal_text(name, "stdin")) {
        return ERR_PERM;
    }
    if (directory_wanted) {
        return ERR_NOTDIR;
    }
    run_stdin_close(proc_of(directory)->run);
    return ERR_OK;
}

static enum err directory_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    struct run_status status = run_status(proc_of(file)->run);
    uint64_t changed_ns = status.ended_ns ? status.ended_ns : status.created_ns;
    *ret_stat = (struct file_stat){.device = file->device,
                                   .inode = file->inode,
                                   .type = file->type,
                                   .links = 1,
                                   .accessed_ns = changed_ns,
                                   .modified_ns = changed_ns,
                                   .changed_ns = changed_ns};
    return ERR_OK;
}

static const struct dev directory_dev = {.name = "proc",
                                         .walk = directory_walk,
                                         .readdir = directory_readdir,
                                         .remove = directory_remove,
                                         .stat = directory_stat,
                                         .release = proc_release};

/* ---- the root ---- */

static enum err find_run(const struct who *who, struct runs *runs, struct str name,
                         struct run **ret_run) {
    uint64_t id = 0;
    if (str_equal_text(name, "self")) {
        id = who->run_id;
    } else if (str_to_u64(name, &id) != ERR_OK || (name.data[0] == '0')) {
        return ERR_NOENT; /* an id has one spelling */
    }
    struct run *run;
    enum err err = id ? runs_find(runs, id, &run) : ERR_NOENT;
    if (err) {
        return err;
    }
    if (!dev_proc_may_see(who, run)) {
        run_unref(run);
        return ERR_NOENT;
    }
    *ret_run = run;
    return ERR_OK;
}

static enum err root_walk(struct op *op, struct file *directory, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    struct proc_root *root = CONTAINER_OF(directory, struct proc_root, file);
    struct run *run;
    enum err err = find_run(op->who, root->runs, names[0], &run);
    if (err) {
        return op_finish(op, err); /* it may have gone while the walk was below it */
    }
    size_t walked = 0;
    if (count > 1) {
        err = walk_run(op, root, run, names + 1, count - 1, &walked, ret_file);
    }
    if (count == 1 || err == ERR_NOENT) {
        walked = 0;
        err = proc_new(root, run, NULL, ret_file);
    }
    run_unref(run);
    if (!err) {
        *ret_walked = 1 + walked;
    }
    return err;
}

static enum err root_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct runs *runs = CONTAINER_OF(directory, struct proc_root, file)->runs;
    struct run **list;
    size_t count;
    enum err err = runs_list(runs, &list, &count);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        if (!err && dev_proc_may_see(op->who, list[i])) {
            char name[24];
            int length = snprintf(name, sizeof(name), "%" PRIu64, run_id(list[i]));
            uint64_t inode = inode_of(list[i], NULL);
            err = dir_list_add(ret_list, (struct str){name, (size_t)length}, inode, FILE_DIRECTORY);
            if (!err && run_id(list[i]) == op->who->run_id) {
                err = dir_list_add(ret_list, STR("self"), inode, FILE_DIRECTORY);
            }
        }
        run_unref(list[i]);
    }
    free(list);
    return err;
}

/* Removing a run ends it; it stays to be looked at until it is forgotten. */
static enum err root_remove(struct op *op, struct file *directory, struct str name,
                            bool directory_wanted) {
    if (!directory_wanted) {
        return ERR_ISDIR;
    }
    struct run *run = NULL;
    struct proc_root *root = CONTAINER_OF(directory, struct proc_root, file);
    enum err err = find_run(op->who, root->runs, name, &run);
    if (err) {
        return err;
    }
    run_kill(run, RUN_REASON_KILLED);
    run_unref(run);
    return ERR_OK;
}

static void root_release(struct file *file) {
    free(CONTAINER_OF(file, struct proc_root, file));
}

static const struct dev root_dev = {.name = "proc",
                                    .walk = root_walk,
                                    .readdir = root_readdir,
                                    .remove = root_remove,
                                    .release = root_release};

enum err dev_proc_new(struct runs *runs, struct file **ret_root) {
    struct proc_root *root = calloc(1, sizeof(*root));
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &root_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, 0);
    root->runs = runs;
    *ret_root = &root->file;
    return ERR_OK;
}
