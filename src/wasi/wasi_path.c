/* What is done by path: attributes, links, directories, names. Opening is in wasi_open.c.
 *
 * Paths are resolved by ns alone. A trailing slash means "must be a directory": ns strips it and
 * says so (directory_wanted), and each function here gives it the meaning that Linux does. */
#include "ns/temporary.h"
#include "wasi/wasi_internal.h"

enum err wasi_path_walk(struct wasi *wasi, struct wasi_path *path, uint32_t descriptor,
                        uint32_t address, uint32_t length, unsigned ns_walk_flags) {
    if (path->is_done)
        return ERR_OK;
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, descriptor, &fd);
    if (err)
        return err;
    if (!fd_is_directory(fd))
        return ERR_NOTDIR;
    if (length > WASI_PATH_BYTES_MAX)
        return ERR_NOMEM;
    uint8_t *text;
    err = guest_slice(wasi->guest, address, length, &text);
    if (err)
        return err;
    err = ns_walk(&wasi->op, &path->walk, wasi->ns, &fd->place,
                  (struct str){(const char *)text, length}, ns_walk_flags, &path->found);
    if (!err)
        path->is_done = true;
    return err;
}

enum err wasi_path_walk_parent(struct wasi *wasi, struct wasi_path *path, uint32_t descriptor,
                               uint32_t address, uint32_t length, unsigned flags,
                               enum err dot_error) {
    enum err err = ERR_INVAL;
    if (!path->is_plain)
        err = wasi_path_walk(wasi, path, descriptor, address, length, NS_PARENT | flags);
    if (err != ERR_INVAL)
        return err;
    path->is_plain = true;
    err = wasi_path_walk(wasi, path, descriptor, address, length, NS_FOLLOW);
    return err ? err : dot_error;
}

void wasi_path_done(struct wasi_path *path) {
    ns_walk_done(&path->walk);
    if (path->is_done)
        ns_place_done(&path->found.place);
    *path = (struct wasi_path){0};
}

/* The state of all these calls. */
struct path_state {
    struct wasi_path from; /* the only path, or the old one */
    struct wasi_path to;
    struct ns_place child; /* what a name stands for now, where that has to be known */
    struct buf target;     /* of a symbolic link */
    struct wasi_times times;
    struct ns_sweep *sweep; /* of a directory that can't be removed */
    bool is_full, is_swept; /* that it can't be was told; what was left in it is gone */
};

static void path_state_drop(void *pointer) {
    struct path_state *state = pointer;
    ns_sweep_free(state->sweep);
    wasi_path_done(&state->from);
    wasi_path_done(&state->to);
    ns_place_done(&state->child);
    buf_done(&state->target);
}

/* The state of the call under way; `*ret_begins` on its first step. */
static struct path_state *path_state(struct wasi *wasi, bool *ret_begins) {
    *ret_begins = !wasi->call_state;
    return wasi->call_state ? wasi->call_state
                            : wasi_call_state(wasi, sizeof(struct path_state), path_state_drop);
}

static enum err lookup_flags(uint32_t flags, unsigned *ret_ns_walk_flags) {
    if (flags & ~(uint32_t)LOOKUPFLAG_SYMLINK_FOLLOW)
        return ERR_INVAL;
    *ret_ns_walk_flags = flags & LOOKUPFLAG_SYMLINK_FOLLOW ? NS_FOLLOW : 0;
    return ERR_OK;
}

/* Polled: learns what the name that `path` ends in stands for, into state->child. */
static enum err find_child(struct wasi *wasi, struct path_state *state,
                           const struct wasi_path *path) {
    if (state->child.file)
        return ERR_OK;
    return ns_step(&wasi->op, wasi->ns, &path->found.place, path->found.name, &state->child);
}

/* Whether a name can be made at the end of `path` (polled): not where something is mounted, and
 * with a slash behind it only a directory can be made. */
static enum err check_new_name(struct wasi *wasi, struct path_state *state,
                               const struct wasi_path *path, bool makes_directory) {
    if (path->found.is_mount_point)
        return ERR_EXIST;
    if (!path->found.directory_wanted || makes_directory)
        return ERR_OK;
    enum err err = find_child(wasi, state, path);
    if (err)
        return err; /* NOENT: "name/" is no name for what is no directory */
    return state->child.file->type == FILE_DIRECTORY ? ERR_EXIST : ERR_NOTDIR;
}

/* The descriptor, address and length of a path among the call's arguments. */
static struct wasi_path_argument argument_at(const struct wasi *wasi, size_t index) {
    const uint64_t *arguments = &wasi->pending_arguments[index];
    return (struct wasi_path_argument){argument_u32(arguments, 0), argument_u32(arguments, 1),
                                       argument_u32(arguments, 2)};
}

static void note_made(struct wasi *wasi, const struct wasi_path *path, size_t index,
                      unsigned change_flags) {
    const struct wasi_path_argument argument = argument_at(wasi, index);
    wasi_note_made(wasi, path->found.place.file, &argument, change_flags);
}

static void note_removed(struct wasi *wasi, const struct path_state *state) {
    const struct wasi_path_argument argument = argument_at(wasi, 0);
    wasi_note_removed(wasi, state->from.found.place.file, &argument);
}

/* path_create_directory(fd, path, path_len) */
enum err wasi_path_create_directory(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    enum err err =
        wasi_path_walk_parent(wasi, &state->from, argument_u32(arguments, 0),
                              argument_u32(arguments, 1), argument_u32(arguments, 2), 0, ERR_EXIST);
    if (!err)
        err = check_new_name(wasi, state, &state->from, true);
    if (err)
        return err;
    struct file *directory;
    err = file_create(&wasi->op, state->from.found.place.file, state->from.found.name,
                      FILE_DIRECTORY, &directory);
    if (!err) {
        file_unref(directory);
        note_made(wasi, &state->from, 0, CHANGE_IS_NEW | CHANGE_DIRECTORY);
    }
    return err;
}

/* path_filestat_get(fd, flags, path, path_len, buf) */
enum err wasi_path_filestat_get(struct wasi *wasi, const uint64_t *arguments) {
    unsigned walk_flags;
    enum err err = lookup_flags(argument_u32(arguments, 1), &walk_flags);
    if (err)
        return err;
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    err = wasi_path_walk(wasi, &state->from, argument_u32(arguments, 0), argument_u32(arguments, 2),
                         argument_u32(arguments, 3), walk_flags);
    if (err)
        return err;
    struct file_stat stat;
    err = file_stat(&wasi->op, state->from.found.place.file, &stat);
    return err ? err : wasi_write_filestat(wasi, argument_u32(arguments, 4), &stat);
}

/* path_filestat_set_times(fd, flags, path, path_len, atim, mtim, fst_flags) */
enum err wasi_path_filestat_set_times(struct wasi *wasi, const uint64_t *arguments) {
    unsigned walk_flags;
    enum err err = lookup_flags(argument_u32(arguments, 1), &walk_flags);
    if (err)
        return err;
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    if (begins) {
        err = wasi_times_from_flags(arguments[4], arguments[5], argument_u32(arguments, 6),
                                    &state->times);
        if (err)
            return err;
    }
    err = wasi_path_walk(wasi, &state->from, argument_u32(arguments, 0), argument_u32(arguments, 2),
                         argument_u32(arguments, 3), walk_flags);
    if (err)
        return err;
    struct file *file = state->from.found.place.file;
    const struct wasi_times *times = &state->times;
    if (times->set_times_flags == 0)
        return ERR_OK;
    if (file->traits & FILE_READ_ONLY)
        return ERR_ROFS;
    return file_set_times(&wasi->op, file, times->accessed_ns, times->modified_ns,
                          times->set_times_flags);
}

/* Whether a name may be made in `to` for what is in, or is, `from`: read-only places are told from
 * before other devices are (a link or rename must not be a way round them). */
static enum err check_devices(const struct file *from, const struct file *to) {
    if (to->traits & FILE_READ_ONLY)
        return ERR_ROFS;
    if (from->traits & FILE_READ_ONLY)
        return ERR_PERM;
    return from->device == to->device ? ERR_OK : ERR_XDEV;
}

/* path_link(old_fd, old_flags, old_path, old_path_len, new_fd, new_path, new_path_len) */
enum err wasi_path_link(struct wasi *wasi, const uint64_t *arguments) {
    unsigned walk_flags;
    enum err err = lookup_flags(argument_u32(arguments, 1), &walk_flags);
    if (err)
        return err;
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    err = wasi_path_walk(wasi, &state->from, argument_u32(arguments, 0), argument_u32(arguments, 2),
                         argument_u32(arguments, 3), walk_flags);
    if (!err)
        err = wasi_path_walk_parent(wasi, &state->to, argument_u32(arguments, 4),
                                    argument_u32(arguments, 5), argument_u32(arguments, 6), 0,
                                    ERR_EXIST);
    if (!err)
        err = check_new_name(wasi, state, &state->to, false);
    if (err)
        return err;
    struct file *file = state->from.found.place.file, *directory = state->to.found.place.file;
    if (file->type == FILE_DIRECTORY)
        return ERR_PERM;
    err = check_devices(file, directory);
    if (!err)
        err = file_link(&wasi->op, file, directory, state->to.found.name);
    if (!err)
        note_made(wasi, &state->to, 4, CHANGE_IS_NEW);
    return err;
}

/* path_readlink(fd, path, path_len, buf, buf_len, bufused) */
enum err wasi_path_readlink(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    uint32_t buffer_address = argument_u32(arguments, 3), size = argument_u32(arguments, 4),
             used_address = argument_u32(arguments, 5);
    enum err err = wasi_path_walk(wasi, &state->from, argument_u32(arguments, 0),
                                  argument_u32(arguments, 1), argument_u32(arguments, 2), 0);
    if (!err)
        err = guest_check(wasi->guest, buffer_address, size);
    if (!err)
        err = guest_check(wasi->guest, used_address, 4);
    if (err)
        return err;
    state->target.length = 0;
    err = file_readlink(&wasi->op, state->from.found.place.file, &state->target);
    if (err)
        return err;
    uint32_t used = (uint32_t)MIN(state->target.length, size);
    err = guest_write(wasi->guest, buffer_address, state->target.data, used);
    return err ? err : guest_write_u32(wasi->guest, used_address, used);
}

/* Polled. What an earlier life of the server left in it keeps no directory: nobody else sees that,
 * or can remove it. */
static enum err remove_directory(struct wasi *wasi, struct path_state *state) {
    const struct ns_walk_result *found = &state->from.found;
    if (!state->is_full) {
        enum err err = file_remove(&wasi->op, found->place.file, found->name, true);
        if (err != ERR_NOTEMPTY)
            return err;
        state->is_full = true;
    }
    if (!state->is_swept) {
        enum err err = find_child(wasi, state, &state->from);
        err = err ? err : ns_sweep_step(&wasi->op, state->child.file, &state->sweep);
        if (err)
            return err == ERR_PENDING ? err : ERR_NOTEMPTY;
        state->is_swept = true;
    }
    return file_remove(&wasi->op, found->place.file, found->name, true);
}

/* path_remove_directory(fd, path, path_len) */
enum err wasi_path_remove_directory(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    const struct ns_walk_result *found = &state->from.found;
    enum err err =
        wasi_path_walk_parent(wasi, &state->from, argument_u32(arguments, 0),
                              argument_u32(arguments, 1), argument_u32(arguments, 2), 0, ERR_INVAL);
    if (err)
        return err;
    if (found->is_mount_point)
        return ERR_BUSY;
    err = remove_directory(wasi, state);
    if (!err)
        note_removed(wasi, state);
    return err;
}

/* path_unlink_file(fd, path, path_len) */
enum err wasi_path_unlink_file(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    const struct ns_walk_result *found = &state->from.found;
    enum err err =
        wasi_path_walk_parent(wasi, &state->from, argument_u32(arguments, 0),
                              argument_u32(arguments, 1), argument_u32(arguments, 2), 0, ERR_ISDIR);
    if (err)
        return err;
    if (found->is_mount_point)
        return ERR_BUSY;
    if (found->directory_wanted) {
        err = find_child(wasi, state, &state->from);
        if (err)
            return err;
        return state->child.file->type == FILE_DIRECTORY ? ERR_ISDIR : ERR_NOTDIR;
    }
    err = file_remove(&wasi->op, found->place.file, found->name, false);
    if (!err)
        note_removed(wasi, state);
    return err;
}

/* path_rename(fd, old_path, old_path_len, new_fd, new_path, new_path_len) */
enum err wasi_path_rename(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    const struct ns_walk_result *from = &state->from.found, *to = &state->to.found;
    enum err err =
        wasi_path_walk_parent(wasi, &state->from, argument_u32(arguments, 0),
                              argument_u32(arguments, 1), argument_u32(arguments, 2), 0, ERR_BUSY);
    if (!err)
        err = wasi_path_walk_parent(wasi, &state->to, argument_u32(arguments, 3),
                                    argument_u32(arguments, 4), argument_u32(arguments, 5), 0,
                                    ERR_BUSY);
    if (err)
        return err;
    if (from->is_mount_point || to->is_mount_point)
        return ERR_BUSY;
    err = find_child(wasi, state, &state->from);
    if (err)
        return err;
    bool is_directory = state->child.file->type == FILE_DIRECTORY;
    if ((from->directory_wanted || to->directory_wanted) && !is_directory)
        return ERR_NOTDIR;
    err = check_devices(from->place.file, to->place.file);
    if (!err)
        err = file_rename(&wasi->op, from->place.file, from->name, to->place.file, to->name);
    if (!err) {
        const struct wasi_path_argument old_path = argument_at(wasi, 0),
                                        new_path = argument_at(wasi, 3);
        wasi_note_renamed(wasi, to->place.file, &old_path, &new_path,
                          is_directory ? CHANGE_DIRECTORY : 0);
    }
    return err;
}

/* What a symbolic link may point to: what a walk could follow. */
static enum err check_link_target(struct str target) {
    if (target.length == 0)
        return ERR_NOENT;
    if (target.length > WASI_LINK_TARGET_BYTES_MAX)
        return ERR_NAMETOOLONG;
    if (!str_is_utf8(target))
        return ERR_ILSEQ;
    if (memchr(target.data, 0, target.length))
        return ERR_INVAL;
    return target.data[0] == '/' ? ERR_PERM : ERR_OK;
}

/* path_symlink(old_path, old_path_len, fd, new_path, new_path_len) */
enum err wasi_path_symlink(struct wasi *wasi, const uint64_t *arguments) {
    bool begins;
    struct path_state *state = path_state(wasi, &begins);
    enum err err;
    if (begins) {
        uint32_t length = argument_u32(arguments, 1);
        if (length > WASI_PATH_BYTES_MAX)
            return ERR_NOMEM;
        uint8_t *text;
        err = guest_slice(wasi->guest, argument_u32(arguments, 0), length, &text);
        if (!err)
            err = check_link_target((struct str){(const char *)text, length});
        if (!err)
            err = buf_append(&state->target, text, length);
        if (err)
            return err;
    }
    err =
        wasi_path_walk_parent(wasi, &state->from, argument_u32(arguments, 2),
                              argument_u32(arguments, 3), argument_u32(arguments, 4), 0, ERR_EXIST);
    if (!err)
        err = check_new_name(wasi, state, &state->from, false);
    if (err)
        return err;
    err = file_symlink(&wasi->op, state->from.found.place.file, state->from.found.name,
                       buf_str(&state->target));
    if (!err)
        note_made(wasi, &state->from, 2, CHANGE_IS_NEW);
    return err;
}
