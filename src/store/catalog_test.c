#include "store/catalog_testing.h"
#include "store/secret.h"

#include "base/clock.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_create_update_find(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    struct app *first = NULL, *second = NULL;
    bool created = false;
    assert_ok(upload(catalog, "my-app", "one", NULL,
                     "{\"memory\": 1048576, \"args\": [\"-v\"], \"env\": {\"A\": \"B=C\"},"
                     "\"mounts\": [\"data:/d:ro\"]}",
                     &first, &created));
    assert_true(created);
    assert_string_equal(first->name, "my-app");
    assert_string_equal(first->key, "my_app");
    assert_int_equal(first->version.number, 1);
    assert_int_equal(first->generation, 1);
    assert_int_equal(first->owner_id, 1);
    assert_true(first->volume_id > 0);
    assert_int_equal(first->limits.memory_bytes, MIB);
    assert_string_equal(first->arguments[0], "-v");
    assert_null(first->arguments[1]);
    assert_string_equal(first->environment[0], "A=B=C");
    assert_null(first->environment[1]);
    assert_int_equal(first->mount_count, 1);
    assert_string_equal(first->mounts[0].volume, "data");
    assert_string_equal(first->mounts[0].path, "/d");
    assert_true(first->mounts[0].read_only);
    assert_string_equal(json_string_value(json_object_get(first->config, "memory")), "1MiB");
    assert_true(has_module(catalog, first->version.module_sha256));

    /* The same name with the other sign: a new version; what is not given stays. */
    assert_ok(upload(catalog, "my_app", "two", "layer", NULL, &second, &created));
    assert_false(created);
    assert_int_equal(second->id, first->id);
    assert_string_equal(second->name, "my-app");
    assert_int_equal(second->version.number, 2);
    assert_int_equal(second->generation, 2);
    assert_int_equal(second->limits.memory_bytes, MIB);
    assert_true(second->version.layer_id > 0);
    assert_int_not_equal(second->version.layer_id, second->volume_id);
    assert_true(exists(in_state("volumes/%lld.db", (long long)second->version.layer_id)));
    /* The first snapshot is as it was. */
    assert_int_equal(first->version.number, 1);

    struct app *found = find_app(catalog, "my-app");
    assert_ptr_equal(found, second);
    app_unref(found);
    assert_int_equal(catalog_find_id(catalog, first->id, &found), ERR_OK);
    assert_ptr_equal(found, second);
    app_unref(found);
    assert_int_equal(catalog_find(catalog, STR("other"), &found), ERR_NOENT);
    assert_int_equal(catalog_find(catalog, STR("../my-app"), &found), ERR_NOENT);
    assert_int_equal(catalog_find_id(catalog, first->id + 1, &found), ERR_NOENT);
    app_unref(first);
    app_unref(second);
    catalog_free(catalog);
}

static void test_conditions(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    struct app *app = NULL;
    json_t *config = json_pack("{s:s}", "memory", "2MiB");
    struct app_change change = {.name = STR("a"), .config = config};
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), NOENT);
    upload_ok(catalog, "a", "one", NULL);
    struct app *before = find_app(catalog, "a");
    change.create_only = true;
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), EXIST);
    change.create_only = false;
    change.update_only = true;
    change.if_generation = before->generation + 1;
    change.if_id = before->id;
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), STALE);
    change.if_generation = before->generation;
    assert_ok(catalog_apply(&op, catalog, &change, &app, NULL, &message));
    assert_int_equal(app->version.number, 1);
    assert_int_equal(app->generation, before->generation + 1);
    assert_int_equal(app->limits.memory_bytes, 2 * MIB);
    app_unref(app);
    app = NULL;
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), STALE);
    change.if_generation = 0;
    json_object_set_new(config, "memory", json_string("x"));
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), INVAL);
    change.name = STR("A");
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), INVAL);
    assert_null(app);
    /* A module that no version has. */
    change = (struct app_change){.name = STR("a"), .has_version = true};
    assert_err(catalog_apply(&op, catalog, &change, &app, NULL, &message), NOENT);
    /* One that another version has, as from= needs it. */
    change = (struct app_change){.name = STR("b"), .has_version = true, .version = before->version};
    assert_ok(catalog_apply(&op, catalog, &change, &app, NULL, &message));
    assert_memory_equal(app->version.module_sha256, before->version.module_sha256, SHA256_SIZE);
    app_unref(app);
    app_unref(before);
    json_decref(config);
    catalog_free(catalog);
}

/* A version with the program of another one, and files of its own unless `layer` is NULL. */
static enum err upload_from(struct catalog *catalog, const char *name, const struct app *from,
                            const char *layer, struct app **ret_app) {
    cleanup_buf struct buf layer_path = {0};
    cleanup_buf struct buf message = {0};
    struct app_change change = {
        .name = str_of(name), .has_version = true, .version = from->version};
    (void)snprintf(change.version.from_name, sizeof change.version.from_name, "%s", from->name);
    change.version.from_number = from->version.number;
    if (layer) {
        assert_int_equal(catalog_temporary_path(catalog, &layer_path), ERR_OK);
        write_file(buf_text(&layer_path), layer);
        change.layer_temporary_path = buf_str(&layer_path);
    }
    enum err err = DO(catalog_apply(&op, catalog, &change, ret_app, NULL, &message));
    assert_false(layer && exists(buf_text(&layer_path)));
    assert_true(!err || message.length > 0);
    return err;
}

static bool has_volume(int64_t id) {
    return exists(in_state("volumes/%lld.db", (long long)id));
}

static void test_layers_of_others(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    struct app *base = NULL, *above = NULL, *same = NULL;
    assert_ok(upload(catalog, "base", "one", "library", NULL, &base, NULL));
    assert_ok(upload_from(catalog, "above", base, "script", &above));
    assert_ok(upload_from(catalog, "same", base, NULL, &same));
    int64_t library = base->version.layer_id, script = above->version.layer_id;
    assert_int_equal(base->version.below_ids[0], 0);
    assert_true(script != library && above->version.below_ids[0] == library);
    assert_int_equal(above->version.below_ids[1], 0);
    assert_string_equal(above->version.from_name, "base");
    assert_int_equal(above->version.from_number, 1);
    assert_int_equal(same->version.layer_id, library);
    assert_int_equal(same->version.below_ids[0], 0);
    /* What the first one leaves is what the others have. */
    app_unref(base);
    assert_ok(catalog_remove(&op, catalog, STR("base")));
    catalog_sweep(catalog);
    assert_true(has_volume(library) && has_module(catalog, above->version.module_sha256));
    app_unref(above);
    app_unref(same);
    catalog_free(catalog);
    catalog = open_catalog();
    above = find_app(catalog, "above");
    assert_true(above->version.layer_id == script && above->version.below_ids[0] == library);
    assert_string_equal(above->version.from_name, "base");
    assert_true(has_volume(library) && has_volume(script));
    assert_ok(catalog_remove(&op, catalog, STR("same")));
    catalog_sweep(catalog);
    assert_true(has_volume(library));
    assert_ok(catalog_remove(&op, catalog, STR("above")));
    catalog_sweep(catalog);
    assert_true(has_volume(library) && has_volume(script)); /* there is still the snapshot */
    app_unref(above);
    catalog_sweep(catalog);
    assert_false(has_volume(library) || has_volume(script));
    catalog_free(catalog);
}

static void test_depth_of_layers(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    struct app *app = NULL, *next = NULL;
    assert_ok(upload(catalog, "a", "one", "layer", NULL, &app, NULL));
    for (int depth = 2; depth <= VERSION_LAYERS_MAX; depth++) {
        assert_ok(upload_from(catalog, "a", app, "layer", &next));
        assert_int_equal(next->version.below_ids[0], app->version.layer_id);
        assert_int_not_equal(next->version.below_ids[depth - 2], 0);
        assert_int_equal(next->version.below_ids[depth - 1], 0);
        app_unref(app);
        app = next;
    }
    assert_err(upload_from(catalog, "a", app, "layer", &next), 2BIG);
    assert_ok(upload_from(catalog, "b", app, NULL, &next));
    assert_int_equal(next->version.layer_id, app->version.layer_id);
    app_unref(app);
    app_unref(next);
    catalog_free(catalog);
    catalog_free(open_catalog());
}

static void test_remove_version(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    cleanup_buf struct buf message = {0};
    upload_ok(catalog, "a", "one", "layer one");
    struct app *first = find_app(catalog, "a");
    upload_ok(catalog, "a", "two", "layer two");
    struct app *app = NULL;
    assert_err(catalog_remove_version(&op, catalog, first, 2, &message), BUSY);
    assert_err(catalog_remove_version(&op, catalog, first, 3, &message), NOENT);
    assert_non_null(strstr(buf_text(&message), "no version 3"));
    assert_ok(catalog_remove_version(&op, catalog, first, 1, &message));
    assert_false(has_volume(first->version.layer_id));
    assert_false(has_module(catalog, first->version.module_sha256));
    assert_err(catalog_remove_version(&op, catalog, first, 1, &message), NOENT);
    assert_err(catalog_rollback(&op, catalog, STR("a"), 0, &app, &message), NOENT);
    assert_string_equal(buf_text(&message),
                        "'a' has no version before 2; GET /apps/a/versions lists them");
    app_unref(first);
    /* Back to the one before, and further back. */
    upload_ok(catalog, "a", "three", NULL);
    assert_ok(catalog_rollback(&op, catalog, STR("a"), 0, &app, &message));
    assert_int_equal(app->version.number, 4);
    assert_int_equal(app->version.rollback_number, 2);
    /* The layer is the same: it stays when one of the two goes. */
    assert_ok(catalog_remove_version(&op, catalog, app, 2, &message));
    assert_true(has_volume(app->version.layer_id));
    assert_true(has_module(catalog, app->version.module_sha256));
    app_unref(app);
    assert_err(catalog_rollback(&op, catalog, STR("a"), 0, &app, &message), NOENT);
    assert_string_equal(buf_text(&message),
                        "'a' has no version before 2; GET /apps/a/versions lists them");
    assert_ok(catalog_rollback(&op, catalog, STR("a"), 3, &app, &message));
    assert_int_equal(app->version.number, 5);
    assert_int_equal(app->version.rollback_number, 3);
    assert_int_equal(app->version.layer_id, 0);
    app_unref(app);
    assert_ok(catalog_rollback(&op, catalog, STR("a"), 4, &app, &message));
    assert_int_equal(app->version.rollback_number, 2);
    struct app_version *versions = NULL;
    size_t count = 0;
    assert_ok(catalog_versions(&op, catalog, app, &versions, &count));
    assert_int_equal(count, 4);
    app_versions_free(versions, count);
    app_unref(app);
    catalog_free(catalog);
    catalog_free(open_catalog());
}

static void collect_name(void *argument, struct app *app) {
    struct buf *names = argument;
    assert_int_equal(buf_printf(names, "%s ", app->name), ERR_OK);
}

static void test_order_rename_remove(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    static const char *const names[] = {"m", "z-1", "a", "z_0", "b9"};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        upload_ok(catalog, names[i], "same", NULL);
    }
    cleanup_buf struct buf list = {0};
    catalog_each(catalog, collect_name, &list);
    assert_string_equal(buf_text(&list), "a b9 m z_0 z-1 ");
    assert_int_equal(catalog_count(catalog), 5);
    struct app *before = find_app(catalog, "m");
    assert_err(catalog_rename(&op, catalog, STR("m"), STR("z-0")), EXIST);
    assert_err(catalog_rename(&op, catalog, STR("q"), STR("z-9")), NOENT);
    assert_err(catalog_rename(&op, catalog, STR("m"), STR("Q")), INVAL);
    assert_ok(catalog_rename(&op, catalog, STR("m"), STR("zz")));
    assert_ok(catalog_rename(&op, catalog, STR("z-0"), STR("z-0"))); /* the sign only */
    struct app *after = find_app(catalog, "zz");
    assert_int_equal(after->id, before->id);
    assert_int_equal(after->volume_id, before->volume_id);
    assert_int_equal(after->generation, before->generation + 1);
    assert_err(catalog_remove(&op, catalog, STR("m")), NOENT);
    assert_ok(catalog_remove(&op, catalog, STR("a")));
    assert_err(catalog_remove(&op, catalog, STR("a")), NOENT);
    list.length = 0;
    catalog_each(catalog, collect_name, &list);
    assert_string_equal(buf_text(&list), "b9 z-0 z-1 zz ");
    app_unref(before);
    app_unref(after);
    /* An app of the same name is another one. */
    upload_ok(catalog, "a", "same", NULL);
    after = find_app(catalog, "a");
    assert_true(after->id > 5);
    assert_int_equal(after->version.number, 1);
    app_unref(after);
    catalog_free(catalog);
    /* All of it is there after a restart. */
    catalog = open_catalog();
    list.length = 0;
    catalog_each(catalog, collect_name, &list);
    assert_string_equal(buf_text(&list), "a b9 z-0 z-1 zz ");
    catalog_free(catalog);
}

static void test_versions_and_rollback(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "layer one");
    upload_ok(catalog, "a", "two", NULL);
    upload_ok(catalog, "a", "three", "layer three");
    struct app *app = NULL;
    cleanup_buf struct buf message = {0};
    assert_err(catalog_rollback(&op, catalog, STR("a"), 4, &app, &message), NOENT);
    assert_non_null(strstr(buf_text(&message), "no version 4"));
    assert_err(catalog_rollback(&op, catalog, STR("b"), 1, &app, &message), NOENT);
    assert_non_null(strstr(buf_text(&message), "no app named 'b'"));
    assert_ok(catalog_rollback(&op, catalog, STR("a"), 1, &app, &message));
    assert_int_equal(app->version.number, 4);
    struct app_version *versions = NULL, *one = NULL;
    size_t count = 0;
    assert_ok(catalog_versions(&op, catalog, app, &versions, &count));
    assert_int_equal(count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(versions[i].number, 4 - i);
    }
    assert_memory_equal(versions[0].module_sha256, versions[3].module_sha256, SHA256_SIZE);
    assert_int_equal(versions[0].layer_id, versions[3].layer_id);
    assert_true(versions[0].layer_id > 0);
    assert_int_equal(versions[2].layer_id, 0);
    assert_ok(catalog_version(&op, catalog, app, 2, &one));
    assert_memory_equal(one->module_sha256, versions[2].module_sha256, SHA256_SIZE);
    app_versions_free(one, 1);
    one = NULL;
    assert_ok(catalog_version(&op, catalog, app, 4, &one));
    assert_int_equal(one->number, 4);
    app_versions_free(one, 1);
    one = NULL;
    assert_err(catalog_version(&op, catalog, app, 5, &one), NOENT);
    assert_err(catalog_version(&op, catalog, app, 0, &one), NOENT);
    assert_null(one);
    app_versions_free(versions, count);
    app_unref(app);
    catalog_free(catalog);
}

/* The operation is given up at once; the change happens whole all the same. */
static void test_abandoned(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    assert_int_equal(catalog_remove(&op, catalog, STR("a")), ERR_PENDING);
    op_abandon(&op);
    catalog_free(catalog); /* waits for it */
    catalog = open_catalog();
    assert_int_equal(catalog_count(catalog), 0);
    catalog_free(catalog);
    while (loop_turn(loop)) {
    }
}

static void test_files_of_removed(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "shared", "layer a");
    upload_ok(catalog, "a", "own", NULL);
    upload_ok(catalog, "b", "shared", NULL);
    struct app *app = find_app(catalog, "a");
    struct app_version *versions = NULL;
    size_t count = 0;
    assert_ok(catalog_versions(&op, catalog, app, &versions, &count));
    struct volume *volume = NULL;
    assert_ok(catalog_app_volume(&op, catalog, app, &volume, NULL));
    uint64_t inode;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("x"), FILE_REGULAR, &inode));
    volume_let_go(volume, inode);
    assert_ok(volume_sync(&op, volume));
    const char *database = in_state("volumes/%lld.db", (long long)app->volume_id);
    assert_true(exists(database));

    uint8_t own[SHA256_SIZE], hash[SHA256_SIZE] = {7}, got[SHA256_SIZE];
    memcpy(own, versions[0].module_sha256, SHA256_SIZE);
    assert_int_equal(catalog_set_compiled_hash(catalog, "key", own, hash), ERR_OK);
    cleanup_buf struct buf compiled = {0};
    assert_int_equal(catalog_compiled_path(catalog, "key", own, &compiled), ERR_OK);
    write_file(buf_text(&compiled), "code");

    assert_ok(catalog_remove(&op, catalog, STR("a")));
    /* A run has the snapshot and the volume: nothing goes. */
    catalog_sweep(catalog);
    assert_true(has_module(catalog, own));
    assert_true(exists(database));
    /* The volume still works. */
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("y"), FILE_REGULAR, &inode));
    volume_let_go(volume, inode);
    app_unref(app);
    catalog_sweep(catalog);
    assert_false(has_module(catalog, own));
    assert_true(has_module(catalog, versions[1].module_sha256)); /* the other app's too */
    assert_false(exists(buf_text(&compiled)));
    assert_int_equal(catalog_compiled_hash(catalog, "key", own, got), ERR_NOENT);
    assert_false(exists(in_state("volumes/%lld.db", (long long)versions[1].layer_id)));
    assert_true(exists(database));
    assert_true(exists(database));
    volume_unref(volume);
    while (exists(database)) { /* a commit that is under way still has it */
        catalog_sweep(catalog);
    }
    app_versions_free(versions, count);
    catalog_free(catalog);
}

static void test_leftovers(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "layer");
    upload_ok(catalog, "b", "two", NULL);
    struct app *app = find_app(catalog, "a");
    uint8_t own[SHA256_SIZE];
    memcpy(own, app->version.module_sha256, SHA256_SIZE);
    int64_t layer = app->version.layer_id;
    assert_ok(catalog_remove(&op, catalog, STR("b")));
    app_unref(app);
    catalog_free(catalog);
    write_file(in_state("tmp/17-upload"), "x");
    assert_int_equal(mkdir(in_state("logs/1"), 0700), 0); /* of a */
    assert_int_equal(mkdir(in_state("logs/2"), 0700), 0); /* of b */
    write_file(in_state("logs/2/00000000000000000000.log"), "x");
    write_file(in_state("modules/"
                        "00000000000000000000000000000000000000000000000000000000000000aa.wasm"),
               "x");
    write_file(in_state("modules/.tmp-1234"), "x");
    write_file(in_state("modules/notes.txt"), "x");
    write_file(in_state("volumes/3.db"), "x"); /* b's: removed */
    write_file(in_state("volumes/3.db-wal"), "x");
    write_file(in_state("volumes/5.db"), "x"); /* of a change that was not committed */
    assert_int_equal(mkdir(in_state("compiled/key"), 0700), 0);
    write_file(in_state("compiled/key/"
                        "00000000000000000000000000000000000000000000000000000000000000aa.cwasm"),
               "x");
    catalog = open_catalog();
    assert_false(exists(in_state("tmp/17-upload")));
    assert_true(exists(in_state("logs/1")));
    assert_false(exists(in_state("logs/2")));
    assert_false(exists(
        in_state("modules/00000000000000000000000000000000000000000000000000000000000000aa.wasm")));
    assert_false(exists(in_state("modules/.tmp-1234")));
    assert_true(exists(in_state("modules/notes.txt")));
    assert_false(exists(in_state("volumes/3.db")));
    assert_false(exists(in_state("volumes/3.db-wal")));
    assert_false(exists(in_state("volumes/5.db")));
    assert_false(exists(in_state(
        "compiled/key/00000000000000000000000000000000000000000000000000000000000000aa.cwasm")));
    assert_true(has_module(catalog, own));
    assert_true(exists(in_state("volumes/%lld.db", (long long)layer)));
    catalog_free(catalog);
}

static void refuse_to_open(enum err expected, const char *words) {
    struct catalog *catalog = NULL;
    cleanup_buf struct buf message = {0};
    assert_string_equal(err_name(catalog_open(state_directory, &catalog, &message)),
                        err_name(expected));
    if (!strstr(buf_text(&message), words)) {
        fail_msg("no '%s' in: %s", words, buf_text(&message));
    }
    assert_non_null(strstr(buf_text(&message), state_directory));
}

static void test_lock(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    refuse_to_open(ERR_BUSY, "in use by another server");
    catalog_free(catalog);
    catalog = open_catalog();
    struct stat stat_buffer;
    assert_int_equal(stat(state_directory, &stat_buffer), 0);
    assert_int_equal(stat_buffer.st_mode & 0777, 0700);
    assert_int_equal(stat(in_state("catalog.db"), &stat_buffer), 0);
    catalog_free(catalog);
}

static void test_foreign_files(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    catalog_free(catalog);
    /* An older catalog than the files. */
    write_file(in_state("volumes/99.db"), "precious");
    refuse_to_open(ERR_IO, "older than the files");
    assert_true(exists(in_state("volumes/99.db")));
    assert_int_equal(unlink(in_state("volumes/99.db")), 0);
    /* No catalog, but files. */
    assert_int_equal(rename(in_state("catalog.db"), in_state("kept")), 0);
    refuse_to_open(ERR_IO, "catalog.db is missing");
    /* Neither text nor nothing is a catalog. */
    write_file(in_state("catalog.db"), "");
    refuse_to_open(ERR_IO, "not a database");
    write_file(in_state("catalog.db"), "this is not a database at all, but it is long enough");
    refuse_to_open(ERR_IO, "not a database");
    /* Another program's database. */
    assert_int_equal(unlink(in_state("catalog.db")), 0);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(in_state("catalog.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE app (id)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refuse_to_open(ERR_IO, "not a catalog");
    assert_int_equal(rename(in_state("kept"), in_state("catalog.db")), 0);
    /* A newer program's. */
    assert_int_equal(sqlite3_open(in_state("catalog.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 9", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refuse_to_open(ERR_IO, "schema 9");
}

static void test_altered_row(void **state) {
    (void)state;
    static const char *const alterations[] = {
        "UPDATE app SET volume = 2 WHERE id = 1",
        "UPDATE app SET name = 'a' WHERE id = 2",
        "UPDATE app SET config = '{\"memory\":\"3MiB\"}'",
        "UPDATE version SET module = zeroblob(32)",
        "UPDATE version SET layer = NULL",
        "UPDATE layer SET below = 3",
        "UPDATE origin SET number = 7",
        "DELETE FROM version",
        "UPDATE volume SET kind = 'named' WHERE id = 1",
        "UPDATE counter SET value = value - 1",
        "DELETE FROM counter",
        "DELETE FROM owner",
    };
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "layer");
    upload_ok(catalog, "b", "two", NULL);
    struct app *from = find_app(catalog, "a"), *app = NULL;
    assert_ok(upload_from(catalog, "c", from, "another", &app));
    app_unref(from);
    app_unref(app);
    catalog_free(catalog);
    cleanup_buf struct buf good = {0};
    assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &good), ERR_OK);
    for (size_t i = 0; i < ARRAY_LENGTH(alterations); i++) {
        assert_int_equal(fsio_replace_file(in_state("catalog.db"), good.data, good.length), ERR_OK);
        sqlite3 *db;
        assert_int_equal(sqlite3_open(in_state("catalog.db"), &db), SQLITE_OK);
        int result = sqlite3_exec(db, alterations[i], NULL, NULL, NULL);
        sqlite3_close(db);
        if (result == SQLITE_OK) {
            refuse_to_open(ERR_IO, "is damaged");
            assert_true(exists(in_state("volumes/2.db")));
        } else {
            assert_int_equal(result, SQLITE_CONSTRAINT);
        }
    }
    assert_int_equal(fsio_replace_file(in_state("catalog.db"), good.data, good.length), ERR_OK);
    catalog_free(open_catalog());
}

/* Refused, and still a catalog of the schema that it had: the program that made it can open it. */
static void refuse_to_upgrade(int schema, const char *words) {
    refuse_to_open(ERR_IO, words);
    assert_int_equal(catalog_number("PRAGMA user_version"), schema);
    assert_int_equal(catalog_number("SELECT count(*) FROM sqlite_schema WHERE name = 'secret'"),
                     schema >= 2);
    assert_int_equal(catalog_number("SELECT count(*) FROM sqlite_schema WHERE name = 'session'"),
                     schema >= 3);
}

static void restore(const struct buf *bytes) {
    (void)unlink(in_state("catalog.db-wal"));
    assert_int_equal(fsio_replace_file(in_state("catalog.db"), bytes->data, bytes->length), ERR_OK);
}

static void test_older_schemas(void **state) {
    (void)state;
    static const struct {
        int since; /* the schema that has what is damaged */
        const char *sql, *words;
    } damages[] = {
        {1, "UPDATE app SET config = '{\"memory\":\"3MiB\"}'", "a row of its table app"},
        {1, "UPDATE version SET module_bytes = 7", "a row of its table version"},
        {1, "UPDATE volume SET created_ns = 7 WHERE id = 1", "a row of its table volume"},
        {1, "UPDATE counter SET value = value - 1", "a row of its table counter"},
        {1, "UPDATE owner SET seal = NULL", "a row of its table owner"},
        {2, "UPDATE secret SET hosts = 'example.org'", "a row of its table secret"},
        {3, "INSERT INTO session VALUES (1, 2, 3, zeroblob(32))", "a row of its table session"},
        /* Found when one of the tables was made already. */
        {1, "CREATE TABLE alarm (id)", "its schema can't be made the present one"},
        /* Found when each row is good by itself. */
        {1, "DELETE FROM version", "is damaged"},
        {1, "DELETE FROM counter", "the counter of runs"},
    };
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    struct app *app = find_app(catalog, "a");
    assert_ok(catalog_secret_set(&op, catalog, app, STR("A"), STR("x"), NULL, NULL, NULL));
    app_unref(app);
    catalog_free(catalog);
    cleanup_buf struct buf present = {0};
    assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &present), ERR_OK);
    for (int schema = 1; schema < SCHEMA_PRESENT; schema++) {
        restore(&present);
        make_old(schema);
        cleanup_buf struct buf old = {0};
        assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &old), ERR_OK);
        for (size_t i = 0; i < ARRAY_LENGTH(damages); i++) {
            if (damages[i].since <= schema) {
                alter(damages[i].sql);
                refuse_to_upgrade(schema, damages[i].words);
                restore(&old);
            }
        }
        write_file(in_state("volumes/99.db"), "x");
        refuse_to_upgrade(schema, "older than the files");
        assert_int_equal(unlink(in_state("volumes/99.db")), 0);
        catalog_free(open_catalog());
        assert_int_equal(catalog_number("PRAGMA user_version"), SCHEMA_PRESENT);
    }
}

static void test_run_ids(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    assert_int_equal(catalog_next_run_id(catalog), 1);
    assert_int_equal(catalog_next_run_id(catalog), 2);
    catalog_free(catalog);
    catalog = open_catalog();
    uint64_t last = catalog_next_run_id(catalog);
    assert_int_equal(last, 3);
    for (int i = 0; i < 250000; i++) { /* more than two blocks */
        uint64_t id = catalog_next_run_id(catalog);
        assert_int_equal(id, last + 1);
        last = id;
    }
    catalog_free(catalog);
    /* A server that is killed. */
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        catalog = open_catalog();
        _exit(catalog_next_run_id(catalog) == last + 1 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    catalog = open_catalog();
    assert_true(catalog_next_run_id(catalog) > last + 1);
    catalog_free(catalog);
}

static void test_compiled_hashes(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    uint8_t module[SHA256_SIZE] = {1}, first[SHA256_SIZE] = {2}, second[SHA256_SIZE] = {3};
    uint8_t got[SHA256_SIZE];
    assert_int_equal(catalog_compiled_hash(catalog, "k", module, got), ERR_NOENT);
    assert_int_equal(catalog_set_compiled_hash(catalog, "k", module, first), ERR_OK);
    assert_int_equal(catalog_set_compiled_hash(catalog, "k2", module, second), ERR_OK);
    assert_int_equal(catalog_compiled_hash(catalog, "k", module, got), ERR_OK);
    assert_memory_equal(got, first, SHA256_SIZE);
    assert_int_equal(catalog_set_compiled_hash(catalog, "k", module, second), ERR_OK);
    assert_int_equal(catalog_compiled_hash(catalog, "k", module, got), ERR_OK);
    assert_memory_equal(got, second, SHA256_SIZE);
    cleanup_buf struct buf path = {0};
    assert_int_equal(catalog_compiled_path(catalog, "../x", module, &path), ERR_INVAL);
    assert_int_equal(path.length, 0);
    catalog_free(catalog);
}

static void test_volumes(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    struct app *app = find_app(catalog, "a");
    cleanup_buf struct buf message = {0};
    struct volume *volume = NULL, *same = NULL, *named = NULL;
    /* Two operations at once open it once. */
    struct op other;
    op_init(&other, loop, &who, on_wake);
    assert_int_equal(catalog_app_volume(&op, catalog, app, &volume, &message), ERR_PENDING);
    assert_ok(catalog_app_volume(&other, catalog, app, &same, &message));
    assert_ok(catalog_app_volume(&op, catalog, app, &volume, &message));
    assert_ptr_equal(volume, same);
    assert_int_equal(volume_usage(volume).bytes_max, GIB);
    assert_int_equal(volume_usage(volume).inodes_max, 100000);
    /* A new quota holds from the next use on, and an older snapshot does not bring the old back. */
    json_t *config = json_pack("{s:s, s:i}", "disk", "1MiB", "files", 10);
    struct app_change change = {.name = STR("a"), .config = config};
    struct app *newer = NULL;
    assert_ok(catalog_apply(&op, catalog, &change, &newer, NULL, &message));
    volume_unref(same);
    assert_ok(catalog_app_volume(&op, catalog, newer, &same, &message));
    assert_int_equal(volume_usage(volume).bytes_max, MIB);
    assert_int_equal(volume_usage(volume).inodes_max, 10);
    volume_unref(same);
    assert_ok(catalog_app_volume(&op, catalog, app, &same, &message));
    assert_int_equal(volume_usage(volume).bytes_max, MIB);
    volume_unref(same);
    json_decref(config);
    app_unref(newer);

    assert_err(catalog_named_volume(&op, catalog, STR("data-1"), false, &named, &message), NOENT);
    assert_err(catalog_named_volume(&op, catalog, STR("Data"), true, &named, &message), INVAL);
    assert_ok(catalog_named_volume(&op, catalog, STR("data-1"), true, &named, &message));
    assert_ok(catalog_named_volume(&op, catalog, STR("data_1"), false, &same, &message));
    assert_ptr_equal(named, same);
    assert_ptr_not_equal(named, volume);
    uint64_t inode;
    assert_ok(volume_create(&op, named, VOLUME_ROOT_INODE, STR("x"), FILE_REGULAR, &inode));
    volume_let_go(named, inode);
    volume_unref(same);
    volume_unref(named);

    assert_err(catalog_volume(&op, catalog, 77, true, &named, &message), NOENT);
    assert_err(catalog_volume(&op, catalog, 0, true, &named, &message), NOENT);
    /* Idle ones are closed, those in use are not. */
    catalog_volumes_sweep(catalog, clock_monotonic_ns());
    assert_int_equal(catalog->volumes.count, 2);
    uint64_t now_ns = clock_monotonic_ns();
    while (catalog->volumes.count == 2) { /* a commit that is under way still has it */
        now_ns += 61 * NS_PER_S;
        catalog_volumes_sweep(catalog, now_ns);
    }
    catalog_volumes_sweep(catalog, now_ns + 61 * NS_PER_S);
    assert_int_equal(catalog->volumes.count, 1);
    volume_unref(volume);
    app_unref(app);
    op_done(&other);
    catalog_free(catalog);
    /* The shared volume is found again, with what is in it. */
    catalog = open_catalog();
    assert_ok(catalog_named_volume(&op, catalog, STR("data_1"), false, &named, &message));
    size_t walked;
    enum file_type type;
    struct str name = STR("x");
    assert_ok(volume_walk(&op, named, VOLUME_ROOT_INODE, &name, 1, &walked, &inode, &type));
    volume_let_go(named, inode);
    volume_unref(named);
    catalog_free(catalog);
}

/* Layers that are no databases are clear errors, again and again. */
static void test_damaged_layer(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "this is no database, and it is long enough to be looked at");
    struct app *app = find_app(catalog, "a");
    for (int i = 0; i < 2; i++) {
        cleanup_buf struct buf message = {0};
        struct volume *volume = NULL;
        assert_err(catalog_volume(&op, catalog, app->version.layer_id, true, &volume, &message),
                   IO);
        assert_true(message.length > 0);
        assert_null(volume);
    }
    app_unref(app);
    catalog_free(catalog);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_layers_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_depth_of_layers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remove_version, set_up, tear_down),
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_create_update_find),
        TEST(test_conditions),
        TEST(test_order_rename_remove),
        TEST(test_versions_and_rollback),
        TEST(test_abandoned),
        TEST(test_files_of_removed),
        TEST(test_leftovers),
        TEST(test_lock),
        TEST(test_foreign_files),
        TEST(test_altered_row),
        TEST(test_older_schemas),
        TEST(test_run_ids),
        TEST(test_compiled_hashes),
        TEST(test_volumes),
        TEST(test_damaged_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
