/* The life of a guest's WASI state, and of a call. */
#include "wasi/wasi_internal.h"
#include "wasi/wasi_trace.h"

const struct wasi_limits wasi_limits_default = {
    .open_files = 256,
    .iovecs = 1024,
    .subscriptions = 4096,
    .piece_bytes = 1024 * 1024,
    .listing_bytes = 64 * MIB,
};

enum err wasi_strings_add(struct wasi_strings *strings, struct str text) {
    if (text.length > 0 && memchr(text.data, 0, text.length))
        return ERR_INVAL;
    if (text.length >= WASI_STRINGS_BYTES_MAX - strings->bytes.length)
        return ERR_2BIG;
    enum err err = buf_reserve(&strings->bytes, text.length + 1);
    if (!err)
        err = buf_append_str(&strings->bytes, text);
    if (!err)
        err = buf_append_byte(&strings->bytes, 0);
    if (!err)
        strings->count++;
    return err;
}

void wasi_strings_done(struct wasi_strings *strings) {
    buf_done(&strings->bytes);
    strings->count = 0;
}

enum err wasi_init(struct wasi *wasi, struct loop *loop, struct guest *guest, struct ns *ns,
                   const struct wasi_strings *arguments, const struct wasi_strings *environment,
                   const struct wasi_limits *limits, const struct who *who,
                   void (*wake)(struct op *op)) {
    if (limits->piece_bytes == 0 || limits->iovecs == 0 || limits->subscriptions == 0)
        return ERR_INVAL;
    memset(wasi, 0, sizeof(*wasi));
    wasi->loop = loop;
    wasi->guest = guest;
    wasi->ns = ns_ref(ns);
    wasi->arguments = arguments;
    wasi->environment = environment;
    wasi->limits = *limits;
    fdtab_init(&wasi->descriptors, limits->open_files);
    op_init(&wasi->op, loop, who, wake);
    return ERR_OK;
}

/* First the operation: a device may still look at what the state holds. Also takes back a wake that
 * is on its way. */
static void call_end(struct wasi *wasi) {
    op_abandon(&wasi->op);
    if (wasi->call_state && wasi->drop_call_state)
        wasi->drop_call_state(wasi->call_state);
    wasi->call_state = NULL;
    wasi->drop_call_state = NULL;
    wasi->pending = NULL;
}

void wasi_done(struct wasi *wasi) {
    call_end(wasi);
    fdtab_done(&wasi->descriptors);
    op_done(&wasi->op);
    changes_free(STEAL(wasi->changes));
    ns_unref(wasi->ns);
    wasi->ns = NULL;
}

bool wasi_may_move(const struct wasi *wasi) {
    if (wasi->pending)
        return false;
    for (uint32_t i = 0; i < wasi->descriptors.capacity; i++) {
        const struct file *file = wasi->descriptors.entries[i].place.file;
        if (file && file->traits & FILE_TIED)
            return false;
    }
    return true;
}

void wasi_move(struct wasi *wasi, struct loop *loop) {
    op_move(&wasi->op, loop);
    wasi->loop = loop;
}

enum err wasi_call_immediate(struct wasi *wasi, const struct wasi_function *function,
                             const uint64_t *arguments) {
    INVARIANT(function->kind == WASI_IMMEDIATE && !wasi->pending);
    wasi->calls++;
    if (!wasi->trace)
        return function->run(wasi, arguments);
    wasi_trace_begin(wasi, function, arguments);
    enum err err = function->run(wasi, arguments);
    wasi_trace_end(wasi, function, arguments, err);
    return err;
}

void wasi_call_begin(struct wasi *wasi, const struct wasi_function *function,
                     const uint64_t *arguments) {
    INVARIANT(function->kind == WASI_POLLED && !wasi->pending);
    wasi->calls++;
    wasi->pending = function;
    wasi->op.nonblocking = false;
    size_t count = strlen(function->parameters);
    INVARIANT(count <= WASI_ARGUMENTS_MAX);
    if (count > 0)
        memcpy(wasi->pending_arguments, arguments, count * sizeof(arguments[0]));
    if (wasi->trace)
        wasi_trace_begin(wasi, function, arguments);
}

enum err wasi_call_step(struct wasi *wasi) {
    INVARIANT(wasi->pending);
    enum err err = wasi->pending->run(wasi, wasi->pending_arguments);
    if (err != ERR_PENDING) {
        if (wasi->trace)
            wasi_trace_end(wasi, wasi->pending, wasi->pending_arguments, err);
        call_end(wasi);
    }
    return err;
}

void *wasi_call_state(struct wasi *wasi, size_t size, void (*drop)(void *state)) {
    INVARIANT(size <= sizeof(wasi->call_storage) && !wasi->call_state);
    memset(wasi->call_storage, 0, size);
    wasi->call_state = wasi->call_storage;
    wasi->drop_call_state = drop;
    return wasi->call_state;
}

enum err wasi_call_yield(struct wasi *wasi) {
    op_wake(&wasi->op);
    return ERR_PENDING;
}

enum err wasi_get_fd(struct wasi *wasi, uint32_t number, struct fd **ret_fd) {
    struct fd *fd = fdtab_get(&wasi->descriptors, number);
    if (!fd)
        return ERR_BADF;
    *ret_fd = fd;
    return ERR_OK;
}

#define RIGHTS_OF_ALL                                                                              \
    (FD_RIGHT_FDSTAT_SET_FLAGS | FD_RIGHT_FILESTAT_GET | FD_RIGHT_POLL | FD_RIGHT_SYNC |           \
     FD_RIGHT_DATASYNC)
#define RIGHTS_OF_CONTENT (FD_RIGHT_READ | FD_RIGHT_WRITE)
#define RIGHTS_OF_FILE (FD_RIGHT_ADVISE | FD_RIGHT_FILESTAT_SET_SIZE | FD_RIGHT_FILESTAT_SET_TIMES)
#define RIGHTS_OF_PLACE (FD_RIGHT_SEEK | FD_RIGHT_TELL)
#define RIGHTS_OF_SOCKET (FD_RIGHT_SOCK_SHUTDOWN | FD_RIGHT_SOCK_ACCEPT)
/* Not PATH_FILESTAT_SET_SIZE: to truncate is to write, and asks for FD_WRITE. Not FD_READ,
 * FD_WRITE, FD_SEEK and FD_TELL: a directory has no content. */
#define RIGHTS_OF_DIRECTORY                                                                        \
    (FD_RIGHT_PATH_CREATE_DIRECTORY | FD_RIGHT_PATH_CREATE_FILE | FD_RIGHT_PATH_LINK_SOURCE |      \
     FD_RIGHT_PATH_LINK_TARGET | FD_RIGHT_PATH_OPEN | FD_RIGHT_READDIR | FD_RIGHT_PATH_READLINK |  \
     FD_RIGHT_PATH_RENAME_SOURCE | FD_RIGHT_PATH_RENAME_TARGET | FD_RIGHT_PATH_FILESTAT_GET |      \
     FD_RIGHT_PATH_FILESTAT_SET_TIMES | FD_RIGHT_FILESTAT_SET_TIMES | FD_RIGHT_PATH_SYMLINK |      \
     FD_RIGHT_PATH_REMOVE_DIRECTORY | FD_RIGHT_PATH_UNLINK_FILE)

uint64_t wasi_file_rights(const struct file *file) {
    uint64_t rights = RIGHTS_OF_ALL;
    switch (file->type) {
    case FILE_DIRECTORY:
        return rights | RIGHTS_OF_DIRECTORY;
    case FILE_SOCKET_STREAM:
    case FILE_SOCKET_DATAGRAM:
        return rights | RIGHTS_OF_CONTENT | RIGHTS_OF_SOCKET;
    case FILE_CHARACTER_DEVICE:
        rights |= RIGHTS_OF_CONTENT;
        if (!(file->traits & FILE_TERMINAL))
            rights |= RIGHTS_OF_PLACE;
        break;
    case FILE_REGULAR:
        rights |= RIGHTS_OF_CONTENT | RIGHTS_OF_FILE;
        break;
    default:
        rights |= RIGHTS_OF_CONTENT;
    }
    if (file->traits & FILE_SEEKABLE)
        rights |= RIGHTS_OF_PLACE;
    if (file->traits & FILE_READ_ONLY)
        rights &=
            ~(uint64_t)(FD_RIGHT_WRITE | FD_RIGHT_FILESTAT_SET_SIZE | FD_RIGHT_FILESTAT_SET_TIMES);
    return rights;
}

enum err wasi_add_fd(struct wasi *wasi, struct ns_place place, unsigned open_flags, uint64_t rights,
                     uint64_t inheriting_rights, unsigned fd_flags, uint32_t *ret_number) {
    const struct file *file = place.file;
    uint64_t possible = wasi_file_rights(file);
    struct fd fd = {
        .place = place,
        .rights = rights & possible,
        .flags = (uint16_t)fd_flags,
        .open_flags = (uint8_t)open_flags,
    };
    if (!(open_flags & OPEN_READ))
        fd.rights &= ~(uint64_t)FD_RIGHT_READ;
    if (!(open_flags & OPEN_WRITE))
        fd.rights &= ~(uint64_t)FD_RIGHT_WRITE;
    /* isatty() is decided by these two on a character device: they tell what it is, whatever was
     * asked for. */
    if (file->type == FILE_CHARACTER_DEVICE)
        fd.rights |= possible & RIGHTS_OF_PLACE;
    if (file->type == FILE_DIRECTORY)
        fd.inheriting_rights = inheriting_rights & FD_RIGHTS_ALL;
    return fdtab_add(&wasi->descriptors, &fd, ret_number);
}

enum err wasi_add_stream(struct wasi *wasi, struct file *file, unsigned open_flags) {
    uint32_t number;
    return wasi_add_fd(wasi, (struct ns_place){.file = file}, open_flags, FD_RIGHTS_ALL, 0, 0,
                       &number);
}

enum err wasi_add_listener(struct wasi *wasi, struct file *file) {
    uint32_t number;
    enum err err = wasi_add_fd(wasi, (struct ns_place){.file = file}, OPEN_READ | OPEN_WRITE,
                               FD_RIGHTS_ALL, 0, 0, &number);
    if (!err)
        fdtab_get(&wasi->descriptors, number)->is_undecided = true;
    return err;
}

enum err wasi_add_preopen(struct wasi *wasi) {
    struct ns_place root = ns_root(wasi->ns);
    uint32_t number;
    enum err err = wasi_add_fd(wasi, root, OPEN_READ, FD_RIGHTS_ALL, FD_RIGHTS_ALL, 0, &number);
    if (err) {
        ns_place_done(&root);
        return err;
    }
    fdtab_get(&wasi->descriptors, number)->is_preopen = true;
    return ERR_OK;
}
