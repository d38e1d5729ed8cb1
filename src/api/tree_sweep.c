/* The files that PUT and unpacking write beside their targets: their names, and that none of them
 * is left, neither by a client that vanished nor by a crash. */
#include "api/tree.h"
#include "base/clock.h"
#include "base/map.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define PREFIX ".zasm-put-"

static uint32_t life; /* random: tells this run of the server from others */
static pthread_once_t life_once = PTHREAD_ONCE_INIT;

static void make_life(void) {
    random_bytes(&life, sizeof life);
}

static uint32_t present_life(void) {
    pthread_once(&life_once, make_life);
    return life;
}

void tree_temporary_name(char name[TREE_TEMPORARY_SIZE]) {
    uint64_t random = 0;
    random_bytes(&random, sizeof random);
    snprintf(name, TREE_TEMPORARY_SIZE, PREFIX "%08" PRIx32 "-%016" PRIx64, present_life(), random);
}

static bool is_leftover(struct str name) {
    char own[TREE_TEMPORARY_SIZE];
    int length = snprintf(own, sizeof own, PREFIX "%08" PRIx32 "-", present_life());
    return str_starts(name, STR(PREFIX)) && !str_starts(name, (struct str){own, (size_t)length});
}

bool tree_sweep_is_due(struct request *request) {
    struct str path = buf_str(&request->path);
    const char *slash = memrchr(path.data, '/', path.length);
    uint64_t hash = map_hash(path.data, (size_t)(slash - path.data)) | 1; /* 0 is an empty place */
    atomic_uint_fast64_t *place = &request->api->swept[hash / 2 % API_SWEPT_SIZE];
    return atomic_exchange_explicit(place, hash, memory_order_relaxed) != hash;
}

struct tree_sweep {
    struct dir_list list;
    size_t next;
    bool is_listed;
};

enum err tree_sweep_step(struct op *op, struct file *directory, struct tree_sweep **sweep_place) {
    struct tree_sweep *sweep = *sweep_place;
    if (!sweep) {
        sweep = calloc(1, sizeof *sweep);
        if (!sweep) {
            return ERR_NOMEM;
        }
        *sweep_place = sweep;
    }
    if (!sweep->is_listed) {
        enum err err = file_readdir(op, directory, &sweep->list);
        if (err) {
            return err;
        }
        sweep->is_listed = true;
    }
    for (; sweep->next < sweep->list.count; sweep->next++) {
        struct str name = dir_list_name(&sweep->list, sweep->next);
        if (is_leftover(name)) {
            enum err err = file_remove(op, directory, name, false);
            if (err == ERR_PENDING) {
                return err;
            }
        }
    }
    return ERR_OK;
}

void tree_sweep_free(struct tree_sweep *sweep) {
    if (sweep) {
        dir_list_done(&sweep->list);
        free(sweep);
    }
}

/* The op of the request goes with it, so a small object of its own removes the file. */
struct removal {
    struct op op;
    struct who who;
    struct file *directory;
    char name[]; /* length and a NUL */
};

static void removal_step(struct op *op) {
    struct removal *removal = CONTAINER_OF(op, struct removal, op);
    enum err err = file_remove(op, removal->directory, str_of(removal->name), false);
    if (err == ERR_PENDING) {
        return;
    }
    op_done(op);
    file_unref(removal->directory);
    free(removal);
}

void tree_remove_later(const struct op *op, struct file *directory, struct str name) {
    struct removal *removal = calloc(1, sizeof *removal + name.length + 1);
    if (!removal) {
        return; /* what has a temporary name is swept in the next life */
    }
    removal->who = *op->who;
    removal->directory = file_ref(directory);
    memcpy(removal->name, name.data, name.length);
    op_init(&removal->op, op->loop, &removal->who, removal_step);
    removal_step(&removal->op);
}
