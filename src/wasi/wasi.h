/* WASI preview 1: the 46 functions of wasi_snapshot_preview1.witx, on a namespace.
 *
 * Nothing here knows of Wasmtime: an engine hands in the guest's memory (struct guest) and the raw
 * arguments of a call, and drives it:
 *
 *   - functions of kind WASI_IMMEDIATE never wait: wasi_call_immediate, on the guest's own stack;
 *   - functions of kind WASI_POLLED are noted by wasi_call_begin (arguments are kept, nothing else
 *     happens: this runs on the guest's stack), the engine suspends the fiber, and the run calls
 *     wasi_call_step from the loop's stack until it returns something other than ERR_PENDING. That
 *     is the errno the guest gets; ERR_EXIT ends the guest (proc_exit; wasi->exit_status).
 *
 * The guest's memory is hostile: every access goes through wasi/memory.h, structures are copied in
 * once and copied out once, base and length are read anew on every step. Where a result goes is
 * checked before the call has an effect.
 *
 * Rights: a descriptor reports what was asked for and exists for its kind of file. What it may do
 * follows from FD_READ and FD_WRITE alone, as in the engines that guests are tested with;
 * fd_fdstat_set_rights is NOTSUP. What an app may reach is decided by its namespace.
 *
 * Thread: the run's loop. Layer: ns. */
#pragma once

#include "ns/changes.h"
#include "ns/fdtab.h"

struct guest {
    /* The linear memory as it is now: base and length in bytes. Length 0 if it exports none. */
    uint8_t *(*memory)(struct guest *guest, size_t *ret_length_bytes);
};

enum wasi_kind { WASI_IMMEDIATE, WASI_POLLED };

struct wasi;
struct wasi_trace; /* wasi/wasi_trace.h */
#define WASI_ARGUMENTS_MAX 9

struct wasi_function {
    const char *name;
    const char *parameters; /* one letter each: i = i32, I = i64; at most WASI_ARGUMENTS_MAX */
    bool has_result;        /* an i32 errno; only proc_exit has none */
    bool in_unstable;       /* the module wasi_unstable has it with the same meaning and layouts */
    enum wasi_kind kind;
    enum err (*run)(struct wasi *wasi, const uint64_t *arguments);
};
/* All 46, in witx order. */
#define WASI_FUNCTION_COUNT 46
extern const struct wasi_function wasi_functions[WASI_FUNCTION_COUNT];

/* A list of NUL-terminated strings, back to back (arguments, or environment as KEY=VALUE). */
struct wasi_strings {
    struct buf bytes; /* each with its NUL */
    uint32_t count;
};
/* INVAL: it contains a NUL. 2BIG: more than WASI_STRINGS_BYTES_MAX in all. */
#define WASI_STRINGS_BYTES_MAX (1024u * 1024u)
MUST_USE enum err wasi_strings_add(struct wasi_strings *strings, struct str text);
void wasi_strings_done(struct wasi_strings *strings);

/* What one call, or one guest by many calls, can make the host spend. */
struct wasi_limits {
    uint32_t open_files;    /* descriptors; one more: NFILE */
    uint32_t iovecs;        /* a call; more: NOMEM */
    uint32_t subscriptions; /* a poll_oneoff; more: NOMEM */
    uint32_t piece_bytes;   /* moved or made random in one step; then others have their turn */
    uint64_t listing_bytes; /* snapshots of open directories, in all; more: NOMEM */
};
extern const struct wasi_limits wasi_limits_default;

struct wasi {
    /* set by wasi_init */
    struct loop *loop;
    struct guest *guest;
    struct ns *ns;                          /* a reference */
    const struct wasi_strings *arguments;   /* borrowed: outlive the wasi */
    const struct wasi_strings *environment; /* borrowed */
    struct fdtab descriptors;
    struct op op; /* of the call under way; its wake is the run's */
    struct wasi_limits limits;
    uint64_t (*cpu_time_ns)(
        struct wasi *wasi);  /* the guest's own CPU time, for its clocks; may be NULL */
    void *owner;             /* the run */
    int32_t exit_status;     /* set by proc_exit */
    struct changes *changes; /* of the files below `/`, not of what is mounted there; NULL: none.
                                wasi_done frees it */
    uint64_t calls;          /* calls of all kinds so far */
    uint64_t bytes_read, bytes_written;
    struct wasi_trace *trace; /* borrowed; set by the owner if calls are to be traced, else NULL */

    /* the polled call under way */
    const struct wasi_function *pending; /* NULL: none */
    uint64_t pending_arguments[WASI_ARGUMENTS_MAX];
    void *call_state; /* progress of the call that is pending, or NULL; in call_storage */
    void (*drop_call_state)(void *call_state); /* lets go of what it holds; may be NULL */
    _Alignas(16) uint8_t call_storage[512];
};

/* Descriptors are added by the caller (wasi_add_stream, wasi_add_preopen). `guest` may be NULL
 * until the first call: the sandbox sets it. `limits` is copied; `who` is borrowed. `wake` is
 * called when wasi_call_step is worth another call; it may also come when no call is pending. */
MUST_USE enum err wasi_init(struct wasi *wasi, struct loop *loop, struct guest *guest,
                            struct ns *ns, const struct wasi_strings *arguments,
                            const struct wasi_strings *environment,
                            const struct wasi_limits *limits, const struct who *who,
                            void (*wake)(struct op *op));
/* Abandons what is pending and closes everything. */
void wasi_done(struct wasi *wasi);

/* Adds an open file at the next number (0, 1, 2 for the standard streams, 4 for a listener). Takes
 * over the caller's reference on success. NFILE, NOMEM. */
MUST_USE enum err wasi_add_stream(struct wasi *wasi, struct file *file, unsigned open_flags);
/* The same for a listening socket. Who asks for its flags learns that it is non-blocking, as Go
 * needs it to be and never makes it; for who does not ask (Rust's TcpListener, accept in C) it
 * blocks. */
MUST_USE enum err wasi_add_listener(struct wasi *wasi, struct file *file);
/* Adds the namespace's root as the preopened directory "/". */
MUST_USE enum err wasi_add_preopen(struct wasi *wasi);

/* Whether the guest could go on on another loop: no call is under way, and none of its files is
 * tied to this one. */
bool wasi_may_move(const struct wasi *wasi);
/* Its calls are driven by that loop from now on. Thread: the loop's that has it so far; the other
 * one's thread goes on with it after that. */
void wasi_move(struct wasi *wasi, struct loop *loop);

/* Calls of a run come one at a time: none of these while another is pending. */
enum err wasi_call_immediate(struct wasi *wasi, const struct wasi_function *function,
                             const uint64_t *arguments);
void wasi_call_begin(struct wasi *wasi, const struct wasi_function *function,
                     const uint64_t *arguments);
/* Polled; see above. */
MUST_USE enum err wasi_call_step(struct wasi *wasi);
