#include "api/file_answer.h"

#include "api/tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
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
    if (!err && length == 0 && answer->remaining == UINT64_MAX) {
        return HTTP_PULL_END;
    }
    if (err || length == 0) {
        /* A length that was promised and can't be kept shows as a cut connection. */
        answer->is_cut = true;
        answer->failure = err;
        return HTTP_PULL_ABORT;
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

/* A number of digits, as many as there may be: what is beyond all files is UINT64_MAX. */
static bool parse_position(struct str text, uint64_t *ret_position) {
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
    }
    if (text.length > 0 && str_to_u64(text, ret_position)) {
        *ret_position = UINT64_MAX;
    }
    return text.length > 0;
}

/* One range of bytes; several, or another unit, are ignored, which RFC 9110 allows. */
static enum range parse_range(struct str header, uint64_t size, uint64_t *ret_first,
                              uint64_t *ret_length) {
    if (header.length < 6 || strncasecmp(header.data, "bytes=", 6) != 0 ||
        memchr(header.data, ',', header.length)) {
        return RANGE_NONE;
    }
    struct str last_text = {header.data + 6, header.length - 6};
    if (!memchr(last_text.data, '-', last_text.length)) {
        return RANGE_NONE;
    }
    struct str first_text = str_cut(&last_text, '-');
    uint64_t first = 0, last = 0;
    if (first_text.length == 0) { /* the last bytes */
        if (!parse_position(last_text, &last)) {
            return RANGE_NONE;
        }
        if (last == 0 || size == 0) {
            return RANGE_UNSATISFIABLE;
        }
        *ret_length = MIN(last, size);
        *ret_first = size - *ret_length;
        return RANGE_ONE;
    }
    if (!parse_position(first_text, &first)) {
        return RANGE_NONE;
    }
    last = size ? size - 1 : 0;
    uint64_t asked = 0;
    if (last_text.length > 0) {
        if (!parse_position(last_text, &asked) || asked < first) {
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

/* In one of the three forms that there have been (RFC 9110 section 5.6.7). */
static bool parse_date(struct str date, time_t *ret_time) {
    static const char *const formats[] = {DATE_FORMAT, "%A, %d-%b-%y %H:%M:%S GMT",
                                          "%a %b %e %H:%M:%S %Y"};
    char text[2 * DATE_SIZE];
    if (date.length >= sizeof text) {
        return false;
    }
    memcpy(text, date.data, date.length);
    text[date.length] = '\0';
    for (size_t i = 0; i < ARRAY_LENGTH(formats); i++) {
        struct tm parts = {0};
        const char *end = strptime(text, formats[i], &parts);
        if (end && *end == '\0') {
            *ret_time = timegm(&parts);
            return true;
        }
    }
    return false;
}

/* What of a file is compared. */
struct validators {
    const char *etag; /* "" = none */
    bool has_time;
    time_t modified;
};

/* What a field with a date says of a file: nothing where there is no field or no time, or where it
 * is no date. */
static bool is_newer(const struct validators *file, struct str date, bool if_unknown) {
    time_t time;
    return file->has_time && date.data && parse_date(date, &time) ? file->modified > time
                                                                  : if_unknown;
}

/* The status that the fields ask for, in the order of RFC 9110 section 13.2.2. */
static int check_conditions(const struct http_exchange *exchange, const struct validators *file) {
    struct str match = http_header(exchange, "If-Match");
    if (match.data ? !tree_etag_matches(match, file->etag, true)
                   : is_newer(file, http_header(exchange, "If-Unmodified-Since"), false)) {
        return 412;
    }
    struct str none_match = http_header(exchange, "If-None-Match");
    if (none_match.data ? file->etag[0] && tree_etag_matches(none_match, file->etag, false)
                        : !is_newer(file, http_header(exchange, "If-Modified-Since"), true)) {
        return 304;
    }
    return 200;
}

/* Whether a range is asked for, of the file as it is (RFC 9110 sections 13.1.5 and 14.2). */
static bool wants_range(const struct http_exchange *exchange, const struct validators *file) {
    if (!http_header(exchange, "Range").data || !str_equal_text(http_method(exchange), "GET")) {
        return false;
    }
    struct str if_range = http_header(exchange, "If-Range");
    time_t time;
    return !if_range.data || (file->etag[0] && str_equal_text(if_range, file->etag)) ||
           (file->has_time && parse_date(if_range, &time) && time == file->modified);
}

static enum err add_headers(struct http_exchange *exchange, const struct file_stat *stat,
                            const char *etag, bool has_times) {
    enum err err = etag[0] ? http_add_header(exchange, "ETag", etag) : ERR_OK;
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
    const struct validators file = {
        .etag = etag, .has_time = has_times, .modified = (time_t)(stat->modified_ns / NS_PER_S)};
    int status = check_conditions(exchange, &file);
    if (status == 412) {
        tree_fail_precondition(request);
        return;
    }
    enum err err = add_headers(exchange, stat, etag, has_times);
    if (!err && status == 304) {
        request_respond_empty(request, 304);
        return;
    }
    bool has_size = stat->type == FILE_REGULAR && (opened->traits & FILE_SEEKABLE);
    uint64_t size = has_size ? stat->size : HTTP_LENGTH_UNKNOWN;
    answer->remaining = has_size ? size : UINT64_MAX;
    char text[80];
    if (!err && has_size) {
        err = http_add_header(exchange, "Accept-Ranges", "bytes");
    }
    if (!err && has_size && wants_range(exchange, &file)) {
        switch (parse_range(http_header(exchange, "Range"), size, &answer->offset,
                            &answer->remaining)) {
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
