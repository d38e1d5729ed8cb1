/* Any bytes unpacked as an archive, onto files in memory, then packed again.
 *
 * By the first byte: the device waits at every step, small limits, a diverted name. What must hold:
 * nothing crashes or hangs, a refusal says why, and never are there more bytes and entries in the
 * tree than allowed. */
#include "api/archive.h"
#include "ns/memory.h"
#include "ns/pending_test.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRIES_MAX = 64, BYTES_MAX = 256 * 1024, READS_MAX = 100000 };

static void pack_all(struct file *root) {
    struct pack *pack;
    INVARIANT(pack_new(root, &pack) == ERR_OK);
    static uint8_t piece[64 * 1024];
    size_t read = 0;
    size_t reads = 0;
    do {
        enum err err = AWAIT(pack_read(&test_op, pack, piece, sizeof piece, &read));
        INVARIANT(err == ERR_OK);
        INVARIANT(++reads < READS_MAX);
    } while (read > 0);
    pack_free(pack);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) {
        return 0;
    }
    uint8_t choice = data[0];
    int archive = memfd_create("archive", MFD_CLOEXEC);
    int diverted = memfd_create("diverted", MFD_CLOEXEC);
    INVARIANT(archive >= 0 && diverted >= 0);
    INVARIANT(write(archive, data + 1, size - 1) == (ssize_t)(size - 1));
    test_begin();
    pending_off = choice & 1;
    struct file *memory;
    INVARIANT(memory_new(&(struct memory_options){0}, &memory) == ERR_OK);
    struct file *root = pending_wrap(file_ref(memory));
    struct unpack_options options = {
        .directory = root,
        .descriptor = archive,
        .entries_max = choice & 2 ? 2 : ENTRIES_MAX,
        .bytes_max = choice & 4 ? 10 : BYTES_MAX,
        .diverted_name = choice & 8 ? "app.wasm" : NULL,
        .diverted_descriptor = diverted,
    };
    struct unpack *unpack;
    INVARIANT(unpack_new(&options, &unpack) == ERR_OK);
    struct unpack_result result = {0};
    struct buf message = {0};
    enum err err = AWAIT(unpack_step(&test_op, unpack, &result, &message));
    INVARIANT(err != ERR_INVAL || message.length > 0);
    unpack_free(unpack);
    /* Each entry makes a file and the directories above it. */
    struct memory_usage usage = memory_usage(memory);
    INVARIANT(result.bytes <= options.bytes_max);
    INVARIANT(usage.inodes <= options.entries_max * 130);
    pack_all(root);
    file_unref(root);
    file_unref(memory);
    buf_done(&message);
    test_end();
    INVARIANT(pending_files == 0);
    close(archive);
    close(diverted);
    return 0;
}
