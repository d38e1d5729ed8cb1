/* The files that PUT and unpacking write beside their targets: their names, and that none of them
 * is left, neither by a client that vanished nor by a crash. */
#include "api/tree.h"
#include "base/map.h"
#include "ns/temporary.h"

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
        if (ns_is_leftover(name)) {
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
