/* Who gets an app's places, and who waits for them in its queue.
 *
 * An app's runs are asked for by clients, or started by programs: some client's run, or what that
 * has started. All that is below one such run, the top, is a chain. A run that only waits holds its
 * place for as long as it likes; so programs have at most half of the places and of the queue, and
 * a chain at most half of what the other chains leave of that. Of those that wait, clients or
 * programs are next, whichever have fewer places, and among programs it goes round by chain.
 *
 * All with runs->lock. */
#include "run/internal.h"

static uint32_t half_of(uint32_t count) {
    return count > 1 ? count / 2 : count;
}

/* Whether a chain that has `own` of the `all` that programs have of `max` may have one more. What
 * it may have shrinks as others come, so that there is something left for each that is new. */
static bool may_have_more(uint32_t own, uint32_t all, uint32_t max) {
    return all < max && own < MAX((max - (all - own)) / 2, 1u);
}

static bool has_place(const struct run_app *app, const struct run_chain *chain) {
    return app->running < app->running_max &&
           (!chain ||
            may_have_more(chain->running, app->programs_running, half_of(app->running_max)));
}

/* ---- chains ---- */

enum err places_join(struct run_app *app, struct run *run) {
    if (!run->top_id) {
        return ERR_OK;
    }
    struct map_node *node = map_find(&app->chains, MAP_KEY(run->top_id));
    if (node) {
        run->chain = CONTAINER_OF(node, struct run_chain, node);
        return ERR_OK;
    }
    struct run_chain *chain = calloc(1, sizeof(*chain));
    if (!chain) {
        return ERR_NOMEM;
    }
    chain->top_id = run->top_id;
    list_init(&chain->queued);
    list_init(&chain->turn);
    if (map_insert(&app->chains, &chain->node, MAP_KEY(chain->top_id)) != ERR_OK) {
        free(chain);
        return ERR_NOMEM;
    }
    run->chain = chain;
    return ERR_OK;
}

void places_part(struct run_app *app, struct run *run) {
    struct run_chain *chain = STEAL(run->chain);
    if (chain && chain->running == 0 && chain->queued_count == 0) {
        map_remove(&app->chains, &chain->node);
        free(chain);
    }
}

/* ---- places ---- */

static void take(struct runs *runs, struct run_app *app, struct run *run) {
    run->admitted = app;
    app->running++;
    runs->running++;
    if (run->chain) {
        run->chain->running++;
        app->programs_running++;
    }
}

/* Whose turn it is of those that wait and may have a place; NULL: none of them. */
static struct run *next_of(const struct run_app *app) {
    if (app->queued_count == 0 || app->running >= app->running_max) {
        return NULL;
    }
    struct run *of_program = NULL, *of_client = NULL;
    if (app->programs_running < half_of(app->running_max)) {
        LIST_FOR_EACH (node, &app->chains_waiting) {
            const struct run_chain *chain = CONTAINER_OF(node, struct run_chain, turn);
            if (has_place(app, chain)) {
                of_program = CONTAINER_OF(chain->queued.next, struct run, admission);
                break;
            }
        }
    }
    if (!list_is_empty(&app->queued)) {
        of_client = CONTAINER_OF(app->queued.next, struct run, admission);
    }
    if (!of_program || !of_client) {
        return of_program ? of_program : of_client;
    }
    uint32_t of_clients = app->running - app->programs_running;
    bool is_for_program = app->programs_running == of_clients ? app->client_was_last
                                                              : app->programs_running < of_clients;
    return is_for_program ? of_program : of_client;
}

/* Puts the app in the line of those that could use a free place of the server, or takes it out. */
static void update_turn(struct runs *runs, struct run_app *app) {
    if (!next_of(app)) {
        list_remove(&app->turn);
    } else if (list_is_empty(&app->turn)) {
        list_append(&runs->waiting, &app->turn);
    }
}

void places_set_max(struct runs *runs, struct run_app *app, uint32_t running_max) {
    if (app->running_max != running_max) {
        app->running_max = running_max;
        update_turn(runs, app);
    }
}

bool places_take(struct runs *runs, struct run_app *app, struct run *run) {
    const struct run_chain *chain = run->chain;
    bool is_first = list_is_empty(chain ? &chain->queued : &app->queued);
    bool has_one = is_first && has_place(app, chain) && runs->running < runs->options.max_runs &&
                   list_is_empty(&runs->waiting);
    if (has_one) {
        take(runs, app, run);
    }
    return has_one;
}

void places_give_back(struct runs *runs, struct run *run) {
    struct run_app *app = STEAL(run->admitted);
    app->running--;
    runs->running--;
    if (run->chain) {
        run->chain->running--;
        app->programs_running--;
        places_part(app, run);
    }
    update_turn(runs, app);
}

/* ---- the queue ---- */

bool places_can_wait(const struct run_app *app, const struct run *run, uint32_t queued_max) {
    return app->queued_count < queued_max &&
           (!run->chain ||
            may_have_more(run->chain->queued_count, app->programs_queued, half_of(queued_max)));
}

void places_wait(struct runs *runs, struct run_app *app, struct run *run) {
    struct run_chain *chain = run->chain;
    run->is_queued = true;
    app->queued_count++;
    runs->queued++;
    list_append(chain ? &chain->queued : &app->queued, &run->admission);
    if (chain) {
        chain->queued_count++;
        app->programs_queued++;
        if (list_is_empty(&chain->turn)) {
            list_append(&app->chains_waiting, &chain->turn);
        }
    }
    update_turn(runs, app);
}

static void unqueue(struct runs *runs, struct run_app *app, struct run *run) {
    struct run_chain *chain = run->chain;
    list_remove(&run->admission);
    run->is_queued = false;
    app->queued_count--;
    runs->queued--;
    if (chain) {
        chain->queued_count--;
        app->programs_queued--;
        if (list_is_empty(&chain->queued)) {
            list_remove(&chain->turn);
        }
    }
}

void places_wait_no_more(struct runs *runs, struct run_app *app, struct run *run) {
    unqueue(runs, app, run);
    places_part(app, run);
    update_turn(runs, app);
}

struct run *places_admit_next(struct runs *runs) {
    if (runs->running >= runs->options.max_runs || list_is_empty(&runs->waiting)) {
        return NULL;
    }
    struct run_app *app = CONTAINER_OF(runs->waiting.next, struct run_app, turn);
    struct run *run = next_of(app);
    INVARIANT(run);
    unqueue(runs, app, run);
    take(runs, app, run);
    app->client_was_last = !run->chain;
    list_remove(&app->turn); /* to the end of the line, if it still wants */
    if (run->chain && !list_is_empty(&run->chain->queued)) {
        list_remove(&run->chain->turn); /* likewise */
        list_append(&app->chains_waiting, &run->chain->turn);
    }
    update_turn(runs, app);
    return run_ref(run);
}
