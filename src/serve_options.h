/* The options of `0asm serve`: one row each, from which the parser, --help and docs/limits.md are
 * made. Layer: base. */
#pragma once

#include "base/buf.h"

enum option_kind {
    OPTION_TEXT,
    OPTION_LIST, /* text that may be given several times */
    OPTION_COUNT,
    OPTION_BYTES,
    OPTION_DURATION, /* nanoseconds */
};

#define OPTION_LIST_MAX 32
struct option_list {
    const char *values[OPTION_LIST_MAX];
    size_t count;
};

struct serve_options {
    const char *listen, *web, *state, *domain, *log_level;
    const char *ca_file;
    struct option_list trust_proxy, allow_private;
    uint64_t threads;
    /* of a run */
    uint64_t memory_bytes, wall_ns, detached_wall_ns, cpu_ns, output_bytes, open_files, tmp_bytes,
        core_bytes, unheard_ns;
    /* of an app */
    uint64_t disk_bytes, disk_inodes, max_runs, queue, queue_wait_ns, log_bytes, log_age_ns,
        net_connections;
    /* of the server */
    uint64_t runs_max, keep_ns, kept_max, kept_bytes, cores_bytes, upload_bytes, module_bytes,
        compile_wall_ns, compile_memory_bytes, compile_at_once, connections,
        connections_per_address, head_timeout_ns, body_timeout_ns, net_timeout_ns, net_bytes,
        grace_ns;
};

struct option_row {
    const char *name;    /* without the two dashes */
    const char *value;   /* "SIZE" */
    const char *initial; /* the default, as it would be written */
    const char *group;   /* heading in --help and docs/limits.md; rows of a group stand together */
    const char *help;
    enum option_kind kind;
    size_t offset;  /* in struct serve_options */
    uint64_t least; /* of numbers */
    uint64_t most;
};
extern const struct option_row serve_option_rows[];
extern const size_t serve_option_count;

/* Defaults, then argv[1] and on: `--name VALUE` or `--name=VALUE`. INVAL with a message. Strings
 * are borrowed from argv and the table. */
MUST_USE enum err serve_options_parse(int argc, char **argv, struct serve_options *ret_options,
                                      struct buf *message);
