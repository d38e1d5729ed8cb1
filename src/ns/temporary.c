#include "ns/temporary.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define PREFIX ".zasm-put-"
#define FORM PREFIX "########-################" /* the life, and a number of its own */
#define FORM_LENGTH (sizeof FORM - 1)

static uint32_t life; /* random: tells this run of the server from others */
static pthread_once_t life_once = PTHREAD_ONCE_INIT;

static void make_life(void) {
    random_bytes(&life, sizeof life);
}

static uint32_t present_life(void) {
    pthread_once(&life_once, make_life);
    return life;
}

void ns_temporary_name(char name[NS_TEMPORARY_SIZE]) {
    uint64_t random = 0;
    random_bytes(&random, sizeof random);
    snprintf(name, NS_TEMPORARY_SIZE, PREFIX "%08" PRIx32 "-%016" PRIx64, present_life(), random);
}

static bool is_digit(char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

bool ns_is_temporary(struct str name) {
    if (name.length != FORM_LENGTH || !str_starts(name, STR(PREFIX))) {
        return false;
    }
    for (size_t i = sizeof PREFIX - 1; i < FORM_LENGTH; i++) {
        if (FORM[i] == '#' ? !is_digit(name.data[i]) : name.data[i] != FORM[i]) {
            return false;
        }
    }
    return true;
}

bool ns_has_temporary(struct str path) {
    if (path.length < FORM_LENGTH || !memmem(path.data, path.length, PREFIX, sizeof PREFIX - 1)) {
        return false;
    }
    while (path.data) {
        if (ns_is_temporary(str_cut(&path, '/'))) {
            return true;
        }
    }
    return false;
}

bool ns_is_leftover(struct str name) {
    char own[NS_TEMPORARY_SIZE];
    int length = snprintf(own, sizeof own, PREFIX "%08" PRIx32 "-", present_life());
    return ns_is_temporary(name) && !str_starts(name, (struct str){own, (size_t)length});
}

static atomic_size_t removal_count;

/* The op of who made it goes, so a small object of its own removes the file. */
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
    atomic_fetch_sub_explicit(&removal_count, 1, memory_order_release);
}

void ns_remove_later(const struct op *op, struct file *directory, struct str name) {
    struct removal *removal = calloc(1, sizeof *removal + name.length + 1);
    if (!removal) {
        return; /* what has a temporary name is swept in the next life */
    }
    removal->who = *op->who;
    removal->who.traceparent = NULL; /* they are borrowed of what ends now */
    removal->who.tracestate = (struct str){0};
    removal->directory = file_ref(directory);
    memcpy(removal->name, name.data, name.length);
    op_init(&removal->op, op->loop, &removal->who, removal_step);
    atomic_fetch_add_explicit(&removal_count, 1, memory_order_relaxed);
    removal_step(&removal->op);
}

bool ns_has_removals(void) {
    return atomic_load_explicit(&removal_count, memory_order_acquire) > 0;
}

/* ---- what is left by a crash ---- */

struct ns_sweep {
    struct dir_list list;
    size_t next;
    bool is_listed;
};

enum err ns_sweep_step(struct op *op, struct file *directory, struct ns_sweep **sweep_place) {
    struct ns_sweep *sweep = *sweep_place;
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
        if (ns_is_leftover(name)) {
            enum err err = file_remove(op, directory, name, false);
            if (err == ERR_PENDING) {
                return err;
            }
        }
    }
    return ERR_OK;
}

void ns_sweep_free(struct ns_sweep *sweep) {
    if (sweep) {
        dir_list_done(&sweep->list);
        free(sweep);
    }
}
