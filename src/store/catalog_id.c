/* Ids of runs. What is on disk is the first id that was never given; everything below may have been
 * used, so a crash skips what is left of a block. */
#include "base/log.h"
#include "store/catalog_internal.h"

enum { BLOCK = 100000, LOW = BLOCK / 2 };

enum err catalog_ids_load(struct catalog *catalog) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err =
        catalog_db_prepare(catalog->db, &row, "SELECT * FROM counter WHERE name = 'run_id'", "");
    if (err) {
        return err;
    }
    int result = sqlite3_step(row);
    if (result != SQLITE_ROW) {
        return result == SQLITE_DONE ? ERR_IO : catalog_db_err(catalog->db, result);
    }
    err = catalog_db_check_seal(row, "counter", 0, 4);
    int64_t next = sqlite3_column_int64(row, 2);
    if (err || next < 1) {
        return err ? err : ERR_IO;
    }
    atomic_store(&catalog->next_run_id, (uint64_t)next);
    atomic_store(&catalog->run_id_limit, (uint64_t)next);
    return ERR_OK;
}

/* db_mutex */
static enum err write_limit(struct catalog *catalog, uint64_t limit) {
    enum err err = catalog_db_begin(catalog->db);
    err = err ? err
              : catalog_db_run(catalog->db, "UPDATE counter SET value = ? WHERE id = 1", "i",
                               (int64_t)limit);
    err = err ? err : catalog_db_seal(catalog->db, "counter", 1);
    err = err ? err : catalog_db_commit(catalog->db);
    if (err) {
        catalog_db_rollback(catalog->db);
    }
    return err;
}

enum err catalog_ids_reserve(struct catalog *catalog) {
    catalog_lock(&catalog->db_mutex);
    uint64_t limit = atomic_load(&catalog->run_id_limit) + BLOCK;
    enum err err = write_limit(catalog, limit);
    catalog_unlock(&catalog->db_mutex);
    if (!err) {
        catalog_lock(&catalog->run_id_mutex);
        atomic_store_explicit(&catalog->run_id_limit, limit, memory_order_release);
        pthread_cond_broadcast(&catalog->run_id_reserved);
        catalog_unlock(&catalog->run_id_mutex);
    }
    return err;
}

void catalog_ids_give_back(struct catalog *catalog) {
    catalog_lock(&catalog->db_mutex);
    uint64_t next = atomic_load(&catalog->next_run_id);
    if (next < atomic_load(&catalog->run_id_limit)) {
        (void)!write_limit(catalog, next); /* else the rest of the block is skipped */
        atomic_store(&catalog->run_id_limit, next);
    }
    catalog_unlock(&catalog->db_mutex);
}

uint64_t catalog_next_run_id(struct catalog *catalog) {
    uint64_t id = atomic_fetch_add_explicit(&catalog->next_run_id, 1, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&catalog->run_id_limit, memory_order_acquire);
    if (id + LOW == limit) {
        catalog_keeper_wake(catalog);
    }
    if (id >= limit) {
        catalog_keeper_wake(catalog);
        catalog_lock(&catalog->run_id_mutex);
        while (id >= atomic_load(&catalog->run_id_limit)) {
            pthread_cond_wait(&catalog->run_id_reserved, &catalog->run_id_mutex);
        }
        catalog_unlock(&catalog->run_id_mutex);
    }
    return id;
}
