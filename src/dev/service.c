#include "dev/service.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"

#include <inttypes.h>
#include <pthread.h>

enum {
    WAITING_FOR_MORE = 8,   /* requests that wait for the least busy one, or half of what may wait,
                               if that is less: then one more starts */
    WAITING_DEFAULT = 1000, /* requests that wait at most, where the app says nothing */
    FAILURES_MAX = 9,       /* that make the delay longer */
};
#define TICK_NS NS_PER_S
/* An instance that has lived so long did well: the next delay is the shortest. */
#define GOOD_LIFE_NS (60 * NS_PER_S)
#define DELAY_FIRST_NS (200 * NS_PER_MS) /* doubled with each failure, up to about 50 s */
#define IDLE_NS (60 * NS_PER_S)          /* of one that is more than the least number */
#define DRAIN_MAX_NS (600 * NS_PER_S)

/* What is known of an app: guarded by services->lock. */
struct service {
    struct map_node node; /* in services->table */
    int64_t app_id;
    struct list instances;
    unsigned failures;     /* in a row */
    uint64_t retry_ns;     /* monotonic: not to be started before */
    uint64_t starts, ends; /* ends that nobody asked for */
    struct buf last_end;   /* one line about the last of those */
    bool never_asked;      /* it ended by itself without having asked for a request */
};

struct instance {
    atomic_uint references; /* its life's, and one a request */
    struct services *services;
    struct service *service;
    struct app *app;       /* whose settings it has */
    struct run *run;       /* constant */
    struct file *listener; /* constant */
    /* Its loop's: */
    struct loop *loop;
    struct who who;
    struct op wait;  /* for its end */
    struct op asked; /* for its program to ask for requests, if there may be other instances */
    struct loop_timer timer;
    uint64_t owing_since_ns; /* monotonic: that it has been its program's turn, and nothing was
                                done; 0: it is not */
    uint64_t progress;       /* then (serve_listener_owes) */
    /* Guarded by services->lock: */
    struct list link;   /* in service->instances while it lives */
    unsigned in_flight; /* requests */
    bool is_draining;
    uint64_t since_ns; /* monotonic: that it drains, or was asked for nothing */
    uint64_t started_ns;
};

struct services {
    struct catalog *catalog;
    struct runs *runs;
    pthread_mutex_t lock; /* before runs' own */
    struct map table;     /* service by app_id */
    bool is_stopping;
};

/* ---- instances ---- */

static void instance_unref(struct instance *instance) {
    if (atomic_fetch_sub(&instance->references, 1) == 1) {
        run_unref(instance->run);
        file_unref(instance->listener);
        app_unref(instance->app);
        free(instance);
    }
}

uint64_t instance_run_id(const struct instance *instance) {
    return run_id(instance->run);
}

/* With the lock: it takes nothing new, and ends when it has nothing left. */
static void drain(struct instance *instance) {
    if (!instance->is_draining) {
        instance->is_draining = true;
        instance->since_ns = clock_monotonic_ns();
    }
    if (instance->in_flight == 0) {
        run_kill(instance->run, RUN_REASON_SHUTDOWN);
    }
}

static size_t count_living(const struct service *service) {
    size_t count = 0;
    LIST_FOR_EACH (node, &service->instances) {
        count += !CONTAINER_OF(node, struct instance, link)->is_draining;
    }
    return count;
}

static uint64_t least_of(const struct app *app) {
    return app->limits.instances_max ? app->limits.instances_min : 1;
}
static uint64_t most_of(const struct app *app) {
    return app->limits.instances_max ? app->limits.instances_max : 1;
}

/* With the lock: it ended though nobody wanted it to. */
static void note_failure(struct service *service, struct instance *instance, uint64_t now_ns) {
    struct run_status status = run_status(instance->run);
    struct buf cleanup_buf failure = {0};
    run_failure(instance->run, &failure);
    struct str why = buf_str(&failure);
    why = str_cut(&why, '\n');
    service->ends++;
    service->failures = now_ns - instance->started_ns > GOOD_LIFE_NS ? 1 : service->failures + 1;
    unsigned doublings = MIN(service->failures, (unsigned)FAILURES_MAX) - 1;
    service->retry_ns = now_ns + (DELAY_FIRST_NS << doublings);
    service->never_asked = (status.reason == RUN_REASON_EXIT || status.reason == RUN_REASON_HUNG) &&
                           !serve_listener_is_asked(instance->listener);
    if (service->never_asked) {
        why = STR(SERVE_NOT_ASKED);
    }
    char time[CLOCK_TEXT_SIZE];
    clock_format_utc(status.ended_ns, time);
    service->last_end.length = 0;
    (void)!buf_printf(&service->last_end, "%s run %" PRIu64 ": %s %d%s" STR_FORMAT, time, status.id,
                      run_reason_text(status.reason), (int)status.exit_status,
                      why.length ? ": " : "", STR_ARGS(why));
}

/* With the lock: if it has nothing to do and its program asks, a request that waits for another
 * one, perhaps in vain, is given back; its door brings it here, to the least busy one. One that has
 * taken none is about to, in general (`also_idle`: it had time). */
static void relieve_others(struct instance *instance, bool also_idle) {
    struct instance *busiest = NULL;
    size_t most = 0;
    if (instance->is_draining || instance->services->is_stopping ||
        !serve_listener_is_awaited(instance->listener) ||
        serve_listener_waiting(instance->listener).all > 0) {
        return;
    }
    LIST_FOR_EACH (node, &instance->service->instances) {
        struct instance *other = CONTAINER_OF(node, struct instance, link);
        size_t waiting = serve_listener_waiting(other->listener).all;
        if (waiting > most && (also_idle || other->in_flight > waiting)) {
            busiest = other;
            most = waiting;
        }
    }
    if (busiest) {
        serve_listener_give_back(busiest->listener);
    }
}

static void on_asked(struct op *op) {
    struct instance *instance = CONTAINER_OF(op, struct instance, asked);
    if (serve_listener_watch(op, instance->listener) == ERR_OK) {
        pthread_mutex_lock(&instance->services->lock);
        relieve_others(instance, false);
        pthread_mutex_unlock(&instance->services->lock);
    }
}

static void on_wait(struct op *op) {
    struct instance *instance = CONTAINER_OF(op, struct instance, wait);
    if (run_wait(op, instance->run) == ERR_PENDING) {
        return;
    }
    struct services *services = instance->services;
    pthread_mutex_lock(&services->lock);
    list_remove(&instance->link);
    if (!instance->is_draining && !services->is_stopping) {
        note_failure(instance->service, instance, clock_monotonic_ns());
    }
    instance->is_draining = true;
    pthread_mutex_unlock(&services->lock);
    serve_listener_close(instance->listener);
    loop_timer_stop(&instance->timer);
    op_done(&instance->asked);
    op_done(&instance->wait);
    instance_unref(instance);
}

/* Whether its program has left a request unanswered for as long as one may wait, and has done
 * nothing else for any in the meantime. It is looked at only now and then: later, never sooner. */
static bool is_hung(struct instance *instance, uint64_t now_ns) {
    uint64_t progress;
    bool owes = serve_listener_owes(instance->listener, &progress);
    if (owes) { /* unless it has not begun, or stands still */
        enum run_state state = run_status(instance->run).state;
        owes = state == RUN_RUNNING || state == RUN_WAITING;
    }
    if (!owes || instance->owing_since_ns == 0 || progress != instance->progress) {
        instance->owing_since_ns = owes ? now_ns : 0;
        instance->progress = progress;
        return false;
    }
    return now_ns - instance->owing_since_ns >= run_answer_ns(instance->run);
}

/* Whether it still is what the app wants. */
static bool is_wanted(const struct instance *instance, uint64_t now_ns) {
    struct app *app;
    if (catalog_find_id(instance->services->catalog, instance->app->id, &app)) {
        return false;
    }
    bool is_current = app->generation == instance->app->generation;
    app_unref(app);
    bool is_idle = instance->in_flight == 0 && now_ns - instance->since_ns > IDLE_NS;
    return is_current && !(is_idle && count_living(instance->service) > least_of(instance->app));
}

static void on_tick(struct loop_timer *timer) {
    struct instance *instance = CONTAINER_OF(timer, struct instance, timer);
    uint64_t now_ns = clock_monotonic_ns();
    if (is_hung(instance, now_ns)) {
        run_kill(instance->run, RUN_REASON_HUNG);
    }
    pthread_mutex_lock(&instance->services->lock);
    relieve_others(instance, true);
    if (instance->is_draining ? now_ns - instance->since_ns > DRAIN_MAX_NS
                              : !is_wanted(instance, now_ns)) {
        bool is_over = instance->is_draining;
        drain(instance);
        if (is_over) {
            run_kill(instance->run, RUN_REASON_SHUTDOWN);
        }
    }
    pthread_mutex_unlock(&instance->services->lock);
    loop_timer_start(instance->loop, timer, now_ns + TICK_NS);
}

/* With the lock. */
static enum err start(struct services *services, struct service *service, struct loop *loop,
                      struct app *app, struct buf *message) {
    struct instance *instance = calloc(1, sizeof(*instance));
    if (!instance) {
        return ERR_NOMEM;
    }
    struct run_request request = {.app = app, .detached = true};
    enum err err = serve_listener_new(&instance->listener);
    if (!err) {
        request.listener = instance->listener;
        err = run_start(services->runs, loop, &request, &instance->run, message);
    }
    if (err) {
        file_unref(instance->listener);
        free(instance);
        return err;
    }
    atomic_init(&instance->references, 1);
    instance->services = services;
    instance->service = service;
    instance->app = app_ref(app);
    instance->loop = loop;
    instance->who = (struct who){.owner_id = app->owner_id, .may_control = true};
    instance->started_ns = instance->since_ns = clock_monotonic_ns();
    list_append(&service->instances, &instance->link);
    service->starts++;
    op_init(&instance->wait, loop, &instance->who, on_wait);
    op_wake(&instance->wait); /* it waits from the next turn on */
    op_init(&instance->asked, loop, &instance->who, on_asked);
    if (most_of(app) > 1) {
        op_wake(&instance->asked);
    }
    loop_timer_init(&instance->timer, on_tick);
    loop_timer_start(loop, &instance->timer, instance->started_ns + TICK_NS);
    return ERR_OK;
}

/* ---- requests ---- */

static struct service *find_service(struct services *services, int64_t app_id) {
    struct map_node *node = map_find(&services->table, MAP_KEY(app_id));
    return node ? CONTAINER_OF(node, struct service, node) : NULL;
}

static enum err get_service(struct services *services, int64_t app_id,
                            struct service **ret_service) {
    struct service *service = find_service(services, app_id);
    if (!service) {
        service = calloc(1, sizeof(*service));
        if (!service) {
            return ERR_NOMEM;
        }
        service->app_id = app_id;
        list_init(&service->instances);
        enum err err = map_insert(&services->table, &service->node, MAP_KEY(service->app_id));
        if (err) {
            free(service);
            return err;
        }
    }
    *ret_service = service;
    return ERR_OK;
}

struct load {
    size_t waiting;
    bool is_awaited; /* its program asks for requests */
    unsigned in_flight;
};

static struct load load_of(const struct instance *instance) {
    return (struct load){
        .waiting = serve_listener_waiting(instance->listener).ripe,
        .is_awaited = serve_listener_is_awaited(instance->listener),
        .in_flight = instance->in_flight,
    };
}

static bool is_less(const struct load *a, const struct load *b) {
    return a->waiting != b->waiting         ? a->waiting < b->waiting
           : a->is_awaited != b->is_awaited ? a->is_awaited
                                            : a->in_flight < b->in_flight;
}

/* The one with the least to do; those of older settings are let go of. */
static struct instance *choose(struct service *service, const struct app *app) {
    struct instance *best = NULL;
    struct load best_load = {0};
    LIST_FOR_EACH (node, &service->instances) {
        struct instance *instance = CONTAINER_OF(node, struct instance, link);
        if (instance->app->generation < app->generation) {
            drain(instance);
        }
        if (instance->is_draining) {
            continue;
        }
        struct load load = load_of(instance);
        if (!best || is_less(&load, &best_load)) {
            best = instance;
            best_load = load;
        }
    }
    return best;
}

static size_t waiting_max_of(const struct instance *instance) {
    uint64_t queue = instance->app->limits.queue;
    return queue ? (size_t)queue : WAITING_DEFAULT;
}

/* Whether one more is to help it, before it has to refuse what comes. */
static bool is_busy(const struct instance *instance) {
    size_t enough = MIN((waiting_max_of(instance) + 1) / 2, (size_t)WAITING_FOR_MORE);
    return serve_listener_waiting(instance->listener).ripe >= enough;
}

/* With the lock: starts what the app should have. Without one that runs, a failure is the result.
 */
static enum err start_more(struct services *services, struct service *service, struct loop *loop,
                           struct app *app, struct instance **best, struct service_delay *ret_delay,
                           struct buf *message) {
    uint64_t now_ns = clock_monotonic_ns();
    size_t living = count_living(service);
    uint64_t wanted = MAX(least_of(app), (uint64_t)1);
    if (*best && living >= wanted && is_busy(*best)) {
        wanted = MIN(living + 1, most_of(app));
    }
    enum err err = ERR_OK;
    if (living < wanted && service->retry_ns > now_ns) {
        *ret_delay = (struct service_delay){.retry_ns = service->retry_ns - now_ns,
                                            .never_asked = service->never_asked};
        err = buf_fail(message, ERR_AGAIN, "it has ended and is not started yet again: %s",
                       buf_text(&service->last_end));
    }
    for (; !err && living < wanted; living++) {
        err = start(services, service, loop, app, message);
    }
    *best = choose(service, app);
    return *best ? ERR_OK : err ? err : ERR_AGAIN;
}

enum err service_hold(struct services *services, struct loop *loop, struct app *app,
                      struct instance **ret_instance, struct service_delay *ret_delay,
                      struct buf *message) {
    struct service *service = NULL;
    struct instance *best = NULL;
    *ret_delay = (struct service_delay){0};
    pthread_mutex_lock(&services->lock);
    enum err err = services->is_stopping ? buf_fail(message, ERR_AGAIN, "the server shuts down")
                                         : get_service(services, app->id, &service);
    if (!err) {
        best = choose(service, app);
        err = start_more(services, service, loop, app, &best, ret_delay, message);
    }
    if (!err) {
        best->in_flight++;
        best->since_ns = clock_monotonic_ns();
        atomic_fetch_add(&best->references, 1);
        *ret_instance = best;
    }
    pthread_mutex_unlock(&services->lock);
    return err;
}

enum err service_put(struct instance *instance, struct serve_request *request,
                     struct buf *message) {
    size_t waiting_max = waiting_max_of(instance);
    request->instance = instance;
    enum err err = serve_listener_put(instance->listener, request, waiting_max);
    if (err) {
        request->instance = NULL;
    }
    return err == ERR_AGAIN ? buf_fail(message, err, "%zu requests wait", waiting_max) : err;
}

void service_done(struct instance *instance) {
    struct services *services = instance->services;
    pthread_mutex_lock(&services->lock);
    instance->in_flight--;
    if (!instance->is_draining) {
        instance->since_ns = clock_monotonic_ns();
    } else {
        drain(instance);
    }
    pthread_mutex_unlock(&services->lock);
    instance_unref(instance);
}

/* ---- the whole ---- */

static enum err show_counts(uint64_t starts, uint64_t failures, struct buf *text) {
    return buf_printf(text, "starts: %" PRIu64 "\nfailures: %" PRIu64 "\n", starts, failures);
}

enum err services_show(struct services *services, const struct app *app, struct buf *ret_text) {
    enum err err = ERR_OK;
    pthread_mutex_lock(&services->lock);
    const struct service *service = find_service(services, app->id);
    if (service) {
        LIST_FOR_EACH (node, &service->instances) {
            const struct instance *instance = CONTAINER_OF(node, struct instance, link);
            err = err ? err
                      : buf_printf(
                            ret_text,
                            "instance: run %" PRIu64 ", version %u, %u requests, %zu "
                            "wait%s%s\n",
                            run_id(instance->run), instance->app->version.number,
                            instance->in_flight, serve_listener_waiting(instance->listener).all,
                            serve_listener_is_asked(instance->listener) ? ""
                                                                        : ", has not accepted yet",
                            instance->is_draining ? ", ends" : "");
        }
        if (!err) {
            err = show_counts(service->starts, service->ends, ret_text);
        }
        if (!err && service->last_end.length > 0) {
            err = buf_printf(ret_text, "last failure: %s\n", buf_text(&service->last_end));
        }
    } else if (app->limits.serve == APP_SERVE_LISTEN) { /* nobody has asked for it yet */
        err = show_counts(0, 0, ret_text);
    }
    pthread_mutex_unlock(&services->lock);
    return err;
}

void services_stop(struct services *services) {
    pthread_mutex_lock(&services->lock);
    services->is_stopping = true;
    for (struct map_node *node = map_next(&services->table, NULL); node;
         node = map_next(&services->table, node)) {
        struct service *service = CONTAINER_OF(node, struct service, node);
        LIST_FOR_EACH (link, &service->instances) {
            drain(CONTAINER_OF(link, struct instance, link));
        }
    }
    pthread_mutex_unlock(&services->lock);
}

enum err services_new(struct catalog *catalog, struct runs *runs, struct services **ret_services) {
    struct services *services = calloc(1, sizeof(*services));
    if (!services) {
        return ERR_NOMEM;
    }
    services->catalog = catalog;
    services->runs = runs;
    pthread_mutex_init(&services->lock, NULL);
    *ret_services = services;
    return ERR_OK;
}

void services_free(struct services *services) {
    if (!services) {
        return;
    }
    struct map_node *node;
    while ((node = map_next(&services->table, NULL))) {
        struct service *service = CONTAINER_OF(node, struct service, node);
        LIST_FOR_EACH_SAFE (link, &service->instances) {
            /* Its run has ended, but the loop stopped before it could be told. */
            struct instance *instance = CONTAINER_OF(link, struct instance, link);
            list_remove(&instance->link);
            op_done(&instance->asked);
            op_done(&instance->wait);
            loop_timer_stop(&instance->timer);
            instance_unref(instance);
        }
        map_remove(&services->table, &service->node);
        buf_done(&service->last_end);
        free(service);
    }
    map_done(&services->table);
    pthread_mutex_destroy(&services->lock);
    free(services);
}
