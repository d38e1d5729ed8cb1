/* Arguments, environment, randomness, yielding and the end. */
#include "wasi/wasi_internal.h"

static enum err strings_get(struct wasi *wasi, const struct wasi_strings *strings,
                            uint32_t pointers_address, uint32_t bytes_address) {
    uint8_t *pointers, *bytes;
    enum err err =
        guest_slice(wasi->guest, pointers_address, (uint64_t)strings->count * 4, &pointers);
    if (!err)
        err = guest_slice(wasi->guest, bytes_address, strings->bytes.length, &bytes);
    if (err)
        return err;
    if (strings->bytes.length > 0)
        memcpy(bytes, strings->bytes.data, strings->bytes.length);
    /* The pointers are found in our own copy: the guest may have made the two overlap. */
    const char *text = buf_text(&strings->bytes);
    size_t offset = 0;
    for (uint32_t i = 0; i < strings->count; i++) {
        layout_put_u32(pointers + (size_t)i * 4, bytes_address + (uint32_t)offset);
        offset += strlen(text + offset) + 1;
    }
    return ERR_OK;
}

static enum err strings_sizes_get(struct wasi *wasi, const struct wasi_strings *strings,
                                  uint32_t count_address, uint32_t bytes_address) {
    enum err err = guest_check(wasi->guest, bytes_address, 4);
    if (!err)
        err = guest_write_u32(wasi->guest, count_address, strings->count);
    if (!err)
        err = guest_write_u32(wasi->guest, bytes_address, (uint32_t)strings->bytes.length);
    return err;
}

/* args_get(argv, argv_buf) */
enum err wasi_args_get(struct wasi *wasi, const uint64_t *arguments) {
    return strings_get(wasi, wasi->arguments, argument_u32(arguments, 0),
                       argument_u32(arguments, 1));
}

/* args_sizes_get(count, bytes) */
enum err wasi_args_sizes_get(struct wasi *wasi, const uint64_t *arguments) {
    return strings_sizes_get(wasi, wasi->arguments, argument_u32(arguments, 0),
                             argument_u32(arguments, 1));
}

/* environ_get(environ, environ_buf) */
enum err wasi_environ_get(struct wasi *wasi, const uint64_t *arguments) {
    return strings_get(wasi, wasi->environment, argument_u32(arguments, 0),
                       argument_u32(arguments, 1));
}

/* environ_sizes_get(count, bytes) */
enum err wasi_environ_sizes_get(struct wasi *wasi, const uint64_t *arguments) {
    return strings_sizes_get(wasi, wasi->environment, argument_u32(arguments, 0),
                             argument_u32(arguments, 1));
}

struct random_state {
    uint32_t done_bytes;
};

/* random_get(buf, buf_len). In pieces: 4 GiB of randomness take seconds. */
enum err wasi_random_get(struct wasi *wasi, const uint64_t *arguments) {
    uint32_t length = argument_u32(arguments, 1);
    uint8_t *data;
    enum err err = guest_slice(wasi->guest, argument_u32(arguments, 0), length, &data);
    if (err)
        return err;
    struct random_state *state = wasi->call_state;
    if (!state)
        state = wasi_call_state(wasi, sizeof(*state), NULL);
    uint32_t piece = MIN(length - state->done_bytes, wasi->limits.piece_bytes);
    if (piece > 0)
        random_bytes(data + state->done_bytes, piece);
    state->done_bytes += piece;
    return state->done_bytes < length ? wasi_call_yield(wasi) : ERR_OK;
}

/* sched_yield() */
enum err wasi_sched_yield(struct wasi *wasi, const uint64_t *arguments) {
    (void)arguments;
    if (wasi->call_state)
        return ERR_OK;
    wasi_call_state(wasi, 1, NULL);
    return wasi_call_yield(wasi);
}

/* proc_exit(rval) */
enum err wasi_proc_exit(struct wasi *wasi, const uint64_t *arguments) {
    wasi->exit_status = (int32_t)argument_u32(arguments, 0);
    return ERR_EXIT;
}

/* proc_raise(signal) */
enum err wasi_proc_raise(struct wasi *wasi, const uint64_t *arguments) {
    (void)wasi;
    (void)arguments;
    return ERR_NOTSUP;
}
