/* The inside of a volume: for store/volume*.c only.
 *
 * In memory there is a cache over the database: inodes, directory entries and chunks of content. A
 * change is made in memory only and marks what it touched dirty; a commit writes all that is dirty
 * in one transaction. So between commits the database is what the last commit left, a commit that
 * fails (a full disk) loses nothing, and a file that comes and goes between two commits never
 * reaches the disk. The database itself is made by the first commit.
 *
 * Ownership. `mutex` guards `busy`, the table of inodes, their holds, the waiters and the list of
 * released inodes. Everything else belongs to the owner: whoever holds the mutex while `busy` is
 * not set, or the worker that has set it (and that takes the mutex for what the mutex guards).
 * Operations run to their end inside volume_enter and volume_leave, so each is whole in a commit
 * or not in it.
 *
 * Lock order: volume->mutex, then the pool's. */
#pragma once

#include "base/list.h"
#include "store/volume.h"
#include "store/volume_schema.h"

#include <pthread.h>
#include <sqlite3.h>

/* Hash tables with intrusive nodes, chained. Never moved once it is in use. */
struct table_node {
    struct table_node *next;
    uint64_t hash;
};
struct table {
    struct table_node **buckets;
    struct table_node *first; /* the only bucket of a small table */
    size_t mask;              /* buckets - 1 */
    size_t count;
};
void table_init(struct table *table);
/* Its nodes must be gone. */
void table_done(struct table *table);
/* Can't fail: without memory to grow it gets slower. */
void table_insert(struct table *table, struct table_node *node, uint64_t hash);
void table_remove(struct table *table, struct table_node *node);
static inline struct table_node *table_bucket(const struct table *table, uint64_t hash) {
    return table->buckets[hash & table->mask];
}

#define VOLUME_NO_CUT UINT64_MAX

struct volume_inode {
    struct table_node node;    /* volume->inodes */
    struct list link;          /* volume->dirty_inodes or volume->idle_inodes, or none */
    struct list chunks;        /* its chunks in memory */
    struct list dirty_entries; /* of a directory */
    struct list release_link;  /* volume->released */
    uint64_t number;
    uint64_t size;   /* bytes; of a directory: its names */
    uint64_t bytes;  /* charged to the quota */
    uint64_t data;   /* number of its content: regular files, else 0 */
    uint64_t parent; /* of a directory; else 0 */
    uint64_t accessed_ns, modified_ns, changed_ns;
    uint64_t version;
    uint64_t cut; /* stored chunks from this index on are void; VOLUME_NO_CUT = none is */
    char *target; /* of a symbolic link; owned */
    uint32_t target_length;
    uint32_t holds; /* the mutex's */
    uint32_t links;
    uint8_t type;     /* enum file_type */
    bool dirty;       /* differs from the database */
    bool stored;      /* the database has a row of it */
    bool data_stored; /* the database may have chunks of `data` */
    bool gone;        /* neither name nor holder: the next commit removes it */
};

struct volume_entry {
    struct table_node node; /* volume->entries */
    struct list link;       /* volume->dirty_entries or volume->idle_entries */
    struct list sibling;    /* of a dirty one: the directory's dirty_entries */
    uint64_t directory;
    uint64_t inode; /* 0: there is no such name */
    uint8_t type;
    bool dirty;
    uint8_t name_length;
    char name[];
};

struct volume_chunk {
    struct table_node node; /* volume->chunks */
    struct list link;       /* volume->dirty_chunks or volume->idle_chunks */
    struct list sibling;    /* inode->chunks */
    struct volume_inode *inode;
    uint64_t index;
    uint32_t length;   /* bytes in use; zero from there to the chunk's end */
    uint32_t capacity; /* of data */
    bool dirty;
    uint8_t *data; /* owned */
};

/* Content that a truncated file has left: the next commit takes it over. */
struct volume_garbage {
    struct list link;
    uint64_t data;
    uint64_t size; /* bytes at most */
};

enum volume_statement {
#define VOLUME_STATEMENT_ENUM(name, sql) STATEMENT_##name,
    VOLUME_STATEMENTS(VOLUME_STATEMENT_ENUM)
#undef VOLUME_STATEMENT_ENUM
        STATEMENT_COUNT
};

/* Where the pool of workers has the volume. The pool's mutex guards it. */
enum volume_pool_state {
    POOL_NONE,
    POOL_TIMED, /* waits for its deadline */
    POOL_READY, /* waits for a thread */
    POOL_WORKING,
    POOL_WORKING_AGAIN, /* and was submitted meanwhile */
};

struct volume {
    atomic_uint references;
    atomic_bool is_removed; /* see volume_set_removed */
    atomic_bool is_swept;   /* see volume_begin_sweep */
    pthread_mutex_t mutex;  /* see above */
    bool busy;              /* a worker owns it */
    bool read_only;
    uint64_t device;
    char *path; /* owned */

    sqlite3 *database; /* NULL: there is none yet */
    bool has_tables;   /* ours are in the database */
    bool has_garbage;  /* zasm_garbage may have rows */
    int wal_frames;    /* in the write-ahead log after the last commit */
    sqlite3_stmt *statements[STATEMENT_COUNT];

    atomic_bool dirty;       /* changed by the owner with the mutex held; read by anybody */
    enum err commit_error;   /* of the last commit */
    uint64_t dirty_since_ns; /* monotonic */
    bool is_durable;         /* commits sync: PRAGMA synchronous is FULL */
    bool created;            /* has had no commit yet: the tables are to be made */
    uint64_t commits;        /* that changed something: a long listing begins anew */
    uint64_t next_number;    /* of an inode or data */
    atomic_uint_fast64_t used_bytes, used_inodes, bytes_max, inodes_max;
    uint64_t now_bytes_max,
        now_inodes_max; /* as of whoever changes it now; 0 = no limit but those */

    struct table inodes, entries, chunks;
    struct list dirty_inodes, dirty_entries, dirty_chunks, garbage;
    struct list idle_inodes, idle_entries, idle_chunks; /* clean ones; least recently used first */
    struct list released;                               /* let go while busy; the mutex's */
    size_t idle_inode_count, idle_entry_count;
    size_t chunk_bytes; /* memory of all chunks */
    size_t dirty_bytes; /* memory of what is dirty, roughly */

    struct volume_alarms *alarms; /* volume_alarm.c's; NULL: not read yet */
    bool has_alarm_table;

    struct op_queue idle;   /* who waits for `busy` to end or for room */
    struct list waiters;    /* struct volume_waiter: who waits for a commit */
    struct op_queue synced; /* the same, to be woken */

    struct list pool_link;
    enum volume_pool_state pool_state;
    uint64_t pool_deadline_ns;
};

/* volume.c: the strand. */
enum volume_enter_flags {
    VOLUME_CHANGE = 1 << 0, /* ROFS on a read-only volume, IDRM on one that was removed; waits while
                               too much is dirty */
    VOLUME_SHRINKS = 1 << 1, /* makes room: is let in where others wait */
};
/* OK: the caller owns the volume until volume_leave. PENDING: the op is woken when it is worth
 * another try. Any other error has ended the op. */
MUST_USE enum err volume_enter(struct op *op, struct volume *volume, unsigned volume_enter_flags);
/* Also ends the op (unless with PENDING) and keeps the cache within its limits. Returns `result`.
 */
enum err volume_leave(struct op *op, struct volume *volume, enum err result);
/* Something differs from the database from now on. Owner, with the mutex held. */
void volume_mark_dirty(struct volume *volume);
/* NOSPC if that much more is over the quota; else it is charged. */
MUST_USE enum err volume_charge(struct volume *volume, uint64_t bytes, uint64_t inodes);
void volume_uncharge(struct volume *volume, uint64_t bytes, uint64_t inodes);

/* volume_cache.c. Owner, with the mutex held. */
struct volume_inode *volume_inode_find(struct volume *volume, uint64_t number);
MUST_USE enum err volume_inode_new(struct volume *volume, uint64_t number, enum file_type type,
                                   struct volume_inode **ret_inode);
/* From memory or the database; NOENT, IO. */
MUST_USE enum err volume_inode_get(struct volume *volume, uint64_t number,
                                   struct volume_inode **ret_inode);
/* As above, for the directory of an operation: NOTDIR, and NOENT when it was removed. */
MUST_USE enum err volume_directory_get(struct volume *volume, uint64_t number,
                                       struct volume_inode **ret_directory);
void volume_inode_hold(struct volume *volume, struct volume_inode *inode);
/* After its holds or links have become fewer: puts it where it belongs now. May free it. */
void volume_inode_settle(struct volume *volume, struct volume_inode *inode);
void volume_inode_touch(struct volume *volume, struct volume_inode *inode); /* makes it dirty */
void volume_inode_free(struct volume *volume, struct volume_inode *inode);
/* The entry of a name; `inode` is 0 in it if the name is not there. */
MUST_USE enum err volume_entry_get(struct volume *volume, uint64_t directory, struct str name,
                                   struct volume_entry **ret_entry);
struct volume_entry *volume_entry_find(struct volume *volume, uint64_t directory, struct str name);
/* Points the name at an inode (0: at none). */
void volume_entry_set(struct volume *volume, struct volume_inode *directory,
                      struct volume_entry *entry, uint64_t inode, enum file_type type);
void volume_entry_free(struct volume *volume, struct volume_entry *entry);
struct volume_chunk *volume_chunk_find(struct volume *volume, const struct volume_inode *inode,
                                       uint64_t index);
MUST_USE enum err volume_chunk_new(struct volume *volume, struct volume_inode *inode,
                                   uint64_t index, size_t capacity,
                                   struct volume_chunk **ret_chunk);
MUST_USE enum err volume_chunk_reserve(struct volume *volume, struct volume_chunk *chunk,
                                       size_t capacity);
void volume_chunk_touch(struct volume *volume, struct volume_chunk *chunk);
void volume_chunk_used(struct volume *volume, struct volume_chunk *chunk);
void volume_chunk_free(struct volume *volume, struct volume_chunk *chunk);
/* Frees what is clean and over the limits, least recently used first. */
void volume_cache_trim(struct volume *volume);
/* The same of content and names: also for the worker that has set `busy`, without the mutex. */
void volume_cache_trim_content(struct volume *volume);
void volume_cache_done(struct volume *volume);
/* How much may be dirty before a commit must come first. */
size_t volume_dirty_limit(void);

/* volume_database.c. Owner. */
/* Opens the file, which exists unless `create`; checks it. */
MUST_USE enum err volume_database_open(struct volume *volume, bool create, struct buf *message);
/* Moves the write-ahead log into the database and closes it. */
void volume_database_close(struct volume *volume);
/* Statements: bind, then step. `volume_statement` gives NULL when it can't be prepared; the others
 * accept that. volume_step: OK and `*ret_row`; then the columns are valid until volume_reset. */
sqlite3_stmt *volume_statement(struct volume *volume, enum volume_statement index);
MUST_USE enum err volume_step(struct volume *volume, sqlite3_stmt *statement, bool *ret_row);
/* Runs a statement that gives no rows, and resets it. */
MUST_USE enum err volume_run(struct volume *volume, sqlite3_stmt *statement);
void volume_reset(sqlite3_stmt *statement);
/* Takes back what was done since BEGIN, if SQLite has not done so itself. */
void volume_rollback(struct volume *volume);
void volume_bind(sqlite3_stmt *statement, int index, uint64_t value);
void volume_bind_bytes(sqlite3_stmt *statement, int index, const void *data, size_t length);
static inline uint64_t volume_column(sqlite3_stmt *statement, int index) {
    return (uint64_t)sqlite3_column_int64(statement, index);
}
/* Whether the next commits sync the write-ahead log. */
MUST_USE enum err volume_database_set_durable(struct volume *volume, bool durable);
/* Creates the tables, in the transaction that is open. */
MUST_USE enum err volume_database_make_tables(struct volume *volume);
/* The table of alarms, which is only there if there ever were some. */
MUST_USE enum err volume_database_make_alarm_table(struct volume *volume);
/* Moves the write-ahead log into the database. A failure leaves it: the next opening reads it. */
enum err volume_database_checkpoint(struct volume *volume, bool closing);
static inline uint64_t volume_chunk_key(uint64_t data, uint64_t index) {
    return data << VOLUME_INDEX_BITS | index;
}

/* What was changed is on disk after this. */
#define VOLUME_COMMIT_DELAY_NS NS_PER_S

/* volume_commit.c. */
struct volume_waiter {
    struct list link; /* volume->waiters, until it is done */
    struct volume *volume;
    bool done;
    enum err err;
};
/* Writes what is dirty. `durable`: it is on disk when this returns; else the operating system has
 * it, whole or not at all should the machine fail, and the volume stays dirty. Owner, without the
 * mutex; blocking. */
MUST_USE enum err volume_commit(struct volume *volume, bool durable);
/* A turn of a worker: commit, garbage, checkpoint. True: there is more to do at once. */
bool volume_work(struct volume *volume);

/* volume_alarm.c. Owner. Writes the alarms that are dirty, in the transaction that is open. */
MUST_USE enum err volume_alarms_write(struct volume *volume);
/* They are written. With the mutex held. */
void volume_alarms_settle(struct volume *volume);
void volume_alarms_free(struct volume *volume);

/* volume_pool.c: the threads that commit. */
/* Has the volume worked on soon, or when its deadline comes. Thread: any. */
void volume_pool_submit(struct volume *volume);
void volume_pool_submit_later(struct volume *volume);
/* Returns when no worker has it or will have it. */
void volume_pool_cancel(struct volume *volume);
