#include "base/resident.h"

#include <stdio.h>
#include <unistd.h>

uint64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0, resident = 0;
    if (file) {
        if (fscanf(file, "%lu %lu", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
