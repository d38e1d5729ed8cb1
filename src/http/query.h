/* Percent-encoding and query strings (RFC 3986 section 2.1, the form encoding of HTML for '+').
 * Pure functions, no connection. Thread: any. */
#pragma once

#include "base/buf.h"

/* Decodes %XX, and '+' as a space if `plus_is_space`. INVAL: a % without two hexadecimal digits. A
 * decoded NUL is an error too (INVAL). Appends. */
MUST_USE enum err query_decode(struct str text, bool plus_is_space, struct buf *ret_decoded);
/* Encodes everything but unreserved characters (and '/' if `keep_slash`). Appends. */
MUST_USE enum err query_encode(struct str text, bool keep_slash, struct buf *ret_encoded);

/* Name=value pairs in the order given, decoded. A pair without '=' has an empty value and
 * `has_value` false. */
struct query_pair {
    struct str name, value; /* in the query's own memory */
    bool has_value;
};
struct query {
    struct query_pair *pairs;
    size_t count;
    char *memory;
};
#define QUERY_PAIRS_MAX 1024
/* 2BIG over QUERY_PAIRS_MAX; INVAL for bad encoding; ILSEQ for what is not UTF-8 once decoded. */
MUST_USE enum err query_parse(struct str text, struct query *ret_query);
void query_done(struct query *query);
/* The first pair of that name, NULL if none. */
const struct query_pair *query_find(const struct query *query, const char *name);
