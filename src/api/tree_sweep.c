/* Which directories may have files that an earlier life of the server wrote beside their targets.
 */
#include "api/tree.h"
#include "base/map.h"

bool tree_sweep_is_due(struct request *request) {
    struct str path = buf_str(&request->path);
    const char *slash = memrchr(path.data, '/', path.length);
    uint64_t hash = map_hash(path.data, (size_t)(slash - path.data)) | 1; /* 0 is an empty place */
    atomic_uint_fast64_t *place = &request->api->swept[hash / 2 % API_SWEPT_SIZE];
    return atomic_exchange_explicit(place, hash, memory_order_relaxed) != hash;
}
