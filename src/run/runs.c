/* All runs of the server: the table, and admission. Those that have ended: run_kept.c. */
#include "run/internal.h"

enum { IDLE_APPS_MAX = 256 };

/* Whether the next run of an app will compute is judged by its last ones. A run that computes
 * weighs as much as two that don't, so that it may be one of three; and one that only seemed to,
 * because the machine was busy, changes nothing. */
enum { SCORE_MAX = 8, SCORE_COMPUTES = 4, SCORE_OF_COMPUTING = 2 };

/* ---- making and freeing ---- */

enum err runs_new(const struct runs_options *options, struct engine *engine,
                  struct catalog *catalog, struct applog_set *logs, const struct run_hooks *hooks,
                  struct loop *const *loops, size_t loop_count, struct runs **ret_runs) {
    struct runs *runs = calloc(1, sizeof(*runs));
    struct run_loop *run_loops = calloc(loop_count, sizeof(*run_loops));
    struct program_cache *programs = NULL;
    if (!runs || !run_loops || program_cache_new(&programs) != ERR_OK) {
        free(run_loops);
        free(runs);
        return ERR_NOMEM;
    }
    runs->options = *options;
    runs->engine = engine;
    runs->catalog = catalog;
    runs->logs = logs;
    runs->hooks = *hooks;
    runs->loops = run_loops;
    runs->loop_count = loop_count;
    runs->programs = programs;
    runs->table.is_sequence = true;
    for (size_t i = 0; i < loop_count; i++) {
        run_loop_init(&run_loops[i], runs, loops[i], i + options->computing_loops >= loop_count);
    }
    pthread_mutex_init(&runs->lock, NULL);
    pthread_mutex_init(&runs->spare_lock, NULL);
    list_init(&runs->waiting);
    list_init(&runs->cores);
    kept_init(&runs->kept);
    *ret_runs = runs;
    return ERR_OK;
}

const struct runs_options *runs_get_options(const struct runs *runs) {
    return &runs->options;
}

/* ---- forgetting ---- */

/* Goes on at `place` and forgets a few. False: that was the last piece. */
static bool forget_some(struct runs *runs, int64_t app_id, struct map_place *place) {
    struct run *evicted[KEPT_EVICT_AT_ONCE];
    size_t count = 0;
    pthread_mutex_lock(&runs->lock);
    struct map_node *node = map_resume(&runs->table, place);
    while (node && count < KEPT_EVICT_AT_ONCE) {
        struct run *run = CONTAINER_OF(node, struct run, node);
        node = map_next(&runs->table, node);
        if (run->app->id != app_id) {
            continue;
        }
        if (run->forget_ns) {
            kept_forget(runs, run);
            evicted[count++] = run;
        } else {
            run->keep_ns = 0;
        }
    }
    if (node) {
        map_pause(&runs->table, node, place);
    }
    pthread_mutex_unlock(&runs->lock);
    kept_drop(evicted, count);
    return node != NULL;
}

void runs_forget_app(struct runs *runs, int64_t app_id) {
    struct map_place place = {0};
    while (forget_some(runs, app_id, &place)) {
    }
    if (runs->hooks.forget_app) {
        runs->hooks.forget_app(runs->hooks.context, app_id);
    }
}

/* Nothing of it runs or waits. */
static void drop_app(struct runs *runs, struct run_app *app) {
    map_remove(&runs->apps, &app->node);
    map_done(&app->chains);
    free(app);
}

void runs_free(struct runs *runs) {
    if (!runs) {
        return;
    }
    INVARIANT(runs->running == 0 && runs->queued == 0);
    struct map_node *node;
    while ((node = map_next(&runs->table, NULL))) {
        struct run *run = CONTAINER_OF(node, struct run, node);
        kept_forget(runs, run);
        run_unref(run);
    }
    while ((node = map_next(&runs->apps, NULL))) {
        drop_app(runs, CONTAINER_OF(node, struct run_app, node));
    }
    map_done(&runs->table);
    map_done(&runs->apps);
    kept_done(&runs->kept);
    while (runs->spares) {
        struct run *run = runs->spares;
        runs->spares = run->next_spare;
        run_free(run);
    }
    for (size_t i = 0; i < runs->loop_count; i++) {
        run_loop_done(&runs->loops[i]);
    }
    program_cache_free(runs->programs);
    pthread_mutex_destroy(&runs->lock);
    pthread_mutex_destroy(&runs->spare_lock);
    free(runs->loops);
    free(runs);
}

/* ---- admission ---- */

static struct run_app *find_app(struct runs *runs, int64_t app_id) {
    struct map_node *node = map_find(&runs->apps, MAP_KEY(app_id));
    return node ? CONTAINER_OF(node, struct run_app, node) : NULL;
}

/* Entries of apps of which nothing runs are dropped when there are many. */
static void drop_idle_apps(struct runs *runs) {
    struct map_node *next;
    for (struct map_node *node = map_next(&runs->apps, NULL); node; node = next) {
        next = map_next(&runs->apps, node);
        struct run_app *app = CONTAINER_OF(node, struct run_app, node);
        if (app->running == 0 && app->queued_count == 0) {
            drop_app(runs, app);
        }
    }
}

static struct run_app *get_app(struct runs *runs, int64_t app_id) {
    struct run_app *app = find_app(runs, app_id);
    if (app) {
        return app;
    }
    if (runs->apps.count >= (size_t)IDLE_APPS_MAX + 2 * (size_t)runs->running) {
        drop_idle_apps(runs);
    }
    app = calloc(1, sizeof(*app));
    if (!app) {
        return NULL;
    }
    app->app_id = app_id;
    app->computing_score = SCORE_MAX; /* until it has shown what it is */
    app->chains.is_sequence = true;
    list_init(&app->queued);
    list_init(&app->chains_waiting);
    list_init(&app->turn);
    if (map_insert(&runs->apps, &app->node, MAP_KEY(app->app_id)) != ERR_OK) {
        free(app);
        return NULL;
    }
    return app;
}

static void note_computing(struct run_app *app, bool has_computed) {
    if (has_computed) {
        app->computing_score = (uint8_t)MIN(app->computing_score + SCORE_OF_COMPUTING, SCORE_MAX);
    } else if (app->computing_score > 0) {
        app->computing_score--;
    }
}

void runs_note_computing(struct runs *runs, struct run *run) {
    pthread_mutex_lock(&runs->lock);
    if (run->admitted) {
        note_computing(run->admitted, true);
    }
    pthread_mutex_unlock(&runs->lock);
}

/* Where it begins. Called with the lock. */
static void settle(struct runs *runs, const struct run_app *app, const struct loop *loop,
                   struct run *run) {
    bool computes = app->computing_score >= SCORE_COMPUTES || run->listener;
    run->home = run_choose_loop(runs, loop, computes);
    run_set_computing(run, computes);
    op_init(&run->op, run->home->loop, &run->who, run_op_wake);
}

/* Why a run that was not admitted may not wait either; OK: it may. A run that waits for a place and
 * whose caller has one of the same kind could wait for itself, or two such for each other. Below
 * one that has a client's place it may, while clients have not taken all: what has a program's
 * place never waits for one of the same app, so that these become free. */
static enum err check_wait(struct runs *runs, const struct run_app *app, const struct run *run,
                           uint32_t queued_max, struct buf *message) {
    bool is_full = app->running >= app->running_max || runs->running >= runs->options.max_runs;
    if (run_is_below_app(run, app->app_id, is_full ? 0 : 1)) {
        return is_full ? buf_fail(message, ERR_DEADLK,
                                  "all %u places of '%s' are taken, one of them by a run that "
                                  "waits for this call; max_runs has to be larger than its calls "
                                  "of itself are deep",
                                  app->running_max, run->app->name)
                       : buf_fail(message, ERR_DEADLK,
                                  "the places of '%s' that programs may take are taken, one of "
                                  "them by a run that waits for this call; max_runs (now %u) has "
                                  "to be four times as large as its calls of itself are deep",
                                  run->app->name, app->running_max);
    }
    if (places_can_wait(app, run, queued_max)) {
        return ERR_OK;
    }
    return run->chain && app->queued_count < queued_max
               ? buf_fail(message, ERR_AGAIN,
                          "programs have started %u runs of '%s' that are under way and %u that "
                          "wait; try again later",
                          app->programs_running, run->app->name, app->programs_queued)
               : buf_fail(message, ERR_AGAIN,
                          "%u runs of '%s' are under way and %u wait; try again later",
                          app->running, run->app->name, app->queued_count);
}

/* An app's own limit, or the server's. */
static uint32_t limit_of(uint64_t own, uint32_t servers) {
    return own ? (uint32_t)MIN(own, (uint64_t)UINT32_MAX) : servers;
}

/* Puts it in the table. Called with the lock. */
static enum err add_to_table(struct runs *runs, const struct run_app *app, const struct loop *loop,
                             struct run *run) {
    enum err err = kept_reserve(runs, run);
    if (err) {
        return err;
    }
    settle(runs, app, loop, run);
    err = map_insert(&runs->table, &run->node, MAP_KEY(run->id));
    if (err) {
        kept_unreserve(runs, run);
        run_set_computing(run, false);
        return err;
    }
    run_ref(run); /* the table's */
    run_ref(run); /* that of its life, given back when it ends */
    return ERR_OK;
}

/* Begins what can have a place now, after `first` (NULL: none can). Without the lock. */
static void begin_waiting(struct runs *runs, struct run *first) {
    for (struct run *run = first; run;) {
        run_signal(run, SIGNAL_BEGIN);
        run_unref(run);
        pthread_mutex_lock(&runs->lock);
        run = places_admit_next(runs);
        pthread_mutex_unlock(&runs->lock);
    }
}

enum err runs_enter(struct runs *runs, const struct loop *loop, struct run *run, bool *ret_admitted,
                    struct buf *message) {
    const struct app_limits *limits = &run->app->limits;
    struct run *next = NULL;
    enum err err = ERR_OK;
    pthread_mutex_lock(&runs->lock);
    if (runs->is_shutting_down) {
        err = buf_fail(message, ERR_AGAIN, "the server shuts down");
        goto out;
    }
    struct run_app *app = get_app(runs, run->app->id);
    err = app ? places_join(app, run) : ERR_NOMEM;
    if (err) {
        goto out;
    }
    places_set_max(runs, app, limit_of(limits->max_runs, runs->options.max_runs_per_app));
    bool admitted = places_take(runs, app, run);
    if (!admitted) {
        err = check_wait(runs, app, run, limit_of(limits->queue, runs->options.queue_per_app),
                         message);
    }
    err = err ? err : add_to_table(runs, app, loop, run);
    if (err) {
        if (admitted) {
            places_give_back(runs, run);
        } else {
            places_part(app, run);
        }
    } else if (!admitted) {
        places_wait(runs, app, run);
    }
    *ret_admitted = admitted;
    next = admitted ? NULL : places_admit_next(runs); /* an app's max_runs may have been raised */
out:
    pthread_mutex_unlock(&runs->lock);
    begin_waiting(runs, next);
    return err;
}

bool runs_leave_queue(struct runs *runs, struct run *run) {
    pthread_mutex_lock(&runs->lock);
    bool was_queued = run->is_queued;
    if (was_queued) {
        places_wait_no_more(runs, find_app(runs, run->app->id), run);
    }
    pthread_mutex_unlock(&runs->lock);
    return was_queued;
}

static void call_finished(struct loop_post *post) {
    struct runs *runs = CONTAINER_OF(post, struct runs, finished_post);
    loop_timer_stop(&runs->grace_timer);
    runs->finished(runs->finished_argument);
}

/* Called with the lock. */
static void check_finished(struct runs *runs) {
    if (runs->is_shutting_down && runs->finished_loop && runs->running == 0 && runs->queued == 0) {
        runs->finished_post.run = call_finished;
        loop_post(STEAL(runs->finished_loop), &runs->finished_post);
    }
}

void runs_run_ended(struct runs *runs, struct run *run, uint64_t output_bytes) {
    struct run *evicted[KEPT_EVICT_AT_ONCE];
    struct run *next = NULL;
    uint64_t now_ns = atomic_load(&run->ended_ns);
    uint64_t bytes = kept_bytes_of(run, output_bytes);
    atomic_fetch_add_explicit(&runs->ended_by_reason[run->reason], 1, memory_order_relaxed);
    if (run->reason == RUN_REASON_FAILED && !atomic_load(&run->started_ns)) {
        runs_count_refused(runs, run->start_error);
    }
    pthread_mutex_lock(&runs->lock);
    if (run->admitted) {
        note_computing(run->admitted, run->has_computed);
        places_give_back(runs, run);
        next = places_admit_next(runs);
    }
    kept_add(runs, run, bytes, now_ns);
    size_t evicted_count = kept_evict(runs, now_ns, evicted);
    check_finished(runs);
    pthread_mutex_unlock(&runs->lock);
    kept_drop(evicted, evicted_count);
    begin_waiting(runs, next);
}

/* ---- finding ---- */

enum err runs_find(struct runs *runs, uint64_t id, struct run **ret_run) {
    struct run *run = NULL;
    pthread_mutex_lock(&runs->lock);
    struct map_node *node = map_find(&runs->table, MAP_KEY(id));
    if (node) {
        run = CONTAINER_OF(node, struct run, node);
        /* Its time may be over though nobody has come by to forget it. */
        bool is_over = run->forget_ns && run->forget_ns <= clock_monotonic_ns();
        run = is_over ? NULL : run_ref(run);
    }
    pthread_mutex_unlock(&runs->lock);
    if (!run) {
        return ERR_NOENT;
    }
    *ret_run = run;
    return ERR_OK;
}

static int compare_ids(const void *a, const void *b) {
    const struct run *one = *(struct run *const *)a;
    const struct run *other = *(struct run *const *)b;
    return one->id < other->id ? -1 : one->id > other->id;
}

enum err runs_list(struct runs *runs, struct run ***ret_list, size_t *ret_count) {
    runs_sweep(runs);
    pthread_mutex_lock(&runs->lock);
    size_t count = 0;
    struct run **list = malloc(MAX(runs->table.count, (size_t)1) * sizeof(struct run *));
    if (list) {
        for (struct map_node *node = map_next(&runs->table, NULL); node;
             node = map_next(&runs->table, node)) {
            list[count++] = run_ref(CONTAINER_OF(node, struct run, node));
        }
    }
    pthread_mutex_unlock(&runs->lock);
    if (!list) {
        return ERR_NOMEM;
    }
    qsort(list, count, sizeof(struct run *), compare_ids);
    *ret_list = list;
    *ret_count = count;
    return ERR_OK;
}

void runs_sweep(struct runs *runs) {
    struct run *evicted[KEPT_EVICT_AT_ONCE];
    size_t count;
    do {
        pthread_mutex_lock(&runs->lock);
        count = kept_evict(runs, clock_monotonic_ns(), evicted);
        pthread_mutex_unlock(&runs->lock);
        kept_drop(evicted, count);
    } while (count == KEPT_EVICT_AT_ONCE);
}

/* ---- counters ---- */

static enum run_refusal refusal_of(enum err err) {
    switch (err) {
    case ERR_AGAIN:
        return RUN_REFUSAL_QUEUE;
    case ERR_NOENT:
        return RUN_REFUSAL_MISSING;
    case ERR_2BIG:
    case ERR_FBIG:
    case ERR_NOMEM:
    case ERR_NOSPC:
    case ERR_LOOP:
    case ERR_BUSY:
    case ERR_DEADLK:
        return RUN_REFUSAL_LIMIT;
    case ERR_ACCES:
        return RUN_REFUSAL_ACCESS;
    case ERR_INVAL:
        return RUN_REFUSAL_INVALID;
    default:
        return RUN_REFUSAL_FAILED;
    }
}

const char *run_refusal_text(enum run_refusal refusal) {
    static const char *const texts[RUN_REFUSAL_COUNT] = {
        [RUN_REFUSAL_QUEUE] = "queue",     [RUN_REFUSAL_MISSING] = "missing",
        [RUN_REFUSAL_LIMIT] = "limit",     [RUN_REFUSAL_ACCESS] = "access",
        [RUN_REFUSAL_INVALID] = "invalid", [RUN_REFUSAL_FAILED] = "failed",
    };
    return texts[refusal];
}

void runs_count_refused(struct runs *runs, enum err err) {
    atomic_fetch_add_explicit(&runs->refused[refusal_of(err)], 1, memory_order_relaxed);
}

void runs_count_refused_status(struct runs *runs, int status) {
    static const struct {
        int status;
        enum run_refusal refusal;
    } rows[] = {{400, RUN_REFUSAL_INVALID}, {403, RUN_REFUSAL_ACCESS}, {404, RUN_REFUSAL_MISSING},
                {413, RUN_REFUSAL_LIMIT},   {429, RUN_REFUSAL_QUEUE},  {503, RUN_REFUSAL_LIMIT},
                {507, RUN_REFUSAL_LIMIT}};
    enum run_refusal refusal = RUN_REFUSAL_FAILED;
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        refusal = rows[i].status == status ? rows[i].refusal : refusal;
    }
    atomic_fetch_add_explicit(&runs->refused[refusal], 1, memory_order_relaxed);
}

struct runs_counters runs_counters(struct runs *runs) {
    runs_sweep(runs);
    struct runs_counters counters = {0};
    struct run_times begun = runs_times(runs, RUN_TIME_START);
    for (size_t i = 0; i < RUN_TIME_BUCKETS; i++) {
        counters.started += begun.counts[i];
    }
    for (size_t i = 0; i < RUN_REFUSAL_COUNT; i++) {
        counters.refused[i] = atomic_load(&runs->refused[i]);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(counters.ended_by_reason); i++) {
        counters.ended_by_reason[i] = atomic_load(&runs->ended_by_reason[i]);
    }
    pthread_mutex_lock(&runs->lock);
    counters.running = runs->running;
    counters.queued = runs->queued;
    counters.kept = runs->kept.asked.count + runs->kept.below.count;
    pthread_mutex_unlock(&runs->lock);
    return counters;
}

/* ---- shutting down ---- */

/* References to those that have not ended; `queued_only`: that have not begun. */
static enum err list_living(struct runs *runs, bool queued_only, struct run ***ret_list,
                            size_t *ret_count) {
    enum err err = ERR_NOMEM;
    pthread_mutex_lock(&runs->lock);
    size_t count = 0;
    struct run **list = malloc(MAX(runs->table.count, (size_t)1) * sizeof(struct run *));
    if (list) {
        for (struct map_node *node = map_next(&runs->table, NULL); node;
             node = map_next(&runs->table, node)) {
            struct run *run = CONTAINER_OF(node, struct run, node);
            if (run->is_queued || (!queued_only && run->admitted)) {
                list[count++] = run_ref(run);
            }
        }
        *ret_list = list;
        *ret_count = count;
        err = ERR_OK;
    }
    pthread_mutex_unlock(&runs->lock);
    return err;
}

static void end_living(struct runs *runs, bool queued_only) {
    struct run **list;
    size_t count;
    if (list_living(runs, queued_only, &list, &count) != ERR_OK) {
        log_warning("no memory to end the runs in good order");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        run_kill(list[i], RUN_REASON_SHUTDOWN);
        run_unref(list[i]);
    }
    free(list);
}

static void grace_is_over(struct loop_timer *timer) {
    end_living(CONTAINER_OF(timer, struct runs, grace_timer), false);
}

void runs_shut_down(struct runs *runs, struct loop *loop, uint64_t grace_ns,
                    void (*finished)(void *argument), void *argument) {
    pthread_mutex_lock(&runs->lock);
    bool is_first = !runs->is_shutting_down;
    if (is_first) {
        runs->is_shutting_down = true;
        runs->finished_loop = loop;
        runs->finished = finished;
        runs->finished_argument = argument;
        loop_timer_init(&runs->grace_timer, grace_is_over);
    }
    pthread_mutex_unlock(&runs->lock);
    if (!is_first) {
        grace_is_over(&runs->grace_timer); /* asked twice: no grace any more */
        return;
    }
    end_living(runs, true);
    if (grace_ns == 0) {
        end_living(runs, false);
    } else {
        loop_timer_start(loop, &runs->grace_timer, clock_monotonic_ns() + grace_ns);
    }
    pthread_mutex_lock(&runs->lock);
    check_finished(runs);
    pthread_mutex_unlock(&runs->lock);
}
