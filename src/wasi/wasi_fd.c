/* Descriptors: what they are, where they stand, closing and renumbering; attributes of open files.
 */
#include "wasi/wasi_internal.h"

/* fd_advise(fd, offset, len, advice): checked, then ignored. */
enum err wasi_fd_advise(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (argument_u32(arguments, 3) > ADVICE_MAX || arguments[1] > WASI_OFFSET_MAX ||
        arguments[2] > WASI_OFFSET_MAX - arguments[1])
        return ERR_INVAL;
    if (fd_is_directory(fd))
        return ERR_ISDIR;
    return fd->place.file->traits & FILE_SEEKABLE ? ERR_OK : ERR_SPIPE;
}

/* fd_allocate(fd, offset, len). No device can promise space, so a good call is NOTSUP; the others
 * get the error that tells what is wrong with them. */
enum err wasi_fd_allocate(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (fd_is_directory(fd))
        return ERR_ISDIR;
    if (!(fd->open_flags & OPEN_WRITE))
        return ERR_BADF;
    if (arguments[2] == 0)
        return ERR_INVAL;
    if (arguments[1] > WASI_OFFSET_MAX || arguments[2] > WASI_OFFSET_MAX - arguments[1])
        return ERR_FBIG;
    return ERR_NOTSUP;
}

/* fd_close(fd). Waits only for devices that apply what was written when it is closed. Then a
 * failure is that of the call; the descriptor is closed in any case, as POSIX has it. */
enum err wasi_fd_close(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (!err && (fd->open_flags & OPEN_WRITE)) {
        err = file_flush(&wasi->op, fd->place.file);
        if (err == ERR_PENDING) {
            return err;
        }
    }
    enum err closed = fdtab_close(&wasi->descriptors, argument_u32(arguments, 0));
    return err ? err : closed;
}

/* fd_renumber(from, to) */
enum err wasi_fd_renumber(struct wasi *wasi, const uint64_t *arguments) {
    return fdtab_renumber(&wasi->descriptors, argument_u32(arguments, 0),
                          argument_u32(arguments, 1));
}

/* fd_sync(fd) */
enum err wasi_fd_sync(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    return err ? err : file_sync(&wasi->op, fd->place.file);
}

/* fd_datasync(fd) */
enum err wasi_fd_datasync(struct wasi *wasi, const uint64_t *arguments) {
    return wasi_fd_sync(wasi, arguments);
}

/* fd_fdstat_get(fd, stat) */
enum err wasi_fd_fdstat_get(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (fd->is_undecided)
        fd->flags |= FD_FLAG_NONBLOCK;
    fd->is_undecided = false;
    uint8_t bytes[FDSTAT_SIZE] = {0};
    bytes[FDSTAT_FILETYPE] = fd->place.file->type;
    layout_put_u16(bytes + FDSTAT_FLAGS, fd->flags);
    layout_put_u64(bytes + FDSTAT_RIGHTS_BASE, fd->rights);
    layout_put_u64(bytes + FDSTAT_RIGHTS_INHERITING, fd->inheriting_rights);
    return guest_write(wasi->guest, argument_u32(arguments, 1), bytes, sizeof(bytes));
}

/* fd_fdstat_set_flags(fd, flags) */
enum err wasi_fd_fdstat_set_flags(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    uint32_t flags = argument_u32(arguments, 1);
    if (flags & ~(uint32_t)FDFLAGS_ALL)
        return ERR_INVAL;
    fd->flags = (uint16_t)flags;
    fd->is_undecided = false;
    return ERR_OK;
}

/* fd_fdstat_set_rights(fd, base, inheriting) */
enum err wasi_fd_fdstat_set_rights(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    return err ? err : ERR_NOTSUP;
}

#define PREOPEN_NAME "/"
#define PREOPEN_NAME_BYTES (sizeof(PREOPEN_NAME) - 1)

/* fd_prestat_get(fd, prestat). Guests end their search at BADF, and only at BADF. */
enum err wasi_fd_prestat_get(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (!fd->is_preopen)
        return ERR_BADF;
    uint8_t bytes[PRESTAT_SIZE] = {0};
    bytes[PRESTAT_TAG] = PRESTAT_TAG_DIR;
    layout_put_u32(bytes + PRESTAT_DIR_NAME_LEN, PREOPEN_NAME_BYTES);
    return guest_write(wasi->guest, argument_u32(arguments, 1), bytes, sizeof(bytes));
}

/* fd_prestat_dir_name(fd, path, path_len) */
enum err wasi_fd_prestat_dir_name(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (!fd->is_preopen)
        return ERR_BADF;
    if (argument_u32(arguments, 2) < PREOPEN_NAME_BYTES)
        return ERR_NAMETOOLONG;
    return guest_write(wasi->guest, argument_u32(arguments, 1), PREOPEN_NAME, PREOPEN_NAME_BYTES);
}

/* Files that have no position of their own but whose users seek in them all the same: transaction
 * files (ns/dev.h) and character devices that are no terminal. They stand at 0 for ever. */
static bool stands_still(const struct file *file) {
    return file->traits & FILE_REWINDABLE ||
           (file->type == FILE_CHARACTER_DEVICE && !(file->traits & FILE_TERMINAL));
}

/* Where a seek would lead, INVAL if before the beginning or beyond what an offset can be. */
static enum err position_moved(uint64_t position, int64_t distance, uint64_t *ret_position) {
    if (position > WASI_OFFSET_MAX)
        return ERR_OVERFLOW;
    int64_t moved;
    if (__builtin_add_overflow((int64_t)position, distance, &moved) || moved < 0)
        return ERR_INVAL;
    *ret_position = (uint64_t)moved;
    return ERR_OK;
}

static enum err seek_still(struct wasi *wasi, struct fd *fd, int64_t distance, uint32_t whence,
                           uint64_t *ret_position) {
    if (whence == WHENCE_CUR && distance < 0) {
        if (distance == INT64_MIN)
            return ERR_SPIPE;
        enum err err = file_unread(&wasi->op, fd->place.file, (uint64_t)-distance);
        if (err)
            return err;
    } else if (distance != 0 || whence == WHENCE_END) {
        return ERR_SPIPE;
    }
    *ret_position = 0;
    return ERR_OK;
}

/* fd_seek(fd, offset, whence, newoffset) */
enum err wasi_fd_seek(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    struct file *file = fd->place.file;
    int64_t distance = (int64_t)arguments[1];
    uint32_t whence = argument_u32(arguments, 2);
    if (whence > WHENCE_END)
        return ERR_INVAL;
    if (fd_is_directory(fd))
        return ERR_ISDIR;
    err = guest_check(wasi->guest, argument_u32(arguments, 3), 8);
    if (err)
        return err;

    uint64_t position = 0;
    if (file->traits & FILE_SEEKABLE) {
        uint64_t base = 0;
        if (whence == WHENCE_CUR) {
            base = fd->position;
        } else if (whence == WHENCE_END) {
            struct file_stat stat;
            err = file_stat(&wasi->op, file, &stat);
            if (err)
                return err;
            base = stat.size;
        }
        err = position_moved(base, distance, &position);
        if (!err)
            fd->position = position;
    } else if (stands_still(file)) {
        err = seek_still(wasi, fd, distance, whence, &position);
    } else {
        err = ERR_SPIPE;
    }
    return err ? err : guest_write_u64(wasi->guest, argument_u32(arguments, 3), position);
}

/* fd_tell(fd, offset) */
enum err wasi_fd_tell(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (fd_is_directory(fd))
        return ERR_ISDIR;
    const struct file *file = fd->place.file;
    if (!(file->traits & FILE_SEEKABLE) && !stands_still(file))
        return ERR_SPIPE;
    uint64_t position = file->traits & FILE_SEEKABLE ? fd->position : 0;
    return guest_write_u64(wasi->guest, argument_u32(arguments, 1), position);
}

enum err wasi_write_filestat(struct wasi *wasi, uint32_t address, const struct file_stat *stat) {
    uint8_t bytes[FILESTAT_SIZE] = {0};
    layout_put_u64(bytes + FILESTAT_DEV, stat->device);
    layout_put_u64(bytes + FILESTAT_INO, stat->inode);
    bytes[FILESTAT_FILETYPE] = stat->type;
    layout_put_u64(bytes + FILESTAT_NLINK, stat->links);
    layout_put_u64(bytes + FILESTAT_FILE_SIZE, stat->size);
    layout_put_u64(bytes + FILESTAT_ATIM, stat->accessed_ns);
    layout_put_u64(bytes + FILESTAT_MTIM, stat->modified_ns);
    layout_put_u64(bytes + FILESTAT_CTIM, stat->changed_ns);
    return guest_write(wasi->guest, address, bytes, sizeof(bytes));
}

/* fd_filestat_get(fd, buf) */
enum err wasi_fd_filestat_get(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    struct file_stat stat;
    err = file_stat(&wasi->op, fd->place.file, &stat);
    return err ? err : wasi_write_filestat(wasi, argument_u32(arguments, 1), &stat);
}

/* fd_filestat_set_size(fd, size) */
enum err wasi_fd_filestat_set_size(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (fd_is_directory(fd))
        return ERR_ISDIR;
    if (!(fd->open_flags & OPEN_WRITE))
        return ERR_BADF;
    if (fd->place.file->type != FILE_REGULAR)
        return ERR_INVAL;
    if (arguments[1] > WASI_OFFSET_MAX)
        return ERR_FBIG;
    return file_set_size(&wasi->op, fd->place.file, arguments[1]);
}

enum err wasi_times_from_flags(uint64_t accessed_ns, uint64_t modified_ns, unsigned fst_flags,
                               struct wasi_times *ret_times) {
    const unsigned accessed = FSTFLAG_ATIM | FSTFLAG_ATIM_NOW;
    const unsigned modified = FSTFLAG_MTIM | FSTFLAG_MTIM_NOW;
    if (fst_flags & ~(unsigned)FSTFLAGS_ALL || (fst_flags & accessed) == accessed ||
        (fst_flags & modified) == modified)
        return ERR_INVAL;
    if ((fst_flags & FSTFLAG_ATIM && accessed_ns > WASI_OFFSET_MAX) ||
        (fst_flags & FSTFLAG_MTIM && modified_ns > WASI_OFFSET_MAX))
        return ERR_INVAL;
    uint64_t now_ns = clock_realtime_ns();
    *ret_times = (struct wasi_times){
        .accessed_ns = fst_flags & FSTFLAG_ATIM_NOW ? now_ns : accessed_ns,
        .modified_ns = fst_flags & FSTFLAG_MTIM_NOW ? now_ns : modified_ns,
        .set_times_flags =
            (fst_flags & accessed ? SET_ACCESSED : 0u) | (fst_flags & modified ? SET_MODIFIED : 0u),
    };
    return ERR_OK;
}

/* fd_filestat_set_times(fd, atim, mtim, fst_flags) */
enum err wasi_fd_filestat_set_times(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    struct wasi_times *times = wasi->call_state;
    if (!times) {
        times = wasi_call_state(wasi, sizeof(*times), NULL);
        err = wasi_times_from_flags(arguments[1], arguments[2], argument_u32(arguments, 3), times);
        if (err)
            return err;
    }
    if (times->set_times_flags == 0)
        return ERR_OK;
    if (fd->place.file->traits & FILE_READ_ONLY)
        return ERR_ROFS;
    return file_set_times(&wasi->op, fd->place.file, times->accessed_ns, times->modified_ns,
                          times->set_times_flags);
}
