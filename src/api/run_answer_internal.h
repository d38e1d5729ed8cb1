/* The answer with a run's output (run_answer.c): what its parts share; nobody else includes this.
 */
#pragma once

#include "api/run_answer.h"

#define PIECE_BYTES (8 * KIB)
/* What is looked through before others have their turn. Output may be in frames of one byte. */
#define SCAN_READS_MAX 64

enum stage {
    STAGE_BEGIN,       /* until its guest runs: a run that can't be started is a failed request */
    STAGE_TALK,        /* while input comes: until there is output */
    STAGE_OUTPUT,      /* text and events: chunks as they come */
    STAGE_WAIT,        /* JSON: until the run has ended */
    STAGE_SCAN_STDOUT, /* JSON: which streams are text? */
    STAGE_SCAN_STDERR,
    STAGE_JSON_STDOUT, /* JSON: the streams one after the other */
    STAGE_JSON_STDERR,
    STAGE_LAST, /* the last event, or the rest of the result */
    STAGE_DONE,
};

struct run_answer {
    struct request *request;
    struct run *run;
    struct run_reader reader;
    unsigned streams;
    bool attached, follow, input_comes;
    enum request_accept form;
    enum stage stage;
    bool waiting;        /* pull said that it waits for the op */
    bool failed;         /* before the answer began: nothing of it can be used */
    bool stdout_is_text; /* JSON: found by STAGE_SCAN_… */
    bool stderr_is_text;
    struct buf formatted; /* events and JSON: what was made and not yet taken */
    size_t formatted_taken;
    struct carry { /* the beginning of a UTF-8 sequence whose rest is in the next piece */
        uint8_t bytes[4];
        size_t length;
    } carries[2];
};

/* As run_output_read; without `follow` what is not there yet is the end. */
MUST_USE enum err run_answer_read(struct run_answer *answer, unsigned streams, void *data,
                                  size_t size, size_t *ret_length, unsigned *ret_stream,
                                  uint64_t *ret_time_ns);

/* ---- run_answer_format.c: events and JSON ---- */

/* Polled. One step: adds to `formatted`, or moves on to the next stage. */
MUST_USE enum err run_answer_format(struct run_answer *answer);
