/* What the tests and the fuzzer of src/wasi share: a guest with a memory of its own, on a namespace
 * of real memory file systems, and a device whose files do what a test wants.
 *
 * The guest's memory is allocated to its exact size, so that the address sanitizer sees every byte
 * beyond it. */
#pragma once

#include "base/log.h"
#include "ns/memory.h"
#include "wasi/wasi_internal.h"

/* A file of the test device. */
struct test_file {
    struct file file; /* first */
    struct op_queue queue;
    struct buf input;       /* what reads give */
    bool input_ended;       /* then the end; else they wait */
    size_t read_max;        /* bytes a read gives at most; 0 = no limit */
    struct buf output;      /* what was written */
    size_t room;            /* bytes that can be written before writes wait */
    enum err next_error;    /* of the next read or write, once */
    unsigned reads, writes; /* calls that moved something or ended */
    unsigned syncs, flushes, closes;
    bool flush_waits;
    enum err flush_error;
    unsigned shutdown_flags;
    uint64_t unread_bytes;
    bool has_connection; /* accept gives one */
};

static inline struct test_file *test_file_of(struct file *file) {
    return CONTAINER_OF(file, struct test_file, file);
}

static inline enum err test_file_wait(struct op *op, struct test_file *test_file) {
    if (op->nonblocking)
        return op_finish(op, ERR_AGAIN);
    enum err err = op_queue_wait(&test_file->queue, op);
    return err ? err : ERR_PENDING;
}

static inline enum err test_file_take_error(struct test_file *test_file) {
    enum err err = test_file->next_error;
    test_file->next_error = ERR_OK;
    return err;
}

static inline enum err test_file_read(struct op *op, struct file *file, void *data, size_t length,
                                      uint64_t offset, size_t *ret_read) {
    (void)offset;
    struct test_file *test_file = test_file_of(file);
    enum err err = test_file_take_error(test_file);
    if (err)
        return op_finish(op, err);
    if (test_file->input.length == 0 && !test_file->input_ended)
        return test_file_wait(op, test_file);
    size_t count = MIN(length, test_file->input.length);
    if (test_file->read_max)
        count = MIN(count, test_file->read_max);
    if (count > 0)
        memcpy(data, test_file->input.data, count);
    buf_consume(&test_file->input, count);
    test_file->reads++;
    *ret_read = count;
    return op_finish(op, ERR_OK);
}

static inline enum err test_file_write(struct op *op, struct file *file, const void *data,
                                       size_t length, uint64_t offset, size_t *ret_written) {
    (void)offset;
    struct test_file *test_file = test_file_of(file);
    enum err err = test_file_take_error(test_file);
    if (err)
        return op_finish(op, err);
    if (test_file->room == 0)
        return test_file_wait(op, test_file);
    size_t count = MIN(length, test_file->room);
    err = buf_append(&test_file->output, data, count);
    if (err)
        return op_finish(op, err);
    test_file->room -= count;
    test_file->writes++;
    *ret_written = count;
    return op_finish(op, ERR_OK);
}

static inline enum err test_file_poll(struct op *op, struct file *file, unsigned wanted,
                                      unsigned *ret_ready, uint64_t *ret_bytes) {
    struct test_file *test_file = test_file_of(file);
    enum err err = test_file_take_error(test_file);
    if (err)
        return op_finish(op, err);
    unsigned ready = 0;
    uint64_t bytes = 0;
    if (wanted & POLL_READABLE && (test_file->input.length > 0 || test_file->input_ended)) {
        ready |= POLL_READABLE;
        bytes = test_file->input.length;
        if (bytes == 0)
            ready |= POLL_HANGUP;
    }
    if (wanted & POLL_WRITABLE && test_file->room > 0) {
        ready |= POLL_WRITABLE;
        bytes = test_file->room;
    }
    if (!ready && !op->nonblocking)
        return test_file_wait(op, test_file);
    *ret_ready = ready;
    *ret_bytes = bytes;
    return op_finish(op, ERR_OK);
}

static inline enum err test_file_sync(struct op *op, struct file *file) {
    (void)op;
    test_file_of(file)->syncs++;
    return ERR_OK;
}

static inline enum err test_file_flush(struct op *op, struct file *file) {
    struct test_file *test_file = test_file_of(file);
    if (test_file->flush_waits)
        return test_file_wait(op, test_file);
    test_file->flushes++;
    return op_finish(op, test_file->flush_error);
}

static inline enum err test_file_unread(struct op *op, struct file *file, uint64_t distance_bytes) {
    (void)op;
    if (distance_bytes > 100)
        return ERR_SPIPE;
    test_file_of(file)->unread_bytes += distance_bytes;
    return ERR_OK;
}

static inline enum err test_file_shutdown(struct op *op, struct file *file,
                                          unsigned shutdown_flags) {
    (void)op;
    test_file_of(file)->shutdown_flags |= shutdown_flags;
    return ERR_OK;
}

static inline enum err test_file_accept(struct op *op, struct file *file,
                                        struct file **ret_connection);

static inline void test_file_closed(struct file *file, unsigned open_flags) {
    (void)open_flags;
    test_file_of(file)->closes++;
}

static inline void test_file_release(struct file *file) {
    struct test_file *test_file = test_file_of(file);
    op_queue_done(&test_file->queue);
    buf_done(&test_file->input);
    buf_done(&test_file->output);
    free(test_file);
}

static const struct dev test_file_dev = {
    .name = "test",
    .read = test_file_read,
    .write = test_file_write,
    .poll = test_file_poll,
    .sync = test_file_sync,
    .flush = test_file_flush,
    .unread = test_file_unread,
    .closed = test_file_closed,
    .release = test_file_release,
};
static const struct dev test_socket_dev = {
    .name = "test socket",
    .read = test_file_read,
    .write = test_file_write,
    .poll = test_file_poll,
    .accept = test_file_accept,
    .shutdown = test_file_shutdown,
    .closed = test_file_closed,
    .release = test_file_release,
};

static inline struct test_file *test_file_new(const struct dev *dev, enum file_type type,
                                              unsigned traits) {
    struct test_file *test_file = calloc(1, sizeof(*test_file));
    INVARIANT(test_file && op_queue_init(&test_file->queue) == ERR_OK);
    file_init(&test_file->file, dev, dev_next_number(), 1, type, traits);
    test_file->room = SIZE_MAX;
    return test_file;
}

static inline enum err test_file_accept(struct op *op, struct file *file,
                                        struct file **ret_connection) {
    struct test_file *listener = test_file_of(file);
    if (!listener->has_connection)
        return test_file_wait(op, listener);
    listener->has_connection = false;
    *ret_connection = &test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0)->file;
    return op_finish(op, ERR_OK);
}

/* Something happened: whoever waits looks again. */
static inline void test_file_wake(struct test_file *test_file) {
    op_queue_wake_all(&test_file->queue);
}
static inline void test_file_feed(struct test_file *test_file, const char *text) {
    INVARIANT(buf_append_str(&test_file->input, str_of(text)) == ERR_OK);
    test_file_wake(test_file);
}

/* A device that passes everything on to another one, but lets each operation wait for a turn of the
 * loop first: so that every call is seen to go on where it stood. */
struct slow_file {
    struct file file; /* first */
    struct file *inner;
};

static const struct dev slow_dev;

static inline struct file *slow_inner(struct file *file) {
    return CONTAINER_OF(file, struct slow_file, file)->inner;
}

/* Takes over the reference of `inner`. */
static inline struct file *slow_file_new(struct file *inner) {
    struct slow_file *slow = calloc(1, sizeof(*slow));
    INVARIANT(slow);
    file_init(&slow->file, &slow_dev, inner->device, inner->inode, inner->type, inner->traits);
    slow->inner = inner;
    return &slow->file;
}

static inline void slow_drop_state(struct op *op) {
    (void)op;
}

/* True once for each operation. */
static inline bool slow_waits(struct op *op) {
    static char mark;
    if (op->state)
        return op_finish(op, ERR_OK) != ERR_OK;
    op_set_state(op, &mark, slow_drop_state);
    op_wake(op);
    return true;
}

static inline enum err slow_result(enum err err, struct file **file) {
    if (!err)
        *file = slow_file_new(*file);
    return err;
}

static inline enum err slow_walk(struct op *op, struct file *directory, const struct str *names,
                                 size_t count, size_t *ret_walked, struct file **ret_file) {
    if (slow_waits(op))
        return ERR_PENDING;
    return slow_result(file_walk(op, slow_inner(directory), names, count, ret_walked, ret_file),
                       ret_file);
}
static inline enum err slow_open(struct op *op, struct file *file, unsigned open_flags,
                                 struct file **ret_file) {
    if (slow_waits(op))
        return ERR_PENDING;
    return slow_result(file_open(op, slow_inner(file), open_flags, ret_file), ret_file);
}
static inline enum err slow_create(struct op *op, struct file *directory, struct str name,
                                   enum file_type type, struct file **ret_file) {
    if (slow_waits(op))
        return ERR_PENDING;
    return slow_result(file_create(op, slow_inner(directory), name, type, ret_file), ret_file);
}
static inline enum err slow_symlink(struct op *op, struct file *directory, struct str name,
                                    struct str target) {
    return slow_waits(op) ? ERR_PENDING : file_symlink(op, slow_inner(directory), name, target);
}
static inline enum err slow_link(struct op *op, struct file *file, struct file *directory,
                                 struct str name) {
    return slow_waits(op) ? ERR_PENDING
                          : file_link(op, slow_inner(file), slow_inner(directory), name);
}
static inline enum err slow_readlink(struct op *op, struct file *file, struct buf *ret_target) {
    return slow_waits(op) ? ERR_PENDING : file_readlink(op, slow_inner(file), ret_target);
}
static inline enum err slow_remove(struct op *op, struct file *directory, struct str name,
                                   bool directory_wanted) {
    return slow_waits(op) ? ERR_PENDING
                          : file_remove(op, slow_inner(directory), name, directory_wanted);
}
static inline enum err slow_rename(struct op *op, struct file *old_directory, struct str old_name,
                                   struct file *new_directory, struct str new_name) {
    return slow_waits(op) ? ERR_PENDING
                          : file_rename(op, slow_inner(old_directory), old_name,
                                        slow_inner(new_directory), new_name);
}
static inline enum err slow_read(struct op *op, struct file *file, void *data, size_t length,
                                 uint64_t offset, size_t *ret_read) {
    return slow_waits(op) ? ERR_PENDING
                          : file_read(op, slow_inner(file), data, length, offset, ret_read);
}
static inline enum err slow_write(struct op *op, struct file *file, const void *data, size_t length,
                                  uint64_t offset, size_t *ret_written) {
    return slow_waits(op) ? ERR_PENDING
                          : file_write(op, slow_inner(file), data, length, offset, ret_written);
}
static inline enum err slow_readdir(struct op *op, struct file *directory,
                                    struct dir_list *ret_list) {
    return slow_waits(op) ? ERR_PENDING : file_readdir(op, slow_inner(directory), ret_list);
}
static inline enum err slow_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    return slow_waits(op) ? ERR_PENDING : file_stat(op, slow_inner(file), ret_stat);
}
static inline enum err slow_set_size(struct op *op, struct file *file, uint64_t size_bytes) {
    return slow_waits(op) ? ERR_PENDING : file_set_size(op, slow_inner(file), size_bytes);
}
static inline enum err slow_set_times(struct op *op, struct file *file, uint64_t accessed_ns,
                                      uint64_t modified_ns, unsigned set_times_flags) {
    return slow_waits(op)
               ? ERR_PENDING
               : file_set_times(op, slow_inner(file), accessed_ns, modified_ns, set_times_flags);
}
static inline enum err slow_sync(struct op *op, struct file *file) {
    return slow_waits(op) ? ERR_PENDING : file_sync(op, slow_inner(file));
}
static inline void slow_release(struct file *file) {
    file_unref(slow_inner(file));
    free(CONTAINER_OF(file, struct slow_file, file));
}

static const struct dev slow_dev = {
    .name = "slow",
    .walk = slow_walk,
    .open = slow_open,
    .create = slow_create,
    .symlink = slow_symlink,
    .link = slow_link,
    .readlink = slow_readlink,
    .remove = slow_remove,
    .rename = slow_rename,
    .read = slow_read,
    .write = slow_write,
    .readdir = slow_readdir,
    .stat = slow_stat,
    .set_size = slow_set_size,
    .set_times = slow_set_times,
    .sync = slow_sync,
    .release = slow_release,
};

/* Where in the guest's memory the tests put things. */
enum {
    GUEST_BYTES = 256 * 1024,
    AT_RESULT = 16,        /* out-pointers */
    AT_RESULT_2 = 24,      /* */
    AT_PATH = 1024,        /* the path of a call */
    AT_PATH_2 = 1024 * 16, /* its second one */
    AT_IOVECS = 1024 * 32,
    AT_STRUCT = 1024 * 64, /* structures, subscriptions */
    AT_EVENTS = 1024 * 96,
    AT_DATA = 1024 * 128, /* 128 KiB of room */
};

enum { FD_STDIN, FD_STDOUT, FD_STDERR, FD_ROOT };

struct fixture {
    struct guest guest; /* first */
    uint8_t *memory;
    size_t memory_bytes;
    struct loop *loop;
    struct who who;
    struct ns *ns;
    struct file *root, *other; /* two memory file systems, at / and at /other */
    struct wasi_strings arguments, environment;
    struct test_file *in, *out, *err; /* the standard streams */
    struct wasi wasi;
    bool is_woken;
};

static inline uint8_t *fixture_memory(struct guest *guest, size_t *ret_length_bytes) {
    struct fixture *fixture = CONTAINER_OF(guest, struct fixture, guest);
    *ret_length_bytes = fixture->memory_bytes;
    return fixture->memory;
}

static inline void fixture_wake(struct op *op) {
    CONTAINER_OF(CONTAINER_OF(op, struct wasi, op), struct fixture, wasi)->is_woken = true;
}

/* `slow`: the file systems wait as slow_dev does. */
static inline struct fixture *fixture_make(const struct wasi_limits *limits, size_t memory_bytes,
                                           bool slow) {
    struct fixture *f = calloc(1, sizeof(*f));
    INVARIANT(f);
    f->guest.memory = fixture_memory;
    f->memory_bytes = memory_bytes;
    f->memory = malloc(memory_bytes);
    INVARIANT(f->memory || memory_bytes == 0);
    memset(f->memory, 0, memory_bytes);
    f->who = (struct who){.run_id = 1, .app_id = 1, .owner_id = 1};
    const struct memory_options options = {.bytes_max = 64 * MIB, .inodes_max = 10000};
    INVARIANT(loop_new(0, &f->loop) == ERR_OK);
    INVARIANT(memory_new(&options, &f->root) == ERR_OK);
    INVARIANT(memory_new(&options, &f->other) == ERR_OK);
    if (slow) {
        f->root = slow_file_new(f->root);
        f->other = slow_file_new(f->other);
    }
    INVARIANT(ns_new(f->root, &f->ns) == ERR_OK);
    INVARIANT(ns_mount(f->ns, STR("/other"), f->other) == ERR_OK);
    INVARIANT(wasi_strings_add(&f->arguments, STR("program")) == ERR_OK);
    INVARIANT(wasi_strings_add(&f->arguments, STR("")) == ERR_OK);
    INVARIANT(wasi_strings_add(&f->arguments, STR("two words")) == ERR_OK);
    INVARIANT(wasi_strings_add(&f->environment, STR("PWD=/")) == ERR_OK);
    INVARIANT(wasi_init(&f->wasi, f->loop, &f->guest, f->ns, &f->arguments, &f->environment, limits,
                        &f->who, fixture_wake) == ERR_OK);
    f->in = test_file_new(&test_file_dev, FILE_UNKNOWN, 0);
    f->out = test_file_new(&test_file_dev, FILE_CHARACTER_DEVICE, FILE_TERMINAL);
    f->err = test_file_new(&test_file_dev, FILE_CHARACTER_DEVICE, FILE_TERMINAL);
    INVARIANT(wasi_add_stream(&f->wasi, file_ref(&f->in->file), OPEN_READ) == ERR_OK);
    INVARIANT(wasi_add_stream(&f->wasi, file_ref(&f->out->file), OPEN_WRITE) == ERR_OK);
    INVARIANT(wasi_add_stream(&f->wasi, file_ref(&f->err->file), OPEN_WRITE) == ERR_OK);
    INVARIANT(wasi_add_preopen(&f->wasi) == ERR_OK);
    return f;
}

static inline struct fixture *fixture_new(const struct wasi_limits *limits, size_t memory_bytes) {
    return fixture_make(limits, memory_bytes, false);
}

static inline void fixture_free(struct fixture *f) {
    wasi_done(&f->wasi);
    file_unref(&f->in->file);
    file_unref(&f->out->file);
    file_unref(&f->err->file);
    ns_unref(f->ns);
    file_unref(f->root);
    file_unref(f->other);
    wasi_strings_done(&f->arguments);
    wasi_strings_done(&f->environment);
    loop_free(f->loop);
    free(f->memory);
    free(f);
}

static inline const struct wasi_function *function_named(const char *name) {
    for (size_t i = 0; i < WASI_FUNCTION_COUNT; i++) {
        if (strcmp(wasi_functions[i].name, name) == 0)
            return &wasi_functions[i];
    }
    log_fatal("no function %s", name);
}

/* Begins a polled call and takes one step. */
static inline enum err fixture_begin(struct fixture *f, const struct wasi_function *function,
                                     const uint64_t *arguments) {
    f->is_woken = false;
    wasi_call_begin(&f->wasi, function, arguments);
    return wasi_call_step(&f->wasi);
}

/* Goes on with the pending call; ERR_PENDING if nothing wakes it without outside help. */
static inline enum err fixture_go_on(struct fixture *f) {
    for (;;) {
        while (!f->is_woken && loop_turn(f->loop))
            ;
        if (!f->is_woken)
            return ERR_PENDING;
        f->is_woken = false;
        enum err err = wasi_call_step(&f->wasi);
        if (err != ERR_PENDING)
            return err;
    }
}

/* A whole call; ERR_PENDING if it waits for something. */
static inline enum err fixture_call(struct fixture *f, const struct wasi_function *function,
                                    const uint64_t *arguments) {
    if (function->kind == WASI_IMMEDIATE)
        return wasi_call_immediate(&f->wasi, function, arguments);
    enum err err = fixture_begin(f, function, arguments);
    return err == ERR_PENDING ? fixture_go_on(f) : err;
}
