#include "http/query.h"

/* Decodes into `to`, which has room for text.length bytes (decoding never lengthens). */
static enum err decode(struct str text, bool plus_is_space, char *to, size_t *ret_length) {
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.data[i];
        if (byte == '%') {
            if (text.length - i < 3) {
                return ERR_INVAL;
            }
            int high = str_hexadecimal(text.data[i + 1]);
            int low = str_hexadecimal(text.data[i + 2]);
            if (high < 0 || low < 0) {
                return ERR_INVAL;
            }
            byte = (char)(high << 4 | low);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        if (byte == '\0') {
            return ERR_INVAL;
        }
        to[length++] = byte;
    }
    *ret_length = length;
    return ERR_OK;
}

enum err query_decode(struct str text, bool plus_is_space, struct buf *ret_decoded) {
    enum err err = buf_reserve(ret_decoded, text.length);
    if (err) {
        return err;
    }
    if (text.length == 0) {
        return ERR_OK;
    }
    size_t length = 0;
    char *end = (char *)ret_decoded->data + ret_decoded->length;
    err = decode(text, plus_is_space, end, &length);
    if (err) {
        *end = '\0'; /* what was there before is untouched */
        return err;
    }
    end[length] = '\0';
    ret_decoded->length += length;
    return ERR_OK;
}

/* RFC 3986 section 2.3 */
static bool is_unreserved(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

enum err query_encode(struct str text, bool keep_slash, struct buf *ret_encoded) {
    static const char digits[] = "0123456789ABCDEF";
    size_t size;
    if (__builtin_mul_overflow(text.length, 3u, &size)) {
        return ERR_NOMEM;
    }
    enum err err = buf_reserve(ret_encoded, size);
    if (err || text.length == 0) {
        return err;
    }
    uint8_t *to = ret_encoded->data + ret_encoded->length;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.data[i];
        if (is_unreserved(byte) || (keep_slash && byte == '/')) {
            *to++ = (uint8_t)byte;
        } else {
            *to++ = '%';
            *to++ = (uint8_t)digits[(uint8_t)byte >> 4];
            *to++ = (uint8_t)digits[(uint8_t)byte & 15];
        }
    }
    *to = '\0';
    ret_encoded->length = (size_t)(to - ret_encoded->data);
    return ERR_OK;
}

/* Decodes one part to `*memory`, ends it with NUL and moves `*memory` behind it. */
static enum err take_part(struct str text, char **memory, struct str *ret_part) {
    size_t length = 0;
    enum err err = decode(text, true, *memory, &length);
    if (err) {
        return err;
    }
    struct str part = {*memory, length};
    if (!str_is_utf8(part)) {
        return ERR_ILSEQ;
    }
    (*memory)[length] = '\0';
    *memory += length + 1;
    *ret_part = part;
    return ERR_OK;
}

enum err query_parse(struct str text, struct query *ret_query) {
    size_t count = 0;
    for (struct str rest = text; rest.length > 0;) {
        if (str_cut(&rest, '&').length > 0 && ++count > QUERY_PAIRS_MAX) {
            return ERR_2BIG;
        }
    }
    struct query query = {0};
    if (count == 0) {
        *ret_query = query;
        return ERR_OK;
    }
    /* Each part is followed by a NUL: two a pair, at most one of them in the place of a '='. */
    query.memory = malloc(text.length + 2 * count);
    query.pairs = alloc_zeroed(count * sizeof *query.pairs);
    enum err err = query.memory && query.pairs ? ERR_OK : ERR_NOMEM;
    char *memory = query.memory;
    for (struct str rest = text; rest.length > 0 && !err;) {
        struct str value = str_cut(&rest, '&');
        if (value.length == 0) {
            continue; /* "a=1&&b=2" */
        }
        struct query_pair *pair = &query.pairs[query.count++];
        pair->has_value = memchr(value.data, '=', value.length) != NULL;
        struct str name = str_cut(&value, '=');
        err = take_part(name, &memory, &pair->name);
        if (!err) {
            err = take_part(value, &memory, &pair->value);
        }
    }
    if (err) {
        query_done(&query);
        return err;
    }
    *ret_query = query;
    return ERR_OK;
}

void query_done(struct query *query) {
    free(query->pairs);
    free(query->memory);
    *query = (struct query){0};
}

const struct query_pair *query_find(const struct query *query, const char *name) {
    struct str wanted = str_of(name);
    for (size_t i = 0; i < query->count; i++) {
        if (str_equal(query->pairs[i].name, wanted)) {
            return &query->pairs[i];
        }
    }
    return NULL;
}
