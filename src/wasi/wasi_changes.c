/* What a guest does to names, noted for whoever started it. Only calls that have changed something
 * come here. */
#include "wasi/wasi_internal.h"

/* The components of `text` behind what is there, `.` and `..` worked off. */
static enum err append_path(struct buf *path, struct str text) {
    enum err err = ERR_OK;
    while (!err && text.data) {
        struct str name = str_cut(&text, '/');
        if (name.length == 0 || str_equal_text(name, "."))
            continue;
        if (str_equal_text(name, "..")) {
            while (path->length > 0 && path->data[--path->length] != '/') {
            }
            continue;
        }
        err = buf_append_byte(path, '/');
        if (!err)
            err = buf_append_str(path, name);
    }
    return err;
}

/* The whole path; an error if it can't be known. */
static enum err whole_path(struct wasi *wasi, const struct wasi_path_argument *argument,
                           struct buf *ret_path) {
    struct fd *fd;
    uint8_t *text;
    enum err err = wasi_get_fd(wasi, argument->descriptor, &fd);
    if (!err && !fd->path && !fd->is_preopen)
        err = ERR_NOENT;
    if (!err)
        err = guest_slice(wasi->guest, argument->address, argument->length, &text);
    if (!err && fd->path)
        err = buf_append_str(ret_path, str_of(fd->path));
    return err ? err : append_path(ret_path, (struct str){(const char *)text, argument->length});
}

static bool is_at_root(struct wasi *wasi, const struct file *file) {
    struct ns_place root = ns_root(wasi->ns);
    bool is_same = root.file->device == file->device;
    ns_place_done(&root);
    return is_same;
}

void wasi_note_made(struct wasi *wasi, const struct file *file,
                    const struct wasi_path_argument *argument, unsigned change_flags) {
    struct buf cleanup_buf path = {0};
    if (!is_at_root(wasi, file))
        return;
    if (whole_path(wasi, argument, &path) != ERR_OK)
        changes_lost(&wasi->changes);
    else
        changes_made(&wasi->changes, buf_str(&path), change_flags);
}

void wasi_note_removed(struct wasi *wasi, const struct file *file,
                       const struct wasi_path_argument *argument) {
    struct buf cleanup_buf path = {0};
    if (!is_at_root(wasi, file))
        return;
    if (whole_path(wasi, argument, &path) != ERR_OK)
        changes_lost(&wasi->changes);
    else
        changes_removed(&wasi->changes, buf_str(&path));
}

void wasi_note_renamed(struct wasi *wasi, const struct file *file,
                       const struct wasi_path_argument *from, const struct wasi_path_argument *to,
                       unsigned change_flags) {
    struct buf cleanup_buf old_path = {0}, new_path = {0};
    if (!is_at_root(wasi, file))
        return;
    if (whole_path(wasi, from, &old_path) != ERR_OK || whole_path(wasi, to, &new_path) != ERR_OK)
        changes_lost(&wasi->changes);
    else
        changes_renamed(&wasi->changes, buf_str(&old_path), buf_str(&new_path), change_flags);
}

char *wasi_directory_path(struct wasi *wasi, const struct wasi_path_argument *argument) {
    struct buf cleanup_buf path = {0};
    return whole_path(wasi, argument, &path) == ERR_OK ? strdup(buf_text(&path)) : NULL;
}
