/* Archives in and out: a tar (also compressed with gzip or zstd) becomes files, a directory becomes
 * a tar; and a single file, which takes the same way. By libarchive, entry by entry, piece by
 * piece, on files of any device.
 *
 * Entries that are refused make the whole archive refused, before anything after them is written:
 * absolute names, `..`, names that are not UTF-8, devices, more entries or bytes than allowed.
 * Owners and permissions are not kept; times, symbolic and hard links are.
 *
 * A file that replaces one appears when it is whole: until then it lies beside it under a hidden
 * name (where the device can rename). One that is new is written in its place. When unpacking fails
 * or is given up, the file it was at goes; those before it stay.
 *
 * Thread: the op's loop. Layer: ns. */
#pragma once

#include "ns/ns.h"

struct unpack_options {
    struct file *directory; /* where to; a reference is taken */
    int descriptor;         /* the archive, from its beginning; borrowed */
    uint64_t entries_max, bytes_max;
    /* A regular file of this name at the top does not become a file: its content goes to
     * `diverted_descriptor` (a module in an upload). NULL = none. */
    const char *diverted_name;
    int diverted_descriptor; /* -1: an archive that has this file is refused */
    /* Not NULL: this is no archive, all of it becomes one file of this name, "dir/main.py". */
    const char *single_path;
    /* Not NULL: whether programs see no file whose path begins with this name. Such files are
     * unpacked like others, and counted. */
    bool (*is_hidden)(struct str first_name);
};
struct unpack_result {
    uint64_t files, bytes;
    uint64_t hidden;        /* files and links that is_hidden tells of */
    char first_hidden[200]; /* the path of the first, as it can be shown: no control characters */
    bool diverted;          /* the diverted file was there */
};
/* What there is to say of hidden files, a line that begins with `indent`; nothing if there are
 * none.
 */
MUST_USE enum err unpack_tell_hidden(const struct unpack_result *result, const char *indent,
                                     struct buf *text);
struct unpack;
MUST_USE enum err unpack_new(const struct unpack_options *options, struct unpack **ret_unpack);
/* Polled. INVAL with a sentence for what is wrong with the archive; else what the device says. */
MUST_USE enum err unpack_step(struct op *op, struct unpack *unpack,
                              struct unpack_result *ret_result, struct buf *message);
/* Accepts NULL. Given up amid a file, before the op is done: what there is of it is removed later,
 * unless a file is diverted: such an upload goes as a whole. */
void unpack_free(struct unpack *unpack);
/* Whether the first bytes of a file look like a tar, possibly compressed. 512 bytes are enough. */
bool unpack_looks_like_archive(struct str beginning);

struct pack;
/* A tar of a directory's content, names relative to it. */
MUST_USE enum err pack_new(struct file *directory, struct pack **ret_pack);
/* Before reading: only what `is_wanted` says, by its path relative to the directory; what is below
 * a directory that it does not want is not looked at. */
void pack_select(struct pack *pack, bool (*is_wanted)(const void *argument, struct str path),
                 const void *argument);
/* Polled. Up to `size` bytes; OK with 0 at the end. */
MUST_USE enum err pack_read(struct op *op, struct pack *pack, void *data, size_t size,
                            size_t *ret_read);
void pack_free(struct pack *pack); /* accepts NULL */
