/* What a traced call looks like: a table of what each argument of each function is, and how each
 * kind of thing is written.
 *
 * Lack of memory loses pieces of the text, nothing else. */
#include "wasi/wasi_trace.h"

#include "wasi/wasi_internal.h"

#include <inttypes.h>

enum {
    STRING_SHOWN = 128, /* bytes of a path */
    BUFFER_SHOWN = 48,  /* of what is read or written */
    ITEMS_SHOWN = 4,    /* subscriptions and events */
};

/* What an argument is. Those from RESULT_U16 on are addresses of results and are shown behind the
 * equals sign. */
enum kind {
    NOTHING,
    UNSIGNED, /* descriptors, counts, sizes, times */
    SIGNED,
    ADDRESS,
    CLOCK,
    ADVICE,
    WHENCE,
    LOOKUP,
    OFLAGS,
    FDFLAGS,
    FSTFLAGS,
    RIFLAGS,
    SDFLAGS,
    RIGHTS,
    STRING,        /* address, length */
    SPACE,         /* address, length of room for bytes that are not shown */
    SPACE_TEXT,    /* the same for text */
    WRITTEN,       /* address, number of buffers with bytes to be written */
    READ,          /* address, number of buffers with room */
    SUBSCRIPTIONS, /* addresses of subscriptions and events, number */
    RESULT_U16,
    RESULT_U32,
    RESULT_U64,
    RESULT_FDSTAT,
    RESULT_FILESTAT,
    RESULT_PRESTAT,
};
enum { ROW_KINDS_MAX = WASI_ARGUMENTS_MAX };

static size_t width_of(enum kind kind) {
    switch (kind) {
    case STRING:
    case SPACE:
    case SPACE_TEXT:
    case WRITTEN:
    case READ:
        return 2;
    case SUBSCRIPTIONS:
        return 3;
    default:
        return 1;
    }
}

static const struct row {
    const char *name;
    uint8_t kinds[ROW_KINDS_MAX];
} rows[WASI_FUNCTION_COUNT] = {
    {"args_get", {ADDRESS, ADDRESS}},
    {"args_sizes_get", {RESULT_U32, RESULT_U32}},
    {"environ_get", {ADDRESS, ADDRESS}},
    {"environ_sizes_get", {RESULT_U32, RESULT_U32}},
    {"clock_res_get", {CLOCK, RESULT_U64}},
    {"clock_time_get", {CLOCK, UNSIGNED, RESULT_U64}},
    {"fd_advise", {UNSIGNED, UNSIGNED, UNSIGNED, ADVICE}},
    {"fd_allocate", {UNSIGNED, UNSIGNED, UNSIGNED}},
    {"fd_close", {UNSIGNED}},
    {"fd_datasync", {UNSIGNED}},
    {"fd_fdstat_get", {UNSIGNED, RESULT_FDSTAT}},
    {"fd_fdstat_set_flags", {UNSIGNED, FDFLAGS}},
    {"fd_fdstat_set_rights", {UNSIGNED, RIGHTS, RIGHTS}},
    {"fd_filestat_get", {UNSIGNED, RESULT_FILESTAT}},
    {"fd_filestat_set_size", {UNSIGNED, UNSIGNED}},
    {"fd_filestat_set_times", {UNSIGNED, UNSIGNED, UNSIGNED, FSTFLAGS}},
    {"fd_pread", {UNSIGNED, READ, UNSIGNED, RESULT_U32}},
    {"fd_prestat_get", {UNSIGNED, RESULT_PRESTAT}},
    {"fd_prestat_dir_name", {UNSIGNED, SPACE}},
    {"fd_pwrite", {UNSIGNED, WRITTEN, UNSIGNED, RESULT_U32}},
    {"fd_read", {UNSIGNED, READ, RESULT_U32}},
    {"fd_readdir", {UNSIGNED, SPACE, UNSIGNED, RESULT_U32}},
    {"fd_renumber", {UNSIGNED, UNSIGNED}},
    {"fd_seek", {UNSIGNED, SIGNED, WHENCE, RESULT_U64}},
    {"fd_sync", {UNSIGNED}},
    {"fd_tell", {UNSIGNED, RESULT_U64}},
    {"fd_write", {UNSIGNED, WRITTEN, RESULT_U32}},
    {"path_create_directory", {UNSIGNED, STRING}},
    {"path_filestat_get", {UNSIGNED, LOOKUP, STRING, RESULT_FILESTAT}},
    {"path_filestat_set_times", {UNSIGNED, LOOKUP, STRING, UNSIGNED, UNSIGNED, FSTFLAGS}},
    {"path_link", {UNSIGNED, LOOKUP, STRING, UNSIGNED, STRING}},
    {"path_open", {UNSIGNED, LOOKUP, STRING, OFLAGS, RIGHTS, RIGHTS, FDFLAGS, RESULT_U32}},
    {"path_readlink", {UNSIGNED, STRING, SPACE_TEXT, RESULT_U32}},
    {"path_remove_directory", {UNSIGNED, STRING}},
    {"path_rename", {UNSIGNED, STRING, UNSIGNED, STRING}},
    {"path_symlink", {STRING, UNSIGNED, STRING}},
    {"path_unlink_file", {UNSIGNED, STRING}},
    {"poll_oneoff", {SUBSCRIPTIONS, RESULT_U32}},
    {"proc_exit", {UNSIGNED}},
    {"proc_raise", {UNSIGNED}},
    {"sched_yield", {NOTHING}},
    {"random_get", {SPACE}},
    {"sock_accept", {UNSIGNED, FDFLAGS, RESULT_U32}},
    {"sock_recv", {UNSIGNED, READ, RIFLAGS, RESULT_U32, RESULT_U16}},
    {"sock_send", {UNSIGNED, WRITTEN, UNSIGNED, RESULT_U32}},
    {"sock_shutdown", {UNSIGNED, SDFLAGS}},
};

/* ---- names ---- */

/* Of a value, or of the bits of one. */
struct names {
    bool is_bits;
    const char *list[8]; /* NULL: has no name here */
};
static const struct names clock_names = {
    false, {"realtime", "monotonic", "process_cputime", "thread_cputime"}};
static const struct names advice_names = {
    false, {"normal", "sequential", "random", "willneed", "dontneed", "noreuse"}};
static const struct names whence_names = {false, {"set", "cur", "end"}};
static const struct names lookup_names = {true, {"follow"}};
static const struct names oflags_names = {true, {"creat", "directory", "excl", "trunc"}};
static const struct names fdflags_names = {true, {"append", "dsync", "nonblock", "rsync", "sync"}};
static const struct names fstflags_names = {true, {"atim", "atim_now", "mtim", "mtim_now"}};
static const struct names riflags_names = {true, {"peek", "waitall"}};
static const struct names sdflags_names = {true, {"rd", "wr"}};
/* Of the 30 only those that are looked for; the others are a number. */
static const struct names rights_names = {
    true, {[1] = "read", [2] = "seek", [5] = "tell", [6] = "write"}};
static const struct names type_names = {false,
                                        {"unknown", "block_device", "character_device", "directory",
                                         "regular_file", "socket_dgram", "socket_stream",
                                         "symbolic_link"}};
static const struct names event_names = {false, {"clock", "fd_read", "fd_write"}};

static const struct names *names_of(enum kind kind) {
    switch (kind) {
    case CLOCK:
        return &clock_names;
    case ADVICE:
        return &advice_names;
    case WHENCE:
        return &whence_names;
    case LOOKUP:
        return &lookup_names;
    case OFLAGS:
        return &oflags_names;
    case FDFLAGS:
        return &fdflags_names;
    case FSTFLAGS:
        return &fstflags_names;
    case RIFLAGS:
        return &riflags_names;
    case SDFLAGS:
        return &sdflags_names;
    case RIGHTS:
        return &rights_names;
    default:
        return NULL;
    }
}

/* ---- writing ---- */

static void PRINTF_LIKE(2, 3) say(struct buf *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)!buf_vprintf(text, format, arguments);
    va_end(arguments);
}

static void say_names(struct buf *text, const struct names *names, uint64_t value) {
    if (!names->is_bits) {
        if (value < ARRAY_LENGTH(names->list) && names->list[value]) {
            say(text, "%s", names->list[value]);
        } else {
            say(text, "%" PRIu64, value);
        }
        return;
    }
    const char *separator = "";
    for (size_t bit = 0; bit < ARRAY_LENGTH(names->list); bit++) {
        uint64_t mask = (uint64_t)1 << bit;
        if (value & mask && names->list[bit]) {
            say(text, "%s%s", separator, names->list[bit]);
            separator = "|";
            value &= ~mask;
        }
    }
    if (value || !separator[0]) {
        say(text, value ? "%s0x%" PRIx64 : "%s%" PRIu64, separator, value);
    }
}

static void say_time(struct buf *text, uint64_t duration_ns) {
    say(text, "%" PRIu64 ".%06" PRIu64, duration_ns / NS_PER_S, duration_ns % NS_PER_S / NS_PER_US);
}

/* In quotation marks; `is_cut`: there would be more. UTF-8 stays, control characters don't. */
static void say_bytes(struct buf *text, const uint8_t *bytes, size_t length, bool is_cut) {
    if (is_cut) {
        for (unsigned i = 0; i < 3 && length > 1 && (bytes[length - 1] & 0xc0) == 0x80; i++) {
            length--; /* not in the middle of a character */
        }
        length -= length > 1 && bytes[length - 1] >= 0xc0;
    }
    bool is_utf8 = str_is_utf8((struct str){(const char *)bytes, length});
    say(text, "\"");
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = bytes[i];
        bool is_control = byte < 0x20 || byte == 0x7f ||
                          (byte == 0xc2 && i + 1 < length && bytes[i + 1] < 0xa0) ||
                          (i > 0 && bytes[i - 1] == 0xc2 && byte < 0xa0);
        if (byte == '\n') {
            say(text, "\\n");
        } else if (byte == '"' || byte == '\\') {
            say(text, "\\%c", byte);
        } else if (is_control || (byte >= 0x80 && !is_utf8)) {
            say(text, "\\x%02x", byte);
        } else {
            (void)!buf_append_byte(text, byte);
        }
    }
    say(text, is_cut ? "\"..." : "\"");
}

/* What can't be shown because the guest has no such memory. */
static void say_fault(struct buf *text, uint32_t address) {
    say(text, "0x%" PRIx32 "?", address);
}

static void say_string(struct buf *text, struct guest *guest, uint32_t address, uint32_t length) {
    uint8_t bytes[STRING_SHOWN];
    size_t shown = MIN((size_t)length, sizeof(bytes));
    if (guest_read(guest, address, bytes, shown)) {
        say_fault(text, address);
        return;
    }
    say_bytes(text, bytes, shown, shown < length);
}

/* Gathers the first bytes of a list of buffers, `total` at most. */
static size_t gather(struct guest *guest, const uint8_t *list, uint32_t count, uint64_t total,
                     uint8_t bytes[BUFFER_SHOWN]) {
    size_t gathered = 0, wanted = (size_t)MIN(total, (uint64_t)BUFFER_SHOWN);
    for (uint32_t i = 0; i < count && gathered < wanted; i++) {
        const uint8_t *entry = list + (size_t)i * IOVEC_SIZE;
        size_t here = MIN((size_t)layout_get_u32(entry + IOVEC_BUF_LEN), wanted - gathered);
        if (guest_read(guest, layout_get_u32(entry + IOVEC_BUF), bytes + gathered, here)) {
            break;
        }
        gathered += here;
    }
    return gathered;
}

/* A list of buffers in guest memory. */
struct buffers {
    uint8_t *list;
    uint32_t count;
    uint64_t bytes; /* in all */
};

static bool find_buffers(struct wasi *wasi, uint32_t address, uint32_t count,
                         struct buffers *ret_buffers) {
    uint8_t *list;
    if (count > wasi->limits.iovecs ||
        guest_slice(wasi->guest, address, (uint64_t)count * IOVEC_SIZE, &list)) {
        return false;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += layout_get_u32(list + (size_t)i * IOVEC_SIZE + IOVEC_BUF_LEN);
    }
    *ret_buffers = (struct buffers){.list = list, .count = count, .bytes = bytes};
    return true;
}

/* "first bytes"[TOTAL], [TOTAL in COUNT] for several; without the bytes for room that is empty. */
static void say_buffers(struct buf *text, struct wasi *wasi, uint32_t address, uint32_t count,
                        bool has_content) {
    struct buffers buffers;
    if (!find_buffers(wasi, address, count, &buffers)) {
        say_fault(text, address);
        say(text, "[in %" PRIu32 "]", count);
        return;
    }
    if (has_content) {
        uint8_t bytes[BUFFER_SHOWN];
        size_t shown = gather(wasi->guest, buffers.list, count, buffers.bytes, bytes);
        say_bytes(text, bytes, shown, shown < buffers.bytes);
    }
    say(text, count == 1 ? "[%" PRIu64 "]" : "[%" PRIu64 " in %" PRIu32 "]", buffers.bytes, count);
}

static void say_subscription(struct buf *text, const uint8_t *subscription) {
    uint8_t tag = subscription[SUBSCRIPTION_TAG];
    say_names(text, &event_names, tag);
    if (tag != EVENTTYPE_CLOCK) {
        say(text, " %" PRIu32, layout_get_u32(subscription + SUBSCRIPTION_FD));
        return;
    }
    bool is_absolute =
        layout_get_u16(subscription + SUBSCRIPTION_CLOCK_FLAGS) & SUBCLOCKFLAG_ABSTIME;
    say(text, " ");
    say_names(text, &clock_names, layout_get_u32(subscription + SUBSCRIPTION_CLOCK_ID));
    say(text, is_absolute ? " at " : " +");
    say_time(text, layout_get_u64(subscription + SUBSCRIPTION_CLOCK_TIMEOUT));
}

static void say_event(struct buf *text, const uint8_t *event) {
    say_names(text, &event_names, event[EVENT_TYPE]);
    uint16_t error = layout_get_u16(event + EVENT_ERROR);
    if (error) {
        say(text, " %s", err_name((enum err)error));
    } else if (event[EVENT_TYPE] != EVENTTYPE_CLOCK) {
        say(text, " %" PRIu64, layout_get_u64(event + EVENT_NBYTES));
    }
}

static void say_items(struct buf *text, struct guest *guest, uint32_t address, uint32_t count,
                      size_t size, void (*say_item)(struct buf *text, const uint8_t *item)) {
    uint32_t shown = MIN(count, (uint32_t)ITEMS_SHOWN);
    uint8_t *items;
    if (guest_slice(guest, address, (uint64_t)shown * size, &items)) {
        say_fault(text, address);
        return;
    }
    say(text, "[");
    for (uint32_t i = 0; i < shown; i++) {
        say(text, i ? ", " : "");
        say_item(text, items + i * size);
    }
    if (shown < count) {
        say(text, ", ... %" PRIu32 " in all", count);
    }
    say(text, "]");
}

static void say_argument(struct buf *text, struct wasi *wasi, enum kind kind,
                         const uint64_t *arguments) {
    uint32_t first = argument_u32(arguments, 0);
    const struct names *names = names_of(kind);
    if (names) {
        say_names(text, names, arguments[0]);
        return;
    }
    switch (kind) {
    case SIGNED:
        say(text, "%" PRId64, (int64_t)arguments[0]);
        return;
    case ADDRESS:
        say(text, "0x%" PRIx32, first);
        return;
    case STRING:
        say_string(text, wasi->guest, first, argument_u32(arguments, 1));
        return;
    case SPACE:
    case SPACE_TEXT:
        say(text, "[%" PRIu32 "]", argument_u32(arguments, 1));
        return;
    case WRITTEN:
    case READ:
        say_buffers(text, wasi, first, argument_u32(arguments, 1), kind == WRITTEN);
        return;
    case SUBSCRIPTIONS:
        say_items(text, wasi->guest, first, argument_u32(arguments, 2), SUBSCRIPTION_SIZE,
                  say_subscription);
        return;
    default:
        say(text, "%" PRIu64, arguments[0]);
    }
}

/* ---- results ---- */

static void say_fdstat(struct buf *text, const uint8_t *stat) {
    say(text, "{");
    say_names(text, &type_names, stat[FDSTAT_FILETYPE]);
    say(text, ", ");
    say_names(text, &fdflags_names, layout_get_u16(stat + FDSTAT_FLAGS));
    say(text, ", ");
    say_names(text, &rights_names, layout_get_u64(stat + FDSTAT_RIGHTS_BASE));
    say(text, "}");
}

static void say_filestat(struct buf *text, const uint8_t *stat) {
    say(text, "{");
    say_names(text, &type_names, stat[FILESTAT_FILETYPE]);
    say(text, ", %" PRIu64 " bytes, inode %" PRIu64 "}", layout_get_u64(stat + FILESTAT_FILE_SIZE),
        layout_get_u64(stat + FILESTAT_INO));
}

static size_t size_of_result(enum kind kind) {
    switch (kind) {
    case RESULT_U16:
        return 2;
    case RESULT_U32:
        return 4;
    case RESULT_U64:
        return 8;
    case RESULT_FDSTAT:
        return FDSTAT_SIZE;
    case RESULT_FILESTAT:
        return FILESTAT_SIZE;
    case RESULT_PRESTAT:
        return PRESTAT_SIZE;
    default:
        return 0;
    }
}

static void say_result(struct buf *text, struct guest *guest, enum kind kind, uint32_t address) {
    uint8_t result[FILESTAT_SIZE];
    if (guest_read(guest, address, result, size_of_result(kind))) {
        say_fault(text, address);
        return;
    }
    switch (kind) {
    case RESULT_U16:
        say_names(text, &riflags_names, layout_get_u16(result));
        return;
    case RESULT_U32:
        say(text, "%" PRIu32, layout_get_u32(result));
        return;
    case RESULT_U64:
        say(text, "%" PRIu64, layout_get_u64(result));
        return;
    case RESULT_FDSTAT:
        say_fdstat(text, result);
        return;
    case RESULT_FILESTAT:
        say_filestat(text, result);
        return;
    default:
        say(text, "{dir, name of %" PRIu32 "}", layout_get_u32(result + PRESTAT_DIR_NAME_LEN));
    }
}

/* What a call has put into the guest's buffers: `count` bytes or items. */
static void say_content(struct buf *text, struct wasi *wasi, enum kind kind,
                        const uint64_t *arguments, uint32_t count) {
    uint32_t first = argument_u32(arguments, 0);
    if (kind == SPACE_TEXT) {
        say(text, " ");
        say_string(text, wasi->guest, first, MIN(count, argument_u32(arguments, 1)));
    } else if (kind == SUBSCRIPTIONS) {
        say(text, " ");
        say_items(text, wasi->guest, argument_u32(arguments, 1),
                  MIN(count, argument_u32(arguments, 2)), EVENT_SIZE, say_event);
    } else if (kind == READ && count > 0) {
        struct buffers buffers;
        uint8_t bytes[BUFFER_SHOWN];
        if (find_buffers(wasi, first, argument_u32(arguments, 1), &buffers)) {
            size_t shown = gather(wasi->guest, buffers.list, buffers.count, count, bytes);
            say(text, " ");
            say_bytes(text, bytes, shown, shown < count);
        }
    }
}

static void say_results(struct buf *text, struct wasi *wasi, const struct row *row,
                        const uint64_t *arguments) {
    const uint64_t *content_at = NULL;
    enum kind content = NOTHING;
    bool any = false;
    for (size_t i = 0, at = 0; i < ROW_KINDS_MAX && row->kinds[i]; i++) {
        enum kind kind = row->kinds[i];
        if (kind >= RESULT_U16) {
            uint32_t address = argument_u32(arguments, at);
            say(text, any ? ", " : "");
            say_result(text, wasi->guest, kind, address);
            uint8_t count[4];
            if (content_at && kind == RESULT_U32 &&
                !guest_read(wasi->guest, address, count, sizeof(count))) {
                say_content(text, wasi, content, content_at, layout_get_u32(count));
            }
            any = true;
        } else if (kind == READ || kind == SPACE_TEXT || kind == SUBSCRIPTIONS) {
            content = kind;
            content_at = arguments + at;
        }
        at += width_of(kind);
    }
    if (!any) {
        say(text, "ok");
    }
}

/* ---- lines ---- */

static bool has_room(struct wasi_trace *trace) {
    if (trace->room_bytes > 0) {
        return true;
    }
    trace->untold++;
    return false;
}

static void use_room(struct wasi_trace *trace, size_t length_before) {
    trace->room_bytes -= MIN(trace->text.length - length_before, trace->room_bytes);
}

void wasi_trace_begin(struct wasi *wasi, const struct wasi_function *function,
                      const uint64_t *arguments) {
    struct wasi_trace *trace = wasi->trace;
    if (!has_room(trace)) {
        return;
    }
    struct buf *text = &trace->text;
    size_t before = text->length;
    const struct row *row = &rows[function - wasi_functions];
    trace->in_call = true;
    trace->call_began_ns = clock_monotonic_ns();
    say_time(text, trace->call_began_ns - MIN(trace->began_ns, trace->call_began_ns));
    say(text, " %s(", function->name);
    const char *separator = "";
    for (size_t i = 0, at = 0; i < ROW_KINDS_MAX && row->kinds[i]; i++) {
        enum kind kind = row->kinds[i];
        if (kind < RESULT_U16) {
            say(text, "%s", separator);
            say_argument(text, wasi, kind, arguments + at);
            separator = ", ";
        }
        at += width_of(kind);
    }
    say(text, ")");
    use_room(trace, before);
}

void wasi_trace_end(struct wasi *wasi, const struct wasi_function *function,
                    const uint64_t *arguments, enum err result) {
    struct wasi_trace *trace = wasi->trace;
    if (!trace->in_call) {
        return;
    }
    trace->in_call = false;
    struct buf *text = &trace->text;
    size_t before = text->length;
    say(text, " = ");
    if (result == ERR_OK) {
        say_results(text, wasi, &rows[function - wasi_functions], arguments);
    } else {
        say(text, "%s", result == ERR_EXIT ? "exit" : err_name(result));
    }
    say(text, " <");
    say_time(text, clock_monotonic_ns() - trace->call_began_ns);
    say(text, ">\n");
    use_room(trace, before);
    if (trace->room_bytes == 0) {
        say(text, "--- the trace is full: further calls are only counted\n");
    }
}

void wasi_trace_close(struct wasi_trace *trace, const char *how) {
    struct buf *text = &trace->text;
    if (trace->in_call) {
        trace->in_call = false;
        say(text, " <unfinished>\n");
    }
    if (trace->untold > 0) {
        say(text, "--- %" PRIu64 " calls are not shown\n", trace->untold);
    }
    if (trace->began_ns) {
        say_time(text, clock_monotonic_ns() - trace->began_ns);
        say(text, " ");
    }
    say(text, "+++ %s +++\n", how);
}

void wasi_trace_done(struct wasi_trace *trace) {
    buf_done(&trace->text);
}
