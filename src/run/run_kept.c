/* Runs that have ended: they are kept for a while, and as long as there is room.
 *
 * Half of the room is for what clients have asked for, half for what programs have started: neither
 * can take the other's. In the latter a program can end as many runs as it likes, so there room is
 * made by the app that takes the most of it. */
#include "run/internal.h"

enum {
    DROPPED_HERE_MAX = 256 * 1024,
    FETCHED_MAX = 512, /* bytes of an environment */
};

static struct run *run_of_time(const struct heap_node *node) {
    return CONTAINER_OF((struct heap_node *)(uintptr_t)node, struct run, by_time);
}

static struct kept_app *app_by_count(const struct heap_node *node) {
    return CONTAINER_OF((struct heap_node *)(uintptr_t)node, struct kept_app, by_count);
}

static struct kept_app *app_by_bytes(const struct heap_node *node) {
    return CONTAINER_OF((struct heap_node *)(uintptr_t)node, struct kept_app, by_bytes);
}

static bool is_over_before(const struct heap_node *a, const struct heap_node *b) {
    return run_of_time(a)->forget_ns < run_of_time(b)->forget_ns;
}

/* Of two apps that have as much it is the turn of the one whose first run ended first. */
static bool is_first(uint64_t has, uint64_t other_has, const struct kept_app *app,
                     const struct kept_app *other) {
    const struct run *run = CONTAINER_OF(app->runs.next, struct run, end_order);
    const struct run *other_run = CONTAINER_OF(other->runs.next, struct run, end_order);
    return has == other_has ? run->end_number < other_run->end_number : has > other_has;
}

static bool has_more_runs(const struct heap_node *a, const struct heap_node *b) {
    const struct kept_app *app = app_by_count(a), *other = app_by_count(b);
    return is_first(app->has.count, other->has.count, app, other);
}

static bool has_more_bytes(const struct heap_node *a, const struct heap_node *b) {
    const struct kept_app *app = app_by_bytes(a), *other = app_by_bytes(b);
    return is_first(app->has.bytes, other->has.bytes, app, other);
}

void kept_init(struct kept *kept) {
    list_init(&kept->by_end);
    list_init(&kept->asked_runs);
    heap_init(&kept->by_time, is_over_before);
    heap_init(&kept->by_count, has_more_runs);
    heap_init(&kept->by_bytes, has_more_bytes);
}

void kept_done(struct kept *kept) {
    INVARIANT(kept->apps.count == 0);
    heap_done(&kept->by_time);
    heap_done(&kept->by_count);
    heap_done(&kept->by_bytes);
    map_done(&kept->apps);
}

/* ---- room ---- */

static struct kept_app *get_app(struct kept *kept, int64_t app_id) {
    struct map_node *node = map_find(&kept->apps, MAP_KEY(app_id));
    if (node) {
        return CONTAINER_OF(node, struct kept_app, node);
    }
    struct kept_app *app = calloc(1, sizeof(*app));
    if (!app) {
        return NULL;
    }
    app->app_id = app_id;
    list_init(&app->runs);
    if (heap_reserve(&kept->by_count, kept->apps.count + 1) != ERR_OK ||
        heap_reserve(&kept->by_bytes, kept->apps.count + 1) != ERR_OK ||
        map_insert(&kept->apps, &app->node, MAP_KEY(app->app_id)) != ERR_OK) {
        free(app);
        return NULL;
    }
    return app;
}

enum err kept_reserve(struct runs *runs, struct run *run) {
    struct kept *kept = &runs->kept;
    /* By then there are no more with a time of their own than there are runs. */
    if (run->keep_ns != runs->options.keep_ns &&
        heap_reserve(&kept->by_time, runs->table.count + 1) != ERR_OK) {
        return ERR_NOMEM;
    }
    if (run->parent_id) {
        run->kept_app = get_app(kept, run->app->id);
        if (!run->kept_app) {
            return ERR_NOMEM;
        }
        run->kept_app->references++;
    }
    return ERR_OK;
}

void kept_unreserve(struct runs *runs, struct run *run) {
    struct kept_app *app = STEAL(run->kept_app);
    if (app && --app->references == 0) {
        INVARIANT(app->has.count == 0);
        map_remove(&runs->kept.apps, &app->node);
        free(app);
    }
}

static struct kept_part *part_of(struct kept *kept, const struct run *run) {
    return run->kept_app ? &kept->below : &kept->asked;
}

/* ---- ending ---- */

uint64_t kept_bytes_of(const struct run *run, uint64_t output_bytes) {
    const struct run_hooks *hooks = &run->runs->hooks;
    uint64_t bytes = output_bytes + run->arguments.bytes.length + run->environment.bytes.length +
                     changes_bytes(run->changes);
    if (run->trace) {
        bytes += run->trace->record.size;
    }
    return bytes +
           (run->tree && hooks->tree_bytes ? hooks->tree_bytes(hooks->context, run->tree) : 0);
}

static void place(struct heap *heap, struct heap_node *node, bool is_in) {
    if (!is_in) {
        heap_remove(heap, node);
    } else if (node->position) {
        heap_update(heap, node);
    } else {
        heap_insert(heap, node);
    }
}

static void place_app(struct kept *kept, struct kept_app *app) {
    place(&kept->by_count, &app->by_count, app->has.count > 0);
    place(&kept->by_bytes, &app->by_bytes, app->has.count > 0);
}

static void add_to_app(struct kept *kept, struct kept_app *app, struct run *run) {
    list_append(&app->runs, &run->end_order);
    app->has.count++;
    app->has.bytes += run->kept_bytes;
    place_app(kept, app);
}

static void remove_from_app(struct kept *kept, struct kept_app *app, struct run *run) {
    list_remove(&run->end_order);
    app->has.count--;
    app->has.bytes -= run->kept_bytes;
    place_app(kept, app);
}

void kept_add(struct runs *runs, struct run *run, uint64_t bytes, uint64_t now_ns) {
    struct kept *kept = &runs->kept;
    struct kept_part *part = part_of(kept, run);
    run->forget_ns = run->keep_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + run->keep_ns;
    run->kept_bytes = bytes;
    run->end_number = kept->ended_count++;
    part->count++;
    part->bytes += bytes;
    if (run->kept_app) {
        add_to_app(kept, run->kept_app, run);
    } else {
        list_append(&kept->asked_runs, &run->end_order);
    }
    if (run->keep_ns == runs->options.keep_ns) {
        list_append(&kept->by_end, &run->admission);
    } else if (run->keep_ns == 0) { /* its app was removed: the next one to go */
        list_prepend(&kept->by_end, &run->admission);
    } else {
        heap_insert(&kept->by_time, &run->by_time);
    }
}

/* ---- forgetting ---- */

void kept_forget(struct runs *runs, struct run *run) {
    struct kept *kept = &runs->kept;
    struct kept_part *part = part_of(kept, run);
    part->count--;
    part->bytes -= run->kept_bytes;
    list_remove(&run->admission);
    heap_remove(&kept->by_time, &run->by_time);
    if (run->kept_app) {
        remove_from_app(kept, run->kept_app, run);
        kept_unreserve(runs, run);
    } else {
        list_remove(&run->end_order);
    }
    map_remove(&runs->table, &run->node);
}

static struct run *first_by_end(struct kept *kept) {
    struct list *list = &kept->by_end;
    return list_is_empty(list) ? NULL : CONTAINER_OF(list->next, struct run, admission);
}

/* The run that is forgotten next has long left the processor's caches, and the next request will
 * use its memory: so it is fetched meanwhile. */
static void fetch(const struct run *run) {
    for (size_t at = 0; at < sizeof(*run); at += 64) {
        __builtin_prefetch((const char *)run + at, 1);
    }
}

/* What it has besides that the next run will use. */
static void fetch_memory_of(const struct run *run) {
    __builtin_prefetch(run->changed.mutex, 1);
    __builtin_prefetch(run->arguments.bytes.data, 1);
    size_t length = MIN(run->environment.bytes.length, (size_t)FETCHED_MAX);
    for (size_t at = 0; at < length; at += 64) {
        __builtin_prefetch(run->environment.bytes.data + at, 1);
    }
}

/* The one whose time is over first. */
static struct run *first_by_time(struct kept *kept) {
    struct run *one = first_by_end(kept);
    struct heap_node *node = heap_first(&kept->by_time);
    struct run *other = node ? run_of_time(node) : NULL;
    return !one || (other && other->forget_ns < one->forget_ns) ? other : one;
}

/* The one that makes room: that ended first, however long it was to be kept, or a program could
 * have the results of all others forgotten by asking for more time for those of its own. Of what
 * programs have started if that is more than half of what may be kept, there of the app that has
 * the most, else of what clients have asked for. NULL: there is room. */
static struct run *first_for_room(struct runs *runs) {
    const struct runs_options *options = &runs->options;
    struct kept *kept = &runs->kept;
    const struct kept_part *below = &kept->below, *asked = &kept->asked;
    const struct kept_app *largest; /* if room is made by what programs have started */
    bool takes_below;
    if (asked->count + below->count > options->kept_max) {
        takes_below = below->count > options->kept_max / 2;
        largest = below->count ? app_by_count(heap_first(&kept->by_count)) : NULL;
    } else if (asked->bytes + below->bytes > options->kept_bytes_max) {
        takes_below = below->bytes > options->kept_bytes_max / 2;
        largest = below->count ? app_by_bytes(heap_first(&kept->by_bytes)) : NULL;
    } else {
        return NULL;
    }
    takes_below = largest && (takes_below || asked->count == 0);
    const struct list *from = takes_below ? &largest->runs : &kept->asked_runs;
    return CONTAINER_OF(from->next, struct run, end_order);
}

size_t kept_evict(struct runs *runs, uint64_t now_ns, struct run *ret_evicted[KEPT_EVICT_AT_ONCE]) {
    struct kept *kept = &runs->kept;
    size_t count = 0;
    while (count < KEPT_EVICT_AT_ONCE) {
        struct run *first = first_by_time(kept);
        if (first && first->forget_ns > now_ns) {
            first = first_for_room(runs);
        }
        if (!first) {
            break;
        }
        kept_forget(runs, first);
        ret_evicted[count++] = first;
    }
    struct run *next = count > 0 ? first_by_end(kept) : NULL;
    if (next) {
        /* The run itself was fetched when the one before was forgotten. */
        fetch_memory_of(next);
        if (next->admission.next != &kept->by_end) {
            fetch(CONTAINER_OF(next->admission.next, struct run, admission));
        }
    }
    return count;
}

/* Large ones on their own loops, so that what is prompt need not wait until their memory is given
 * back to the kernel. */
void kept_drop(struct run **list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (list[i]->kept_bytes > DROPPED_HERE_MAX) {
            run_unref_at_home(list[i]);
        } else {
            run_unref(list[i]);
        }
    }
}
