#include "base/buf.h"

#include <strings.h>

bool str_equal(struct str a, struct str b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

bool str_equal_text(struct str a, const char *text) {
    return str_equal(a, str_of(text));
}

bool str_starts(struct str text, struct str prefix) {
    return text.length >= prefix.length &&
           (prefix.length == 0 || memcmp(text.data, prefix.data, prefix.length) == 0);
}

struct str str_cut(struct str *rest, char separator) {
    struct str before = *rest;
    const char *found = rest->length ? memchr(rest->data, separator, rest->length) : NULL;
    if (!found) {
        *rest = (struct str){0};
        return before;
    }
    before.length = (size_t)(found - rest->data);
    rest->data = found + 1;
    rest->length -= before.length + 1;
    return before;
}

/* The length of the character that begins at `at` (RFC 3629, section 4), 0 if it is none. */
static size_t utf8_character(const uint8_t *at, size_t length) {
    uint8_t first = at[0];
    uint8_t second_min = 0x80, second_max = 0xbf;
    size_t size;
    if (first < 0x80) {
        return 1;
    } else if (first >= 0xc2 && first <= 0xdf) {
        size = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        size = 3;
        second_min = first == 0xe0 ? 0xa0 : 0x80; /* overlong */
        second_max = first == 0xed ? 0x9f : 0xbf; /* surrogates */
    } else if (first >= 0xf0 && first <= 0xf4) {
        size = 4;
        second_min = first == 0xf0 ? 0x90 : 0x80; /* overlong */
        second_max = first == 0xf4 ? 0x8f : 0xbf; /* above U+10FFFF */
    } else {
        return 0;
    }
    if (length < size || at[1] < second_min || at[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool str_is_utf8(struct str text) {
    const uint8_t *data = (const uint8_t *)text.data;
    size_t at = 0;
    while (at < text.length) {
        uint64_t word;
        if (text.length - at >= sizeof word) { /* most text is ASCII: eight at a time */
            memcpy(&word, data + at, sizeof word);
            if (!(word & 0x8080808080808080u)) {
                at += sizeof word;
                continue;
            }
        }
        size_t size = utf8_character(data + at, text.length - at);
        if (size == 0) {
            return false;
        }
        at += size;
    }
    return true;
}

enum err str_to_u64(struct str text, uint64_t *ret_value) {
    if (text.length == 0) {
        return ERR_INVAL;
    }
    uint64_t value = 0;
    bool fits = true;
    for (size_t i = 0; i < text.length; i++) {
        char digit = text.data[i];
        if (digit < '0' || digit > '9') {
            return ERR_INVAL;
        }
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(digit - '0'), &value)) {
            fits = false;
        }
    }
    if (!fits) {
        return ERR_RANGE;
    }
    *ret_value = value;
    return ERR_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static enum err parse_with_unit(struct str text, const struct unit *units, size_t unit_count,
                                uint64_t *ret_value) {
    size_t digits = 0;
    while (digits < text.length && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    struct str unit = {digits < text.length ? text.data + digits : "", text.length - digits};
    for (size_t i = 0; i < unit_count; i++) {
        if (unit.length != strlen(units[i].name) ||
            strncasecmp(unit.data, units[i].name, unit.length) != 0) {
            continue;
        }
        uint64_t value;
        enum err err = str_to_u64((struct str){text.data, digits}, &value);
        if (err) {
            return err;
        }
        if (__builtin_mul_overflow(value, units[i].factor, &value)) {
            return ERR_RANGE;
        }
        *ret_value = value;
        return ERR_OK;
    }
    return ERR_INVAL;
}

enum err str_to_bytes(struct str text, uint64_t *ret_bytes) {
    static const struct unit units[] = {
        {"", 1},      {"b", 1},          {"k", KIB},         {"kb", KIB},         {"kib", KIB},
        {"m", MIB},   {"mb", MIB},       {"mib", MIB},       {"g", GIB},          {"gb", GIB},
        {"gib", GIB}, {"t", 1024 * GIB}, {"tb", 1024 * GIB}, {"tib", 1024 * GIB},
    };
    return parse_with_unit(text, units, ARRAY_LENGTH(units), ret_bytes);
}

enum err str_to_duration_ns(struct str text, uint64_t *ret_ns) {
    static const struct unit units[] = {
        {"", NS_PER_S},         {"ns", 1},
        {"us", NS_PER_US},      {"ms", NS_PER_MS},
        {"s", NS_PER_S},        {"m", 60 * NS_PER_S},
        {"h", 3600 * NS_PER_S}, {"d", 86400 * NS_PER_S},
    };
    return parse_with_unit(text, units, ARRAY_LENGTH(units), ret_ns);
}

struct str str_base_name(struct str path) {
    while (path.length > 0 && path.data[path.length - 1] == '/') {
        path.length--;
    }
    const char *slash = path.length ? memrchr(path.data, '/', path.length) : NULL;
    if (slash) {
        path.length -= (size_t)(slash + 1 - path.data);
        path.data = slash + 1;
    }
    return path;
}

int str_hexadecimal(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}
