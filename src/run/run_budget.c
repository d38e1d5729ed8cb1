/* What a run may spend on the runs that it starts.
 *
 * A run that starts another one gets a budget, which the runs below share and which outlives it as
 * long as they hold it. What a run uses is charged to the budgets above it at the end of each of
 * its turns; a run whose budget is used up by what it has started ends, and what a run has started
 * ends with it. Detached runs are charged to nobody. */
#include "run/internal.h"

struct budget {
    atomic_uint references; /* of its run, of each run that is charged to it, of budgets below */
    struct budget *above;   /* a reference; NULL: its run is charged to nobody */
    int64_t app_id;
    uint8_t depth; /* of its run */
    uint64_t cpu_limit_ns, memory_limit_bytes;
    pthread_mutex_t lock; /* guards the following; taken before a run's lock */
    struct run *run;      /* NULL when it has ended */
    struct list members;  /* run.member: those that it has started and that live */
    /* Of all below, those that have ended, too. Written with the lock, read without. */
    atomic_uint_fast64_t cpu_ns, memory_bytes;
    atomic_uint living; /* of all below, those that have not ended */
};

static void budget_unref(struct budget *budget) {
    while (budget && atomic_fetch_sub_explicit(&budget->references, 1, memory_order_acq_rel) == 1) {
        struct budget *above = budget->above;
        pthread_mutex_destroy(&budget->lock);
        free(budget);
        budget = above;
    }
}

static struct budget *budget_ref(struct budget *budget) {
    if (budget) {
        atomic_fetch_add_explicit(&budget->references, 1, memory_order_relaxed);
    }
    return budget;
}

/* The budget of a run, made at the first run that it starts. Thread: the run's loop. */
static struct budget *get_budget(struct run *run) {
    struct budget *budget = atomic_load(&run->budget);
    if (budget) {
        return budget;
    }
    budget = calloc(1, sizeof(*budget));
    if (!budget) {
        return NULL;
    }
    atomic_init(&budget->references, 1);
    budget->above = budget_ref(run->charged);
    budget->app_id = run->app->id;
    budget->depth = run->depth;
    budget->cpu_limit_ns = run->limits.cpu_ns;
    budget->memory_limit_bytes = run->limits.memory_bytes;
    pthread_mutex_init(&budget->lock, NULL);
    budget->run = run;
    list_init(&budget->members);
    atomic_store(&run->budget, budget);
    return budget;
}

static uint64_t left_of(uint64_t limit, uint64_t used) {
    return limit > used ? limit - used : 0;
}

uint64_t run_cpu_below_ns(struct run *run) {
    struct budget *budget = atomic_load_explicit(&run->budget, memory_order_acquire);
    return budget ? atomic_load_explicit(&budget->cpu_ns, memory_order_relaxed) : 0;
}

/* The wall clock of the parent, on its loop. */
static uint64_t wall_left_ns(const struct run *parent) {
    uint64_t now_ns = clock_monotonic_ns();
    if (parent->wall_deadline_ns) {
        return left_of(parent->wall_deadline_ns, now_ns);
    }
    uint64_t started_ns = atomic_load_explicit(&parent->started_ns, memory_order_relaxed);
    return left_of(parent->limits.wall_ns, left_of(now_ns, started_ns));
}

/* Two that start something at the same moment may go over it by one. */
static bool has_room(const struct budget *budget) {
    for (; budget; budget = budget->above) {
        if (atomic_load_explicit(&budget->living, memory_order_relaxed) >= RUN_MEMBERS_MAX) {
            return false;
        }
    }
    return true;
}

static void count_living(struct budget *budget, unsigned difference) {
    for (; budget; budget = budget->above) {
        atomic_fetch_add_explicit(&budget->living, difference, memory_order_relaxed);
    }
}

enum err run_join_budget(struct run *run, struct run *parent, struct buf *message) {
    struct budget *budget = get_budget(parent);
    if (!budget) {
        return ERR_NOMEM;
    }
    if (!has_room(budget)) {
        return buf_fail(message, ERR_BUSY,
                        "a run may have at most %d others under way that it, or they, started",
                        RUN_MEMBERS_MAX);
    }
    uint64_t cpu_used_ns = atomic_load_explicit(&parent->cpu_ns, memory_order_relaxed) +
                           left_of(clock_monotonic_ns(), parent->turn_started_ns) +
                           run_cpu_below_ns(parent);
    uint64_t memory_used = sandbox_memory_bytes(parent->sandbox) +
                           atomic_load_explicit(&budget->memory_bytes, memory_order_relaxed);
    uint64_t cpu_left_ns = left_of(parent->limits.cpu_ns, cpu_used_ns);
    uint64_t memory_left = left_of(parent->limits.memory_bytes, memory_used);
    uint64_t left_ns = wall_left_ns(parent);
    if (cpu_left_ns == 0 || memory_left == 0 || left_ns == 0) {
        return buf_fail(message, ERR_NOMEM,
                        "nothing is left of the %s of the run that calls; a run that it starts "
                        "uses that of its caller",
                        memory_left == 0   ? "memory"
                        : cpu_left_ns == 0 ? "processor time"
                                           : "time");
    }
    run->limits.cpu_ns = MIN(run->limits.cpu_ns, cpu_left_ns);
    run->limits.memory_bytes = MIN(run->limits.memory_bytes, memory_left);
    run->limits.wall_ns = MIN(run->limits.wall_ns, left_ns);
    run->charged = budget_ref(budget);
    run->is_counted = true;
    count_living(budget, 1);
    pthread_mutex_lock(&budget->lock);
    INVARIANT(budget->run == parent); /* it makes this call */
    list_append(&budget->members, &run->member);
    pthread_mutex_unlock(&budget->lock);
    return ERR_OK;
}

bool run_is_below_app(const struct run *run, int64_t app_id, unsigned depth_min) {
    for (const struct budget *budget = run->charged; budget; budget = budget->above) {
        if (budget->app_id == app_id && budget->depth >= depth_min) {
            return true;
        }
    }
    return false;
}

/* Called with the budget's lock. */
static bool is_out_of_cpu(struct budget *budget) {
    uint64_t own_ns =
        budget->run ? atomic_load_explicit(&budget->run->cpu_ns, memory_order_relaxed) : 0;
    return own_ns + atomic_load_explicit(&budget->cpu_ns, memory_order_relaxed) >
           budget->cpu_limit_ns;
}

static bool is_out_of_memory(struct budget *budget) {
    uint64_t own =
        budget->run ? atomic_load_explicit(&budget->run->memory_bytes, memory_order_relaxed) : 0;
    return own + atomic_load_explicit(&budget->memory_bytes, memory_order_relaxed) >
           budget->memory_limit_bytes;
}

void run_charge_budgets(struct run *run) {
    uint64_t cpu_ns = atomic_load_explicit(&run->cpu_ns, memory_order_relaxed);
    uint64_t memory = atomic_load_explicit(&run->memory_bytes, memory_order_relaxed);
    uint64_t cpu_more_ns = cpu_ns - run->charged_cpu_ns;
    uint64_t memory_more = memory - run->charged_memory_bytes; /* less: it wraps, as it should */
    run->charged_cpu_ns = cpu_ns;
    run->charged_memory_bytes = memory;
    for (struct budget *budget = run->charged; budget; budget = budget->above) {
        pthread_mutex_lock(&budget->lock);
        atomic_fetch_add_explicit(&budget->cpu_ns, cpu_more_ns, memory_order_relaxed);
        atomic_fetch_add_explicit(&budget->memory_bytes, memory_more, memory_order_relaxed);
        if (budget->run && is_out_of_cpu(budget)) {
            run_kill(budget->run, RUN_REASON_CPU);
        }
        if (memory > 0 && is_out_of_memory(budget)) {
            run_kill(run, RUN_REASON_MEMORY);
        }
        pthread_mutex_unlock(&budget->lock);
    }
}

void run_leave_budget(struct run *run) {
    struct budget *budget = run->charged;
    if (budget) {
        run_charge_budgets(run);
        pthread_mutex_lock(&budget->lock);
        list_remove(&run->member);
        pthread_mutex_unlock(&budget->lock);
        if (run->is_counted) {
            run->is_counted = false;
            count_living(budget, -1u);
        }
    }
}

/* A member that lives, with a reference; it is none any more. */
static struct run *take_member(struct budget *budget) {
    struct run *member = NULL;
    pthread_mutex_lock(&budget->lock);
    budget->run = NULL;
    if (!list_is_empty(&budget->members)) {
        member = run_ref(CONTAINER_OF(budget->members.next, struct run, member));
        list_remove(&member->member);
    }
    pthread_mutex_unlock(&budget->lock);
    return member;
}

void run_end_members(struct run *run) {
    struct budget *budget = atomic_load(&run->budget);
    struct run *member;
    while (budget && (member = take_member(budget))) {
        run_kill(member, RUN_REASON_CLIENT);
        run_unref(member);
    }
}

void run_release_budgets(struct run *run) {
    budget_unref(atomic_load(&run->budget));
    budget_unref(run->charged);
}
