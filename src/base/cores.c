#include "base/cores.h"

#include "base/fsio.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

enum { PROC_FILE_MAX = 64 * KIB, LIMIT_MAX = 64 };

static unsigned available_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        return MAX((unsigned)CPU_COUNT(&set), 1U);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than a set has room for */
    return online > 0 ? (unsigned)online : 1;
}

/* "QUOTA PERIOD" in microseconds, or "max PERIOD". */
static unsigned quota_of(const char *path, unsigned most) {
    cleanup_buf struct buf text = {0};
    if (fsio_read_file(path, LIMIT_MAX, &text)) {
        return most; /* the root has no such file */
    }
    const char *start = buf_text(&text), *space = strchr(start, ' '), *end = strchr(start, '\n');
    uint64_t quota, period;
    if (!space || !end || end < space ||
        str_to_u64((struct str){start, (size_t)(space - start)}, &quota) ||
        str_to_u64((struct str){space + 1, (size_t)(end - space - 1)}, &period) || period == 0) {
        return most;
    }
    return (unsigned)MIN(MAX(quota / period + (quota % period > 0), 1), most);
}

unsigned core_count_within(unsigned available, struct str cgroup, const char *mount) {
    unsigned count = available;
    const char *line = memmem(cgroup.data, cgroup.length, "0::/", 4);
    if (!line || (line > cgroup.data && line[-1] != '\n')) {
        return count;
    }
    const char *group = line + 3;
    const char *end = memchr(group, '\n', cgroup.length - (size_t)(group - cgroup.data));
    /* A group's limit holds for those in it as well. */
    for (size_t length = end ? (size_t)(end - group) : 0; length > 0; length--) {
        if (group[length - 1] == '/' || group + length == end) {
            cleanup_buf struct buf path = {0};
            if (!buf_printf(&path, "%s%.*s/cpu.max", mount, (int)length, group)) {
                count = quota_of(buf_text(&path), count);
            }
        }
    }
    return count;
}

unsigned core_count(void) {
    cleanup_buf struct buf cgroup = {0};
    unsigned available = available_count();
    if (fsio_read_file("/proc/self/cgroup", PROC_FILE_MAX, &cgroup)) {
        return available;
    }
    unsigned count = core_count_within(available, buf_str(&cgroup), "/sys/fs/cgroup");
    /* Both versions at once. */
    return core_count_within(count, buf_str(&cgroup), "/sys/fs/cgroup/unified");
}
