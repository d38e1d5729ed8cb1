/* Responses: their heads, streams, and what the kernel does not take at once. */
#include "http/http_exchange.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* --- Sending --- */

/* What is not taken is kept, and sent when the socket takes more. */
static void transmit(struct http_exchange *exchange, const uint8_t *data, size_t length) {
    size_t sent = 0;
    if (exchange->output.length == 0) {
        ssize_t result = send(exchange->descriptor, data, length, MSG_NOSIGNAL);
        if (result < 0 && errno != EAGAIN && errno != EINTR) {
            http_cut(exchange);
            return;
        }
        sent = result > 0 ? (size_t)result : 0;
        if (sent == length) {
            return;
        }
    }
    if (buf_append(&exchange->output, data + sent, length - sent) != ERR_OK) {
        http_cut(exchange);
        return;
    }
    http_watch(exchange, LOOP_WRITABLE, 0);
    if (exchange->phase != HTTP_MOVING) {
        http_enter(exchange, HTTP_MOVING);
    }
}

/* All of the response was given to transmit. */
static void complete(struct http_exchange *exchange) {
    exchange->is_response_made = true;
    if (exchange->output.length == 0) {
        exchange->is_sent = true;
        http_due(exchange);
    }
}

void http_flush(struct http_exchange *exchange) {
    struct buf *output = &exchange->output;
    if (output->length > 0) {
        ssize_t sent = send(exchange->descriptor, output->data + exchange->output_at,
                            output->length - exchange->output_at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            http_cut(exchange);
            return;
        }
        exchange->output_at += sent > 0 ? (size_t)sent : 0;
        if (exchange->output_at < output->length) {
            return;
        }
        buf_done(output);
        exchange->output_at = 0;
    }
    if (exchange->is_response_made) {
        http_watch(exchange, 0, LOOP_WRITABLE);
        complete(exchange);
    } else if (exchange->pull && !exchange->is_pull_waiting) {
        http_pull_next(exchange);
    } else {
        http_watch(exchange, 0, LOOP_WRITABLE);
        if (exchange->pull) {
            http_enter(exchange, http_phase_of_waiting(exchange));
        }
    }
}

void http_send_continue(struct http_exchange *exchange) {
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    transmit(exchange, (const uint8_t *)text, sizeof text - 1);
}

/* --- The head --- */

static uint8_t *put(uint8_t *at, const void *data, size_t length) {
    memcpy(at, data, length);
    return at + length;
}
#define PUT(at, literal) put((at), (literal), sizeof(literal) - 1)

static uint8_t *put_number(uint8_t *at, uint64_t number) {
    uint8_t digits[20];
    uint8_t *first = digits + sizeof digits;
    do {
        *--first = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(at, first, (size_t)(digits + sizeof digits - first));
}

/* RFC 9110 section 15, and RFC 6585. */
static struct str reason_of(int status) {
    static const struct {
        int status;
        struct str reason;
    } reasons[] = {
#define REASON(number, text)                                                                       \
    {                                                                                              \
        number, {                                                                                  \
            text, sizeof(text) - 1                                                                 \
        }                                                                                          \
    }
        REASON(200, "OK"),
        REASON(201, "Created"),
        REASON(202, "Accepted"),
        REASON(203, "Non-Authoritative Information"),
        REASON(204, "No Content"),
        REASON(205, "Reset Content"),
        REASON(206, "Partial Content"),
        REASON(207, "Multi-Status"),
        REASON(300, "Multiple Choices"),
        REASON(301, "Moved Permanently"),
        REASON(302, "Found"),
        REASON(303, "See Other"),
        REASON(304, "Not Modified"),
        REASON(307, "Temporary Redirect"),
        REASON(308, "Permanent Redirect"),
        REASON(400, "Bad Request"),
        REASON(401, "Unauthorized"),
        REASON(402, "Payment Required"),
        REASON(403, "Forbidden"),
        REASON(404, "Not Found"),
        REASON(405, "Method Not Allowed"),
        REASON(406, "Not Acceptable"),
        REASON(407, "Proxy Authentication Required"),
        REASON(408, "Request Timeout"),
        REASON(409, "Conflict"),
        REASON(410, "Gone"),
        REASON(411, "Length Required"),
        REASON(412, "Precondition Failed"),
        REASON(413, "Content Too Large"),
        REASON(414, "URI Too Long"),
        REASON(415, "Unsupported Media Type"),
        REASON(416, "Range Not Satisfiable"),
        REASON(417, "Expectation Failed"),
        REASON(418, "I'm a teapot"),
        REASON(421, "Misdirected Request"),
        REASON(422, "Unprocessable Content"),
        REASON(423, "Locked"),
        REASON(424, "Failed Dependency"),
        REASON(425, "Too Early"),
        REASON(426, "Upgrade Required"),
        REASON(428, "Precondition Required"),
        REASON(429, "Too Many Requests"),
        REASON(431, "Request Header Fields Too Large"),
        REASON(451, "Unavailable For Legal Reasons"),
        REASON(500, "Internal Server Error"),
        REASON(501, "Not Implemented"),
        REASON(502, "Bad Gateway"),
        REASON(503, "Service Unavailable"),
        REASON(504, "Gateway Timeout"),
        REASON(505, "HTTP Version Not Supported"),
        REASON(507, "Insufficient Storage"),
        REASON(508, "Loop Detected"),
    };
    for (size_t i = 0; i < ARRAY_LENGTH(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return STR("Unknown");
}

/* What each response has: made once a second. What guests and users wrote is never to be taken for
 * something else, hence the second one. */
static struct str common_fields(struct http_server *server) {
    uint64_t now_ns = loop_now_ns(server->loop);
    if (now_ns >= server->common_until_ns) {
        uint64_t realtime_ns = clock_realtime_ns();
        server->common_until_ns = now_ns + NS_PER_S - realtime_ns % NS_PER_S;
        time_t seconds = (time_t)(realtime_ns / NS_PER_S);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(server->common, sizeof server->common,
                 "\r\nDate: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n"
                 "X-Content-Type-Options: nosniff\r\n",
                 days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
    }
    return str_of(server->common);
}

static bool has_no_body(const struct http_exchange *exchange) {
    return exchange->room->head.is_head || exchange->status == 204 || exchange->status == 304;
}

/* Whether the connection can't be used after this response. */
static bool must_close(const struct http_exchange *exchange, bool is_endless) {
    const struct http_head *head = &exchange->room->head;
    if (exchange->closes || exchange->server->is_quiesced || exchange->is_reading_over) {
        return true;
    }
    if (is_endless) {
        return true; /* nothing else tells where the body ends */
    }
    /* An answer before the body: the client may not send it, or there is too much to drop. */
    return !exchange->has_body_ended && !exchange->keeps_body &&
           (head->expects_continue || head->content_length > HTTP_DRAIN_BYTES_MAX);
}

/* At most HTTP_OUTPUT_DATA bytes. */
static uint8_t *put_head(struct http_exchange *exchange, uint8_t *at, uint64_t length) {
    const struct http_room *room = exchange->room;
    bool is_unknown = length == HTTP_LENGTH_UNKNOWN;
    exchange->closes = must_close(exchange, is_unknown && room->head.is_http_1_0);
    struct str reason = reason_of(exchange->status);
    struct str common = common_fields(exchange->server);
    at = PUT(at, "HTTP/1.1 ");
    at = put_number(at, (uint64_t)exchange->status);
    *at++ = ' ';
    at = put(at, reason.data, reason.length);
    at = put(at, common.data, common.length);
    if (room->fields.length > 0) {
        at = put(at, room->fields.data, room->fields.length);
    }
    if (exchange->closes) {
        at = PUT(at, "Connection: close\r\n");
    } else if (room->head.is_http_1_0) {
        at = PUT(at, "Connection: keep-alive\r\n");
    }
    if (exchange->status == 204 || exchange->status == 304) {
        return PUT(at, "\r\n");
    }
    if (!is_unknown) {
        at = PUT(at, "Content-Length: ");
        at = put_number(at, length);
        return PUT(at, "\r\n\r\n");
    }
    return room->head.is_http_1_0 ? PUT(at, "\r\n") : PUT(at, "Transfer-Encoding: chunked\r\n\r\n");
}

/* --- What the application gives --- */

/* Fields that we make or act on are not the application's. */
static bool is_reserved(const char *name, size_t length) {
    switch (length) {
    case 4:
        return strcasecmp(name, "Date") == 0;
    case 10:
        return strcasecmp(name, "Connection") == 0;
    case 14:
        return strcasecmp(name, "Content-Length") == 0;
    case 17:
        return strcasecmp(name, "Transfer-Encoding") == 0;
    default:
        return false;
    }
}

static enum err append_field(struct buf *fields, size_t bytes_max, const char *name,
                             const char *value) {
    size_t name_length = strlen(name);
    size_t value_length = strlen(value);
    size_t length = name_length + value_length + 4;
    if (!http_is_field(name, value) || is_reserved(name, name_length)) {
        return ERR_INVAL;
    }
    if (length > bytes_max - fields->length) {
        return ERR_2BIG;
    }
    enum err err = buf_reserve(fields, length);
    if (err) {
        return err;
    }
    uint8_t *at = fields->data + fields->length;
    at = put(at, name, name_length);
    at = PUT(at, ": ");
    at = put(at, value, value_length);
    PUT(at, "\r\n");
    fields->length += length;
    return ERR_OK;
}

enum err http_add_header(struct http_exchange *exchange, const char *name, const char *value) {
    if (exchange->has_responded) {
        return ERR_INVAL;
    }
    return append_field(&exchange->room->fields, HTTP_HEAD_ROOM, name, value);
}

bool http_has_added(const struct http_exchange *exchange, const char *name) {
    struct str rest = buf_str(&exchange->room->fields);
    size_t length = strlen(name);
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        struct str added = str_cut(&line, ':');
        if (added.length == length && strncasecmp(added.data, name, length) == 0) {
            return true;
        }
    }
    return false;
}

enum err http_add_trailer(struct http_exchange *exchange, const char *name, const char *value) {
    if (!exchange->is_pulling || exchange->pull_remaining != HTTP_LENGTH_UNKNOWN) {
        return ERR_INVAL;
    }
    return append_field(&exchange->room->fields, HTTP_TRAILER_ROOM, name, value);
}

/* Takes the response; false if there is nobody to get it. */
static bool accept_response(struct http_exchange *exchange, int status, const char *content_type) {
    if (exchange->is_cut) {
        return false;
    }
    INVARIANT(!exchange->has_responded && status >= 200 && status <= 599);
    if (content_type && append_field(&exchange->room->fields, HTTP_HEAD_ROOM, "Content-Type",
                                     content_type) != ERR_OK) {
        http_cut(exchange);
        return false;
    }
    exchange->has_responded = true;
    exchange->status = status;
    if (exchange->is_body_paused && !exchange->keeps_body) {
        http_body_resume(exchange); /* to drop the rest */
    }
    return true;
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length) {
    if (!accept_response(exchange, status, content_type)) {
        return;
    }
    INVARIANT(!exchange->server->is_pulling);
    uint8_t *output = exchange->server->output;
    uint8_t *at = put_head(exchange, output, length);
    const uint8_t *rest = body;
    if (has_no_body(exchange)) {
        length = 0;
    }
    if (length > 0) {
        size_t part = MIN(length, (size_t)(output + HTTP_OUTPUT_BYTES - at));
        at = put(at, body, part);
        rest += part;
        length -= part;
    }
    transmit(exchange, output, (size_t)(at - output));
    if (length > 0 && !exchange->is_cut) {
        transmit(exchange, rest, length);
    }
    if (!exchange->is_cut) {
        complete(exchange);
    }
}

void http_refuse(struct http_exchange *exchange, struct http_refusal refusal) {
    char text[160];
    int length = snprintf(text, sizeof text, "error: %s\n", refusal.reason);
    if (!exchange->room->head.data) { /* not taken apart */
        memset(&exchange->room->head, 0, offsetof(struct http_head, fields));
    }
    exchange->room->fields.length = 0;
    exchange->room->head.is_head = false;
    exchange->is_refused = true;
    http_add_to(&exchange->server->refused, 1);
    exchange->is_reading_over = true;
    exchange->closes = true;
    http_respond(exchange, refusal.status, "text/plain; charset=utf-8", text, (size_t)length);
}

/* --- Streams --- */

void http_respond_stream(struct http_exchange *exchange, int status, const char *content_type,
                         uint64_t length, http_pull *pull, void *argument) {
    if (!accept_response(exchange, status, content_type)) {
        return;
    }
    exchange->pull = pull;
    exchange->pull_argument = argument;
    exchange->pull_remaining = length;
    http_due(exchange);
}

void http_pull_resume(struct http_exchange *exchange) {
    exchange->is_pull_resumed = true;
    if (exchange->is_pull_waiting) { /* else `pull` is called anyway */
        exchange->is_pull_waiting = false;
        http_due(exchange);
    }
}

/* Puts into `data` what the stream has, until it waits, ends, or there is enough for a piece. */
static enum http_pull_result gather(struct http_exchange *exchange, uint8_t *data,
                                    size_t *ret_length) {
    enum { PULLS_MAX = 16, SPACE_MIN = 4096 };
    enum http_pull_result result = HTTP_PULL_DATA;
    size_t length = 0;
    exchange->is_pulling = exchange->server->is_pulling = true;
    for (int i = 0; result == HTTP_PULL_DATA && i < PULLS_MAX; i++) {
        size_t space = exchange->pull_bytes - length;
        if (exchange->pull_remaining == 0) {
            result = HTTP_PULL_END;
            break;
        }
        if (length > 0 && space < SPACE_MIN) {
            break;
        }
        size_t taken = 0;
        space = (size_t)MIN((uint64_t)space, exchange->pull_remaining);
        exchange->is_pull_resumed = false;
        result = exchange->pull(exchange->pull_argument, data + length, space, &taken);
        if (result == HTTP_PULL_DATA) {
            INVARIANT(taken > 0 && taken <= space);
            length += taken;
            if (exchange->pull_remaining != HTTP_LENGTH_UNKNOWN) {
                exchange->pull_remaining -= taken;
            }
        } else if (result == HTTP_PULL_END && exchange->pull_remaining != HTTP_LENGTH_UNKNOWN) {
            result = HTTP_PULL_ABORT; /* less than the head has promised */
        }
    }
    exchange->is_pulling = exchange->server->is_pulling = false;
    *ret_length = length;
    return exchange->is_cut ? HTTP_PULL_ABORT : result;
}

/* Frames the data as a chunk, and the end behind it (RFC 9112 section 7.1). */
static void frame(struct http_exchange *exchange, bool is_end, uint8_t **data, uint8_t **end) {
    size_t length = (size_t)(*end - *data);
    if (length > 0) {
        char line[20];
        int line_length = snprintf(line, sizeof line, "%zx\r\n", length);
        *data -= line_length;
        memcpy(*data, line, (size_t)line_length);
        *end = PUT(*end, "\r\n");
    }
    if (is_end) {
        const struct buf *trailers = &exchange->room->fields;
        *end = PUT(*end, "0\r\n");
        if (trailers->length > 0) {
            *end = put(*end, trailers->data, trailers->length);
        }
        *end = PUT(*end, "\r\n");
    }
}

/* What comes next of a stream, after a piece of it: it waits for the application, or for the kernel
 * to take more. */
static void wait_after_piece(struct http_exchange *exchange, enum http_pull_result result) {
    if (result != HTTP_PULL_WAIT) {
        http_watch(exchange, LOOP_WRITABLE, 0);
        if (exchange->phase != HTTP_MOVING) {
            http_enter(exchange, HTTP_MOVING);
        }
        return;
    }
    if (exchange->is_pull_resumed) {
        http_due(exchange); /* to be asked again at once */
    } else {
        exchange->is_pull_waiting = true;
    }
    if (exchange->output.length == 0) {
        http_watch(exchange, 0, LOOP_WRITABLE);
        enum http_phase phase = http_phase_of_waiting(exchange);
        if (exchange->phase == HTTP_HEAD || exchange->phase == HTTP_MOVING ||
            phase == HTTP_MOVING) {
            http_enter(exchange, phase);
        }
    }
}

/* The head, and as much as there is, in one send. */
void http_pull_next(struct http_exchange *exchange) {
    uint8_t *output = exchange->server->output;
    size_t head_length = 0;
    enum http_pull_result result = HTTP_PULL_END;
    size_t length = 0;
    bool is_chunked =
        exchange->pull_remaining == HTTP_LENGTH_UNKNOWN && !exchange->room->head.is_http_1_0;
    if (!exchange->is_response_head_sent) {
        exchange->is_response_head_sent = true;
        head_length = (size_t)(put_head(exchange, output, exchange->pull_remaining) - output);
        exchange->room->fields.length = 0; /* for the trailers */
    }
    uint8_t *data = output + HTTP_OUTPUT_DATA + 32; /* before it, the chunk's size */
    bool is_bare = has_no_body(exchange);
    if (!is_bare) {
        result = gather(exchange, data, &length);
    }
    uint8_t *end = data + length;
    bool is_end = result == HTTP_PULL_END;
    if (is_chunked && !is_bare) {
        frame(exchange, is_end, &data, &end);
    }
    data -= head_length;
    memmove(data, output, head_length);
    size_t output_before = exchange->output.length;
    if (end > data) {
        transmit(exchange, data, (size_t)(end - data));
    }
    if (result == HTTP_PULL_ABORT) {
        http_cut(exchange);
    }
    if (exchange->is_cut) {
        return;
    }
    if (exchange->output.length > output_before) { /* so much the kernel did not take */
        exchange->pull_bytes = MAX(exchange->pull_bytes / 2, (uint32_t)HTTP_PIECE_MIN);
    } else if (exchange->pull_bytes < HTTP_PIECE_MAX) {
        exchange->pull_bytes *= 2;
    }
    if (is_end) {
        complete(exchange);
    } else {
        wait_after_piece(exchange, result);
    }
}
