/* Changes that are killed at any moment or whose system calls fail: afterwards there is the state
 * before or the one after, never a mixture, nothing that was acknowledged is lost, and nothing is
 * left over. Flipped bytes: a clear error or the same content, and nothing is overwritten. */
#include "store/catalog_testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the catalog and SQLite ask of the system goes through here. */

enum mode { MODE_OFF, MODE_COUNT, MODE_FAIL, MODE_KILL };
struct shared {
    _Atomic enum mode mode;
    atomic_int countdown; /* MODE_FAIL, MODE_KILL: calls until then */
    atomic_int calls;
    int error; /* for MODE_FAIL */
    atomic_int begun, acknowledged;
    atomic_int result, second_result;
};
static struct shared *shared;

/* True if this call is to fail; may not return. */
static bool intercept(void) {
    enum mode mode = shared ? shared->mode : MODE_OFF;
    if (mode == MODE_OFF) {
        return false;
    }
    atomic_fetch_add(&shared->calls, 1);
    if (mode == MODE_COUNT || atomic_fetch_sub(&shared->countdown, 1) != 1) {
        return false;
    }
    if (mode == MODE_KILL) {
        raise(SIGKILL);
    }
    errno = shared->error;
    return true;
}

static int hook_openat(int directory, const char *path, int flags, mode_t mode) {
    return intercept() ? -1 : openat(directory, path, flags, mode);
}
static ssize_t hook_write(int descriptor, const void *data, size_t length) {
    return intercept() ? -1 : write(descriptor, data, length);
}
static int hook_fsync(int descriptor) {
    return intercept() ? -1 : fsync(descriptor);
}
static int hook_rename(const char *old_path, const char *new_path) {
    return intercept() ? -1 : rename(old_path, new_path);
}
static int hook_unlinkat(int directory, const char *path, int flags) {
    return intercept() ? -1 : unlinkat(directory, path, flags);
}

static ssize_t hook_pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    return intercept() ? -1 : pwrite(descriptor, data, length, offset);
}
static int hook_open(const char *path, int flags, int mode) {
    return intercept() ? -1 : open(path, flags, mode);
}
static int hook_ftruncate(int descriptor, off_t length) {
    return intercept() ? -1 : ftruncate(descriptor, length);
}
/* SQLite calls this one by its name, past its own table. */
int fdatasync(int descriptor) {
    return intercept() ? -1 : (int)syscall(SYS_fdatasync, descriptor);
}

static struct fsio_system hooked;

static void hook_system(void) {
    hooked = fsio_system_host;
    hooked.openat = hook_openat;
    hooked.write = hook_write;
    hooked.fsync = hook_fsync;
    hooked.rename = hook_rename;
    hooked.unlinkat = hook_unlinkat;
    fsio_system = &hooked;
    const struct {
        const char *name;
        sqlite3_syscall_ptr function;
    } calls[] = {
        {"open", (sqlite3_syscall_ptr)(void *)hook_open},
        {"write", (sqlite3_syscall_ptr)(void *)hook_write},
        {"pwrite", (sqlite3_syscall_ptr)(void *)hook_pwrite},
        {"pwrite64", (sqlite3_syscall_ptr)(void *)hook_pwrite},
        {"ftruncate", (sqlite3_syscall_ptr)(void *)hook_ftruncate},
    };
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    for (size_t i = 0; i < ARRAY_LENGTH(calls); i++) {
        if (vfs->xGetSystemCall(vfs, calls[i].name)) {
            assert_int_equal(vfs->xSetSystemCall(vfs, calls[i].name, calls[i].function), SQLITE_OK);
        }
    }
}

/* A model of the catalog. */

enum { NAMES = 4, MODULES = 5, LAYERS = 3, VERSIONS_MAX = 200 };
static const char *const names[NAMES] = {"a-1", "b", "c_c", "d9"};

struct model_version {
    int module, layer, layer_file; /* layer_file tells shared ones; -1 = none */
};
struct model_app {
    int count; /* of versions; 0 = there is no such app */
    struct model_version versions[VERSIONS_MAX];
};
struct model {
    struct model_app apps[NAMES];
    int layer_files;
};

struct step {
    enum { UPLOAD, REMOVE, RENAME, ROLLBACK } kind;
    int name, other, module, layer, number;
};

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static struct step random_step(uint64_t *seed) {
    static const int kinds[] = {UPLOAD, UPLOAD, UPLOAD, UPLOAD, REMOVE, RENAME, ROLLBACK};
    struct step step = {
        .kind = (unsigned)kinds[next_random(seed) % ARRAY_LENGTH(kinds)],
        .name = (int)(next_random(seed) % NAMES),
        .other = (int)(next_random(seed) % NAMES),
        .module = (int)(next_random(seed) % MODULES),
        .layer = (int)(next_random(seed) % (LAYERS + 1)) - 1,
        .number = (int)(next_random(seed) % 4) + 1,
    };
    return step;
}

static void add_version(struct model_app *app, struct model_version version) {
    assert_true(app->count < VERSIONS_MAX);
    app->versions[app->count++] = version;
}

static enum err model_step(struct model *model, const struct step *step) {
    struct model_app *app = &model->apps[step->name];
    if (step->kind == UPLOAD) {
        int file = step->layer >= 0 ? model->layer_files++ : -1;
        add_version(app, (struct model_version){step->module, step->layer, file});
        return ERR_OK;
    }
    if (app->count == 0) {
        return ERR_NOENT;
    }
    if (step->kind == REMOVE) {
        app->count = 0;
    } else if (step->kind == ROLLBACK) {
        if (step->number > app->count) {
            return ERR_NOENT;
        }
        add_version(app, app->versions[step->number - 1]);
    } else if (step->other != step->name) {
        if (model->apps[step->other].count) {
            return ERR_EXIST;
        }
        model->apps[step->other] = *app;
        app->count = 0;
    }
    return ERR_OK;
}

static enum err real_step(struct catalog *catalog, const struct step *step) {
    char module[32], layer[32];
    struct app *app = NULL;
    cleanup_buf struct buf message = {0};
    enum err err = ERR_NOSYS;
    (void)snprintf(module, sizeof module, "module %d", step->module);
    (void)snprintf(layer, sizeof layer, "layer %d", step->layer);
    switch (step->kind) {
    case UPLOAD:
        err = upload(catalog, names[step->name], module, step->layer >= 0 ? layer : NULL, NULL,
                     &app, NULL);
        break;
    case REMOVE:
        err = DO(catalog_remove(&op, catalog, str_of(names[step->name])));
        break;
    case RENAME:
        err =
            DO(catalog_rename(&op, catalog, str_of(names[step->name]), str_of(names[step->other])));
        break;
    case ROLLBACK:
        err = DO(catalog_rollback(&op, catalog, str_of(names[step->name]), (uint32_t)step->number,
                                  &app, &message));
        break;
    }
    app_unref(app);
    return err;
}

static bool has_content(const char *path, const char *word, int number) {
    char text[32];
    (void)snprintf(text, sizeof text, "%s %d", word, number);
    cleanup_buf struct buf content = {0};
    return fsio_read_file(path, 100, &content) == ERR_OK && str_equal_text(buf_str(&content), text);
}

static int count_files(const char *folder) {
    DIR *stream = opendir(in_state("%s", folder));
    int count = 0;
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));) {
        count += entry->d_name[0] != '.';
    }
    closedir(stream);
    return count;
}

/* Whether the catalog is as the model has it, with every file that it needs and no other. */
static bool matches(struct catalog *catalog, const struct model *model) {
    bool modules[MODULES] = {false};
    bool *layers = calloc((size_t)model->layer_files + 1, sizeof *layers);
    size_t apps = 0;
    int module_count = 0, layer_count = 0;
    bool same = true;
    for (int i = 0; i < NAMES && same; i++) {
        const struct model_app *expected = &model->apps[i];
        struct app *app = NULL;
        bool found = catalog_find(catalog, str_of(names[i]), &app) == ERR_OK;
        same = found == (expected->count > 0);
        if (same && found) {
            const struct model_version *version = &expected->versions[expected->count - 1];
            cleanup_buf struct buf path = {0};
            assert_int_equal(catalog_module_path(catalog, app->version.module_sha256, &path),
                             ERR_OK);
            same = (int)app->version.number == expected->count &&
                   has_content(buf_text(&path), "module", version->module) &&
                   (app->version.layer_id != 0) == (version->layer >= 0) &&
                   (version->layer < 0 ||
                    has_content(in_state("volumes/%lld.db", (long long)app->version.layer_id),
                                "layer", version->layer));
            apps++;
        }
        app_unref(app);
        for (int j = 0; j < expected->count; j++) {
            const struct model_version *version = &expected->versions[j];
            module_count += !modules[version->module];
            modules[version->module] = true;
            if (version->layer_file >= 0) {
                layer_count += !layers[version->layer_file];
                layers[version->layer_file] = true;
            }
        }
    }
    free(layers);
    return same && apps == catalog_count(catalog) && count_files("modules") == module_count &&
           count_files("volumes") == layer_count && count_files("tmp") == 0;
}

static void share(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
}

static void unshare_memory(void) {
    munmap(shared, sizeof *shared);
    shared = NULL;
}

/* For a child: what it says goes to `log`, and a failed assertion ends it. */
static void become_child(int log) {
    dup2(log, STDERR_FILENO);
    setenv("CMOCKA_TEST_ABORT", "1", 1);
}

/* Whether a child ended itself because of a failed sync, and not of an assertion. */
static bool says_sync_failed(int log) {
    char text[4096] = "";
    return pread(log, text, sizeof text - 1, 0) > 0 && strstr(text, "can't be synced");
}

/* Steps until it is killed. */
static void child_of_random_kills(uint64_t seed, const struct model *before) {
    struct model *model = malloc(sizeof *model);
    *model = *before;
    begin_loop();
    hook_system();
    struct catalog *catalog = open_catalog();
    for (int i = 0; i < 40; i++) {
        struct step step = random_step(&seed);
        atomic_store(&shared->begun, i + 1);
        if (real_step(catalog, &step) != model_step(model, &step)) {
            _exit(9);
        }
        atomic_store(&shared->acknowledged, i + 1);
    }
    catalog_free(catalog);
    _exit(0);
}

/* Checks what is there after a kill, and brings the model there. */
static void check_after_kill(struct model *model, uint64_t seed) {
    struct catalog *catalog = open_catalog();
    int acknowledged = atomic_load(&shared->acknowledged), begun = atomic_load(&shared->begun);
    for (int i = 0; i < acknowledged; i++) {
        struct step step = random_step(&seed);
        (void)!model_step(model, &step);
    }
    if (!matches(catalog, model)) {
        assert_int_equal(begun, acknowledged + 1);
        struct step step = random_step(&seed);
        (void)!model_step(model, &step);
        assert_true(matches(catalog, model));
    }
    catalog_free(catalog);
}

static void check_history(const struct model *model) {
    for (int i = 0; i < NAMES; i++) {
        if (model->apps[i].count > VERSIONS_MAX - 60) {
            fail_msg("the history is too long");
        }
    }
}

/* Killed at a random moment, or at a random system call. */
static void test_random_kills(void **state) {
    (void)state;
    share();
    struct model *model = calloc(1, sizeof *model);
    uint64_t seed = 42;
    int killed = 0;
    for (int round = 0; round < 100; round++) {
        uint64_t steps = next_random(&seed);
        shared->begun = shared->acknowledged = 0;
        shared->mode = round % 2 ? MODE_KILL : MODE_OFF;
        shared->countdown = (int)(next_random(&seed) % 300) + 1;
        check_history(model);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            become_child(STDERR_FILENO);
            child_of_random_kills(steps, model);
        }
        if (round % 2 == 0) {
            /* The moment is what is random here: nothing waits for this to be over. */
            usleep((useconds_t)(next_random(&seed) % 30000));
            kill(child, SIGKILL);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        bool is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        assert_true(is_killed || status == 0);
        killed += is_killed;
        shared->mode = MODE_OFF;
        check_after_kill(model, steps);
    }
    assert_true(killed > 25);
    free(model);
    unshare_memory();
}

/* Every kind of change on a small catalog. */
static const struct step preparation[] = {
    {UPLOAD, 0, 0, 0, 0, 0},
    {UPLOAD, 0, 0, 1, 1, 0},
    {UPLOAD, 1, 0, 0, -1, 0},
};
static const struct step changes[] = {
    {UPLOAD, 2, 0, 2, 2, 0},  /* a new app */
    {UPLOAD, 0, 0, 3, 1, 0},  /* a new version */
    {UPLOAD, 1, 0, 0, -1, 0}, /* of a module that is there */
    {REMOVE, 0, 0, 0, 0, 0},  {RENAME, 0, 3, 0, 0, 0}, {ROLLBACK, 0, 0, 0, 0, 1},
};

static struct model *new_model(void) {
    struct model *model = calloc(1, sizeof *model);
    for (size_t i = 0; i < ARRAY_LENGTH(preparation); i++) {
        assert_int_equal(model_step(model, &preparation[i]), ERR_OK);
    }
    return model;
}

static void child_of_failure(const struct step *change, enum mode mode) {
    begin_loop();
    hook_system();
    struct catalog *catalog = open_catalog();
    for (size_t i = 0; i < ARRAY_LENGTH(preparation); i++) {
        assert_int_equal(real_step(catalog, &preparation[i]), ERR_OK);
    }
    shared->calls = 0;
    shared->begun = 1;
    shared->mode = mode;
    shared->result = real_step(catalog, change);
    shared->mode = MODE_OFF;
    shared->acknowledged = 1;
    if (shared->result != ERR_OK) { /* nothing is left over, without a restart */
        struct model *model = new_model();
        assert_true(matches(catalog, model));
        free(model);
    }
    /* It goes on working. */
    const struct step second = {UPLOAD, 1, 0, 4, 0, 0};
    shared->second_result = real_step(catalog, &second);
    catalog_free(catalog);
    _exit(0);
}

/* One change with its `n`th call failing or killing. False when there are not so many calls. */
static bool fail_once(const struct step *change, enum mode mode, int n, int error) {
    *shared = (struct shared){.countdown = n, .error = error, .result = -1, .second_result = -1};
    void *none = NULL;
    assert_int_equal(set_up(&none), 0);
    end_loop(); /* the child has its own */
    fflush(NULL);
    int log = memfd_create("log", MFD_CLOEXEC);
    assert_true(log >= 0);
    pid_t child = fork();
    if (child == 0) {
        become_child(log);
        child_of_failure(change, mode);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    shared->mode = MODE_OFF;
    bool happened = shared->calls >= n;
    struct model *model = new_model();
    struct catalog *catalog = open_catalog();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        /* What was said is so, and what came after it went well. */
        if (shared->result == ERR_OK) {
            assert_int_equal(model_step(model, change), ERR_OK);
        }
        assert_int_equal(shared->second_result, ERR_OK);
        const struct step second = {UPLOAD, 1, 0, 4, 0, 0};
        assert_int_equal(model_step(model, &second), ERR_OK);
        assert_true(matches(catalog, model));
    } else {
        /* It died: at the kill, or because a sync failed. */
        assert_true(shared->begun);
        assert_false(shared->acknowledged);
        assert_true(WIFSIGNALED(status));
        assert_true(WTERMSIG(status) == SIGKILL ? mode == MODE_KILL : says_sync_failed(log));
        if (!matches(catalog, model)) {
            assert_int_equal(model_step(model, change), ERR_OK);
            assert_true(matches(catalog, model));
        }
    }
    catalog_free(catalog);
    free(model);
    close(log);
    begin_loop();
    assert_int_equal(tear_down(&none), 0);
    return happened;
}

static void fail_each(enum mode mode, int error, int step) {
    share();
    for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
        int n = 1;
        while (fail_once(&changes[i], mode, n, error)) {
            n += step;
        }
        assert_true(n > 3); /* it was really hooked */
    }
    unshare_memory();
}

static void test_each_call_kills(void **state) {
    (void)state;
    fail_each(MODE_KILL, 0, 1);
}

static void test_each_call_fails(void **state) {
    (void)state;
    fail_each(MODE_FAIL, EIO, 1);
}

static void test_each_call_finds_no_space(void **state) {
    (void)state;
    fail_each(MODE_FAIL, ENOSPC, 2);
}

/* All that can be seen of the catalog, as text. */
static void describe(void *argument, struct app *app) {
    struct buf *text = argument;
    char hash[SHA256_TEXT_SIZE];
    sha256_to_text(app->version.module_sha256, hash);
    char *config = json_dumps(app->config, JSON_COMPACT);
    assert_int_equal(buf_printf(text, "%lld %s %lld %u %s %lld %s %llu %llu\n", (long long)app->id,
                                app->name, (long long)app->volume_id, app->version.number, hash,
                                (long long)app->version.layer_id, config,
                                (unsigned long long)app->generation,
                                (unsigned long long)app->changed_ns),
                     ERR_OK);
    free(config);
}

/* Opens a catalog of these bytes: it has the same content, or is refused and not touched. */
static bool open_damaged(const struct buf *bytes, const struct buf *expected) {
    assert_int_equal(fsio_replace_file(in_state("catalog.db"), bytes->data, bytes->length), ERR_OK);
    struct catalog *catalog = NULL;
    cleanup_buf struct buf message = {0};
    cleanup_buf struct buf found = {0};
    enum err err = catalog_open(state_directory, &catalog, &message);
    if (err) {
        assert_int_equal(err, ERR_IO);
        assert_non_null(strstr(buf_text(&message), state_directory));
        assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &found), ERR_OK);
        assert_true(str_equal(buf_str(&found), buf_str(bytes)));
    } else {
        catalog_each(catalog, describe, &found);
        assert_string_equal(buf_text(&found), buf_text(expected));
        catalog_free(catalog);
    }
    /* Nothing that rows speak of was removed. */
    assert_int_equal(count_files("modules"), 3);
    assert_int_equal(count_files("volumes"), 2);
    (void)unlink(in_state("catalog.db-wal"));
    return err != ERR_OK;
}

static void test_damage(void **state) {
    (void)state;
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", "layer");
    upload_ok(catalog, "a", "two", NULL);
    upload_ok(catalog, "b", "three", "layer");
    assert_ok(catalog_rename(&op, catalog, STR("b"), STR("b2")));
    cleanup_buf struct buf expected = {0};
    catalog_each(catalog, describe, &expected);
    catalog_free(catalog);
    cleanup_buf struct buf good = {0};
    assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &good), ERR_OK);
    uint64_t seed = 7;
    int refused = 0;
    for (int i = 0; i < 600; i++) {
        cleanup_buf struct buf bad = {0};
        assert_int_equal(buf_append(&bad, good.data, good.length), ERR_OK);
        if (i % 10 == 0) { /* cut off */
            bad.length = (size_t)(next_random(&seed) % good.length);
        } else if (i % 10 == 1) { /* a page of zeros */
            memset(bad.data + next_random(&seed) % (good.length / 4096) * 4096, 0, 4096);
        } else {
            for (uint64_t flips = next_random(&seed) % 3 + 1; flips > 0; flips--) {
                bad.data[next_random(&seed) % good.length] ^=
                    (uint8_t)(1u << next_random(&seed) % 8);
            }
        }
        refused += open_damaged(&bad, &expected);
    }
    assert_true(refused > 50);
    assert_false(open_damaged(&good, &expected));
}

/* One of an older schema whose opening is killed at its call number `n`. Whether there was one. */
static bool kill_upgrade(const struct buf *old, int n) {
    *shared = (struct shared){.countdown = n};
    (void)unlink(in_state("catalog.db-wal"));
    assert_int_equal(fsio_replace_file(in_state("catalog.db"), old->data, old->length), ERR_OK);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        hook_system();
        shared->mode = MODE_KILL;
        struct catalog *catalog = open_catalog();
        shared->mode = MODE_OFF;
        catalog_free(catalog);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    shared->mode = MODE_OFF;
    /* All of the tables or none. */
    int64_t schema = catalog_number("PRAGMA user_version");
    int64_t tables = catalog_number("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND "
                                    "name IN ('secret', 'layer', 'origin', 'session', 'alarm')");
    assert_true((schema == 1 && tables == 0) || (schema == SCHEMA_PRESENT && tables == 5));
    struct catalog *catalog = open_catalog();
    app_unref(find_app(catalog, "a"));
    catalog_free(catalog);
    assert_int_equal(catalog_number("PRAGMA user_version"), SCHEMA_PRESENT);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void test_upgrade_kills(void **state) {
    (void)state;
    share();
    struct catalog *catalog = open_catalog();
    upload_ok(catalog, "a", "one", NULL);
    catalog_free(catalog);
    make_old(1);
    cleanup_buf struct buf old = {0};
    assert_int_equal(fsio_read_file(in_state("catalog.db"), MIB, &old), ERR_OK);
    int n = 1;
    while (kill_upgrade(&old, n)) {
        n++;
    }
    assert_true(n > 3); /* it was really hooked */
    unshare_memory();
}

/* Opening looks at no file of an app's. */
static void test_opening_many(void **state) {
    (void)state;
    share();
    int calls[2];
    struct catalog *catalog = open_catalog();
    for (int round = 0; round < 2; round++) {
        int first = round ? 10 : 0, last = round ? 200 : 10;
        for (int i = first; i < last; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "app%d", i);
            upload_ok(catalog, name, name, NULL);
        }
        catalog_free(catalog);
        hook_system();
        shared->calls = 0;
        shared->mode = MODE_COUNT;
        catalog = open_catalog();
        shared->mode = MODE_OFF;
        calls[round] = shared->calls;
        assert_int_equal(catalog_count(catalog), last);
    }
    assert_int_equal(calls[0], calls[1]);
    catalog_free(catalog);
    unshare_memory();
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_random_kills),
        cmocka_unit_test(test_each_call_kills),
        cmocka_unit_test(test_each_call_fails),
        cmocka_unit_test(test_each_call_finds_no_space),
        TEST(test_damage),
        TEST(test_upgrade_kills),
        TEST(test_opening_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
