#include "store/app_config_internal.h"

#include <stdio.h>

enum { DAY_S = 24 * 60 * 60 };

#define LIMIT(member) ((ptrdiff_t)offsetof(struct app_limits, member))

/* clang-format off */
const struct app_config_key app_config_keys[] = {
    {"web", NULL, APP_CONFIG_CHOICE, 0, 0, "off private public", LIMIT(web), "who may use its web door"},
    {"serve", NULL, APP_CONFIG_CHOICE, 0, 0, "cgi listen", LIMIT(serve), "how its web door starts it"},
    {"memory", NULL, APP_CONFIG_BYTES, 64 * KIB, 4 * GIB, NULL, LIMIT(memory_bytes), "linear memory of a run"},
    {"wall", NULL, APP_CONFIG_DURATION, NS_PER_MS, 30 * DAY_S * NS_PER_S, NULL, LIMIT(wall_ns), "time of a run from its start to its end"},
    {"cpu", NULL, APP_CONFIG_DURATION, NS_PER_MS, 30 * DAY_S * NS_PER_S, NULL, LIMIT(cpu_ns), "time that a run computes"},
    {"output", NULL, APP_CONFIG_BYTES, 1, 1024 * GIB, NULL, LIMIT(output_bytes), "standard output and error of a run"},
    {"disk", NULL, APP_CONFIG_BYTES, 1, 1024 * GIB, NULL, LIMIT(disk_bytes), "bytes in the app's volume"},
    {"files", NULL, APP_CONFIG_COUNT, 1, 1000000000, NULL, LIMIT(disk_inodes), "files and directories in the app's volume"},
    {"tmp", NULL, APP_CONFIG_BYTES, 1, 4 * GIB, NULL, LIMIT(tmp_bytes), "bytes in a run's /tmp"},
    {"open_files", NULL, APP_CONFIG_COUNT, 8, 65536, NULL, LIMIT(open_files), "descriptors of a run"},
    {"max_runs", NULL, APP_CONFIG_COUNT, 1, 1000000, NULL, LIMIT(max_runs), "runs of the app at once"},
    {"queue", NULL, APP_CONFIG_COUNT, 1, 1000000, NULL, LIMIT(queue), "runs that wait for others to end"},
    {"queue_wait", NULL, APP_CONFIG_DURATION, NS_PER_MS, 365 * DAY_S * NS_PER_S, NULL, LIMIT(queue_wait_ns), "how long a run waits for others to end"},
    {"instances", NULL, APP_CONFIG_RANGE, 0, 1000, NULL, LIMIT(instances_min), "programs that answer its web door at once (serve=listen)"},
    {"root", NULL, APP_CONFIG_ROOT, 0, 0, "keep fresh ro", -1, "what its runs see at /: the app's volume, memory, both read-only, or a volume by name"},
    {"ttl", NULL, APP_CONFIG_DURATION, NS_PER_MS, APP_TTL_NS_MAX, NULL, LIMIT(ttl_ns), "how long after its last use a volume that root made goes"},
    {"args", "arg", APP_CONFIG_ARGUMENTS, 0, 0, NULL, -1, "default arguments"},
    {"env", "env", APP_CONFIG_ENVIRONMENT, 0, 0, NULL, -1, "default environment"},
    {"mounts", "mount", APP_CONFIG_MOUNTS, 0, 0, NULL, -1, "shared volumes in its tree"},
    {"net", "net", APP_CONFIG_NET, 0, 0, NULL, -1, "hosts that it may reach"},
    {0},
};
/* clang-format on */

static const struct app_config_key *find_key(struct str name) {
    for (const struct app_config_key *key = app_config_keys; key->name; key++) {
        if (str_equal_text(name, key->name)) {
            return key;
        }
    }
    return NULL;
}

enum { NEAREST_MAX = 32 };

/* Levenshtein's distance of two short words. */
static size_t distance(struct str a, struct str b) {
    size_t row[NEAREST_MAX + 1];
    for (size_t j = 0; j <= b.length; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a.length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.length; j++) {
            size_t above = row[j];
            size_t replaced = diagonal + (a.data[i - 1] != b.data[j - 1]);
            row[j] = MIN(replaced, MIN(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[b.length];
}

const char *app_config_nearest(struct str text, const char *const *words) {
    if (text.length > NEAREST_MAX) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    for (; *words; words++) {
        struct str word = str_of(*words);
        if (word.length > NEAREST_MAX) {
            continue;
        }
        size_t this = distance(text, word);
        /* "memory_max" and "mem" are meant for "memory" though they are letters away. */
        bool is_longer = word.length >= 3 && text.length > word.length && str_starts(text, word);
        bool is_beginning = text.length >= 3 && str_starts(word, text);
        if (is_longer || is_beginning) {
            this = MIN(this, 1);
        }
        if (this < least) {
            least = this;
            nearest = *words;
        }
    }
    return least <= MAX((size_t)2, 1 + text.length / 4) ? nearest : NULL;
}

static enum err fail_unknown(struct str name, struct buf *message) {
    if (!message) {
        return ERR_INVAL;
    }
    const char *words[ARRAY_LENGTH(app_config_keys)];
    cleanup_buf struct buf list = {0};
    size_t count = 0;
    for (const struct app_config_key *key = app_config_keys; key->name; key++) {
        words[count++] = key->name;
        if (buf_printf(&list, count == 1 ? "%s" : " %s", key->name)) {
            break; /* the list is shorter then */
        }
    }
    words[count] = NULL;
    const char *nearest = app_config_nearest(name, words);
    if (nearest) {
        return buf_fail(message, ERR_INVAL,
                        "the configuration has no key '%s'; did you mean '%s'? The keys are %s",
                        QUOTED(name), nearest, buf_text(&list));
    }
    return buf_fail(message, ERR_INVAL, "the configuration has no key '%s'; the keys are %s",
                    QUOTED(name), buf_text(&list));
}

/* A size as text with the largest unit that divides it. */
static void format_bytes(uint64_t bytes, char text[32]) {
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    while (unit + 1 < ARRAY_LENGTH(units) && bytes && bytes % KIB == 0) {
        bytes /= KIB;
        unit++;
    }
    snprintf(text, 32, "%llu%s", (unsigned long long)bytes, units[unit]);
}

static void format_duration(uint64_t ns, char text[32]) {
    static const struct {
        uint64_t ns;
        const char *unit;
    } units[] = {{DAY_S * NS_PER_S, "d"},
                 {3600 * NS_PER_S, "h"},
                 {60 * NS_PER_S, "m"},
                 {NS_PER_S, "s"},
                 {NS_PER_MS, "ms"}};
    size_t unit = 0;
    while (unit + 1 < ARRAY_LENGTH(units) && ns % units[unit].ns != 0) {
        unit++;
    }
    snprintf(text, 32, "%llu%s", (unsigned long long)(ns / units[unit].ns), units[unit].unit);
}

static void format_value(const struct app_config_key *key, uint64_t value, char text[32]) {
    if (key->kind == APP_CONFIG_BYTES) {
        format_bytes(value, text);
    } else if (key->kind == APP_CONFIG_DURATION) {
        format_duration(value, text);
    } else {
        snprintf(text, 32, "%llu", (unsigned long long)value);
    }
}

static struct str json_str(const json_t *text) {
    return (struct str){json_string_value(text), json_string_length(text)};
}

static bool has_nul(struct str text) {
    return text.length && memchr(text.data, 0, text.length);
}

/* Sizes, durations and counts. */
static enum err parse_number(const struct app_config_key *key, const json_t *value,
                             uint64_t *ret_number, struct buf *message) {
    static const char *const forms[] = {
        [APP_CONFIG_BYTES] = "a size such as \"64MiB\" or a number of bytes",
        [APP_CONFIG_DURATION] = "a duration such as \"10s\" or a number of seconds",
        [APP_CONFIG_COUNT] = "a whole number",
    };
    uint64_t number = 0;
    enum err err = ERR_INVAL;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        number = (uint64_t)json_integer_value(value);
        err = ERR_OK;
        if (key->kind == APP_CONFIG_DURATION && __builtin_mul_overflow(number, NS_PER_S, &number)) {
            err = ERR_RANGE;
        }
    } else if (json_is_string(value)) {
        err = key->kind == APP_CONFIG_BYTES      ? str_to_bytes(json_str(value), &number)
              : key->kind == APP_CONFIG_DURATION ? str_to_duration_ns(json_str(value), &number)
                                                 : str_to_u64(json_str(value), &number);
    } else if (json_is_integer(value)) {
        err = ERR_RANGE;
    }
    char min[32], max[32];
    format_value(key, key->min, min);
    format_value(key, key->max, max);
    if (err == ERR_INVAL) {
        return buf_fail(message, ERR_INVAL, "'%s' must be %s, from %s to %s", key->name,
                        forms[key->kind], min, max);
    }
    /* Finer than a millisecond nothing is measured, and the canonical form could not show it. */
    if (!err && key->kind == APP_CONFIG_DURATION && number % NS_PER_MS != 0) {
        return buf_fail(message, ERR_INVAL, "'%s' must be whole milliseconds, from %s to %s",
                        key->name, min, max);
    }
    if (err || number < key->min || number > key->max) {
        return buf_fail(message, ERR_INVAL, "'%s' must be from %s to %s", key->name, min, max);
    }
    *ret_number = number;
    return ERR_OK;
}

/* The place of `word` among those in `choices`, which a space separates: from 1, or 0. */
static uint64_t choice_of(struct str word, const char *choices) {
    struct str rest = str_of(choices);
    for (uint64_t number = 1; rest.length > 0; number++) {
        if (str_equal(word, str_cut(&rest, ' '))) {
            return number;
        }
    }
    return 0;
}

static void set_limit(const struct app_config_key *key, uint64_t number,
                      struct app_limits *limits) {
    if (key->limit_offset >= 0) {
        memcpy((char *)limits + key->limit_offset, &number, sizeof number);
    }
}

static enum err show_choice(const struct app_config_key *key, const json_t *value,
                            struct app_limits *limits, json_t **ret, struct buf *message) {
    uint64_t number = json_is_string(value) ? choice_of(json_str(value), key->choices) : 0;
    if (number == 0) {
        return buf_fail(message, ERR_INVAL, "'%s' must be one of: %s", key->name, key->choices);
    }
    set_limit(key, number, limits);
    *ret = json_string(json_string_value(value));
    return ERR_OK;
}

static enum err show_root(const struct app_config_key *key, const json_t *value, json_t **ret,
                          struct buf *message) {
    if (!json_is_string(value) ||
        (!choice_of(json_str(value), key->choices) && app_name_check(json_str(value), NULL))) {
        return buf_fail(message, ERR_INVAL,
                        "'%s' must be keep, fresh or ro, in small letters, or the name of a volume "
                        "(1 to %d of a-z 0-9 _ -)",
                        key->name, APP_NAME_MAX);
    }
    *ret = json_string(json_string_value(value));
    return ERR_OK;
}

static enum err show_number(const struct app_config_key *key, const json_t *value,
                            struct app_limits *limits, json_t **ret, struct buf *message) {
    uint64_t number = 0;
    enum err err = parse_number(key, value, &number, message);
    if (err) {
        return err;
    }
    set_limit(key, number, limits);
    char text[32];
    format_value(key, number, text);
    *ret = key->kind == APP_CONFIG_COUNT ? json_integer((json_int_t)number) : json_string(text);
    return ERR_OK;
}

/* N, or "N", or "MIN..MAX": canonical is a number where both are the same. */
static enum err show_range(const struct app_config_key *key, const json_t *value,
                           struct app_limits *limits, json_t **ret, struct buf *message) {
    uint64_t least = 0, most = 0;
    enum err err = ERR_INVAL;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        least = most = (uint64_t)json_integer_value(value);
        err = ERR_OK;
    } else if (json_is_string(value)) {
        struct str text = json_str(value);
        const char *dots = memmem(text.data, text.length, "..", 2);
        struct str first = {text.data, dots ? (size_t)(dots - text.data) : text.length};
        err = str_to_u64(first, &least);
        most = least;
        if (!err && dots) {
            err = str_to_u64((struct str){dots + 2, text.length - first.length - 2}, &most);
        }
    }
    if (err || least < key->min || most > key->max || least > most || most == 0) {
        return buf_fail(message, ERR_INVAL,
                        "'%s' must be a number such as 1, or \"MIN..MAX\" such as \"1..4\", up to "
                        "%llu",
                        key->name, (unsigned long long)key->max);
    }
    const uint64_t numbers[] = {least, most};
    memcpy((char *)limits + key->limit_offset, numbers, sizeof numbers);
    char text[64];
    snprintf(text, sizeof text, "%llu..%llu", (unsigned long long)least, (unsigned long long)most);
    *ret = least == most ? json_integer((json_int_t)least) : json_string(text);
    return ERR_OK;
}

static enum err show_arguments(const json_t *value, json_t **ret, struct buf *message) {
    if (!json_is_array(value)) {
        return buf_fail(message, ERR_INVAL,
                        "'args' must be a list of strings, such as [\"-v\", \"in.txt\"]");
    }
    if (json_array_size(value) > APP_ARGUMENTS_MAX) {
        return buf_fail(message, ERR_2BIG, "'args' has more than %d arguments", APP_ARGUMENTS_MAX);
    }
    size_t bytes = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *argument = json_array_get(value, i);
        if (!json_is_string(argument) || has_nul(json_str(argument))) {
            return buf_fail(message, ERR_INVAL,
                            "'args' must be a list of strings without NUL; number %zu is not one",
                            i + 1);
        }
        bytes += json_string_length(argument) + 1;
    }
    if (bytes > APP_ARGUMENTS_BYTES_MAX) {
        return buf_fail(message, ERR_2BIG, "'args' has more than %d KiB of arguments",
                        APP_ARGUMENTS_BYTES_MAX / 1024);
    }
    *ret = json_deep_copy(value);
    return ERR_OK;
}

static enum err show_environment(const json_t *value, json_t **ret, struct buf *message) {
    if (!json_is_object(value)) {
        return buf_fail(message, ERR_INVAL,
                        "'env' must be an object of strings, such as {\"KEY\": \"VALUE\"}");
    }
    if (json_object_size(value) > APP_ENVIRONMENT_MAX) {
        return buf_fail(message, ERR_2BIG, "'env' has more than %d variables", APP_ENVIRONMENT_MAX);
    }
    size_t bytes = 0;
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)(uintptr_t)value, name, text) {
        struct str key = str_of(name);
        if (key.length == 0 || memchr(name, '=', key.length) || memchr(name, '/', key.length)) {
            return buf_fail(message, ERR_INVAL,
                            "'env' has a variable named '%s'; a name is not empty and has "
                            "neither '=' nor '/'",
                            QUOTED(key));
        }
        if (!json_is_string(text) || has_nul(json_str(text))) {
            return buf_fail(message, ERR_INVAL, "'env': '%s' must be a string without NUL",
                            QUOTED(key));
        }
        bytes += key.length + json_string_length(text) + 2;
    }
    if (bytes > APP_ARGUMENTS_BYTES_MAX) {
        return buf_fail(message, ERR_2BIG, "'env' has more than %d KiB of variables",
                        APP_ARGUMENTS_BYTES_MAX / 1024);
    }
    *ret = json_deep_copy(value);
    return ERR_OK;
}

static enum err show_mounts(const json_t *value, json_t **ret, struct buf *message) {
    if (!json_is_array(value)) {
        return buf_fail(message, ERR_INVAL,
                        "'mounts' must be a list, such as [\"VOLUME:/PATH\", \"VOLUME:/PATH:ro\"]");
    }
    if (json_array_size(value) > APP_MOUNTS_MAX) {
        return buf_fail(message, ERR_2BIG, "'mounts' has more than %d entries", APP_MOUNTS_MAX);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *mount = json_array_get(value, i);
        struct app_mount_parts parts, other;
        if (!json_is_string(mount)) {
            return buf_fail(message, ERR_INVAL,
                            "'mounts' must be a list of \"VOLUME:/PATH[:ro]\"; number %zu is not",
                            i + 1);
        }
        enum err err = app_mount_parse(json_str(mount), &parts, message);
        if (err) {
            return err;
        }
        for (size_t j = 0; j < i; j++) {
            if (!app_mount_parse(json_str(json_array_get(value, j)), &other, NULL) &&
                str_equal(parts.path, other.path)) {
                return buf_fail(message, ERR_INVAL, "'mounts' has two volumes at '%s'",
                                QUOTED(parts.path));
            }
        }
    }
    *ret = json_deep_copy(value);
    return ERR_OK;
}

static bool has_only(struct str text, const char *characters) {
    for (size_t i = 0; i < text.length; i++) {
        if (!text.data[i] || !strchr(characters, text.data[i])) {
            return false;
        }
    }
    return text.length > 0;
}

bool app_config_is_host(struct str text) {
    if (text.length == 0 || text.length > 260) {
        return false;
    }
    bool has_port;
    if (text.data[0] == '[') {
        struct str address = str_cut(&text, ']');
        address.data++;
        address.length--;
        if (!text.data || !has_only(address, "0123456789abcdefABCDEF:.")) {
            return false;
        }
        has_port = text.length > 0;
        if (has_port && str_cut(&text, ':').length > 0) {
            return false;
        }
    } else {
        has_port = memchr(text.data, ':', text.length) != NULL;
        struct str name = str_cut(&text, ':');
        if (str_starts(name, STR("*."))) {
            name.data += 2;
            name.length -= 2;
        }
        if (name.length == 0 || name.data[0] == '.' || name.data[0] == '-' ||
            !has_only(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")) {
            return false;
        }
    }
    uint64_t port;
    return !has_port || (!str_to_u64(text, &port) && port >= 1 && port <= 65535);
}

static enum err show_net(const json_t *value, json_t **ret, struct buf *message) {
    if (json_is_string(value) && choice_of(json_str(value), "public none")) {
        *ret = json_string(json_string_value(value));
        return ERR_OK;
    }
    if (!json_is_array(value)) {
        return buf_fail(message, ERR_INVAL,
                        "'net' must be \"public\", \"none\", or a list of hosts, such as "
                        "[\"example.org\", \"*.example.org:443\"]");
    }
    if (json_array_size(value) > APP_NET_MAX) {
        return buf_fail(message, ERR_2BIG, "'net' has more than %d hosts", APP_NET_MAX);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *host = json_array_get(value, i);
        if (!json_is_string(host) || !app_config_is_host(json_str(host))) {
            return buf_fail(message, ERR_INVAL,
                            "'net': number %zu is not a host; hosts are HOST, *.DOMAIN, an "
                            "address, or [ADDRESS], each with an optional :PORT",
                            i + 1);
        }
    }
    *ret = json_deep_copy(value);
    return ERR_OK;
}

/* Checks a value: its canonical form (a new reference) and its limit. */
static enum err show_value(const struct app_config_key *key, const json_t *value,
                           struct app_limits *limits, json_t **ret_shown, struct buf *message) {
    json_t *shown = NULL;
    enum err err = ERR_INVAL;
    switch (key->kind) {
    case APP_CONFIG_CHOICE:
        err = show_choice(key, value, limits, &shown, message);
        break;
    case APP_CONFIG_BYTES:
    case APP_CONFIG_DURATION:
    case APP_CONFIG_COUNT:
        err = show_number(key, value, limits, &shown, message);
        break;
    case APP_CONFIG_RANGE:
        err = show_range(key, value, limits, &shown, message);
        break;
    case APP_CONFIG_ROOT:
        err = show_root(key, value, &shown, message);
        break;
    case APP_CONFIG_ARGUMENTS:
        err = show_arguments(value, &shown, message);
        break;
    case APP_CONFIG_ENVIRONMENT:
        err = show_environment(value, &shown, message);
        break;
    case APP_CONFIG_MOUNTS:
        err = show_mounts(value, &shown, message);
        break;
    case APP_CONFIG_NET:
        err = show_net(value, &shown, message);
        break;
    }
    if (err) {
        return err;
    }
    if (!shown) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    *ret_shown = shown;
    return ERR_OK;
}

static enum err check_keys(const json_t *config, struct buf *message) {
    if (!json_is_object(config)) {
        return buf_fail(message, ERR_INVAL,
                        "a configuration is a JSON object, such as {\"memory\": \"64MiB\"}");
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, name, value) {
        if (!find_key(str_of(name))) {
            return fail_unknown(str_of(name), message);
        }
    }
    return ERR_OK;
}

static enum err show(const json_t *config, struct app_limits *ret_limits, json_t **ret_shown,
                     struct buf *message) {
    enum err err = check_keys(config, message);
    if (err) {
        return err;
    }
    struct app_limits limits = {0};
    json_t *shown = json_object();
    if (!shown) {
        return buf_fail(message, ERR_NOMEM, "out of memory");
    }
    for (const struct app_config_key *key = app_config_keys; key->name && !err; key++) {
        const json_t *value = json_object_get(config, key->name);
        json_t *canonical = NULL;
        if (!value || json_is_null(value)) {
            continue;
        }
        err = show_value(key, value, &limits, &canonical, message);
        if (!err && json_object_set_new(shown, key->name, canonical)) {
            err = buf_fail(message, ERR_NOMEM, "out of memory");
        }
    }
    if (!err && ret_limits) {
        *ret_limits = limits;
    }
    if (!err && ret_shown) {
        *ret_shown = STEAL(shown);
    }
    json_decref(shown);
    return err;
}

enum err app_config_check(const json_t *config, struct app_limits *ret_limits,
                          struct buf *message) {
    return show(config, ret_limits, NULL, message);
}

enum err app_config_show(const json_t *config, json_t **ret_shown, struct buf *message) {
    return show(config, NULL, ret_shown, message);
}

enum err app_config_check_volumes(const json_t *config, struct buf *message) {
    const json_t *mounts = json_object_get(config, "mounts");
    for (size_t i = 0; i < json_array_size(mounts); i++) {
        struct app_mount_parts parts;
        const json_t *mount = json_array_get(mounts, i);
        if (json_is_string(mount) && !app_mount_parse(json_str(mount), &parts, NULL)) {
            enum err err = app_volume_name_check(parts.volume, message);
            if (err) {
                return err;
            }
        }
    }
    return ERR_OK;
}

enum err app_config_merge(const json_t *old, const json_t *changes, json_t **ret_config,
                          struct buf *message) {
    enum err err = check_keys(changes, message);
    err = err ? err : app_config_check_volumes(changes, message);
    if (err) {
        return err;
    }
    json_t *merged = old ? json_copy((json_t *)(uintptr_t)old) : json_object();
    if (!merged || json_object_update(merged, (json_t *)(uintptr_t)changes)) {
        err = buf_fail(message, ERR_NOMEM, "out of memory");
    } else if (json_object_get(changes, "root") || json_object_get(changes, "ttl")) {
        err = app_config_check_session(merged, message);
    }
    err = err ? err : app_config_show(merged, ret_config, message);
    json_decref(merged);
    return err;
}
