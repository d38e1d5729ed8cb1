#include "store/app_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    return json;
}

/* The message contains all of these words, which a bar separates. */
static void refuse(const char *text, enum err expected, const char *words) {
    cleanup_buf struct buf message = {0};
    struct app_limits limits = {.queue = 77};
    json_t *config = parse(text);
    enum err err = app_config_check(config, &limits, &message);
    if (err != expected) {
        fail_msg("%s: %s (%s)", text, err_name(err), buf_text(&message));
    }
    assert_int_equal(limits.queue, 77);
    struct str rest = str_of(words);
    while (rest.length > 0) {
        struct str word = str_cut(&rest, '|');
        if (!memmem(message.data, message.length, word.data, word.length)) {
            fail_msg("%s: no '" STR_FORMAT "' in: %s", text, STR_ARGS(word), buf_text(&message));
        }
    }
    json_decref(config);
}

static void show(const char *text, const char *expected) {
    cleanup_buf struct buf message = {0};
    json_t *config = parse(text), *shown = NULL, *again = NULL;
    if (app_config_show(config, &shown, &message)) {
        fail_msg("%s: %s", text, buf_text(&message));
    }
    char *result = json_dumps(shown, JSON_COMPACT);
    assert_string_equal(result, expected);
    /* The canonical form is its own canonical form. */
    assert_int_equal(app_config_show(shown, &again, NULL), ERR_OK);
    assert_true(json_equal(shown, again));
    free(result);
    json_decref(config);
    json_decref(shown);
    json_decref(again);
}

static void test_limits(void **state) {
    (void)state;
    json_t *config =
        parse("{\"memory\": \"64MiB\", \"cpu\": 5, \"wall\": \"500ms\", \"output\": 10,"
              "\"disk\": \"1GiB\", \"files\": \"1000\", \"tmp\": \"1k\","
              "\"open_files\": 8, \"max_runs\": 3, \"queue\": 4}");
    struct app_limits limits = {0};
    assert_int_equal(app_config_check(config, &limits, NULL), ERR_OK);
    assert_int_equal(limits.memory_bytes, 64 * MIB);
    assert_int_equal(limits.cpu_ns, 5 * NS_PER_S);
    assert_int_equal(limits.wall_ns, 500 * NS_PER_MS);
    assert_int_equal(limits.output_bytes, 10);
    assert_int_equal(limits.disk_bytes, GIB);
    assert_int_equal(limits.disk_inodes, 1000);
    assert_int_equal(limits.tmp_bytes, KIB);
    assert_int_equal(limits.open_files, 8);
    assert_int_equal(limits.max_runs, 3);
    assert_int_equal(limits.queue, 4);
    json_decref(config);
    config = parse("{}");
    assert_int_equal(app_config_check(config, &limits, NULL), ERR_OK);
    assert_int_equal(limits.memory_bytes, 0);
    json_decref(config);
}

static void test_canonical_form(void **state) {
    (void)state;
    show("{}", "{}");
    show("{\"env\": {\"A\": \"\"}, \"args\": [\"\"], \"memory\": 67108864, \"web\": \"off\"}",
         "{\"web\":\"off\",\"memory\":\"64MiB\",\"args\":[\"\"],\"env\":{\"A\":\"\"}}");
    show("{\"memory\": 65537, \"wall\": 90, \"cpu\": \"1500ms\", \"max_runs\": \"7\"}",
         "{\"memory\":\"65537\",\"wall\":\"90s\",\"cpu\":\"1500ms\",\"max_runs\":7}");
    show("{\"wall\": 3600, \"cpu\": 86400}", "{\"wall\":\"1h\",\"cpu\":\"1d\"}");
    show("{\"memory\": null, \"net\": \"none\"}", "{\"net\":\"none\"}");
    show("{\"net\": [\"example.org\", \"*.example.org:443\", \"10.0.0.1:80\", \"[::1]:8080\","
         "\"[::1]\"], \"mounts\": [\"a:/b\", \"c:/d/e:ro\"]}",
         "{\"mounts\":[\"a:/b\",\"c:/d/e:ro\"],\"net\":[\"example.org\",\"*.example.org:443\","
         "\"10.0.0.1:80\",\"[::1]:8080\",\"[::1]\"]}");
}

static void test_refusals(void **state) {
    (void)state;
    refuse("[]", ERR_INVAL, "JSON object");
    refuse("{\"memroy\": 1}", ERR_INVAL, "'memroy'|did you mean 'memory'|max_runs");
    refuse("{\"memory_max\": 1}", ERR_INVAL, "did you mean 'memory'");
    refuse("{\"maxruns\": 1}", ERR_INVAL, "did you mean 'max_runs'");
    refuse("{\"zzzzzzzzzz\": 1}", ERR_INVAL, "'zzzzzzzzzz'; the keys are|mounts");
    refuse("{\"a\\nb\": 1}", ERR_INVAL, "'a?b'");
    refuse("{\"memory\": \"lots\"}", ERR_INVAL, "'memory'|64MiB|64KiB|4GiB");
    refuse("{\"memory\": 1.5}", ERR_INVAL, "'memory'|a size");
    refuse("{\"memory\": 0}", ERR_INVAL, "'memory'|from 64KiB to 4GiB");
    refuse("{\"memory\": -1}", ERR_INVAL, "'memory'|from 64KiB to 4GiB");
    refuse("{\"memory\": \"5GiB\"}", ERR_INVAL, "'memory'|to 4GiB");
    refuse("{\"memory\": \"99999999999999999999\"}", ERR_INVAL, "'memory'|to 4GiB");
    refuse("{\"wall\": \"0s\"}", ERR_INVAL, "'wall'|1ms to 30d");
    refuse("{\"wall\": 9223372036854775807}", ERR_INVAL, "'wall'|1ms to 30d");
    refuse("{\"wall\": true}", ERR_INVAL, "'wall'|\"10s\"");
    refuse("{\"max_runs\": \"1k\"}", ERR_INVAL, "'max_runs'|whole number");
    refuse("{\"web\": \"open\"}", ERR_INVAL, "'web'|off private public");
    refuse("{\"web\": \"\"}", ERR_INVAL, "'web'");
    refuse("{\"web\": \"off private\"}", ERR_INVAL, "'web'");
    refuse("{\"args\": \"-v\"}", ERR_INVAL, "'args'|list");
    refuse("{\"args\": [1]}", ERR_INVAL, "'args'|number 1");
    refuse("{\"env\": [\"A=B\"]}", ERR_INVAL, "'env'|object");
    refuse("{\"env\": {\"A=B\": \"C\"}}", ERR_INVAL, "'env'|'A=B'");
    refuse("{\"env\": {\"\": \"C\"}}", ERR_INVAL, "'env'");
    refuse("{\"env\": {\"A/B\": \"C\"}}", ERR_INVAL, "'env'");
    refuse("{\"env\": {\"A\": 1}}", ERR_INVAL, "'env'|'A'");
    refuse("{\"mounts\": [\"v:/tmp/x\"]}", ERR_INVAL, "'mounts'|system");
    refuse("{\"mounts\": [\"v:/\"]}", ERR_INVAL, "'mounts'|below /");
    refuse("{\"mounts\": [\"v:a\"]}", ERR_INVAL, "'mounts'|absolute");
    refuse("{\"mounts\": [\"v:/a/\"]}", ERR_INVAL, "'mounts'|empty component");
    refuse("{\"mounts\": [\"v:/a//b\"]}", ERR_INVAL, "'mounts'|empty component");
    refuse("{\"mounts\": [\"v:/a/../b\"]}", ERR_INVAL, "'mounts'|'..'");
    refuse("{\"mounts\": [\"v:/1/2/3/4/5/6/7/8/9\"]}", ERR_INVAL, "'mounts'|too deep");
    refuse("{\"mounts\": [\"V:/a\"]}", ERR_INVAL, "'mounts'|VOLUME:/PATH");
    refuse("{\"mounts\": [\"v\"]}", ERR_INVAL, "'mounts'");
    refuse("{\"mounts\": [\"v:/a:rw\"]}", ERR_INVAL, "'mounts'|:ro");
    refuse("{\"mounts\": [\"v:/a\", \"w:/a:ro\"]}", ERR_INVAL, "'mounts'|two volumes");
    refuse("{\"net\": \"all\"}", ERR_INVAL, "'net'|public|none");
    refuse("{\"net\": [\"http://x\"]}", ERR_INVAL, "'net'|number 1");
    refuse("{\"net\": [\"x:0\"]}", ERR_INVAL, "'net'");
    refuse("{\"net\": [\"x:\"]}", ERR_INVAL, "'net'");
    refuse("{\"net\": [\"*\"]}", ERR_INVAL, "'net'");
    refuse("{\"net\": [\"[::1\"]}", ERR_INVAL, "'net'");
    refuse("{\"net\": [\"[::1]x:1\"]}", ERR_INVAL, "'net'");
}

static void test_nul_and_many(void **state) {
    (void)state;
    json_t *config = json_pack("{s:[s#]}", "args", "a\0b", 3);
    cleanup_buf struct buf message = {0};
    assert_int_equal(app_config_check(config, NULL, &message), ERR_INVAL);
    json_decref(config);
    config = json_pack("{s:[]}", "args");
    for (int i = 0; i < APP_ARGUMENTS_MAX; i++) {
        json_array_append_new(json_object_get(config, "args"), json_string("a"));
    }
    assert_int_equal(app_config_check(config, NULL, NULL), ERR_OK);
    json_array_append_new(json_object_get(config, "args"), json_string("a"));
    assert_int_equal(app_config_check(config, NULL, NULL), ERR_2BIG);
    json_decref(config);
    char *big = calloc(1, APP_ARGUMENTS_BYTES_MAX + 1);
    memset(big, 'x', APP_ARGUMENTS_BYTES_MAX);
    config = json_pack("{s:{s:s}}", "env", "A", big);
    assert_int_equal(app_config_check(config, NULL, NULL), ERR_2BIG);
    json_decref(config);
    free(big);
}

static void test_merge(void **state) {
    (void)state;
    json_t *old = parse("{\"memory\": \"64MiB\", \"args\": [\"a\", \"b\"], \"cpu\": \"1s\"}");
    json_t *changes = parse("{\"args\": [\"c\"], \"cpu\": null, \"wall\": 2}");
    json_t *merged = NULL;
    assert_int_equal(app_config_merge(old, changes, &merged, NULL), ERR_OK);
    char *text = json_dumps(merged, JSON_COMPACT);
    assert_string_equal(text, "{\"memory\":\"64MiB\",\"wall\":\"2s\",\"args\":[\"c\"]}");
    free(text);
    /* Neither was changed. */
    assert_int_equal(json_array_size(json_object_get(old, "args")), 2);
    assert_true(json_is_null(json_object_get(changes, "cpu")));
    json_decref(merged);
    merged = NULL;
    json_decref(changes);
    changes = parse("{\"memory\": \"x\"}");
    assert_int_equal(app_config_merge(NULL, changes, &merged, NULL), ERR_INVAL);
    assert_null(merged);
    json_decref(changes);
    json_decref(old);
}

static enum err merge_texts(const char *old_text, const char *changes_text) {
    json_t *old = parse(old_text), *changes = parse(changes_text), *merged = NULL;
    cleanup_buf struct buf message = {0};
    enum err err = app_config_merge(old, changes, &merged, &message);
    assert_true(!err || strstr(buf_text(&message), "ttl= is for a volume by name"));
    json_decref(merged);
    json_decref(changes);
    json_decref(old);
    return err;
}

static void test_ttl_is_for_a_volume_by_name(void **state) {
    (void)state;
    const char *const both = "{\"root\": \"fresh\", \"ttl\": \"1h\"}";
    assert_int_equal(merge_texts("{}", both), ERR_INVAL);
    assert_int_equal(merge_texts("{}", "{\"root\": \"keep\", \"ttl\": \"1h\"}"), ERR_INVAL);
    assert_int_equal(merge_texts("{\"root\": \"ro\"}", "{\"ttl\": \"1h\"}"), ERR_INVAL);
    assert_int_equal(merge_texts("{\"ttl\": \"1h\"}", "{\"root\": \"ro\"}"), ERR_INVAL);
    assert_int_equal(merge_texts("{}", "{\"root\": \"s\", \"ttl\": \"1h\"}"), ERR_OK);
    assert_int_equal(merge_texts("{}", "{\"ttl\": \"1h\"}"), ERR_OK); /* of root= of its runs */
    assert_int_equal(merge_texts("{\"ttl\": \"1h\"}", "{\"root\": \"ro\", \"ttl\": null}"), ERR_OK);
    assert_int_equal(merge_texts(both, "{\"cpu\": \"1s\"}"), ERR_OK); /* it was kept before */
    json_t *config = parse(both);
    assert_int_equal(app_config_check_session(config, NULL), ERR_INVAL);
    json_decref(config);
}

static void add(json_t *changes, const char *option, const char *value, enum err expected) {
    cleanup_buf struct buf message = {0};
    assert_int_equal(app_config_add_option(changes, str_of(option), str_of(value), &message),
                     expected);
    assert_int_equal(message.length > 0, expected == ERR_INVAL);
}

static void test_options(void **state) {
    (void)state;
    json_t *changes = json_object(), *shown = NULL;
    add(changes, "arg", "-v", ERR_OK);
    add(changes, "arg", "", ERR_OK);
    add(changes, "env", "A=1=2", ERR_OK);
    add(changes, "env", "B=", ERR_OK);
    add(changes, "env", "A=3", ERR_OK);
    add(changes, "mount", "v:/data:ro", ERR_OK);
    add(changes, "net", "example.org", ERR_OK);
    add(changes, "net", "*.example.com:443", ERR_OK);
    add(changes, "memory", "64MiB", ERR_OK);
    add(changes, "memory", "65MiB", ERR_INVAL);
    add(changes, "queue", "", ERR_OK);
    add(changes, "net", "none", ERR_INVAL);
    add(changes, "env", "A", ERR_INVAL);
    add(changes, "env", "=A", ERR_INVAL);
    add(changes, "wall", "\xff", ERR_INVAL);
    add(changes, "name", "x", ERR_NOENT);
    assert_int_equal(app_config_show(changes, &shown, NULL), ERR_OK);
    char *text = json_dumps(shown, JSON_COMPACT);
    assert_string_equal(text, "{\"memory\":\"64MiB\",\"args\":[\"-v\",\"\"],"
                              "\"env\":{\"A\":\"3\",\"B\":\"\"},\"mounts\":[\"v:/data:ro\"],"
                              "\"net\":[\"example.org\",\"*.example.com:443\"]}");
    free(text);
    json_decref(shown);
    add(changes, "args", "", ERR_OK);
    add(changes, "mounts", "", ERR_OK);
    add(changes, "env", "", ERR_OK);
    add(changes, "net", "", ERR_OK);
    assert_int_equal(app_config_show(changes, &shown, NULL), ERR_OK);
    text = json_dumps(shown, JSON_COMPACT);
    assert_string_equal(text, "{\"memory\":\"64MiB\",\"args\":[],\"env\":{},\"mounts\":[]}");
    free(text);
    json_decref(shown);
    json_decref(changes);
}

static void test_names(void **state) {
    (void)state;
    cleanup_buf struct buf message = {0};
    char name[APP_NAME_MAX + 2];
    memset(name, 'a', sizeof name);
    assert_int_equal(app_name_check((struct str){name, APP_NAME_MAX}, &message), ERR_OK);
    assert_int_equal(app_name_check((struct str){name, APP_NAME_MAX + 1}, &message), ERR_INVAL);
    static const char *const good[] = {"a", "0", "a-b_c9", "a_", "9-"};
    static const char *const bad[] = {"",    "-a",  "_a",       "A",   "a.b",
                                      "a/b", "a b", "\xc3\xa4", "a\n", "self"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_int_equal(app_name_check(str_of(good[i]), NULL), ERR_OK);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(app_name_check(str_of(bad[i]), &message), ERR_INVAL);
        assert_true(message.length > 0 && str_is_utf8(buf_str(&message)));
        assert_null(strchr(buf_text(&message), '\n'));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_canonical_form),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nul_and_many),
        cmocka_unit_test(test_ttl_is_for_a_volume_by_name),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
