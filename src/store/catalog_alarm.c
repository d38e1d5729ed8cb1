/* Which apps may have alarms, so that a start need not open every volume (catalog.h). */
#include "store/catalog_internal.h"

struct alarm_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    int64_t app_id;
    enum err result;
};

static enum err write_row(sqlite3 *db, int64_t app_id) {
    int64_t found;
    enum err err = catalog_db_number(db, &found, "SELECT id FROM alarm WHERE id = ?", "i", app_id);
    if (err != ERR_NOENT) {
        return err;
    }
    err = catalog_db_number(db, &found, "SELECT id FROM app WHERE id = ?", "i", app_id);
    if (err) {
        return err; /* it was removed */
    }
    err = catalog_db_begin(db);
    err = err ? err : catalog_db_run(db, "INSERT INTO alarm (id) VALUES (?)", "i", app_id);
    err = err ? err : catalog_db_seal(db, "alarm", app_id);
    err = err ? err : catalog_db_commit(db);
    if (err) {
        catalog_db_rollback(db);
    }
    return err;
}

static void run_work(struct op_work *base) {
    struct alarm_work *work = CONTAINER_OF(base, struct alarm_work, base);
    catalog_lock(&work->catalog->db_mutex);
    work->result = write_row(work->catalog->db, work->app_id);
    catalog_unlock(&work->catalog->db_mutex);
    catalog_work_end(work->catalog);
}

static void release_work(struct op_work *base) {
    free(CONTAINER_OF(base, struct alarm_work, base));
}

enum err catalog_note_alarms(struct op *op, struct catalog *catalog, int64_t app_id) {
    struct alarm_work *work = op->state;
    if (!work) {
        work = calloc(1, sizeof *work);
        if (!work) {
            return op_finish(op, ERR_NOMEM);
        }
        work->base.run = run_work;
        work->base.release = release_work;
        work->catalog = catalog;
        work->app_id = app_id;
        catalog_work_begin(catalog);
        enum err err = op_work_start(op, &work->base);
        if (err != ERR_PENDING) {
            catalog_work_end(catalog);
        }
        return err;
    }
    return work->base.finished ? op_finish(op, work->result) : ERR_PENDING;
}

enum err catalog_each_with_alarms(struct catalog *catalog,
                                  enum err (*each)(void *argument, int64_t app_id),
                                  void *argument) {
    catalog_lock(&catalog->db_mutex);
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = catalog_db_prepare(catalog->db, &row, "SELECT * FROM alarm", "");
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW) {
        err = catalog_db_check_seal(row, "alarm", 0, 2);
        err = err ? err : each(argument, sqlite3_column_int64(row, 0));
    }
    err = err ? err : catalog_db_err(catalog->db, result);
    sqlite3_finalize(STEAL(row));
    catalog_unlock(&catalog->db_mutex);
    return err;
}
