/* Reading an archive entry by entry, by workers: decompressing never holds a loop. Private to
 * archive.h.
 *
 * What a trip to a worker has brought lies in the source until the next one begins. Everything in
 * it was checked: names, types, sizes, numbers of entries and bytes.
 *
 * Thread: the op's loop, between trips. Layer: loop. */
#pragma once

#include "api/archive.h"

#include <locale.h>

enum {
    ARCHIVE_DEPTH_MAX = 128, /* directories in a path */
    ARCHIVE_PATH_MAX = 4096, /* bytes; of the targets of links, too */
    ARCHIVE_NAME_MAX = 255,
};

struct source_entry {
    uint8_t type; /* enum file_type: REGULAR, DIRECTORY or SYMBOLIC_LINK */
    bool is_hard_link;
    bool is_diverted; /* its content was written to the diverted descriptor */
    bool has_modified;
    char path[ARCHIVE_PATH_MAX];              /* as in the archive, for messages and comparing */
    char target[ARCHIVE_PATH_MAX];            /* of a symbolic or hard link */
    struct str components[ARCHIVE_DEPTH_MAX]; /* of `path`, without "." */
    size_t component_count;                   /* 0: the directory itself */
    struct str target_components[ARCHIVE_DEPTH_MAX]; /* of a hard link */
    size_t target_component_count;
    uint64_t size;
    uint64_t modified_ns;
};

struct source {
    unsigned references; /* the unpacking's and that of a trip under way */
    struct archive *archive;
    int descriptor, diverted_descriptor; /* owned; -1 = none */
    char *diverted_name;                 /* owned, or NULL */
    char *single_path;                   /* owned, or NULL: see archive.h */
    uint64_t entries_max, bytes_max;
    uint64_t position; /* in the descriptor */
    uint64_t entries, bytes;

    /* What the last trip has brought. */
    enum err err;
    struct buf message;
    bool is_end; /* there are no more entries */
    struct source_entry entry;
    const uint8_t *piece; /* of the entry's content; libarchive's, until the next trip */
    size_t piece_length;
    uint64_t piece_offset; /* in the entry */
    bool is_data_end;      /* nothing comes after this piece */
    uint8_t block[64 * 1024];
};

MUST_USE enum err source_new(const struct unpack_options *options, struct source **ret_source);
void source_unref(struct source *source); /* accepts NULL */
/* Polled. The next entry with the first piece of its content, or the end. What was wrong with the
 * archive is in source->message. */
MUST_USE enum err source_next(struct op *op, struct source *source);
/* Polled. The next piece of the entry's content, if not `is_data_end`. */
MUST_USE enum err source_more(struct op *op, struct source *source);

/* For a message: a name without control characters, cut if it is long. */
#define SOURCE_SHOWN_SIZE 200
const char *source_shown(struct str name, char text[SOURCE_SHOWN_SIZE]);
/* The locale in which libarchive takes names as UTF-8, for uselocale; (locale_t)0 if there is none
 * (no memory). */
locale_t source_locale(void);
