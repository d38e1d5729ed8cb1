#include "http/http_body.h"

void http_body_init(struct http_body *body, const struct http_head *head) {
    *body = (struct http_body){.remaining = head->content_length, .is_chunked = head->is_chunked};
    if (head->is_chunked) {
        body->state = HTTP_BODY_SIZE_FIRST;
    } else {
        body->state = head->content_length > 0 ? HTTP_BODY_DATA : HTTP_BODY_OVER;
    }
}

static enum http_body_state take_digit(struct http_body *body, uint8_t byte) {
    int digit = str_hexadecimal((char)byte);
    if (digit < 0 || body->remaining > INT64_MAX >> 4) {
        return HTTP_BODY_BROKEN;
    }
    body->remaining = body->remaining << 4 | (uint64_t)digit;
    return HTTP_BODY_SIZE;
}

static enum http_body_state expect(uint8_t byte, uint8_t expected, enum http_body_state next) {
    return byte == expected ? next : HTTP_BODY_BROKEN;
}

/* The state behind one byte that is no data. */
static enum http_body_state step(struct http_body *body, uint8_t byte) {
    switch ((enum http_body_state)body->state) {
    case HTTP_BODY_DATA_END:
        return expect(byte, '\r', HTTP_BODY_DATA_FEED);
    case HTTP_BODY_DATA_FEED:
        return expect(byte, '\n', HTTP_BODY_SIZE_FIRST);
    case HTTP_BODY_SIZE_FIRST:
        body->overhead_bytes = 0;
        return take_digit(body, byte);
    case HTTP_BODY_SIZE:
        if (byte == '\r') {
            return HTTP_BODY_SIZE_FEED;
        }
        return byte == ';' ? HTTP_BODY_EXTENSION : take_digit(body, byte);
    case HTTP_BODY_EXTENSION:
        if (byte == '\r') {
            return HTTP_BODY_SIZE_FEED;
        }
        return http_is_value_byte(byte) ? HTTP_BODY_EXTENSION : HTTP_BODY_BROKEN;
    case HTTP_BODY_SIZE_FEED:
        body->overhead_bytes = 0;
        return expect(byte, '\n', body->remaining > 0 ? HTTP_BODY_DATA : HTTP_BODY_TRAILER_FIRST);
    case HTTP_BODY_TRAILER_FIRST:
        if (byte == '\r') {
            return HTTP_BODY_LAST_FEED;
        }
        return http_is_token_byte(byte) ? HTTP_BODY_TRAILER_NAME : HTTP_BODY_BROKEN;
    case HTTP_BODY_TRAILER_NAME:
        if (byte == ':') {
            return HTTP_BODY_TRAILER_VALUE;
        }
        return http_is_token_byte(byte) ? HTTP_BODY_TRAILER_NAME : HTTP_BODY_BROKEN;
    case HTTP_BODY_TRAILER_VALUE:
        if (byte == '\r') {
            return HTTP_BODY_TRAILER_FEED;
        }
        return http_is_value_byte(byte) ? HTTP_BODY_TRAILER_VALUE : HTTP_BODY_BROKEN;
    case HTTP_BODY_TRAILER_FEED:
        return expect(byte, '\n', HTTP_BODY_TRAILER_FIRST);
    case HTTP_BODY_LAST_FEED:
        return expect(byte, '\n', HTTP_BODY_OVER);
    case HTTP_BODY_DATA:
    case HTTP_BODY_OVER:
    case HTTP_BODY_BROKEN:
        break;
    }
    return HTTP_BODY_BROKEN; /* not reached */
}

size_t http_body_next(struct http_body *body, const uint8_t *data, size_t length,
                      size_t *ret_piece) {
    size_t at = 0;
    *ret_piece = 0;
    while (at < length && body->state < HTTP_BODY_OVER && body->state != HTTP_BODY_DATA) {
        body->state = (uint8_t)step(body, data[at++]);
        uint32_t overhead_max = body->state >= HTTP_BODY_TRAILER_FIRST ? HTTP_TRAILER_BYTES_MAX
                                                                       : HTTP_CHUNK_LINE_BYTES_MAX;
        if (++body->overhead_bytes > overhead_max && body->state != HTTP_BODY_OVER) {
            body->state = HTTP_BODY_BROKEN;
        }
    }
    if (body->state == HTTP_BODY_DATA) {
        *ret_piece = (size_t)MIN(body->remaining, (uint64_t)(length - at));
    }
    return at;
}

void http_body_took(struct http_body *body, size_t length) {
    body->remaining -= length;
    if (body->remaining == 0 && body->state == HTTP_BODY_DATA) {
        body->state = body->is_chunked ? HTTP_BODY_DATA_END : HTTP_BODY_OVER;
    }
}
