/* A directory becomes a tar: walked depth first, written by libarchive piece by piece into a buffer
 * from which it is read. */
#include "api/archive_source.h"

#include "base/map.h"
#include "ns/temporary.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

enum {
    PIECE_BYTES = 64 * 1024,
    /* Files with several names that are remembered; one more is stored once for each name. */
    LINKS_MAX = 100000,
};

enum stage {
    STAGE_LIST,  /* the innermost directory is listed */
    STAGE_ENTRY, /* its next entry */
    STAGE_STAT,
    STAGE_LINK_TARGET,
    STAGE_OPEN,
    STAGE_OPENED_STAT, /* a snapshot has the size that it has when it is opened */
    STAGE_DATA,
    STAGE_DONE,
};

struct level {
    struct file *directory; /* a reference */
    struct dir_list list;
    size_t next;
    size_t path_length; /* of pack->path, with the slash behind it */
};

/* Where a file with several names was stored first. */
struct stored {
    struct map_node node; /* by key */
    struct {
        uint64_t device, inode;
    } key;
    char path[];
};

struct pack {
    struct archive *archive;
    struct archive_entry *entry;
    struct buf output; /* written by libarchive, not read yet from `output_at` on */
    size_t output_at;
    enum stage stage;
    struct level levels[1 + ARCHIVE_DEPTH_MAX];
    size_t level_count;
    struct buf path; /* of the present entry, relative */
    struct file *file, *opened;
    struct file_stat stat;
    struct buf target;
    uint64_t offset;  /* in the file */
    bool is_given_up; /* what is still written is refused */
    struct map links;
    bool (*is_wanted)(const void *argument, struct str path); /* NULL: everything is */
    const void *wanted_argument;
    uint8_t piece[PIECE_BYTES];
};

static la_ssize_t take_output(struct archive *archive, void *argument, const void *data,
                              size_t length) {
    struct pack *pack = argument;
    if (pack->is_given_up) {
        archive_set_error(archive, ECANCELED, "given up");
        return -1;
    }
    if (buf_append(&pack->output, data, length) != ERR_OK) {
        archive_set_error(archive, ENOMEM, "no memory");
        return -1;
    }
    return (la_ssize_t)length;
}

/* --- entries ---------------------------------------------------------------------------------- */

static enum err archive_err(struct pack *pack, long result) {
    if (result == ARCHIVE_OK || result == ARCHIVE_WARN || result > 0) {
        return ERR_OK;
    }
    return archive_errno(pack->archive) == ENOMEM ? ERR_NOMEM : ERR_IO;
}

static enum err write_header(struct pack *pack, unsigned type, const char *hard_link) {
    struct archive_entry *entry = archive_entry_clear(pack->entry);
    archive_entry_copy_pathname(entry, buf_text(&pack->path));
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, type == AE_IFDIR ? 0755 : type == AE_IFLNK ? 0777 : 0644);
    archive_entry_set_size(entry, type == AE_IFREG && !hard_link ? (int64_t)pack->stat.size : 0);
    if (pack->stat.modified_ns) {
        archive_entry_set_mtime(entry, (time_t)(pack->stat.modified_ns / NS_PER_S),
                                (long)(pack->stat.modified_ns % NS_PER_S));
    }
    if (hard_link) {
        archive_entry_copy_hardlink(entry, hard_link);
    } else if (type == AE_IFLNK) {
        archive_entry_copy_symlink(entry, buf_text(&pack->target));
    }
    return archive_err(pack, archive_write_header(pack->archive, entry));
}

/* NULL if it was not stored yet; then it is noted, unless too many are. */
static const char *find_stored(struct pack *pack) {
    struct stored *stored = calloc(1, sizeof(*stored) + pack->path.length + 1);
    if (!stored) {
        return NULL;
    }
    stored->key.device = pack->file->device;
    stored->key.inode = pack->stat.inode;
    struct map_node *node = map_find(&pack->links, MAP_KEY(stored->key));
    if (node) {
        free(stored);
        return CONTAINER_OF(node, struct stored, node)->path;
    }
    memcpy(stored->path, pack->path.data, pack->path.length);
    if (pack->links.count >= LINKS_MAX ||
        map_insert(&pack->links, &stored->node, MAP_KEY(stored->key)) != ERR_OK) {
        free(stored);
    }
    return NULL;
}

static void end_entry(struct pack *pack) {
    if (pack->opened) {
        file_closed(pack->opened, OPEN_READ);
        file_unref(STEAL(pack->opened));
    }
    file_unref(STEAL(pack->file));
    pack->stage = STAGE_ENTRY;
}

static enum err push(struct pack *pack, struct file *directory) {
    if (pack->level_count == ARRAY_LENGTH(pack->levels)) {
        return ERR_LOOP;
    }
    pack->levels[pack->level_count++] =
        (struct level){.directory = file_ref(directory), .path_length = pack->path.length};
    pack->stage = STAGE_LIST;
    return ERR_OK;
}

static void pop(struct pack *pack) {
    struct level *level = &pack->levels[--pack->level_count];
    file_unref(level->directory);
    dir_list_done(&level->list);
}

/* --- steps ------------------------------------------------------------------------------------ */

static enum err list_directory(struct op *op, struct pack *pack) {
    struct level *level = &pack->levels[pack->level_count - 1];
    enum err err = file_readdir(op, level->directory, &level->list);
    pack->stage = err ? pack->stage : STAGE_ENTRY;
    return err;
}

static enum err next_entry(struct op *op, struct pack *pack) {
    if (pack->level_count == 0) {
        pack->stage = STAGE_DONE;
        return archive_err(pack, archive_write_close(pack->archive));
    }
    struct level *level = &pack->levels[pack->level_count - 1];
    if (level->next == level->list.count) {
        pop(pack);
        return ERR_OK;
    }
    struct str name = dir_list_name(&level->list, level->next);
    if (ns_is_temporary(name)) { /* not whole, or what a crash left */
        level->next++;
        return ERR_OK;
    }
    size_t walked;
    pack->path.length = level->path_length;
    enum err err = buf_append_str(&pack->path, name);
    if (err) {
        return err;
    }
    if (pack->is_wanted && !pack->is_wanted(pack->wanted_argument, buf_str(&pack->path))) {
        level->next++;
        return ERR_OK;
    }
    err = file_walk(op, level->directory, &name, 1, &walked, &pack->file);
    if (err == ERR_PENDING) {
        return err;
    }
    level->next++;
    if (err) {
        return err == ERR_NOENT ? ERR_OK : err; /* removed meanwhile, or a whiteout */
    }
    pack->stage = STAGE_STAT;
    return ERR_OK;
}

static enum err look(struct op *op, struct pack *pack) {
    enum err err = file_stat(op, pack->file, &pack->stat);
    if (err) {
        return err;
    }
    switch (pack->file->type) {
    case FILE_DIRECTORY:
        err = buf_append_byte(&pack->path, '/');
        err = err ? err : write_header(pack, AE_IFDIR, NULL);
        err = err ? err : push(pack, pack->file);
        file_unref(STEAL(pack->file));
        return err;
    case FILE_SYMBOLIC_LINK:
        pack->stage = STAGE_LINK_TARGET;
        return ERR_OK;
    case FILE_REGULAR:
        break;
    default: /* a device: it has no content that could be stored */
        end_entry(pack);
        return ERR_OK;
    }
    const char *stored = pack->stat.links > 1 ? find_stored(pack) : NULL;
    if (stored) {
        err = write_header(pack, AE_IFREG, stored);
        end_entry(pack);
        return err;
    }
    pack->stage = STAGE_OPEN;
    return ERR_OK;
}

static enum err read_target(struct op *op, struct pack *pack) {
    pack->target.length = 0;
    enum err err = file_readlink(op, pack->file, &pack->target);
    if (err == ERR_PENDING) {
        return err;
    }
    err = err ? err : write_header(pack, AE_IFLNK, NULL);
    end_entry(pack);
    return err;
}

static enum err begin_content(struct op *op, struct pack *pack) {
    enum err err = file_stat(op, pack->opened, &pack->stat);
    if (err) {
        return err;
    }
    pack->offset = 0;
    pack->stage = STAGE_DATA;
    return write_header(pack, AE_IFREG, NULL);
}

static enum err write_content(struct op *op, struct pack *pack) {
    if (pack->offset == pack->stat.size) {
        enum err err = archive_err(pack, archive_write_finish_entry(pack->archive));
        end_entry(pack);
        return err;
    }
    size_t wanted = (size_t)MIN((uint64_t)PIECE_BYTES, pack->stat.size - pack->offset);
    size_t length = 0;
    enum err err = file_read(op, pack->opened, pack->piece, wanted, pack->offset, &length);
    if (err) {
        return err;
    }
    if (length == 0) { /* it became shorter; the header has promised more */
        memset(pack->piece, 0, wanted);
        length = wanted;
    }
    pack->offset += length;
    return archive_err(pack, archive_write_data(pack->archive, pack->piece, length));
}

static enum err step(struct op *op, struct pack *pack) {
    enum err err;
    switch (pack->stage) {
    case STAGE_LIST:
        return list_directory(op, pack);
    case STAGE_ENTRY:
        return next_entry(op, pack);
    case STAGE_STAT:
        return look(op, pack);
    case STAGE_LINK_TARGET:
        return read_target(op, pack);
    case STAGE_OPEN:
        err = file_open(op, pack->file, OPEN_READ, &pack->opened);
        pack->stage = err ? pack->stage : STAGE_OPENED_STAT;
        return err;
    case STAGE_OPENED_STAT:
        return begin_content(op, pack);
    case STAGE_DATA:
        return write_content(op, pack);
    case STAGE_DONE:
        break;
    }
    return ERR_OK;
}

enum err pack_read(struct op *op, struct pack *pack, void *data, size_t size, size_t *ret_read) {
    enum err err = ERR_OK;
    locale_t before = uselocale(source_locale());
    while (!err && pack->stage != STAGE_DONE && pack->output.length == pack->output_at) {
        pack->output.length = pack->output_at = 0;
        err = step(op, pack);
    }
    uselocale(before);
    if (err) {
        return err;
    }
    size_t length = MIN(size, pack->output.length - pack->output_at);
    if (length > 0) {
        memcpy(data, pack->output.data + pack->output_at, length);
    }
    pack->output_at += length;
    *ret_read = length;
    return ERR_OK;
}

enum err pack_new(struct file *directory, struct pack **ret_pack) {
    struct pack *pack = calloc(1, sizeof(*pack));
    if (!pack) {
        return ERR_NOMEM;
    }
    pack->archive = archive_write_new();
    pack->entry = archive_entry_new();
    /* Nothing is held back or padded but what a tar ends with. */
    if (!pack->archive || !pack->entry || !source_locale() ||
        archive_write_set_format_pax_restricted(pack->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(pack->archive, 0) != ARCHIVE_OK ||
        archive_write_open(pack->archive, pack, NULL, take_output, NULL) != ARCHIVE_OK ||
        push(pack, directory) != ERR_OK) {
        pack_free(pack);
        return ERR_NOMEM;
    }
    *ret_pack = pack;
    return ERR_OK;
}

void pack_select(struct pack *pack, bool (*is_wanted)(const void *argument, struct str path),
                 const void *argument) {
    pack->is_wanted = is_wanted;
    pack->wanted_argument = argument;
}

void pack_free(struct pack *pack) {
    if (!pack) {
        return;
    }
    end_entry(pack);
    while (pack->level_count > 0) {
        pop(pack);
    }
    if (pack->archive) {
        pack->is_given_up = true;
        archive_write_free(pack->archive); /* ends the entry under way, however long it is */
    }
    archive_entry_free(pack->entry);
    struct map_node *node;
    while ((node = map_next(&pack->links, NULL))) {
        map_remove(&pack->links, node);
        free(CONTAINER_OF(node, struct stored, node));
    }
    map_done(&pack->links);
    buf_done(&pack->output);
    buf_done(&pack->path);
    buf_done(&pack->target);
    free(pack);
}
