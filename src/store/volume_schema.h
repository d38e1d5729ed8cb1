/* The tables of a volume's database.
 *
 * Names begin with zasm_ so that a guest's own tables in the same database can never be ours.
 * Numbers that WASI has as unsigned 64 bits are stored with the same bits as signed ones.
 *
 *   zasm_volume   one row: what is used, and the next number for an inode or for data
 *   zasm_inode    one row a file: see struct volume_inode; links = 0 is an orphan: a file without
 *                 a name that was held when it was stored, cleared away when the volume is opened
 *   zasm_entry    one row a name in a directory
 *   zasm_chunk    one row a chunk of a file's content that is no hole: the key is the data's number
 *                 times 2^26 plus the chunk's index; the content is at most one chunk, what is
 *                 missing at its end is zero; no chunk lies beyond the file's size
 *   zasm_alarm    one row an alarm (store/alarm.h); made when the first one is set
 *   zasm_garbage  numbers of data whose chunks nobody needs any more and that are removed piece by
 *                 piece, so that removing a large file takes no time
 *
 * A rowid table with the chunk's number as its key is four times faster to read at random than one
 * with a key of two columns. */
#pragma once

#define VOLUME_APPLICATION_ID 0x3061736d /* "0asm" */
#define VOLUME_USER_VERSION 1
#define VOLUME_PAGE_BYTES 4096

#define VOLUME_CHUNK_BYTES 16384u
#define VOLUME_INDEX_BITS 26 /* chunks of a file: 2^26 of 16 KiB are 1 TiB */
#define VOLUME_FILE_BYTES_MAX ((uint64_t)VOLUME_CHUNK_BYTES << VOLUME_INDEX_BITS)
#define VOLUME_NUMBER_MAX ((1ull << (63 - VOLUME_INDEX_BITS)) - 1) /* of an inode or of data */
#define VOLUME_TARGET_BYTES_MAX 4096                               /* of a symbolic link */
#define VOLUME_LINKS_MAX 65000

/* clang-format off */
#define VOLUME_SCHEMA(X)                                                                           \
    X("zasm_volume",                                                                               \
      "CREATE TABLE zasm_volume (one INTEGER PRIMARY KEY, next_number INTEGER NOT NULL, "          \
      "bytes INTEGER NOT NULL, inodes INTEGER NOT NULL)")                                          \
    X("zasm_inode",                                                                                \
      "CREATE TABLE zasm_inode (number INTEGER PRIMARY KEY, type INTEGER NOT NULL, "               \
      "links INTEGER NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL, "                    \
      "data INTEGER NOT NULL, parent INTEGER NOT NULL, accessed INTEGER NOT NULL, "                \
      "modified INTEGER NOT NULL, changed INTEGER NOT NULL, version INTEGER NOT NULL, "            \
      "target BLOB)")                                                                              \
    X("zasm_orphan",                                                                               \
      "CREATE INDEX zasm_orphan ON zasm_inode (number) WHERE links = 0")                           \
    X("zasm_entry",                                                                                \
      "CREATE TABLE zasm_entry (directory INTEGER NOT NULL, name BLOB NOT NULL, "                  \
      "inode INTEGER NOT NULL, type INTEGER NOT NULL, PRIMARY KEY (directory, name)) "             \
      "WITHOUT ROWID")                                                                             \
    X("zasm_chunk",                                                                                \
      "CREATE TABLE zasm_chunk (key INTEGER PRIMARY KEY, content BLOB NOT NULL)")                  \
    X("zasm_garbage",                                                                              \
      "CREATE TABLE zasm_garbage (data INTEGER PRIMARY KEY)")
#define VOLUME_ALARM_TABLE                                                                         \
    "CREATE TABLE zasm_alarm (name BLOB PRIMARY KEY, line BLOB NOT NULL, input BLOB NOT NULL, "    \
    "set_ns INTEGER NOT NULL, next_ns INTEGER NOT NULL, attempts INTEGER NOT NULL, "               \
    "results BLOB NOT NULL) WITHOUT ROWID"
/* clang-format on */

/* The statements, prepared when first used and kept as long as the connection.
 *      name            SQL */
#define VOLUME_STATEMENTS(X)                                                                       \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                    \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(VOLUME_GET, "SELECT next_number, bytes, inodes FROM zasm_volume WHERE one = 1")              \
    X(VOLUME_PUT, "REPLACE INTO zasm_volume (one, next_number, bytes, inodes) "                    \
                  "VALUES (1, ?1, ?2, ?3)")                                                        \
    X(INODE_GET, "SELECT type, links, size, bytes, data, parent, accessed, modified, changed, "    \
                 "version, target FROM zasm_inode WHERE number = ?1")                              \
    X(INODE_PUT, "REPLACE INTO zasm_inode (number, type, links, size, bytes, data, parent, "       \
                 "accessed, modified, changed, version, target) "                                  \
                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")                     \
    X(INODE_DELETE, "DELETE FROM zasm_inode WHERE number = ?1")                                    \
    X(ORPHAN_SUM, "SELECT count(*), total(bytes) FROM zasm_inode WHERE links = 0")                 \
    X(ORPHAN_GARBAGE, "INSERT OR IGNORE INTO zasm_garbage (data) "                                 \
                      "SELECT data FROM zasm_inode WHERE links = 0 AND data <> 0")                 \
    X(ORPHAN_DELETE, "DELETE FROM zasm_inode WHERE links = 0")                                     \
    X(ENTRY_GET, "SELECT inode, type FROM zasm_entry WHERE directory = ?1 AND name = ?2")          \
    X(ENTRY_PUT, "REPLACE INTO zasm_entry (directory, name, inode, type) VALUES (?1, ?2, ?3, ?4)") \
    X(ENTRY_DELETE, "DELETE FROM zasm_entry WHERE directory = ?1 AND name = ?2")                   \
    X(ENTRY_LIST, "SELECT name, inode, type FROM zasm_entry WHERE directory = ?1 AND name > ?2 "   \
                  "ORDER BY name LIMIT ?3")                                                        \
    X(CHUNK_GET, "SELECT content FROM zasm_chunk WHERE key = ?1")                                  \
    X(CHUNK_LENGTH, "SELECT length(content) FROM zasm_chunk WHERE key = ?1")                       \
    X(CHUNK_PUT, "REPLACE INTO zasm_chunk (key, content) VALUES (?1, ?2)")                         \
    X(CHUNK_DELETE, "DELETE FROM zasm_chunk WHERE key BETWEEN ?1 AND ?2")                          \
    X(CHUNK_TAIL, "SELECT key, length(content) FROM zasm_chunk WHERE key BETWEEN ?1 AND ?2 "       \
                  "ORDER BY key DESC LIMIT ?3")                                                    \
    X(CHUNK_REAP, "DELETE FROM zasm_chunk WHERE key IN (SELECT key FROM zasm_chunk "               \
                  "WHERE key BETWEEN ?1 AND ?2 LIMIT ?3)")                                         \
    X(ALARM_LIST, "SELECT name, line, input, set_ns, next_ns, attempts, results "                  \
                  "FROM zasm_alarm ORDER BY name")                                                 \
    X(ALARM_PUT, "REPLACE INTO zasm_alarm (name, line, input, set_ns, next_ns, attempts, "         \
                 "results) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                   \
    X(ALARM_DELETE, "DELETE FROM zasm_alarm WHERE name = ?1")                                      \
    X(GARBAGE_PUT, "INSERT OR IGNORE INTO zasm_garbage (data) VALUES (?1)")                        \
    X(GARBAGE_GET, "SELECT data FROM zasm_garbage LIMIT 1")                                        \
    X(GARBAGE_DELETE, "DELETE FROM zasm_garbage WHERE data = ?1")
