/* Any bytes unpacked as an archive, onto files in memory, then packed again.
 *
 * By the first byte: the device waits at every step, small limits, a diverted name, and whether the
 * headers' checksums are put right (or hardly a changed header would be looked at). What must hold:
 * nothing crashes or hangs, a refusal says why, and never are there more bytes and entries in the
 * tree than allowed. */
#include "api/archive.h"
#include "ns/memory.h"
#include "ns/pending_test.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Workers take part here: the loop waits for them, it does not spin. */
static void wake_and_stop(struct op *op) {
    test_woken = true;
    loop_stop(op->loop);
}
static void wait_for_wake(void) {
    while (!test_woken) {
        loop_run(test_loop);
    }
    test_woken = false;
}
#define FINISH(call)                                                                               \
    ({                                                                                             \
        enum err result_;                                                                          \
        while ((result_ = (call)) == ERR_PENDING) {                                                \
            wait_for_wake();                                                                       \
        }                                                                                          \
        result_;                                                                                   \
    })

enum { ENTRIES_MAX = 64, BYTES_MAX = 256 * 1024, READS_MAX = 100000 };

static void mend_checksums(uint8_t *data, size_t size) {
    for (; size >= 512; data += 512, size -= 512) {
        if (memcmp(data + 257, "ustar", 5) == 0) {
            memset(data + 148, ' ', 8);
            unsigned sum = 0;
            for (size_t i = 0; i < 512; i++) {
                sum += data[i];
            }
            char text[8];
            snprintf(text, sizeof text, "%06o", sum);
            memcpy(data + 148, text, 7);
        }
    }
}

static void pack_all(struct file *root) {
    struct pack *pack;
    INVARIANT(pack_new(root, &pack) == ERR_OK);
    static uint8_t piece[64 * 1024];
    size_t read = 0;
    size_t reads = 0;
    do {
        enum err err = FINISH(pack_read(&test_op, pack, piece, sizeof piece, &read));
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
    uint8_t *copy = malloc(size);
    INVARIANT(copy);
    memcpy(copy, data, size);
    if (choice & 16) {
        mend_checksums(copy + 1, size - 1);
    }
    INVARIANT(write(archive, copy + 1, size - 1) == (ssize_t)(size - 1));
    free(copy);
    test_begin();
    test_op.wake = wake_and_stop;
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
    enum err err = FINISH(unpack_step(&test_op, unpack, &result, &message));
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
