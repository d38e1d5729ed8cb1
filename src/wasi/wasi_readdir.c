/* fd_readdir: entries of a snapshot that is taken when a guest begins at cookie 0 and kept with the
 * descriptor. A cookie is the ordinal of the next entry. */
#include "wasi/wasi_internal.h"

static uint64_t listing_bytes(const struct dir_list *list) {
    return (uint64_t)list->capacity * sizeof(struct dir_entry) + list->names.capacity;
}

/* What the snapshots of all descriptors but `except` take. */
static uint64_t all_listings_bytes(const struct fdtab *table, const struct fd *except) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < table->capacity; i++) {
        const struct fd *fd = &table->entries[i];
        if (fd != except && fd->place.file && fd->listing)
            bytes += listing_bytes(fd->listing);
    }
    return bytes;
}

/* Of a directory with more names than this a run makes one snapshot in a turn. */
#define LONG_LISTING 1000

struct readdir_state {
    struct dir_list list; /* the snapshot that ns makes */
    bool is_listed;
};

static void readdir_state_drop(void *pointer) {
    struct readdir_state *state = pointer;
    dir_list_done(&state->list);
}

/* Polled: takes a snapshot and leaves it in fd->listing. */
static enum err take_snapshot(struct wasi *wasi, struct fd *fd) {
    struct readdir_state *state = wasi->call_state;
    if (!state)
        state = wasi_call_state(wasi, sizeof(*state), readdir_state_drop);
    if (!state->is_listed) {
        enum err err = ns_readdir(&wasi->op, wasi->ns, &fd->place, &state->list);
        if (err)
            return err;
        state->is_listed = true;
        if (state->list.count > LONG_LISTING)
            return wasi_call_yield(wasi);
    }
    if (all_listings_bytes(&wasi->descriptors, fd) + listing_bytes(&state->list) >
        wasi->limits.listing_bytes)
        return ERR_NOMEM;
    if (!fd->listing) {
        fd->listing = calloc(1, sizeof(*fd->listing));
        if (!fd->listing)
            return ERR_NOMEM;
    }
    dir_list_done(fd->listing);
    *fd->listing = state->list;
    state->list = (struct dir_list){0};
    return ERR_OK;
}

/* Writes entries from `cookie` on and fills the buffer to its end: the last entry may be cut. */
static uint32_t write_entries(const struct dir_list *list, uint64_t cookie, uint8_t *buffer,
                              uint32_t size) {
    uint32_t used = 0;
    for (uint64_t i = cookie; i < list->count && used < size; i++) {
        const struct dir_entry *entry = &list->entries[i];
        struct str name = dir_list_name(list, (size_t)i);
        uint8_t head[DIRENT_SIZE] = {0};
        layout_put_u64(head + DIRENT_NEXT, i + 1);
        layout_put_u64(head + DIRENT_INO, entry->inode);
        layout_put_u32(head + DIRENT_NAMLEN, (uint32_t)name.length);
        head[DIRENT_TYPE] = entry->type;
        uint32_t length = MIN((uint32_t)DIRENT_SIZE, size - used);
        memcpy(buffer + used, head, length);
        used += length;
        length = MIN((uint32_t)name.length, size - used);
        if (length > 0)
            memcpy(buffer + used, name.data, length);
        used += length;
    }
    return used;
}

/* fd_readdir(fd, buf, buf_len, cookie, bufused) */
enum err wasi_fd_readdir(struct wasi *wasi, const uint64_t *arguments) {
    struct fd *fd;
    enum err err = wasi_get_fd(wasi, argument_u32(arguments, 0), &fd);
    if (err)
        return err;
    if (!fd_is_directory(fd))
        return ERR_NOTDIR;
    uint32_t size = argument_u32(arguments, 2), used_address = argument_u32(arguments, 4);
    uint64_t cookie = arguments[3];
    uint8_t *buffer;
    err = guest_slice(wasi->guest, argument_u32(arguments, 1), size, &buffer);
    if (!err)
        err = guest_check(wasi->guest, used_address, 4);
    if (err)
        return err;
    if (cookie == 0 || !fd->listing) {
        err = take_snapshot(wasi, fd);
        if (err)
            return err;
    }
    uint32_t used = write_entries(fd->listing, cookie, buffer, size);
    return guest_write_u32(wasi->guest, used_address, used);
}
