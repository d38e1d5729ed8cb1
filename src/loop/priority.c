/* Which threads the kernel prefers.
 *
 * Two settings, which the kernel's scheduler (EEVDF) takes for two questions: how much of the
 * processor a thread gets where several want it (its nice value), and how soon it gets it when it
 * wakes (the length of the slices that it asks for: a shorter one interrupts a longer one, whatever
 * the nice values, if its thread has not had more than its share). Before Linux 6.12 slices can't
 * be asked for and only the first has an effect. sched(7), sched_setattr(2).
 *
 * A thread that has had more than its share when it wakes is not looked at again before the next
 * tick, milliseconds later. So that a loop which is woken often has its share beside a worker,
 * those have less, too. */
#include "loop/loop_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FLAG_RESET_ON_FORK = 1, /* SCHED_FLAG_RESET_ON_FORK: not for children */
    FLAG_KEEP_POLICY = 8,   /* SCHED_FLAG_KEEP_POLICY: who has chosen another had a reason */
};

/* Who asks for nothing has slices of 0.7 to 2.8 ms: those of a client or a proxy on this machine,
 * which interrupt all but the first kind when an answer wakes them. */
static const struct {
    int nice; /* 5: a third of what others get, if they want all */
    uint64_t slice_ns;
} rows[] = {
    [LOOP_PROMPT] = {0, 100 * NS_PER_US}, /* the shortest that there is */
    [LOOP_WORKING] = {5, 5 * NS_PER_MS},
    [LOOP_COMPUTING] = {5, 20 * NS_PER_MS},
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
    int nice = MIN(getpriority(PRIO_PROCESS, 0) + rows[priority].nice, 19);
    struct attributes attributes = {.size = sizeof(attributes),
                                    .flags = FLAG_RESET_ON_FORK | FLAG_KEEP_POLICY,
                                    .nice = nice,
                                    .runtime_ns = rows[priority].slice_ns};
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) {
        log_debug("loop: no priority of its own for a thread: %s", strerror(errno));
    }
}
