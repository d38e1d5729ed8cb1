/* How much memory the process has: its pages that are resident, in bytes; 0 if that can't be found
 * out. Reads a file of the kernel's, which takes some microseconds. Thread: any. */
#pragma once

#include "base/macros.h"

uint64_t resident_bytes(void);
