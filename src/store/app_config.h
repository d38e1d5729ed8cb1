/* The configuration of an app: one JSON object, the same at /create, in /apps/NAME/config and in
 * catalog.db.
 *
 *   web         "off", "private" or "public"     who may use its web door
 *   serve       "cgi" or "listen"                how its web door starts it
 *   memory      64KiB to 4GiB                    a run's linear memory
 *   wall, cpu   1ms to 30d                       a run's time; cpu is what it computes
 *   output      1 byte to 1TiB                   a run's standard output and error together
 *   disk, files 1 byte to 1TiB, 1 to 10^9        the quota of its volume: bytes and inodes
 *   tmp         1 byte to 4GiB                   a run's /tmp
 *   open_files  8 to 65,536                      a run's descriptors
 *   max_runs, queue                              runs at once, runs that wait
 *   queue_wait  1ms to 365d                      how long they wait
 *   instances   N or "MIN..MAX"                  programs that answer its web door (serve=listen)
 *   root        "keep", "fresh", "ro", or a volume's name    what is at / in a run
 *   ttl         1ms to 365d                      how long a volume that root made outlives its use
 *   args        ["A", "B"]                       default arguments, without argv[0]
 *   env         {"KEY": "VALUE"}                 default environment
 *   mounts      ["VOLUME:/PATH", "VOLUME:/PATH:ro"]
 *   net         "public", "none", or ["HOST[:PORT]", "*.DOMAIN[:PORT]"]
 *
 * A size is a number of bytes or text such as "64MiB"; a duration a number of seconds or text such
 * as "10s" or "500ms"; a count a number or its digits as text. What is not set has the server's
 * default. The rows are data (app_config_keys), from which docs/limits.md can be made.
 *
 * Every message names the key and what it may be. Thread: any; JSON values belong to the caller's.
 * Layer: base. */
#pragma once

#include "base/buf.h"

#include <jansson.h>
#include <stddef.h>

/* Settings of an app. A set field overrides the server's default; a run may only tighten. 0 = not
 * set. */
struct app_limits {
    uint64_t memory_bytes, cpu_ns, wall_ns, output_bytes, disk_bytes, disk_inodes, tmp_bytes;
    uint64_t open_files, max_runs, queue, queue_wait_ns;
    uint64_t ttl_ns;     /* no limit of a run: of the volume that its root makes */
    uint64_t web, serve; /* enum app_web, enum app_serve */
    uint64_t instances_min, instances_max; /* of serve=listen; the second 0 = not set */
};
/* In the order of the words of the key's choices, from 1. */
enum app_web { APP_WEB_DEFAULT, APP_WEB_OFF, APP_WEB_PRIVATE, APP_WEB_PUBLIC };
enum app_serve { APP_SERVE_DEFAULT, APP_SERVE_CGI, APP_SERVE_LISTEN };

enum app_config_kind {
    APP_CONFIG_CHOICE,   /* one of `choices` */
    APP_CONFIG_BYTES,    /* min and max in bytes */
    APP_CONFIG_DURATION, /* min and max in nanoseconds */
    APP_CONFIG_COUNT,
    APP_CONFIG_RANGE, /* "N" or "MIN..MAX": two limits, one behind the other */
    APP_CONFIG_ROOT,  /* one of `choices`, or a volume's name */
    APP_CONFIG_ARGUMENTS,
    APP_CONFIG_ENVIRONMENT,
    APP_CONFIG_MOUNTS,
    APP_CONFIG_NET,
};
struct app_config_key {
    const char *name;
    const char *option; /* as an option of /create, where that is singular ("arg"); else NULL */
    enum app_config_kind kind;
    uint64_t min, max;
    const char *choices;    /* APP_CONFIG_CHOICE, _ROOT: words with a space between */
    ptrdiff_t limit_offset; /* in struct app_limits; -1 = not there. Of a choice: its number */
    const char *help;       /* one phrase */
};
/* In the order in which a configuration is shown; ends with a row without a name. */
extern const struct app_config_key app_config_keys[];

/* Of `ttl`, here and where a run has one: from a millisecond to this. */
#define APP_TTL_NS_MAX (365 * 24 * 60 * 60 * NS_PER_S)

/* Bounds of what is listed. */
enum {
    APP_ARGUMENTS_MAX = 1024,
    APP_ARGUMENTS_BYTES_MAX = 128 * 1024, /* arguments and environment each, with their NULs */
    APP_ENVIRONMENT_MAX = 1024,
    APP_MOUNTS_MAX = 16,
    APP_NET_MAX = 256,
};

/* Checks a configuration. INVAL, or 2BIG where a list is too long. `ret_limits` and `message` may
 * be NULL. */
MUST_USE enum err app_config_check(const json_t *config, struct app_limits *ret_limits,
                                   struct buf *message);

/* The canonical form of a configuration that may come from a client: keys in the table's order,
 * sizes and durations as text with the largest unit that fits ("64MiB", "10s"), mounts as
 * "VOLUME:/PATH[:ro]", keys whose value is null left out. Checks as app_config_check does. The
 * result is a new reference. */
MUST_USE enum err app_config_show(const json_t *config, json_t **ret_shown, struct buf *message);

/* INVAL if mounts that a client asks for name a volume as none can be named (any more); what is
 * kept may have such. The rest is not looked at. */
MUST_USE enum err app_config_check_volumes(const json_t *config, struct buf *message);

/* INVAL if a client asks for ttl= together with a root= that names no volume; what is kept may have
 * both. The rest is not looked at. */
MUST_USE enum err app_config_check_session(const json_t *config, struct buf *message);

/* The configuration after an update: a key in `changes` replaces that key's whole value in `old`,
 * null removes it (back to the server's default), other keys stay. `old` (NULL = empty) is not
 * changed. The result is canonical and a new reference. */
MUST_USE enum err app_config_merge(const json_t *old, const json_t *changes, json_t **ret_config,
                                   struct buf *message);

/* Adds one option as /create and the command line have it to an object of changes: "memory=64MiB",
 * and those that may be repeated, "arg=A", "env=K=V", "mount=VOLUME:/PATH", "net=HOST". The plural
 * of these with an empty value ("args=") makes the set empty; any other option with an empty value
 * goes back to the server's default. NOENT, without a message, if no option has this name; INVAL if
 * the value can't be one of it, also where an option that can be given once is given again. */
MUST_USE enum err app_config_add_option(json_t *changes, struct str option, struct str value,
                                        struct buf *message);

/* One entry of "mounts". The parts are borrowed from `text`. */
struct app_mount_parts {
    struct str volume, path;
    bool read_only;
};
MUST_USE enum err app_mount_parse(struct str text, struct app_mount_parts *ret_parts,
                                  struct buf *message);

/* Whether it is a host, "*.DOMAIN", an address, or "[ADDRESS]" (IPv6), each with an optional port.
 */
bool app_config_is_host(struct str text);

/* INVAL unless it is 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit: the names of apps
 * and of shared volumes. */
#define APP_NAME_MAX 63
MUST_USE enum err app_name_check(struct str name, struct buf *message);

/* Of a shared volume that is new. INVAL for what no app can be named, and for the words that root=
 * has for something else: a run could never have that volume at /. Older ones may be named so. */
MUST_USE enum err app_volume_name_check(struct str name, struct buf *message);

/* Whether a root= is one of the words that name no volume: keep, fresh, ro. */
bool app_is_root_mode(struct str root);
/* Whether a name at the root of a guest's tree is the server's own: what is below it is no file of
 * the app. */
bool app_is_system_name(struct str name);
/* These names, for messages. */
#define APP_SYSTEM_NAMES "/cloud /dev /env /net /proc /tmp"

/* The word of `words` (a list that ends with NULL) that is nearest to `text`, for "did you mean";
 * NULL if none is near. */
const char *app_config_nearest(struct str text, const char *const *words);
