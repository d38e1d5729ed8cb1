/* For the tests of the catalog and the log: a state directory of their own, and driving operations
 * to their end. */
#pragma once

#include "base/fsio.h"
#include "store/catalog_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* Children that were forked start threads; the thread sanitizer asks for this. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "die_after_fork=0";
}

static struct loop *loop;
static struct op op;
static const struct who who = {.owner_id = 1, .may_control = true};
static char state_directory[256];

static inline void on_wake(struct op *woken) {
    loop_stop(woken->loop);
}

/* Drives an operation to its end. */
#define DO(call)                                                                                   \
    ({                                                                                             \
        enum err result_;                                                                          \
        while ((result_ = (call)) == ERR_PENDING) {                                                \
            loop_run(loop);                                                                        \
        }                                                                                          \
        result_;                                                                                   \
    })
#define assert_ok(call) assert_string_equal(err_name(DO(call)), err_name(ERR_OK))
#define assert_err(call, name) assert_string_equal(err_name(DO(call)), err_name(ERR_##name))

static inline void begin_loop(void) {
    assert_int_equal(loop_new(0, &loop), ERR_OK);
    op_init(&op, loop, &who, on_wake);
}

static inline void end_loop(void) {
    op_done(&op);
    loop_free(loop);
}

static inline int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(state_directory, sizeof state_directory, "%s/catalog_test_XXXXXX",
                   base ? base : P_tmpdir);
    if (!mkdtemp(state_directory)) {
        return -1;
    }
    begin_loop();
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    end_loop();
    fsio_system = &fsio_system_host;
    return fsio_remove_tree(state_directory) == ERR_OK ? 0 : -1;
}

static inline struct catalog *open_catalog(void) {
    struct catalog *catalog = NULL;
    cleanup_buf struct buf message = {0};
    enum err err = catalog_open(state_directory, &catalog, &message);
    if (err) {
        fail_msg("%s: %s", err_name(err), buf_text(&message));
    }
    return catalog;
}

/* A path in the state directory; the last four results stay. */
static inline const char *in_state(const char *format, ...) PRINTF_LIKE(1, 2);
static inline const char *in_state(const char *format, ...) {
    static char paths[4][600];
    static size_t next;
    char *path = paths[next++ % 4];
    int length = snprintf(path, 300, "%s/", state_directory);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(path + length, 600 - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static inline bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* Writes a file with this text and returns its hash. */
static inline void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

/* What somebody else does to catalog.db, which is not open. */
static inline void alter(const char *sql) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open(in_state("catalog.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

enum { SCHEMA_PRESENT = 4 };
/* Makes it one of an older schema. */
static inline void make_old(int schema) {
    static const char *const steps[] = {
        "DROP TABLE secret; DROP TABLE layer; DROP TABLE origin; PRAGMA user_version = 1",
        "DROP TABLE session; PRAGMA user_version = 2",
        "DROP TABLE alarm; PRAGMA user_version = 3",
    };
    _Static_assert(ARRAY_LENGTH(steps) == SCHEMA_PRESENT - 1, "a step for each schema");
    for (int from = SCHEMA_PRESENT; from > schema; from--) {
        alter(steps[from - 2]);
    }
}

static inline int64_t catalog_number(const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open(in_state("catalog.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return number;
}

static inline bool has_module(struct catalog *catalog, const uint8_t sha256[SHA256_SIZE]) {
    cleanup_buf struct buf path = {0};
    assert_int_equal(catalog_module_path(catalog, sha256, &path), ERR_OK);
    return exists(buf_text(&path));
}

/* Uploads a "module" of this text, with a layer of that text unless it is NULL. */
static inline enum err upload(struct catalog *catalog, const char *name, const char *module,
                              const char *layer, const char *config, struct app **ret_app,
                              bool *ret_created) {
    cleanup_buf struct buf module_path = {0};
    cleanup_buf struct buf layer_path = {0};
    struct app_change change = {.name = str_of(name), .has_version = true};
    json_t *json = config ? json_loads(config, 0, NULL) : NULL;
    change.config = json;
    assert_int_equal(catalog_temporary_path(catalog, &module_path), ERR_OK);
    write_file(buf_text(&module_path), module);
    change.module_temporary_path = buf_str(&module_path);
    assert_int_equal(sha256_of(module, strlen(module), change.version.module_sha256), ERR_OK);
    change.version.module_bytes = strlen(module);
    if (layer) {
        assert_int_equal(catalog_temporary_path(catalog, &layer_path), ERR_OK);
        write_file(buf_text(&layer_path), layer);
        change.layer_temporary_path = buf_str(&layer_path);
        change.version.layer_files = 1;
        change.version.layer_bytes = strlen(layer);
    }
    cleanup_buf struct buf message = {0};
    enum err err = DO(catalog_apply(&op, catalog, &change, ret_app, ret_created, &message));
    assert_false(exists(buf_text(&module_path)));
    assert_false(layer && exists(buf_text(&layer_path)));
    json_decref(json);
    if (err) {
        assert_true(message.length > 0);
    }
    return err;
}

static inline void upload_ok(struct catalog *catalog, const char *name, const char *module,
                             const char *layer) {
    struct app *app = NULL;
    assert_ok(upload(catalog, name, module, layer, NULL, &app, NULL));
    app_unref(app);
}

static inline struct app *find_app(struct catalog *catalog, const char *name) {
    struct app *app = NULL;
    assert_int_equal(catalog_find(catalog, str_of(name), &app), ERR_OK);
    return app;
}
