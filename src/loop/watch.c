/* Watching descriptors and signals. */
#include "loop/loop_internal.h"

struct loop_watch {
    uv_poll_t poll;
    unsigned events; /* what is armed; 0 = nothing */
    unsigned wanted;
    loop_watch_callback *callback; /* NULL after loop_watch_free */
    void *argument;
};

static int to_uv(unsigned events) {
    return (events & LOOP_READABLE ? UV_READABLE : 0) | (events & LOOP_WRITABLE ? UV_WRITABLE : 0) |
           (events & LOOP_DISCONNECTED ? UV_DISCONNECT : 0);
}

static void on_poll(uv_poll_t *poll, int status, int uv_events) {
    struct loop_watch *watch = CONTAINER_OF(poll, struct loop_watch, poll);
    unsigned events = 0;
    if (status < 0) {
        /* libuv has stopped watching. Whatever the owner tries next tells it the error. */
        watch->events = 0;
        events = watch->wanted | LOOP_FAILED;
    } else {
        events = (uv_events & UV_READABLE ? (unsigned)LOOP_READABLE : 0) |
                 (uv_events & UV_WRITABLE ? (unsigned)LOOP_WRITABLE : 0) |
                 (uv_events & UV_DISCONNECT ? (unsigned)LOOP_DISCONNECTED : 0);
    }
    if (events && watch->callback) {
        watch->callback(watch, events, watch->argument);
    }
}

static void on_watch_closed(uv_handle_t *handle) {
    free(CONTAINER_OF((uv_poll_t *)handle, struct loop_watch, poll));
}

void loop_watch_change(struct loop_watch *watch, unsigned events) {
    watch->wanted = events;
    if (watch->events == events) {
        return;
    }
    /* Can fail only for a handle that is closing. */
    int result =
        events ? uv_poll_start(&watch->poll, to_uv(events), on_poll) : uv_poll_stop(&watch->poll);
    INVARIANT(result == 0);
    watch->events = events;
}

enum err loop_watch_new(struct loop *loop, int descriptor, unsigned events,
                        loop_watch_callback *callback, void *argument,
                        struct loop_watch **ret_watch) {
    loop_check_thread(loop);
    struct loop_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        return ERR_NOMEM;
    }
    int result = uv_poll_init(&loop->uv, &watch->poll, descriptor);
    if (result < 0) {
        free(watch);
        return err_from_uv(result);
    }
    watch->callback = callback;
    watch->argument = argument;
    loop_watch_change(watch, events);
    *ret_watch = watch;
    return ERR_OK;
}

void loop_watch_free(struct loop_watch *watch) {
    if (!watch) {
        return;
    }
    watch->callback = NULL;
    uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
}

struct loop_signal {
    uv_signal_t signal;
    struct list link;
    void (*callback)(void *argument);
    void *argument;
};

static void on_signal(uv_signal_t *handle, int number) {
    (void)number;
    struct loop_signal *signal = CONTAINER_OF(handle, struct loop_signal, signal);
    signal->callback(signal->argument);
}

static void on_signal_closed(uv_handle_t *handle) {
    free(CONTAINER_OF((uv_signal_t *)handle, struct loop_signal, signal));
}

enum err loop_on_signal(struct loop *loop, int number, void (*callback)(void *argument),
                        void *argument) {
    loop_check_thread(loop);
    struct loop_signal *signal = calloc(1, sizeof *signal);
    if (!signal) {
        return ERR_NOMEM;
    }
    signal->callback = callback;
    signal->argument = argument;
    int result = uv_signal_init(&loop->uv, &signal->signal);
    if (result < 0) {
        free(signal);
        return err_from_uv(result);
    }
    result = uv_signal_start(&signal->signal, on_signal, number);
    if (result < 0) {
        uv_close((uv_handle_t *)&signal->signal, on_signal_closed);
        return err_from_uv(result);
    }
    list_append(&loop->signals, &signal->link);
    return ERR_OK;
}

void loop_signals_close(struct loop *loop) {
    LIST_FOR_EACH_SAFE (node, &loop->signals) {
        list_remove(node);
        struct loop_signal *signal = CONTAINER_OF(node, struct loop_signal, link);
        uv_close((uv_handle_t *)&signal->signal, on_signal_closed);
    }
}
