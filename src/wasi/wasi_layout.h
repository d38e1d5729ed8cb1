/* How WASI preview 1 lays out its structures in the guest's memory (witx: typenames.witx; sizes and
 * offsets in bytes, little-endian, no alignment required), and its constants.
 *
 * Structures are built in a zeroed array of their size, so that padding never shows what was on the
 * host's stack. Thread: any. */
#pragma once

#include <stdint.h>

static inline uint16_t layout_get_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}
static inline uint32_t layout_get_u32(const uint8_t *bytes) {
    return (uint32_t)layout_get_u16(bytes) | (uint32_t)layout_get_u16(bytes + 2) << 16;
}
static inline uint64_t layout_get_u64(const uint8_t *bytes) {
    return (uint64_t)layout_get_u32(bytes) | (uint64_t)layout_get_u32(bytes + 4) << 32;
}
static inline void layout_put_u16(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}
static inline void layout_put_u32(uint8_t *bytes, uint32_t value) {
    layout_put_u16(bytes, (uint16_t)value);
    layout_put_u16(bytes + 2, (uint16_t)(value >> 16));
}
static inline void layout_put_u64(uint8_t *bytes, uint64_t value) {
    layout_put_u32(bytes, (uint32_t)value);
    layout_put_u32(bytes + 4, (uint32_t)(value >> 32));
}

/* $iovec, $ciovec */
enum { IOVEC_BUF = 0, IOVEC_BUF_LEN = 4, IOVEC_SIZE = 8 };

/* $fdstat */
enum {
    FDSTAT_FILETYPE = 0,
    FDSTAT_FLAGS = 2,
    FDSTAT_RIGHTS_BASE = 8,
    FDSTAT_RIGHTS_INHERITING = 16,
    FDSTAT_SIZE = 24,
};

/* $filestat */
enum {
    FILESTAT_DEV = 0,
    FILESTAT_INO = 8,
    FILESTAT_FILETYPE = 16,
    FILESTAT_NLINK = 24,
    FILESTAT_FILE_SIZE = 32,
    FILESTAT_ATIM = 40,
    FILESTAT_MTIM = 48,
    FILESTAT_CTIM = 56,
    FILESTAT_SIZE = 64,
};

/* $prestat */
enum { PRESTAT_TAG = 0, PRESTAT_DIR_NAME_LEN = 4, PRESTAT_SIZE = 8, PRESTAT_TAG_DIR = 0 };

/* $dirent; the name follows */
enum { DIRENT_NEXT = 0, DIRENT_INO = 8, DIRENT_NAMLEN = 16, DIRENT_TYPE = 20, DIRENT_SIZE = 24 };

/* $subscription */
enum {
    SUBSCRIPTION_USERDATA = 0,
    SUBSCRIPTION_TAG = 8,
    SUBSCRIPTION_CLOCK_ID = 16,
    SUBSCRIPTION_CLOCK_TIMEOUT = 24,
    SUBSCRIPTION_CLOCK_PRECISION = 32,
    SUBSCRIPTION_CLOCK_FLAGS = 40,
    SUBSCRIPTION_FD = 16,
    SUBSCRIPTION_SIZE = 48,
};

/* $event */
enum {
    EVENT_USERDATA = 0,
    EVENT_ERROR = 8,
    EVENT_TYPE = 10,
    EVENT_NBYTES = 16,
    EVENT_FLAGS = 24,
    EVENT_SIZE = 32,
};

enum wasi_eventtype { EVENTTYPE_CLOCK = 0, EVENTTYPE_FD_READ = 1, EVENTTYPE_FD_WRITE = 2 };
enum { EVENTRWFLAG_HANGUP = 1 };
enum { SUBCLOCKFLAG_ABSTIME = 1 };

enum wasi_clockid {
    CLOCKID_REALTIME = 0,
    CLOCKID_MONOTONIC = 1,
    CLOCKID_PROCESS_CPUTIME = 2,
    CLOCKID_THREAD_CPUTIME = 3,
};

enum wasi_whence { WHENCE_SET = 0, WHENCE_CUR = 1, WHENCE_END = 2 };
enum { ADVICE_MAX = 5 };
enum { LOOKUPFLAG_SYMLINK_FOLLOW = 1 };

enum wasi_oflags {
    OFLAG_CREAT = 1 << 0,
    OFLAG_DIRECTORY = 1 << 1,
    OFLAG_EXCL = 1 << 2,
    OFLAG_TRUNC = 1 << 3,
    OFLAGS_ALL = (1 << 4) - 1,
};
enum { FDFLAGS_ALL = (1 << 5) - 1 };

enum wasi_fstflags {
    FSTFLAG_ATIM = 1 << 0,
    FSTFLAG_ATIM_NOW = 1 << 1,
    FSTFLAG_MTIM = 1 << 2,
    FSTFLAG_MTIM_NOW = 1 << 3,
    FSTFLAGS_ALL = (1 << 4) - 1,
};

enum { RIFLAG_RECV_PEEK = 1 << 0, RIFLAG_RECV_WAITALL = 1 << 1, RIFLAGS_ALL = (1 << 2) - 1 };
enum { SDFLAG_RD = 1 << 0, SDFLAG_WR = 1 << 1, SDFLAGS_ALL = (1 << 2) - 1 };
