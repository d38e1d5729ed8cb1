/* Which threads the kernel prefers.
 *
 * Two settings, which the kernel's scheduler (EEVDF) takes for two questions: how much of the
 * processor a thread gets where several want it (its nice value), and how soon it gets it when it
 * wakes (the length of the slices that it asks for: a shorter one interrupts a longer one, whatever
 * the nice values). Before Linux 6.12 slices can't be asked for and only the first has an effect.
 * sched(7), sched_setattr(2). */
#include "loop/loop_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    COMPUTING_NICE = 5,           /* a third of what others get, if they want all */
    PROMPT_SLICE_NS = 100 * 1000, /* the shortest that there is */
    FLAG_RESET_ON_FORK = 1,       /* SCHED_FLAG_RESET_ON_FORK: not for children */
    FLAG_KEEP_POLICY = 8,         /* SCHED_FLAG_KEEP_POLICY: who has chosen another had a reason */
};

/* The kernel's struct sched_attr, as far as it is needed; the C library has none. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static void be_prompt(void) {
    struct attributes attributes = {.size = sizeof(attributes),
                                    .flags = FLAG_RESET_ON_FORK | FLAG_KEEP_POLICY,
                                    .nice = getpriority(PRIO_PROCESS, 0),
                                    .runtime_ns = PROMPT_SLICE_NS};
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) {
        log_debug("loop: no short slices: %s", strerror(errno));
    }
}

static void be_computing(void) {
    /* Of the thread: on Linux each has its own. */
    int nice = getpriority(PRIO_PROCESS, 0) + COMPUTING_NICE;
    if (setpriority(PRIO_PROCESS, 0, nice) != 0) {
        log_debug("loop: no lower priority: %s", strerror(errno));
    }
}

void loop_set_priority(enum loop_priority priority) {
    if (priority == LOOP_COMPUTING) {
        be_computing();
    } else {
        be_prompt();
    }
}
