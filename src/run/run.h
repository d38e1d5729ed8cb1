/* Runs: the life of a program from its admission to its end, and afterwards until it is forgotten.
 *
 *   QUEUED → STARTING → RUNNING ⇄ WAITING, PAUSED → ENDED → (kept) → gone
 *
 * A run belongs to one loop; its loop steps its sandbox, drives its host calls and enforces its
 * limits. Its standard input is a bounded pipe; its output an ordered record of chunks, each of
 * standard output or error, that readers follow by offset. What is marked "any thread" below guards
 * itself, so that every connection and device sees every run.
 *
 * Whoever waits for a run (for its end, for output, for room in its standard input) does so with an
 * op of its own loop, which need not be the run's.
 *
 * What a run sees as its tree is built by hooks that main hands in (struct run_hooks): run/ knows
 * no device.
 *
 * Layer: engine, ns, store. */
#pragma once

#include "base/traceparent.h"
#include "engine/engine.h"
#include "store/applog.h"
#include "store/catalog.h"

struct runs; /* all runs of the server, and what they share */
struct run;

/* How long an ended run may be asked to be kept. */
#define RUN_KEEP_NS_MAX (365 * 24 * 60 * 60 * NS_PER_S)

/* Why a run ended; the words of the HTTP interface (run_reason_text). */
enum run_reason {
    RUN_REASON_NONE, /* it has not ended */
    RUN_REASON_EXIT,
    RUN_REASON_TRAP,
    RUN_REASON_WALL,
    RUN_REASON_CPU,
    RUN_REASON_MEMORY,
    RUN_REASON_OUTPUT,
    RUN_REASON_DISK,
    RUN_REASON_KILLED,
    RUN_REASON_CLIENT,
    RUN_REASON_SHUTDOWN,
    RUN_REASON_HUNG, /* a program that is kept: a request has waited too long, nothing else was done
                      */
    RUN_REASON_FAILED, /* it could not be started: run_status.failure, and run_failure in words */
};
const char *run_reason_text(enum run_reason reason);

enum run_state { RUN_QUEUED, RUN_STARTING, RUN_RUNNING, RUN_WAITING, RUN_PAUSED, RUN_ENDED };
const char *run_state_text(enum run_state state);

struct run_limits { /* all set: server's default, app's and run's merged by run_start */
    uint64_t memory_bytes, cpu_ns, wall_ns, output_bytes, tmp_bytes, disk_bytes;
    uint64_t files; /* in /tmp and in its own layer, each; 0: no limit but theirs */
    uint64_t open_files;
    uint64_t queue_wait_ns; /* not in the server's defaults: runs_options has it */
};

/* What is asked for. Everything is copied by run_start. */
struct run_request {
    struct app *app;                   /* borrowed; a reference is taken */
    const struct app_version *version; /* NULL: the current one */
    const struct str *arguments;       /* replace the app's if has_arguments */
    size_t argument_count;
    bool has_arguments;
    const struct str *environment; /* "KEY=VALUE", added to the app's */
    size_t environment_count;
    struct str more_environment; /* the same as one text, each with its NUL, none of them twice */
    uint32_t more_environment_count;
    struct str call;          /* exported function to call; length 0: _start */
    struct app_limits limits; /* 0 = not given; only tightens */
    const struct str *net;    /* narrows what it may reach: "none", or hosts as the app's net= */
    size_t net_count;
    const struct str *tags; /* "K:V" */
    size_t tag_count;
    uint64_t keep_ns; /* after its end, up to RUN_KEEP_NS_MAX; 0 = the default */
    bool detached;    /* no client is bound to it; the wall limit's default is longer */
    bool discard_stderr;
    bool core;  /* a core dump, should it trap: run_core_read */
    bool trace; /* record its host calls: run_trace_read */
    /* It answers a request of the web door: its client may leave without ending it; its standard
     * output is no terminal, goes to its binding reader alone and is then forgotten (what waits to
     * be taken is charged to the limit), not into the app's log; its standard error goes into the
     * log alone. */
    bool is_web;
    /* Descriptor 4: of a program that is kept. Neither the time since its start nor what it
     * computes is limited, and what it prints goes into the app's log alone. Borrowed; a reference
     * is taken.
     */
    struct file *listener;
    bool stdin_open;    /* else standard input is empty */
    bool is_call;       /* its standard output is an answer, not for the app's log */
    uint64_t parent_id; /* the run that started it, or 0 */
    /* The run that starts it now, by a host call of its own (run_start is called on its loop);
     * parent_id follows. Unless `detached` the run ends with it, and its limits are at most what
     * the parent has left of its own: what it uses is charged there. */
    struct run *parent;
    const struct traceparent *traceparent; /* of who asks for it; NULL: it is in no trace */
    struct str tracestate;                 /* that came with it, perhaps nothing */
    struct str root; /* "keep", "fresh", "ro", or a volume's name; length 0: the app's, or keep */
    /* Files for it, the root of a memory (ns/memory.h), or NULL: with root=fresh or ro they are its
     * topmost layer, else they are written over what is there, when nothing else can keep the run
     * from beginning. A reference is taken; nobody else
     * changes them any more. FBIG: more than `tmp` or `disk` allow. */
    struct file *files;
    uint64_t ttl_ns; /* of the volume that `root` names and makes; 0 = not given */
};

/* What can be known of a run at a moment: a copy. */
struct run_status {
    uint64_t id, parent_id;
    char app[APP_NAME_MAX + 1];
    int64_t app_id, owner_id;
    uint32_t version;
    enum run_state state;
    enum run_reason reason;
    enum err failure; /* RUN_REASON_FAILED: why. AGAIN: it waited too long in the queue (a client is
                         told to try again later) */
    /* What the guest gave; 134 after a trap, 137 when it was ended, 126 if it could not be started:
     * what a shell would say. */
    int32_t exit_status;
    bool detached;
    uint64_t created_ns, started_ns, ended_ns; /* realtime; 0 = not yet */
    uint64_t queued_ns, wall_ns, cpu_ns;       /* durations; cpu_ns with what it has started */
    uint64_t cpu_below_ns;                     /* of what it has started alone */
    uint64_t memory_bytes, memory_peak_bytes;
    uint64_t calls, bytes_read, bytes_written, output_bytes;
    struct run_limits limits;
};

struct run_hooks {
    void *context;
    /* Builds the tree of a run, on its loop. Polled. `*ret_tree` is whatever the hook needs to know
     * of it later; it is given back to `tree_done` exactly once. */
    enum err (*make_tree)(void *context, struct op *op, struct run *run, struct ns **ret_ns,
                          void **ret_tree, struct buf *message);
    /* Its program could begin: now the files that it was given go to where its root keeps them, all
     * or none. Polled; only of runs that have some. May be NULL. */
    enum err (*place_files)(void *context, struct op *op, struct run *run, void *tree,
                            struct buf *message);
    /* Its guest begins now, which nothing refuses any more: sessions are used, and what its `ttl`
     * (or its app's) says holds from here on. Only of runs that may see volumes by name; may be
     * NULL. Its loop's thread. */
    void (*begin_tree)(void *context, const struct run *run, void *tree);
    /* The run ended: polled; done when its effects are on disk (a commit of its volume if dirty).
     */
    enum err (*commit_tree)(void *context, struct op *op, void *tree);
    /* In place of the commit if its guest never began: what was made for the run alone goes, should
     * it be given back. Polled; may be NULL. */
    enum err (*undo_tree)(void *context, struct op *op, void *tree);
    /* After the commit: whether the tree has something that only it shows (the files of a run with
     * its own layer). If not, it is given back at once, else when the run is forgotten. Any thread
     * but one at a time. */
    bool (*tree_is_kept)(void *context, void *tree);
    /* How much memory the files of a tree that is kept take. May be NULL: none. Any thread. */
    uint64_t (*tree_bytes)(void *context, void *tree);
    /* What `/` shows, a reference. Any thread. */
    struct file *(*tree_root)(void *context, void *tree);
    /* The same for a run that has ended and whose tree was given back: what it would see now. A
     * reference. Polled; any thread. NOENT: its volume is gone. */
    enum err (*open_root)(void *context, struct op *op, struct run *run, struct file **ret_root);
    /* Any thread. */
    void (*tree_done)(void *context, void *tree);
    /* The app was removed: lets go of what is kept for its next run. May be NULL. Blocking; any
     * thread. */
    void (*forget_app)(void *context, int64_t app_id);
};

struct runs_options {
    /* Of the loops, the last so many: for programs that compute, so that what is prompt need not
     * wait for them on the others. 0: all are for both. */
    size_t computing_loops;
    struct run_limits defaults; /* wall_ns: attached */
    uint64_t detached_wall_ns;
    uint64_t keep_ns;
    uint32_t max_runs_per_app, queue_per_app;
    uint64_t queue_wait_ns;
    uint64_t unheard_ns;      /* how long one of the web door may go on when its client has left */
    uint32_t max_runs;        /* of the server */
    uint32_t kept_max;        /* ended runs that are kept at most */
    uint64_t core_bytes_max;  /* a core dump; larger ones are not made */
    uint64_t cores_bytes_max; /* all that are kept; the oldest goes first */
    uint64_t kept_bytes_max;  /* and the bytes of their output, arguments, and own files */
    uint64_t kept_file_bytes; /* as which an open file of one counts besides, of its output or its
                                 core: so there are not too many descriptors */
    struct compile_limits compile;
};

MUST_USE enum err runs_new(const struct runs_options *options, struct engine *engine,
                           struct catalog *catalog, struct applog_set *logs,
                           const struct run_hooks *hooks, struct loop *const *loops,
                           size_t loop_count, struct runs **ret_runs);
void runs_free(struct runs *runs);
const struct runs_options *runs_get_options(const struct runs *runs);
/* No new runs from now on; those that run are ended with RUN_REASON_SHUTDOWN after `grace_ns`.
 * `finished` is called on `loop` when the last one has ended. Called again: ends them at once.
 * Thread: `loop`'s. */
void runs_shut_down(struct runs *runs, struct loop *loop, uint64_t grace_ns,
                    void (*finished)(void *argument), void *argument);

/* Forgets ended runs whose time is over. Happens by itself whenever a run ends or runs are listed;
 * a server where nothing happens may call it now and then to give memory back. Any thread. */
void runs_sweep(struct runs *runs);

/* Why a run was asked for and its guest never began. */
enum run_refusal {
    RUN_REFUSAL_QUEUE, /* 429: no place in the queue, or too long in it; also 503, shutting down */
    RUN_REFUSAL_MISSING, /* 404: no such app, version or function */
    RUN_REFUSAL_LIMIT,   /* 413, 507: it needs more than it may have */
    RUN_REFUSAL_ACCESS,  /* 403 */
    RUN_REFUSAL_INVALID, /* 400 */
    RUN_REFUSAL_FAILED,  /* 5xx, or what lies in the way in its volume */
    RUN_REFUSAL_COUNT,
};
const char *run_refusal_text(enum run_refusal refusal);
/* Counts one that did not come as far as run_start, which counts its own. Any thread. */
void runs_count_refused(struct runs *runs, enum err err);
/* The same by the status that was answered: 503 where it is not for the end of the server. */
void runs_count_refused_status(struct runs *runs, int status);

/* Counters for /metrics: `started` are those whose guest began. Any thread. */
struct runs_counters {
    uint64_t started, ended_by_reason[RUN_REASON_FAILED + 1], refused[RUN_REFUSAL_COUNT];
    uint64_t running, queued, kept;
};
struct runs_counters runs_counters(struct runs *runs);

/* How long runs took, since the server began. Any thread. */
enum run_time {
    RUN_TIME_QUEUE, /* from the request until it was admitted */
    RUN_TIME_START, /* from the request until its guest began */
    RUN_TIME_RUN,   /* from there to its end, commit included; of those that began */
    RUN_TIME_COUNT,
};
enum { RUN_TIME_BUCKETS = 20 };
extern const uint64_t run_time_bounds_ns[RUN_TIME_BUCKETS - 1]; /* the last bucket has no end */
struct run_times {
    uint64_t counts[RUN_TIME_BUCKETS]; /* each bucket by itself */
    uint64_t sum_ns;
};
struct run_times runs_times(struct runs *runs, enum run_time which);

/* The compiled program of a version: from memory, from the cache on disk, or compiled (again) when
 * that is missing or damaged. Polled. /create calls it to compile an upload. */
MUST_USE enum err runs_program(struct op *op, struct runs *runs,
                               const uint8_t module_sha256[SHA256_SIZE],
                               struct program **ret_program, struct buf *message);
void runs_forget_program(struct runs *runs, const uint8_t module_sha256[SHA256_SIZE]);

/* An app was removed: its ended runs are forgotten now, those that run when they end, so that
 * nothing holds its files. Blocking: call it on a worker. */
void runs_forget_app(struct runs *runs, int64_t app_id);

/* Starts a run on `loop` (or another one with clearly fewer runs that compute). Returns at once
 * with a reference; the run may be queued. AGAIN: the queue is full too, or the server shuts down
 * (the message says which). 2BIG: arguments, environment or tags over the limits below. INVAL: a
 * NUL in one of them, an environment without '='. NOENT: a library without `call`. With a parent:
 * LOOP if there would be more than RUN_DEPTH_MAX runs above it; NOMEM if the parent has nothing
 * left; DEADLK if it would have to wait for a place that a run above it has; BUSY if
 * RUN_MEMBERS_MAX live below one of those above; and if the parent's root is not its app's volume
 * (it may be anybody's code) ACCES for a wider root or a detached run, and of another app, also
 * further below it, for anything but input (arguments, environment, version, call, root). Failures
 * after this show in its status. Thread: `loop`'s. */
enum {
    RUN_DEPTH_MAX = 8,
    RUN_MEMBERS_MAX = 64,
    RUN_ARGUMENTS_MAX = 4096,
    RUN_ENVIRONMENT_MAX = 512,
    RUN_STRINGS_BYTES_MAX = 256 * 1024, /* of each of both */
    RUN_TAGS_MAX = 16,
    RUN_TAG_BYTES_MAX = 256,
};
MUST_USE enum err run_start(struct runs *runs, struct loop *loop, const struct run_request *request,
                            struct run **ret_run, struct buf *message);
struct run *run_ref(struct run *run);
void run_unref(struct run *run);
/* NOENT if there never was one or it is forgotten. Any thread. */
MUST_USE enum err runs_find(struct runs *runs, uint64_t id, struct run **ret_run);
/* References to all runs, kept ones too, by id. The caller unrefs each and frees the array. */
MUST_USE enum err runs_list(struct runs *runs, struct run ***ret_list, size_t *ret_count);

/* Any thread: */
uint64_t run_id(const struct run *run);
uint64_t run_parent_id(const struct run *run); /* the run that started it, or 0 */
const struct app *run_app(const struct run *run);
const struct who *run_who(const struct run *run);
const struct wasi_strings *run_arguments(const struct run *run);
const struct wasi_strings *run_environment(const struct run *run);
/* False if it is no hop of a trace. Else what it hands on: its own place in it. */
bool run_traceparent(const struct run *run, struct traceparent *ret_traceparent);
/* What it hands on with that, perhaps nothing. Borrowed. */
struct str run_tracestate(const struct run *run);
size_t run_tags(const struct run *run, const char *const **ret_tags);
/* INVAL or 2BIG if no run can have such a tag. */
MUST_USE enum err run_tag_check(struct str tag, struct buf *message);
struct run_status run_status(struct run *run);
/* Of a run that has ended; `ret_failure` where the reason is FAILED. */
enum run_reason run_ending(struct run *run, int32_t *ret_exit_status, enum err *ret_failure);
/* Why it failed, trapped or was ended, for humans, appended: "cpu limit of 30 s reached", or a
 * trap's message with the guest's backtrace. Nothing if it exited by itself. */
void run_failure(struct run *run, struct buf *text);
/* What a device has said about the guest's last host call that failed with more than an errno,
 * appended; nothing if none has. */
void run_errstr(struct run *run, struct buf *text);
/* For a failure that is no failed call: a device that answers with it. So many bytes are kept. */
#define RUN_ERRSTR_MAX 1024
void run_set_errstr(struct run *run, struct str text);
/* What it has changed of the files at its `/`, when it has ended; NULL: nothing, or it has not. In
 * the order of their paths. Borrowed. */
const struct changes *run_changes(struct run *run);
/* What `root` is: the request's, the app's, or "keep". */
struct str run_root_mode(const struct run *run);
/* The request's `net`, an entry a line, and behind an empty line those of the runs above it that
 * are of the same app, or that have a root of their own or are below one that has, these with what
 * their apps say: each of these lists must allow a host. Empty: not narrowed. */
struct str run_net(const struct run *run);
/* The request's `files`, borrowed until the run has begun; or NULL. */
struct file *run_files(const struct run *run);
/* The request's `ttl_ns`. */
uint64_t run_ttl_ns(const struct run *run);
const struct run_limits *run_limits(const struct run *run);
/* The version it runs; unknown_imports is NULL. */
const struct app_version *run_version(const struct run *run);
/* What `/` shows in it, a reference. NOENT before its tree is made, and when it has ended and its
 * tree has nothing of its own (it saw the app's volume). */
MUST_USE enum err run_root(struct run *run, struct file **ret_root);
/* The same, and of an ended run without a tree of its own what it would see now. Polled. NOENT: it
 * has none yet, or its volume is gone. */
MUST_USE enum err run_open_root(struct op *op, struct run *run, struct file **ret_root);
/* Ends it; nothing if it has ended. It may have ended by itself meanwhile: run_status tells. */
void run_kill(struct run *run, enum run_reason reason);
/* How long a request may wait for the answer of a program that is kept (RUN_REASON_HUNG). */
uint64_t run_answer_ns(const struct run *run);
/* Stops its guest at the next point where that is possible; its wall clock stands still, what was
 * under way is finished after run_resume. */
void run_pause(struct run *run);
void run_resume(struct run *run);
/* A client is bound to it or left: a run that is not detached ends (RUN_REASON_CLIENT) when it has
 * left. One of the web door goes on unless it still waits in the queue, and nobody sees what it
 * still writes, which fails with PIPE where base/unheard.h says so. One that does
 * not care is ended (RUN_REASON_CLIENT) at its RUN_DEAF_WRITES-th failure, or at one RUN_DEAF_NS
 * after the first, and any when unheard_ns of runs_options are over: it has a place that others may
 * want. */
enum { RUN_DEAF_WRITES = 1000 };
#define RUN_DEAF_NS (5 * NS_PER_S)
void run_client_left(struct run *run);
/* Polled: until it has ended (and its effects are on disk). */
MUST_USE enum err run_wait(struct op *op, struct run *run);
/* Polled: until its guest runs, or it is clear that it never will (it has ended). */
MUST_USE enum err run_wait_begun(struct op *op, struct run *run);

/* Standard input: a bounded pipe. Any thread, polled: PENDING while there is no room; PIPE after
 * its end or after it was closed. */
MUST_USE enum err run_stdin_write(struct op *op, struct run *run, const void *data, size_t length,
                                  size_t *ret_written);
/* Whether it was started with one (stdin_open), which may be closed by now. */
bool run_has_stdin(const struct run *run);
void run_stdin_close(struct run *run);
/* As dev->poll: POLL_WRITABLE when there is room; POLL_HANGUP when it is closed. */
MUST_USE enum err run_stdin_poll(struct op *op, struct run *run, unsigned *ret_ready);

/* Output. A reader keeps its place: the offset in the sequence of all bytes of both streams.
 * Reading gives bytes of one chunk of one stream at a time (what was written within a millisecond
 * to one stream may be one chunk); `streams` selects, bytes of the other stream are passed over.
 * PENDING: nothing yet (AGAIN if op->nonblocking). OK with 0 bytes: the run has ended and all was
 * read. `*ret_time_ns` (realtime) and `*ret_stream` are of the chunk.
 *
 * An attached client's reader is `binding`: the guest waits when it is more than
 * RUN_READER_LAG_MAX behind. A zeroed reader begins at 0; set `offset` alone to begin elsewhere (an
 * offset behind the end is moved to the end). */
#define RUN_READER_LAG_MAX (256 * 1024)
struct run_reader {
    uint64_t offset;
    bool binding;
    uint64_t frame_offset, frame_position; /* where the last chunk began; zero at first */
};
enum { RUN_STDOUT = 1, RUN_STDERR = 2 };
MUST_USE enum err run_output_read(struct op *op, struct run *run, struct run_reader *reader,
                                  unsigned streams, void *data, size_t size, size_t *ret_read,
                                  unsigned *ret_stream, uint64_t *ret_time_ns);
/* Polled: until run_output_read would not wait. For pollers. */
MUST_USE enum err run_output_wait(struct op *op, struct run *run, struct run_reader *reader,
                                  unsigned streams);
/* Polled, as dev->poll of a reader, whose place stays: POLL_READABLE if reading would not wait, and
 * POLL_HANGUP if there is nothing more. */
MUST_USE enum err run_output_poll(struct op *op, struct run *run, const struct run_reader *reader,
                                  unsigned streams, unsigned *ret_ready);
/* Until a reader is bound, output goes to the record unthrottled, up to its limit: while a request
 * body still comes in the client may not read yet. From then on the guest waits for this reader. A
 * run of the web door that reaches the limit before does not end, but waits for one to be bound. */
void run_bind_reader(struct run *run, struct run_reader *reader);
/* Whether it has reached the limit, and has no reader. Who waits for its output is woken then. */
bool run_output_is_full(struct run *run);
/* The reader's client has all of its answer's promised length. True: the run has written more to
 * its standard output already. Else `line`, which is taken then, goes into the app's log when it
 * first does so. */
MUST_USE bool run_answered(struct run *run, const struct run_reader *reader, struct buf *line);
/* The record of its host calls, if that was asked for. Polled: PENDING while there is nothing
 * behind `offset` yet (AGAIN if op->nonblocking); OK with 0 bytes at the end of a run that has
 * ended. The record has RUN_TRACE_BYTES_MAX at most, and a last line. */
#define RUN_TRACE_BYTES_MAX (4 * MIB)
bool run_has_trace(const struct run *run);
MUST_USE enum err run_trace_read(struct op *op, struct run *run, uint64_t offset, void *data,
                                 size_t size, size_t *ret_read);
/* Its core dump: NOENT if there is none (it did not trap, nobody asked for one, it was too large,
 * or has gone for newer ones). Reading gives 0 bytes at the end. Any thread. */
bool run_wants_core(const struct run *run); /* whether one was asked for */
MUST_USE enum err run_core_size(struct run *run, uint64_t *ret_bytes);
MUST_USE enum err run_core_read(struct run *run, uint64_t offset, void *data, size_t size,
                                size_t *ret_read);
/* The files of the standard streams (0, 1, 2), as the run has them: a reference. NULL without
 * memory. */
struct file *run_stream_file(struct run *run, unsigned descriptor);
/* The request's `listener`, borrowed, or NULL. */
struct file *run_listener(const struct run *run);
/* The log of its app, borrowed; NULL if it could not be opened. */
struct applog *run_applog(const struct run *run);
