#include "api/file_answer.h"

#include "api/tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7) */
#define DATE_SIZE 32
#define DATE_FORMAT "%a, %d %b %Y %H:%M:%S GMT"

/* --- sending ---------------------------------------------------------------------------------- */

static enum http_pull_result pull(void *argument, void *buffer, size_t size, size_t *ret_length) {
    struct file_answer *answer = argument;
    answer->waiting = false;
    if (answer->remaining == 0) {
        return HTTP_PULL_END;
    }
    size_t length = 0;
    enum err err = file_read(&answer->request->op, answer->opened, buffer,
                             MIN(size, answer->remaining), answer->offset, &length);
    if (err == ERR_PENDING) {
        answer->waiting = true;
        return HTTP_PULL_WAIT;
    }
    if (err) {
        return HTTP_PULL_ABORT;
    }
    if (length == 0) {
        /* A length that was promised and can't be kept shows as a cut connection. */
        return answer->remaining == UINT64_MAX ? HTTP_PULL_END : HTTP_PULL_ABORT;
    }
    answer->offset += length;
    if (answer->remaining != UINT64_MAX) {
        answer->remaining -= length;
    }
    *ret_length = length;
    return HTTP_PULL_DATA;
}

void file_answer_step(struct file_answer *answer) {
    if (answer->waiting) {
        answer->waiting = false;
        http_pull_resume(answer->request->exchange);
    }
}

/* --- ranges (RFC 9110 section 14) ------------------------------------------------------------- */

enum range { RANGE_NONE, RANGE_ONE, RANGE_UNSATISFIABLE };

/* One range of bytes; several, or another unit, are ignored, which RFC 9110 allows. */
static enum range parse_range(struct str header, uint64_t size, uint64_t *ret_first,
                              uint64_t *ret_length) {
    if (!str_starts(header, STR("bytes=")) || memchr(header.data, ',', header.length)) {
        return RANGE_NONE;
    }
    struct str last_text = {header.data + 6, header.length - 6};
    if (!memchr(last_text.data, '-', last_text.length)) {
        return RANGE_NONE;
    }
    struct str first_text = str_cut(&last_text, '-');
    uint64_t first = 0, last = 0;
    if (first_text.length == 0) { /* the last bytes */
        if (str_to_u64(last_text, &last)) {
            return RANGE_NONE;
        }
        if (last == 0 || size == 0) {
            return RANGE_UNSATISFIABLE;
        }
        *ret_length = MIN(last, size);
        *ret_first = size - *ret_length;
        return RANGE_ONE;
    }
    if (str_to_u64(first_text, &first)) {
        return RANGE_NONE;
    }
    last = size ? size - 1 : 0;
    uint64_t asked = 0;
    if (last_text.length > 0) {
        if (str_to_u64(last_text, &asked) || asked < first) {
            return RANGE_NONE;
        }
        last = MIN(asked, last);
    }
    if (first >= size) {
        return RANGE_UNSATISFIABLE;
    }
    *ret_first = first;
    *ret_length = last - first + 1;
    return RANGE_ONE;
}

/* --- what the client has already (RFC 9110 section 13) ---------------------------------------- */

static void format_date(uint64_t time_ns, char text[DATE_SIZE]) {
    time_t seconds = (time_t)(time_ns / NS_PER_S);
    struct tm parts;
    text[0] = '\0';
    if (gmtime_r(&seconds, &parts)) {
        (void)!strftime(text, DATE_SIZE, DATE_FORMAT, &parts);
    }
}

static bool is_not_newer(uint64_t modified_ns, struct str date) {
    char text[DATE_SIZE];
    if (date.length >= sizeof text) {
        return false;
    }
    memcpy(text, date.data, date.length);
    text[date.length] = '\0';
    struct tm parts = {0};
    const char *end = strptime(text, DATE_FORMAT, &parts);
    return end && *end == '\0' && (time_t)(modified_ns / NS_PER_S) <= timegm(&parts);
}

static bool is_known(const struct http_exchange *exchange, const struct file_stat *stat,
                     const char *etag, bool has_times) {
    struct str none_match = http_header(exchange, "If-None-Match");
    if (none_match.data) {
        return etag[0] && tree_etag_matches(none_match, etag);
    }
    struct str since = http_header(exchange, "If-Modified-Since");
    return has_times && since.data && is_not_newer(stat->modified_ns, since);
}

static enum err add_headers(struct http_exchange *exchange, const struct file_stat *stat,
                            const char *etag, bool has_times) {
    enum err err = http_add_header(exchange, "ETag", etag);
    if (!err && has_times) {
        char date[DATE_SIZE];
        format_date(stat->modified_ns, date);
        err = http_add_header(exchange, "Last-Modified", date);
        err = err ? err : http_add_header(exchange, "Cache-Control", "no-cache");
    }
    return err;
}

/* --- the answer ------------------------------------------------------------------------------- */

void file_answer(struct file_answer *answer, struct request *request, struct file *opened,
                 const struct file_stat *stat, const char *content_type, bool has_times) {
    struct http_exchange *exchange = request->exchange;
    *answer = (struct file_answer){.request = request, .opened = opened};
    char etag[TREE_ETAG_SIZE];
    tree_etag(stat, etag);
    enum err err = add_headers(exchange, stat, etag, has_times);
    if (!err && is_known(exchange, stat, etag, has_times)) {
        request_respond_empty(request, 304);
        return;
    }
    bool has_size = stat->type == FILE_REGULAR && (opened->traits & FILE_SEEKABLE);
    uint64_t size = has_size ? stat->size : HTTP_LENGTH_UNKNOWN;
    int status = 200;
    answer->remaining = has_size ? size : UINT64_MAX;
    struct str range = http_header(exchange, "Range");
    struct str if_range = http_header(exchange, "If-Range");
    bool range_wanted =
        range.data && has_size && (!if_range.data || (etag[0] && str_equal_text(if_range, etag)));
    char text[80];
    if (!err && has_size) {
        err = http_add_header(exchange, "Accept-Ranges", "bytes");
    }
    if (!err && range_wanted) {
        switch (parse_range(range, size, &answer->offset, &answer->remaining)) {
        case RANGE_NONE:
            break;
        case RANGE_ONE:
            status = 206;
            snprintf(text, sizeof text, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, answer->offset,
                     answer->offset + answer->remaining - 1, size);
            size = answer->remaining;
            err = http_add_header(exchange, "Content-Range", text);
            break;
        case RANGE_UNSATISFIABLE:
            snprintf(text, sizeof text, "bytes */%" PRIu64, size);
            err = http_add_header(exchange, "Content-Range", text);
            if (!err) {
                request_fail_status(request, 416, "the file has %" PRIu64 " bytes", size);
                return;
            }
            break;
        }
    }
    if (err) {
        request_fail(request, err, NULL);
        return;
    }
    request->responded = true;
    http_respond_stream(exchange, status, content_type, size, pull, answer);
}
