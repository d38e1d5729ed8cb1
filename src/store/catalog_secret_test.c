#include "store/catalog_testing.h"
#include "store/secret.h"

#include <sys/stat.h>

static const struct str somewhere = STR("api.example.org\n");

static void set(struct catalog *catalog, const struct app *app, const char *name, const char *value,
                const struct str *hosts, bool is_new) {
    bool created = !is_new;
    cleanup_buf struct buf message = {0};
    assert_ok(catalog_secret_set(&op, catalog, app, str_of(name), str_of(value), hosts, &created,
                                 &message));
    assert_int_equal(created, is_new);
}

/* What the network gets for api.example.org:443. */
static void assert_secret(struct catalog *catalog, const struct app *app, const char *name,
                          enum err expected, const char *text) {
    cleanup_wiped_buf struct buf value = {0};
    cleanup_buf struct buf message = {0};
    enum err err = DO(catalog_secret(&op, catalog, app, str_of(name), STR("api.example.org"), 443,
                                     &value, &message));
    assert_string_equal(err_name(err), err_name(expected));
    if (err) {
        assert_int_equal(value.length, 0);
        if (!strstr(buf_text(&message), text)) {
            fail_msg("'%s' does not say '%s'", buf_text(&message), text);
        }
        assert_null(strstr(buf_text(&message), "hunter2"));
    } else {
        assert_string_equal(buf_text(&value), text);
    }
}

static void assert_list(struct catalog *catalog, const struct app *app, const char *expected) {
    struct secret_info *list = NULL;
    size_t count = 0;
    cleanup_buf struct buf message = {0};
    cleanup_buf struct buf text = {0};
    assert_ok(catalog_secret_list(&op, catalog, app, &list, &count, &message));
    for (size_t i = 0; i < count; i++) {
        assert_true(list[i].changed_ns > 0);
        assert_int_equal(buf_printf(&text, "%s:%s", list[i].name, list[i].hosts), ERR_OK);
    }
    assert_string_equal(buf_text(&text), expected);
    secret_list_free(list, count);
}

static bool file_has(const char *path, const char *text) {
    cleanup_buf struct buf content = {0};
    enum err err = fsio_read_file(path, 64 * MIB, &content);
    assert_true(err == ERR_OK || err == ERR_NOENT);
    return content.length > 0 && memmem(content.data, content.length, text, strlen(text));
}

static void test_written_not_seen(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    upload_ok(catalog, "b", "one", NULL);
    struct app *a = find_app(catalog, "a"), *b = find_app(catalog, "b");
    assert_list(catalog, a, "");
    set(catalog, a, "TOKEN", "hunter2-first", &somewhere, true);
    set(catalog, a, "B", "hunter2-other", NULL, true);
    set(catalog, b, "TOKEN", "hunter2-b", &somewhere, true);
    assert_list(catalog, a, "B:TOKEN:api.example.org\n");
    assert_secret(catalog, a, "TOKEN", ERR_OK, "hunter2-first");
    assert_secret(catalog, b, "TOKEN", ERR_OK, "hunter2-b");
    assert_secret(catalog, a, "B", ERR_ACCES, "not bound to api.example.org:443");
    assert_secret(catalog, a, "C", ERR_NOENT, "'a' has no secret 'C'");
    /* A new value keeps its hosts unless others are given. */
    set(catalog, a, "TOKEN", "hunter2-second", NULL, false);
    assert_secret(catalog, a, "TOKEN", ERR_OK, "hunter2-second");
    const struct str nowhere = STR("");
    set(catalog, a, "TOKEN", "hunter2-second", &nowhere, false);
    assert_secret(catalog, a, "TOKEN", ERR_ACCES, "not bound");
    set(catalog, a, "TOKEN", "hunter2-third", &somewhere, false);
    /* A new name of the app, and a new start. */
    assert_ok(catalog_rename(&op, catalog, STR("a"), STR("c")));
    app_unref(a);
    app_unref(b);
    catalog_free(catalog);
    assert_false(file_has(in_state("catalog.db"), "hunter2"));
    assert_false(file_has(in_state("catalog.db-wal"), "hunter2"));
    struct stat key;
    assert_int_equal(stat(in_state("secrets.key"), &key), 0);
    assert_int_equal(key.st_mode & 0777, 0600);
    assert_int_equal(key.st_size, 32);
    catalog = open_catalog();
    a = find_app(catalog, "c");
    b = find_app(catalog, "b");
    assert_secret(catalog, a, "TOKEN", ERR_OK, "hunter2-third");
    cleanup_buf struct buf message = {0};
    assert_ok(catalog_secret_remove(&op, catalog, a, STR("TOKEN"), &message));
    assert_err(catalog_secret_remove(&op, catalog, a, STR("TOKEN"), &message), NOENT);
    assert_secret(catalog, a, "TOKEN", ERR_NOENT, "no secret");
    assert_secret(catalog, b, "TOKEN", ERR_OK, "hunter2-b");
    assert_ok(catalog_remove(&op, catalog, STR("b")));
    assert_secret(catalog, b, "TOKEN", ERR_NOENT, "no secret");
    assert_err(catalog_secret_set(&op, catalog, b, STR("X"), STR("x"), NULL, NULL, &message),
               NOENT);
    app_unref(a);
    app_unref(b);
    catalog_free(catalog);
}

static void test_refusals(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    struct app *app = find_app(catalog, "a");
    cleanup_buf struct buf message = {0};
    static const char *const bad[] = {"", "-a", ".a", "a/b", "a b", "a\n", "\xc3\xa4", "a@b"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_err(
            catalog_secret_set(&op, catalog, app, str_of(bad[i]), STR("x"), NULL, NULL, &message),
            INVAL);
        assert_true(message.length > 0);
    }
    assert_err(catalog_secret_set(&op, catalog, app, STR("A"), STR(""), NULL, NULL, &message),
               INVAL);
    cleanup_free char *large = calloc(1, SECRET_BYTES_MAX + 1);
    assert_err(catalog_secret_set(&op, catalog, app, STR("A"),
                                  (struct str){large, SECRET_BYTES_MAX + 1}, NULL, NULL, &message),
               FBIG);
    assert_ok(catalog_secret_set(&op, catalog, app, STR("A"), (struct str){large, SECRET_BYTES_MAX},
                                 NULL, NULL, &message));
    for (int i = 1; i < SECRETS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s-%d", i);
        assert_ok(
            catalog_secret_set(&op, catalog, app, str_of(name), STR("x"), NULL, NULL, &message));
    }
    assert_err(catalog_secret_set(&op, catalog, app, STR("B"), STR("x"), NULL, NULL, &message),
               2BIG);
    set(catalog, app, "A", "y", NULL, false); /* one that is there can be replaced */
    app_unref(app);
    catalog_free(catalog);
}

static void test_hosts(void **state) {
    (void)state;
    cleanup_buf struct buf hosts = {0};
    cleanup_buf struct buf message = {0};
    static const char *const good[] = {"api.example.org", "b.example.org:8443", "[2001:db8::1]:443",
                                       "[::2]", "10.0.0.1"};
    for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
        assert_int_equal(secret_hosts_add(&hosts, str_of(good[i]), &message), ERR_OK);
    }
    static const char *const bad[] = {
        "", "*.example.org", "*", "a b", "a:", "a:0", "a:99999", "http://a", "a\nb", "[::1"};
    for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
        assert_int_equal(secret_hosts_add(&hosts, str_of(bad[i]), &message), ERR_INVAL);
    }
    struct str list = buf_str(&hosts);
    assert_true(secret_hosts_have(list, STR("api.example.org"), 443));
    assert_true(secret_hosts_have(list, STR("API.example.ORG"), 80));
    assert_false(secret_hosts_have(list, STR("api.example.or"), 443));
    assert_false(secret_hosts_have(list, STR("x.api.example.org"), 443));
    assert_true(secret_hosts_have(list, STR("b.example.org"), 8443));
    assert_false(secret_hosts_have(list, STR("b.example.org"), 443));
    assert_true(secret_hosts_have(list, STR("2001:db8::1"), 443));
    assert_false(secret_hosts_have(list, STR("2001:db8::1"), 444));
    assert_true(secret_hosts_have(list, STR("::2"), 1));
    assert_true(secret_hosts_have(list, STR("10.0.0.1"), 1));
    assert_false(secret_hosts_have(list, STR(""), 443));
    assert_false(secret_hosts_have(STR(""), STR("api.example.org"), 443));
    for (size_t i = ARRAY_LENGTH(good); i < SECRET_HOSTS_MAX; i++) {
        assert_int_equal(secret_hosts_add(&hosts, STR("h"), &message), ERR_OK);
    }
    assert_int_equal(secret_hosts_add(&hosts, STR("h"), &message), ERR_2BIG);
}

/* Each alteration is found; so is a row whose seal was made anew by somebody who knows how. */
static void test_damage(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    struct app *app = find_app(catalog, "a");
    set(catalog, app, "A", "hunter2", &somewhere, true);
    set(catalog, app, "B", "hunter2-b", &somewhere, true);
    app_unref(app);
    catalog_free(catalog);
    cleanup_buf struct buf good = {0};
    assert_int_equal(fsio_read_file(in_state("catalog.db"), 4 * MIB, &good), ERR_OK);
    static const char *const alterations[] = {
        "UPDATE secret SET value = zeroblob(64) WHERE key = 'A'",
        "UPDATE secret SET value = zeroblob(0) WHERE key = 'A'",
        "UPDATE secret SET hosts = 'evil.example.org' || char(10) WHERE key = 'A'",
        "UPDATE secret SET value = (SELECT value FROM secret WHERE key = 'B') WHERE key = 'A'",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(alterations); i++) {
        assert_int_equal(fsio_replace_file(in_state("catalog.db"), good.data, good.length), ERR_OK);
        alter(alterations[i]);
        catalog = open_catalog();
        app = find_app(catalog, "a");
        struct secret_info *list = NULL;
        size_t count = 0;
        cleanup_buf struct buf message = {0};
        assert_err(catalog_secret_list(&op, catalog, app, &list, &count, &message), IO);
        assert_non_null(strstr(buf_text(&message), "'A' of 'a' is damaged"));
        assert_secret(catalog, app, "A", ERR_IO, "is damaged");
        assert_secret(catalog, app, "B", ERR_OK, "hunter2-b");
        assert_err(catalog_secret_set(&op, catalog, app, STR("A"), STR("x"), NULL, NULL, &message),
                   IO);
        set(catalog, app, "A", "new", &somewhere, false);
        assert_secret(catalog, app, "A", ERR_OK, "new");
        app_unref(app);
        catalog_free(catalog);
    }
    assert_int_equal(fsio_replace_file(in_state("catalog.db"), good.data, good.length), ERR_OK);
    catalog = open_catalog();
    app = find_app(catalog, "a");
    assert_int_equal(catalog_db_run(catalog->db,
                                    "UPDATE secret SET hosts = (SELECT hosts || hosts FROM secret"
                                    " WHERE id = 1) WHERE id = 1",
                                    ""),
                     ERR_OK);
    assert_int_equal(catalog_db_seal(catalog->db, "secret", 1), ERR_OK);
    assert_secret(catalog, app, "A", ERR_IO, "not written with this secrets.key");
    app_unref(app);
    catalog_free(catalog);
}

static void test_lost_key(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    struct app *app = find_app(catalog, "a");
    set(catalog, app, "A", "hunter2", &somewhere, true);
    assert_int_equal(rename(in_state("secrets.key"), in_state("kept")), 0);
    assert_secret(catalog, app, "A", ERR_IO, "secrets.key is missing");
    write_file(in_state("secrets.key"), "short");
    assert_secret(catalog, app, "A", ERR_IO, "secrets.key is damaged");
    cleanup_buf struct buf message = {0};
    assert_err(catalog_secret_set(&op, catalog, app, STR("A"), STR("x"), NULL, NULL, &message), IO);
    write_file(in_state("secrets.key"), "0123456789abcdef0123456789abcdef");
    assert_secret(catalog, app, "A", ERR_IO, "not written with this secrets.key");
    assert_int_equal(rename(in_state("kept"), in_state("secrets.key")), 0);
    assert_secret(catalog, app, "A", ERR_OK, "hunter2");
    app_unref(app);
    catalog_free(catalog);
}

/* A catalog of the first schema becomes one of the present. */
static void test_upgrade(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "layer");
    catalog_free(catalog);
    make_old(1);
    for (int i = 0; i < 2; i++) {
        catalog = open_catalog();
        struct app *app = find_app(catalog, "a");
        set(catalog, app, "A", "hunter2", &somewhere, i == 0);
        assert_secret(catalog, app, "A", ERR_OK, "hunter2");
        app_unref(app);
        catalog_free(catalog);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_not_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upgrade, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
