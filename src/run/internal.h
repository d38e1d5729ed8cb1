/* What the files of src/run share. Nobody else includes this.
 *
 * Locks, in the order in which they are taken:
 *   budget->lock   what was started by a run (run_budget.c)
 *   runs->lock     the table of runs, admission, what is kept
 *   run->lock      a run's output record, failure text, reason and tree
 * and apart from them runs->spare_lock (the list of recycled runs) and program_cache->lock.
 * Everything else of a run belongs to its loop (which may change once: run_move.c), or is atomic.
 */
#pragma once

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/unheard.h"
#include "ns/pipe.h"
#include "run/run.h"
#include "wasi/wasi_trace.h"

#include <pthread.h>

/* ---- run_output.c: the ordered record of what a run wrote ---- */

/* The record is a sequence of frames, each a header and the bytes of one stream. Its first
 * OUTPUT_MEMORY_MAX bytes are in memory (the first few in the object itself), the rest in an
 * unlinked file. Positions count bytes of the record with headers, offsets those of the streams. */
enum {
    OUTPUT_SMALL_SIZE = 192,
    OUTPUT_MEMORY_MAX = 256 * 1024,
    OUTPUT_FRAME_MAX = 64 * 1024,       /* bytes of one frame */
    OUTPUT_INDEX_DISTANCE = 32 * 1024,  /* of record between two entries of the index */
    OUTPUT_MERGE_NS = 1000 * 1000,      /* writes closer than this share a frame */
    OUTPUT_FREE_HEADERS_MAX = 64 * 1024 /* headers that are not charged to the limit, see there */
};
struct output_frame {
    uint64_t time_ns; /* realtime */
    uint32_t length;  /* bytes that follow */
    uint32_t stream;  /* RUN_STDOUT or RUN_STDERR */
};
struct output_index_entry {
    uint64_t offset, position; /* of the beginning of a frame */
};
struct output {
    uint8_t *memory; /* `small`, or owned */
    size_t memory_capacity;
    uint64_t length;         /* bytes of the streams */
    uint64_t size;           /* bytes of the record */
    bool forgets;            /* what its reader has taken goes (output_forget) */
    uint64_t base_offset;    /* bytes of the streams that are gone, */
    uint64_t base_position;  /* and of the record; a frame begins there */
    uint64_t frame_position; /* of the last frame */
    uint64_t frame_count;
    struct output_frame frame; /* the last frame's header */
    struct output_index_entry *index;
    size_t index_count, index_capacity;
    int spool; /* descriptor, -1 = none */
    bool last_was_newline[3];
    uint8_t small[OUTPUT_SMALL_SIZE];
};
void output_init(struct output *output);
/* Empties it for use anew. */
void output_done(struct output *output);
/* What is charged to the run's limit: the bytes, and headers as far as they are out of proportion
 * (a guest that writes single bytes to both streams in turn). */
uint64_t output_charged(const struct output *output);
/* Appends all of it. `directory` is where the spool file is made if one becomes necessary. */
MUST_USE enum err output_append(struct output *output, struct catalog *catalog, unsigned stream,
                                const void *data, size_t length, uint64_t time_ns);
/* Reads up to `size` bytes of the first chunk of `streams` at or after the reader's place, and
 * moves it. 0 bytes: it is at the end. */
MUST_USE enum err output_read(const struct output *output, struct run_reader *reader,
                              unsigned streams, void *data, size_t size, size_t *ret_read,
                              struct output_frame *ret_frame);
/* Drops what is before the reader's place, as far as that is cheap. What is left, and only what is
 * written with the room that output_room says, is in memory. */
void output_forget(struct output *output, const struct run_reader *reader);
/* Lets go of the memory of one that has forgotten all. */
void output_trim(struct output *output);
/* Of a record that forgets: how much may be appended so that all of it stays in memory. */
size_t output_room(const struct output *output);
/* Moves the reader over what it does not select; false if it is then at the end. */
bool output_seek(const struct output *output, struct run_reader *reader, unsigned streams);

/* ---- run_lines.c: output cut in lines for the app's log ---- */

enum { LOG_BURST_BYTES = 8 * MIB, LOG_BYTES_A_SECOND = MIB };
struct lines {
    struct buf partial[2]; /* of standard output and error: the line that is not ended */
    uint64_t used_bytes;   /* of LOG_BURST_BYTES: what was logged, less what has come back */
    uint64_t since_ns;     /* when that was counted last */
    uint64_t left_out, left_out_bytes; /* lines that the log did not take, and are not told yet */
};
void lines_append(struct lines *lines, struct applog *log, uint64_t run_id, unsigned stream,
                  const void *data, size_t length, uint64_t time_ns);
/* Ends lines that are not ended, and tells what was left out. */
void lines_flush(struct lines *lines, struct applog *log, uint64_t run_id, uint64_t time_ns);
void lines_done(struct lines *lines);

/* ---- run_trace.c: the record of host calls, for runs that asked for it ---- */

struct run_trace {
    struct wasi_trace calls; /* its loop's */
    struct output record;    /* what others can read; guarded by the run's lock */
    bool has_ended;          /* guarded by the run's lock */
};
MUST_USE enum err run_trace_new(struct run_trace **ret_trace);
void run_trace_free(struct run_trace *trace);
/* The guest is there: its calls are traced from now on. */
void run_trace_begin(struct run *run);
/* Shows others what was traced in this turn. */
void run_trace_flush(struct run *run);
/* The guest is gone, or never was. */
void run_trace_end(struct run *run, const char *reason, int32_t exit_status);

/* ---- run_core.c: the core dump of a run that has trapped, for runs that asked for it ---- */

/* An unlinked file. Whoever reads holds a reference. */
struct run_core {
    atomic_uint references;
    int descriptor;
    uint64_t bytes;
    struct run *run;  /* whose it is; guarded by runs->lock */
    struct list link; /* in runs->cores, while the run has it */
};
/* Polled, on the run's loop: writes it. The sandbox must stay as it is until this has ended, so it
 * must not be given up. 2BIG: over the limit. */
MUST_USE enum err run_core_make(struct op *op, struct run *run);
/* The run is forgotten. */
void run_core_drop(struct run *run);

/* ---- run_stdio.c ---- */

enum { RUN_STDIN_BYTES = 64 * 1024 }; /* the pipe of standard input */
/* For the run itself, from its loop: text to one of its streams whatever its limit says; with
 * `own_line` it begins a line. */
void run_say(struct run *run, unsigned stream, struct str text, bool own_line);

/* ---- the run ---- */

enum run_phase {
    PHASE_QUEUED,  /* waits for admission */
    PHASE_PROGRAM, /* runs_program is under way */
    PHASE_TREE,    /* make_tree is */
    PHASE_FILES,   /* the sandbox exists, place_files is under way */
    PHASE_GUEST,   /* the sandbox exists, or is about to */
    PHASE_CORE,    /* it has trapped, and its core dump is being written */
    PHASE_COMMIT,  /* the guest is gone, commit_tree is under way */
    PHASE_ENDED,
};
/* What others tell a run; handled on its loop. */
enum run_signal {
    SIGNAL_BEGIN = 1 << 0,  /* it was admitted */
    SIGNAL_QUEUED = 1 << 1, /* it waits in the queue from now on */
    SIGNAL_KILL = 1 << 2,   /* run->kill_reason says why */
    SIGNAL_PAUSE = 1 << 3,
    SIGNAL_RESUME = 1 << 4,
    SIGNAL_LEFT = 1 << 5, /* the client of a page has left */
};
/* Where a run is in its loop's queues. */
enum run_queue { QUEUE_NONE, QUEUE_FRESH, QUEUE_READY, QUEUE_COMPUTING };

/* What only a run needs that is not ended: apart, because ended ones are kept in thousands. */
struct run_guest {
    struct run *run;
    struct run_guest *next_spare; /* in its loop's list */
    struct wasi wasi;
    struct buf message;      /* what a device says about the call under way, if it fails */
    struct run_loop *target; /* where the run is moving to */
    struct loop_post move;   /* holds a reference of the run while it is on its way */
};

struct run {
    struct runs *runs;
    struct run_loop *_Atomic home; /* its loop; changed by run_move.c alone */
    atomic_uint references;
    uint64_t id;
    struct who who;

    /* Constant once it has started: */
    struct app *app;
    const struct app_version *version; /* the app's, or one of its own */
    bool own_version;
    struct buf call;
    struct buf root_mode;
    struct buf net; /* run_net */
    char **tags;    /* one allocation, or NULL */
    size_t tag_count;
    struct run_limits limits;
    uint64_t disk_bytes_max, disk_files_max; /* of volumes, for it; 0: what they have */
    uint64_t keep_ns, parent_id, ttl_ns;
    uint64_t top_id; /* of the runs above it, that which no program has started; 0: it is itself */
    uint8_t depth;   /* runs above it, each started by the next one */
    bool detached, discard_stderr, is_web, wants_core;
    bool is_confined;               /* it has a root of its own, or a run above it has */
    bool is_call;                   /* its standard output is an answer, and goes into no log */
    bool has_traceparent;           /* it is a hop of a trace */
    struct traceparent traceparent; /* with a parent-id of its own */
    struct buf tracestate;          /* that came with it */
    struct budget *charged;         /* a reference: whom it is charged to; NULL: nobody */
    bool is_counted;                /* among those that live below `charged` */
    struct file *files;             /* or NULL; until it has ended */
    struct pipe *input;             /* standard input; NULL: it is empty */
    struct file *listener;          /* of one that is kept; or NULL */
    struct applog *log;
    struct run_trace *trace; /* NULL: not asked for */

    /* Any thread: */
    atomic_uint signals;                      /* enum run_signal */
    atomic_int kill_reason;                   /* enum run_reason: the first that was given */
    atomic_int state;                         /* enum run_state */
    atomic_bool is_posted;                    /* `post` is on its way */
    atomic_bool is_moving;                    /* it is on its way to another loop, see run_move.c */
    struct loop_post post;                    /* holds a reference while it is on its way */
    uint64_t created_realtime_ns, created_ns; /* constant */
    atomic_uint_fast64_t started_ns, ended_ns; /* monotonic; 0 = not yet */
    atomic_uint_fast64_t cpu_ns, memory_bytes, memory_peak_bytes, calls, bytes_read,
        bytes_written;               /* as of the end of its last turn */
    _Atomic(struct budget *) budget; /* a reference: of the runs that it starts; NULL: none yet */

    /* Guarded by runs->lock: */
    struct map_node node;      /* in runs->table */
    struct list admission;     /* in the queue of its app or chain, in kept.by_end after its end */
    struct heap_node by_time;  /* in kept.by_time after its end, in place of that */
    struct list end_order;     /* after its end, in kept.asked_runs or its kept_app.runs */
    struct kept_app *kept_app; /* of those that another run has started */
    struct run_app *admitted;  /* of which it takes a place */
    struct run_chain *chain;   /* while it waits or has a place; NULL: a client has asked for it */
    bool is_queued;
    uint64_t kept_bytes, forget_ns, end_number;

    struct list member; /* guarded by the lock of `charged`: among its members while it lives */

    /* Guarded by its lock (and `output`, below): */
    bool output_ended; /* its record is complete */
    bool has_reader;   /* a binding one */
    bool is_unheard;   /* what it writes is not recorded: its client has left (is_web), or there is
                          none (listener) */
    uint32_t deaf_writes; /* of is_web: those that failed for that; the first of them then: */
    uint64_t deaf_since_ns;
    struct unheard unheard; /* of is_web */
    uint64_t reader_offset;
    struct buf too_long; /* for the log when it writes more to its output: run_answered */
    void *tree;
    struct run_core *core; /* NULL: none */
    struct buf failure;
    struct buf errstr; /* of the guest's last failed call that was told why */
    enum run_reason reason;
    enum err start_error;
    int32_t exit_status;

    struct changes *changes; /* set before it has ended, constant then; NULL: none */

    /* Its loop's: */
    enum run_phase phase;
    enum run_queue queue;
    struct list link; /* in one of its share's lists */
    struct run_share
        *share;      /* of its app on its loop; NULL before it was ready for the first time */
    bool is_calling; /* a host call waits for wasi_call_step */
    bool is_paused, is_computing;
    bool has_computed;         /* one of its turns was longer than RUN_PROMPT_NS */
    uint64_t turn_started_ns;  /* monotonic; of the turn that is under way */
    uint64_t paused_ns;        /* when it was paused */
    uint64_t wall_deadline_ns; /* monotonic; 0 = not set yet */
    uint64_t left_deadline_ns; /* the same, of one whose client has left */
    struct op op;              /* program, tree, commit */
    struct loop_timer timer;   /* the queue's limit, then the wall limit */
    uint64_t charged_cpu_ns, charged_memory_bytes; /* what `charged` knows of */
    struct program *program;
    struct ns *ns;
    struct sandbox *sandbox;
    struct run_guest *guest; /* while its sandbox is there, or about to be */
    struct lines lines;
    struct run *next_spare; /* guarded by runs->spare_lock */

    /* What the next run takes over; all before `arguments` is zero at its beginning. */
    struct wasi_strings arguments, environment; /* constant once it has started */
    struct op_queue changed;                    /* woken by output, a reader, and the end */
    pthread_mutex_t lock;
    struct output output; /* guarded by lock */
};

/* An app's runs on one loop, those that can go on in order: turns go round by app, see run_turns.c.
 * Kept while one of them has not ended, and some afterwards for the next. Thread: the loop's. */
struct run_share {
    struct map_node node; /* in home->shares */
    int64_t app_id;
    uint32_t references;                     /* runs, and whoever gives one its turn */
    struct list fresh, ready, computing;     /* of run.link, by enum run_queue */
    struct list prompt_turn, computing_turn; /* in the loop's lists of these names, or `spent` */
    bool ready_is_next;                      /* of fresh and ready runs, which take turns */
    uint64_t round, used_ns; /* what its fresh and ready runs used in that round of the loop */
};

struct run_loop_times {
    atomic_uint_fast64_t counts[RUN_TIME_BUCKETS], sum_ns; /* any thread reads */
};

/* The runs of a loop that can go on. Thread: the loop's. */
struct run_loop {
    struct runs *runs;
    struct loop *loop;
    struct loop_task task;
    struct map shares;             /* by app_id */
    struct run_share common_share; /* of apps for which there is no memory */
    struct list prompt;            /* shares with fresh or ready runs */
    struct list spent;             /* the same, but they have had their part of this round */
    struct list computing;         /* shares with runs that compute */
    uint64_t round;                /* ends with the turn of a run that computes */
    uint64_t round_began_ns;       /* monotonic clock */
    bool round_is_over;            /* the next turn begins one */
    unsigned quiet_turns;          /* of the loop since a fresh or ready run had its turn */
    atomic_uint computing_count;   /* runs that compute, or are expected to; any thread */
    uint64_t charged_ns;           /* up to when CPU time has been charged: monotonic clock */
    uint64_t charged_cpu_ns;       /* the same on the thread's CPU clock, if is_exact */
    bool is_exact;
    bool is_for_computing; /* others are for what is prompt */
    struct run_loop_times times[RUN_TIME_COUNT];
    struct run_guest *spare_guests; /* by next_spare */
    unsigned spare_guest_count;
};

/* What admission knows of an app: see run_places.c. Guarded by runs->lock. */
struct run_app {
    struct map_node node;
    int64_t app_id;
    uint32_t running, queued_count, running_max;
    uint32_t programs_running, programs_queued; /* of these, those that programs have started */
    uint8_t computing_score; /* rises with runs that compute, falls with those that are prompt */
    bool client_was_last;    /* of those that waited, to get a place */
    struct list queued;      /* of run.admission, the oldest first: those of clients */
    struct map chains;       /* run_chain by top_id */
    struct list
        chains_waiting; /* of run_chain.turn: those with queued runs, whose turn it is first */
    struct list turn;   /* in runs->waiting, while a queued run could have a place */
};
/* The runs of an app that were started below one run. It exists while there are some. */
struct run_chain {
    struct map_node node; /* in run_app.chains */
    uint64_t top_id;      /* the run */
    uint32_t running, queued_count;
    struct list queued; /* of run.admission, the oldest first */
    struct list turn;   /* in run_app.chains_waiting, while it has a queued run */
};

/* ---- run_kept.c: runs that have ended ---- */

struct kept_part {
    uint32_t count;
    uint64_t bytes; /* the sum of kept_bytes */
};
/* What an app has of the room for ended runs that other runs have started. It exists while such a
 * run is in the table, so that the end of a run needs no memory. */
struct kept_app {
    struct map_node node;
    int64_t app_id;
    uint32_t references; /* runs in the table, ended or not */
    struct list runs;    /* of run.end_order, the first to end first */
    struct kept_part has;
    struct heap_node by_count, by_bytes; /* in the heaps of these names, if it has any */
};
/* Guarded by runs->lock. */
struct kept {
    struct list by_end;     /* run.admission of those with the default keep_ns: the oldest first */
    struct heap by_time;    /* run.by_time of the others: whose time is over first */
    struct list asked_runs; /* run.end_order of those that clients have asked for */
    struct map apps;        /* kept_app by app_id, of those that other runs have started */
    struct heap by_count, by_bytes; /* and these by what they have, the one with most first */
    struct kept_part asked, below;  /* all of the former, all of the latter */
    uint64_t ended_count;           /* since the beginning */
};

struct program_cache;

struct runs {
    struct runs_options options;
    struct engine *engine;
    struct catalog *catalog;
    struct applog_set *logs;
    struct run_hooks hooks;
    struct run_loop *loops;
    size_t loop_count;
    struct program_cache *programs;

    pthread_mutex_t lock; /* guards the following */
    struct map table;     /* by run.id */
    struct map apps;      /* run_app by app_id */
    struct list waiting;  /* run_app.turn: whose turn it is when the server has a free place */
    uint32_t running, queued;
    struct kept kept;  /* those that have ended */
    struct list cores; /* run_core.link, the oldest first */
    uint64_t cores_bytes;
    bool is_shutting_down;
    struct loop
        *finished_loop; /* where `finished` is called; NULL = was called, or not asked for */
    void (*finished)(void *argument);
    void *finished_argument;
    struct loop_post finished_post;
    struct loop_timer grace_timer;

    atomic_uint_fast64_t refused[RUN_REFUSAL_COUNT], ended_by_reason[RUN_REASON_FAILED + 1];

    pthread_mutex_t spare_lock;
    struct run *spares; /* by next_spare */
    unsigned spare_count;
};

/* ---- runs.c ---- */

/* Gives a run that is complete its loop, where `loop` is that of who starts it, enters it in the
 * table, and admits or queues it: AGAIN if it can do neither. `*ret_admitted` tells which. */
MUST_USE enum err runs_enter(struct runs *runs, const struct loop *loop, struct run *run,
                             bool *ret_admitted, struct buf *message);
/* The run has ended: gives its place to the next, keeps it with so much output, forgets the
 * oldest. */
void runs_run_ended(struct runs *runs, struct run *run, uint64_t output_bytes);
/* The run turns out to compute, though its app's did not. */
void runs_note_computing(struct runs *runs, struct run *run);
/* Takes it out of the queue; false if it was admitted meanwhile. */
bool runs_leave_queue(struct runs *runs, struct run *run);

/* ---- run_places.c. Called with runs->lock ---- */

/* Sets `run->chain`; until places_take or places_wait, places_part undoes it. NOMEM. */
MUST_USE enum err places_join(struct run_app *app, struct run *run);
void places_part(struct run_app *app, struct run *run);
void places_set_max(struct runs *runs, struct run_app *app, uint32_t running_max);
/* Gives it a place, if there is one that nobody else waits for. */
bool places_take(struct runs *runs, struct run_app *app, struct run *run);
/* It has ended, or won't begin; `run->admitted` is the app. */
void places_give_back(struct runs *runs, struct run *run);
/* Whether the queue has room for it. */
bool places_can_wait(const struct run_app *app, const struct run *run, uint32_t queued_max);
void places_wait(struct runs *runs, struct run_app *app, struct run *run);
void places_wait_no_more(struct runs *runs, struct run_app *app, struct run *run);
/* Admits the next run of the app whose turn it is, if there is a place. A reference, or NULL. After
 * a run has ended, more than one may have to be admitted. */
struct run *places_admit_next(struct runs *runs);

/* ---- run_kept.c. Called with runs->lock, where nothing else is said ---- */

enum { KEPT_EVICT_AT_ONCE = 8 };

void kept_init(struct kept *kept);
/* All were forgotten. */
void kept_done(struct kept *kept);
/* Makes room for a run that comes into the table: its end must not fail. */
MUST_USE enum err kept_reserve(struct runs *runs, struct run *run);
/* It does not come, or it goes. */
void kept_unreserve(struct runs *runs, struct run *run);
/* What keeping it costs, with so much output: that of a page shrinks on its reader's loop, so it
 * was asked for with run->lock. Without the lock; its loop's thread. */
uint64_t kept_bytes_of(const struct run *run, uint64_t output_bytes);
/* It has ended. */
void kept_add(struct runs *runs, struct run *run, uint64_t bytes, uint64_t now_ns);
/* Takes one that has ended out of the table, whose reference is the caller's. */
void kept_forget(struct runs *runs, struct run *run);
/* Forgets some whose time is over, or for which there is no room: returns how many. */
size_t kept_evict(struct runs *runs, uint64_t now_ns, struct run *ret_evicted[KEPT_EVICT_AT_ONCE]);
/* Gives back references of the table. Without the lock; any thread. */
void kept_drop(struct run **list, size_t count);

/* ---- run.c ---- */

/* A zeroed run with one reference; NULL without memory. */
struct run *run_alloc(struct runs *runs);
/* Frees it for good. */
void run_free(struct run *run);
/* The same as run_unref, but if it is the last reference of one that has ended, what the run has is
 * freed by its loop. Thread: any, while the loop runs. */
void run_unref_at_home(struct run *run);
/* Tells a run something. Thread: any. */
void run_signal(struct run *run, unsigned signals);
uint64_t run_realtime_ns(const struct run *run, uint64_t monotonic_ns);

/* ---- run_budget.c ---- */

/* Charges a run that begins to its parent: its limits are at most what the parent has left. NOMEM
 * (and a message) if that is nothing. Thread: the parent's loop, in a host call of the parent. */
MUST_USE enum err run_join_budget(struct run *run, struct run *parent, struct buf *message);
/* Whether it is charged, directly or not, to a run of the app that has as many above it. */
bool run_is_below_app(const struct run *run, int64_t app_id, unsigned depth_min);
/* What it has used since the last time goes to the budgets above. Only of runs that are charged.
 * Thread: its loop's. */
void run_charge_budgets(struct run *run);
/* It lives no longer; harmless if it is charged to nobody. */
void run_leave_budget(struct run *run);
/* Ends what it has started. Thread: its loop's. */
void run_end_members(struct run *run);
/* CPU time of all that it has started. Any thread. */
uint64_t run_cpu_below_ns(struct run *run);
void run_release_budgets(struct run *run);

/* ---- run_turns.c: whose turn it is. Thread: the loop's ---- */

enum {
    RUN_SLICE_NS = 1000 * 1000, /* of a guest that makes host calls; the engine's tick */
    RUN_PROMPT_NS = 200 * 1000, /* a prompt run's turn is no longer */
};

void run_loop_init(struct run_loop *home, struct runs *runs, struct loop *loop,
                   bool is_for_computing);
void run_loop_done(struct run_loop *home);
/* Puts it into one of its loop's queues; nothing if it is in one or has ended. */
void run_make_ready(struct run *run, enum run_queue queue);
void run_leave_queue(struct run *run);
/* It has ended, and has no turns any more. */
void run_leave_share(struct run *run);
void run_set_computing(struct run *run, bool is_computing);

/* ---- run_move.c: which loop a run is on ---- */

/* Where a run begins that is started on `loop`. Any thread. */
struct run_loop *run_choose_loop(struct runs *runs, const struct loop *loop, bool computes);
/* After the turn of a run that computes: lets it go on on another loop if it is on one that is for
 * what is prompt. Thread: its loop's; the run is not its own after that. */
void run_move_away(struct run *run);

/* ---- run_times.c ---- */

/* Thread: the loop's. */
void run_note_time(struct run_loop *home, enum run_time which, uint64_t duration_ns);

/* ---- run_step.c ---- */

/* One turn of a run that was taken out of its queue. Thread: its loop's. */
void run_step(struct run *run);
void run_timer_expired(struct loop_timer *timer);
/* Of one whose guest runs, for the first of its deadlines. */
void run_start_timer(struct run *run);
void run_op_wake(struct op *op);
void run_set_state(struct run *run, enum run_state state);

/* ---- run_end.c ---- */

/* The guest is done with, or never was: lets go of what it used and begins the commit. `detail` is
 * what the engine or the start said of it; may be empty. */
void run_finish(struct run *run, enum run_reason reason, int32_t exit_status, enum err start_error,
                const struct buf *detail);
/* In PHASE_COMMIT: tries again. */
void run_step_commit(struct run *run);
/* Charges the run the time since the last charge of its loop: of its beginning, too. */
void run_charge(struct run *run);
/* Copies the guest's counters to where others read them. */
void run_note_usage(struct run *run);

/* ---- program_cache.c ---- */

MUST_USE enum err program_cache_new(struct program_cache **ret_cache);
void program_cache_free(struct program_cache *cache);
