/* Secrets in catalog.db (secret.h). A worker does each operation from beginning to end. */
#include "base/aead.h"
#include "base/clock.h"
#include "base/fsio.h"
#include "store/app_config_internal.h"
#include "store/catalog_internal.h"
#include "store/secret.h"

#include <strings.h>

/* Columns of secret, in the schema's order. */
enum { S_ID, S_APP, S_OWNER, S_KEY, S_HOSTS, S_VALUE, S_CHANGED, S_SEAL, SECRET_COLUMNS };

/* ---- names and hosts ---- */

enum err secret_name_check(struct str name, struct buf *message) {
    bool good = name.length >= 1 && name.length <= SECRET_NAME_MAX;
    for (size_t i = 0; good && i < name.length; i++) {
        char c = name.data[i];
        bool inside = i > 0 && (c == '-' || c == '.');
        good = inside || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (c >= '0' && c <= '9');
    }
    return good ? ERR_OK
                : buf_fail(message, ERR_INVAL,
                           "'%s' can't be the name of a secret: it is 1 to %d of A-Z a-z 0-9 _ - . "
                           "and begins with a letter, a digit or _",
                           QUOTED(name), SECRET_NAME_MAX);
}

enum err secret_hosts_add(struct buf *hosts, struct str host, struct buf *message) {
    if (str_starts(host, STR("*")) || !app_config_is_host(host)) {
        return buf_fail(message, ERR_INVAL,
                        "'%s' is not a host that a secret can be bound to: say HOST, an address or "
                        "[ADDRESS], each with an optional :PORT, without '*'",
                        QUOTED(host));
    }
    size_t count = 0;
    for (size_t i = 0; i < hosts->length; i++) {
        count += hosts->data[i] == '\n';
    }
    if (count >= SECRET_HOSTS_MAX) {
        return buf_fail(message, ERR_2BIG, "a secret is bound to %d hosts at most",
                        SECRET_HOSTS_MAX);
    }
    return buf_printf(hosts, STR_FORMAT "\n", STR_ARGS(host));
}

bool secret_hosts_have(struct str hosts, struct str host, uint16_t port) {
    while (hosts.length > 0) {
        struct str line = str_cut(&hosts, '\n'), name = line, rest;
        if (str_starts(line, STR("["))) {
            rest = (struct str){line.data + 1, line.length - 1};
            name = str_cut(&rest, ']');
            (void)str_cut(&rest, ':');
        } else {
            rest = line;
            name = str_cut(&rest, ':');
        }
        uint64_t bound = port;
        bool has_port = !rest.data || rest.length == 0 || str_to_u64(rest, &bound) == ERR_OK;
        if (has_port && bound == port && name.length == host.length && name.length > 0 &&
            strncasecmp(name.data, host.data, name.length) == 0) {
            return true;
        }
    }
    return false;
}

void secret_list_free(struct secret_info *list, size_t count) {
    for (size_t i = 0; i < count && list; i++) {
        free(list[i].name);
        free(list[i].hosts);
    }
    free(list);
}

/* ---- the key ---- */

/* The key of this state directory; made if `create`. db_mutex. */
static enum err load_key(struct catalog *catalog, bool create, uint8_t ret_key[AEAD_KEY_SIZE],
                         struct buf *message) {
    cleanup_buf struct buf path = {0};
    cleanup_wiped_buf struct buf content = {0};
    enum err err = catalog_path(catalog, &path, "secrets.key");
    err = err ? err : buf_reserve(&content, AEAD_KEY_SIZE + 1);
    if (err) {
        return err;
    }
    err = fsio_read_file(buf_text(&path), AEAD_KEY_SIZE, &content);
    if (err == ERR_NOENT && create) {
        uint8_t key[AEAD_KEY_SIZE];
        random_bytes(key, sizeof key);
        err = fsio_replace_file(buf_text(&path), key, sizeof key);
        if (!err) {
            memcpy(ret_key, key, sizeof key);
        }
        explicit_bzero(key, sizeof key);
        return err ? buf_fail(message, err, "%s can't be written: %s", buf_text(&path),
                              err_text(err))
                   : ERR_OK;
    }
    if (err == ERR_NOENT || (!err && content.length != AEAD_KEY_SIZE) || err == ERR_FBIG) {
        return buf_fail(message, ERR_IO,
                        "%s is %s: put back a copy of the state directory, or remove that file and "
                        "write the secrets again",
                        buf_text(&path), err == ERR_NOENT ? "missing" : "damaged");
    }
    if (err) {
        return buf_fail(message, err, "%s can't be read: %s", buf_text(&path), err_text(err));
    }
    memcpy(ret_key, content.data, AEAD_KEY_SIZE);
    return ERR_OK;
}

/* What a value is bound to. */
static enum err associated(int64_t app_id, struct str name, struct str hosts, struct buf *ret) {
    return buf_printf(ret, "0asm secret\n%lld\n" STR_FORMAT "\n" STR_FORMAT, (long long)app_id,
                      STR_ARGS(name), STR_ARGS(hosts));
}

/* ---- the work ---- */

struct secret_work {
    struct op_work base; /* first */
    struct catalog *catalog;
    enum err (*act)(struct secret_work *work); /* with db_mutex held */
    int64_t app_id;
    char app_name[APP_NAME_MAX + 1];
    struct buf name;
    struct buf value; /* to be written, or read: wiped */
    struct buf hosts;
    bool has_hosts, created;
    struct buf host; /* catalog_secret: where it goes */
    uint16_t port;
    struct secret_info *list;
    size_t count;
    enum err result;
    struct buf message;
};

static void run_work(struct op_work *base) {
    struct secret_work *work = CONTAINER_OF(base, struct secret_work, base);
    struct catalog *catalog = work->catalog;
    catalog_lock(&catalog->db_mutex);
    work->result = work->act(work);
    catalog_unlock(&catalog->db_mutex);
    if (work->result && work->message.length == 0) {
        work->result =
            buf_fail(&work->message, work->result, "catalog.db: %s", err_text(work->result));
    }
    catalog_work_end(catalog);
}

static void release_work(struct op_work *base) {
    struct secret_work *work = CONTAINER_OF(base, struct secret_work, base);
    buf_wipe(&work->value);
    buf_done(&work->name);
    buf_done(&work->hosts);
    buf_done(&work->host);
    buf_done(&work->message);
    secret_list_free(work->list, work->count);
    free(work);
}

static enum err work_new(struct catalog *catalog, const struct app *app, struct str name,
                         enum err (*act)(struct secret_work *work), struct secret_work **ret_work) {
    struct secret_work *work = calloc(1, sizeof *work);
    if (!work) {
        return ERR_NOMEM;
    }
    work->base.run = run_work;
    work->base.release = release_work;
    work->catalog = catalog;
    work->act = act;
    work->app_id = app->id;
    memcpy(work->app_name, app->name, sizeof work->app_name);
    enum err err = buf_append_str(&work->name, name);
    if (err) {
        release_work(&work->base);
        return err;
    }
    *ret_work = work;
    return ERR_OK;
}

static enum err start(struct op *op, struct secret_work *work) {
    struct catalog *catalog = work->catalog;
    catalog_work_begin(catalog);
    enum err err = op_work_start(op, &work->base);
    if (err != ERR_PENDING) {
        catalog_work_end(catalog);
    }
    return err;
}

/* PENDING, or how it ended; the work is still there. */
static enum err poll(struct op *op, struct buf *message) {
    const struct secret_work *work = op->state;
    if (!work->base.finished) {
        return ERR_PENDING;
    }
    return work->result ? buf_fail(message, work->result, "%s", buf_text(&work->message)) : ERR_OK;
}

/* ---- rows ---- */

static enum err fail_damaged(struct secret_work *work, struct str name) {
    return buf_fail(&work->message, ERR_IO,
                    "the secret '%s' of '%s' is damaged in catalog.db: write it again, or put back "
                    "a copy of the state directory",
                    QUOTED(name), work->app_name);
}

static struct str column_text(sqlite3_stmt *row, int column) {
    const char *text = (const char *)sqlite3_column_text(row, column);
    return (struct str){text ? text : "", (size_t)sqlite3_column_bytes(row, column)};
}

/* The row of the secret, checked; NOENT without a message. */
static enum err find_row(struct secret_work *work, sqlite3_stmt **ret_row) {
    enum err err = catalog_db_prepare(work->catalog->db, ret_row,
                                      "SELECT * FROM secret WHERE app = ? AND key = ?", "it",
                                      work->app_id, buf_str(&work->name));
    if (err) {
        return err;
    }
    int result = sqlite3_step(*ret_row);
    if (result != SQLITE_ROW) {
        return result == SQLITE_DONE ? ERR_NOENT : catalog_db_err(work->catalog->db, result);
    }
    err = catalog_db_check_seal(*ret_row, "secret", 0, SECRET_COLUMNS);
    return err == ERR_IO ? fail_damaged(work, buf_str(&work->name)) : err;
}

static enum err fail_missing(struct secret_work *work) {
    return buf_fail(&work->message, ERR_NOENT,
                    "'%s' has no secret '%s'; GET /apps/%s/secrets lists them", work->app_name,
                    buf_text(&work->name), work->app_name);
}

/* Whether there is one already, and what it is bound to. One that is damaged is replaced, but then
 * it is not known where it may go. */
static enum err look_up(struct secret_work *work) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = find_row(work, &row);
    if (err == ERR_NOENT) {
        work->created = true;
        return ERR_OK;
    }
    if (err == ERR_IO && work->has_hosts) {
        buf_done(&work->message);
        return ERR_OK;
    }
    if (err == ERR_IO) {
        return buf_fail(&work->message, err,
                        "the secret '%s' of '%s' is damaged in catalog.db: say where it may go "
                        "(host=HOST) to write it again",
                        buf_text(&work->name), work->app_name);
    }
    return err || work->has_hosts ? err : buf_append_str(&work->hosts, column_text(row, S_HOSTS));
}

static enum err check_room(struct secret_work *work) {
    int64_t number = 0;
    sqlite3 *db = work->catalog->db;
    enum err err =
        catalog_db_number(db, &number, "SELECT 1 FROM app WHERE id = ?", "i", work->app_id);
    if (err == ERR_NOENT) {
        return buf_fail(&work->message, err, "the app '%s' was removed meanwhile", work->app_name);
    }
    err = err ? err
              : catalog_db_number(db, &number, "SELECT count(*) FROM secret WHERE app = ?", "i",
                                  work->app_id);
    if (!err && work->created && number >= SECRETS_MAX) {
        return buf_fail(&work->message, ERR_2BIG, "an app has %d secrets at most; remove one",
                        SECRETS_MAX);
    }
    return err;
}

static enum err write_row(struct secret_work *work, struct str sealed) {
    sqlite3 *db = work->catalog->db;
    enum err err = catalog_db_begin(db);
    err = err ? err
              : catalog_db_run(db,
                               "INSERT INTO secret (app, owner, key, hosts, value, changed_ns)"
                               " SELECT id, owner, ?, ?, ?, ? FROM app WHERE id = ?"
                               " ON CONFLICT (app, key) DO UPDATE SET hosts = excluded.hosts,"
                               " value = excluded.value, changed_ns = excluded.changed_ns,"
                               " owner = excluded.owner",
                               "ttbii", buf_str(&work->name), buf_str(&work->hosts),
                               (const void *)sealed.data, sealed.length,
                               (int64_t)clock_realtime_ns(), work->app_id);
    int64_t id = 0;
    err = err ? err
              : catalog_db_number(db, &id, "SELECT id FROM secret WHERE app = ? AND key = ?", "it",
                                  work->app_id, buf_str(&work->name));
    err = err ? err : catalog_db_seal(db, "secret", id);
    err = err ? err : catalog_db_commit(db);
    if (err) {
        catalog_db_rollback(db);
    }
    return err;
}

static enum err run_set(struct secret_work *work) {
    cleanup_buf struct buf place = {0};
    cleanup_buf struct buf sealed = {0};
    uint8_t key[AEAD_KEY_SIZE];
    enum err err = look_up(work);
    err = err ? err : check_room(work);
    err = err ? err : associated(work->app_id, buf_str(&work->name), buf_str(&work->hosts), &place);
    err = err ? err : load_key(work->catalog, true, key, &work->message);
    if (!err) {
        err = aead_seal(key, buf_str(&place), buf_str(&work->value), &sealed);
        explicit_bzero(key, sizeof key);
    }
    return err ? err : write_row(work, buf_str(&sealed));
}

static enum err run_remove(struct secret_work *work) {
    sqlite3 *db = work->catalog->db;
    enum err err = catalog_db_run(db, "DELETE FROM secret WHERE app = ? AND key = ?", "it",
                                  work->app_id, buf_str(&work->name));
    return err || sqlite3_changes(db) > 0 ? err : fail_missing(work);
}

static enum err add_info(struct secret_work *work, sqlite3_stmt *row) {
    struct str name = column_text(row, S_KEY), hosts = column_text(row, S_HOSTS);
    enum err err = catalog_db_check_seal(row, "secret", 0, SECRET_COLUMNS);
    if (err) {
        return err == ERR_IO ? fail_damaged(work, name) : err;
    }
    struct secret_info *info = &work->list[work->count++];
    info->changed_ns = (uint64_t)sqlite3_column_int64(row, S_CHANGED);
    info->name = strndup(name.data, name.length);
    info->hosts = strndup(hosts.data, hosts.length);
    return info->name && info->hosts ? ERR_OK : ERR_NOMEM;
}

static enum err run_list(struct secret_work *work) {
    cleanup_statement sqlite3_stmt *row = NULL;
    work->list = calloc(SECRETS_MAX, sizeof *work->list);
    enum err err = work->list ? catalog_db_prepare(work->catalog->db, &row,
                                                   "SELECT * FROM secret WHERE app = ?"
                                                   " ORDER BY key COLLATE BINARY LIMIT ?",
                                                   "ii", work->app_id, (int64_t)SECRETS_MAX)
                              : ERR_NOMEM;
    int result = SQLITE_DONE;
    while (!err && (result = sqlite3_step(row)) == SQLITE_ROW) {
        err = add_info(work, row);
    }
    return err ? err : catalog_db_err(work->catalog->db, result);
}

static enum err decrypt(struct secret_work *work, sqlite3_stmt *row) {
    cleanup_buf struct buf place = {0};
    uint8_t key[AEAD_KEY_SIZE];
    struct str sealed = {sqlite3_column_blob(row, S_VALUE),
                         (size_t)sqlite3_column_bytes(row, S_VALUE)};
    enum err err =
        associated(work->app_id, buf_str(&work->name), column_text(row, S_HOSTS), &place);
    err = err ? err : buf_reserve(&work->value, sealed.length);
    err = err ? err : load_key(work->catalog, false, key, &work->message);
    if (err) {
        return err;
    }
    err = sealed.data ? aead_open(key, buf_str(&place), sealed, &work->value) : ERR_IO;
    explicit_bzero(key, sizeof key);
    return err == ERR_IO
               ? buf_fail(&work->message, err,
                          "the secret '%s' of '%s' was not written with this secrets.key: write it "
                          "again",
                          buf_text(&work->name), work->app_name)
               : err;
}

static enum err run_get(struct secret_work *work) {
    cleanup_statement sqlite3_stmt *row = NULL;
    enum err err = find_row(work, &row);
    if (err) {
        return err == ERR_NOENT ? fail_missing(work) : err;
    }
    if (!secret_hosts_have(column_text(row, S_HOSTS), buf_str(&work->host), work->port)) {
        return buf_fail(
            &work->message, ERR_ACCES,
            "the secret '%s' of '%s' is not bound to %s:%u: PUT it with host=HOST[:PORT]",
            buf_text(&work->name), work->app_name, QUOTED(buf_str(&work->host)), work->port);
    }
    return decrypt(work, row);
}

/* ---- the operations ---- */

enum err catalog_secret_set(struct op *op, struct catalog *catalog, const struct app *app,
                            struct str name, struct str value, const struct str *hosts,
                            bool *ret_created, struct buf *message) {
    if (op->state) {
        enum err err = poll(op, message);
        if (!err && ret_created) {
            *ret_created = ((struct secret_work *)op->state)->created;
        }
        return err == ERR_PENDING ? err : op_finish(op, err);
    }
    enum err err = secret_name_check(name, message);
    if (err) {
        return err;
    }
    if (value.length == 0) {
        return buf_fail(message, ERR_INVAL, "the secret is empty; DELETE removes one");
    }
    if (value.length > SECRET_BYTES_MAX) {
        return buf_fail(message, ERR_FBIG, "a secret has at most %d bytes", SECRET_BYTES_MAX);
    }
    struct secret_work *work;
    err = work_new(catalog, app, name, run_set, &work);
    if (err) {
        return err;
    }
    work->has_hosts = hosts != NULL;
    err = buf_append_str(&work->value, value);
    err = err || !hosts ? err : buf_append_str(&work->hosts, *hosts);
    if (err) {
        release_work(&work->base);
        return err;
    }
    return start(op, work);
}

enum err catalog_secret_remove(struct op *op, struct catalog *catalog, const struct app *app,
                               struct str name, struct buf *message) {
    if (op->state) {
        enum err err = poll(op, message);
        return err == ERR_PENDING ? err : op_finish(op, err);
    }
    struct secret_work *work;
    enum err err = secret_name_check(name, message);
    err = err ? err : work_new(catalog, app, name, run_remove, &work);
    return err ? err : start(op, work);
}

enum err catalog_secret_list(struct op *op, struct catalog *catalog, const struct app *app,
                             struct secret_info **ret_list, size_t *ret_count,
                             struct buf *message) {
    struct secret_work *work = op->state;
    if (!work) {
        enum err err = work_new(catalog, app, STR(""), run_list, &work);
        return err ? err : start(op, work);
    }
    enum err err = poll(op, message);
    if (!err) {
        *ret_count = work->count;
        *ret_list = STEAL(work->list);
        work->count = 0;
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

enum err catalog_secret(struct op *op, struct catalog *catalog, const struct app *app,
                        struct str name, struct str host, uint16_t port, struct buf *ret_value,
                        struct buf *message) {
    struct secret_work *work = op->state;
    if (work) {
        enum err err = poll(op, message);
        err = err ? err : buf_append_str(ret_value, buf_str(&work->value));
        return err == ERR_PENDING ? err : op_finish(op, err);
    }
    enum err err = secret_name_check(name, message);
    err = err ? err : work_new(catalog, app, name, run_get, &work);
    if (err) {
        return err;
    }
    work->port = port;
    err = buf_append_str(&work->host, host);
    if (err) {
        release_work(&work->base);
        return err;
    }
    return start(op, work);
}
