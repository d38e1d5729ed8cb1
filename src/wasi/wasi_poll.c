/* poll_oneoff: waits for the first of several clocks and descriptors.
 *
 * Each descriptor is polled by an operation of its own, a child of the call's, so that it can wait
 * in queues of several devices. A descriptor that is ready suppresses the events of clocks. Trouble
 * with one subscription is the error of its event, never of the call. */
#include "wasi/wasi_internal.h"

enum item_state {
    ITEM_WAITING,
    ITEM_BOUNDED, /* waits for work that ends by itself: the answer is worth waiting for */
    ITEM_READY,
};

struct poll_item {
    uint64_t userdata;
    uint8_t tag;
    enum item_state state;
    enum err error;
    uint16_t flags; /* of the event */
    uint64_t bytes; /* of the event */
    /* clocks */
    bool is_realtime; /* `deadline_ns` is on the realtime clock, else on the monotonic one */
    uint64_t deadline_ns;
    /* descriptors */
    uint32_t descriptor;
    bool is_polled_for_writing; /* of one that is polled for reading: by another item */
    bool has_op;
    struct op op;
};

struct poll_state {
    struct wasi *wasi;
    struct loop_timer timer;
    struct poll_item *items;
    uint32_t count;
    bool at_once; /* a clock has passed or an event is there: nothing is waited for */
};

static void poll_state_drop(void *pointer) {
    struct poll_state *state = pointer;
    loop_timer_stop(&state->timer);
    for (uint32_t i = 0; i < state->count; i++) {
        if (state->items[i].has_op)
            op_done(&state->items[i].op);
    }
    free(state->items);
}

static void poll_timer_expired(struct loop_timer *timer) {
    struct poll_state *state = CONTAINER_OF(timer, struct poll_state, timer);
    op_wake(&state->wasi->op);
}

static uint64_t add_saturating(uint64_t a, uint64_t b) {
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static void item_fails(struct poll_item *item, enum err error) {
    item->state = ITEM_READY;
    item->error = error;
}

static void read_clock(struct poll_item *item, const uint8_t *subscription) {
    uint32_t id = layout_get_u32(subscription + SUBSCRIPTION_CLOCK_ID);
    uint64_t timeout = layout_get_u64(subscription + SUBSCRIPTION_CLOCK_TIMEOUT);
    uint16_t flags = layout_get_u16(subscription + SUBSCRIPTION_CLOCK_FLAGS);
    if (id > CLOCKID_THREAD_CPUTIME || flags & ~SUBCLOCKFLAG_ABSTIME) {
        item_fails(item, ERR_INVAL);
    } else if (id > CLOCKID_MONOTONIC) {
        item_fails(item, ERR_NOTSUP); /* a guest that waits uses no CPU time */
    } else if (flags & SUBCLOCKFLAG_ABSTIME) {
        item->is_realtime = id == CLOCKID_REALTIME;
        item->deadline_ns = timeout;
    } else {
        /* A duration is one, also when somebody sets the realtime clock meanwhile. */
        item->deadline_ns = add_saturating(clock_monotonic_ns(), timeout);
    }
}

/* Files on a disk. Devices may have an offset and still let readers wait. */
static bool is_always_ready(const struct file *file) {
    return file->type == FILE_REGULAR && file->traits & FILE_SEEKABLE;
}

static void read_descriptor(struct poll_state *state, struct poll_item *item,
                            const uint8_t *subscription) {
    item->descriptor = layout_get_u32(subscription + SUBSCRIPTION_FD);
    struct fd *fd;
    enum err err = wasi_get_fd(state->wasi, item->descriptor, &fd);
    unsigned needed = item->tag == EVENTTYPE_FD_READ ? OPEN_READ : OPEN_WRITE;
    if (!err && (!(fd->open_flags & needed) || fd_is_directory(fd)))
        err = ERR_BADF;
    if (err) {
        item_fails(item, err);
        return;
    }
    if (is_always_ready(fd->place.file) && item->tag == EVENTTYPE_FD_WRITE) {
        item->state = ITEM_READY;
        return;
    }
    op_init_child(&item->op, &state->wasi->op);
    item->has_op = true;
}

/* Tells the items that poll for reading which of their descriptors are polled for writing, too: by
 * a mark on the descriptor, so that many items take no longer each. */
static void mark_both(struct poll_state *state) {
    for (uint32_t pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; i < state->count; i++) {
            struct poll_item *item = &state->items[i];
            struct fd *fd;
            if (!item->has_op || wasi_get_fd(state->wasi, item->descriptor, &fd) != ERR_OK)
                continue;
            if (item->tag == EVENTTYPE_FD_WRITE)
                fd->is_polled_for_writing = pass < 2;
            else if (pass == 1)
                item->is_polled_for_writing = fd->is_polled_for_writing;
        }
    }
}

static enum err poll_begin(struct wasi *wasi, const uint64_t *arguments,
                           struct poll_state **ret_state) {
    uint32_t count = argument_u32(arguments, 2);
    if (count == 0)
        return ERR_INVAL;
    if (count > wasi->limits.subscriptions)
        return ERR_NOMEM;
    uint8_t *subscriptions;
    enum err err = guest_slice(wasi->guest, argument_u32(arguments, 0),
                               (uint64_t)count * SUBSCRIPTION_SIZE, &subscriptions);
    if (!err)
        err = guest_check(wasi->guest, argument_u32(arguments, 1), (uint64_t)count * EVENT_SIZE);
    if (!err)
        err = guest_check(wasi->guest, argument_u32(arguments, 3), 4);
    if (err)
        return err;
    struct poll_item *items = calloc(count, sizeof(*items));
    if (!items)
        return ERR_NOMEM;
    struct poll_state *state = wasi_call_state(wasi, sizeof(*state), poll_state_drop);
    state->wasi = wasi;
    state->items = items;
    state->count = count;
    loop_timer_init(&state->timer, poll_timer_expired);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *subscription = subscriptions + (size_t)i * SUBSCRIPTION_SIZE;
        struct poll_item *item = &items[i];
        item->userdata = layout_get_u64(subscription + SUBSCRIPTION_USERDATA);
        item->tag = subscription[SUBSCRIPTION_TAG];
        if (item->tag == EVENTTYPE_CLOCK)
            read_clock(item, subscription);
        else if (item->tag <= EVENTTYPE_FD_WRITE)
            read_descriptor(state, item, subscription);
        else
            return ERR_INVAL;
    }
    mark_both(state);
    *ret_state = state;
    return ERR_OK;
}

/* How much can be read of a file is known from its size. */
static enum err poll_file(struct poll_item *item, struct fd *fd) {
    struct file_stat stat;
    enum err err = file_stat(&item->op, fd->place.file, &stat);
    if (err)
        return err;
    item->bytes = stat.size > fd->position ? stat.size - fd->position : 0;
    item->flags = item->bytes == 0 ? EVENTRWFLAG_HANGUP : 0;
    return ERR_OK;
}

static void poll_descriptor(struct poll_state *state, struct poll_item *item) {
    struct fd *fd;
    enum err err = wasi_get_fd(state->wasi, item->descriptor, &fd);
    bool always = !err && is_always_ready(fd->place.file);
    unsigned ready = 0;
    if (always) {
        err = poll_file(item, fd);
        ready = POLL_READABLE;
    } else if (!err) {
        item->op.nonblocking = state->at_once;
        unsigned wanted = item->tag == EVENTTYPE_FD_READ ? POLL_READABLE : POLL_WRITABLE;
        wanted |= item->is_polled_for_writing ? POLL_WRITABLE_TOO : 0u;
        uint64_t bytes = 0;
        err = file_poll(&item->op, fd->place.file, wanted, &ready, &bytes);
        if (!err && ready) {
            item->bytes = bytes;
            item->flags = ready & POLL_HANGUP ? EVENTRWFLAG_HANGUP : 0;
        }
    }
    if (err == ERR_PENDING) {
        item->state = always ? ITEM_BOUNDED : ITEM_WAITING;
    } else if (err) {
        item_fails(item, err);
    } else if (ready) {
        item->state = ITEM_READY;
    }
}

/* How long until the clock of `item` has come; 0: it has. */
static uint64_t clock_remaining_ns(const struct poll_item *item, uint64_t monotonic_ns,
                                   uint64_t realtime_ns) {
    uint64_t now_ns = item->is_realtime ? realtime_ns : monotonic_ns;
    return item->deadline_ns > now_ns ? item->deadline_ns - now_ns : 0;
}

/* Marks the clocks that have come, if `mark`; returns how long until the next one comes. */
static uint64_t look_at_clocks(struct poll_state *state, bool mark) {
    uint64_t monotonic_ns = clock_monotonic_ns(), realtime_ns = clock_realtime_ns();
    uint64_t nearest_ns = UINT64_MAX;
    for (uint32_t i = 0; i < state->count; i++) {
        struct poll_item *item = &state->items[i];
        if (item->tag != EVENTTYPE_CLOCK || item->state == ITEM_READY)
            continue;
        uint64_t remaining_ns = clock_remaining_ns(item, monotonic_ns, realtime_ns);
        nearest_ns = MIN(nearest_ns, remaining_ns);
        if (mark && remaining_ns == 0)
            item->state = ITEM_READY;
    }
    return nearest_ns;
}

static enum err deliver(const struct poll_state *state, const uint64_t *arguments) {
    struct guest *guest = state->wasi->guest;
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct poll_item *item = &state->items[i];
        if (item->state != ITEM_READY)
            continue;
        uint8_t bytes[EVENT_SIZE] = {0};
        layout_put_u64(bytes + EVENT_USERDATA, item->userdata);
        layout_put_u16(bytes + EVENT_ERROR, (uint16_t)item->error);
        bytes[EVENT_TYPE] = item->tag;
        if (item->tag != EVENTTYPE_CLOCK && !item->error) {
            layout_put_u64(bytes + EVENT_NBYTES, item->bytes);
            layout_put_u16(bytes + EVENT_FLAGS, item->flags);
        }
        /* Checked at the beginning: all the events fit, so the address does not wrap. */
        enum err err = guest_write(guest, argument_u32(arguments, 1) + count * EVENT_SIZE, bytes,
                                   sizeof(bytes));
        if (err)
            return err;
        count++;
    }
    /* What a device said of a failure, it says again to who reads or writes. */
    if (state->wasi->op.message)
        state->wasi->op.message->length = 0;
    return guest_write_u32(guest, argument_u32(arguments, 3), count);
}

/* A timer's time is checked again when it expires, so far ones may expire early: the realtime clock
 * may have been set. */
#define TIMER_MAX_NS (60 * NS_PER_S)

/* poll_oneoff(in, out, nsubscriptions, nevents) */
enum err wasi_poll_oneoff(struct wasi *wasi, const uint64_t *arguments) {
    struct poll_state *state = wasi->call_state;
    if (!state) {
        enum err err = poll_begin(wasi, arguments, &state);
        if (err)
            return err;
    }
    uint64_t remaining_ns = look_at_clocks(state, false);
    if (remaining_ns == 0)
        state->at_once = true;
    for (uint32_t i = 0; i < state->count; i++) {
        if (state->items[i].state == ITEM_READY)
            state->at_once = true;
    }
    bool ready = false, bounded = false;
    for (uint32_t i = 0; i < state->count; i++) {
        struct poll_item *item = &state->items[i];
        if (item->tag != EVENTTYPE_CLOCK && item->state != ITEM_READY)
            poll_descriptor(state, item);
        ready |= item->state == ITEM_READY;
        bounded |= item->state == ITEM_BOUNDED;
    }
    if (bounded)
        return ERR_PENDING;
    if (!ready) {
        remaining_ns = look_at_clocks(state, true);
        ready = remaining_ns == 0;
    }
    if (ready)
        return deliver(state, arguments);
    if (remaining_ns != UINT64_MAX) {
        uint64_t deadline_ns = clock_monotonic_ns() + MIN(remaining_ns, TIMER_MAX_NS);
        loop_timer_start(wasi->loop, &state->timer, deadline_ns);
    }
    return ERR_PENDING;
}
