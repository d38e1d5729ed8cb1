/* Alarms in a volume's database: what is kept, what is refused, what damage does. */
#include "store/volume_alarm.h"
#include "store/volume_testing.h"

#define NOW (UINT64_C(1767225600) * NS_PER_S)

static struct alarm *make(const char *name, const char *text) {
    struct alarm *alarm;
    assert_int_equal(alarm_new(str_of(name), str_of(text), NOW, &alarm, NULL), ERR_OK);
    return alarm;
}

/* Made once, however often the volume has to be asked. */
static void set(struct volume *volume, const char *name, const char *text) {
    struct alarm *alarm = make(name, text);
    assert_ok(volume_alarm_set(&op, volume, alarm));
}

static char listed[4000];

static enum alarm_visit list_one(void *argument, struct alarm *alarm) {
    (void)argument;
    size_t length = strlen(listed);
    snprintf(listed + length, sizeof listed - length, "%s=%s:%s:%llu;", alarm->name, alarm->line,
             buf_text(&alarm->input), (unsigned long long)(alarm->next_ns - NOW) / NS_PER_S);
    return ALARM_SEEN;
}

static const char *list(struct volume *volume) {
    listed[0] = 0;
    assert_ok(volume_alarms_visit(&op, volume, list_one, NULL));
    return listed;
}

static enum alarm_visit come(void *argument, struct alarm *alarm) {
    (void)argument;
    if (!alarm_come(alarm, NOW + 61 * NS_PER_S)) {
        return ALARM_SEEN;
    }
    alarm_ended(alarm, NOW, true, true);
    alarm_add_result(alarm, STR("good"));
    return ALARM_CHANGED;
}

/* What the database has, in a word. */
static int64_t number(const char *sql) {
    sqlite3 *database;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(volume_path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(database, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t found = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return found;
}

static void execute(const char *sql) {
    sqlite3 *database;
    char *error = NULL;
    assert_int_equal(sqlite3_open(volume_path, &database), SQLITE_OK);
    if (sqlite3_exec(database, sql, NULL, NULL, &error) != SQLITE_OK) {
        fail_msg("%s: %s", sql, error);
    }
    sqlite3_close(database);
}

static void test_kept(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(0, 0);
    assert_string_equal(list(volume), "");
    set(volume, "b", "every 1m\ninput");
    set(volume, "a", "every 2m");
    set(volume, "c", "every 3m");
    assert_string_equal(list(volume), "a=every 2m::120;b=every 1m:input:60;c=every 3m::180;");
    assert_ok(volume_sync(&op, volume));
    set(volume, "b", "every 5m\nother");
    assert_ok(volume_alarm_remove(&op, volume, STR("a")));
    assert_err(volume_alarm_remove(&op, volume, STR("a")), NOENT);
    assert_err(volume_alarm_remove(&op, volume, STR("bb")), NOENT);
    set(volume, "aa", "every 9m");
    assert_ok(volume_alarm_remove(&op, volume, STR("aa")));
    assert_string_equal(list(volume), "b=every 5m:other:300;c=every 3m::180;");
    volume_unref(volume);

    volume = open_volume_with(0, 0);
    assert_string_equal(list(volume), "b=every 5m:other:300;c=every 3m::180;");
    assert_ok(volume_alarms_visit(&op, volume, come, NULL));
    volume_unref(volume);
    volume = open_volume_with(0, 0);
    assert_string_equal(list(volume), "b=every 5m:other:300;c=every 3m::180;");
    volume_unref(volume);
    assert_int_equal(number("SELECT count(*) FROM zasm_alarm WHERE results = x'676f6f640a'"), 2);
}

/* It commits with the files, and neither is there without the other. */
static void test_commits_with_files(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(0, 0);
    uint64_t inode;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("file"), FILE_REGULAR, &inode));
    set(volume, "a", "every 1m");
    assert_ok(volume_sync(&op, volume));
    volume_let_go(volume, inode);
    volume_unref(volume);
    assert_int_equal(number("SELECT count(*) FROM zasm_alarm, zasm_entry"), 1);
}

/* Who never sets an alarm has no table for them. */
static void test_table_is_made_when_needed(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(0, 0);
    uint64_t inode;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("file"), FILE_REGULAR, &inode));
    assert_ok(volume_sync(&op, volume));
    assert_string_equal(list(volume), "");
    volume_let_go(volume, inode);
    volume_unref(volume);
    assert_int_equal(number("SELECT count(*) FROM sqlite_schema WHERE name = 'zasm_alarm'"), 0);
    volume = open_volume_with(0, 0);
    set(volume, "a", "every 1m");
    volume_unref(volume);
    assert_int_equal(number("SELECT count(*) FROM zasm_alarm"), 1);
}

static void test_quota(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(40, 0);
    /* Name, line and input: 1 + 8 + 10. */
    set(volume, "a", "every 1m\n0123456789");
    assert_int_equal(volume_usage(volume).bytes, 19);
    struct alarm *alarm = make("b", "every 1m\n0123456789abc");
    assert_err(volume_alarm_set(&op, volume, alarm), NOSPC);
    alarm_free(alarm);
    assert_int_equal(volume_usage(volume).bytes, 19);
    /* In the place of another, only what is more counts. */
    set(volume, "a", "every 1m\n0123456789012345678901234567890");
    assert_int_equal(volume_usage(volume).bytes, 40);
    volume_unref(volume);
    volume = open_volume_with(40, 0);
    assert_int_equal(volume_usage(volume).bytes, 40);
    assert_ok(volume_alarm_remove(&op, volume, STR("a")));
    assert_int_equal(volume_usage(volume).bytes, 0);
    volume_unref(volume);
    volume = open_volume_with(40, 0);
    assert_int_equal(volume_usage(volume).bytes, 0);
    volume_unref(volume);
}

static enum alarm_visit end_even(void *argument, struct alarm *alarm) {
    (void)argument;
    if (alarm->name[0] == 'e') {
        alarm->next_ns = 0;
        return ALARM_CHANGED;
    }
    return ALARM_SEEN;
}

static void test_limit(void **state) {
    (void)state;
    struct volume *volume = open_volume_with(0, 0);
    char name[16];
    for (int i = 0; i < VOLUME_ALARMS_MAX; i++) {
        snprintf(name, sizeof name, "%s%d", i % 50 ? "n" : "e", i);
        set(volume, name, "every 1m");
    }
    struct alarm *alarm = make("one-more", "every 1m");
    cleanup_buf struct buf message = {0};
    op.message = &message;
    assert_err(volume_alarm_set(&op, volume, alarm), NOSPC);
    op.message = NULL;
    assert_non_null(strstr(buf_text(&message), "100 alarms"));
    /* One of the same name is no further one. */
    set(volume, "n1", "every 2m");
    /* Those that are over make room. */
    assert_ok(volume_alarms_visit(&op, volume, end_even, NULL));
    assert_ok(volume_alarm_set(&op, volume, alarm));
    set(volume, "two-more", "every 1m");
    alarm = make("three-more", "every 1m");
    assert_err(volume_alarm_set(&op, volume, alarm), NOSPC);
    alarm_free(alarm);
    volume_unref(volume);
    assert_int_equal(number("SELECT count(*) FROM zasm_alarm"), VOLUME_ALARMS_MAX);
    assert_int_equal(number("SELECT count(*) FROM zasm_alarm WHERE name LIKE 'e%'"), 0);
}

static void test_damage(void **state) {
    (void)state;
    static const char *const rows[] = {
        "('', 'every 1m', '', 0, 0, 0, '')",
        "('a/b', 'every 1m', '', 0, 0, 0, '')",
        "('a', 'every 1m', zeroblob(65537), 0, 0, 0, '')",
        "('a', zeroblob(201), '', 0, 0, 0, '')",
        "('a', 'every 1m', '', 0, 0, 77, '')",
    };
    struct volume *volume = open_volume_with(0, 0);
    set(volume, "z", "every 1m");
    volume_unref(volume);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        cleanup_buf struct buf sql = {0};
        assert_int_equal(
            buf_printf(&sql, "DELETE FROM zasm_alarm; INSERT INTO zasm_alarm VALUES %s", rows[i]),
            ERR_OK);
        execute(buf_text(&sql));
        volume = open_volume_with(0, 0);
        assert_err(volume_alarms_visit(&op, volume, list_one, NULL), IO);
        /* Its files are not touched by that. */
        uint64_t inode;
        assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("file"), FILE_REGULAR, &inode));
        volume_let_go(volume, inode);
        assert_ok(volume_remove(&op, volume, VOLUME_ROOT_INODE, STR("file"), false));
        volume_unref(volume);
    }
    /* Values of other types, and times that never are. */
    execute("DELETE FROM zasm_alarm; INSERT INTO zasm_alarm VALUES "
            "('a', 'every 1m', 'text', -1, -1, 0, 17)");
    volume = open_volume_with(0, 0);
    assert_ok(volume_alarms_visit(&op, volume, come, NULL));
    volume_unref(volume);
    execute("DROP TABLE zasm_alarm; CREATE TABLE zasm_alarm (name)");
    struct volume_options options = {.path = volume_path, .create = true};
    assert_int_equal(volume_open(&options, &volume, NULL), ERR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commits_with_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_table_is_made_when_needed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quota, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
