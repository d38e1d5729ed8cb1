/* Sequences of WASI calls with arbitrary arguments over a guest memory of exact size, on the real
 * namespace and memory file systems. Nothing beyond the guest's memory may be touched, no call may
 * end the process, and every call must end, wait, or be given up cleanly.
 *
 * The input is a program: its first byte says whether the file systems wait and whether calls are
 * traced; then a byte selects a
 * function or a command, then come its arguments, each with a byte that says how it is written
 * (small, near the end of the memory, a multiple of 64, or raw). */
#include "wasi/wasi_test_guest.h"
#include "wasi/wasi_trace.h"

enum { FUZZ_MEMORY_BYTES = 16 * 1024, FUZZ_CALLS_MAX = 200 };

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next_byte(struct input *input) {
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->data++;
}

static uint64_t next_raw(struct input *input, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)next_byte(input) << (i * 8);
    return value;
}

static uint64_t next_argument(struct input *input, char type) {
    uint8_t tag = next_byte(input);
    if (tag < 64)
        return tag;
    if (tag < 128)
        return (uint64_t)FUZZ_MEMORY_BYTES - (tag - 64u);
    if (tag < 192)
        return (tag - 128u) * 64u;
    if (tag < 208)
        return next_raw(input, 2);
    return next_raw(input, type == 'I' ? 8 : 4);
}

static void write_memory(struct fixture *f, struct input *input) {
    uint32_t at = (uint32_t)next_raw(input, 2) % FUZZ_MEMORY_BYTES;
    uint32_t length = next_byte(input);
    for (uint32_t i = 0; i < length && input->left > 0; i++)
        f->memory[(at + i) % FUZZ_MEMORY_BYTES] = next_byte(input);
}

static void happen(struct fixture *f, struct input *input) {
    uint8_t what = next_byte(input);
    if (what & 1)
        test_file_feed(f->in, "some input\n");
    f->out->room = what & 2 ? 3 : SIZE_MAX;
    f->in->read_max = what & 4 ? 2 : 0;
    f->in->input_ended = what & 8;
    if (what & 16)
        f->out->next_error = ERR_PIPE;
    test_file_wake(f->out);
    test_file_wake(f->in);
}

/* Makes an empty place with a file, a directory, two links, and a socket at descriptor 4. */
static void prepare(struct fixture *f) {
    static const char names[] = "file"
                                "dir"
                                "link"
                                "../up";
    memcpy(f->memory + 64, names, sizeof(names) - 1);
    const struct {
        const char *function;
        uint64_t arguments[WASI_ARGUMENTS_MAX];
    } calls[] = {
        {"path_open", {FD_ROOT, 0, 64, 4, OFLAG_CREAT, FD_RIGHTS_ALL, FD_RIGHTS_ALL, 0, 0}},
        {"path_create_directory", {FD_ROOT, 68, 3}},
        {"path_symlink", {64, 4, FD_ROOT, 71, 4}},
        {"path_symlink", {75, 5, FD_ROOT, 78, 2}},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(calls); i++)
        INVARIANT(fixture_call(f, function_named(calls[i].function), calls[i].arguments) == ERR_OK);
    struct test_file *socket = test_file_new(&test_socket_dev, FILE_SOCKET_STREAM, 0);
    socket->has_connection = true;
    INVARIANT(wasi_add_stream(&f->wasi, &socket->file, OPEN_READ | OPEN_WRITE) == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    struct wasi_limits limits = wasi_limits_default;
    limits.open_files = 32;
    limits.piece_bytes = 4096;
    limits.listing_bytes = 20000;
    uint8_t mode = next_byte(&input);
    bool slow = mode & 1;
    struct wasi_trace trace = {.room_bytes = 100000};
    struct fixture *f = fixture_make(&limits, FUZZ_MEMORY_BYTES, slow);
    prepare(f);
    if (mode & 2)
        f->wasi.trace = &trace;
    for (unsigned i = 0; i < FUZZ_CALLS_MAX && input.left > 0; i++) {
        uint8_t command = next_byte(&input) % (WASI_FUNCTION_COUNT + 4);
        if (command == WASI_FUNCTION_COUNT) {
            happen(f, &input);
            continue;
        }
        if (command > WASI_FUNCTION_COUNT) {
            write_memory(f, &input);
            continue;
        }
        const struct wasi_function *function = &wasi_functions[command];
        uint64_t arguments[WASI_ARGUMENTS_MAX] = {0};
        for (size_t j = 0; function->parameters[j]; j++)
            arguments[j] = next_argument(&input, function->parameters[j]);
        enum err err = fixture_call(f, function, arguments);
        if (err == ERR_PENDING) {
            happen(f, &input);
            err = fixture_go_on(f);
        }
        INVARIANT(err <= ERR_NOTCAPABLE || err == ERR_EXIT || err == ERR_PENDING);
        if (err == ERR_PENDING)
            break; /* it is given up while it waits */
    }
    fixture_free(f);
    wasi_trace_close(&trace, "given up");
    INVARIANT(str_is_utf8(buf_str(&trace.text)) && trace.text.length < 200000);
    wasi_trace_done(&trace);
    return 0;
}
