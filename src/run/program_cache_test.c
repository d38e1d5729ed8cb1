/* Programs by hash: compiled once however many ask, taken over, refused, repaired, evicted. */
#include "run/run_suite_testing.h"

/* An app of a module that no other test has; its hash. */
static void make_module(const char *name, const char *body, uint8_t ret_sha256[SHA256_SIZE]) {
    cleanup_buf struct buf text = {0};
    assert_int_equal(
        buf_printf(&text, "(module (func (export \"_start\") %s) (func $%s))", body, name), ERR_OK);
    struct app *app = fixture_app(&fixture, name, buf_text(&text), NULL);
    memcpy(ret_sha256, app->version.module_sha256, SHA256_SIZE);
    app_unref(app);
}

/* Somebody who asks. */
struct asker {
    struct op op;
    struct program *program;
    enum err err;
    struct buf message;
};

static void asker_init(struct asker *asker) {
    *asker = (struct asker){.err = ERR_PENDING};
    op_init(&asker->op, fixture.loops[0], fixture.who, fixture_no_wake);
}

static void ask(struct asker *asker, const uint8_t sha256[SHA256_SIZE]) {
    if (asker->err == ERR_PENDING) {
        asker->err =
            runs_program(&asker->op, fixture.runs, sha256, &asker->program, &asker->message);
    }
}

static void asker_done(struct asker *asker) {
    op_done(&asker->op);
    program_unref(asker->program);
    buf_done(&asker->message);
}

static enum err get(const uint8_t sha256[SHA256_SIZE], struct program **ret_program,
                    struct buf *message) {
    struct asker asker;
    asker_init(&asker);
    while (asker.err == ERR_PENDING) {
        ask(&asker, sha256);
        loop_turn(fixture.loops[0]);
    }
    enum err err = asker.err;
    *ret_program = STEAL(asker.program);
    if (message) {
        assert_int_equal(buf_append_str(message, buf_str(&asker.message)), ERR_OK);
    }
    asker_done(&asker);
    return err;
}

static void compiled_path(const uint8_t sha256[SHA256_SIZE], struct buf *path) {
    assert_int_equal(catalog_compiled_path(fixture.catalog, engine_key(), sha256, path), ERR_OK);
}

static void test_shared(void **state) {
    (void)state;
    uint8_t sha256[SHA256_SIZE];
    make_module("shared", "nop", sha256);
    struct asker askers[5];
    for (size_t i = 0; i < ARRAY_LENGTH(askers); i++) {
        asker_init(&askers[i]);
        ask(&askers[i], sha256);
        assert_int_equal(askers[i].err, ERR_PENDING);
    }
    /* The driver, and one that waits, give up: the others get it all the same. */
    op_abandon(&askers[0].op);
    op_abandon(&askers[2].op);
    while (askers[1].err == ERR_PENDING || askers[3].err == ERR_PENDING ||
           askers[4].err == ERR_PENDING) {
        loop_turn(fixture.loops[0]);
        ask(&askers[1], sha256);
        ask(&askers[3], sha256);
        ask(&askers[4], sha256);
    }
    assert_int_equal(askers[1].err, ERR_OK);
    assert_int_equal(askers[3].err, ERR_OK);
    assert_int_equal(askers[4].err, ERR_OK);
    assert_ptr_equal(askers[1].program, askers[3].program);
    assert_ptr_equal(askers[1].program, askers[4].program);
    for (size_t i = 0; i < ARRAY_LENGTH(askers); i++) {
        asker_done(&askers[i]);
    }
    /* From now on it is there at once. */
    struct asker late;
    asker_init(&late);
    ask(&late, sha256);
    assert_int_equal(late.err, ERR_OK);
    asker_done(&late);
}

static void test_refused(void **state) {
    (void)state;
    uint8_t sha256[SHA256_SIZE];
    make_module("refused", "i32.const 1", sha256); /* leaves a value on the stack */
    struct program *program;
    cleanup_buf struct buf message = {0};
    assert_int_equal(get(sha256, &program, &message), ERR_NOEXEC);
    assert_true(message.length > 0);
    /* The second time at once, with the same words. */
    struct asker late;
    asker_init(&late);
    ask(&late, sha256);
    assert_int_equal(late.err, ERR_NOEXEC);
    assert_string_equal(buf_text(&late.message), buf_text(&message));
    asker_done(&late);
}

static void test_missing(void **state) {
    (void)state;
    uint8_t sha256[SHA256_SIZE] = {1, 2, 3};
    struct program *program;
    cleanup_buf struct buf message = {0};
    assert_int_not_equal(get(sha256, &program, &message), ERR_OK);
}

/* Compiled code that was altered, cut or removed is made again by itself. */
static void test_repaired(void **state) {
    (void)state;
    uint8_t sha256[SHA256_SIZE];
    make_module("repaired", "nop", sha256);
    struct program *program;
    assert_int_equal(get(sha256, &program, NULL), ERR_OK);
    program_unref(program);
    cleanup_buf struct buf path = {0};
    cleanup_buf struct buf good = {0};
    compiled_path(sha256, &path);
    assert_int_equal(fsio_read_file(buf_text(&path), GIB, &good), ERR_OK);
    for (int i = 0; i < 3; i++) {
        cleanup_buf struct buf bad = {0};
        assert_int_equal(buf_append_str(&bad, buf_str(&good)), ERR_OK);
        bad.data[bad.length / 2] ^= 1;
        if (i == 2) {
            assert_int_equal(fsio_remove_file(buf_text(&path)), ERR_OK);
        } else {
            assert_int_equal(
                fsio_replace_file(buf_text(&path), bad.data, i ? bad.length / 2 : bad.length),
                ERR_OK);
        }
        runs_forget_program(fixture.runs, sha256);
        assert_int_equal(get(sha256, &program, NULL), ERR_OK);
        program_unref(program);
        buf_done(&bad);
        assert_int_equal(fsio_read_file(buf_text(&path), GIB, &bad), ERR_OK);
        assert_true(str_equal(buf_str(&bad), buf_str(&good)));
    }
    runs_forget_program(fixture.runs, sha256);
    runs_forget_program(fixture.runs, sha256); /* harmless */
}

/* All give up while it is being compiled; later it is compiled all the same. */
static void test_abandoned(void **state) {
    (void)state;
    uint8_t sha256[SHA256_SIZE];
    make_module("abandoned", "nop", sha256);
    for (int turns = 0; turns < 20; turns++) {
        struct asker asker;
        asker_init(&asker);
        ask(&asker, sha256);
        for (int i = 0; i < turns && asker.err == ERR_PENDING; i++) {
            loop_turn(fixture.loops[0]);
            ask(&asker, sha256);
        }
        asker_done(&asker);
    }
    struct program *program;
    assert_int_equal(get(sha256, &program, NULL), ERR_OK);
    program_unref(program);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, finish)

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(test_shared),   TEST(test_refused),   TEST(test_missing),
        TEST(test_repaired), TEST(test_abandoned),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
