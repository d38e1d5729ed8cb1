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
    /* The longest: also a thread of another program, which has asked for nothing, interrupts it
     * when it wakes, as a client or a proxy on this machine that has got an answer. */
    LONG_SLICE_NS = 100 * 1000 * 1000,
    FLAG_RESET_ON_FORK = 1, /* SCHED_FLAG_RESET_ON_FORK: not for children */
    FLAG_KEEP_POLICY = 8,   /* SCHED_FLAG_KEEP_POLICY: who has chosen another had a reason */
};

/* The kernel's struct sched_attr, as far as it is needed; the C library has none. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void loop_set_priority(enum loop_priority priority) {
    /* Of the thread: on Linux each has its own. */
    struct attributes attributes = {
        .size = sizeof(attributes),
        .flags = FLAG_RESET_ON_FORK | FLAG_KEEP_POLICY,
        .nice = MIN(
            getpriority(PRIO_PROCESS, 0) + (priority == LOOP_COMPUTING ? COMPUTING_NICE : 0), 19),
        .runtime_ns = priority == LOOP_PROMPT ? PROMPT_SLICE_NS : LONG_SLICE_NS,
    };
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) {
        log_debug("loop: no priority of its own for a thread: %s", strerror(errno));
    }
}
