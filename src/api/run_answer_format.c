/* Output as events and as one JSON result: which bytes are text, and sequences of UTF-8 that two
 * pieces share. */
#include "api/json_text.h"
#include "api/run_answer_internal.h"
#include "api/run_changes.h"

#include <inttypes.h>

static struct carry *carry_of(struct run_answer *answer, unsigned stream) {
    return &answer->carries[stream == RUN_STDERR];
}

/* Joins what was kept of `stream` with a new piece. `piece` has room for the carry before it. */
static struct str join_carry(struct run_answer *answer, unsigned stream, uint8_t *piece,
                             size_t length) {
    struct carry *carry = carry_of(answer, stream);
    memcpy(piece - carry->length, carry->bytes, carry->length);
    struct str joined = {(const char *)piece - carry->length, carry->length + length};
    size_t whole = json_text_whole_length(joined);
    carry->length = joined.length - whole;
    memcpy(carry->bytes, joined.data + whole, carry->length);
    joined.length = whole;
    return joined;
}

static enum err format_event(struct run_answer *answer, unsigned stream, uint64_t time_ns,
                             struct str data) {
    struct buf *out = &answer->formatted;
    bool is_text = str_is_utf8(data);
    enum err err =
        buf_printf(out, "{\"t\":%" PRIu64 ".%06u,\"stream\":\"%s\",\"%s\":\"", time_ns / NS_PER_S,
                   (unsigned)(time_ns % NS_PER_S / NS_PER_US),
                   stream == RUN_STDERR ? "stderr" : "stdout", is_text ? "data" : "data64");
    if (!err) {
        err = is_text ? json_text_escape(data, out) : json_text_base64(data, out);
    }
    return err ? err : buf_append_str(out, STR("\"}\n"));
}

static enum err format_ending(struct run_answer *answer) {
    struct run_status status = run_status(answer->run);
    enum err err =
        buf_printf(&answer->formatted,
                   "\"id\":%" PRIu64 ",\"exit\":%" PRId32 ",\"reason\":\"%s\",\"cpu_us\":%" PRIu64
                   ",\"wall_us\":%" PRIu64 ",\"peak_bytes\":%" PRIu64 ",",
                   status.id, status.exit_status, run_reason_text(status.reason),
                   status.cpu_ns / NS_PER_US, status.wall_ns / NS_PER_US, status.memory_peak_bytes);
    err = err ? err : run_changes_json(answer->run, &answer->formatted);
    return err ? err : buf_append_str(&answer->formatted, STR("}\n"));
}

/* The next piece of output of `streams` as an event or a part of a JSON string, into `formatted`.
 * OK with nothing added means that there is no more. */
static enum err format_next(struct run_answer *answer, unsigned streams) {
    uint8_t memory[4 + PIECE_BYTES];
    uint8_t *piece = memory + 4;
    size_t length = 0;
    unsigned stream = 0;
    uint64_t time_ns = 0;
    enum err err = run_answer_read(answer, streams, piece, PIECE_BYTES, &length, &stream, &time_ns);
    if (err || length == 0) {
        return err;
    }
    if (answer->form == ACCEPT_NDJSON) {
        struct str data = join_carry(answer, stream, piece, length);
        return data.length ? format_event(answer, stream, time_ns, data) : ERR_OK;
    }
    bool is_text = streams == RUN_STDERR ? answer->stderr_is_text : answer->stdout_is_text;
    if (is_text) {
        return json_text_escape(join_carry(answer, stream, piece, length), &answer->formatted);
    }
    /* Base64 goes by groups of three: the carry keeps the rest of a group. */
    struct carry *carry = carry_of(answer, stream);
    memcpy(piece - carry->length, carry->bytes, carry->length);
    struct str joined = {(const char *)piece - carry->length, carry->length + length};
    carry->length = joined.length % 3;
    joined.length -= carry->length;
    memcpy(carry->bytes, joined.data + joined.length, carry->length);
    return json_text_base64(joined, &answer->formatted);
}

/* The rest of a sequence that never came. */
static enum err flush_carries(struct run_answer *answer) {
    for (unsigned stream = RUN_STDOUT; stream <= RUN_STDERR; stream++) {
        struct carry *carry = carry_of(answer, stream);
        struct str rest = {(const char *)carry->bytes, carry->length};
        carry->length = 0;
        if (rest.length == 0) {
            continue;
        }
        enum err err = answer->form == ACCEPT_NDJSON
                           ? format_event(answer, stream, run_status(answer->run).ended_ns, rest)
                           : json_text_base64(rest, &answer->formatted);
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

/* Polled. Whether all output of one stream of an ended run is valid UTF-8; begins and ends with a
 * zeroed reader. */
static enum err scan_stream(struct run_answer *answer, unsigned stream, bool *ret_is_text) {
    struct op *op = &answer->request->op;
    for (unsigned reads = 0; reads < SCAN_READS_MAX; reads++) {
        uint8_t memory[4 + PIECE_BYTES];
        size_t length = 0;
        unsigned which = 0;
        uint64_t time_ns = 0;
        enum err err = run_output_read(op, answer->run, &answer->reader, stream, memory + 4,
                                       PIECE_BYTES, &length, &which, &time_ns);
        bool is_end = err || length == 0;
        bool is_text =
            !err && (is_end ? carry_of(answer, stream)->length == 0
                            : str_is_utf8(join_carry(answer, stream, memory + 4, length)));
        if (is_end || !is_text) {
            answer->reader = (struct run_reader){0};
            carry_of(answer, stream)->length = 0;
            *ret_is_text = is_text;
            return ERR_OK;
        }
    }
    op_wake(op);
    return ERR_PENDING;
}

enum err run_answer_format(struct run_answer *answer) {
    struct buf *out = &answer->formatted;
    size_t length_before = out->length;
    uint64_t before = 0;
    enum err err = ERR_OK;
    switch (answer->stage) {
    case STAGE_BEGIN:
    case STAGE_TALK:
        break;
    case STAGE_OUTPUT:
        before = answer->reader.offset;
        err = format_next(answer, answer->streams);
        if (err || out->length > length_before || answer->reader.offset != before) {
            return err;
        }
        if (answer->input_comes) {
            http_expect_body(answer->request->exchange);
            return ERR_PENDING;
        }
        err = flush_carries(answer);
        if (run_status(answer->run).state != RUN_ENDED) {
            answer->stage = STAGE_DONE; /* only what is there now was asked for */
            return err;
        }
        answer->stage = STAGE_LAST;
        return err ? err : buf_append_str(out, STR("{"));
    case STAGE_WAIT:
        answer->stage = STAGE_SCAN_STDOUT;
        return ERR_OK;
    case STAGE_SCAN_STDOUT:
        err = scan_stream(answer, RUN_STDOUT, &answer->stdout_is_text);
        answer->stage = err ? answer->stage : STAGE_SCAN_STDERR;
        return err;
    case STAGE_SCAN_STDERR:
        err = scan_stream(answer, RUN_STDERR, &answer->stderr_is_text);
        if (err) {
            return err;
        }
        answer->stage = STAGE_JSON_STDOUT;
        return buf_printf(out, "{\"%s\":\"", answer->stdout_is_text ? "stdout" : "stdout64");
    case STAGE_JSON_STDOUT:
    case STAGE_JSON_STDERR: {
        bool first = answer->stage == STAGE_JSON_STDOUT;
        before = answer->reader.offset;
        err = format_next(answer, first ? RUN_STDOUT : RUN_STDERR);
        if (err || out->length > length_before || answer->reader.offset != before) {
            return err;
        }
        err = flush_carries(answer);
        if (err || !first) {
            answer->stage = STAGE_LAST;
            return err ? err : buf_append_str(out, STR("\","));
        }
        answer->stage = STAGE_JSON_STDERR;
        answer->reader = (struct run_reader){0};
        return buf_printf(out, "\",\"%s\":\"", answer->stderr_is_text ? "stderr" : "stderr64");
    }
    case STAGE_LAST:
        answer->stage = STAGE_DONE;
        return format_ending(answer);
    case STAGE_DONE:
        break;
    }
    return ERR_OK;
}
