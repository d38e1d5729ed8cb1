/* Queries and percent-encoding: what is decoded and encoded again decodes to the same; and the
 * gate, on any bytes. */
#include "http/http_gate.h"
#include "http/query.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_coding(struct str text) {
    for (int plus_is_space = 0; plus_is_space < 2; plus_is_space++) {
        struct buf decoded = {0};
        struct buf encoded = {0};
        struct buf again = {0};
        if (query_decode(text, plus_is_space, &decoded) == ERR_OK) {
            INVARIANT(decoded.length <= text.length);
            INVARIANT(query_encode(buf_str(&decoded), plus_is_space, &encoded) == ERR_OK);
            INVARIANT(query_decode(buf_str(&encoded), true, &again) == ERR_OK);
            INVARIANT(str_equal(buf_str(&decoded), buf_str(&again)));
        }
        buf_done(&decoded);
        buf_done(&encoded);
        buf_done(&again);
    }
}

static void check_query(struct str text) {
    struct query query;
    if (query_parse(text, &query) != ERR_OK) {
        return;
    }
    INVARIANT(query.count <= QUERY_PAIRS_MAX);
    for (size_t i = 0; i < query.count; i++) {
        struct query_pair pair = query.pairs[i];
        INVARIANT(str_is_utf8(pair.name) && str_is_utf8(pair.value));
        INVARIANT(strlen(pair.name.data) == pair.name.length);
        INVARIANT(strlen(pair.value.data) == pair.value.length);
        INVARIANT(pair.has_value || pair.value.length == 0);
        INVARIANT(query_find(&query, pair.name.data) <= &query.pairs[i]);
    }
    query_done(&query);
}

static void check_gate(struct str text) {
    static struct http_head head;
    struct http_scan scan = {0};
    size_t length = 0;
    struct http_refusal refusal = http_gate_scan(&scan, text.data, text.length, 32 * KIB, &length);
    INVARIANT(length <= text.length && (length == 0 || !refusal.status));
    if (length == 0) { /* as it is, then */
        length = MIN(text.length, HTTP_HEAD_BYTES_LIMIT);
    }
    refusal = http_gate_check(text.data, length, &head);
    if (refusal.status) {
        INVARIANT(refusal.reason);
        return;
    }
    INVARIANT(head.path.length > 0 && head.path.data[0] == '/');
    INVARIANT(head.field_count <= HTTP_FIELDS_MAX);
    INVARIANT(!(head.is_chunked && head.has_content_length));
    for (size_t i = 0; i < head.field_count; i++) {
        struct str name = http_field_name(&head, i);
        struct str value = http_field_value(&head, i);
        INVARIANT(name.length > 0 && name.data >= text.data);
        INVARIANT(value.data + value.length <= text.data + length);
        INVARIANT(value.length == 0 || !memchr(value.data, '\n', value.length));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = {(const char *)data, size};
    check_coding(text);
    check_query(text);
    check_gate(text);
    return 0;
}
