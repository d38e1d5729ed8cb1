/* For the tests of volumes: driving operations to their end, and a model of a volume in plain
 * arrays that random operations are checked against. */
#pragma once

#include "store/volume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loop *loop;
static struct op op;
static const struct who who = {.owner_id = 1};
static char directory_path[256];
static char volume_path[300];

static inline void on_wake(struct op *woken) {
    loop_stop(woken->loop);
}

/* Drives an operation to its end: `enum err err = DO(volume_sync(&op, volume))`. */
#define DO(call)                                                                                   \
    ({                                                                                             \
        enum err result_;                                                                          \
        while ((result_ = (call)) == ERR_PENDING) {                                                \
            loop_run(loop);                                                                        \
        }                                                                                          \
        result_;                                                                                   \
    })
#define assert_ok(call) assert_int_equal(DO(call), ERR_OK)
#define assert_err(call, name) assert_int_equal(DO(call), ERR_##name)

static inline int set_up(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(directory_path, sizeof(directory_path), "%s/volume_test_XXXXXX",
                   base ? base : P_tmpdir);
    if (!mkdtemp(directory_path)) {
        return -1;
    }
    (void)snprintf(volume_path, sizeof(volume_path), "%s/volume.db", directory_path);
    if (loop_new(0, &loop) != ERR_OK) {
        return -1;
    }
    op_init(&op, loop, &who, on_wake);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    op_done(&op);
    loop_free(loop);
    DIR *directory = opendir(directory_path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        (void)unlinkat(dirfd(directory), entry->d_name, 0);
    }
    (void)closedir(directory);
    return rmdir(directory_path);
}

static inline struct volume *open_volume_with(uint64_t bytes_max, uint64_t inodes_max) {
    struct volume_options options = {
        .path = volume_path, .create = true, .bytes_max = bytes_max, .inodes_max = inodes_max};
    struct volume *volume = NULL;
    cleanup_buf struct buf message = {0};
    enum err err = volume_open(&options, &volume, &message);
    if (err != ERR_OK) {
        fail_msg("%s: %s", err_name(err), buf_text(&message));
    }
    return volume;
}

static inline struct volume *open_volume(void) {
    return open_volume_with(0, 0);
}

/* What a path leads to, or 0. Not held. */
static inline uint64_t find(struct volume *volume, const char *path) {
    struct str names[16], rest = str_of(path);
    size_t count = 0, walked = 0;
    while (rest.data) {
        names[count++] = str_cut(&rest, '/');
    }
    uint64_t inode = 0;
    enum file_type type;
    enum err err =
        DO(volume_walk(&op, volume, VOLUME_ROOT_INODE, names, count, &walked, &inode, &type));
    if (err == ERR_NOENT) {
        return 0;
    }
    assert_int_equal(err, ERR_OK);
    volume_let_go(volume, inode);
    return walked == count ? inode : 0;
}

/* A random number, the same ones for the same seed. */
static inline uint64_t next_random(uint64_t *seed) {
    *seed += 0x9e3779b97f4a7c15;
    uint64_t z = *seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* The model */

#define MODEL_NODES 40
#define MODEL_NAMES 7
#define MODEL_BYTES ((size_t)6 * 16384 + 100)

struct model_node {
    bool used, held;
    enum file_type type;
    unsigned links;
    int entries[MODEL_NAMES]; /* of a directory: nodes, or -1 */
    int parent;
    size_t size;
    uint8_t *data;
    uint64_t inode; /* the volume's */
};
struct model {
    uint64_t seed;
    struct model_node nodes[MODEL_NODES];
};

static inline struct str model_name(int name) {
    static const char *const names[MODEL_NAMES] = {"a",
                                                   "b.txt",
                                                   "\xc3\xa4",
                                                   "dir",
                                                   "x y",
                                                   "-",
                                                   "a-name-that-is-rather-longer-than-the-others"};
    return str_of(names[name]);
}

static inline int model_add(struct model *model, enum file_type type, int parent) {
    for (int i = 0; i < MODEL_NODES; i++) {
        struct model_node *node = &model->nodes[i];
        if (!node->used) {
            uint8_t *data = node->data;
            *node = (struct model_node){
                .used = true, .type = type, .links = 1, .parent = parent, .data = data};
            if (!node->data) {
                node->data = calloc(1, MODEL_BYTES);
            }
            memset(node->data, 0, MODEL_BYTES);
            memset(node->entries, 0xff, sizeof(node->entries));
            return i;
        }
    }
    return -1;
}

static inline void model_init(struct model *model, uint64_t seed) {
    *model = (struct model){.seed = seed};
    model_add(model, FILE_DIRECTORY, 0);
    model->nodes[0].inode = VOLUME_ROOT_INODE;
}

static inline void model_done(struct model *model) {
    for (int i = 0; i < MODEL_NODES; i++) {
        free(model->nodes[i].data);
    }
}

static inline void model_settle(struct model_node *node) {
    if (node->links == 0 && !node->held) {
        node->used = false;
    }
}

static inline bool model_is_empty(const struct model_node *node) {
    for (int i = 0; i < MODEL_NAMES; i++) {
        if (node->entries[i] >= 0) {
            return false;
        }
    }
    return true;
}

static inline int model_random(struct model *model, int below) {
    return (int)(next_random(&model->seed) % (uint64_t)below);
}

/* A random node for which one of the two holds, or -1. */
static inline int model_pick(struct model *model, bool directory) {
    int start = model_random(model, MODEL_NODES);
    for (int i = 0; i < MODEL_NODES; i++) {
        int at = (start + i) % MODEL_NODES;
        const struct model_node *node = &model->nodes[at];
        if (node->used && (directory ? node->type == FILE_DIRECTORY && node->links > 0
                                     : node->type == FILE_REGULAR)) {
            return at;
        }
    }
    return -1;
}

/* In each step `volume` may be NULL: then only the model is changed. */

static inline void model_make(struct model *model, struct volume *volume, enum file_type type) {
    int directory = model_pick(model, true), name = model_random(model, MODEL_NAMES);
    struct model_node *at = &model->nodes[directory];
    enum err expected = at->entries[name] >= 0 ? ERR_EXIST : ERR_OK;
    int node = -1;
    if (expected == ERR_OK) {
        node = model_add(model, type, directory);
        if (node < 0) {
            return;
        }
        at->entries[name] = node;
    }
    if (!volume) {
        return;
    }
    uint64_t inode = 0;
    if (type == FILE_SYMBOLIC_LINK) {
        assert_int_equal(
            DO(volume_symlink(&op, volume, at->inode, model_name(name), STR("a/target"))),
            expected);
        if (node >= 0) {
            size_t walked;
            struct str text = model_name(name);
            assert_ok(volume_walk(&op, volume, at->inode, &text, 1, &walked, &inode, &type));
        }
    } else {
        assert_int_equal(DO(volume_create(&op, volume, at->inode, model_name(name), type, &inode)),
                         expected);
    }
    if (node >= 0) {
        model->nodes[node].inode = inode;
        volume_let_go(volume, inode);
    }
}

static inline void model_link(struct model *model, struct volume *volume) {
    int source = model_pick(model, false), directory = model_pick(model, true);
    int name = model_random(model, MODEL_NAMES);
    if (source < 0) {
        return;
    }
    struct model_node *node = &model->nodes[source], *at = &model->nodes[directory];
    enum err expected = node->links == 0 ? ERR_NOENT : at->entries[name] >= 0 ? ERR_EXIST : ERR_OK;
    if (expected == ERR_OK) {
        at->entries[name] = source;
        node->links++;
    }
    if (volume) {
        assert_int_equal(DO(volume_link(&op, volume, node->inode, at->inode, model_name(name))),
                         expected);
    }
}

static inline void model_remove(struct model *model, struct volume *volume) {
    int directory = model_pick(model, true), name = model_random(model, MODEL_NAMES);
    bool wanted = model_random(model, 3) == 0;
    struct model_node *at = &model->nodes[directory];
    int target = at->entries[name];
    struct model_node *node = target >= 0 ? &model->nodes[target] : NULL;
    enum err expected = !node                                     ? ERR_NOENT
                        : wanted && node->type != FILE_DIRECTORY  ? ERR_NOTDIR
                        : !wanted && node->type == FILE_DIRECTORY ? ERR_ISDIR
                        : wanted && !model_is_empty(node)         ? ERR_NOTEMPTY
                                                                  : ERR_OK;
    if (expected == ERR_OK) {
        at->entries[name] = -1;
        node->links--;
        model_settle(node);
    }
    if (volume) {
        assert_int_equal(DO(volume_remove(&op, volume, at->inode, model_name(name), wanted)),
                         expected);
    }
}

static inline bool model_is_below(const struct model *model, int directory, int ancestor) {
    for (; directory != 0; directory = model->nodes[directory].parent) {
        if (directory == ancestor) {
            return true;
        }
    }
    return false;
}

static inline void model_rename(struct model *model, struct volume *volume) {
    int from = model_pick(model, true), to = model_pick(model, true);
    int from_name = model_random(model, MODEL_NAMES), to_name = model_random(model, MODEL_NAMES);
    struct model_node *at = &model->nodes[from], *target = &model->nodes[to];
    int moved = at->entries[from_name], replaced = target->entries[to_name];
    const struct model_node *node = &model->nodes[moved < 0 ? 0 : moved];
    struct model_node *other = replaced < 0 ? NULL : &model->nodes[replaced];
    bool is_directory = node->type == FILE_DIRECTORY;
    enum err expected = ERR_OK;
    if (moved < 0) {
        expected = ERR_NOENT;
    } else if (moved == replaced) {
        expected = ERR_OK;
    } else if (is_directory && model_is_below(model, to, moved)) {
        expected = ERR_INVAL;
    } else if (other && is_directory && other->type != FILE_DIRECTORY) {
        expected = ERR_NOTDIR;
    } else if (other && !is_directory && other->type == FILE_DIRECTORY) {
        expected = ERR_ISDIR;
    } else if (other && is_directory && !model_is_empty(other)) {
        expected = ERR_NOTEMPTY;
    }
    if (volume) {
        assert_int_equal(DO(volume_rename(&op, volume, at->inode, model_name(from_name),
                                          target->inode, model_name(to_name))),
                         expected);
    }
    if (expected == ERR_OK && moved != replaced) {
        at->entries[from_name] = -1;
        target->entries[to_name] = moved;
        model->nodes[moved].parent = to;
        if (other) {
            other->links--;
            model_settle(other);
        }
    }
}

static inline size_t model_offset(struct model *model) {
    size_t offset = (size_t)model_random(model, MODEL_BYTES);
    switch (model_random(model, 4)) {
    case 0:
        return offset / 16384 * 16384;
    case 1:
        return offset / 4096 * 4096;
    case 2:
        return offset % 600;
    default:
        return offset;
    }
}

static inline void model_write(struct model *model, struct volume *volume) {
    int target = model_pick(model, false);
    size_t offset = model_offset(model);
    size_t length = (size_t)model_random(model, 3) == 0 ? (size_t)model_random(model, 45000)
                                                        : (size_t)model_random(model, 700);
    bool append = model_random(model, 4) == 0;
    uint64_t seed = next_random(&model->seed);
    if (target < 0) {
        return;
    }
    struct model_node *node = &model->nodes[target];
    offset = append ? node->size : offset;
    length = MIN(length, MODEL_BYTES - offset);
    for (size_t i = 0; i < length; i++) {
        node->data[offset + i] = (uint8_t)(seed >> (i % 7 * 8)) ^ (uint8_t)i;
    }
    if (length > 0) {
        node->size = MAX(node->size, offset + length);
    }
    if (volume) {
        size_t written = SIZE_MAX;
        assert_ok(volume_write(&op, volume, node->inode, node->data + offset, length,
                               append ? OFFSET_APPEND : offset, &written));
        assert_int_equal(written, length);
    }
}

static inline void model_set_size(struct model *model, struct volume *volume) {
    int target = model_pick(model, false);
    size_t size = model_random(model, 3) == 0 ? 0 : model_offset(model);
    if (target < 0) {
        return;
    }
    struct model_node *node = &model->nodes[target];
    if (size < node->size) {
        memset(node->data + size, 0, node->size - size);
    }
    node->size = size;
    if (volume) {
        assert_ok(volume_set_size(&op, volume, node->inode, size));
    }
}

static inline void model_read(struct model *model, struct volume *volume) {
    int target = model_pick(model, false);
    size_t offset = model_offset(model), length = (size_t)model_random(model, 40000);
    if (target < 0 || !volume) {
        return;
    }
    const struct model_node *node = &model->nodes[target];
    static uint8_t data[40000];
    size_t got = SIZE_MAX, expected = offset < node->size ? MIN(length, node->size - offset) : 0;
    assert_ok(volume_read(&op, volume, node->inode, data, length, offset, &got));
    assert_int_equal(got, expected);
    assert_memory_equal(data, node->data + offset, got);
}

static inline void model_hold(struct model *model, struct volume *volume) {
    int directory = model_pick(model, true), name = model_random(model, MODEL_NAMES);
    struct model_node *at = &model->nodes[directory];
    if (at->entries[name] < 0 || model->nodes[at->entries[name]].held) {
        return;
    }
    struct model_node *node = &model->nodes[at->entries[name]];
    node->held = true;
    if (volume) {
        size_t walked;
        uint64_t inode;
        enum file_type type;
        struct str text = model_name(name);
        assert_ok(volume_walk(&op, volume, at->inode, &text, 1, &walked, &inode, &type));
        assert_int_equal(inode, node->inode);
        assert_int_equal(type, node->type);
    }
}

static inline void model_let_go(struct model *model, struct volume *volume, bool all) {
    int start = model_random(model, MODEL_NODES);
    for (int i = 0; i < MODEL_NODES; i++) {
        struct model_node *node = &model->nodes[(start + i) % MODEL_NODES];
        if (node->used && node->held) {
            node->held = false;
            if (volume) {
                volume_let_go(volume, node->inode);
            }
            model_settle(node);
            if (!all) {
                return;
            }
        }
    }
}

/* Whether a directory of the volume and all below it is as the model has it. Asks the volume by
 * names only. */
static inline bool model_matches(const struct model *model, int at, struct volume *volume,
                                 uint64_t inode) {
    const struct model_node *node = &model->nodes[at];
    struct file_stat stat;
    if (DO(volume_stat(&op, volume, inode, &stat)) != ERR_OK || stat.type != node->type ||
        stat.links != node->links) {
        return false;
    }
    if (node->type == FILE_SYMBOLIC_LINK) {
        cleanup_buf struct buf target = {0};
        return DO(volume_readlink(&op, volume, inode, &target)) == ERR_OK &&
               str_equal_text(buf_str(&target), "a/target");
    }
    if (node->type == FILE_REGULAR) {
        static uint8_t data[MODEL_BYTES];
        size_t got = 0;
        return stat.size == node->size &&
               DO(volume_read(&op, volume, inode, data, sizeof(data), 0, &got)) == ERR_OK &&
               got == node->size && memcmp(data, node->data, got) == 0;
    }
    struct dir_list list = {0};
    bool same = DO(volume_readdir(&op, volume, inode, &list)) == ERR_OK;
    size_t count = 0;
    for (int name = 0; name < MODEL_NAMES; name++) {
        count += node->entries[name] >= 0;
    }
    same = same && list.count == count && stat.size == count;
    for (int name = 0; same && name < MODEL_NAMES; name++) {
        if (node->entries[name] < 0) {
            continue;
        }
        size_t place = 0;
        while (place < list.count && !str_equal(dir_list_name(&list, place), model_name(name))) {
            place++;
        }
        same = place < list.count &&
               model_matches(model, node->entries[name], volume, list.entries[place].inode);
    }
    dir_list_done(&list);
    return same;
}

/* What the database says is used must be what it holds. */
static inline void check_accounts(const struct volume_usage *usage) {
    if (access(volume_path, F_OK) != 0) { /* nothing was ever changed */
        assert_int_equal(usage->bytes, 0);
        assert_int_equal(usage->inodes, 0);
        return;
    }
    sqlite3 *database;
    assert_int_equal(sqlite3_open(volume_path, &database), SQLITE_OK);
    static const struct {
        const char *sql;
        bool is_bytes;
    } sums[] = {
        {"SELECT bytes FROM zasm_volume", true},
        {"SELECT total(bytes) FROM zasm_inode", true},
        {"SELECT (SELECT total(length(content)) FROM zasm_chunk WHERE (key >> 26) NOT IN "
         "(SELECT data FROM zasm_garbage)) + (SELECT total(length(target)) FROM zasm_inode)",
         true},
        {"SELECT inodes - 1 FROM zasm_volume", false}, /* the root is counted there */
        {"SELECT count(*) - 1 + total(max(links, 1) - 1) FROM zasm_inode", false},
        {"SELECT count(*) FROM zasm_entry", false},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(sums); i++) {
        sqlite3_stmt *statement;
        assert_int_equal(sqlite3_prepare_v2(database, sums[i].sql, -1, &statement, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int64(statement, 0),
                         sums[i].is_bytes ? usage->bytes : usage->inodes);
        sqlite3_finalize(statement);
    }
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(database, "PRAGMA integrity_check", -1, &statement, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
    sqlite3_close(database);
}

/* One random step. */
static inline void model_step(struct model *model, struct volume *volume) {
    int kind = model_random(model, 100);
    if (kind < 14) {
        model_make(model, volume, FILE_REGULAR);
    } else if (kind < 20) {
        model_make(model, volume, FILE_DIRECTORY);
    } else if (kind < 23) {
        model_make(model, volume, FILE_SYMBOLIC_LINK);
    } else if (kind < 28) {
        model_link(model, volume);
    } else if (kind < 40) {
        model_remove(model, volume);
    } else if (kind < 52) {
        model_rename(model, volume);
    } else if (kind < 78) {
        model_write(model, volume);
    } else if (kind < 86) {
        model_set_size(model, volume);
    } else if (kind < 94) {
        model_read(model, volume);
    } else if (kind < 97) {
        model_hold(model, volume);
    } else {
        model_let_go(model, volume, false);
    }
}
