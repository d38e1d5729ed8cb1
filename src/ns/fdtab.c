#include "ns/fdtab.h"

void fdtab_init(struct fdtab *table, uint32_t limit) {
    *table = (struct fdtab){.limit = limit};
}

static void fd_release(struct fd *fd) {
    if (fd->listing) {
        dir_list_done(fd->listing);
        free(fd->listing);
    }
    file_closed(fd->place.file, fd->open_flags);
    ns_place_done(&fd->place);
    free(fd->path);
    *fd = (struct fd){0};
}

void fdtab_done(struct fdtab *table) {
    for (uint32_t number = 0; number < table->capacity; number++) {
        if (table->entries[number].place.file) {
            fd_release(&table->entries[number]);
        }
    }
    free(table->entries);
    *table = (struct fdtab){.limit = table->limit};
}

enum err fdtab_add(struct fdtab *table, const struct fd *fd, uint32_t *ret_number) {
    if (table->count >= table->limit) {
        return ERR_NFILE;
    }
    uint32_t number = table->capacity;
    if (table->count < table->capacity) {
        for (number = 0; table->entries[number].place.file; number++) {
        }
    } else {
        uint32_t capacity =
            table->capacity > table->limit / 2 ? table->limit : MAX(8, table->capacity * 2);
        capacity = MIN(capacity, table->limit);
        struct fd *entries = reallocarray(table->entries, capacity, sizeof *entries);
        if (!entries) {
            return ERR_NOMEM;
        }
        memset(entries + table->capacity, 0, (capacity - table->capacity) * sizeof *entries);
        table->entries = entries;
        table->capacity = capacity;
    }
    table->entries[number] = *fd;
    table->count++;
    *ret_number = number;
    return ERR_OK;
}

struct fd *fdtab_get(struct fdtab *table, uint32_t number) {
    if (number >= table->capacity || !table->entries[number].place.file) {
        return NULL;
    }
    return &table->entries[number];
}

enum err fdtab_close(struct fdtab *table, uint32_t number) {
    struct fd *fd = fdtab_get(table, number);
    if (!fd) {
        return ERR_BADF;
    }
    /* The entry is free before the device hears of it. */
    struct fd closed = *fd;
    *fd = (struct fd){0};
    table->count--;
    fd_release(&closed);
    return ERR_OK;
}

enum err fdtab_renumber(struct fdtab *table, uint32_t from, uint32_t to) {
    struct fd *source = fdtab_get(table, from), *target = fdtab_get(table, to);
    if (!source || !target) {
        return ERR_BADF;
    }
    if (source == target) {
        return ERR_OK;
    }
    struct fd closed = *target;
    *target = *source;
    *source = (struct fd){0};
    table->count--;
    fd_release(&closed);
    return ERR_OK;
}
