/* /env, /dev and /proc, and the trees of runs: with real guests, on behalf of a run, of another
 * run, and of the control door. */
#include "dev/devices.h"
#include "dev/env.h"
#include "dev/proc.h"
#include "dev/tree.h"
#include "run/run_testing.h"

static struct fixture fixture;
static struct tree *tree;
static struct file *env, *devices, *proc;

static int set_up(void **state) {
    (void)state;
    fixture_init(&fixture);
    struct tree_options options = {
        .catalog = fixture.catalog, .disk_bytes = 64 * MIB, .disk_inodes = 1000};
    assert_int_equal(tree_new(&options, &tree), ERR_OK);
    fixture.hooks = tree_hooks(tree);
    fixture_make_runs(&fixture);
    assert_int_equal(dev_env_new(fixture.runs, &env), ERR_OK);
    assert_int_equal(dev_devices_new(fixture.runs, &devices), ERR_OK);
    assert_int_equal(dev_proc_new(fixture.runs, &proc), ERR_OK);
    return tree_set_cloud(tree, fixture.runs, NULL) ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    fixture_free_runs(&fixture);
    file_unref(env);
    file_unref(devices);
    file_unref(proc);
    tree_free(tree);
    fixture_done(&fixture);
    return 0;
}

/* A guest that waits for input, of an app with some environment. */
static struct run *start_waiting(const char *name, uint64_t parent_id) {
    struct app *app =
        fixture_app(&fixture, name, guest_cat,
                    "{\"args\": [\"one\", \"two\"], \"env\": {\"COLOUR\": \"blue\"}}");
    struct str tag = STR("user:7");
    struct run_request request = {.app = app,
                                  .stdin_open = true,
                                  .detached = true,
                                  .parent_id = parent_id,
                                  .tags = &tag,
                                  .tag_count = 1};
    struct run *run = fixture_start(&fixture, &request);
    FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
    app_unref(app);
    return run;
}

static void end(struct run *run) {
    run_kill(run, RUN_REASON_KILLED);
    fixture_wait(&fixture, run);
    run_unref(run);
}

/* Walks all of a path with slashes; NULL (and the error) if something is not there. */
static struct file *find(const struct who *who, struct file *root, const char *path,
                         enum err *ret_err) {
    struct op op;
    op_init(&op, fixture.loops[0], who, fixture_no_wake);
    struct str names[8], rest = str_of(path);
    size_t count = 0, walked = 0;
    while (rest.data) {
        names[count++] = str_cut(&rest, '/');
    }
    struct file *file = NULL;
    *ret_err = FIXTURE_WAIT(&fixture, file_walk(&op, root, names, count, &walked, &file));
    if (!*ret_err && walked < count) {
        file_unref(file);
        file = NULL;
        *ret_err = ERR_NOENT;
    }
    op_done(&op);
    return file;
}

/* Opens and reads all of a file: its text, valid until the next call, or NULL. Checks that stat and
 * content agree where it is a regular file. */
static const char *read_all(const struct who *who, struct file *root, const char *path) {
    static char text[4096];
    enum err err;
    struct file *file = find(who, root, path, &err), *opened;
    if (!file) {
        return NULL;
    }
    struct op op;
    op_init(&op, fixture.loops[0], who, fixture_no_wake);
    assert_int_equal(file_open(&op, file, OPEN_READ, &opened), ERR_OK);
    struct file_stat stat;
    assert_int_equal(file_stat(&op, opened, &stat), ERR_OK);
    size_t length = 0, got;
    do {
        got = 0;
        size_t size = MIN((size_t)7, sizeof(text) - 1 - length); /* in small pieces */
        err = FIXTURE_WAIT(&fixture, file_read(&op, opened, text + length, size, length, &got));
        assert_int_equal(err, ERR_OK);
        length += got;
    } while (got > 0);
    text[length] = 0;
    if (stat.type == FILE_REGULAR) {
        assert_int_equal(stat.size, length);
    }
    assert_int_equal(stat.inode, file->inode);
    file_closed(opened, OPEN_READ);
    file_unref(opened);
    file_unref(file);
    op_done(&op);
    return text;
}

static enum err write_to(const struct who *who, struct file *root, const char *path,
                         const char *text) {
    enum err err;
    struct file *file = find(who, root, path, &err), *opened;
    if (!file) {
        return err;
    }
    struct op op;
    op_init(&op, fixture.loops[0], who, fixture_no_wake);
    err = file_open(&op, file, OPEN_WRITE, &opened);
    if (!err) {
        size_t written;
        err = FIXTURE_WAIT(&fixture, file_write(&op, opened, text, strlen(text), 0, &written));
        file_closed(opened, OPEN_WRITE);
        file_unref(opened);
    }
    file_unref(file);
    op_done(&op);
    return err;
}

/* The names of a directory, each with a space behind it. Inodes must be those that walking finds.
 */
static const char *list(const struct who *who, struct file *root, const char *path) {
    static char text[1024];
    text[0] = 0;
    enum err err;
    struct file *directory = path ? find(who, root, path, &err) : file_ref(root);
    assert_non_null(directory);
    struct op op;
    op_init(&op, fixture.loops[0], who, fixture_no_wake);
    struct dir_list entries = {0};
    assert_int_equal(file_readdir(&op, directory, &entries), ERR_OK);
    for (size_t i = 0; i < entries.count; i++) {
        struct str name = dir_list_name(&entries, i);
        char copy[300];
        snprintf(copy, sizeof(copy), STR_FORMAT, STR_ARGS(name));
        strcat(strcat(text, copy), " ");
        struct file *file = find(who, directory, copy, &err);
        assert_non_null(file);
        assert_int_equal(file->inode, entries.entries[i].inode);
        assert_int_equal(file->type, entries.entries[i].type);
        file_unref(file);
    }
    dir_list_done(&entries);
    file_unref(directory);
    op_done(&op);
    return text;
}

static void test_env(void **state) {
    (void)state;
    struct run *run = start_waiting("env", 0);
    assert_string_equal(list(run_who(run), env, NULL), "COLOUR ");
    assert_string_equal(read_all(run_who(run), env, "COLOUR"), "blue");
    assert_null(read_all(run_who(run), env, "NOTHING"));
    assert_int_not_equal(write_to(run_who(run), env, "COLOUR", "x"), ERR_OK);
    assert_string_equal(list(fixture.who, env, NULL), "");
    assert_null(read_all(fixture.who, env, "COLOUR"));
    end(run);
}

static void test_devices(void **state) {
    (void)state;
    struct run *run = start_waiting("devices", 0);
    const struct who *who = run_who(run);
    assert_string_equal(list(who, devices, NULL),
                        "null zero full random urandom stdin stdout stderr log metric ");
    assert_string_equal(list(fixture.who, devices, NULL), "null zero full random urandom log "
                                                          "metric ");
    assert_string_equal(read_all(who, devices, "null"), "");
    assert_int_equal(write_to(who, devices, "null", "x"), ERR_OK);
    assert_int_equal(write_to(who, devices, "zero", "x"), ERR_OK);
    assert_int_equal(write_to(who, devices, "full", "x"), ERR_NOSPC);
    assert_int_equal(write_to(who, devices, "nothing", "x"), ERR_NOENT);

    struct op op;
    op_init(&op, fixture.loops[0], who, fixture_no_wake);
    enum err err;
    uint8_t data[64], zeros[64] = {0};
    size_t got;
    struct file *file = find(who, devices, "zero", &err);
    memset(data, 1, sizeof(data));
    assert_int_equal(file_read(&op, file, data, sizeof(data), 0, &got), ERR_OK);
    assert_int_equal(got, sizeof(data));
    assert_memory_equal(data, zeros, sizeof(data));
    file_unref(file);
    file = find(who, devices, "random", &err);
    assert_int_equal(file_read(&op, file, data, sizeof(data), 0, &got), ERR_OK);
    assert_int_equal(got, sizeof(data));
    assert_memory_not_equal(data, zeros, sizeof(data));
    file_unref(file);
    op_done(&op);

    /* The streams are the run's own. */
    assert_int_equal(write_to(who, devices, "stderr", "by the device\n"), ERR_OK);
    assert_int_equal(run_status(run).output_bytes, 14);
    assert_int_equal(write_to(fixture.who, devices, "stdout", "x"), ERR_NXIO);

    assert_int_equal(write_to(who, devices, "metric", "a 1\nb 2\n"), ERR_OK);
    assert_int_equal(dev_devices_metric_lines(devices), 2);
    assert_int_equal(write_to(who, devices, "log", "one\ntwo"), ERR_OK);
    assert_int_equal(write_to(fixture.who, devices, "log", "x"), ERR_NXIO);
    char text[1000];
    uint64_t offset;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    assert_int_equal(FIXTURE_WAIT(&fixture, applog_read(&op, run_applog(run), 0, text,
                                                        sizeof(text) - 1, &got, &offset)),
                     ERR_OK);
    text[got] = 0;
    assert_non_null(strstr(text, " log one\n"));
    assert_non_null(strstr(text, " log two\n"));
    op_done(&op);
    end(run);
}

static void test_proc(void **state) {
    (void)state;
    struct run *run = start_waiting("proc", 0);
    struct run *child = start_waiting("child", run_id(run));
    struct run *stranger = start_waiting("stranger", 0);
    char path[64], wanted[128];
    uint64_t id = run_id(run);

    /* Who sees whom. */
    snprintf(wanted, sizeof(wanted), "%llu self %llu ", (unsigned long long)id,
             (unsigned long long)run_id(child));
    assert_string_equal(list(run_who(run), proc, NULL), wanted);
    snprintf(wanted, sizeof(wanted), "%llu self ", (unsigned long long)run_id(child));
    assert_string_equal(list(run_who(child), proc, NULL), wanted);
    snprintf(path, sizeof(path), "%llu/status", (unsigned long long)run_id(stranger));
    assert_null(read_all(run_who(run), proc, path));
    assert_non_null(read_all(fixture.who, proc, path));
    struct who other_owner = {.owner_id = 2, .may_control = true};
    assert_null(read_all(&other_owner, proc, path));
    assert_null(read_all(fixture.who, proc, "self/status"));
    assert_null(read_all(fixture.who, proc, "0/status"));
    assert_null(read_all(fixture.who, proc, "99999999/status"));
    snprintf(path, sizeof(path), "0%llu", (unsigned long long)id);
    enum err err;
    assert_null(find(fixture.who, proc, path, &err));

    /* What is there. */
    assert_string_equal(
        list(run_who(run), proc, "self"),
        "status args env usage changed stdin stdout stderr log wait ctl root errstr ");
    assert_string_equal(read_all(run_who(run), proc, "self/args"), "proc\none\ntwo\n");
    assert_string_equal(read_all(run_who(run), proc, "self/env"), "COLOUR=blue\n");
    const char *status = read_all(run_who(run), proc, "self/status");
    assert_non_null(strstr(status, "app: proc\n"));
    assert_non_null(strstr(status, "state: waiting\n"));
    assert_non_null(strstr(status, "tag: user:7\n"));
    assert_non_null(strstr(read_all(run_who(run), proc, "self/usage"), "memory_bytes: 131072\n"));
    json_t *json = dev_proc_status_json(run);
    assert_non_null(json);
    assert_int_equal(json_integer_value(json_object_get(json, "id")), id);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "waiting");
    assert_true(json_is_true(json_object_get(json, "detached")));
    assert_int_equal(json_array_size(json_object_get(json, "tags")), 1);
    json_decref(json);

    /* What it can be told, from outside and by the run that started it. */
    snprintf(path, sizeof(path), "%llu/ctl", (unsigned long long)run_id(child));
    assert_int_equal(write_to(run_who(run), proc, path, "pause\nnonsense\n"), ERR_INVAL);
    assert_int_equal(write_to(run_who(run), proc, path, "pause\n"), ERR_OK);
    FIXTURE_TURN_UNTIL(&fixture, run_status(child).state == RUN_PAUSED);
    assert_int_equal(write_to(fixture.who, proc, path, "resume"), ERR_OK);
    FIXTURE_TURN_UNTIL(&fixture, run_status(child).state == RUN_WAITING);
    snprintf(path, sizeof(path), "%llu/stdin", (unsigned long long)run_id(child));
    assert_int_equal(write_to(run_who(run), proc, path, "to be copied\n"), ERR_OK);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    snprintf(path, sizeof(path), "%llu", (unsigned long long)run_id(child));
    struct file *directory = find(fixture.who, proc, path, &err);
    assert_int_equal(file_remove(&op, directory, STR("status"), false), ERR_PERM);
    assert_int_equal(file_remove(&op, directory, STR("stdin"), false), ERR_OK);
    file_unref(directory);
    op_done(&op);
    snprintf(path, sizeof(path), "%llu/log", (unsigned long long)run_id(child));
    assert_string_equal(read_all(run_who(run), proc, path), "to be copied\n");
    snprintf(path, sizeof(path), "%llu/stdout", (unsigned long long)run_id(child));
    assert_string_equal(read_all(run_who(run), proc, path), "to be copied\n");
    snprintf(path, sizeof(path), "%llu/stderr", (unsigned long long)run_id(child));
    assert_string_equal(read_all(run_who(run), proc, path), "");
    snprintf(path, sizeof(path), "%llu/wait", (unsigned long long)run_id(child));
    assert_string_equal(read_all(run_who(run), proc, path), "exit 0\n");
    snprintf(path, sizeof(path), "%llu/stdin", (unsigned long long)run_id(child));
    assert_int_equal(write_to(fixture.who, proc, path, "x"), ERR_PIPE);
    snprintf(path, sizeof(path), "%llu/status", (unsigned long long)run_id(child));
    assert_non_null(strstr(read_all(fixture.who, proc, path), "reason: exit\n"));

    /* A read of what is not there yet waits; AGAIN if it must not. */
    op_init(&op, fixture.loops[0], run_who(run), fixture_no_wake);
    struct file *wait = find(run_who(run), proc, "self/wait", &err);
    char data[16];
    size_t got;
    op.nonblocking = true;
    assert_int_equal(file_read(&op, wait, data, sizeof(data), 0, &got), ERR_AGAIN);
    op.nonblocking = false;
    assert_int_equal(file_read(&op, wait, data, sizeof(data), 0, &got), ERR_PENDING);
    op_done(&op);
    file_unref(wait);
    run_unref(child);
    end(stranger);
    end(run);
}

/* The files of a run: below /proc/ID/root, and what others may see of them. */
static void test_root(void **state) {
    (void)state;
    struct run *run = start_waiting("rooted", 0);
    struct run *child = start_waiting("other", run_id(run));
    struct file *root;
    assert_int_equal(run_root(run, &root), ERR_OK);
    struct op op;
    op_init(&op, fixture.loops[0], fixture.who, fixture_no_wake);
    struct file *made;
    assert_int_equal(
        FIXTURE_WAIT(&fixture, file_create(&op, root, STR("data"), FILE_DIRECTORY, &made)), ERR_OK);
    struct file *inner;
    assert_int_equal(FIXTURE_WAIT(&fixture, file_create(&op, made, STR("x"), FILE_REGULAR, &inner)),
                     ERR_OK);
    size_t written;
    assert_int_equal(FIXTURE_WAIT(&fixture, file_write(&op, inner, "kept", 4, 0, &written)),
                     ERR_OK);
    file_unref(inner);
    file_unref(made);
    file_unref(root);
    op_done(&op);
    char path[64];
    snprintf(path, sizeof(path), "%llu/root/data/x", (unsigned long long)run_id(run));
    assert_string_equal(read_all(fixture.who, proc, path), "kept");
    assert_string_equal(read_all(run_who(run), proc, "self/root/data/x"), "kept");
    assert_null(read_all(run_who(run), proc, "self/root/data/y"));
    assert_null(read_all(run_who(run), proc, "self/root/nothing/x"));
    /* Another app's files are none of its business, though it started that run. */
    snprintf(path, sizeof(path), "%llu/root", (unsigned long long)run_id(child));
    enum err err;
    assert_null(find(run_who(run), proc, path, &err));
    assert_int_equal(err, ERR_NOENT);
    end(child);
    snprintf(path, sizeof(path), "%llu/root/data/x", (unsigned long long)run_id(run));
    end(run);
    /* It is in the app's volume, as whoever may control it still sees here. */
    assert_string_equal(read_all(fixture.who, proc, path), "kept");
    const struct who stranger = {.run_id = 1000, .app_id = fixture.who->app_id, .owner_id = 1};
    assert_null(read_all(&stranger, proc, path));
}

/* What each mode of root shows, and what the next run finds. */
static void test_modes(void **state) {
    (void)state;
    static const struct {
        const char *mode;
        bool can_write, next_sees_it, is_kept;
    } cases[] = {{"keep", true, true, false},
                 {"ro", false, false, false},
                 {"fresh", true, false, true},
                 {"session", true, true, false}};
    struct app *app = fixture_app(&fixture, "modes", guest_cat, NULL);
    for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
        struct run_request request = {
            .app = app, .stdin_open = true, .root = str_of(cases[i].mode)};
        for (int again = 0; again < 2; again++) {
            struct run *run = fixture_start(&fixture, &request);
            FIXTURE_TURN_UNTIL(&fixture, run_status(run).state == RUN_WAITING);
            struct file *root, *made;
            assert_int_equal(run_root(run, &root), ERR_OK);
            struct op op;
            op_init(&op, fixture.loops[0], run_who(run), fixture_no_wake);
            struct str name = str_of(cases[i].mode);
            enum err err =
                FIXTURE_WAIT(&fixture, file_create(&op, root, name, FILE_REGULAR, &made));
            enum err wanted = !cases[i].can_write              ? ERR_ROFS
                              : again && cases[i].next_sees_it ? ERR_EXIST
                                                               : ERR_OK;
            assert_int_equal(err, wanted);
            if (!err) {
                file_unref(made);
            }
            file_unref(root);
            op_done(&op);
            run_stdin_close(run);
            assert_int_equal(fixture_wait(&fixture, run).reason, RUN_REASON_EXIT);
            assert_int_equal(run_root(run, &root), cases[i].is_kept ? ERR_OK : ERR_NOENT);
            if (cases[i].is_kept) {
                enum err gone;
                made = find(fixture.who, root, cases[i].mode, &gone);
                assert_non_null(made);
                file_unref(made);
                file_unref(root);
            }
            run_unref(run);
        }
    }
    struct run_request request = {.app = app, .root = STR("not a name")};
    cleanup_buf struct buf message = {0};
    struct run *run;
    assert_int_equal(run_start(fixture.runs, fixture.loops[0], &request, &run, &message),
                     ERR_INVAL);
    assert_non_null(strstr(buf_text(&message), "root='not a name' is not valid"));
    app_unref(app);
}

/* Makes /tmp/mark and exits with 0; with 1 if it is there already. */
static const char guest_mark[] =
    "(module " FIXTURE_EXIT "(import \"" FIXTURE_WASI "\" \"path_open\" (func $path_open"
    " (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"
    "(memory (export \"memory\") 1) (data (i32.const 0) \"tmp/mark\")"
    "(func (export \"_start\") (call $proc_exit"
    " (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8)"
    "  (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 100)))))";

/* /tmp is empty for each run, though namespaces are used again. */
static void test_tmp(void **state) {
    (void)state;
    struct app *app = fixture_app(&fixture, "marks", guest_mark, NULL);
    struct app *hello = fixture_app(&fixture, "marks2", guest_hello, NULL);
    for (int i = 0; i < 20; i++) {
        struct run_request request = {.app = i % 3 ? app : hello};
        struct run *run = fixture_start(&fixture, &request);
        struct run_status status = fixture_wait(&fixture, run);
        assert_int_equal(status.reason, RUN_REASON_EXIT);
        assert_int_equal(status.exit_status, 0);
        run_unref(run);
    }
    /* A new configuration is a new plan. */
    struct app *changed = fixture_app(&fixture, "marks", guest_mark, "{\"mounts\": [\"v:/data\"]}");
    struct run_request request = {.app = changed};
    struct run *run = fixture_start(&fixture, &request);
    assert_int_equal(fixture_wait(&fixture, run).exit_status, 0);
    run_unref(run);
    /* The snapshot of before still has its runs. */
    request.app = app;
    run = fixture_start(&fixture, &request);
    assert_int_equal(fixture_wait(&fixture, run).exit_status, 0);
    run_unref(run);
    tree_forget(tree, app->id);
    app_unref(changed);
    app_unref(hello);
    app_unref(app);
}

int main(int argc, char **argv) {
    FIXTURE_COMPILER_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_env),  cmocka_unit_test(test_devices), cmocka_unit_test(test_proc),
        cmocka_unit_test(test_root), cmocka_unit_test(test_modes),   cmocka_unit_test(test_tmp),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
