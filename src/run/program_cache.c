/* Programs that are ready to run, by the hash of their module.
 *
 * Who asks for a program that is not there becomes its driver: its op reads the compiled file, or
 * has it compiled and reads it then. All others who ask meanwhile wait for that. Should the driver
 * be given up (its client has left), the next who waits takes over. A module that the compiler
 * refuses is remembered with the compiler's words, so that asking again costs nothing.
 *
 * The least recently asked for go when there are too many or their code is too large; runs keep
 * what they use by references of their own. */
#include "run/internal.h"

#include <sys/stat.h>

enum { PROGRAMS_MAX = 1024 };
#define PROGRAM_BYTES_MAX (2 * GIB)

struct entry {
    struct map_node node;
    uint8_t sha256[SHA256_SIZE];
    unsigned references;     /* of the cache itself, of its driver and of those who wait */
    struct program *program; /* NULL: not there */
    uint64_t bytes;          /* of its compiled code */
    bool is_driven;
    bool is_refused; /* `error` and `message` are the compiler's last word */
    bool is_cached;  /* in the table */
    uint64_t round;  /* counts ends of driving */
    enum err error;  /* of the last round */
    struct buf message;
    struct list age; /* in the cache's, the least recently used first */
    struct op_queue done;
};

struct program_cache {
    pthread_mutex_t lock; /* guards all of this, and the entries */
    struct map entries;
    struct list age;
    uint64_t bytes;
};

/* What an op that waits for a program holds; the work on another thread has an object of its own.
 */
struct asker {
    struct program_cache *cache;
    struct entry *entry;
    struct op child;
    struct runs *runs;
    enum { ASKER_WAITS, ASKER_READS, ASKER_COMPILES, ASKER_READS_AGAIN } step;
    uint64_t round;
    struct buf module_path, compiled_path, message;
    uint8_t compiled_sha256[SHA256_SIZE];
};

/* Reads the compiled file on a worker. */
struct load {
    struct op_work base;
    struct engine *engine;
    struct catalog *catalog;
    struct buf path, message;
    uint8_t module_sha256[SHA256_SIZE], compiled_sha256[SHA256_SIZE];
    bool is_new; /* compiled_sha256 is known, and not yet recorded */
    struct program *program;
    uint64_t bytes;
    enum err result;
};

enum err program_cache_new(struct program_cache **ret_cache) {
    struct program_cache *cache = calloc(1, sizeof(*cache));
    if (!cache) {
        return ERR_NOMEM;
    }
    pthread_mutex_init(&cache->lock, NULL);
    list_init(&cache->age);
    *ret_cache = cache;
    return ERR_OK;
}

/* ---- entries; called with the lock ---- */

static struct entry *entry_new(const uint8_t sha256[SHA256_SIZE]) {
    struct entry *entry = calloc(1, sizeof(*entry));
    if (!entry) {
        return NULL;
    }
    if (op_queue_init(&entry->done) != ERR_OK) {
        free(entry);
        return NULL;
    }
    memcpy(entry->sha256, sha256, SHA256_SIZE);
    list_init(&entry->age);
    entry->references = 1;
    return entry;
}

/* Returns a program whose last reference may have to go, outside the lock: unmapping takes time. */
static MUST_USE struct program *entry_unref(struct entry *entry) {
    if (--entry->references > 0) {
        return NULL;
    }
    struct program *program = entry->program;
    buf_done(&entry->message);
    op_queue_done(&entry->done);
    free(entry);
    return program;
}

static MUST_USE struct program *uncache(struct program_cache *cache, struct entry *entry) {
    map_remove(&cache->entries, &entry->node);
    list_remove(&entry->age);
    cache->bytes -= entry->bytes;
    entry->is_cached = false;
    return entry_unref(entry);
}

static void touch(struct program_cache *cache, struct entry *entry) {
    if (entry->is_cached && cache->age.previous != &entry->age) {
        list_remove(&entry->age);
        list_append(&cache->age, &entry->age);
    }
}

/* Makes room: the least recently used one that nobody is at work on. One at a time is enough, as
 * one at a time is added; code of very different sizes is brought down by further calls. */
static MUST_USE struct program *evict_one(struct program_cache *cache) {
    if (cache->entries.count <= PROGRAMS_MAX && cache->bytes <= PROGRAM_BYTES_MAX) {
        return NULL;
    }
    LIST_FOR_EACH (node, &cache->age) {
        struct entry *entry = CONTAINER_OF(node, struct entry, age);
        if (entry->references == 1 && cache->entries.count > 1) {
            return uncache(cache, entry);
        }
    }
    return NULL;
}

void program_cache_free(struct program_cache *cache) {
    if (!cache) {
        return;
    }
    struct map_node *node;
    while ((node = map_next(&cache->entries, NULL))) {
        struct entry *entry = CONTAINER_OF(node, struct entry, node);
        INVARIANT(entry->references == 1);
        program_unref(uncache(cache, entry));
    }
    map_done(&cache->entries);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

void runs_forget_program(struct runs *runs, const uint8_t module_sha256[SHA256_SIZE]) {
    struct program_cache *cache = runs->programs;
    struct program *program = NULL;
    pthread_mutex_lock(&cache->lock);
    struct map_node *node =
        map_find(&cache->entries, (struct str){(const char *)module_sha256, SHA256_SIZE});
    if (node) {
        program = uncache(cache, CONTAINER_OF(node, struct entry, node));
    }
    pthread_mutex_unlock(&cache->lock);
    program_unref(program);
}

/* ---- reading the compiled file ---- */

static void load_run(struct op_work *work) {
    struct load *load = CONTAINER_OF(work, struct load, base);
    enum err err;
    if (load->is_new) {
        err = catalog_set_compiled_hash(load->catalog, engine_key(), load->module_sha256,
                                        load->compiled_sha256);
    } else {
        err = catalog_compiled_hash(load->catalog, engine_key(), load->module_sha256,
                                    load->compiled_sha256);
    }
    if (!err) {
        err = program_load(load->engine, buf_text(&load->path), load->compiled_sha256,
                           &load->program, &load->message);
    }
    struct stat stat_of_file;
    if (!err && stat(buf_text(&load->path), &stat_of_file) == 0) {
        load->bytes = (uint64_t)stat_of_file.st_size;
    }
    load->result = err;
}

static void load_release(struct op_work *work) {
    struct load *load = CONTAINER_OF(work, struct load, base);
    program_unref(load->program);
    buf_done(&load->path);
    buf_done(&load->message);
    free(load);
}

/* Polled. STALE or NOENT: it must be compiled. */
static enum err read_compiled(struct asker *asker, bool is_new, struct program **ret_program,
                              uint64_t *ret_bytes) {
    struct load *load = asker->child.state;
    if (!load) {
        load = calloc(1, sizeof(*load));
        if (!load) {
            return ERR_NOMEM;
        }
        load->base.run = load_run;
        load->base.release = load_release;
        load->engine = asker->runs->engine;
        load->catalog = asker->runs->catalog;
        load->is_new = is_new;
        memcpy(load->module_sha256, asker->entry->sha256, SHA256_SIZE);
        memcpy(load->compiled_sha256, asker->compiled_sha256, SHA256_SIZE);
        enum err err = buf_append_str(&load->path, buf_str(&asker->compiled_path));
        if (err) {
            load_release(&load->base);
            return err;
        }
        return op_work_start(&asker->child, &load->base);
    }
    if (!load->base.finished) {
        return ERR_PENDING;
    }
    enum err result = load->result;
    if (!result) {
        *ret_program = STEAL(load->program);
        *ret_bytes = load->bytes;
    } else {
        buf_done(&asker->message);
        asker->message = load->message;
        load->message = (struct buf){0};
    }
    return op_finish(&asker->child, result);
}

/* ---- driving ---- */

/* The round is over: everybody who waits looks again. */
static void end_round(struct asker *asker, enum err err, struct program *program, uint64_t bytes) {
    struct program_cache *cache = asker->cache;
    struct entry *entry = asker->entry;
    struct program *evicted = NULL;
    pthread_mutex_lock(&cache->lock);
    entry->is_driven = false;
    entry->round++;
    entry->error = err;
    buf_done(&entry->message);
    if (!err) {
        entry->program = program;
        entry->bytes = bytes;
        cache->bytes += entry->is_cached ? bytes : 0;
        evicted = evict_one(cache);
    } else {
        entry->is_refused = err == ERR_NOEXEC;
        (void)!buf_append_str(&entry->message, buf_str(&asker->message));
    }
    /* With the lock, so that the entry does not go meanwhile. */
    op_queue_wake_all(&entry->done);
    pthread_mutex_unlock(&cache->lock);
    program_unref(evicted);
}

static void drop_asker(struct op *op) {
    struct asker *asker = op->state;
    struct program_cache *cache = asker->cache;
    op_done(&asker->child);
    pthread_mutex_lock(&cache->lock);
    if (asker->step != ASKER_WAITS) {
        /* Given up while driving: somebody else goes on. */
        asker->entry->is_driven = false;
        op_queue_wake_all(&asker->entry->done);
    }
    struct program *program = entry_unref(asker->entry);
    pthread_mutex_unlock(&cache->lock);
    program_unref(program);
    buf_done(&asker->module_path);
    buf_done(&asker->compiled_path);
    buf_done(&asker->message);
    free(asker);
}

static enum err drive(struct asker *asker) {
    struct runs *runs = asker->runs;
    struct program *program = NULL;
    uint64_t bytes = 0;
    enum err err = ERR_OK;
    if (asker->module_path.length == 0) {
        err = catalog_module_path(runs->catalog, asker->entry->sha256, &asker->module_path);
        if (!err) {
            err = catalog_compiled_path(runs->catalog, engine_key(), asker->entry->sha256,
                                        &asker->compiled_path);
        }
    }
    if (!err && asker->step == ASKER_READS) {
        err = read_compiled(asker, false, &program, &bytes);
        if (err == ERR_STALE || err == ERR_NOENT) {
            err = ERR_OK;
            asker->step = ASKER_COMPILES;
        }
    }
    if (!err && asker->step == ASKER_COMPILES) {
        err = engine_compile(runs->engine, &asker->child, &runs->options.compile,
                             buf_str(&asker->module_path), buf_str(&asker->compiled_path),
                             asker->compiled_sha256, &asker->message);
        if (!err) {
            asker->step = ASKER_READS_AGAIN;
        }
    }
    if (!err && asker->step == ASKER_READS_AGAIN) {
        err = read_compiled(asker, true, &program, &bytes);
        if (err == ERR_STALE || err == ERR_NOENT) {
            err = buf_fail(&asker->message, ERR_IO,
                           "the compiled code is damaged as soon as it is written");
        }
    }
    if (err == ERR_PENDING) {
        return err;
    }
    end_round(asker, err, program, bytes);
    asker->step = ASKER_WAITS;
    return ERR_OK;
}

/* ---- asking ---- */

/* What can be said at once: a program (a reference), or a refusal. */
static bool answer(struct program_cache *cache, struct entry *entry, enum err *ret_err,
                   struct program **ret_program, struct buf *message) {
    if (entry->program) {
        touch(cache, entry);
        *ret_program = program_ref(entry->program);
        *ret_err = ERR_OK;
        return true;
    }
    if (entry->is_refused) {
        touch(cache, entry);
        *ret_err = buf_fail(message, entry->error, "%s", buf_text(&entry->message));
        return true;
    }
    return false;
}

/* The first call of an op: an answer, or an asker in `op->state`. */
static bool begin(struct op *op, struct runs *runs, const uint8_t sha256[SHA256_SIZE],
                  enum err *ret_err, struct program **ret_program, struct buf *message) {
    struct program_cache *cache = runs->programs;
    struct asker *asker = NULL;
    struct program *evicted = NULL;
    bool answered = true;
    pthread_mutex_lock(&cache->lock);
    struct map_node *node =
        map_find(&cache->entries, (struct str){(const char *)sha256, SHA256_SIZE});
    struct entry *entry = node ? CONTAINER_OF(node, struct entry, node) : NULL;
    if (entry && answer(cache, entry, ret_err, ret_program, message)) {
        goto out;
    }
    *ret_err = ERR_NOMEM;
    asker = calloc(1, sizeof(*asker));
    if (!asker) {
        goto out;
    }
    if (!entry) {
        entry = entry_new(sha256);
        if (!entry || map_insert(&cache->entries, &entry->node,
                                 (struct str){(const char *)entry->sha256, SHA256_SIZE})) {
            if (entry) {
                (void)!entry_unref(entry);
            }
            free(asker);
            goto out;
        }
        entry->is_cached = true;
        list_append(&cache->age, &entry->age);
    }
    entry->references++;
    asker->cache = cache;
    asker->entry = entry;
    asker->runs = runs;
    asker->round = entry->round;
    op_init_child(&asker->child, op);
    asker->child.nonblocking = false;
    op_set_state(op, asker, drop_asker);
    evicted = evict_one(cache);
    answered = false;
out:
    pthread_mutex_unlock(&cache->lock);
    program_unref(evicted);
    return answered;
}

enum err runs_program(struct op *op, struct runs *runs, const uint8_t module_sha256[SHA256_SIZE],
                      struct program **ret_program, struct buf *message) {
    enum err err = ERR_OK;
    if (!op->state && begin(op, runs, module_sha256, &err, ret_program, message)) {
        return err;
    }
    struct asker *asker = op->state;
    struct program_cache *cache = asker->cache;
    for (;;) {
        if (asker->step != ASKER_WAITS) {
            err = drive(asker);
            if (err) {
                return err; /* PENDING */
            }
        }
        err = op_queue_wait(&asker->entry->done, op);
        if (err) {
            return op_finish(op, err);
        }
        pthread_mutex_lock(&cache->lock);
        struct entry *entry = asker->entry;
        bool answered = answer(cache, entry, &err, ret_program, message);
        bool failed = !answered && entry->round != asker->round && entry->error;
        if (failed) {
            err = buf_fail(message, entry->error, "%s", buf_text(&entry->message));
        } else if (!answered && !entry->is_driven) {
            entry->is_driven = true;
            asker->step = ASKER_READS;
        }
        pthread_mutex_unlock(&cache->lock);
        if (answered || failed) {
            return op_finish(op, err);
        }
        if (asker->step == ASKER_WAITS) {
            return ERR_PENDING;
        }
    }
}
