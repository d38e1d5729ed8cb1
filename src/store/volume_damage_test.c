/* What a volume does when its database is damaged, the disk is full, or writing fails. */
#include "store/volume_internal.h"
#include "store/volume_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

static uint64_t seed = 7;

/* A lost volume is logged; here that happens on purpose and often. */
static int silence(void) {
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(kept >= 0 && null >= 0);
    assert_true(dup2(null, STDERR_FILENO) >= 0);
    (void)close(null);
    return kept;
}

static void speak(int kept) {
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    (void)close(kept);
}

static void make_volume(void) {
    struct model model;
    model_init(&model, next_random(&seed));
    struct volume *volume = open_volume();
    for (int i = 0; i < 600; i++) {
        model_step(&model, volume);
    }
    model_let_go(&model, volume, true);
    volume_unref(volume);
    model_done(&model);
}

/* Any error but none that would mean that we were wrong. */
static void use_directory(struct volume *volume, uint64_t directory, int depth) {
    struct dir_list list = {0};
    (void)!DO(volume_readdir(&op, volume, directory, &list));
    static uint8_t data[300000];
    for (size_t i = 0; i < list.count && i < 50; i++) {
        struct str name = dir_list_name(&list, i);
        size_t walked, moved;
        uint64_t inode;
        enum file_type type;
        if (DO(volume_walk(&op, volume, directory, &name, 1, &walked, &inode, &type)) != ERR_OK) {
            continue;
        }
        cleanup_buf struct buf target = {0};
        (void)!DO(volume_readlink(&op, volume, inode, &target));
        (void)!DO(volume_read(&op, volume, inode, data, sizeof(data), 0, &moved));
        (void)!DO(volume_write(&op, volume, inode, data, 5000, next_random(&seed) % 60000, &moved));
        (void)!DO(volume_set_size(&op, volume, inode, next_random(&seed) % 60000));
        if (type == FILE_DIRECTORY && depth > 0) {
            use_directory(volume, inode, depth - 1);
            (void)!DO(volume_rename(&op, volume, directory, name, inode, STR("below")));
        }
        if (next_random(&seed) % 4 == 0) {
            (void)!DO(volume_remove(&op, volume, directory, name, type == FILE_DIRECTORY));
        }
        volume_let_go(volume, inode);
    }
    dir_list_done(&list);
}

/* True if it could be opened. */
static bool use_volume(bool read_only) {
    struct volume_options options = {.path = volume_path, .read_only = read_only};
    struct volume *volume;
    cleanup_buf struct buf message = {0};
    enum err err = volume_open(&options, &volume, &message);
    if (err != ERR_OK) {
        assert_int_equal(err, ERR_IO);
        assert_true(message.length > 0);
        return false;
    }
    use_directory(volume, VOLUME_ROOT_INODE, 4);
    enum err synced = DO(volume_sync(&op, volume));
    assert_true(synced == ERR_OK || synced == ERR_IO || synced == ERR_NOSPC);
    volume_unref(volume);
    return true;
}

static void write_file(const uint8_t *data, size_t length) {
    char wal[320];
    (void)snprintf(wal, sizeof(wal), "%s-wal", volume_path);
    (void)unlink(wal);
    int file = open(volume_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, data, length), length);
    (void)close(file);
}

static void test_a_damaged_database_is_an_error_and_no_crash(void **state) {
    (void)state;
    const char *rounds = getenv("VOLUME_DAMAGE_ROUNDS"); /* for a longer search */
    uint64_t count = rounds ? strtoull(rounds, NULL, 10) : 300, opened = 0;
    make_volume();
    struct stat stat_before;
    assert_int_equal(stat(volume_path, &stat_before), 0);
    size_t length = (size_t)stat_before.st_size;
    uint8_t *good = malloc(length), *bad = malloc(length);
    int file = open(volume_path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(file, good, length), length);
    (void)close(file);
    int kept = silence();
    for (uint64_t i = 0; i < count; i++) {
        memcpy(bad, good, length);
        size_t bad_length = length;
        switch (next_random(&seed) % 4) {
        case 0: /* a bit anywhere */
            bad[next_random(&seed) % length] ^= (uint8_t)(1u << next_random(&seed) % 8);
            break;
        case 1: /* many bytes */
            for (int n = 0; n < 100; n++) {
                bad[next_random(&seed) % length] = (uint8_t)next_random(&seed);
            }
            break;
        case 2: /* the beginning of a page, where its structure is */
            bad[next_random(&seed) % (length / 4096) * 4096 + next_random(&seed) % 64] =
                (uint8_t)next_random(&seed);
            break;
        default:
            bad_length = next_random(&seed) % length;
        }
        write_file(bad, bad_length);
        opened += use_volume(next_random(&seed) % 4 == 0);
    }
    speak(kept);
    assert_true(opened > count / 10 && opened < count); /* both were seen */
    free(good);
    free(bad);
    (void)unlink(volume_path);
}

static void change_database(const char *sql) {
    sqlite3 *database;
    assert_int_equal(sqlite3_open(volume_path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

static void test_rows_that_make_no_sense_are_errors(void **state) {
    (void)state;
    static const char *const changes[] = {
        "UPDATE zasm_inode SET size = -1",
        "UPDATE zasm_inode SET type = 99",
        "UPDATE zasm_inode SET links = 0",
        "UPDATE zasm_inode SET links = -5 WHERE number > 1",
        "UPDATE zasm_inode SET data = -1 WHERE data <> 0",
        "UPDATE zasm_inode SET data = 0",
        "UPDATE zasm_inode SET data = (1 << 37) - 1 WHERE data <> 0",
        "UPDATE zasm_inode SET parent = number",
        "UPDATE zasm_inode SET parent = 12345",
        "UPDATE zasm_inode SET bytes = 1 << 62",
        "UPDATE zasm_inode SET target = zeroblob(100000)",
        "UPDATE zasm_inode SET size = 1 << 40 WHERE type = 4",
        "UPDATE zasm_inode SET size = 'text' WHERE type = 4",
        "UPDATE zasm_entry SET inode = 1",
        "UPDATE zasm_entry SET inode = -1",
        "UPDATE zasm_entry SET inode = 1 << 50",
        "UPDATE zasm_entry SET type = 3",
        "UPDATE zasm_entry SET type = 1000",
        "UPDATE zasm_entry SET name = zeroblob(1000 + inode)",
        "UPDATE zasm_entry SET name = 'text' || inode",
        "UPDATE zasm_chunk SET content = zeroblob(100000)",
        "UPDATE zasm_chunk SET content = 'text'",
        "UPDATE zasm_chunk SET content = zeroblob(0)",
        "UPDATE zasm_volume SET next_number = 1",
        "UPDATE zasm_volume SET next_number = 2",
        "UPDATE zasm_volume SET next_number = -1",
        "UPDATE zasm_volume SET bytes = -1",
        "UPDATE zasm_volume SET bytes = 0, inodes = 0",
        "DELETE FROM zasm_volume",
        "DELETE FROM zasm_inode",
        "DELETE FROM zasm_inode WHERE number > 1",
        "DROP TABLE zasm_chunk",
        "DROP INDEX zasm_orphan",
        "ALTER TABLE zasm_entry ADD COLUMN more",
        "INSERT INTO zasm_garbage VALUES (-1), (0), (1 << 60)",
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 1",
        "CREATE TRIGGER t AFTER INSERT ON zasm_chunk BEGIN DELETE FROM zasm_inode; END",
    };
    int kept = silence();
    for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
        make_volume();
        change_database(changes[i]);
        (void)use_volume(false);
        (void)unlink(volume_path);
    }
    speak(kept);
}

static void test_what_is_no_database_is_an_error(void **state) {
    (void)state;
    static const char text[] = "This is a text, rather longer than the header of a database, and "
                               "it shall neither be read as one nor be overwritten by one.";
    write_file((const uint8_t *)text, sizeof(text));
    assert_false(use_volume(false));
    struct stat stat_after;
    assert_int_equal(stat(volume_path, &stat_after), 0);
    assert_int_equal(stat_after.st_size, sizeof(text));
}

/* A database that may not grow is a full disk for SQLite. */
static void set_page_limit(struct volume *volume, int pages) {
    char sql[64];
    (void)snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %d", pages);
    pthread_mutex_lock(&volume->mutex);
    while (volume->busy) {
        pthread_mutex_unlock(&volume->mutex);
        (void)sched_yield();
        pthread_mutex_lock(&volume->mutex);
    }
    assert_int_equal(sqlite3_exec(volume->database, sql, NULL, NULL, NULL), SQLITE_OK);
    pthread_mutex_unlock(&volume->mutex);
}

static void test_a_full_disk_loses_nothing(void **state) {
    (void)state;
    struct model model;
    model_init(&model, 5);
    struct volume *volume = open_volume();
    for (int i = 0; i < 300; i++) {
        model_step(&model, volume);
    }
    assert_ok(volume_sync(&op, volume));
    set_page_limit(volume, 1); /* as many as it has */
    static uint8_t data[MIB];
    size_t written;
    uint64_t file;
    assert_ok(volume_create(&op, volume, VOLUME_ROOT_INODE, STR("big"), FILE_REGULAR, &file));
    /* It is taken in until too much waits; who asks is told at once. */
    assert_ok(volume_write(&op, volume, file, data, MIB, 0, &written));
    assert_err(volume_sync(&op, volume), NOSPC);
    assert_err(volume_sync(&op, volume), NOSPC);
    enum err err = ERR_OK;
    uint64_t size = MIB;
    for (; err == ERR_OK && size < 64 * MIB; size += written) {
        err = DO(volume_write(&op, volume, file, data, MIB, size, &written));
    }
    assert_int_equal(err, ERR_NOSPC);
    assert_true(size < 64 * MIB);
    /* Removing is possible, and then everything goes on. */
    assert_ok(volume_remove(&op, volume, VOLUME_ROOT_INODE, STR("big"), false));
    volume_let_go(volume, file);
    set_page_limit(volume, 1 << 30);
    assert_ok(volume_sync(&op, volume));
    for (int i = 0; i < 300; i++) {
        model_step(&model, volume);
    }
    model_let_go(&model, volume, true);
    struct volume_usage usage = volume_usage(volume);
    volume_unref(volume);
    check_accounts(&usage);
    volume = open_volume();
    assert_true(model_matches(&model, 0, volume, VOLUME_ROOT_INODE));
    volume_unref(volume);
    model_done(&model);
}

/* Writing fails at some size of the files: also while the database is made. */
static void test_writes_that_fail_lose_nothing(void **state) {
    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t limit = 0; limit < 60000; limit += 2500) {
        struct model model;
        model_init(&model, limit + 1);
        struct volume *volume = open_volume();
        for (int i = 0; i < 60; i++) {
            model_step(&model, volume);
        }
        struct rlimit low = {.rlim_cur = limit, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        enum err err = DO(volume_sync(&op, volume));
        for (int i = 0; i < 20; i++) {
            model_step(&model, volume);
        }
        enum err again = DO(volume_sync(&op, volume));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_true(err == ERR_OK || err == ERR_IO || err == ERR_NOSPC);
        assert_true(again == ERR_OK || again == ERR_IO || again == ERR_NOSPC);
        assert_true(limit > 0 || err != ERR_OK);
        for (int i = 0; i < 20; i++) {
            model_step(&model, volume);
        }
        assert_ok(volume_sync(&op, volume));
        assert_true(model_matches(&model, 0, volume, VOLUME_ROOT_INODE));
        model_let_go(&model, volume, true);
        volume_unref(volume);
        volume = open_volume();
        assert_true(model_matches(&model, 0, volume, VOLUME_ROOT_INODE));
        volume_unref(volume);
        model_done(&model);
        (void)unlink(volume_path);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_damaged_database_is_an_error_and_no_crash),
        TEST(test_rows_that_make_no_sense_are_errors),
        TEST(test_what_is_no_database_is_an_error),
        TEST(test_a_full_disk_loses_nothing),
        TEST(test_writes_that_fail_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
