#include "serve_options.h"

#include <stddef.h>

#define AT(field) offsetof(struct serve_options, field)
#define YEAR_NS (UINT64_C(366) * 24 * 3600 * NS_PER_S)

/* clang-format off */
const struct option_row serve_option_rows[] = {
    {"listen", "ADDRESS:PORT", "127.0.0.1:8080", "The server", "where to listen; port 0 takes any free one", OPTION_TEXT, AT(listen), 0, 0},
    {"web", "ADDRESS:PORT", "", "The server", "one more place to listen, which has the apps' own pages only (the web door)", OPTION_TEXT, AT(web), 0, 0},
    {"state", "DIR", "state", "The server", "where everything is kept; made if it is missing", OPTION_TEXT, AT(state), 0, 0},
    {"threads", "N", "0", "The server", "event loops; 0 is one for each core that it may use", OPTION_COUNT, AT(threads), 0, 256},
    {"domain", "HOST", "", "The server", "a host name of this server besides localhost; apps have names below it", OPTION_TEXT, AT(domain), 0, 0},
    {"trust-proxy", "ADDRESS", "", "The server", "let requests in that came through the proxy there (they need a token); may be repeated", OPTION_LIST, AT(trust_proxy), 0, 0},
    {"allow-private", "HOST|CIDR", "", "The server", "let guests reach this host or network though it is not public; HOST[:PORT] or ADDRESS[/BITS][:PORT]; may be repeated", OPTION_LIST, AT(allow_private), 0, 0},
    {"ca-file", "FILE", "", "The server", "certificates of the authorities that servers are verified by, in place of the machine's", OPTION_TEXT, AT(ca_file), 0, 0},
    {"log-level", "LEVEL", "info", "The server", "error, warning, info or debug", OPTION_TEXT, AT(log_level), 0, 0},
    {"grace", "TIME", "10s", "The server", "what runs get to finish when the server is told to stop", OPTION_DURATION, AT(grace_ns), 0, YEAR_NS},

    {"memory", "SIZE", "256MiB", "A run", "linear memory", OPTION_BYTES, AT(memory_bytes), 64 * KIB, 4 * GIB},
    {"wall", "TIME", "60s", "A run", "time from start to end while a client waits for it", OPTION_DURATION, AT(wall_ns), NS_PER_MS, YEAR_NS},
    {"detached-wall", "TIME", "1h", "A run", "the same for one that is detached", OPTION_DURATION, AT(detached_wall_ns), NS_PER_MS, YEAR_NS},
    {"unheard", "TIME", "30s", "A run", "how long a page's program goes on when its visitor has left", OPTION_DURATION, AT(unheard_ns), 0, YEAR_NS},
    {"cpu", "TIME", "30s", "A run", "processor time, with what it takes to place its files", OPTION_DURATION, AT(cpu_ns), NS_PER_MS, YEAR_NS},
    {"output", "SIZE", "64MiB", "A run", "standard output and error together", OPTION_BYTES, AT(output_bytes), 0, 1024 * GIB},
    {"open-files", "N", "256", "A run", "file descriptors", OPTION_COUNT, AT(open_files), 4, 65536},
    {"tmp", "SIZE", "64MiB", "A run", "files in /tmp, which is memory", OPTION_BYTES, AT(tmp_bytes), 0, 64 * GIB},
    {"core", "SIZE", "256MiB", "A run", "a core dump, where one is asked for: the memory that is in use, on disk", OPTION_BYTES, AT(core_bytes), 0, 2 * GIB},
    {"net-timeout", "TIME", "60s", "A run", "how long a silent server is waited for", OPTION_DURATION, AT(net_timeout_ns), 10 * NS_PER_MS, YEAR_NS},
    {"net-bytes", "SIZE", "16GiB", "A run", "a body over HTTP, in each direction", OPTION_BYTES, AT(net_bytes), KIB, 1024 * 1024 * GIB},

    {"disk", "SIZE", "1GiB", "An app", "files in its volume", OPTION_BYTES, AT(disk_bytes), 0, 1024 * 1024 * GIB},
    {"files", "N", "100000", "An app", "number of files in its volume", OPTION_COUNT, AT(disk_inodes), 1, 1000000000},
    {"max-runs", "N", "100", "An app", "runs at the same time", OPTION_COUNT, AT(max_runs), 1, 1000000},
    {"queue", "N", "1000", "An app", "runs that wait for their turn", OPTION_COUNT, AT(queue), 0, 1000000},
    {"queue-wait", "TIME", "30s", "An app", "how long they wait", OPTION_DURATION, AT(queue_wait_ns), 0, YEAR_NS},
    {"net-connections", "N", "100", "An app", "requests and connections to the network at the same time", OPTION_COUNT, AT(net_connections), 1, 100000},
    {"log-bytes", "SIZE", "64MiB", "An app", "its log; the oldest is cut", OPTION_BYTES, AT(log_bytes), 64 * KIB, 1024 * GIB},
    {"log-age", "TIME", "7d", "An app", "how long its log is kept", OPTION_DURATION, AT(log_age_ns), NS_PER_S, 100 * YEAR_NS},

    {"runs", "N", "10000", "Everything together", "runs at the same time, of all apps", OPTION_COUNT, AT(runs_max), 1, 100000},
    {"keep", "TIME", "10m", "Everything together", "how long an ended run is kept", OPTION_DURATION, AT(keep_ns), 0, YEAR_NS},
    {"kept-runs", "N", "10000", "Everything together", "ended runs that are kept; the oldest go first", OPTION_COUNT, AT(kept_max), 0, 10000000},
    {"kept-bytes", "SIZE", "256MiB", "Everything together", "memory of ended runs that are kept: output, arguments, files in memory", OPTION_BYTES, AT(kept_bytes), 0, 1024 * GIB},
    {"kept-cores", "SIZE", "1GiB", "Everything together", "core dumps of runs that are kept, on disk", OPTION_BYTES, AT(cores_bytes), 0, 1024 * GIB},
    {"upload", "SIZE", "512MiB", "Everything together", "a request body that is stored", OPTION_BYTES, AT(upload_bytes), KIB, 1024 * GIB},
    {"module", "SIZE", "256MiB", "Everything together", "a module", OPTION_BYTES, AT(module_bytes), KIB, 2 * GIB},
    {"compile-time", "TIME", "120s", "Everything together", "compiling a module", OPTION_DURATION, AT(compile_wall_ns), NS_PER_S, YEAR_NS},
    {"compile-memory", "SIZE", "4GiB", "Everything together", "memory of the compiler", OPTION_BYTES, AT(compile_memory_bytes), 256 * MIB, 1024 * GIB},
    {"compile-at-once", "N", "2", "Everything together", "modules that are compiled at the same time; the others wait", OPTION_COUNT, AT(compile_at_once), 1, 256},
    {"connections", "N", "20000", "Everything together", "open connections", OPTION_COUNT, AT(connections), 1, 1000000},
    {"connections-per-address", "N", "0", "Everything together", "open connections of one client address; 0 is no limit", OPTION_COUNT, AT(connections_per_address), 0, 1000000},
    {"head-timeout", "TIME", "5s", "Everything together", "for the head of a request to arrive", OPTION_DURATION, AT(head_timeout_ns), 10 * NS_PER_MS, YEAR_NS},
    {"body-timeout", "TIME", "30s", "Everything together", "a transfer in which nothing moves", OPTION_DURATION, AT(body_timeout_ns), 10 * NS_PER_MS, YEAR_NS},
};
/* clang-format on */
const size_t serve_option_count = ARRAY_LENGTH(serve_option_rows);

static enum err set_value(const struct option_row *row, const char *text,
                          struct serve_options *options, struct buf *message) {
    void *field = (char *)options + row->offset;
    enum err err = ERR_OK;
    uint64_t number = 0;
    const char *expected = "a whole number";
    switch (row->kind) {
    case OPTION_TEXT:
        *(const char **)field = text;
        return ERR_OK;
    case OPTION_LIST: {
        struct option_list *list = field;
        if (list->count == OPTION_LIST_MAX) {
            return buf_fail(message, ERR_INVAL, "--%s is given more than %d times", row->name,
                            OPTION_LIST_MAX);
        }
        list->values[list->count++] = text;
        return ERR_OK;
    }
    case OPTION_COUNT:
        err = str_to_u64(str_of(text), &number);
        break;
    case OPTION_BYTES:
        err = str_to_bytes(str_of(text), &number);
        expected = "a size like 64MiB or 1GiB";
        break;
    case OPTION_DURATION:
        err = str_to_duration_ns(str_of(text), &number);
        expected = "a time like 500ms, 30s, 10m or 1h";
        break;
    }
    if (err) {
        return buf_fail(message, ERR_INVAL, "--%s: '%s' is not %s", row->name, text, expected);
    }
    if (number < row->least || number > row->most) {
        return buf_fail(message, ERR_INVAL, "--%s: %s is out of range (default %s)", row->name,
                        text, row->initial);
    }
    *(uint64_t *)field = number;
    return ERR_OK;
}

static const struct option_row *find_row(struct str name) {
    for (size_t i = 0; i < serve_option_count; i++) {
        if (str_equal_text(name, serve_option_rows[i].name)) {
            return &serve_option_rows[i];
        }
    }
    return NULL;
}

enum err serve_options_parse(int argc, char **argv, struct serve_options *ret_options,
                             struct buf *message) {
    struct serve_options options = {0};
    for (size_t i = 0; i < serve_option_count; i++) {
        const struct option_row *row = &serve_option_rows[i];
        if (row->kind == OPTION_LIST) {
            continue;
        }
        enum err err = set_value(row, row->initial, &options, message);
        if (err) {
            return err;
        }
    }
    for (int i = 1; i < argc; i++) {
        struct str rest = str_of(argv[i]);
        if (!str_starts(rest, STR("--"))) {
            return buf_fail(message, ERR_INVAL, "'%s' is not an option", argv[i]);
        }
        rest.data += 2;
        rest.length -= 2;
        bool has_value = memchr(rest.data, '=', rest.length) != NULL;
        struct str name = str_cut(&rest, '=');
        const struct option_row *row = find_row(name);
        if (!row) {
            return buf_fail(message, ERR_INVAL, "there is no option --" STR_FORMAT, STR_ARGS(name));
        }
        if (!has_value && i + 1 == argc) {
            return buf_fail(message, ERR_INVAL, "--%s needs a value (%s)", row->name, row->value);
        }
        enum err err = set_value(row, has_value ? rest.data : argv[++i], &options, message);
        if (err) {
            return err;
        }
    }
    *ret_options = options;
    return ERR_OK;
}
