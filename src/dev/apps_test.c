/* /apps and /vol: what the control door and guests see and may do, and that what is written is
 * checked, applied whole, and on disk. */
#include "base/log.h"
#include "dev/root.h"
#include "store/catalog_testing.h"

static struct catalog *catalog;
static struct applog_set *logs;
static struct file *root;
static struct buf message;

static void open_tree(void) {
    struct applog_limits limits = {0};
    catalog = open_catalog();
    assert_ok(applog_set_new(in_state("logs"), &limits, &logs));
    struct dev_root_options options = {.catalog = catalog, .logs = logs};
    assert_ok(dev_root_new(&options, &root));
    op.message = &message;
}
static void close_tree(void) {
    file_unref(root);
    applog_set_free(logs);
    catalog_free(catalog);
}
static int begin(void **state) {
    if (set_up(state)) {
        return -1;
    }
    open_tree();
    return 0;
}
static int finish(void **state) {
    close_tree();
    buf_done(&message);
    return tear_down(state);
}

/* ---- walking, reading, writing as ns and the HTTP door do ---- */

/* All of a path; NULL and its error if it is not there. */
static struct file *find(const struct who *as, const char *path, enum err *ret_err) {
    struct str names[16], rest = str_of(path);
    size_t count = 0, walked = 0;
    while (rest.length > 0) {
        names[count++] = str_cut(&rest, '/');
    }
    op.who = as;
    if (count == 0) {
        *ret_err = ERR_OK;
        return file_ref(root);
    }
    struct file *file = NULL;
    *ret_err = DO(file_walk(&op, root, names, count, &walked, &file));
    if (!*ret_err && walked < count) {
        file_unref(file);
        file = NULL;
        *ret_err = ERR_NOENT;
    }
    return file;
}
static enum err look(const struct who *as, const char *path) {
    enum err err;
    file_unref(find(as, path, &err));
    return err;
}
static enum err read_text(const struct who *as, const char *path, char text[4096]) {
    enum err err;
    struct file *file = find(as, path, &err);
    if (err) {
        return err;
    }
    struct file *opened = NULL;
    struct file_stat stat;
    size_t length = 0, read = 0;
    assert_ok(file_stat(&op, file, &stat));
    err = DO(file_open(&op, file, OPEN_READ, &opened));
    while (!err) {
        err = DO(
            file_read(&op, opened, text + length, MIN((size_t)100, 4095 - length), length, &read));
        length += err ? 0 : read;
        if (read == 0) {
            break;
        }
    }
    text[length] = 0;
    if (!err && file->type == FILE_REGULAR) {
        assert_int_equal(stat.size, length);
    }
    file_unref(opened);
    file_unref(file);
    return err;
}
static void assert_text(const struct who *as, const char *path, const char *wanted) {
    char text[4096];
    assert_ok(read_text(as, path, text));
    assert_string_equal(text, wanted);
}
/* As PUT does it: the file is made if it is missing. */
static enum err put(const struct who *as, const char *directory, const char *name,
                    const char *text) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    message.length = 0;
    enum err err;
    struct file *file = find(as, path, &err), *parent = NULL, *opened = NULL;
    if (err == ERR_NOENT) {
        parent = find(as, directory, &err);
        err = err ? err : DO(file_create(&op, parent, str_of(name), FILE_REGULAR, &file));
    }
    err = err ? err : DO(file_open(&op, file, OPEN_WRITE | OPEN_TRUNCATE, &opened));
    size_t written = 0, at = 0, length = strlen(text);
    while (!err && at < length) {
        err = DO(file_write(&op, opened, text + at, MIN((size_t)5, length - at), at, &written));
        at += err ? 0 : written;
    }
    err = err ? err : DO(file_sync(&op, opened));
    file_unref(opened);
    file_unref(file);
    file_unref(parent);
    return err;
}
static enum err remove_name(const struct who *as, const char *directory, const char *name,
                            bool is_directory) {
    enum err err;
    struct file *parent = find(as, directory, &err);
    err = err ? err : DO(file_remove(&op, parent, str_of(name), is_directory));
    file_unref(parent);
    return err;
}
/* The names of a directory, each followed by a blank. */
static const char *names_of(const struct who *as, const char *path) {
    static char text[1024];
    enum err err;
    struct file *file = find(as, path, &err);
    assert_int_equal(err, ERR_OK);
    struct dir_list list = {0};
    assert_ok(file_readdir(&op, file, &list));
    text[0] = 0;
    for (size_t i = 0; i < list.count; i++) {
        struct str name = dir_list_name(&list, i);
        size_t length = strlen(text);
        (void)snprintf(text + length, sizeof text - length, STR_FORMAT " ", STR_ARGS(name));
    }
    dir_list_done(&list);
    file_unref(file);
    return text;
}

static int64_t make_app(const char *name, const char *module, const char *config) {
    struct app *app;
    bool created;
    op.who = &who;
    assert_ok(upload(catalog, name, module, NULL, config, &app, &created));
    int64_t id = app->id;
    app_unref(app);
    return id;
}

/* ---- tests ---- */

static void test_what_an_app_holds(void **state) {
    (void)state;
    int64_t id = make_app("first", "one",
                          "{\"args\": [\"a\", \"b c\"], \"env\": {\"K\": \"V\"},"
                          " \"memory\": 67108864}");
    make_app("first", "version two", NULL);
    make_app("other", "x", NULL);
    assert_string_equal(names_of(&who, ""), "apps proc vol ");
    assert_string_equal(names_of(&who, "apps"), "first other ");
    assert_string_equal(
        names_of(&who, "apps/first"),
        "alarm args call config env files info instances log module secrets start versions ");
    assert_text(&who, "apps/first/args", "a\nb c\n");
    assert_text(&who, "apps/first/env/K", "V");
    assert_text(&who, "apps/first/module", "version two");
    assert_text(&who, "apps/first/versions/1/module", "one");
    assert_text(&who, "apps/first/config",
                "{\n  \"memory\": \"64MiB\",\n  \"args\": [\n    \"a\",\n    \"b c\"\n  ],\n"
                "  \"env\": {\n    \"K\": \"V\"\n  }\n}\n");
    assert_string_equal(names_of(&who, "apps/first/env"), "K ");
    assert_string_equal(names_of(&who, "apps/first/versions"), "2 1 ");
    assert_string_equal(names_of(&who, "apps/first/versions/1"), "files info module ");
    assert_string_equal(names_of(&who, "apps/first/files"), "");
    char text[4096];
    assert_ok(read_text(&who, "apps/first/info", text));
    assert_non_null(strstr(text, "name: first\nversion: 2\nsha256: "));
    assert_non_null(strstr(text, "\nmemory: 64MiB\n"));
    assert_ok(read_text(&who, "apps/first/versions/1/info", text));
    assert_non_null(strstr(text, "version: 1\n"));
    static const char *const missing[] = {"nothing",
                                          "apps/none",
                                          "apps/first/none",
                                          "apps/first/env/NONE",
                                          "apps/self",
                                          "apps/first/args/x",
                                          "apps/first/versions/3",
                                          "apps/first/versions/01",
                                          "apps/first/versions/1/none",
                                          "apps/first/files/none",
                                          "apps/first/env/K/x"};
    for (size_t i = 0; i < ARRAY_LENGTH(missing); i++) {
        if (look(&who, missing[i]) != ERR_NOENT) {
            fail_msg("%s is there", missing[i]);
        }
    }
    struct applog *log;
    assert_ok(applog_get(logs, id, &log));
    assert_text(&who, "apps/first/log", "");
    applog_append(log, 0, 7, "out", STR("a line"));
    applog_unref(log);
    assert_text(&who, "apps/first/log", "1970-01-01T00:00:00.000Z 7 out a line\n");
}

static void test_settings_are_written_whole(void **state) {
    (void)state;
    make_app("first", "m", "{\"memory\": \"64MiB\", \"env\": {\"K\": \"V\"}}");
    assert_ok(put(&who, "apps/first", "args", "x\ny z\n\nlast"));
    assert_text(&who, "apps/first/args", "x\ny z\n\nlast\n");
    assert_ok(put(&who, "apps/first", "args", "a\n\n")); /* the last one is empty */
    assert_text(&who, "apps/first/args", "a\n\n");
    assert_ok(put(&who, "apps/first", "args", ""));
    assert_text(&who, "apps/first/args", "");
    assert_ok(put(&who, "apps/first/env", "NEW", "value\n"));
    assert_text(&who, "apps/first/env/NEW", "value");
    assert_ok(put(&who, "apps/first/env", "K", ""));
    assert_text(&who, "apps/first/env/K", "");
    assert_ok(remove_name(&who, "apps/first/env", "K", false));
    assert_err(remove_name(&who, "apps/first/env", "K", false), NOENT);
    assert_string_equal(names_of(&who, "apps/first/env"), "NEW ");
    /* Applied means on disk; what other settings say stays. */
    close_tree();
    open_tree();
    assert_text(&who, "apps/first/config",
                "{\n  \"memory\": \"64MiB\",\n  \"args\": [],\n  \"env\": {\n    \"NEW\": "
                "\"value\"\n  }\n}\n");
    assert_ok(put(&who, "apps/first", "config", "{\"wall\": 5}"));
    assert_text(&who, "apps/first/config", "{\n  \"wall\": \"5s\"\n}\n");
}

static void test_bad_settings_change_nothing(void **state) {
    (void)state;
    make_app("first", "m", "{\"args\": [\"kept\"]}");
    assert_err(put(&who, "apps/first", "config", "{\"memory\": \"much\"}"), INVAL);
    assert_non_null(strstr(buf_text(&message), "memory"));
    assert_err(put(&who, "apps/first", "config", "{\"memory\": "), INVAL);
    assert_non_null(strstr(buf_text(&message), "JSON"));
    assert_err(put(&who, "apps/first", "config", "{\"wall\": 1, \"wall\": 2}"), INVAL);
    assert_err(put(&who, "apps/first", "config", ""), INVAL);
    assert_err(put(&who, "apps/first", "args", "\xff\n"), INVAL);
    assert_err(put(&who, "apps/first/env", "A=B", "x"), INVAL);
    assert_err(put(&who, "apps/first/env", "A", "\xff"), INVAL);
    assert_err(put(&who, "apps", "second", "x"), ROFS);
    assert_non_null(strstr(buf_text(&message), "POST /create"));
    assert_err(put(&who, "apps/first", "info", "x"), ROFS);
    assert_err(put(&who, "apps/first", "module", "x"), ROFS);
    assert_text(&who, "apps/first/config", "{\n  \"args\": [\n    \"kept\"\n  ]\n}\n");

    enum err err;
    struct file *file = find(&who, "apps/first/args", &err), *opened;
    size_t written;
    assert_ok(file_open(&op, file, OPEN_WRITE, &opened));
    assert_err(file_write(&op, opened, "x", 1, 256 * KIB, &written), FBIG);
    assert_err(file_write(&op, opened, "x", 1, UINT64_MAX - 1, &written), FBIG);
    assert_err(file_set_size(&op, opened, 256 * KIB + 1), FBIG);
    /* Written, but never synced: dropped. */
    assert_ok(file_write(&op, opened, "gone", 4, 0, &written));
    file_unref(opened);
    assert_text(&who, "apps/first/args", "kept\n");
    /* The app is removed while its settings are open. */
    assert_ok(file_open(&op, file, OPEN_WRITE | OPEN_TRUNCATE, &opened));
    assert_ok(remove_name(&who, "apps", "first", true));
    assert_err(file_sync(&op, opened), NOENT);
    file_unref(opened);
    file_unref(file);
}

/* Two that write settings at once: neither change is lost. */
static void test_two_writers(void **state) {
    (void)state;
    make_app("first", "m", NULL);
    enum err err;
    struct file *directory = find(&who, "apps/first/env", &err), *files[2], *opened[2];
    struct op ops[2];
    size_t written;
    for (size_t i = 0; i < 2; i++) {
        struct str name = {i ? "B" : "A", 1};
        op_init(&ops[i], loop, &who, on_wake);
        assert_ok(file_create(&op, directory, name, FILE_REGULAR, &files[i]));
        assert_ok(file_open(&op, files[i], OPEN_WRITE | OPEN_TRUNCATE, &opened[i]));
        assert_ok(file_write(&op, opened[i], "v", 1, 0, &written));
    }
    enum err results[2] = {ERR_PENDING, ERR_PENDING};
    while (results[0] == ERR_PENDING || results[1] == ERR_PENDING) {
        bool waits = true;
        for (size_t i = 0; i < 2; i++) {
            if (results[i] == ERR_PENDING) {
                results[i] = file_sync(&ops[i], opened[i]);
                waits = waits && results[i] == ERR_PENDING;
            }
        }
        if (waits) {
            loop_run(loop);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(results[i], ERR_OK);
        op_done(&ops[i]);
        file_unref(opened[i]);
        file_unref(files[i]);
    }
    file_unref(directory);
    assert_text(&who, "apps/first/env/A", "v");
    assert_text(&who, "apps/first/env/B", "v");
}

static void test_files_over_the_layer(void **state) {
    (void)state;
    cleanup_buf struct buf layer_path = {0};
    cleanup_buf struct buf module_path = {0};
    assert_ok(catalog_temporary_path(catalog, &layer_path));
    assert_ok(catalog_temporary_path(catalog, &module_path));
    struct volume *volume;
    struct volume_options options = {.path = buf_text(&layer_path), .create = true};
    assert_ok(volume_open(&options, &volume, &message));
    uint64_t inode;
    size_t written;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("below"), FILE_REGULAR, &inode));
    assert_ok(volume_write(&op, volume, inode, "layer", 5, 0, &written));
    volume_let_go(volume, inode);
    assert_ok(volume_sync(&op, volume));
    volume_unref(volume);
    write_file(buf_text(&module_path), "m");
    struct app_change change = {.name = STR("first"),
                                .has_version = true,
                                .version = {.module_bytes = 1, .layer_files = 1},
                                .module_temporary_path = buf_str(&module_path),
                                .layer_temporary_path = buf_str(&layer_path)};
    assert_ok(sha256_of("m", 1, change.version.module_sha256));
    struct app *app;
    bool created;
    assert_ok(catalog_apply(&op, catalog, &change, &app, &created, &message));
    app_unref(app);

    assert_text(&who, "apps/first/files/below", "layer");
    assert_ok(put(&who, "apps/first/files", "above", "volume"));
    assert_ok(put(&who, "apps/first/files", "below", "changed"));
    assert_text(&who, "apps/first/files/above", "volume");
    assert_text(&who, "apps/first/files/below", "changed");
    assert_string_equal(names_of(&who, "apps/first/files"), "above below ");
    /* Two walks meet on the same device, or nothing could be renamed. */
    enum err err;
    struct file *one = find(&who, "apps/first/files", &err);
    struct file *two = find(&who, "apps/first/files", &err);
    assert_int_equal(one->device, two->device);
    assert_ok(file_rename(&op, one, STR("above"), two, STR("moved")));
    file_unref(one);
    file_unref(two);
    assert_text(&who, "apps/first/files/moved", "volume");
}

static void test_remove_and_rename(void **state) {
    (void)state;
    int64_t id = make_app("first", "m", NULL);
    make_app("second", "n", NULL);
    struct applog *log;
    assert_ok(applog_get(logs, id, &log));
    applog_append(log, 0, 1, "out", STR("x"));
    assert_ok(applog_flush(&op, log));
    applog_unref(log);
    assert_true(exists(in_state("logs/%lld", (long long)id)));
    enum err err;
    struct file *apps = find(&who, "apps", &err);
    assert_err(file_rename(&op, apps, STR("first"), apps, STR("second")), EXIST);
    assert_err(file_rename(&op, apps, STR("first"), apps, STR("Not A Name")), INVAL);
    assert_ok(file_rename(&op, apps, STR("first"), apps, STR("third")));
    file_unref(apps);
    assert_string_equal(names_of(&who, "apps"), "second third ");
    assert_err(remove_name(&who, "apps", "third", false), ISDIR);
    assert_err(remove_name(&who, "apps", "first", true), NOENT);
    assert_ok(remove_name(&who, "apps", "third", true));
    assert_false(exists(in_state("logs/%lld", (long long)id)));
    assert_string_equal(names_of(&who, "apps"), "second ");
}

static void test_what_guests_may_do(void **state) {
    (void)state;
    int64_t mine = make_app("mine", "m",
                            "{\"args\": [\"a\"], \"mounts\": [\"shared:/s\", "
                            "\"book:/b:ro\"]}");
    make_app("other", "m", "{\"env\": {\"SECRET\": \"x\"}}");
    const struct who guest = {.run_id = 1, .app_id = mine, .owner_id = 1};
    const struct who stranger = {.run_id = 1, .app_id = mine, .owner_id = 2};
    const struct who fresh = {.run_id = 2, .app_id = mine, .owner_id = 1, .has_own_root = true};
    assert_string_equal(names_of(&guest, "apps"), "mine other self ");
    assert_text(&guest, "apps/self/args", "a\n");
    assert_text(&guest, "apps/mine/args", "a\n");
    assert_ok(put(&guest, "apps/self/files", "f", "x"));
    assert_text(&who, "apps/mine/files/f", "x");
    assert_err(look(&fresh, "apps/self/files/f"), ACCES); /* its `/` is not the app's volume */
    assert_err(put(&fresh, "apps/self/files", "f", "y"), ACCES);
    assert_text(&fresh, "apps/self/args", "a\n");
    assert_err(put(&guest, "apps/self", "args", "b"), ACCES);
    assert_err(put(&guest, "apps/self", "config", "{}"), ACCES);
    assert_err(put(&guest, "apps/self/env", "K", "v"), ACCES);
    assert_err(remove_name(&guest, "apps", "mine", true), ACCES);
    assert_string_equal(names_of(&guest, "apps/other"), "call info start ");
    assert_ok(look(&guest, "apps/other/info"));
    static const char *const others[] = {"args",  "config", "env",    "env/SECRET",
                                         "files", "log",    "module", "versions/1/module"};
    for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
        char path[100];
        (void)snprintf(path, sizeof path, "apps/other/%s", others[i]);
        assert_err(look(&guest, path), ACCES);
    }
    assert_string_equal(names_of(&stranger, "apps"), "");
    assert_err(look(&stranger, "apps/mine"), NOENT);

    /* Shared volumes: those that the app mounts. */
    static const char *const volumes[] = {"shared", "book", "closed"};
    enum err err;
    struct file *vol = find(&who, "vol", &err), *made;
    for (size_t i = 0; i < ARRAY_LENGTH(volumes); i++) {
        op.who = &who;
        assert_ok(file_create(&op, vol, str_of(volumes[i]), FILE_DIRECTORY, &made));
        file_unref(made);
    }
    assert_ok(put(&who, "vol/book/files", "page", "text"));
    assert_string_equal(names_of(&guest, "vol"), "shared book ");
    assert_ok(put(&guest, "vol/shared/files", "f", "x"));
    assert_text(&guest, "vol/book/files/page", "text");
    assert_err(put(&guest, "vol/book/files", "page", "x"), ROFS);
    assert_err(look(&guest, "vol/closed/files"), NOENT);
    op.who = &guest;
    assert_err(file_create(&op, vol, STR("more"), FILE_DIRECTORY, &made), ACCES);
    op.who = &who;
    assert_err(file_create(&op, vol, STR("Not A Name"), FILE_DIRECTORY, &made), INVAL);
    assert_err(look(&who, "vol/none/files"), NOENT);
    file_unref(vol);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, finish)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_what_an_app_holds),           TEST(test_settings_are_written_whole),
        TEST(test_bad_settings_change_nothing), TEST(test_two_writers),
        TEST(test_files_over_the_layer),        TEST(test_remove_and_rename),
        TEST(test_what_guests_may_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
