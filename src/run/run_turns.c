/* The order of turns on a loop.
 *
 * Each app has a share of the loop, with three queues: fresh runs, runs whose host call can go on,
 * and runs that compute (the last turn was a whole slice). A turn of the loop gives the first two
 * kinds, which are prompt, theirs: round by app, one run each, until none is left or TURN_BUDGET_NS
 * is over. A run that computes gets its slice, which the engine's next tick ends, of the app whose
 * turn that is, when no prompt run has come for QUIET_TURNS turns of the loop, or SHARE_BUDGET_NS
 * after the last one's slice: so what prompt runs have answered leaves before it, not after it.
 *
 * What is between two slices is a round. A newcomer waits for a slice or two however many compute;
 * and an app gets what other apps get, not what the number of its runs would make of it: what its
 * prompt runs may use in a round is limited, too, where others wait: SHARE_BUDGET_NS, as much as
 * one that computes. */
#include "run/internal.h"

enum {
    TURN_BUDGET_NS = 4 * 1000 * 1000,
    SHARE_BUDGET_NS = RUN_SLICE_NS,
    QUIET_TURNS = 2,      /* in one the run's end wakes its connection, in the next that sends */
    IDLE_SHARES_MAX = 64, /* of a loop; more shares than that are kept only while they are used */
};

/* ---- shares ---- */

static void init_share(struct run_share *share, int64_t app_id) {
    *share = (struct run_share){.app_id = app_id};
    list_init(&share->fresh);
    list_init(&share->ready);
    list_init(&share->computing);
    list_init(&share->prompt_turn);
    list_init(&share->computing_turn);
}

static struct run_share *take_share(struct run_loop *home, int64_t app_id) {
    struct map_node *node = map_find(&home->shares, MAP_KEY(app_id));
    struct run_share *share = node ? CONTAINER_OF(node, struct run_share, node) : NULL;
    if (!share) {
        share = malloc(sizeof(*share));
        if (share) {
            init_share(share, app_id);
            if (map_insert(&home->shares, &share->node, MAP_KEY(share->app_id)) != ERR_OK) {
                free(STEAL(share));
            }
        }
        share = share ? share : &home->common_share;
    }
    share->references++;
    return share;
}

static void drop_share(struct run_loop *home, struct run_share *share) {
    share->references--;
    if (share->references == 0 && home->shares.count > IDLE_SHARES_MAX &&
        share != &home->common_share) {
        map_remove(&home->shares, &share->node);
        free(share);
    }
}

/* ---- queues ---- */

static bool is_spent(const struct run_loop *home, const struct run_share *share) {
    return share->round == home->round && share->used_ns >= SHARE_BUDGET_NS;
}

static void line_up(struct list *line, struct list *turn, bool wants) {
    if (!wants) {
        list_remove(turn);
    } else if (list_is_empty(turn)) {
        list_append(line, turn);
    }
}

/* Puts a share into the lines in which its runs wait, at the end, or takes it out. */
static void update_turns(struct run_loop *home, struct run_share *share) {
    line_up(is_spent(home, share) ? &home->spent : &home->prompt, &share->prompt_turn,
            !list_is_empty(&share->fresh) || !list_is_empty(&share->ready));
    line_up(&home->computing, &share->computing_turn, !list_is_empty(&share->computing));
}

void run_make_ready(struct run *run, enum run_queue queue) {
    if (run->phase == PHASE_ENDED) {
        return;
    }
    struct run_loop *home = run->home;
    if (run->queue == QUEUE_COMPUTING && queue == QUEUE_READY) {
        run_leave_queue(run); /* it is to be killed or paused, and shall not wait for its slice */
    } else if (run->queue != QUEUE_NONE) {
        return;
    }
    if (!run->share) {
        run->share = take_share(home, run->who.app_id);
    }
    struct run_share *share = run->share;
    struct list *lists[] = {NULL, &share->fresh, &share->ready, &share->computing};
    run->queue = queue;
    list_append(lists[queue], &run->link);
    update_turns(home, share);
    loop_ready(home->loop, &home->task);
}

void run_leave_queue(struct run *run) {
    if (run->queue != QUEUE_NONE) {
        list_remove(&run->link);
        run->queue = QUEUE_NONE;
        update_turns(run->home, run->share);
    }
}

void run_leave_share(struct run *run) {
    run_leave_queue(run);
    if (run->share) {
        drop_share(run->home, STEAL(run->share));
    }
}

void run_set_computing(struct run *run, bool is_computing) {
    if (run->is_computing != is_computing) {
        run->is_computing = is_computing;
        atomic_fetch_add_explicit(&run->home->computing_count, is_computing ? 1u : -1u,
                                  memory_order_relaxed);
    }
}

/* ---- turns ---- */

/* Takes the first of a queue and gives it its turn. */
static void turn_of_first(struct run_loop *home, struct list *queue) {
    struct run *run = run_ref(CONTAINER_OF(queue->next, struct run, link));
    run_leave_queue(run);
    home->is_exact = home->is_for_computing || run->is_computing;
    if (home->is_exact) {
        home->charged_cpu_ns = clock_thread_cpu_ns();
    }
    run->turn_started_ns = home->charged_ns;
    run_step(run);
    if (run->queue == QUEUE_COMPUTING) {
        run_move_away(run);
    }
    run_unref(run);
}

static bool is_only_one(const struct list *line, const struct list *turn) {
    return line->next == line->previous && (line->next == line || line->next == turn);
}

/* Whether nobody else would have anything of it if this app used less. */
static bool is_alone(const struct run_loop *home, const struct run_share *share) {
    return list_is_empty(&home->spent) && is_only_one(&home->prompt, &share->prompt_turn) &&
           is_only_one(&home->computing, &share->computing_turn);
}

/* One prompt run of the app whose turn it is. */
static void prompt_turn(struct run_loop *home) {
    struct run_share *share = CONTAINER_OF(home->prompt.next, struct run_share, prompt_turn);
    share->references++;
    bool takes_ready =
        list_is_empty(&share->fresh) || (share->ready_is_next && !list_is_empty(&share->ready));
    share->ready_is_next = !takes_ready;
    uint64_t began_ns = home->charged_ns;
    turn_of_first(home, takes_ready ? &share->ready : &share->fresh);
    if (share->round != home->round) {
        share->round = home->round;
        share->used_ns = 0;
    }
    share->used_ns = is_alone(home, share) ? 0 : share->used_ns + (home->charged_ns - began_ns);
    list_remove(&share->prompt_turn); /* to the end of the line */
    update_turns(home, share);
    drop_share(home, share);
}

static void computing_turn(struct run_loop *home) {
    struct run_share *share = CONTAINER_OF(home->computing.next, struct run_share, computing_turn);
    list_remove(&share->computing_turn);
    list_append(&home->computing, &share->computing_turn);
    turn_of_first(home, &share->computing);
}

static void begin_round(struct run_loop *home) {
    home->round++;
    home->round_began_ns = home->charged_ns;
    while (!list_is_empty(&home->spent)) {
        struct list *turn = home->spent.next;
        list_remove(turn);
        list_append(&home->prompt, turn);
    }
}

/* Whether the loop has better things to do than to let a guest compute. */
static bool slice_can_wait(const struct run_loop *home) {
    return home->quiet_turns < QUIET_TURNS && list_is_empty(&home->spent) &&
           home->charged_ns - home->round_began_ns < SHARE_BUDGET_NS;
}

static void turn_of_loop(struct loop_task *task) {
    struct run_loop *home = CONTAINER_OF(task, struct run_loop, task);
    uint64_t began_ns = home->charged_ns = clock_monotonic_ns();
    if (home->round_is_over) {
        home->round_is_over = false;
        begin_round(home);
    }
    home->quiet_turns = list_is_empty(&home->prompt) ? home->quiet_turns + 1 : 0;
    while (!list_is_empty(&home->prompt) && home->charged_ns - began_ns < TURN_BUDGET_NS) {
        prompt_turn(home);
    }
    if (list_is_empty(&home->computing)) {
        home->round_is_over = true;
    } else if (!slice_can_wait(home)) {
        computing_turn(home);
        home->round_is_over = true;
    }
    if (!list_is_empty(&home->prompt) || !list_is_empty(&home->spent) ||
        !list_is_empty(&home->computing)) {
        loop_ready(home->loop, &home->task);
    }
}

/* ---- making and freeing ---- */

void run_loop_init(struct run_loop *home, struct runs *runs, struct loop *loop,
                   bool is_for_computing) {
    *home = (struct run_loop){.runs = runs, .loop = loop, .is_for_computing = is_for_computing};
    loop_task_init(&home->task, turn_of_loop);
    list_init(&home->prompt);
    list_init(&home->spent);
    list_init(&home->computing);
    init_share(&home->common_share, 0);
}

void run_loop_done(struct run_loop *home) {
    loop_task_cancel(&home->task);
    while (home->spare_guests) {
        struct run_guest *guest = home->spare_guests;
        home->spare_guests = guest->next_spare;
        buf_done(&guest->message);
        free(guest);
    }
    struct map_node *node;
    while ((node = map_next(&home->shares, NULL))) {
        map_remove(&home->shares, node);
        free(CONTAINER_OF(node, struct run_share, node));
    }
    map_done(&home->shares);
}
