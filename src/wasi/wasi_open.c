/* path_open: finding, creating, checking, opening.
 *
 * What exists is found by one walk. Only if there is nothing and it shall be created, the parent is
 * walked to. With O_CREAT and following, a dangling link is created where it leads to (ns_walk with
 * NS_PARENT and NS_FOLLOW). */
#include "wasi/wasi_internal.h"

/* Somebody else may create and remove the name between our steps. */
#define CREATE_TRIES_MAX 4

enum open_phase { FINDING, FINDING_PARENT, OPENING };

struct open_state {
    enum open_phase phase;
    unsigned tries;
    bool is_created;
    struct wasi_path path;
    struct ns_place place; /* what was found or created */
};

static void open_state_drop(void *pointer) {
    struct open_state *state = pointer;
    wasi_path_done(&state->path);
    ns_place_done(&state->place);
}

/* The arguments, read. */
struct open_request {
    uint32_t descriptor, path_address, path_length;
    bool follow;
    unsigned oflags;
    uint64_t rights, inheriting_rights;
    uint32_t fd_flags;
    uint32_t result_address;
};

static enum err read_request(const uint64_t *arguments, struct open_request *ret_request) {
    struct open_request request = {
        .descriptor = argument_u32(arguments, 0),
        .follow = argument_u32(arguments, 1) & LOOKUPFLAG_SYMLINK_FOLLOW,
        .path_address = argument_u32(arguments, 2),
        .path_length = argument_u32(arguments, 3),
        .oflags = argument_u32(arguments, 4),
        .rights = arguments[5],
        .inheriting_rights = arguments[6],
        .fd_flags = argument_u32(arguments, 7),
        .result_address = argument_u32(arguments, 8),
    };
    if (argument_u32(arguments, 1) & ~(uint32_t)LOOKUPFLAG_SYMLINK_FOLLOW ||
        request.oflags & ~(unsigned)OFLAGS_ALL || request.fd_flags & ~(uint32_t)FDFLAGS_ALL)
        return ERR_INVAL;
    if (request.oflags & OFLAG_CREAT && request.oflags & OFLAG_DIRECTORY)
        return ERR_INVAL;
    *ret_request = request;
    return ERR_OK;
}

/* "May write" is FD_WRITE alone: Go asks for FD_FILESTAT_SET_SIZE even where it only reads. */
static unsigned wanted_open_flags(const struct open_request *request, const struct file *file,
                                  bool is_created) {
    unsigned flags = (request->rights & FD_RIGHT_READ ? OPEN_READ : 0u) |
                     (request->rights & FD_RIGHT_WRITE ? OPEN_WRITE : 0u);
    /* A device, a pipe, a socket: nothing there to truncate, but it is no mistake to ask. */
    if (request->oflags & OFLAG_TRUNC && file->type == FILE_REGULAR && !is_created)
        flags |= OPEN_TRUNCATE;
    return flags;
}

static enum err check_type(const struct open_request *request, const struct file *file,
                           unsigned open_flags) {
    bool directory_wanted = request->oflags & OFLAG_DIRECTORY;
    if (file->type == FILE_SYMBOLIC_LINK)
        return directory_wanted ? ERR_NOTDIR : ERR_LOOP;
    if (file->type == FILE_DIRECTORY)
        return open_flags & OPEN_WRITE || request->oflags & (OFLAG_TRUNC | OFLAG_CREAT) ? ERR_ISDIR
                                                                                        : ERR_OK;
    if (directory_wanted)
        return ERR_NOTDIR;
    if (file->traits & FILE_READ_ONLY && open_flags & (OPEN_WRITE | OPEN_TRUNCATE))
        return ERR_ROFS;
    if (open_flags & OPEN_TRUNCATE && !(open_flags & OPEN_WRITE))
        return ERR_NOTCAPABLE;
    return ERR_OK;
}

static enum err find(struct wasi *wasi, struct open_state *state,
                     const struct open_request *request) {
    enum err err = wasi_path_walk(wasi, &state->path, request->descriptor, request->path_address,
                                  request->path_length, request->follow ? NS_FOLLOW : 0);
    if (err == ERR_NOENT && request->oflags & OFLAG_CREAT && state->tries++ < CREATE_TRIES_MAX) {
        wasi_path_done(&state->path);
        state->phase = FINDING_PARENT;
        return ERR_OK;
    }
    if (err)
        return err;
    state->place = state->path.found.place;
    state->path.found.place = (struct ns_place){0};
    wasi_path_done(&state->path);
    state->phase = OPENING;
    return ERR_OK;
}

static enum err create(struct wasi *wasi, struct open_state *state,
                       const struct open_request *request) {
    bool exclusive = request->oflags & OFLAG_EXCL;
    enum err err = wasi_path_walk_parent(wasi, &state->path, request->descriptor,
                                         request->path_address, request->path_length,
                                         request->follow && !exclusive ? NS_FOLLOW : 0, ERR_EXIST);
    struct file *file = NULL;
    if (!err) {
        const struct ns_walk_result *found = &state->path.found;
        if (found->is_mount_point)
            err = ERR_EXIST;
        else if (found->directory_wanted)
            err = ERR_ISDIR;
        else
            err = file_create(&wasi->op, found->place.file, found->name, FILE_REGULAR, &file);
    }
    if (err == ERR_EXIST && !exclusive) {
        wasi_path_done(&state->path);
        state->phase = FINDING;
        return ERR_OK;
    }
    if (err)
        return err;
    state->place = (struct ns_place){.file = file};
    state->is_created = true;
    wasi_path_done(&state->path);
    state->phase = OPENING;
    return ERR_OK;
}

static enum err open_found(struct wasi *wasi, struct open_state *state,
                           const struct open_request *request) {
    struct file *file = state->place.file;
    unsigned open_flags = wanted_open_flags(request, file, state->is_created);
    enum err err = check_type(request, file, open_flags);
    if (err)
        return err;
    struct ns_place place = {.mount = state->place.mount};
    if (file->type == FILE_DIRECTORY) {
        place.file = file_ref(file);
        open_flags = OPEN_READ;
    } else {
        err = file_open(&wasi->op, file, open_flags, &place.file);
        if (err)
            return err;
    }
    const struct wasi_path_argument argument = {request->descriptor, request->path_address,
                                                request->path_length};
    if (state->is_created || (open_flags & OPEN_WRITE && file->type == FILE_REGULAR))
        wasi_note_made(wasi, file, &argument, state->is_created ? CHANGE_IS_NEW : 0);
    open_flags &= ~(unsigned)OPEN_TRUNCATE;
    uint32_t number;
    err = wasi_add_fd(wasi, place, open_flags, request->rights, request->inheriting_rights,
                      request->fd_flags, &number);
    if (err) {
        file_closed(place.file, open_flags);
        ns_place_done(&place);
        return err;
    }
    if (file->type == FILE_DIRECTORY)
        fdtab_get(&wasi->descriptors, number)->path = wasi_directory_path(wasi, &argument);
    return guest_write_u32(wasi->guest, request->result_address, number);
}

/* path_open(fd, dirflags, path, path_len, oflags, rights_base, rights_inheriting, fdflags,
 * opened_fd) */
enum err wasi_path_open(struct wasi *wasi, const uint64_t *arguments) {
    struct open_request request;
    enum err err = read_request(arguments, &request);
    if (err)
        return err;
    struct open_state *state = wasi->call_state;
    if (!state) {
        err = guest_check(wasi->guest, request.result_address, 4);
        if (err)
            return err;
        /* Before anything is created or truncated. */
        if (wasi->descriptors.count >= wasi->descriptors.limit)
            return ERR_NFILE;
        state = wasi_call_state(wasi, sizeof(*state), open_state_drop);
        if (request.oflags & OFLAG_CREAT && request.oflags & OFLAG_EXCL)
            state->phase = FINDING_PARENT;
    }
    while (!err && state->phase != OPENING)
        err = state->phase == FINDING ? find(wasi, state, &request) : create(wasi, state, &request);
    return err ? err : open_found(wasi, state, &request);
}
