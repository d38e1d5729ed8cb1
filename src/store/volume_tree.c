/* Directories: walking, making, removing and renaming names. Each operation looks at everything
 * that can refuse it before it changes anything. */
#include "store/volume_internal.h"

#include "base/clock.h"

#include <stdlib.h>

/* Levels that a rename climbs to see whether a directory would move into itself. */
#define DEPTH_MAX 4096
/* Names that a listing reads in one call. */
#define LIST_PIECE 2048
/* So often a long listing begins anew because of a commit before it is done in one go. */
#define LIST_RESTARTS_MAX 3

static void touch_content(struct volume *volume, struct volume_inode *inode, uint64_t now) {
    inode->modified_ns = inode->changed_ns = now;
    inode->version = MAX(inode->version + 1, now);
    volume_inode_touch(volume, inode);
}

/* The entry of a name that is there. */
static enum err entry_find(struct volume *volume, const struct volume_inode *directory,
                           struct str name, struct volume_entry **ret_entry) {
    struct volume_entry *entry;
    enum err err = volume_entry_get(volume, directory->number, name, &entry);
    if (err != ERR_OK) {
        return err;
    }
    if (entry->inode == 0) {
        return ERR_NOENT;
    }
    *ret_entry = entry;
    return ERR_OK;
}

/* The entry of a name that must not be there, in a directory that must. */
static enum err entry_find_free(struct volume *volume, uint64_t directory_number, struct str name,
                                struct volume_inode **ret_directory,
                                struct volume_entry **ret_entry) {
    struct volume_inode *directory;
    struct volume_entry *entry;
    enum err err = volume_directory_get(volume, directory_number, &directory);
    if (err == ERR_OK) {
        err = volume_entry_get(volume, directory->number, name, &entry);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (entry->inode != 0) {
        return ERR_EXIST;
    }
    *ret_directory = directory;
    *ret_entry = entry;
    return ERR_OK;
}

static enum err walk(struct volume *volume, uint64_t directory_number, const struct str *names,
                     size_t count, size_t *ret_walked, struct volume_inode **ret_inode) {
    struct volume_inode *directory;
    enum err err = volume_directory_get(volume, directory_number, &directory);
    if (err != ERR_OK) {
        return err;
    }
    uint64_t number = directory_number;
    size_t walked = 0;
    while (walked < count) {
        struct volume_entry *entry;
        err = volume_entry_get(volume, number, names[walked], &entry);
        if (err == ERR_OK && entry->inode == 0) {
            err = ERR_NOENT;
        }
        if (err != ERR_OK) {
            break;
        }
        number = entry->inode;
        walked++;
        if (entry->type != FILE_DIRECTORY) {
            break;
        }
    }
    if (walked == 0 || (err != ERR_OK && err != ERR_NOENT)) {
        return err != ERR_OK ? err : ERR_INVAL;
    }
    struct volume_inode *inode;
    err = volume_inode_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err == ERR_NOENT ? ERR_IO : err; /* a name of nothing: damage */
    }
    *ret_walked = walked;
    *ret_inode = inode;
    return ERR_OK;
}

enum err volume_walk(struct op *op, struct volume *volume, uint64_t directory,
                     const struct str *names, size_t count, size_t *ret_walked, uint64_t *ret_inode,
                     enum file_type *ret_type) {
    enum err err = volume_enter(op, volume, 0);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = walk(volume, directory, names, count, ret_walked, &inode);
    if (err == ERR_OK) {
        volume_inode_hold(volume, inode);
        *ret_inode = inode->number;
        *ret_type = (enum file_type)inode->type;
    }
    return volume_leave(op, volume, err);
}

/* A new inode with one link, named by the entry. */
static enum err make(struct volume *volume, uint64_t directory_number, struct str name,
                     enum file_type type, struct str target, struct volume_inode **ret_inode) {
    struct volume_inode *directory, *inode;
    struct volume_entry *entry;
    enum err err = entry_find_free(volume, directory_number, name, &directory, &entry);
    if (err != ERR_OK) {
        return err;
    }
    if (volume->next_number >= VOLUME_NUMBER_MAX) {
        return ERR_NOSPC;
    }
    cleanup_free char *target_copy = target.length > 0 ? malloc(target.length) : NULL;
    if (target.length > 0 && !target_copy) {
        return ERR_NOMEM;
    }
    err = volume_charge(volume, target.length, 1);
    if (err != ERR_OK) {
        return err;
    }
    err = volume_inode_new(volume, volume->next_number, type, &inode);
    if (err != ERR_OK) {
        volume_uncharge(volume, target.length, 1);
        return err;
    }
    if (target_copy) {
        memcpy(target_copy, target.data, target.length);
        inode->target = STEAL(target_copy);
        inode->target_length = (uint32_t)target.length;
        inode->size = inode->bytes = target.length;
    }
    volume->next_number++;
    uint64_t now = clock_realtime_ns();
    inode->accessed_ns = inode->modified_ns = inode->changed_ns = inode->version = now;
    inode->links = 1;
    inode->data = type == FILE_REGULAR ? inode->number : 0;
    inode->parent = type == FILE_DIRECTORY ? directory->number : 0;
    volume_inode_touch(volume, inode);
    volume_entry_set(volume, directory, entry, inode->number, type);
    directory->size++;
    touch_content(volume, directory, now);
    *ret_inode = inode;
    return ERR_OK;
}

enum err volume_create(struct op *op, struct volume *volume, uint64_t directory, struct str name,
                       enum file_type type, uint64_t *ret_inode) {
    if (type != FILE_REGULAR && type != FILE_DIRECTORY && type != FILE_WHITEOUT) {
        return ERR_INVAL;
    }
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = make(volume, directory, name, type, (struct str){0}, &inode);
    if (err == ERR_OK) {
        volume_inode_hold(volume, inode);
        *ret_inode = inode->number;
    }
    return volume_leave(op, volume, err);
}

enum err volume_symlink(struct op *op, struct volume *volume, uint64_t directory, struct str name,
                        struct str target) {
    if (target.length == 0) {
        return ERR_NOENT;
    }
    if (target.length > VOLUME_TARGET_BYTES_MAX) {
        return ERR_NAMETOOLONG;
    }
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = make(volume, directory, name, FILE_SYMBOLIC_LINK, target, &inode);
    return volume_leave(op, volume, err);
}

enum err volume_readlink(struct op *op, struct volume *volume, uint64_t number,
                         struct buf *ret_target) {
    enum err err = volume_enter(op, volume, 0);
    if (err != ERR_OK) {
        return err;
    }
    struct volume_inode *inode;
    err = volume_inode_get(volume, number, &inode);
    if (err == ERR_OK) {
        err =
            inode->target ? buf_append(ret_target, inode->target, inode->target_length) : ERR_INVAL;
    }
    return volume_leave(op, volume, err);
}

static enum err add_link(struct volume *volume, uint64_t number, uint64_t directory_number,
                         struct str name) {
    struct volume_inode *inode, *directory;
    struct volume_entry *entry;
    enum err err = volume_inode_get(volume, number, &inode);
    if (err != ERR_OK) {
        return err;
    }
    if (inode->type == FILE_DIRECTORY) {
        return ERR_PERM;
    }
    if (inode->links == 0) {
        return ERR_NOENT;
    }
    if (inode->links >= VOLUME_LINKS_MAX) {
        return ERR_MLINK;
    }
    err = entry_find_free(volume, directory_number, name, &directory, &entry);
    if (err == ERR_OK) {
        err = volume_charge(volume, 0, 1);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t now = clock_realtime_ns();
    inode->links++;
    inode->changed_ns = now;
    volume_inode_touch(volume, inode);
    volume_entry_set(volume, directory, entry, inode->number, (enum file_type)inode->type);
    directory->size++;
    touch_content(volume, directory, now);
    return ERR_OK;
}

enum err volume_link(struct op *op, struct volume *volume, uint64_t inode, uint64_t directory,
                     struct str name) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE);
    if (err != ERR_OK) {
        return err;
    }
    err = add_link(volume, inode, directory, name);
    return volume_leave(op, volume, err);
}

/* One name of an inode less. */
static void drop_link(struct volume *volume, struct volume_inode *inode, uint64_t now) {
    inode->links--;
    inode->changed_ns = now;
    volume_inode_touch(volume, inode);
    if (inode->links > 0) {
        volume_uncharge(volume, 0, 1);
    }
    volume_inode_settle(volume, inode);
}

/* Whether what is at a name, if anything, is what the caller has seen there. */
static bool is_expected(const struct volume_inode *inode, const struct file_expected *expected) {
    return !expected ||
           (inode && inode->type != FILE_WHITEOUT
                ? inode->number == expected->inode && inode->version == expected->version
                : expected->inode == 0);
}

static enum err remove_name(struct volume *volume, uint64_t directory_number, struct str name,
                            bool directory_wanted, const struct file_expected *expected) {
    struct volume_inode *directory, *inode;
    struct volume_entry *entry;
    enum err err = volume_directory_get(volume, directory_number, &directory);
    if (err == ERR_OK) {
        err = entry_find(volume, directory, name, &entry);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = volume_inode_get(volume, entry->inode, &inode);
    if (err != ERR_OK) {
        return err == ERR_NOENT ? ERR_IO : err;
    }
    if (directory_wanted && inode->type != FILE_DIRECTORY) {
        return ERR_NOTDIR;
    }
    if (!directory_wanted && inode->type == FILE_DIRECTORY) {
        return ERR_ISDIR;
    }
    if (inode->type == FILE_DIRECTORY && inode->size > 0) {
        return ERR_NOTEMPTY;
    }
    if (!is_expected(inode, expected)) {
        return ERR_STALE;
    }
    uint64_t now = clock_realtime_ns();
    volume_entry_set(volume, directory, entry, 0, FILE_UNKNOWN);
    directory->size -= MIN(directory->size, 1u);
    touch_content(volume, directory, now);
    drop_link(volume, inode, now);
    return ERR_OK;
}

enum err volume_remove(struct op *op, struct volume *volume, uint64_t directory, struct str name,
                       bool directory_wanted) {
    return volume_remove_expected(op, volume, directory, name, directory_wanted, NULL);
}

enum err volume_remove_expected(struct op *op, struct volume *volume, uint64_t directory,
                                struct str name, bool directory_wanted,
                                const struct file_expected *expected) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE | VOLUME_SHRINKS);
    if (err != ERR_OK) {
        return err;
    }
    err = remove_name(volume, directory, name, directory_wanted, expected);
    return volume_leave(op, volume, err);
}

/* INVAL if `directory` is `moved` or lies below it. */
static enum err check_not_below(struct volume *volume, const struct volume_inode *directory,
                                uint64_t moved) {
    uint64_t number = directory->number;
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (number == moved) {
            return ERR_INVAL;
        }
        if (number == VOLUME_ROOT_INODE) {
            return ERR_OK;
        }
        struct volume_inode *inode;
        enum err err = volume_inode_get(volume, number, &inode);
        if (err != ERR_OK) {
            return err == ERR_NOENT ? ERR_IO : err;
        }
        number = inode->parent;
    }
    return ERR_NAMETOOLONG;
}

/* Whether `inode` may take the place of `replaced`. A whiteout gives way to anything. */
static enum err check_replace(const struct volume_inode *inode,
                              const struct volume_inode *replaced) {
    if (replaced->type == FILE_WHITEOUT) {
        return ERR_OK;
    }
    if (inode->type == FILE_DIRECTORY) {
        if (replaced->type != FILE_DIRECTORY) {
            return ERR_NOTDIR;
        }
        return replaced->size > 0 ? ERR_NOTEMPTY : ERR_OK;
    }
    return replaced->type == FILE_DIRECTORY ? ERR_ISDIR : ERR_OK;
}

static enum err rename_name(struct volume *volume, uint64_t old_number, struct str old_name,
                            uint64_t new_number, struct str new_name,
                            const struct file_expected *expected) {
    struct volume_inode *old_directory, *new_directory, *inode, *replaced = NULL;
    struct volume_entry *old_entry, *new_entry;
    enum err err = volume_directory_get(volume, old_number, &old_directory);
    if (err == ERR_OK) {
        err = volume_directory_get(volume, new_number, &new_directory);
    }
    if (err == ERR_OK) {
        err = entry_find(volume, old_directory, old_name, &old_entry);
    }
    if (err == ERR_OK) {
        err = volume_entry_get(volume, new_number, new_name, &new_entry);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = volume_inode_get(volume, old_entry->inode, &inode);
    if (err == ERR_OK && new_entry->inode != 0) {
        err = volume_inode_get(volume, new_entry->inode, &replaced);
    }
    if (err != ERR_OK) {
        return err == ERR_NOENT ? ERR_IO : err;
    }
    if (!is_expected(replaced, expected)) {
        return ERR_STALE;
    }
    if (replaced == inode) {
        return ERR_OK; /* two names of one file, or the same name: nothing happens (POSIX) */
    }
    if (inode->type == FILE_DIRECTORY && old_directory != new_directory) {
        err = check_not_below(volume, new_directory, inode->number);
    }
    if (err == ERR_OK && replaced) {
        err = check_replace(inode, replaced);
    }
    if (err != ERR_OK) {
        return err;
    }
    uint64_t now = clock_realtime_ns();
    volume_entry_set(volume, old_directory, old_entry, 0, FILE_UNKNOWN);
    old_directory->size -= MIN(old_directory->size, 1u);
    volume_entry_set(volume, new_directory, new_entry, inode->number, (enum file_type)inode->type);
    new_directory->size += replaced ? 0 : 1;
    touch_content(volume, old_directory, now);
    touch_content(volume, new_directory, now);
    inode->parent = inode->type == FILE_DIRECTORY ? new_directory->number : 0;
    inode->changed_ns = now;
    volume_inode_touch(volume, inode);
    if (replaced) {
        drop_link(volume, replaced, now);
    }
    return ERR_OK;
}

enum err volume_rename(struct op *op, struct volume *volume, uint64_t old_directory,
                       struct str old_name, uint64_t new_directory, struct str new_name) {
    return volume_rename_expected(op, volume, old_directory, old_name, new_directory, new_name,
                                  NULL);
}

enum err volume_rename_expected(struct op *op, struct volume *volume, uint64_t old_directory,
                                struct str old_name, uint64_t new_directory, struct str new_name,
                                const struct file_expected *expected) {
    enum err err = volume_enter(op, volume, VOLUME_CHANGE | VOLUME_SHRINKS);
    if (err != ERR_OK) {
        return err;
    }
    err = rename_name(volume, old_directory, old_name, new_directory, new_name, expected);
    return volume_leave(op, volume, err);
}

/* Listing. First the names that only memory has, then those of the database, piece by piece so that
 * a huge directory stops nobody. A commit in between moves names from the one to the other: then
 * it begins anew. */
struct listing {
    struct dir_list list;
    uint64_t commits; /* of the volume when it began */
    unsigned restarts;
    bool begun;
    struct buf last; /* the last name read from the database */
};

static void listing_free(struct op *op) {
    struct listing *listing = op->state;
    dir_list_done(&listing->list);
    buf_done(&listing->last);
    free(listing);
}

static enum err list_memory(const struct volume_inode *directory, struct dir_list *list) {
    enum err err = ERR_OK;
    LIST_FOR_EACH (link, &directory->dirty_entries) {
        struct volume_entry *entry = CONTAINER_OF(link, struct volume_entry, sibling);
        if (err == ERR_OK && entry->inode != 0) {
            struct str name = {entry->name, entry->name_length};
            err = dir_list_add(list, name, entry->inode, entry->type);
        }
    }
    return err;
}

/* At most `count` rows; `*ret_end` when there are no more. */
static enum err list_database(struct volume *volume, uint64_t directory, struct listing *listing,
                              uint64_t count, bool *ret_end) {
    sqlite3_stmt *statement = volume_statement(volume, STATEMENT_ENTRY_LIST);
    volume_bind(statement, 1, directory);
    /* A blob of no bytes must have an address, or it is NULL. */
    volume_bind_bytes(statement, 2, buf_text(&listing->last), listing->last.length);
    volume_bind(statement, 3, count);
    uint64_t rows = 0;
    enum err err;
    bool row;
    struct str name = {0};
    while ((err = volume_step(volume, statement, &row)) == ERR_OK && row) {
        rows++;
        name.data = sqlite3_column_blob(statement, 0);
        int length = sqlite3_column_bytes(statement, 0);
        uint64_t inode = volume_column(statement, 1), type = volume_column(statement, 2);
        if (!name.data || length < 1 || length > UINT8_MAX || inode == 0 || type > UINT8_MAX) {
            err = ERR_IO;
            break;
        }
        name.length = (size_t)length;
        const struct volume_entry *entry = volume_entry_find(volume, directory, name);
        if (!entry || !entry->dirty) {
            err = dir_list_add(&listing->list, name, inode, (uint8_t)type);
        }
        if (err == ERR_OK && rows == count) {
            listing->last.length = 0;
            err = buf_append_str(&listing->last, name);
        }
        if (err != ERR_OK) {
            break;
        }
    }
    volume_reset(statement);
    if (err == ERR_OK) {
        *ret_end = rows < count;
    }
    return err;
}

static enum err list_piece(struct volume *volume, uint64_t number, struct listing *listing,
                           bool *ret_end) {
    struct volume_inode *directory;
    enum err err = volume_inode_get(volume, number, &directory);
    if (err == ERR_OK && directory->type != FILE_DIRECTORY) {
        err = ERR_NOTDIR;
    }
    if (err != ERR_OK) {
        return err;
    }
    if (listing->begun && listing->commits != volume->commits) {
        dir_list_done(&listing->list);
        listing->list = (struct dir_list){0};
        listing->last.length = 0;
        listing->begun = false;
        listing->restarts++;
    }
    if (!listing->begun) {
        listing->begun = true;
        listing->commits = volume->commits;
        err = list_memory(directory, &listing->list);
    }
    bool end = !volume->has_tables || !directory->stored;
    if (err == ERR_OK && !end) {
        bool at_once = listing->restarts > LIST_RESTARTS_MAX;
        err = list_database(volume, number, listing, at_once ? INT64_MAX : LIST_PIECE, &end);
    }
    if (err == ERR_OK) {
        *ret_end = end;
    }
    return err;
}

static enum err list_copy(const struct dir_list *from, struct dir_list *to) {
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < from->count; i++) {
        err =
            dir_list_add(to, dir_list_name(from, i), from->entries[i].inode, from->entries[i].type);
    }
    return err;
}

/* Hands the names over, or keeps what there is for the next call. */
static enum err list_end(struct op *op, struct listing *listing, bool end,
                         struct dir_list *ret_list) {
    if (end) {
        if (ret_list->capacity > 0 || ret_list->names.capacity > 0) {
            return list_copy(&listing->list, ret_list);
        }
        *ret_list = listing->list;
        listing->list = (struct dir_list){0};
        return ERR_OK;
    }
    if (!op->state) {
        struct listing *kept = malloc(sizeof(*kept));
        if (!kept) {
            return ERR_NOMEM;
        }
        *kept = *listing;
        *listing = (struct listing){0};
        op_set_state(op, kept, listing_free);
    }
    op_wake(op);
    return ERR_PENDING;
}

enum err volume_readdir(struct op *op, struct volume *volume, uint64_t directory,
                        struct dir_list *ret_list) {
    enum err err = volume_enter(op, volume, 0);
    if (err != ERR_OK) {
        return err;
    }
    struct listing first = {0}, *listing = op->state ? op->state : &first;
    bool end = false;
    err = list_piece(volume, directory, listing, &end);
    if (err == ERR_OK) {
        err = list_end(op, listing, end, ret_list);
    }
    dir_list_done(&first.list);
    buf_done(&first.last);
    return volume_leave(op, volume, err);
}
