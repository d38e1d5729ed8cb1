/* How many threads of this process can run at once: the processors that it may use (taskset(1), a
 * container's cpuset), or fewer where its control group has a quota of processor time (cpu.max:
 * docker's --cpus, systemd's CPUQuota), of which a part counts as a whole. Reads files of the
 * kernel's: for start-up. Thread: any. */
#pragma once

#include "base/buf.h"

/* At least 1. */
unsigned core_count(void);

/* For tests: the same by what /proc/self/cgroup says (the line of version 2; others are not looked
 * at), with the groups' directories below `mount`. */
unsigned core_count_within(unsigned available, struct str cgroup, const char *mount);
