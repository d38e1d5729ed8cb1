#include "run/run_parameters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static enum err add(struct run_parameters *parameters, const char *text, struct buf *message) {
    struct str value = str_of(text);
    struct str name = str_cut(&value, '=');
    return run_parameters_add(parameters, name, value, message);
}

static void test_all_of_them(void **state) {
    (void)state;
    struct run_parameters parameters = {0};
    struct run_request request;
    static const char *const texts[] = {
        "arg=one",  "arg=",         "arg=a=b",     "env=K=V",    "env=E=",        "tag=user:7",
        "call=add", "root=fresh",   "stderr=off",  "stdin=open", "detach",        "keep=1m",
        "ttl=1h",   "version=3",    "memory=1MiB", "cpu=1s",     "wall=2s",       "output=1KiB",
        "disk=5",   "open_files=9", "files=7",     "tmp=6",      "queue_wait=3s",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(texts); i++) {
        assert_int_equal(add(&parameters, texts[i], NULL), ERR_OK);
    }
    /* What may be given once is refused when it comes again. */
    assert_int_equal(add(&parameters, "memory=2MiB", NULL), ERR_INVAL);
    assert_int_equal(add(&parameters, "version=4", NULL), ERR_INVAL);
    assert_int_equal(add(&parameters, "detach=0", NULL), ERR_INVAL);
    struct run_parameters empty = {0};
    assert_int_equal(add(&empty, "root=", NULL), ERR_INVAL);
    run_parameters_request(&parameters, &request);
    assert_true(request.has_arguments);
    assert_int_equal(request.argument_count, 3);
    assert_true(str_equal_text(request.arguments[0], "one"));
    assert_int_equal(request.arguments[1].length, 0);
    assert_true(str_equal_text(request.arguments[2], "a=b"));
    assert_int_equal(request.environment_count, 2);
    assert_true(str_equal_text(request.environment[0], "K=V"));
    assert_int_equal(request.tag_count, 1);
    assert_true(str_equal_text(request.call, "add"));
    assert_true(str_equal_text(request.root, "fresh"));
    assert_true(request.discard_stderr && request.stdin_open && request.detached);
    assert_int_equal(request.keep_ns, 60 * NS_PER_S);
    assert_int_equal(request.ttl_ns, 3600 * NS_PER_S);
    assert_int_equal(parameters.version_number, 3);
    assert_int_equal(request.limits.memory_bytes, MIB);
    assert_int_equal(request.limits.cpu_ns, NS_PER_S);
    assert_int_equal(request.limits.wall_ns, 2 * NS_PER_S);
    assert_int_equal(request.limits.output_bytes, KIB);
    assert_int_equal(request.limits.disk_bytes, 5);
    assert_int_equal(request.limits.disk_inodes, 7);
    assert_int_equal(request.limits.tmp_bytes, 6);
    assert_int_equal(request.limits.queue_wait_ns, 3 * NS_PER_S);
    assert_int_equal(request.limits.open_files, 9);
    run_parameters_done(&parameters);
    run_parameters_request(&parameters, &request);
    assert_false(request.has_arguments);
}

static void test_not_valid(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum err err;
        const char *message;
    } wrong[] = {
        {"memory=lots", ERR_INVAL,
         "memory='lots' is not valid; write it like memory=64MiB: from 1 to what the app has"},
        {"memory=0", ERR_INVAL,
         "memory='0' is not valid; write it like memory=64MiB: from 1 to what the app has"},
        {"cpu=0", ERR_INVAL,
         "cpu='0' is not valid; write it like cpu=500ms: from 1ms to what the app has"},
        {"wall=0", ERR_INVAL,
         "wall='0' is not valid; write it like wall=10s: from 1ms to what the app has"},
        {"wall=999999us", ERR_OK, ""},
        {"wall=999us", ERR_INVAL,
         "wall='999us' is not valid; write it like wall=10s: from 1ms to what the app has"},
        {"wall=", ERR_INVAL,
         "wall='' is not valid; write it like wall=10s: from 1ms to what the app has"},
        {"open_files=7", ERR_INVAL,
         "open_files='7' is not valid; write it like open_files=64: from 8 to what the app has"},
        {"stdin=bogus", ERR_INVAL, "stdin='bogus' is not valid; write stdin=open, or leave it out"},
        {"stdin=", ERR_INVAL, "stdin='' is not valid; write stdin=open, or leave it out"},
        {"trace", ERR_OK, ""},
        {"trace=", ERR_OK, ""},
        {"trace=yes", ERR_INVAL,
         "trace='yes' is not valid; write trace without a value, or leave it out"},
        {"core=1", ERR_INVAL, "core='1' is not valid; write core without a value, or leave it out"},
        {"detach=no", ERR_INVAL,
         "detach='no' is not valid; write detach without a value, or leave it out"},
        {"env=X", ERR_INVAL, "env='X' is not KEY=VALUE"},
        {"env==X", ERR_INVAL, "env='=X' is not KEY=VALUE"},
        {"stderr=maybe", ERR_INVAL, "stderr is 'on' or 'off'"},
        {"keep=x", ERR_INVAL, "keep='x' is not a time like 10m, up to 365d"},
        {"keep=365d", ERR_OK, ""},
        {"keep=366d", ERR_INVAL, "keep='366d' is too long: it is at most 365d"},
        {"keep=999999d", ERR_INVAL, "keep='999999d' is too long: it is at most 365d"},
        {"ttl=0", ERR_INVAL, "ttl='0' is not a time like 1h, from 1ms to 365d"},
        {"ttl=366d", ERR_INVAL, "ttl='366d' is not a time like 1h, from 1ms to 365d"},
        {"ttl=99999999999999999999d", ERR_INVAL,
         "ttl='99999999999999999999d' is not a time like 1h, from 1ms to 365d"},
        {"version=0", ERR_INVAL, "version='0' is no version's number"},
        {"version=4294967296", ERR_INVAL, "version='4294967296' is no version's number"},
        {"colour=red", ERR_NOENT, ""},
        {"", ERR_NOENT, ""},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        struct run_parameters parameters = {0};
        cleanup_buf struct buf message = {0};
        assert_int_equal(add(&parameters, wrong[i].text, &message), wrong[i].err);
        assert_string_equal(buf_text(&message), wrong[i].message);
        run_parameters_done(&parameters);
    }
    for (size_t i = 0; run_parameters_name(i); i++) {
        struct run_parameters parameters = {0};
        struct str name = str_of(run_parameters_name(i));
        assert_int_not_equal(run_parameters_add(&parameters, name, STR("1"), NULL), ERR_NOENT);
        run_parameters_done(&parameters);
    }
}

/* Not kept at all, rather than as long as usual. */
static void test_keep_nothing(void **state) {
    (void)state;
    struct run_parameters parameters = {0};
    struct run_request request;
    assert_int_equal(add(&parameters, "keep=0", NULL), ERR_OK);
    run_parameters_request(&parameters, &request);
    assert_int_equal(request.keep_ns, 1);
    run_parameters_done(&parameters);
}

static void test_too_many(void **state) {
    (void)state;
    struct run_parameters parameters = {0};
    cleanup_buf struct buf message = {0};
    for (int i = 0; i < RUN_ARGUMENTS_MAX; i++) {
        assert_int_equal(add(&parameters, "arg=x", NULL), ERR_OK);
    }
    assert_int_equal(add(&parameters, "arg=x", &message), ERR_2BIG);
    assert_string_equal(buf_text(&message), "arguments: more than 4096");
    run_parameters_done(&parameters);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_them),
        cmocka_unit_test(test_not_valid),
        cmocka_unit_test(test_keep_nothing),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
