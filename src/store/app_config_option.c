/* Configuration in the forms of /create and the command line: options of text, mounts, names. */
#include "store/app_config_internal.h"

enum { MOUNT_DEPTH_MAX = 8, COMPONENT_MAX = 255 };

struct app_quoted app_quote(struct str text) {
    struct app_quoted quoted = {""};
    size_t length = MIN(text.length, sizeof quoted.text - 1);
    while (length > 0 && length < text.length && ((uint8_t)text.data[length] & 0xc0) == 0x80) {
        length--;
    }
    bool is_utf8 = str_is_utf8((struct str){text.data, length});
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        bool is_control = byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !is_utf8);
        quoted.text[i] = is_control ? '?' : text.data[i];
    }
    return quoted;
}

enum err app_name_check(struct str name, struct buf *message) {
    bool good = name.length >= 1 && name.length <= APP_NAME_MAX;
    for (size_t i = 0; good && i < name.length; i++) {
        char c = name.data[i];
        bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        good = alphanumeric || (i > 0 && (c == '_' || c == '-'));
    }
    if (good && str_equal_text(name, "self")) {
        return buf_fail(message, ERR_INVAL,
                        "'self' can't be a name: in a guest it stands for the app that runs");
    }
    if (good) {
        return ERR_OK;
    }
    if (name.length == 0) {
        return buf_fail(message, ERR_INVAL, "the name is missing; say name=NAME");
    }
    return buf_fail(message, ERR_INVAL,
                    "'%s' can't be a name: names are 1 to %d of a-z 0-9 _ - and begin with a "
                    "letter or digit",
                    QUOTED(name), APP_NAME_MAX);
}

bool app_is_root_mode(struct str root) {
    return str_equal_text(root, "keep") || str_equal_text(root, "fresh") ||
           str_equal_text(root, "ro");
}

enum err app_volume_name_check(struct str name, struct buf *message) {
    enum err err = app_name_check(name, message);
    if (!err && app_is_root_mode(name)) {
        err = buf_fail(message, ERR_INVAL,
                       "'" STR_FORMAT "' can't be the name of a volume: root= has keep, fresh and "
                       "ro for something else; take another name",
                       STR_ARGS(name));
    }
    return err;
}

enum err app_config_check_session(const json_t *config, struct buf *message) {
    const json_t *root = json_object_get(config, "root"), *ttl = json_object_get(config, "ttl");
    if (!ttl || json_is_null(ttl) || !json_is_string(root) ||
        !app_is_root_mode(str_of(json_string_value(root)))) {
        return ERR_OK;
    }
    return buf_fail(message, ERR_INVAL,
                    "ttl= is for a volume by name: root=NAME; this app has root=%s; leave one of "
                    "them out",
                    json_string_value(root));
}

bool app_is_system_name(struct str name) {
    static const char *const ours[] = {"cloud", "dev", "env", "net", "proc", "tmp"};
    for (size_t i = 0; i < ARRAY_LENGTH(ours); i++) {
        if (str_equal_text(name, ours[i])) {
            return true;
        }
    }
    return false;
}

/* What is wrong with the place of a mount, or NULL. */
static const char *mount_path_fault(struct str path) {
    if (path.length < 2 || path.data[0] != '/') {
        return "is not an absolute path below /";
    }
    struct str rest = {path.data + 1, path.length - 1};
    for (size_t depth = 0; rest.length > 0 || path.data[path.length - 1] == '/'; depth++) {
        struct str name = str_cut(&rest, '/');
        if (name.length == 0) {
            return "has an empty component";
        }
        if (str_equal_text(name, ".") || str_equal_text(name, "..")) {
            return "has a component '.' or '..'";
        }
        if (name.length > COMPONENT_MAX || depth == MOUNT_DEPTH_MAX) {
            return "is too long or too deep (8 components of 255 bytes)";
        }
        if (depth == 0 && app_is_system_name(name)) {
            return "is in a directory of the system";
        }
    }
    return str_is_utf8(path) && !memchr(path.data, 0, path.length) ? NULL : "is not UTF-8 text";
}

enum err app_mount_parse(struct str text, struct app_mount_parts *ret_parts, struct buf *message) {
    struct app_mount_parts parts = {.path = text};
    parts.volume = str_cut(&parts.path, ':');
    if (parts.path.length > 3 && memcmp(parts.path.data + parts.path.length - 3, ":ro", 3) == 0) {
        parts.read_only = true;
        parts.path.length -= 3;
    } else if (parts.path.length > 3 &&
               memcmp(parts.path.data + parts.path.length - 3, ":rw", 3) == 0) {
        return buf_fail(message, ERR_INVAL,
                        "'mounts': ':rw' is no mode; without ':ro' a volume can be written");
    }
    if (app_name_check(parts.volume, NULL)) {
        return buf_fail(message, ERR_INVAL,
                        "'mounts': '%s' must be VOLUME:/PATH or VOLUME:/PATH:ro, VOLUME being a "
                        "name of 1 to %d of a-z 0-9 _ -",
                        QUOTED(text), APP_NAME_MAX);
    }
    const char *fault = mount_path_fault(parts.path);
    if (fault) {
        return buf_fail(message, ERR_INVAL, "'mounts': the path of volume '%s' %s",
                        QUOTED(parts.volume), fault);
    }
    *ret_parts = parts;
    return ERR_OK;
}

static const struct app_config_key *find_option(struct str option) {
    for (const struct app_config_key *key = app_config_keys; key->name; key++) {
        if (str_equal_text(option, key->name) ||
            (key->option && str_equal_text(option, key->option))) {
            return key;
        }
    }
    return NULL;
}

/* Adds to the list (or object) of a key, which is made when missing. */
static enum err add_member(json_t *changes, const char *key, json_t *empty, json_t *value,
                           const char *name) {
    json_t *set = json_object_get(changes, key);
    bool failed = !empty || !value;
    if (!failed && (!set || json_typeof(set) != json_typeof(empty))) {
        failed = json_object_set(changes, key, empty) != 0;
        set = empty;
    }
    if (!failed) {
        failed = name ? json_object_set(set, name, value) != 0 : json_array_append(set, value) != 0;
    }
    json_decref(empty);
    json_decref(value);
    return failed ? ERR_NOMEM : ERR_OK;
}

static enum err add_environment(json_t *changes, struct str value, struct buf *message) {
    struct str rest = value;
    struct str name = str_cut(&rest, '=');
    if (!rest.data || name.length == 0) {
        return buf_fail(message, ERR_INVAL, "env=%s: must be env=KEY=VALUE", QUOTED(value));
    }
    cleanup_free char *key = strndup(name.data, name.length);
    if (!key) {
        return ERR_NOMEM;
    }
    return add_member(changes, "env", json_object(), json_stringn(rest.data, rest.length), key);
}

enum err app_config_add_option(json_t *changes, struct str option, struct str value,
                               struct buf *message) {
    const struct app_config_key *key = find_option(option);
    if (!key) {
        return ERR_NOENT;
    }
    bool listed = key->option != NULL;
    if (!str_is_utf8(value) || (value.length && memchr(value.data, 0, value.length))) {
        return buf_fail(message, ERR_INVAL, "'%s' must be UTF-8 text without NUL", key->name);
    }
    if (value.length == 0 && !(listed && str_equal_text(option, "arg"))) {
        json_t *none = key->kind == APP_CONFIG_ENVIRONMENT     ? json_object()
                       : listed && key->kind != APP_CONFIG_NET ? json_array()
                                                               : json_null();
        return !none || json_object_set_new(changes, key->name, none) ? ERR_NOMEM : ERR_OK;
    }
    switch (key->kind) {
    case APP_CONFIG_ENVIRONMENT:
        return add_environment(changes, value, message);
    case APP_CONFIG_NET:
        if (str_equal_text(value, "none") || str_equal_text(value, "public")) {
            break;
        }
        if (json_is_string(json_object_get(changes, key->name))) {
            return buf_fail(message, ERR_INVAL, "'net' can't be both '%s' and a host",
                            json_string_value(json_object_get(changes, key->name)));
        }
        return add_member(changes, key->name, json_array(), json_stringn(value.data, value.length),
                          NULL);
    case APP_CONFIG_ARGUMENTS:
    case APP_CONFIG_MOUNTS:
        return add_member(changes, key->name, json_array(), json_stringn(value.data, value.length),
                          NULL);
    default:
        break;
    }
    if (json_object_get(changes, key->name)) {
        return buf_fail(message, ERR_INVAL, "'%s' is given twice", key->name);
    }
    json_t *text = json_stringn(value.data, value.length);
    return !text || json_object_set_new(changes, key->name, text) ? ERR_NOMEM : ERR_OK;
}
