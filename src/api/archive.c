#include "api/archive.h"

#include "api/archive_source.h"
#include "api/tree.h"
#include "base/map.h"
#include "ns/temporary.h"

#include <inttypes.h>
#include <stdio.h>

enum stage {
    STAGE_FETCH,   /* the next entry comes from a worker */
    STAGE_PARENTS, /* to the directory that it is in, making what is missing */
    STAGE_PLACE,   /* makes it */
    STAGE_REPLACE, /* removes what has its name, then STAGE_PLACE again */
    STAGE_SWEEP,   /* what a crash left in the directory goes, then STAGE_PLACE beside its target */
    STAGE_OPEN,
    STAGE_WRITE,
    STAGE_MORE, /* the next piece of its content comes from a worker */
    STAGE_SIZE,
    STAGE_TIMES,
    STAGE_RENAME, /* what was written beside its target replaces it */
    STAGE_TARGET, /* of a hard link: finds it */
    STAGE_END,    /* the times of the directories that are still open */
    STAGE_CLEAN,  /* failed: removes the file that is not whole */
    STAGE_DONE,
};

/* A directory on the way to the present one. Its time is set when it is left, as everything that is
 * made in it changes that. */
struct level {
    struct file *directory; /* a reference */
    char *name;             /* owned; NULL for the first */
    uint64_t path_hash;     /* of the names from the first to here */
    bool has_modified;
    uint64_t modified_ns;
};

/* Places for the directories that were swept, by hash: one that lost its place is swept again. */
enum { SWEPT_SIZE = 128 };

struct unpack {
    const struct op *op; /* of the last step */
    struct source *source;
    enum stage stage;
    struct level levels[1 + ARCHIVE_DEPTH_MAX];
    size_t depth;      /* of levels besides the first */
    bool is_creating;  /* the directory that is missing is being made */
    unsigned replaced; /* how often something was in the way of this entry */
    struct file *file; /* what was made, or a hard link's target; a reference */
    struct file *opened;
    bool is_beside;                    /* it is written under the temporary name */
    bool is_partial;                   /* it is there, or may be, and is not whole */
    char temporary[NS_TEMPORARY_SIZE]; /* while is_beside */
    struct ns_sweep *sweep;
    uint64_t swept[SWEPT_SIZE];
    bool (*is_hidden)(struct str first_name); /* or NULL */
    bool goes_as_whole;                       /* see unpack_free */
    enum err failure;                         /* while STAGE_CLEAN is under way, and after it */
    size_t written;                           /* of the piece */
    uint64_t written_end;                     /* of the content: what lies behind is a hole */
    struct unpack_result result;
};

bool unpack_looks_like_archive(struct str beginning) {
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    const uint8_t *bytes = (const uint8_t *)beginning.data;
    if ((beginning.length >= sizeof(gzip) && memcmp(bytes, gzip, sizeof(gzip)) == 0) ||
        (beginning.length >= sizeof(zstd) && memcmp(bytes, zstd, sizeof(zstd)) == 0)) {
        return true;
    }
    enum { HEADER = 512, CHECKSUM = 148, CHECKSUM_SIZE = 8 };
    if (beginning.length < HEADER) {
        return false;
    }
    /* The header's checksum counts its own field as blanks. */
    uint64_t sum = 0, noted = 0;
    for (size_t i = 0; i < HEADER; i++) {
        sum += i >= CHECKSUM && i < CHECKSUM + CHECKSUM_SIZE ? ' ' : bytes[i];
    }
    size_t at = CHECKSUM, end = CHECKSUM + CHECKSUM_SIZE;
    while (at < end && bytes[at] == ' ') {
        at++;
    }
    bool has_digits = false;
    for (; at < end && bytes[at] >= '0' && bytes[at] <= '7'; at++) {
        noted = noted * 8 + (uint64_t)(bytes[at] - '0');
        has_digits = true;
    }
    return has_digits && noted == sum;
}

/* --- directories ------------------------------------------------------------------------------ */

static struct level *present_level(struct unpack *unpack) {
    return &unpack->levels[unpack->depth];
}

static enum err push(struct unpack *unpack, struct file *directory, struct str name) {
    char *copy = strndup(name.data, name.length);
    if (!copy) {
        return ERR_NOMEM;
    }
    uint64_t path_hash[] = {present_level(unpack)->path_hash, map_hash(name.data, name.length)};
    unpack->levels[++unpack->depth] =
        (struct level){.directory = file_ref(directory),
                       .name = copy,
                       .path_hash = map_hash(path_hash, sizeof path_hash)};
    return ERR_OK;
}

static void level_done(struct level *level) {
    file_unref(level->directory);
    free(level->name);
    *level = (struct level){0};
}

static enum err set_modified(struct op *op, struct file *file, uint64_t modified_ns) {
    enum err err = file_set_times(op, file, modified_ns, modified_ns, SET_ACCESSED | SET_MODIFIED);
    return err == ERR_NOTSUP ? ERR_OK : err;
}

static enum err pop(struct op *op, struct unpack *unpack) {
    struct level *level = present_level(unpack);
    if (level->has_modified) {
        enum err err = set_modified(op, level->directory, level->modified_ns);
        if (err) {
            return err;
        }
    }
    level_done(level);
    unpack->depth--;
    return ERR_OK;
}

static enum err refuse(struct unpack *unpack, const char *why) {
    char shown[SOURCE_SHOWN_SIZE];
    return buf_fail(&unpack->source->message, ERR_INVAL, "the archive's entry '%s' %s",
                    source_shown(str_of(unpack->source->entry.path), shown), why);
}

/* One directory further down. */
static enum err descend(struct op *op, struct unpack *unpack, struct str name) {
    struct file *directory = present_level(unpack)->directory;
    struct file *found = NULL;
    enum err err;
    if (!unpack->is_creating) {
        size_t walked;
        err = file_walk(op, directory, &name, 1, &walked, &found);
        if (err == ERR_NOENT) {
            unpack->is_creating = true;
        } else if (err) {
            return err;
        }
    }
    if (unpack->is_creating) {
        err = file_create(op, directory, name, FILE_DIRECTORY, &found);
        if (err == ERR_PENDING) {
            return err;
        }
        unpack->is_creating = false;
        if (err) {
            return err == ERR_EXIST ? ERR_OK : err; /* made by somebody else meanwhile: again */
        }
    }
    /* A symbolic link is not followed: an archive's names lead where they say. */
    err = found->type == FILE_DIRECTORY
              ? push(unpack, found, name)
              : refuse(unpack, "can't be stored: a directory of its name is a file or link there");
    file_unref(found);
    return err;
}

/* How many of the open directories are on the way to the entry. */
static size_t common_depth(const struct unpack *unpack, size_t wanted) {
    size_t depth = 0;
    while (
        depth < MIN(unpack->depth, wanted) &&
        str_equal_text(unpack->source->entry.components[depth], unpack->levels[depth + 1].name)) {
        depth++;
    }
    return depth;
}

static enum err go_to_directory(struct op *op, struct unpack *unpack) {
    const struct source_entry *entry = &unpack->source->entry;
    bool is_directory = entry->type == FILE_DIRECTORY;
    size_t wanted = entry->component_count - (is_directory ? 0 : 1);
    enum err err = ERR_OK;
    while (!err && unpack->depth > common_depth(unpack, wanted)) {
        err = pop(op, unpack);
    }
    while (!err && unpack->depth < wanted) {
        err = descend(op, unpack, entry->components[unpack->depth]);
    }
    if (err) {
        return err;
    }
    if (is_directory) {
        if (entry->component_count > 0) {
            present_level(unpack)->has_modified = entry->has_modified;
            present_level(unpack)->modified_ns = entry->modified_ns;
        }
        unpack->stage = STAGE_FETCH;
        return ERR_OK;
    }
    unpack->stage = entry->is_hard_link ? STAGE_TARGET : STAGE_PLACE;
    return ERR_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

static struct str entry_name(const struct source_entry *entry) {
    return entry->components[entry->component_count - 1];
}

static bool is_own_target(const struct source_entry *entry) {
    bool same = entry->component_count == entry->target_component_count;
    for (size_t i = 0; same && i < entry->component_count; i++) {
        same = str_equal(entry->components[i], entry->target_components[i]);
    }
    return same;
}

/* What a hard link leads to is looked for below the directory that is unpacked to, and nowhere
 * else. */
static enum err find_target(struct op *op, struct unpack *unpack) {
    const struct source_entry *entry = &unpack->source->entry;
    if (is_own_target(entry)) {
        unpack->stage = STAGE_FETCH;
        return ERR_OK;
    }
    size_t walked = 0;
    struct file *found = NULL;
    enum err err = ERR_NOENT;
    if (entry->target_component_count > 0) {
        err = file_walk(op, unpack->levels[0].directory, entry->target_components,
                        entry->target_component_count, &walked, &found);
    }
    if (err && err != ERR_NOENT && err != ERR_NOTDIR) {
        return err;
    }
    if (err || walked < entry->target_component_count || found->type == FILE_DIRECTORY) {
        file_unref(err ? NULL : found);
        return refuse(unpack, "is a hard link to no file that came before it");
    }
    unpack->file = found;
    unpack->stage = STAGE_PLACE;
    return ERR_OK;
}

/* Another time, with a name beside the target. */
static void go_beside(struct unpack *unpack) {
    unpack->is_beside = true;
    ns_temporary_name(unpack->temporary);
    uint64_t hash = present_level(unpack)->path_hash | 1; /* 0 is an empty place */
    uint64_t *place = &unpack->swept[hash / 2 % SWEPT_SIZE];
    unpack->stage = *place == hash ? STAGE_PLACE : STAGE_SWEEP;
    *place = hash;
}

static enum err sweep(struct op *op, struct unpack *unpack) {
    enum err err = ns_sweep_step(op, present_level(unpack)->directory, &unpack->sweep);
    if (err == ERR_PENDING) {
        return err;
    }
    /* What can't be swept does not keep anything from being written. */
    ns_sweep_free(STEAL(unpack->sweep));
    unpack->stage = STAGE_PLACE;
    return ERR_OK;
}

static struct str written_name(const struct unpack *unpack) {
    return unpack->is_beside ? str_of(unpack->temporary) : entry_name(&unpack->source->entry);
}

static enum err place(struct op *op, struct unpack *unpack) {
    const struct source_entry *entry = &unpack->source->entry;
    struct file *directory = present_level(unpack)->directory;
    struct str name = entry_name(entry);
    bool has_content = !entry->is_hard_link && entry->type != FILE_SYMBOLIC_LINK;
    enum err err;
    if (entry->is_hard_link) {
        err = file_link(op, unpack->file, directory, name);
    } else if (entry->type == FILE_SYMBOLIC_LINK) {
        err = file_symlink(op, directory, name, str_of(entry->target));
    } else {
        err = file_create(op, directory, written_name(unpack), FILE_REGULAR, &unpack->file);
        /* Should the client vanish meanwhile, it is made all the same. Of one that is not beside
         * its target nobody could tell then whose it is. */
        unpack->is_partial = err == ERR_OK || (err == ERR_PENDING && unpack->is_beside);
    }
    if (err == ERR_EXIST && unpack->replaced < 8) {
        unpack->replaced++;
        if (has_content && directory->dev->rename) {
            go_beside(unpack);
        } else {
            unpack->stage = STAGE_REPLACE;
        }
        return ERR_OK;
    }
    if (err) {
        return err;
    }
    unpack->replaced = 0;
    unpack->result.files++;
    if (has_content) {
        unpack->stage = STAGE_OPEN;
    } else {
        file_unref(STEAL(unpack->file));
        unpack->stage = STAGE_FETCH;
    }
    return ERR_OK;
}

static enum err refuse_for_directory(struct unpack *unpack) {
    return refuse(unpack, "can't be stored: there is a directory of its name");
}

/* What is there is removed, not written to: other names of it keep their content. */
static enum err replace(struct op *op, struct unpack *unpack) {
    enum err err = file_remove(op, present_level(unpack)->directory,
                               entry_name(&unpack->source->entry), false);
    if (err == ERR_ISDIR || err == ERR_PERM) {
        return refuse_for_directory(unpack);
    }
    if (err && err != ERR_NOENT) {
        return err;
    }
    unpack->stage = STAGE_PLACE;
    return ERR_OK;
}

static enum err open_file(struct op *op, struct unpack *unpack) {
    enum err err = file_open(op, unpack->file, OPEN_WRITE, &unpack->opened);
    if (!err) {
        unpack->written = 0;
        unpack->written_end = 0;
        unpack->stage = STAGE_WRITE;
    }
    return err;
}

static enum err write_piece(struct op *op, struct unpack *unpack) {
    const struct source *source = unpack->source;
    while (unpack->written < source->piece_length) {
        size_t written = 0;
        enum err err = file_write(op, unpack->opened, source->piece + unpack->written,
                                  source->piece_length - unpack->written,
                                  source->piece_offset + unpack->written, &written);
        if (err) {
            return err;
        }
        unpack->written += written;
        unpack->written_end = source->piece_offset + unpack->written;
    }
    unpack->written = 0;
    unpack->stage = source->is_data_end ? STAGE_SIZE : STAGE_MORE;
    return ERR_OK;
}

static enum err set_size(struct op *op, struct unpack *unpack) {
    uint64_t size = unpack->source->entry.size;
    if (unpack->written_end < size) { /* it ends with a hole */
        enum err err = file_set_size(op, unpack->opened, size);
        if (err) {
            return err;
        }
    }
    unpack->stage = STAGE_TIMES;
    return ERR_OK;
}

static void close_file(struct unpack *unpack) {
    if (unpack->opened) {
        file_closed(unpack->opened, OPEN_WRITE);
        file_unref(STEAL(unpack->opened));
    }
    file_unref(STEAL(unpack->file));
}

static enum err set_times(struct op *op, struct unpack *unpack) {
    const struct source_entry *entry = &unpack->source->entry;
    if (entry->has_modified) {
        enum err err = set_modified(op, unpack->opened, entry->modified_ns);
        if (err) {
            return err;
        }
    }
    unpack->result.bytes += entry->size;
    close_file(unpack);
    unpack->is_partial = unpack->is_beside;
    unpack->stage = unpack->is_beside ? STAGE_RENAME : STAGE_FETCH;
    return ERR_OK;
}

static enum err rename_over(struct op *op, struct unpack *unpack) {
    struct file *directory = present_level(unpack)->directory;
    enum err err = file_rename(op, directory, str_of(unpack->temporary), directory,
                               entry_name(&unpack->source->entry));
    if (err == ERR_ISDIR) {
        return refuse_for_directory(unpack);
    }
    if (!err) {
        unpack->is_partial = false;
        unpack->stage = STAGE_FETCH;
    }
    return err;
}

static enum err clean(struct op *op, struct unpack *unpack) {
    close_file(unpack);
    if (unpack->is_partial) {
        enum err err =
            file_remove(op, present_level(unpack)->directory, written_name(unpack), false);
        if (err == ERR_PENDING) {
            return err;
        }
        unpack->is_partial = false;
    }
    unpack->stage = STAGE_DONE;
    return ERR_OK;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Directories alone say nothing: archives of whole systems have an empty /tmp and /proc. */
static void note_hidden(struct unpack *unpack) {
    const struct source_entry *entry = &unpack->source->entry;
    struct unpack_result *result = &unpack->result;
    if (!unpack->is_hidden || entry->component_count == 0 ||
        (entry->type == FILE_DIRECTORY && !entry->is_hard_link) ||
        !unpack->is_hidden(entry->components[0])) {
        return;
    }
    if (result->hidden++ == 0) {
        _Static_assert(sizeof result->first_hidden == SOURCE_SHOWN_SIZE,
                       "as long as what is shown");
        (void)source_shown(str_of(entry->path), result->first_hidden);
    }
}

enum err unpack_tell_hidden(const struct unpack_result *result, const char *indent,
                            struct buf *text) {
    return result->hidden == 0
               ? ERR_OK
               : buf_printf(text,
                            "%s%" PRIu64 " where no program sees them, because the server has its "
                            "own files there (" APP_SYSTEM_NAMES "): %s%s\n",
                            indent, result->hidden, result->first_hidden,
                            result->hidden > 1 ? ", ..." : "");
}

static enum err fetch(struct op *op, struct unpack *unpack) {
    struct source *source = unpack->source;
    enum err err = source_next(op, source);
    if (err) {
        return err;
    }
    unpack->replaced = 0;
    unpack->is_beside = false;
    if (source->is_end) {
        unpack->stage = STAGE_END;
    } else if (source->entry.is_diverted) {
        unpack->result.diverted = source->is_data_end;
        unpack->stage = source->is_data_end ? STAGE_FETCH : STAGE_MORE;
    } else {
        note_hidden(unpack);
        unpack->stage = STAGE_PARENTS;
    }
    return ERR_OK;
}

static enum err fetch_more(struct op *op, struct unpack *unpack) {
    struct source *source = unpack->source;
    enum err err = source_more(op, source);
    if (err) {
        return err;
    }
    if (!source->entry.is_diverted) {
        unpack->stage = STAGE_WRITE;
    } else if (source->is_data_end) {
        unpack->result.diverted = true;
        unpack->stage = STAGE_FETCH;
    }
    return ERR_OK;
}

static enum err finish(struct op *op, struct unpack *unpack) {
    enum err err = ERR_OK;
    while (!err && unpack->depth > 0) {
        err = pop(op, unpack);
    }
    unpack->stage = err ? STAGE_END : STAGE_DONE;
    return err;
}

static enum err step_once(struct op *op, struct unpack *unpack) {
    switch (unpack->stage) {
    case STAGE_FETCH:
        return fetch(op, unpack);
    case STAGE_PARENTS:
        return go_to_directory(op, unpack);
    case STAGE_PLACE:
        return place(op, unpack);
    case STAGE_REPLACE:
        return replace(op, unpack);
    case STAGE_SWEEP:
        return sweep(op, unpack);
    case STAGE_OPEN:
        return open_file(op, unpack);
    case STAGE_WRITE:
        return write_piece(op, unpack);
    case STAGE_MORE:
        return fetch_more(op, unpack);
    case STAGE_SIZE:
        return set_size(op, unpack);
    case STAGE_TIMES:
        return set_times(op, unpack);
    case STAGE_RENAME:
        return rename_over(op, unpack);
    case STAGE_TARGET:
        return find_target(op, unpack);
    case STAGE_END:
        return finish(op, unpack);
    case STAGE_CLEAN:
        return clean(op, unpack);
    case STAGE_DONE:
        break;
    }
    return ERR_OK;
}

enum err unpack_step(struct op *op, struct unpack *unpack, struct unpack_result *ret_result,
                     struct buf *message) {
    unpack->op = op;
    while (unpack->stage != STAGE_DONE) {
        enum err err = step_once(op, unpack);
        if (err == ERR_PENDING) {
            return err;
        }
        if (err) {
            unpack->failure = err;
            unpack->stage = STAGE_CLEAN;
        }
    }
    enum err err = unpack->failure;
    if (err) {
        const struct buf *why = &unpack->source->message;
        return why->length > 0 ? buf_fail(message, err, "%s", buf_text(why)) : err;
    }
    *ret_result = unpack->result;
    return ERR_OK;
}

enum err unpack_new(const struct unpack_options *options, struct unpack **ret_unpack) {
    struct unpack *unpack = calloc(1, sizeof(*unpack));
    if (!unpack) {
        return ERR_NOMEM;
    }
    enum err err = source_new(options, &unpack->source);
    if (err) {
        free(unpack);
        return err;
    }
    unpack->levels[0].directory = file_ref(options->directory);
    unpack->goes_as_whole = options->diverted_name != NULL;
    unpack->is_hidden = options->is_hidden;
    *ret_unpack = unpack;
    return ERR_OK;
}

void unpack_free(struct unpack *unpack) {
    if (!unpack) {
        return;
    }
    close_file(unpack);
    ns_sweep_free(unpack->sweep);
    if (unpack->is_partial && !unpack->goes_as_whole) {
        ns_remove_later(unpack->op, present_level(unpack)->directory, written_name(unpack));
    }
    for (size_t i = 0; i <= unpack->depth; i++) {
        level_done(&unpack->levels[i]);
    }
    source_unref(unpack->source);
    free(unpack);
}
