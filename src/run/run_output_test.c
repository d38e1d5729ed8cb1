/* The ordered record of output, against a model: every byte, its stream and its order. */
#include "run/internal.h"
#include "run/run_testing.h"

static struct fixture fixture; /* for its catalog: where spool files are made */

static int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fixture_done(&fixture);
    return 0;
}

/* The model: each byte and its stream. */
struct model {
    struct buf bytes, streams;
};

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void append(struct output *output, struct model *model, unsigned stream, const void *data,
                   size_t length, uint64_t time_ns) {
    assert_int_equal(output_append(output, fixture.catalog, stream, data, length, time_ns), ERR_OK);
    assert_int_equal(buf_append(&model->bytes, data, length), ERR_OK);
    for (size_t i = 0; i < length; i++) {
        assert_int_equal(buf_append_byte(&model->streams, (uint8_t)stream), ERR_OK);
    }
}

/* Reads from `offset` to the end with a reader that keeps its place, in pieces of `size`. */
static void check_from(const struct output *output, const struct model *model, uint64_t offset,
                       unsigned streams, size_t size) {
    struct run_reader reader = {.offset = offset};
    uint8_t *data = malloc(size);
    assert_non_null(data);
    size_t expected = (size_t)MIN(offset, output->length);
    for (;;) {
        size_t length;
        struct output_frame frame;
        bool more = output_seek(output, &reader, streams);
        assert_int_equal(output_read(output, &reader, streams, data, size, &length, &frame),
                         ERR_OK);
        assert_int_equal(more, length > 0);
        if (length == 0) {
            break;
        }
        while (!(model->streams.data[expected] & streams)) {
            expected++;
        }
        assert_int_equal(reader.offset, expected + length);
        assert_memory_equal(data, model->bytes.data + expected, length);
        for (size_t i = 0; i < length; i++) {
            assert_int_equal(model->streams.data[expected + i], frame.stream);
        }
        expected += length;
    }
    while (expected < model->bytes.length && !(model->streams.data[expected] & streams)) {
        expected++;
    }
    assert_int_equal(expected, model->bytes.length);
    assert_int_equal(reader.offset, output->length);
    free(data);
}

static void done(struct output *output, struct model *model) {
    output_done(output);
    buf_done(&model->bytes);
    buf_done(&model->streams);
}

#define BYTEWISE_OF_SPOOL 100000 /* each is a system call or two */

static void test_model(void **state) {
    (void)state;
    static uint8_t data[200000];
    for (uint32_t seed = 1; seed <= 6; seed++) {
        uint32_t random = seed;
        struct output output;
        struct model model = {0};
        output_init(&output);
        check_from(&output, &model, 0, 3, 10);
        uint64_t time_ns = 1000;
        size_t largest = seed % 2 ? 300 : sizeof(data);
        for (int i = 0; i < 200; i++) {
            size_t length = 1 + next_random(&random) % largest;
            if (seed == 5) {
                length = 1; /* nothing but headers, nearly */
            }
            for (size_t j = 0; j < length; j++) {
                data[j] = (uint8_t)next_random(&random);
            }
            time_ns += next_random(&random) % (2 * OUTPUT_MERGE_NS);
            append(&output, &model, 1 + next_random(&random) % 2, data, length, time_ns);
        }
        assert_int_equal(output.length, model.bytes.length);
        assert_int_equal(output.spool >= 0, output.size > OUTPUT_MEMORY_MAX);
        /* Byte for byte all that is in memory, or a part of what is on disk. */
        uint64_t last = output.spool < 0 ? output.length : BYTEWISE_OF_SPOOL;
        check_from(&output, &model, output.length - last, 3, 1);
        for (int i = 0; i < 30; i++) {
            uint64_t offset = i ? next_random(&random) % (output.length + 10) : 0;
            check_from(&output, &model, offset, 1 + (unsigned)i % 3, 4099 + (size_t)i * 7919);
        }
        done(&output, &model);
    }
}

/* A reader that is at the end goes on where the last frame grows. */
static void test_follow(void **state) {
    (void)state;
    struct output output;
    struct model model = {0};
    output_init(&output);
    struct run_reader reader = {0};
    char data[10];
    size_t length;
    struct output_frame frame;
    append(&output, &model, RUN_STDOUT, "ab", 2, 1);
    assert_int_equal(output_read(&output, &reader, 3, data, 1, &length, &frame), ERR_OK);
    assert_int_equal(length, 1);
    assert_int_equal(output_read(&output, &reader, 3, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 1);
    assert_int_equal(output_read(&output, &reader, 3, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 0);
    append(&output, &model, RUN_STDOUT, "cd", 2, 2);
    assert_int_equal(output.frame_count, 1);
    assert_int_equal(output_read(&output, &reader, 3, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 2);
    assert_memory_equal(data, "cd", 2);
    /* One that selects the other stream waits behind what is not for it. */
    reader = (struct run_reader){0};
    assert_int_equal(output_read(&output, &reader, RUN_STDERR, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 0);
    append(&output, &model, RUN_STDOUT, "ef", 2, 3);
    append(&output, &model, RUN_STDERR, "!", 1, 3);
    assert_int_equal(output_read(&output, &reader, RUN_STDERR, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 1);
    assert_int_equal(data[0], '!');
    assert_int_equal(reader.offset, 7);
    /* Far behind the end is the end. */
    reader = (struct run_reader){.offset = UINT64_MAX};
    assert_int_equal(output_read(&output, &reader, 3, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 0);
    assert_int_equal(reader.offset, 7);
    /* Later writes have a frame and a time of their own. */
    append(&output, &model, RUN_STDERR, "?", 1, 3 + OUTPUT_MERGE_NS);
    assert_int_equal(output_read(&output, &reader, 3, data, 10, &length, &frame), ERR_OK);
    assert_int_equal(length, 1);
    assert_int_equal(frame.time_ns, 3 + OUTPUT_MERGE_NS);
    done(&output, &model);
}

/* Short writes to both streams in turn can't make the record much larger than its limit. */
static void test_charge(void **state) {
    (void)state;
    struct output output;
    struct model model = {0};
    output_init(&output);
    append(&output, &model, RUN_STDOUT, "x", 1, 1);
    assert_int_equal(output_charged(&output), 1);
    for (int i = 0; i < 100000; i++) {
        append(&output, &model, 1 + (unsigned)i % 2, "x", 1, 1);
    }
    assert_true(output_charged(&output) + OUTPUT_FREE_HEADERS_MAX + output.length / 4 >=
                output.size);
    done(&output, &model);
    /* Lines of usual length cost what they are. */
    for (int i = 0; i < 1000; i++) {
        append(&output, &model, 1 + (unsigned)i % 2,
               "a line of usual length, as programs write them, more or less\n", 62, 1);
    }
    assert_int_equal(output_charged(&output), output.length);
    done(&output, &model);
}

/* A record that forgets what was taken: no byte is lost, and within its room it stays in memory. */
static void test_forget(void **state) {
    (void)state;
    static uint8_t data[OUTPUT_MEMORY_MAX], taken[OUTPUT_MEMORY_MAX];
    for (uint32_t seed = 1; seed <= 4; seed++) {
        uint32_t random = seed;
        struct output output;
        output_init(&output);
        output.forgets = true;
        struct run_reader reader = {0}, other = {0};
        uint64_t written = 0, read = 0;
        if (seed == 4) { /* more than there is room for, before anybody reads */
            for (size_t i = 0; i < sizeof(data); i++) {
                data[i] = (uint8_t)((written + i) * 7 >> 3);
            }
            for (int i = 0; i < 2; i++, written += sizeof(data)) {
                assert_int_equal(
                    output_append(&output, fixture.catalog, RUN_STDOUT, data, sizeof(data), 1),
                    ERR_OK);
            }
            assert_int_equal(output_room(&output), 0);
            assert_true(output.spool >= 0);
            assert_int_equal(output_charged(&output), output.size);
        }
        for (int i = 0; i < 500; i++) {
            size_t length = 1 + next_random(&random) % (seed * 40000);
            length = MIN(length, output_room(&output));
            for (size_t j = 0; j < length; j++) {
                data[j] = (uint8_t)((written + j) * 7 >> 3);
            }
            assert_int_equal(output_append(&output, fixture.catalog, RUN_STDOUT, data, length,
                                           1 + (uint64_t)i * OUTPUT_MERGE_NS / 2),
                             ERR_OK);
            written += length;
            struct output_frame frame;
            size_t got = 0;
            size_t size = 1 + next_random(&random) % (seed * 45000);
            assert_int_equal(
                output_read(&output, &reader, 3, taken, MIN(size, sizeof(taken)), &got, &frame),
                ERR_OK);
            for (size_t j = 0; j < got; j++) {
                data[j] = (uint8_t)((read + j) * 7 >> 3);
            }
            assert_memory_equal(taken, data, got);
            read += got;
            output_forget(&output, &reader);
            assert_true(output.spool < 0 || seed == 4);
            if (i % 7 == 0) { /* one that is not heeded begins where there is something left */
                assert_int_equal(output_read(&output, &other, 3, taken, 100, &got, &frame), ERR_OK);
                assert_true(other.offset >= output.base_offset && other.offset <= written);
            }
        }
        assert_int_equal(reader.offset, read);
        assert_true(written - read <= OUTPUT_MEMORY_MAX);
        while (read < written) {
            struct output_frame frame;
            size_t got = 0;
            assert_int_equal(output_read(&output, &reader, 3, taken, sizeof(taken), &got, &frame),
                             ERR_OK);
            assert_true(got > 0);
            read += got;
            output_forget(&output, &reader);
        }
        assert_int_equal(output_charged(&output), 0);
        output_trim(&output);
        assert_ptr_equal(output.memory, output.small);
        output_done(&output);
    }
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_follow),
        cmocka_unit_test(test_charge),
        cmocka_unit_test(test_forget),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
