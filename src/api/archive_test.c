/* Unpacking and packing, on files in memory behind a device that waits at every step. */
#include "api/archive.h"
#include "ns/memory.h"
#include "ns/pending_test.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

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

/* ---- making archives ---- */

/* A tar made by hand, so that it can be wrong. */
static struct buf tar;

static void tar_entry(const char *name, char type, const char *target, const char *content,
                      size_t size) {
    unsigned char header[512] = {0};
    memcpy(header, name, MIN(strlen(name), 100));
    memcpy(header + 100, "0000644", 7);
    memcpy(header + 108, "0000000", 7);
    memcpy(header + 116, "0000000", 7);
    char number[32];
    snprintf(number, sizeof number, "%011zo", size);
    memcpy(header + 124, number, 11);
    memcpy(header + 136, "14000000000", 11); /* 1610612736 s */
    header[156] = (unsigned char)type;
    if (target) {
        memcpy(header + 157, target, MIN(strlen(target), 100));
    }
    memcpy(header + 257, "ustar\00000", 8);
    memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof header; i++) {
        sum += header[i];
    }
    snprintf(number, sizeof number, "%06o", sum);
    memcpy(header + 148, number, 7);
    assert_int_equal(buf_append(&tar, header, sizeof header), ERR_OK);
    if (content) {
        assert_int_equal(buf_append(&tar, content, size), ERR_OK);
        while (tar.length % 512) {
            assert_int_equal(buf_append_byte(&tar, 0), ERR_OK);
        }
    }
}
static void tar_file(const char *name, const char *content) {
    tar_entry(name, '0', NULL, content, strlen(content));
}
static void tar_end(void) {
    for (int i = 0; i < 1024; i++) {
        assert_int_equal(buf_append_byte(&tar, 0), ERR_OK);
    }
}

/* ---- unpacking ---- */

static struct file *memory, *root; /* the device itself, and behind waits */
static struct buf message;
static struct unpack_result result;
static uint64_t entries_max, bytes_max;
static int diverted;
static bool refuses_module;
static const char *single_path;

static int setup(void **state) {
    (void)state;
    test_begin();
    test_op.wake = wake_and_stop;
    assert_int_equal(memory_new(&(struct memory_options){0}, &memory), ERR_OK);
    root = pending_wrap(file_ref(memory));
    entries_max = 100;
    bytes_max = MIB;
    diverted = -1;
    refuses_module = false;
    single_path = NULL;
    return 0;
}
static int teardown(void **state) {
    (void)state;
    file_unref(root);
    file_unref(memory);
    buf_done(&tar);
    buf_done(&message);
    test_end();
    assert_int_equal(pending_files, 0);
    return 0;
}

static int descriptor_of(const void *data, size_t length) {
    int descriptor = memfd_create("archive", MFD_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, data, length), (ssize_t)length);
    return descriptor;
}

static enum err unpack_bytes(const void *data, size_t length) {
    int descriptor = descriptor_of(data, length);
    struct unpack_options options = {
        .directory = root,
        .descriptor = descriptor,
        .entries_max = entries_max,
        .bytes_max = bytes_max,
        .diverted_name = diverted >= 0 || refuses_module ? "app.wasm" : NULL,
        .diverted_descriptor = diverted,
        .single_path = single_path,
    };
    struct unpack *unpack;
    assert_int_equal(unpack_new(&options, &unpack), ERR_OK);
    close(descriptor); /* the unpacking has its own */
    message.length = 0;
    enum err err = FINISH(unpack_step(&test_op, unpack, &result, &message));
    unpack_free(unpack);
    return err;
}
static enum err unpack_tar(void) {
    return unpack_bytes(tar.data, tar.length);
}

/* The file at a path below the root, or NULL. */
static struct file *find(const char *path) {
    struct file *file = file_ref(memory);
    struct str rest = str_of(path);
    while (file && rest.length > 0) {
        struct str name = str_cut(&rest, '/');
        struct file *found = NULL;
        size_t walked;
        if (file_walk(&test_op, file, &name, 1, &walked, &found) != ERR_OK) {
            found = NULL;
        }
        file_unref(file);
        file = found;
    }
    return file;
}
static void assert_content(const char *path, const char *content) {
    struct file *file = find(path);
    assert_non_null(file);
    assert_int_equal(file->type, FILE_REGULAR);
    char data[4096];
    size_t read;
    assert_int_equal(file_read(&test_op, file, data, sizeof data, 0, &read), ERR_OK);
    assert_int_equal(read, strlen(content));
    assert_memory_equal(data, content, read);
    file_unref(file);
}
static struct file_stat stat_of(const char *path) {
    struct file *file = find(path);
    assert_non_null(file);
    struct file_stat stat;
    assert_int_equal(file_stat(&test_op, file, &stat), ERR_OK);
    file_unref(file);
    return stat;
}
static void assert_nothing_in(struct file *directory) {
    struct dir_list list = {0};
    assert_int_equal(file_readdir(&test_op, directory, &list), ERR_OK);
    assert_int_equal(list.count, 0);
    dir_list_done(&list);
}

static void test_files_directories_and_links(void **state) {
    (void)state;
    tar_entry("./", '5', NULL, NULL, 0);
    tar_entry("d/", '5', NULL, NULL, 0);
    tar_file("d/one", "1");
    tar_file("./deep/er/two", "22"); /* parents that the archive does not have */
    tar_entry("link", '2', "/etc/passwd", NULL, 0);
    tar_entry("hard", '1', "./d/one", NULL, 0);
    tar_file("empty", "");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_int_equal(result.files, 5);
    assert_int_equal(result.bytes, 3);
    assert_content("d/one", "1");
    assert_content("deep/er/two", "22");
    assert_content("hard", "1");
    assert_content("empty", "");
    assert_int_equal(stat_of("d/one").inode, stat_of("hard").inode);
    assert_int_equal(stat_of("d/one").modified_ns, UINT64_C(1610612736) * NS_PER_S);
    assert_int_equal(stat_of("d").modified_ns, UINT64_C(1610612736) * NS_PER_S);
    struct file *link = find("link");
    struct buf target = {0};
    assert_int_equal(file_readlink(&test_op, link, &target), ERR_OK);
    assert_string_equal(buf_text(&target), "/etc/passwd"); /* as it is; ns decides where it leads */
    buf_done(&target);
    file_unref(link);
}

static void test_replaces_files_and_merges_directories(void **state) {
    (void)state;
    tar_file("d/old", "old");
    tar_file("d/kept", "kept");
    tar_entry("other", '1', "d/old", NULL, 0);
    tar_entry("link", '2', "d/kept", NULL, 0);
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    tar.length = 0;
    tar_file("d/old", "new");
    tar_file("link", "a file now");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_content("d/old", "new");
    assert_content("d/kept", "kept"); /* not written through the link */
    assert_content("other", "old");   /* another name of what was replaced */
    assert_content("link", "a file now");
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *name;
        char type;
        const char *target;
        const char *says;
    } rows[] = {
        {"/etc/passwd", '0', NULL, "absolute"},
        {"../up", '0', NULL, "'..'"},
        {"a/../../up", '0', NULL, "'..'"},
        {"a/..", '5', NULL, "'..'"},
        {"\xff\xfe", '0', NULL, "UTF-8"},
        {"a/\xed\xa0\x80", '0', NULL, "UTF-8"},
        {"null", '3', NULL, "neither"},
        {"disk", '4', NULL, "neither"},
        {"pipe", '6', NULL, "neither"},
        {"h", '1', "../../etc/passwd", "'..'"},
        {"h", '1', "/etc/passwd", "absolute"},
        {"h", '1', "missing", "hard link"},
        {"h", '1', "first/x", "hard link"},
        {"h", '1', ".", "hard link"},
        {"s", '2', "", "symbolic link"},
        {"first/below", '0', NULL, "file or link"},
        {"first/", '5', NULL, "file or link"},
        {"loop/below", '0', NULL, "file or link"},
        {"d", '0', NULL, "directory of its name"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        tar.length = 0;
        tar_file("first", "1");
        tar_entry("loop", '2', "..", NULL, 0);
        tar_file("d/x", "x");
        tar_entry(rows[i].name, rows[i].type, rows[i].target, "", 0);
        tar_file("after", "x");
        tar_end();
        assert_int_equal(unpack_tar(), ERR_INVAL);
        if (!strstr(buf_text(&message), rows[i].says)) {
            fail_msg("'%s' (row %zu) has no '%s'", buf_text(&message), i, rows[i].says);
        }
        assert_content("first", "1");
        assert_null(find("after"));
        assert_null(find("up"));
    }
}

static void test_limits(void **state) {
    (void)state;
    tar_file("a", "12345");
    tar_file("b", "12345");
    tar_end();
    entries_max = 1;
    assert_int_equal(unpack_tar(), ERR_FBIG);
    assert_null(find("b"));
    entries_max = 2;
    bytes_max = 9;
    assert_int_equal(unpack_tar(), ERR_FBIG);
    assert_non_null(strstr(buf_text(&message), "more than 9 bytes"));
    assert_null(find("b"));
    bytes_max = 10;
    assert_int_equal(unpack_tar(), ERR_OK);

    /* Only a size, no content: it is refused before anything is made of it. */
    tar.length = 0;
    tar_entry("huge", '0', NULL, NULL, (size_t)8 * 1024 * 1024 * 1024 - 1);
    assert_int_equal(unpack_tar(), ERR_FBIG);
    assert_null(find("huge"));
}

static void test_deep_and_long_names(void **state) {
    (void)state;
    char name[512] = "";
    for (int i = 0; i < 45; i++) {
        strcat(name, "d/");
    }
    strcat(name, "f");
    tar_file(name, "deep");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_content(name, "deep");
}

static void test_cut_off_anywhere(void **state) {
    (void)state;
    tar_file("a", "content of a");
    tar_file("b", "content of b");
    tar_end();
    for (size_t length = 0; length < 512 * 4; length++) {
        enum err err = unpack_bytes(tar.data, length);
        /* Between two entries nothing shows that there should be more. */
        assert_int_equal(err, length > 0 && length % 1024 == 0 ? ERR_OK : ERR_INVAL);
        assert_true(err == ERR_OK || message.length > 0);
    }
}

/* How many names begin with a dot: what is written beside its target has such a one. */
static size_t count_hidden(void) {
    struct dir_list list = {0};
    size_t hidden = 0;
    assert_int_equal(file_readdir(&test_op, memory, &list), ERR_OK);
    for (size_t i = 0; i < list.count; i++) {
        hidden += dir_list_name(&list, i).data[0] == '.';
    }
    dir_list_done(&list);
    return hidden;
}

static char *repeated(char byte, size_t length) {
    char *text = malloc(length + 1);
    assert_non_null(text);
    memset(text, byte, length);
    text[length] = 0;
    return text;
}

static void assert_all_bytes(const char *path, char byte, size_t length) {
    assert_int_equal(stat_of(path).size, length);
    struct file *file = find(path);
    char *content = repeated(0, length);
    size_t read = 0;
    for (size_t at = 0; at < length; at += read) {
        assert_int_equal(file_read(&test_op, file, content + at, length - at, at, &read), ERR_OK);
        assert_true(read > 0);
    }
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(content[i], byte);
    }
    free(content);
    file_unref(file);
}

enum { BIG = 100000 };

/* A tar with `other` and `big`, of one byte each all through; `big` begins at 1024. */
static void tar_with_big(char byte) {
    char *content = repeated(byte, BIG);
    tar.length = 0;
    tar_file("other", (char[]){byte, 0});
    tar_file("big", content);
    tar_end();
    free(content);
}

static char first_byte(const char *path) {
    struct file *file = find(path);
    assert_non_null(file);
    char byte;
    size_t read;
    assert_int_equal(file_read(&test_op, file, &byte, 1, 0, &read), ERR_OK);
    assert_int_equal(read, 1);
    file_unref(file);
    return byte;
}

static void test_cut_in_a_file_that_replaces_another(void **state) {
    (void)state;
    tar_with_big('o');
    assert_int_equal(unpack_tar(), ERR_OK);
    tar_with_big('n');
    assert_int_equal(unpack_bytes(tar.data, 60000), ERR_INVAL);
    assert_content("other", "n"); /* was whole */
    assert_all_bytes("big", 'o', BIG);
    assert_int_equal(count_hidden(), 0);
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_all_bytes("big", 'n', BIG);
    assert_int_equal(count_hidden(), 0);
}

static void test_cut_in_a_new_file(void **state) {
    (void)state;
    tar_with_big('n');
    assert_int_equal(unpack_bytes(tar.data, 60000), ERR_INVAL);
    assert_content("other", "n");
    assert_null(find("big"));
    assert_int_equal(count_hidden(), 0);
}

/* Whatever the device refuses: the old file or the new one is there, and nothing else. */
static void test_failures_of_the_device(void **state) {
    (void)state;
    bool ended = false;
    for (long failing = 1; !ended; failing++) {
        tar_with_big('o');
        assert_int_equal(unpack_tar(), ERR_OK);
        tar_with_big('n');
        pending_fail = failing;
        enum err err = unpack_tar();
        ended = pending_fail > 0;
        pending_fail = 0;
        assert_int_equal(err, ended ? ERR_OK : ERR_IO);
        assert_all_bytes("big", err ? 'o' : 'n', BIG);
        assert_int_equal(count_hidden(), 0);
        assert_true(failing < 1000);
    }
}

static void test_leftovers_are_swept(void **state) {
    (void)state;
    tar_file("d/a", "old");
    tar_file("d/.zasm-put-00000000-0000000000000000", "of an earlier life");
    tar_file("d/.hidden", "not ours");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    tar.length = 0;
    tar_file("d/b", "nothing is replaced");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_content("d/.zasm-put-00000000-0000000000000000", "of an earlier life");
    tar.length = 0;
    tar_file("d/a", "new");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_null(find("d/.zasm-put-00000000-0000000000000000"));
    assert_content("d/a", "new");
    assert_content("d/.hidden", "not ours");
}

static void test_not_an_archive(void **state) {
    (void)state;
    assert_int_equal(unpack_bytes("hello", 5), ERR_INVAL);
    assert_int_equal(unpack_bytes("", 0), ERR_INVAL);
    char text[2048];
    memset(text, 'x', sizeof text);
    assert_int_equal(unpack_bytes(text, sizeof text), ERR_INVAL);
    assert_int_equal(unpack_bytes("\x1f\x8b\x08\0\0\0\0\0\0\xff garbage", 18), ERR_INVAL);
    assert_nothing_in(memory);
}

/* ---- with libarchive's own writer: compressed, sparse, UTF-8 ---- */

static void write_file(struct archive *archive, struct archive_entry *entry, const char *name,
                       const void *data, size_t length, int64_t size) {
    archive_entry_copy_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, size);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(archive, data, length), (la_ssize_t)length);
    archive_entry_clear(entry);
}

static size_t make_compressed(const char *filter, void *data, size_t size, size_t zeros) {
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t used = 0;
    assert_int_equal(archive_write_set_format_pax(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_add_filter_by_name(archive, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, data, size, &used), ARCHIVE_OK);
    write_file(archive, entry, "small", "abc", 3, 3);
    void *content = calloc(1, zeros);
    assert_non_null(content);
    write_file(archive, entry, "zeros", content, zeros, (int64_t)zeros);
    free(content);
    archive_entry_free(entry);
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
    return used;
}

static void test_compressed(void **state) {
    (void)state;
    static uint8_t data[256 * 1024];
    static const char *const filters[] = {"gzip", "zstd"};
    for (size_t i = 0; i < ARRAY_LENGTH(filters); i++) {
        size_t length = make_compressed(filters[i], data, sizeof data, 300000);
        assert_true(unpack_looks_like_archive((struct str){(char *)data, MIN(length, 512)}));
        assert_int_equal(unpack_bytes(data, length), ERR_OK);
        assert_content("small", "abc");
        assert_int_equal(stat_of("zeros").size, 300000);
        bytes_max = 300000; /* three bytes too few */
        assert_int_equal(unpack_bytes(data, length), ERR_FBIG);
        bytes_max = MIB;
        assert_int_equal(unpack_bytes(data, length / 2), ERR_INVAL);
    }
}

/* Compressed by other means than a tar is: no program is started for it. */
static void test_other_compressions_are_refused(void **state) {
    (void)state;
    static uint8_t data[256 * 1024];
    size_t length = make_compressed("bzip2", data, sizeof data, 1000);
    assert_int_equal(unpack_bytes(data, length), ERR_INVAL);
    length = make_compressed("xz", data, sizeof data, 1000);
    assert_int_equal(unpack_bytes(data, length), ERR_INVAL);
    assert_nothing_in(memory);
}

/* A file of which most is a hole: pax's own form of it. */
static void test_sparse(void **state) {
    (void)state;
    static uint8_t data[64 * 1024];
    size_t used = 0;
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    assert_int_equal(archive_write_set_format_pax(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, data, sizeof data, &used), ARCHIVE_OK);
    archive_entry_copy_pathname(entry, "sparse");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, 500000);
    archive_entry_sparse_add_entry(entry, 4096, 4);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    uint8_t *content = calloc(1, 500000);
    assert_non_null(content);
    memcpy(content + 4096, "data", 4);
    assert_int_equal(archive_write_data(archive, content, 500000), 500000);
    free(content);
    archive_entry_free(entry);
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);

    assert_int_equal(unpack_bytes(data, used), ERR_OK);
    assert_int_equal(stat_of("sparse").size, 500000);
    struct file *file = find("sparse");
    char text[5] = "";
    size_t read;
    assert_int_equal(file_read(&test_op, file, text, 4, 4096, &read), ERR_OK);
    assert_string_equal(text, "data");
    file_unref(file);
    bytes_max = 499999; /* the holes count, too */
    assert_int_equal(unpack_bytes(data, used), ERR_FBIG);
}

static void test_diverted(void **state) {
    (void)state;
    diverted = descriptor_of("something longer than that", 26);
    tar_file("./app.wasm", "module");
    tar_file("d/app.wasm", "just a file");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_true(result.diverted);
    assert_int_equal(result.files, 1);
    assert_null(find("app.wasm"));
    assert_content("d/app.wasm", "just a file");
    char text[64] = "";
    assert_int_equal(pread(diverted, text, sizeof text, 0), 6);
    assert_string_equal(text, "module");

    tar.length = 0;
    tar_entry("app.wasm", '5', NULL, NULL, 0);
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_false(result.diverted);
    close(diverted);
}

/* Given up at every moment, nothing leaks and nothing is used that is gone. */
static void test_refused_module(void **state) {
    (void)state;
    refuses_module = true;
    tar_file("sub/app.wasm", "deeper ones are files");
    tar_file("app.wasm", "module");
    tar_file("after", "never there");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_INVAL);
    assert_non_null(strstr(buf_text(&message), "'app.wasm' is a program"));
    assert_null(find("app.wasm"));
    assert_null(find("after"));
}

/* What is no archive, or is not to be taken for one. */
static void test_single(void **state) {
    (void)state;
    refuses_module = true;
    single_path = "src/app.wasm";
    cleanup_free char *large = repeated('x', 300000);
    assert_int_equal(unpack_bytes(large, 300000), ERR_OK);
    assert_int_equal(result.files, 1);
    assert_int_equal(result.bytes, 300000);
    assert_all_bytes("src/app.wasm", 'x', 300000);
    single_path = "app.wasm";
    tar_file("a", "b");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    assert_int_equal(stat_of("app.wasm").size, 2048);
    single_path = "empty";
    assert_int_equal(unpack_bytes("", 0), ERR_OK);
    assert_content("empty", "");
    static const char *const bad[] = {"", "/absolute", "..", "a/../b", ".", "\xff"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        single_path = bad[i];
        assert_int_equal(unpack_bytes("x", 1), ERR_INVAL);
        assert_true(message.length > 0);
    }
    single_path = "large";
    bytes_max = 299999;
    assert_int_equal(unpack_bytes(large, 300000), ERR_FBIG);
    assert_null(find("large"));
}

static void test_given_up(void **state) {
    (void)state;
    tar_file("d/a", "1");
    tar_entry("h", '1', "d/a", NULL, 0);
    tar_entry("l", '2', "d/a", NULL, 0);
    tar_file("e/b", "2");
    tar_end();
    int descriptor = descriptor_of(tar.data, tar.length);
    bool ended = false;
    for (int steps = 1; !ended; steps++) {
        struct unpack_options options = {
            .directory = root, .descriptor = descriptor, .entries_max = 10, .bytes_max = 100};
        struct unpack *unpack;
        assert_int_equal(unpack_new(&options, &unpack), ERR_OK);
        for (int i = 0; i < steps && !ended; i++) {
            enum err err = unpack_step(&test_op, unpack, &result, &message);
            ended = err != ERR_PENDING;
            if (!ended && i + 1 < steps) {
                wait_for_wake();
            }
        }
        op_abandon(&test_op);
        test_woken = false;
        unpack_free(unpack);
        assert_true(steps < 1000);
    }
    close(descriptor);
    assert_content("e/b", "2");
}

/* The removal of what is left goes on after the unpacking: this goes on as long. */
static void wait_until_nothing_is_hidden(void) {
    while (count_hidden() > 0 || pending_files > 1) {
        struct dir_list list = {0};
        assert_int_equal(FINISH(file_readdir(&test_op, root, &list)), ERR_OK);
        dir_list_done(&list);
    }
}

static void test_given_up_while_replacing(void **state) {
    (void)state;
    tar_with_big('o');
    assert_int_equal(unpack_tar(), ERR_OK);
    tar_with_big('n');
    int descriptor = descriptor_of(tar.data, tar.length);
    bool ended = false, was_hidden = false;
    for (int steps = 1; !ended; steps++) {
        struct unpack_options options = {
            .directory = root, .descriptor = descriptor, .entries_max = 10, .bytes_max = MIB};
        struct unpack *unpack;
        assert_int_equal(unpack_new(&options, &unpack), ERR_OK);
        for (int i = 0; i < steps && !ended; i++) {
            enum err err = unpack_step(&test_op, unpack, &result, &message);
            ended = err != ERR_PENDING;
            if (!ended && i + 1 < steps) {
                wait_for_wake();
            }
        }
        was_hidden = was_hidden || count_hidden() > 0;
        op_abandon(&test_op);
        test_woken = false;
        unpack_free(unpack);
        wait_until_nothing_is_hidden();
        char byte = first_byte("big"); /* the new one once it has been renamed */
        assert_true(byte == 'n' || (byte == 'o' && !ended));
        assert_all_bytes("big", byte, BIG);
        assert_true(steps < 1000);
    }
    assert_true(was_hidden);
    close(descriptor);
}

static void test_looks_like_archive(void **state) {
    (void)state;
    tar_file("x", "y");
    assert_true(unpack_looks_like_archive((struct str){(char *)tar.data, 512}));
    assert_false(unpack_looks_like_archive((struct str){(char *)tar.data, 511}));
    tar.data[3] ^= 1;
    assert_false(unpack_looks_like_archive((struct str){(char *)tar.data, 512}));
    assert_false(unpack_looks_like_archive(STR("\0asm\1\0\0\0")));
    assert_false(unpack_looks_like_archive(STR("(module)")));
    assert_false(unpack_looks_like_archive(STR("")));
    char zeros[512] = {0};
    assert_false(unpack_looks_like_archive((struct str){zeros, 512}));
}

/* ---- packing ---- */

static void pack_all(struct file *directory, struct buf *ret_tar) {
    struct pack *pack;
    assert_int_equal(pack_new(directory, &pack), ERR_OK);
    uint8_t data[1000];
    size_t read;
    do {
        assert_int_equal(FINISH(pack_read(&test_op, pack, data, sizeof data, &read)), ERR_OK);
        assert_int_equal(buf_append(ret_tar, data, read), ERR_OK);
    } while (read > 0);
    pack_free(pack);
}

static void test_round_trip(void **state) {
    (void)state;
    tar_entry("d/", '5', NULL, NULL, 0);
    tar_entry("d/none/", '5', NULL, NULL, 0);
    tar_file("d/zw\xc3\xb6lf", "12");
    tar_entry("hard", '1', "d/zw\xc3\xb6lf", NULL, 0);
    tar_entry("\xc3\xa4", '2', "d/zw\xc3\xb6lf", NULL, 0);
    char name[100];
    memset(name, 'n', sizeof name);
    name[99] = 0;
    tar_file(name, "long");
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    /* A name that no plain header holds, and content of several pieces. */
    struct str names[] = {{NULL, 200}, STR("\xe2\x82\xac")};
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    names[0].data = long_name;
    struct file *made, *large;
    size_t written;
    assert_int_equal(file_create(&test_op, memory, names[0], FILE_DIRECTORY, &made), ERR_OK);
    assert_int_equal(file_create(&test_op, made, names[1], FILE_REGULAR, &large), ERR_OK);
    for (uint32_t i = 0; i < 50000; i++) {
        assert_int_equal(file_write(&test_op, large, &i, sizeof i, i * sizeof i, &written), ERR_OK);
    }
    file_unref(large);
    file_unref(made);

    struct buf packed = {0};
    pack_all(root, &packed);
    assert_true(packed.length > 200000);
    assert_int_equal(packed.length % 512, 0);
    file_unref(root);
    file_unref(memory);
    assert_int_equal(memory_new(&(struct memory_options){0}, &memory), ERR_OK);
    root = pending_wrap(file_ref(memory));
    assert_int_equal(unpack_bytes(packed.data, packed.length), ERR_OK);
    buf_done(&packed);

    assert_int_equal(result.files, 5);
    assert_content("d/zw\xc3\xb6lf", "12");
    assert_content(name, "long");
    assert_int_equal(stat_of("hard").inode, stat_of("d/zw\xc3\xb6lf").inode);
    assert_int_equal(stat_of("d").modified_ns, UINT64_C(1610612736) * NS_PER_S);
    assert_int_equal(stat_of("d/none").type, FILE_DIRECTORY);
    struct file *link = find("\xc3\xa4");
    struct buf target = {0};
    assert_int_equal(file_readlink(&test_op, link, &target), ERR_OK);
    assert_string_equal(buf_text(&target), "d/zw\xc3\xb6lf");
    buf_done(&target);
    file_unref(link);
    char path[256];
    snprintf(path, sizeof path, "%.200s/\xe2\x82\xac", long_name);
    assert_int_equal(stat_of(path).size, 200000);
    large = find(path);
    for (uint32_t i = 0; i < 50000; i += 999) {
        uint32_t value;
        assert_int_equal(
            file_read(&test_op, large, &value, sizeof value, i * sizeof value, &written), ERR_OK);
        assert_int_equal(value, i);
    }
    file_unref(large);
}

static void test_pack_given_up(void **state) {
    (void)state;
    tar_file("d/a", "1");
    tar_entry("l", '2', "d/a", NULL, 0);
    tar_end();
    assert_int_equal(unpack_tar(), ERR_OK);
    bool ended = false;
    for (int steps = 1; !ended; steps++) {
        struct pack *pack;
        assert_int_equal(pack_new(root, &pack), ERR_OK);
        for (int i = 0; i < steps && !ended; i++) {
            uint8_t data[512];
            size_t read = 1;
            enum err err = pack_read(&test_op, pack, data, sizeof data, &read);
            ended = err == ERR_OK && read == 0;
            if (err == ERR_PENDING && i + 1 < steps) {
                wait_for_wake();
            }
        }
        op_abandon(&test_op);
        test_woken = false;
        pack_free(pack);
        assert_true(steps < 1000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_files_directories_and_links),
        TEST(test_replaces_files_and_merges_directories),
        TEST(test_refusals),
        TEST(test_limits),
        TEST(test_deep_and_long_names),
        TEST(test_cut_off_anywhere),
        TEST(test_cut_in_a_file_that_replaces_another),
        TEST(test_cut_in_a_new_file),
        TEST(test_failures_of_the_device),
        TEST(test_leftovers_are_swept),
        TEST(test_not_an_archive),
        TEST(test_compressed),
        TEST(test_other_compressions_are_refused),
        TEST(test_sparse),
        TEST(test_diverted),
        TEST(test_refused_module),
        TEST(test_single),
        TEST(test_given_up),
        TEST(test_given_up_while_replacing),
        TEST(test_looks_like_archive),
        TEST(test_round_trip),
        TEST(test_pack_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
